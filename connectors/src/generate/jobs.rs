//! Jobs: when each comes, what it asks for, what it says of itself, the truth of it, and what becomes of the request.

use solyx_schemas::events::jobs::{FailureCategory, JobRequested};
use solyx_schemas::events::plans::{ScriptedEnd, WorkScripted};
use solyx_schemas::units::*;

use super::plan::Plan;
use super::requests::{Draft, draft};
use super::turns;
use super::world::{World, say};

/// Hours of the day by how much work comes in them.
const HOUR_WEIGHTS: [i64; 24] = [2, 2, 1, 1, 1, 1, 2, 4, 7, 9, 10, 10, 8, 9, 10, 10, 9, 8, 6, 5, 5, 4, 3, 3];
/// How jobs end, in thousandths: well, or by a failure of a category.
const ENDS: [(i64, Option<FailureCategory>); 7] = [
    (880, None),
    (55, Some(FailureCategory::UserCode)),
    (15, Some(FailureCategory::OutOfMemory)),
    (20, Some(FailureCategory::Gpu)),
    (15, Some(FailureCategory::Network)),
    (10, Some(FailureCategory::Provider)),
    (5, Some(FailureCategory::Unclassified)),
];

pub(super) fn build(plan: &Plan, world: &mut World<'_>) {
    for n in 0..i64::from(plan.size.jobs) {
        let draft = draft(plan, n);
        script(plan, &draft, world);
        turns::build(plan, &draft, world);
        let lead = world.lead("job", draft.request.job.as_str(), draft.at);
        let (event_id, source, occurred_us) = (lead.event_id, lead.source, lead.occurred_us);
        world.push(JobRequested { event_id, source, occurred_us, ..draft.request });
    }
}

/// The name of a job.
pub(super) fn name(n: i64) -> String {
    format!("job-{n:06}")
}

/// When a job comes: by day and by hour of the day; the jobs of a set come within a minute of each other.
pub(super) fn arrival(plan: &Plan, id: &str) -> TimeUs {
    let day = plan.luck.below("day", id, i64::from(plan.size.days));
    let hours: Vec<(i64, i64)> = HOUR_WEIGHTS.iter().copied().zip(0..).collect();
    let hour = plan.luck.weighted("hour", id, &hours);
    TimeUs(plan.start.0 + day * DAY_US + hour * HOUR_US + plan.luck.below("second", id, 3_600) * SECOND_US)
}

/// Work of each replica so that all jobs together keep the fleet busy: around a mean, a minute at least.
pub(super) fn work_us(plan: &Plan, id: &str, gpu_milli: i64) -> WorkUs {
    // GPU-hours at speed 1000 that the fleet has in these days, of which each job takes its part.
    let fleet_gpu_us = i128::from(plan.gpus()) * i128::from(plan.end.0 - plan.start.0) * 13 / 10;
    let mean_gpu_milli_us = fleet_gpu_us * 1_000 / i128::from(plan.size.jobs.max(1));
    let mean = mean_gpu_milli_us / i128::from(gpu_milli.max(500));
    let longest = (plan.end.0 - plan.start.0) / 3;
    let mean = mean.min(i128::from(longest / 2)) as i64;
    WorkUs(plan.luck.around("work", id, mean, (60 * SECOND_US, longest)))
}

fn script(plan: &Plan, draft: &Draft, world: &mut World<'_>) {
    let job = draft.request.job.as_str();
    let failure = plan.luck.weighted("end", job, &ENDS);
    let at = WorkUs(draft.work.0 / 1_000 * plan.luck.between("failure-at", job, 50, 999));
    say!(
        world,
        plan.opening,
        "script",
        job,
        WorkScripted {
            job: job.into(),
            work_us: draft.work,
            end: if failure.is_some() { ScriptedEnd::Failed } else { ScriptedEnd::Finished },
            exit_code: i64::from(failure.is_some()),
            failure,
            failure_work_us: failure.map(|_| at),
            censored: false,
        }
    );
}
