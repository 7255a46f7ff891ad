//! One partition of an output topic as a reader of epochs holds it: epoch records apart from the outputs they close.

use std::collections::VecDeque;

use crate::codec::{Codec, FRAME_LEN};
use crate::epochs::reader::{RawOutput, ReadError};
use crate::events::Event;
use crate::events::decisions::EpochCommitted;
use crate::hash::{Hash32, chain_hash};
use crate::log::{Log, SCAN_LIMIT, StoredRecord};
use crate::topics::{Topic, TopicName};

/// Outputs that a reader holds of one partition while it looks for the rest of an epoch.
const PENDING_MAX: usize = 4 << 20;

/// An epoch record that was read.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub record: EpochCommitted,
    pub chain_hash: Hash32,
    pub stored: StoredRecord,
}

/// An output that was read and belongs to no epoch yet.
struct Pending {
    epoch: i64,
    term: i64,
    index: i64,
    output: RawOutput,
}

/// What is held of one partition.
pub(super) struct OutputQueue {
    topic: Topic,
    partition: u32,
    next_read: u64,
    pending: VecDeque<Pending>,
    candidates: VecDeque<Candidate>,
    unread: Option<String>,
    highest_term: i64,
    /// The last epoch record that was dropped though it goes on from where history then was, and its ordinal.
    unlinked: Option<(i64, u64)>,
}

impl OutputQueue {
    pub fn new(topic: Topic, partition: u32, from: u64) -> Self {
        let (pending, candidates) = (VecDeque::new(), VecDeque::new());
        Self { topic, partition, next_read: from, pending, candidates, unread: None, highest_term: 0, unlinked: None }
    }

    /// First ordinal that nothing was made of yet.
    pub fn position(&self) -> u64 {
        let pending = self.pending.front().map(|p| p.output.stored.ordinal);
        let candidate = self.candidates.front().map(|c| c.stored.ordinal);
        pending.into_iter().chain(candidate).min().unwrap_or(self.next_read)
    }

    /// Where reading goes on.
    pub fn next_read(&self) -> u64 {
        self.next_read
    }

    /// The highest term of any output that was read.
    pub fn highest_term(&self) -> i64 {
        self.highest_term
    }

    /// Reads one piece more; false at the end of the log.
    pub fn fill(&mut self, log: &dyn Log) -> Result<bool, ReadError> {
        let records = log.read(TopicName::live(self.topic), self.partition, self.next_read, SCAN_LIMIT)?;
        if records.is_empty() {
            return Ok(false);
        }
        for stored in records {
            if stored.ordinal != self.next_read {
                return Err(ReadError::gap(self.topic, self.partition, self.next_read, stored.ordinal));
            }
            self.next_read += 1;
            self.sort_in(stored);
        }
        if self.pending.len() > PENDING_MAX {
            return Err(ReadError::Overfull { topic: self.topic.name(), partition: self.partition });
        }
        Ok(true)
    }

    /// Records that are no output of any engine are nobody's, but one that this build cannot read is remembered: it may
    /// be what an epoch lacks.
    fn sort_in(&mut self, stored: StoredRecord) {
        let decoded = match Codec::global().decode_record(&stored.record) {
            Ok(decoded) => decoded,
            Err(error) => {
                self.unread.get_or_insert_with(|| format!("ordinal {}: {error}", stored.ordinal));
                return;
            }
        };
        if let Some(stamp) = decoded.event.stamped() {
            self.highest_term = self.highest_term.max(stamp.term);
        }
        if let Event::EpochCommitted(record) = decoded.event {
            let chain_hash = chain_hash(&stored.record.value[FRAME_LEN..]);
            self.candidates.push_back(Candidate { record: *record, chain_hash, stored });
        } else if let Some(stamp) = decoded.event.stamped() {
            let output = RawOutput { event: decoded.event, stored };
            self.pending.push_back(Pending { epoch: stamp.epoch, term: stamp.term, index: stamp.index, output });
        }
    }

    /// The first epoch record of this number whose previous hash is the head, among what was read; those before it
    /// are dropped.
    pub fn candidate(&mut self, epoch: i64, head: &Hash32) -> Option<Candidate> {
        while let Some(candidate) = self.candidates.front() {
            if candidate.record.epoch == epoch && candidate.record.previous_chain_hash == *head {
                return self.candidates.front().cloned();
            }
            if candidate.record.epoch >= epoch {
                self.unlinked = Some((candidate.record.epoch, candidate.stored.ordinal));
            }
            self.candidates.pop_front();
        }
        None
    }

    /// An epoch record that was read and says that history goes on after an epoch that was not found: epoch and ordinal.
    pub fn goes_on(&self, next_epoch: i64) -> Option<(i64, u64)> {
        let held = self.candidates.iter().map(|held| (held.record.epoch, held.stored.ordinal));
        let beyond = held.filter(|(epoch, _)| *epoch > next_epoch);
        self.unlinked.filter(|(epoch, _)| *epoch >= next_epoch).into_iter().chain(beyond).next()
    }

    /// Whether so many outputs of an epoch and term have been read.
    pub fn holds(&self, epoch: i64, term: i64, records: usize) -> bool {
        let of_it = |p: &&Pending| p.epoch == epoch && p.term == term;
        self.pending.iter().take_while(|p| p.epoch <= epoch).filter(of_it).count() >= records
            || self.pending.iter().filter(of_it).count() >= records
    }

    /// Takes so many outputs of an epoch and term, with their index; what is left of it and before it is dropped.
    pub fn take(&mut self, epoch: i64, term: i64, records: usize, into: &mut Vec<(i64, RawOutput)>) {
        let mut taken = 0;
        while self.pending.front().is_some_and(|pending| pending.epoch <= epoch) {
            let Some(pending) = self.pending.pop_front() else { break };
            if taken < records && pending.epoch == epoch && pending.term == term {
                into.push((pending.index, pending.output));
                taken += 1;
            }
        }
        if taken == records {
            return;
        }
        // Another term's later epochs stand between this epoch's outputs.
        let mut later = VecDeque::with_capacity(self.pending.len());
        for pending in self.pending.drain(..) {
            if taken < records && pending.epoch == epoch && pending.term == term {
                into.push((pending.index, pending.output));
                taken += 1;
            } else {
                later.push_back(pending);
            }
        }
        self.pending = later;
    }

    /// The epoch is whole: its record is done with.
    pub fn committed(&mut self) {
        self.candidates.pop_front();
    }

    /// What could not be read since the last time this was asked.
    pub fn take_unread(&mut self) -> Option<String> {
        self.unread.take()
    }
}
