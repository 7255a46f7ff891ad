//! `solyx doctor`: what of a world needs somebody's attention.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use serde_json::json;
use solyx_schemas::epochs::EpochReader;
use solyx_schemas::events::{EVENT_TYPES, Event};
use solyx_schemas::ids::*;
use solyx_schemas::topics::{Topic, TopicName};
use solyx_schemas::units::{DAY_US, TimeUs, rfc3339};

use crate::failure::{Exit, Failure, Outcome};
use crate::world::unreadable_history;
use crate::{output, world};

/// Look for what needs attention: things that wait for what is not declared, stale prices, records that do not count.
#[derive(Debug, Args)]
#[command(after_help = "Example: solyx doctor --log world")]
pub struct Doctor {
    /// Directory of the world.
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Finding {
    /// Kind of finding: `undeclared`, `stale-price`, `skipped`, `unread`.
    kind: &'static str,
    /// What it is of.
    subject: String,
    /// In words, with the way out.
    detail: String,
}

/// How many records that do not count are named for each reason.
const SKIPPED_NAMED: usize = 10;

/// What is declared, and what points to it.
#[derive(Default)]
struct Seen {
    declared: BTreeSet<(&'static str, String)>,
    /// What waits, by what it points to.
    wanted: BTreeMap<(&'static str, String), String>,
    /// End of the last price known by zone.
    prices: BTreeMap<ZoneId, TimeUs>,
    /// Records that do not count, by reason: how many, and the first of them in words.
    skipped: BTreeMap<String, (u64, Vec<(String, String)>)>,
    epochs: u64,
    now: TimeUs,
}

impl Seen {
    fn declare(&mut self, kind: &'static str, id: impl ToString) {
        self.declared.insert((kind, id.to_string()));
    }

    fn want(&mut self, kind: &'static str, id: impl ToString, by: String) {
        self.wanted.entry((kind, id.to_string())).or_insert(by);
    }

    fn take(&mut self, event: &Event) {
        match event {
            Event::TenantDeclared(e) => self.declare("tenant", &e.tenant),
            Event::PriorityClassSet(e) => self.declare("class", &e.class),
            Event::GpuModelDeclared(e) => self.declare("GPU model", &e.model),
            Event::DatasetDeclared(e) => self.declare("data set", &e.dataset),
            Event::SiteDeclared(e) => self.declare("site", &e.site),
            Event::PowerElementDeclared(e) => {
                self.declare("power element", &e.element);
                self.want("site", &e.site, format!("power element {}", e.element));
            }
            Event::PoolDeclared(e) => {
                self.declare("pool", &e.pool);
                self.want("site", &e.site, format!("pool {}", e.pool));
                self.want("GPU model", &e.gpu_model, format!("pool {}", e.pool));
            }
            Event::NodeReported(e) => {
                self.want("pool", &e.pool, format!("node {}", e.node));
                for feed in &e.feeds {
                    self.want("power element", &feed.element, format!("node {}", e.node));
                }
            }
            Event::JobRequested(e) => {
                self.want("tenant", &e.tenant, format!("job {}", e.job));
                self.want("class", &e.class, format!("job {}", e.job));
                for dataset in &e.datasets {
                    self.want("data set", dataset, format!("job {}", e.job));
                }
            }
            Event::EnergyPriced(e) => {
                let last = self.prices.entry(e.zone.clone()).or_default();
                *last = (*last).max(e.to_us);
            }
            _ => {}
        }
    }

    /// Every record that does not count has its copy among the outputs of the epoch that took it.
    fn quarantined(&mut self, output: &Event) {
        let Event::RecordQuarantined(e) = output else { return };
        let (count, first) = self.skipped.entry(e.reason.to_string()).or_default();
        *count += 1;
        if first.len() < SKIPPED_NAMED {
            first.push((format!("{}/{}/{}", e.topic, e.partition, e.ordinal), e.detail.clone()));
        }
    }

    fn findings(&self) -> Vec<Finding> {
        let missing = self.wanted.iter().filter(|(what, _)| !self.declared.contains(*what)).map(|((kind, id), by)| {
            let detail = format!("{by} waits for {kind} {id}, which is not declared; publish it, or correct the name");
            Finding { kind: "undeclared", subject: id.clone(), detail }
        });
        let stale = self.prices.iter().filter(|(_, end)| end.0 < self.now.0).map(|(zone, end)| {
            let gone = self.now.0 - end.0 > DAY_US;
            let means = if gone { "nothing is deferred by them" } else { "the last one stands for at most 24 h" };
            let detail = format!("prices of {zone} end at {}; {means}; import newer ones", rfc3339(*end));
            Finding { kind: "stale-price", subject: zone.to_string(), detail }
        });
        let named = self.skipped.iter().flat_map(|(reason, (_, first))| {
            first.iter().map(move |(place, why)| {
                let detail = format!("{place} does not count, {reason}: {why}; topic quarantine has a copy");
                Finding { kind: "skipped", subject: place.clone(), detail }
            })
        });
        let more = self.skipped.iter().filter_map(|(reason, (count, first))| {
            let more = count - first.len() as u64;
            let detail =
                format!("{} more records do not count, {reason}; topic quarantine has copies", output::grouped(more));
            (more > 0).then(|| Finding { kind: "skipped", subject: reason.clone(), detail })
        });
        missing.chain(stale).chain(named).chain(more).collect()
    }
}

/// Runs it.
pub fn run(command: &Doctor, json: bool) -> Outcome {
    let mut findings = Vec::new();
    let mut seen = Seen::default();
    if let Some(dir) = &command.log {
        let log = world::reader(dir)?;
        let mut reader = EpochReader::new(&*log);
        while let Some(epoch) = reader.next_batch().map_err(|e| unreadable_history(&e))? {
            seen.epochs += 1;
            seen.now = epoch.record.now_us;
            epoch.outputs.iter().for_each(|output| seen.quarantined(output));
            epoch.counted().for_each(|(_, event)| seen.take(event));
        }
        findings = seen.findings();
        findings.extend(unread(&*log, &reader)?);
    }
    let disk = command.log.as_deref().map(size_of).transpose()?;
    if json {
        output::json(&json!({
            "version": env!("CARGO_PKG_VERSION"), "record_types": EVENT_TYPES.len(), "epochs": seen.epochs,
            "now_us": seen.now, "disk_bytes": disk, "findings": findings,
        }));
    } else {
        output::line(format!("solyx {}, {} record types", env!("CARGO_PKG_VERSION"), EVENT_TYPES.len()));
        if let Some(bytes) = disk {
            let time = rfc3339(seen.now);
            output::line(format!(
                "{} epochs up to {time}, {} MB on disk",
                output::grouped(seen.epochs),
                bytes / 1_000_000
            ));
        }
        for finding in &findings {
            output::line(format!("{}: {}", finding.kind, finding.detail));
        }
        output::line(format!("{} findings", findings.len()));
    }
    Ok(if findings.is_empty() { Exit::Good } else { Exit::Finding })
}

/// Input that no epoch has read.
fn unread(log: &dyn solyx_schemas::log::Log, reader: &EpochReader<'_>) -> Result<Option<Finding>, Failure> {
    let frontier = reader.frontier();
    let mut records = 0;
    for topic in Topic::INPUTS {
        for partition in 0..log.partitions(topic.into()) {
            let end = log.end(TopicName::live(topic), partition)?;
            records += end.saturating_sub(frontier.inputs.get(topic, partition));
        }
    }
    let detail = format!("{} input records are in no epoch yet; `solyx run` takes them", output::grouped(records));
    Ok((records > 0).then(|| Finding { kind: "unread", subject: "inputs".to_owned(), detail }))
}

/// Bytes of all files in a directory. Files that go away meanwhile, as a log's do, count nothing.
fn size_of(dir: &Path) -> Result<u64, Failure> {
    let entries = std::fs::read_dir(dir)
        .map_err(|e| Failure::environment(format!("cannot look into {}", dir.display()), e, "check the permissions"))?;
    let mut bytes = 0;
    for entry in entries.flatten() {
        match entry.metadata() {
            Ok(found) if found.is_dir() => bytes += size_of(&entry.path()).unwrap_or(0),
            Ok(found) => bytes += found.len(),
            Err(_) => {}
        }
    }
    Ok(bytes)
}
