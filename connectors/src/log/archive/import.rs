//! From an archive to a log: the same keys, headers and values in the same order per partition, in bounded batches.
//!
//! What was imported before is compared and skipped, so that an import that was interrupted goes on where it stopped. Until an
//! import is through, the log holds a part of a history and must not be run.

use std::path::Path;

use solyx_schemas::hash::Hash32;
use solyx_schemas::log::{Log, LogError, LogErrorKind, Producer, ReadLimit, Record};
use solyx_schemas::topics::TopicName;

use super::manifest::{damaged, hash_file, inside, missing};
use super::read::ArchiveLog;
use super::{Progress, on_all_cores};
use crate::log::heads::topic_names;

/// Bounds of one append.
const BATCH: ReadLimit = ReadLimit { records: 8192, bytes: 8 << 20 };
/// Name of the producer.
const PRODUCER: &str = "archive-import";

/// What an import did.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Imported {
    /// Records written.
    pub records: u64,
    /// Records that were there before.
    pub present: u64,
}

/// Brings the archive in `dir` into a log that is empty or holds the beginning of it. The log must have the archive's
/// partitions ([`ArchiveLog::partition_counts`]). `progress` hears records done and records in all.
pub fn import(dir: &Path, log: &dyn Log, progress: Progress<'_>) -> Result<Imported, LogError> {
    let archive = ArchiveLog::open(dir)?;
    check_hashes(dir, &archive)?;
    for (name, count) in &archive.manifest().partitions {
        let has = TopicName::parse(name).map_or(0, |topic| log.partitions(topic));
        if has != *count {
            return Err(LogError::new(
                LogErrorKind::Stop,
                format!("topic {name} has other partitions than in the archive"),
                format!("the log has {has}, the archive {count}"),
                "create the log with the archive's partition counts",
            ));
        }
    }
    let total = archive.manifest().files.iter().map(|file| file.records).sum();
    let mut done = Imported { records: 0, present: 0 };
    let mut producer = log.producer(PRODUCER)?;
    for topic in topic_names() {
        for partition in 0..archive.partitions(topic) {
            done.present += compare(&*archive, log, topic, partition)?;
            progress(done.records + done.present, total);
            copy(&*archive, log, &mut *producer, topic, partition, &mut |records| {
                done.records += records;
                progress(done.records + done.present, total);
            })?;
        }
    }
    producer.sync()?;
    Ok(done)
}

/// Compares each file with the manifest's hash, before anything is written.
fn check_hashes(dir: &Path, archive: &ArchiveLog) -> Result<(), LogError> {
    let files: Vec<_> = archive.manifest().hashed().collect();
    on_all_cores(&files, |file| {
        let (_, found): (u64, Hash32) =
            hash_file(&inside(dir, &file.path)).map_err(|e| damaged(dir, &file.path, missing(&e)))?;
        if found == file.sha256 {
            return Ok(());
        }
        Err(damaged(dir, &file.path, format!("has sha-256 {found}, the manifest says {}", file.sha256)))
    })?;
    Ok(())
}

/// Checks that what the log has of a topic-partition is the archive's beginning; the number of its records.
fn compare(archive: &dyn Log, log: &dyn Log, topic: TopicName, partition: u32) -> Result<u64, LogError> {
    let end = log.end(topic, partition)?;
    let mut next = 0;
    while next < end {
        let there = log.read(topic, partition, next, BATCH)?;
        let limit = ReadLimit { records: there.len(), bytes: usize::MAX };
        let expected = archive.read(topic, partition, next, limit)?;
        let same = there.iter().zip(&expected).take_while(|(a, b)| a.record == b.record).count();
        if same < there.len() || same == 0 {
            return Err(LogError::new(
                LogErrorKind::Stop,
                "the log holds something else than the archive",
                format!("{} {partition} differs at ordinal {}", topic.name(), next + same as u64),
                "import into an empty log, or into the one an earlier import of this archive began",
            ));
        }
        next += same as u64;
    }
    Ok(end)
}

/// Appends what the log does not have yet.
fn copy(
    archive: &dyn Log,
    log: &dyn Log,
    producer: &mut dyn Producer,
    topic: TopicName,
    partition: u32,
    advance: &mut dyn FnMut(u64),
) -> Result<(), LogError> {
    let mut next = log.end(topic, partition)?;
    loop {
        let batch: Vec<Record> =
            archive.read(topic, partition, next, BATCH)?.into_iter().map(|stored| stored.record).collect();
        if batch.is_empty() {
            return Ok(());
        }
        let records = batch.len() as u64;
        producer.append(batch)?;
        next += records;
        advance(records);
    }
}
