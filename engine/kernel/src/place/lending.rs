//! What tenants keep of their guaranteed quota and do not lend, whoever asks: as Kueue's lending limit, a tenant with
//! `lending_limit_milli` lends at most that much of its guarantee, and the rest stays free for it.

use solyx_schemas::events::capacity::{CapacityClass, PoolDeclared};
use solyx_schemas::events::decisions::{Limit, LimitKind};
use solyx_schemas::events::policy::QuotaSet;
use solyx_schemas::ids::GpuModelId;

use super::quota_subject;
use crate::index::{Index, QuotaKey};
use crate::rows::{Spec, limit_of};
use crate::state::State;

/// The part of a guaranteed quota that is never lent, thousandths of GPUs. A project's quota divides its tenant's and lends
/// nothing by itself.
pub fn kept_milli(quota: &QuotaSet) -> i64 {
    let lent = quota.lending_limit_milli.filter(|_| quota.project.is_none());
    lent.map_or(0, |most| (quota.guaranteed_milli.0 - most.0).max(0))
}

/// What others keep that would no longer be free if a job took so many thousandths more of a model in a pool.
pub fn lending_limit(
    state: &State,
    index: &Index,
    pool: &PoolDeclared,
    spec: &Spec,
    model: &GpuModelId,
    gpu_milli: i64,
) -> Option<Limit> {
    if index.lenders.is_empty() || gpu_milli <= 0 || !is_standing(pool) {
        return None;
    }
    // Of the model, and of all models together.
    [Some(model), None].into_iter().find_map(|of| {
        let others = index.lenders.iter().filter(|(tenant, _, model)| {
            model.as_ref() == of && !state.lineage(&spec.tenant).any(|above| above == tenant)
        });
        let kept: Vec<(&QuotaKey, i64)> = others.map(|key| (key, unused(state, index, key))).collect();
        let largest = kept.iter().max_by_key(|(_, milli)| *milli).filter(|(_, milli)| *milli > 0)?;
        let available = free_milli(state, index, of) - kept.iter().map(|(_, milli)| milli).sum::<i64>();
        let subject = format!("{}:kept", quota_subject(largest.0));
        (gpu_milli > available).then(|| limit_of(LimitKind::Quota, &subject, gpu_milli, available.max(0), "GPU/1000"))
    })
}

/// What a tenant keeps and does not use itself.
fn unused(state: &State, index: &Index, key: &QuotaKey) -> i64 {
    let kept = state.quotas.get(key).map_or(0, kept_milli);
    (kept - index.quota_use.get(key).copied().unwrap_or(0)).max(0)
}

/// Free thousandths of GPUs of a model, or of all, in owned and reserved pools.
fn free_milli(state: &State, index: &Index, of: Option<&GpuModelId>) -> i64 {
    let standing = |number: u32| {
        let pools = state.pools.iter().filter(|(id, _)| index.pools.get(id) == Some(number));
        pools.filter_map(|(_, pool)| pool.declared.as_ref()).any(is_standing)
    };
    let model = of.map(|model| index.models.get(model));
    let free = index.inventory.free_gpu_milli();
    let counted = free.filter(|(pool, number, _)| model.is_none_or(|model| model == Some(*number)) && standing(*pool));
    counted.map(|(.., milli)| milli).sum()
}

fn is_standing(pool: &PoolDeclared) -> bool {
    matches!(pool.class, CapacityClass::Owned | CapacityClass::Reserved)
}
