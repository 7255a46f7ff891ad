//! Giving back leased instances that stand idle, at the end of the time that is paid for anyway.

use std::collections::BTreeMap;

use solyx_schemas::events::decisions::{CapacityReleaseOrdered, LeaseOrderCause};
use solyx_schemas::ids::{InstanceId, NodeId, PoolId};

use super::Epoch;
use crate::index::Timer;
use crate::lease::release_at;

/// Looks at every instance that may be idle: gives it back when its time has come, otherwise sets the timer.
pub fn release_idle(epoch: &mut Epoch<'_>) {
    let mut due: BTreeMap<PoolId, Vec<NodeId>> = BTreeMap::new();
    for id in std::mem::take(&mut epoch.index.idle_instances) {
        epoch.index.clear_timer(&Timer::Instance(id.clone()));
        let Some(at) = release_at(epoch.state, &id) else { continue };
        if at > epoch.now {
            epoch.index.set_timer(at, Timer::Instance(id));
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
