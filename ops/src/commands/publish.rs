//! `solyx publish`: fleet files and files of events go to the log.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use solyx_connectors::fleet;
use solyx_connectors::seal::Keyring;
use solyx_schemas::codec::Codec;
use solyx_schemas::events::Event;
use solyx_schemas::field::FieldError;
use solyx_schemas::json::read_lines;
use solyx_schemas::log::{Log, Producer};
use solyx_schemas::topics::{Topic, TopicName};

use super::events::open_lines;
use crate::failure::{Exit, Failure, Outcome, unreadable};
use crate::{output, world};

/// Publish a fleet file, or a file of events as JSON lines.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  solyx publish ops/fleets/hybrid.toml --log world\n  \
                        solyx events example TenantDeclared | solyx publish - --log world\n  \
                        solyx publish jobs.jsonl --encrypt keys/acme-2026.key --log world")]
pub struct Publish {
    /// FLEET.toml, or FILE.jsonl with one event a line; `-` is stdin.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Directory of the world.
    #[arg(long, value_name = "DIR")]
    log: PathBuf,
    /// Hold the events back until a virtual run reaches their time, instead of saying them now.
    #[arg(long)]
    staged: bool,
    /// Seal labels, reasons and details with this key of their tenant (`solyx keys new`); for more tenants, more keys.
    #[arg(long, value_name = "KEYFILE")]
    encrypt: Vec<PathBuf>,
}

/// Records of one append.
const BATCH_RECORDS: usize = 2_048;

struct Publisher<'l> {
    log: &'l dyn Log,
    producer: Box<dyn Producer>,
    staged: bool,
    batch: Vec<solyx_schemas::log::Record>,
    published: u64,
    keys: Option<Keyring>,
    sealed: u64,
}

impl Publisher<'_> {
    /// Seals what may be sealed, where keys were given. What no key is for is not published open.
    fn seal(&mut self, event: &mut Event) -> Result<(), FieldError> {
        if let Some(keys) = &self.keys {
            self.sealed += keys.seal(event)? as u64;
        }
        Ok(())
    }

    fn put(&mut self, event: &Event) -> Result<(), Failure> {
        let topic = event.topic();
        let is_staged = self.staged && Topic::INPUTS.contains(&topic) && topic != Topic::Sim;
        let topic = if is_staged { TopicName::staged(topic) } else { TopicName::live(topic) };
        self.batch.push(Codec::global().record(event, topic, self.log.partitions(topic)));
        if self.batch.len() >= BATCH_RECORDS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Failure> {
        let batch = std::mem::take(&mut self.batch);
        self.published += batch.len() as u64;
        if !batch.is_empty() {
            self.producer.append(batch)?;
        }
        Ok(())
    }
}

/// Runs it.
pub fn run(command: &Publish, json: bool) -> Outcome {
    let mut fleets = command.files.iter().map(|path| fleet_of(path)).collect::<Result<Vec<_>, Failure>>()?;
    let keys = match &command.encrypt[..] {
        [] => None,
        files => Some(Keyring::load(files).map_err(|e| {
            Failure::usage(
                "a key cannot be used",
                e,
                "`solyx keys new` makes one; its file is for its owner alone: chmod 600",
            )
        })?),
    };
    let log = world::writer_with(&command.log, false, declared_partitions(&fleets))?;
    let producer = log.producer("solyx-publish")?;
    let staged = command.staged;
    let mut publisher = Publisher { log: &*log, producer, staged, batch: Vec::new(), published: 0, keys, sealed: 0 };
    let mut bad = 0u64;
    for (path, fleet) in command.files.iter().zip(&mut fleets) {
        match fleet.take() {
            Some(events) => events.iter().try_for_each(|event| publisher.put(event))?,
            None => bad += lines(path, &mut publisher, json)?,
        }
    }
    publisher.flush()?;
    publisher.producer.sync()?;
    if json {
        output::json(&json!({"published": publisher.published, "bad": bad, "sealed_texts": publisher.sealed}));
    } else {
        if publisher.keys.is_some() {
            output::line(format!("{} texts sealed", output::grouped(publisher.sealed)));
        }
        output::line(format!(
            "{} events published, {} bad lines",
            output::grouped(publisher.published),
            output::grouped(bad)
        ));
    }
    Ok(if bad == 0 { Exit::Good } else { Exit::Finding })
}

/// The events of a fleet file; nothing for a file of another kind.
fn fleet_of(path: &Path) -> Result<Option<Vec<Event>>, Failure> {
    if path.extension().is_none_or(|extension| extension != "toml") {
        return Ok(None);
    }
    let events = fleet::load(path)
        .map_err(|e| Failure::usage("the fleet file is not valid", e, "ops/fleets/README.md documents every table"))?;
    Ok(Some(events))
}

/// Partitions as the cells of these fleets declare them; a log that is begun has them from the start.
pub fn declared_partitions(fleets: &[Option<Vec<Event>>]) -> Option<BTreeMap<Topic, u32>> {
    let mut declared = BTreeMap::new();
    for event in fleets.iter().flatten().flatten() {
        if let Event::CellDeclared(cell) = event {
            let named = cell
                .partitions
                .iter()
                .filter_map(|line| Some((Topic::parse(line.topic.as_str())?, u32::try_from(line.partitions.0).ok()?)));
            declared.extend(named);
        }
    }
    (!declared.is_empty()).then_some(declared)
}

fn lines(path: &Path, publisher: &mut Publisher<'_>, json: bool) -> Result<u64, Failure> {
    let file = path.display().to_string();
    let mut bad = 0;
    let mut failed = None;
    read_lines(open_lines(path)?, |line| match line.event {
        Ok(mut event) if failed.is_none() => {
            // The engine alone writes outputs, and each reader its own cursor.
            if matches!(event.topic(), Topic::Decisions | Topic::Quarantine | Topic::Cursors) {
                bad += 1;
                eprintln!("{file}:{}: {} is for the engine to write, expected an input", line.number, event.name());
            } else if let Err(e) = publisher.seal(&mut event) {
                bad += 1;
                tell(&file, line.number, &e, json);
            } else {
                failed = publisher.put(&event).err();
            }
        }
        Ok(_) => {}
        Err(errors) => {
            bad += 1;
            errors.iter().for_each(|e| tell(&file, line.number, e, json));
        }
    })
    .map_err(|e| unreadable(path, e))?;
    failed.map_or(Ok(bad), Err)
}

fn tell(file: &str, line: u64, e: &FieldError, json: bool) {
    if json {
        eprintln!("{}", json!({"file": file, "line": line, "field": e.path, "found": e.found, "expected": e.expected}));
    } else {
        eprintln!("{file}:{line}: {e}");
    }
}
