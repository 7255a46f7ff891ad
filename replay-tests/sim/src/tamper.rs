//! A log that somebody has changed behind everybody's back: an audit has to name the first epoch that is touched.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use solyx_histories::history::Luck;
use solyx_runtime::{AuditOptions, audit};
use solyx_schemas::hash::Hash32;
use solyx_schemas::log::memory::MemoryLog;
use solyx_schemas::log::{Log, Scan, StoredRecord};
use solyx_schemas::topics::{Topic, TopicName};

/// To which epoch each record that belongs to one does, by topic, partition and ordinal.
pub type Epochs = BTreeMap<(Topic, u32, u64), i64>;

/// How a log is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Flip,
    Drop,
    Swap,
    Insert,
    CutTail,
}

/// A copy of a log that somebody has changed.
pub struct Changed {
    /// The copy.
    pub log: MemoryLog,
    /// What was done, and where.
    pub what: String,
    /// The first epoch that is touched.
    pub epoch: i64,
}

/// Changes a copy of a log at a random place; nothing when what was done changes nothing that an epoch has.
pub fn change(log: &MemoryLog, epochs: &Epochs, luck: &mut Luck) -> anyhow::Result<Option<Changed>> {
    let change = *luck.of(&[Change::Flip, Change::Drop, Change::Swap, Change::Insert, Change::CutTail]);
    let places: Vec<(&(Topic, u32, u64), &i64)> = epochs.iter().collect();
    if places.is_empty() {
        return Ok(None);
    }
    let ((topic, partition, ordinal), epoch) = *luck.of(&places);
    let copy = log.fork();
    let records = |log: &MemoryLog| -> Result<Vec<StoredRecord>, _> {
        Scan::new(log, TopicName::live(*topic), *partition, 0).collect()
    };
    let before = records(log)?;
    copy.tamper(TopicName::live(*topic), *partition, |records| alter(change, *ordinal as usize, luck, records));
    let after = records(&copy)?;
    let same = |(one, other): (&StoredRecord, &StoredRecord)| {
        (&one.record.key, &one.record.value) == (&other.record.key, &other.record.value)
    };
    let first = before.iter().zip(&after).position(|pair| !same(pair)).unwrap_or(before.len().min(after.len()));
    // A record that is like its neighbour may be gone without a trace before the end of them.
    let touched = epochs.range((*topic, *partition, first as u64)..(*topic, *partition + 1, 0)).next();
    let Some((_, touched)) = touched else { return Ok(None) };
    let what = format!("{change:?} of {}/{partition}/{ordinal} of epoch {epoch}", topic.name());
    Ok(Some(Changed { log: copy, what, epoch: *touched }))
}

/// Asks an audit of a log that was changed: the first epoch that is touched has to be named. `head` is the chain hash of the log before
/// that as somebody has kept it.
pub fn is_named(log: &dyn Log, what: &str, epoch: i64, head: Hash32) -> anyhow::Result<()> {
    let options = AuditOptions { head: Some(head), ..AuditOptions::default() };
    let report = audit(log, &options, &mut |_| {})?;
    let found = report.first_difference.with_context(|| format!("{what} is not found"))?;
    ensure!(found.epoch == epoch, "{what}: expected epoch {epoch} to be named, found {found}");
    Ok(())
}

/// Changes a copy of a log at a random place, and asks an audit.
pub fn is_found(log: &MemoryLog, epochs: &Epochs, head: Hash32, luck: &mut Luck) -> anyhow::Result<()> {
    let Some(changed) = change(log, epochs, luck)? else { return Ok(()) };
    is_named(&changed.log, &changed.what, changed.epoch, head)
}

fn alter(change: Change, at: usize, luck: &mut Luck, records: &mut Vec<StoredRecord>) {
    match change {
        Change::Flip => {
            let record = &mut records[at].record;
            let in_key = record.value.is_empty() || luck.chance(20);
            let bytes = if in_key { &mut record.key } else { &mut record.value };
            if !bytes.is_empty() {
                let byte = luck.below(bytes.len() as i64) as usize;
                bytes[byte] ^= 1 << luck.below(8);
            }
        }
        Change::Drop => {
            records.remove(at);
        }
        Change::Swap => {
            let other = (at + 1).min(records.len() - 1);
            records.swap(at, other);
        }
        Change::Insert => {
            let copy = records[luck.below(records.len() as i64) as usize].clone();
            records.insert(at, copy);
        }
        Change::CutTail => records.truncate(at),
    }
}

/// Where decisions and quarantine records lie, and their epochs: each says its own.
pub fn of_outputs(log: &MemoryLog, epochs: &mut Epochs) -> anyhow::Result<()> {
    for topic in [Topic::Decisions, Topic::Quarantine] {
        for partition in 0..log.partitions(topic.into()) {
            for stored in Scan::new(log, topic.into(), partition, 0) {
                let stored = stored?;
                let event = solyx_schemas::codec::Codec::global().decode_record(&stored.record)?.event;
                let epoch = match &event {
                    solyx_schemas::events::Event::EpochCommitted(record) => Some(record.epoch),
                    other => other.stamped().map(|stamp| stamp.epoch),
                };
                epochs.extend(epoch.map(|epoch| ((topic, partition, stored.ordinal), epoch)));
            }
        }
    }
    Ok(())
}
