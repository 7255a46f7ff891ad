//! The state at the end of a log, for questions: from the newest snapshot on, with the epochs since made again. Nothing is
//! written, and an engine may go on meanwhile.

use std::path::Path;

use solyx_kernel::follow::{FollowError, Follower};
use solyx_schemas::epochs::{EpochReader, ReadError};
use solyx_schemas::ids::CellId;
use solyx_schemas::log::Log;

use crate::error::RuntimeError;
use crate::snapshots::Snapshots;

/// Why the state cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum RecallError {
    /// The log or a snapshot.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// History does not read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// History does not follow.
    #[error(transparent)]
    Follow(#[from] FollowError),
}

/// The state at the end of what is committed. `snapshots` is the directory in which an engine keeps them.
pub fn recall(log: &dyn Log, cell: &CellId, snapshots: Option<&Path>) -> Result<Follower, RecallError> {
    let (kernel, frontier) = Snapshots::new(snapshots.map(Path::to_owned), i64::MAX).load(log, cell)?;
    let mut follower = Follower::of(kernel);
    let mut reader = EpochReader::at(log, &frontier);
    while let Some(epoch) = reader.next_batch()? {
        follower.follow(&epoch.record, epoch.counted(), &epoch.outputs)?;
        follower.forget_changes();
    }
    reader.ended()?;
    Ok(follower)
}
