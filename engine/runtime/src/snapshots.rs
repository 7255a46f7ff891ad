//! Snapshots on disk: the kernel's canonical entries and the frontier they belong to. A cache: one that is damaged, or is not of
//! this log's history, is left aside with a warning, and the log is read from further back.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use solyx_kernel::{Kernel, Snapshot};
use solyx_schemas::codec::Codec;
use solyx_schemas::epochs::Frontier;
use solyx_schemas::events::Event;
use solyx_schemas::events::decisions::EpochCommitted;
use solyx_schemas::ids::CellId;
use solyx_schemas::log::{Log, LogError, ReadLimit};
use solyx_schemas::topics::{Topic, TopicName};

use crate::error::RuntimeError;

const MAGIC: &[u8; 8] = b"SOLYXSN1";
/// Snapshots kept.
const KEPT: usize = 2;
/// Time between snapshots is at least so many times what the last one took.
const COST_SHARE: u32 = 100;
/// Records of epochs between two snapshots, however few epochs they make: a restart derives them again, in a second or two.
const RECORDS: u64 = 50_000;

/// The snapshots of one engine.
pub struct Snapshots {
    dir: Option<PathBuf>,
    every_epochs: i64,
    last_epoch: i64,
    records: u64,
    last_end: Instant,
    last_cost: Duration,
}

impl Snapshots {
    /// Snapshots in a directory, or none at all.
    pub fn new(dir: Option<PathBuf>, every_epochs: i64) -> Self {
        Self { dir, every_epochs, last_epoch: 0, records: 0, last_end: Instant::now(), last_cost: Duration::ZERO }
    }

    /// The newest good snapshot's kernel and frontier, or those of the beginning.
    pub fn load(&mut self, log: &dyn Log, cell: &CellId) -> Result<(Kernel, Frontier), RuntimeError> {
        let mut files = self.dir.as_deref().map(files).transpose()?.unwrap_or_default();
        while let Some(file) = files.pop() {
            match read(&file, log, cell) {
                Ok((kernel, frontier)) => {
                    self.last_epoch = frontier.next_epoch;
                    return Ok((kernel, frontier));
                }
                Err(reason) => {
                    tracing::warn!(file = %file.display(), reason, "a snapshot is left aside");
                }
            }
        }
        Ok((Kernel::new(cell.clone()), Frontier::default()))
    }

    /// Counts the records of an epoch that the last snapshot does not hold.
    pub fn count(&mut self, records: usize) {
        self.records += records as u64;
    }

    /// Whether the next one is due.
    pub fn is_due(&self, next_epoch: i64) -> bool {
        let grown = next_epoch - self.last_epoch >= self.every_epochs || self.records >= RECORDS;
        self.dir.is_some() && grown && self.last_end.elapsed() >= self.last_cost * COST_SHARE
    }

    /// Whether there is something newer than the last one.
    pub fn is_behind(&self, next_epoch: i64) -> bool {
        self.dir.is_some() && next_epoch > self.last_epoch
    }

    /// Writes one beside the others, then takes away the oldest. The log must be durable up to there.
    pub fn write(&mut self, kernel: &Kernel, frontier: &Frontier) -> Result<(), RuntimeError> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let begun = Instant::now();
        let body = postcard::to_stdvec(&(frontier, kernel.snapshot()))
            .map_err(|error| RuntimeError::File { what: dir.display().to_string(), detail: error.to_string() })?;
        fs::create_dir_all(dir).map_err(|error| RuntimeError::file(dir, &error))?;
        let file = dir.join(format!("{:020}.snapshot", frontier.next_epoch));
        let unfinished = file.with_extension("unfinished");
        write_whole(&unfinished, &file, &body).map_err(|error| RuntimeError::file(&file, &error))?;
        for old in files(dir)?.iter().rev().skip(KEPT) {
            fs::remove_file(old).map_err(|error| RuntimeError::file(old, &error))?;
        }
        self.last_epoch = frontier.next_epoch;
        self.records = 0;
        self.last_end = Instant::now();
        self.last_cost = begun.elapsed();
        Ok(())
    }
}

fn write_whole(unfinished: &Path, file: &Path, body: &[u8]) -> std::io::Result<()> {
    let mut out = File::create(unfinished)?;
    out.write_all(MAGIC)?;
    out.write_all(blake3::hash(body).as_bytes())?;
    out.write_all(body)?;
    out.sync_all()?;
    fs::rename(unfinished, file)?;
    match file.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

/// Files of snapshots, the oldest first.
fn files(dir: &Path) -> Result<Vec<PathBuf>, RuntimeError> {
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(dir).map_err(|error| RuntimeError::file(dir, &error))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "snapshot"))
        .collect();
    files.sort();
    Ok(files)
}

fn read(file: &Path, log: &dyn Log, cell: &CellId) -> Result<(Kernel, Frontier), String> {
    let bytes = fs::read(file).map_err(|error| error.to_string())?;
    let rest = bytes.strip_prefix(MAGIC).ok_or("it is not a snapshot of this format")?;
    let (hash, body) = rest.split_at_checked(32).ok_or("it is cut off")?;
    if blake3::hash(body).as_bytes() != hash {
        return Err("its bytes are damaged".to_owned());
    }
    let (frontier, snapshot): (Frontier, Snapshot<&[u8]>) =
        postcard::from_bytes(body).map_err(|error| error.to_string())?;
    if !frontier.is_in(log).map_err(|error| error.to_string())? {
        return Err("it is not of this log's history".to_owned());
    }
    if snapshot.cell != *cell
        || snapshot.next_epoch != frontier.next_epoch
        || snapshot.chain_head != frontier.chain_head
    {
        return Err("its state and its frontier do not belong together".to_owned());
    }
    let record = recorded(log, &frontier).map_err(|error| error.to_string())?;
    if record.map(|record| record.state_digest) != Some(snapshot.state_digest) {
        return Err("its digest is not the one in the chain".to_owned());
    }
    let kernel = Kernel::restore(snapshot).map_err(|error| error.to_string())?;
    Ok((kernel, frontier))
}

/// The epoch record that a frontier ends with, as the log has it.
pub(crate) fn recorded(log: &dyn Log, frontier: &Frontier) -> Result<Option<EpochCommitted>, LogError> {
    let Some(place) = frontier.record else { return Ok(None) };
    let one = ReadLimit { records: 1, bytes: 1 };
    let found = log.read(TopicName::live(Topic::Decisions), place.partition, place.ordinal, one)?;
    let decoded = found.first().and_then(|stored| Codec::global().decode_record(&stored.record).ok());
    Ok(match decoded.map(|decoded| decoded.event) {
        Some(Event::EpochCommitted(record)) => Some(*record),
        _ => None,
    })
}
