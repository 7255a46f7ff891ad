//! Instances that are leased: for whom they are ordered, how long they are kept, and when they are given back.

use solyx_histories::*;
use solyx_schemas::events::Event;
use solyx_schemas::events::capacity::{CapacityClass, PoolPriced};
use solyx_schemas::events::decisions::{CapacityLeaseOrdered, CapacityReleaseOrdered, LimitKind};
use solyx_schemas::events::jobs::*;
use solyx_schemas::events::nodes::{NodeState, NodeStateChanged};
use solyx_schemas::events::policy::{QuotaSet, SchedulingPolicySet};
use solyx_schemas::events::world::{InstanceLeaseRefused, InstanceLeased, LeaseReason};
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

const IDLE_US: i64 = 300 * SECOND_US;

/// A site with so many nodes of 8 GPUs, and a cloud beside it that is billed by the hour.
fn cloud(nodes: usize) -> World {
    cloud_priced_from(nodes, TimeUs(START))
}

/// The same where it has a price from an instant on.
fn cloud_priced_from(nodes: usize, effective_from_us: TimeUs) -> World {
    let mut world = World::with_nodes(nodes);
    let mut cloud = pool("cloud/h100", "pod", CapacityClass::OnDemand);
    cloud.start_delay_us = DurationUs(120 * SECOND_US);
    let price = PoolPriced {
        pool: PoolId::from("cloud/h100"),
        price_micros_per_gpu_hour: RateMicros(2_500_000),
        currency: usd(),
        effective_from_us,
        ..PoolPriced::default()
    };
    world.step(vec![cloud.into(), price.into()]);
    world
}

fn of_set(name: &str, replicas: i64, size: i64) -> JobRequested {
    let job_set = Some(JobSet { set: RefId::from("set"), size: Count(size) });
    JobRequested { job_set, ..job(name, "red", replicas, 8, 1) }
}

/// What was ordered, each with the id of its order.
fn orders(outputs: &[Event]) -> Vec<(RefId, CapacityLeaseOrdered)> {
    let order = |output: &Event| match output {
        Event::CapacityLeaseOrdered(order) => {
            let id = format!("test/{}/{}/{}", order.epoch, order.term, order.index);
            Some((RefId::from(id), (**order).clone()))
        }
        _ => None,
    };
    outputs.iter().filter_map(order).collect()
}

fn comes(world: &World, order: &RefId, instance: &str) -> Event {
    InstanceLeased {
        pool: PoolId::from("cloud/h100"),
        instance: InstanceId::from(instance),
        order: order.clone(),
        price_micros_per_gpu_hour: RateMicros(2_500_000),
        currency: usd(),
        from_us: TimeUs(world.now),
        ..InstanceLeased::default()
    }
    .into()
}

fn refused(order: &RefId) -> Event {
    let (pool, instances, reason) = (PoolId::from("cloud/h100"), Count(1), LeaseReason::NoCapacity);
    InstanceLeaseRefused { pool, instances, reason, order: order.clone(), ..InstanceLeaseRefused::default() }.into()
}

fn released(outputs: &[Event]) -> Vec<&CapacityReleaseOrdered> {
    let mut released = Vec::new();
    for output in outputs {
        if let Event::CapacityReleaseOrdered(release) = output {
            released.push(&**release);
        }
    }
    released
}

/// A quota of as many as one instance has.
fn eight_gpus() -> Event {
    QuotaSet {
        tenant: TenantId::from("red"),
        guaranteed_milli: GpuMilli(8_000),
        borrowing_limit_milli: Some(GpuMilli(0)),
        ..QuotaSet::default()
    }
    .into()
}

/// A step after which the index is what the state makes of it.
fn step(world: &mut World, events: Vec<Event>) -> Vec<Event> {
    let outputs = world.step(events);
    assert_eq!(world.kernel.index_differences(), Vec::<String>::new());
    outputs
}

#[test]
fn owned_capacity_goes_first_and_the_rest_is_leased_and_given_back_when_paid_for() {
    let mut world = cloud(1);
    let outputs = step(&mut world, vec![job("own", "red", 1, 8, 1).into(), job("rest", "red", 1, 8, 1).into()]);
    assert_eq!(placed(&outputs, "own").unwrap().pool.as_str(), "pod/h100");
    let [(order, _)] = &orders(&outputs)[..] else { panic!("one order") };
    world.now += 120 * SECOND_US;
    let leased = comes(&world, order, "i-1");
    let outputs = step(&mut world, vec![leased]);
    let rest = placed(&outputs, "rest").unwrap().clone();
    assert_eq!(rest.nodes[0].node.as_str(), "i-1");
    assert_eq!(rest.terms.rent_micros, MoneyMicros(20_000_000));
    world.now += 20 * 60 * SECOND_US;
    let ends = world.finish("rest");
    step(&mut world, vec![ends]);
    let outputs = world.advance(2 * HOUR_US);
    let at: Vec<TimeUs> = released(&outputs).iter().map(|release| release.at_us).collect();
    assert_eq!(at, [TimeUs(START + 120 * SECOND_US + HOUR_US)], "the minimum billing is used up first");
}

#[test]
fn a_set_orders_what_one_of_it_lacks_and_starts_when_that_has_come() {
    let mut world = cloud(1);
    let outputs = step(&mut world, vec![of_set("one", 1, 2).into(), of_set("two", 1, 2).into()]);
    let [(order, ordered)] = &orders(&outputs)[..] else { panic!("one order") };
    assert_eq!((ordered.job.as_ref().unwrap().as_str(), ordered.instances), ("two", Count(1)));
    assert!(placed(&outputs, "one").is_none() && placed(&outputs, "two").is_none());
    let limit = &held(&outputs, "one").unwrap().limit;
    assert_eq!((limit.kind, limit.unit.as_deref()), (LimitKind::JobSet, Some("jobs of the set; LEASE_PENDING")));
    assert_eq!(limit.subject.as_ref().unwrap().as_str(), "two");
    assert_eq!(held(&outputs, "two").unwrap().limit.kind, LimitKind::LeasePending);
    world.now += 120 * SECOND_US;
    let leased = comes(&world, order, "i-1");
    let outputs = step(&mut world, vec![leased]);
    let (one, two) = (placed(&outputs, "one").unwrap(), placed(&outputs, "two").unwrap());
    assert_eq!((one.pool.as_str(), two.pool.as_str()), ("pod/h100", "cloud/h100"));
}

#[test]
fn instances_are_kept_for_a_set_until_its_last_order_is_answered() {
    let mut world = cloud(0);
    let outputs = step(&mut world, vec![of_set("one", 1, 2).into(), of_set("two", 2, 2).into()]);
    let [(first, _), (second, ordered)] = &orders(&outputs)[..] else { panic!("two orders") };
    assert_eq!(ordered.instances, Count(2));
    let leased = comes(&world, first, "i-1");
    step(&mut world, vec![leased]);
    // Far longer than idle ones are kept, and than they are paid for.
    world.now += 3 * HOUR_US;
    let leased = comes(&world, second, "i-2");
    let outputs = step(&mut world, vec![leased, job("other", "blue", 1, 8, 1).into()]);
    assert!(released(&outputs).is_empty() && placed(&outputs, "other").is_none(), "{outputs:?}");
    world.now += 3 * HOUR_US;
    let leased = comes(&world, second, "i-3");
    let outputs = step(&mut world, vec![leased]);
    assert!(placed(&outputs, "one").is_some() && placed(&outputs, "two").is_some());
}

#[test]
fn nothing_is_ordered_for_a_set_while_one_of_it_has_no_place_anywhere() {
    let mut world = cloud(0);
    let mut fast = of_set("two", 1, 2);
    fast.models = vec![ModelChoice { model: GpuModelId::from("B200"), speed_milli: Milli(1_000) }];
    let outputs = step(&mut world, vec![of_set("one", 1, 2).into(), fast.into()]);
    assert!(orders(&outputs).is_empty());
    assert_eq!(held(&outputs, "one").unwrap().limit.kind, LimitKind::JobSet);
}

#[test]
fn orders_of_a_set_count_together_against_what_the_provider_has_and_what_the_tenant_may_use() {
    let mut world = cloud(0);
    let outputs = step(&mut world, vec![eight_gpus(), of_set("one", 1, 2).into(), of_set("two", 1, 2).into()]);
    assert!(orders(&outputs).is_empty());
    let limit = &held(&outputs, "one").unwrap().limit;
    assert_eq!(limit.unit.as_deref(), Some("jobs of the set; QUOTA"));
}

#[test]
fn instances_of_who_cannot_start_are_free_for_others_when_they_have_been_kept_long_enough_and_then_given_back() {
    let mut world = cloud(0);
    let outputs = step(&mut world, vec![of_set("one", 1, 2).into(), of_set("two", 1, 2).into()]);
    let [(first, _), (second, _)] = &orders(&outputs)[..] else { panic!("two orders") };
    let leased = comes(&world, first, "i-1");
    let outputs = step(&mut world, vec![leased, refused(second)]);
    assert!(placed(&outputs, "one").is_none());
    let outputs = step(&mut world, vec![job("other", "blue", 1, 8, 1).into()]);
    assert!(placed(&outputs, "other").is_none(), "it is kept");
    world.now += IDLE_US;
    let outputs = step(&mut world, vec![]);
    assert_eq!(placed(&outputs, "other").unwrap().nodes[0].node.as_str(), "i-1");
    let ends = world.finish("other");
    step(&mut world, vec![ends]);
    let outputs = world.advance(2 * HOUR_US);
    let at: Vec<TimeUs> = released(&outputs).iter().map(|release| release.at_us).collect();
    assert_eq!(at.first(), Some(&TimeUs(START + HOUR_US)));
}

#[test]
fn what_came_of_an_order_that_was_refused_in_part_is_not_kept_for_ever() {
    let mut world = cloud(0);
    let outputs = step(&mut world, vec![job("gang", "red", 2, 8, 1).into()]);
    let [(order, _)] = &orders(&outputs)[..] else { panic!("one order") };
    let leased = comes(&world, order, "i-1");
    let outputs = step(&mut world, vec![leased, refused(order)]);
    assert!(placed(&outputs, "gang").is_none());
    let outputs = world.advance(2 * HOUR_US);
    let (known, again) = (released(&outputs), orders(&outputs));
    assert_eq!(known.first().unwrap().at_us, TimeUs(START + HOUR_US));
    assert!(!again.is_empty(), "the provider is asked again after its pause");
}

#[test]
fn an_instance_that_reports_itself_before_its_provider_does_is_leased_all_the_same() {
    let mut world = cloud(0);
    let outputs = step(&mut world, vec![job("waits", "red", 1, 8, 1).into()]);
    let [(order, _)] = &orders(&outputs)[..] else { panic!("one order") };
    let outputs = step(&mut world, vec![node("i-1", "cloud/h100", 8, "leaf-of-its-own").into()]);
    assert!(placed(&outputs, "waits").is_none(), "it waits for what is on order");
    let leased = comes(&world, order, "i-1");
    let outputs = step(&mut world, vec![leased]);
    assert_eq!(placed(&outputs, "waits").unwrap().nodes[0].node.as_str(), "i-1");
    let row = world.kernel.state().nodes.get(&NodeId::from("i-1")).unwrap();
    assert_eq!(row.report.as_ref().unwrap().leaf.as_ref().unwrap().as_str(), "leaf-of-its-own");
    assert!(row.lease.is_some());
}

#[test]
fn an_instance_of_another_pool_than_was_asked_or_has_reported_it_is_refused_with_the_field() {
    let mut world = cloud(0);
    let outputs = step(&mut world, vec![job("waits", "red", 1, 8, 1).into()]);
    let [(order, _)] = &orders(&outputs)[..] else { panic!("one order") };
    let mut elsewhere = comes(&world, order, "i-1");
    if let Event::InstanceLeased(e) = &mut elsewhere {
        e.pool = PoolId::from("pod/h100");
    }
    let reasons = |outputs: &[Event]| {
        let reason = |output: &Event| match output {
            Event::RecordQuarantined(told) => Some(told.detail.clone()),
            _ => None,
        };
        outputs.iter().filter_map(reason).collect::<Vec<String>>()
    };
    let refused = reasons(&step(&mut world, vec![elsewhere]));
    assert!(refused[0].starts_with("field pool: found pod/h100, expected cloud/h100"), "{refused:?}");
    let leased = comes(&world, order, "node-0");
    let refused = reasons(&step(&mut world, vec![node("node-0", "pod/h100", 8, "leaf").into(), leased]));
    assert!(refused[0].starts_with("field pool: found cloud/h100, expected pod/h100"), "{refused:?}");
}

#[test]
fn what_is_on_order_counts_against_the_quota_of_who_orders_more() {
    let mut world = cloud(0);
    let jobs = ["one", "two", "three"].map(|name| job(name, "red", 1, 8, 1).into());
    let outputs = step(&mut world, [eight_gpus()].into_iter().chain(jobs).collect());
    assert_eq!(orders(&outputs).len(), 1);
    let limit = &held(&outputs, "two").unwrap().limit;
    assert_eq!((limit.kind, limit.asked, limit.available), (LimitKind::Quota, Some(8_000), Some(0)));
    let [(order, _)] = &orders(&outputs)[..] else { panic!("one order") };
    let leased = comes(&world, order, "i-1");
    let outputs = step(&mut world, vec![leased]);
    assert!(placed(&outputs, "one").is_some() && orders(&outputs).is_empty());
    world.now += HOUR_US;
    let ends = world.finish("one");
    let outputs = step(&mut world, vec![ends]);
    assert!(placed(&outputs, "two").is_some(), "on the instance that is there: {outputs:?}");
}

#[test]
fn one_of_a_set_whose_deadline_can_no_longer_be_kept_is_given_up_and_the_others_wait_for_another() {
    let mut world = World::with_nodes(2);
    step(&mut world, vec![job("before", "blue", 2, 8, 2).into()]);
    let mut late = of_set("two", 1, 2);
    late.deadline_us = Some(TimeUs(START + 90 * 60 * SECOND_US));
    step(&mut world, vec![of_set("one", 1, 2).into(), late.into()]);
    world.now += HOUR_US;
    let outputs = step(&mut world, vec![job("more", "blue", 1, 8, 1).into()]);
    let cancelled = |output: &Event| matches!(output, Event::JobCancelled(e) if e.job.as_str() == "two");
    assert!(outputs.iter().any(cancelled), "{outputs:#?}");
    world.now += HOUR_US;
    let ends = world.finish("before");
    let outputs = step(&mut world, vec![ends, of_set("three", 1, 2).into()]);
    assert!(placed(&outputs, "one").is_some() && placed(&outputs, "three").is_some(), "{outputs:#?}");
}

/// A job for which one instance is on order, and the answer that it has come.
fn ordered(world: &mut World) -> Event {
    let policy = SchedulingPolicySet { run_lease_us: Some(DurationUs(10_000 * HOUR_US)), ..ordered_by("classic") };
    let outputs = step(world, vec![policy.into(), job("waits", "red", 1, 8, 1).into()]);
    let [(order, _)] = &orders(&outputs)[..] else { panic!("one order") };
    comes(world, order, "i-1")
}

#[test]
fn an_instance_that_is_in_use_before_it_is_leased_is_not_given_back_under_its_run() {
    let mut world = cloud(0);
    let leased = ordered(&mut world);
    let report = node("i-1", "cloud/h100", 8, "leaf");
    let outputs = step(&mut world, vec![report.into(), job("other", "blue", 1, 8, 20).into()]);
    assert_eq!(placed(&outputs, "other").unwrap().nodes[0].node.as_str(), "i-1");
    step(&mut world, vec![leased]);
    let outputs = world.advance(5 * HOUR_US);
    assert!(released(&outputs).is_empty(), "{outputs:?}");
    let idle_since = |world: &World| {
        let row = world.kernel.state().nodes.get(&NodeId::from("i-1")).unwrap();
        row.lease.as_ref().unwrap().idle_since_us
    };
    assert_eq!(idle_since(&world), None);
    let ends = world.finish("other");
    step(&mut world, vec![ends]);
    assert_eq!(idle_since(&world), Some(TimeUs(world.now)));
}

#[test]
fn who_has_an_instance_kept_that_is_of_no_use_orders_another_only_when_that_is_given_up() {
    let mut world = cloud(0);
    let leased = ordered(&mut world);
    let (node, state) = (NodeId::from("i-1"), NodeState::Cordoned);
    let cordoned = NodeStateChanged { node, state, ..NodeStateChanged::default() };
    let outputs = step(&mut world, vec![cordoned.into(), leased]);
    assert!(placed(&outputs, "waits").is_none() && orders(&outputs).is_empty(), "{outputs:?}");
    world.now += IDLE_US;
    assert_eq!(orders(&step(&mut world, vec![])).len(), 1);
}

#[test]
fn a_pool_without_a_price_yet_is_waited_for_and_asked_when_it_has_one() {
    // What is ordered now would start when there is a price.
    let mut world = cloud_priced_from(0, TimeUs(START + 60 * SECOND_US));
    let outputs = step(&mut world, vec![job("waits", "red", 1, 8, 1).into()]);
    assert!(orders(&outputs).is_empty() && held(&outputs, "waits").is_some());
    assert_eq!(orders(&world.advance(120 * SECOND_US)).len(), 1);
}

#[test]
fn who_is_kept_out_by_a_price_orders_when_an_instance_would_start_at_the_next() {
    let mut world = cloud(0);
    let pool = PoolId::from("cloud/h100");
    let priced = |currency: Currency, from_us: i64| PoolPriced {
        pool: pool.clone(),
        price_micros_per_gpu_hour: RateMicros(2_500_000),
        currency,
        effective_from_us: TimeUs(from_us),
        ..PoolPriced::default()
    };
    let (now, from_us) = (world.now, world.now + HOUR_US);
    let euro = Currency::parse("EUR").unwrap();
    step(&mut world, vec![priced(euro, now).into(), priced(usd(), from_us).into()]);
    let outputs = step(&mut world, vec![job("waits", "red", 1, 8, 1).into()]);
    assert!(orders(&outputs).is_empty() && held(&outputs, "waits").is_some(), "{outputs:?}");
    let left_us = from_us - 120 * SECOND_US - world.now;
    assert!(orders(&world.advance(left_us - 1)).is_empty());
    assert_eq!(orders(&world.advance(1)).len(), 1);
}

#[test]
fn what_came_for_nobody_is_kept_for_nobody() {
    let mut world = cloud(0);
    let leased = ordered(&mut world);
    let job = JobId::from("waits");
    step(&mut world, vec![JobCancelRequested { job, ..JobCancelRequested::default() }.into()]);
    // What is kept is looked at after each step: it is what a restored kernel has.
    step(&mut world, vec![leased]);
}

#[test]
fn instances_without_enough_scratch_space_are_not_ordered() {
    let mut world = cloud(0);
    let mut wants = job("wants", "red", 1, 8, 1);
    wants.gang.scratch_gib = Some(StorageGib(1 << 30));
    let outputs = step(&mut world, vec![wants.into()]);
    assert!(orders(&outputs).is_empty());
    let limit = &held(&outputs, "wants").unwrap().limit;
    assert_eq!(
        (limit.kind, limit.asked, limit.available),
        (LimitKind::Scratch, Some(1 << 30), Some(1_000)),
        "{limit:?}"
    );
}

#[test]
fn what_came_for_one_is_used_while_another_before_it_in_line_cannot_order() {
    let mut world = cloud(0);
    let policy = SchedulingPolicySet { run_lease_us: Some(DurationUs(10_000 * HOUR_US)), ..ordered_by("classic") };
    let asked = step(&mut world, vec![policy.into(), job("a", "red", 1, 8, 1).into(), job("b", "red", 1, 8, 1).into()]);
    let [(of_a, first), (of_b, second)] = &orders(&asked)[..] else { panic!("two orders: {asked:?}") };
    assert_eq!([first, second].map(|order| order.job.as_ref().unwrap().as_str()), ["a", "b"]);
    assert!(placed(&step(&mut world, vec![refused(of_a)]), "a").is_none());
    let comes = comes(&world, of_b, "i-1");
    let outputs = step(&mut world, vec![comes]);
    assert!(placed(&outputs, "b").is_some(), "{outputs:?}");
}
