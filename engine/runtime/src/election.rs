//! Who leads, where several engines of a cell share a log.
//!
//! An election decides only who should write. That nobody else can is the log's doing: a leader's producer fences those
//! before it, and it leads only once it has read what they left.

use std::time::Duration;

/// What an instance is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Follow, and be ready.
    Follows,
    /// Lead.
    Leads,
    /// Lead no longer than this epoch, and resign.
    HandsOver,
}

/// An instance's part in an election.
pub trait Election: Send + Sync {
    /// What to do now; asked between epochs.
    fn standing(&self) -> Standing;

    /// Tells the others how far this instance has come, and that it is at work. Only one that has caught up with the log
    /// stands for the lead.
    fn progressed(&self, next_epoch: i64, caught_up: bool);

    /// Gives the lead up, to whom it was asked for or to the standby that has come furthest, and does not stand for it again
    /// before it says that it has caught up.
    fn resign(&self);

    /// Does not stand for the lead for a while.
    fn abstain(&self, time: Duration);
}
