//! Elastic jobs: they start with their least number of replicas, grow into room that nobody waits for and give it back.

use solyx_histories::*;
use solyx_schemas::events::Event;
use solyx_schemas::events::decisions::{JobResized, LimitKind};
use solyx_schemas::events::jobs::*;
use solyx_schemas::events::policy::SchedulingPolicySet;
use solyx_schemas::events::runs::*;
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

const MINUTE_US: i64 = 60 * SECOND_US;

/// Nodes of eight GPUs, and runs whose leases do not end.
fn world(nodes: usize) -> World {
    let mut world = World::with_nodes(nodes);
    world.step(vec![policy("share-surcharge").into()]);
    world
}

fn policy(rule: &str) -> SchedulingPolicySet {
    SchedulingPolicySet { run_lease_us: Some(DurationUs(10_000 * HOUR_US)), ..ordered_by(rule) }
}

/// A job of `least` to `most` replicas of eight GPUs.
fn elastic(name: &str, tenant: &str, (least, most): (i64, i64), hours: i64) -> Event {
    let mut asked = job(name, tenant, least, 8, hours);
    asked.gang.replicas_max = Count(most);
    asked.into()
}

/// What a job has done by now, as its run reports it.
fn checkpoint(world: &mut World, job: &str) -> Vec<Event> {
    let placed = &world.running[&JobId::from(job)];
    let done = (world.now - placed.now_us.0) / 1_000 * placed.speed_milli.0;
    let said = checkpointed(world, job, placed.from_work_us.0 + done);
    world.step(vec![said])
}

fn resized(outputs: &[Event]) -> Option<&JobResized> {
    outputs.iter().find_map(|output| match output {
        Event::JobResized(told) => Some(&**told),
        _ => None,
    })
}

fn run(world: &mut World, jobs: Vec<Event>) -> Vec<Event> {
    let names: Vec<String> = jobs.iter().map(|job| job.key().into_owned()).collect();
    let outputs = world.step(jobs);
    let said = names.iter().map(|name| started(world, name)).collect();
    world.step(said);
    outputs
}

fn stop(world: &mut World, job: &str, reason: StopReason, kept_work_us: i64) -> Vec<Event> {
    let Event::RunStopped(mut said) = world.stopped(job, reason) else { unreachable!() };
    said.kept_work_us = WorkUs(kept_work_us);
    world.step(vec![Event::RunStopped(said)])
}

#[test]
fn a_job_starts_with_as_many_replicas_as_fit_when_nobody_waits() {
    let mut world = world(3);
    let outputs = world.step(vec![elastic("wide", "red", (2, 8), 6)]);
    let wide = placed(&outputs, "wide").unwrap();
    assert_eq!((wide.replicas.0, wide.nodes.len(), wide.gpu_milli.0, wide.speed_milli.0), (3, 3, 24_000, 1_500));
    // Six hours of two replicas are four of three.
    assert_eq!(wide.expected_end_us, Some(TimeUs(world.now + 4 * HOUR_US)));
}

#[test]
fn a_job_starts_with_its_least_number_rather_than_wait_and_never_with_fewer() {
    let mut world = world(3);
    run(&mut world, vec![elastic("fixed", "blue", (1, 1), 0)]);
    let outputs = run(&mut world, vec![elastic("wide", "red", (2, 8), 6)]);
    assert_eq!(placed(&outputs, "wide").unwrap().replicas.0, 2);
    let outputs = world.step(vec![elastic("more", "red", (2, 8), 6)]);
    assert_eq!(held(&outputs, "more").unwrap().limit.kind, LimitKind::Gpus);
}

#[test]
fn jobs_of_one_epoch_all_start_with_their_least_number_before_any_of_them_grows() {
    let mut world = world(4);
    let outputs = world.step(vec![elastic("first", "red", (1, 4), 6), elastic("second", "blue", (1, 4), 6)]);
    let replicas = |name| placed(&outputs, name).unwrap().replicas.0;
    assert_eq!(replicas("first") + replicas("second"), 4);
    assert!(replicas("first") >= 1 && replicas("second") >= 1);
    let mut world = self::world(4);
    let fixed = job("gang", "blue", 3, 8, 6);
    let outputs = world.step(vec![elastic("first", "red", (1, 4), 6), fixed.into()]);
    assert_eq!(placed(&outputs, "first").unwrap().replicas.0, 1);
    assert_eq!(placed(&outputs, "gang").unwrap().replicas.0, 3);
}

#[test]
fn nothing_grows_while_somebody_waits_for_the_room() {
    let mut world = world(4);
    run(&mut world, vec![elastic("fixed", "blue", (2, 2), 0)]);
    // Two nodes are left: the gang of three waits for a third, and the elastic job leaves it its second.
    let outputs = world.step(vec![job("gang", "blue", 3, 8, 6).into(), elastic("wide", "red", (1, 4), 6)]);
    assert!(held(&outputs, "gang").is_some());
    assert_eq!(placed(&outputs, "wide").unwrap().replicas.0, 1);
}

#[test]
fn what_cannot_be_preempted_is_lent_nothing() {
    let mut world = world(4);
    let Event::JobRequested(mut wide) = elastic("wide", "red", (1, 4), 6) else { unreachable!() };
    wide.preemptible = false;
    let outputs = world.step(vec![Event::JobRequested(wide)]);
    assert_eq!(placed(&outputs, "wide").unwrap().replicas.0, 1);
}

#[test]
fn a_quota_bounds_growth() {
    let mut world = world(4);
    let quota = solyx_schemas::events::policy::QuotaSet {
        tenant: TenantId::from("red"),
        guaranteed_milli: GpuMilli(20_000),
        borrowing_limit_milli: Some(GpuMilli(0)),
        ..Default::default()
    };
    let outputs = world.step(vec![quota.into(), elastic("wide", "red", (1, 4), 6)]);
    assert_eq!(placed(&outputs, "wide").unwrap().replicas.0, 2);
}

/// A world of four nodes in which `wide` (1 to 4 replicas, 40 hours) runs with one, and three nodes have just become free.
fn with_room() -> World {
    let mut world = world(4);
    run(&mut world, vec![job("gang", "blue", 3, 8, 0).into(), elastic("wide", "red", (1, 4), 40)]);
    world.now += 30 * MINUTE_US;
    world.step(vec![world.finish("gang")]);
    world
}

#[test]
fn a_run_grows_at_a_checkpoint_once_the_room_has_been_idle_and_keeps_its_work() {
    let mut world = with_room();
    assert_eq!(world.running[&JobId::from("wide")].replicas.0, 1);
    assert!(resized(&checkpoint(&mut world, "wide")).is_none(), "the room may be gone in a moment");
    world.now += 30 * MINUTE_US;
    let outputs = checkpoint(&mut world, "wide");
    let told = resized(&outputs).unwrap();
    assert_eq!((told.from_replicas.0, told.to_replicas.0, told.kept_work_us.0), (1, 4, HOUR_US));
    assert_eq!((told.lost_work_us.0, told.lost_cost.clone()), (0, None));
    world.now += MINUTE_US;
    let outputs = stop(&mut world, "wide", StopReason::Resized, HOUR_US);
    let again = placed(&outputs, "wide").unwrap();
    assert_eq!((again.replicas.0, again.speed_milli.0, again.from_work_us.0), (4, 4_000, HOUR_US));
    // 39 hours of one replica left, and five minutes to restore.
    assert_eq!(again.expected_end_us, Some(TimeUs(world.now + 39 * HOUR_US / 4 + 5 * MINUTE_US)));
}

#[test]
fn who_comes_while_a_run_stops_to_grow_has_the_room_and_the_run_what_it_had() {
    let mut world = with_room();
    checkpoint(&mut world, "wide");
    world.now += 30 * MINUTE_US;
    assert!(resized(&checkpoint(&mut world, "wide")).is_some());
    world.now += SECOND_US;
    let outputs = world.step(vec![job("late", "blue", 3, 8, 1).into()]);
    assert!(held(&outputs, "late").is_some(), "the room is kept until the run has stopped");
    let outputs = stop(&mut world, "wide", StopReason::Resized, HOUR_US);
    assert_eq!(placed(&outputs, "wide").unwrap().replicas.0, 1);
    assert_eq!(placed(&outputs, "late").unwrap().replicas.0, 3);
}

#[test]
fn a_run_that_soon_ends_does_not_grow() {
    let mut world = world(4);
    run(&mut world, vec![job("gang", "blue", 3, 8, 0).into(), elastic("wide", "red", (1, 4), 2)]);
    world.now += 90 * MINUTE_US;
    world.step(vec![world.finish("gang")]);
    checkpoint(&mut world, "wide");
    world.now += 10 * MINUTE_US;
    // Twenty minutes are left: three more for five minutes are less than four restores of five.
    assert!(resized(&checkpoint(&mut world, "wide")).is_none());
}

#[test]
fn a_job_is_not_resized_again_at_a_checkpoint_within_half_an_hour() {
    let mut world = with_room();
    checkpoint(&mut world, "wide");
    world.now += 30 * MINUTE_US;
    let outputs = checkpoint(&mut world, "wide");
    assert!(resized(&outputs).is_some());
    let outputs = stop(&mut world, "wide", StopReason::Resized, HOUR_US);
    assert_eq!(placed(&outputs, "wide").unwrap().replicas.0, 4);
    world.step(vec![started(&world, "wide")]);
    // Under this rule nothing is given back but at checkpoints.
    world.step(vec![policy("fifo").into(), job("small", "red", 2, 8, 1).into()]);
    let mut after = 0;
    while after < 60 && resized(&checkpoint(&mut world, "wide")).is_none() {
        world.now += 5 * MINUTE_US;
        after += 5;
    }
    assert_eq!(after, 30);
}

#[test]
fn what_was_lent_is_given_back_at_a_checkpoint_to_whoever_waits() {
    for rule in ["share-surcharge", "classic", "fifo", "sjf", "las", "srpt"] {
        let mut world = world(4);
        world.step(vec![policy(rule).into()]);
        run(&mut world, vec![elastic("wide", "red", (1, 4), 40)]);
        world.now += 20 * MINUTE_US;
        let outputs = world.step(vec![job("small", "red", 2, 8, 1).into()]);
        assert!(held(&outputs, "small").is_some(), "{rule}");
        world.now += 59 * SECOND_US;
        assert!(resized(&checkpoint(&mut world, "wide")).is_none(), "{rule}: it has not waited long enough to pay");
        world.now += 40 * MINUTE_US;
        let outputs = checkpoint(&mut world, "wide");
        let told = resized(&outputs).unwrap_or_else(|| panic!("{rule}: {outputs:?}"));
        assert_eq!((told.from_replicas.0, told.to_replicas.0, told.lost_work_us.0), (4, 2, 0), "{rule}");
        let kept = told.kept_work_us.0;
        let outputs = stop(&mut world, "wide", StopReason::Resized, kept);
        assert_eq!(placed(&outputs, "small").unwrap().replicas.0, 2, "{rule}");
        let wide = placed(&outputs, "wide").unwrap();
        assert_eq!((wide.replicas.0, wide.speed_milli.0, wide.from_work_us.0), (2, 2_000, kept), "{rule}");
    }
}

#[test]
fn nothing_is_given_back_below_the_least_number_nor_to_a_lower_class() {
    let mut world = world(4);
    let Event::JobRequested(mut wide) = elastic("wide", "red", (3, 4), 40) else { unreachable!() };
    wide.class = ClassId::from("urgent");
    run(&mut world, vec![Event::JobRequested(wide)]);
    let Event::JobRequested(mut urgent) = elastic("two", "red", (2, 2), 1) else { unreachable!() };
    urgent.class = ClassId::from("urgent");
    world.step(vec![Event::JobRequested(urgent), elastic("low", "red", (1, 1), 1)]);
    world.now += 5 * HOUR_US;
    assert!(resized(&checkpoint(&mut world, "wide")).is_none());
}

#[test]
fn a_victim_above_its_least_number_gives_back_what_is_needed_at_once_and_goes_on_with_the_rest() {
    let mut world = world(4);
    run(&mut world, vec![elastic("wide", "red", (1, 4), 40)]);
    world.now += 20 * MINUTE_US;
    // The blue tenant's promised share holds it.
    let mut outputs = world.step(vec![job("small", "blue", 1, 8, 1).into()]);
    outputs.extend(world.advance(2 * MINUTE_US));
    let told = resized(&outputs).unwrap();
    assert_eq!((told.from_replicas.0, told.to_replicas.0), (4, 3));
    assert!(told.lost_work_us.0 > 0, "it writes no checkpoint first: {told:?}");
    let outputs = stop(&mut world, "wide", StopReason::Resized, 0);
    assert!(placed(&outputs, "small").is_some());
    assert_eq!(placed(&outputs, "wide").unwrap().replicas.0, 3);
}

#[test]
fn a_job_starts_with_the_replicas_that_its_deadline_takes() {
    let mut world = world(4);
    run(&mut world, vec![job("other", "blue", 1, 8, 1).into()]);
    let Event::JobRequested(mut wide) = elastic("wide", "red", (1, 4), 5) else { unreachable!() };
    wide.deadline_us = Some(TimeUs(world.now + 2 * HOUR_US));
    wide.preemptible = false;
    let outputs = world.step(vec![Event::JobRequested(wide)]);
    let wide = placed(&outputs, "wide").unwrap();
    assert_eq!(wide.replicas.0, 3);
    assert!(wide.expected_end_us.unwrap() <= TimeUs(world.now + 2 * HOUR_US));
}

#[test]
fn a_waiting_job_may_be_amended_to_other_numbers() {
    let mut world = world(4);
    run(&mut world, vec![job("other", "blue", 4, 8, 1).into()]);
    world.step(vec![elastic("wide", "red", (4, 4), 8)]);
    let amended = JobRequestAmended {
        job: JobId::from("wide"),
        replicas_min: Some(Count(2)),
        replicas_max: Some(Count(3)),
        ..JobRequestAmended::default()
    };
    let outputs = world.step(vec![amended.into(), world.finish("other")]);
    let wide = placed(&outputs, "wide").unwrap();
    assert_eq!((wide.replicas.0, wide.speed_milli.0), (3, 1_500));
}

#[test]
fn a_run_that_fails_while_it_stops_to_grow_failed_by_itself_and_starts_again() {
    let mut world = with_room();
    checkpoint(&mut world, "wide");
    world.now += 30 * MINUTE_US;
    assert!(resized(&checkpoint(&mut world, "wide")).is_some());
    let failed = RunFailed {
        job: JobId::from("wide"),
        run: world.running[&JobId::from("wide")].run.clone(),
        category: FailureCategory::Provider,
        durable_work_us: WorkUs(HOUR_US),
        failed_us: TimeUs(world.now),
        ..RunFailed::default()
    };
    let outputs = world.step(vec![failed.into()]);
    assert!(outputs.iter().any(|output| matches!(output, Event::JobRequeued(e) if e.cause.to_string() == "FAILED")));
    assert_eq!(placed(&outputs, "wide").unwrap().from_work_us.0, HOUR_US);
}
