//! Histories for tests: epochs that chain, without a log.

#![allow(dead_code, reason = "each test file uses its part")]

pub mod billing;
pub mod failover;

use solyx_schemas::codec::Decoded;
use solyx_schemas::epochs::{EpochBatch, InputRecord, Position};
use solyx_schemas::events::decisions::EpochCommitted;
use solyx_schemas::events::{Event, Stamp};
use solyx_schemas::hash::Hash32;
use solyx_schemas::topics::Topic;
use solyx_schemas::units::TimeUs;

/// Epochs made one after the other.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub epochs: Vec<EpochBatch>,
    pub ordinals: std::collections::BTreeMap<Topic, u64>,
}

impl History {
    /// Adds an epoch with these inputs and outputs.
    pub fn epoch(&mut self, now_us: i64, inputs: Vec<Event>, outputs: Vec<Event>) -> &mut Self {
        let epoch = self.epochs.len() as i64;
        let cell = solyx_schemas::ids::CellId::from("cell-a");
        let inputs = inputs
            .into_iter()
            .map(|event| {
                let ordinal = self.ordinals.entry(event.topic()).or_default();
                let position = Position::new(event.topic(), 0, *ordinal);
                *ordinal += 1;
                InputRecord { position, decoded: Some(Decoded { event, schema: Hash32::default() }), skipped: None }
            })
            .collect();
        let outputs = outputs
            .into_iter()
            .enumerate()
            .map(|(index, mut event)| {
                let now_us = TimeUs(now_us);
                event.stamp(&Stamp { cell: cell.clone(), epoch, term: 0, index: index as i64, now_us });
                event
            })
            .collect();
        let previous_chain_hash = self.epochs.last().map(|last| last.chain_hash).unwrap_or_default();
        let record =
            EpochCommitted { cell, epoch, now_us: TimeUs(now_us), previous_chain_hash, ..EpochCommitted::default() };
        let mut chain_hash = [0; 32];
        chain_hash[..8].copy_from_slice(&(epoch + 1).to_le_bytes());
        self.epochs.push(EpochBatch { record, chain_hash: Hash32(chain_hash), inputs, outputs });
        self
    }

    /// The epochs as a source, from one on.
    pub fn source(&self, from: i64) -> impl Iterator<Item = Result<EpochBatch, std::io::Error>> + '_ {
        self.epochs.iter().skip(from as usize).cloned().map(Ok)
    }
}
