//! Snapshots and histories: what is read back from disks that others may have written to.

use std::sync::LazyLock;

use solyx_histories::history::{Luck, Mood, beginning};
use solyx_histories::{START, World};
use solyx_kernel::{Kernel, Snapshot};
use solyx_runtime::{AuditOptions, Engine, EngineOptions, audit};
use solyx_schemas::codec::Codec;
use solyx_schemas::epochs::{EpochReader, Frontier};
use solyx_schemas::ids::CellId;
use solyx_schemas::log::memory::MemoryLog;
use solyx_schemas::log::{Log, Record, Scan};
use solyx_schemas::topics::{Topic, TopicName};
use solyx_schemas::wire;

use super::said;
use crate::{Outcome, Target, holds};

pub fn targets() -> Vec<Target> {
    vec![
        Target { name: "snapshot", takes: "the entries of a snapshot", seeds: snapshots, words: &[], run: snapshot },
        Target {
            name: "history",
            takes: "decisions and epoch records of a log",
            seeds: histories,
            words: &[],
            run: history,
        },
    ]
}

/// A cell's history, epoch by epoch, as random as its seed.
pub(super) fn world(seed: u64, epochs: usize) -> World {
    let mut luck = Luck(seed);
    let (mut executor, mut events) = beginning(&mut luck, Mood::Wild);
    let mut world = World::empty();
    world.quiet = true;
    for _ in 0..epochs {
        let outputs = world.step(std::mem::take(&mut events));
        executor.sees(&mut luck, world.now, &outputs);
        world.now += luck.below(600_000_000);
        events = executor.says(&mut luck, world.now);
    }
    world
}

fn snapshots() -> Vec<Vec<u8>> {
    let of = |world: World| postcard::to_stdvec(&world.kernel.snapshot()).expect("a snapshot is written into memory");
    vec![of(World::empty()), of(World::with_nodes(1)), of(world(1, 4)), of(world(3, 12))]
}

/// What a snapshot's file holds behind its hash. Its digest is checked only after its entries were read.
fn snapshot(input: &[u8]) -> Outcome {
    let snapshot: Snapshot<&[u8]> = match postcard::from_bytes(input) {
        Ok(snapshot) => snapshot,
        Err(error) => return said(error),
    };
    let head = snapshot.head.clone();
    match Kernel::restore(snapshot) {
        Ok(kernel) => {
            let again = kernel.snapshot();
            holds!(again.head.state_digest == head.state_digest, "a snapshot that was taken has another digest");
            holds!(
                kernel.index_differences().is_empty(),
                "the indexes of a snapshot that was taken are not its state's"
            );
            Ok("restored".to_owned())
        }
        Err(error) => said(error),
    }
}

/// A small history on a log, with its inputs.
pub(super) static HISTORY: LazyLock<MemoryLog> = LazyLock::new(|| {
    let log = MemoryLog::with_terms();
    for topic in Topic::INPUTS.into_iter().chain([Topic::Decisions, Topic::Quarantine]) {
        log.set_partitions(TopicName::live(topic), 1);
    }
    let mut luck = Luck(5);
    let (mut executor, mut events) = beginning(&mut luck, Mood::Wild);
    let mut now = START;
    let (mut number, mut seen) = (0, 0);
    for _ in 0..5 {
        log.set_clock_us(Some(now));
        for mut event in std::mem::take(&mut events) {
            number += 1;
            solyx_histories::identify(&mut event, number, now);
            let record = Codec::global().record(&event, event.topic().into(), 1);
            log.producer("tests").and_then(|mut producer| producer.append(vec![record])).expect("memory takes it");
        }
        let options = EngineOptions::new(CellId::from("test"), None);
        let mut engine = Engine::lead(&log, &options, None).expect("a good log is led");
        while engine.turn(now).expect("a good log is led").is_some() {}
        let records = all(&log);
        let new = records[seen..].iter().filter_map(|record| Codec::global().decode(&record.value).ok());
        let outputs: Vec<_> = new.map(|decoded| decoded.event).collect();
        seen = records.len();
        executor.sees(&mut luck, now, &outputs);
        now += 60_000_000;
        events = executor.says(&mut luck, now);
    }
    log
});

fn all(log: &MemoryLog) -> Vec<Record> {
    let scan = Scan::new(log, Topic::Decisions.into(), 0, 0);
    scan.map(|stored| stored.expect("memory is read").record).collect()
}

/// All decisions and epoch records: each its key and its value with their lengths before them.
fn histories() -> Vec<Vec<u8>> {
    let mut bytes = Vec::new();
    for record in all(&HISTORY) {
        wire::write_long(record.key.len() as i64, &mut bytes);
        bytes.extend_from_slice(&record.key);
        wire::write_long(record.value.len() as i64, &mut bytes);
        bytes.extend_from_slice(&record.value);
    }
    vec![bytes]
}

/// A history with other outputs is read epoch by epoch, audited, and led: whoever reads it says what is wrong and stops.
fn history(input: &[u8]) -> Outcome {
    let before = all(&HISTORY);
    let log = HISTORY.fork();
    log.tamper(Topic::Decisions.into(), 0, |records| {
        let like = records.first().cloned();
        records.clear();
        let mut rest = input;
        while let (Some(mut stored), Some((key, value))) = (like.clone(), pair(&mut rest)) {
            (stored.record.key, stored.record.value) = (key.to_vec(), value.to_vec());
            stored.record.headers.clear();
            records.push(stored);
        }
    });
    let mut reader = EpochReader::at(&log, &Frontier::default());
    let read = loop {
        match reader.next_batch() {
            Ok(Some(_)) => {}
            Ok(None) => break String::new(),
            Err(error) => break said(error)?,
        }
    };
    let report = match audit(&log, &AuditOptions::default(), &mut |_| {}) {
        Ok(report) => report,
        Err(error) => return said(error),
    };
    let changed = all(&log).iter().zip(&before).any(|(now, then)| (&now.key, &now.value) != (&then.key, &then.value));
    holds!(!(changed && report.ok), "an audit finds nothing in a history that was changed");
    let options = EngineOptions::new(CellId::from("test"), None);
    let led = Engine::lead(&log, &options, None).map_or_else(|error| error.to_string(), |_| "led".to_owned());
    Ok(format!("{read} {} {led}", report.first_difference.map(|found| found.to_string()).unwrap_or_default()))
}

/// What stands behind two lengths.
pub(super) fn pair<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let mut part = || {
        let len = usize::try_from(wire::read_long(rest).ok()?).ok()?.min(rest.len());
        let (part, after) = rest.split_at(len);
        *rest = after;
        Some(part)
    };
    Some((part()?, part()?))
}
