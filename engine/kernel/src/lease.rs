//! Leased instances and the provider's billing: until when an instance is paid for, until when it is kept for the job it was
//! ordered for, and when an idle one is given back.

use solyx_schemas::ids::{JobId, NodeId};
use solyx_schemas::units::{DurationUs, TimeUs};

use crate::queue::{SetKey, set_of};
use crate::state::State;

/// Time billed for a use of so long: at least the minimum, in steps of the granularity.
pub fn billed(used: DurationUs, minimum: DurationUs, granularity: DurationUs) -> DurationUs {
    let step = granularity.0.max(1);
    let steps = used.0.max(minimum.0).saturating_add(step - 1) / step;
    DurationUs(steps.saturating_mul(step))
}

/// When an idle instance is given back if nothing comes: the end of the time that is paid for anyway, and not before it has
/// been idle for as long as policy waits. None while it is in use, kept for a job or given back already.
pub fn release_at(state: &State, id: &NodeId) -> Option<TimeUs> {
    let node = state.nodes.get(id)?;
    let lease = node.lease.as_ref()?;
    let idle_since = lease.idle_since_us?;
    if node.gone || lease.released || lease.earmarked.is_some() {
        return None;
    }
    let pool = state.pools.get(&node.report.as_ref()?.pool)?.declared.as_ref()?;
    let idle_enough = idle_since.after(state.policy().lease_idle());
    let used = idle_enough.since(lease.from_us);
    Some(lease.from_us.after(billed(used, pool.minimum_billing_us, pool.granularity_us)))
}

/// Until when an instance is kept for a job that cannot start: as long as an idle one is kept at all, from when it came or the
/// last order that the job or one of its set waited for was answered. None while one is open, and for what is kept for nobody.
pub fn kept_until(state: &State, id: &NodeId) -> Option<TimeUs> {
    let lease = state.nodes.get(id).filter(|node| !node.gone)?.lease.as_ref()?;
    let job = lease.earmarked.as_ref()?;
    let together = Together::of(state, job);
    let is_open = state.orders.iter().any(|(_, order)| together.has(&order.job));
    if is_open { None } else { Some(lease.idle_since_us?.after(state.policy().lease_idle())) }
}

/// A job, and those of its set if it is of one.
pub struct Together<'s> {
    state: &'s State,
    job: &'s JobId,
    set: Option<SetKey>,
}

impl<'s> Together<'s> {
    /// Of a job.
    pub fn of(state: &'s State, job: &'s JobId) -> Self {
        Self { state, job, set: state.spec(job).and_then(|spec| set_of(&spec)) }
    }

    /// Whether this is the job or one of its set.
    pub fn has(&self, other: &JobId) -> bool {
        let same_set = |set: &SetKey| self.state.spec(other).and_then(|spec| set_of(&spec)).as_ref() == Some(set);
        self.job == other || self.set.as_ref().is_some_and(same_set)
    }
}

/// When an instance that nobody uses is to be looked at next.
pub fn look_at(state: &State, id: &NodeId) -> Option<TimeUs> {
    kept_until(state, id).or_else(|| release_at(state, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_billed_in_whole_steps_and_never_below_the_minimum() {
        let us = DurationUs;
        assert_eq!(billed(us(0), us(60), us(10)), us(60));
        assert_eq!(billed(us(61), us(60), us(10)), us(70));
        assert_eq!(billed(us(70), us(60), us(10)), us(70));
        assert_eq!(billed(us(5), us(0), us(1)), us(5));
    }
}
