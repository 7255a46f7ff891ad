//! The law of EASY backfill: whoever was promised a start has started by then, whatever came behind it. Jobs run exactly as
//! long as they said.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;
use solyx_histories::history::Luck;
use solyx_histories::*;
use solyx_schemas::events::Event;
use solyx_schemas::events::capacity::CapacityClass;
use solyx_schemas::events::decisions::{JobPlaced, LimitKind};
use solyx_schemas::events::facility::{ElementKind, PowerElementDeclared};
use solyx_schemas::events::jobs::*;
use solyx_schemas::events::nodes::FeedShare;
use solyx_schemas::events::policy::*;
use solyx_schemas::events::runs::{RunFinished, StopReason};
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

use crate::class;

const MINUTE_US: i64 = 60 * SECOND_US;
const JOBS: i64 = 60;

/// Two owned pools of four nodes each, one feed per site; in some worlds power and quotas are short.
fn world(luck: &mut Luck, moving: bool, reservations: i64) -> World {
    let mut world = World::empty();
    world.quiet = true;
    let mut events = base_events();
    events.push(site("annex").into());
    events.push(pool("annex/h100", "annex", CapacityClass::Owned).into());
    let rule: &&str = luck.of(&["classic", "fifo", "sjf"]);
    let policy = SchedulingPolicySet {
        run_lease_us: Some(DurationUs(1_000 * HOUR_US)),
        consolidation_budget_us: moving.then_some(DurationUs(20 * HOUR_US)),
        backfill_reservations: Some(Count(reservations)),
        ..ordered_by(rule)
    };
    events.push(policy.into());
    let short_of_power = luck.chance(50);
    for (at, pool) in [("pod", "pod/h100"), ("annex", "annex/h100")] {
        let feed = PowerElementDeclared {
            site: SiteId::from(at),
            element: ElementId::from("feed"),
            kind: ElementKind::UtilityFeed,
            limit_w: PowerW(if short_of_power { 8_000 + luck.below(8_000) } else { 1_000_000 }),
            derating_milli: Milli(1_000),
            ..PowerElementDeclared::default()
        };
        events.push(feed.into());
        for i in 0..4 {
            let mut report = node(&format!("{at}-{i}"), pool, 4, &format!("{at}-leaf-{}", i / 2));
            report.cpu_milli = CpuMilli(16_000);
            report.feeds = vec![FeedShare { element: ElementId::from("feed"), share_milli: Milli(1_000) }];
            events.push(report.into());
        }
    }
    if luck.chance(50) {
        for tenant in ["red", "blue"] {
            let quota = QuotaSet {
                tenant: TenantId::from(tenant),
                guaranteed_milli: GpuMilli((16 + luck.below(10)) * 1_000),
                borrowing_limit_milli: Some(GpuMilli(0)),
                ..QuotaSet::default()
            };
            events.push(quota.into());
        }
    }
    world.step(events);
    world
}

fn request(luck: &mut Luck, i: i64) -> JobRequested {
    let tenant = if luck.chance(50) { "red" } else { "blue" };
    let mut asked = job(&format!("job-{i}"), tenant, 1, 1, 1);
    let large = luck.chance(25);
    asked.gang.replicas_min = Count(if large { 2 + luck.below(3) } else { 1 });
    asked.gang.replicas_max = asked.gang.replicas_min;
    asked.gang.gpus = Count(1 + luck.below(4));
    asked.gang.cpu_milli = CpuMilli(luck.below(6_000));
    if luck.chance(20) {
        asked.gang.gpus = Count(1);
        asked.gang.gpu_milli_each = GpuMilli(*luck.of(&[250, 500, 700]));
    }
    asked.gang.exclusive_node = luck.chance(8);
    if large && luck.chance(40) {
        let required = Some(*luck.of(&[TopologyLevel::Leaf, TopologyLevel::Site]));
        asked.topology = Some(Topology { required, ..Topology::default() });
    }
    asked.expected_work_us = Some(WorkUs((5 + luck.below(120)) * MINUTE_US));
    asked
}

/// How many promises were made, all of them kept.
fn promises_kept(seed: u64) -> usize {
    promises_kept_and_moves(seed, false, 1).0
}

/// The same where so many are promised at a time, and how many runs were moved, where they may be.
fn promises_kept_and_moves(seed: u64, moving: bool, reservations: i64) -> (usize, usize) {
    let mut luck = Luck(seed);
    let mut world = world(&mut luck, moving, reservations);
    let (mut said, mut moves): (Vec<Event>, usize) = (Vec::new(), 0);
    let mut promised: BTreeMap<JobId, i64> = BTreeMap::new();
    let mut running: BTreeSet<(i64, JobId, RunId)> = BTreeSet::new();
    let (mut asked, mut kept, mut arrival) = (0, 0, world.now);
    loop {
        let finish = running.first().map(|(end, _, _)| *end);
        let wakeup = world.kernel.next_wakeup().map(|at| at.0).filter(|_| finish.is_some());
        let next_arrival = (asked < JOBS).then_some(arrival);
        let at_once = (!said.is_empty()).then_some(world.now);
        let Some(at) = [finish, wakeup, next_arrival, at_once].into_iter().flatten().min() else { break };
        world.now = at.max(world.now);
        let mut events: Vec<Event> = std::mem::take(&mut said);
        while let Some((end, job, run)) = running.pop_first() {
            if end > world.now {
                running.insert((end, job, run));
                break;
            }
            events.push(RunFinished { job, run, finished_us: TimeUs(end), ..RunFinished::default() }.into());
        }
        while asked < JOBS && arrival <= world.now {
            asked += 1;
            events.push(request(&mut luck, asked).into());
            arrival += luck.below(15) * MINUTE_US;
        }
        for output in world.step(events) {
            match &output {
                Event::JobPlaced(placed) => {
                    let JobPlaced { job, run, expected_end_us, .. } = &**placed;
                    running.insert((expected_end_us.unwrap().0, job.clone(), run.clone()));
                    said.extend(moving.then(|| started(&world, job.as_str())));
                    if let Some(latest) = promised.remove(job) {
                        assert!(world.now <= latest, "{job} was promised {latest} and starts at {}", world.now);
                        kept += 1;
                    }
                }
                Event::JobMigrated(told) => {
                    moves += 1;
                    running.retain(|(_, _, run)| *run != told.run);
                    said.push(world.stopped(told.job.as_str(), StopReason::Migrated));
                }
                Event::JobHeld(held) => {
                    // Later ones move with those before them.
                    let is_first = world.kernel.state().meta().promised.first() == Some(&held.job);
                    if let Some(start) = held.earliest_start_us.filter(|_| is_first) {
                        promised.entry(held.job.clone()).or_insert(start.0);
                    }
                }
                _ => {}
            }
        }
        for (job, latest) in &promised {
            assert!(world.now <= *latest, "{job} was promised {latest} and waits at {}", world.now);
        }
    }
    (kept, moves)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300, failure_persistence: None, max_shrink_iters: 0, ..ProptestConfig::default()
    })]

    #[test]
    fn a_promised_start_is_never_delayed_by_what_comes_behind_it(seed: u64) {
        promises_kept(seed);
    }

    #[test]
    fn a_promised_start_is_never_delayed_by_runs_that_are_moved(seed: u64) {
        promises_kept_and_moves(seed, true, 1);
    }

    #[test]
    fn of_several_promised_starts_the_first_is_never_delayed(seed: u64, reservations in 2..6i64, moving: bool) {
        promises_kept_and_moves(seed, moving, reservations);
    }
}

#[test]
fn runs_are_moved_in_those_worlds() {
    let moves: usize = (0..60).map(|seed| promises_kept_and_moves(seed, true, 1).1).sum();
    assert!(moves > 10, "only {moves} moves in sixty worlds say little");
}

/// A history that broke the law once: several shares put one after the other on GPUs whose power was taken to be free by then.
#[test]
fn a_promise_that_was_broken_once_is_kept() {
    promises_kept(16_645_205_643_632_641_968);
}

#[test]
fn promises_are_made_in_those_worlds() {
    let made: usize = (0..20).map(promises_kept).sum();
    assert!(made > 40, "only {made} promises in twenty worlds say little");
}

/// A gang of two whole nodes, behind a run of another tenant on two of three. It is promised the end of that run, and what
/// asks for three GPUs until after it has to wait although a node is free; what asks for two may start.
fn three_gpus_are_too_many_beside_a_gang(limit: Event, tenant: &str) {
    let mut world = World::with_nodes(3);
    world.step(vec![ordered_by("classic").into(), limit]);
    world.step(vec![job("runs", "blue", 2, 5, 2).into()]);
    let outputs = world.step(vec![job("gang", "red", 2, 8, 1).into()]);
    assert_eq!(held(&outputs, "gang").unwrap().earliest_start_us, Some(TimeUs(START + 2 * HOUR_US)));
    let outputs = world.step(vec![job("three", tenant, 1, 3, 9).into(), job("two", tenant, 1, 2, 9).into()]);
    assert_eq!(held(&outputs, "three").unwrap().limit.kind, LimitKind::Backfill);
    assert!(placed(&outputs, "two").is_some());
    world.now += 2 * HOUR_US;
    let outputs = world.step(vec![world.finish("runs")]);
    assert!(placed(&outputs, "gang").is_some());
}

#[test]
fn a_promise_keeps_the_quota_that_the_gang_needs_by_then() {
    let quota = QuotaSet {
        tenant: TenantId::from("red"),
        guaranteed_milli: GpuMilli(18_000),
        borrowing_limit_milli: Some(GpuMilli(0)),
        ..QuotaSet::default()
    };
    three_gpus_are_too_many_beside_a_gang(quota.into(), "red");
}

#[test]
fn a_promise_keeps_the_power_that_the_gang_needs_by_then() {
    // Three nodes draw 1,000 W idle, and each GPU in use 700 W more.
    let limit = PowerLimitSet {
        limit: RefId::from("site"),
        site: SiteId::from("pod"),
        limit_w: PowerW(3_000 + 18 * 700),
        ..PowerLimitSet::default()
    };
    three_gpus_are_too_many_beside_a_gang(limit.into(), "blue");
}

#[test]
fn no_start_is_promised_where_the_job_may_not_be() {
    let mut world = World::with_nodes(1);
    let abroad = solyx_schemas::events::facility::SiteDeclared { country: Name::from("FR"), ..site("annex") };
    let annex = pool("annex/h100", "annex", CapacityClass::Owned);
    let events = vec![ordered_by("classic").into(), abroad.into(), annex.into()];
    world.step(events);
    world.step(vec![node("annex-0", "annex/h100", 8, "annex-leaf").into()]);
    world.step(vec![job("here", "red", 1, 8, 4).into(), job("there", "red", 1, 8, 1).into()]);
    let mut home = job("home", "blue", 1, 8, 1);
    let at = &world.running[&JobId::from("here")].site;
    home.residency = vec![Name::from(if at.as_str() == "pod" { "DE" } else { "FR" })];
    let outputs = world.step(vec![home.into()]);
    assert_eq!(held(&outputs, "home").unwrap().earliest_start_us, Some(TimeUs(START + 4 * HOUR_US)));
}

/// A gang of two whole nodes is promised the end of a run on one of them; the other is free until then.
fn gang_is_promised_a_node(more: Vec<Event>) -> World {
    let mut world = World::with_nodes(2);
    let policy = SchedulingPolicySet { run_lease_us: Some(DurationUs(1_000 * HOUR_US)), ..ordered_by("classic") };
    world.step([policy.into()].into_iter().chain(more).collect());
    world.step(vec![job("runs", "blue", 1, 8, 2).into()]);
    let outputs = world.step(vec![job("gang", "red", 2, 8, 1).into()]);
    assert_eq!(held(&outputs, "gang").unwrap().earliest_start_us, Some(TimeUs(START + 2 * HOUR_US)));
    world
}

#[test]
fn a_promise_is_kept_from_who_needs_more_replicas_for_its_deadline() {
    let mut world = World::with_nodes(3);
    let policy = SchedulingPolicySet { run_lease_us: Some(DurationUs(1_000 * HOUR_US)), ..ordered_by("classic") };
    world.step(vec![policy.into(), job("runs", "blue", 1, 8, 2).into()]);
    world.step(vec![job("long", "blue", 1, 4, 9).into()]);
    world.step(vec![job("gang", "red", 2, 8, 1).into()]);
    // Half a node is left beside the gang's, for as long as anybody likes. There it would take six hours, with as much again three.
    let wide = |deadline| {
        let mut wide = job("wide", "blue", 1, 4, 6);
        wide.gang.replicas_max = Count(2);
        wide.deadline_us = deadline;
        wide
    };
    let outputs = world.step(vec![wide(Some(TimeUs(START + 4 * HOUR_US))).into()]);
    assert!(placed(&outputs, "wide").is_none(), "{outputs:?}");
    let patient = JobRequested { job: JobId::from("patient"), ..wide(None) };
    assert!(placed(&world.step(vec![patient.into()]), "patient").is_some());
    world.now += 2 * HOUR_US;
    let ends = world.finish("runs");
    assert!(placed(&world.step(vec![ends]), "gang").is_some());
}

/// Of three nodes one runs for two hours yet, one has a run of a class that may be stopped, and one is free, unless the first is of
/// two nodes; a gang of two is promised nodes. Who is stopped for whom once another job has come of a class that preempts.
fn stopped_beside_a_promise(first_on: i64, more: Vec<Event>, tenants: &[&str]) -> Vec<(String, String)> {
    let of = |name: &str, tenant: &str, class: &str, hours| JobRequested {
        class: ClassId::from(class),
        ..job(name, tenant, 1, 8, hours)
    };
    let mut world = World::with_nodes(3);
    let policy = SchedulingPolicySet { run_lease_us: Some(DurationUs(1_000 * HOUR_US)), ..ordered_by("classic") };
    world.step([policy.into(), class("pushy", 50, true), class("bulk", 10, false)].into_iter().chain(more).collect());
    world.step(vec![job("runs", "blue", first_on, 8, 2).into(), of("bulk", "blue", "bulk", 20).into()]);
    world.step(vec![job("gang", "red", 2, 8, 1).into()]);
    let pushy = tenants.iter().map(|tenant| of(&format!("of-{tenant}"), tenant, "pushy", 9).into());
    let mut outputs = world.step(pushy.collect());
    outputs.extend(world.advance(HOUR_US));
    let stopped = |output: &Event| match output {
        Event::JobPreempted(e) => Some((e.job.to_string(), e.for_job.as_ref()?.to_string())),
        _ => None,
    };
    outputs.iter().filter_map(stopped).collect()
}

fn quota_of_red(guaranteed_milli: i64, borrowing_limit_milli: Option<i64>) -> Event {
    QuotaSet {
        tenant: TenantId::from("red"),
        guaranteed_milli: GpuMilli(guaranteed_milli),
        borrowing_limit_milli: borrowing_limit_milli.map(GpuMilli),
        ..QuotaSet::default()
    }
    .into()
}

#[test]
fn a_lower_class_that_preempts_makes_room_beside_a_promise() {
    let stopped = |who: &str| vec![("bulk".to_owned(), who.to_owned())];
    assert_eq!(stopped_beside_a_promise(2, vec![], &["blue"]), stopped("of-blue"));
    // A node is free, but kept for the gang.
    assert_eq!(stopped_beside_a_promise(1, vec![], &["blue"]), stopped("of-blue"));
}

#[test]
fn a_quota_that_has_enough_for_both_keeps_nobody_from_room_beside_a_promise() {
    let stopped = vec![("bulk".to_owned(), "of-red".to_owned())];
    assert_eq!(stopped_beside_a_promise(2, vec![quota_of_red(8_000, None)], &["red"]), stopped);
    assert_eq!(stopped_beside_a_promise(2, vec![quota_of_red(24_000, Some(0))], &["red"]), stopped);
    assert_eq!(stopped_beside_a_promise(2, vec![quota_of_red(16_000, Some(0))], &["red"]), []);
}

#[test]
fn who_may_not_have_room_beside_a_promise_keeps_it_from_no_other_tenant() {
    let stopped = vec![("bulk".to_owned(), "of-blue".to_owned())];
    assert_eq!(stopped_beside_a_promise(2, vec![quota_of_red(16_000, Some(0))], &["red", "blue"]), stopped);
}

#[test]
fn a_promise_is_kept_from_a_lower_class_that_preempts() {
    let mut world = gang_is_promised_a_node(vec![class("pushy", 50, true), class("bulk", 10, false)]);
    let of = |name: &str, class: &str, replicas, hours| JobRequested {
        class: ClassId::from(class),
        ..job(name, "blue", replicas, 4, hours)
    };
    // It ends in time, and has half of the node that is free.
    let outputs = world.step(vec![of("bulk", "bulk", 1, 1).into()]);
    assert!(placed(&outputs, "bulk").is_some());
    world.step(vec![of("pushy", "pushy", 2, 9).into()]);
    let outputs = world.advance(HOUR_US - 1);
    assert!(!outputs.iter().any(|output| matches!(output, Event::JobPreempted(_))), "{outputs:?}");
    world.now = START + HOUR_US;
    let ends = world.finish("bulk");
    world.step(vec![ends]);
    world.now = START + 2 * HOUR_US;
    let ends = world.finish("runs");
    assert!(placed(&world.step(vec![ends]), "gang").is_some());
}

/// A gang of all of a fleet of two nodes, behind a few small jobs of its own tenant, of which others come all the time, each shorter
/// than it by far or as long. Hours that it waits; none when it still does after so many.
fn starved_by_small_jobs(rule: &str, gang_hours: i64, hours: i64) -> Option<i64> {
    let mut world = World::with_nodes(2);
    let run_lease_us = Some(DurationUs(10_000 * HOUR_US));
    world.step(vec![SchedulingPolicySet { run_lease_us, ..ordered_by(rule) }.into()]);
    let small = |number: i64| Event::from(job(&format!("small-{number:04}"), "red", 1, 8, 2));
    let starts = |outputs: &[Event]| -> Vec<String> {
        let of = |output: &Event| match output {
            Event::JobPlaced(placed) => Some(placed.job.to_string()),
            _ => None,
        };
        outputs.iter().filter_map(of).collect()
    };
    let mut on: VecDeque<String> = starts(&world.step((0..6).map(small).collect())).into();
    world.step(vec![job("gang", "red", 2, 8, gang_hours).into()]);
    for hour in 1..=hours {
        world.now += HOUR_US;
        // One of them ends each hour, and another one has come by then.
        let mut events: Vec<Event> = vec![small(hour + 5)];
        events.extend(on.pop_front().map(|job| world.finish(&job)));
        let started = starts(&world.step(events));
        if started.contains(&"gang".to_owned()) {
            return Some(hour);
        }
        on.extend(started);
    }
    None
}

#[test]
fn no_stream_of_small_jobs_keeps_a_gang_from_room_for_ever() {
    for (rule, most) in [("classic", 6), ("fifo", 6), ("las", 60)] {
        let waited = starved_by_small_jobs(rule, 9, 400);
        assert!(waited.is_some_and(|hours| hours <= most), "{rule}: {waited:?}");
    }
    // What is shortest goes first, however long another has waited.
    assert_eq!(["sjf", "srpt"].map(|rule| starved_by_small_jobs(rule, 9, 400)), [None, None]);
}
