//! Budgets that come and change while jobs run: what is held is what their jobs have held, whatever comes first.

use proptest::prelude::*;
use solyx_histories::*;
use solyx_schemas::events::Event;
use solyx_schemas::events::common::Sum;
use solyx_schemas::events::decisions::LimitKind;
use solyx_schemas::events::jobs::JobRequested;
use solyx_schemas::events::policy::{BudgetKind, BudgetSet, PriceTier, RateCardSet, RateLine, TierMode};
use solyx_schemas::events::usage::{Meter, UsageMetered};
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

const USD_PER_GPU_HOUR: i64 = 3_000_000;

fn card(tenant: Option<&str>, currency: &str) -> Event {
    let line = RateLine {
        meter: Meter::GpuTime,
        tiers: vec![PriceTier { up_to: None, price_micros: RateMicros(USD_PER_GPU_HOUR) }],
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

/// A hard budget of so many GPU hours, in the prices of the card.
fn budget(id: &str, tenant: &str, gpu_hours: i64) -> BudgetSet {
    BudgetSet {
        budget: RefId::from(id),
        tenant: TenantId::from(tenant),
        amount: Sum { currency: usd(), micros: MoneyMicros(gpu_hours * USD_PER_GPU_HOUR + 100) },
        kind: BudgetKind::Hard,
        ..BudgetSet::default()
    }
}

fn used(world: &World, job: &str, gpu_hours: i64) -> Option<Event> {
    let run = world.kernel.state().jobs.get(&JobId::from(job))?.run.clone()?;
    let usage = UsageMetered {
        job: JobId::from(job),
        run,
        meter: Meter::GpuTime,
        quantity: UsageQuantity(gpu_hours * 3_600_000_000_000),
        from_us: TimeUs(world.now),
        to_us: TimeUs(world.now + HOUR_US),
        ..UsageMetered::default()
    };
    Some(usage.into())
}

fn rejected(outputs: &[Event], job: &str) -> bool {
    let is = |output: &Event| matches!(output, Event::JobRejected(e) if e.job.as_str() == job && e.limit.kind == LimitKind::Budget);
    outputs.iter().any(is)
}

#[test]
fn what_was_admitted_before_its_budget_is_held_against_it() {
    let mut world = World::with_nodes(1);
    world.step(vec![card(None, "USD"), job("first", "red", 1, 2, 5).into()]);
    world.step(vec![budget("late", "red", 14).into()]);
    let outputs = world.step(vec![job("more", "red", 1, 1, 5).into(), job("fits", "red", 1, 1, 4).into()]);
    assert!(rejected(&outputs, "more") && !rejected(&outputs, "fits"));
}

#[test]
fn what_was_placed_before_its_budget_uses_it_up() {
    let mut world = World::with_nodes(1);
    world.step(vec![card(None, "USD"), job("first", "red", 1, 2, 5).into()]);
    world.step(vec![budget("late", "red", 9).into()]);
    let usage = used(&world, "first", 10).unwrap();
    let outputs = world.step(vec![usage]);
    assert!(outputs.iter().any(|output| matches!(output, Event::BudgetExhausted(_))));
}

#[test]
fn the_end_of_a_job_takes_nothing_from_a_budget_that_does_not_hold_it() {
    let mut world = World::with_nodes(2);
    world.step(vec![card(None, "USD"), card(Some("blue"), "EUR"), budget("blue", "blue", 100).into()]);
    // Its price is in another currency than the budget.
    world.step(vec![job("euros", "blue", 1, 8, 5).into()]);
    assert_eq!(world.kernel.state().budgets.get(&RefId::from("blue")).unwrap().held_micros, 0);
    world.step(vec![job("dollars", "red", 1, 8, 5).into()]);
    world.step(vec![budget("red", "red", 100).into()]);
    let held = world.kernel.state().budgets.get(&RefId::from("red")).unwrap().held_micros;
    assert!((40 * USD_PER_GPU_HOUR..41 * USD_PER_GPU_HOUR).contains(&held), "{held}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_held_is_what_covered_jobs_have_held(
        steps in prop::collection::vec((0..6_u8, 0..3_usize, 0..5_i64, any::<bool>()), 1..60),
    ) {
        let mut world = World::with_nodes(2);
        let tenants = ["red", "blue", "green"];
        for (number, (what, which, amount, own)) in steps.into_iter().enumerate() {
            let tenant = tenants[which];
            let some_job = format!("job-{}", amount * 3);
            let event = match what {
                0 => Some(card(own.then_some(tenant), if amount == 0 { "EUR" } else { "USD" })),
                1 => {
                    let project = own.then(|| ProjectId::from("lab"));
                    Some(BudgetSet { project, ..budget(&format!("budget-{}", amount % 3), tenant, 4 * amount) }.into())
                }
                2 => used(&world, &some_job, amount),
                3 => world.kernel.state().jobs.get(&JobId::from(some_job.as_str())).and_then(|job| job.run.clone())
                    .map(|_| world.finish(&some_job)),
                _ => {
                    let project = own.then(|| ProjectId::from("lab"));
                    Some(JobRequested { project, ..job(&format!("job-{number}"), tenant, 1, 1 + amount, 2) }.into())
                }
            };
            let outputs = world.step(event.into_iter().collect());
            solyx_histories::budgets::check(world.kernel.state(), &outputs);
        }
    }
}
