//! A run that was killed anywhere goes on as if it had not been.

use std::fs;
use std::path::Path;

use solyx_runtime::{Engine, RuntimeError};
use solyx_schemas::log::LogErrorKind;
use solyx_schemas::log::memory::{Failure, Fate, MemoryLog};
use solyx_schemas::topics::Topic;

use crate::world::{cell, contents, options, planned_world, plans, run_all, world};

const JOBS: i64 = 24;

fn undisturbed() -> MemoryLog {
    let log = world(JOBS);
    run_all(&log, None).unwrap();
    log
}

/// Kills the run at every append, before it, after it was committed or on its way there, until it gets through.
fn killed_everywhere(world: impl Fn() -> MemoryLog, dir: impl Fn() -> Option<tempfile::TempDir>) {
    let whole = world();
    run_all(&whole, None).unwrap();
    let appends = whole.appends();
    let world_appends = world().appends();
    for at in 0..appends - world_appends {
        for fate in Fate::ALL {
            let log = world();
            let kept = dir();
            let path = kept.as_ref().map(tempfile::TempDir::path);
            log.fail_after(at, Failure { kind: LogErrorKind::Stop, fate });
            assert!(matches!(run_all(&log, path), Err(RuntimeError::Log(_))), "append {at}");
            run_all(&log, path).unwrap();
            assert_eq!(contents(&log), contents(&whole), "killed at append {at}, {fate:?}");
        }
    }
}

#[test]
fn killed_at_any_append_nothing_is_doubled_or_lost_without_any_file() {
    killed_everywhere(|| world(JOBS), || None);
}

#[test]
fn killed_at_any_append_nothing_is_doubled_or_lost_with_index_and_snapshots() {
    killed_everywhere(|| world(JOBS), || Some(tempfile::tempdir().unwrap()));
}

#[test]
fn killed_at_any_append_plans_come_after_the_same_requests_all_the_same() {
    let whole = planned_world(JOBS);
    run_all(&whole, None).unwrap();
    assert!(plans(&whole).len() == 6, "{:?}", plans(&whole));
    killed_everywhere(|| planned_world(JOBS), || None);
}

#[test]
fn killed_again_and_again_it_still_gets_through() {
    let whole = undisturbed();
    let log = world(JOBS);
    let dir = tempfile::tempdir().unwrap();
    let mut kills = 0;
    loop {
        log.fail_after(1 + kills % 3, Failure { kind: LogErrorKind::Stop, fate: Fate::ALL[kills as usize % 3] });
        match run_all(&log, Some(dir.path())) {
            Err(_) => kills += 1,
            Ok(_) => break,
        }
    }
    assert!(kills > 10, "{kills}");
    assert_eq!(contents(&log), contents(&whole));
}

#[test]
fn a_snapshot_in_the_middle_continues_to_the_same_hash_and_a_bad_one_is_left_aside() {
    let whole = undisturbed();
    for damage in [None, Some(0), Some(20), Some(100)] {
        let (log, dir) = (world(JOBS), tempfile::tempdir().unwrap());
        log.fail_after(30, Failure { kind: LogErrorKind::Stop, fate: Fate::Committed });
        assert!(run_all(&log, Some(dir.path())).is_err());
        let snapshots = files(&dir.path().join("snapshots"));
        assert!(!snapshots.is_empty() && snapshots.len() <= 2, "{snapshots:?}");
        if let Some(at) = damage {
            for file in &snapshots {
                let mut bytes = fs::read(file).unwrap();
                let at = at % bytes.len();
                bytes[at] ^= 1;
                fs::write(file, bytes).unwrap();
            }
        }
        run_all(&log, Some(dir.path())).unwrap();
        assert_eq!(contents(&log), contents(&whole));
    }
}

fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in files(from) {
        let target = to.join(file.file_name().unwrap());
        if file.is_dir() { copy(&file, &target) } else { fs::copy(&file, target).map(drop).unwrap() }
    }
}

#[test]
fn an_index_behind_ahead_of_or_foreign_to_the_log_is_made_right() {
    let whole = undisturbed();
    let (log, dir) = (world(JOBS), tempfile::tempdir().unwrap());
    log.fail_after(20, Failure { kind: LogErrorKind::Stop, fate: Fate::Committed });
    assert!(run_all(&log, Some(dir.path())).is_err());
    let early_log = log.fork();
    let early_dir = tempfile::tempdir().unwrap();
    copy(dir.path(), early_dir.path());
    log.fail_after(20, Failure { kind: LogErrorKind::Stop, fate: Fate::Committed });
    assert!(run_all(&log, Some(dir.path())).is_err());

    // Behind: the log went on without it. Ahead: the log lost its end. Foreign: of another world.
    let behind = log.fork();
    run_all(&behind, Some(early_dir.path())).unwrap();
    assert_eq!(contents(&behind), contents(&whole));
    run_all(&early_log, Some(dir.path())).unwrap();
    assert_eq!(contents(&early_log), contents(&whole));
    let foreign = world(JOBS);
    run_all(&foreign, Some(dir.path())).unwrap();
    assert_eq!(contents(&foreign), contents(&whole));
}

#[test]
fn a_log_that_does_not_follow_from_its_inputs_stops_the_engine_by_epoch() {
    let log = undisturbed();
    for partition in 0..4 {
        log.tamper(Topic::Jobs.into(), partition, |records| {
            if let Some(stored) = records.first_mut() {
                let last = stored.record.value.len() - 1;
                stored.record.value[last] ^= 2;
            }
        });
    }
    let error = Engine::lead(&log, &options(None).engine, None).err().unwrap();
    assert!(matches!(error, RuntimeError::Diverged(ref difference) if difference.epoch == 0), "{error}");
}

#[test]
fn another_cells_log_is_refused() {
    let log = undisturbed();
    let mut engine = options(None).engine;
    engine.cell = "cell-b".into();
    let error = Engine::lead(&log, &engine, None).err().unwrap();
    assert!(error.to_string().contains(cell().as_str()), "{error}");
}
