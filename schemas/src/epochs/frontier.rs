//! How far a reader of history has come: what it needs to go on later, and to see that the log is still the same one.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::codec::FRAME_LEN;
use crate::hash::{Hash32, chain_hash};
use crate::log::{Log, LogError, ReadLimit};
use crate::topics::{Topic, TopicName};

/// A next ordinal for each topic-partition; 0 for one that is not named. Written as a list of triples.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Positions(BTreeMap<(Topic, u32), u64>);

impl Positions {
    /// Next ordinal of a topic-partition.
    pub fn get(&self, topic: Topic, partition: u32) -> u64 {
        self.0.get(&(topic, partition)).copied().unwrap_or(0)
    }

    /// Sets the next ordinal of a topic-partition.
    pub fn set(&mut self, topic: Topic, partition: u32, ordinal: u64) {
        self.0.insert((topic, partition), ordinal);
    }

    /// Every topic-partition that was set, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Topic, u32, u64)> + '_ {
        self.0.iter().map(|((topic, partition), ordinal)| (*topic, *partition, *ordinal))
    }
}

impl Serialize for Positions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(|(topic, partition, ordinal)| (topic.name(), partition, ordinal)))
    }
}

impl<'de> Deserialize<'de> for Positions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let triples = Vec::<(String, u32, u64)>::deserialize(deserializer)?;
        let parsed = triples.into_iter().map(|(name, partition, ordinal)| {
            let topic = Topic::parse(&name);
            let topic = topic.ok_or_else(|| serde::de::Error::custom(format!("no topic has the name {name:?}")))?;
            Ok(((topic, partition), ordinal))
        });
        parsed.collect::<Result<_, _>>().map(Self)
    }
}

/// Where an epoch record stands in topic `decisions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordPlace {
    /// Partition.
    pub partition: u32,
    /// Ordinal.
    pub ordinal: u64,
}

/// The boundary between what was read and what was not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frontier {
    /// The next epoch.
    pub next_epoch: i64,
    /// Chain hash of the epoch record before; zeros before the first.
    pub chain_head: Hash32,
    /// Where that record stands; absent before the first.
    pub record: Option<RecordPlace>,
    /// What was taken of each input.
    pub inputs: Positions,
    /// What was read of each output topic-partition, whole epochs only.
    pub outputs: Positions,
}

impl Frontier {
    /// Whether this log has the history up to here: the record it ends with stands where it stood, with the same hash.
    /// A log that lost its end, or another log, does not.
    pub fn is_in(&self, log: &dyn Log) -> Result<bool, LogError> {
        let there = |(topic, partition, _): &(Topic, u32, u64)| *partition < log.partitions((*topic).into());
        let all = self.inputs.iter().chain(self.outputs.iter()).filter(there);
        let lasts: Vec<_> =
            all.map(|(topic, partition, next)| (topic.into(), partition, next.saturating_sub(1))).collect();
        log.about_to_read(&lasts)?;
        for (topic, partition, ordinal) in self.inputs.iter().chain(self.outputs.iter()) {
            let Some(last) = ordinal.checked_sub(1) else { continue };
            if partition >= log.partitions(topic.into()) || log.readable(topic.into(), partition, last)? < ordinal {
                return Ok(false);
            }
        }
        let Some(place) = self.record else {
            return Ok(self.next_epoch == 0 && self.chain_head == Hash32::default());
        };
        let topic = TopicName::live(Topic::Decisions);
        if place.partition >= log.partitions(topic) {
            return Ok(false);
        }
        let one = ReadLimit { records: 1, bytes: 1 };
        let found = log.read(topic, place.partition, place.ordinal, one)?;
        let same = found.first().is_some_and(|stored| {
            let body = stored.record.value.get(FRAME_LEN..).unwrap_or_default();
            stored.ordinal == place.ordinal && chain_hash(body) == self.chain_head
        });
        Ok(same)
    }
}
