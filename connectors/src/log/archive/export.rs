//! From a log to an archive: every topic, staged ones and cursors included, streamed partition by partition.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};
use solyx_schemas::codec::REGISTRY_LOCK;
use solyx_schemas::hash::Hash32;
use solyx_schemas::log::{Log, LogError, LogErrorKind, ReadLimit, StoredRecord};
use solyx_schemas::topics::TopicName;

use super::Progress;
use super::container::ContainerWriter;
use super::manifest::{
    HashedFile, MANIFEST, MANIFEST_HASH, Manifest, REGISTRY, RecordFile, hash_line, inside, unwritable,
};
use super::rows::{unframe, write_row};
use super::schemas::SchemaSet;
use crate::cores::on_all_cores;
use crate::log::heads::topic_names;

const READ: ReadLimit = ReadLimit { records: 8192, bytes: 4 << 20 };
/// A file ends when its values, before compression, have this many bytes, so that other tools can share the work.
const FILE_BYTES: u64 = 1 << 30;
/// How often the ends are read to find a moment at which they stood together.
const LOOKS: u32 = 1000;

/// What an export wrote.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Exported {
    /// Records.
    pub records: u64,
    /// Files of records.
    pub files: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Hash of the manifest, which stands for everything in the archive.
    pub manifest_sha256: Hash32,
}

/// Writes all that the log holds at one moment into a new archive in `dir`. It appears there when it is whole.
/// `progress` hears records written and records in all.
pub fn export(log: &dyn Log, dir: &Path, progress: Progress<'_>) -> Result<Exported, LogError> {
    let partial = partial_of(dir)?;
    let partitions = ends_together(log)?;
    let total = partitions.iter().map(|(_, _, end)| end).sum();
    let done = AtomicU64::new(0);
    let files = on_all_cores(&partitions, |(topic, partition, end)| {
        let advance = |records: u64| progress(done.fetch_add(records, Ordering::Relaxed) + records, total);
        let mut exporter = Exporter { log, dir: &partial, topic: *topic, partition: *partition, advance: &advance };
        exporter.run(*end)
    })?;
    let files: Vec<RecordFile> = files.into_iter().flatten().collect();

    write_synced(&partial.join(REGISTRY), REGISTRY_LOCK.as_bytes())?;
    let registry = HashedFile {
        path: REGISTRY.to_owned(),
        bytes: REGISTRY_LOCK.len() as u64,
        sha256: Hash32(Sha256::digest(REGISTRY_LOCK).into()),
    };
    let counts = topic_names().map(|topic| (topic.name(), log.partitions(topic))).filter(|(_, count)| *count > 0);
    let manifest = Manifest::new(counts.collect(), registry, files);
    let bytes = manifest.to_bytes();
    let manifest_sha256 = Hash32(Sha256::digest(&bytes).into());
    write_synced(&partial.join(MANIFEST), &bytes)?;
    write_synced(&partial.join(MANIFEST_HASH), hash_line(&manifest_sha256).as_bytes())?;
    synced(&partial)?;
    // An empty directory of that name gives way to the archive.
    std::fs::rename(&partial, dir).map_err(|e| unwritable(dir, &e))?;
    let above = dir.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    sync_directory(above)?;
    Ok(Exported {
        records: total,
        files: manifest.files.len() as u64,
        bytes: manifest.hashed().map(|file| file.bytes).sum::<u64>() + bytes.len() as u64,
        manifest_sha256,
    })
}

/// A fresh directory beside `dir`, which must be empty or not there.
fn partial_of(dir: &Path) -> Result<PathBuf, LogError> {
    let taken = std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) || dir.is_file();
    let name = dir.file_name().ok_or_else(|| {
        LogError::new(
            LogErrorKind::Stop,
            "the archive's directory has no name of its own",
            format!("found {}, expected a path that ends in a name", dir.display()),
            "name a directory that is not there yet",
        )
    })?;
    let name = Some(name).filter(|_| !taken).ok_or_else(|| {
        LogError::new(
            LogErrorKind::Stop,
            "the archive's directory is not empty",
            dir.display(),
            "name a directory that is not there yet, or remove what is in it",
        )
    })?;
    let partial = dir.with_file_name(format!(".{}.partial", name.to_string_lossy()));
    if partial.exists() {
        std::fs::remove_dir_all(&partial).map_err(|e| unwritable(&partial, &e))?;
    }
    std::fs::create_dir_all(&partial).map_err(|e| unwritable(&partial, &e))?;
    Ok(partial)
}

/// The ends of all topic-partitions that have records, as they stood together at one moment: when two looks in a row see the
/// same, nothing was appended between the first's end and the second's beginning.
pub(crate) fn ends_together(log: &dyn Log) -> Result<Vec<(TopicName, u32, u64)>, LogError> {
    let look = || {
        // What has been read may lag behind what is there.
        log.look_up()?;
        let mut ends = Vec::new();
        for topic in topic_names() {
            for partition in 0..log.partitions(topic) {
                ends.push((topic, partition, log.end(topic, partition)?));
            }
        }
        Ok(ends)
    };
    let mut before = look()?;
    for _ in 0..LOOKS {
        let now = look()?;
        if now == before {
            return Ok(now.into_iter().filter(|(_, _, end)| *end > 0).collect());
        }
        before = now;
    }
    Err(LogError::new(
        LogErrorKind::Retry,
        "the log does not stand still long enough to be archived",
        format!("its ends moved {LOOKS} times in a row"),
        "export again, or while its writer pauses",
    ))
}

/// Has the entries of a directory, and of those in it, on the disk: a file that is synced may still be in no directory.
fn synced(dir: &Path) -> Result<(), LogError> {
    let entries = std::fs::read_dir(dir).map_err(|e| unwritable(dir, &e))?;
    for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
        synced(&entry.path())?;
    }
    sync_directory(dir)
}

fn sync_directory(dir: &Path) -> Result<(), LogError> {
    std::fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(|e| unwritable(dir, &e))
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), LogError> {
    let write = || {
        let mut file = std::fs::File::create_new(path)?;
        std::io::Write::write_all(&mut file, bytes)?;
        file.sync_all()
    };
    write().map_err(|e| unwritable(path, &e))
}

/// Writes the files of one topic-partition.
struct Exporter<'a> {
    log: &'a dyn Log,
    dir: &'a Path,
    topic: TopicName,
    partition: u32,
    advance: &'a (dyn Fn(u64) + Sync),
}

/// A file being written.
struct Open {
    writer: ContainerWriter,
    path: String,
    from: u64,
    value_bytes: u64,
}

impl Exporter<'_> {
    fn run(&mut self, end: u64) -> Result<Vec<RecordFile>, LogError> {
        let mut set = SchemaSet::of_topic(self.topic.topic);
        let mut files = Vec::new();
        let mut open: Option<Open> = None;
        let mut next = 0;
        while next < end {
            let records = self.log.read(self.topic, self.partition, next, READ)?;
            let before = next;
            for stored in records.iter().take_while(|stored| stored.ordinal < end) {
                let (branch, wider) = branch_of(stored, &set);
                let full = open.as_ref().is_some_and(|open| open.value_bytes >= FILE_BYTES);
                if wider.is_some() || full {
                    files.extend(self.close(open.take(), next, &set)?);
                    set = wider.unwrap_or(set);
                }
                let file = match &mut open {
                    Some(file) => file,
                    None => open.insert(self.create(next, &set)?),
                };
                let written = file.writer.append(|out| write_row(stored, branch, &set, out));
                written.map_err(|e| unwritable(&self.dir.join(&file.path), &e))?;
                file.value_bytes += stored.record.value.len() as u64;
                next = stored.ordinal + 1;
            }
            if next == before {
                return Err(LogError::new(
                    LogErrorKind::Stop,
                    "the log is shorter than it said",
                    format!("{} {} ends at {next}, it said {end}", self.topic.name(), self.partition),
                    "open the log again and export again",
                ));
            }
            (self.advance)(next - before);
        }
        files.extend(self.close(open, next, &set)?);
        Ok(files)
    }

    fn create(&self, from: u64, set: &SchemaSet) -> Result<Open, LogError> {
        let topic = self.topic.name();
        let path = format!("{topic}/{:05}-{from:020}.avro", self.partition);
        let full = inside(self.dir, &path);
        let about = [
            ("solyx.topic", topic.clone()),
            ("solyx.partition", self.partition.to_string()),
            ("solyx.from", from.to_string()),
        ];
        let create = || {
            std::fs::create_dir_all(self.dir.join(&topic))?;
            ContainerWriter::create(&full, &set.row, &about)
        };
        let writer = create().map_err(|e| unwritable(&full, &e))?;
        Ok(Open { writer, path, from, value_bytes: 0 })
    }

    fn close(&self, open: Option<Open>, next: u64, set: &SchemaSet) -> Result<Option<RecordFile>, LogError> {
        let Some(Open { writer, path, from, .. }) = open else { return Ok(None) };
        let (bytes, sha256, parts) = writer.finish().map_err(|e| unwritable(&inside(self.dir, &path), &e))?;
        Ok(Some(RecordFile {
            file: HashedFile { path, bytes, sha256 },
            topic: self.topic.name(),
            partition: self.partition,
            from,
            next,
            records: next - from,
            framing_ids: set.ids.clone(),
            parts,
        }))
    }
}

/// The union's branch for a record, and the wider set that has it when this one has not.
fn branch_of(stored: &StoredRecord, set: &SchemaSet) -> (usize, Option<SchemaSet>) {
    let (id, body) = unframe(&stored.record.value);
    let Some(id) = id else { return (set.bytes_branch(), None) };
    if let Some(branch) = set.branch(id, body) {
        return (branch, None);
    }
    if set.lacks(id)
        && let Some(wider) = set.with(id)
        && let Some(branch) = wider.branch(id, body)
    {
        return (branch, Some(wider));
    }
    (set.bytes_branch(), None)
}

/// Partitions by topic name, for those that build a log like the archive's.
pub(super) fn counts_of(partitions: &BTreeMap<String, u32>) -> BTreeMap<solyx_schemas::topics::Topic, u32> {
    let live = partitions.iter().filter_map(|(name, count)| Some((TopicName::parse(name)?, *count)));
    live.filter(|(name, _)| !name.staged).map(|(name, count)| (name.topic, count)).collect()
}
