//! A snapshot of another format, of another history, or with a state that the chain does not have, is never used: the log is read
//! from further back, and everything comes out the same.

use std::fs;
use std::path::{Path, PathBuf};

use solyx_kernel::Snapshot;
use solyx_kernel::digest::SetHash;
use solyx_runtime::{AuditOptions, audit};
use solyx_schemas::epochs::Frontier;
use solyx_schemas::hash::Hash32;
use solyx_schemas::log::LogErrorKind;
use solyx_schemas::log::memory::{Failure, Fate, MemoryLog};

use crate::world::{contents, planned_world, run_all, world};

const JOBS: i64 = 24;
const MAGIC_LEN: usize = 8;
const HASH_LEN: usize = 32;

type Held = (Frontier, Snapshot);
/// What is done to one.
type Forgery = fn(&mut Held);

/// A log that was cut in the middle, and what its engine left on disk.
fn cut() -> (MemoryLog, tempfile::TempDir) {
    let (log, dir) = (world(JOBS), tempfile::tempdir().unwrap());
    log.fail_after(30, Failure { kind: LogErrorKind::Stop, fate: Fate::Committed });
    assert!(run_all(&log, Some(dir.path())).is_err());
    (log, dir)
}

fn files(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir.join("snapshots")).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Changes what a snapshot holds, with a hash of its bytes that is right again.
fn forge(file: &Path, change: Forgery) {
    let bytes = fs::read(file).unwrap();
    let mut held: Held = postcard::from_bytes(&bytes[MAGIC_LEN + HASH_LEN..]).unwrap();
    change(&mut held);
    let body = postcard::to_stdvec(&held).unwrap();
    let hash = blake3::hash(&body);
    fs::write(file, [&bytes[..MAGIC_LEN], hash.as_bytes(), &body].concat()).unwrap();
}

fn digest_of(snapshot: &Snapshot) -> Hash32 {
    let mut digest = SetHash::default();
    snapshot.entries.iter().for_each(|entry| digest.add(entry.table, &entry.key, &entry.value));
    digest.digest()
}

/// Where an audit begins that may use the snapshots, and whether the engine goes on to the same history with them.
fn begins_at(log: &MemoryLog, dir: &Path) -> i64 {
    let options = AuditOptions { from: Some((dir.join("snapshots"), i64::MAX)), ..AuditOptions::default() };
    let report = audit(log, &options, &mut |_| {}).unwrap();
    assert!(report.ok, "{:?}", report.first_difference);
    let whole = world(JOBS);
    run_all(&whole, None).unwrap();
    let goes_on = log.fork();
    run_all(&goes_on, Some(dir)).unwrap();
    assert_eq!(contents(&goes_on), contents(&whole));
    report.from_epoch
}

#[test]
fn a_good_one_is_used_and_a_forged_one_never() {
    let (log, dir) = cut();
    files(dir.path()).iter().for_each(|file| forge(file, |_| {}));
    assert!(begins_at(&log, dir.path()) > 0, "written again as it was it is good");

    let forgeries: [(&str, Forgery); 7] = [
        ("a row is gone", |(_, snapshot)| drop(snapshot.entries.pop())),
        ("a row is gone, and its digest is that of the rest", |(_, snapshot)| {
            snapshot.entries.pop();
            snapshot.head.state_digest = digest_of(snapshot);
        }),
        ("of a later format", |(_, snapshot)| snapshot.head.format += 1),
        ("of a feature that this build lacks", |(_, snapshot)| snapshot.head.features.push("from-the-future".into())),
        ("of another cell", |(_, snapshot)| snapshot.head.cell = "another".into()),
        ("of an epoch with another chain hash", |(_, snapshot)| snapshot.head.chain_head = Hash32([7; 32])),
        ("of a frontier that the log does not have", |(frontier, snapshot)| {
            (frontier.chain_head, snapshot.head.chain_head) = (Hash32([7; 32]), Hash32([7; 32]));
        }),
    ];
    for (what, change) in forgeries {
        let (log, dir) = cut();
        files(dir.path()).iter().for_each(|file| forge(file, change));
        assert_eq!(begins_at(&log, dir.path()), 0, "{what}");
    }
}

#[test]
fn one_of_a_later_file_format_is_left_aside() {
    let (log, dir) = cut();
    for file in files(dir.path()) {
        let mut bytes = fs::read(&file).unwrap();
        assert_eq!(&bytes[..MAGIC_LEN], b"SOLYXSN1");
        bytes[MAGIC_LEN - 1] = b'2';
        fs::write(&file, bytes).unwrap();
    }
    assert_eq!(begins_at(&log, dir.path()), 0);
}

#[test]
fn one_of_another_history_of_the_same_cell_is_left_aside() {
    let (_, dir) = cut();
    let other = planned_world(JOBS);
    run_all(&other, None).unwrap();
    let options = AuditOptions { from: Some((dir.path().join("snapshots"), i64::MAX)), ..AuditOptions::default() };
    let report = audit(&other, &options, &mut |_| {}).unwrap();
    assert_eq!((report.ok, report.from_epoch), (true, 0));
}
