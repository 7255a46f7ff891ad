//! Several promised starts at a time, and room that is made for those who were promised one.

use solyx_histories::*;
use solyx_schemas::events::Event;
use solyx_schemas::events::decisions::LimitKind;
use solyx_schemas::events::jobs::*;
use solyx_schemas::events::policy::*;
use solyx_schemas::events::runs::StopReason;
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

use crate::class;

/// Four nodes, one of them free; runs on the others for two, four and six hours; three gangs promised their starts if policy lets so
/// many be.
fn several_gangs(reservations: i64) -> (World, Vec<Event>) {
    let mut world = World::with_nodes(4);
    let policy = SchedulingPolicySet {
        run_lease_us: Some(DurationUs(1_000 * HOUR_US)),
        backfill_reservations: Some(Count(reservations)),
        ..ordered_by("fifo")
    };
    world.step(vec![policy.into()]);
    for hours in [2, 4, 6] {
        world.step(vec![job(&format!("runs-{hours}"), "blue", 1, 8, hours).into()]);
    }
    let gangs = ["first", "second", "third"].map(|name| job(name, "red", 2, 8, 3).into());
    let outputs = world.step(gangs.into());
    (world, outputs)
}

#[test]
fn as_many_gangs_are_promised_their_starts_as_policy_says() {
    let starts = |reservations| {
        let (_, outputs) = several_gangs(reservations);
        ["first", "second", "third"].map(|name| {
            let earliest = held(&outputs, name).and_then(|held| held.earliest_start_us);
            earliest.map(|at| (at.0 - START) / HOUR_US)
        })
    };
    // The first has the free node and that of two hours; the second those of four and, at six, either; the third follows.
    assert_eq!(starts(1), [Some(2), None, None]);
    assert_eq!(starts(2), [Some(2), Some(5), None]);
    assert_eq!(starts(3), [Some(2), Some(5), Some(6)]);
}

#[test]
fn whoever_would_delay_a_later_promise_waits_for_it() {
    // Until the fourth hour one node is nobody's but the second gang's by then.
    let (mut world, _) = several_gangs(3);
    world.now += 2 * HOUR_US;
    let ends = world.finish("runs-2");
    let outputs = world.step(vec![ends]);
    assert!(placed(&outputs, "first").is_some());
    world.now += 2 * HOUR_US;
    let ends = world.finish("runs-4");
    world.step(vec![ends]);
    let outputs = world.step(vec![job("long", "blue", 1, 8, 9).into()]);
    let limit = &held(&outputs, "long").unwrap().limit;
    assert_eq!((limit.kind, limit.subject.as_ref().map(|of| of.as_str())), (LimitKind::Backfill, Some("second")));
    assert!(placed(&world.step(vec![job("short", "blue", 1, 8, 1).into()]), "short").is_some());
}

/// Two gangs of a class that preempts are promised their starts on either of two nodes: one run may not be stopped, the other may.
#[test]
fn of_two_promised_gangs_room_is_made_for_the_first() {
    let policy = SchedulingPolicySet {
        run_lease_us: Some(DurationUs(1_000 * HOUR_US)),
        backfill_reservations: Some(Count(2)),
        ..ordered_by("fifo")
    };
    let of =
        |name: &str, class: &str, hours| JobRequested { class: ClassId::from(class), ..job(name, "red", 1, 8, hours) };
    let mut world = World::with_nodes(2);
    world.step(vec![policy.into(), class("pushy", 50, true), class("bulk", 10, false)]);
    let fixed = JobRequested { preemptible: false, ..of("fixed", "bulk", 1) };
    world.step(vec![fixed.into(), of("bulk", "bulk", 10).into()]);
    let mut outputs = world.step(vec![of("first", "pushy", 20).into(), of("second", "pushy", 20).into()]);
    let promised = world.kernel.state().meta().promised.clone();
    assert_eq!(promised, [JobId::from("first"), JobId::from("second")]);
    outputs.extend(world.advance(HOUR_US / 2));
    let stopped = |output: &Event| match output {
        Event::JobPreempted(e) => Some((e.job.to_string(), e.for_job.as_ref()?.to_string())),
        _ => None,
    };
    let stopped: Vec<_> = outputs.iter().filter_map(stopped).collect();
    assert_eq!(stopped, [("bulk".to_owned(), "first".to_owned())]);
}

/// Both nodes are kept for a promised gang that two runs stop for: whoever else waits for room leaves them to it.
#[test]
fn room_that_is_made_for_a_promised_gang_stays_its_own() {
    let policy = SchedulingPolicySet { run_lease_us: Some(DurationUs(1_000 * HOUR_US)), ..ordered_by("fifo") };
    let of = |name: &str, class: &str, replicas| JobRequested {
        class: ClassId::from(class),
        ..job(name, "red", replicas, 8, 10)
    };
    let mut world = World::with_nodes(2);
    world.step(vec![policy.into(), class("pushy", 50, true), class("bulk", 10, false)]);
    world.step(vec![of("a", "bulk", 1).into(), of("b", "bulk", 1).into()]);
    world.step(vec![of("gang", "pushy", 2).into(), of("other", "pushy", 1).into()]);
    world.advance(HOUR_US / 2);
    assert!(world.kernel.state().claims.contains(&JobId::from("gang")));
    assert_eq!(world.kernel.index_differences(), Vec::<String>::new());
    let stopped = world.stopped("a", StopReason::Preempted);
    let outputs = world.step(vec![stopped, of("small", "bulk", 1).into()]);
    assert!(placed(&outputs, "small").is_none() && placed(&outputs, "other").is_none(), "{outputs:?}");
    let stopped = world.stopped("b", StopReason::Preempted);
    assert!(placed(&world.step(vec![stopped]), "gang").is_some());
}

#[test]
fn another_order_rule_knows_nothing_of_starts_that_were_promised() {
    let (mut world, _) = several_gangs(3);
    assert_eq!(world.kernel.state().meta().promised.len(), 3);
    world.step(vec![ordered_by("las").into()]);
    assert_eq!(world.kernel.state().meta().promised, []);
}
