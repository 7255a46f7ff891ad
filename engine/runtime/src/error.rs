//! What can go wrong while the kernel is driven, each with its way out.

use solyx_kernel::RestoreError;
use solyx_schemas::epochs::ReadError;
use solyx_schemas::log::LogError;

use crate::compare::Difference;

/// Why the engine stops.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// History cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The index of event ids failed.
    #[error("the index of event ids failed: {0}; free space or delete its directory, it is rebuilt from the log")]
    Index(String),
    /// Another process has the index of event ids open.
    #[error("the index of event ids is in use by another process: {0}; stop that one, or give each its own directory")]
    IndexHeld(String),
    /// A file of ours could not be written.
    #[error("cannot write {what}: {detail}; free space or give another directory")]
    File {
        /// The file.
        what: String,
        /// What the system said.
        detail: String,
    },
    /// A snapshot is of no use.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The same inputs gave something else than what is recorded.
    #[error("what is derived is not what the log says: {0}; run an audit, and the build that wrote this epoch")]
    Diverged(Box<Difference>),
    /// A feature is in force that this build lacks.
    #[error(
        "epoch {epoch} has the feature {feature} in force, which this build lacks; use the build that wrote it or a newer one"
    )]
    Feature {
        /// Epoch.
        epoch: i64,
        /// The feature.
        feature: String,
    },
    /// The clock runs ahead of the log's.
    #[error(
        "the clock is {ahead_us} µs ahead of the log's, more than {allowed_us} µs; nothing was written, set the clock and start again"
    )]
    ClockAhead {
        /// How far.
        ahead_us: i64,
        /// How far it may be.
        allowed_us: i64,
    },
    /// Another cell's history.
    #[error("the log belongs to cell {found}, expected {expected}; name its cell")]
    Cell {
        /// Cell of the epoch records.
        found: String,
        /// Cell asked for.
        expected: String,
    },
    /// Time does not go on.
    #[error("virtual time stands still at {now_us}: {detail}; report it with the log")]
    Stuck {
        /// The instant.
        now_us: i64,
        /// What asks for it again and again.
        detail: String,
    },
}

impl From<rocksdb::Error> for RuntimeError {
    fn from(error: rocksdb::Error) -> Self {
        Self::Index(error.into_string())
    }
}

impl RuntimeError {
    /// An error of the file system.
    pub(crate) fn file(what: &std::path::Path, error: &std::io::Error) -> Self {
        Self::File { what: what.display().to_string(), detail: error.to_string() }
    }
}
