//! A small world told by hand, for rules that generated ones seldom come to: an elastic job that grows, room that is made by a
//! class that preempts, a job moved off few nodes, a budget that runs out, a node that fails.

use solyx_histories::{START, World, base_events, checkpointed, identify, job, money, node, ordered_by, started, usd};
use solyx_schemas::codec::Codec;
use solyx_schemas::events::Event;
use solyx_schemas::events::jobs::{FailureCategory, JobRequested};
use solyx_schemas::events::policy::*;
use solyx_schemas::events::runs::{RunFailed, RunStopped, StopReason};
use solyx_schemas::events::usage::{Meter, UsageMetered};
use solyx_schemas::ids::*;
use solyx_schemas::log::Log;
use solyx_schemas::log::memory::MemoryLog;
use solyx_schemas::topics::{Topic, TopicName};
use solyx_schemas::units::*;

const MINUTE_US: i64 = 60 * SECOND_US;

struct Scene {
    world: World,
    log: MemoryLog,
    events: u64,
}

impl Scene {
    /// An epoch of these events, in the log as an engine writes it.
    fn step(&mut self, events: Vec<Event>) {
        let mut inputs = events.clone();
        for event in &mut inputs {
            self.events += 1;
            identify(event, self.events, self.world.now);
        }
        inputs.sort_by_key(Event::topic);
        let closed = self.world.close(events);
        let all = inputs.into_iter().chain(closed.outputs).chain([Event::from(closed.record)]);
        let record = |event: Event| Codec::global().record(&event, TopicName::live(event.topic()), 1);
        self.log.producer("scene").unwrap().append(all.map(record).collect()).unwrap();
    }

    fn starts(&mut self, jobs: Vec<Event>) {
        let names: Vec<String> = jobs.iter().map(|job| job.key().into_owned()).collect();
        self.step(jobs);
        let running = names.iter().filter(|name| self.world.running.contains_key(name.as_str()));
        let said = running.map(|name| started(&self.world, name)).collect();
        self.step(said);
    }

    fn checkpoints(&mut self, job: &str) {
        let placed = &self.world.running[job];
        let done = (self.world.now - placed.now_us.0) / 1_000 * placed.speed_milli.0;
        let said = checkpointed(&self.world, job, placed.from_work_us.0 + done);
        self.step(vec![said]);
    }

    fn stops(&mut self, job: &str, reason: StopReason, kept_work_us: i64) {
        let Event::RunStopped(said) = self.world.stopped(job, reason) else { panic!("another event") };
        self.step(vec![RunStopped { kept_work_us: WorkUs(kept_work_us), ..*said }.into()]);
    }

    fn passes(&mut self, us: i64) {
        self.world.now += us;
    }
}

/// Its log.
pub fn told() -> MemoryLog {
    let log = MemoryLog::with_partitions(&Topic::ALL.into_iter().map(|topic| (topic, 1)).collect());
    log.set_clock_us(Some(0));
    let mut scene = Scene { world: World::empty(), log, events: 0 };
    let mut events = base_events();
    events.extend((0..4).map(|i| node(&format!("node-{i}"), "pod/h100", 8, "leaf").into()));
    let policy = SchedulingPolicySet {
        run_lease_us: Some(DurationUs(10_000 * HOUR_US)),
        consolidation_budget_us: Some(DurationUs(100 * HOUR_US)),
        lemon_failures_max: Some(Count(1)),
        lemon_window_us: Some(DurationUs(24 * HOUR_US)),
        ..ordered_by("share-surcharge")
    };
    events.extend([policy.into(), FeatureEnabled { feature: "spine".into(), ..FeatureEnabled::default() }.into()]);
    scene.step(events);
    an_elastic_job_grows(&mut scene);
    a_budget_runs_out(&mut scene);
    what_is_held_back_and_who_preempts(&mut scene);
    a_node_fails(&mut scene);
    scene.log
}

/// With one replica beside a gang, with four once that has ended.
fn an_elastic_job_grows(scene: &mut Scene) {
    let mut wide: JobRequested = job("wide", "red", 1, 8, 40);
    wide.gang.replicas_max = Count(4);
    scene.starts(vec![job("gang", "blue", 3, 8, 0).into(), wide.into()]);
    scene.passes(30 * MINUTE_US);
    let finished = scene.world.finish("gang");
    scene.step(vec![finished]);
    scene.checkpoints("wide");
    scene.passes(30 * MINUTE_US);
    scene.checkpoints("wide");
    scene.passes(MINUTE_US);
    scene.stops("wide", StopReason::Resized, HOUR_US);
    // Somebody else comes, and it gives back.
    scene.passes(HOUR_US);
    scene.step(vec![job("late", "blue", 2, 8, 1).into()]);
    scene.passes(MINUTE_US);
    scene.step(vec![]);
    scene.passes(20 * MINUTE_US);
    scene.checkpoints("wide");
    scene.passes(MINUTE_US);
    scene.stops("wide", StopReason::Resized, 2 * HOUR_US);
}

fn a_budget_runs_out(scene: &mut Scene) {
    let tiers = vec![PriceTier { up_to: None, price_micros: RateMicros(3_000_000) }];
    let mode = TierMode::Graduated;
    let lines = vec![RateLine { meter: Meter::GpuTime, tiers, mode, ..RateLine::default() }];
    let currency = usd();
    let card = RateCardSet { rate_card: "card".into(), from_us: TimeUs(0), currency, lines, ..RateCardSet::default() };
    let (tenant, kind) = (TenantId::from("blue"), BudgetKind::Hard);
    let budget = BudgetSet { budget: "b".into(), tenant, amount: money(10_000_000), kind, ..BudgetSet::default() };
    scene.step(vec![card.into(), budget.into()]);
    let finished = scene.world.finish("late");
    scene.step(vec![finished]);
    scene.starts(vec![job("dear", "blue", 1, 4, 1).into(), job("fits", "blue", 1, 1, 1).into()]);
    let run = RunId::from("fits/1");
    // Meters speak of whole clock hours.
    let (from_us, to_us) = (TimeUs(START + 3 * HOUR_US), TimeUs(START + 4 * HOUR_US));
    scene.world.now = to_us.0;
    let (job, meter, quantity) = (JobId::from("fits"), Meter::GpuTime, UsageQuantity(4 * 3_600_000_000_000));
    scene.step(vec![UsageMetered { job, run, meter, quantity, from_us, to_us, ..UsageMetered::default() }.into()]);
    scene.passes(HOUR_US);
    scene.step(vec![]);
}

/// A little is held back, and one GPU is still to be had beside it; then a class comes that stops lower ones.
fn what_is_held_back_and_who_preempts(scene: &mut Scene) {
    let (domain, gpu_model) = (RefId::from("site:elsewhere"), GpuModelId::from("H100"));
    let reserve = ReserveSet { domain, gpu_model, held_back_milli: GpuMilli(1_000), ..ReserveSet::default() };
    let urgent = PriorityClassSet {
        class: "urgent".into(),
        value: 200,
        preempts: true,
        preemptible: true,
        ..PriorityClassSet::default()
    };
    scene.step(vec![reserve.into(), urgent.into()]);
    scene.starts(vec![job("small", "red", 1, 1, 5).into(), job("medium", "red", 1, 6, 5).into()]);
    scene.passes(HOUR_US);
    let mut now: JobRequested = job("now", "red", 2, 8, 1);
    now.class = "urgent".into();
    scene.step(vec![now.into()]);
    scene.passes(MINUTE_US);
    scene.step(vec![]);
}

/// A GPU fails, and its node takes nothing more.
fn a_node_fails(scene: &mut Scene) {
    scene.starts(vec![job("unlucky", "red", 1, 1, 5).into()]);
    scene.passes(MINUTE_US);
    let placed = &scene.world.running["unlucky"];
    let (job, run, node) = (placed.job.clone(), placed.run.clone(), Some(placed.nodes[0].node.clone()));
    let (category, failed_us) = (FailureCategory::Gpu, TimeUs(scene.world.now));
    scene.step(vec![RunFailed { job, run, node, category, failed_us, ..RunFailed::default() }.into()]);
}
