//! The embedded log and the log in memory: what their trait promises.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use solyx_connectors::log::embedded::{Durability, EmbeddedLog, EmbeddedOptions};
use solyx_schemas::log::memory::MemoryLog;
use solyx_schemas::log::{Log, LogErrorKind, ReadLimit, Record, Written};
use solyx_schemas::topics::{Topic, TopicName};

const ALL: ReadLimit = ReadLimit { records: usize::MAX, bytes: usize::MAX };

fn record(topic: impl Into<TopicName>, partition: u32, text: &str) -> Record {
    Record {
        topic: topic.into(),
        partition,
        key: format!("key {text}").into_bytes(),
        value: text.as_bytes().to_vec(),
        headers: vec![("ce_id".to_owned(), text.as_bytes().to_vec()), ("other".to_owned(), vec![0, 255])],
    }
}

fn values(log: &dyn Log, topic: impl Into<TopicName>, partition: u32) -> Vec<String> {
    let read = log.read(topic.into(), partition, 0, ALL).unwrap();
    read.into_iter().map(|stored| String::from_utf8(stored.record.value).unwrap()).collect()
}

/// Runs a test on every kind of log that can be written.
fn on_every_log(test: impl Fn(Arc<dyn Log>)) {
    test(Arc::new(MemoryLog::new()));
    let dir = tempfile::tempdir().unwrap();
    test(EmbeddedLog::open(dir.path(), EmbeddedOptions::default()).unwrap());
}

fn written(topic: Topic, partition: u32, first: u64, records: u64) -> Written {
    Written { topic: topic.into(), partition, first: Some(first), records }
}

#[test]
fn records_are_read_back_in_order_with_ordinals_and_times() {
    on_every_log(|log| {
        let mut producer = log.producer("test").unwrap();
        let first = producer.append(vec![record(Topic::Jobs, 1, "a"), record(Topic::Runs, 0, "b")]).unwrap();
        let second = producer.append(vec![record(Topic::Jobs, 1, "c"), record(Topic::Jobs, 1, "d")]).unwrap();
        assert_eq!(first.written, [written(Topic::Jobs, 1, 0, 1), written(Topic::Runs, 0, 0, 1)]);
        assert_eq!(second.written, [written(Topic::Jobs, 1, 1, 2)]);
        assert!(second.append_time_us >= first.append_time_us);
        let read = log.read(Topic::Jobs.into(), 1, 0, ALL).unwrap();
        assert_eq!(read.iter().map(|stored| stored.ordinal).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(read[0].append_time_us, first.append_time_us);
        assert_eq!(read[2].record, record(Topic::Jobs, 1, "d"));
        assert_eq!(log.read(Topic::Jobs.into(), 1, 2, ALL).unwrap(), read[2..]);
        assert!(log.read(Topic::Jobs.into(), 1, 3, ALL).unwrap().is_empty());
        assert_eq!(log.end(Topic::Jobs.into(), 1).unwrap(), 3);
        assert_eq!(log.end(TopicName::staged(Topic::Jobs), 1).unwrap(), 0);
    });
}

#[test]
fn a_read_stops_at_its_limits_and_gives_at_least_one_record() {
    on_every_log(|log| {
        let batch = (0..10).map(|i| record(Topic::Energy, 0, &format!("{i}"))).collect();
        log.producer("test").unwrap().append(batch).unwrap();
        let read = |records, bytes| log.read(Topic::Energy.into(), 0, 2, ReadLimit { records, bytes }).unwrap().len();
        assert_eq!(read(3, usize::MAX), 3);
        assert_eq!(read(usize::MAX, 1), 1);
        assert_eq!(read(0, 0), 1);
        assert_eq!(read(usize::MAX, usize::MAX), 8);
    });
}

#[test]
fn an_append_with_a_wrong_record_or_a_declining_caller_writes_nothing() {
    on_every_log(|log| {
        let mut producer = log.producer("test").unwrap();
        let wrong = producer.append(vec![record(Topic::Jobs, 0, "a"), record(Topic::Policy, 7, "b")]).unwrap_err();
        assert_eq!(wrong.kind, LogErrorKind::Stop);
        assert!(wrong.to_string().contains("policy has no partition 7"), "{wrong}");
        let mut seen = None;
        let declined = producer.append_if(&[record(Topic::Jobs, 0, "a")], &mut |ack| {
            seen = Some(ack.clone());
            false
        });
        assert_eq!(declined.unwrap_err().kind, LogErrorKind::Declined);
        assert_eq!(seen.unwrap().written, [written(Topic::Jobs, 0, 0, 1)]);
        assert!(values(&*log, Topic::Jobs, 0).is_empty());
        producer.append(vec![record(Topic::Jobs, 0, "a")]).unwrap();
        assert_eq!(values(&*log, Topic::Jobs, 0), ["a"]);
    });
}

#[test]
fn a_later_producer_of_a_name_fences_the_one_before() {
    on_every_log(|log| {
        let mut earlier = log.producer("cell").unwrap();
        let mut other = log.producer("import").unwrap();
        earlier.append(vec![record(Topic::Jobs, 0, "a")]).unwrap();
        let mut later = log.producer("cell").unwrap();
        let fenced = earlier.append(vec![record(Topic::Jobs, 0, "never")]).unwrap_err();
        assert_eq!(fenced.kind, LogErrorKind::Fenced);
        assert_eq!(earlier.sync().unwrap_err().kind, LogErrorKind::Fenced);
        later.append(vec![record(Topic::Jobs, 0, "b")]).unwrap();
        other.append(vec![record(Topic::Jobs, 0, "c")]).unwrap();
        assert_eq!(later.term_after(7), 0);
        assert_eq!(values(&*log, Topic::Jobs, 0), ["a", "b", "c"]);
    });
}

#[test]
fn waiting_ends_with_a_record_or_the_deadline() {
    on_every_log(|log| {
        let position = [(Topic::Jobs.into(), 0, 0), (Topic::Runs.into(), 2, 0)];
        assert!(!log.wait(&position, Instant::now() + Duration::from_millis(5)).unwrap());
        let writer = Arc::clone(&log);
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            writer.producer("test").unwrap().append(vec![record(Topic::Runs, 2, "a")]).unwrap();
        });
        assert!(log.wait(&position, Instant::now() + Duration::from_secs(30)).unwrap());
        thread.join().unwrap();
        assert!(!log.wait(&[(Topic::Runs.into(), 2, 1)], Instant::now()).unwrap());
    });
}

#[test]
fn append_time_never_goes_back() {
    let log = MemoryLog::new();
    let mut producer = log.producer("test").unwrap();
    let times: Vec<i64> = [10, 7, 9, 12]
        .map(|clock_us| {
            log.set_clock_us(Some(clock_us));
            producer.append(vec![record(Topic::Jobs, 0, "a")]).unwrap().append_time_us
        })
        .to_vec();
    assert_eq!(times, [10, 10, 10, 12]);
}

#[test]
fn a_log_opened_again_is_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let partitions = BTreeMap::from([(Topic::Jobs, 7)]);
    let options = EmbeddedOptions { durability: Durability::EveryN(100), partitions: Some(partitions) };
    let log = EmbeddedLog::open(dir.path(), options).unwrap();
    assert_eq!(log.partitions(TopicName::staged(Topic::Jobs)), 7);
    assert_eq!(log.partitions(Topic::Runs.into()), Topic::Runs.default_partitions());
    let mut producer = log.producer("test").unwrap();
    let batch = vec![record(Topic::Jobs, 6, "a"), record(TopicName::staged(Topic::Jobs), 0, "b")];
    let before = producer.append(batch).unwrap();
    producer.sync().unwrap();
    drop((producer, log));

    let log = EmbeddedLog::open(dir.path(), EmbeddedOptions::default()).unwrap();
    assert_eq!(log.partitions(Topic::Jobs.into()), 7);
    assert_eq!(values(&*log, Topic::Jobs, 6), ["a"]);
    let ack = log.producer("test").unwrap().append(vec![record(Topic::Jobs, 6, "c")]).unwrap();
    assert_eq!(ack.written, [written(Topic::Jobs, 6, 1, 1)]);
    assert!(ack.append_time_us >= before.append_time_us);
    drop(log);

    let other = EmbeddedOptions { partitions: Some(BTreeMap::from([(Topic::Jobs, 4)])), ..Default::default() };
    let refused = EmbeddedLog::open(dir.path(), other).err().unwrap();
    assert!(refused.to_string().contains("it has 7, asked 4"), "{refused}");
}

#[test]
fn a_reader_follows_its_writer() {
    let dir = tempfile::tempdir().unwrap();
    assert!(EmbeddedLog::open_read_only(&dir.path().join("none")).is_err());
    let log = EmbeddedLog::open(dir.path(), EmbeddedOptions::default()).unwrap();
    let mut producer = log.producer("test").unwrap();
    producer.append(vec![record(Topic::Jobs, 0, "a")]).unwrap();
    let reader = EmbeddedLog::open_read_only(dir.path()).unwrap();
    assert_eq!(values(&*reader, Topic::Jobs, 0), ["a"]);
    assert!(reader.producer("test").is_err());
    assert!(!reader.wait(&[(Topic::Jobs.into(), 0, 1)], Instant::now() + Duration::from_millis(30)).unwrap());
    producer.append(vec![record(Topic::Jobs, 0, "b"), record(Topic::Runs, 0, "c")]).unwrap();
    assert!(reader.wait(&[(Topic::Jobs.into(), 0, 1)], Instant::now() + Duration::from_secs(30)).unwrap());
    assert_eq!(values(&*reader, Topic::Jobs, 0), ["a", "b"]);
    assert_eq!(reader.end(Topic::Runs.into(), 0).unwrap(), 1);
    // Beyond what the write buffer holds, so that files come and go under the reader.
    let text = "x".repeat(64 << 10);
    for i in 0..40u64 {
        producer.append((0..30).map(|_| record(Topic::Usage, 1, &text)).collect()).unwrap();
        assert_eq!(reader.end(Topic::Usage.into(), 1).unwrap(), (i + 1) * 30);
    }
    drop((producer, log));
    let mut from = 0;
    loop {
        let read = reader.read(Topic::Usage.into(), 1, from, ReadLimit { records: 100, bytes: 1 << 20 }).unwrap();
        let Some(last) = read.last() else { break };
        assert_eq!((read[0].ordinal, last.record.value.len()), (from, text.len()));
        from = last.ordinal + 1;
    }
    assert_eq!(from, 1200);
}
