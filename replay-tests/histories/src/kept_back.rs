//! A second opinion on what stays free whoever asks: what tenants do not lend of their guaranteed quotas, and what is held back for
//! failover. Both are counted again from nodes and runs.

use std::collections::BTreeMap;

use solyx_kernel::Closed;
use solyx_kernel::rows::Run;
use solyx_kernel::state::State;
use solyx_schemas::events::Event;
use solyx_schemas::events::capacity::{CapacityClass, PoolDeclared};
use solyx_schemas::events::nodes::NodeState;
use solyx_schemas::ids::*;

/// What has been seen.
#[derive(Default)]
pub struct KeptBackBook {
    /// Jobs placed while another tenant kept something, and while something was held back.
    pub beside_kept: usize,
    pub beside_reserve: usize,
}

impl KeptBackBook {
    /// Takes in an epoch and checks it. Where several jobs were placed, or room is held for one that is moved, it is not known what was
    /// free when each was.
    pub fn epoch(&mut self, state: &State, closed: &Closed) {
        let mut placed = closed.outputs.iter().filter_map(|output| match output {
            Event::JobPlaced(e) => Some(&e.run),
            _ => None,
        });
        let (Some(id), None) = (placed.next(), placed.next()) else { return };
        let Some(run) = state.runs.get(id) else { return };
        // Idle instances count until they are given back, which is decided last.
        if closed.outputs.iter().any(|output| matches!(output, Event::CapacityReleaseOrdered(_))) {
            return;
        }
        // An instance takes the GPU that is divided for it, or nothing.
        let is_plain = run.draws.is_none() && run.mig.is_none() && run.gpu_milli.0 > 0;
        if !is_plain || state.claims.iter().any(|(_, claim)| claim.berth.is_some()) {
            return;
        }
        let Some(pool) = declared(state, &run.pool) else { return };
        let free = free_by_pool(state);
        if is_standing(pool) {
            self.lending(state, id, run, &free);
        }
        let is_inside = |domain: &RefId, pool: &PoolDeclared| {
            [format!("site:{}", pool.site), format!("provider:{}", pool.provider)]
                .iter()
                .any(|of| domain.as_str() == of)
        };
        for ((domain, model), reserve) in state.reserves.iter() {
            if run.model != *model || is_inside(domain, pool) {
                continue;
            }
            let outside = free.iter().filter(|((pool, of), _)| {
                of == model && declared(state, pool).is_some_and(|pool| !is_inside(domain, pool))
            });
            let left: i64 = outside.map(|(_, milli)| milli).sum();
            assert!(left >= reserve.held_back_milli.0, "{id} leaves {left} of {reserve:?}; free are {free:?}");
            self.beside_reserve += usize::from(reserve.held_back_milli.0 > 0);
        }
    }

    /// What other tenants keep of the model, and of all models, is still free.
    fn lending(&mut self, state: &State, id: &RunId, run: &Run, free: &BTreeMap<(PoolId, GpuModelId), i64>) {
        for of in [Some(&run.model), None] {
            let keeps = |(tenant, project, model): &(TenantId, Option<ProjectId>, Option<GpuModelId>)| {
                project.is_none() && model.as_ref() == of && !is_below(state, &run.tenant, tenant)
            };
            let kept: i64 = state
                .quotas
                .iter()
                .filter(|(key, _)| keeps(key))
                .filter_map(|(_, quota)| {
                    let kept = quota.guaranteed_milli.0 - quota.lending_limit_milli?.0;
                    Some((kept.max(0) - used(state, &quota.tenant, of)).max(0))
                })
                .sum();
            let standing = free.iter().filter(|((pool, model), _)| {
                of.is_none_or(|of| of == model) && declared(state, pool).is_some_and(is_standing)
            });
            let left: i64 = standing.map(|(_, milli)| milli).sum();
            assert!(kept == 0 || left >= kept, "{id} leaves {left} free, others keep {kept} of {of:?}");
            self.beside_kept += usize::from(kept > 0);
        }
    }
}

fn declared<'s>(state: &'s State, pool: &PoolId) -> Option<&'s PoolDeclared> {
    state.pools.get(pool)?.declared.as_ref()
}

fn is_standing(pool: &PoolDeclared) -> bool {
    matches!(pool.class, CapacityClass::Owned | CapacityClass::Reserved)
}

fn is_below(state: &State, tenant: &TenantId, above: &TenantId) -> bool {
    let mut at = Some(tenant);
    while let Some(tenant) = at {
        if tenant == above {
            return true;
        }
        at = state.tenants.get(tenant).and_then(|tenant| tenant.parent.as_ref());
    }
    false
}

/// What a tenant and those below it use of a model, or of all.
fn used(state: &State, tenant: &TenantId, of: Option<&GpuModelId>) -> i64 {
    let runs = state.runs.iter().map(|(_, run)| run);
    runs.filter(|run| run.draws.is_none() && is_below(state, &run.tenant, tenant))
        .filter(|run| of.is_none_or(|of| *of == run.model))
        .map(|run| run.gpu_milli.0)
        .sum()
}

/// Free thousandths of GPUs that work can be placed on; a GPU that is divided has none.
fn free_by_pool(state: &State) -> BTreeMap<(PoolId, GpuModelId), i64> {
    let mut held: BTreeMap<(&NodeId, i64), i64> = BTreeMap::new();
    for (_, run) in state.runs.iter() {
        for (replica, gpu) in run.nodes.iter().flat_map(|replica| replica.gpus.iter().map(move |gpu| (replica, gpu))) {
            let milli = if run.mig.is_some() { 1_000 } else { replica.gpu_milli_each.0 };
            *held.entry((&replica.node, *gpu)).or_default() += milli;
        }
    }
    let mut free: BTreeMap<(PoolId, GpuModelId), i64> = BTreeMap::new();
    for (id, node) in state.nodes.iter() {
        let is_released = node.lease.as_ref().is_some_and(|lease| lease.released);
        let Some(report) =
            node.report.as_ref().filter(|_| node.state == NodeState::Ready && !node.gone && !is_released)
        else {
            continue;
        };
        let Some(pool) = declared(state, &report.pool) else { continue };
        let model = report.gpus.first().map_or(&pool.gpu_model, |gpu| &gpu.model);
        let usable = report.gpus.iter().filter(|gpu| !node.avoided_gpus.contains(&gpu.index));
        let milli: i64 = usable.map(|gpu| (1_000 - held.get(&(id, gpu.index)).copied().unwrap_or(0)).max(0)).sum();
        *free.entry((report.pool.clone(), model.clone())).or_default() += milli;
    }
    free
}
