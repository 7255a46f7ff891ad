//! Archives: a manifest, a file of records as its bytes, and a file's rows before they are compressed. Hashes are made to fit, as
//! whoever writes an archive does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use sha2::{Digest, Sha256};
use solyx_connectors::log::archive::{ArchiveLog, FilePart, MANIFEST, MANIFEST_HASH, Manifest, export, verify};
use solyx_schemas::codec::Codec;
use solyx_schemas::events::EVENT_TYPES;
use solyx_schemas::hash::Hash32;
use solyx_schemas::log::memory::MemoryLog;
use solyx_schemas::log::{Log, ReadLimit};
use solyx_schemas::topics::{Topic, TopicName};
use solyx_schemas::wire;

use super::{path, said};
use crate::{Outcome, Target, holds};

pub fn targets() -> Vec<Target> {
    vec![
        Target {
            name: "manifest",
            takes: "the manifest of an archive",
            seeds: manifests,
            words: MANIFESTS,
            run: with_manifest,
        },
        Target { name: "archive", takes: "a file of records of an archive", seeds: files, words: AVRO, run: with_file },
        Target { name: "rows", takes: "the rows of an archive, uncompressed", seeds: rows, words: &[], run: with_rows },
    ]
}

const MANIFESTS: &[&str] = &[
    "jobs",
    "../",
    "/",
    "registry.lock",
    "manifest.json",
    "staged.energy",
    "00000-00000000000000000000.avro",
    "4294967296",
];
const AVRO: &[&str] =
    &["null", "array", "items", "record", "fields", "fixed", "size", "map", "values", "bytes", "long", "zstandard"];
/// The file that is changed.
const FILE: &str = "jobs/00000-";

/// The files of a small archive by their paths, its manifest among them.
static ARCHIVE: LazyLock<BTreeMap<String, Vec<u8>>> = LazyLock::new(|| {
    let log = MemoryLog::new();
    for kind in EVENT_TYPES.iter().filter(|kind| kind.topic == Topic::Jobs || kind.topic == Topic::Policy) {
        let record = Codec::global().record(&(kind.example)(), kind.topic.into(), 1);
        log.producer("tests")
            .and_then(|mut producer| producer.append(vec![record.clone(), record]))
            .expect("memory takes it");
    }
    let mut odd = Codec::global().record(&(EVENT_TYPES[0].example)(), Topic::Jobs.into(), 1);
    odd.value = b"no event".to_vec();
    log.producer("tests").and_then(|mut producer| producer.append(vec![odd])).expect("memory takes it");
    let dir = path("archive-of-examples");
    export(&log, &dir, &|_, _| {}).expect("a small archive is written");
    let mut files = BTreeMap::new();
    read_all(&dir, &dir, &mut files);
    files
});

fn read_all(dir: &Path, root: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(dir).expect("it was just written").flatten() {
        let path = entry.path();
        if path.is_dir() {
            read_all(&path, root, files);
        } else {
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            files.insert(name, std::fs::read(&path).expect("it was just written"));
        }
    }
}

fn manifest() -> Manifest {
    serde_json::from_slice(&ARCHIVE[MANIFEST]).expect("a good manifest")
}

fn file() -> (&'static String, &'static Vec<u8>) {
    ARCHIVE.iter().find(|(name, _)| name.starts_with(FILE)).expect("the archive has jobs")
}

fn sha256(bytes: &[u8]) -> Hash32 {
    Hash32(Sha256::digest(bytes).into())
}

/// An archive of this thread's own with this manifest, and with other bytes for one file.
fn archive(manifest: &[u8], changed: Option<(&str, &[u8])>) -> PathBuf {
    let dir = path("archive");
    let put = |name: &str, bytes: &[u8]| {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap_or(&dir)).expect("fuzzing needs a directory");
        std::fs::write(path, bytes).expect("fuzzing needs room for the files that are read");
    };
    // What does not change is there already, but for the first time.
    if !dir.is_dir() || changed.is_none() {
        ARCHIVE.iter().for_each(|(name, bytes)| put(name, bytes));
    }
    changed.iter().for_each(|(name, bytes)| put(name, bytes));
    put(MANIFEST, manifest);
    put(MANIFEST_HASH, format!("{}  {MANIFEST}\n", sha256(manifest)).as_bytes());
    dir
}

/// Verified and read; what is verified as good is read to its end, and written again it holds the same.
fn taken(dir: &Path) -> Outcome {
    let verified = match verify(dir, &|_, _| {}) {
        Ok(verified) => verified,
        Err(error) => return said(error),
    };
    holds!(verified.ok == verified.problems.is_empty(), "an archive is good and has problems, or neither");
    let read = everything(dir);
    match (&read, verified.ok) {
        (Err(error), true) => return Err(format!("what is verified cannot be read: {error}")),
        (Ok(records), true) => {
            let count: u64 = records.values().sum();
            holds!(count == verified.records, "{count} records are read, {} were verified", verified.records);
        }
        _ => {}
    }
    let problem =
        verified.problems.first().map(|problem| format!("{} {}", problem.file, problem.what)).unwrap_or_default();
    let read = read.map_or_else(|error| error, |_| "read".to_owned());
    Ok(format!("{problem} {read}"))
}

/// Records read at once.
const READ_MAX: usize = 1_024;

/// Records of each topic-partition.
type Everything = BTreeMap<(TopicName, u32), u64>;

fn everything(dir: &Path) -> Result<Everything, String> {
    let log = ArchiveLog::open(dir).map_err(|error| error.to_string())?;
    let mut all = Everything::new();
    for file in &log.manifest().files {
        let topic = TopicName::parse(&file.topic).ok_or("a topic that the manifest was not to have")?;
        let records = all.entry((topic, file.partition)).or_default();
        let mut from = file.from;
        while from < file.next {
            let limit = ReadLimit {
                records: usize::try_from(file.next - from).unwrap_or(READ_MAX).min(READ_MAX),
                bytes: 1 << 20,
            };
            let read = log.read(topic, file.partition, from, limit).map_err(|error| error.to_string())?;
            let Some(last) = read.last() else { break };
            from = last.ordinal + 1;
            *records += read.len() as u64;
        }
    }
    Ok(all)
}

fn manifests() -> Vec<Vec<u8>> {
    vec![ARCHIVE[MANIFEST].clone()]
}

fn with_manifest(input: &[u8]) -> Outcome {
    taken(&archive(input, None))
}

fn files() -> Vec<Vec<u8>> {
    vec![file().1.clone()]
}

fn with_file(input: &[u8]) -> Outcome {
    let (name, _) = file();
    let mut manifest = manifest();
    for record_file in manifest.files.iter_mut().filter(|record_file| record_file.file.path == *name) {
        (record_file.file.bytes, record_file.file.sha256) = (input.len() as u64, sha256(input));
        // As an archive of an earlier build: its blocks are found by their heads.
        record_file.parts.clear();
    }
    let manifest = serde_json::to_vec(&manifest).expect("a manifest is JSON");
    taken(&archive(&manifest, Some((name, input))))
}

/// Header, marker, number of rows and the rows of a file.
type Parts = (Vec<u8>, Vec<u8>, u64, Vec<u8>);

/// What stands before the first block, the marker, and the rows of the first block.
fn parts() -> Parts {
    let bytes = file().1;
    let marker = bytes[bytes.len() - 16..].to_vec();
    let first = bytes.windows(16).position(|window| window == marker).expect("the header ends with the marker") + 16;
    let mut block = &bytes[first..];
    let records = wire::read_long(&mut block).expect("a block begins with the number of its records") as u64;
    let len = wire::read_long(&mut block).expect("the length of a block") as usize;
    let rows = zstd::stream::decode_all(&block[..len]).expect("a good block");
    (bytes[..first].to_vec(), marker, records, rows)
}

/// The number of rows as one byte, then the rows.
fn rows() -> Vec<Vec<u8>> {
    let (_, _, records, rows) = parts();
    vec![[&[records as u8][..], &rows].concat()]
}

fn with_rows(input: &[u8]) -> Outcome {
    static PARTS: LazyLock<Parts> = LazyLock::new(parts);
    let (header, marker, ..) = &*PARTS;
    let Some((records, rows)) = input.split_first() else { return Ok("nothing".to_owned()) };
    let mut bytes = header.clone();
    let packed = zstd::bulk::compress(rows, 1).map_err(|error| error.to_string())?;
    wire::write_long(i64::from(*records), &mut bytes);
    wire::write_long(packed.len() as i64, &mut bytes);
    bytes.extend_from_slice(&packed);
    bytes.extend_from_slice(marker);
    let (name, _) = file();
    let mut manifest = manifest();
    for record_file in manifest.files.iter_mut().filter(|record_file| record_file.file.path == *name) {
        (record_file.file.bytes, record_file.file.sha256) = (bytes.len() as u64, sha256(&bytes));
        let part = |bytes: &[u8], records| FilePart { bytes: bytes.len() as u64, records, sha256: sha256(bytes) };
        record_file.parts = vec![part(header, 0), part(&bytes[header.len()..], u64::from(*records))];
        (record_file.records, record_file.next) = (u64::from(*records), record_file.from + u64::from(*records));
    }
    let manifest = serde_json::to_vec(&manifest).expect("a manifest is JSON");
    taken(&archive(&manifest, Some((name, &bytes))))
}
