//! Leased instances that stand idle: kept for the job that they were ordered for as long as policy waits, then free for anyone,
//! and given back at the end of the time that is paid for anyway.

use std::collections::{BTreeMap, BTreeSet};

use solyx_schemas::events::decisions::{CapacityReleaseOrdered, LeaseOrderCause};
use solyx_schemas::ids::{InstanceId, JobId, NodeId, PoolId};
use solyx_schemas::units::TimeUs;

use super::Epoch;
use crate::index::Timer;
use crate::lease::{kept_until, look_at};

/// Whoever could not start on the instances kept for it for as long as policy waits no longer keeps them. It is asked before
/// anybody is placed, and never of what came in this epoch.
pub fn end_keeping(epoch: &mut Epoch<'_>) {
    let mut jobs: BTreeSet<JobId> = BTreeSet::new();
    for id in &epoch.index.idle_instances {
        let lease = epoch.state.nodes.get(id).and_then(|node| node.lease.as_ref());
        let Some(lease) = lease.filter(|lease| lease.idle_since_us.is_some_and(|since| since < epoch.now)) else {
            continue;
        };
        if kept_until(epoch.state, id).is_some_and(|until| until <= epoch.now) {
            jobs.extend(lease.earmarked.clone());
        }
    }
    jobs.iter().for_each(|job| epoch.index.free_instances(epoch.state, job));
}

/// Looks at every instance that may be idle: gives it back when its time has come, otherwise sets the timer.
pub fn release_idle(epoch: &mut Epoch<'_>) {
    let mut due: BTreeMap<PoolId, Vec<NodeId>> = BTreeMap::new();
    for id in std::mem::take(&mut epoch.index.idle_instances) {
        epoch.index.clear_timer(&Timer::Instance(id.clone()));
        let Some(at) = look_at(epoch.state, &id) else { continue };
        let lease = epoch.state.nodes.get(&id).and_then(|node| node.lease.as_ref());
        if at > epoch.now || lease.is_some_and(|lease| lease.earmarked.is_some()) {
            // What is kept for no time at all is there for others from the next epoch on.
            epoch.index.set_timer(at.max(TimeUs(epoch.now.0 + 1)), Timer::Instance(id));
            continue;
        }
        let pool = epoch.state.nodes.get(&id).and_then(|node| Some(node.report.as_ref()?.pool.clone()));
        if let Some(pool) = pool {
            due.entry(pool).or_default().push(id);
        }
    }
    for (pool, nodes) in due {
        for id in &nodes {
            if let Some(lease) = epoch.state.nodes.edit(id).and_then(|node| node.lease.as_mut()) {
                lease.released = true;
            }
            epoch.index.refresh_node(epoch.state, id);
        }
        let instances = nodes.iter().map(|id| InstanceId::from(id.as_str())).collect();
        let (cause, at_us) = (LeaseOrderCause::Idle, epoch.now);
        epoch.say(CapacityReleaseOrdered { pool, instances, cause, at_us, ..CapacityReleaseOrdered::default() });
    }
}
