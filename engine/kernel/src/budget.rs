//! Budgets: held at admission in the customer's price, settled as usage is applied.

use std::collections::BTreeMap;

use solyx_schemas::events::common::Sum;
use solyx_schemas::events::decisions::{Limit, LimitKind};
use solyx_schemas::events::policy::BudgetSet;
use solyx_schemas::events::usage::{Meter, UsageMetered};
use solyx_schemas::ids::{JobId, ProjectId, RefId, RunId, TenantId};
use solyx_schemas::units::{Currency, GPU_MILLI_US_PER_GPU_HOUR, MoneyMicros, TimeUs, WorkUs};

use crate::index::Index;
use crate::rating::{Month, units_per_price};
use crate::rows::{Budget, Held, Job, Owner, Phase, Run, Spec, limit_of};
use crate::state::State;

/// The most that a job is taken to cost, micros: the most that an amount can say.
const PRICE_MAX: i64 = 1_000_000_000_000_000_000;

/// The period of a budget at an instant: its own, or the calendar month UTC.
pub fn period_at(set: &BudgetSet, now: TimeUs) -> (TimeUs, TimeUs) {
    match (set.period_from_us, set.period_to_us) {
        (Some(from), to) => (from, to.unwrap_or(TimeUs(i64::MAX))),
        _ => (Month::of(now).start(), Month::of(now).end()),
    }
}

/// Whether it is in force: one with a period of its own is not before it and not after.
pub fn is_in_force(set: &BudgetSet, now: TimeUs) -> bool {
    let (from, to) = period_at(set, now);
    from <= now && now < to
}

/// Begins the periods anew whose time has come, before what the epoch brings is judged by them.
pub fn renew_due(state: &mut State, index: &mut Index) {
    let due: Vec<RefId> = index.budgets_touched.iter().cloned().collect();
    due.iter().for_each(|id| renew(state, index, id));
}

/// Begins a period anew, if another one has begun. Everybody who waits is then sorted anew.
pub fn renew(state: &mut State, index: &mut Index, id: &RefId) {
    let now = state.now();
    let Some(budget) = state.budgets.get(id) else { return };
    let (from, ended) = (period_at(&budget.set, now).0, !is_in_force(&budget.set, now));
    let renewed = budget.period_from_us != from;
    if !(renewed || ended && budget.exhausted) {
        return;
    }
    if let Some(budget) = state.budgets.edit(id) {
        budget.used = if renewed { 0 } else { budget.used };
        budget.exhausted = false;
        budget.period_from_us = from;
    }
    index.set_budget_timer(state, id);
    index.redeclared = true;
}

/// Who uses something: a job in a project of a tenant that is below others.
struct User<'u> {
    /// The tenant, then those above it.
    lineage: Vec<&'u TenantId>,
    project: Option<&'u ProjectId>,
    job: &'u JobId,
}

impl<'u> User<'u> {
    fn of(state: &'u State, tenant: &'u TenantId, project: Option<&'u ProjectId>, job: &'u JobId) -> Self {
        Self { lineage: state.lineage(tenant).collect(), project, job }
    }

    fn by(state: &'u State, spec: &'u Spec) -> Self {
        Self::of(state, &spec.tenant, spec.project.as_ref(), &spec.job)
    }

    /// Whether a budget is one of its tenant's, or of a tenant above that. A project is its tenant's, and so is a job.
    fn is_under(&self, set: &BudgetSet) -> bool {
        let is_whole = set.project.is_none() && set.job.is_none();
        let reach = if is_whole { self.lineage.len() } else { 1 };
        self.lineage[..reach].contains(&&set.tenant)
            && set.project.as_ref().is_none_or(|own| Some(own) == self.project)
            && set.job.as_ref().is_none_or(|own| own == self.job)
    }
}

/// Budgets that a job's use is taken from.
pub fn budgets_of<'s>(state: &'s State, spec: &Spec) -> Vec<(&'s RefId, &'s Budget)> {
    if state.budgets.is_empty() {
        return Vec::new();
    }
    let user = User::by(state, spec);
    state.budgets.iter().filter(|(_, budget)| user.is_under(&budget.set)).collect()
}

/// Whether what a job costs is held for it.
pub fn is_budgeted(state: &State, spec: &Spec) -> bool {
    spec.budget.is_some() || !budgets_of(state, spec).is_empty()
}

/// The sold lease that pays for what a job uses: the one that it names, if it names no reservation.
pub fn lease_of(spec: &Spec) -> Option<&RefId> {
    spec.sold_lease.as_ref().filter(|_| spec.reservation.is_none())
}

/// Whether a sold lease pays for what a job uses at an instant.
pub fn is_covered(state: &State, lease: Option<&RefId>, at: TimeUs) -> bool {
    let lease = lease.and_then(|lease| state.sold_leases.get(lease));
    lease.is_some_and(|lease| lease.from_us <= at && at < lease.to_us)
}

/// What a job is expected to cost its customer, at the highest price among the models it accepts: expected work, or one
/// checkpoint interval when that is unknown. Nothing while the sold lease that it names is not over. None without a price.
pub fn expected_price(state: &State, index: &Index, spec: &Spec) -> Option<Sum> {
    let known = spec.expected_work_us.map(|work| work.0);
    let work =
        known.or(spec.checkpoint_interval_us.map(|interval| interval.0)).unwrap_or(state.policy().default_work().0);
    let models: Vec<_> = match spec.models.is_empty() {
        true => vec![(None, 1_000)],
        false => spec.models.iter().map(|choice| (Some(&choice.model), choice.speed_milli.0.max(1))).collect(),
    };
    let gpus = i128::from(spec.gang.replicas_min.0).saturating_mul(i128::from(spec.gang.gpus.0));
    let price = |(model, speed): (Option<&solyx_schemas::ids::GpuModelId>, i64)| {
        let (currency, rate) =
            index.rates.highest_price(&spec.tenant, Meter::GpuTime, model, Some(&spec.class), state.now())?;
        let each = match model {
            Some(model) => crate::mig::milli_each_on(state, spec, model),
            None => crate::mig::most_milli_each(state, spec),
        };
        let quantity =
            gpus.saturating_mul(i128::from(each)).saturating_mul(i128::from(work) * 1_000) / i128::from(speed);
        let micros = quantity.saturating_mul(i128::from(rate.0)).div_euclid(GPU_MILLI_US_PER_GPU_HOUR) + 1;
        // What an amount cannot say costs more than any budget has.
        let micros = i64::try_from(micros.clamp(0, i128::from(PRICE_MAX))).unwrap_or(PRICE_MAX);
        Some(Sum { currency, micros: MoneyMicros(micros) })
    };
    let highest = models.into_iter().filter_map(price).max_by_key(|sum| sum.micros)?;
    // One that is not known yet is waited for.
    let is_covered =
        lease_of(spec).is_some_and(|lease| state.sold_leases.get(lease).is_none_or(|l| l.to_us > state.now()));
    Some(if is_covered { Sum { micros: MoneyMicros(0), ..highest } } else { highest })
}

/// The limit that keeps a waiting job out because a hard budget has run out.
pub fn parking(state: &State, spec: &Spec) -> Option<Limit> {
    if is_covered(state, lease_of(spec), state.now()) {
        return None;
    }
    budgets_of(state, spec).into_iter().find_map(|(id, budget)| {
        let used = budget.used_micros();
        let binds = budget.is_hard() && is_in_force(&budget.set, state.now());
        let gone = binds && used >= budget.set.amount.micros.0;
        gone.then(|| limit_of(LimitKind::Budget, id.as_str(), used, budget.set.amount.micros.0, "micros"))
    })
}

/// The hard budget that cannot take a hold of so much, if any. Budgets in other currencies than the price are left alone.
pub fn refusal(state: &State, spec: &Spec, price: &Sum) -> Option<(Limit, bool)> {
    if let Some(own) = &spec.budget
        && own.currency == price.currency
        && own.micros < price.micros
    {
        return Some((limit_of(LimitKind::Budget, spec.job.as_str(), price.micros.0, own.micros.0, "micros"), true));
    }
    budgets_of(state, spec).into_iter().find_map(|(id, budget)| {
        let binds = budget.is_hard() && is_in_force(&budget.set, state.now());
        if !binds || budget.set.amount.currency != price.currency {
            return None;
        }
        let amount = budget.set.amount.micros.0;
        let left = i128::from(amount) - i128::from(budget.used_micros()) - budget.held_micros;
        let left = i64::try_from(left.max(0)).unwrap_or(i64::MAX);
        let never = price.micros.0 > amount;
        (price.micros.0 > left)
            .then(|| (limit_of(LimitKind::Budget, id.as_str(), price.micros.0, left, "micros"), never))
    })
}

/// Holds a price against every budget of the job in its currency, for what it uses from now on.
pub fn hold(state: &mut State, spec: &Spec, price: &Sum) {
    shift_held(state, spec, price.currency, i128::from(price.micros.0));
    let from_us = state.now();
    if let Some(job) = state.jobs.edit(&spec.job) {
        job.budget_held = Some(Box::new(Held { price: price.clone(), from_us }));
    }
}

/// Counts anew what is held against budgets that were set since it was last counted, by all jobs that they cover now. A job that
/// was admitted without a price or a budget has what is left of it held from now on. In an epoch it is counted between what policy
/// says and all else.
pub fn hold_anew(state: &mut State, index: &mut Index) {
    let ids = std::mem::take(&mut index.budgets_set);
    if ids.is_empty() {
        return;
    }
    let mut held: BTreeMap<&RefId, (BudgetSet, i128)> = BTreeMap::new();
    for id in &ids {
        held.extend(state.budgets.get(id).map(|budget| (id, (budget.set.clone(), 0))));
    }
    let mut late = Vec::new();
    for (id, job) in state.jobs.iter().filter(|(_, job)| !job.is_over() && job.phase != Phase::Requested) {
        let Some(spec) = state.spec(id) else { continue };
        let (user, mut is_covered) = (User::by(state, &spec), false);
        for (set, held) in held.values_mut().filter(|(set, _)| user.is_under(set)) {
            is_covered = true;
            let own = job.budget_held.as_ref().filter(|own| own.price.currency == set.amount.currency);
            *held += own.map_or(0, |own| i128::from(own.price.micros.0));
        }
        if is_covered && job.budget_held.is_none() {
            late.extend(price_of_rest(state, index, &spec, job).map(|price| (spec, price)));
        }
    }
    for (id, (_, held)) in held {
        if let Some(budget) = state.budgets.edit(id) {
            budget.held_micros = held;
        }
    }
    for (spec, price) in late {
        hold(state, &spec, &price);
    }
}

/// Remembers whose the runs are that were placed while there was no budget: they are metered from now on.
pub fn know_owners(state: &mut State) {
    let unknown = state.runs.iter().filter(|(run, _)| !state.owners.contains(*run));
    let owner = |run: &Run| Owner::of(run, state.spec(&run.job).as_ref().and_then(lease_of));
    let unknown: Vec<(RunId, Owner)> = unknown.map(|(id, run)| (id.clone(), owner(run))).collect();
    for (run, owner) in unknown {
        state.owners.insert(run, owner);
    }
}

/// Holds for a job that waits what it costs as it is asked for now, in place of what was held for it; or says which hard budget
/// cannot take that, and changes nothing. One that is not admitted yet is judged when it is.
pub fn hold_amended(state: &mut State, index: &Index, amended: &Spec) -> Result<(), Limit> {
    let Some(job) = state.jobs.get(&amended.job).filter(|job| job.phase != Phase::Requested) else { return Ok(()) };
    if !is_budgeted(state, amended) {
        return Ok(());
    }
    let Some(price) = price_of_rest(state, index, amended, job) else { return Ok(()) };
    let before = job.budget_held.as_ref().map(|held| (held.price.currency, i128::from(held.price.micros.0)));
    before.inspect(|(currency, micros)| shift_held(state, amended, *currency, -micros));
    if let Some((limit, _)) = refusal(state, amended, &price) {
        before.inspect(|(currency, micros)| shift_held(state, amended, *currency, *micros));
        return Err(limit);
    }
    hold(state, amended, &price);
    Ok(())
}

/// What the work of a job that is not durable yet is expected to cost.
fn price_of_rest(state: &State, index: &Index, spec: &Spec, job: &Job) -> Option<Sum> {
    let left = spec.expected_work_us.map(|work| WorkUs((work.0 - job.kept_work_us.0).max(0)));
    expected_price(state, index, &Spec { expected_work_us: left, ..spec.clone() })
}

fn shift_held(state: &mut State, spec: &Spec, currency: Currency, micros: i128) {
    let own = budgets_of(state, spec).into_iter().filter(|(_, budget)| budget.set.amount.currency == currency);
    let ids: Vec<RefId> = own.map(|(id, _)| id.clone()).collect();
    for budget in ids {
        if let Some(budget) = state.budgets.edit(&budget) {
            budget.held_micros += micros;
        }
    }
}

/// Gives back what is still held for a job that is over.
pub fn settle_job(state: &mut State, id: &JobId) {
    let held = state.jobs.get(id).and_then(|job| job.budget_held.clone());
    if let Some(held) = held {
        if let Some(spec) = state.spec(id) {
            shift_held(state, &spec, held.price.currency, -i128::from(held.price.micros.0));
        }
        if let Some(job) = state.jobs.edit(id) {
            job.budget_held = None;
        }
    }
}

/// The part of an amount that a meter's record says of the time since an instant.
fn part_since(instant: TimeUs, e: &UsageMetered, micros: i64) -> i64 {
    let whole = i128::from(e.to_us.0) - i128::from(e.from_us.0);
    let since = i128::from(e.to_us.0) - i128::from(e.from_us.0.max(instant.0));
    match whole {
        ..=0 => micros,
        // At most the whole, which is an i64.
        _ => (i128::from(micros) * since.clamp(0, whole) / whole) as i64,
    }
}

/// Takes metered use from the budgets that cover it, in the month it belongs to, and from what is held for it.
pub fn use_up(state: &mut State, index: &mut Index, e: &UsageMetered) {
    let Some(owner) = state.owners.get(&e.run).cloned() else { return };
    // What a sold lease covers was paid for with it.
    if e.meter == Meter::GpuTime && is_covered(state, owner.lease.as_ref(), e.from_us) {
        return;
    }
    let Ok(units) = units_per_price(e.meter) else { return };
    let Some((currency, rate)) =
        index.rates.highest_price(&owner.tenant, e.meter, Some(&owner.model), Some(&owner.class), e.from_us)
    else {
        return;
    };
    // Exact over one common divisor: whole micros and a rest that is carried rounded up to a part of 3.6e12.
    let numerator = i128::from(e.quantity.0) * i128::from(rate.0);
    // What no budget could ever hold is as much as can be counted: a record of a meter stops no cell.
    let exact = (numerator / units)
        .saturating_mul(GPU_MILLI_US_PER_GPU_HOUR)
        .saturating_add(((numerator % units) * GPU_MILLI_US_PER_GPU_HOUR + units - 1).div_euclid(units));
    let micros =
        i64::try_from(exact.saturating_add(GPU_MILLI_US_PER_GPU_HOUR - 1).div_euclid(GPU_MILLI_US_PER_GPU_HOUR))
            .unwrap_or(i64::MAX);
    let user = User::of(state, &owner.tenant, owner.project.as_ref(), &owner.job);
    let ids: Vec<RefId> = state
        .budgets
        .iter()
        .filter(|(_, budget)| budget.set.amount.currency == currency && user.is_under(&budget.set))
        .map(|(id, _)| id.clone())
        .collect();
    let held = state.jobs.get(&owner.job).and_then(|job| job.budget_held.as_ref());
    // It was held for GPU time only, and for what is used since.
    let released = held.filter(|held| held.price.currency == currency && e.meter == Meter::GpuTime);
    let released = released.map_or(0, |held| held.price.micros.0.min(part_since(held.from_us, e, micros)));
    if released > 0
        && let Some(job) = state.jobs.edit(&owner.job)
        && let Some(held) = job.budget_held.as_mut()
    {
        held.price.micros.0 -= released;
    }
    for id in ids {
        renew(state, index, &id);
        if let Some(budget) = state.budgets.edit(&id) {
            budget.held_micros -= i128::from(released);
            let until = period_at(&budget.set, budget.period_from_us).1;
            if budget.period_from_us <= e.from_us && e.from_us < until {
                budget.used = budget.used.saturating_add(exact);
            }
        }
        index.budgets_touched.insert(id);
    }
}
