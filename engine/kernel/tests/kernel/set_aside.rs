//! Reservations and sold leases: what is set aside is there for its owners, and lent out while it is not needed.

use solyx_histories::*;
use solyx_schemas::events::Event;
use solyx_schemas::events::decisions::LimitKind;
use solyx_schemas::events::jobs::*;
use solyx_schemas::events::policy::*;
use solyx_schemas::events::runs::*;
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

/// A lease of so many GPUs for these hours from the start of the world on.
fn sold(name: &str, tenant: &str, gpus: i64, from_h: i64, to_h: i64) -> Event {
    LeaseSold {
        lease: RefId::from(name),
        tenant: TenantId::from(tenant),
        gpus: Count(gpus),
        gpu_model: GpuModelId::from("H100"),
        from_us: TimeUs(START + from_h * HOUR_US),
        to_us: TimeUs(START + to_h * HOUR_US),
        price: money(1),
        payment: PaymentOption::None,
        ..LeaseSold::default()
    }
    .into()
}

fn reserved(name: &str, tenant: &str, gpus: i64, from_h: i64, to_h: i64) -> Event {
    ReservationSet {
        reservation: RefId::from(name),
        tenant: TenantId::from(tenant),
        gpus: Count(gpus),
        from_us: TimeUs(START + from_h * HOUR_US),
        to_us: TimeUs(START + to_h * HOUR_US),
        ..ReservationSet::default()
    }
    .into()
}

fn on_lease(lease: &str, mut job: JobRequested) -> JobRequested {
    job.sold_lease = Some(RefId::from(lease));
    job
}

fn on_reservation(reservation: &str, mut job: JobRequested) -> JobRequested {
    job.reservation = Some(RefId::from(reservation));
    job
}

fn lasting(mut job: JobRequested) -> JobRequested {
    job.preemptible = false;
    job
}

fn told_to_stop(outputs: &[Event]) -> Vec<String> {
    let told = outputs.iter().filter_map(|output| match output {
        Event::JobPreempted(e) => Some(e.job.to_string()),
        _ => None,
    });
    told.collect()
}

/// A world whose runs are not lost for want of renewals within a test.
fn world(nodes: usize, rule: &str) -> World {
    let mut world = World::with_nodes(nodes);
    let mut policy = ordered_by(rule);
    policy.run_lease_us = Some(DurationUs(1_000 * HOUR_US));
    world.step(vec![policy.into()]);
    world
}

const RULES: [&str; 6] = ["share-surcharge", "classic", "fifo", "sjf", "las", "srpt"];

#[test]
fn an_unused_lease_is_lent_and_given_back_within_the_grace_under_every_order_rule() {
    for rule in RULES {
        let mut world = world(1, rule);
        let borrowers = (0..8).map(|i| job(&format!("b{i}"), "blue", 1, 1, 20).into());
        let outputs = world.step([sold("l", "red", 4, 0, 100)].into_iter().chain(borrowers).collect());
        assert!((0..8).all(|i| placed(&outputs, &format!("b{i}")).is_some()), "{rule}: what is not used is lent");
        world.advance(HOUR_US);
        let mine: Vec<Event> = (0..4).map(|i| on_lease("l", job(&format!("m{i}"), "red", 1, 1, 5)).into()).collect();
        let outputs = world.step(mine);
        let told = told_to_stop(&outputs);
        assert_eq!(told.len(), 4, "{rule}: as many as are owed, at once");
        world.now += 30 * SECOND_US;
        let outputs = world.step(told.iter().map(|job| world.stopped(job, StopReason::Preempted)).collect());
        assert!((0..4).all(|i| placed(&outputs, &format!("m{i}")).is_some()), "{rule}: within the grace");
        assert!(told.iter().all(|job| placed(&outputs, job).is_none()), "{rule}: no room for others");
    }
}

#[test]
fn for_a_lessees_gang_a_node_is_cleared_and_kept() {
    let mut world = world(2, "share-surcharge");
    let borrowers = (0..4).map(|i| job(&format!("b{i}"), "blue", 1, 4, 20).into());
    world.step([sold("l", "red", 8, 0, 100)].into_iter().chain(borrowers).collect());
    world.advance(HOUR_US);
    let outputs = world.step(vec![on_lease("l", job("gang", "red", 1, 8, 5)).into()]);
    let told = told_to_stop(&outputs);
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(
        world.running[&JobId::from(&*told[0])].nodes[0].node,
        world.running[&JobId::from(&*told[1])].nodes[0].node
    );
    // The first that is gone leaves room that nobody else is given.
    let outputs = world.step(vec![world.stopped(&told[0], StopReason::Preempted)]);
    assert!(placed(&outputs, &told[0]).is_none());
    let outputs = world.step(vec![world.stopped(&told[1], StopReason::Preempted)]);
    assert!(placed(&outputs, "gang").is_some());
}

#[test]
fn the_runs_that_lose_least_are_told_to_stop_and_never_a_lessees_own() {
    let mut world = world(1, "fifo");
    let own = (0..4).map(|i| on_lease("other", job(&format!("o{i}"), "blue", 1, 1, 20)).into());
    let lent = (0..4).map(|i| job(&format!("b{i}"), "blue", 1, 1, 20).into());
    let leases = [sold("l", "red", 1, 0, 100), sold("other", "blue", 4, 0, 100)];
    world.step(leases.into_iter().chain(own).chain(lent).collect());
    world.advance(HOUR_US);
    let run = world.running[&JobId::from("b2")].run.clone();
    let checkpoint = RunCheckpointed {
        job: JobId::from("b2"),
        run,
        work_us: WorkUs(HOUR_US / 2),
        site: SiteId::from("pod"),
        durable_us: TimeUs(world.now),
        ..RunCheckpointed::default()
    };
    world.step(vec![checkpoint.into()]);
    let outputs = world.step(vec![on_lease("l", job("m", "red", 1, 1, 5)).into()]);
    assert_eq!(told_to_stop(&outputs), ["b2"]);
}

#[test]
fn work_that_cannot_be_stopped_never_takes_what_is_only_lent() {
    let mut world = world(1, "fifo");
    let outputs = world.step(vec![
        sold("l", "red", 4, 0, 100),
        lasting(job("fits", "blue", 1, 4, 1)).into(),
        lasting(job("lasting", "blue", 1, 1, 1)).into(),
        job("lent", "blue", 1, 1, 1).into(),
    ]);
    assert!(placed(&outputs, "fits").is_some());
    let limit = &held(&outputs, "lasting").unwrap().limit;
    assert_eq!((limit.kind, limit.asked, limit.available), (LimitKind::Reservation, Some(1_000), Some(0)));
    assert!(placed(&outputs, "lent").is_some());
}

#[test]
fn before_a_reservation_only_what_ends_in_time_or_can_be_stopped_takes_its_room() {
    let mut world = world(1, "fifo");
    let outputs = world.step(vec![
        reserved("r", "red", 8, 2, 4),
        lasting(job("long", "blue", 1, 1, 3)).into(),
        lasting(job("unknown", "blue", 1, 1, 0)).into(),
        lasting(job("short", "blue", 1, 1, 1)).into(),
        job("stoppable", "blue", 1, 1, 9).into(),
        on_reservation("r", job("mine", "red", 1, 8, 1)).into(),
    ]);
    assert_eq!(held(&outputs, "long").unwrap().limit.kind, LimitKind::Reservation);
    assert_eq!(held(&outputs, "unknown").unwrap().limit.kind, LimitKind::Reservation);
    assert!(placed(&outputs, "short").is_some() && placed(&outputs, "stoppable").is_some());
    let mine = held(&outputs, "mine").unwrap();
    assert_eq!((mine.limit.kind, mine.earliest_start_us), (LimitKind::Reservation, Some(TimeUs(START + 2 * HOUR_US))));
    assert_eq!(world.kernel.next_counting_wakeup().map(|at| at.0), Some(START + 2 * HOUR_US));
    // What can be stopped is told so in time, and what gave its word and is late has to go at the start.
    let outputs = world.advance(2 * HOUR_US - 60 * SECOND_US);
    assert_eq!(told_to_stop(&outputs), ["stoppable"]);
    let outputs = world.step(vec![world.stopped("stoppable", StopReason::Preempted)]);
    assert_eq!(held(&outputs, "stoppable").unwrap().limit.kind, LimitKind::Reservation);
    let outputs = world.advance(60 * SECOND_US);
    assert_eq!(told_to_stop(&outputs), ["short"]);
    let outputs = world.step(vec![world.stopped("short", StopReason::Preempted)]);
    assert!(placed(&outputs, "mine").is_some());
}

#[test]
fn after_the_end_a_run_goes_on_until_somebody_is_owed_the_room() {
    let mut world = world(1, "fifo");
    world.step(vec![
        reserved("first", "red", 8, 0, 2),
        on_reservation("first", lasting(job("mine", "red", 1, 8, 9))).into(),
    ]);
    let outputs = world.advance(3 * HOUR_US);
    assert!(told_to_stop(&outputs).is_empty());
    let outputs = world.step(vec![sold("l", "blue", 8, 0, 100), on_lease("l", job("theirs", "blue", 1, 8, 1)).into()]);
    assert_eq!(told_to_stop(&outputs), ["mine"]);
    let outputs = world.step(vec![world.stopped("mine", StopReason::Preempted)]);
    assert!(placed(&outputs, "theirs").is_some());
}

#[test]
fn what_grows_by_its_own_lease_leaves_free_what_a_reservation_keeps() {
    let mut world = world(1, "srpt");
    world.step(vec![sold("lease", "blue", 4, 0, 10), reserved("kept", "red", 1, 0, 10)]);
    let least = on_lease("lease", job("grows", "blue", 3, 1, 5));
    let gang = Gang { replicas_max: Count(4), ..least.gang.clone() };
    let outputs = world.step(vec![JobRequested { gang, ..least }.into(), job("lent", "red", 1, 4, 5).into()]);
    assert_eq!(placed(&outputs, "grows").map(|run| run.replicas), Some(Count(4)), "{outputs:?}");
    assert!(placed(&outputs, "lent").is_some(), "beside three there is room for it, and for what is kept");
    assert_eq!(told_to_stop(&outputs), ["lent"], "once there are four of eight there is none");
}

#[test]
fn a_lease_that_ended_and_a_reservation_that_was_cancelled_hold_nothing() {
    let mut world = world(1, "fifo");
    world.step(vec![
        sold("l", "red", 4, 0, 100),
        reserved("r", "red", 4, 0, 100),
        lasting(job("a", "blue", 1, 4, 1)).into(),
        lasting(job("b", "blue", 1, 4, 1)).into(),
    ]);
    assert!(world.running.is_empty());
    let cancelled = ReservationCancelled { reservation: RefId::from("r"), ..ReservationCancelled::default() };
    let outputs = world.step(vec![cancelled.into()]);
    assert!(placed(&outputs, "a").is_some() && placed(&outputs, "b").is_none());
    let ended = SoldLeaseEnded {
        lease: RefId::from("l"),
        tenant: TenantId::from("red"),
        ended_us: TimeUs(world.now),
        ..SoldLeaseEnded::default()
    };
    let outputs = world.step(vec![ended.into()]);
    assert!(placed(&outputs, "b").is_some());
}

#[test]
fn more_sold_than_there_is_stands_and_is_listed_once() {
    let mut world = world(1, "fifo");
    let closed = world.close(vec![sold("l", "red", 9, 5, 100)]);
    let listed = &closed.record.overcommitments;
    let said = |o: &solyx_schemas::events::decisions::Overcommitment| {
        (o.limit.kind, o.limit.subject.clone().unwrap().to_string(), o.limit.asked, o.limit.available)
    };
    assert!(listed.iter().any(|o| said(o) == (LimitKind::Reservation, "model:H100".into(), Some(9_000), Some(8_000))));
    assert!(world.kernel.state().sold_leases.contains(&RefId::from("l")));
    assert!(world.close(Vec::new()).record.overcommitments.is_empty());
}

#[test]
fn a_job_is_refused_that_asks_for_more_than_its_contract_or_draws_on_anothers() {
    let mut world = world(2, "fifo");
    let outputs = world.step(vec![
        sold("l", "red", 4, 0, 100),
        on_lease("l", job("large", "red", 1, 5, 1)).into(),
        on_lease("l", job("other", "blue", 1, 1, 1)).into(),
        on_lease("none", job("unknown", "red", 1, 1, 1)).into(),
    ]);
    let rejected = |name: &str| {
        outputs.iter().any(|output| {
            matches!(output, Event::JobRejected(e) if e.job.as_str() == name && e.limit.kind == LimitKind::Reservation)
        })
    };
    assert!(rejected("large") && rejected("other"));
    let limit = &held(&outputs, "unknown").unwrap().limit;
    assert_eq!((limit.kind, limit.subject.clone().unwrap().as_str()), (LimitKind::Undeclared, "lease:none"));
}

#[test]
fn what_runs_on_a_contract_counts_against_no_quota_and_what_goes_beyond_it_waits() {
    let mut world = world(1, "fifo");
    let quota = QuotaSet {
        tenant: TenantId::from("red"),
        guaranteed_milli: GpuMilli(1_000),
        borrowing_limit_milli: Some(GpuMilli(0)),
        ..QuotaSet::default()
    };
    let outputs = world.step(vec![
        quota.into(),
        sold("l", "red", 4, 0, 100),
        on_lease("l", job("paid", "red", 1, 4, 1)).into(),
        on_lease("l", job("beyond", "red", 1, 1, 1)).into(),
        job("ordinary", "red", 1, 1, 1).into(),
    ]);
    assert!(placed(&outputs, "paid").is_some() && placed(&outputs, "ordinary").is_some());
    let limit = &held(&outputs, "beyond").unwrap().limit;
    assert_eq!((limit.kind, limit.available), (LimitKind::Reservation, Some(0)));
}

#[test]
fn room_that_is_made_for_who_draws_on_a_contract_counts_against_no_quota() {
    let mut world = world(3, "share-surcharge");
    let quota = QuotaSet {
        tenant: TenantId::from("red"),
        guaranteed_milli: GpuMilli(2_000),
        borrowing_limit_milli: Some(GpuMilli(0)),
        ..QuotaSet::default()
    };
    let borrowers = (0..4).map(|i| job(&format!("b{i}"), "blue", 1, 4, 20).into());
    world.step([sold("l", "red", 8, 0, 100), quota.into()].into_iter().chain(borrowers).collect());
    world.step(vec![lasting(job("first", "red", 1, 1, 20)).into()]);
    world.advance(HOUR_US);
    let gang = on_lease("l", job("gang", "red", 1, 8, 5));
    let outputs = world.step(vec![gang.into(), job("second", "red", 1, 1, 20).into()]);
    assert!(!told_to_stop(&outputs).is_empty() && placed(&outputs, "gang").is_none(), "{outputs:?}");
    assert!(placed(&outputs, "second").is_some(), "{outputs:?}");
}

/// Whom a class that preempts has stopped for a job of six GPUs, where a run of four has half of a node and so many are kept.
fn stopped_beside(kept: i64) -> Vec<String> {
    let mut world = World::with_nodes(1);
    let urgent = PriorityClassSet {
        class: ClassId::from("urgent"),
        value: 200,
        preempts: true,
        preemptible: true,
        ..PriorityClassSet::default()
    };
    world.step(vec![ordered_by("classic").into(), urgent.into(), reserved("kept", "blue", kept, 0, 100)]);
    assert!(placed(&world.step(vec![job("low", "red", 1, 4, 20).into()]), "low").is_some());
    let high = JobRequested { class: ClassId::from("urgent"), ..job("high", "red", 1, 6, 1) };
    let mut outputs = world.step(vec![high.into()]);
    outputs.extend(world.advance(600 * SECOND_US));
    told_to_stop(&outputs)
}

#[test]
fn nobody_is_stopped_for_whom_what_is_set_aside_keeps_out() {
    assert_eq!(stopped_beside(2), ["low"]);
    assert_eq!(stopped_beside(4), Vec::<String>::new());
}

#[test]
fn who_draws_on_a_contract_is_not_bound_by_what_others_do_not_lend() {
    let mut world = World::with_nodes(1);
    let keeps = QuotaSet {
        tenant: TenantId::from("red"),
        guaranteed_milli: GpuMilli(8_000),
        lending_limit_milli: Some(GpuMilli(0)),
        ..QuotaSet::default()
    };
    world.step(vec![keeps.into(), sold("lease", "blue", 4, 0, 100)]);
    let outputs = world.step(vec![on_lease("lease", job("drawing", "blue", 1, 4, 1)).into()]);
    assert!(placed(&outputs, "drawing").is_some(), "{outputs:?}");
    let outputs = world.step(vec![job("borrowing", "blue", 1, 1, 1).into()]);
    assert!(placed(&outputs, "borrowing").is_none());
}
