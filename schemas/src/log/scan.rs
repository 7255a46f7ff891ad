//! Reading a topic-partition from one end to the other, in bounded pieces.

use std::collections::VecDeque;

use crate::log::{Log, LogError, ReadLimit, StoredRecord};
use crate::topics::TopicName;

/// Bounds of one piece.
pub const SCAN_LIMIT: ReadLimit = ReadLimit { records: 1_024, bytes: 1 << 20 };

/// The records of a topic-partition from an ordinal on, until there is none; it may be asked again later.
pub struct Scan<'a> {
    log: &'a dyn Log,
    topic: TopicName,
    partition: u32,
    next_read: u64,
    ahead: VecDeque<StoredRecord>,
}

impl<'a> Scan<'a> {
    /// Begins at `from`.
    pub fn new(log: &'a dyn Log, topic: TopicName, partition: u32, from: u64) -> Self {
        Self { log, topic, partition, next_read: from, ahead: VecDeque::new() }
    }

    /// Ordinal of the next record.
    pub fn position(&self) -> u64 {
        self.next_read - self.ahead.len() as u64
    }
}

impl Iterator for Scan<'_> {
    type Item = Result<StoredRecord, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ahead.is_empty() {
            match self.log.read(self.topic, self.partition, self.next_read, SCAN_LIMIT) {
                Ok(records) => self.ahead.extend(records),
                Err(error) => return Some(Err(error)),
            }
            self.next_read += self.ahead.len() as u64;
        }
        self.ahead.pop_front().map(Ok)
    }
}
