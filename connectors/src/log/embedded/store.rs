//! The RocksDB behind a log: opened one way for its writer, another for those who look on, read the same.

use std::path::{Path, PathBuf};

use rocksdb::{BlockBasedOptions, Cache, DB, DBCompressionType, DBRawIterator, Options, ReadOptions};
use solyx_schemas::log::{LogError, LogErrorKind, ReadLimit, StoredRecord};
use solyx_schemas::topics::TopicName;

use super::errors::{damaged, log_error};
use super::layout::{TABLE_KEY, Table, append_time_of, key, ordinal_of, read_value};
use crate::log::heads::Slots;

/// Bytes of read blocks kept in memory.
const BLOCK_CACHE_BYTES: usize = 32 << 20;
/// Bytes of newest records kept in memory before they become a file; at most three such buffers exist.
const WRITE_BUFFER_BYTES: usize = 32 << 20;
/// Bytes of a file of the levels below the first.
const FILE_BYTES: u64 = 64 << 20;
/// Files of the first level at which compaction begins.
const LEVEL_ZERO_FILES: i32 = 8;
const BLOCK_BYTES: usize = 16 << 10;
/// Files the writer keeps open.
const OPEN_FILES: i32 = 512;

/// RocksDB with the table of topics.
pub(super) struct Store {
    pub(super) db: DB,
    pub(super) table: Table,
    pub(super) slots: Slots,
    pub(super) dir: PathBuf,
}

fn options() -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&Cache::new_lru_cache(BLOCK_CACHE_BYTES));
    blocks.set_block_size(BLOCK_BYTES);
    let mut options = Options::default();
    options.set_block_based_table_factory(&blocks);
    options.set_write_buffer_size(WRITE_BUFFER_BYTES);
    options.set_max_write_buffer_number(3);
    options.set_target_file_size_base(FILE_BYTES);
    options.set_max_bytes_for_level_base(FILE_BYTES * 4);
    options.set_level_zero_file_num_compaction_trigger(LEVEL_ZERO_FILES);
    options.set_max_background_jobs(2);
    // Records come in order and stay: only what has sunk to the last level is worth the time of compressing.
    options.set_compression_type(DBCompressionType::None);
    options.set_bottommost_compression_type(DBCompressionType::Zstd);
    // After a loss of power the log is a prefix of its appends, whole ones only.
    options.set_wal_recovery_mode(rocksdb::DBRecoveryMode::PointInTime);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(1 << 20);
    options.set_log_level(rocksdb::LogLevel::Warn);
    options
}

impl Store {
    /// Opens for writing; a log that is not there begins with partitions as asked.
    pub(super) fn open_writer(dir: &Path, asked: &Slots) -> Result<Self, LogError> {
        std::fs::create_dir_all(dir).map_err(|e| {
            let detail = format!("{}: {e}", dir.display());
            LogError::new(
                LogErrorKind::Stop,
                "the log's directory cannot be made",
                detail,
                "look at the path and its rights",
            )
        })?;
        let mut options = options();
        options.create_if_missing(true);
        options.set_max_open_files(OPEN_FILES);
        let db = DB::open(&options, dir).map_err(|e| log_error(dir, "opening", &e))?;
        let (table, changed) = match db.get(TABLE_KEY).map_err(|e| log_error(dir, "opening", &e))? {
            Some(bytes) => {
                let mut table = Table::parse(&bytes, dir)?;
                let changed = table.add_missing(asked);
                (table, changed)
            }
            None => (Table::of(asked), true),
        };
        if changed {
            let mut write = rocksdb::WriteOptions::default();
            write.set_sync(true);
            db.put_opt(TABLE_KEY, table.to_bytes(), &write).map_err(|e| log_error(dir, "creating", &e))?;
        }
        let slots = table.slots();
        Ok(Self { db, table, slots, dir: dir.to_owned() })
    }

    /// Opens beside a writer, which may be running; `scratch` takes RocksDB's own notes.
    pub(super) fn open_reader(dir: &Path, scratch: &Path) -> Result<Self, LogError> {
        if !dir.join("CURRENT").is_file() {
            return Err(LogError::new(
                LogErrorKind::Stop,
                "there is no log here",
                dir.display(),
                "give the directory of a log that something was written to",
            ));
        }
        let mut options = options();
        // Files that the writer deletes stay readable as long as they are open here.
        options.set_max_open_files(-1);
        let db = DB::open_as_secondary(&options, dir, scratch).map_err(|e| log_error(dir, "opening to read", &e))?;
        db.try_catch_up_with_primary().map_err(|e| log_error(dir, "opening to read", &e))?;
        let bytes = db.get(TABLE_KEY).map_err(|e| log_error(dir, "opening to read", &e))?;
        let bytes = bytes.ok_or_else(|| damaged(dir, "its table of topics is missing"))?;
        let table = Table::parse(&bytes, dir)?;
        let slots = table.slots();
        Ok(Self { db, table, slots, dir: dir.to_owned() })
    }

    /// The number of a topic in keys.
    pub(super) fn number(&self, topic: TopicName) -> Result<u16, LogError> {
        let line = self.table.line(topic);
        line.map(|line| line.number).ok_or_else(|| damaged(&self.dir, format!("topic {} is missing", topic.name())))
    }

    /// Where a topic-partition ends, and the append time of its last record.
    pub(super) fn last(&self, topic: TopicName, partition: u32) -> Result<(u64, Option<i64>), LogError> {
        let Some(line) = self.table.line(topic) else { return Ok((0, None)) };
        let last = key(line.number, partition, u64::MAX);
        let mut records = self.db.raw_iterator();
        records.seek_for_prev(last);
        records.status().map_err(|e| log_error(&self.dir, "reading", &e))?;
        match records.key().and_then(|key| ordinal_of(key, &last)) {
            Some(ordinal) => Ok((ordinal + 1, records.value().and_then(append_time_of))),
            None => Ok((0, None)),
        }
    }

    /// Records of a topic-partition from an ordinal on, up to its end.
    pub(super) fn read(
        &self,
        topic: TopicName,
        partition: u32,
        from: u64,
        end: u64,
        limit: ReadLimit,
    ) -> Result<Vec<StoredRecord>, LogError> {
        if from >= end {
            return Ok(Vec::new());
        }
        let number = self.number(topic)?;
        let first = key(number, partition, from);
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(key(number, partition, end));
        let mut records: DBRawIterator<'_> = self.db.raw_iterator_opt(options);
        records.seek(first);
        let room = usize::try_from(end - from).unwrap_or(usize::MAX).min(limit.records).min(1024);
        let mut read = Vec::with_capacity(room);
        let mut bytes = 0;
        for expected in from..end {
            let Some((found, value)) = records.item() else {
                records.status().map_err(|e| log_error(&self.dir, "reading", &e))?;
                return Err(damaged(&self.dir, format!("{} {partition} has no record {expected}", topic.name())));
            };
            bytes += value.len();
            if !read.is_empty() && (read.len() >= limit.records || bytes > limit.bytes) {
                break;
            }
            let stored = match ordinal_of(found, &first) {
                Some(ordinal) if ordinal == expected => read_value(value, topic, partition, ordinal),
                _ => None,
            };
            let name = || format!("{} {partition} has no whole record {expected}", topic.name());
            read.push(stored.ok_or_else(|| damaged(&self.dir, name()))?);
            records.next();
        }
        Ok(read)
    }
}
