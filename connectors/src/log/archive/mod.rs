//! The archive: a log as one self-contained set of files that any Avro tool reads.
//!
//! `manifest.json` names and hashes every file; `registry.lock` holds the schema ids; `<topic>/<partition>-<first ordinal>.avro`
//! are Avro object container files with zstd, one per topic-partition, range and set of writer schemas. Their rows are
//! {ordinal, append time, key, headers, framing id, body}, where the body is a union of the record types and of bytes for
//! what does not decode or does not encode again as it was. The same log gives the same archive, byte by byte.

mod avro;
mod container;
pub(crate) mod export;
mod import;
mod manifest;
mod read;
mod rows;
mod schemas;
mod verify;

pub use export::{Exported, export};
pub use import::import;
pub use manifest::{FilePart, HashedFile, MANIFEST, MANIFEST_HASH, Manifest, REGISTRY, RecordFile};
pub use read::ArchiveLog;
pub use verify::{Problem, Verified, verify};

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::heads::locked;

/// How far long work has come; called from several threads, about once in some thousand records.
pub use crate::log::mirror::Progress;

/// The most threads that work on one archive.
const THREADS_MAX: usize = 8;

/// Does the work for each item on the machine's cores; results come in the order of items. The first error ends it.
fn on_all_cores<T: Sync, R: Send, E: Send>(items: &[T], work: impl Fn(&T) -> Result<R, E> + Sync) -> Result<Vec<R>, E> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get()).min(THREADS_MAX).min(items.len().max(1));
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<(usize, Result<R, E>)>> = Mutex::new(Vec::with_capacity(items.len()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(place) else { return };
                    let result = work(item);
                    if result.is_err() {
                        next.store(items.len(), Ordering::Relaxed);
                    }
                    locked(&results).push((place, result));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    results.sort_by_key(|(place, _)| *place);
    results.into_iter().map(|(_, result)| result).collect()
}
