//! What the kernel says of one job, asked for now or waiting.

use solyx_histories::*;
use solyx_kernel::follow::Follower;
use solyx_kernel::whatif::{Answer, Fate, Forecast, Rehearsal};
use solyx_schemas::events::Event;
use solyx_schemas::events::decisions::LimitKind;
use solyx_schemas::events::jobs::{Dependency, DependencyCondition, JobRequested};
use solyx_schemas::events::policy::SchedulingPolicySet;
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

use crate::class_of_value;

fn rehearsal(world: &World) -> Rehearsal {
    Follower::of(world.kernel.clone()).rehearsal()
}

fn asked(world: &World, request: JobRequested) -> Answer {
    let mut event = Event::from(request);
    identify(&mut event, 9_999, world.now);
    let Event::JobRequested(request) = event else { unreachable!() };
    rehearsal(world).job(&request).unwrap()
}

#[test]
fn a_job_that_fits_is_placed_where_the_kernel_then_places_it() {
    let mut world = World::with_nodes(2);
    let answer = asked(&world, job("x", "red", 1, 8, 2));
    let Fate::Placed { nodes, start, .. } = &answer.fate else { panic!("{answer:?}") };
    assert_eq!(answer.forecast, Forecast::Starts(*start));
    assert!(answer.pools[0].place.is_ok());
    world.step(vec![job("x", "red", 1, 8, 2).into()]);
    let placed = &world.running[&JobId::from("x")];
    assert_eq!(*nodes, placed.nodes);
    assert_eq!(answer.placed.unwrap().terms, placed.terms);
}

#[test]
fn a_request_may_name_jobs_that_are_over() {
    let mut world = World::with_nodes(1);
    world.step(vec![job("done", "red", 1, 8, 2).into()]);
    world.step(vec![world.finish("done")]);
    let behind = Dependency { job: JobId::from("done"), condition: DependencyCondition::Ok };
    let answer = asked(&world, JobRequested { depends_on: vec![behind], ..job("x", "red", 1, 8, 2) });
    assert!(matches!(answer.fate, Fate::Placed { .. }), "{answer:?}");
    let mut again = Event::from(job("done", "red", 1, 8, 2));
    identify(&mut again, 9_999, world.now);
    let Event::JobRequested(again) = again else { unreachable!() };
    assert!(rehearsal(&world).job(&again).unwrap_err().contains("field job"));
}

#[test]
fn nothing_of_a_question_reaches_the_kernel() {
    let mut world = World::with_nodes(1);
    world.step(vec![job("a", "red", 1, 8, 2).into(), job("b", "red", 1, 8, 2).into()]);
    let before = world.kernel.snapshot();
    asked(&world, job("x", "red", 1, 8, 2));
    rehearsal(&world).waiting(&JobId::from("b")).unwrap();
    assert_eq!(world.kernel.snapshot(), before);
}

#[test]
fn who_would_be_stopped_for_a_job_is_said_though_the_last_tick_was_just_now() {
    let of = |name: &str, class: &str| JobRequested { class: ClassId::from(class), ..job(name, "red", 1, 8, 20) };
    let mut world = World::with_nodes(1);
    let policy = SchedulingPolicySet { run_lease_us: Some(DurationUs(1_000 * HOUR_US)), ..ordered_by("classic") };
    world.step(vec![policy.into(), class_of_value("urgent", 100), class_of_value("calm", 0)]);
    world.step(vec![of("runs", "calm").into()]);
    // Somebody waits, so that there are ticks.
    world.step(vec![of("waits", "calm").into()]);
    world.advance(60 * SECOND_US);
    let answer = asked(&world, of("x", "urgent"));
    assert_eq!(answer.victims, [(JobId::from("runs"), RunId::from("runs/1"))]);
    let Forecast::Starts(start) = answer.forecast else { panic!("{answer:?}") };
    assert!(start <= TimeUs(world.now + 600 * SECOND_US), "{start}");
}

#[test]
fn a_job_that_waits_hears_its_limit_its_place_and_when_it_starts() {
    let mut world = World::with_nodes(1);
    world.step(vec![job("a", "red", 1, 8, 2).into()]);
    world.step(vec![job("b", "red", 1, 8, 3).into(), job("c", "blue", 1, 8, 1).into()]);
    let answer = rehearsal(&world).waiting(&JobId::from("c")).unwrap();
    let Fate::Waits { limit, .. } = &answer.fate else { panic!("{answer:?}") };
    assert_eq!(limit.kind, LimitKind::Gpus);
    let line = answer.line.unwrap();
    assert_eq!(line.rule.as_str(), "share-surcharge");
    // It has said that it is the shorter one, which puts it before the other.
    assert_eq!((line.ahead, line.ahead_of_tenant), (0, 0));
    let end_of_a = world.running[&JobId::from("a")].expected_end_us.unwrap();
    assert_eq!(answer.earliest, Some(end_of_a));
    assert_eq!(answer.forecast, Forecast::Starts(end_of_a));
    let later = rehearsal(&world).waiting(&JobId::from("b")).unwrap();
    assert_eq!(later.line.unwrap().ahead, 1);
    assert_eq!(later.earliest, Some(end_of_a), "it knows nothing of who goes before");
    assert_eq!(later.forecast, Forecast::Starts(end_of_a.after(DurationUs(HOUR_US))));
}

#[test]
fn the_forecast_comes_true_when_all_goes_as_expected() {
    let mut world = World::with_nodes(2);
    // Nobody renews leases here.
    let policy =
        SchedulingPolicySet { run_lease_us: Some(DurationUs(1_000 * HOUR_US)), ..ordered_by("share-surcharge") };
    world.step(vec![policy.into()]);
    for n in 0..8 {
        world.step(vec![job(&format!("j{n}"), if n % 2 == 0 { "red" } else { "blue" }, 1, 4, 1 + n % 3).into()]);
    }
    let waiting: Vec<JobId> =
        (0..8).map(|n| JobId::from(format!("j{n}"))).filter(|id| !world.running.contains_key(id)).collect();
    assert!(!waiting.is_empty());
    let told: Vec<Forecast> = waiting.iter().map(|id| rehearsal(&world).waiting(id).unwrap().forecast).collect();
    for _ in 0..10 {
        let ends: Vec<(i64, JobId)> =
            world.running.values().filter_map(|p| Some((p.expected_end_us?.0, p.job.clone()))).collect();
        let Some((end, job)) = ends.into_iter().min() else { break };
        world.now = end.max(world.now);
        let finished = world.finish(job.as_str());
        world.running.remove(&job);
        world.step(vec![finished]);
    }
    let starts = world.log.iter().filter_map(|event| match event {
        Event::JobPlaced(placed) => Some((placed.job.clone(), placed.start_us)),
        _ => None,
    });
    let starts: std::collections::BTreeMap<JobId, TimeUs> = starts.collect();
    let came: Vec<Forecast> = waiting.iter().map(|id| Forecast::Starts(starts[id])).collect();
    assert_eq!(told, came);
}

#[test]
fn a_job_that_no_pool_can_ever_hold_never_starts_and_says_why() {
    let world = World::with_nodes(1);
    let answer = asked(&world, job("x", "red", 4, 8, 1));
    assert!(matches!(&answer.fate, Fate::Waits { limit, .. } if limit.kind == LimitKind::Gpus), "{answer:?}");
    assert_eq!((answer.earliest, answer.forecast), (None, Forecast::Never));
    let refusal = answer.pools[0].place.as_ref().unwrap_err();
    assert_eq!((refusal.asked, refusal.available), (Some(32_000), Some(8_000)));
}

#[test]
fn a_request_that_cannot_be_is_refused_with_its_field() {
    let world = World::with_nodes(1);
    let mut request = job("x", "red", 1, 8, 1);
    request.gang.replicas_max = Count(0);
    let mut event = Event::from(request);
    identify(&mut event, 9_999, world.now);
    let Event::JobRequested(request) = event else { unreachable!() };
    let refused = rehearsal(&world).job(&request).unwrap_err();
    assert!(refused.contains("replicas_max"), "{refused}");
}
