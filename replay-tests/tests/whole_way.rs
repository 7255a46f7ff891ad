//! The whole way of an event over real jobs: import, virtual run with the simulated executor, kills, audit.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use solyx_connectors::executor::SimulatedExecutor;
use solyx_connectors::fleet;
use solyx_connectors::import::{Options, Source, import};
use solyx_runtime::{AuditOptions, EngineOptions, RunEnd, RuntimeError, VirtualOptions, audit, run_virtual};
use solyx_schemas::codec::Codec;
use solyx_schemas::events::Event;
use solyx_schemas::ids::CellId;
use solyx_schemas::log::memory::{Failure, Fate, MemoryLog};
use solyx_schemas::log::{Log, LogErrorKind, Record};
use solyx_schemas::topics::TopicName;

fn ops() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../ops")
}

/// A log with the hybrid fleet published and so many of Philly's jobs staged.
fn world(jobs: u64) -> (MemoryLog, CellId) {
    let log = MemoryLog::new();
    let events = fleet::load(&ops().join("fleets/hybrid.toml")).unwrap();
    let cell = events.iter().find_map(|event| match event {
        Event::CellDeclared(declared) => Some(declared.cell_id.clone()),
        _ => None,
    });
    let record = |event: &Event| -> Record {
        let topic = TopicName::live(event.topic());
        Codec::global().record(event, topic, log.partitions(topic))
    };
    log.producer("publish").unwrap().append(events.iter().map(record).collect()).unwrap();
    let source = Source::Philly { jobs: ops().join("data/philly_jobs.csv.gz") };
    let options = Options { limit: Some(jobs), stretch: 1, ..Options::default() };
    import(&source, &options, &log, &mut |_| {}).unwrap();
    (log, cell.unwrap())
}

fn run(log: &MemoryLog, cell: &CellId, dir: Option<&Path>) -> Result<RunEnd, RuntimeError> {
    let mut executor = SimulatedExecutor::from_log("simulated", log).unwrap();
    let mut engine = EngineOptions::new(cell.clone(), dir.map(Into::into));
    engine.snapshot_every_epochs = 50;
    let options = VirtualOptions::new(engine);
    run_virtual(log, Some(&mut executor), &options, &AtomicBool::new(false), &mut |_| {})
}

#[test]
fn real_jobs_run_to_their_end_and_the_audit_agrees() {
    let (log, cell) = world(400);
    let begun = Instant::now();
    let end = run(&log, &cell, None).unwrap();
    println!("{end:?} in {:?}", begun.elapsed());
    assert_eq!((end.progress.waiting_jobs, end.progress.live_runs), (0, 0), "{end:?}");
    let report = audit(&log, &AuditOptions::default(), &mut |_| {}).unwrap();
    println!("{report:?}");
    assert!(report.ok, "{:?}", report.first_difference);
    assert_eq!(report.chain_head, end.chain_head);
}

#[test]
fn killed_at_many_points_the_final_hash_is_that_of_an_undisturbed_run() {
    let (whole, cell) = world(40);
    let before = whole.appends();
    let undisturbed = run(&whole, &cell, None).unwrap();
    let appends = whole.appends() - before;
    for step in 0..12 {
        let (log, _) = world(40);
        let dir = tempfile::tempdir().unwrap();
        let (at, fate) = (step * appends / 12, Fate::ALL[step as usize % 3]);
        log.fail_after(at, Failure { kind: LogErrorKind::Stop, fate });
        assert!(run(&log, &cell, Some(dir.path())).is_err());
        let end = run(&log, &cell, Some(dir.path())).unwrap();
        assert_eq!(end.chain_head, undisturbed.chain_head, "killed at append {at} of {appends}");
    }
}
