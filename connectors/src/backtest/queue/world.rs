//! The kernel, the trace's jobs as its only producer, and an executor that does what it is told at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use solyx_kernel::{Kernel, OpenEpoch, Seen};
use solyx_schemas::codec::Codec;
use solyx_schemas::epochs::Position;
use solyx_schemas::events::Event;
use solyx_schemas::events::decisions::JobPlaced;
use solyx_schemas::events::jobs::{Gang, JobKind, JobRequested};
use solyx_schemas::events::policy::{CellDeclared, PriorityClassSet, SchedulingPolicySet, TenantDeclared};
use solyx_schemas::events::runs::{RunCheckpointed, RunFinished, RunStarted, RunStopped, StopReason};
use solyx_schemas::ids::*;
use solyx_schemas::log::Log;
use solyx_schemas::topics::{Topic, TopicName};
use solyx_schemas::units::*;

use super::fleet::Fleet;
use super::kept::Kept;
use super::misses::Misses;
use super::running::{CHECKPOINT_S, RESTORE_S, Running};
use super::{POLICIES, QueueReport, SOURCE, Setting, Spread};
use crate::backtest::BacktestError;
use crate::backtest::philly::TraceJob;
use crate::import::estimates::Estimates;

const MINIMUM_RUN_S: i64 = 15 * 60;
const TICK_S: i64 = 60;
const DAY_US: i64 = 24 * HOUR_US;
/// Once nothing runs and nobody comes any more, who waits for so long never starts.
const STUCK_S: i64 = 24 * 3_600;
/// Part of the fleet that is promised, thousandths.
const PROMISED_MILLI: i64 = 900;
/// Longer than any trace.
const FOR_EVER_US: i64 = 100 * 365 * DAY_US;
const CLASS: &str = "standard";

/// What became of a job.
#[derive(Clone, Copy, Default)]
struct Record {
    kept_s: i64,
    waiting_since_s: i64,
    waited_s: i64,
    ended_s: i64,
}

/// The kernel and its world.
pub struct World<'a> {
    setting: &'a Setting,
    kernel: Kernel,
    kept: Option<Kept<'a>>,
    ordinals: [u64; Topic::ALL.len()],
    fleet: &'a Fleet,
    now_s: i64,
    /// When something ran or arrived last.
    went_on_s: i64,
    running: BTreeMap<u64, Running>,
    /// Ends and checkpoints to come, by time and job.
    ends: BTreeSet<(i64, u64)>,
    checkpoints: BTreeSet<(i64, u64)>,
    records: Vec<Record>,
    places: BTreeMap<u64, usize>,
    misses: Misses,
    /// Work of ended jobs by tenant and size, sorted.
    history: BTreeMap<(String, i64), Vec<i64>>,
    done: usize,
    preemptions: u64,
    lost_gpu_s: i64,
    outputs: u64,
    epochs: u64,
    busy: Duration,
}

impl<'a> World<'a> {
    /// A fleet with nothing on it.
    pub fn new(
        setting: &'a Setting,
        fleet: &'a Fleet,
        shares: &BTreeMap<&str, i64>,
        log: Option<&'a dyn Log>,
    ) -> Result<Self, BacktestError> {
        let mut world = Self {
            setting,
            kernel: Kernel::new(CellId::from("backtest")),
            kept: log.map(Kept::begin).transpose()?,
            ordinals: [0; Topic::ALL.len()],
            fleet,
            now_s: 0,
            went_on_s: 0,
            running: BTreeMap::new(),
            ends: BTreeSet::new(),
            checkpoints: BTreeSet::new(),
            records: Vec::new(),
            places: BTreeMap::new(),
            misses: Misses::default(),
            history: BTreeMap::new(),
            done: 0,
            preemptions: 0,
            lost_gpu_s: 0,
            outputs: 0,
            epochs: 0,
            busy: Duration::ZERO,
        };
        let all: i64 = shares.values().sum();
        let mut events = policy_events(setting);
        events.extend(fleet.events.iter().cloned());
        for (tenant, gpu_s) in shares {
            let weight = match all {
                0 => 1_000,
                all => (i128::from(*gpu_s) * 1_000_000_000 / i128::from(all)).max(1) as i64,
            };
            let part = match all {
                0 => fleet.gpus / shares.len() as i64,
                all => (i128::from(*gpu_s) * i128::from(fleet.gpus) / i128::from(all)) as i64,
            };
            world.misses.promise(tenant, (part * PROMISED_MILLI / 1_000).max(1));
            let tenant = TenantDeclared {
                event_id: EventId::from(format!("tenant/{tenant}")),
                source: SourceId::from(SOURCE),
                occurred_us: TimeUs(0),
                tenant: TenantId::from(*tenant),
                weight_milli: Milli(weight),
                billing_currency: usd(),
                invoice_day: Count(1),
                ..TenantDeclared::default()
            };
            events.push(tenant.into());
        }
        world.epoch(events)?;
        Ok(world)
    }

    /// Runs all jobs to their ends.
    pub fn run(&mut self, jobs: &[TraceJob], progress: &mut dyn FnMut(usize, usize)) -> Result<(), BacktestError> {
        self.records = vec![Record::default(); jobs.len()];
        self.places = jobs.iter().enumerate().map(|(place, job)| (job.number, place)).collect();
        let mut next = 0;
        while self.done < jobs.len() {
            let arrival = jobs.get(next).map(|job| job.submitted_s);
            let end = self.ends.first().map(|(at, _)| *at);
            let wakeup = self.kernel.next_wakeup().map(|at| (at.0 + SECOND_US - 1).div_euclid(SECOND_US));
            let next_s = [arrival, end, wakeup].into_iter().flatten().min();
            let idle = arrival.is_none() && self.running.is_empty();
            let Some(at) = next_s.filter(|at| !idle || *at <= self.went_on_s + STUCK_S) else {
                return Err(self.stuck(jobs));
            };
            self.now_s = self.now_s.max(at);
            if !idle {
                self.went_on_s = self.now_s;
            }
            let mut events = self.due(jobs);
            while let Some(job) = jobs.get(next).filter(|job| job.submitted_s <= self.now_s) {
                self.records[next].waiting_since_s = self.now_s;
                self.misses.waits(&job.tenant, self.held(job), job.number, self.now_s);
                events.push(self.request(job).into());
                next += 1;
            }
            // What is told to stop stops in the same instant, and what it makes room for starts in it.
            while !events.is_empty() || self.kernel.next_wakeup().is_some_and(|at| at.0 <= self.now_s * SECOND_US) {
                let outputs = self.epoch(std::mem::take(&mut events))?;
                events = self.obey(jobs, &outputs);
            }
            progress(self.done, jobs.len());
        }
        self.kept.as_mut().map_or(Ok(()), Kept::end).map_err(BacktestError::from)
    }

    fn stuck(&self, jobs: &[TraceJob]) -> BacktestError {
        let ended = |place: &usize| self.records[*place].ended_s > 0;
        let number = (0..jobs.len()).find(|place| !ended(place)).map_or(0, |place| jobs[place].number);
        BacktestError::Stuck { jobs: jobs.len() - self.done, number }
    }

    /// Ends and checkpoints that have come.
    fn due(&mut self, jobs: &[TraceJob]) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(number) = due(&mut self.checkpoints, self.now_s) {
            let Some(running) = self.running.get_mut(&number) else { continue };
            running.told = running.worked_s(self.now_s) / CHECKPOINT_S;
            let durable_s = running.next_checkpoint_s() - CHECKPOINT_S;
            self.checkpoints.insert((running.next_checkpoint_s(), number));
            let checkpoint = RunCheckpointed {
                event_id: EventId::from(format!("{}/checkpoint/{}", running.run, running.told)),
                source: SourceId::from(SOURCE),
                occurred_us: TimeUs(self.now_s * SECOND_US),
                job: job_id(number),
                run: running.run.clone(),
                work_us: WorkUs(running.kept_s(self.now_s) * SECOND_US),
                size_mib: MemoryMib(1),
                site: running.site.clone(),
                durable_us: TimeUs(durable_s * SECOND_US),
            };
            events.push(checkpoint.into());
        }
        while let Some(number) = due(&mut self.ends, self.now_s) {
            let Some(running) = self.running.remove(&number) else { continue };
            let job = &jobs[running.job];
            self.checkpoints.remove(&(running.next_checkpoint_s(), number));
            self.records[running.job].ended_s = self.now_s;
            self.done += 1;
            self.misses.takes(&job.tenant, -self.held(job), self.now_s);
            let ended = self.history.entry((job.tenant.clone(), size_class(job.gpus))).or_default();
            ended.insert(ended.partition_point(|work| *work < job.work_s), job.work_s);
            let finished = RunFinished {
                event_id: EventId::from(format!("{}/finished", running.run)),
                source: SourceId::from(SOURCE),
                occurred_us: self.now(),
                job: job_id(number),
                run: running.run,
                exit_code: 0,
                work_us: WorkUs(job.work_s * SECOND_US),
                finished_us: self.now(),
            };
            events.push(finished.into());
        }
        events
    }

    /// Does what was decided, and says so.
    fn obey(&mut self, jobs: &[TraceJob], outputs: &[Event]) -> Vec<Event> {
        let mut said = Vec::new();
        for output in outputs {
            match output {
                Event::JobPlaced(placed) => said.push(self.start(jobs, placed).into()),
                Event::JobPreempted(told) => {
                    let number = number_of(&told.job);
                    let Some(running) = self.running.remove(&number) else { continue };
                    let job = &jobs[running.job];
                    let kept_s = running.kept_s(self.now_s);
                    let end = running.works_from_s() + job.work_s - running.from_s;
                    self.ends.remove(&(end, number));
                    self.checkpoints.remove(&(running.next_checkpoint_s(), number));
                    self.preemptions += 1;
                    let restored_s = (self.now_s - running.started_s).min(running.works_from_s() - running.started_s);
                    let lost_s = running.from_s + running.worked_s(self.now_s) - kept_s + restored_s;
                    self.lost_gpu_s += lost_s * job.gpus;
                    let record = &mut self.records[running.job];
                    record.kept_s = kept_s;
                    record.waiting_since_s = self.now_s;
                    let held = self.held(job);
                    self.misses.takes(&job.tenant, -held, self.now_s);
                    self.misses.waits(&job.tenant, held, number, self.now_s);
                    let stopped = RunStopped {
                        event_id: EventId::from(format!("{}/stopped", told.run)),
                        source: SourceId::from(SOURCE),
                        occurred_us: self.now(),
                        job: told.job.clone(),
                        run: told.run.clone(),
                        reason: StopReason::Preempted,
                        kept_work_us: WorkUs(kept_s * SECOND_US),
                        stopped_us: self.now(),
                    };
                    said.push(stopped.into());
                }
                _ => {}
            }
        }
        said
    }

    fn start(&mut self, jobs: &[TraceJob], placed: &JobPlaced) -> RunStarted {
        let number = number_of(&placed.job);
        let place = self.places[&number];
        let held = self.held(&jobs[place]);
        let (job, record) = (&jobs[place], &mut self.records[place]);
        record.waited_s += self.now_s - record.waiting_since_s;
        self.misses.starts(&job.tenant, held, number, record.waiting_since_s, self.now_s);
        let running = Running {
            job: place,
            run: placed.run.clone(),
            site: placed.site.clone(),
            started_s: self.now_s,
            from_s: record.kept_s,
            told: 0,
        };
        self.ends.insert((running.works_from_s() + job.work_s - running.from_s, number));
        self.checkpoints.insert((running.next_checkpoint_s(), number));
        self.running.insert(number, running);
        RunStarted {
            decision: RefId::from(format!("{}/{}/{}/{}", placed.cell, placed.epoch, placed.term, placed.index)),
            job: placed.job.clone(),
            event_id: EventId::from(format!("{}/started", placed.run)),
            source: SourceId::from(SOURCE),
            occurred_us: self.now(),
            run: placed.run.clone(),
            nodes: placed.nodes.clone(),
            started_us: self.now(),
        }
    }

    fn request(&self, job: &TraceJob) -> JobRequested {
        let gpus = job.gpus.min(self.fleet.gpus_per_node);
        let replicas = self.held(job) / gpus;
        let work = WorkUs(job.work_s * SECOND_US);
        let needs_length = matches!(self.setting.policy.as_str(), "easy" | "sjf" | "drf" | "srpt" | "srpt-shares");
        let median = || {
            let ended = self.history.get(&(job.tenant.clone(), size_class(job.gpus)))?;
            Some(WorkUs(ended.get(ended.len() / 2)? * SECOND_US))
        };
        let said = match self.setting.durations {
            Estimates::None if needs_length => median(),
            estimates => estimates.of(self.setting.seed, &job.number.to_string(), work),
        };
        JobRequested {
            job: job_id(job.number),
            event_id: EventId::from(format!("{}/requested", job.number)),
            source: SourceId::from(SOURCE),
            occurred_us: self.now(),
            tenant: TenantId::from(job.tenant.as_str()),
            kind: JobKind::Training,
            gang: Gang {
                replicas_min: Count(replicas),
                replicas_max: Count(replicas),
                gpus: Count(gpus),
                gpu_milli_each: GpuMilli(1_000),
                cpu_milli: CpuMilli(1_000 * gpus),
                memory_mib: MemoryMib(1_024 * gpus),
                ..Gang::default()
            },
            expected_work_us: said,
            class: ClassId::from(CLASS),
            preemptible: true,
            checkpoint_interval_us: Some(DurationUs(CHECKPOINT_S * SECOND_US)),
            restore_us: Some(DurationUs(RESTORE_S * SECOND_US)),
            ..JobRequested::default()
        }
    }

    /// GPUs that a job holds while it runs: what it asks for, or whole nodes.
    fn held(&self, job: &TraceJob) -> i64 {
        super::held(job, self.fleet.gpus_per_node)
    }

    fn now(&self) -> TimeUs {
        TimeUs(self.now_s * SECOND_US)
    }

    /// One epoch of these events.
    fn epoch(&mut self, mut events: Vec<Event>) -> Result<Vec<Event>, BacktestError> {
        events.sort_by_key(Event::topic);
        let codec = Codec::global();
        let records: Vec<_> = events
            .iter()
            .map(|event| {
                let topic = event.topic();
                let record = codec.record(event, TopicName::live(topic), 1);
                let ordinal = &mut self.ordinals[topic as usize];
                let position = Position::new(topic, 0, *ordinal);
                *ordinal += 1;
                (position, codec.decode_record(&record), record)
            })
            .collect();
        let begun = Instant::now();
        let mut epoch = OpenEpoch::open(&mut self.kernel, self.now_s * SECOND_US, 0);
        for (position, decoded, record) in &records {
            epoch.take(*position, &record.key, &record.value, decoded.as_ref(), || Seen::New);
        }
        let closed = epoch.close(&|_| 1);
        self.busy += begun.elapsed();
        if let Some(kept) = &mut self.kept {
            kept.inputs(records.into_iter().map(|(_, _, record)| record).collect())?;
            kept.epoch(&closed)?;
        }
        // What is said here is what an executor would say; the kernel takes all of it.
        assert!(closed.record.skipped.is_empty(), "{:?}", closed.outputs.last());
        self.outputs += closed.outputs.len() as u64;
        self.epochs += 1;
        Ok(closed.outputs)
    }

    /// What it came to.
    pub fn report(self, jobs: &[TraceJob]) -> QueueReport {
        let ended = |of: fn(&TraceJob, &Record) -> i64| {
            jobs.iter().zip(&self.records).filter(|(_, record)| record.ended_s > 0).map(|(j, r)| of(j, r)).collect()
        };
        let first = jobs.first().map_or(0, |job| job.submitted_s);
        let last = self.records.iter().map(|record| record.ended_s).max().unwrap_or(0);
        let gpu_s: i64 = jobs.iter().map(|job| job.gpus * job.work_s).sum();
        let there_was = (self.fleet.gpus * (last - first)).max(1);
        QueueReport {
            policy: self.setting.policy.clone(),
            durations: self.setting.durations.to_string(),
            load: super::load_of(jobs, self.fleet.gpus),
            jobs: self.done,
            nodes: self.fleet.nodes,
            wait_s: Spread::of(ended(|job, record| record.ended_s - job.submitted_s - job.work_s)),
            completion_s: Spread::of(ended(|job, record| record.ended_s - job.submitted_s)),
            utilisation_pct: 100.0 * gpu_s as f64 / there_was as f64,
            lost_gpu_h: self.lost_gpu_s as f64 / 3_600.0,
            lost_pct: 100.0 * self.lost_gpu_s as f64 / gpu_s.max(1) as f64,
            preemptions: self.preemptions,
            longest_miss_s: self.misses.longest_s,
            misses_over_20_min: self.misses.noticed,
            decisions_per_s: self.outputs as f64 / self.busy.as_secs_f64().max(1e-9),
            epochs: self.epochs,
            chain_head: self.kernel.chain_head().to_string(),
        }
    }
}

/// Takes out the first of those whose time has come.
fn due(times: &mut BTreeSet<(i64, u64)>, now: i64) -> Option<u64> {
    times.first().filter(|(at, _)| *at <= now)?;
    times.pop_first().map(|(_, number)| number)
}

fn size_class(gpus: i64) -> i64 {
    [1, 2, 4, 8, 12, 16, 24].into_iter().find(|most| gpus <= *most).unwrap_or(i64::MAX)
}

fn job_id(number: u64) -> JobId {
    JobId::from(number.to_string())
}

fn number_of(job: &JobId) -> u64 {
    // Every job here was named by its number.
    job.as_str().parse().unwrap_or(0)
}

fn usd() -> Currency {
    Currency::parse("USD").unwrap_or_default()
}

/// The cell, its policy and the class of all jobs.
fn policy_events(setting: &Setting) -> Vec<Event> {
    let (_, order_rule, depth) =
        POLICIES.iter().find(|(name, ..)| *name == setting.policy).copied().unwrap_or(POLICIES[0]);
    let looks_at_shares = !matches!(setting.policy.as_str(), "las" | "srpt");
    let makes_room = matches!(order_rule, "share-surcharge" | "las" | "srpt");
    let steps = |days: i64| [1, 2, 4, 8].map(|times| DurationUs(times * days * DAY_US)).to_vec();
    let policy = SchedulingPolicySet {
        event_id: EventId::from("SchedulingPolicySet"),
        source: SourceId::from(SOURCE),
        scope: Name::from("cell"),
        order_rule: Name::from(order_rule),
        packing_rule: Name::from("best-fit"),
        backfill_depth: Some(Count(depth)),
        promised_milli: Some(Milli(if looks_at_shares { PROMISED_MILLI } else { 0 })),
        surcharge_gpu_hours: [2, 16, 128, 1_024].map(Count).to_vec(),
        surcharge_us: steps(setting.step_days.unwrap_or(14)),
        run_lease_us: Some(DurationUs(FOR_EVER_US)),
        preemption_grace_us: Some(DurationUs(TICK_S * SECOND_US)),
        tick_us: makes_room.then_some(DurationUs(TICK_S * SECOND_US)),
        ..SchedulingPolicySet::default()
    };
    vec![
        CellDeclared {
            event_id: EventId::from("CellDeclared"),
            source: SourceId::from(SOURCE),
            cell_id: CellId::from("backtest"),
            reference_currency: usd(),
            epoch_records_max: Count(65_536),
            epoch_bytes_max: Count(1 << 24),
            epoch_latency_max_us: DurationUs(5_000),
            ..CellDeclared::default()
        }
        .into(),
        policy.into(),
        PriorityClassSet {
            event_id: EventId::from("PriorityClassSet"),
            source: SourceId::from(SOURCE),
            class: ClassId::from(CLASS),
            value: 100,
            preempts: false,
            preemptible: true,
            minimum_run_us: DurationUs(MINIMUM_RUN_S * SECOND_US),
            ..PriorityClassSet::default()
        }
        .into(),
    ]
}
