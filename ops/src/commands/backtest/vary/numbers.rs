//! The numbers that outcomes are compared by, of all jobs or of one tenant's. Integers; the unit is in the name.

use serde::{Deserialize, Serialize};
use solyx_projections::jobs::{Completion, JobState, JobView, Waiting};

use crate::commands::compare::figures::Figures;

/// Outcome in numbers. What is said of all jobs and not of one tenant's is absent there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbers {
    pub jobs: i64,
    pub done: i64,
    pub running: i64,
    pub waiting: i64,
    pub failed: i64,
    pub rejected: i64,
    pub cancelled: i64,
    /// Jobs that never had a place.
    pub unserved: i64,
    /// Jobs whose deadline has passed or was kept, and those that missed it.
    pub due: i64,
    pub missed: i64,
    pub wait_mean_us: i64,
    pub wait_p50_us: i64,
    pub wait_p95_us: i64,
    pub wait_p99_us: i64,
    /// From request to end, of those that finished.
    pub completion_mean_us: i64,
    pub completion_p50_us: i64,
    pub completion_p95_us: i64,
    pub completion_p99_us: i64,
    pub preemptions: i64,
    pub placements: i64,
    pub revenue_micros: i64,
    pub cost_micros: i64,
    pub margin_micros: i64,
    /// Of all: facility energy with idle nodes. Of a tenant: what was metered for its jobs, × PUE.
    pub energy_j: i64,
    pub carbon_mg: i64,
    /// What placements said that egress costs.
    pub egress_micros: i64,
    /// GPU time from placement to release, thousandths of a GPU × s, and the part of it on owned hardware in thousandths.
    pub gpu_milli_s: i64,
    pub owned_share_milli: Option<i64>,
    /// Part of the owned GPUs' time, and of all GPU time there was or was paid for, that was used.
    pub owned_in_use_milli: Option<i64>,
    pub in_use_milli: Option<i64>,
    pub epochs: Option<i64>,
    /// Of all: what the cost and the carbon above leave out, for nobody said its price or its carbon; and what could not be rated.
    pub unpriced_energy_j: Option<i64>,
    pub unknown_carbon_j: Option<i64>,
    pub problems: Option<i64>,
    /// Time from the first epoch to the last, for which commitments, lost value and idle nodes are paid.
    pub span_us: Option<i64>,
}

/// A number by its name.
pub struct Measure {
    /// Name of the column, with its unit.
    pub name: &'static str,
    pub of: fn(&Numbers) -> Option<i64>,
}

macro_rules! measures {
    ($($field:ident $(: $option:ident)?),* $(,)?) => {
        &[$(Measure { name: stringify!($field), of: |n| measures!(@ n $field $($option)?) }),*]
    };
    (@ $n:ident $field:ident) => { Some($n.$field) };
    (@ $n:ident $field:ident option) => { $n.$field };
}

/// All of them, in the order of columns.
pub const MEASURES: &[Measure] = measures![
    jobs,
    done,
    running,
    waiting,
    failed,
    rejected,
    cancelled,
    unserved,
    due,
    missed,
    wait_mean_us,
    wait_p50_us,
    wait_p95_us,
    wait_p99_us,
    completion_mean_us,
    completion_p50_us,
    completion_p95_us,
    completion_p99_us,
    preemptions,
    placements,
    revenue_micros,
    cost_micros,
    margin_micros,
    energy_j,
    carbon_mg,
    egress_micros,
    gpu_milli_s,
    owned_share_milli: option,
    owned_in_use_milli: option,
    in_use_milli: option,
    epochs: option,
    unpriced_energy_j: option,
    unknown_carbon_j: option,
    problems: option,
    span_us: option,
];

impl Numbers {
    /// Of all jobs.
    pub fn of_all(figures: &Figures, placements: i64) -> Self {
        let (jobs, waiting, completion) = (&figures.jobs, &figures.waiting, figures.completion);
        let count = |n: usize| n as i64;
        let mut numbers = Self {
            jobs: count(jobs.requested),
            done: count(jobs.done),
            running: count(jobs.running),
            waiting: count(jobs.waiting),
            failed: count(jobs.failed),
            rejected: count(jobs.rejected),
            cancelled: count(jobs.cancelled),
            unserved: count(jobs.unserved),
            due: count(jobs.due),
            missed: count(jobs.missed),
            preemptions: count(jobs.preemptions),
            placements,
            revenue_micros: figures.revenue_micros,
            cost_micros: figures.cost_micros,
            margin_micros: figures.margin_micros,
            energy_j: figures.energy.own_j + figures.energy.bought_j,
            carbon_mg: figures.energy.own_carbon_mg + figures.energy.bought_carbon_mg,
            egress_micros: figures.egress_micros,
            gpu_milli_s: figures.gpus.owned_used_gpu_milli_s + figures.gpus.leased_used_gpu_milli_s,
            owned_share_milli: Some(figures.gpus.owned_share_milli),
            owned_in_use_milli: figures.gpus.owned_in_use_milli,
            in_use_milli: figures.gpus.in_use_milli,
            epochs: Some(figures.epochs),
            unpriced_energy_j: Some(figures.energy.unpriced_j),
            unknown_carbon_j: Some(figures.energy.unknown_carbon_j),
            problems: Some(count(figures.problems)),
            span_us: Some(figures.to_us.since(figures.from_us).0),
            ..Self::default()
        };
        numbers.times(waiting, completion);
        numbers
    }

    /// Of one tenant's jobs, without money, energy and GPU time.
    pub fn of_jobs(jobs: &[&JobView]) -> Self {
        let count = |state: JobState| jobs.iter().filter(|job| job.state == state).count() as i64;
        let waited = jobs.iter().filter_map(|job| job.waited_us).map(|us| us.0).collect();
        let unplaced = jobs.iter().filter(|job| job.state == JobState::Waiting && job.waited_us.is_none()).count();
        let finished = jobs.iter().filter(|job| job.state == JobState::Done);
        let took = finished.filter_map(|job| Some(job.ended_us?.since(job.requested_us).0)).collect();
        let mut numbers = Self {
            jobs: jobs.len() as i64,
            done: count(JobState::Done),
            running: count(JobState::Running),
            waiting: count(JobState::Waiting),
            failed: count(JobState::Failed),
            rejected: count(JobState::Rejected),
            cancelled: count(JobState::Cancelled),
            unserved: jobs.iter().filter(|job| job.attempts == 0).count() as i64,
            due: jobs.iter().filter(|job| job.missed.is_some()).count() as i64,
            missed: jobs.iter().filter(|job| job.missed == Some(true)).count() as i64,
            preemptions: jobs.iter().map(|job| i64::from(job.preempted)).sum(),
            placements: jobs.iter().map(|job| i64::from(job.attempts)).sum(),
            egress_micros: jobs.iter().map(|job| job.egress_micros).sum(),
            ..Self::default()
        };
        numbers.times(&Waiting::of(waited, unplaced), Completion::of(took));
        numbers
    }

    fn times(&mut self, waiting: &Waiting, completion: Completion) {
        self.wait_mean_us = waiting.mean_us.0;
        self.wait_p50_us = waiting.p50_us.0;
        self.wait_p95_us = waiting.p95_us.0;
        self.wait_p99_us = waiting.p99_us.0;
        self.completion_mean_us = completion.mean_us.0;
        self.completion_p50_us = completion.p50_us.0;
        self.completion_p95_us = completion.p95_us.0;
        self.completion_p99_us = completion.p99_us.0;
    }
}
