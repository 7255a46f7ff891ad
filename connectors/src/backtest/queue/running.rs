//! A job of a trace while it runs: what it has done, and what of it is durable. Times are in seconds.

use solyx_schemas::ids::{RunId, SiteId};

/// Time between two checkpoints.
pub(super) const CHECKPOINT_S: i64 = 30 * 60;
/// Time to restore one.
pub(super) const RESTORE_S: i64 = 5 * 60;

/// A job that runs.
pub(super) struct Running {
    /// Its place among the jobs.
    pub job: usize,
    /// The run.
    pub run: RunId,
    /// Where.
    pub site: SiteId,
    /// Since when.
    pub started_s: i64,
    /// Work it started from, s.
    pub from_s: i64,
    /// Checkpoints of this run that were told.
    pub told: i64,
}

impl Running {
    /// When it does work: after it was restored.
    pub fn works_from_s(&self) -> i64 {
        self.started_s + if self.from_s > 0 { RESTORE_S } else { 0 }
    }

    /// Work that it has done.
    pub fn worked_s(&self, now: i64) -> i64 {
        (now - self.works_from_s()).max(0)
    }

    /// When it writes its next checkpoint.
    pub fn next_checkpoint_s(&self) -> i64 {
        self.works_from_s() + (self.told + 1) * CHECKPOINT_S
    }

    /// Work that is durable.
    pub fn kept_s(&self, now: i64) -> i64 {
        self.from_s + self.worked_s(now) / CHECKPOINT_S * CHECKPOINT_S
    }
}
