//! Real time: what arrives is decided, fencing and guards hold, unknown outcomes are found out.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use solyx_runtime::live::system_clock_us;
use solyx_runtime::{AuditOptions, Election, RunEnd, RunOptions, RuntimeError, Standing, audit, run, run_elected};
use solyx_schemas::epochs::EpochReader;
use solyx_schemas::events::Event;
use solyx_schemas::events::jobs::JobRequested;
use solyx_schemas::log::memory::{Failure, Fate, MemoryLog};
use solyx_schemas::log::{Log, LogErrorKind};
use solyx_schemas::topics::Topic;
use solyx_schemas::units::TimeUs;

use crate::world::{cell, job, publish, record, run_all};

fn jobs_counted(log: &MemoryLog) -> usize {
    let of_epoch = |epoch: &solyx_schemas::epochs::EpochBatch| {
        epoch.counted().filter(|(position, _)| position.topic() == Topic::Jobs).count()
    };
    EpochReader::new(log).map(|epoch| of_epoch(&epoch.unwrap())).sum()
}

/// Runs an engine beside `work`, until `work` is done.
fn beside(log: &MemoryLog, work: impl FnOnce()) -> Result<RunEnd, RuntimeError> {
    let stop = AtomicBool::new(false);
    let options = RunOptions::new(cell(), None);
    std::thread::scope(|scope| {
        let engine = scope.spawn(|| run(log, &options, &stop, &mut |_| {}));
        work();
        stop.store(true, Ordering::Relaxed);
        engine.join().unwrap()
    })
}

fn wait_for(log: &MemoryLog, jobs: usize) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while jobs_counted(log) < jobs {
        assert!(Instant::now() < deadline, "{} of {jobs} jobs counted", jobs_counted(log));
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn send(log: &MemoryLog, from: i64, to: i64) {
    publish(log, (from..to).map(|n| record(log, &Event::from(job(n)), false)).collect());
}

#[test]
fn what_arrives_is_taken_once_and_audits_well() {
    let log = MemoryLog::new();
    let end = beside(&log, || {
        send(&log, 0, 10);
        wait_for(&log, 10);
        send(&log, 5, 20);
        wait_for(&log, 20);
    });
    let end = end.unwrap();
    assert_eq!(end.progress.events, 25);
    assert_eq!(end.progress.lag_records, 0);
    let report = audit(&log, &AuditOptions::default(), &mut |_| {}).unwrap();
    assert!(report.ok, "{:?}", report.first_difference);
    assert_eq!(report.chain_head, end.chain_head);
}

#[test]
fn an_unknown_outcome_is_found_out_by_reading_to_the_end() {
    for fate in Fate::ALL {
        let log = MemoryLog::with_terms();
        let end = beside(&log, || {
            send(&log, 0, 5);
            wait_for(&log, 5);
            log.fail_next(Failure { kind: LogErrorKind::Restart, fate });
            // The import may be what fails; it is repeated, as a producer would.
            let records: Vec<_> = (5..10).map(|n| record(&log, &Event::from(job(n)), false)).collect();
            let _ = log.producer("import").unwrap().append(records.clone());
            publish(&log, records);
            wait_for(&log, 10);
        });
        end.unwrap();
        assert_eq!(jobs_counted(&log), 10);
        assert!(audit(&log, &AuditOptions::default(), &mut |_| {}).unwrap().ok);
    }
}

#[test]
fn an_append_whose_outcome_is_unknown_ends_in_a_new_term() {
    for fate in Fate::ALL {
        let log = MemoryLog::with_terms();
        send(&log, 0, 5);
        log.fail_next(Failure { kind: LogErrorKind::Restart, fate });
        beside(&log, || wait_for(&log, 5)).unwrap();
        let terms: Vec<i64> = EpochReader::new(&log).map(|epoch| epoch.unwrap().record.term).collect();
        assert_eq!(terms, if fate == Fate::Lost { vec![2] } else { vec![1] });
    }
}

#[test]
fn a_fenced_engine_gives_way_and_writes_nothing_more() {
    let log = MemoryLog::with_terms();
    let ended = beside(&log, || {
        send(&log, 0, 5);
        wait_for(&log, 5);
        let _newer = log.producer("engine-cell-a").unwrap();
        send(&log, 5, 10);
        std::thread::sleep(Duration::from_millis(300));
    });
    assert!(matches!(ended, Err(RuntimeError::Log(ref error)) if error.kind == LogErrorKind::Fenced), "{ended:?}");
    assert_eq!(jobs_counted(&log), 5);
}

#[test]
fn a_history_that_ends_in_the_future_goes_on_at_its_own_time() {
    let log = MemoryLog::new();
    let ahead = system_clock_us() + 86_400_000_000;
    let staged = JobRequested { occurred_us: TimeUs(ahead), not_before_us: None, deadline_us: None, ..job(0) };
    publish(&log, vec![record(&log, &Event::from(staged), true)]);
    let ended = run_all(&log, None).unwrap().progress.now;
    assert!(ended >= TimeUs(ahead));
    let end = beside(&log, || {
        send(&log, 1, 5);
        wait_for(&log, 5);
    });
    assert_eq!(end.unwrap().progress.now, ended, "the clock is fine, and time never goes back");
}

#[test]
fn a_clock_that_runs_ahead_of_the_logs_stops_the_engine_before_it_writes() {
    let log = MemoryLog::new();
    log.set_clock_us(Some(system_clock_us() - 6_000_000));
    send(&log, 0, 5);
    let ended = beside(&log, || std::thread::sleep(Duration::from_millis(300)));
    assert!(matches!(ended, Err(RuntimeError::ClockAhead { .. })), "{ended:?}");
    assert_eq!(jobs_counted(&log), 0);
}

/// An election in which the lead is asked back before it was taken up, and given again once it was resigned.
#[derive(Default)]
struct AskedBack {
    resigned: AtomicBool,
}

impl Election for AskedBack {
    fn standing(&self) -> Standing {
        if self.resigned.load(Ordering::Relaxed) { Standing::Leads } else { Standing::HandsOver }
    }

    fn progressed(&self, _: i64, _: bool) {}

    fn resign(&self) {
        self.resigned.store(true, Ordering::Relaxed);
    }

    fn abstain(&self, _: Duration) {}
}

#[test]
fn a_lead_that_is_asked_back_before_it_is_taken_up_is_resigned() {
    let log = MemoryLog::new();
    let (stop, election) = (AtomicBool::new(false), AskedBack::default());
    let options = RunOptions::new(cell(), None);
    std::thread::scope(|scope| {
        let run = || run_elected(&log, &options, &election, &stop, &mut |_| {}).unwrap();
        let engine = scope.spawn(run);
        send(&log, 0, 3);
        wait_for(&log, 3);
        stop.store(true, Ordering::Relaxed);
        assert_eq!(engine.join().unwrap().progress.events, 3);
    });
}
