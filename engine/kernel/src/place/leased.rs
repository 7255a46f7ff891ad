//! Instances that would have to be leased for a job.

use solyx_schemas::events::capacity::{CapacityClass, PoolDeclared};
use solyx_schemas::events::decisions::{Limit, LimitKind};
use solyx_schemas::events::jobs::TopologyLevel;
use solyx_schemas::ids::PoolId;

use super::Layout;
use crate::packing::{Ask, mig_replicas};
use crate::rows::*;
use crate::state::State;

/// How many instances a pool would have to lease for a job, or why it cannot.
pub fn order_size(state: &State, spec: &Spec, ask: &Ask, declared: &PoolDeclared) -> Result<i64, Limit> {
    let pool = state.pools.get(&declared.pool).ok_or_else(|| limit(LimitKind::Undeclared))?;
    let name = declared.pool.as_str();
    let per_gpu = if ask.gpu_milli_each > 0 { 1_000 / ask.gpu_milli_each.max(1) } else { 0 };
    let by_gpu = match (ask.gpus, per_gpu) {
        _ if ask.mig.is_some() => {
            let each = ask.mig.as_ref().map_or(0, |division| division.room(0));
            mig_replicas(&vec![each; declared.shape.gpus.0.max(0) as usize], ask.gpus, i64::MAX)
        }
        (0, _) => i64::MAX,
        (1, shares) => declared.shape.gpus.0 * shares.max(1),
        (gpus, _) => declared.shape.gpus.0 / gpus,
    };
    let by = |have: i64, need: i64| if need > 0 { have / need } else { i64::MAX };
    let shape = &declared.shape;
    let beside = [
        (LimitKind::Scratch, shape.scratch_gib.0, ask.scratch_gib, "GiB of scratch of one instance"),
        (LimitKind::Cpu, shape.cpu_milli.0, ask.cpu_milli, "CPU/1000 of one instance"),
        (LimitKind::Memory, shape.memory_mib.0, ask.memory_mib, "MiB of one instance"),
    ];
    if by_gpu < 1 {
        return Err(limit_of(LimitKind::Gpus, name, ask.gpus, shape.gpus.0, "GPUs of one instance"));
    }
    let mut fits = if ask.exclusive { 1 } else { by_gpu };
    for (kind, have, need, unit) in beside {
        if by(have, need) < 1 {
            return Err(limit_of(kind, name, need, have, unit));
        }
        fits = fits.min(by(have, need));
    }
    let instances = instances_of(spec, name, fits)?;
    if spec.attestation_required {
        return Err(limit(LimitKind::Attestation));
    }
    if pool.withdrawn || pool.refused_until_us > state.now() {
        return Err(limit_of(LimitKind::ProviderCapacity, name, instances, 0, "instances"));
    }
    let (ordered, most) = (orders_of(state, &declared.pool), state.policy().lease_orders_max());
    if ordered + instances > most {
        return Err(limit_of(LimitKind::LeasePending, name, ordered + instances, most, "instances on order"));
    }
    if let Some(available) = pool.available
        && instances + ordered > available
    {
        return Err(limit_of(LimitKind::ProviderCapacity, name, instances, (available - ordered).max(0), "instances"));
    }
    Ok(instances)
}

/// How many instances hold the gang as it has to lie, with so many replicas on one. Those of one order are one leaf; of racks,
/// spines, feeds and NVLink domains that they share nothing is known, so that each counts as one of its own.
fn instances_of(spec: &Spec, pool: &str, fits: i64) -> Result<i64, Limit> {
    let replicas = spec.gang.replicas_min.0;
    let layout = Layout::of(spec);
    let each = match (layout.required, layout.segment) {
        (None | Some(TopologyLevel::Leaf), _) => fits,
        (Some(_), Some(segment)) => fits / segment * segment,
        (Some(_), None) if fits < replicas => 0,
        (Some(_), None) => fits,
    };
    if each < 1 {
        let together = layout.segment.unwrap_or(replicas);
        return Err(limit_of(LimitKind::FabricDomain, pool, together, fits, "replicas in one instance"));
    }
    // With one skew on each the most and the least loaded are never further apart.
    let each = layout.spread.map_or(each, |(_, skew)| each.min(skew));
    if each < 1 {
        return Err(limit_of(LimitKind::Spread, pool, replicas, 0, "replicas over instances with a skew of 0"));
    }
    Ok((replicas - 1) / each + 1)
}

/// Whether a pool's provider would take an order now, of however few instances.
pub(crate) fn takes_orders(state: &State, declared: &PoolDeclared) -> bool {
    let Some(pool) = state.pools.get(&declared.pool) else { return false };
    let ordered = orders_of(state, &declared.pool);
    matches!(declared.class, CapacityClass::OnDemand | CapacityClass::Spot)
        && !pool.withdrawn
        && pool.refused_until_us <= state.now()
        && ordered < state.policy().lease_orders_max()
        && pool.available.is_none_or(|available| ordered < available)
}

fn orders_of(state: &State, pool: &PoolId) -> i64 {
    state.orders.iter().filter(|(_, order)| order.pool == *pool).map(|(_, order)| order.pending).sum()
}
