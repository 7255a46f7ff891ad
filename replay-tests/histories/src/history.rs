//! Random worlds and what happens in them: everything follows from a seed.

mod change;
mod demand;
mod frame;
mod wider;

use std::collections::BTreeMap;

use solyx_schemas::events::Event;
use solyx_schemas::events::common::Sum;
use solyx_schemas::events::jobs::*;
use solyx_schemas::events::runs::*;
use solyx_schemas::events::world::*;
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

use self::frame::NODES;
pub use self::frame::{beginning, calm_policy, frame, one_pool};
pub use self::wider::{USUAL_CARBON_MG_PER_KWH, USUAL_PRICE_MICROS_PER_MWH, Wider, nodes_by_site};
use crate::usd;

/// A stream of numbers (splitmix64).
#[derive(Clone)]
pub struct Luck(pub u64);

impl Luck {
    pub fn below(&mut self, n: i64) -> i64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % n as u64) as i64
    }

    pub fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len() as i64) as usize]
    }

    pub fn chance(&mut self, percent: i64) -> bool {
        self.below(100) < percent
    }
}

/// How much happens in a history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    /// Anything.
    #[default]
    Wild,
    /// Little: long jobs that checkpoint, and room that nobody waits for.
    Calm,
    /// Only jobs, of fixed sizes, and more than there is room for.
    Crowded,
    /// The same, and now and then anything.
    Shaken,
}

/// Reports about what was decided, some of them kept back, repeated or wrong.
#[derive(Clone, Default)]
pub struct Executor {
    runs: BTreeMap<RunId, JobId>,
    leased: Vec<(PoolId, InstanceId)>,
    late: Vec<Event>,
    jobs: i64,
    /// What happens beside them.
    pub mood: Mood,
}

impl Executor {
    /// Sees an epoch's decisions.
    pub fn sees(&mut self, luck: &mut Luck, now: i64, outputs: &[Event]) {
        for output in outputs {
            match output {
                Event::JobPlaced(e) => {
                    self.runs.insert(e.run.clone(), e.job.clone());
                    let (job, run) = (e.job.clone(), e.run.clone());
                    let nodes = e.nodes.clone();
                    // Without one a report does not count.
                    let counts = self.mood != Mood::Wild || luck.chance(60);
                    let decision = RefId::from(if counts { "test/0/0/0" } else { "" });
                    self.late.push(
                        RunStarted { job, run, nodes, started_us: TimeUs(now), decision, ..RunStarted::default() }
                            .into(),
                    );
                }
                Event::JobPreempted(e) => self.stops(luck, now, &e.job, &e.run, StopReason::Preempted),
                Event::JobResized(e) => self.stops(luck, now, &e.job, &e.run, StopReason::Resized),
                Event::JobMigrated(e) => self.stops(luck, now, &e.job, &e.run, StopReason::Migrated),
                Event::JobCancelled(e) => {
                    if let Some(run) = &e.run {
                        self.stops(luck, now, &e.job, run, StopReason::Cancelled);
                    }
                }
                Event::CapacityLeaseOrdered(e) => {
                    let order = RefId::from(&*output.identity().id);
                    for i in 0..e.instances.0 {
                        if luck.chance(80) {
                            let instance = InstanceId::from(format!("i-{}-{i}", order.as_str().replace('/', "-")));
                            self.leased.push((e.pool.clone(), instance.clone()));
                            self.late.push(
                                InstanceLeased {
                                    pool: e.pool.clone(),
                                    instance,
                                    order: order.clone(),
                                    price_micros_per_gpu_hour: e.price_micros_per_gpu_hour,
                                    currency: e.currency,
                                    from_us: TimeUs(now),
                                    ..InstanceLeased::default()
                                }
                                .into(),
                            );
                        } else {
                            self.late.push(
                                InstanceLeaseRefused {
                                    pool: e.pool.clone(),
                                    order: order.clone(),
                                    instances: Count(1),
                                    reason: LeaseReason::NoCapacity,
                                    ..InstanceLeaseRefused::default()
                                }
                                .into(),
                            );
                        }
                    }
                }
                Event::CapacityReleaseOrdered(e) => {
                    for instance in &e.instances {
                        self.late.push(ended(&e.pool, instance, now));
                    }
                }
                _ => {}
            }
        }
    }

    fn stops(&mut self, luck: &mut Luck, now: i64, job: &JobId, run: &RunId, reason: StopReason) {
        let stopped = RunStopped {
            job: job.clone(),
            run: run.clone(),
            reason,
            kept_work_us: WorkUs(luck.below(1_000_000)),
            stopped_us: TimeUs(now),
            ..RunStopped::default()
        };
        self.late.push(stopped.into());
    }

    /// What is said in the next epoch: due reports in any order, and anything else that may come.
    pub fn says(&mut self, luck: &mut Luck, now: i64) -> Vec<Event> {
        let mut events = Vec::new();
        let late = std::mem::take(&mut self.late);
        for report in late {
            match luck.below(10) {
                0..6 => events.push(report),
                6 => {
                    events.push(report.clone());
                    self.late.push(report);
                }
                _ => self.late.push(report),
            }
        }
        let runs: Vec<(RunId, JobId)> = self.runs.iter().map(|(r, j)| (r.clone(), j.clone())).collect();
        for (run, job) in runs {
            if self.mood != Mood::Wild {
                if luck.chance(50) {
                    events.push(checkpointed(luck, now, &run, &job));
                }
                if luck.chance(if self.mood == Mood::Calm { 6 } else { 10 }) {
                    let (job, run) = (job.clone(), run.clone());
                    events.push(RunFinished { job, run, finished_us: TimeUs(now), ..RunFinished::default() }.into());
                }
                continue;
            }
            if luck.chance(15) {
                events.push(self.about(luck, now, &run, &job));
            }
            if luck.chance(15) {
                events.push(checkpointed(luck, now, &run, &job));
            }
        }
        if self.mood != Mood::Wild {
            let many = if self.mood == Mood::Calm { i64::from(luck.chance(14)) } else { luck.below(4) };
            for _ in 0..many {
                events.push(self.long_request(luck, now));
            }
            if self.mood == Mood::Shaken && luck.chance(40) {
                events.push(self.change(luck, now));
            }
        } else {
            for _ in 0..luck.below(4) {
                events.push(self.request(luck, now));
            }
            for _ in 0..luck.below(3) {
                events.push(self.change(luck, now));
            }
        }
        // Nothing promises an order.
        for i in (1..events.len()).rev() {
            let j = luck.below(i as i64 + 1) as usize;
            events.swap(i, j);
        }
        events
    }

    fn about(&mut self, luck: &mut Luck, now: i64, run: &RunId, job: &JobId) -> Event {
        let (job, run) = (job.clone(), run.clone());
        match luck.below(10) {
            0..3 => RunFinished { job, run, exit_code: 0, finished_us: TimeUs(now), ..RunFinished::default() }.into(),
            3 => {
                let category = *luck.of(&[
                    FailureCategory::OutOfMemory,
                    FailureCategory::Gpu,
                    FailureCategory::Node,
                    FailureCategory::UserCode,
                    FailureCategory::Network,
                ]);
                let node = luck.chance(50).then(|| NodeId::from(format!("node-{}", luck.below(NODES))));
                RunFailed { job, run, category, node, failed_us: TimeUs(now), ..RunFailed::default() }.into()
            }
            4 => RunStopped {
                job,
                run,
                reason: *luck.of(&[StopReason::Preempted, StopReason::Cancelled, StopReason::Resized]),
                stopped_us: TimeUs(now),
                ..RunStopped::default()
            }
            .into(),
            5 => checkpointed(luck, now, &run, &job),
            _ => RunLeaseRenewed {
                job,
                run,
                lease_until_us: TimeUs(now + luck.below(HOUR_US)),
                ..RunLeaseRenewed::default()
            }
            .into(),
        }
    }
}

fn checkpointed(luck: &mut Luck, now: i64, run: &RunId, job: &JobId) -> Event {
    RunCheckpointed {
        job: job.clone(),
        run: run.clone(),
        work_us: WorkUs(luck.below(HOUR_US)),
        site: SiteId::from("pod"),
        durable_us: TimeUs(now),
        ..RunCheckpointed::default()
    }
    .into()
}

fn ended(pool: &PoolId, instance: &InstanceId, now: i64) -> Event {
    InstanceLeaseEnded {
        pool: pool.clone(),
        instance: instance.clone(),
        to_us: TimeUs(now),
        charged: Sum { currency: usd(), micros: MoneyMicros(0) },
        reason: LeaseReason::Reclaimed,
        ..InstanceLeaseEnded::default()
    }
    .into()
}
