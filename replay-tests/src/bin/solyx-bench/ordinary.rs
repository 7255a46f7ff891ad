//! An audit of an ordinary mix: meters and sensors mostly, one record in a hundred a placement. Beside bare decoding; judging,
//! decisions and digests apart from the index of ids that finds duplicates, which is measured by itself, and from the views.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::Context;
use solyx_projections::billing::Billing;
use solyx_projections::dcim::Dcim;
use solyx_projections::failover::Failover;
use solyx_projections::fold::Fold;
use solyx_projections::jobs::Jobs;
use solyx_projections::store::View;
use solyx_runtime::{AuditOptions, AuditReport, Engine, EngineOptions, Rates, audit, processor_time};
use solyx_schemas::codec::Codec;
use solyx_schemas::epochs::EpochReader;
use solyx_schemas::events::Event;
use solyx_schemas::events::decisions::JobPlaced;
use solyx_schemas::events::facility::{MeasuredKind, PowerMeasured};
use solyx_schemas::events::runs::RunStarted;
use solyx_schemas::events::usage::{Meter, UsageMetered};
use solyx_schemas::ids::*;
use solyx_schemas::log::memory::MemoryLog;
use solyx_schemas::log::{Log, Producer, Record};
use solyx_schemas::topics::TopicName;
use solyx_schemas::units::*;

use super::measure::{Measure, per_second};
use super::scheduling::events::{self, Amounts};

/// What one core should judge, decide, digest and compare in a second, and fold into a view.
const APPLIED_AIM: f64 = 1_000_000.0;
const VIEW_AIM: f64 = 500_000.0;
const NODES: usize = 1_000;
/// Jobs that begin and end in each round.
const PLACED: usize = 100;
/// Records of meters and sensors for each placement.
const METERED: usize = 95;
const CLOCK_US: i64 = 1_693_785_600_000_000;
const ROUND_US: i64 = 60 * SECOND_US;

/// A log of so many rounds, and the values of its inputs.
struct History {
    log: MemoryLog,
    values: Vec<Vec<u8>>,
}

/// Events a second.
pub fn measure(rounds: usize, runs: u32) -> anyhow::Result<Vec<Measure>> {
    let history = make(rounds)?;
    let (mut turns, mut epochs, mut events) = (Vec::new(), 0, 0);
    let mut parts: [Vec<f64>; 4] = Default::default();
    let mut views: [Vec<f64>; 4] = Default::default();
    for _ in 0..runs {
        let begun = Instant::now();
        for value in &history.values {
            black_box(Codec::global().decode(value)?);
        }
        let decoding = per_second(history.values.len(), begun.elapsed());
        let begun = Instant::now();
        let report: AuditReport = audit(&history.log, &AuditOptions::default(), &mut |_| {})?;
        let elapsed = begun.elapsed();
        anyhow::ensure!(report.ok, "the audit found a difference: {:?}", report.first_difference);
        (epochs, events) = (report.epochs, report.events);
        let Rates { read, hashed, applied, duplicates } = report.per_s;
        for (part, rate) in parts.iter_mut().zip([read, hashed, applied, duplicates]) {
            part.push(rate as f64);
        }
        turns.push((per_second(report.events as usize, elapsed), decoding));
        let log = &history.log;
        let rates = [folded::<Billing>(log)?, folded::<Dcim>(log)?, folded::<Failover>(log)?, folded::<Jobs>(log)?];
        for (view, rate) in views.iter_mut().zip(rates) {
            view.push(rate);
        }
    }
    let what = format!("{events} records of {epochs} epochs, {PLACED} of {} placed", PLACED * (METERED + 5));
    let mut measures =
        vec![Measure::beside("audit_ordinary", "events/s", what, &turns, "our own decoding of the inputs")];
    let of = [
        ("read", "reading and decoding"),
        ("hashed", "hashing inputs"),
        ("applied", "judging, decisions, digests and comparing"),
        ("duplicates", "finding duplicates"),
    ];
    for ((name, what), rates) in of.iter().zip(&parts) {
        let what = format!("{what}, per second of processor time of the thread that does it beside the others");
        let measure = Measure::alone(&format!("audit_ordinary_{name}"), "events/s", what, rates);
        measures.push(if *name == "applied" { measure.aiming_at_least(APPLIED_AIM) } else { measure });
    }
    for (name, rates) in ["billing", "dcim", "failover", "jobs"].iter().zip(&views) {
        let what =
            "folding it from the first epoch, in memory, without reading, per second of processor time".to_owned();
        let measure = Measure::alone(&format!("audit_ordinary_view_{name}"), "events/s", what, rates);
        measures.push(measure.aiming_at_least(VIEW_AIM));
    }
    Ok(measures)
}

/// Events per second of one view.
fn folded<F: Fold + Default>(log: &MemoryLog) -> anyhow::Result<f64> {
    let (mut view, mut events, mut busy) = (View::<F>::empty(), 0, Duration::ZERO);
    for epoch in EpochReader::new(log) {
        let epoch = epoch?;
        let begun = processor_time();
        view.take(&epoch)?;
        view.fold.forget_changes();
        busy += processor_time() - begun;
        events += epoch.inputs.len() + epoch.outputs.len() + 1;
    }
    Ok(per_second(events, busy))
}

/// A fleet; then in each round some jobs are placed, run for a minute and end, and meters and sensors report.
fn make(rounds: usize) -> anyhow::Result<History> {
    let log = MemoryLog::new();
    let mut engine = Engine::lead(&log, &EngineOptions::new(CellId::from("bench"), None), None)?;
    let mut writer = Writer { producer: log.producer("bench")?, values: Vec::new(), log: &log };
    let has = Amounts { gpus: 8, cpu_milli: 32_000, memory_mib: 262_144 };
    let asks = Amounts { gpus: 1, cpu_milli: 1_000, memory_mib: 4_096 };
    let mut fleet = events::cell(10);
    fleet.extend((0..NODES).map(|number| events::node(number, has)));
    writer.say(&fleet)?;
    engine.turn(CLOCK_US)?;
    for round in 0..rounds {
        let now = TimeUs(CLOCK_US + round as i64 * ROUND_US);
        let requests: Vec<Event> = (0..PLACED).map(|n| events::job(round * PLACED + n, 10, asks)).collect();
        writer.say(&requests)?;
        let decided = engine.turn(now.0)?.context("an epoch of requests")?;
        let placed: Vec<JobPlaced> = decided.outputs.iter().filter_map(placed_by).collect();
        anyhow::ensure!(placed.len() == PLACED, "{} jobs were placed, expected {PLACED}", placed.len());
        let mut reports: Vec<Event> = placed.iter().map(|placed| started(placed, now)).collect();
        let later = now.after(DurationUs(ROUND_US / 2));
        reports.extend((0..PLACED * METERED).map(|n| metered(&placed[n % PLACED], n, later)));
        writer.say(&reports)?;
        engine.turn(later.0)?;
        let ends: Vec<Event> =
            placed.iter().map(|placed| events::finished(&placed.job, &placed.run, later.0)).collect();
        writer.say(&ends)?;
        engine.turn(later.0)?;
    }
    drop(engine);
    let values = writer.values;
    Ok(History { log, values })
}

struct Writer<'l> {
    log: &'l MemoryLog,
    producer: Box<dyn Producer>,
    values: Vec<Vec<u8>>,
}

impl Writer<'_> {
    fn say(&mut self, events: &[Event]) -> anyhow::Result<()> {
        let record = |event: &Event| {
            let topic = TopicName::live(event.topic());
            Codec::global().record(event, topic, self.log.partitions(topic))
        };
        let batch: Vec<Record> = events.iter().map(record).collect();
        self.values.extend(batch.iter().map(|record| record.value.clone()));
        self.producer.append(batch)?;
        Ok(())
    }
}

fn placed_by(output: &Event) -> Option<JobPlaced> {
    match output {
        Event::JobPlaced(placed) => Some((**placed).clone()),
        _ => None,
    }
}

fn started(placed: &JobPlaced, now: TimeUs) -> Event {
    RunStarted {
        event_id: EventId::from(format!("started/{}", placed.run)),
        source: SourceId::from("bench"),
        occurred_us: now,
        job: placed.job.clone(),
        run: placed.run.clone(),
        decision: RefId::from(format!("bench/{}/{}/{}", placed.epoch, placed.term, placed.index)),
        nodes: placed.nodes.clone(),
        started_us: now,
    }
    .into()
}

/// Use of a run and power of a node, in turns.
fn metered(placed: &JobPlaced, number: usize, now: TimeUs) -> Event {
    let from_us = TimeUs(now.0 - ROUND_US / 2);
    if number.is_multiple_of(2) {
        UsageMetered {
            event_id: EventId::from(format!("usage/{}/{number}", placed.run)),
            source: SourceId::from("bench"),
            occurred_us: now,
            job: placed.job.clone(),
            run: placed.run.clone(),
            meter: Meter::GpuTime,
            quantity: UsageQuantity(30_000_000),
            from_us,
            to_us: now,
            ..UsageMetered::default()
        }
        .into()
    } else {
        PowerMeasured {
            event_id: EventId::from(format!("power/{}/{number}", placed.run)),
            source: SourceId::from("bench"),
            occurred_us: now,
            site: SiteId::from("here"),
            measured: MeasuredKind::Node,
            subject: RefId::from(format!("node-{:06}", number % NODES)),
            power_w: PowerW(3_000),
            from_us,
            to_us: now,
        }
        .into()
    }
}
