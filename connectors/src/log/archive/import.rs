//! From an archive to a log, once every file has the hash that the manifest says.

use std::path::Path;

use solyx_schemas::hash::Hash32;
use solyx_schemas::log::{Log, LogError};

use super::Progress;
use super::manifest::{damaged, hash_file, inside, missing};
use super::read::ArchiveLog;
use crate::cores::on_all_cores;
use crate::log::mirror::{Mirrored, mirror};

/// Name of the producer.
const PRODUCER: &str = "archive-import";

/// Brings the archive in `dir` into a log that is empty or holds the beginning of it. The log must have the archive's
/// partitions ([`ArchiveLog::partition_counts`]). `progress` hears records done and records in all.
pub fn import(dir: &Path, log: &dyn Log, progress: Progress<'_>) -> Result<Mirrored, LogError> {
    let archive = ArchiveLog::open(dir)?;
    check_hashes(dir, &archive)?;
    mirror(&*archive, log, PRODUCER, progress)
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
