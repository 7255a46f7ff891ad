//! The jobs view: what became of each job, how long it waited, and what was moved for it.
//!
//! A fold of requests, decisions and ends of runs. It keeps one small row a job; shares and percentiles are computed when
//! somebody looks. What a job costs and draws is in the billing and DCIM views.

mod spread;
mod view;

use serde::{Deserialize, Serialize};
use solyx_schemas::epochs::EpochBatch;
use solyx_schemas::events::Event;
use solyx_schemas::events::decisions::{JobPlaced, StopCause};
use solyx_schemas::events::runs::StopReason;
use solyx_schemas::events::usage::Meter;
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

use crate::fold::{Change, Entry, Fold, FoldError, ToldRow};
use crate::rows::Rows;

pub use spread::{Completion, WAITING_BOUNDS_US, Waiting};
pub use view::*;

/// Name of the view.
const NAME: &str = "jobs";
/// Version of the entries.
const FORMAT: u32 = 4;

/// The state of the view.
#[derive(Clone, Debug, Default)]
pub struct Jobs {
    meta: Rows<u8, Meta>,
    jobs: Rows<JobId, JobRow>,
}

/// What stands once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Meta {
    /// The last epoch folded, and its time.
    epoch: i64,
    now_us: TimeUs,
    /// Time of the first epoch; absent before it.
    began_us: Option<TimeUs>,
    /// Bytes that meters counted out of a site.
    egress_bytes: i128,
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Requested, not judged yet.
    #[default]
    Requested,
    /// Admitted; it waits for a place, for the first time or again.
    Waiting,
    /// Placed.
    Running,
    /// It finished with exit code 0.
    Done,
    /// It finished with another exit code, or was given up after failures.
    Failed,
    /// Rejected at admission.
    Rejected,
    /// Cancelled for another reason.
    Cancelled,
}

/// One job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct JobRow {
    tenant: TenantId,
    state: JobState,
    requested_us: TimeUs,
    not_before_us: Option<TimeUs>,
    deadline_us: Option<TimeUs>,
    /// From when it could have run: admission, or its not-before when that is later.
    ready_us: Option<TimeUs>,
    /// When it got its first place.
    first_placed_us: Option<TimeUs>,
    /// When it ended.
    ended_us: Option<TimeUs>,
    attempts: u32,
    held: u32,
    deferred: u32,
    preempted: u32,
    moved: u32,
    resized: u32,
    /// Its run was told to stop, and the job is to go on.
    told_to_stop: bool,
    /// What placements said its egress would cost, in micros of the cell's currency.
    egress_micros: i64,
}

impl Jobs {
    fn input(&mut self, event: &Event) {
        match event {
            Event::JobRequested(e) => {
                let row = JobRow {
                    tenant: e.tenant.clone(),
                    requested_us: e.occurred_us,
                    not_before_us: e.not_before_us,
                    deadline_us: e.deadline_us,
                    ..JobRow::default()
                };
                self.jobs.insert(e.job.clone(), row);
            }
            Event::RunFinished(e) => {
                let state = if e.exit_code == 0 { JobState::Done } else { JobState::Failed };
                self.end(&e.job, state, e.finished_us);
            }
            Event::JobRequestAmended(e) => {
                if let (Some(deadline), Some(row)) = (e.deadline_us, self.jobs.get_mut(&e.job)) {
                    row.deadline_us = Some(deadline);
                }
            }
            // Who was told to stop waits again, unless it was told to for good; who stopped by itself because it was cancelled is over.
            Event::RunStopped(e) => {
                let Some(row) = self.jobs.get_mut(&e.job).filter(|row| row.state == JobState::Running) else { return };
                match e.reason {
                    StopReason::Cancelled if !row.told_to_stop => {
                        self.end(&e.job, JobState::Cancelled, e.stopped_us);
                    }
                    _ => row.state = JobState::Waiting,
                }
            }
            Event::UsageMetered(e) if e.meter == Meter::Egress => {
                self.meta.entry(&0).egress_bytes += i128::from(e.quantity.0);
            }
            _ => {}
        }
    }

    fn output(&mut self, event: &Event, now: TimeUs) {
        match event {
            Event::JobAdmitted(e) => {
                if let Some(row) = self.jobs.get_mut(&e.job) {
                    row.ready_us = Some(now.max(row.not_before_us.unwrap_or(now)));
                    row.state = JobState::Waiting;
                }
            }
            Event::JobRejected(e) => self.end(&e.job, JobState::Rejected, now),
            Event::JobHeld(e) => self.count(&e.job, |row| &mut row.held),
            Event::JobDeferred(e) => self.count(&e.job, |row| &mut row.deferred),
            Event::JobPreempted(e) => self.stops(&e.job, |row| &mut row.preempted),
            Event::JobMigrated(e) => self.stops(&e.job, |row| &mut row.moved),
            Event::JobResized(e) => self.stops(&e.job, |row| &mut row.resized),
            Event::JobPlaced(e) => self.placed(e, now),
            Event::JobRequeued(e) => {
                if let Some(row) = self.jobs.get_mut(&e.job) {
                    row.state = JobState::Waiting;
                }
            }
            Event::JobCancelled(e) => {
                let failed = matches!(
                    e.cause,
                    StopCause::Failed | StopCause::NodeLost | StopCause::LeasePassed | StopCause::SpotReclaimed
                );
                self.end(&e.job, if failed { JobState::Failed } else { JobState::Cancelled }, now);
            }
            _ => {}
        }
    }

    fn placed(&mut self, e: &JobPlaced, now: TimeUs) {
        if let Some(row) = self.jobs.get_mut(&e.job) {
            row.first_placed_us.get_or_insert(now);
            row.state = JobState::Running;
            row.told_to_stop = false;
            row.attempts += 1;
            row.egress_micros = row.egress_micros.saturating_add(e.terms.egress_micros.0);
        }
    }

    fn count(&mut self, job: &JobId, of: impl Fn(&mut JobRow) -> &mut u32) {
        if let Some(row) = self.jobs.get_mut(job) {
            *of(row) += 1;
        }
    }

    /// Counts a stop after which the job goes on.
    fn stops(&mut self, job: &JobId, of: impl Fn(&mut JobRow) -> &mut u32) {
        if let Some(row) = self.jobs.get_mut(job) {
            *of(row) += 1;
            row.told_to_stop = true;
        }
    }

    fn end(&mut self, job: &JobId, state: JobState, at: TimeUs) {
        if let Some(row) = self.jobs.get_mut(job) {
            row.state = state;
            row.ended_us = Some(at);
        }
    }
}

impl Fold for Jobs {
    fn name(&self) -> &'static str {
        NAME
    }

    fn format(&self) -> u32 {
        FORMAT
    }

    fn apply(&mut self, epoch: &EpochBatch) -> Result<(), FoldError> {
        let now = epoch.record.now_us;
        let meta = self.meta.entry(&0);
        meta.epoch = epoch.record.epoch;
        meta.now_us = now;
        meta.began_us.get_or_insert(now);
        epoch.counted().for_each(|(_, event)| self.input(event));
        epoch.outputs.iter().for_each(|event| self.output(event, now));
        Ok(())
    }

    fn entries(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        self.meta.entries(0, &mut entries);
        self.jobs.entries(1, &mut entries);
        entries.sort();
        entries
    }

    fn changes(&mut self) -> Option<Vec<Change>> {
        let mut changes = Vec::new();
        self.meta.changes(0, &mut changes);
        self.jobs.changes(1, &mut changes);
        changes.sort();
        Some(changes)
    }

    fn forget_changes(&mut self) {
        self.meta.forget_changes();
        self.jobs.forget_changes();
    }

    fn told(&self, key: &[u8], value: &[u8]) -> Result<ToldRow, FoldError> {
        let failed = |detail: String| FoldError { fold: NAME, detail };
        let told = match key.split_first() {
            Some((0, key)) => self.meta.told("meta", key, value),
            Some((1, key)) => self.jobs.told("jobs", key, value),
            Some((other, _)) => {
                return Err(failed(format!("an entry of table {other}, which this build does not know")));
            }
            None => return Err(failed("an entry without a key".to_owned())),
        };
        told.map_err(|e| failed(format!("an entry does not decode: {e}")))
    }

    fn load(&mut self, entries: &mut dyn Iterator<Item = Entry>) -> Result<(), FoldError> {
        for (key, value) in entries {
            let failed = |detail: String| FoldError { fold: NAME, detail };
            let Some((&table, key)) = key.split_first() else {
                return Err(failed("an entry without a key".to_owned()));
            };
            let loaded = match table {
                0 => self.meta.load(key, &value),
                1 => self.jobs.load(key, &value),
                other => return Err(failed(format!("an entry of table {other}, which this build does not know"))),
            };
            loaded.map_err(|e| failed(format!("an entry of table {table} does not decode: {e}")))?;
        }
        Ok(())
    }
}
