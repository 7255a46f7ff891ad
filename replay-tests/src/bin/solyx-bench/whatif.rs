//! What a question to the living state takes: the state had from a snapshot and a log as `solyx whatif` has it, and then a job, a
//! price, a sold lease and a lost site, each asked alone.

use std::time::{Duration, Instant};

use anyhow::Context;
use solyx_kernel::whatif::{Domain, Rehearsal};
use solyx_runtime::{Engine, EngineOptions, recall};
use solyx_schemas::codec::Codec;
use solyx_schemas::events::Event;
use solyx_schemas::events::common::Sum;
use solyx_schemas::events::policy::{LeaseSold, PaymentOption};
use solyx_schemas::events::world::{EnergyPriced, PriceKind};
use solyx_schemas::ids::*;
use solyx_schemas::log::Log;
use solyx_schemas::log::memory::MemoryLog;
use solyx_schemas::topics::TopicName;
use solyx_schemas::units::*;

use super::measure::Measure;
use super::scheduling::events::{self, Amounts};

/// Inputs of one append.
const BATCH: usize = 16_384;
const CLOCK_US: i64 = 1_693_785_600_000_000;
/// What an answer may take, ms.
const AIM_MS: f64 = 1_000.0;
/// The site of [`events::cell`], and one beside it that has every tenth node.
const LARGER: &str = "here";
const SMALLER: &str = "there";
const SMALLER_POOL: &str = "there/all";
const JOB: Amounts = Amounts { gpus: 1, cpu_milli: 1_000, memory_mib: 4_096 };

/// Nodes of 8 GPUs each, of which each is taken by a job of its own.
const NODES: usize = 10_000;
/// Jobs that wait: for 100,000 jobs in all, and for a queue of as many.
const WAITING: [(&str, usize); 2] = [("whatif", 20_000), ("whatif_queue", 100_000)];

/// Measures questions to a fleet that is full, with a shorter and a longer queue.
pub fn measure(runs: u32, say: &dyn Fn(&str)) -> anyhow::Result<Vec<Measure>> {
    let mut measures = Vec::new();
    for (prefix, waiting) in WAITING {
        measures.extend(measure_at(prefix, NODES, waiting, runs, say)?);
    }
    Ok(measures)
}

/// Measures questions to so many nodes of 8 GPUs at two sites, all of them taken, and so many waiting jobs of one GPU.
fn measure_at(
    prefix: &str,
    nodes: usize,
    waiting: usize,
    runs: u32,
    say: &dyn Fn(&str),
) -> anyhow::Result<Vec<Measure>> {
    let dir = tempfile::tempdir().context("a directory for the snapshot")?;
    let log = MemoryLog::new();
    let options = EngineOptions::new(CellId::from("bench"), Some(dir.path().to_owned()));
    say(&format!("{nodes} nodes that are full, {waiting} jobs wait"));
    let running = fill(&log, &options, nodes, waiting)?;
    let (mut had, mut copied) = (Vec::new(), Vec::new());
    let mut asked: [Vec<f64>; QUESTIONS.len()] = Default::default();
    for _ in 0..runs {
        let begun = Instant::now();
        let follower = recall(&log, &options.cell, Some(&dir.path().join("snapshots")))?;
        had.push(ms(begun.elapsed()));
        let begun = Instant::now();
        let rehearsal = follower.into_rehearsal();
        copied.push(ms(begun.elapsed()));
        for (question, times) in asked.iter_mut().enumerate() {
            let begun = Instant::now();
            ask(&rehearsal, question)?;
            times.push(ms(begun.elapsed()));
        }
    }
    let on = format!("{nodes} nodes, {running} runs, {waiting} jobs wait");
    let mut measures = vec![
        Measure::alone(&format!("{prefix}_state"), "ms", format!("the state from a snapshot; {on}"), &had),
        Measure::alone(&format!("{prefix}_copy"), "ms", format!("a copy of it to ask; {on}"), &copied),
    ];
    for ((name, what), times) in QUESTIONS.iter().zip(&asked) {
        measures.push(Measure::alone(&format!("{prefix}_{name}"), "ms", format!("{what}; {on}"), times).aiming(AIM_MS));
        let whole: Vec<f64> =
            had.iter().zip(&copied).zip(times).map(|((had, copied), time)| had + copied + time).collect();
        let what = format!("{what}, with the state from a snapshot; {on}");
        measures.push(Measure::alone(&format!("{prefix}_{name}_whole"), "ms", what, &whole).aiming(AIM_MS));
    }
    Ok(measures)
}

const QUESTIONS: [(&str, &str); 5] = [
    ("job", "a job of one GPU that is asked for now"),
    ("price", "another price of energy, what is decided otherwise"),
    ("lease", "a lease of 64 GPUs that begins now, what is decided otherwise"),
    ("loss", "the smaller site lost, with a tenth of all nodes and runs, where each job goes"),
    ("loss_large", "the larger site lost, with all others, where each job goes"),
];

fn ask(rehearsal: &Rehearsal, question: usize) -> anyhow::Result<()> {
    let now = TimeUs(CLOCK_US);
    let usd = Currency::parse("USD").context("a currency")?;
    let told = |event: Event| {
        rehearsal.told(&[event], TimeUs(0)).map(drop).map_err(|(_, detail)| anyhow::anyhow!("refused: {detail}"))
    };
    match question {
        0 => {
            let Event::JobRequested(request) = events::job(9_999_999, 10, JOB) else { anyhow::bail!("no request") };
            rehearsal.job(&request).map(drop).map_err(|detail| anyhow::anyhow!("refused: {detail}"))
        }
        1 => told(
            EnergyPriced {
                event_id: EventId::from("price"),
                source: SourceId::from("bench"),
                zone: ZoneId::from("DE-LU"),
                from_us: now,
                to_us: now.after(DurationUs(HOUR_US)),
                price_micros_per_mwh: RateMicros(90_000_000),
                currency: usd,
                kind: PriceKind::DayAhead,
                revision: Count(1),
                occurred_us: now,
                published_us: now,
            }
            .into(),
        ),
        2 => told(
            LeaseSold {
                event_id: EventId::from("lease"),
                source: SourceId::from("bench"),
                lease: RefId::from("lease"),
                tenant: TenantId::from("tenant-0000"),
                gpus: Count(64),
                gpu_model: GpuModelId::from("H100"),
                from_us: now,
                to_us: now.after(DurationUs(24 * HOUR_US)),
                payment: PaymentOption::None,
                price: Sum { micros: MoneyMicros(1_000_000), currency: usd },
                ..LeaseSold::default()
            }
            .into(),
        ),
        _ => {
            let site = SiteId::from(if question == 3 { SMALLER } else { LARGER });
            rehearsal.loss(&Domain::Site(site));
            Ok(())
        }
    }
}

/// Fills the fleet and the queue through an engine, and leaves its snapshot behind. Says how many run.
fn fill(log: &MemoryLog, options: &EngineOptions, nodes: usize, waiting: usize) -> anyhow::Result<usize> {
    let has = Amounts { gpus: 8, cpu_milli: 32_000, memory_mib: 262_144 };
    let mut inputs = events::cell(10);
    let smaller: Vec<Event> = inputs.iter().cloned().filter_map(of_smaller_site).collect();
    inputs.extend(smaller);
    inputs.extend((0..nodes).map(|number| match events::node(number, has) {
        Event::NodeReported(mut node) if number % 10 == 9 => {
            node.pool = PoolId::from(SMALLER_POOL);
            Event::NodeReported(node)
        }
        node => node,
    }));
    inputs.extend((0..nodes * 8 + waiting).map(|number| ending_apart(number, events::job(number, 10, JOB))));
    let codec = Codec::global();
    let mut producer = log.producer("bench")?;
    let mut engine = Engine::lead(log, options, None)?;
    for batch in inputs.chunks(BATCH) {
        let record = |event: &Event| {
            let topic = TopicName::live(event.topic());
            codec.record(event, topic, log.partitions(topic))
        };
        producer.append(batch.iter().map(record).collect())?;
        while engine.turn(CLOCK_US)?.is_some() {}
    }
    engine.finish(None)?;
    let kernel = engine.kernel();
    anyhow::ensure!(kernel.waiting_jobs() == waiting, "{} jobs wait, expected {waiting}", kernel.waiting_jobs());
    Ok(kernel.live_runs())
}

/// Jobs end one after the other, over ten hours: a forecast goes from end to end.
fn ending_apart(number: usize, job: Event) -> Event {
    let Event::JobRequested(mut request) = job else { return job };
    let later_s = (number * 7_919 % 36_000) as i64;
    request.expected_work_us = Some(WorkUs(HOUR_US + later_s * 1_000_000));
    Event::JobRequested(request)
}

/// What is declared of the larger site, said of the smaller one.
fn of_smaller_site(declared: Event) -> Option<Event> {
    match declared {
        Event::SiteDeclared(mut site) => {
            (site.site, site.event_id) = (SiteId::from(SMALLER), EventId::from(SMALLER));
            Some(Event::SiteDeclared(site))
        }
        Event::PoolDeclared(mut pool) => {
            (pool.pool, pool.event_id) = (PoolId::from(SMALLER_POOL), EventId::from(SMALLER_POOL));
            pool.site = SiteId::from(SMALLER);
            Some(Event::PoolDeclared(pool))
        }
        _ => None,
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
