//! An append is in the log once and whole, or not at all, wherever the way to the broker or its answer is cut.

use std::time::Duration;

use solyx_schemas::log::{Log, LogErrorKind, ReadLimit, Record, Written};
use solyx_schemas::topics::Topic;

use crate::cluster::cluster;
use crate::forwarder::{Api, Break};
use crate::worlds::{audited, bytes, history, publish, run, values};

/// Longer than a transaction may take.
const LONG: Duration = Duration::from_secs(8);
const SHORT: Duration = Duration::from_millis(300);

fn batch(n: u8) -> Vec<Record> {
    vec![bytes(Topic::Jobs, 0, &[n, 0]), bytes(Topic::Decisions, 1, &[n, 1]), bytes(Topic::Jobs, 0, &[n, 2])]
}

/// What of the batches is there, each of them whole.
fn batches_in(log: &dyn Log) -> Vec<u8> {
    let (jobs, decisions) = (values(log, Topic::Jobs, 0), values(log, Topic::Decisions, 1));
    let there: Vec<u8> = decisions.iter().map(|value| value[0]).collect();
    let halves: Vec<Vec<u8>> = there.iter().flat_map(|n| [vec![*n, 0], vec![*n, 2]]).collect();
    assert_eq!(jobs, halves, "an append is there by halves");
    there
}

#[test]
fn a_short_cut_at_any_step_changes_nothing() {
    let (cluster, _turn) = cluster();
    let cell = cluster.cell();
    let log = cell.disturbed();
    let mut producer = log.producer("engine-x").unwrap();
    let mut expected = Vec::new();
    for (n, api) in [Api::AddPartitionsToTxn, Api::Produce, Api::EndTxn].into_iter().enumerate() {
        for (m, place) in [Break::Before, Break::After].into_iter().enumerate() {
            let n = (n * 2 + m) as u8;
            cluster.forwarder.break_at(api, place, SHORT);
            match producer.append(batch(n)) {
                Ok(_) => expected.push(n),
                Err(error) => {
                    assert_eq!(error.kind, LogErrorKind::Restart, "{api:?} {place:?}: {error}");
                    // Whether it is there only the log can say, and says so once a new producer has begun.
                    producer = log.producer("engine-x").unwrap();
                    if batches_in(&*cell.log()).contains(&n) {
                        expected.push(n);
                    }
                }
            }
        }
    }
    assert_eq!(cluster.forwarder.broken(), 6, "each cut was made");
    assert_eq!(batches_in(&*cell.log()), expected);
}

#[test]
fn a_commit_of_unknown_outcome_is_found_out_from_the_log() {
    let (cluster, _turn) = cluster();
    let cell = cluster.cell();
    let log = cell.disturbed();
    for (n, place) in [Break::Before, Break::After].into_iter().enumerate() {
        let mut producer = log.producer("engine-x").unwrap();
        cluster.forwarder.break_at(Api::EndTxn, place, LONG);
        let error = producer.append(batch(n as u8)).unwrap_err();
        assert_eq!(error.kind, LogErrorKind::Restart, "{error}");
        let again = producer.append(batch(9)).unwrap_err();
        assert_eq!(again.kind, LogErrorKind::Restart, "the producer is of no more use: {again}");
        // As long as it is there its client goes on asking for the commit, and might yet be heard.
        drop(producer);
        cluster.forwarder.heal();
        drop(log.producer("engine-x").unwrap());
        let there = batches_in(&*log);
        assert_eq!(there.contains(&(n as u8)), place == Break::After, "{there:?}");
    }
}

#[test]
fn a_newer_producer_of_a_name_ends_what_the_older_one_began() {
    let (cluster, _turn) = cluster();
    let cell = cluster.cell();
    let log = cell.log();
    let mut zombie = log.producer("engine-x").unwrap();
    zombie.append(batch(1)).unwrap();
    let mut newer = None;
    // The older one sleeps between writing and committing, and wakes to a world that has gone on.
    let error = zombie
        .append_if(&batch(2), &mut |_| {
            let mut producer = log.producer("engine-x").unwrap();
            producer.append(batch(3)).unwrap();
            newer = Some(producer);
            true
        })
        .unwrap_err();
    assert_eq!(error.kind, LogErrorKind::Fenced, "{error}");
    assert_eq!(zombie.append(batch(4)).unwrap_err().kind, LogErrorKind::Fenced);
    newer.unwrap().append(batch(5)).unwrap();
    assert_eq!(batches_in(&*log), [1, 3, 5]);
}

#[test]
fn ordinals_count_records_across_the_gaps_of_aborted_transactions() {
    let (cluster, _turn) = cluster();
    let cell = cluster.cell();
    let log = cell.log();
    let topic = Topic::Decisions.into();
    assert_eq!(log.end(topic, 1).unwrap(), 0);
    let mut producer = log.producer("engine-x").unwrap();
    let mut ends = Vec::new();
    for n in 0..6 {
        let declined = producer.append_if(&batch(100 + n), &mut |ack| ack.append_time_us < 0).unwrap_err();
        assert_eq!(declined.kind, LogErrorKind::Declined);
        let ack = producer.append(batch(n)).unwrap();
        let of_it = |w: &&Written| w.topic == topic;
        ends.extend(ack.written.iter().find(of_it).and_then(|w| w.first));
    }
    assert_eq!(ends, [0, 1, 2, 3, 4, 5]);
    assert_eq!(batches_in(&*log), [0, 1, 2, 3, 4, 5]);
    let one = ReadLimit { records: 1, bytes: 1 };
    for ordinal in [4, 0, 5, 2] {
        let read = log.read(topic, 1, ordinal, one).unwrap();
        assert_eq!((read[0].ordinal, read[0].record.value[0]), (ordinal, ordinal as u8));
        assert!(read[0].offset > ordinal as i64, "markers and aborted records have offsets too");
    }
    assert_eq!(log.readable(topic, 1, 6).unwrap(), 6);
}

/// A writer knows where it stands before the markers of its commit are everywhere, and may read from there.
#[test]
fn who_reads_from_beyond_the_end_is_given_nothing_of_before() {
    let (cluster, _turn) = cluster();
    let cell = cluster.cell();
    let (log, reader) = (cell.log(), cell.log());
    let batches: u64 = 300;
    let from = 2 * batches;
    let first = std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            loop {
                let read = reader.read(Topic::Jobs.into(), 0, from, ReadLimit { records: 10, bytes: 1_000 }).unwrap();
                if let Some(first) = read.first() {
                    return first.ordinal;
                }
            }
        });
        let mut producer = log.producer("engine-x").unwrap();
        for n in 0..=batches {
            producer.append(batch(n as u8)).unwrap();
        }
        reading.join().unwrap()
    });
    assert_eq!(first, from);
}

#[test]
fn a_run_whose_broker_dies_and_comes_back_ends_as_one_that_nobody_disturbed() {
    let (cluster, _turn) = cluster();
    let calm = cluster.cell();
    publish(&*calm.log(), 30);
    let undisturbed = run(&*calm.log(), None).unwrap();
    let cell = cluster.cell();
    publish(&*cell.log(), 30);
    let dir = tempfile::tempdir().unwrap();
    let done = std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            let mut attempts = 0;
            loop {
                attempts += 1;
                let log = solyx_connectors::log::kafka::KafkaLog::open(
                    solyx_connectors::log::kafka::KafkaOptions::new(cell.direct.clone(), None).unwrap(),
                );
                let outcome = log
                    .map_err(|e| e.to_string())
                    .and_then(|log| run(&*log, Some(dir.path())).map_err(|e| e.to_string()));
                match outcome {
                    Ok(end) => return (end, attempts),
                    Err(error) => println!("attempt {attempts}: {error}"),
                }
                assert!(attempts < 60, "it never ends");
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        for _ in 0..2 {
            std::thread::sleep(Duration::from_millis(600));
            cluster.broker("kill-broker");
            cluster.broker("start-broker");
        }
        running.join().unwrap()
    });
    let (end, attempts) = done;
    println!("{attempts} attempts");
    // The terms differ, and with them the hashes; what was decided does not.
    let (calm, disturbed) = (history(&*calm.log()), history(&*cell.log()));
    let differs = calm.iter().zip(&disturbed).position(|(left, right)| left != right);
    assert_eq!(differs, None, "{:#?}", differs.map(|at| (&calm[at], &disturbed[at])));
    assert_eq!(end.next_epoch, undisturbed.next_epoch);
    audited(&*cell.log());
}
