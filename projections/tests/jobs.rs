//! The jobs view on a small history: where jobs stand and how long they waited.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use common::History;
use common::billing::*;
use solyx_projections::fold::Fold;
use solyx_projections::jobs::{JobState, Jobs, JobsView};
use solyx_schemas::events::Event;
use solyx_schemas::events::decisions::{
    JobAdmitted, JobCancelled, JobHeld, JobPreempted, JobRejected, JobRequeued, StopCause,
};
use solyx_schemas::events::jobs::{JobRequestAmended, JobRequested};
use solyx_schemas::events::runs::{RunFinished, RunStopped, StopReason};
use solyx_schemas::events::usage::Meter;
use solyx_schemas::units::*;

const MINUTE: i64 = 60 * SECOND_US;

fn admitted(job: &str) -> Event {
    JobAdmitted { job: job.into(), tenant: "team".into(), ..JobAdmitted::default() }.into()
}

fn folded(history: &History) -> JobsView {
    let mut jobs = Jobs::default();
    history.epochs.iter().for_each(|epoch| jobs.apply(epoch).unwrap());
    let mut loaded = Jobs::default();
    loaded.load(&mut jobs.entries().into_iter()).unwrap();
    assert_eq!(loaded.entries(), jobs.entries(), "a saved state is the state");
    assert_eq!(loaded.view(), jobs.view(), "and says the same");
    jobs.view()
}

#[test]
fn a_job_waits_from_admission_or_its_not_before_to_its_first_place() {
    let start = at("2023-09-04");
    let later = JobRequested { not_before_us: Some(TimeUs(start + 30 * MINUTE)), ..JobRequested::default() };
    let later = JobRequested { job: "later".into(), tenant: "team".into(), ..later };
    let mut history = History::default();
    let asked = vec![requested("now", "team"), later.into(), requested("never", "team")];
    history.epoch(start, asked, vec![admitted("now"), admitted("later"), admitted("never")]);
    history.epoch(start + 10 * MINUTE, Vec::new(), vec![placed("now", 1, "p", "n", 8)]);
    history.epoch(start + 45 * MINUTE, Vec::new(), vec![placed("later", 1, "p", "n", 8)]);
    let view = folded(&history);
    let waited: Vec<Option<i64>> = view.jobs.iter().map(|job| job.waited_us.map(|us| us.0)).collect();
    assert_eq!(waited, [Some(15 * MINUTE), None, Some(10 * MINUTE)], "in the order of ids: later, never, now");
    assert_eq!((view.waiting.placed, view.waiting.unplaced), (2, 1));
    assert_eq!((view.waiting.p50_us.0, view.waiting.max_us.0), (10 * MINUTE, 15 * MINUTE));
}

#[test]
fn what_happens_after_the_first_place_is_counted_and_is_not_waiting() {
    let start = at("2023-09-04");
    let mut history = History::default();
    let held = JobHeld { job: "a".into(), ..JobHeld::default() };
    let requeued = JobRequeued { job: "a".into(), run: "a/1".into(), ..JobRequeued::default() };
    history.epoch(start, vec![requested("a", "team")], vec![admitted("a"), held.into()]);
    history.epoch(start + MINUTE, Vec::new(), vec![placed("a", 1, "p", "n", 8)]);
    history.epoch(start + 2 * MINUTE, Vec::new(), vec![requeued.into()]);
    assert_eq!(folded(&history).count.waiting, 1);
    history.epoch(start + 90 * MINUTE, Vec::new(), vec![placed("a", 2, "p", "n", 8)]);
    let moved = used("a", 2, Meter::Egress, 5_000_000_000, start, start + 90 * MINUTE);
    history.epoch(start + 99 * MINUTE, vec![moved, finished("a", 2, start + 99 * MINUTE)], Vec::new());
    let view = folded(&history);
    let job = &view.jobs[0];
    assert_eq!((job.state, job.attempts, job.held), (JobState::Done, 2, 1));
    assert_eq!(job.waited_us, Some(DurationUs(MINUTE)));
    assert_eq!(job.ended_us, Some(TimeUs(start + 99 * MINUTE)));
    assert_eq!((view.count.done, view.count.retried, view.egress_bytes), (1, 1, 5_000_000_000));
}

#[test]
fn who_was_stopped_for_others_waits_again_and_who_was_cancelled_outside_is_over() {
    let start = at("2023-09-04");
    let mut history = History::default();
    let asked = ["a", "b"].map(|job| requested(job, "team")).into();
    let placements = ["a", "b"].map(|job| placed(job, 1, "p", "n", 4));
    history.epoch(start, asked, [admitted("a"), admitted("b")].into_iter().chain(placements).collect());
    assert_eq!(folded(&history).count.running, 2);
    let told = JobPreempted { job: "a".into(), run: "a/1".into(), ..JobPreempted::default() };
    history.epoch(start + MINUTE, Vec::new(), vec![told.into()]);
    assert_eq!(folded(&history).count.running, 2, "it has yet to stop");
    let stopped = |job: &str, reason| RunStopped {
        job: job.into(),
        run: format!("{job}/1").as_str().into(),
        reason,
        stopped_us: TimeUs(start + 2 * MINUTE),
        ..RunStopped::default()
    };
    let stops = vec![stopped("a", StopReason::Preempted).into(), stopped("b", StopReason::Cancelled).into()];
    history.epoch(start + 2 * MINUTE, stops, Vec::new());
    let count = folded(&history).count;
    assert_eq!((count.running, count.waiting, count.cancelled), (0, 1, 1));
}

#[test]
fn a_deadline_is_the_one_that_was_said_last() {
    let start = at("2023-09-04");
    let mut history = History::default();
    let mut asked = requested("a", "team");
    if let Event::JobRequested(job) = &mut asked {
        job.deadline_us = Some(TimeUs(start + 10 * MINUTE));
    }
    history.epoch(start, vec![asked], vec![admitted("a"), placed("a", 1, "p", "n", 4)]);
    let deadline_us = Some(TimeUs(start + 90 * MINUTE));
    let amended = JobRequestAmended { job: "a".into(), deadline_us, ..JobRequestAmended::default() };
    history.epoch(start + MINUTE, vec![amended.into()], Vec::new());
    history.epoch(start + 60 * MINUTE, vec![finished("a", 1, start + 60 * MINUTE)], Vec::new());
    let job = &folded(&history).jobs[0];
    assert_eq!(job.missed, Some(false));
}

#[test]
fn every_job_stands_in_one_place() {
    let start = at("2023-09-04");
    let mut history = History::default();
    let asked = ["done", "crashed", "given-up", "stopped", "refused", "new"].map(|job| requested(job, "team")).into();
    history.epoch(start, asked, vec![admitted("done")]);
    let cancelled = |job: &str, cause| JobCancelled { job: job.into(), cause, ..JobCancelled::default() }.into();
    let outputs = vec![
        cancelled("given-up", StopCause::Failed),
        cancelled("stopped", StopCause::Asked),
        JobRejected { job: "refused".into(), ..JobRejected::default() }.into(),
    ];
    let crashed = RunFinished { job: "crashed".into(), exit_code: 137, ..RunFinished::default() };
    history.epoch(start + MINUTE, vec![finished("done", 1, start + MINUTE), crashed.into()], outputs);
    let count = folded(&history).count;
    assert_eq!((count.requested, count.done, count.failed, count.rejected, count.cancelled), (6, 1, 2, 1, 1));
    assert_eq!((count.waiting, count.running), (0, 0));
}
