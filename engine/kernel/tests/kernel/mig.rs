//! GPUs that are divided, and tenants apart on GPUs that they share.

use solyx_histories::*;
use solyx_schemas::events::Event;
use solyx_schemas::events::decisions::*;
use solyx_schemas::events::jobs::JobRequested;
use solyx_schemas::events::policy::*;
use solyx_schemas::events::runs::StopReason;
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

/// One node of so many GPUs that can be divided.
fn world(gpus: i64) -> World {
    let mut world = World::empty();
    let mut events = base_events();
    events.push(divisible().into());
    events.push(node("n", "pod/h100", gpus, "leaf").into());
    world.step(events);
    world
}

fn share(name: &str, tenant: &str, milli: i64, hours: i64) -> JobRequested {
    let mut request = job(name, tenant, 1, 1, hours);
    request.gang.gpu_milli_each = GpuMilli(milli);
    request
}

/// GPU and first slice of each of a job's instances.
fn instances(world: &World, job: &str) -> Vec<(i64, i64)> {
    let run = world.kernel.state().runs.get(&world.running[&JobId::from(job)].run).unwrap();
    let gpus = run.nodes.iter().flat_map(|own| own.gpus.clone());
    gpus.zip(run.mig.as_ref().unwrap().starts.concat()).collect()
}

fn gpus(outputs: &[Event], job: &str) -> Vec<i64> {
    placed(outputs, job).unwrap_or_else(|| panic!("{job} is placed")).nodes[0].gpus.clone()
}

fn limit_of(outputs: &[Event], job: &str) -> Limit {
    held(outputs, job).unwrap_or_else(|| panic!("{job} waits")).limit.clone()
}

fn said(limit: &Limit) -> (LimitKind, Option<i64>, Option<i64>, &str) {
    (limit.kind, limit.asked, limit.available, limit.unit.as_ref().map_or("", |unit| unit.as_str()))
}

#[test]
fn instances_fill_a_divided_gpu_before_another_is_divided() {
    let mut world = world(2);
    let outputs = world.step(vec![mig_job("a", "red", 7, "1g.10gb", 1).into()]);
    let placed = placed(&outputs, "a").unwrap();
    assert_eq!((placed.gpu_milli, placed.nodes[0].gpu_milli_each), (GpuMilli(875), GpuMilli(125)));
    let mut have = instances(&world, "a");
    have.sort();
    assert_eq!(have, (0..7).map(|slice| (0, slice)).collect::<Vec<_>>());
    world.step(vec![mig_job("b", "blue", 1, "3g.40gb", 1).into()]);
    // The upper half has fewer placements to lose.
    assert_eq!(instances(&world, "b"), [(1, 4)]);
    world.step(vec![mig_job("c", "blue", 1, "1g.10gb", 1).into()]);
    assert_eq!(instances(&world, "c"), [(1, 0)]);
    assert_eq!(world.kernel.index_differences(), Vec::<String>::new());
}

#[test]
fn a_divided_gpu_takes_nothing_else_and_can_be_anything_once_its_last_instance_is_gone() {
    let mut world = world(1);
    world.step(vec![mig_job("a", "red", 2, "1g.10gb", 1).into()]);
    let outputs = world.step(vec![share("share", "red", 100, 1).into(), job("whole", "red", 1, 1, 1).into()]);
    assert_eq!(limit_of(&outputs, "share").kind, LimitKind::Gpus);
    assert_eq!(limit_of(&outputs, "whole").kind, LimitKind::Gpus);
    let finished = world.finish("a");
    let outputs = world.step(vec![finished]);
    assert!(placed(&outputs, "share").is_some());
    let outputs = world.step(vec![mig_job("late", "red", 2, "2g.20gb", 1).into()]);
    assert_eq!(said(&limit_of(&outputs, "late")), (LimitKind::Gpus, Some(2), Some(0), "instances of 2g.20gb"));
}

#[test]
fn an_instance_without_a_legal_start_waits_and_is_told_how_many_fit() {
    let mut world = world(1);
    world.step(vec![mig_job("a", "red", 1, "1g.10gb", 1).into()]);
    assert_eq!(instances(&world, "a"), [(0, 6)]);
    let outputs = world.step(vec![mig_job("b", "red", 2, "3g.40gb", 1).into()]);
    let limit = limit_of(&outputs, "b");
    assert_eq!(said(&limit), (LimitKind::Gpus, Some(2), Some(1), "instances of 3g.40gb"));
    assert_eq!(limit.subject, Some(RefId::from("pod/h100")));
}

#[test]
fn a_profile_that_no_model_has_is_waited_for_by_name() {
    let mut world = world(1);
    let outputs = world.step(vec![mig_job("a", "red", 1, "4g.40gb", 1).into()]);
    let limit = limit_of(&outputs, "a");
    assert_eq!((limit.kind, limit.subject), (LimitKind::Undeclared, Some(RefId::from("mig-profile:4g.40gb"))));
    // Another model has it, which is not here.
    let mut other = divisible();
    other.model = GpuModelId::from("A100");
    let starts = vec![0];
    let (profile, memory_mib) = (Name::from("4g.40gb"), MemoryMib(40_192));
    let four = MigProfile { profile, memory_mib, slices: Count(4), starts };
    other.mig_profiles.push(four.clone());
    let outputs = world.step(vec![other.into()]);
    let limit = limit_of(&outputs, "a");
    assert_eq!((limit.kind, limit.subject), (LimitKind::GpuModel, Some(RefId::from("H100/4g.40gb"))));
    let mut model = divisible();
    model.mig_profiles.push(four);
    let outputs = world.step(vec![model.into()]);
    assert!(placed(&outputs, "a").is_some());
    assert_eq!(instances(&world, "a"), [(0, 0)]);
}

#[test]
fn the_memory_that_a_job_needs_is_that_of_its_instance() {
    let mut world = world(1);
    let mut request = mig_job("a", "red", 1, "1g.10gb", 1);
    request.gang.gpu_memory_mib = Some(MemoryMib(16_384));
    let outputs = world.step(vec![request.into()]);
    let limit = limit_of(&outputs, "a");
    assert_eq!(said(&limit), (LimitKind::GpuMemory, Some(16_384), Some(9_728), "MiB"));
}

#[test]
fn a_share_of_a_gpu_has_that_share_of_its_memory() {
    let mut world = World::with_nodes(1);
    let share = |name: &str, milli: i64| {
        let mut request = job(name, "red", 1, 1, 1);
        (request.gang.gpu_milli_each, request.gang.gpu_memory_mib) = (GpuMilli(milli), Some(MemoryMib(40_960)));
        Event::from(request)
    };
    let outputs = world.step(vec![share("small", 300), share("half", 500)]);
    assert_eq!(said(&limit_of(&outputs, "small")), (LimitKind::GpuMemory, Some(40_960), Some(24_576), "MiB"));
    assert!(placed(&outputs, "half").is_some());
}

#[test]
fn an_order_says_all_that_a_gpu_is_to_have() {
    let mut world = world(1);
    world.step(vec![mig_job("a", "red", 1, "1g.10gb", 1).into()]);
    let outputs = world.step(vec![mig_job("b", "blue", 1, "3g.40gb", 1).into()]);
    let orders: Vec<&MigOrdered> = outputs
        .iter()
        .filter_map(|output| match output {
            Event::MigOrdered(order) => Some(&**order),
            _ => None,
        })
        .collect();
    assert_eq!(orders.len(), 1);
    assert_eq!((orders[0].node.as_str(), orders[0].gpu_index), ("n", 0));
    assert_eq!(orders[0].profiles, ["3g.40gb", "1g.10gb"].map(Name::from));
    assert_eq!(orders[0].reason, "instances for b/1");
    assert_eq!(orders[0].evidence, "3g.40gb at slice 0 for b/1, 1g.10gb at slice 6 for a/1");
    // Nothing is ordered when one ends.
    let finished = world.finish("a");
    assert!(!world.step(vec![finished]).iter().any(|output| matches!(output, Event::MigOrdered(_))));
}

#[test]
fn instances_of_one_replica_are_on_different_gpus() {
    let mut world = world(3);
    let mut request = mig_job("a", "red", 2, "3g.40gb", 1);
    request.gang.gpus = Count(2);
    let outputs = world.step(vec![request.into()]);
    let nodes = &placed(&outputs, "a").unwrap().nodes;
    assert!(nodes.iter().all(|replica| replica.gpus.len() == 2 && replica.gpus[0] != replica.gpus[1]), "{nodes:?}");
    assert_eq!(placed(&outputs, "a").unwrap().gpu_milli, GpuMilli(2_000));
    let mut too_many = mig_job("b", "red", 1, "1g.10gb", 1);
    too_many.gang.gpus = Count(4);
    let outputs = world.step(vec![too_many.into()]);
    assert_eq!(limit_of(&outputs, "b").kind, LimitKind::Gpus);
}

#[test]
fn a_quota_counts_slices() {
    let mut world = world(1);
    let quota = QuotaSet {
        tenant: TenantId::from("red"),
        guaranteed_milli: GpuMilli(500),
        borrowing_limit_milli: Some(GpuMilli(0)),
        ..QuotaSet::default()
    };
    world.step(vec![quota.into()]);
    let outputs =
        world.step(vec![mig_job("a", "red", 3, "1g.10gb", 1).into(), mig_job("b", "red", 1, "2g.20gb", 1).into()]);
    let quota_limit = limit_of(&outputs, if placed(&outputs, "a").is_some() { "b" } else { "a" });
    assert_eq!(quota_limit.kind, LimitKind::Quota);
    let outputs = world.step(vec![mig_job("c", "red", 1, "7g.80gb", 1).into()]);
    let rejected = outputs.iter().any(|output| matches!(output, Event::JobRejected(e) if e.limit.asked == Some(1_000)));
    assert!(rejected, "{outputs:?}");
}

#[test]
fn a_profile_beside_a_reservation_is_rejected_with_the_field() {
    let mut world = world(1);
    let mut request = mig_job("a", "red", 1, "1g.10gb", 1);
    request.reservation = Some(RefId::from("r"));
    let outputs = world.step(vec![request.into()]);
    let rejected = outputs.iter().find_map(|output| match output {
        Event::JobRejected(rejected) => Some(rejected),
        _ => None,
    });
    let rejected = rejected.unwrap();
    assert_eq!(rejected.limit.kind, LimitKind::Reservation);
    assert!(rejected.detail.contains("gang.mig_profile") && rejected.detail.contains("1g.10gb"), "{}", rejected.detail);
}

#[test]
fn instances_keep_their_slices_when_the_table_is_declared_anew() {
    let mut world = world(1);
    world.step(vec![mig_job("a", "red", 1, "3g.40gb", 2).into()]);
    assert_eq!(instances(&world, "a"), [(0, 4)]);
    let mut model = divisible();
    model.mig_profiles[2].starts = vec![0];
    model.mig_profiles[1].starts = vec![1, 3, 6];
    world.step(vec![model.into()]);
    world.step(vec![mig_job("b", "red", 1, "3g.40gb", 1).into()]);
    assert_eq!(instances(&world, "b"), [(0, 0)]);
    let outputs = world.step(vec![mig_job("c", "red", 1, "2g.20gb", 1).into()]);
    assert_eq!(limit_of(&outputs, "c").kind, LimitKind::Gpus);
    assert_eq!(world.kernel.index_differences(), Vec::<String>::new());
    let finished = world.finish("a");
    world.step(vec![finished]);
    assert_eq!(instances(&world, "c"), [(0, 6)]);
}

#[test]
fn an_instance_that_does_not_fit_is_promised_the_start_at_which_it_does() {
    let mut world = world(1);
    world.step(vec![ordered_by("fifo").into()]);
    world.step(vec![mig_job("a", "red", 1, "1g.10gb", 2).into()]);
    let outputs = world.step(vec![mig_job("whole", "blue", 1, "7g.80gb", 1).into()]);
    assert_eq!(held(&outputs, "whole").unwrap().earliest_start_us, Some(TimeUs(START + 2 * HOUR_US)));
    // What would last beyond it waits; what ends before starts.
    let outputs = world
        .step(vec![mig_job("long", "red", 1, "1g.10gb", 3).into(), mig_job("short", "red", 1, "1g.10gb", 1).into()]);
    assert_eq!(limit_of(&outputs, "long").kind, LimitKind::Backfill);
    assert!(placed(&outputs, "short").is_some());
}

#[test]
fn a_class_that_preempts_has_an_instance_make_room() {
    let mut world = world(1);
    let class = PriorityClassSet {
        class: ClassId::from("urgent"),
        value: 200,
        preempts: true,
        preemptible: true,
        ..PriorityClassSet::default()
    };
    world.step(vec![
        class.into(),
        mig_job("low", "red", 1, "3g.40gb", 4).into(),
        mig_job("other", "red", 1, "3g.40gb", 4).into(),
    ]);
    let mut request = mig_job("high", "blue", 1, "3g.40gb", 1);
    request.class = ClassId::from("urgent");
    world.now += 60 * SECOND_US;
    let outputs = world.step(vec![request.into()]);
    let stopped: Vec<&JobPreempted> = outputs
        .iter()
        .filter_map(|output| match output {
            Event::JobPreempted(told) => Some(&**told),
            _ => None,
        })
        .collect();
    assert_eq!(stopped.len(), 1, "{outputs:?}");
    let of = stopped[0].job.as_str().to_owned();
    assert_eq!(stopped[0].for_job, Some(JobId::from("high")));
    let (had, stop) = (instances(&world, &of), world.stopped(&of, StopReason::Preempted));
    world.step(vec![stop]);
    assert_eq!(instances(&world, "high"), had);
}

#[test]
fn a_job_that_asks_for_it_shares_a_gpu_with_its_own_tenant_only() {
    let mut world = world(1);
    let mut apart = share("a", "red", 300, 1);
    apart.gang.gpu_of_one_tenant = Some(true);
    world.step(vec![apart.into()]);
    let outputs = world.step(vec![share("b", "blue", 300, 1).into(), share("c", "red", 300, 1).into()]);
    let unit = "GPU/1000 where other tenants let it in";
    assert_eq!(said(&limit_of(&outputs, "b")), (LimitKind::Gpus, Some(300), Some(0), unit));
    assert_eq!(gpus(&outputs, "c"), [0], "the same tenant always may");
    let finished = world.finish("a");
    let outputs = world.step(vec![finished]);
    assert_eq!(gpus(&outputs, "b"), [0], "nobody there asks any more");
    let mut late = share("d", "red", 100, 1);
    late.gang.gpu_of_one_tenant = Some(true);
    let outputs = world.step(vec![late.into()]);
    let unit = "shares of 100/1000 on GPUs of no other tenant";
    assert_eq!(said(&limit_of(&outputs, "d")), (LimitKind::Gpus, Some(1), Some(0), unit));
    assert_eq!(world.kernel.index_differences(), Vec::<String>::new());
}

#[test]
fn a_job_that_asks_for_it_may_go_beside_its_tenants_own_that_did_not() {
    let mut world = world(1);
    world.step(vec![share("a", "red", 300, 1).into()]);
    let mut apart = share("b", "red", 300, 1);
    apart.gang.gpu_of_one_tenant = Some(true);
    let outputs = world.step(vec![apart.into()]);
    assert_eq!(gpus(&outputs, "b"), [0]);
    let outputs = world.step(vec![share("c", "blue", 300, 1).into()]);
    assert_eq!(limit_of(&outputs, "c").kind, LimitKind::Gpus);
}

#[test]
fn instances_are_kept_apart_like_thousandths() {
    let mut world = world(2);
    let mut apart = mig_job("a", "red", 1, "1g.10gb", 1);
    apart.gang.gpu_of_one_tenant = Some(true);
    world.step(vec![apart.into()]);
    world.step(vec![mig_job("b", "blue", 1, "1g.10gb", 1).into(), mig_job("c", "red", 1, "1g.10gb", 1).into()]);
    let gpu = |job: &str| instances(&world, job)[0].0;
    assert_eq!((gpu("a"), gpu("b"), gpu("c")), (0, 1, 0));
    let mut apart = mig_job("d", "red", 8, "1g.10gb", 1);
    apart.gang.gpu_of_one_tenant = Some(true);
    let outputs = world.step(vec![apart.into()]);
    let unit = "instances of 1g.10gb on GPUs of no other tenant";
    assert_eq!(said(&limit_of(&outputs, "d")), (LimitKind::Gpus, Some(8), Some(5), unit));
}

#[test]
fn a_tenant_may_ask_for_all_its_jobs_also_those_that_run() {
    let mut world = world(2);
    world.step(vec![share("a", "red", 300, 2).into(), share("b", "blue", 300, 2).into()]);
    let red =
        |asks| TenantDeclared { tenant: TenantId::from("red"), gpu_of_one_tenant: asks, ..tenant_of_weight_one() };
    let outputs = world.step(vec![red(Some(true)).into()]);
    assert!(outputs.is_empty(), "nothing is stopped for it: {outputs:?}");
    // Red and blue are on one GPU together: nobody comes to them.
    let outputs = world.step(vec![share("c", "blue", 100, 1).into(), share("d", "red", 100, 1).into()]);
    assert_eq!(gpus(&outputs, "c"), [1]);
    assert_eq!(limit_of(&outputs, "d").kind, LimitKind::Gpus);
    assert_eq!(world.kernel.index_differences(), Vec::<String>::new());
    let outputs = world.step(vec![red(None).into()]);
    assert!(placed(&outputs, "d").is_some());
}

fn sold(gpus: i64) -> Event {
    LeaseSold {
        lease: RefId::from("lease"),
        tenant: TenantId::from("blue"),
        gpus: Count(gpus),
        gpu_model: GpuModelId::from("H100"),
        from_us: TimeUs(START),
        to_us: TimeUs(START + 100 * HOUR_US),
        price: money(1),
        payment: PaymentOption::None,
        ..LeaseSold::default()
    }
    .into()
}

fn lasting(name: &str, profile: &str) -> JobRequested {
    JobRequested { preemptible: false, ..mig_job(name, "red", 1, profile, 4) }
}

#[test]
fn beside_what_is_set_aside_a_divided_gpu_counts_as_a_whole_one() {
    let mut world = world(2);
    world.step(vec![sold(1)]);
    let outputs = world.step(vec![lasting("a", "3g.40gb").into()]);
    assert!(placed(&outputs, "a").is_some());
    // It takes nothing that a does not have anyway; the next would have the lessee's GPU divided.
    let outputs = world.step(vec![lasting("b", "3g.40gb").into()]);
    assert!(placed(&outputs, "b").is_some());
    let outputs = world.step(vec![lasting("c", "1g.10gb").into()]);
    let limit = limit_of(&outputs, "c");
    assert_eq!(said(&limit), (LimitKind::Reservation, Some(1_000), Some(0), "GPU/1000"));
}

#[test]
fn a_lessee_is_given_a_divided_gpu_by_all_that_is_on_it() {
    let mut world = world(1);
    world.step(vec![sold(1)]);
    world.step(vec![mig_job("a", "red", 1, "1g.10gb", 4).into(), mig_job("b", "red", 1, "2g.20gb", 4).into()]);
    let request = JobRequested { sold_lease: Some(RefId::from("lease")), ..job("own", "blue", 1, 1, 1) };
    let outputs = world.step(vec![request.into()]);
    let stopped: Vec<&str> = outputs
        .iter()
        .filter_map(|output| match output {
            Event::JobPreempted(told) => Some(told.job.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(stopped, ["a", "b"]);
    let stops = ["a", "b"].map(|job| world.stopped(job, StopReason::Preempted));
    let outputs = world.step(stops.into());
    assert_eq!(gpus(&outputs, "own"), [0]);
}

#[test]
fn an_elastic_job_of_instances_has_as_many_as_fit() {
    let mut world = world(1);
    world.step(vec![mig_job("a", "red", 1, "3g.40gb", 4).into()]);
    let mut request = mig_job("b", "red", 1, "1g.10gb", 4);
    request.gang.replicas_max = Count(9);
    let outputs = world.step(vec![request.into()]);
    let placed = placed(&outputs, "b").unwrap();
    assert_eq!((placed.replicas, placed.gpu_milli), (Count(4), GpuMilli(500)));
    let mut have = instances(&world, "b");
    have.sort();
    assert_eq!(have, (0..4).map(|slice| (0, slice)).collect::<Vec<_>>());
    // One order says all of it.
    let orders = outputs.iter().filter(|output| matches!(output, Event::MigOrdered(_))).count();
    assert_eq!(orders, 1);
}

#[test]
fn instances_of_a_model_with_seven_of_them_fill_it_whole_though_each_counts_a_seventh_rounded_up() {
    let mut world = world(1);
    let mut model = divisible();
    model.mig_profiles.truncate(1);
    model.mig_profiles[0].slices = Count(1);
    model.mig_profiles[0].starts = (0..7).collect();
    let profile = model.mig_profiles[0].profile.clone();
    world.step(vec![model.into()]);
    let outputs =
        world.step((0..8).map(|i| mig_job(&format!("job-{i}"), "red", 1, profile.as_str(), 1).into()).collect());
    assert_eq!((0..8).filter(|i| placed(&outputs, &format!("job-{i}")).is_some()).count(), 7, "{outputs:?}");
    assert_eq!(world.kernel.state().violations(), Vec::<String>::new());
}
