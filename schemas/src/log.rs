//! The trait that every log has: embedded, Apache Kafka, or a test's in memory.
//!
//! A position that is hashed is an *ordinal*: the count of committed data records of a topic-partition, the same on every
//! log. A log's own offset, which may have gaps, is kept beside it. Appends are atomic over several topics; one writer of
//! a name fences the one before.

pub mod memory;
mod scan;

use std::borrow::Cow;
use std::time::Instant;

use crate::codec::FRAME_LEN;
pub use crate::log::scan::{SCAN_LIMIT, Scan};
use crate::topics::TopicName;

/// A record as a producer hands it over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Topic.
    pub topic: TopicName,
    /// Partition.
    pub partition: u32,
    /// Key.
    pub key: Vec<u8>,
    /// Framed value.
    pub value: Vec<u8>,
    /// Headers in order.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Record {
    /// Bytes it takes, roughly, for limits on batches.
    pub fn size(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.key.len() + self.value.len() + headers
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_slice())
    }
}

/// A record as the log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// Count of committed data records before it in its topic-partition.
    pub ordinal: u64,
    /// The log's own position.
    pub offset: i64,
    /// When the log took it, by the log's clock, µs UTC.
    pub append_time_us: i64,
    /// The record.
    pub record: Record,
    /// The schema id in its frame as it was written, where the log's ids are not those of the lock file and it was exchanged.
    pub wire_id: Option<u32>,
}

impl StoredRecord {
    /// The value as it was written: what is hashed of a record that does not decode, and what is copied of it.
    pub fn written_value(&self) -> Cow<'_, [u8]> {
        match self.wire_id {
            Some(id) if self.record.value.len() >= FRAME_LEN => {
                let mut value = self.record.value.clone();
                value[1..FRAME_LEN].copy_from_slice(&id.to_be_bytes());
                Cow::Owned(value)
            }
            _ => Cow::Borrowed(&self.record.value),
        }
    }
}

/// Bounds of one read. At least one record is returned when there is one.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimit {
    /// Most records.
    pub records: usize,
    /// Most bytes.
    pub bytes: usize,
}

/// What an append was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Append time of its last record, by the log's clock, µs UTC.
    pub append_time_us: i64,
    /// What each topic-partition was given.
    pub written: Vec<Written>,
}

/// What one topic-partition was given by an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Topic.
    pub topic: TopicName,
    /// Partition.
    pub partition: u32,
    /// Ordinal of its first record. Absent before the commit, and where the log would have to count what others wrote: a
    /// log that is shared knows it only of a topic-partition that this handle has read to its end.
    pub first: Option<u64>,
    /// Number of records.
    pub records: u64,
}

/// What went wrong, and what a caller can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogErrorKind {
    /// The same call may work later.
    Retry,
    /// This producer or log handle is of no more use; open a new one and find out what was committed.
    Restart,
    /// Another writer of the same name took over.
    Fenced,
    /// The caller's guard declined the append; nothing was written.
    Declined,
    /// What is stored is not what was written there: another copy is needed.
    Damaged,
    /// Somebody has to act.
    Stop,
}

/// An error of a log, in three parts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {detail}; {hint}")]
pub struct LogError {
    /// What can be done.
    pub kind: LogErrorKind,
    /// What happened.
    pub what: String,
    /// Detail.
    pub detail: String,
    /// The way out.
    pub hint: String,
}

impl LogError {
    /// An error of its three parts.
    pub fn new(kind: LogErrorKind, what: impl Into<String>, detail: impl ToString, hint: impl Into<String>) -> Self {
        Self { kind, what: what.into(), detail: detail.to_string(), hint: hint.into() }
    }
}

/// A log that can be read, and written through producers.
pub trait Log: Send + Sync {
    /// Number of partitions of a topic.
    fn partitions(&self, topic: TopicName) -> u32;

    /// First ordinal not yet committed; at least as of the last [`Log::look_up`]. A log that has no ordinals of its own counts its
    /// records for that.
    fn end(&self, topic: TopicName, partition: u32) -> Result<u64, LogError>;

    /// How far a reader that stands at `from` can read on without waiting: beyond `from` if there is anything, though not
    /// always to the end; below it if the log has no such record.
    fn readable(&self, topic: TopicName, partition: u32, from: u64) -> Result<u64, LogError> {
        let _ = from;
        self.end(topic, partition)
    }

    /// Looks anew where each topic-partition ends: whatever was committed before this call is read, and counted, after it.
    /// Opening a log and making a producer do the same.
    fn look_up(&self) -> Result<(), LogError> {
        Ok(())
    }

    /// Waits until everything that was written to a topic is readable or gone. What an earlier owner of a name has committed may
    /// not be readable at once, and who goes by too little of it repeats what was done.
    fn settle(&self, topic: TopicName) -> Result<(), LogError> {
        let _ = topic;
        Ok(())
    }

    /// Says what will be read soon and from where on, so that a log that has to ask for it can do so at once.
    fn about_to_read(&self, positions: &[(TopicName, u32, u64)]) -> Result<(), LogError> {
        let _ = positions;
        Ok(())
    }

    /// Committed records from an ordinal on; empty at the end.
    fn read(
        &self,
        topic: TopicName,
        partition: u32,
        from: u64,
        limit: ReadLimit,
    ) -> Result<Vec<StoredRecord>, LogError>;

    /// Waits until one of the topic-partitions has a record at or beyond its ordinal; false when the deadline came first.
    fn wait(&self, positions: &[(TopicName, u32, u64)], deadline: Instant) -> Result<bool, LogError>;

    /// A producer of this name; the one before it can write nothing more.
    fn producer(&self, name: &str) -> Result<Box<dyn Producer>, LogError>;
}

/// A writer.
pub trait Producer: Send {
    /// The fencing term of its outputs, when the highest in the log is this one: 0 on a log whose lock fences; where a term
    /// tells writers apart one more, or more than that, so that no earlier producer of this process had the same.
    fn term_after(&self, highest: i64) -> i64;

    /// Appends all records or none, over any topics. `accept` sees the acknowledgement before the commit and may decline.
    fn append_if(&mut self, batch: &[Record], accept: &mut dyn FnMut(&Ack) -> bool) -> Result<Ack, LogError>;

    /// Appends all records or none.
    fn append(&mut self, batch: Vec<Record>) -> Result<Ack, LogError> {
        self.append_if(&batch, &mut |_| true)
    }

    /// Returns when everything appended so far is durable.
    fn sync(&mut self) -> Result<(), LogError>;
}
