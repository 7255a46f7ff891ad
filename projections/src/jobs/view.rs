//! The view as people and programs read it. Field names are stable.

use serde::Serialize;
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

use super::{Completion, JobRow, JobState, Jobs, Waiting};

/// What became of all jobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JobsView {
    /// The last epoch folded; -1 before the first.
    pub epoch: i64,
    /// Time of the first epoch.
    pub began_us: TimeUs,
    /// That of the last.
    pub now_us: TimeUs,
    /// How many stand where.
    pub count: JobCounts,
    /// How long they waited.
    pub waiting: Waiting,
    /// How long those that finished took.
    pub completion: Completion,
    /// Bytes that meters counted out of a site.
    pub egress_bytes: i64,
    /// What placements said that egress costs, in micros of the cell's currency.
    pub egress_micros: i64,
    /// Jobs by id.
    pub jobs: Vec<JobView>,
}

/// Jobs by where they stand; `requested` is all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct JobCounts {
    /// All.
    pub requested: usize,
    /// Admitted, without a place now.
    pub waiting: usize,
    /// Placed and not ended.
    pub running: usize,
    /// Finished with exit code 0.
    pub done: usize,
    /// Finished with another, or given up after failures.
    pub failed: usize,
    /// Rejected at admission.
    pub rejected: usize,
    /// Cancelled for another reason.
    pub cancelled: usize,
    /// Deferred at least once to a cheaper or cleaner hour.
    pub deferred: usize,
    /// Preempted at least once.
    pub preempted: usize,
    /// Placed more than once.
    pub retried: usize,
    /// Never placed by the end, whatever became of them.
    pub unserved: usize,
    /// How often a run was stopped and its job requeued, in all: for another job, for power, for capacity that went or for a budget.
    pub preemptions: usize,
    /// With a deadline that has passed or that they have kept.
    pub due: usize,
    /// Of those, not finished by it.
    pub missed: usize,
}

/// What became of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JobView {
    /// The job.
    pub job: JobId,
    /// Its tenant.
    pub tenant: TenantId,
    /// Where it stands.
    pub state: JobState,
    /// From its admission, or its not-before when that is later, to its first placement; absent until that.
    pub waited_us: Option<DurationUs>,
    /// When it was asked for.
    pub requested_us: TimeUs,
    /// When it got its first place.
    pub first_placed_us: Option<TimeUs>,
    /// When it ended.
    pub ended_us: Option<TimeUs>,
    /// Whether it was not finished by its deadline; absent without one, and while it may still be.
    pub missed: Option<bool>,
    /// What placements said that its egress costs, in micros of the cell's currency.
    pub egress_micros: i64,
    /// Times it was placed.
    pub attempts: u32,
    /// Times it was said which limit binds.
    pub held: u32,
    /// Times it was deferred.
    pub deferred: u32,
    /// Times it was preempted.
    pub preempted: u32,
    /// Times it was moved.
    pub moved: u32,
    /// Times it was told to go on with more or fewer replicas.
    pub resized: u32,
}

impl Jobs {
    /// The view as of the last epoch folded.
    pub fn view(&self) -> JobsView {
        let meta = self.meta.get(&0).cloned().unwrap_or_default();
        let mut count = JobCounts::default();
        let mut times_us = Vec::new();
        let mut completions_us = Vec::new();
        let mut unplaced = 0;
        let mut egress_micros = 0_i64;
        for (_, row) in self.jobs.iter() {
            count.add(row, meta.now_us);
            completions_us.extend(row.completed_us());
            egress_micros = egress_micros.saturating_add(row.egress_micros);
            match row.waited_us() {
                Some(waited) => times_us.push(waited.0),
                None if row.state == JobState::Waiting => unplaced += 1,
                None => {}
            }
        }
        JobsView {
            epoch: meta.began_us.map_or(-1, |_| meta.epoch),
            began_us: meta.began_us.unwrap_or_default(),
            now_us: meta.now_us,
            count,
            waiting: Waiting::of(times_us, unplaced),
            completion: Completion::of(completions_us),
            egress_bytes: i64::try_from(meta.egress_bytes).unwrap_or(i64::MAX),
            egress_micros,
            jobs: self.jobs.iter().map(|(job, row)| row.view(job, meta.now_us)).collect(),
        }
    }
}

impl JobRow {
    fn waited_us(&self) -> Option<DurationUs> {
        Some(self.first_placed_us?.since(self.ready_us?))
    }

    /// From its request to its end, when it finished well.
    fn completed_us(&self) -> Option<i64> {
        let ended = self.ended_us.filter(|_| self.state == JobState::Done)?;
        Some(ended.since(self.requested_us).0)
    }

    /// Whether its deadline was missed; absent while that is open.
    fn missed(&self, now: TimeUs) -> Option<bool> {
        let deadline = self.deadline_us?;
        match self.ended_us {
            Some(ended) => Some(self.state != JobState::Done || ended > deadline),
            None => (now > deadline).then_some(true),
        }
    }

    fn view(&self, job: &JobId, now: TimeUs) -> JobView {
        JobView {
            job: job.clone(),
            tenant: self.tenant.clone(),
            state: self.state,
            waited_us: self.waited_us(),
            requested_us: self.requested_us,
            first_placed_us: self.first_placed_us,
            ended_us: self.ended_us,
            missed: self.missed(now),
            egress_micros: self.egress_micros,
            attempts: self.attempts,
            held: self.held,
            deferred: self.deferred,
            preempted: self.preempted,
            moved: self.moved,
            resized: self.resized,
        }
    }
}

impl JobCounts {
    fn add(&mut self, row: &JobRow, now: TimeUs) {
        self.requested += 1;
        match row.state {
            JobState::Requested => {}
            JobState::Waiting => self.waiting += 1,
            JobState::Running => self.running += 1,
            JobState::Done => self.done += 1,
            JobState::Failed => self.failed += 1,
            JobState::Rejected => self.rejected += 1,
            JobState::Cancelled => self.cancelled += 1,
        }
        self.deferred += usize::from(row.deferred > 0);
        self.preempted += usize::from(row.preempted > 0);
        self.retried += usize::from(row.attempts > 1);
        self.unserved += usize::from(row.attempts == 0);
        self.preemptions += row.preempted as usize;
        self.due += usize::from(row.missed(now).is_some());
        self.missed += usize::from(row.missed(now) == Some(true));
    }
}
