//! Moving runs: off few nodes so that a gang fits, within a budget, and off nodes that are drained.

use solyx_histories::*;
use solyx_kernel::Kernel;
use solyx_schemas::events::Event;
use solyx_schemas::events::capacity::{CapacityClass, PoolPriced};
use solyx_schemas::events::decisions::{JobMigrated, LimitKind, StopCause};
use solyx_schemas::events::jobs::*;
use solyx_schemas::events::nodes::*;
use solyx_schemas::events::policy::*;
use solyx_schemas::events::runs::*;
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

const MINUTE_US: i64 = 60 * SECOND_US;

/// Consolidation may lose so many GPU-hours an hour; leases of runs do not end.
fn policy(rule: &str, gpu_hours: i64) -> SchedulingPolicySet {
    SchedulingPolicySet {
        run_lease_us: Some(DurationUs(10_000 * HOUR_US)),
        consolidation_budget_us: Some(DurationUs(gpu_hours * HOUR_US)),
        ..ordered_by(rule)
    }
}

/// Two nodes of eight GPUs. On each a run of four that lasts 20 hours: eight are free, and not on one node.
fn fragmented(rule: &str, gpu_hours: i64) -> World {
    let mut world = World::with_nodes(2);
    world.step(vec![policy(rule, gpu_hours).into()]);
    for (name, filler) in [("left", Some("filler")), ("right", None)] {
        let mut jobs = vec![job(name, "red", 1, 4, 20).into()];
        jobs.extend(filler.map(|filler| Event::from(job(filler, "red", 1, 4, 20))));
        world.step(jobs);
        let said = [Some(name), filler].into_iter().flatten().map(|name| started(&world, name)).collect();
        world.step(said);
    }
    world.step(vec![world.finish("filler")]);
    let at = |name: &str| world.running[&JobId::from(name)].nodes[0].node.clone();
    assert_ne!(at("left"), at("right"));
    world
}

fn moved(outputs: &[Event]) -> Vec<JobMigrated> {
    let of = |event: &Event| match event {
        Event::JobMigrated(e) => Some((**e).clone()),
        _ => None,
    };
    outputs.iter().filter_map(of).collect()
}

fn stop(world: &mut World, job: &str) -> Vec<Event> {
    let said = world.stopped(job, StopReason::Migrated);
    world.step(vec![said])
}

/// A gang of eight GPUs on one node comes when both runs have just written a checkpoint.
fn gang_waits(world: &mut World) -> Vec<Event> {
    world.now += 10 * MINUTE_US;
    let mut said = vec![checkpointed(world, "left", 10 * MINUTE_US), checkpointed(world, "right", 10 * MINUTE_US)];
    said.push(job("gang", "blue", 1, 8, 2).into());
    world.step(said)
}

#[test]
fn a_fragmented_pool_lets_a_gang_run_after_one_move_under_every_order_rule() {
    for rule in ["share-surcharge", "classic", "fifo", "sjf", "las", "srpt"] {
        let mut world = fragmented(rule, 10);
        let told = moved(&gang_waits(&mut world));
        assert_eq!(told.len(), 1, "{rule}");
        let told = &told[0];
        assert_eq!((told.cause, told.to_pool.as_ref()), (StopCause::Priority, Some(&told.from_pool)), "{rule}");
        let (other, stays) = if told.job.as_str() == "left" { ("left", "right") } else { ("right", "left") };
        assert_eq!(told.lost_work_us.0, 0, "{rule}: it has just written a checkpoint");
        let kept = told.kept_work_us;
        let beside = world.running[&JobId::from(stays)].nodes[0].node.clone();
        let gone_from = world.running[&JobId::from(other)].nodes[0].node.clone();
        world.now += SECOND_US;
        let outputs = stop(&mut world, other);
        let again = placed(&outputs, other).unwrap();
        assert_eq!((again.attempt.0, again.from_work_us), (2, kept), "{rule}");
        assert_eq!(again.nodes[0].node, beside, "{rule}: it goes on beside the other");
        assert_eq!(placed(&outputs, "gang").unwrap().nodes[0].node, gone_from, "{rule}");
    }
}

#[test]
fn without_a_budget_nothing_is_moved() {
    let mut world = fragmented("classic", 0);
    assert_eq!(moved(&gang_waits(&mut world)), []);
    assert_eq!(moved(&world.advance(5 * HOUR_US)), []);
}

#[test]
fn nothing_is_moved_that_loses_more_than_the_gang_would_wait() {
    let mut world = fragmented("classic", 1_000);
    world.now += 10 * HOUR_US;
    // Both have ten hours behind them without a checkpoint and end in ten. Eight GPUs would wait for these ten hours, which is
    // more than ten hours of four …
    assert_eq!(moved(&world.step(vec![job("gang", "blue", 1, 8, 2).into()])).len(), 1);
    let mut world = fragmented("classic", 1_000);
    world.now += 18 * HOUR_US;
    // … but two hours of eight are less than eighteen of four.
    assert_eq!(moved(&world.step(vec![job("gang", "blue", 1, 8, 2).into()])), []);
    assert_eq!(moved(&world.advance(10 * MINUTE_US)), []);
}

#[test]
fn the_budget_of_an_hour_is_not_exceeded_and_comes_back_with_time() {
    // A restore of five minutes on four GPUs is a third of a GPU-hour; ten minutes since the last checkpoint are one in all.
    let mut world = fragmented("classic", 1);
    world.now += 20 * MINUTE_US;
    world.step(vec![job("gang", "blue", 1, 8, 2).into()]);
    world.advance(30 * MINUTE_US);
    assert_eq!(moved(&world.log), [], "five GPU-thirds would be lost");
    world.now += MINUTE_US;
    let said = vec![checkpointed(&world, "left", 11 * MINUTE_US), checkpointed(&world, "right", 10 * MINUTE_US)];
    let told = moved(&world.step(said));
    assert_eq!(told.len(), 1);
    let name = told[0].job.to_string();
    stop(&mut world, &name);
    let left = |world: &World| world.kernel.state().tokens.get(&0).unwrap().left_us;
    assert_eq!(left(&world), HOUR_US - 4 * 5 * MINUTE_US);
}

#[test]
fn a_run_that_may_not_be_preempted_is_never_moved_nor_one_before_its_minimum_nor_too_often() {
    let mut world = fragmented("classic", 10);
    let class = |preemptible, minimum_run_us| PriorityClassSet {
        class: ClassId::from("standard"),
        value: 100,
        preemptible,
        minimum_run_us: DurationUs(minimum_run_us),
        ..PriorityClassSet::default()
    };
    world.step(vec![class(false, 0).into()]);
    assert_eq!(moved(&gang_waits(&mut world)), []);
    world.step(vec![class(true, 19 * HOUR_US).into()]);
    assert_eq!(moved(&world.advance(10 * MINUTE_US)), []);
    world.step(vec![
        class(true, 0).into(),
        SchedulingPolicySet { preemptions_max: Some(Count(0)), ..policy("classic", 10) }.into(),
    ]);
    assert_eq!(moved(&world.advance(10 * MINUTE_US)), []);
    world.step(vec![policy("classic", 10).into()]);
    assert_eq!(moved(&world.advance(10 * MINUTE_US)).len(), 1);

    let mut world = World::with_nodes(2);
    world.step(vec![policy("classic", 10).into()]);
    let stubborn = |name: &str| JobRequested { preemptible: false, ..job(name, "red", 1, 4, 20) };
    world.step(vec![stubborn("a").into(), stubborn("b").into(), stubborn("c").into()]);
    let said = ["a", "b", "c"].map(|name| started(&world, name)).to_vec();
    world.step(said);
    let lone = if world.running[&JobId::from("a")].nodes == world.running[&JobId::from("c")].nodes { "b" } else { "a" };
    world.step(vec![world.finish(lone)]);
    world.step(vec![job("gang", "blue", 1, 8, 2).into()]);
    world.advance(5 * HOUR_US);
    assert_eq!(moved(&world.log), []);
}

#[test]
fn nobody_takes_the_room_meanwhile() {
    let mut world = fragmented("share-surcharge", 10);
    let told = moved(&gang_waits(&mut world));
    let name = told[0].job.to_string();
    world.now += SECOND_US;
    let outputs = world.step(vec![job("late", "blue", 1, 4, 1).into(), job("small", "red", 1, 1, 1).into()]);
    assert!(held(&outputs, "late").is_some() && held(&outputs, "small").is_some());
    world.now += SECOND_US;
    let outputs = stop(&mut world, &name);
    assert!(placed(&outputs, &name).is_some() && placed(&outputs, "gang").is_some());
}

#[test]
fn a_run_whose_room_is_lost_meanwhile_waits_for_its_turn() {
    let mut world = fragmented("classic", 10);
    let told = moved(&gang_waits(&mut world));
    let name = told[0].job.to_string();
    let stays = if name == "left" { "right" } else { "left" };
    let target = world.running[&JobId::from(stays)].nodes[0].node.clone();
    world.now += SECOND_US;
    world.step(vec![
        NodeStateChanged { node: target.clone(), state: NodeState::Cordoned, ..NodeStateChanged::default() }.into(),
    ]);
    let outputs = stop(&mut world, &name);
    assert!(placed(&outputs, "gang").is_some());
    assert!(held(&outputs, &name).is_some());
    world.now += SECOND_US;
    let outputs = world
        .step(vec![NodeStateChanged { node: target, state: NodeState::Ready, ..NodeStateChanged::default() }.into()]);
    assert!(placed(&outputs, &name).is_some());
}

#[test]
fn a_kernel_that_starts_again_between_the_order_and_the_stop_goes_on_the_same() {
    let mut world = fragmented("classic", 10);
    let told = moved(&gang_waits(&mut world));
    let name = told[0].job.to_string();
    let mut twin = world.clone();
    twin.kernel = Kernel::restore(world.kernel.snapshot()).unwrap();
    assert_eq!(twin.kernel.index_differences(), Vec::<String>::new());
    for world in [&mut world, &mut twin] {
        world.now += SECOND_US;
    }
    assert_eq!(stop(&mut world, &name), stop(&mut twin, &name));
    assert_eq!(world.kernel.snapshot().head, twin.kernel.snapshot().head);
}

#[test]
fn a_gang_over_several_nodes_has_single_gpus_moved_out_of_its_way() {
    // Four nodes, on each a run of one GPU: 28 free, and a gang of three whole nodes waits.
    let mut world = World::with_nodes(4);
    world.step(vec![policy("fifo", 10).into()]);
    for i in 0..4 {
        let (name, filler) = (format!("small-{i}"), format!("filler-{i}"));
        world.step(vec![job(&name, "red", 1, 1, 30).into()]);
        world.step(vec![job(&filler, "red", 1, 7, 30).into()]);
        let said = vec![started(&world, &name), started(&world, &filler)];
        world.step(said);
    }
    let done: Vec<Event> = (0..4).map(|i| world.finish(&format!("filler-{i}"))).collect();
    world.step(done);
    world.now += 10 * MINUTE_US;
    let told = moved(&world.step(vec![job("gang", "blue", 3, 8, 2).into()]));
    assert_eq!(told.len(), 3);
    world.now += SECOND_US;
    let names: Vec<String> = told.iter().map(|told| told.job.to_string()).collect();
    let said: Vec<Event> = names.iter().map(|name| world.stopped(name, StopReason::Migrated)).collect();
    let outputs = world.step(said);
    assert!(names.iter().all(|name| placed(&outputs, name).is_some()));
    assert_eq!(placed(&outputs, "gang").unwrap().nodes.len(), 3);
}

/// As `fragmented`, but the run on the right leaves no CPU beside it; and four GPUs are free in another pool.
fn with_another_pool(class: CapacityClass, price_micros: i64) -> World {
    let mut world = World::with_nodes(2);
    world.step(vec![policy("classic", 10).into()]);
    world.step(vec![job("left", "red", 1, 4, 20).into(), job("filler", "red", 1, 4, 20).into()]);
    let mut right = job("right", "red", 1, 4, 20);
    right.gang.cpu_milli = CpuMilli(128_000);
    world.step(vec![right.into()]);
    let said = ["left", "filler", "right"].map(|name| started(&world, name)).to_vec();
    world.step(said);
    world.step(vec![world.finish("filler")]);
    let price = PoolPriced {
        pool: PoolId::from("pod/other"),
        price_micros_per_gpu_hour: RateMicros(price_micros),
        currency: usd(),
        effective_from_us: TimeUs(0),
        ..PoolPriced::default()
    };
    let other = node("other-0", "pod/other", 4, "leaf-9");
    world.step(vec![pool("pod/other", "pod", class).into(), price.into(), other.into()]);
    world
}

#[test]
fn what_can_go_on_in_another_pool_is_moved_there_only_if_that_costs_no_more() {
    for (class, price, moves) in
        [(CapacityClass::Owned, 0, true), (CapacityClass::Owned, 1_000_000, false), (CapacityClass::Reserved, 0, false)]
    {
        let mut world = with_another_pool(class, price);
        let mut outputs = world.step(vec![job("gang", "blue", 1, 8, 2).into()]);
        outputs.extend(world.advance(HOUR_US / 2));
        let told = moved(&outputs);
        assert_eq!(told.len(), usize::from(moves), "{class:?} {price}");
        if moves {
            assert_eq!((told[0].job.as_str(), told[0].to_pool.as_ref().unwrap().as_str()), ("left", "pod/other"));
            let outputs = stop(&mut world, "left");
            assert_eq!(placed(&outputs, "left").unwrap().pool.as_str(), "pod/other");
            assert!(placed(&outputs, "gang").is_some());
        }
    }
}

#[test]
fn moving_ends_though_gangs_go_on_waiting() {
    let most = SchedulingPolicySet { preemptions_max: Some(Count(3)), ..policy("fifo", 1_000) };
    let mut world = World::with_nodes(2);
    world.step(vec![most.into()]);
    let free = |name: &str| JobRequested { restore_us: None, ..job(name, "red", 1, 1, 0) };
    let mut moves = 0;
    let mut events: Vec<Event> = (0..6).map(|i| free(&format!("small-{i}")).into()).collect();
    let mut gangs = 0;
    for _ in 0..400 {
        let outputs = world.step(std::mem::take(&mut events));
        for output in &outputs {
            match output {
                Event::JobPlaced(e) => events.push(started(&world, e.job.as_str())),
                Event::JobMigrated(e) => {
                    moves += 1;
                    events.push(world.stopped(e.job.as_str(), StopReason::Migrated));
                }
                _ => {}
            }
        }
        world.now += 10 * MINUTE_US;
        let running: Vec<String> = world.kernel.state().runs.iter().map(|(_, run)| run.job.to_string()).collect();
        for name in running {
            match name.starts_with("gang") {
                true if events.is_empty() => events.push(world.finish(&name)),
                true => {}
                false if events.is_empty() => events.push(checkpointed(&world, &name, MINUTE_US)),
                false => {}
            }
        }
        gangs += 1;
        events.push(job(&format!("gang-{gangs}"), "blue", 1, 8, 0).into());
    }
    assert!(moves <= 6 * 3, "{moves} moves of six jobs that may be moved three times");
}

fn drain(node: &NodeId, state: NodeState) -> Event {
    NodeStateChanged { node: node.clone(), state, ..NodeStateChanged::default() }.into()
}

fn runs_on(world: &World, job: &str) -> NodeId {
    world.running[&JobId::from(job)].nodes[0].node.clone()
}

#[test]
fn a_drained_node_is_left_at_the_next_checkpoint_and_nothing_is_lost() {
    let mut world = fragmented("classic", 0);
    let node = runs_on(&world, "left");
    world.now += 10 * MINUTE_US;
    assert_eq!(moved(&world.step(vec![drain(&node, NodeState::Draining)])), []);
    world.now += 20 * MINUTE_US;
    let outputs = world.step(vec![checkpointed(&world, "left", 30 * MINUTE_US)]);
    let told = &moved(&outputs)[0];
    assert_eq!((told.cause, told.lost_work_us.0), (StopCause::Drain, 0));
    assert_eq!(told.to_pool.as_ref(), Some(&told.from_pool));
    world.now += SECOND_US;
    let outputs = stop(&mut world, "left");
    assert_eq!(placed(&outputs, "left").unwrap().nodes[0].node, runs_on(&world, "right"));
}

#[test]
fn a_drained_run_without_checkpoints_or_late_with_one_leaves_at_once() {
    let mut world = World::with_nodes(2);
    world.step(vec![policy("classic", 0).into()]);
    let plain = JobRequested { checkpoint_interval_us: None, ..job("plain", "red", 1, 4, 20) };
    world.step(vec![plain.into()]);
    world.step(vec![started(&world, "plain")]);
    let node = runs_on(&world, "plain");
    let told = moved(&world.step(vec![drain(&node, NodeState::Draining)]));
    assert_eq!((told.len(), told[0].to_pool.is_some()), (1, true));
    // One that is late with its checkpoint is not waited for; one that does not come in time is not waited for any longer.
    let mut world = fragmented("classic", 0);
    world.now += HOUR_US;
    let node = runs_on(&world, "left");
    assert_eq!(moved(&world.step(vec![drain(&node, NodeState::Draining)])).len(), 1);
    let mut world = fragmented("classic", 0);
    let node = runs_on(&world, "left");
    world.step(vec![drain(&node, NodeState::Draining)]);
    assert_eq!(moved(&world.advance(30 * MINUTE_US)), []);
    assert_eq!(moved(&world.advance(2 * MINUTE_US)).len(), 1);
}

#[test]
fn what_may_not_be_stopped_is_left_to_end_on_a_drained_node_and_a_cordoned_one_waits_for_all() {
    let mut world = World::with_nodes(2);
    world.step(vec![policy("classic", 0).into()]);
    let stubborn = JobRequested { preemptible: false, ..job("stubborn", "red", 1, 4, 20) };
    world.step(vec![stubborn.into()]);
    world.step(vec![started(&world, "stubborn")]);
    let node = runs_on(&world, "stubborn");
    world.step(vec![drain(&node, NodeState::Draining)]);
    assert_eq!(moved(&world.advance(10 * HOUR_US)), []);
    let mut world = fragmented("classic", 0);
    let node = runs_on(&world, "left");
    world.step(vec![drain(&node, NodeState::Cordoned)]);
    assert_eq!(moved(&world.advance(10 * HOUR_US)), []);
}

#[test]
fn a_drain_that_is_called_off_before_the_checkpoint_moves_nothing() {
    let mut world = fragmented("classic", 0);
    let node = runs_on(&world, "left");
    world.step(vec![drain(&node, NodeState::Draining)]);
    world.now += 10 * MINUTE_US;
    world.step(vec![drain(&node, NodeState::Ready)]);
    assert_eq!(world.kernel.index_differences(), Vec::<String>::new());
    world.now += 20 * MINUTE_US;
    let said = checkpointed(&world, "left", 30 * MINUTE_US);
    assert_eq!(moved(&world.step(vec![said])), []);
    assert_eq!(moved(&world.advance(5 * HOUR_US)), []);
}

#[test]
fn a_drained_pool_moves_its_runs_to_another_and_waits_where_there_is_none() {
    let mut world = fragmented("classic", 0);
    world.step(vec![
        pool("pod/other", "pod", CapacityClass::Owned).into(),
        node("other-0", "pod/other", 4, "leaf-9").into(),
    ]);
    world.now += HOUR_US;
    let scope = |state| ScopeStateChanged {
        scope_kind: ScopeKind::Pool,
        scope: RefId::from("pod/h100"),
        state,
        actor: Name::from("test"),
        reason: "test".to_owned(),
        ..ScopeStateChanged::default()
    };
    let outputs = world.step(vec![scope(ScopeState::Drained).into()]);
    let told = moved(&outputs);
    assert_eq!(told.len(), 2);
    assert_eq!(told.iter().filter(|told| told.to_pool == Some(PoolId::from("pod/other"))).count(), 1);
    assert_eq!(told.iter().filter(|told| told.to_pool.is_none()).count(), 1);
    world.now += SECOND_US;
    let said = vec![world.stopped("left", StopReason::Migrated), world.stopped("right", StopReason::Migrated)];
    let outputs = world.step(said);
    let target = told.iter().find(|told| told.to_pool.is_some()).unwrap().job.to_string();
    assert_eq!(placed(&outputs, &target).unwrap().pool.as_str(), "pod/other");
    let other = if target == "left" { "right" } else { "left" };
    assert!(matches!(held(&outputs, other).unwrap().limit.kind, LimitKind::Cordon | LimitKind::Gpus));
}

#[test]
fn a_tenant_at_its_quota_is_moved_without_taking_more_of_it() {
    let quota = QuotaSet {
        tenant: TenantId::from("red"),
        guaranteed_milli: GpuMilli(8_000),
        borrowing_limit_milli: Some(GpuMilli(0)),
        ..QuotaSet::default()
    };
    let mut world = fragmented("classic", 10);
    world.step(vec![quota.into()]);
    assert_eq!(moved(&gang_waits(&mut world)).len(), 1);
    let name = moved(&world.log)[0].job.to_string();
    let outputs = stop(&mut world, &name);
    assert!(placed(&outputs, &name).is_some() && placed(&outputs, "gang").is_some());
}

#[test]
fn nothing_is_moved_for_a_gang_that_what_is_set_aside_keeps_out() {
    let reservation = ReservationSet {
        reservation: RefId::from("kept"),
        tenant: TenantId::from("red"),
        gpus: Count(4),
        pool: Some(PoolId::from("pod/h100")),
        from_us: TimeUs(START),
        to_us: TimeUs(START + 100 * HOUR_US),
        ..ReservationSet::default()
    };
    let mut world = fragmented("classic", 10);
    world.step(vec![reservation.into()]);
    gang_waits(&mut world);
    world.advance(HOUR_US);
    assert_eq!(moved(&world.log), []);
    let cancelled = ReservationCancelled { reservation: RefId::from("kept"), ..ReservationCancelled::default() };
    world.step(vec![cancelled.into()]);
    world.advance(5 * MINUTE_US);
    assert_eq!(moved(&world.log).len(), 1);
}

#[test]
fn room_that_is_held_is_given_up_when_its_site_is_short_of_power_and_nobody_is_stopped_for_it() {
    let limit = |limit_w| PowerLimitSet {
        limit: RefId::from("site"),
        site: SiteId::from("pod"),
        limit_w: PowerW(limit_w),
        ..PowerLimitSet::default()
    };
    // Two nodes draw 1,000 W idle and each GPU in use 700 W: twelve while the room is held, eight are really in use.
    let mut world = fragmented("classic", 10);
    world.step(vec![limit(2_000 + 16 * 700).into()]);
    let told = moved(&gang_waits(&mut world));
    world.now += SECOND_US;
    let outputs = world.step(vec![limit(2_000 + 8 * 700).into()]);
    assert!(!outputs.iter().any(|output| matches!(output, Event::JobPreempted(_))));
    assert!(world.kernel.state().claims.get(&told[0].job).is_none());
    assert_eq!(world.kernel.index_differences(), Vec::<String>::new());
}
