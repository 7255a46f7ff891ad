//! Snapshots on disk: the kernel's canonical entries and the frontier they belong to. A cache: one that is damaged, or is not of
//! this log's history, is left aside with a warning, and the log is read from further back.

mod writing;

use std::fs;
use std::io;
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

use self::writing::{Progress, Writing};
use crate::error::RuntimeError;

const MAGIC: &[u8; 8] = b"SOLYXSN1";
/// Extension of a snapshot.
const WHOLE: &str = "snapshot";
/// Extension of one that is being written.
const UNFINISHED: &str = "unfinished";
/// Snapshots kept.
const KEPT: usize = 2;
/// Time between snapshots is at least so many times what the last one took from its kernel.
const COST_SHARE: u32 = 50;
/// Records of epochs between two snapshots, however few epochs they make: a restart derives them again, in a second or two.
const RECORDS: u64 = 50_000;
/// While one is written, one part in so many of the kernel's time goes to it, within bounds: less than the shortest would take it
/// too long, and more than the longest would keep an epoch waiting.
const TIME_SHARE: u32 = 16;
const SLICE_MIN: Duration = Duration::from_millis(1);
const SLICE_MAX: Duration = Duration::from_millis(20);
/// Time after one that could not be written.
const FAILED_PAUSE: Duration = Duration::from_secs(60);

/// The snapshots of one engine.
pub struct Snapshots {
    dir: Option<PathBuf>,
    every_epochs: i64,
    last_epoch: i64,
    records: u64,
    not_before: Instant,
    writing: Option<Writing>,
    last_slice: Instant,
}

impl Snapshots {
    /// Snapshots in a directory, or none at all.
    pub fn new(dir: Option<PathBuf>, every_epochs: i64) -> Self {
        let now = Instant::now();
        Self { dir, every_epochs, last_epoch: 0, records: 0, not_before: now, writing: None, last_slice: now }
    }

    /// The newest good snapshot's kernel and frontier, or those of the beginning.
    pub fn load(&mut self, log: &dyn Log, cell: &CellId) -> Result<(Kernel, Frontier), RuntimeError> {
        self.load_before(i64::MAX, log, cell)
    }

    /// The same of the newest that stands before an epoch or at its beginning.
    pub fn load_before(
        &mut self,
        epoch: i64,
        log: &dyn Log,
        cell: &CellId,
    ) -> Result<(Kernel, Frontier), RuntimeError> {
        let found = self.dir.as_deref().map(|dir| files(dir, WHOLE).map_err(|error| RuntimeError::file(dir, &error)));
        let mut files = found.transpose()?.unwrap_or_default();
        while let Some(file) = files.pop() {
            match read(&file, log, cell) {
                Ok((_, frontier)) if frontier.next_epoch > epoch => {}
                Ok((kernel, frontier)) => {
                    self.last_epoch = frontier.next_epoch;
                    return Ok((kernel, frontier));
                }
                // Whether it is good is not known: to read the log from its beginning would cost more than to ask again.
                Err(Unread::Log(error)) => return Err(error.into()),
                Err(Unread::Bad(reason)) => {
                    tracing::warn!(file = %file.display(), reason, "a snapshot is left aside; the log is read from further back, and a new one is made");
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
        self.dir.is_some() && self.writing.is_none() && grown && Instant::now() >= self.not_before
    }

    /// Whether there is something newer than the last one.
    pub fn is_behind(&self, next_epoch: i64) -> bool {
        self.dir.is_some() && next_epoch > self.last_epoch
    }

    /// Begins one of the state as it is; [`Snapshots::go_on`] writes it. The log must be durable up to there. One that is being
    /// written is given up. Of a state that breaks an invariant there is none, and an error in the log of the process.
    pub fn begin(&mut self, kernel: &mut Kernel, frontier: &Frontier) {
        let Some(dir) = &self.dir else { return };
        let violations = kernel.state().violations();
        if let Some(first) = violations.first() {
            let (epoch, count) = (frontier.next_epoch - 1, violations.len());
            tracing::error!(
                epoch,
                count,
                first,
                "the state breaks an invariant: no snapshot is made of it; audit the log"
            );
            self.not_before = Instant::now() + FAILED_PAUSE;
            return;
        }
        // One of the same name may be under way: it lets go of the file first.
        self.writing = None;
        let file = dir.join(format!("{:020}.{WHOLE}", frontier.next_epoch));
        match fs::create_dir_all(dir).and_then(|()| Writing::begin(file, kernel, frontier)) {
            Ok(writing) => {
                self.writing = Some(writing);
                self.records = 0;
                self.last_slice = Instant::now();
            }
            Err(error) => self.failed(kernel, &error),
        }
    }

    /// Writes on at the one that was begun, for a moment.
    pub fn go_on(&mut self, kernel: &mut Kernel) {
        let slice = (self.last_slice.elapsed() / TIME_SHARE).clamp(SLICE_MIN, SLICE_MAX);
        self.advance(kernel, Some(slice));
        self.last_slice = Instant::now();
    }

    /// Writes the one that was begun to its end.
    pub fn complete(&mut self, kernel: &mut Kernel) {
        self.advance(kernel, None);
    }

    fn advance(&mut self, kernel: &mut Kernel, time: Option<Duration>) {
        let Some(writing) = &mut self.writing else { return };
        match writing.advance(kernel, time) {
            Ok(Progress::Underway) => return,
            Ok(Progress::Done) => {
                let (next_epoch, spent) = (writing.next_epoch, writing.spent);
                self.last_epoch = next_epoch;
                self.not_before = Instant::now() + spent * COST_SHARE;
                tracing::debug!(next_epoch, spent_ms = spent.as_millis() as u64, "a snapshot is written");
                if let Some((dir, Err(error))) = self.dir.as_deref().map(|dir| (dir, tidy(dir))) {
                    tracing::warn!(dir = %dir.display(), %error, "snapshots that are superseded could not be taken away");
                }
            }
            Err(error) => self.failed(kernel, &error),
        }
        self.writing = None;
    }

    /// Without it only a restart takes longer.
    fn failed(&mut self, kernel: &mut Kernel, error: &io::Error) {
        kernel.give_up_snapshot();
        let dir = self.dir.as_deref().unwrap_or(Path::new(""));
        tracing::warn!(dir = %dir.display(), %error, "a snapshot could not be written; a restart will read more of the log");
        self.not_before = Instant::now() + FAILED_PAUSE;
    }
}

/// Takes away all but the newest, and what was never finished.
fn tidy(dir: &Path) -> io::Result<()> {
    let superseded = files(dir, WHOLE)?.into_iter().rev().skip(KEPT);
    superseded.chain(files(dir, UNFINISHED)?).try_for_each(fs::remove_file)
}

/// Files of an extension, the oldest first.
fn files(dir: &Path, extension: &str) -> io::Result<Vec<PathBuf>> {
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let mut files: Vec<PathBuf> = fs::read_dir(dir)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    files.sort();
    Ok(files)
}

/// Why a snapshot was not read.
enum Unread {
    /// It is of no use.
    Bad(String),
    /// The log did not say whether it is its own.
    Log(LogError),
}

impl Unread {
    fn bad(reason: impl ToString) -> Self {
        Self::Bad(reason.to_string())
    }
}

fn read(file: &Path, log: &dyn Log, cell: &CellId) -> Result<(Kernel, Frontier), Unread> {
    let bytes = fs::read(file).map_err(Unread::bad)?;
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| {
        let found = String::from_utf8_lossy(&bytes[..MAGIC.len().min(bytes.len())]).into_owned();
        let expected = String::from_utf8_lossy(MAGIC);
        Unread::bad(format!("it is of format {found:?}, this build reads {expected:?}"))
    })?;
    let (hash, body) = rest.split_at_checked(32).ok_or_else(|| Unread::bad("it is cut off"))?;
    if blake3::hash(body).as_bytes() != hash {
        return Err(Unread::bad("its bytes are damaged"));
    }
    let (frontier, snapshot): (Frontier, Snapshot<&[u8]>) = postcard::from_bytes(body).map_err(Unread::bad)?;
    if !frontier.is_in(log).map_err(Unread::Log)? {
        return Err(Unread::bad("it is not of this log's history"));
    }
    let head = &snapshot.head;
    if head.cell != *cell || head.next_epoch != frontier.next_epoch || head.chain_head != frontier.chain_head {
        return Err(Unread::bad("its state and its frontier do not belong together"));
    }
    let record = recorded(log, &frontier).map_err(Unread::Log)?;
    if record.map(|record| record.state_digest) != Some(head.state_digest) {
        return Err(Unread::bad("its digest is not the one in the chain"));
    }
    let kernel = Kernel::restore(snapshot).map_err(Unread::bad)?;
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
