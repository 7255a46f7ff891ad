//! What a virtual run asks of an executor that moves in lockstep with it.
//!
//! An executor here is a pure function of its scripts and of the epochs it has observed: the sequence of its reports
//! depends on nothing else, not even on when they were asked for. That is what makes a restart exact: observe the history
//! again, drop as many reports as the last cursor says were handed on, go on.
//!
//! The order of one instant: time jumps to `T`, [`Lockstep::take_due`]`(T)` goes to the log in one batch with the
//! executor's cursor, epochs with `now = T` read it and are observed, and `take_due(T)` again until it gives nothing.
//! An executor treats what is due at `T` as having happened before the decisions of an epoch with `now = T`.

use solyx_schemas::epochs::EpochBatch;
use solyx_schemas::events::Event;
use solyx_schemas::ids::SourceId;
use solyx_schemas::units::TimeUs;

/// An executor in virtual time.
pub trait Lockstep: Send {
    /// Its name: the source of its reports and the reader of its cursor.
    fn name(&self) -> SourceId;

    /// Takes note of a committed epoch: the facts among its counted inputs, the decisions among its outputs. Epochs come in
    /// order, each once, with `now` never going back.
    fn observe(&mut self, epoch: &EpochBatch);

    /// When the next report is due, as far as is known now; it may lie at or before the present instant.
    fn next_report_us(&self) -> Option<TimeUs>;

    /// The reports due at `now` or before, in a total order: time, then what they are of, then kind. Each is given once.
    fn take_due(&mut self, now: TimeUs) -> Vec<Event>;

    /// Runs that have been placed and have neither finished, failed nor stopped.
    fn live_runs(&self) -> usize;

    /// Whether nothing that is still to be reported could let a job go on: power readings, failures of idle nodes and
    /// the like. Those alone must not keep a virtual run from being idle.
    fn next_report_is_background(&self) -> bool;

    /// Drops the first `handed_on` reports of the whole history, which the log already has (`CursorAdvanced.handed_on`).
    /// Call it before history is observed again, so that what is regenerated is dropped as it comes, and once more
    /// after, so that reports which the log has but no committed epoch has read are dropped as well.
    fn resume_at(&mut self, handed_on: u64);
}
