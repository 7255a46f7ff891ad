//! The logs: embedded on RocksDB, and an archive of files. Both are the trait of `solyx_schemas::log`, which has one in memory
//! beside it; nothing outside this module knows which one it has.

pub mod archive;
pub mod embedded;
mod heads;
pub mod kafka;
pub mod mirror;

use std::path::Path;

use solyx_schemas::log::{LogError, LogErrorKind};

/// The error of what is whole but of a format that this build does not read.
fn another_format(what: &str, dir: &Path, found: &str, reads: u32) -> LogError {
    LogError::new(
        LogErrorKind::Stop,
        format!("the {what} is of another format"),
        format!("{}: {found}, this build reads version {reads}", dir.display()),
        "use the build that wrote it, or a later one",
    )
}
