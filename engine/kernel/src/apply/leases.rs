//! What providers answer to orders: instances that come, are refused, or end.

use solyx_schemas::events::capacity::PoolDeclared;
use solyx_schemas::events::nodes::{GpuReport, NodeReported, NodeState};
use solyx_schemas::events::world::{InstanceLeaseEnded, InstanceLeaseRefused, InstanceLeased};
use solyx_schemas::ids::{Name, NodeId};
use solyx_schemas::units::{DurationUs, PowerW, SECOND_US};

use crate::epoch::Rejection;
use crate::index::{Index, Timer};
use crate::lease::Together;
use crate::rows::{Lease, Node, Phase};
use crate::state::State;

type Folded = Result<(), Rejection>;

/// Time for which a pool that refused an order is not asked again, unless it reports more capacity.
pub const REFUSAL_PAUSE: DurationUs = DurationUs(600 * SECOND_US);

pub fn instance_leased(state: &mut State, index: &mut Index, e: &InstanceLeased) -> Folded {
    let Some(declared) = state.pools.get(&e.pool).and_then(|pool| pool.declared.clone()) else {
        return Err(Rejection::rejected(format!("field pool: found {}, expected a declared pool", e.pool)));
    };
    let id = NodeId::from(e.instance.as_str());
    // Its agent, or the verifier, may have spoken before its provider.
    let known = state.nodes.get(&id).cloned();
    if known.as_ref().is_some_and(|node| node.lease.is_some() || node.gone && is_used(index, &id)) {
        return Err(Rejection::rejected(format!(
            "field instance: found {}, expected one that is not leased yet",
            e.instance
        )));
    }
    if let Some(reported) = known.as_ref().and_then(|node| node.report.as_ref()).filter(|r| r.pool != e.pool) {
        return Err(Rejection::rejected(format!(
            "field pool: found {}, expected {}, which {} has reported",
            e.pool, reported.pool, e.instance
        )));
    }
    let Some(order) = state.orders.edit(&e.order) else {
        return Err(Rejection::rejected(format!("field order: found {}, expected an order that is open", e.order)));
    };
    if order.pool != e.pool {
        return Err(Rejection::rejected(format!(
            "field pool: found {}, expected {}, which was asked by order {}",
            e.pool, order.pool, e.order
        )));
    }
    order.pending -= 1;
    order.came.push(e.instance.clone());
    let job = order.job.clone();
    let report = match known.as_ref().and_then(|node| node.report.clone()) {
        Some(reported) => reported,
        None => expected_report(state, e, &declared),
    };
    let now = state.now();
    let lease = Lease {
        from_us: e.from_us,
        price: e.price_micros_per_gpu_hour,
        currency: e.currency,
        earmarked: Some(job.clone()),
        idle_since_us: (!is_used(index, &id)).then_some(now),
        released: false,
    };
    if let Some(available) = state.pools.edit(&e.pool).and_then(|pool| pool.available.as_mut()) {
        *available = (*available - 1).max(0);
    }
    index.earmarked.entry(job).or_default().insert(id.clone());
    let known = Node { gone: false, ..known.unwrap_or_default() };
    let node_state = if known.state == NodeState::Unknown { NodeState::Ready } else { known.state };
    state.nodes.insert(id.clone(), Node { report: Some(report), state: node_state, lease: Some(lease), ..known });
    index.failure_domains.refresh(state, &id);
    index.refresh_node(state, &id);
    index.suspects.insert(id.clone());
    index.idle_instances.insert(id);
    answer_order(state, index, e.order.as_str());
    index.changed = true;
    Ok(())
}

/// Whether anything runs on an instance: what has reported itself before it is leased may be in use by then.
fn is_used(index: &Index, id: &NodeId) -> bool {
    index.uses.get(id).is_some_and(|used| !used.runs.is_empty())
}

/// What an instance is taken to be until it reports itself: of the shape of its pool.
fn expected_report(state: &State, e: &InstanceLeased, declared: &PoolDeclared) -> NodeReported {
    let model = state.models.get(&declared.gpu_model);
    let (memory_mib, max_w) = (declared.shape.gpu_memory_mib, model.map_or(PowerW(0), |model| model.max_w));
    let gpus = (0..declared.shape.gpus.0)
        .map(|index| GpuReport {
            index,
            uuid: Name::from(format!("{}/gpu-{index}", e.instance)),
            model: declared.gpu_model.clone(),
            memory_mib,
            nvlink_domain: None,
            max_w,
        })
        .collect();
    NodeReported {
        node: NodeId::from(e.instance.as_str()),
        pool: e.pool.clone(),
        gpus,
        cpu_milli: declared.shape.cpu_milli,
        memory_mib: declared.shape.memory_mib,
        scratch_gib: declared.shape.scratch_gib,
        // Instances of one order are as near to each other as the provider puts them: they count as one domain.
        leaf: Some(Name::from(e.order.as_str())),
        ..NodeReported::default()
    }
}

pub fn instance_lease_refused(state: &mut State, index: &mut Index, e: &InstanceLeaseRefused) -> Folded {
    let Some(order) = state.orders.edit(&e.order) else {
        return Err(Rejection::rejected(format!("field order: found {}, expected an order that is open", e.order)));
    };
    order.pending = (order.pending - e.instances.0).max(0);
    let until = state.now().after(REFUSAL_PAUSE);
    let pool = state.pools.edit_or_default(&e.pool);
    pool.refused_until_us = until;
    index.set_timer(until, Timer::Pool(e.pool.clone()));
    answer_order(state, index, e.order.as_str());
    index.changed = true;
    Ok(())
}

/// Once an order is answered in full its job may be placed, on the instances that came or elsewhere.
fn answer_order(state: &mut State, index: &mut Index, id: &str) {
    let id = solyx_schemas::ids::RefId::from(id);
    if state.orders.get(&id).is_none_or(|order| order.pending > 0) {
        return;
    }
    let Some(order) = state.orders.remove(&id) else { return };
    index.look_at_kept();
    let waits_for_it = |job: &crate::rows::Job| job.phase == Phase::Leasing && job.past().order.as_ref() == Some(&id);
    if state.jobs.get(&order.job).is_some_and(|job| waits_for_it(job))
        && let Some(job) = state.jobs.edit(&order.job)
    {
        job.phase = Phase::Waiting;
        job.told = None;
        job.past_mut().order = None;
        index.queue.place(state, &order.job);
        // What is kept for it and those that it starts together with is kept from now on, if nothing else is on order for them.
        let together = Together::of(state, &order.job);
        let kept = index.earmarked.iter().filter(|(job, _)| together.has(job));
        let kept: Vec<NodeId> = kept.flat_map(|(_, nodes)| nodes).cloned().collect();
        let now = state.now();
        for node in kept {
            if is_used(index, &node) {
                continue;
            }
            if let Some(lease) = state.nodes.edit(&node).and_then(|node| node.lease.as_mut()) {
                lease.idle_since_us = Some(now);
            }
        }
    } else {
        // Nobody waits for what came: it is idle now. What the job holds of another order stays as it is.
        for instance in &order.came {
            let node = NodeId::from(instance.as_str());
            let lease = state.nodes.edit(&node).and_then(|node| node.lease.as_mut());
            if let Some(job) = lease.and_then(|lease| lease.earmarked.take())
                && let Some(kept) = index.earmarked.get_mut(&job)
            {
                kept.remove(&node);
                if kept.is_empty() {
                    index.earmarked.remove(&job);
                }
            }
            index.idle_instances.insert(node);
        }
    }
}

pub fn instance_lease_ended(state: &mut State, index: &mut Index, e: &InstanceLeaseEnded) -> Folded {
    let id = NodeId::from(e.instance.as_str());
    let Some(node) = state.nodes.edit(&id).filter(|node| node.lease.is_some() && !node.gone) else {
        return Err(Rejection::rejected(format!("field instance: found {}, expected one that is leased", e.instance)));
    };
    node.gone = true;
    index.idle_instances.insert(id.clone());
    index.failure_domains.refresh(state, &id);
    index.refresh_node(state, &id);
    index.suspects.insert(id);
    index.changed = true;
    Ok(())
}
