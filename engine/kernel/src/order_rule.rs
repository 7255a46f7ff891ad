//! Order rules: how jobs of one priority class stand in line, and which of them may take the place of one that runs.
//!
//! `share-surcharge`, the default: jobs that fit into their tenant's promised share go first; among the others, and among
//! those, the place in line is the time of the request plus a surcharge for the GPU time that the job has used up. New and
//! short work flows through what is not promised, whatever is unknown about its length; a long job pays by steps, so that it
//! is overtaken for a bounded time and never for ever.

use solyx_schemas::units::HOUR_US;

use crate::mig::milli_each;
use crate::rows::{Job, Spec};
use crate::state::{Policy, State};

/// A thousandth of a GPU for a second, per GPU-hour.
const GPU_MILLI_S_PER_GPU_HOUR: i64 = 3_600_000;
const DAY_US: i64 = 24 * HOUR_US;
/// GPU-hours at which a job's surcharge rises by one step.
const STEPS_GPU_HOURS: [i64; 4] = [2, 16, 128, 1_024];
/// Surcharges of the steps.
const SURCHARGES_US: [i64; 4] = [14 * DAY_US, 28 * DAY_US, 56 * DAY_US, 112 * DAY_US];

/// How jobs of one priority class are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderRule {
    /// Weighted dominant-resource fairness between tenants, then arrival; EASY backfill.
    Classic,
    /// Promised shares first, then request time plus a surcharge for used GPU time.
    ShareSurcharge,
    /// Arrival; EASY backfill.
    Fifo,
    /// Expected work; EASY backfill.
    ShortestFirst,
    /// Least GPU time used so far, by steps; takes the place of runs that have used more.
    LeastAttained,
    /// Least GPU time expected to be left; takes the place of runs with more.
    ShortestRemaining,
}

impl OrderRule {
    /// Names in policy.
    pub const NAMES: [(&'static str, Self); 6] = [
        ("share-surcharge", Self::ShareSurcharge),
        ("classic", Self::Classic),
        ("fifo", Self::Fifo),
        ("sjf", Self::ShortestFirst),
        ("las", Self::LeastAttained),
        ("srpt", Self::ShortestRemaining),
    ];

    /// The rule of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(own, _)| *own == name).map(|(_, rule)| *rule)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        // Every rule has one.
        Self::NAMES.iter().find(|(_, rule)| *rule == self).map_or("", |(name, _)| name)
    }

    /// Whether the first gang that does not fit is promised its earliest start. The others make room instead.
    pub fn promises_starts(self) -> bool {
        matches!(self, Self::Classic | Self::Fifo | Self::ShortestFirst)
    }
}

/// A job's place in line among those of its class: less goes first, then arrival. It does not change while the job waits.
pub fn rank(state: &State, job: &Job, spec: &Spec) -> i64 {
    let policy = state.policy();
    match policy.order_rule() {
        OrderRule::Classic | OrderRule::Fifo => 0,
        OrderRule::ShortestFirst => work_left(policy, job, spec),
        OrderRule::ShortestRemaining => remaining_gpu_milli_s(state, job, spec, 0),
        OrderRule::LeastAttained => level(policy, job.used_gpu_milli_s) as i64,
        OrderRule::ShareSurcharge => surcharged(policy, job, surcharged_use(state, job, spec)),
    }
}

/// GPU time that is expected to be left, thousandths of a GPU × s, when so much more work is done than the job has kept.
pub fn remaining_gpu_milli_s(state: &State, job: &Job, spec: &Spec, done_us: i64) -> i64 {
    let left_s = (work_left(state.policy(), job, spec) - done_us).max(0) / 1_000_000;
    left_s.saturating_mul(gang_milli(state, spec))
}

fn work_left(policy: Policy<'_>, job: &Job, spec: &Spec) -> i64 {
    let work = spec.expected_work_us.unwrap_or(policy.default_work());
    (work.0 - job.kept_work_us.0).max(work.0 / 10)
}

/// Thousandths of GPUs that a job asks for at least.
pub fn gang_milli(state: &State, spec: &Spec) -> i64 {
    spec.gang.replicas_min.0 * spec.gang.gpus.0 * milli_each(state, spec)
}

/// GPU time by which a job is surcharged: what it says is left, for as long as it has not used more than it said; otherwise what
/// it has used. An estimate that is too low only buys the time until the use has overtaken it.
pub fn surcharged_use(state: &State, job: &Job, spec: &Spec) -> i64 {
    let said = said_gpu_milli_s(state, spec);
    let kept = (job.kept_work_us.0 / 1_000_000).saturating_mul(gang_milli(state, spec));
    outstanding(said, kept, job.used_gpu_milli_s)
}

/// The same of amounts: said, done of that, used, thousandths of a GPU × s.
pub fn outstanding(said: i64, done: i64, used: i64) -> i64 {
    if done < said { said - done } else { used }
}

/// GPU time that a job says it needs, thousandths of a GPU × s; 0 when it says nothing.
pub fn said_gpu_milli_s(state: &State, spec: &Spec) -> i64 {
    spec.expected_work_us.map_or(0, |work| (work.0 / 1_000_000).saturating_mul(gang_milli(state, spec)))
}

/// The time of its request plus the surcharge, µs.
pub fn surcharged(policy: Policy<'_>, job: &Job, used_gpu_milli_s: i64) -> i64 {
    job.requested_us.0.saturating_add(surcharge(policy, used_gpu_milli_s))
}

/// How many steps a job has reached.
pub fn level(policy: Policy<'_>, used_gpu_milli_s: i64) -> usize {
    steps(policy).into_iter().filter(|(from, _)| used_gpu_milli_s >= *from).count()
}

/// The surcharge, µs: that of the steps reached, and between two of them in proportion.
fn surcharge(policy: Policy<'_>, used_gpu_milli_s: i64) -> i64 {
    let steps = steps(policy);
    let mut below = (0, 0);
    for (from, surcharge) in steps {
        if used_gpu_milli_s < from {
            let part = i128::from(used_gpu_milli_s - below.0) * i128::from(surcharge - below.1);
            return below.1 + i64::try_from(part / i128::from((from - below.0).max(1))).unwrap_or(i64::MAX);
        }
        below = (from, surcharge);
    }
    below.1
}

/// Steps in rising order: GPU time, thousandths of a GPU × s, and surcharge, µs.
fn steps(policy: Policy<'_>) -> Vec<(i64, i64)> {
    let set = policy.as_set().filter(|set| !set.surcharge_gpu_hours.is_empty());
    let own = set.map(|set| set.surcharge_gpu_hours.iter().zip(&set.surcharge_us).map(|(h, s)| (h.0, s.0)).collect());
    let steps: Vec<(i64, i64)> = own.unwrap_or_else(|| STEPS_GPU_HOURS.into_iter().zip(SURCHARGES_US).collect());
    steps.into_iter().map(|(hours, us)| (hours.saturating_mul(GPU_MILLI_S_PER_GPU_HOUR), us)).collect()
}
