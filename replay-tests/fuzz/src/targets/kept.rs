//! What is kept beside a log and can be made again: rows of views, how far a view has come, files of snapshots.

use std::path::PathBuf;
use std::sync::LazyLock;

use solyx_kernel::follow::Follower;
use solyx_projections::billing::Billing;
use solyx_projections::dcim::Dcim;
use solyx_projections::failover::Failover;
use solyx_projections::fold::{Entry, EpochSource, Fold};
use solyx_projections::jobs::Jobs;
use solyx_projections::store::ViewPosition;
use solyx_runtime::{Engine, EngineOptions, recall};
use solyx_schemas::codec::Codec;
use solyx_schemas::epochs::EpochReader;
use solyx_schemas::events::Event;
use solyx_schemas::ids::CellId;
use solyx_schemas::log::memory::MemoryLog;
use solyx_schemas::topics::Topic;
use solyx_schemas::wire;

use super::signed::SIGNED;
use super::states::{HISTORY, pair};
use super::{path, said, same};
use crate::{Outcome, Target, holds};

pub fn targets() -> Vec<Target> {
    vec![
        Target { name: "views", takes: "rows of a kept view", seeds: views, words: &[], run: view },
        Target {
            name: "position",
            takes: "how far a kept view has come",
            seeds: positions,
            words: &["solyx.", "decisions", "jobs"],
            run: position,
        },
        Target { name: "kept-state", takes: "a file of a snapshot", seeds: files, words: &[], run: snapshot },
    ]
}

/// Fresh folds, by the first byte of an input.
const FOLDS: [fn() -> Box<dyn Fold>; 4] = [
    || Box::new(Billing::default()),
    || Box::new(Dcim::default()),
    || Box::new(Failover::default()),
    || Box::new(Jobs::default()),
];

/// The number of a fold, then its rows: each its key and its value with their lengths before them.
fn views() -> Vec<Vec<u8>> {
    let logs: [&MemoryLog; 2] = [&HISTORY, &SIGNED.log];
    let of = |(log, number): (&MemoryLog, u8)| {
        let mut fold = FOLDS[usize::from(number)]();
        let mut reader = EpochReader::new(log);
        while let Some(epoch) = reader.next_batch().expect("a good log is read") {
            fold.apply(&epoch).expect("a good log is folded");
        }
        let mut bytes = vec![number];
        for part in fold.entries().into_iter().flat_map(|(key, value)| [key, value]) {
            wire::write_long(part.len() as i64, &mut bytes);
            bytes.extend_from_slice(&part);
        }
        bytes
    };
    logs.into_iter().flat_map(|log| (0..FOLDS.len() as u8).map(move |number| (log, number))).map(of).collect()
}

/// Each row is told or refused; loaded and written again they are the same.
fn view(input: &[u8]) -> Outcome {
    let Some((number, mut rest)) = input.split_first() else { return Ok("nothing".to_owned()) };
    let fresh = FOLDS[usize::from(*number) % FOLDS.len()];
    let mut entries: Vec<Entry> = Vec::new();
    while let Some((key, value)) = pair(&mut rest) {
        entries.push((key.to_vec(), value.to_vec()));
    }
    let mut fold = fresh();
    let mut words = fold.name().to_owned();
    for (key, value) in &entries {
        match fold.told(key, value) {
            Ok(told) => {
                holds!(!told.table.is_empty(), "a row of no table");
                let _ = (told.key.to_string(), told.row.to_string());
            }
            Err(error) => {
                words.push_str(&said(&error.detail)?);
                break;
            }
        }
    }
    if let Err(error) = fold.load(&mut entries.into_iter()) {
        return said(format!("{words} {}", error.detail));
    }
    fold.forget_changes();
    let written = fold.entries();
    let mut again = fresh();
    let loaded = again.load(&mut written.clone().into_iter());
    loaded.map_err(|error| format!("rows that were written are not loaded: {error}"))?;
    holds!(again.entries() == written, "rows of {} are not loaded as they were written", fold.name());
    Ok(format!("{words} loaded"))
}

fn positions() -> Vec<Vec<u8>> {
    let mut reader = EpochReader::new(&*HISTORY);
    let mut all = Vec::new();
    loop {
        let position = ViewPosition {
            format: 1,
            next_epoch: reader.next_epoch(),
            chain_head: reader.chain_head(),
            frontier: EpochSource::frontier(&reader),
        };
        all.push(postcard::to_stdvec(&position).expect("a position is written into memory"));
        if reader.next_batch().expect("a good log is read").is_none() {
            return all;
        }
    }
}

/// Written again it is the same; who reads on from it comes to the end of the log or says why not.
fn position(input: &[u8]) -> Outcome {
    let position: ViewPosition = match postcard::from_bytes(input) {
        Ok(position) => position,
        Err(error) => return said(error),
    };
    let bytes = postcard::to_stdvec(&position).map_err(|error| error.to_string())?;
    let again: ViewPosition = postcard::from_bytes(&bytes).map_err(|error| format!("it is not read again: {error}"))?;
    same(&again, &position, "a position and its bytes")?;
    let mut reader = match position.reader(&*HISTORY) {
        Ok(reader) => reader,
        Err(error) => return said(error),
    };
    let mut epochs = 0;
    loop {
        match reader.next_batch() {
            Ok(Some(_)) => epochs += 1,
            Ok(None) => return Ok(format!("{} epochs", "i".repeat(epochs))),
            Err(error) => return said(error),
        }
    }
}

fn cell() -> CellId {
    CellId::from("test")
}

/// The history up to the end of an epoch.
fn up_to(epochs: usize) -> MemoryLog {
    let log = HISTORY.fork();
    log.tamper(Topic::Decisions.into(), 0, |records| {
        let is_end = |value: &[u8]| {
            matches!(Codec::global().decode(value).map(|decoded| decoded.event), Ok(Event::EpochCommitted(_)))
        };
        let ends = records.iter().enumerate().filter(|(_, stored)| is_end(&stored.record.value));
        let end = ends.map(|(place, _)| place + 1).nth(epochs - 1);
        records.truncate(end.unwrap_or(records.len()));
    });
    log
}

/// Files as an engine leaves them, in the middle of a history and at its end.
fn files() -> Vec<Vec<u8>> {
    let of = |epochs: usize| {
        let log = up_to(epochs);
        let dir = path(&format!("engine-{epochs}"));
        let options = EngineOptions::new(cell(), Some(dir.clone()));
        let mut engine = Engine::lead(&log, &options, None).expect("a good log is led");
        engine.finish(None).expect("a good log is led");
        let files = std::fs::read_dir(dir.join("snapshots")).expect("it was just written").flatten();
        let file = files.map(|file| file.path()).find(|file| file.extension().is_some_and(|kind| kind == "snapshot"));
        std::fs::read(file.expect("an engine leaves a snapshot")).expect("it was just written")
    };
    vec![of(2), of(usize::MAX)]
}

/// The state at the end of the history, without any snapshot.
static WHOLE: LazyLock<Follower> = LazyLock::new(|| recall(&*HISTORY, &cell(), None).expect("a good log is followed"));

/// The history with a beginning that nobody can read: only who has a good snapshot follows it.
static TORN: LazyLock<MemoryLog> = LazyLock::new(|| {
    let log = HISTORY.fork();
    log.tamper(Topic::Decisions.into(), 0, |records| records[0].record.value = b"no event".to_vec());
    log
});

/// A damaged file keeps nobody from following the log and changes nothing of what comes of it. The same with a hash that is made to fit.
fn snapshot(input: &[u8]) -> Outcome {
    let taken = |dir: &PathBuf| recall(&*TORN, &cell(), Some(dir)).is_ok();
    let dir = put(input);
    let followed = recall(&*HISTORY, &cell(), Some(&dir));
    let followed = followed.map_err(|error| format!("a file of a snapshot keeps a log from being read: {error}"))?;
    holds!(followed.entries() == WHOLE.entries(), "a state is another one with a snapshot than without");
    let as_it_is = taken(&dir);
    let Some((magic, (_, body))) =
        input.split_at_checked(8).and_then(|(magic, rest)| Some((magic, rest.split_at_checked(32)?)))
    else {
        return Ok("too short".to_owned());
    };
    let dir = put(&[magic, blake3::hash(body).as_bytes(), body].concat());
    let followed = recall(&*HISTORY, &cell(), Some(&dir)).map_or_else(said, |_| Ok("followed".to_owned()))?;
    Ok(format!("{as_it_is} {} {followed}", taken(&dir)))
}

/// A directory of snapshots with this one in it.
fn put(file: &[u8]) -> PathBuf {
    let dir = path("snapshots");
    std::fs::create_dir_all(&dir).expect("fuzzing needs a directory");
    let whole = dir.join(format!("{:020}.snapshot", 1));
    std::fs::write(whole, file).expect("fuzzing needs room for the files that are read");
    dir
}
