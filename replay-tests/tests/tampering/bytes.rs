//! Bytes of files changed where they lie.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use solyx_connectors::log::archive::{ArchiveLog, MANIFEST, Manifest, RecordFile, export, verify};
use solyx_connectors::log::embedded::{EmbeddedLog, EmbeddedOptions};
use solyx_histories::history::Luck;
use solyx_runtime::{AuditOptions, audit};
use solyx_schemas::log::{Log, Scan};
use solyx_schemas::topics::TopicName;

use crate::world::World;

/// Bytes that are dropped or change places, at most.
const PIECE_MAX: i64 = 64;

/// An archive whose files are changed one at a time and put right again.
pub struct Archive {
    dir: PathBuf,
    manifest: Manifest,
    /// Every file by its path.
    files: BTreeMap<String, Vec<u8>>,
}

/// How changes were named.
#[derive(Default)]
pub struct Named {
    by_block: usize,
    by_epoch: usize,
    by_file: usize,
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { by_block, by_epoch, by_file } = self;
        let all = by_block + by_file;
        write!(
            f,
            "{all} of its bytes, {by_block} by file and block and {by_file} by a file that has none there, {by_epoch} of them also by the first epoch touched"
        )
    }
}

impl Archive {
    pub fn of(world: &World, dir: &Path) -> Self {
        let dir = dir.join("archive");
        export(&world.log, &dir, &|_, _| {}).unwrap();
        let manifest: Manifest = serde_json::from_slice(&std::fs::read(dir.join(MANIFEST)).unwrap()).unwrap();
        let names = manifest.hashed().map(|file| file.path.clone()).chain([MANIFEST.to_owned()]);
        let files = names.map(|name| (name.clone(), std::fs::read(dir.join(&name)).unwrap())).collect();
        Self { dir, manifest, files }
    }

    /// Changes one file at a random place: what is verified has to name it, and an audit the first epoch that it touches.
    pub fn change_and_look(&self, world: &World, luck: &mut Luck, named: &mut Named) -> Result<(), String> {
        // Large files are as likely as their bytes, and small ones are not left out.
        let all: Vec<(&String, &Vec<u8>)> = self.files.iter().collect();
        let total: usize = all.iter().map(|(_, bytes)| bytes.len()).sum();
        let mut place = luck.below(total as i64) as usize;
        let by_size = all.iter().find(|(_, bytes)| {
            place < bytes.len() || {
                place -= bytes.len();
                false
            }
        });
        let (name, good) = *if luck.chance(70) { by_size.unwrap_or(&all[0]) } else { luck.of(&all) };
        let (what, bad) = change(luck, good);
        let Some(at) = first_difference(good, &bad) else { return self.change_and_look(world, luck, named) };
        let what = format!("{what} of {name} at byte {at}");
        std::fs::write(self.dir.join(name), &bad).unwrap();
        let looked = self.look(world, name, at, &what, named);
        std::fs::write(self.dir.join(name), good).unwrap();
        looked
    }

    fn look(&self, world: &World, name: &str, at: usize, what: &str, named: &mut Named) -> Result<(), String> {
        let verified = verify(&self.dir, &|_, _| {}).map_err(|error| format!("{what}: {error}"))?;
        let [problem] = verified.problems.as_slice() else {
            return Err(format!("{what}: expected one file to be named, found {:?}", verified.problems));
        };
        if verified.ok || problem.file != name {
            return Err(format!("{what}: expected its file to be named, found {problem:?}"));
        }
        let Some(file) = self.manifest.files.iter().find(|file| file.file.path == name) else {
            named.by_file += 1;
            return Ok(());
        };
        let part = part_of(file, at);
        let expected = part.and_then(|part| part.checked_sub(1)).map(|block| block as u64);
        if problem.block != expected {
            return Err(format!("{what}: expected block {expected:?}, found {problem:?}"));
        }
        *(if expected.is_some() { &mut named.by_block } else { &mut named.by_file }) += 1;
        let Some(part) = part else { return Ok(()) };
        // Without its header nothing of the file is read.
        let before: u64 = file.parts[..part].iter().map(|part| part.records).sum();
        let end = if part == 0 { file.next } else { file.from + before + file.parts[part].records };
        let topic = TopicName::parse(&file.topic).unwrap();
        let Some(epoch) = world.first_epoch(topic, file.partition, file.from + before..end) else { return Ok(()) };
        let log = ArchiveLog::open(&self.dir).map_err(|error| format!("{what}: {error}"))?;
        solyx_sim::tamper::is_named(&*log, what, epoch, world.head).map_err(|error| format!("{error:#}"))?;
        named.by_epoch += 1;
        Ok(())
    }
}

/// The part that a byte lies in; nothing behind the last.
fn part_of(file: &RecordFile, at: usize) -> Option<usize> {
    let mut end = 0;
    file.parts.iter().position(|part| {
        end += part.bytes;
        (at as u64) < end
    })
}

fn first_difference(one: &[u8], other: &[u8]) -> Option<usize> {
    let both = one.len().min(other.len());
    let found = one.iter().zip(other).position(|(a, b)| a != b);
    found.or_else(|| (one.len() != other.len()).then_some(both))
}

/// Bytes that somebody has changed, and how.
fn change(luck: &mut Luck, good: &[u8]) -> (&'static str, Vec<u8>) {
    let mut bad = good.to_vec();
    let at = luck.below(good.len().max(1) as i64) as usize;
    let piece = (1 + luck.below(PIECE_MAX) as usize).min(good.len() - at);
    let what = match luck.below(5) {
        0 => {
            bad[at] ^= 1 << luck.below(8);
            "a bit turned"
        }
        1 => {
            bad.drain(at..at + piece);
            "bytes dropped"
        }
        2 => {
            let to = luck.below((good.len() - piece + 1) as i64) as usize;
            let moved: Vec<u8> = bad.drain(at..at + piece).collect();
            bad.splice(to..to, moved);
            "bytes moved"
        }
        3 => {
            bad.extend((0..piece).map(|_| luck.below(256) as u8));
            "bytes appended"
        }
        _ => {
            bad.truncate(at);
            "a tail cut"
        }
    };
    (what, bad)
}

/// What became of a store one of whose files was changed.
pub enum Store {
    /// It does not open, and says why.
    Refused,
    /// An audit names an epoch.
    Named,
    /// All that it held is read as it was.
    AllThere,
}

/// Changes a copy of a store in one of the files that hold something, and asks it and an audit.
pub fn change_a_store(world: &World, dir: &Path, luck: &mut Luck) -> Result<Store, String> {
    let copy = tempfile::tempdir().unwrap();
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        let name = entry.file_name().into_string().unwrap();
        // RocksDB's notes, locks and options hold nothing of the log.
        let holds =
            name.ends_with(".sst") || name.ends_with(".log") || name.starts_with("MANIFEST") || name == "CURRENT";
        if holds && entry.metadata().unwrap().len() > 0 {
            names.push(name);
        }
    }
    names.sort();
    let name = luck.of(&names).clone();
    let path = copy.path().join(&name);
    let good = std::fs::read(&path).unwrap();
    let (what, bad) = change(luck, &good);
    std::fs::write(&path, bad).unwrap();
    let what = format!("{what} of {name}");
    let log = match EmbeddedLog::open(copy.path(), EmbeddedOptions::default()) {
        Ok(log) => log,
        Err(error) if error.to_string().trim().is_empty() => return Err(format!("{what}: an error that says nothing")),
        Err(_) => return Ok(Store::Refused),
    };
    let options = AuditOptions { head: Some(world.head), ..AuditOptions::default() };
    match audit(&*log, &options, &mut |_| {}) {
        Err(_) => Ok(Store::Refused),
        Ok(report) if !report.ok => Ok(Store::Named),
        Ok(_) if reads_the_same(world, &*log) => Ok(Store::AllThere),
        Ok(_) => Err(format!("{what} is not found")),
    }
}

/// Whether every record that belongs to an epoch is there as it was.
fn reads_the_same(world: &World, log: &dyn Log) -> bool {
    let mut places: Vec<(TopicName, u32)> =
        world.epochs.keys().map(|(topic, partition, _)| ((*topic).into(), *partition)).collect();
    places.dedup();
    let all = |log: &dyn Log, topic, partition| -> Option<Vec<_>> {
        Scan::new(log, topic, partition, 0).map(|stored| stored.ok().map(|stored| stored.record)).collect()
    };
    places.into_iter().all(|(topic, partition)| all(&world.log, topic, partition) == all(log, topic, partition))
}
