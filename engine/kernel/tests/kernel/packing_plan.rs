//! Plans of packing prices: when they are made, what they follow from, and that decisions lean on them.

use solyx_histories::*;
use solyx_kernel::frequencies::{COUNTED_MAX, KINDS_MAX};
use solyx_schemas::events::Event;
use solyx_schemas::events::decisions::SkipReason;
use solyx_schemas::events::jobs::{JobRequested, ModelChoice};
use solyx_schemas::events::plans::PlanPublished;
use solyx_schemas::events::policy::{KindPrior, SchedulingPolicySet};
use solyx_schemas::ids::{GpuModelId, RefId};
use solyx_schemas::units::*;

fn policy(interval: Option<i64>) -> SchedulingPolicySet {
    SchedulingPolicySet { plan_interval: interval.map(Count), ..ordered_by("classic") }
}

fn world(interval: i64) -> World {
    let mut world = World::with_nodes(2);
    world.step(vec![policy(Some(interval)).into()]);
    world
}

/// A share of one GPU, with so many cores.
fn share(name: &str, milli: i64, cores: i64) -> JobRequested {
    let mut request = job(name, "red", 1, 1, 1);
    request.gang.gpu_milli_each = GpuMilli(milli);
    request.gang.cpu_milli = CpuMilli(1_000 * cores);
    request
}

fn ask(world: &mut World, from: i64, to: i64) -> Vec<Event> {
    let milli = |n: i64| [650, 320, 590, 370][(n % 4) as usize];
    world.step((from..to).map(|n| share(&format!("job-{n}"), milli(n), 4 + n % 3).into()).collect())
}

fn publish(world: &mut World) -> PlanPublished {
    let plan = world.kernel.packing_plan().unwrap();
    let outputs = world.step(vec![plan.clone().into()]);
    assert!(!outputs.iter().any(|output| matches!(output, Event::RecordQuarantined(_))), "{outputs:?}");
    plan
}

#[test]
fn a_plan_is_due_at_powers_of_two_and_then_at_multiples_of_the_interval() {
    let mut world = world(12);
    let mut due = Vec::new();
    for n in 0..40 {
        assert!(!world.kernel.plan_is_due());
        let before = world.kernel.requests_before_plan().unwrap();
        ask(&mut world, n, n + 1);
        assert_eq!(before == 1, world.kernel.plan_is_due(), "after {} requests", n + 1);
        if world.kernel.plan_is_due() {
            due.push(n + 1);
            publish(&mut world);
        }
    }
    assert_eq!(due, [1, 2, 4, 8, 12, 24, 36]);
}

#[test]
fn one_plan_answers_for_all_the_multiples_that_were_passed() {
    let mut world = world(3);
    ask(&mut world, 0, 20);
    assert!(world.kernel.plan_is_due());
    assert_eq!(publish(&mut world).requests, Some(Count(20)));
    assert!(!world.kernel.plan_is_due());
    assert_eq!(world.kernel.requests_before_plan(), Some(1));
}

#[test]
fn no_plans_are_made_without_a_policy_under_another_rule_or_when_policy_says_0() {
    let mut bare = World::with_nodes(1);
    let other = SchedulingPolicySet { packing_rule: "fgd".into(), ..policy(Some(1)) };
    for set in [None, Some(policy(Some(0))), Some(other)] {
        bare.step(set.into_iter().map(Event::from).collect());
        let n = bare.kernel.next_epoch();
        ask(&mut bare, 10 * n, 10 * n + 5);
        assert!(!bare.kernel.plan_is_due());
        assert_eq!(bare.kernel.requests_before_plan(), None);
        assert!(bare.kernel.state().kinds.is_empty(), "nothing is counted");
    }
    bare.step(vec![policy(None).into()]);
    assert_eq!(bare.kernel.requests_before_plan(), Some(1), "by default they are made");
}

#[test]
fn a_job_names_the_plan_that_it_leaned_on_from_the_epoch_that_reads_it() {
    let mut world = world(4);
    let placed_before = placed(&ask(&mut world, 0, 1), "job-0").unwrap().plan.clone();
    assert_eq!(placed_before, None);
    let plan = world.kernel.packing_plan().unwrap();
    let together = world.step(vec![share("job-1", 320, 4).into(), plan.into()]);
    let in_force = world.kernel.plan_in_force().unwrap().event_id.clone();
    assert_eq!(placed(&together, "job-1").unwrap().plan, Some(RefId::from(in_force.as_str())));
    world.step(vec![SchedulingPolicySet { packing_rule: "best-fit".into(), ..policy(None) }.into()]);
    let after = world.step(vec![share("job-2", 320, 4).into()]);
    assert_eq!(placed(&after, "job-2").unwrap().plan, None, "another rule leans on no plan");
}

#[test]
fn prices_pair_what_fills_a_gpu_where_best_fit_does_not() {
    // 650 and 320 fill a GPU, 590 and 370 too. A share of 320 belongs beside a 650, and not beside a 590 as best fit has it
    // when both holes are there: the hole of 410 beside 590 is for 370.
    let mut world = World::with_nodes(1);
    let kind = |milli: i64| KindPrior {
        cpu_milli: CpuMilli(4_000),
        gpus: Count(1),
        gpu_milli_each: GpuMilli(milli),
        frequency: Count(100),
        ..KindPrior::default()
    };
    let kinds = [650, 320, 590, 370].map(kind).to_vec();
    world.step(vec![SchedulingPolicySet { prior_kinds: kinds, ..policy(Some(100)) }.into()]);
    world.step(vec![share("first", 650, 4).into()]);
    let plan = publish(&mut world);
    assert_eq!(plan.kinds.len(), 4);
    let price = |milli: i64| plan.kinds.iter().find(|k| k.gpu_milli_each.0 == milli).unwrap().price;
    let pair = price(650) + price(320);
    assert!((960_000..=1_010_000).contains(&pair), "a pair is worth the GPU that it fills: {plan:?}");
}

#[test]
fn kinds_are_counted_by_replica_and_a_prior_weighs_as_many_requests_as_policy_says() {
    let mut world = World::with_nodes(2);
    let prior = KindPrior {
        cpu_milli: CpuMilli(8_000),
        gpus: Count(8),
        gpu_milli_each: GpuMilli(1_000),
        frequency: Count(7),
        ..KindPrior::default()
    };
    let set = SchedulingPolicySet { prior_kinds: vec![prior], prior_weight: Some(Count(20)), ..policy(Some(2)) };
    world.step(vec![set.into()]);
    world.step(vec![job("a", "red", 3, 8, 1).into(), job("b", "red", 1, 2, 1).into(), job("c", "red", 1, 0, 1).into()]);
    let plan = world.kernel.packing_plan().unwrap();
    let counts: Vec<(i64, i64)> = plan.kinds.iter().map(|kind| (kind.gpus.0, kind.frequency.0)).collect();
    assert_eq!(counts, [(0, 1), (2, 1), (8, 23)]);
    assert_eq!(plan.requests, Some(Count(3)));
}

#[test]
fn counts_are_bounded_and_what_is_rare_is_forgotten_first() {
    let mut world = World::empty();
    world.quiet = true;
    world.step(vec![policy(Some(1_000_000)).into()]);
    let of = |n: i64, cpu: i64| {
        let mut request = job(&format!("job-{n}"), "red", 1, 1, 1);
        request.gang.cpu_milli = CpuMilli(cpu);
        Event::from(request)
    };
    world.step((0..10).map(|n| of(n, 500)).collect());
    world.step((10..10 + KINDS_MAX as i64).map(|n| of(n, 1_000 + n)).collect());
    let state = world.kernel.state();
    assert_eq!(state.kinds.len(), 1, "all that were seen once are gone");
    assert_eq!(state.kinds.iter().next().unwrap().1.count, 5);
    let all = state.requests.get(&0).unwrap();
    assert_eq!((all.requests, all.counted), (10 + KINDS_MAX as i64, 5));
    assert!(all.counted < COUNTED_MAX);
}

#[test]
fn a_plan_from_the_future_an_older_one_and_one_of_another_solver_do_not_count() {
    let mut world = world(2);
    ask(&mut world, 0, 4);
    let good = world.kernel.packing_plan().unwrap();
    let future = PlanPublished { frontier_epoch: Count(good.frontier_epoch.0 + 1), ..good.clone() };
    let foreign = PlanPublished { solver: "another".to_owned(), ..good.clone() };
    let boastful = PlanPublished { requests: Some(Count(5)), ..good.clone() };
    let mute = PlanPublished { requests: None, ..good.clone() };
    let mut skipped = |event: PlanPublished| world.close(vec![event.into()]).record.skipped.pop().map(|s| s.reason);
    for bad in [future, foreign, boastful, mute] {
        assert_eq!(skipped(bad), Some(SkipReason::Rejected));
    }
    assert_eq!(skipped(good.clone()), None);
    assert_eq!(skipped(good), Some(SkipReason::Rejected), "a plan in force is not replaced by one that is not newer");
}

#[test]
fn the_bound_of_a_plan_holds_for_what_is_really_served() {
    let mut world = world(2);
    ask(&mut world, 0, 2);
    let plan = publish(&mut world);
    assert!(plan.objective <= plan.bound, "{plan:?}");
    let before: i64 = world.kernel.state().runs.iter().map(|(_, run)| run.gpu_milli.0).sum();
    // The mix that the plan knows, until no more of it fits.
    let outputs = ask(&mut world, 2, 60);
    let after: i64 = world.kernel.state().runs.iter().map(|(_, run)| run.gpu_milli.0).sum();
    assert!(outputs.iter().any(|output| matches!(output, Event::JobHeld(_))), "the fleet is full");
    assert!(after - before <= 16_000 - before, "{before} {after}");
    assert!(plan.bound <= 16_000 - before + 16, "never more than what is free: {plan:?}");
}

#[test]
fn a_model_that_jobs_are_bound_to_is_scarce() {
    let mut world = World::with_nodes(1);
    let mut other = node("odd", "pod/h100", 2, "leaf-9");
    other.gpus.iter_mut().for_each(|gpu| gpu.model = GpuModelId::from("V100"));
    world.step(vec![other.into(), policy(Some(2)).into()]);
    let mut bound = job("bound", "red", 1, 1, 1);
    bound.models = vec![ModelChoice { model: GpuModelId::from("V100"), speed_milli: Milli(1_000) }];
    world.step(vec![bound.into(), job("free", "red", 1, 1, 1).into()]);
    let plan = publish(&mut world);
    let scarce: Vec<&str> = plan.scarcities.iter().map(|scarcity| scarcity.model.as_str()).collect();
    assert_eq!(scarce, ["V100"], "{plan:?}");
}
