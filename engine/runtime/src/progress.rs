//! What a run says of itself while it goes on, and at its end.

use solyx_schemas::hash::Hash32;
use solyx_schemas::units::{DurationUs, TimeUs};

/// Where a run stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Whether it leads.
    pub leads: bool,
    /// Epochs made by this run.
    pub epochs: u64,
    /// Epochs of others that it followed.
    pub followed: u64,
    /// Input records taken by this run.
    pub events: u64,
    /// Time of the last epoch.
    pub now: TimeUs,
    /// Jobs that wait.
    pub waiting_jobs: usize,
    /// Runs that hold resources.
    pub live_runs: usize,
    /// Input records not yet taken; in virtual time, records still staged.
    pub lag_records: u64,
    /// Age of the oldest of them by the log's clock; nothing in virtual time.
    pub lag: DurationUs,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Nothing is left that could change anything.
    Idle,
    /// Nothing at all is left to come.
    Exhausted,
    /// It reached the instant it was to reach.
    Until,
    /// It was told to stop.
    Stopped,
}

/// What a run has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunEnd {
    /// Why it ended.
    pub ending: Ending,
    /// Where it stands.
    pub progress: Progress,
    /// The next epoch.
    pub next_epoch: i64,
    /// Chain hash of the last epoch record.
    pub chain_head: Hash32,
}
