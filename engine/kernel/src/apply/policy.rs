//! What operators say.

use solyx_schemas::events::policy::*;
use solyx_schemas::ids::{Name, RefId, TenantId};
use solyx_schemas::units::TimeUs;

use crate::budget::period_at;
use crate::epoch::Rejection;
use crate::index::{Index, Timer};
use crate::judge::{SEALED_FIELDS, in_force};
use crate::order_rule::OrderRule;
use crate::packing::Rule;
use crate::rows::Budget;
use crate::state::State;

type Folded = Result<(), Rejection>;

pub fn cell_declared(state: &mut State, index: &mut Index, e: &CellDeclared) -> Folded {
    let meta = state.meta_mut();
    meta.currency = Some(e.reference_currency);
    meta.epoch_limits = Some((e.epoch_records_max.0, e.epoch_bytes_max.0, e.epoch_latency_max_us.0));
    meta.partitions = e.partitions.iter().map(|p| (p.topic.clone(), p.partitions.0)).collect();
    index.set_energy_timers(state);
    // What converts may be another.
    index.changed = true;
    Ok(())
}

pub fn feature_enabled(state: &mut State, e: &FeatureEnabled) -> Folded {
    state.meta_mut().features_pending.push(e.feature.clone());
    Ok(())
}

pub fn scheduling_policy_set(state: &mut State, index: &mut Index, e: &SchedulingPolicySet) -> Folded {
    of_the_cell(&e.scope)?;
    if OrderRule::named(e.order_rule.as_str()).is_none() {
        let names = OrderRule::NAMES.map(|(name, _)| name).join(", ");
        return Err(Rejection::rejected(format!("field order_rule: found {}, expected one of {names}", e.order_rule)));
    }
    if Rule::named(e.packing_rule.as_str()).is_none() {
        let names = Rule::ALL.map(Rule::name).join(", ");
        return Err(Rejection::rejected(format!(
            "field packing_rule: found {}, expected one of {names}",
            e.packing_rule
        )));
    }
    let promises = |state: &State| (state.policy().order_rule().promises_starts(), state.policy().promises_shares());
    let before = promises(state);
    state.policies.insert(e.scope.clone(), e.clone());
    // Starts are promised to others, and for another reason.
    if promises(state) != before && !state.meta().promised.is_empty() {
        state.meta_mut().promised = Vec::new();
    }
    index.set_kinds(state);
    index.rebuild_set_aside_if_on(state);
    // How long an instance may stand idle is a constant of policy.
    index.idle_instances.extend(state.nodes.iter().filter(|(_, n)| n.lease.is_some()).map(|(id, _)| id.clone()));
    // Places in line follow from it.
    index.redeclared = true;
    Ok(())
}

/// A policy for anything but the cell would be followed by nobody.
fn of_the_cell(scope: &Name) -> Folded {
    match scope.as_str() {
        "cell" => Ok(()),
        _ => Err(Rejection::rejected(format!("field scope: found {scope}, expected cell"))),
    }
}

pub fn cost_weights_set(state: &mut State, index: &mut Index, e: &CostWeightsSet) -> Folded {
    of_the_cell(&e.scope)?;
    let key = (e.scope.clone(), e.from_us);
    let ended = state.weights.get(&key).and_then(|before| before.to_us);
    state.weights.insert(key, e.clone());
    let of_scope = |at: TimeUs| Timer::Weights(e.scope.clone(), at);
    // Of another instant at which these were to end before, unless others begin or end then.
    let is_of = |at: TimeUs| {
        state.weights.iter().any(|((scope, from), set)| *scope == e.scope && (*from == at || set.to_us == Some(at)))
    };
    ended.filter(|at| !is_of(*at)).inspect(|at| index.clear_timer(&of_scope(*at)));
    for at in [Some(e.from_us), e.to_us].into_iter().flatten().filter(|at| *at > state.now()) {
        index.set_timer(at, of_scope(at));
    }
    index.changed = true;
    Ok(())
}

pub fn gpu_model_declared(state: &mut State, index: &mut Index, e: &GpuModelDeclared) -> Folded {
    state.models.insert(e.model.clone(), e.clone());
    index.redeclared = true;
    Ok(())
}

pub fn tenant_declared(state: &mut State, index: &mut Index, e: &TenantDeclared) -> Folded {
    if let Some(parent) = &e.parent
        && state.lineage(parent).any(|above| *above == e.tenant)
    {
        let (tenant, detail) = (&e.tenant, "expected a tenant that is not below it");
        return Err(Rejection::rejected(format!("field parent: found {parent} for {tenant}, {detail}")));
    }
    let parent_before = state.tenants.get(&e.tenant).and_then(|tenant| tenant.parent.clone());
    let above_before: Vec<TenantId> = state.lineage(&e.tenant).cloned().collect();
    let asked = state.tenants.get(&e.tenant).and_then(|tenant| tenant.gpu_of_one_tenant).unwrap_or(false);
    state.tenants.insert(e.tenant.clone(), e.clone());
    if asked != e.gpu_of_one_tenant.unwrap_or(false) {
        index.recount_apart(state, &e.tenant);
    }
    if parent_before != e.parent {
        index.regroup(state);
        moved_under_budgets(state, index, &e.tenant, &above_before);
    }
    index.redeclared = true;
    Ok(())
}

/// What a tenant and those below it have held counts against budgets of those above it now, and no more of those that were. One of them
/// that is used up binds what it had not bound before.
fn moved_under_budgets(state: &mut State, index: &mut Index, tenant: &TenantId, before: &[TenantId]) {
    let now: Vec<TenantId> = state.lineage(tenant).cloned().collect();
    // Those of a project or a job bind nobody below their tenant.
    let binds_others = |set: &BudgetSet| {
        set.project.is_none() && set.job.is_none() && before.contains(&set.tenant) != now.contains(&set.tenant)
    };
    let ids: Vec<RefId> =
        state.budgets.iter().filter(|(_, budget)| binds_others(&budget.set)).map(|(id, _)| id.clone()).collect();
    for id in ids {
        if let Some(budget) = state.budgets.edit(&id).filter(|budget| now.contains(&budget.set.tenant)) {
            budget.exhausted = false;
        }
        index.budgets_set.insert(id.clone());
        index.budgets_touched.insert(id);
    }
}

pub fn scope_state_changed(state: &mut State, index: &mut Index, e: &ScopeStateChanged) -> Folded {
    let key = (e.scope_kind, e.scope.clone());
    let was_drained = state.scopes.get(&key) == Some(&ScopeState::Drained);
    if e.state == ScopeState::Open {
        state.scopes.remove(&key);
    } else {
        state.scopes.insert(key, e.state);
    }
    index.redeclared = true;
    // Drained from now on, or no longer.
    if e.state == ScopeState::Drained || was_drained {
        index.suspects.extend(state.nodes.iter().map(|(id, _)| id.clone()));
    }
    Ok(())
}

pub fn quota_set(state: &mut State, index: &mut Index, e: &QuotaSet) -> Folded {
    let key = (e.tenant.clone(), e.project.clone(), e.gpu_model.clone());
    index.suspect_quotas.insert(key.clone());
    state.quotas.insert(key.clone(), e.clone());
    index.note_lender(state, &key);
    index.queue.note_quota(e);
    index.redeclared = true;
    Ok(())
}

pub fn budget_set(state: &mut State, index: &mut Index, e: &BudgetSet) -> Folded {
    let (from, _) = period_at(e, state.now());
    if state.budgets.is_empty() {
        crate::budget::know_owners(state);
    }
    let budget = state.budgets.edit_or_default(&e.budget);
    // What was used in another period or currency, or of another scope, says nothing of this one.
    let whose = |set: &BudgetSet| (set.tenant.clone(), set.project.clone(), set.job.clone(), set.amount.currency);
    if budget.period_from_us != from || whose(&budget.set) != whose(e) {
        *budget = Budget { held_micros: budget.held_micros, period_from_us: from, ..Budget::default() };
    }
    budget.set = e.clone();
    budget.exhausted = false;
    index.budgets_set.insert(e.budget.clone());
    index.set_budget_timer(state, &e.budget);
    index.budgets_touched.insert(e.budget.clone());
    index.redeclared = true;
    Ok(())
}

pub fn priority_class_set(state: &mut State, index: &mut Index, e: &PriorityClassSet) -> Folded {
    state.classes.insert(e.class.clone(), e.clone());
    index.rebuild_set_aside_if_on(state);
    index.redeclared = true;
    Ok(())
}

pub fn rate_card_set(state: &mut State, index: &mut Index, e: &RateCardSet) -> Folded {
    state.rate_cards.insert(e.rate_card.clone(), e.clone());
    index.rates.insert(e);
    Ok(())
}

pub fn lease_sold(state: &mut State, index: &mut Index, e: &LeaseSold) -> Folded {
    state.sold_leases.insert(e.lease.clone(), e.clone());
    contract_changed(state, index);
    Ok(())
}

pub fn sold_lease_ended(state: &mut State, index: &mut Index, e: &SoldLeaseEnded) -> Folded {
    match state.sold_leases.edit(&e.lease) {
        Some(lease) => {
            lease.to_us = lease.to_us.min(e.ended_us);
            contract_changed(state, index);
            Ok(())
        }
        None => Err(Rejection::rejected(format!("field lease: found {}, expected a lease that was sold", e.lease))),
    }
}

pub fn reservation_set(state: &mut State, index: &mut Index, e: &ReservationSet) -> Folded {
    state.reservations.insert(e.reservation.clone(), e.clone());
    contract_changed(state, index);
    Ok(())
}

pub fn reservation_cancelled(state: &mut State, index: &mut Index, e: &ReservationCancelled) -> Folded {
    let known = state.reservations.remove(&e.reservation).is_some();
    let detail = || format!("field reservation: found {}, expected one that was set", e.reservation);
    if !known {
        return Err(Rejection::rejected(detail()));
    }
    contract_changed(state, index);
    Ok(())
}

/// Jobs that name a contract may hear something else now, also where none is in force.
fn contract_changed(state: &State, index: &mut Index) {
    index.rebuild_set_aside(state);
    index.contracts_changed = true;
}

pub fn reserve_set(state: &mut State, index: &mut Index, e: &ReserveSet) -> Folded {
    state.reserves.insert((e.domain.clone(), e.gpu_model.clone()), e.clone());
    index.changed = true;
    Ok(())
}

pub fn power_limit_set(state: &mut State, index: &mut Index, e: &PowerLimitSet) -> Folded {
    let before = state.power_limits.get(&e.limit).cloned();
    state.power_limits.insert(e.limit.clone(), e.clone());
    index.set_limit_timer(e, state.now());
    index.refresh_limits(state, &e.site);
    if let Some(before) = before.filter(|before| before.site != e.site) {
        index.refresh_limits(state, &before.site);
    }
    index.changed = true;
    Ok(())
}

pub fn exchange_rate_set(state: &mut State, index: &mut Index, e: &ExchangeRateSet) -> Folded {
    state.exchange.insert((e.from_currency, e.to_currency, e.effective_from_us), e.clone());
    index.exchange.insert(e);
    if e.effective_from_us > state.now() {
        index.set_timer(e.effective_from_us, Timer::Exchange(e.from_currency, e.to_currency, e.effective_from_us));
    }
    index.set_energy_timers(state);
    index.changed = true;
    Ok(())
}

pub fn tenant_key_destroyed(state: &mut State, e: &TenantKeyDestroyed) -> Folded {
    if in_force(state, SEALED_FIELDS) {
        state.destroyed_keys.insert(e.key_id.clone(), e.tenant.clone());
    }
    Ok(())
}
