//! On a real broker: from an event to its committed decision, throughput, and how fast an engine restarts or takes over. Each
//! beside what the same broker and client do without an engine.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use solyx_connectors::fleet;
use solyx_connectors::log::kafka::{self, Grouping, KafkaConfig, KafkaLog, KafkaOptions, topic_name};
use solyx_runtime::engine::producer_name;
use solyx_runtime::{EngineOptions, Follower, RunOptions, run};
use solyx_schemas::codec::Codec;
use solyx_schemas::epochs::EpochReader;
use solyx_schemas::events::Event;
use solyx_schemas::events::jobs::{Gang, JobKind, JobRequested, ModelChoice};
use solyx_schemas::ids::{CellId, EventId, JobId, SourceId, TenantId};
use solyx_schemas::log::{Log, Record};
use solyx_schemas::topics::{Topic, TopicName};
use solyx_schemas::units::{Count, GpuMilli, Milli, TimeUs};

use crate::measure::{Measure, per_second};

const FLEET: &str = include_str!("kafka.toml");
const CELL: &str = "bench";
/// Records of a bare transaction, and the time between two of them.
const BARE_RECORDS: usize = 20;
const BARE_PAUSE: Duration = Duration::from_millis(100);
/// Time before the measurement begins: a broker that has just started is still being compiled.
const WARM_UP: Duration = Duration::from_secs(20);
/// Records of one append while a topic is filled.
const FILL: usize = 5_000;
/// How long a part may take before it is given up.
const PATIENCE: Duration = Duration::from_secs(600);

/// What is asked for.
#[derive(Clone, Copy)]
pub struct Options<'o> {
    /// The cluster.
    pub cluster: &'o Path,
    /// Nodes of the fleet.
    pub nodes: u32,
    /// Jobs a second, and for how long.
    pub rate: u32,
    pub seconds: u64,
    /// Events of the throughput's topic.
    pub events: u32,
    /// Jobs alive at a restart.
    pub live: u32,
}

/// All of it.
pub fn measure(options: &Options<'_>, say: &dyn Fn(&str)) -> anyhow::Result<Vec<Measure>> {
    let mut measures = Vec::new();
    say("from event to committed decision, beside bare transactions");
    measures.extend(latency(options)?);
    say("from topic to committed decisions, beside bare consumption");
    measures.extend(throughput(options)?);
    say("restart and takeover");
    measures.extend(takeover(options)?);
    Ok(measures)
}

fn now_us() -> i64 {
    solyx_runtime::live::system_clock_us()
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A cell of its own on the cluster, with its fleet published.
struct World {
    config: KafkaConfig,
    dir: tempfile::TempDir,
}

impl World {
    fn make(options: &Options<'_>, name: &str) -> anyhow::Result<Self> {
        let mut config = KafkaConfig::load(options.cluster)?;
        config.prefix = format!("bench-{name}-{}", std::process::id());
        kafka::apply(&config, &Default::default())?;
        let world = Self { config, dir: tempfile::tempdir()? };
        let text = FLEET.replace("count = 10000", &format!("count = {}", options.nodes));
        world.write(&fleet::parse("kafka.toml", &text, Some(TimeUs(now_us())))?)?;
        Ok(world)
    }

    fn log(&self, grouping: Grouping) -> anyhow::Result<Arc<KafkaLog>> {
        let offsets = self.dir.path().join("offsets");
        Ok(KafkaLog::open(KafkaOptions { grouping, ..KafkaOptions::new(self.config.clone(), Some(&offsets))? })?)
    }

    fn write(&self, events: &[Event]) -> anyhow::Result<()> {
        let log = self.log(Grouping::Each)?;
        let mut producer = log.producer("fill")?;
        for some in events.chunks(FILL) {
            producer.append(some.iter().map(|event| record(&*log, event)).collect())?;
        }
        Ok(())
    }

    fn engine(&self) -> EngineOptions {
        EngineOptions::new(CellId::from(CELL), Some(self.dir.path().join("engine")))
    }
}

fn record(log: &dyn Log, event: &Event) -> Record {
    let topic = TopicName::live(event.topic());
    Codec::global().record(event, topic, log.partitions(topic))
}

/// A job of a tenth of a GPU, or of more GPUs than a node has.
fn job(number: u32, gpus: i64) -> Event {
    let share = if gpus == 1 { 100 } else { 1_000 };
    Event::from(JobRequested {
        event_id: EventId::from(format!("e{number}")),
        source: SourceId::from("bench"),
        occurred_us: TimeUs(now_us()),
        job: JobId::from(format!("job-{number:08}")),
        tenant: TenantId::from(format!("tenant-{}", number % 4)),
        kind: JobKind::Batch,
        project: Some("bench".into()),
        class: "standard".into(),
        gang: Gang {
            replicas_min: Count(1),
            replicas_max: Count(1),
            gpus: Count(gpus),
            gpu_milli_each: GpuMilli(share),
            ..Gang::default()
        },
        models: vec![ModelChoice { model: "H100".into(), speed_milli: Milli(1_000) }],
        ..JobRequested::default()
    })
}

/// An engine that runs until this is dropped.
struct Running {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<anyhow::Result<()>>>,
}

impl Running {
    fn begin(world: &World) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (of_thread, log, engine) = (Arc::clone(&stop), world.log(Grouping::Each)?, world.engine());
        let thread = std::thread::spawn(move || {
            let mut options = RunOptions::new(engine.cell.clone(), None);
            options.engine = engine;
            run(&*log, &options, &of_thread, &mut |_| {})?;
            Ok(())
        });
        Ok(Self { stop, thread: Some(thread) })
    }

    fn end(mut self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(std::thread::JoinHandle::join);
        ended.context("it has ended before")?.map_err(|_| anyhow::anyhow!("the engine's thread died"))?
    }
}

/// Producers that know nothing of us: idempotent, without transactions.
fn plain_producer(config: &KafkaConfig) -> anyhow::Result<ThreadedProducer<rdkafka::producer::DefaultProducerContext>> {
    Ok(ClientConfig::new()
        .set("bootstrap.servers", &config.bootstrap)
        .set("enable.idempotence", "true")
        .set("linger.ms", "0")
        .create()?)
}

fn latency(options: &Options<'_>) -> anyhow::Result<Vec<Measure>> {
    let world = World::make(options, "latency")?;
    let engine = Running::begin(&world)?;
    let reading = world.log(Grouping::Each)?;
    let mut reader = EpochReader::new(&*reading);
    let patience = Instant::now() + PATIENCE;
    while reader.next_epoch() == 0 {
        anyhow::ensure!(Instant::now() < patience, "the engine makes no epoch");
        while reader.next_raw()?.is_some() {}
        reader.wait(Instant::now() + Duration::from_millis(100))?;
    }
    let sent: Mutex<HashMap<String, Instant>> = Mutex::default();
    let measured_from = Instant::now() + WARM_UP;
    let seconds = options.seconds + WARM_UP.as_secs();
    let total = u64::from(options.rate) * seconds;
    let (mut latencies, mut found, mut epochs) = (Vec::with_capacity(total as usize), 0, 0u64);
    let stop = AtomicBool::new(false);
    let bare = std::thread::scope(|scope| -> anyhow::Result<Vec<f64>> {
        let bare = scope.spawn(|| bare_round_trips(&world.config, measured_from, &stop));
        let sender = scope.spawn(|| send_jobs(&world, (options.rate, total), &sent));
        let deadline = Instant::now() + Duration::from_secs(seconds) + Duration::from_secs(60);
        while found < total && Instant::now() < deadline {
            while let Some(epoch) = reader.next_raw()? {
                let seen = Instant::now();
                epochs += u64::from(seen >= measured_from);
                let mut sent = locked(&sent);
                for output in &epoch.outputs {
                    if let Event::JobPlaced(placed) = &output.event
                        && let Some(at) = sent.remove(placed.job.as_str())
                    {
                        found += 1;
                        if at >= measured_from {
                            latencies.push((seen - at).as_secs_f64() * 1_000.0);
                        }
                    }
                }
            }
            reader.wait(Instant::now() + Duration::from_millis(20))?;
        }
        stop.store(true, Ordering::Relaxed);
        sender.join().map_err(|_| anyhow::anyhow!("the sender died"))??;
        bare.join().map_err(|_| anyhow::anyhow!("the bare round trips died"))?
    })?;
    engine.end()?;
    anyhow::ensure!(found == total, "{found} of {total} jobs were placed in time");
    let measured = latencies.len();
    let what = |part: &str| {
        format!(
            "{part} of {measured} jobs at {}/s on {} nodes, from sending a request to reading its placement, read_committed; \
             after {} s of warm-up; {epochs} epochs that close after 5 ms; goal for p99: at most 50 ms and twice the yardstick",
            options.rate,
            options.nodes,
            WARM_UP.as_secs()
        )
    };
    let yardstick = "a bare transaction of 20 records until it is read, at the same time on the same broker";
    let at = |values: &mut Vec<f64>, part: f64| {
        values.sort_by(f64::total_cmp);
        values[((values.len() - 1) as f64 * part) as usize]
    };
    let mut bare = bare;
    let p50 = [(at(&mut latencies, 0.5), at(&mut bare, 0.5))];
    let p99 = [(at(&mut latencies, 0.99), at(&mut bare, 0.99))];
    Ok(vec![
        Measure::beside("kafka_decision_p50", "ms", what("median"), &p50, yardstick),
        Measure::beside("kafka_decision_p99", "ms", what("99th of 100"), &p99, yardstick),
    ])
}

fn send_jobs(world: &World, (rate, total): (u32, u64), sent: &Mutex<HashMap<String, Instant>>) -> anyhow::Result<()> {
    let producer = plain_producer(&world.config)?;
    let name = topic_name(&world.config.prefix, Topic::Jobs.into());
    let pause = Duration::from_secs(1) / rate;
    let begun = Instant::now();
    for number in 0..total as u32 {
        let due = begun + pause * number;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let event = job(number, 1);
        let record = Codec::global().record(&event, Topic::Jobs.into(), Topic::Jobs.default_partitions());
        let headers = record
            .headers
            .iter()
            .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(value) }));
        if let Event::JobRequested(job) = &event {
            locked(sent).insert(job.job.as_str().to_owned(), Instant::now());
        }
        let message = BaseRecord::to(&name)
            .partition(record.partition.cast_signed())
            .key(&record.key)
            .payload(&record.value)
            .headers(headers);
        producer.send(message).map_err(|(error, _)| error)?;
    }
    producer.flush(Duration::from_secs(10))?;
    Ok(())
}

/// Times from beginning a transaction to reading its last record, ms, of those begun after an instant.
fn bare_round_trips(config: &KafkaConfig, measured_from: Instant, stop: &AtomicBool) -> anyhow::Result<Vec<f64>> {
    let name = topic_name(&config.prefix, TopicName::live(Topic::Proofs));
    let producer: ThreadedProducer<rdkafka::producer::DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", &config.bootstrap)
        .set("transactional.id", format!("{}.bare", config.prefix))
        .set("linger.ms", "0")
        .create()?;
    producer.init_transactions(Duration::from_secs(30))?;
    let consumer = committed_consumer(config, &[(&name, 0)])?;
    let mut times = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        producer.begin_transaction()?;
        for _ in 0..BARE_RECORDS {
            let record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&name).partition(0).payload(&[7; 300]);
            producer.send(record).map_err(|(error, _)| error)?;
        }
        // The client's own flush looks only every 100 ms whether everything is delivered.
        while producer.in_flight_count() > 0 {
            std::thread::sleep(Duration::from_micros(200));
        }
        producer.commit_transaction(Duration::from_secs(30))?;
        let mut read = 0;
        while read < BARE_RECORDS {
            if let Some(message) = consumer.poll(Duration::from_secs(30)) {
                message?;
                read += 1;
            }
        }
        if begun >= measured_from {
            times.push(begun.elapsed().as_secs_f64() * 1_000.0);
        }
        std::thread::sleep(BARE_PAUSE.saturating_sub(begun.elapsed()));
    }
    anyhow::ensure!(!times.is_empty(), "no bare transaction came to its end");
    Ok(times)
}

fn committed_consumer(config: &KafkaConfig, from: &[(&str, i32)]) -> anyhow::Result<BaseConsumer> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &config.bootstrap)
        .set("group.id", format!("{}.bare", config.prefix))
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("fetch.wait.max.ms", "50")
        .set("fetch.queue.backoff.ms", "5")
        .create()?;
    let mut list = TopicPartitionList::new();
    for (name, partition) in from {
        list.add_partition_offset(name, *partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    Ok(consumer)
}

fn throughput(options: &Options<'_>) -> anyhow::Result<Vec<Measure>> {
    let world = World::make(options, "throughput")?;
    let count = options.events;
    let jobs: Vec<Event> = (0..count).map(|number| job(number, 1)).collect();
    world.write(&jobs)?;
    let name = topic_name(&world.config.prefix, Topic::Jobs.into());
    let parts: Vec<(&str, i32)> = (0..4).map(|partition| (name.as_str(), partition)).collect();
    let consumer = committed_consumer(&world.config, &parts)?;
    let begun = Instant::now();
    let mut bytes = 0;
    for _ in 0..count {
        let message = consumer.poll(PATIENCE).context("bare consumption came to an end before the topic did")??;
        bytes += message.payload_len();
    }
    let bare = per_second(count as usize, begun.elapsed());
    drop(consumer);
    let begun = Instant::now();
    let engine = Running::begin(&world)?;
    let log = world.log(Grouping::Each)?;
    let mut reader = EpochReader::new(&*log);
    let (mut taken, mut outputs) = (0, 0);
    while taken < count as usize {
        anyhow::ensure!(begun.elapsed() < PATIENCE, "the engine took {taken} of {count} events");
        while let Some(epoch) = reader.next_raw()? {
            taken += epoch.inputs.iter().filter(|input| input.position.topic() == Topic::Jobs).count();
            outputs += epoch.outputs.len();
        }
        reader.wait(Instant::now() + Duration::from_millis(20))?;
    }
    let decided = per_second(count as usize, begun.elapsed());
    engine.end()?;
    let what = format!(
        "{count} job requests of {} bytes that lie in the topic, from starting an engine to reading the last of {outputs} committed decisions",
        bytes / count.max(1) as usize
    );
    let yardstick = "bare rdkafka consumption of the same topic";
    Ok(vec![Measure::beside("kafka_throughput", "events/s", what, &[(decided, bare)], yardstick)])
}

fn takeover(options: &Options<'_>) -> anyhow::Result<Vec<Measure>> {
    let world = World::make(&Options { nodes: 100, ..*options }, "takeover")?;
    // Jobs of more GPUs than a node has: they live, and wait.
    for first in (0..options.live).step_by(100_000) {
        let jobs: Vec<Event> = (first..options.live.min(first + 100_000)).map(|number| job(number, 64)).collect();
        world.write(&jobs)?;
    }
    let engine = Running::begin(&world)?;
    let log = world.log(Grouping::Each)?;
    let mut reader = EpochReader::new(&*log);
    let (begun, mut taken) = (Instant::now(), 0);
    while taken < options.live as usize {
        anyhow::ensure!(begun.elapsed() < PATIENCE * 2, "the engine took {taken} of {} jobs", options.live);
        while let Some(epoch) = reader.next_raw()? {
            taken += epoch.inputs.iter().filter(|input| input.position.topic() == Topic::Jobs).count();
        }
        reader.wait(Instant::now() + Duration::from_millis(100))?;
    }
    drop(reader);
    engine.end()?;
    let log = world.log(Grouping::Each)?;
    let begun = Instant::now();
    let mut standby = Follower::begin(&*log, &world.engine(), false)?;
    standby.follow(u64::MAX, None)?;
    let warm = begun.elapsed();
    let live = standby.kernel().waiting_jobs();
    let begun = Instant::now();
    let producer = log.producer(&producer_name(&CellId::from(CELL)))?;
    let leader = standby.lead(producer, None)?;
    let taken_over = begun.elapsed();
    drop(leader);
    let restarted = format!(
        "from an engine's start to its state being complete, {live} jobs alive, from a snapshot; goal: under 3 s"
    );
    let took = format!(
        "from fencing the leader to leading, by a standby that followed, {live} jobs alive; goal: under 10 s with the lease of 2 s"
    );
    Ok(vec![
        Measure::alone("kafka_restart", "s", restarted, &[warm.as_secs_f64()]),
        Measure::alone("kafka_takeover", "s", took, &[taken_over.as_secs_f64()]),
    ])
}
