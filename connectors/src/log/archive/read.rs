//! An archive as a log that is only read: audits and views fold it without importing it first.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use solyx_schemas::hash::Hash32;
use solyx_schemas::log::{Log, LogError, LogErrorKind, Producer, ReadLimit, StoredRecord};
use solyx_schemas::topics::{Topic, TopicName};

use super::avro::Input;
use super::container::{BlockPlace, ContainerReader};
use sha2::{Digest, Sha256};

use super::manifest::{FilePart, Manifest, RecordFile, damaged, inside, missing, part_name};
use super::rows::RowReader;
use super::verify::check_bytes;
use crate::log::heads::{Slots, locked};

/// A log in an archive's files. Each part of a file is held against the manifest's hash before a record of it is read, so that what
/// stands before a place that was changed can be read; files of archives without parts are held against theirs as wholes.
pub struct ArchiveLog {
    dir: PathBuf,
    manifest: Manifest,
    slots: Slots,
    partitions: Vec<Partition>,
}

#[derive(Default)]
struct Partition {
    files: Vec<RecordFile>,
    /// Files whose bytes are those of the manifest, by their place in `files`.
    good: Mutex<BTreeSet<usize>>,
    /// Where the last read left off: the next one mostly goes on from there.
    place: Mutex<Option<Place>>,
}

/// An open file and the block that was read last.
struct Place {
    file: usize,
    reader: ContainerReader,
    rows: RowReader,
    /// Blocks with the ordinal of their first record.
    blocks: Vec<(u64, Block)>,
    /// The block whose records are in `bytes`.
    block: usize,
    bytes: Vec<u8>,
    /// Ordinal and place in `bytes` of the next record.
    next: u64,
    at: usize,
}

/// A block that is read when it is needed.
#[derive(Clone, Copy)]
enum Block {
    /// Where it lies by its own head, in an archive without parts.
    Place(BlockPlace),
    /// Where it lies by the manifest, and what it must be.
    Part(u64, FilePart),
}

impl ArchiveLog {
    /// Opens the archive in `dir`: its manifest must be good and its files there, and none longer than it says.
    pub fn open(dir: &Path) -> Result<Arc<Self>, LogError> {
        let manifest = Manifest::open(dir)?;
        for file in manifest.hashed() {
            let found =
                std::fs::metadata(inside(dir, &file.path)).map_err(|e| damaged(dir, &file.path, missing(&e)))?;
            let in_parts =
                manifest.files.iter().any(|record_file| record_file.file == *file && !record_file.parts.is_empty());
            // A file that was cut is read as far as it goes.
            if found.len() > file.bytes || (found.len() < file.bytes && !in_parts) {
                let what = format!("has {} bytes, the manifest says {}", found.len(), file.bytes);
                return Err(damaged(dir, &file.path, what));
            }
        }
        let slots = Slots::new(|topic| manifest.partitions.get(&topic.name()).copied().unwrap_or(0));
        let mut partitions: Vec<Partition> = slots.iter().map(|_| Partition::default()).collect();
        for file in &manifest.files {
            let topic = file.topic().map_err(|what| damaged(dir, &file.file.path, what))?;
            partitions[slots.index(topic, file.partition)?].files.push(file.clone());
        }
        Ok(Arc::new(Self { dir: dir.to_owned(), manifest, slots, partitions }))
    }

    /// Its manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Partitions of each topic, as a log must have them to take this archive in.
    pub fn partition_counts(&self) -> BTreeMap<Topic, u32> {
        super::export::counts_of(&self.manifest.partitions)
    }

    fn open_file(&self, partition: &Partition, file: usize) -> Result<Place, LogError> {
        let record_file = &partition.files[file];
        let RecordFile { file: hashed, from, next, parts, .. } = record_file;
        let wrong = |what: &dyn std::fmt::Display| damaged(&self.dir, &hashed.path, what);
        if parts.is_empty() && !locked(&partition.good).contains(&file) {
            if let Some(problem) = check_bytes(&self.dir, hashed) {
                return Err(wrong(&problem.what));
            }
            locked(&partition.good).insert(file);
        }
        if let Some(header) = parts.first() {
            let mut begin = std::fs::File::open(inside(&self.dir, &hashed.path)).map_err(|e| wrong(&missing(&e)))?;
            let mut bytes = Vec::new();
            Read::take(&mut begin, header.bytes).read_to_end(&mut bytes).map_err(|e| wrong(&e))?;
            check_part(record_file, 0, &bytes).map_err(|e| wrong(&e))?;
        }
        let mut reader = ContainerReader::open(&inside(&self.dir, &hashed.path)).map_err(|e| wrong(&e))?;
        let rows = RowReader::new(&reader.schema().map_err(|e| wrong(&e))?).map_err(|e| wrong(&e))?;
        let mut first = *from;
        let mut blocks = Vec::new();
        if parts.is_empty() {
            for place in reader.places().map_err(|e| wrong(&e))? {
                blocks.push((first, Block::Place(place)));
                first = first.checked_add(place.records).ok_or_else(|| wrong(&"says more records than can be"))?;
            }
        }
        let mut at = 0;
        for part in parts {
            if at > 0 {
                blocks.push((first, Block::Part(at, *part)));
                first += part.records;
            }
            at += part.bytes;
        }
        if first != *next {
            return Err(wrong(&format!("has records up to {first}, the manifest says {next}")));
        }
        Ok(Place { file, reader, rows, blocks, block: usize::MAX, bytes: Vec::new(), next: 0, at: 0 })
    }
}

/// Whether the bytes of a part are those that the manifest hashes.
pub(super) fn check_part(file: &RecordFile, number: usize, bytes: &[u8]) -> Result<(), String> {
    let part = &file.parts[number];
    let found = Hash32(Sha256::digest(bytes).into());
    if (bytes.len() as u64) < part.bytes {
        let name = part_name(file, number);
        return Err(format!("is cut off in {name}: {} bytes of it, the manifest says {}", bytes.len(), part.bytes));
    }
    if found != part.sha256 {
        return Err(format!(
            "has another {} than the manifest: sha-256 {found} instead of {}",
            part_name(file, number),
            part.sha256
        ));
    }
    Ok(())
}

impl Place {
    /// Puts the block with this record into memory, unless it is there and the record still to come.
    fn seek(&mut self, ordinal: u64, file: &RecordFile) -> std::io::Result<()> {
        let block = self.blocks.partition_point(|(first, _)| *first <= ordinal).saturating_sub(1);
        if self.block != block {
            self.block = usize::MAX;
            match self.blocks[block].1 {
                Block::Place(place) => self.reader.block(place, &mut self.bytes)?,
                Block::Part(at, part) => {
                    let bytes = self.reader.part(at, part.bytes)?;
                    check_part(file, block + 1, &bytes).map_err(std::io::Error::other)?;
                    let records = self.reader.unpack(&bytes, &mut self.bytes)?;
                    if records != part.records {
                        let what = format!("block {block} has {records} records, the manifest says {}", part.records);
                        return Err(std::io::Error::other(what));
                    }
                }
            }
            self.block = block;
        } else if self.next <= ordinal {
            return Ok(());
        }
        (self.next, self.at) = (self.blocks[block].0, 0);
        Ok(())
    }

    /// The next record of the block in memory; nothing when its bytes are not a row.
    fn next(&mut self, topic: TopicName, partition: u32) -> Option<StoredRecord> {
        let mut input = Input::new(&self.bytes, self.at);
        let row = self.rows.read(&mut input, topic, partition)?;
        if row.stored.ordinal != self.next {
            return None;
        }
        (self.next, self.at) = (self.next + 1, input.at());
        Some(row.stored)
    }
}

impl Log for ArchiveLog {
    fn partitions(&self, topic: TopicName) -> u32 {
        self.slots.count(topic)
    }

    fn end(&self, topic: TopicName, partition: u32) -> Result<u64, LogError> {
        let slot = self.slots.index(topic, partition)?;
        Ok(self.partitions[slot].files.last().map_or(0, |file| file.next))
    }

    fn read(
        &self,
        topic: TopicName,
        partition: u32,
        from: u64,
        limit: ReadLimit,
    ) -> Result<Vec<StoredRecord>, LogError> {
        let files = &self.partitions[self.slots.index(topic, partition)?];
        let mut open = locked(&files.place);
        let mut read: Vec<StoredRecord> = Vec::new();
        let (mut next, mut bytes) = (from, 0);
        while let Some(file) = files.files.iter().position(|file| (file.from..file.next).contains(&next)) {
            if open.as_ref().is_none_or(|place| place.file != file) {
                *open = Some(self.open_file(files, file)?);
            }
            let Some(place) = open.as_mut() else { break };
            let path = &files.files[file].file.path;
            if let Err(error) = place.seek(next, &files.files[file]) {
                // What stands before it was good.
                return if read.is_empty() { Err(damaged(&self.dir, path, error)) } else { Ok(read) };
            }
            let until = place.blocks.get(place.block + 1).map_or(files.files[file].next, |(first, _)| *first);
            while place.next < until {
                let (at, ordinal) = (place.at, place.next);
                let Some(stored) = place.next(topic, partition) else {
                    *open = None;
                    return Err(damaged(&self.dir, path, format!("has no whole row at ordinal {ordinal}")));
                };
                if ordinal < next {
                    continue;
                }
                bytes += stored.record.size();
                if !read.is_empty() && (read.len() >= limit.records || bytes > limit.bytes) {
                    (place.at, place.next) = (at, ordinal);
                    return Ok(read);
                }
                read.push(stored);
                next += 1;
            }
        }
        Ok(read)
    }

    /// Nothing is ever appended to an archive: what is not there now does not come, and this does not wait for it.
    fn wait(&self, positions: &[(TopicName, u32, u64)], _: Instant) -> Result<bool, LogError> {
        for (topic, partition, from) in positions {
            if self.end(*topic, *partition)? > *from {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn producer(&self, name: &str) -> Result<Box<dyn Producer>, LogError> {
        Err(LogError::new(
            LogErrorKind::Stop,
            "an archive cannot be written",
            format!("{}: producer {name} asked to", self.dir.display()),
            "import it into a log",
        ))
    }
}
