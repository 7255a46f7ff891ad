//! Leased instances and the provider's billing: until when an instance is paid for, and when an idle one is given back.

use solyx_schemas::ids::NodeId;
use solyx_schemas::units::{DurationUs, TimeUs};

use crate::state::State;

/// Time billed for a use of so long: at least the minimum, in steps of the granularity.
pub fn billed(used: DurationUs, minimum: DurationUs, granularity: DurationUs) -> DurationUs {
    let step = granularity.0.max(1);
    let steps = used.0.max(minimum.0).saturating_add(step - 1) / step;
    DurationUs(steps.saturating_mul(step))
}

/// When an idle instance is given back if nothing comes: the end of the time that is paid for anyway, and not before it has
/// been idle for as long as policy waits. None while it is in use, waited for or given back already.
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
