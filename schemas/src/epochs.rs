//! An epoch as a reader of the log sees it: the inputs it took, the outputs it gave and the record that closes it.
//!
//! Projections, audits and archives all read history through these types and judge nothing again.

mod frontier;
mod outputs;
mod reader;

pub use crate::epochs::frontier::{Frontier, Positions, RecordPlace};
pub use crate::epochs::reader::{EpochReader, RawEpoch, RawInput, RawOutput, ReadError};

use crate::codec::Decoded;
use crate::events::Event;
use crate::events::decisions::{EpochCommitted, SkipReason};
use crate::hash::Hash32;
use crate::topics::Topic;

/// Where an input record stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Position {
    /// Place of the topic in the order of application ([`Topic::INPUTS`]).
    pub topic: u8,
    /// Partition.
    pub partition: u32,
    /// Ordinal.
    pub ordinal: u64,
}

impl Position {
    /// The position of a record of an input topic.
    pub fn new(topic: Topic, partition: u32, ordinal: u64) -> Self {
        Self { topic: topic as u8, partition, ordinal }
    }

    /// The topic.
    pub fn topic(self) -> Topic {
        Topic::ALL[usize::from(self.topic)]
    }
}

/// An input record of an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputRecord {
    /// Where it stands.
    pub position: Position,
    /// The event; absent when it does not decode, which only a skipped record may.
    pub decoded: Option<Decoded>,
    /// Why it does not count; absent for one that does.
    pub skipped: Option<SkipReason>,
}

/// One epoch, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochBatch {
    /// The epoch record.
    pub record: EpochCommitted,
    /// Its chain hash.
    pub chain_hash: Hash32,
    /// Inputs in the order of application; skipped ones among them.
    pub inputs: Vec<InputRecord>,
    /// Outputs in order of index: decisions and quarantine records, the epoch record not among them.
    pub outputs: Vec<Event>,
}

impl EpochBatch {
    /// The input events that count, in the order of application.
    pub fn counted(&self) -> impl Iterator<Item = (Position, &Event)> {
        self.inputs
            .iter()
            .filter(|input| input.skipped.is_none())
            .filter_map(|input| input.decoded.as_ref().map(|decoded| (input.position, &decoded.event)))
    }
}
