//! Virtual time: instants, epochs with the same `now`, idleness.

use std::sync::atomic::AtomicBool;

use solyx_runtime::{Ending, VirtualOptions, run_virtual};
use solyx_schemas::epochs::{EpochBatch, EpochReader};
use solyx_schemas::events::Event;
use solyx_schemas::events::decisions::SkipReason;
use solyx_schemas::topics::Topic;
use solyx_schemas::units::{HOUR_US, TimeUs};

use crate::world::{Meter, START_US, contents, job, options, publish, record, run_all, world};

fn epochs(log: &solyx_schemas::log::memory::MemoryLog) -> Vec<EpochBatch> {
    EpochReader::new(log).map(Result::unwrap).collect()
}

#[test]
fn two_runs_of_the_same_world_give_the_same_log_to_the_byte() {
    let (one, two) = (world(40), world(40));
    let (first, second) = (run_all(&one, None).unwrap(), run_all(&two, None).unwrap());
    assert_eq!(first.chain_head, second.chain_head);
    assert_eq!(contents(&one), contents(&two));
    assert_eq!(first.ending, Ending::Idle);
}

#[test]
fn every_job_counts_once_and_what_does_not_count_is_named() {
    let log = world(40);
    run_all(&log, None).unwrap();
    let mut counted = Vec::new();
    let mut skipped = std::collections::BTreeMap::new();
    for epoch in epochs(&log) {
        counted.extend(
            epoch.counted().filter(|(p, _)| p.topic() == Topic::Jobs).map(|(_, e)| e.identity().id.into_owned()),
        );
        for input in &epoch.inputs {
            if let Some(reason) = input.skipped {
                *skipped.entry(reason).or_insert(0) += 1;
            }
        }
        let quarantined = epoch.outputs.iter().filter(|output| output.topic() == Topic::Quarantine).count();
        assert_eq!(quarantined, epoch.record.skipped.len());
    }
    counted.sort();
    let mut expected: Vec<String> = (0..40).map(|n| job(n).event_id.to_string()).collect();
    expected.sort();
    assert_eq!(counted, expected);
    assert_eq!(skipped.get(&SkipReason::Duplicate), Some(&8));
    assert_eq!(skipped.get(&SkipReason::Conflict), Some(&6));
    assert_eq!(skipped.get(&SkipReason::Undecodable), Some(&4));
}

#[test]
fn an_instant_takes_as_many_epochs_as_it_needs_and_time_never_goes_back() {
    let log = world(40);
    run_all(&log, None).unwrap();
    let epochs = epochs(&log);
    let times: Vec<TimeUs> = epochs.iter().map(|epoch| epoch.record.now_us).collect();
    assert!(times.is_sorted());
    assert_eq!(times[0], TimeUs(START_US));
    assert!(times.windows(2).any(|pair| pair[0] == pair[1]));
    // What a decision causes at an instant is read at that instant, after everything that was due before.
    for epoch in &epochs {
        for (_, event) in epoch.counted() {
            let late = event.identity().occurred_us;
            if event.topic() == Topic::Usage {
                assert_eq!(epoch.record.now_us, late);
            }
        }
    }
}

#[test]
fn a_run_is_idle_before_prices_end_and_goes_through_them_when_asked_to() {
    let log = world(3);
    let idle = run_all(&log, None).unwrap();
    assert!(idle.progress.now.0 < START_US + 2 * HOUR_US);
    assert!(idle.progress.lag_records > 90);
    let through = VirtualOptions { until_idle: false, ..options(None) };
    let stop = AtomicBool::new(false);
    let mut meter = Meter::default();
    let end = run_virtual(&log, Some(&mut meter), &through, &stop, &mut |_| {}).unwrap();
    assert_eq!(end.progress.lag_records, 0);
    assert_eq!(end.progress.now, TimeUs(START_US + 99 * HOUR_US));
}

#[test]
fn a_run_ends_at_the_instant_it_is_given_and_can_go_on_from_there() {
    let (halves, whole) = (world(40), world(40));
    let until = VirtualOptions { until: Some(TimeUs(START_US + 4 * 60_000_000)), ..options(None) };
    let mut meter = Meter::default();
    let end = run_virtual(&halves, Some(&mut meter), &until, &AtomicBool::new(false), &mut |_| {}).unwrap();
    assert_eq!(end.ending, Ending::Until);
    assert!(end.progress.now <= TimeUs(START_US + 4 * 60_000_000));
    let (continued, undisturbed) = (run_all(&halves, None).unwrap(), run_all(&whole, None).unwrap());
    assert_eq!(continued.chain_head, undisturbed.chain_head);
    assert_eq!(contents(&halves), contents(&whole));
}

#[test]
fn an_import_after_a_run_is_handed_on_by_the_next() {
    let log = world(10);
    run_all(&log, None).unwrap();
    let late: Vec<_> = (100..110).map(job).collect();
    publish(&log, late.iter().map(|job| record(&log, &Event::from(job.clone()), true)).collect());
    // One of them lies before the end of the first run.
    let early = solyx_schemas::events::jobs::JobRequested { occurred_us: TimeUs(START_US), ..job(200) };
    publish(&log, vec![record(&log, &Event::from(early), true)]);
    run_all(&log, None).unwrap();
    let jobs: usize =
        epochs(&log).iter().map(|epoch| epoch.counted().filter(|(p, _)| p.topic() == Topic::Jobs).count()).sum();
    assert_eq!(jobs, 21);
}
