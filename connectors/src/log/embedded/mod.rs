//! The embedded log: one directory, one writing process, one atomic write per append. The default, for a laptop, a test, a
//! replay.
//!
//! RocksDB's lock keeps a second writing process out; inside a process, a producer fences the earlier ones of its name.
//! After a failed write the handle writes nothing more: what the failed append left behind is found out by opening again,
//! where it is whole or absent.

mod errors;
mod layout;
mod producer;
mod reader;
mod store;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use solyx_schemas::log::{Log, LogError, LogErrorKind, Producer, ReadLimit, StoredRecord};
use solyx_schemas::topics::{Topic, TopicName};

use super::heads::{Ends, Fence, Slots, locked};
use producer::{EmbeddedProducer, Writing};
pub use reader::EmbeddedReader;
use store::Store;

/// When an append is on disk for good. A process that is killed loses nothing that was acknowledged either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Before it is acknowledged.
    #[default]
    EveryAppend,
    /// With every so many appends, and when `sync` is called: a loss of power may lose the appends since, from the end.
    EveryN(u32),
}

/// How to open a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EmbeddedOptions {
    /// When appends are on disk.
    pub durability: Durability,
    /// Partitions of topics, fixed when the log is created; others have their default. For a log that exists, those named
    /// must be what it has.
    pub partitions: Option<BTreeMap<Topic, u32>>,
}

/// What the log and its producers share.
struct Shared {
    store: Store,
    ends: Ends,
    durability: Durability,
    writing: Mutex<Writing>,
}

/// A log in a directory.
pub struct EmbeddedLog {
    shared: Arc<Shared>,
}

impl EmbeddedLog {
    /// Opens the log in `dir`, as its only writer, and creates it when it is not there.
    pub fn open(dir: &Path, options: EmbeddedOptions) -> Result<Arc<Self>, LogError> {
        let store = Store::open_writer(dir, &Slots::asked(options.partitions.as_ref()))?;
        for (topic, asked) in options.partitions.iter().flatten() {
            let has = store.slots.count((*topic).into());
            if has != *asked {
                return Err(LogError::new(
                    LogErrorKind::Stop,
                    format!("topic {} has other partitions than asked", topic.name()),
                    format!("{}: it has {has}, asked {asked}", dir.display()),
                    "partition counts are fixed when a log is created; use another directory for other counts",
                ));
            }
        }
        if let Err(e) = errors::sign(dir) {
            tracing::debug!("could not leave word of who writes in {}: {e}", dir.display());
        }
        let mut ends = Vec::with_capacity(store.slots.total());
        let mut last_append_us = i64::MIN;
        for (topic, partition) in store.slots.iter() {
            let (end, append_time_us) = store.last(topic, partition)?;
            ends.push(end);
            last_append_us = last_append_us.max(append_time_us.unwrap_or(i64::MIN));
        }
        let writing = Mutex::new(Writing { fence: Fence::default(), last_append_us, unsynced: 0, failed: None });
        let shared = Shared { store, ends: Ends::new(ends), durability: options.durability, writing };
        Ok(Arc::new(Self { shared: Arc::new(shared) }))
    }

    /// Opens the log in `dir` to read only, also while a writer runs; it follows what the writer commits.
    pub fn open_read_only(dir: &Path) -> Result<Arc<EmbeddedReader>, LogError> {
        EmbeddedReader::open(dir).map(Arc::new)
    }
}

impl Log for EmbeddedLog {
    fn partitions(&self, topic: TopicName) -> u32 {
        self.shared.store.slots.count(topic)
    }

    fn end(&self, topic: TopicName, partition: u32) -> Result<u64, LogError> {
        Ok(self.shared.ends.get(self.shared.store.slots.index(topic, partition)?))
    }

    fn read(
        &self,
        topic: TopicName,
        partition: u32,
        from: u64,
        limit: ReadLimit,
    ) -> Result<Vec<StoredRecord>, LogError> {
        let end = self.end(topic, partition)?;
        self.shared.store.read(topic, partition, from, end, limit)
    }

    fn wait(&self, positions: &[(TopicName, u32, u64)], deadline: Instant) -> Result<bool, LogError> {
        let positions = numbered(&self.shared.store.slots, positions)?;
        Ok(self.shared.ends.wait(&positions, deadline))
    }

    fn producer(&self, name: &str) -> Result<Box<dyn Producer>, LogError> {
        let generation = locked(&self.shared.writing).fence.enter(name);
        Ok(Box::new(EmbeddedProducer::new(Arc::clone(&self.shared), name, generation)))
    }
}

fn numbered(slots: &Slots, positions: &[(TopicName, u32, u64)]) -> Result<Vec<(usize, u64)>, LogError> {
    positions.iter().map(|(topic, partition, from)| Ok((slots.index(*topic, *partition)?, *from))).collect()
}
