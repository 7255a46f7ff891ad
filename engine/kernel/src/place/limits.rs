//! Limits that rule a pool out for a job, whatever nodes it has: fixed ones, quotas, capacity held back.

use std::collections::BTreeSet;

use solyx_schemas::events::capacity::{PoolDeclared, ProviderState};
use solyx_schemas::events::decisions::{Limit, LimitKind};
use solyx_schemas::events::jobs::SpreadLevel;
use solyx_schemas::events::policy::{QuotaSet, ScopeKind, ScopeState};
use solyx_schemas::ids::*;

use super::{accepted, spread_name, spread_of};
use crate::index::{Index, QuotaKey, quota_keys};
use crate::rows::*;
use crate::set_aside::in_force;
use crate::state::State;

/// Limits of a pool for a job that do not depend on what is free.
pub fn fixed_limits(state: &State, spec: &Spec, pool: &PoolDeclared) -> Option<Limit> {
    let of = |kind, subject: &str| Limit { subject: Some(RefId::from(subject)), ..limit(kind) };
    if accepted(spec, pool).is_none() {
        return Some(of(LimitKind::GpuModel, pool.gpu_model.as_str()));
    }
    let Some(site) = state.sites.get(&pool.site) else {
        return Some(of(LimitKind::Undeclared, &format!("site:{}", pool.site)));
    };
    if !spec.residency.is_empty() && !spec.residency.contains(&site.country) {
        return Some(of(LimitKind::Residency, site.country.as_str()));
    }
    let confined = spec
        .datasets
        .iter()
        .filter_map(|d| state.datasets.get(d))
        .find(|d| !d.residency.is_empty() && !d.residency.contains(&site.country));
    if let Some(dataset) = confined {
        return Some(of(LimitKind::Residency, dataset.dataset.as_str()));
    }
    if let Some(missing) = spec.certificates.iter().find(|c| !site.certificates.contains(c)) {
        return Some(of(LimitKind::Certificate, missing.as_str()));
    }
    let instance = match &spec.gang.mig_profile {
        None => None,
        Some(profile) => match crate::mig::profile(state, &pool.gpu_model, profile) {
            Some((_, instance)) => Some(instance.memory_mib.0),
            None => return Some(of(LimitKind::GpuModel, &format!("{}/{profile}", pool.gpu_model))),
        },
    };
    if let Some(least) = spec.gang.gpu_memory_mib {
        let whole = match pool.shape.gpu_memory_mib.0 {
            0 => state.models.get(&pool.gpu_model).map_or(0, |model| model.memory_mib.0),
            own => own,
        };
        // With a MIG profile it is the instance that has to have it, with a share its part: all parts of a GPU have its memory.
        let share = i128::from(spec.gang.gpu_milli_each.0.clamp(0, 1_000));
        let memory = instance.unwrap_or((i128::from(whole) * share / 1_000) as i64);
        if spec.gang.gpus.0 > 0 && memory < least.0 {
            return Some(limit_of(LimitKind::GpuMemory, pool.gpu_model.as_str(), least.0, memory, "MiB"));
        }
    }
    if state.scope(ScopeKind::Pool, pool.pool.as_str()) != ScopeState::Open {
        return Some(of(LimitKind::Cordon, pool.pool.as_str()));
    }
    if state.scope(ScopeKind::Site, pool.site.as_str()) != ScopeState::Open {
        return Some(of(LimitKind::Cordon, pool.site.as_str()));
    }
    let provider = state.providers.get(&pool.provider).map(|provider| provider.state);
    if matches!(provider, Some(ProviderState::Degraded | ProviderState::Down)) {
        return Some(of(LimitKind::ProviderCapacity, pool.provider.as_str()));
    }
    None
}

/// A gang is in one pool, and so at one site and of one provider: it is spread over several only as far as the skew lets all of
/// it be in one. Where there is but one that it may be at, that is all there is.
pub fn spread_limit(state: &State, spec: &Spec, pool: &PoolDeclared) -> Option<Limit> {
    let (level, skew) = spread_of(spec)?;
    let replicas = spec.gang.replicas_min.0;
    let domain = |pool: &PoolDeclared| match level {
        SpreadLevel::Site => Some(pool.site.to_string()),
        SpreadLevel::Provider => Some(pool.provider.to_string()),
        _ => None,
    };
    let own = domain(pool)?;
    let others = state.pools.iter().filter_map(|(_, pool)| pool.declared.as_ref());
    let mut usable = others.filter(|other| fixed_limits(state, spec, other).is_none());
    if replicas <= skew.max(1) || usable.all(|other| domain(other).as_ref() == Some(&own)) {
        return None;
    }
    let unit = format!("replicas in one {} with a skew of {skew}", spread_name(level));
    Some(limit_of(LimitKind::Spread, &own, replicas, skew, &unit))
}

/// Thousandths of GPUs that a quota allows; none when it may borrow any.
pub fn quota_most(quota: &QuotaSet) -> Option<i64> {
    Some(quota.guaranteed_milli.0 + quota.borrowing_limit_milli?.0)
}

/// How a quota is named in limits.
pub fn quota_subject((tenant, _, model): &QuotaKey) -> String {
    model.as_ref().map_or(tenant.to_string(), |model| format!("{tenant}/{model}"))
}

/// The quota that so much more of a model would break.
pub fn quota_limit(state: &State, index: &Index, spec: &Spec, model: &GpuModelId, gpu_milli: i64) -> Option<Limit> {
    if state.quotas.is_empty() {
        return None;
    }
    for key in quota_keys(state, &spec.tenant, spec.project.as_ref(), model) {
        let Some(most) = state.quotas.get(&key).and_then(quota_most) else { continue };
        let available = most - index.quota_use.get(&key).copied().unwrap_or(0) - on_order(state, &key, &spec.job);
        if gpu_milli > available {
            return Some(limit_of(LimitKind::Quota, &quota_subject(&key), gpu_milli, available, "GPU/1000"));
        }
    }
    None
}

/// What jobs other than `asking` will use of a quota once the instances have come that are on order for them, or those have stopped
/// who make room for them, thousandths of a GPU.
pub fn on_order(state: &State, (tenant, project, model): &QuotaKey, asking: &JobId) -> i64 {
    let is_under = |of: &TenantId, in_project: Option<&ProjectId>| match project {
        Some(_) => of == tenant && in_project == project.as_ref(),
        None => state.lineage(of).any(|above| above == tenant),
    };
    let ordered = |order: &&Order| {
        order.job != *asking
            && model.as_ref().is_none_or(|model| order.model == *model)
            && is_under(&order.tenant, order.project.as_ref())
            && state.jobs.get(&order.job).is_some_and(|job| !job.is_over())
    };
    // Who is moved holds what it will have; what draws on a contract counts against no quota.
    let claimed = |(job, claim): &(&JobId, &Claim)| {
        let on_model = |node: &NodeId| {
            let pool = &state.nodes.get(node)?.report.as_ref()?.pool;
            Some(state.pools.get(pool)?.declared.as_ref()?.gpu_model == *model.as_ref()?)
        };
        *job != asking
            && claim.berth.is_none()
            && (model.is_none() || claim.nodes.first().and_then(on_model) == Some(true))
            && state
                .spec(job)
                .is_some_and(|spec| is_under(&spec.tenant, spec.project.as_ref()) && in_force(state, &spec).is_none())
    };
    let orders = state.orders.iter().map(|(_, order)| order).filter(ordered).map(|order| order.gpu_milli.0);
    orders.sum::<i64>() + state.claims.iter().filter(claimed).map(|(_, claim)| claim.gpu_milli).sum::<i64>()
}

/// Capacity held back for failover that would no longer be there.
pub fn failover_limit(
    state: &State,
    index: &Index,
    pool: &PoolDeclared,
    model: &GpuModelId,
    gpu_milli: i64,
    new_instances: i64,
) -> Option<Limit> {
    // What takes no GPU takes nothing of what is held back, also where less is free than that.
    if new_instances > 0 || gpu_milli == 0 {
        return None;
    }
    state.reserves.iter().filter(|((_, of), _)| of == model).find_map(|((domain, _), reserve)| {
        let inside = |pool: &PoolDeclared| {
            *domain.as_str() == *format!("site:{}", pool.site)
                || *domain.as_str() == *format!("provider:{}", pool.provider)
        };
        if inside(pool) {
            return None;
        }
        let number = index.models.get(model)?;
        let outside: BTreeSet<u32> = state
            .pools
            .iter()
            .filter(|(_, pool)| pool.declared.as_ref().is_some_and(|declared| !inside(declared)))
            .filter_map(|(id, _)| index.pools.get(id))
            .collect();
        let free: i64 = index
            .inventory
            .free_gpu_milli()
            .filter(|(pool, of, _)| *of == number && outside.contains(pool))
            .map(|(.., milli)| milli)
            .sum();
        let available = free - reserve.held_back_milli.0;
        (gpu_milli > available)
            .then(|| limit_of(LimitKind::FailoverReserve, domain.as_str(), gpu_milli, available, "GPU/1000"))
    })
}
