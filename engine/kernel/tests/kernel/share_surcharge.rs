//! The order rule `share-surcharge`: promised shares first, then the time of the request plus a surcharge for used GPU time.

use std::collections::BTreeMap;

use solyx_histories::kept_room::KeptRoom;
use solyx_histories::*;
use solyx_kernel::Kernel;
use solyx_kernel::follow::Follower;
use solyx_schemas::events::Event;
use solyx_schemas::events::decisions::{JobPreempted, LimitKind, StopCause};
use solyx_schemas::events::policy::*;
use solyx_schemas::events::runs::*;
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

use crate::guaranteed_to;

const MINUTE_US: i64 = 60 * SECOND_US;

/// Two tenants with a promise of 14 GPUs each on four nodes of eight, and a policy that leaves runs alone for 15 minutes.
fn world() -> World {
    let mut world = World::with_nodes(4);
    world.step(vec![policy(10).into(), left_alone_at_first()]);
    world
}

/// The class of plain jobs, which are left alone for 15 minutes.
pub fn left_alone_at_first() -> Event {
    PriorityClassSet {
        class: ClassId::from("standard"),
        value: 100,
        preemptible: true,
        minimum_run_us: DurationUs(15 * MINUTE_US),
        ..PriorityClassSet::default()
    }
    .into()
}

/// The rule, with so many preemptions of one job.
pub fn policy(preemptions_max: i64) -> SchedulingPolicySet {
    SchedulingPolicySet {
        preemptions_max: Some(Count(preemptions_max)),
        run_lease_us: Some(DurationUs(10_000 * HOUR_US)),
        ..ordered_by("share-surcharge")
    }
}

/// A job that says nothing of its length.
fn ask(name: &str, tenant: &str, replicas: i64, gpus: i64) -> Event {
    job(name, tenant, replicas, gpus, 0).into()
}

fn told_to_stop(outputs: &[Event]) -> Vec<JobPreempted> {
    let told = outputs.iter().filter_map(|output| match output {
        Event::JobPreempted(told) => Some((**told).clone()),
        _ => None,
    });
    told.collect()
}

/// Starts jobs and says that they run.
fn run(world: &mut World, jobs: Vec<Event>) {
    let names: Vec<String> = jobs.iter().map(|job| job.key().into_owned()).collect();
    world.step(jobs);
    let said = names.iter().map(|name| started(world, name)).collect();
    world.step(said);
}

#[test]
fn a_promised_share_is_given_back_within_minutes_and_whole_gangs_with_the_least_lost_work_stop_for_it() {
    let mut world = world();
    run(&mut world, (0..4).map(|i| ask(&format!("red-{i}"), "red", 1, 8)).collect());
    world.advance(20 * MINUTE_US);
    let done = 20 * MINUTE_US / 1_000 * 1_000;
    let said = vec![checkpointed(&world, "red-2", done)];
    world.step(said);
    world.now += 2 * MINUTE_US;
    let outputs = world.step(vec![ask("blue", "blue", 1, 8)]);
    let told = told_to_stop(&outputs);
    assert_eq!(told.len(), 1, "{outputs:?}");
    assert_eq!((told[0].job.as_str(), told[0].cause), ("red-2", StopCause::Priority));
    assert_eq!(told[0].for_job, Some(JobId::from("blue")));
    // The room is kept for it until the victim has stopped, whoever comes in between.
    world.now += SECOND_US;
    let stopped = world.stopped("red-2", StopReason::Preempted);
    let outputs = world.step(vec![ask("red-late", "red", 1, 1), stopped]);
    assert!(placed(&outputs, "blue").is_some(), "{outputs:?}");
    assert!(placed(&outputs, "red-late").is_none());
}

#[test]
fn what_a_tenant_has_within_its_promise_is_not_taken_back() {
    let mut world = world();
    // Each has 16 of 32, 14 promised: both borrow two; with gangs of eight nothing of it can be given back for a third of eight.
    run(&mut world, vec![ask("red-0", "red", 1, 6), ask("red-1", "red", 1, 6), ask("red-2", "red", 1, 2)]);
    run(&mut world, vec![ask("blue-0", "blue", 1, 6), ask("blue-1", "blue", 1, 6)]);
    world.step(vec![ask("big", "blue", 2, 8)]);
    for _ in 0..60 {
        let outputs = world.advance(MINUTE_US);
        assert_eq!(told_to_stop(&outputs), Vec::new());
    }
}

#[test]
fn what_is_guaranteed_to_one_is_promised_to_nobody_else() {
    let mut world = world();
    world.step(vec![guaranteed_to("red", 24).into()]);
    // Of 28 promised, 24 are red's: blue is left four, and has borrowed the rest.
    run(&mut world, (0..4).map(|i| ask(&format!("blue-{i}"), "blue", 1, 8)).collect());
    world.advance(20 * MINUTE_US);
    let mut outputs = world.step(vec![ask("red", "red", 3, 8)]);
    outputs.extend(world.advance(2 * MINUTE_US));
    assert_eq!(told_to_stop(&outputs).len(), 3, "{outputs:?}");
}

#[test]
fn of_a_tenant_no_more_is_taken_back_than_it_has_borrowed() {
    let mut world = World::with_nodes(1);
    let green = TenantDeclared { tenant: TenantId::from("green"), ..tenant_of_weight_one() };
    world.step(vec![policy(10).into(), left_alone_at_first(), green.into()]);
    world.step([("red", 4), ("blue", 3), ("green", 1)].map(|(tenant, gpus)| guaranteed_to(tenant, gpus).into()).into());
    run(&mut world, (0..3).map(|i| ask(&format!("green-{i}"), "green", 1, 1)).collect());
    world.advance(30 * MINUTE_US);
    // What red runs has lost less by then, but only one of it is borrowed.
    run(&mut world, (0..5).map(|i| ask(&format!("red-{i}"), "red", 1, 1)).collect());
    world.advance(20 * MINUTE_US);
    let mut outputs = world.step(vec![ask("blue", "blue", 1, 3)]);
    outputs.extend(world.advance(12 * MINUTE_US));
    let whose = |told: &JobPreempted| told.job.as_str().split('-').next().unwrap_or_default().to_owned();
    let mut told: Vec<String> = told_to_stop(&outputs).iter().map(whose).collect();
    told.sort();
    assert_eq!(told, ["green", "green", "red"], "{outputs:?}");
}

#[test]
fn a_long_job_gives_way_to_new_ones_of_its_tenant_and_goes_on_where_it_was() {
    let mut world = world();
    run(&mut world, (0..4).map(|i| ask(&format!("long-{i}"), "red", 1, 8)).collect());
    // After three hours each has used 24 GPU-hours, two steps.
    for _ in 0..6 {
        world.advance(30 * MINUTE_US);
        let kept = (world.now - START) / 1_000 * 1_000;
        let said = (0..4).map(|i| checkpointed(&world, &format!("long-{i}"), kept)).collect();
        world.step(said);
    }
    world.now += SECOND_US;
    world.step(vec![ask("short", "red", 1, 8)]);
    let mut told = Vec::new();
    for _ in 0..3 {
        told.extend(told_to_stop(&world.advance(12 * MINUTE_US)));
        let kept = (world.now - START) / 1_000 * 1_000;
        let said = (0..4).map(|i| checkpointed(&world, &format!("long-{i}"), kept)).collect();
        told.extend(told_to_stop(&world.step(said)));
    }
    assert_eq!(told.len(), 1, "one gang makes room, and no more");
    let victim = told[0].job.to_string();
    let outputs = world.step(vec![world.stopped(&victim, StopReason::Preempted)]);
    assert!(placed(&outputs, "short").is_some());
    let limit = &held(&outputs, &victim).unwrap().limit;
    assert_eq!(limit.kind, LimitKind::Gpus);
    let outputs = world.step(vec![world.finish("short")]);
    let again = placed(&outputs, &victim).unwrap();
    assert!(again.from_work_us.0 > 2 * HOUR_US, "it goes on from its last checkpoint");
}

#[test]
fn a_job_is_stopped_for_the_order_of_the_line_half_as_often_as_at_all() {
    let mut world = world();
    world.step(vec![policy(4).into()]);
    run(&mut world, vec![ask("long", "red", 4, 8)]);
    let mut stops = 0;
    for turn in 0..5 {
        world.advance(4 * HOUR_US);
        let name = format!("short-{turn}");
        world.step(vec![ask(&name, "red", 1, 1)]);
        // A waiting job of one GPU can pay for 32 only after long.
        let mut told = Vec::new();
        for _ in 0..10 {
            let kept = (world.now - START) / 1_000 * 1_000;
            let said = vec![checkpointed(&world, "long", kept)];
            told.extend(told_to_stop(&world.step(said)));
            if !told.is_empty() {
                break;
            }
            world.now += HOUR_US;
        }
        if told.is_empty() {
            let said = vec![world.finish("long")];
            assert!(placed(&world.step(said), &name).is_some());
            break;
        }
        stops += 1;
        let said = vec![world.stopped("long", StopReason::Preempted)];
        assert!(placed(&world.step(said), &name).is_some());
        let said = vec![world.finish(&name)];
        assert!(placed(&world.step(said), "long").is_some());
        let said = vec![started(&world, "long")];
        world.step(said);
    }
    assert_eq!(stops, 2);
}

#[test]
fn what_room_was_made_for_counts_once_against_a_share() {
    let mut world = World::with_nodes(3);
    world.step(vec![policy(10).into(), guaranteed_to("red", 16).into(), guaranteed_to("blue", 8).into()]);
    run(&mut world, ["first", "second", "third"].map(|name| ask(name, "blue", 1, 8)).into());
    let mut outputs = world.step(vec![ask("owed", "red", 1, 8)]);
    outputs.extend(world.advance(MINUTE_US));
    let told = told_to_stop(&outputs);
    let stops = told.first().expect("its share is given back").job.clone();
    let ends = ["first", "second", "third"].into_iter().find(|name| *name != stops.as_str()).unwrap();
    let said = [world.stopped(stops.as_str(), StopReason::Preempted), world.finish(ends)];
    // With what room was made for red has 8 of its 16, and blue all that it is promised.
    let asked = [ask("borrows", "blue", 1, 8), ask("within", "red", 1, 8)];
    let outputs = world.step(said.into_iter().chain(asked).collect());
    assert!(placed(&outputs, "owed").is_some(), "{outputs:?}");
    assert!(placed(&outputs, "within").is_some(), "{outputs:?}");
}

/// How many minutes gangs of eight wait that a share holds, each with its tenant, on as many nodes and one more for which short jobs of
/// another tenant come all the time: one GPU for so many minutes each in turn, so that on each node somebody has always just begun.
fn waits_beside_short_jobs(gangs: &[(&str, &str)], lengths: &[i64]) -> Vec<i64> {
    beside_short_jobs(gangs, lengths, false).0
}

/// The same, with all that is decided; the kernel is restored from a snapshot each minute if that is asked for.
fn beside_short_jobs(gangs: &[(&str, &str)], lengths: &[i64], is_restored: bool) -> (Vec<i64>, Vec<Event>) {
    let nodes = gangs.len() + 1;
    let mut world = World::with_nodes(nodes);
    world.step(vec![policy(10).into(), left_alone_at_first(), guaranteed_to("blue", 8).into()]);
    for (tenant, _) in gangs {
        let gpus = 8 * gangs.iter().filter(|(of, _)| of == tenant).count() as i64;
        let tenant_declared = TenantDeclared { tenant: TenantId::from(*tenant), ..tenant_of_weight_one() };
        world.step(vec![tenant_declared.into(), guaranteed_to(tenant, gpus).into()]);
    }
    let mut running: Vec<(i64, String)> = Vec::new();
    let mut waited: BTreeMap<String, i64> = BTreeMap::new();
    let (mut asked, mut all, mut kept_room) = (0, Vec::new(), KeptRoom::default());
    let mut step = |world: &mut World, events: Vec<Event>| {
        let closed = world.close(events);
        kept_room.epoch(world.kernel.state(), &closed);
        assert_eq!(world.kernel.index_differences(), Vec::<String>::new());
        all.extend(closed.outputs.clone());
        closed.outputs
    };
    for minute in 0..100 {
        if is_restored {
            world.kernel = Kernel::restore(world.kernel.snapshot()).unwrap();
        }
        let over: Vec<String> =
            running.iter().filter(|(end, _)| *end == minute).map(|(_, name)| name.clone()).collect();
        running.retain(|(end, _)| *end > minute);
        let mut events: Vec<Event> = over.iter().map(|name| world.finish(name)).collect();
        for _ in 0..if minute < 9 { nodes } else { over.len() } {
            asked += 1;
            events.push(ask(&format!("short-{asked}"), "blue", 1, 1));
        }
        if minute == 30 {
            events.extend(gangs.iter().map(|(tenant, name)| ask(name, tenant, 1, 8)));
        }
        let mut outputs = step(&mut world, events);
        world.now += MINUTE_US;
        outputs.extend(step(&mut world, Vec::new()));
        let begun = outputs.iter().filter_map(|output| match output {
            Event::JobPlaced(placed) => Some(placed.job.to_string()),
            _ => None,
        });
        let begun: Vec<String> = begun.collect();
        let said = begun.iter().map(|name| started(&world, name)).collect();
        step(&mut world, said);
        for name in begun {
            match name.starts_with("short") {
                true => running.push((minute + lengths[running.len() % lengths.len()], name)),
                false => _ = waited.insert(name, minute - 30),
            }
        }
        if waited.len() == gangs.len() {
            break;
        }
        let stopping: Vec<String> = told_to_stop(&outputs).into_iter().map(|told| told.job.to_string()).collect();
        running.retain(|(_, name)| !stopping.contains(name));
        let stopped = stopping.iter().map(|name| world.stopped(name, StopReason::Preempted)).collect();
        step(&mut world, stopped);
    }
    (gangs.iter().map(|(_, name)| waited.get(*name).copied().unwrap_or(i64::MAX)).collect(), all)
}

#[test]
fn a_stream_of_short_jobs_keeps_no_promised_gang_from_its_share() {
    let waited = waits_beside_short_jobs(&[("red", "gang")], &[9]);
    assert!((1..=20).contains(&waited[0]), "the gang waited for {waited:?} minutes");
}

#[test]
fn each_of_several_promised_gangs_has_nodes_cleared_of_its_own() {
    let of_one = [("red", "gang-1"), ("red", "gang-2"), ("red", "gang-3")];
    let of_each = [("red", "gang-1"), ("green", "gang-2"), ("white", "gang-3")];
    let lengths: [&[i64]; 2] = [&[9], &[3, 11, 5, 13, 8]];
    for (gangs, lengths) in [of_one, of_each].iter().flat_map(|gangs| lengths.map(|lengths| (gangs, lengths))) {
        let waited = waits_beside_short_jobs(gangs, lengths);
        assert!(waited.iter().all(|minutes| (1..=20).contains(minutes)), "{gangs:?} waited for {waited:?} minutes");
    }
}

#[test]
fn a_kernel_restored_while_nodes_are_closed_goes_on_to_the_same_bits() {
    let gangs = [("red", "gang-1"), ("red", "gang-2"), ("green", "gang-3")];
    let lengths = [3, 11, 5, 13, 8];
    assert_eq!(beside_short_jobs(&gangs, &lengths, true), beside_short_jobs(&gangs, &lengths, false));
}

#[test]
fn a_job_hears_which_nodes_are_closed_for_it_and_nobody_new_comes_there() {
    let mut world = World::with_nodes(1);
    world.step(vec![policy(10).into(), left_alone_at_first(), guaranteed_to("red", 8).into()]);
    run(&mut world, (0..8).map(|i| ask(&format!("short-{i}"), "blue", 1, 1)).collect());
    let begun = world.now;
    world.advance(5 * MINUTE_US);
    world.step(vec![ask("gang", "red", 1, 8)]);
    let closed = |world: &World| {
        let answer = Follower::of(world.kernel.clone()).rehearsal().waiting(&JobId::from("gang")).unwrap();
        answer.line.and_then(|line| line.closed)
    };
    assert_eq!(closed(&world), None);
    for _ in 0..4 {
        world.advance(MINUTE_US);
    }
    let told = closed(&world).expect("it has been owed room for four minutes");
    assert_eq!((told.nodes.len(), told.clear_us), (1, TimeUs(begun + 15 * MINUTE_US)));
    let said = vec![world.finish("short-0"), ask("late", "blue", 1, 1)];
    let outputs = world.step(said);
    assert!(placed(&outputs, "late").is_none(), "{outputs:?}");
    assert_eq!(held(&outputs, "late").unwrap().limit.kind, LimitKind::Draining);
    // All that is left may be stopped then.
    let mut stopped = Vec::new();
    for _ in 0..8 {
        stopped.extend(told_to_stop(&world.advance(MINUTE_US)));
    }
    assert_eq!(stopped.len(), 7, "{stopped:?}");
    assert!(stopped.iter().all(|told| told.for_job == Some(JobId::from("gang"))));
}
