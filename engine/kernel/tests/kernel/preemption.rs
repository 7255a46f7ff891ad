//! Room made between priority classes and by the line: who may stop whom, and that it never goes round in circles.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use solyx_histories::*;
use solyx_schemas::events::Event;
use solyx_schemas::events::decisions::{JobPreempted, LimitKind, StopCause};
use solyx_schemas::events::jobs::{HoldAction, JobHoldSet, JobRequested, JobSet};
use solyx_schemas::events::policy::*;
use solyx_schemas::events::runs::{RunFinished, RunStarted, RunStopped, StopReason};
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

const MINUTE_US: i64 = 60 * SECOND_US;

fn class(name: &str, value: i64, preempts: bool, minimum_run_us: i64) -> Event {
    PriorityClassSet {
        class: ClassId::from(name),
        value,
        preempts,
        preemptible: true,
        minimum_run_us: DurationUs(minimum_run_us),
        ..PriorityClassSet::default()
    }
    .into()
}

/// A policy under which nobody has to renew leases.
fn policy(rule: &str) -> SchedulingPolicySet {
    SchedulingPolicySet { run_lease_us: Some(DurationUs(10_000 * HOUR_US)), ..ordered_by(rule) }
}

fn preempted(outputs: &[Event]) -> Vec<JobPreempted> {
    let of = |event: &Event| match event {
        Event::JobPreempted(e) if e.cause == StopCause::Priority => Some((**e).clone()),
        _ => None,
    };
    outputs.iter().filter_map(of).collect()
}

fn urgent(name: &str, gpus: i64, hours: i64) -> JobRequested {
    JobRequested { class: ClassId::from("urgent"), ..job(name, "blue", 1, gpus, hours) }
}

/// Eight GPUs and no more.
fn eight_for_blue() -> Event {
    QuotaSet { borrowing_limit_milli: Some(GpuMilli(0)), ..crate::guaranteed_to("blue", 8) }.into()
}

#[test]
fn in_a_full_quota_a_class_that_preempts_takes_the_room_of_lower_ones_within_it_and_of_nobody_else() {
    let mut world = World::with_nodes(3);
    world.step(vec![policy("classic").into(), class("urgent", 200, true, 0), eight_for_blue()]);
    let low = |name: &str, tenant: &str, gpus: i64| Event::from(job(name, tenant, 1, gpus, 20));
    world.step(vec![low("own-1", "blue", 4), low("own-2", "blue", 4), low("other", "red", 4)]);
    world.now += MINUTE_US;
    let outputs = world.step(vec![urgent("high", 6, 1).into()]);
    let mut stopped: Vec<String> = preempted(&outputs).iter().map(|stop| stop.job.to_string()).collect();
    stopped.sort();
    assert_eq!(stopped, ["own-1", "own-2"]);
    // What one of them gives back is kept for whom it stopped.
    let stop = world.stopped("own-1", StopReason::Preempted);
    let outputs = world.step(vec![stop, low("small", "blue", 1)]);
    assert!(placed(&outputs, "small").is_none() && placed(&outputs, "high").is_none(), "{outputs:?}");
    let stop = world.stopped("own-2", StopReason::Preempted);
    let outputs = world.step(vec![stop]);
    assert!(placed(&outputs, "high").is_some(), "{outputs:?}");
    assert!(placed(&outputs, "small").is_some(), "two GPUs of the quota are left: {outputs:?}");
}

#[test]
fn nobody_is_stopped_for_a_quota_that_would_not_hold_the_job_even_then() {
    let mut world = World::with_nodes(3);
    world.step(vec![policy("classic").into(), class("urgent", 200, true, 0), eight_for_blue()]);
    let fixed = JobRequested { preemptible: false, ..job("fixed", "blue", 1, 4, 20) };
    world.step(vec![fixed.into(), job("own", "blue", 1, 4, 20).into()]);
    world.now += MINUTE_US;
    let outputs = world.step(vec![urgent("high", 6, 1).into()]);
    assert_eq!(preempted(&outputs), Vec::<JobPreempted>::new());
}

#[test]
fn under_every_rule_a_class_that_preempts_takes_the_room_of_a_lower_one_at_the_next_tick() {
    for rule in ["share-surcharge", "classic", "fifo", "sjf", "las", "srpt"] {
        let mut world = World::with_nodes(1);
        world.step(vec![policy(rule).into(), class("urgent", 200, true, 0)]);
        world.step(vec![job("low", "red", 1, 8, 20).into()]);
        world.now += MINUTE_US;
        let outputs = world.step(vec![urgent("high", 8, 1).into()]);
        let stopped = preempted(&outputs);
        assert_eq!(stopped.len(), 1, "{rule}");
        assert_eq!((stopped[0].job.as_str(), stopped[0].for_job.as_ref().unwrap().as_str()), ("low", "high"), "{rule}");
        let stop = world.stopped("low", StopReason::Preempted);
        world.step(vec![stop]);
        assert!(world.running.contains_key(&JobId::from("high")), "{rule}");
    }
}

#[test]
fn a_class_that_does_not_preempt_waits_and_no_class_stops_its_equal() {
    let mut world = World::with_nodes(1);
    world.step(vec![policy("classic").into()]);
    world.step(vec![job("low", "red", 1, 8, 20).into()]);
    world.step(vec![urgent("high", 8, 1).into()]);
    assert_eq!(preempted(&world.advance(2 * HOUR_US)), []);
    let outputs = world.step(vec![class("urgent", 200, true, 0), class("standard", 200, true, 0)]);
    assert_eq!(preempted(&outputs), []);
    assert_eq!(preempted(&world.advance(2 * HOUR_US)), []);
}

/// A class that preempts, so many nodes with a run of a lower class on each of the first, and what is preempted for two jobs of
/// one set, a node each, at the next tick.
fn set_comes(rule: &str, nodes: usize, runs: usize, more: Vec<Event>) -> (World, Vec<JobPreempted>) {
    let mut world = World::with_nodes(nodes);
    world.step(vec![policy(rule).into(), class("urgent", 200, true, 0)]);
    world.step(more);
    world.step((0..runs).map(|number| job(&format!("low-{number}"), "red", 1, 8, 20).into()).collect());
    world.now += MINUTE_US;
    let job_set = Some(JobSet { set: RefId::from("set"), size: Count(2) });
    let member = |name: &str| JobRequested { job_set: job_set.clone(), ..urgent(name, 8, 1) };
    let outputs = world.step(vec![member("one").into(), member("two").into()]);
    assert_eq!(world.kernel.index_differences(), Vec::<String>::new());
    (world, preempted(&outputs))
}

#[test]
fn a_set_is_given_room_for_all_of_it_at_once_and_starts_when_the_last_of_it_is_free() {
    for rule in ["share-surcharge", "classic", "fifo", "sjf", "las", "srpt"] {
        let (mut world, stopped) = set_comes(rule, 3, 3, vec![]);
        let whom: Vec<&str> = stopped.iter().map(|stop| stop.for_job.as_ref().unwrap().as_str()).collect();
        assert_eq!(whom, ["one", "two"], "{rule}");
        for (number, stop) in stopped.iter().enumerate() {
            let gone = world.stopped(stop.job.as_str(), StopReason::Preempted);
            let outputs = world.step(vec![gone, job(&format!("other-{number}"), "red", 1, 8, 1).into()]);
            assert_eq!(world.kernel.index_differences(), Vec::<String>::new());
            let started = ["one", "two"].map(|name| placed(&outputs, name).is_some());
            assert_eq!(started, [number == 1; 2], "{rule}");
            assert!(placed(&outputs, &format!("other-{number}")).is_none(), "{rule}: the room is kept");
        }
    }
}

#[test]
fn the_room_that_one_of_a_set_has_is_kept_while_others_stop_for_the_rest() {
    let (mut world, stopped) = set_comes("share-surcharge", 2, 1, vec![]);
    assert_eq!(stopped.len(), 1);
    let outputs = world.step(vec![job("other", "red", 1, 8, 1).into()]);
    assert!(placed(&outputs, "other").is_none());
    let gone = world.stopped(stopped[0].job.as_str(), StopReason::Preempted);
    let outputs = world.step(vec![gone]);
    assert!(placed(&outputs, "one").is_some() && placed(&outputs, "two").is_some());
}

#[test]
fn two_of_a_set_may_be_given_room_on_one_node() {
    let mut world = World::with_nodes(1);
    world.step(vec![policy("share-surcharge").into(), class("urgent", 200, true, 0)]);
    world.step(vec![job("low", "red", 1, 4, 20).into()]);
    world.now += MINUTE_US;
    let job_set = Some(JobSet { set: RefId::from("set"), size: Count(2) });
    let member = |name: &str, gpus| JobRequested { job_set: job_set.clone(), ..urgent(name, gpus, 1) };
    let stopped = preempted(&world.step(vec![member("one", 2).into(), member("two", 6).into()]));
    assert_eq!(stopped.len(), 1);
    let gone = world.stopped("low", StopReason::Preempted);
    let outputs = world.step(vec![gone]);
    assert!(placed(&outputs, "one").is_some() && placed(&outputs, "two").is_some());
    assert_eq!(world.kernel.index_differences(), Vec::<String>::new());
}

#[test]
fn a_set_of_which_one_was_held_back_meanwhile_is_given_room_when_nothing_is_kept_for_it_any_more() {
    let (mut world, stopped) = set_comes("share-surcharge", 4, 4, vec![]);
    assert_eq!(stopped.len(), 2);
    let mut more = Vec::new();
    for action in [HoldAction::Hold, HoldAction::Release] {
        let held = JobHoldSet { job: JobId::from("one"), action, actor: Name::from("desk"), ..JobHoldSet::default() };
        more.extend(preempted(&world.step(vec![held.into()])));
        assert_eq!(world.kernel.index_differences(), Vec::<String>::new());
    }
    more.extend(preempted(&world.advance(MINUTE_US)));
    assert_eq!(world.kernel.index_differences(), Vec::<String>::new());
    assert_eq!(more, [], "what is still kept for the other one is used or given up first");
    for stop in &stopped {
        let gone = world.stopped(stop.job.as_str(), StopReason::Preempted);
        world.step(vec![gone]);
        assert_eq!(world.kernel.index_differences(), Vec::<String>::new());
    }
    // What was kept for the one that was held back is taken by then, and made free once more.
    for stop in preempted(&world.advance(2 * HOUR_US)) {
        let gone = world.stopped(stop.job.as_str(), StopReason::Preempted);
        world.step(vec![gone]);
        assert_eq!(world.kernel.index_differences(), Vec::<String>::new());
    }
    assert!(["one", "two"].iter().all(|job| world.running.contains_key(&JobId::from(*job))));
}

#[test]
fn nobody_is_stopped_for_a_set_that_could_not_start_even_then() {
    let quota = QuotaSet {
        tenant: TenantId::from("blue"),
        guaranteed_milli: GpuMilli(8_000),
        borrowing_limit_milli: Some(GpuMilli(0)),
        ..QuotaSet::default()
    };
    for (nodes, runs) in [(2, 2), (2, 1), (3, 3)] {
        let (mut world, stopped) = set_comes("share-surcharge", nodes, runs, vec![quota.clone().into()]);
        assert_eq!(stopped, []);
        assert_eq!(preempted(&world.advance(2 * HOUR_US)), []);
    }
}

#[test]
fn nobody_is_stopped_before_its_class_has_had_its_minimum_run() {
    let mut world = World::with_nodes(1);
    world.step(vec![policy("classic").into(), class("urgent", 200, true, 0), class("standard", 100, false, HOUR_US)]);
    world.step(vec![job("low", "red", 1, 8, 20).into()]);
    world.step(vec![urgent("high", 8, 1).into()]);
    assert_eq!(preempted(&world.advance(59 * MINUTE_US)), []);
    assert_eq!(preempted(&world.advance(2 * MINUTE_US)).len(), 1);
}

#[test]
fn the_gang_that_loses_least_is_stopped_whole_and_keeps_its_place() {
    let mut world = World::with_nodes(2);
    world.step(vec![policy("classic").into(), class("urgent", 200, true, 0)]);
    world.step(vec![job("long", "red", 1, 8, 20).into()]);
    world.now += HOUR_US / 4;
    world.step(vec![job("short", "red", 2, 4, 20).into()]);
    world.now += MINUTE_US;
    let stopped = preempted(&world.step(vec![urgent("high", 4, 1).into()]));
    assert_eq!(stopped.iter().map(|e| e.job.as_str()).collect::<Vec<_>>(), ["short"]);
    let arrival = world.kernel.state().jobs.get(&JobId::from("short")).unwrap().arrival;
    let stop = world.stopped("short", StopReason::Preempted);
    world.step(vec![stop]);
    assert_eq!(world.kernel.state().jobs.get(&JobId::from("short")).unwrap().arrival, arrival);
}

#[test]
fn who_is_kept_off_by_room_that_is_made_for_another_is_told_so() {
    let mut world = World::with_nodes(2);
    world.step(vec![policy("classic").into(), class("urgent", 200, true, 0)]);
    world.step(vec![job("low", "red", 1, 8, 20).into()]);
    world.now += HOUR_US / 4;
    let outputs =
        world.step(vec![JobRequested { class: ClassId::from("urgent"), ..job("high", "blue", 2, 8, 1) }.into()]);
    assert_eq!(preempted(&outputs).len(), 1);
    let outputs = world.step(vec![job("small", "red", 1, 1, 1).into()]);
    let limit = &held(&outputs, "small").unwrap().limit;
    assert_eq!((limit.kind, limit.subject.clone()), (LimitKind::Draining, Some(RefId::from("pod/h100"))));
}

/// GPU-hours at which a job has used one step more.
const STEPS: [i64; 4] = [1, 3, 8, 20];

/// A job of replicas, GPUs of each, hours of work, and whether it is urgent.
type Asked = (i64, i64, i64, bool);

/// One of a stop, as it was then.
#[derive(Debug)]
struct Party {
    job: JobId,
    /// Steps of GPU time that it had used.
    steps: usize,
    /// Times that it had been placed.
    placed: usize,
}

/// Who was stopped for whom: by the order of the line, or by its class or for a promised share.
#[derive(Debug)]
struct Stopped {
    victim: Party,
    winner: Party,
    by_order: bool,
}

/// A job that is not done.
struct Undone {
    gpus: i64,
    /// GPU time used before it was placed last, GPU × µs.
    used: i64,
    left_us: i64,
    placed: usize,
    run: Option<(RunId, i64)>,
}

impl Undone {
    fn as_party(&self, job: &JobId, now: i64) -> Party {
        let used = self.used + self.run.as_ref().map_or(0, |(_, since)| now - since) * self.gpus;
        let steps = STEPS.iter().filter(|step| used >= *step * HOUR_US).count();
        Party { job: job.clone(), steps, placed: self.placed }
    }

    /// Its run, which is over, and how long it was.
    fn stops(&mut self, now: i64) -> (RunId, i64) {
        let (run, since) = self.run.take().unwrap();
        self.used += (now - since) * self.gpus;
        self.left_us -= now - since;
        (run, now - since)
    }
}

/// Jobs on two nodes, nothing more asked for, where only the rules keep anybody from being stopped for ever; every stop for another.
fn closed_world(rule: &str, promised_milli: i64, jobs: &[Asked]) -> Vec<Stopped> {
    let mut world = World::with_nodes(2);
    world.quiet = true;
    let policy = SchedulingPolicySet {
        preemptions_max: Some(Count(1_000)),
        promised_milli: Some(Milli(promised_milli)),
        surcharge_gpu_hours: STEPS.map(Count).to_vec(),
        surcharge_us: [2, 4, 8, 16].map(|hours| DurationUs(hours * HOUR_US)).to_vec(),
        ..policy(rule)
    };
    world.step(vec![policy.into(), class("urgent", 200, true, 0)]);
    let mut undone: BTreeMap<JobId, Undone> = BTreeMap::new();
    let mut events = Vec::new();
    for (n, (replicas, gpus, hours, is_urgent)) in jobs.iter().enumerate() {
        let name = format!("j{n}");
        let asked = Undone { gpus: replicas * gpus, used: 0, left_us: hours * HOUR_US, placed: 0, run: None };
        undone.insert(JobId::from(name.as_str()), asked);
        let tenant = if n % 3 == 0 { "red" } else { "blue" };
        let class = ClassId::from(if *is_urgent { "urgent" } else { "standard" });
        // Nothing is known of lengths where the rule does not go by them.
        let said_hours = if rule == "srpt" { *hours } else { 0 };
        events.push(Event::from(JobRequested { class, ..job(&name, tenant, *replicas, *gpus, said_hours) }));
    }
    let mut stops = Vec::new();
    let mut by_order: BTreeMap<JobId, u16> = BTreeMap::new();
    for _ in 0..20 * 24 * 60 {
        let outputs = world.step(std::mem::take(&mut events));
        for output in &outputs {
            match output {
                Event::JobPlaced(e) => {
                    let own = undone.get_mut(&e.job).unwrap();
                    (own.placed, own.run) = (own.placed + 1, Some((e.run.clone(), world.now)));
                    let (job, run, started_us) = (e.job.clone(), e.run.clone(), TimeUs(world.now));
                    events.push(
                        RunStarted { job, run, started_us, nodes: e.nodes.clone(), ..RunStarted::default() }.into(),
                    );
                }
                Event::JobPreempted(e) => {
                    let row = world.kernel.state().jobs.get(&e.job).unwrap();
                    let before = by_order.insert(e.job.clone(), row.order_preemptions).unwrap_or(0);
                    let party = |job: &JobId| undone[job].as_party(job, world.now);
                    stops.extend(e.for_job.as_ref().map(|winner| Stopped {
                        victim: party(&e.job),
                        winner: party(winner),
                        by_order: row.order_preemptions > before,
                    }));
                    let (run, ran_us) = undone.get_mut(&e.job).unwrap().stops(world.now);
                    events.push(
                        RunStopped {
                            job: e.job.clone(),
                            run,
                            reason: StopReason::Preempted,
                            kept_work_us: WorkUs(row.kept_work_us.0 + ran_us),
                            stopped_us: TimeUs(world.now),
                            ..RunStopped::default()
                        }
                        .into(),
                    );
                }
                _ => {}
            }
        }
        let is_done = |own: &Undone| own.run.as_ref().is_some_and(|(_, since)| world.now - since >= own.left_us);
        let done: Vec<JobId> = undone.iter().filter(|(_, own)| is_done(own)).map(|(job, _)| job.clone()).collect();
        for job in done {
            let (run, _) = undone.remove(&job).unwrap().stops(world.now);
            let finished_us = TimeUs(world.now);
            events.push(RunFinished { job, run, finished_us, ..RunFinished::default() }.into());
        }
        if undone.is_empty() {
            return stops;
        }
        if events.is_empty() {
            world.now += MINUTE_US;
        }
    }
    panic!("{rule}: never done: {:?}", undone.keys());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn stops_never_go_round_in_circles_and_everything_gets_done(
        jobs in prop::collection::vec((1..=2i64, 1..=8i64, 1..7i64, prop::bool::weighted(0.2)), 3..8),
        rule in prop::sample::select(vec!["share-surcharge", "las", "srpt", "classic"]),
        promised_milli in prop::sample::select(vec![0, 900]),
    ) {
        let is_urgent = |party: &Party| jobs[party.job.as_str()[1..].parse::<usize>().unwrap()].3;
        let mut pairs: BTreeMap<BTreeSet<JobId>, Vec<Stopped>> = BTreeMap::new();
        for stop in closed_world(rule, promised_milli, &jobs) {
            let (victim, winner) = (is_urgent(&stop.victim), is_urgent(&stop.winner));
            prop_assert!(winner || !victim, "a lower class stopped a higher one: {stop:?}");
            if stop.by_order {
                let behind = rule == "srpt" || stop.victim.steps > stop.winner.steps;
                prop_assert!(rule != "classic" && victim == winner && behind, "{stop:?}");
                let pair = BTreeSet::from([stop.victim.job.clone(), stop.winner.job.clone()]);
                pairs.entry(pair).or_default().push(stop);
            }
        }
        for stops in pairs.values() {
            let turned = || stops.iter().zip(&stops[1..]).filter(|(before, after)| before.victim.job == after.winner.job);
            // Steps only rise: whoever is stopped has used more of them than the other, which had more when it was.
            prop_assert!(rule == "srpt" || turned().count() < STEPS.len(), "{stops:?}");
            // Of what is left nothing is done while a job waits: it takes its place back only after it has run elsewhere.
            let ran = turned().all(|(before, after)| after.winner.placed > before.victim.placed);
            prop_assert!(rule != "srpt" || ran, "{stops:?}");
        }
    }
}

#[test]
fn jobs_without_gpus_make_room_for_each_other_too() {
    let cpus = |name: &str, class: &str| {
        let mut asked = JobRequested { class: ClassId::from(class), ..job(name, "red", 1, 0, 20) };
        asked.gang.gpu_milli_each = GpuMilli(0);
        asked.gang.cpu_milli = node("like-all", "pod/h100", 8, "leaf").cpu_milli;
        asked
    };
    let mut world = World::with_nodes(1);
    world.step(vec![policy("share-surcharge").into(), class("urgent", 200, true, 0)]);
    assert!(placed(&world.step(vec![cpus("low", "standard").into()]), "low").is_some());
    world.now += MINUTE_US;
    let stopped = preempted(&world.step(vec![cpus("high", "urgent").into()]));
    assert_eq!(stopped.len(), 1);
    let stop = world.stopped("low", StopReason::Preempted);
    assert!(placed(&world.step(vec![stop]), "high").is_some());
}
