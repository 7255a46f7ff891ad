//! The archive: everything a log holds goes in and comes out, other tools read it, and what differs is named.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use solyx_connectors::log::archive::{ArchiveLog, FilePart, MANIFEST, MANIFEST_HASH, Manifest, export, import, verify};
use solyx_connectors::log::embedded::{EmbeddedLog, EmbeddedOptions};
use solyx_schemas::codec::{Codec, FRAME_LEN};
use solyx_schemas::events::EVENT_TYPES;
use solyx_schemas::hash::sha256;
use solyx_schemas::log::memory::MemoryLog;
use solyx_schemas::log::{Ack, Log, LogError, LogErrorKind, Producer, ReadLimit, Record, StoredRecord};
use solyx_schemas::topics::{Topic, TopicName};

const ALL: ReadLimit = ReadLimit { records: usize::MAX, bytes: usize::MAX };

fn quiet(_: u64, _: u64) {}

fn topics() -> impl Iterator<Item = TopicName> {
    Topic::ALL.into_iter().flat_map(|topic| [TopicName::live(topic), TopicName::staged(topic)])
}

fn raw(topic: Topic, partition: u32, value: &[u8]) -> Record {
    Record { topic: topic.into(), partition, key: b"odd".to_vec(), value: value.to_vec(), headers: Vec::new() }
}

/// Values that no codec wrote, each of which has to be kept as bytes.
fn odd_values() -> Vec<Vec<u8>> {
    let event_type = EVENT_TYPES.iter().find(|t| t.name.ends_with(".JobCancelRequested")).unwrap();
    let good = Codec::global().encode(&(event_type.example)());
    let mut longer = good.clone();
    longer.push(0);
    // The first field is a string: its length in two bytes instead of one.
    let mut padded = good.clone();
    padded[FRAME_LEN] |= 0x80;
    padded.insert(FRAME_LEN + 1, 0);
    let unknown = [&[0, 255, 255, 255, 255][..], b"body"].concat();
    vec![
        Vec::new(),
        b"no frame".to_vec(),
        vec![0, 0, 0],
        unknown,
        good[..good.len() - 1].to_vec(),
        good[..FRAME_LEN].to_vec(),
        longer,
        padded,
    ]
}

/// Fills a log with every record type live and staged, some in a topic that is not theirs, and with odd values.
fn fill(log: &dyn Log, rounds: usize) {
    let mut producer = log.producer("test").unwrap();
    for round in 0..rounds {
        let mut batch = Vec::new();
        for event_type in EVENT_TYPES {
            let event = (event_type.example)();
            for topic in [TopicName::live(event_type.topic), TopicName::staged(event_type.topic)] {
                let mut record = Codec::global().record(&event, topic, log.partitions(topic));
                record.partition = (round as u32) % log.partitions(topic);
                record.headers.push(("round".to_owned(), round.to_be_bytes().to_vec()));
                batch.push(record);
            }
        }
        let stranger = Codec::global().record(
            &(EVENT_TYPES[0].example)(),
            Topic::Usage.into(),
            log.partitions(Topic::Usage.into()),
        );
        batch.push(stranger);
        batch.extend(odd_values().iter().map(|value| raw(Topic::Jobs, 3, value)));
        producer.append(batch).unwrap();
    }
}

fn everything(log: &dyn Log) -> BTreeMap<(TopicName, u32), Vec<StoredRecord>> {
    let mut all = BTreeMap::new();
    for topic in topics() {
        for partition in 0..log.partitions(topic) {
            let records = log.read(topic, partition, 0, ALL).unwrap();
            assert_eq!(log.end(topic, partition).unwrap(), records.len() as u64);
            all.insert((topic, partition), records);
        }
    }
    all
}

fn records_only(log: &dyn Log) -> BTreeMap<(TopicName, u32), Vec<Record>> {
    let all = everything(log).into_iter();
    all.map(|(key, records)| (key, records.into_iter().map(|stored| stored.record).collect())).collect()
}

/// A filled log and its archive.
fn archived(rounds: usize) -> (tempfile::TempDir, MemoryLog, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let log = MemoryLog::with_partitions(&BTreeMap::from([(Topic::Runs, 3)]));
    fill(&log, rounds);
    let archive = dir.path().join("archive");
    export(&log, &archive, &quiet).unwrap();
    (dir, log, archive)
}

fn problems(dir: &Path) -> Vec<String> {
    let found = verify(dir, &quiet).unwrap();
    assert_eq!(found.ok, found.problems.is_empty());
    found.problems.into_iter().map(|problem| format!("{} {}", problem.file, problem.what)).collect()
}

#[test]
fn an_archive_reads_as_the_log_it_was_made_from() {
    let (dir, log, path) = archived(40);
    assert_eq!(problems(&path), Vec::<String>::new());
    let archive = ArchiveLog::open(&path).unwrap();
    assert_eq!(everything(&*archive), everything(&log));
    assert_eq!(archive.partition_counts()[&Topic::Runs], 3);

    // From any place, in any order, in any portions.
    let all = log.read(Topic::Jobs.into(), 3, 0, ALL).unwrap();
    for (from, records) in [(5, 3), (8, 1), (2, 4), (all.len() - 1, 9), (0, 1), (all.len(), 1)] {
        let read = archive.read(Topic::Jobs.into(), 3, from as u64, ReadLimit { records, bytes: usize::MAX }).unwrap();
        assert_eq!(read, all[from..all.len().min(from + records)]);
    }
    assert!(archive.wait(&[(Topic::Jobs.into(), 3, 0)], Instant::now()).unwrap());
    assert!(!archive.wait(&[(Topic::Jobs.into(), 3, all.len() as u64)], Instant::now()).unwrap());
    assert!(archive.producer("test").is_err());

    let again = export(&*archive, &dir.path().join("again"), &quiet).unwrap();
    let first = verify(&path, &quiet).unwrap();
    assert_eq!(Some(again.manifest_sha256), first.manifest_sha256, "the same log gives the same archive");
    assert_eq!(again.records, first.records);
    assert!(export(&log, &path, &quiet).unwrap_err().to_string().contains("not empty"));
}

#[test]
fn many_blocks_are_read_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let log = MemoryLog::new();
    let event = (EVENT_TYPES.iter().find(|t| t.topic == Topic::Jobs).unwrap().example)();
    let one = Codec::global().record(&event, Topic::Jobs.into(), 1);
    let batch = (0..30_000u64).map(|i| Record { key: i.to_be_bytes().to_vec(), ..one.clone() }).collect();
    log.producer("test").unwrap().append(batch).unwrap();
    let path = dir.path().join("archive");
    export(&log, &path, &quiet).unwrap();
    let archive = ArchiveLog::open(&path).unwrap();
    let mut from = 0;
    while let Some(last) =
        archive.read(Topic::Jobs.into(), 0, from, ReadLimit { records: 7777, bytes: 1 << 20 }).unwrap().last()
    {
        assert_eq!(last.record.key, last.ordinal.to_be_bytes());
        from = last.ordinal + 1;
    }
    assert_eq!(from, 30_000);
    assert_eq!(everything(&*archive), everything(&log));
}

#[test]
fn an_import_gives_the_same_records_and_goes_on_where_it_stopped() {
    let (dir, log, path) = archived(5);
    let partitions = Some(ArchiveLog::open(&path).unwrap().partition_counts());
    let options = EmbeddedOptions { partitions: partitions.clone(), ..Default::default() };
    let target = EmbeddedLog::open(&dir.path().join("target"), options).unwrap();
    let broken = Breaking { log: Arc::clone(&target) as Arc<dyn Log>, appends: 20 };
    assert_eq!(import(&path, &broken, &quiet).unwrap_err().what, "broken for this test");
    let second = import(&path, &*target, &quiet).unwrap();
    let total: u64 = everything(&log).values().map(|records| records.len() as u64).sum();
    assert!(second.present > 0 && second.records > 0);
    assert_eq!(second.present + second.records, total);
    assert_eq!(records_only(&*target), records_only(&log));
    let third = import(&path, &*target, &quiet).unwrap();
    assert_eq!((third.present, third.records), (total, 0));

    let other = MemoryLog::with_partitions(partitions.as_ref().unwrap());
    other.producer("test").unwrap().append(vec![raw(Topic::Jobs, 0, b"something else")]).unwrap();
    let refused = import(&path, &other, &quiet).unwrap_err();
    assert!(refused.to_string().contains("jobs 0 differs at ordinal 0"), "{refused}");
    let refused = import(&path, &MemoryLog::new(), &quiet).unwrap_err();
    assert!(refused.to_string().contains("found 4, expected 3"), "{refused}");
}

#[test]
fn every_flipped_byte_is_found_and_its_file_named() {
    let (_dir, _log, path) = archived(1);
    let manifest: Manifest = serde_json::from_slice(&std::fs::read(path.join(MANIFEST)).unwrap()).unwrap();
    let some = ["jobs/00000-", "staged.energy/00000-", "registry.lock"];
    let files = manifest.hashed().map(|file| file.path.clone());
    let files: Vec<String> = files.filter(|file| some.iter().any(|name| file.starts_with(name))).collect();
    assert_eq!(files.len(), some.len());
    for file in files.iter().map(String::as_str).chain([MANIFEST, MANIFEST_HASH]) {
        let good = std::fs::read(path.join(file)).unwrap();
        for place in (0..good.len()).step_by(good.len() / 12) {
            let mut bad = good.clone();
            bad[place] ^= 1;
            std::fs::write(path.join(file), bad).unwrap();
            let found = problems(&path);
            let named = if file == MANIFEST_HASH { MANIFEST } else { file };
            assert!(found.len() == 1 && found[0].starts_with(named), "{file} at {place}: {found:?}");
            if file != "registry.lock" {
                let log = MemoryLog::with_partitions(&BTreeMap::from([(Topic::Runs, 3)]));
                assert!(import(&path, &log, &quiet).unwrap_err().to_string().contains(named));
                assert_eq!(log.end(Topic::Jobs.into(), 3).unwrap(), 0, "nothing is imported from a damaged archive");
            }
        }
        std::fs::write(path.join(file), good).unwrap();
    }
    assert_eq!(problems(&path), Vec::<String>::new());
}

#[test]
fn parts_that_are_not_those_of_the_file_are_named_though_all_hashes_of_files_are_right() {
    let (_dir, _log, path) = archived(2);
    let good: Manifest = serde_json::from_slice(&std::fs::read(path.join(MANIFEST)).unwrap()).unwrap();
    let put = |change: &dyn Fn(&mut Vec<FilePart>)| {
        let mut manifest = good.clone();
        change(&mut manifest.files[3].parts);
        let bytes = serde_json::to_vec(&manifest).unwrap();
        std::fs::write(path.join(MANIFEST_HASH), format!("{}  {MANIFEST}\n", sha256(&bytes))).unwrap();
        std::fs::write(path.join(MANIFEST), bytes).unwrap();
        problems(&path)
    };
    let name = &good.files[3].file.path;
    assert_eq!(put(&|_| ()), Vec::<String>::new());
    let found = put(&|parts| parts[1].sha256 = parts[0].sha256);
    assert_eq!(
        found,
        [format!("{name} has another block 0 of ordinals [0, {}) than the manifest", good.files[3].next)]
    );
    let found = put(&|parts| {
        let (one, other) = (parts[0], parts[1]);
        parts[0].bytes = one.bytes + 1;
        parts[1].bytes = other.bytes - 1;
    });
    assert!(found.len() == 1 && found[0].starts_with(&format!("{name} has other blocks")), "{found:?}");
    let found = put(&|parts| parts[1].records += 1);
    assert!(found.len() == 1 && found[0].contains("parts that are not the whole file"), "{found:?}");
}

#[test]
fn truncated_missing_and_additional_files_are_named() {
    let (_dir, _log, path) = archived(2);
    let manifest: Manifest = serde_json::from_slice(&std::fs::read(path.join(MANIFEST)).unwrap()).unwrap();
    let file = path.join(&manifest.files[3].file.path);
    let good = std::fs::read(&file).unwrap();
    std::fs::write(&file, &good[..good.len() - 7]).unwrap();
    let found = problems(&path);
    assert!(found.len() == 1 && found[0].contains("is truncated"), "{found:?}");
    std::fs::remove_file(&file).unwrap();
    let found = problems(&path);
    assert_eq!(found, [format!("{} is missing", manifest.files[3].file.path)]);
    assert!(ArchiveLog::open(&path).err().unwrap().to_string().contains(&found[0]));
    std::fs::write(&file, good).unwrap();
    std::fs::write(path.join("jobs/notes.txt"), "hello").unwrap();
    assert_eq!(problems(&path), ["jobs/notes.txt is not in the manifest"]);
    std::fs::remove_file(path.join("jobs/notes.txt")).unwrap();
    std::fs::remove_file(path.join(MANIFEST)).unwrap();
    assert_eq!(problems(&path), ["manifest.json is missing"]);
}

#[test]
fn odd_values_are_bytes_and_all_others_are_events_to_a_strict_reader() {
    let (_dir, _log, path) = archived(3);
    let manifest: Manifest = serde_json::from_slice(&std::fs::read(path.join(MANIFEST)).unwrap()).unwrap();
    let mut as_bytes = 0;
    for file in &manifest.files {
        let reader = apache_avro::Reader::new(std::fs::File::open(path.join(&file.file.path)).unwrap()).unwrap();
        let mut records = 0;
        for row in reader {
            let apache_avro::types::Value::Record(fields) = row.unwrap() else { panic!("a row is a record") };
            let apache_avro::types::Value::Union(branch, body) = &fields[5].1 else { panic!("a body is a union") };
            let is_bytes = matches!(**body, apache_avro::types::Value::Bytes(_));
            assert_eq!(is_bytes, *branch as usize == file.framing_ids.len());
            as_bytes += usize::from(is_bytes);
            records += 1;
        }
        assert_eq!(records, file.records);
    }
    assert_eq!(as_bytes, odd_values().len() * 3);
    // The stranger in the usage topic is an event too: its file's union is wider.
    let (stranger, _) = Codec::global().schema_of(&(EVENT_TYPES[0].example)());
    assert!(manifest.files.iter().any(|file| file.topic == "usage" && file.framing_ids.contains(&stranger)));
}

/// A Python that knows fastavro: `SOLYX_PYTHON` as ops/test sets it, otherwise the one on the path with packages installed for
/// this test. Nothing when `SOLYX_PYTHON` is `none`: no network.
fn python_with_fastavro() -> Option<Command> {
    match std::env::var("SOLYX_PYTHON") {
        Ok(none) if none == "none" => return None,
        Ok(python) => return Some(Command::new(python)),
        Err(_) => {}
    }
    let packages = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fastavro-1.12");
    let complete = packages.join("complete");
    if !complete.is_file() {
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade", "--target"];
        let wanted = ["fastavro>=1.12,<2", "backports.zstd; python_version < '3.14'"];
        let status = Command::new("python3").args(install).arg(&packages).args(wanted).status();
        assert!(status.unwrap().success(), "no fastavro in {}; SOLYX_PYTHON=none goes without", packages.display());
        std::fs::write(complete, "").unwrap();
    }
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", packages);
    Some(python)
}

#[test]
fn fastavro_reads_the_same_records() {
    let Some(mut python) = python_with_fastavro() else {
        eprintln!("not run: SOLYX_PYTHON is none");
        return;
    };
    let (_dir, log, path) = archived(7);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fastavro_read.py");
    let output = python.arg(script).arg(&path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<serde_json::Value> =
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();

    let manifest: Manifest = serde_json::from_slice(&std::fs::read(path.join(MANIFEST)).unwrap()).unwrap();
    assert_eq!(lines.len(), manifest.files.len());
    for (file, line) in manifest
        .files
        .iter()
        .map(|file| (file.file.path.as_str(), file))
        .collect::<BTreeMap<_, _>>()
        .into_values()
        .zip(&lines)
    {
        let topic = TopicName::parse(&file.topic).unwrap();
        let limit = ReadLimit { records: file.records as usize, bytes: usize::MAX };
        let mut types: BTreeMap<String, u64> = BTreeMap::new();
        let mut ids = Vec::new();
        let mut raw = 0;
        for stored in log.read(topic, file.partition, file.from, limit).unwrap() {
            match Codec::global().decode(&stored.record.value) {
                Ok(decoded) if Codec::global().encode(&decoded.event) == stored.record.value => {
                    *types.entry(decoded.event.name().to_owned()).or_default() += 1;
                    ids.push(decoded.event.identity().id.into_owned());
                }
                _ => raw += 1,
            }
        }
        let expected = serde_json::json!({
            "path": file.file.path, "records": file.records, "first": file.from, "last": file.next - 1,
            "types": types, "raw": raw, "ids": ids,
        });
        assert_eq!(line, &expected);
    }
}

/// A log whose producer breaks after so many appends.
struct Breaking {
    log: Arc<dyn Log>,
    appends: u32,
}

struct BreakingProducer {
    producer: Box<dyn Producer>,
    left: u32,
}

impl Log for Breaking {
    fn partitions(&self, topic: TopicName) -> u32 {
        self.log.partitions(topic)
    }

    fn end(&self, topic: TopicName, partition: u32) -> Result<u64, LogError> {
        self.log.end(topic, partition)
    }

    fn read(
        &self,
        topic: TopicName,
        partition: u32,
        from: u64,
        limit: ReadLimit,
    ) -> Result<Vec<StoredRecord>, LogError> {
        self.log.read(topic, partition, from, limit)
    }

    fn wait(&self, positions: &[(TopicName, u32, u64)], deadline: Instant) -> Result<bool, LogError> {
        self.log.wait(positions, deadline)
    }

    fn producer(&self, name: &str) -> Result<Box<dyn Producer>, LogError> {
        Ok(Box::new(BreakingProducer { producer: self.log.producer(name)?, left: self.appends }))
    }
}

impl Producer for BreakingProducer {
    fn term_after(&self, highest: i64) -> i64 {
        self.producer.term_after(highest)
    }

    fn append_if(&mut self, batch: &[Record], accept: &mut dyn FnMut(&Ack) -> bool) -> Result<Ack, LogError> {
        let broken = LogError::new(LogErrorKind::Restart, "broken for this test", "", "");
        self.left = self.left.checked_sub(1).ok_or(broken)?;
        self.producer.append_if(batch, accept)
    }

    fn sync(&mut self) -> Result<(), LogError> {
        self.producer.sync()
    }
}
