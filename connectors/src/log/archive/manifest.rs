//! `manifest.json`: what an archive consists of. `manifest.json.sha256` beside it hashes the manifest itself, in the form
//! that `sha256sum -c` reads.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};
use solyx_schemas::hash::Hash32;
use solyx_schemas::log::{LogError, LogErrorKind};
use solyx_schemas::topics::TopicName;

use crate::log::another_format;

/// Name of the manifest.
pub const MANIFEST: &str = "manifest.json";
/// Name of the file with the manifest's hash.
pub const MANIFEST_HASH: &str = "manifest.json.sha256";
/// Name of the lock file with the schema ids.
pub const REGISTRY: &str = "registry.lock";
const FORMAT: &str = "solyx-archive";
const VERSION: u32 = 1;
/// No part is larger: the largest block, with its head and its marker.
const PART_BYTES_MAX: u64 = (64 << 20) + 64;
/// The most partitions of a topic, as the contract has it.
const PARTITIONS_MAX: u32 = 4_096;

/// A file and its hash.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HashedFile {
    /// Path inside the archive, with `/`.
    pub path: String,
    /// Length.
    pub bytes: u64,
    /// SHA-256.
    pub sha256: Hash32,
}

/// A file of records.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RecordFile {
    /// The file.
    #[serde(flatten)]
    pub file: HashedFile,
    /// Topic without prefix.
    pub topic: String,
    /// Partition.
    pub partition: u32,
    /// Ordinal of its first record.
    pub from: u64,
    /// Ordinal after its last record.
    pub next: u64,
    /// Number of records.
    pub records: u64,
    /// Framing ids of the writer schemas in its union.
    pub framing_ids: Vec<u32>,
    /// Its parts, one after the other: what stands before the first block, then each block. None in archives of earlier builds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<FilePart>,
}

/// A part of a file of records and its hash: what was changed is found in it, and not only in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FilePart {
    /// Length.
    pub bytes: u64,
    /// Number of records.
    pub records: u64,
    /// SHA-256.
    pub sha256: Hash32,
}

impl RecordFile {
    /// The topic, which [`Manifest::parse`] has checked.
    pub(super) fn topic(&self) -> Result<TopicName, String> {
        TopicName::parse(&self.topic).ok_or_else(|| format!("topic {:?} is unknown", self.topic))
    }

    /// The ordinals of a part's records: from the first to before the last.
    pub(super) fn ordinals(&self, part: usize) -> (u64, u64) {
        let before: u64 = self.parts[..part].iter().map(|part| part.records).sum();
        (self.from + before, self.from + before + self.parts[part].records)
    }

    /// Whether its parts, if it has any, make up the file.
    fn adds_up(&self) -> bool {
        let sum = |of: fn(&FilePart) -> u64| self.parts.iter().map(of).try_fold(0_u64, u64::checked_add);
        self.parts.is_empty()
            || self.parts[0].records == 0
                && self.parts.iter().all(|part| part.bytes <= PART_BYTES_MAX)
                && sum(|part| part.bytes) == Some(self.file.bytes)
                && sum(|part| part.records) == Some(self.records)
    }
}

/// How a part is called: the first is the header, then blocks are counted from 0.
pub(super) fn part_name(file: &RecordFile, part: usize) -> String {
    let (from, next) = file.ordinals(part);
    match part.checked_sub(1) {
        None => "its header".to_owned(),
        Some(block) => format!("block {block} of ordinals [{from}, {next})"),
    }
}

/// What an archive consists of.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Manifest {
    /// `solyx-archive`.
    pub format: String,
    /// Version of the format.
    pub version: u32,
    /// Partitions of every topic.
    pub partitions: BTreeMap<String, u32>,
    /// The lock file.
    pub registry: HashedFile,
    /// The files of records, by topic, partition and range.
    pub files: Vec<RecordFile>,
}

impl Manifest {
    pub(super) fn new(partitions: BTreeMap<String, u32>, registry: HashedFile, files: Vec<RecordFile>) -> Self {
        Self { format: FORMAT.to_owned(), version: VERSION, partitions, registry, files }
    }

    /// Every file that it hashes.
    pub fn hashed(&self) -> impl Iterator<Item = &HashedFile> {
        std::iter::once(&self.registry).chain(self.files.iter().map(|file| &file.file))
    }

    /// The manifest of these bytes, checked in itself: known topics, ranges from 0 without gap, paths inside the archive.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let manifest: Self = serde_json::from_slice(bytes).map_err(|e| format!("is not a manifest: {e}"))?;
        if manifest.format != FORMAT || manifest.version != VERSION {
            let (format, version) = (&manifest.format, manifest.version);
            return Err(format!(
                "is of format {format} version {version}, this build reads {FORMAT} version {VERSION}"
            ));
        }
        if let Some((topic, count)) = manifest.partitions.iter().find(|(_, count)| **count > PARTITIONS_MAX) {
            return Err(format!("says that {topic} has {count} partitions, expected at most {PARTITIONS_MAX}"));
        }
        let mut ends: BTreeMap<(TopicName, u32), u64> = BTreeMap::new();
        for record_file in &manifest.files {
            let RecordFile { file, topic, partition, from, next, records, .. } = record_file;
            let name = record_file.topic()?;
            if manifest.partitions.get(topic).is_none_or(|count| partition >= count) {
                return Err(format!("names {}, of a partition {partition} that {topic} has not", file.path));
            }
            let end = ends.entry((name, *partition)).or_default();
            if from != end || next.checked_sub(*from) != Some(*records) {
                return Err(format!("names {} with {records} records [{from}, {next}) after {end}", file.path));
            }
            *end = *next;
            if !record_file.adds_up() {
                return Err(format!("names {} with parts that are not the whole file", file.path));
            }
        }
        for file in manifest.hashed() {
            if !Path::new(&file.path).components().all(|part| matches!(part, Component::Normal(_))) {
                return Err(format!("names {:?}, which is not inside the archive", file.path));
            }
        }
        Ok(manifest)
    }

    /// The manifest as a file.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("a manifest of strings and numbers is JSON");
        bytes.push(b'\n');
        bytes
    }

    /// The manifest of the archive in `dir` and its hash, or what is wrong, by file.
    pub(super) fn load(dir: &Path) -> Result<(Self, Hash32), (&'static str, String)> {
        let bytes = std::fs::read(dir.join(MANIFEST)).map_err(|e| (MANIFEST, missing(&e)))?;
        let hash = Hash32(Sha256::digest(&bytes).into());
        let said = std::fs::read(dir.join(MANIFEST_HASH)).map_err(|e| (MANIFEST_HASH, missing(&e)))?;
        let manifest = Self::parse(&bytes).map_err(|what| (MANIFEST, what))?;
        if said != hash_line(&hash).as_bytes() {
            let said = String::from_utf8_lossy(&said);
            let said = said.trim_end();
            return Err((MANIFEST, format!("has sha-256 {hash}, {MANIFEST_HASH} says {said:?}")));
        }
        Ok((manifest, hash))
    }

    /// The same, for those who can only go on with a good one. One that is whole and of another version is not called damaged.
    pub(super) fn open(dir: &Path) -> Result<Self, LogError> {
        if let Some(version) = version_of_whole(dir).filter(|version| *version != u64::from(VERSION)) {
            return Err(another_format("archive", dir, &format!("{FORMAT} version {version}"), VERSION));
        }
        let loaded = Self::load(dir);
        loaded.map(|(manifest, _)| manifest).map_err(|(file, what)| damaged(dir, file, what))
    }
}

/// The version that a manifest says whose hash is the one beside it, whatever else is in it.
fn version_of_whole(dir: &Path) -> Option<u64> {
    let bytes = std::fs::read(dir.join(MANIFEST)).ok()?;
    let said = std::fs::read(dir.join(MANIFEST_HASH)).ok()?;
    let manifest: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
    let whole = said == hash_line(&Hash32(Sha256::digest(&bytes).into())).as_bytes();
    manifest["version"].as_u64().filter(|_| whole && manifest["format"] == FORMAT)
}

/// What `manifest.json.sha256` says.
pub(super) fn hash_line(hash: &Hash32) -> String {
    format!("{hash}  {MANIFEST}\n")
}

/// What is said of a file that cannot be opened.
pub(super) fn missing(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::NotFound { "is missing".to_owned() } else { format!("cannot be read: {error}") }
}

/// The error of an archive's file that is not as it must be.
pub(super) fn damaged(dir: &Path, file: &str, what: impl std::fmt::Display) -> LogError {
    LogError::new(
        LogErrorKind::Damaged,
        "the archive is damaged",
        format!("{}: {file} {what}", dir.display()),
        "verify it for all that differs, and fetch another copy",
    )
}

/// The error of a file that cannot be written.
pub(super) fn unwritable(path: &Path, error: &io::Error) -> LogError {
    let full =
        matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge);
    let what = if full { "disk full in writing an archive" } else { "the archive cannot be written" };
    LogError::new(
        LogErrorKind::Stop,
        what,
        format!("{}: {error}", path.display()),
        "look at the path, its rights and the disk",
    )
}

/// Length and hash of a file.
pub(super) fn hash_file(path: &Path) -> io::Result<(u64, Hash32)> {
    let mut file = File::open(path)?;
    let (mut hasher, mut bytes) = (Sha256::new(), 0);
    let mut buffer = vec![0; 256 << 10];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((bytes, Hash32(hasher.finalize().into())));
        }
        hasher.update(&buffer[..read]);
        bytes += read as u64;
    }
}

/// The path of a file inside an archive.
pub(super) fn inside(dir: &Path, path: &str) -> PathBuf {
    dir.join(path)
}
