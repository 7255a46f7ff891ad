//! Small worlds, and what is in a log.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use solyx_connectors::executor::SimulatedExecutor;
use solyx_connectors::fleet;
use solyx_connectors::import::{Options, Source, import};
use solyx_runtime::{AuditOptions, EngineOptions, RunEnd, RuntimeError, VirtualOptions, audit, run_virtual};
use solyx_schemas::codec::Codec;
use solyx_schemas::epochs::EpochReader;
use solyx_schemas::events::Event;
use solyx_schemas::hash::Hash32;
use solyx_schemas::log::{Log, Record, Scan};
use solyx_schemas::topics::{Topic, TopicName};

fn ops() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../ops")
}

/// The events of the hybrid fleet.
pub fn fleet_events() -> Vec<Event> {
    fleet::load(&ops().join("fleets/hybrid.toml")).unwrap()
}

pub fn record(log: &dyn Log, event: &Event) -> Record {
    let topic = TopicName::live(event.topic());
    Codec::global().record(event, topic, log.partitions(topic))
}

/// Publishes the fleet, and stages so many real jobs.
pub fn publish(log: &dyn Log, jobs: u64) {
    let records = fleet_events().iter().map(|event| record(log, event)).collect();
    let mut producer = log.producer("publish").unwrap();
    producer.append(records).unwrap();
    producer.sync().unwrap();
    let source = Source::Philly { jobs: ops().join("data/philly_jobs.csv.gz") };
    let options = Options { limit: Some(jobs), stretch: 1, ..Options::default() };
    import(&source, &options, log, &mut |_| {}).unwrap();
}

/// Runs to the end in virtual time.
pub fn run(log: &dyn Log, dir: Option<&Path>) -> Result<RunEnd, RuntimeError> {
    let mut executor = SimulatedExecutor::from_log("simulated", log)?;
    let mut engine = EngineOptions::new("hybrid".into(), dir.map(Into::into));
    engine.snapshot_every_epochs = 50;
    run_virtual(log, Some(&mut executor), &VirtualOptions::new(engine), &AtomicBool::new(false), &mut |_| {})
}

/// The chain head of an audit that must pass.
pub fn audited(log: &dyn Log) -> Hash32 {
    let report = audit(log, &AuditOptions::default(), &mut |_| {}).unwrap();
    assert!(report.ok, "{:?}", report.first_difference);
    report.chain_head
}

/// What each epoch took and gave: its time, the inputs that count, the outputs. Terms are left out.
pub fn history(log: &dyn Log) -> Vec<(i64, Vec<&'static str>, Vec<&'static str>)> {
    let mut reader = EpochReader::new(log);
    let mut epochs = Vec::new();
    while let Some(batch) = reader.next_batch().unwrap() {
        let inputs = batch.counted().map(|(_, event)| event.name()).collect();
        let outputs = batch.outputs.iter().map(Event::name).collect();
        epochs.push((batch.record.now_us.0, inputs, outputs));
    }
    epochs
}

/// A record that anybody could have written.
pub fn bytes(topic: Topic, partition: u32, value: &[u8]) -> Record {
    Record { topic: topic.into(), partition, key: b"k".to_vec(), value: value.to_vec(), headers: Vec::new() }
}

/// The values of a topic-partition.
pub fn values(log: &dyn Log, topic: Topic, partition: u32) -> Vec<Vec<u8>> {
    log.look_up().unwrap();
    Scan::new(log, topic.into(), partition, 0).map(|stored| stored.unwrap().record.value).collect()
}
