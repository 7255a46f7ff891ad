//! A second opinion on budgets: what is held against each is what living jobs that it covers have held, and nothing is admitted
//! that a hard one has not left.

use solyx_kernel::rows::{Budget, Spec};
use solyx_kernel::state::State;
use solyx_schemas::events::Event;
use solyx_schemas::events::common::Sum;
use solyx_schemas::events::policy::{PriceTier, RateCardSet, RateLine, TierMode};
use solyx_schemas::events::usage::Meter;
use solyx_schemas::ids::{RefId, TenantId};
use solyx_schemas::units::{Currency, RateMicros, TimeUs};

/// A budget of a tenant is also of those below it; one of a project or a job is of its own tenant.
fn covers(state: &State, budget: &Budget, spec: &Spec, price: &Sum) -> bool {
    let set = &budget.set;
    let (project, job) = (set.project.as_ref(), set.job.as_ref());
    let mut above = vec![spec.tenant.clone()];
    while project.is_none()
        && job.is_none()
        && let Some(parent) = above.last().and_then(|tenant| state.tenants.get(tenant)?.parent.clone())
    {
        above.push(parent);
    }
    above.contains(&set.tenant)
        && (project.is_none() || project == spec.project.as_ref())
        && job.is_none_or(|job| *job == spec.job)
        && set.amount.currency == price.currency
}

/// Checks the state after an epoch with these decisions.
pub fn check(state: &State, outputs: &[Event]) {
    let held: Vec<(Spec, Sum)> = state
        .jobs
        .iter()
        .filter(|(_, job)| !job.is_over())
        .filter_map(|(id, job)| Some((state.spec(id)?, job.budget_held.as_ref()?.price.clone())))
        .collect();
    for (id, budget) in state.budgets.iter() {
        let own = held.iter().filter(|(spec, price)| covers(state, budget, spec, price));
        let sum: i128 = own.map(|(_, price)| i128::from(price.micros.0)).sum();
        assert_eq!(budget.held_micros, sum, "budget {id}: what is held, and what its jobs have held");
        let set = &budget.set;
        let (from, to) = (set.period_from_us.unwrap_or(TimeUs(0)), set.period_to_us.unwrap_or(TimeUs(i64::MAX)));
        let binds = budget.is_hard() && from <= state.now() && state.now() < to;
        let Some(admitted) = outputs.iter().find_map(|output| {
            let Event::JobAdmitted(admitted) = output else { return None };
            let (spec, price) = (state.spec(&admitted.job)?, admitted.budget_held.as_ref()?);
            // What costs nothing, since a sold lease pays for it, is admitted whatever is held.
            (binds && price.micros.0 > 0 && covers(state, budget, &spec, price)).then_some(&admitted.job)
        }) else {
            continue;
        };
        let (used, amount) = (i128::from(budget.used_micros()), i128::from(budget.set.amount.micros.0));
        assert!(used + sum <= amount, "budget {id}: {admitted} is admitted; {used} used and {sum} held of {amount}");
    }
}

/// A card of one price for GPU time, for one tenant or all of them.
pub fn card(tenant: Option<&str>, currency: &str, micros_per_gpu_hour: i64) -> Event {
    let line = RateLine {
        meter: Meter::GpuTime,
        tiers: vec![PriceTier { up_to: None, price_micros: RateMicros(micros_per_gpu_hour) }],
        mode: TierMode::Graduated,
        ..RateLine::default()
    };
    RateCardSet {
        rate_card: RefId::from(tenant.unwrap_or("all")),
        tenant: tenant.map(TenantId::from),
        from_us: TimeUs(0),
        currency: Currency::parse(currency).unwrap(),
        lines: vec![line],
        ..RateCardSet::default()
    }
    .into()
}
