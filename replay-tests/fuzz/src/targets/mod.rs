//! The targets, by what they take.

mod archives;
mod backtests;
mod contract;
mod imports;
mod kept;
mod proofs;
mod proven;
mod questions;
mod settings;
mod signed;
mod states;

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::LazyLock;

use solyx_schemas::codec::Codec;
use solyx_schemas::events::Event;
use solyx_schemas::json;

use crate::Target;

/// All of them.
pub fn all() -> Vec<Target> {
    let mut all = Vec::new();
    all.extend(contract::targets());
    all.extend(states::targets());
    all.extend(kept::targets());
    all.extend(archives::targets());
    all.extend(imports::targets());
    all.extend(settings::targets());
    all.extend(questions::targets());
    all.extend(backtests::targets());
    all.extend(proofs::targets());
    all.extend(proven::targets());
    all
}

/// A directory of this process, in memory where the system has one there.
static ROOM: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let memory = std::path::Path::new("/dev/shm");
    let builder = || {
        let mut builder = tempfile::Builder::new();
        builder.prefix("solyx-fuzz-");
        builder
    };
    let made = if memory.is_dir() { builder().tempdir_in(memory) } else { builder().tempdir() };
    made.expect("fuzzing needs a directory for the files that are read")
});

/// Takes the directory away, at the end of a process that is to leave nothing behind.
pub fn clear_away() {
    let _ = std::fs::remove_dir_all(ROOM.path());
}

/// A path of this thread's own below it.
fn path(name: &str) -> PathBuf {
    let thread = format!("{:?}", std::thread::current().id());
    let dir = ROOM.path().join(thread);
    std::fs::create_dir_all(&dir).expect("fuzzing needs a directory for the files that are read");
    dir.join(name)
}

/// A file of this thread's own with this content.
fn file(name: &str, content: &[u8]) -> PathBuf {
    let path = path(name);
    std::fs::write(&path, content).expect("fuzzing needs room for the files that are read");
    path
}

/// An error as words; an empty one says nothing and is a finding.
fn said(error: impl ToString) -> Result<String, String> {
    let said = error.to_string();
    if said.trim().is_empty() { Err("an error that says nothing".to_owned()) } else { Ok(said) }
}

/// An error in its own words: those of an input, which stand in quotes there, would each be something new.
fn own_words(error: impl ToString) -> Result<String, String> {
    let said = said(error)?;
    let before = said.split(['`', '"', ';']).next().unwrap_or_default();
    let after = said.rsplit_once("expected ").map_or("", |(_, after)| after);
    Ok(format!("{before} {after}"))
}

/// What every event must be, wherever it comes from: its bytes say the same event; its JSON does, if it is valid.
fn is_whole(event: &Event) -> Result<String, String> {
    let codec = Codec::global();
    let bytes = codec.encode(event);
    let again =
        codec.decode(&bytes).map_err(|error| format!("the bytes of {} do not decode: {error}", event.name()))?;
    same(&again.event, event, "an event and what its bytes say")?;
    if codec.encode(&again.event) != bytes {
        return Err(format!("{} is written in two ways", event.name()));
    }
    let json = json::to_json(event);
    match event.check() {
        Err(error) => said(format!("{}: {error}", event.name())),
        Ok(()) => {
            let read =
                json::from_json(&json).map_err(|errors| format!("the JSON of a valid event is refused: {errors:?}"))?;
            same(&read, event, "an event and what its JSON says")?;
            Ok(event.name().to_owned())
        }
    }
}

fn same<T: PartialEq + Debug>(one: &T, other: &T, what: &str) -> Result<(), String> {
    if one == other { Ok(()) } else { Err(format!("{what} differ: {one:?} and {other:?}")) }
}
