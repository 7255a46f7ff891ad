//! Reading beside a writer: what viewers and audits open while an engine runs.

use std::path::Path;
use std::time::{Duration, Instant};

use solyx_schemas::log::{Log, LogError, LogErrorKind, Producer, ReadLimit, StoredRecord};
use solyx_schemas::topics::TopicName;

use super::errors::log_error;
use super::numbered;
use super::store::Store;
use crate::log::heads::Ends;

/// How often a reader that waits looks for what the writer has committed.
const POLL: Duration = Duration::from_millis(20);

/// A log that is only read. It follows the writer when it is asked for an end, waits, or reads past what it knew.
pub struct EmbeddedReader {
    store: Store,
    ends: Ends,
    /// Serialises catching up: RocksDB's reader is moved by one thread at a time.
    catching_up: std::sync::Mutex<()>,
    /// RocksDB's own notes; removed with this.
    _scratch: tempfile::TempDir,
}

impl EmbeddedReader {
    pub(super) fn open(dir: &Path) -> Result<Self, LogError> {
        let scratch = tempfile::Builder::new().prefix("solyx-reader-").tempdir().map_err(|e| {
            LogError::new(LogErrorKind::Stop, "no temporary directory", e, "set TMPDIR to one that can be written")
        })?;
        let store = Store::open_reader(dir, scratch.path())?;
        let ends = Ends::new(vec![0; store.slots.total()]);
        let reader = Self { store, ends, catching_up: std::sync::Mutex::new(()), _scratch: scratch };
        reader.look(true)?;
        Ok(reader)
    }

    /// Takes over what the writer has committed since.
    fn catch_up(&self) -> Result<(), LogError> {
        self.look(false)
    }

    fn look(&self, first: bool) -> Result<(), LogError> {
        let _one = crate::log::heads::locked(&self.catching_up);
        let before = self.store.db.latest_sequence_number();
        self.store
            .db
            .try_catch_up_with_primary()
            .map_err(|e| log_error(&self.store.dir, "following its writer", &e))?;
        if !first && self.store.db.latest_sequence_number() == before {
            return Ok(());
        }
        let mut ends = Vec::with_capacity(self.store.slots.total());
        for (topic, partition) in self.store.slots.iter() {
            ends.push(self.store.last(topic, partition)?.0);
        }
        self.ends.set(ends);
        Ok(())
    }
}

impl Log for EmbeddedReader {
    fn partitions(&self, topic: TopicName) -> u32 {
        self.store.slots.count(topic)
    }

    fn end(&self, topic: TopicName, partition: u32) -> Result<u64, LogError> {
        let slot = self.store.slots.index(topic, partition)?;
        self.catch_up()?;
        Ok(self.ends.get(slot))
    }

    fn read(
        &self,
        topic: TopicName,
        partition: u32,
        from: u64,
        limit: ReadLimit,
    ) -> Result<Vec<StoredRecord>, LogError> {
        let slot = self.store.slots.index(topic, partition)?;
        if from >= self.ends.get(slot) {
            self.catch_up()?;
        }
        self.store.read(topic, partition, from, self.ends.get(slot), limit)
    }

    fn wait(&self, positions: &[(TopicName, u32, u64)], deadline: Instant) -> Result<bool, LogError> {
        let positions = numbered(&self.store.slots, positions)?;
        loop {
            self.catch_up()?;
            if positions.iter().any(|(slot, ordinal)| self.ends.get(*slot) > *ordinal) {
                return Ok(true);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            std::thread::sleep(left.min(POLL));
        }
    }

    fn producer(&self, name: &str) -> Result<Box<dyn Producer>, LogError> {
        Err(LogError::new(
            LogErrorKind::Stop,
            "this log is open to read only",
            format!("producer {name} asked to write"),
            "open it for writing when no other writer runs",
        ))
    }
}
