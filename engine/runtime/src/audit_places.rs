//! Where outputs stand: in each partition in the order of their indexes, epoch after epoch, and nothing between them.
//!
//! Hashes are of what an output says and of its index, not of where it stands, and whoever reads epochs takes what belongs to one
//! and leaves the rest. So a copy of an output that was put somewhere, or two that changed places, would change no decision. An
//! audit says so all the same.

use std::collections::BTreeMap;

use serde::Serialize;
use solyx_schemas::codec::Codec;
use solyx_schemas::epochs::{Frontier, RawEpoch, RawOutput};
use solyx_schemas::events::Event;
use solyx_schemas::log::{Log, LogError, Scan, StoredRecord};
use solyx_schemas::topics::{Topic, partition_of};

use crate::compare::Difference;

/// The first ordinal of each partition of outputs that no epoch has yet.
pub struct Places {
    next: BTreeMap<(Topic, u32), u64>,
    /// What engines of earlier terms left between the outputs.
    pub left_over: Option<LeftOver>,
}

/// Outputs of earlier terms that are of no epoch. An engine that lost its lead leaves such where its log does not append a whole epoch
/// or nothing; readers of epochs leave them out, whoever reads the topics sees them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftOver {
    /// How many.
    pub records: u64,
    /// Topic, partition and ordinal of the first.
    pub first: String,
}

impl Places {
    /// After the epochs that end at a frontier.
    pub fn at(frontier: &Frontier) -> Self {
        let mut next: BTreeMap<(Topic, u32), u64> =
            frontier.outputs.iter().map(|(topic, partition, next)| ((topic, partition), next)).collect();
        if let Some(place) = frontier.record {
            next.insert((Topic::Decisions, place.partition), place.ordinal + 1);
        }
        Self { next, left_over: None }
    }

    /// Where the records stand that no epoch has yet.
    pub fn next(&self, topic: Topic, partition: u32) -> u64 {
        self.next.get(&(topic, partition)).copied().unwrap_or(0)
    }

    /// Takes in an epoch: the first of its outputs that does not stand where it has to.
    pub fn differs(&mut self, source: &dyn Log, raw: &RawEpoch) -> Result<Option<Difference>, LogError> {
        for RawOutput { stored, event } in &raw.outputs {
            if stored.record.topic.topic != event.topic() {
                let (topic, partition) = (stored.record.topic.topic.name(), stored.record.partition);
                let place = format!("{topic}/{partition}/{}", stored.ordinal);
                return Ok(Some(Difference::new(raw.record.epoch, place, "topic", topic, event.topic().name())));
            }
        }
        // The epoch record is the last that is written of an epoch.
        let outputs = raw.outputs.iter().map(|output| &output.stored).chain([&raw.stored]);
        for stored in outputs {
            let (topic, partition) = (stored.record.topic.topic, stored.record.partition);
            let next = self.next.entry((topic, partition)).or_default();
            let place = format!("{}/{partition}/{}", topic.name(), stored.ordinal);
            let own = partition_of(&stored.record.key, source.partitions(stored.record.topic));
            if partition != own {
                return Ok(Some(Difference::new(raw.record.epoch, place, "partition", partition, own)));
            }
            if stored.ordinal < *next {
                let found = format!("at {}, after one of a higher index", stored.ordinal);
                return Ok(Some(Difference::new(raw.record.epoch, place, "order", found, "outputs by their indexes")));
            }
            let between = *next..stored.ordinal;
            if let Some(stranger) = strangers(source, topic, partition, between.clone(), raw)? {
                return Ok(Some(stranger));
            }
            if !between.is_empty() {
                let first = format!("{}/{partition}/{}", topic.name(), between.start);
                let left_over = self.left_over.get_or_insert(LeftOver { records: 0, first });
                left_over.records += between.end - between.start;
            }
            *next = stored.ordinal + 1;
        }
        Ok(None)
    }
}

/// A record between outputs that is not what an engine of an earlier term has left of its try at this epoch.
fn strangers(
    source: &dyn Log,
    topic: Topic,
    partition: u32,
    range: std::ops::Range<u64>,
    raw: &RawEpoch,
) -> Result<Option<Difference>, LogError> {
    if range.is_empty() {
        return Ok(None);
    }
    for stored in Scan::new(source, topic.into(), partition, range.start) {
        let stored = stored?;
        if stored.ordinal >= range.end {
            break;
        }
        if !is_left_over(&stored, raw) {
            let place = format!("{}/{partition}/{}", topic.name(), stored.ordinal);
            let expected = format!("what epoch {} says next", raw.record.epoch);
            return Ok(Some(Difference::new(raw.record.epoch, place, "order", "a record of no epoch", expected)));
        }
    }
    Ok(None)
}

fn is_left_over(stored: &StoredRecord, raw: &RawEpoch) -> bool {
    let Ok(decoded) = Codec::global().decode_record(&stored.record) else { return false };
    let (epoch, term) = match &decoded.event {
        Event::EpochCommitted(record) => (record.epoch, record.term),
        other => match other.stamped() {
            Some(stamp) => (stamp.epoch, stamp.term),
            None => return false,
        },
    };
    epoch >= raw.record.epoch && term < raw.record.term
}
