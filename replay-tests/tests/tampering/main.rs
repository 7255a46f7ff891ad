//! Whoever changes an archive, or the store of a log, is found out, and the place is named: 200 places of an archive, each its own
//! change. `SOLYX_TAMPERING_SEED` gives other places.

#![allow(clippy::unwrap_used)]

mod bytes;
mod world;

use solyx_connectors::log::archive::{ArchiveLog, export};
use solyx_connectors::log::embedded::{EmbeddedLog, EmbeddedOptions};
use solyx_connectors::log::mirror::mirror;
use solyx_histories::history::Luck;
use solyx_schemas::log::Log;
use solyx_sim::tamper::{change, is_named};

use crate::world::{WORLD, World};

/// Places in the bytes of the archive's files, and in the records of archives whose hashes were made to fit.
const IN_BYTES: usize = 120;
const IN_RECORDS: usize = 80;
/// Places in the store of an embedded log: in its records, and in its files.
const IN_A_STORE: usize = 10;

fn seed() -> u64 {
    std::env::var("SOLYX_TAMPERING_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
}

/// What repeats a test.
fn again(test: &str) -> String {
    format!("again: SOLYX_TAMPERING_SEED={} cargo test --locked --workspace --test tampering {test}", seed())
}

#[test]
fn changes_of_an_archive_are_found_and_the_epoch_or_block_is_named() {
    let again = again("archive");
    let mut luck = Luck(seed());
    let dir = tempfile::tempdir().unwrap();
    let archive = bytes::Archive::of(&WORLD, dir.path());
    let mut named = bytes::Named::default();
    for _ in 0..IN_BYTES {
        archive.change_and_look(&WORLD, &mut luck, &mut named).unwrap_or_else(|what| panic!("{what}\n{again}"));
    }
    let mut in_records = 0;
    while in_records < IN_RECORDS {
        let Some(changed) = change(&WORLD.log, &WORLD.epochs, &mut luck).unwrap() else { continue };
        let forged = dir.path().join(format!("forged-{in_records}"));
        export(&changed.log, &forged, &|_, _| {}).unwrap();
        let log = ArchiveLog::open(&forged).unwrap();
        is_named(&*log, &changed.what, changed.epoch, WORLD.head).unwrap_or_else(|what| panic!("{what}\n{again}"));
        std::fs::remove_dir_all(forged).unwrap();
        in_records += 1;
    }
    println!(
        "seed {}: {} of {} changes of an archive are found and named: {named}; {in_records} of its records with all hashes made to fit, each by the first epoch touched",
        seed(),
        IN_BYTES + in_records,
        IN_BYTES + IN_RECORDS,
    );
}

#[test]
fn changes_of_a_store_are_found_and_the_epoch_is_named() {
    let again = again("store");
    let mut luck = Luck(seed());
    let mut in_records = 0;
    while in_records < IN_A_STORE {
        let Some(changed) = change(&WORLD.log, &WORLD.epochs, &mut luck).unwrap() else { continue };
        let dir = tempfile::tempdir().unwrap();
        let log = store(&changed.log, &dir);
        is_named(&*log, &changed.what, changed.epoch, WORLD.head).unwrap_or_else(|what| panic!("{what}\n{again}"));
        in_records += 1;
    }
    let dir = tempfile::tempdir().unwrap();
    drop(store(&WORLD.log, &dir));
    let (mut refused, mut named, mut unread) = (0, 0, 0);
    for _ in 0..IN_A_STORE {
        match bytes::change_a_store(&WORLD, dir.path(), &mut luck).unwrap_or_else(|what| panic!("{what}\n{again}")) {
            bytes::Store::Refused => refused += 1,
            bytes::Store::Named => named += 1,
            bytes::Store::AllThere => unread += 1,
        }
    }
    println!(
        "seed {}: {in_records} of {IN_A_STORE} changes of a store's records are found, each by the first epoch touched; of {IN_A_STORE} of its files' bytes {refused} keep it from \
         opening, {named} are named by an epoch, {unread} lie where nothing of the history is",
        seed(),
    );
}

/// What a log holds, in a store of its own.
fn store(log: &dyn Log, dir: &tempfile::TempDir) -> std::sync::Arc<EmbeddedLog> {
    let options = EmbeddedOptions { partitions: Some(World::partitions()), ..EmbeddedOptions::default() };
    let store = EmbeddedLog::open(dir.path(), options).unwrap();
    mirror(log, &*store, "tests", &|_, _| {}).unwrap();
    store
}
