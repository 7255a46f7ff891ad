//! Budgets that come and change while jobs run: what is held is what their jobs have held, whatever comes first.

use proptest::prelude::*;
use solyx_histories::*;
use solyx_schemas::events::Event;
use solyx_schemas::events::common::Sum;
use solyx_schemas::events::decisions::{LimitKind, StopCause};
use solyx_schemas::events::jobs::{JobRequestAmended, JobRequested};
use solyx_schemas::events::policy::{
    BudgetKind, BudgetSet, LeaseSold, PaymentOption, SchedulingPolicySet, TenantDeclared,
};
use solyx_schemas::events::usage::{Meter, UsageMetered};
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

const USD_PER_GPU_HOUR: i64 = 3_000_000;

fn card(tenant: Option<&str>, currency: &str) -> Event {
    solyx_histories::budgets::card(tenant, currency, USD_PER_GPU_HOUR)
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
    assert!((40 * i128::from(USD_PER_GPU_HOUR)..41 * i128::from(USD_PER_GPU_HOUR)).contains(&held), "{held}");
}

#[test]
fn a_budget_binds_only_in_its_period_and_in_a_new_one_begins_anew() {
    let day = 24 * HOUR_US;
    let mut world = World::with_nodes(1);
    let own = |from, to| BudgetSet {
        period_from_us: Some(TimeUs(from)),
        period_to_us: Some(TimeUs(to)),
        ..budget("own", "red", 1)
    };
    world.step(vec![card(None, "USD"), own(world.now + day, world.now + 2 * day).into()]);
    assert!(!rejected(&world.step(vec![job("before", "red", 1, 1, 2).into()]), "before"));
    world.now += day;
    assert!(rejected(&world.step(vec![job("within", "red", 1, 1, 2).into()]), "within"));
    let usage = used(&world, "before", 2).unwrap();
    assert!(world.step(vec![usage]).iter().any(|output| matches!(output, Event::BudgetExhausted(_))));
    let outputs = world.step(vec![job("parked", "blue", 1, 1, 1).into()]);
    assert!(placed(&outputs, "parked").is_some(), "another tenant's");
    world.now += day;
    assert!(!rejected(&world.step(vec![job("after", "red", 1, 1, 2).into()]), "after"));
}

#[test]
fn a_budget_of_nothing_keeps_who_waits_out_from_the_moment_in_which_it_begins() {
    let mut world = World::with_nodes(1);
    let own = BudgetSet {
        period_from_us: Some(TimeUs(world.now + HOUR_US)),
        period_to_us: Some(TimeUs(world.now + 9 * HOUR_US)),
        amount: Sum { currency: usd(), micros: MoneyMicros(0) },
        ..budget("own", "red", 1)
    };
    let late = JobRequested { not_before_us: Some(TimeUs(world.now + 2 * HOUR_US)), ..job("late", "red", 1, 1, 1) };
    world.step(vec![card(None, "USD"), own.into(), job("a", "blue", 1, 8, 20).into(), late.into()]);
    for _ in 0..4 {
        world.advance(HOUR_US);
        assert_eq!(world.kernel.index_differences(), Vec::<String>::new());
    }
    assert!(!world.running.contains_key(&JobId::from("late")));
}

#[test]
fn use_in_the_epoch_that_begins_a_month_counts_in_it() {
    let mut world = World::with_nodes(1);
    world.step(vec![card(None, "USD"), budget("b", "red", 100).into(), job("a", "red", 1, 1, 99).into()]);
    let month = 31 * 24 * HOUR_US;
    world.now = (world.now / month + 2) * month;
    let usage = used(&world, "a", 3).unwrap();
    world.step(vec![usage]);
    let now = world.kernel.state().budgets.get(&RefId::from("b")).unwrap().clone();
    assert_eq!(now.used_micros(), 3 * USD_PER_GPU_HOUR);
}

#[test]
fn a_budget_in_another_currency_or_of_another_tenant_has_used_nothing_yet() {
    for (tenant, currency) in [("red", "EUR"), ("blue", "USD")] {
        let mut world = World::with_nodes(1);
        world.step(vec![card(None, "USD"), budget("b", "red", 100).into(), job("a", "red", 1, 1, 20).into()]);
        let usage = used(&world, "a", 3).unwrap();
        world.step(vec![usage]);
        let amount = Sum { currency: Currency::parse(currency).unwrap(), micros: MoneyMicros(1) };
        let outputs = world.step(vec![BudgetSet { amount, ..budget("b", tenant, 1) }.into()]);
        assert!(!outputs.iter().any(|output| matches!(output, Event::BudgetExhausted(_))), "{tenant} {currency}");
    }
}

/// Eight GPUs for two hours.
fn sold(world: &World) -> Event {
    LeaseSold {
        lease: RefId::from("sold"),
        tenant: TenantId::from("red"),
        gpus: Count(8),
        gpu_model: GpuModelId::from("H100"),
        from_us: TimeUs(world.now),
        to_us: TimeUs(world.now + 2 * HOUR_US),
        price: money(1),
        payment: PaymentOption::None,
        ..LeaseSold::default()
    }
    .into()
}

/// A job of 160 GPU hours, far beyond the budgets here.
fn naming() -> Event {
    JobRequested { sold_lease: Some(RefId::from("sold")), ..job("a", "red", 1, 8, 20) }.into()
}

#[test]
fn what_a_sold_lease_covers_is_neither_held_nor_used() {
    let mut world = World::with_nodes(1);
    world.step(vec![card(None, "USD"), budget("b", "red", 10).into()]);
    let budget = |world: &World| world.kernel.state().budgets.get(&RefId::from("b")).unwrap().clone();
    // Asked for before it is known that the lease was sold.
    world.step(vec![naming()]);
    assert_eq!(budget(&world).held_micros, 0);
    let sold = sold(&world);
    let outputs = world.step(vec![sold]);
    assert!(placed(&outputs, "a").is_some(), "{outputs:?}");
    for covered in [true, true, false] {
        let usage = used(&world, "a", 4).unwrap();
        world.step(vec![usage]);
        let gpu_hours = if covered { 0 } else { 4 };
        assert_eq!((budget(&world).held_micros, budget(&world).used_micros()), (0, gpu_hours * USD_PER_GPU_HOUR));
        world.now += HOUR_US;
    }
}

#[test]
fn a_budget_that_is_used_up_stops_what_a_sold_lease_pays_for_only_when_that_is_over() {
    let mut world = World::with_nodes(2);
    let sold = sold(&world);
    let run_lease_us = Some(DurationUs(1_000 * HOUR_US));
    let policy = SchedulingPolicySet { run_lease_us, ..ordered_by("share-surcharge") };
    world.step(vec![policy.into(), card(None, "USD"), budget("b", "red", 10).into(), sold, naming()]);
    world.step(vec![job("other", "red", 1, 1, 9).into()]);
    let stopped = |world: &World| {
        let runs = world.kernel.state().runs.iter();
        let stopped = runs.filter(|(_, run)| run.stop_at_checkpoint == Some(StopCause::Budget));
        stopped.map(|(_, run)| run.job.to_string()).collect::<Vec<String>>()
    };
    let usage = used(&world, "other", 11).unwrap();
    world.step(vec![usage]);
    assert_eq!(stopped(&world), ["other"]);
    world.now += 2 * HOUR_US;
    let usage = used(&world, "a", 1).unwrap();
    world.step(vec![usage]);
    assert_eq!(stopped(&world), ["a", "other"]);
}

#[test]
fn who_was_kept_off_for_a_promise_is_asked_when_a_budget_takes_it_back() {
    let mut world = World::with_nodes(1);
    let settings = vec![ordered_by("fifo").into(), card(None, "USD"), budget("b", "blue", 20).into()];
    world.step(settings);
    world.step(vec![job("old", "blue", 1, 1, 1).into()]);
    let late = used(&world, "old", 21).unwrap();
    let ended = world.finish("old");
    world.step(vec![ended, job("runs", "red", 1, 4, 10).into()]);
    world.step(vec![job("promised", "blue", 1, 8, 1).into()]);
    let outputs = world.step(vec![job("kept-off", "red", 1, 4, 20).into()]);
    assert_eq!(held(&outputs, "kept-off").map(|held| held.limit.kind), Some(LimitKind::Backfill), "{outputs:?}");
    let outputs = world.step(vec![late]);
    assert_eq!(held(&outputs, "promised").map(|held| held.limit.kind), Some(LimitKind::Budget), "{outputs:?}");
    assert!(placed(&outputs, "kept-off").is_some(), "{outputs:?}");
}

#[test]
fn an_amendment_that_a_budget_cannot_take_is_refused_and_one_that_it_can_is_held() {
    let mut world = World::with_nodes(1);
    let hold = JobRequested { hold: true, ..job("a", "red", 1, 1, 2) };
    world.step(vec![card(None, "USD"), budget("b", "red", 10).into(), hold.into()]);
    let held = |world: &World| world.kernel.state().budgets.get(&RefId::from("b")).unwrap().held_micros;
    for (replicas, hours) in [(4, 8), (100, 8), (2, 4)] {
        let amended = JobRequestAmended {
            job: JobId::from("a"),
            replicas_min: Some(Count(replicas)),
            replicas_max: Some(Count(replicas)),
            ..JobRequestAmended::default()
        };
        world.step(vec![amended.into()]);
        assert_eq!(held(&world) / i128::from(USD_PER_GPU_HOUR), hours, "{replicas}");
    }
}

#[test]
fn an_amendment_in_the_epoch_of_a_budget_is_asked_what_that_has_to_hold() {
    let mut world = World::with_nodes(1);
    let hold = |id: &str| JobRequested { hold: true, ..job(id, "red", 1, 1, 4) };
    world.step(vec![card(None, "USD"), budget("wide", "red", 100).into(), hold("a").into(), hold("b").into()]);
    let amended = JobRequestAmended {
        job: JobId::from("a"),
        replicas_min: Some(Count(2)),
        replicas_max: Some(Count(2)),
        ..JobRequestAmended::default()
    };
    // Four hours of each are to be held already: eight for one of them are too many.
    world.step(vec![budget("late", "red", 9).into(), amended.into()]);
    let late = world.kernel.state().budgets.get(&RefId::from("late")).unwrap();
    assert_eq!(late.held_micros / i128::from(USD_PER_GPU_HOUR), 8);
    assert_eq!(world.kernel.state().spec(&JobId::from("a")).unwrap().gang.replicas_min, Count(1));
}

#[test]
fn an_amendment_in_the_epoch_that_begins_a_month_is_asked_what_that_month_has() {
    let mut world = World::with_nodes(1);
    let hold = JobRequested { hold: true, ..job("a", "red", 1, 1, 2) };
    world.step(vec![card(None, "USD"), budget("b", "red", 10).into(), job("used", "red", 1, 1, 7).into(), hold.into()]);
    let usage = used(&world, "used", 7).unwrap();
    world.step(vec![usage]);
    let amended = |replicas| JobRequestAmended {
        job: JobId::from("a"),
        replicas_min: Some(Count(replicas)),
        replicas_max: Some(Count(replicas)),
        ..JobRequestAmended::default()
    };
    let least = |world: &World| world.kernel.state().spec(&JobId::from("a")).unwrap().gang.replicas_min.0;
    world.step(vec![amended(2).into()]);
    assert_eq!(least(&world), 1, "3 GPU hours are left");
    let month = 31 * 24 * HOUR_US;
    world.now = (world.now / month + 2) * month;
    world.step(vec![amended(2).into()]);
    assert_eq!(least(&world), 2);
}

#[test]
fn an_amendment_of_a_job_without_a_price_held_is_judged_as_its_request_would_be() {
    let mut world = World::with_nodes(1);
    let hold = JobRequested { hold: true, ..job("a", "red", 1, 1, 2) };
    world.step(vec![card(None, "USD"), hold.into()]);
    let own = |micros| JobRequestAmended {
        job: JobId::from("a"),
        budget: Some(Sum { currency: usd(), micros: MoneyMicros(micros) }),
        ..JobRequestAmended::default()
    };
    world.step(vec![own(1).into()]);
    assert_eq!(world.kernel.state().spec(&JobId::from("a")).unwrap().budget, None);
    world.step(vec![own(9 * USD_PER_GPU_HOUR).into()]);
    assert!(world.kernel.state().jobs.get(&JobId::from("a")).unwrap().budget_held.is_some());
}

#[test]
fn who_makes_an_epoch_again_without_what_was_rejected_holds_the_same() {
    let held = [true, false].map(|is_asked| {
        let mut world = World::with_nodes(1);
        let saves = |id: &str, hold| JobRequested {
            hold,
            checkpoint_interval_us: Some(DurationUs(HOUR_US)),
            ..job(id, "red", 1, 1, 8)
        };
        world.step(vec![card(None, "USD"), saves("runs", false).into(), saves("waits", true).into()]);
        let amended = JobRequestAmended {
            job: JobId::from("waits"),
            replicas_min: Some(Count(2)),
            replicas_max: Some(Count(2)),
            ..JobRequestAmended::default()
        };
        // The budget takes what is held, and no more: the amendment is rejected before the checkpoint is heard of.
        let amended = is_asked.then(|| Event::from(amended));
        let saved = checkpointed(&world, "runs", 4 * HOUR_US);
        let late = Event::from(budget("late", "red", 17));
        world.step([late].into_iter().chain(amended).chain([saved]).collect());
        assert_eq!(world.kernel.state().spec(&JobId::from("waits")).unwrap().gang.replicas_min, Count(1));
        world.kernel.state().budgets.get(&RefId::from("late")).unwrap().held_micros
    });
    assert_eq!(held[0], held[1]);
}

#[test]
fn a_late_meter_of_hours_before_a_budget_takes_nothing_from_what_is_held_for_the_rest() {
    let mut world = World::with_nodes(1);
    world.step(vec![card(None, "USD"), job("a", "red", 1, 2, 10).into()]);
    let before = used(&world, "a", 2).unwrap();
    world.advance(HOUR_US);
    world.step(vec![budget("late", "red", 100).into()]);
    let held = |world: &World| world.kernel.state().budgets.get(&RefId::from("late")).unwrap().held_micros;
    let first = held(&world);
    assert!(first > 0);
    world.step(vec![before]);
    assert_eq!(held(&world), first);
    let since = used(&world, "a", 2).unwrap();
    world.step(vec![since]);
    assert_eq!((first - held(&world)) / i128::from(USD_PER_GPU_HOUR), 2);
}

#[test]
fn what_was_to_stop_for_a_budget_goes_on_when_that_is_raised() {
    let mut world = World::with_nodes(1);
    let saves = JobRequested { checkpoint_interval_us: Some(DurationUs(HOUR_US)), ..job("a", "red", 1, 1, 20) };
    world.step(vec![card(None, "USD"), budget("b", "red", 20).into(), saves.into()]);
    let usage = used(&world, "a", 21).unwrap();
    world.step(vec![usage]);
    let mark = |world: &World| world.kernel.state().runs.iter().next().unwrap().1.stop_at_checkpoint;
    assert_eq!(mark(&world), Some(StopCause::Budget));
    world.step(vec![budget("b", "red", 90).into()]);
    assert_eq!(mark(&world), None);
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

/// Declares a tenant below another one.
fn below(tenant: &str, parent: &str) -> Event {
    let (tenant, parent) = (TenantId::from(tenant), Some(TenantId::from(parent)));
    TenantDeclared { tenant, parent, ..tenant_of_weight_one() }.into()
}

fn held_of(world: &World, budget: &str) -> i128 {
    world.kernel.state().budgets.get(&RefId::from(budget)).unwrap().held_micros
}

#[test]
fn a_budget_of_a_tenant_is_also_of_those_below_it() {
    let mut world = World::with_nodes(2);
    world.step(vec![card(None, "USD"), below("child", "red"), budget("family", "red", 14).into()]);
    let outputs = world.step(vec![job("first", "child", 1, 2, 5).into(), job("own", "red", 1, 1, 4).into()]);
    assert!(placed(&outputs, "first").is_some() && placed(&outputs, "own").is_some(), "{outputs:?}");
    assert!(rejected(&world.step(vec![job("more", "child", 1, 1, 1).into()]), "more"));
    let uses: Vec<Event> = [used(&world, "first", 10), used(&world, "own", 5)].into_iter().flatten().collect();
    let outputs = world.step(uses);
    let exhausted = |output: &Event| matches!(output, Event::BudgetExhausted(e) if e.budget.as_str() == "family");
    assert!(outputs.iter().any(exhausted), "{outputs:?}");
    let told = |job: &str| outputs.iter().any(|o| matches!(o, Event::JobPreempted(e) if e.job.as_str() == job));
    let leaves = |job: &str| {
        let run = &world.running[&JobId::from(job)].run;
        told(job) || world.kernel.state().runs.get(run).is_some_and(|run| run.stop_at_checkpoint.is_some())
    };
    assert!(leaves("first") && leaves("own"), "{outputs:?}");
}

#[test]
fn a_budget_of_a_project_or_a_job_is_of_nobody_below_its_tenant() {
    let mut world = World::with_nodes(1);
    let project = Some(ProjectId::from("vision"));
    let of_project = BudgetSet { project: project.clone(), ..budget("project", "red", 1) };
    let of_job = BudgetSet { job: Some(JobId::from("a")), ..budget("job", "red", 1) };
    world.step(vec![card(None, "USD"), below("child", "red"), of_project.into(), of_job.into()]);
    let outputs = world.step(vec![JobRequested { project, ..job("a", "child", 1, 2, 5) }.into()]);
    assert!(placed(&outputs, "a").is_some(), "{outputs:?}");
    assert_eq!((held_of(&world, "project"), held_of(&world, "job")), (0, 0));
}

#[test]
fn what_a_tenant_has_held_goes_with_it_to_another_parent() {
    let mut world = World::with_nodes(1);
    world.step(vec![
        card(None, "USD"),
        below("child", "red"),
        budget("red", "red", 14).into(),
        budget("blue", "blue", 14).into(),
    ]);
    world.step(vec![job("a", "child", 1, 2, 5).into()]);
    let held = held_of(&world, "red");
    assert!(held >= i128::from(10 * USD_PER_GPU_HOUR) && held_of(&world, "blue") == 0);
    world.step(vec![below("child", "blue")]);
    assert_eq!((held_of(&world, "red"), held_of(&world, "blue")), (0, held));
    world.step(vec![world.finish("a")]);
    assert_eq!((held_of(&world, "red"), held_of(&world, "blue")), (0, 0));
}

#[test]
fn who_comes_under_a_budget_that_is_used_up_stops_and_who_leaves_it_goes_on() {
    let mut world = World::with_nodes(1);
    world.step(vec![card(None, "USD"), below("child", "blue"), budget("red", "red", 5).into()]);
    world.step(vec![job("own", "red", 1, 1, 5).into(), job("a", "child", 1, 2, 9).into()]);
    world.step(used(&world, "own", 6).into_iter().collect());
    let leaves = |world: &World| {
        let run = world.kernel.state().runs.get(&world.running[&JobId::from("a")].run).unwrap();
        run.stop.is_some() || run.stop_at_checkpoint == Some(StopCause::Budget)
    };
    assert!(!leaves(&world));
    world.step(vec![below("child", "red")]);
    assert!(leaves(&world), "its budget now is used up");
    world.step(vec![below("child", "blue")]);
    assert!(!leaves(&world), "it is under none");
}
