//! From one log to another: the same keys, headers and bodies in the same order per partition, in bounded batches.
//!
//! Schema ids are exchanged by the logs themselves; a record that does not decode is copied as it was written, since it is
//! hashed so. What was copied before is compared and skipped, so that a copy that was interrupted goes on where it stopped.
//! Until it is through, the log holds a part of a history and must not be run.

use solyx_schemas::codec::Codec;
use solyx_schemas::log::{Log, LogError, LogErrorKind, Producer, ReadLimit, Record, StoredRecord};
use solyx_schemas::topics::TopicName;

use crate::log::archive::export::ends_together;
use crate::log::heads::topic_names;

/// Bounds of one append.
const BATCH: ReadLimit = ReadLimit { records: 8192, bytes: 8 << 20 };

/// Hears of records done and records in all.
pub type Progress<'a> = &'a (dyn Fn(u64, u64) + Sync);

/// What a copy did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Mirrored {
    /// Records written.
    pub records: u64,
    /// Records that were there before.
    pub present: u64,
}

/// Copies what `from` holds now into a log that is empty or holds the beginning of it, as the producer of this name. Both have
/// the same partitions.
pub fn mirror(from: &dyn Log, to: &dyn Log, producer: &str, progress: Progress<'_>) -> Result<Mirrored, LogError> {
    for topic in topic_names() {
        let (found, expected) = (to.partitions(topic), from.partitions(topic));
        if found != expected {
            return Err(LogError::new(
                LogErrorKind::Stop,
                format!("topic {} has other partitions in the two logs", topic.name()),
                format!("found {found}, expected {expected}"),
                "create the log with the partition counts of the one it is to be a copy of",
            ));
        }
    }
    let ends = ends_together(from)?;
    let total = ends.iter().map(|(_, _, end)| end).sum();
    let mut done = Mirrored { records: 0, present: 0 };
    let mut producer = to.producer(producer)?;
    for (topic, partition, end) in ends {
        let copy = Copy { from, to, topic, partition, end };
        let present = copy.compare()?;
        done.present += present;
        progress(done.records + done.present, total);
        copy.copy(present, &mut *producer, &mut |records| {
            done.records += records;
            progress(done.records + done.present, total);
        })?;
    }
    producer.sync()?;
    Ok(done)
}

/// A record as it is copied.
fn copied(stored: StoredRecord) -> Record {
    if stored.wire_id.is_none() || Codec::global().decode_record(&stored.record).is_ok() {
        return stored.record;
    }
    let value = stored.written_value().into_owned();
    Record { value, ..stored.record }
}

/// The copy of one topic-partition.
struct Copy<'l> {
    from: &'l dyn Log,
    to: &'l dyn Log,
    topic: TopicName,
    partition: u32,
    end: u64,
}

impl Copy<'_> {
    /// Checks that what the log has is the beginning of the original; the number of its records.
    fn compare(&self) -> Result<u64, LogError> {
        let Self { from, to, topic, partition, .. } = *self;
        let end = to.end(topic, partition)?;
        let mut next = 0;
        while next < end {
            let there = to.read(topic, partition, next, BATCH)?;
            let mut expected = Vec::with_capacity(there.len());
            while expected.len() < there.len() {
                let limit = ReadLimit { records: there.len() - expected.len(), bytes: usize::MAX };
                let more = from.read(topic, partition, next + expected.len() as u64, limit)?;
                if more.is_empty() {
                    break;
                }
                expected.extend(more.into_iter().map(copied));
            }
            let count = there.len();
            let same = there.into_iter().map(copied).zip(expected).take_while(|(a, b)| a == b).count();
            if same < count || same == 0 {
                return Err(LogError::new(
                    LogErrorKind::Stop,
                    "the log holds something else than what is to be copied",
                    format!("{} {partition} differs at ordinal {}", topic.name(), next + same as u64),
                    "copy into an empty log, or into the one that an earlier copy began",
                ));
            }
            next += same as u64;
        }
        Ok(end)
    }

    /// Appends what the log does not have yet.
    fn copy(&self, present: u64, producer: &mut dyn Producer, advance: &mut dyn FnMut(u64)) -> Result<(), LogError> {
        let mut next = present;
        while next < self.end {
            let records = BATCH.records.min(usize::try_from(self.end - next).unwrap_or(usize::MAX));
            let batch: Vec<Record> = self
                .from
                .read(self.topic, self.partition, next, ReadLimit { records, ..BATCH })?
                .into_iter()
                .map(copied)
                .collect();
            let records = batch.len() as u64;
            if records == 0 {
                return Err(LogError::new(
                    LogErrorKind::Damaged,
                    "the log is shorter than it said",
                    format!("{} {} ends at ordinal {next}, expected {}", self.topic.name(), self.partition, self.end),
                    "look at the topic: it may have been made anew while it was copied",
                ));
            }
            producer.append(batch)?;
            next += records;
            advance(records);
        }
        Ok(())
    }
}
