//! The truth of a trace and the executor's own habits, as topic `sim` has them.

use std::collections::{BTreeMap, HashMap};

use solyx_schemas::events::Event;
use solyx_schemas::events::jobs::FailureCategory;
use solyx_schemas::events::plans::{ExecutorScripted, ScriptedEnd};
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

use super::draws::Draws;

/// Work of a job that nobody has written a script for and that expects nothing itself.
const UNSCRIPTED_WORK: WorkUs = WorkUs(HOUR_US);

/// The truth of one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JobScript {
    /// Work of each replica at speed 1000.
    pub(crate) work: WorkUs,
    pub(crate) exit_code: i64,
    /// At which work it fails, and of what.
    pub(crate) failure: Option<(WorkUs, FailureCategory)>,
}

/// How the executor behaves; without a script it takes no time, never fails and measures no power.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habits {
    pub(crate) draws: Draws,
    pub(crate) start_delay: DurationUs,
    pub(crate) stop_delay: DurationUs,
    pub(crate) node_failures_per_1000_h: i64,
    pub(crate) spot_reclaims_per_1000_h: i64,
    pub(crate) repair: DurationUs,
    pub(crate) power_interval: DurationUs,
    pub(crate) busy_power_milli: i64,
}

impl Default for Habits {
    fn default() -> Self {
        Self {
            draws: Draws::default(),
            start_delay: DurationUs::ZERO,
            stop_delay: DurationUs::ZERO,
            node_failures_per_1000_h: 0,
            spot_reclaims_per_1000_h: 0,
            repair: DurationUs::ZERO,
            power_interval: DurationUs::ZERO,
            busy_power_milli: 1_000,
        }
    }
}

/// Every script. Of two scripts for the same thing the first holds, so that one added later changes no history.
#[derive(Debug, Default)]
pub(crate) struct Scripts {
    /// Looked up only, never walked.
    jobs: HashMap<JobId, JobScript>,
    /// Instances that can be had, by pool and instant.
    availability: BTreeMap<PoolId, BTreeMap<TimeUs, i64>>,
    habits: Option<Habits>,
}

impl Scripts {
    /// Takes in an event of topic `sim`; others and scripts of other executors say nothing here.
    pub(crate) fn add(&mut self, executor: &SourceId, event: &Event) {
        match event {
            Event::WorkScripted(script) => {
                let failed = script.end == ScriptedEnd::Failed;
                let category = script.failure.or(failed.then_some(FailureCategory::UserCode));
                let at = script.failure_work_us.unwrap_or(script.work_us).min(script.work_us);
                self.jobs.entry(script.job.clone()).or_insert(JobScript {
                    work: script.work_us,
                    exit_code: script.exit_code,
                    // A job that finishes may fail on the way; one whose failure lies at its end finishes.
                    failure: category.map(|category| (at, category)).filter(|_| failed || at < script.work_us),
                });
            }
            Event::AvailabilityScripted(script) => {
                let changes = self.availability.entry(script.pool.clone()).or_default();
                changes.entry(script.from_us).or_insert(script.instances.0);
            }
            Event::ExecutorScripted(script) if script.executor == *executor && self.habits.is_none() => {
                self.habits = Some(habits(script));
            }
            _ => {}
        }
    }

    pub(crate) fn habits(&self) -> Habits {
        self.habits.unwrap_or_default()
    }

    /// The truth of a job; without a script it works as long as it expects to.
    pub(crate) fn job(&self, job: &JobId, expected: Option<WorkUs>) -> JobScript {
        let unscripted = JobScript { work: expected.unwrap_or(UNSCRIPTED_WORK), exit_code: 0, failure: None };
        self.jobs.get(job).copied().unwrap_or(unscripted)
    }

    /// Forgets the script of a job that is over.
    pub(crate) fn forget(&mut self, job: &JobId) {
        self.jobs.remove(job);
    }

    /// Whether anything was recorded of a pool.
    pub(crate) fn is_scripted(&self, pool: &PoolId) -> bool {
        self.availability.contains_key(pool)
    }

    /// Instances of a pool that can be had in all at an instant; absent when nothing was recorded for it.
    pub(crate) fn available(&self, pool: &PoolId, at: TimeUs) -> Option<i64> {
        self.availability.get(pool)?.range(..=at).next_back().map(|(_, instances)| *instances)
    }

    /// The next change after an instant.
    pub(crate) fn next_change(&self, pool: &PoolId, after: TimeUs) -> Option<TimeUs> {
        let from = TimeUs(after.0.saturating_add(1));
        self.availability.get(pool)?.range(from..).next().map(|(at, _)| *at)
    }
}

fn habits(script: &ExecutorScripted) -> Habits {
    Habits {
        draws: Draws { seed: script.seed.0 },
        start_delay: script.start_delay_us,
        stop_delay: script.stop_delay_us,
        node_failures_per_1000_h: script.node_failures_per_1000_h.0,
        spot_reclaims_per_1000_h: script.spot_reclaims_per_1000_h.0,
        repair: script.repair_us,
        power_interval: script.power_interval_us,
        busy_power_milli: script.busy_power_milli.0,
    }
}
