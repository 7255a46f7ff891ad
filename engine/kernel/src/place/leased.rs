//! Instances that would have to be leased for a job.

use solyx_schemas::events::capacity::PoolDeclared;
use solyx_schemas::events::decisions::{Limit, LimitKind};
use solyx_schemas::events::jobs::TopologyLevel;
use solyx_schemas::ids::PoolId;

use crate::index::Index;
use crate::packing::Ask;
use crate::rows::*;
use crate::state::State;

/// How many instances a pool would have to lease for a job, or why it cannot.
pub fn order_size(state: &State, index: &Index, spec: &Spec, ask: &Ask, declared: &PoolDeclared) -> Result<i64, Limit> {
    let pool = state.pools.get(&declared.pool).ok_or_else(|| limit(LimitKind::Undeclared))?;
    let name = declared.pool.as_str();
    let per_gpu = if ask.gpu_milli_each > 0 { 1_000 / ask.gpu_milli_each.max(1) } else { 0 };
    let by_gpu = match (ask.gpus, per_gpu) {
        (0, _) => i64::MAX,
        (1, shares) => declared.shape.gpus.0 * shares.max(1),
        (gpus, _) => declared.shape.gpus.0 / gpus,
    };
    let by = |have: i64, need: i64| if need > 0 { have / need } else { i64::MAX };
    let fits =
        by_gpu.min(by(declared.shape.cpu_milli.0, ask.cpu_milli)).min(by(declared.shape.memory_mib.0, ask.memory_mib));
    let fits = if ask.exclusive { fits.min(1) } else { fits };
    if fits < 1 {
        return Err(limit_of(LimitKind::Gpus, name, ask.gpus, declared.shape.gpus.0, "GPUs of one instance"));
    }
    let replicas = spec.gang.replicas_min.0;
    let instances = (replicas + fits - 1) / fits;
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
    let level = spec.topology.as_ref().and_then(|topology| topology.required);
    if matches!(level, Some(TopologyLevel::NvlinkDomain)) && instances > 1 {
        return Err(limit_of(LimitKind::FabricDomain, name, replicas, fits, "replicas in one domain"));
    }
    let _ = index;
    Ok(instances)
}

fn orders_of(state: &State, pool: &PoolId) -> i64 {
    state.orders.iter().filter(|(_, order)| order.pool == *pool).map(|(_, order)| order.pending).sum()
}
