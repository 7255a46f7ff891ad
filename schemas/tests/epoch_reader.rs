//! The rules by which epochs are read from a log.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use solyx_schemas::codec::{Codec, FRAME_LEN};
use solyx_schemas::epochs::{EpochReader, Frontier, ReadError};
use solyx_schemas::events::decisions::{
    EpochCommitted, InputRange, JobAdmitted, OutputCount, SkipReason, SkippedRecord,
};
use solyx_schemas::events::jobs::JobCancelRequested;
use solyx_schemas::events::{Event, OutputBody, Stamp};
use solyx_schemas::field::Field;
use solyx_schemas::hash::{Hash32, chain_hash};
use solyx_schemas::ids::{CellId, EventId, JobId, Name};
use solyx_schemas::log::memory::MemoryLog;
use solyx_schemas::log::{Log, Record};
use solyx_schemas::topics::{Topic, TopicName, partition_of};
use solyx_schemas::units::TimeUs;

fn stamp(epoch: i64, term: i64, index: i64) -> Stamp {
    Stamp { cell: CellId::from("cell-a"), epoch, term, index, now_us: TimeUs(1_000 + epoch) }
}

fn job(name: &str) -> JobId {
    JobId::from(name)
}

fn record_of(log: &MemoryLog, event: &Event) -> Record {
    let topic = TopicName::live(event.topic());
    Codec::global().record(event, topic, log.partitions(topic))
}

/// Records of one epoch: an output per job, and the epoch record.
fn epoch(
    log: &MemoryLog,
    number: i64,
    term: i64,
    previous: Hash32,
    inputs: Vec<InputRange>,
    skipped: Vec<SkippedRecord>,
    jobs: &[&str],
) -> (Vec<Record>, Hash32) {
    let mut records = Vec::new();
    let mut counts: Vec<OutputCount> = Vec::new();
    for (index, name) in jobs.iter().enumerate() {
        let mut admitted = JobAdmitted { job: job(name), tenant: "t".into(), ..JobAdmitted::default() };
        admitted.stamp(&stamp(number, term, index as i64));
        let record = record_of(log, &Event::from(admitted));
        let partition = i64::from(record.partition);
        match counts.iter_mut().find(|count| count.partition == partition) {
            Some(count) => count.records += 1,
            None => counts.push(OutputCount { topic: Name::from("decisions"), partition, records: 1 }),
        }
        records.push(record);
    }
    let mut committed =
        EpochCommitted { inputs, skipped, outputs: counts, previous_chain_hash: previous, ..EpochCommitted::default() };
    committed.stamp(&stamp(number, term, jobs.len() as i64));
    let record = record_of(log, &Event::from(committed));
    let head = chain_hash(&record.value[FRAME_LEN..]);
    records.push(record);
    (records, head)
}

fn input(log: &MemoryLog, id: &str) -> Record {
    let event = JobCancelRequested { event_id: EventId::from(id), ..JobCancelRequested::example("") };
    record_of(log, &Event::from(event))
}

fn range(record: &Record, from: i64, next: i64) -> InputRange {
    InputRange {
        topic: Name::from("jobs"),
        partition: i64::from(record.partition),
        from_ordinal: from,
        next_ordinal: next,
    }
}

const JOBS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

/// A log of ten epochs, each with two inputs of which the second does not count, and eight outputs.
fn ten_epochs() -> (MemoryLog, Vec<Hash32>) {
    let log = MemoryLog::new();
    let mut producer = log.producer("engine").unwrap();
    let mut heads = vec![Hash32::default()];
    for number in 0..10 {
        let records = vec![input(&log, &format!("e-{number}")), input(&log, &format!("e-{number}"))];
        let range = range(&records[0], 2 * number, 2 * number + 2);
        let skipped = SkippedRecord {
            topic: Name::from("jobs"),
            partition: range.partition,
            ordinal: 2 * number + 1,
            reason: SkipReason::Duplicate,
        };
        producer.append(records).unwrap();
        let (records, head) = epoch(&log, number, 0, heads[number as usize], vec![range], vec![skipped], &JOBS);
        producer.append(records).unwrap();
        heads.push(head);
    }
    (log, heads)
}

#[test]
fn epochs_come_in_order_with_inputs_outputs_and_what_does_not_count() {
    let (log, heads) = ten_epochs();
    let mut reader = EpochReader::new(&log);
    for number in 0..10_usize {
        let batch = reader.next_batch().unwrap().unwrap();
        assert_eq!(batch.record.epoch, number as i64);
        assert_eq!(batch.chain_hash, heads[number + 1]);
        assert_eq!(batch.inputs.len(), 2);
        assert_eq!(batch.inputs[1].skipped, Some(SkipReason::Duplicate));
        assert_eq!(batch.counted().count(), 1);
        let jobs: Vec<String> = batch.outputs.iter().map(|output| output.key().into_owned()).collect();
        assert_eq!(jobs, JOBS);
    }
    assert!(reader.next_batch().unwrap().is_none());
}

#[test]
fn a_reader_goes_on_at_any_frontier_after_it_was_stored() {
    let (log, _) = ten_epochs();
    let all: Vec<_> = EpochReader::new(&log).map(Result::unwrap).collect();
    let mut reader = EpochReader::new(&log);
    for number in 0..=10 {
        let frontier = reader.frontier();
        assert!(frontier.is_in(&log).unwrap());
        let stored: Frontier = serde_json::from_str(&serde_json::to_string(&frontier).unwrap()).unwrap();
        let rest: Vec<_> = EpochReader::at(&log, &stored).map(Result::unwrap).collect();
        assert_eq!(rest, all[number..]);
        let _ = reader.next_batch().unwrap();
    }
}

#[test]
fn a_frontier_is_not_in_a_log_that_lost_its_end_or_has_another_history() {
    let (log, _) = ten_epochs();
    let mut reader = EpochReader::new(&log);
    while reader.next_batch().unwrap().is_some() {}
    let frontier = reader.frontier();
    let lost = log.fork();
    let place = frontier.record.unwrap();
    lost.tamper(Topic::Decisions.into(), place.partition, |records| {
        records.pop();
    });
    assert!(!frontier.is_in(&lost).unwrap());
    let other = log.fork();
    other.tamper(Topic::Decisions.into(), place.partition, |records| {
        let value = &mut records.last_mut().unwrap().record.value;
        *value.last_mut().unwrap() ^= 1;
    });
    assert!(!frontier.is_in(&other).unwrap());
    assert!(!frontier.is_in(&MemoryLog::new()).unwrap());
    assert!(Frontier::default().is_in(&MemoryLog::new()).unwrap());
}

#[test]
fn the_first_record_on_the_head_counts_and_outputs_of_other_terms_are_dropped() {
    let log = MemoryLog::new();
    let mut producer = log.producer("engine").unwrap();
    let zero = Hash32::default();
    let (won, head) = epoch(&log, 0, 2, zero, vec![], vec![], &["a", "b", "c"]);
    // Term 1 wrote outputs without a record before, and a whole history of its own after.
    let (mut torn, _) = epoch(&log, 0, 1, zero, vec![], vec![], &["a", "b", "c", "d"]);
    torn.pop();
    let (lost, lost_head) = epoch(&log, 0, 1, zero, vec![], vec![], &["a", "b", "c", "d"]);
    let (lost_next, _) = epoch(&log, 1, 1, lost_head, vec![], vec![], &["a", "b"]);
    let (won_next, next_head) = epoch(&log, 1, 2, head, vec![], vec![], &["d", "c"]);
    for batch in [torn, won, lost, lost_next, won_next] {
        producer.append(batch).unwrap();
    }
    let batches: Vec<_> = EpochReader::new(&log).map(Result::unwrap).collect();
    assert_eq!(batches.len(), 2);
    assert_eq!(batches[1].chain_hash, next_head);
    for (batch, jobs) in batches.iter().zip([vec!["a", "b", "c"], vec!["d", "c"]]) {
        assert_eq!(batch.outputs.iter().map(Event::key).collect::<Vec<_>>(), jobs);
        assert!(batch.outputs.iter().all(|output| output.stamped().unwrap().term == 2));
    }
}

#[test]
fn an_epoch_is_given_once_all_its_outputs_are_there() {
    let log = MemoryLog::new();
    let mut producer = log.producer("engine").unwrap();
    let (mut records, _) = epoch(&log, 0, 0, Hash32::default(), vec![], vec![], &JOBS);
    let committed = records.pop().unwrap();
    let late: Vec<Record> = records.split_off(5);
    records.push(committed);
    producer.append(records).unwrap();
    let mut reader = EpochReader::new(&log);
    assert!(reader.next_batch().unwrap().is_none());
    assert!(!reader.wait(Instant::now() + Duration::from_millis(1)).unwrap());
    producer.append(late).unwrap();
    assert!(reader.wait(Instant::now() + Duration::from_secs(30)).unwrap());
    assert_eq!(reader.next_batch().unwrap().unwrap().outputs.len(), 8);
}

#[test]
fn an_output_that_this_build_cannot_read_stops_the_reader_by_its_place() {
    let log = MemoryLog::new();
    let mut producer = log.producer("engine").unwrap();
    let (mut records, _) = epoch(&log, 0, 0, Hash32::default(), vec![], vec![], &["a"]);
    records[0].value[1..5].copy_from_slice(&[0x7f; 4]);
    producer.append(records).unwrap();
    let error = EpochReader::new(&log).next_batch().unwrap_err();
    assert!(matches!(error, ReadError::Undecodable { .. }), "{error}");
}

#[test]
fn a_range_that_does_not_follow_is_damage() {
    let log = MemoryLog::new();
    let mut producer = log.producer("engine").unwrap();
    let record = input(&log, "e-0");
    let range = range(&record, 1, 2);
    producer.append(vec![record.clone(), record]).unwrap();
    let (records, _) = epoch(&log, 0, 0, Hash32::default(), vec![range], vec![], &[]);
    producer.append(records).unwrap();
    let error = EpochReader::new(&log).next_batch().unwrap_err();
    assert!(error.to_string().contains("expected to begin at 0"), "{error}");
}

#[test]
fn every_record_of_a_cell_goes_to_one_partition() {
    let (log, _) = ten_epochs();
    let partition = partition_of(b"cell-a", log.partitions(Topic::Decisions.into()));
    let mut reader = EpochReader::new(&log);
    reader.next_batch().unwrap();
    assert_eq!(reader.frontier().record.unwrap().partition, partition);
}
