//! The index of event ids: `(source, event id)` is for ever. A fold over the log that stands beside it, with its frontier in
//! one batch; missing, behind or ahead, it is made again from the log. Only a record that counts takes its id.

use std::collections::HashMap;
use std::path::Path;

use rocksdb::{BlockBasedIndexType, BlockBasedOptions, Cache, DB, Options, WriteBatch};
use solyx_kernel::Seen;
use solyx_schemas::codec::{Decoded, FRAME_LEN};
use solyx_schemas::epochs::Frontier;
use solyx_schemas::log::Log;

use crate::error::RuntimeError;
use crate::filter::Filter;

/// Entries held in memory before they are written: more would keep an epoch waiting for longer.
const OVERLAY_MAX: usize = 1 << 14;
/// Memory for blocks and filters of the index.
const CACHE_BYTES: usize = 64 << 20;
/// Size of a part of a filter or index.
const FILTER_PART_BYTES: usize = 4 << 10;
/// Where the frontier is kept; no other key has this length.
const FRONTIER_KEY: &[u8] = b"frontier";

/// What stands for an event: a hash of its source and id, and a hash of its record name, schema and body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    key: [u8; 32],
    content: [u8; 32],
}

impl Claim {
    /// The claim of a decoded value.
    pub fn of(decoded: &Decoded, value: &[u8]) -> Self {
        let identity = decoded.event.identity();
        let mut key = blake3::Hasher::new();
        key.update(&(identity.source.len() as u64).to_le_bytes());
        key.update(identity.source.as_bytes());
        key.update(identity.id.as_bytes());
        let mut content = blake3::Hasher::new();
        content.update(&(decoded.event.name().len() as u64).to_le_bytes());
        content.update(decoded.event.name().as_bytes());
        content.update(&decoded.schema.0);
        content.update(value.get(FRAME_LEN..).unwrap_or_default());
        Self { key: *key.finalize().as_bytes(), content: *content.finalize().as_bytes() }
    }
}

/// The index.
pub struct IdIndex {
    db: Option<DB>,
    overlay: HashMap<[u8; 32], [u8; 32]>,
    /// What is in `db`; absent for an index that was not begun here, whose every look-up goes to the disk.
    filter: Option<Filter>,
    frontier: Frontier,
}

impl IdIndex {
    /// An index in memory only.
    pub fn in_memory() -> Self {
        Self { db: None, overlay: HashMap::new(), filter: None, frontier: Frontier::default() }
    }

    /// The index of a directory, as far as it belongs to this log; an unusable one is begun anew.
    pub fn open(dir: &Path, log: &dyn Log) -> Result<Self, RuntimeError> {
        std::fs::create_dir_all(dir).map_err(|error| RuntimeError::file(dir, &error))?;
        if let Some((db, frontier)) = usable(dir, log)? {
            return Ok(Self { db: Some(db), overlay: HashMap::new(), filter: None, frontier });
        }
        Self::create(dir)
    }

    /// An empty index in a directory, whatever stood there.
    pub fn create(dir: &Path) -> Result<Self, RuntimeError> {
        DB::destroy(&Options::default(), dir)?;
        let db = DB::open(&options(), dir)?;
        let filter = Some(Filter::new());
        Ok(Self { db: Some(db), overlay: HashMap::new(), filter, frontier: Frontier::default() })
    }

    /// Up to where it had folded the log when it was opened or last written.
    pub fn frontier(&self) -> &Frontier {
        &self.frontier
    }

    /// What is known of an event.
    pub fn seen(&self, claim: &Claim) -> Result<Seen, RuntimeError> {
        let against = |content: &[u8]| if content == claim.content { Seen::Duplicate } else { Seen::Conflict };
        if let Some(content) = self.overlay.get(&claim.key) {
            return Ok(against(content));
        }
        if self.filter.as_ref().is_some_and(|filter| !filter.may_have(&claim.key)) {
            return Ok(Seen::New);
        }
        match &self.db {
            Some(db) => Ok(db.get_pinned(claim.key)?.map_or(Seen::New, |content| against(&content))),
            None => Ok(Seen::New),
        }
    }

    /// The event counts: its id is taken.
    pub fn take(&mut self, claim: &Claim) {
        self.overlay.insert(claim.key, claim.content);
    }

    /// Whether it is time to write.
    pub fn is_full(&self) -> bool {
        self.db.is_some() && self.overlay.len() >= OVERLAY_MAX
    }

    /// Writes entries and frontier in one batch. The log must be durable up to there.
    pub fn flush(&mut self, frontier: &Frontier) -> Result<(), RuntimeError> {
        self.frontier = frontier.clone();
        let Some(db) = &self.db else { return Ok(()) };
        let mut batch = WriteBatch::default();
        // Sorted, since neighbours go in faster than what is scattered.
        let mut entries: Vec<_> = self.overlay.drain().collect();
        entries.sort_unstable();
        for (key, content) in entries {
            batch.put(key, content);
            if let Some(filter) = &mut self.filter {
                filter.add(&key);
            }
        }
        let frontier = postcard::to_stdvec(&self.frontier).map_err(|error| RuntimeError::Index(error.to_string()))?;
        batch.put(FRONTIER_KEY, frontier);
        db.write(batch)?;
        Ok(())
    }
}

fn options() -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_bloom_filter(10.0, false);
    table.set_block_cache(&Cache::new_lru_cache(CACHE_BYTES));
    // Filters and indexes in small parts: a whole one is larger than a shard of the cache and would be read again, and its
    // checksum made again, at every look-up.
    table.set_cache_index_and_filter_blocks(true);
    table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    table.set_partition_filters(true);
    table.set_metadata_block_size(FILTER_PART_BYTES);
    table.set_pin_top_level_index_and_filter(true);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&table);
    options.set_write_buffer_size(16 << 20);
    // Most events are new: a filter says so without a search.
    options.set_memtable_prefix_bloom_ratio(0.1);
    options.set_memtable_whole_key_filtering(true);
    options.set_max_open_files(256);
    options.set_keep_log_file_num(2);
    options
}

/// What RocksDB names when a directory is open elsewhere.
const LOCK_FILE: &str = "LOCK";

/// The index in a directory with its frontier, when it opens and its frontier is in the log.
fn usable(dir: &Path, log: &dyn Log) -> Result<Option<(DB, Frontier)>, RuntimeError> {
    let mut existing = options();
    existing.create_if_missing(false);
    if !dir.join("CURRENT").exists() {
        return Ok(None);
    }
    let opened = DB::open(&existing, dir).map_err(|error| error.into_string()).and_then(|db| {
        // Entries and frontier are written in one batch: without a frontier there is nothing yet.
        let stored = db.get(FRONTIER_KEY).map_err(|error| error.into_string())?;
        let frontier = stored.map_or(Ok(Frontier::default()), |stored| postcard::from_bytes(&stored));
        Ok((db, frontier.map_err(|error: postcard::Error| error.to_string())?))
    });
    match opened {
        Ok((db, frontier)) if frontier.is_in(log)? => Ok(Some((db, frontier))),
        Ok((_, frontier)) => {
            tracing::warn!(
                next_epoch = frontier.next_epoch,
                "the index of event ids is not of this log's history; it is rebuilt"
            );
            Ok(None)
        }
        // To begin it anew would be to take it from whoever has it open.
        Err(error) if error.contains(LOCK_FILE) => Err(RuntimeError::IndexHeld(error)),
        Err(error) => {
            tracing::warn!(error, "the index of event ids cannot be read; it is rebuilt");
            Ok(None)
        }
    }
}
