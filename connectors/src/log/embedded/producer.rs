//! Writing: an append is one write batch of RocksDB, whole or absent.

use std::sync::Arc;

use rocksdb::{WriteBatch, WriteOptions};
use solyx_schemas::log::{Ack, LogError, LogErrorKind, Producer, Record};

use super::errors::log_error;
use super::layout::{key, write_value};
use super::{Durability, Shared};
use crate::log::heads::{Fence, declined, locked, wall_clock_us};

/// What one append after the other changes.
pub(super) struct Writing {
    pub(super) fence: Fence,
    pub(super) last_append_us: i64,
    /// Appends since the last that was synced.
    pub(super) unsynced: u32,
    /// Why nothing more can be written.
    pub(super) failed: Option<LogError>,
}

impl Writing {
    fn usable(&self) -> Result<(), LogError> {
        match &self.failed {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }
}

/// A writer of the embedded log.
pub(super) struct EmbeddedProducer {
    shared: Arc<Shared>,
    name: String,
    generation: u64,
    value: Vec<u8>,
}

impl EmbeddedProducer {
    pub(super) fn new(shared: Arc<Shared>, name: &str, generation: u64) -> Self {
        Self { shared, name: name.to_owned(), generation, value: Vec::new() }
    }
}

impl Producer for EmbeddedProducer {
    fn term_after(&self, _highest: i64) -> i64 {
        0
    }

    fn append_if(&mut self, batch: &[Record], accept: &mut dyn FnMut(&Ack) -> bool) -> Result<Ack, LogError> {
        let Self { shared, name, generation, value } = self;
        let store = &shared.store;
        let mut writing = locked(&shared.writing);
        writing.fence.check(name, *generation)?;
        writing.usable()?;
        let append_time_us = wall_clock_us().max(writing.last_append_us);
        let (ack, ordinals) = store.slots.assign(&shared.ends.all(), batch, append_time_us)?;
        if !accept(&ack) {
            return Err(declined());
        }
        if batch.is_empty() {
            return Ok(ack);
        }
        let mut write = WriteBatch::default();
        for (record, ordinal) in batch.iter().zip(&ordinals) {
            value.clear();
            write_value(record, append_time_us, value);
            write.put(key(store.number(record.topic)?, record.partition, *ordinal), &*value);
        }
        let sync = match shared.durability {
            Durability::EveryAppend => true,
            Durability::EveryN(appends) => writing.unsynced + 1 >= appends.max(1),
        };
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        if let Err(e) = store.db.write_opt(write, &options) {
            return Err(fail(&mut writing, log_error(&store.dir, "appending", &e)));
        }
        writing.unsynced = if sync { 0 } else { writing.unsynced + 1 };
        writing.last_append_us = append_time_us;
        shared.ends.advance(&store.slots, &ack);
        Ok(ack)
    }

    fn sync(&mut self) -> Result<(), LogError> {
        let mut writing = locked(&self.shared.writing);
        writing.fence.check(&self.name, self.generation)?;
        writing.usable()?;
        let store = &self.shared.store;
        store.db.flush_wal(true).map_err(|e| fail(&mut writing, log_error(&store.dir, "syncing", &e)))?;
        writing.unsynced = 0;
        Ok(())
    }
}

/// Remembers that nothing more can be written. RocksDB may heal by itself when there is room again, but where a failed write
/// ended is only known after opening again.
fn fail(writing: &mut Writing, error: LogError) -> LogError {
    let later = LogError::new(
        LogErrorKind::Stop,
        format!("an earlier write of this log failed: {}", error.what),
        error.detail.clone(),
        error.hint.clone(),
    );
    writing.failed = Some(later);
    error
}
