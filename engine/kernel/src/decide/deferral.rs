//! Waiting for a better hour: a job whose length is known starts later, within its slack, when an hour that is already known is
//! cheaper or cleaner by more than waiting costs.

use solyx_schemas::events::capacity::CapacityClass;
use solyx_schemas::events::decisions::CostTerms;
use solyx_schemas::ids::JobId;
use solyx_schemas::units::TimeUs;

use super::Epoch;
use crate::cost::{Question, terms, total};
use crate::energy::{hour_end, price_at};
use crate::place::{Candidate, ask_at, power_of};
use crate::rows::Spec;

/// Hours looked ahead at most.
const HOURS_MAX: usize = 48;

/// A better hour.
pub struct Later {
    /// Its beginning.
    pub start: TimeUs,
    /// What it would cost then.
    pub terms: CostTerms,
}

/// The best hour to start a job in, if it is worth the wait.
pub fn better_hour(epoch: &mut Epoch<'_>, id: &JobId, spec: &Spec, best: &Candidate) -> Option<Later> {
    let job = epoch.state.jobs.get(id)?;
    if job.deferred
        || spec.expected_work_us.is_none()
        || best.new_instances > 0
        || best.pool.class != CapacityClass::Owned
    {
        return None;
    }
    let policy = epoch.state.policy();
    let by_policy = job.requested_us.after(policy.deferral_max()).after(best.duration);
    let latest_end = spec.deadline_us.map_or(by_policy, |deadline| deadline.min(by_policy.max(deadline)));
    let latest = TimeUs(latest_end.0 - best.duration.0);
    if latest <= epoch.now {
        return None;
    }
    let zone = &epoch.state.sites.get(&best.pool.site)?.grid_zone;
    let now_total = total(&best.terms);
    let least_saving = now_total.abs() * i128::from(policy.deferral_saving_min_milli()) / 1_000;
    let ask = ask_at(epoch.state, spec, job, epoch.index, &best.model);
    // As many as it would have now.
    let replicas = (best.nodes.len() as i64).max(spec.gang.replicas_min.0);
    let gpu_milli = replicas * ask.gpu_milli();
    let power_w = power_of(epoch.state, &ask, &best.model, replicas);
    let mut found: Option<Later> = None;
    let mut start = hour_end(epoch.now);
    for _ in 0..HOURS_MAX {
        if start > latest || price_at(epoch.state, zone, start).is_none_or(|value| value.stale) {
            break;
        }
        let question = Question {
            spec,
            pool: &best.pool,
            start,
            duration: best.duration,
            gpu_milli,
            power_w,
            new_instances: 0,
            at_risk_us: 0,
            checkpoint: None,
        };
        let mut then = terms(epoch.state, epoch.index, &question).ok()?;
        // What does not depend on the hour stays as it is now.
        then.risk_micros = best.terms.risk_micros;
        then.egress_micros = best.terms.egress_micros;
        let bar = found.as_ref().map_or(now_total - least_saving, |found| total(&found.terms));
        if total(&then) < bar {
            found = Some(Later { start, terms: then });
        }
        start = hour_end(start);
    }
    found
}
