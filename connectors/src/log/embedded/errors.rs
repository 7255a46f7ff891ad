//! What RocksDB's errors mean to whoever runs the log.

use std::path::Path;

use solyx_schemas::log::{LogError, LogErrorKind};

/// What the system says when nothing more can be written: no space, quota, file size limit.
const FULL: [&str; 3] = ["no space left on device", "disk quota exceeded", "file too large"];

/// An error met in opening or using the log in `dir`.
pub(super) fn log_error(dir: &Path, doing: &str, error: &rocksdb::Error) -> LogError {
    let detail = format!("{}: {error}", dir.display());
    let text = error.as_ref().to_ascii_lowercase();
    if FULL.iter().any(|full| text.contains(full)) {
        return LogError::new(
            LogErrorKind::Stop,
            format!("disk full in {doing}"),
            detail,
            "make room and open the log again; what was acknowledged is there",
        );
    }
    if text.contains("/lock:") || text.contains("lock hold by current process") {
        return in_use(dir, &detail);
    }
    let hint = match error.kind() {
        rocksdb::ErrorKind::Corruption => return damaged(dir, error),
        rocksdb::ErrorKind::IOError => "look at the path, its rights and the disk, then open the log again",
        _ => "open the log again; if that does not help, restore it from an archive",
    };
    LogError::new(LogErrorKind::Stop, format!("the log failed in {doing}"), detail, hint)
}

/// The name of the file that says who writes.
const OWNER: &str = "WRITER";

/// Leaves word of who writes. Only a hint: the lock itself is RocksDB's.
pub(super) fn sign(dir: &Path) -> std::io::Result<()> {
    let program = std::env::args().next().unwrap_or_default();
    let program = Path::new(&program).file_name().unwrap_or_default().to_string_lossy().into_owned();
    std::fs::write(dir.join(OWNER), format!("process {} ({program})", std::process::id()))
}

fn in_use(dir: &Path, detail: &str) -> LogError {
    let owner = std::fs::read_to_string(dir.join(OWNER)).unwrap_or_default();
    let owner = if owner.is_empty() { "another process".to_owned() } else { owner };
    LogError::new(
        LogErrorKind::Stop,
        "another writer has this log open",
        detail,
        format!("{owner} holds it; wait for it or stop it, and read without writing through a read-only opening"),
    )
}

/// An error of bytes that are not what this log writes.
pub(super) fn damaged(dir: &Path, detail: impl std::fmt::Display) -> LogError {
    LogError::new(
        LogErrorKind::Damaged,
        "the log is damaged",
        format!("{}: {detail}", dir.display()),
        "restore it from an archive, and look at the disk",
    )
}
