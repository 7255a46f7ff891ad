//! A process that reads the log while an engine writes it: it sees whole epochs only, and all of them.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use solyx_connectors::log::embedded::{Durability, EmbeddedLog, EmbeddedOptions};
use solyx_runtime::{AuditOptions, RunOptions, audit, run};
use solyx_schemas::codec::Codec;
use solyx_schemas::epochs::EpochReader;
use solyx_schemas::events::{Event, event_type};
use solyx_schemas::ids::CellId;
use solyx_schemas::log::Log;
use solyx_schemas::topics::{Topic, TopicName};

const ROUNDS: i64 = 60;
const JOBS_A_ROUND: i64 = 7;

fn send(log: &dyn Log, round: i64) {
    let record = |n: i64| {
        let name = format!("job-{round}-{n}");
        let Event::JobRequested(mut job) = (event_type("JobRequested").unwrap().example)() else {
            panic!("another event")
        };
        job.event_id = name.as_str().into();
        job.job = name.as_str().into();
        // One in three cannot be, so that quarantine records are among the outputs.
        job.tenant = if n % 3 == 0 { "no such name!".into() } else { "team".into() };
        let topic = TopicName::live(Topic::Jobs);
        Codec::global().record(&Event::JobRequested(job), topic, log.partitions(topic))
    };
    log.producer("test").unwrap().append((0..JOBS_A_ROUND).map(record).collect()).unwrap();
}

#[test]
fn a_follower_sees_whole_epochs_only_and_all_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let options = EmbeddedOptions { durability: Durability::EveryN(50), partitions: None };
    let log = EmbeddedLog::open(&dir.path().join("log"), options).unwrap();
    let follower = EmbeddedLog::open_read_only(&dir.path().join("log")).unwrap();
    let stop = AtomicBool::new(false);
    let run_options = RunOptions::new(CellId::from("cell-a"), Some(dir.path().to_owned()));
    let deadline = Instant::now() + Duration::from_secs(120);
    let (end, head) = std::thread::scope(|scope| {
        let engine = scope.spawn(|| run(&*log, &run_options, &stop, &mut |_| {}));
        let sender = scope.spawn(|| (0..ROUNDS).for_each(|round| send(&*log, round)));
        let mut reader = EpochReader::new(&*follower);
        let (mut taken, mut waits) = (0, 0);
        while taken < ROUNDS * JOBS_A_ROUND {
            assert!(Instant::now() < deadline, "{taken} records came through");
            let Some(batch) = reader.next_batch().unwrap() else {
                waits += 1;
                reader.wait(Instant::now() + Duration::from_millis(50)).unwrap();
                continue;
            };
            let named: i64 = batch.record.outputs.iter().map(|count| count.records).sum();
            assert_eq!(batch.outputs.len() as i64, named);
            let ranges: i64 = batch.record.inputs.iter().map(|range| range.next_ordinal - range.from_ordinal).sum();
            assert_eq!(batch.inputs.len() as i64, ranges);
            taken += ranges;
        }
        assert!(waits > 0, "the follower never caught up with its writer");
        stop.store(true, Ordering::Relaxed);
        sender.join().unwrap();
        let end = engine.join().unwrap().unwrap();
        while reader.next_batch().unwrap().is_some() {}
        (end, reader.chain_head())
    });
    assert_eq!(head, end.chain_head);
    let report = audit(&*follower, &AuditOptions::default(), &mut |_| {}).unwrap();
    assert!(report.ok, "{:?}", report.first_difference);
    assert_eq!(report.chain_head, head);
}
