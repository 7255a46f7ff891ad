//! The runs themselves: the base once more as it was, then every variation, as many at a time as asked for.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};
use solyx_connectors::log::archive::ArchiveLog;
use solyx_connectors::rerun::{Changes, Recording, RecordingError, Reporter, changes, truth::TruthCounts};
use solyx_runtime::Progress;
use solyx_schemas::log::Log;
use solyx_schemas::units::rfc3339;

use super::changed::{self, Changed};
use super::outcome::{self, Outcome, Said};
use super::plan::{Item, Plan};
use super::{difference, plan};
use crate::failure::{Exit, Failure, Outcome as Ending};
use crate::{output, progress, signals, world};

/// Name of the run that changes nothing.
pub const BASE: &str = "base";
/// Time that it may take to stop once told.
const SHUTDOWN: Duration = Duration::from_secs(10);

/// All that was run.
#[derive(Debug)]
pub struct Report {
    pub bases: Vec<Base>,
    pub cases: Vec<Case>,
}

/// A log run again as it was: what variations are compared with.
#[derive(Clone, Debug, Serialize)]
pub struct Base {
    /// Name of the log.
    pub log: String,
    /// Seed of the executor in place of the recorded one.
    pub seed: Option<i64>,
    /// Whether it came out as it was recorded, to the bit.
    pub reproduced: bool,
    /// Chain hash of the last recorded epoch.
    pub recorded_chain_head: String,
    /// Where it differs, why that may be so.
    pub reasons: Vec<String>,
    /// The numbers of the run less those of the record, where they differ.
    pub differs: Map<String, Value>,
    /// Whether nothing ran any more at the end of the record. Otherwise all runs end there.
    pub complete: bool,
    /// First and last instant of the record.
    pub from: String,
    pub to: String,
    /// Where lengths of jobs come from.
    pub truth: TruthCounts,
    /// Records that follow from decisions and are of others than the simulated executor: left out.
    pub left_out: BTreeMap<String, u64>,
    /// What came of it.
    #[serde(flatten)]
    pub said: Said,
}

impl Base {
    /// Whether it is known why it did not come out as recorded.
    pub fn is_explained(&self) -> bool {
        self.reproduced || !self.reasons.is_empty()
    }
}

/// A variation of a log.
#[derive(Clone, Debug)]
pub struct Case {
    /// Place of its base.
    pub base: usize,
    pub name: String,
    pub description: String,
    pub seed: Option<i64>,
    pub said: Said,
    /// Where its world is kept.
    pub directory: Option<String>,
    /// The jobs that changed most; absent where jobs were not compared, as on a cluster.
    pub changed: Option<Vec<Changed>>,
}

/// A recorded log that is run again.
pub struct Source {
    /// Its name.
    pub name: String,
    pub log: Arc<dyn Log>,
    pub recording: Recording,
}

impl Source {
    /// Reads a world or an archive.
    pub fn read(dir: &Path, name: String, json: bool) -> Result<Self, Failure> {
        let log: Arc<dyn Log> = match dir.join("manifest.json").is_file() {
            true => ArchiveLog::open(dir)?,
            false => world::reader(dir)?,
        };
        let bar = progress::spinner("epochs of the base read:", json);
        let recording = Recording::read(&*log, &mut |epochs| bar.set_position(epochs as u64));
        bar.finish_and_clear();
        let Some(recording) = recording.map_err(unreadable)? else {
            return Err(Failure::usage(
                format!("the log in {} has no epochs", dir.display()),
                "nothing was decided there yet",
                "`solyx run --log DIR --virtual --until-idle` runs what is staged",
            ));
        };
        Ok(Self { name, log, recording })
    }

    /// What an item changes in it.
    pub fn changes(&self, item: &Item, seed: Option<i64>) -> Result<Changes, Failure> {
        let variation = item.variation(seed).map_err(plan::failure)?;
        changes(&self.recording, variation, &item.file).map_err(plan::failure)
    }

    /// The base as it came out, beside what was recorded.
    pub fn base(&self, seed: Option<i64>, said: Said) -> Result<Base, Failure> {
        let recording = &self.recording;
        let reproduced = said.chain_head == recording.chain_head.to_string();
        let differs = match (reproduced, seed) {
            (false, None) => {
                let recorded = outcome::recorded(&*self.log, BASE)?;
                difference::of(&said.all, &recorded.all).into_iter().filter(|(_, less)| less != 0).collect()
            }
            _ => Map::new(),
        };
        Ok(Base {
            log: self.name.clone(),
            seed,
            reproduced,
            recorded_chain_head: recording.chain_head.to_string(),
            reasons: if reproduced { Vec::new() } else { reasons(recording, seed) },
            differs,
            complete: recording.complete,
            from: rfc3339(recording.from),
            to: rfc3339(recording.to),
            truth: recording.truth,
            left_out: recording.left_out.clone(),
            said,
        })
    }
}

fn unreadable(error: RecordingError) -> Failure {
    match error {
        RecordingError::Read(error) => world::unreadable_history(&error),
        error @ RecordingError::Feature { .. } => {
            Failure::environment("the log cannot be run again", error, "`solyx --version` says which build this is")
        }
    }
}

/// Why a run that changes nothing may come out otherwise than the record.
fn reasons(recording: &Recording, seed: Option<i64>) -> Vec<String> {
    let mut reasons = Vec::new();
    if let Some(seed) = seed {
        reasons.push(format!("the executor draws by seed {seed}"));
    }
    if recording.reporter == Reporter::Others {
        reasons.push(
            "its runs and leases were reported by executors of the world: delays, failures and power are made anew by the simulated one"
                .to_owned(),
        );
    }
    // With a script a job that had not ended is known to its end.
    if recording.truth.censored > 0 {
        reasons
            .push(format!("{} jobs had not ended: how long they would have run is guessed", recording.truth.censored));
    }
    if recording.waiting {
        reasons.push("jobs waited at its end and nothing ran: it may have been stopped there".to_owned());
    }
    if recording.late_not_apart > 0 {
        let epochs = recording.late_not_apart;
        reasons.push(format!(
            "records came to instants that had been dealt with, in {epochs} epochs of their own: too many to be kept apart"
        ));
    }
    if !recording.left_out.is_empty() && recording.reporter != Reporter::Others {
        reasons.push("it has reports of others than its executor, which are left out".to_owned());
    }
    let own = env!("CARGO_PKG_VERSION");
    let others: Vec<&str> =
        recording.engine_versions.iter().map(String::as_str).filter(|version| !version.contains(own)).collect();
    if !others.is_empty() {
        reasons.push(format!("it was made by another build ({}), whose name is part of the chain", others.join(", ")));
    }
    reasons
}

/// One run of one log, its numbers as a line of JSON: what a worker elsewhere does.
pub fn one(plan: &Plan) -> Ending {
    let stop = signals::stop_within(SHUTDOWN)?;
    let ([base], [] | [_]) = (plan.bases.as_slice(), plan.variations.as_slice()) else {
        return Err(Failure::usage("too much for one run", "expected one base and one variation", "leave --one out"));
    };
    let source = Source::read(base, BASE.to_owned(), true)?;
    let item = plan.variations.first().cloned().unwrap_or_else(Item::base);
    let changes = source.changes(&item, None)?;
    let scratch = scratch()?;
    let outcome = outcome::run(&source.recording, &changes, scratch.path(), &item.name, &stop, &mut |_| {})?;
    output::json(&outcome.said());
    Ok(Exit::Good)
}

fn scratch() -> Result<tempfile::TempDir, Failure> {
    tempfile::Builder::new()
        .prefix("solyx-backtest.")
        .tempdir()
        .map_err(|e| Failure::environment("no temporary directory can be made", e, "set TMPDIR to one with room"))
}

/// A run that waits for its turn.
struct Turn<'p> {
    item: &'p Item,
    seed: Option<i64>,
    base: usize,
}

/// Runs everything on this machine.
pub fn run(plan: &Plan, json: bool) -> Result<Report, Failure> {
    let stop = signals::stop_within(SHUTDOWN)?;
    let runs = plan.bases.len() * plan.seeds.len() * (plan.variations.len() + 1);
    let bar = progress::bar(runs as u64, "runs", json);
    let mut report = Report { bases: Vec::new(), cases: Vec::new() };
    for log in plan::names_of(&plan.bases) {
        let names = plan.variations.iter().map(|item| item.name.as_str()).chain([BASE]);
        for (name, seed) in names.flat_map(|name| plan.seeds.iter().map(move |seed| (name, *seed))) {
            kept_in(plan, &log, name, seed)?;
        }
    }
    for (dir, name) in plan.bases.iter().zip(plan::names_of(&plan.bases)) {
        let source = Source::read(dir, name, json)?;
        // What is wrong is said before anything runs.
        for item in &plan.variations {
            source.changes(item, None)?;
        }
        let first = report.bases.len();
        let mut bases = Vec::new();
        let tell = |p: &Progress| {
            bar.set_message(format!("{}: {}, {} jobs wait; runs", source.name, rfc3339(p.now), p.waiting_jobs));
        };
        for seed in &plan.seeds {
            let changes = source.changes(&Item::base(), *seed)?;
            let (outcome, _) = at_work(plan, &source, &changes, BASE, *seed, &stop, &tell)?;
            bar.inc(1);
            report.bases.push(source.base(*seed, outcome.said())?);
            bases.push(outcome);
        }
        let turn = |(n, seed): (usize, &Option<i64>)| {
            let (base, seed) = (first + n, *seed);
            plan.variations.iter().map(move |item| Turn { item, seed, base })
        };
        let turns: Vec<Turn<'_>> = plan.seeds.iter().enumerate().flat_map(turn).collect();
        let done = in_parallel(plan.jobs, turns, &stop, |turn| {
            let changes = source.changes(turn.item, turn.seed)?;
            let (outcome, directory) = at_work(plan, &source, &changes, &turn.item.name, turn.seed, &stop, &tell)?;
            bar.inc(1);
            Ok(Case {
                base: turn.base,
                name: turn.item.name.clone(),
                description: turn.item.description.clone(),
                seed: turn.seed,
                said: outcome.said(),
                directory,
                changed: Some(changed::most(&outcome, &bases[turn.base - first], plan.changed)),
            })
        });
        report.cases.extend(done?);
    }
    bar.finish_and_clear();
    Ok(report)
}

/// One run, in a directory that is kept or goes with it.
fn at_work(
    plan: &Plan,
    source: &Source,
    changes: &Changes,
    name: &str,
    seed: Option<i64>,
    stop: &AtomicBool,
    tell: &dyn Fn(&Progress),
) -> Result<(Outcome, Option<String>), Failure> {
    let run = |dir: &Path| outcome::run(&source.recording, changes, dir, name, stop, &mut |p| tell(p));
    let Some(dir) = kept_in(plan, &source.name, name, seed)? else { return Ok((run(scratch()?.path())?, None)) };
    let outcome = run(&dir)?;
    Ok((outcome, Some(dir.display().to_string())))
}

/// Where the world of a run is kept, if it is: in a directory that is not there yet.
fn kept_in(plan: &Plan, log: &str, name: &str, seed: Option<i64>) -> Result<Option<PathBuf>, Failure> {
    let Some(mut dir) = plan.keep.clone() else { return Ok(None) };
    if plan.bases.len() > 1 {
        // A name that is a whole path must not lead out of the directory.
        dir.push(log.trim_start_matches('/').replace("..", "_"));
    }
    dir.push(seed.map_or_else(|| name.to_owned(), |seed| format!("{name}.seed-{seed}")));
    if dir.exists() {
        let detail = format!("{} is there", dir.display());
        return Err(Failure::usage("a world would be written over", detail, "name another directory with --keep"));
    }
    Ok(Some(dir))
}

/// Does every turn, so many at a time, and gives the results in order. After the first failure no further one is begun.
fn in_parallel<T: Send, R: Send>(
    at_a_time: usize,
    turns: Vec<T>,
    stop: &AtomicBool,
    work: impl Fn(&T) -> Result<R, Failure> + Sync,
) -> Result<Vec<R>, Failure> {
    let count = turns.len();
    let waiting: Mutex<VecDeque<(usize, T)>> = Mutex::new(turns.into_iter().enumerate().collect());
    let done: Mutex<BTreeMap<usize, Result<R, Failure>>> = Mutex::new(BTreeMap::new());
    let failed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..at_a_time.min(count) {
            scope.spawn(|| {
                while !failed.load(Ordering::Relaxed) && !stop.load(Ordering::Relaxed) {
                    let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some((place, turn)) = next else { break };
                    let result = work(&turn);
                    failed.fetch_or(result.is_err(), Ordering::Relaxed);
                    done.lock().unwrap_or_else(PoisonError::into_inner).insert(place, result);
                }
            });
        }
    });
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    let results: Vec<R> = done.into_values().collect::<Result<_, _>>()?;
    if results.len() < count {
        return Err(Failure::environment("the backtest was stopped", "a signal came", "run it again"));
    }
    Ok(results)
}
