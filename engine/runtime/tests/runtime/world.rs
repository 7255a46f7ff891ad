//! A small world: jobs over a few hours with duplicates, conflicts and junk among them, prices far beyond their end, and an
//! executor that reports at the same instant and later.

use std::sync::atomic::AtomicBool;

use solyx_runtime::{EngineOptions, Lockstep, RunEnd, RuntimeError, VirtualOptions, run_virtual};
use solyx_schemas::codec::Codec;
use solyx_schemas::epochs::{EpochBatch, EpochReader};
use solyx_schemas::events::capacity::{CapacityClass, PoolDeclared};
use solyx_schemas::events::facility::SiteDeclared;
use solyx_schemas::events::jobs::{Gang, JobRequested};
use solyx_schemas::events::nodes::{GpuReport, NodeReported};
use solyx_schemas::events::plans::PlanPublished;
use solyx_schemas::events::policy::{CellDeclared, SchedulingPolicySet};
use solyx_schemas::events::usage::UsageMetered;
use solyx_schemas::events::world::EnergyPriced;
use solyx_schemas::events::{Event, event_type};
use solyx_schemas::field::Field;
use solyx_schemas::ids::{CellId, SourceId};
use solyx_schemas::log::memory::MemoryLog;
use solyx_schemas::log::{Log, Record, Scan};
use solyx_schemas::topics::{Topic, TopicName};
use solyx_schemas::units::{Count, CpuMilli, DurationUs, GpuMilli, HOUR_US, MemoryMib, TimeUs};

pub const START_US: i64 = 1_693_785_600_000_000;

pub fn cell() -> CellId {
    CellId::from("cell-a")
}

pub fn record(log: &MemoryLog, event: &Event, staged: bool) -> Record {
    let topic = TopicName { topic: event.topic(), staged };
    Codec::global().record(event, topic, log.partitions(topic))
}

pub fn job(n: i64) -> JobRequested {
    let Event::JobRequested(example) = (event_type("JobRequested").unwrap().example)() else { panic!("another event") };
    JobRequested {
        event_id: format!("job-{n}").as_str().into(),
        occurred_us: TimeUs(START_US + n / 3 * 60_000_000),
        job: format!("job-{n}").as_str().into(),
        ..*example
    }
}

pub fn publish(log: &MemoryLog, records: Vec<Record>) {
    log.producer("import").unwrap().append(records).unwrap();
}

/// A log with so many jobs staged, and what surrounds them.
pub fn world(jobs: i64) -> MemoryLog {
    let log = MemoryLog::new();
    let declared = CellDeclared {
        cell_id: cell(),
        epoch_records_max: Count(4),
        epoch_bytes_max: Count(1 << 20),
        epoch_latency_max_us: DurationUs(1_000),
        ..CellDeclared::example("")
    };
    publish(&log, vec![record(&log, &Event::from(declared), false)]);
    let mut records = Vec::new();
    for n in 0..jobs {
        records.push(record(&log, &Event::from(job(n)), true));
        if n % 5 == 0 {
            records.push(record(&log, &Event::from(job(n)), true));
        }
        if n % 7 == 0 {
            let other = JobRequested { labels: Vec::new(), tenant: "another".into(), ..job(n) };
            records.push(record(&log, &Event::from(other), true));
        }
        if n % 11 == 0 {
            let mut junk = record(&log, &Event::from(job(n)), true);
            junk.value.truncate(9);
            records.push(junk);
        }
    }
    for hour in 0..100 {
        let from_us = TimeUs(START_US + hour * HOUR_US);
        let priced = EnergyPriced {
            event_id: format!("price-{hour}").as_str().into(),
            occurred_us: from_us,
            from_us,
            to_us: TimeUs(from_us.0 + HOUR_US),
            ..EnergyPriced::example("")
        };
        records.push(record(&log, &Event::from(priced), true));
    }
    publish(&log, records);
    log
}

/// The same with a policy, a site, a pool and nodes, so that prices are planned after every few requests, and with many requests at
/// one instant.
pub fn planned_world(jobs: i64) -> MemoryLog {
    let log = world(0);
    let model = |event: &Event| record(&log, event, false);
    let policy = SchedulingPolicySet {
        event_id: "policy".into(),
        source: "operator".into(),
        scope: "cell".into(),
        order_rule: "classic".into(),
        packing_rule: "solyx".into(),
        plan_interval: Some(Count(3)),
        ..SchedulingPolicySet::default()
    };
    let mut site = SiteDeclared { event_id: "site".into(), ..SiteDeclared::example("") };
    site.grid_zone = "DE-LU".into();
    let class = CapacityClass::Owned;
    let pool = PoolDeclared { event_id: "pool".into(), site: site.site.clone(), class, ..PoolDeclared::example("") };
    let node = |n: i64| NodeReported {
        event_id: format!("node-{n}").as_str().into(),
        node: format!("node-{n}").as_str().into(),
        pool: pool.pool.clone(),
        gpus: (0..4)
            .map(|index| GpuReport {
                index,
                uuid: format!("gpu-{n}-{index}").as_str().into(),
                model: pool.gpu_model.clone(),
                ..GpuReport::example("")
            })
            .collect(),
        cpu_milli: CpuMilli(64_000),
        memory_mib: MemoryMib(1 << 18),
        feeds: Vec::new(),
        ..NodeReported::example("")
    };
    let mut fixed = vec![model(&Event::from(policy)), model(&Event::from(site)), model(&Event::from(pool.clone()))];
    fixed.extend((0..2).map(|n| model(&Event::from(node(n)))));
    publish(&log, fixed);
    let mut staged = Vec::new();
    for n in 0..jobs {
        let mut request = JobRequested { occurred_us: TimeUs(START_US + n / 9 * 60_000_000), ..job(n) };
        (request.models, request.depends_on, request.topology) = (Vec::new(), Vec::new(), None);
        request.gang = Gang {
            replicas_min: Count(1),
            replicas_max: Count(1),
            gpus: Count(1),
            gpu_milli_each: GpuMilli([650, 320, 590, 370][(n % 4) as usize]),
            cpu_milli: CpuMilli(2_000),
            memory_mib: MemoryMib(1_024),
            ..Gang::default()
        };
        staged.push(record(&log, &Event::from(request.clone()), true));
        if n % 4 == 0 {
            staged.push(record(&log, &Event::from(request), true));
        }
    }
    publish(&log, staged);
    log
}

/// Plans that the log's epochs have read.
pub fn plans(log: &MemoryLog) -> Vec<(i64, PlanPublished)> {
    let mut plans = Vec::new();
    for epoch in EpochReader::new(log) {
        let epoch = epoch.unwrap();
        for (_, event) in epoch.counted() {
            if let Event::PlanPublished(plan) = event {
                plans.push((epoch.record.epoch, (**plan).clone()));
            }
        }
    }
    plans
}

/// Reports usage of every job that is requested: at once, once more when that has been read, and a while later.
#[derive(Default)]
pub struct Meter {
    reports: Vec<(i64, Event)>,
    handed_on: usize,
}

impl Meter {
    fn report(&mut self, at: i64, id: String) {
        let metered = UsageMetered {
            event_id: id.as_str().into(),
            source: self.name(),
            occurred_us: TimeUs(at),
            ..UsageMetered::example("")
        };
        // Reports of one instant keep the order in which they were caused.
        let place = self.reports.partition_point(|(time, _)| *time <= at);
        self.reports.insert(place, (at, Event::from(metered)));
    }
}

impl Lockstep for Meter {
    fn name(&self) -> SourceId {
        SourceId::from("meter")
    }

    fn observe(&mut self, epoch: &EpochBatch) {
        let now = epoch.record.now_us.0;
        let seen: Vec<(String, Topic)> =
            epoch.counted().map(|(position, event)| (event.identity().id.into_owned(), position.topic())).collect();
        for (id, topic) in seen {
            match topic {
                Topic::Jobs => {
                    self.report(now, format!("{id}/at-once"));
                    self.report(now + 7_000_000, format!("{id}/later"));
                }
                Topic::Usage if id.ends_with("at-once") => self.report(now, format!("{id}/again")),
                _ => {}
            }
        }
    }

    fn next_report_us(&self) -> Option<TimeUs> {
        self.reports.get(self.handed_on).map(|(at, _)| TimeUs(*at))
    }

    fn take_due(&mut self, now: TimeUs) -> Vec<Event> {
        let due: Vec<Event> = self.reports[self.handed_on.min(self.reports.len())..]
            .iter()
            .take_while(|(at, _)| *at <= now.0)
            .map(|(_, event)| event.clone())
            .collect();
        self.handed_on += due.len();
        due
    }

    fn live_runs(&self) -> usize {
        self.reports.len().saturating_sub(self.handed_on)
    }

    fn next_report_is_background(&self) -> bool {
        false
    }

    fn resume_at(&mut self, handed_on: u64) {
        self.handed_on = handed_on as usize;
    }
}

pub fn options(dir: Option<&std::path::Path>) -> VirtualOptions {
    let mut engine = EngineOptions::new(cell(), dir.map(Into::into));
    engine.snapshot_every_epochs = 5;
    VirtualOptions { sync_every_epochs: 3, ..VirtualOptions::new(engine) }
}

/// A virtual run until idle with a meter.
pub fn run_all(log: &MemoryLog, dir: Option<&std::path::Path>) -> Result<RunEnd, RuntimeError> {
    let mut meter = Meter::default();
    run_virtual(log, Some(&mut meter), &options(dir), &AtomicBool::new(false), &mut |_| {})
}

/// Everything in the live topics but append times.
pub fn contents(log: &MemoryLog) -> Vec<(TopicName, u32, u64, Record)> {
    let mut all = Vec::new();
    for topic in Topic::ALL.map(TopicName::live) {
        for partition in 0..log.partitions(topic) {
            for stored in Scan::new(log, topic, partition, 0) {
                let stored = stored.unwrap();
                all.push((topic, partition, stored.ordinal, stored.record));
            }
        }
    }
    all
}
