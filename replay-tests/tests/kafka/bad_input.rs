//! What is wrong on the cluster is named, and what is wrong in a record costs only that record.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use solyx_connectors::log::kafka::{self, KafkaConfig, KafkaLog, KafkaOptions};
use solyx_schemas::codec::VALUE_LEN_MAX;
use solyx_schemas::log::{Log, LogErrorKind};
use solyx_schemas::topics::Topic;

use crate::cluster::{Cell, cluster};
use crate::worlds::{audited, bytes, publish, run};

/// Writes what a producer that knows nothing of us writes.
fn write(config: &KafkaConfig, topic: &str, partition: i32, key: &[u8], value: Option<&[u8]>) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &config.bootstrap)
        .set("message.max.bytes", "20000000")
        .create()
        .unwrap();
    let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).partition(partition).key(key);
    record.payload = value;
    producer.send(record).map_err(|(error, _)| error).unwrap();
    producer.flush(Duration::from_secs(10)).unwrap();
}

fn open(cell: &Cell) -> Result<std::sync::Arc<KafkaLog>, solyx_schemas::log::LogError> {
    KafkaLog::open(KafkaOptions::new(cell.direct.clone(), None).unwrap())
}

#[test]
fn garbage_on_a_topic_goes_to_quarantine_and_the_rest_goes_on() {
    let (cluster, _turn) = cluster();
    let cell = cluster.cell();
    let topic = |name: &str| format!("{}.{name}", cell.direct.prefix);
    // A copy of such a key in hexadecimal would be larger than a record may be.
    let large = vec![7; 4_500_000];
    for (key, value) in [
        (&large[..], Some(&b"garbage"[..])),
        (b"a", Some(b"not framed")),
        (b"b", Some(&[0, 0, 0, 0x13, 0x88, 1, 2, 3])),
        (b"c", Some(&[])),
        (b"d", None),
        (b"", Some(&[0])),
    ] {
        write(&cell.direct, &topic("jobs"), 2, key, value);
    }
    let log = cell.log();
    publish(&*log, 20);
    let end = run(&*cell.log(), None).unwrap();
    assert_eq!((end.progress.waiting_jobs, end.progress.live_runs), (0, 0));
    assert_eq!(crate::worlds::values(&*cell.log(), Topic::Quarantine, 0).len(), 6);
    assert_eq!(audited(&*cell.log()), end.chain_head);
}

#[test]
fn a_record_over_the_limit_is_refused_before_it_is_sent() {
    let (cluster, _turn) = cluster();
    let cell = cluster.cell();
    let log = cell.log();
    let mut producer = log.producer("p").unwrap();
    let error = producer.append(vec![bytes(Topic::Jobs, 0, &vec![1; VALUE_LEN_MAX + 1])]).unwrap_err();
    assert_eq!(error.kind, LogErrorKind::Stop);
    assert!(error.what.contains("too large") && error.detail.contains(&(VALUE_LEN_MAX + 1).to_string()), "{error}");
    producer.append(vec![bytes(Topic::Jobs, 0, &vec![1; VALUE_LEN_MAX])]).unwrap();
    let error = producer.append(vec![bytes(Topic::Jobs, 4, b"x")]).unwrap_err();
    assert!(error.what.contains("no partition 4") && error.detail.contains("it has 4"), "{error}");
}

#[test]
fn topics_that_are_missing_or_made_otherwise_are_named() {
    let (cluster, _turn) = cluster();
    let mut cell = cluster.cell();
    cell.direct.prefix = format!("{}.none", cell.direct.prefix);
    let error = open(&cell).err().unwrap();
    assert_eq!((error.kind, error.what.as_str()), (LogErrorKind::Stop, "topics of this cell are missing"));
    assert!(error.detail.contains(&format!("{}.decisions", cell.direct.prefix)), "{error}");

    let partitions: BTreeMap<Topic, u32> = [(Topic::Jobs, 3)].into();
    kafka::apply(&cell.direct, &partitions).unwrap();
    let differences = kafka::diff(&cell.direct, &BTreeMap::new()).unwrap();
    let jobs = format!("{}.jobs", cell.direct.prefix);
    let found = differences.iter().find(|d| d.topic == jobs && d.setting == "partitions").unwrap();
    assert_eq!((found.found.as_str(), found.expected.as_str()), ("3", "4"));
}

#[test]
fn brokers_that_cannot_be_reached_are_an_error_that_says_where() {
    let mut config = KafkaConfig::plain("127.0.0.1:1");
    config.prefix = "x".to_owned();
    let error = KafkaLog::open(KafkaOptions::new(config, None).unwrap()).err().unwrap();
    assert_eq!(error.kind, LogErrorKind::Retry, "{error}");
    assert!(error.detail.contains("127.0.0.1:1"), "{error}");
}
