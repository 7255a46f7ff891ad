//! How long jobs really took and how they ended, as a log's reports say it.
//!
//! A script of the log itself goes first. Else a finished run says the whole work and the exit code, and a failure that was the
//! job's own (its code, its memory) and ended it is repeated at the work that it had come to by then. Failures of nodes, networks and
//! providers are the world's: the executor draws them anew. A job that did not end is censored: it is taken to last as long as
//! it expected to, or a tenth longer than it was seen to work.

use std::collections::{BTreeMap, BTreeSet};

use solyx_schemas::events::Event;
use solyx_schemas::events::decisions::StopCause;
use solyx_schemas::events::jobs::FailureCategory;
use solyx_schemas::events::plans::{ScriptedEnd, WorkScripted};
use solyx_schemas::ids::{EventId, JobId, RunId, SourceId};
use solyx_schemas::units::{DurationUs, HOUR_US, TimeUs, WorkUs};

/// Work of a job that did not end, expects nothing and was not seen to work.
const UNKNOWN_WORK: WorkUs = WorkUs(HOUR_US);

/// Where the lengths of jobs come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct TruthCounts {
    /// Jobs whose script is in the log.
    pub scripted: usize,
    /// Jobs whose end is in the log.
    pub reported: usize,
    /// Jobs that had not ended: their length is taken from what they expected or were seen to do.
    pub censored: usize,
}

/// What is known of one job.
#[derive(Default)]
struct Known {
    requested_us: TimeUs,
    expected: Option<WorkUs>,
    restore: DurationUs,
    finished: Option<(WorkUs, i64)>,
    /// The last failure of its own.
    failure: Option<(WorkUs, FailureCategory)>,
    given_up: bool,
    seen: WorkUs,
}

/// What is known of all jobs.
#[derive(Default)]
pub(super) struct Truth {
    scripted: BTreeSet<JobId>,
    jobs: BTreeMap<JobId, Known>,
    open: BTreeSet<JobId>,
    runs: BTreeMap<RunId, Running>,
}

/// A run that has not ended.
struct Running {
    job: JobId,
    speed_milli: i64,
    from_work: WorkUs,
    started_us: TimeUs,
}

impl Truth {
    /// Takes note of a script.
    pub(super) fn scripted(&mut self, job: &JobId) {
        self.scripted.insert(job.clone());
    }

    /// Takes note of a counted input.
    pub(super) fn input(&mut self, event: &Event) {
        match event {
            Event::JobRequested(e) => {
                self.open.insert(e.job.clone());
                let known = self.jobs.entry(e.job.clone()).or_default();
                (known.requested_us, known.expected) = (e.occurred_us, e.expected_work_us);
                known.restore = e.restore_us.unwrap_or_default();
            }
            Event::RunStarted(e) => {
                if let Some(run) = self.runs.get_mut(&e.run) {
                    run.started_us = e.started_us;
                }
            }
            Event::RunFinished(e) => {
                self.open.remove(&e.job);
                self.runs.remove(&e.run);
                self.know(&e.job, e.work_us, |known| known.finished = Some((e.work_us, e.exit_code)));
            }
            Event::RunFailed(e) => {
                let run = self.runs.remove(&e.run);
                self.know(&e.job, e.durable_work_us, |known| {
                    if matches!(e.category, FailureCategory::UserCode | FailureCategory::OutOfMemory) {
                        let came_to = run.map_or(WorkUs::default(), |run| run.work_at(e.failed_us, known.restore));
                        known.failure = Some((e.durable_work_us.max(came_to), e.category));
                    }
                });
            }
            Event::RunCheckpointed(e) => self.know(&e.job, e.work_us, |known| {
                // It came past where it failed before: that was not the job's way.
                known.failure = known.failure.filter(|(failed_at, _)| e.work_us <= *failed_at);
            }),
            Event::RunStopped(e) => {
                self.runs.remove(&e.run);
                self.know(&e.job, e.kept_work_us, |_| {});
            }
            _ => {}
        }
    }

    /// Takes note of a decision.
    pub(super) fn output(&mut self, event: &Event) {
        match event {
            Event::JobRejected(e) => _ = self.open.remove(&e.job),
            Event::JobPlaced(e) => {
                let run = Running {
                    job: e.job.clone(),
                    speed_milli: e.speed_milli.0,
                    from_work: e.from_work_us,
                    started_us: e.start_us,
                };
                self.runs.insert(e.run.clone(), run);
            }
            Event::JobRequeued(e) => _ = self.runs.remove(&e.run),
            Event::JobCancelled(e) => {
                self.open.remove(&e.job);
                // Of a run that is lost with its job nobody says more.
                self.runs.retain(|_, run| run.job != e.job);
                let given_up = e.cause == StopCause::Failed;
                self.know(&e.job, WorkUs::default(), |known| known.given_up = given_up);
            }
            _ => {}
        }
    }

    fn know(&mut self, job: &JobId, seen: WorkUs, note: impl FnOnce(&mut Known)) {
        if let Some(known) = self.jobs.get_mut(job) {
            known.seen = known.seen.max(seen);
            note(known);
        }
    }

    /// Whether a run has not ended.
    pub(super) fn is_running(&self) -> bool {
        !self.runs.is_empty()
    }

    /// Whether a job has not ended.
    pub(super) fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Whether a job was asked for.
    pub(super) fn knows(&self, job: &JobId) -> bool {
        self.jobs.contains_key(job)
    }

    /// Scripts for the jobs that have none, and where all lengths come from.
    pub(super) fn scripts(&self, source: &SourceId) -> (Vec<Event>, TruthCounts) {
        let mut counts = TruthCounts::default();
        let mut scripts = Vec::new();
        for (job, known) in &self.jobs {
            if self.scripted.contains(job) {
                counts.scripted += 1;
                continue;
            }
            let script = known.script(job, source);
            if script.censored {
                counts.censored += 1
            } else {
                counts.reported += 1
            }
            scripts.push(script.into());
        }
        (scripts, counts)
    }
}

impl Running {
    /// Work of each replica at an instant.
    fn work_at(self, at: TimeUs, restore: DurationUs) -> WorkUs {
        let restore = if self.from_work.0 > 0 { restore } else { DurationUs::ZERO };
        let worked_us = at.since(self.started_us.after(restore)).0.max(0);
        WorkUs(self.from_work.0 + (i128::from(worked_us) * i128::from(self.speed_milli) / 1_000) as i64)
    }
}

impl Known {
    fn script(&self, job: &JobId, source: &SourceId) -> WorkScripted {
        let failure = self.failure.filter(|_| self.given_up && self.finished.is_none());
        let seen_longer = WorkUs(self.seen.0 + self.seen.0 / 10);
        let guess = self.expected.unwrap_or(UNKNOWN_WORK).max(seen_longer);
        let work = match (self.finished, failure) {
            (Some((work, _)), _) => work,
            (None, Some((at, _))) => guess.max(at),
            (None, None) => guess,
        };
        WorkScripted {
            event_id: EventId::from(format!("{}/work", blake3::hash(job.as_str().as_bytes()).to_hex())),
            source: source.clone(),
            occurred_us: self.requested_us,
            job: job.clone(),
            work_us: WorkUs(work.0.max(1)),
            end: if failure.is_some() { ScriptedEnd::Failed } else { ScriptedEnd::Finished },
            exit_code: self.finished.map_or(0, |(_, exit)| exit),
            failure: failure.map(|(_, category)| category),
            failure_work_us: failure.map(|(at, _)| at),
            censored: self.finished.is_none() && failure.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use solyx_schemas::events::decisions::{JobCancelled, JobPlaced};
    use solyx_schemas::events::jobs::JobRequested;
    use solyx_schemas::events::runs::{RunCheckpointed, RunFailed};

    use solyx_schemas::units::Milli;

    use super::*;

    /// A job that failed in its first run, came past that in its second, and was then cancelled for a reason.
    fn told(cause: StopCause, second_came_to: WorkUs) -> Truth {
        let job = JobId::from("a");
        let mut truth = Truth::default();
        truth.input(&JobRequested { job: job.clone(), ..JobRequested::default() }.into());
        for run in ["a/1", "a/2"] {
            truth.output(
                &JobPlaced { job: job.clone(), run: run.into(), speed_milli: Milli(1_000), ..JobPlaced::default() }
                    .into(),
            );
        }
        let (failed_us, category) = (TimeUs(3 * HOUR_US), FailureCategory::UserCode);
        truth.input(
            &RunFailed { job: job.clone(), run: "a/1".into(), failed_us, category, ..RunFailed::default() }.into(),
        );
        truth.input(
            &RunCheckpointed {
                job: job.clone(),
                run: "a/2".into(),
                work_us: second_came_to,
                ..RunCheckpointed::default()
            }
            .into(),
        );
        truth.output(&JobCancelled { job, cause, ..JobCancelled::default() }.into());
        truth
    }

    fn ends_as(truth: &Truth) -> (ScriptedEnd, bool) {
        let (scripts, _) = truth.scripts(&SourceId::from("test"));
        match &scripts[0] {
            Event::WorkScripted(script) => (script.end, script.censored),
            other => panic!("{}", other.name()),
        }
    }

    #[test]
    fn a_job_that_was_cancelled_did_not_fail_by_itself() {
        let early = WorkUs(HOUR_US);
        assert_eq!(ends_as(&told(StopCause::Failed, early)), (ScriptedEnd::Failed, false));
        assert_eq!(ends_as(&told(StopCause::Asked, early)), (ScriptedEnd::Finished, true));
    }

    #[test]
    fn a_failure_that_a_later_run_came_past_was_not_the_jobs_way() {
        assert_eq!(ends_as(&told(StopCause::Failed, WorkUs(4 * HOUR_US))), (ScriptedEnd::Finished, true));
    }

    #[test]
    fn a_run_that_is_lost_with_its_job_runs_no_longer() {
        assert!(!told(StopCause::Failed, WorkUs(HOUR_US)).is_running());
    }
}
