//! Where a view is kept: its state and the position it was computed from, always written in one batch.
//!
//! A view's directory holds generations (`gen-1`, `gen-2` …), each a RocksDB of its own, and the file `CURRENT` that names
//! the one in use. A rebuild fills the next generation beside it and swaps by renaming a new `CURRENT` over the old: a
//! crash leaves one or the other. Readers open the generation read-only and see one batch's end, whatever is written.

mod as_of;
mod kept;
mod layout;

use std::cmp::Ordering;
use std::path::Path;
use std::time::Duration;

use rocksdb::{DB, Direction, IteratorMode, Options, WriteBatch, WriteOptions, checkpoint::Checkpoint};
use serde::{Deserialize, Serialize};
use solyx_kernel::unknown_feature;
use solyx_schemas::epochs::{EpochBatch, EpochReader, Frontier};
use solyx_schemas::hash::Hash32;
use solyx_schemas::log::Log;

use crate::fold::{Change, Entry, EpochSource, Fold, FoldError, SourceError};
pub use crate::store::kept::{KeptCheckpoint, KeptStore, RowDifference};
use crate::store::layout::{Layout, Turn};

/// Epochs folded between two writes while catching up.
pub const BATCH_EPOCHS: u64 = 1_000;
/// How often a store is opened for reading, and the pause between two tries.
const OPEN_TRIES_MAX: u32 = 5;
const OPEN_PAUSE: Duration = Duration::from_millis(20);
const POSITION_KEY: &[u8] = b"\0position";
/// State keys stand behind this byte, so that the position's own key is none of them.
const STATE: u8 = 1;

/// How far a view has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewPosition {
    /// Version of the entries.
    pub format: u32,
    /// First epoch not folded.
    pub next_epoch: i64,
    /// Chain hash of the last epoch folded; zeros before the first.
    pub chain_head: Hash32,
    /// Where its source goes on, in the source's own form.
    pub frontier: Vec<u8>,
}

/// Why a view cannot be opened or brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database or a file failed.
    #[error(
        "cannot {what} the view in {path}: {detail}; check that the directory is writable and used by no other process"
    )]
    Storage {
        /// What was tried.
        what: &'static str,
        /// The directory.
        path: String,
        /// What the system says.
        detail: String,
    },
    /// There is no view yet.
    #[error("there is no view in {path}; bring it up to date first")]
    Absent {
        /// The directory.
        path: String,
    },
    /// It was written by another version.
    #[error("the {view} view is kept in format {found}, this build reads {expected}; rebuild it")]
    Format {
        /// The view.
        view: &'static str,
        /// Format on disk.
        found: u32,
        /// Format of this build.
        expected: u32,
    },
    /// The next epoch does not follow the last one folded.
    #[error(
        "epoch {found} does not follow epoch {expected} of the {view} view: {detail}; the log is another one or lost its end, rebuild the view"
    )]
    Gap {
        /// The view.
        view: &'static str,
        /// Epoch expected.
        expected: i64,
        /// Epoch found.
        found: i64,
        /// What differs.
        detail: &'static str,
    },
    /// A feature is in force that this build lacks: it may change what is folded.
    #[error(
        "epoch {epoch} has the feature {feature} in force, which this build lacks; use the build that wrote it or a newer one"
    )]
    Feature {
        /// Epoch.
        epoch: i64,
        /// The feature.
        feature: String,
    },
    /// The fold failed.
    #[error(transparent)]
    Fold(#[from] FoldError),
    /// The source of epochs failed.
    #[error("cannot read the next epoch: {0}")]
    Source(SourceError),
}

/// A view with its store, open for writing.
pub struct ViewStore<F> {
    layout: Layout,
    generation: u64,
    db: DB,
    /// Released last: whoever waits for it finds the database closed.
    _turn: Turn,
    fold: F,
    position: ViewPosition,
    checkpoint_epochs: Option<i64>,
}

/// Folds with the position they stand at; also what a store holds in memory.
pub struct View<F> {
    /// The state.
    pub fold: F,
    /// How far it has come.
    pub position: ViewPosition,
}

impl ViewPosition {
    /// A reader of this log that goes on here; an error when the log does not hold the history up to here.
    pub fn reader<'l>(&self, log: &'l dyn Log) -> Result<EpochReader<'l>, SourceError> {
        if self.next_epoch == 0 {
            return Ok(EpochReader::new(log));
        }
        let frontier: Frontier = postcard::from_bytes(&self.frontier)?;
        if !frontier.is_in(log)? {
            let detail = format!("the log does not hold the history up to epoch {}; rebuild the view", self.next_epoch);
            return Err(detail.into());
        }
        Ok(EpochReader::at(log, &frontier))
    }
}

impl<F: Fold + Default> View<F> {
    /// A view of nothing.
    pub fn empty() -> Self {
        let fold = F::default();
        let position = ViewPosition { format: fold.format(), ..ViewPosition::default() };
        Self { fold, position }
    }

    /// Folds the next epoch, which has to follow.
    pub fn take(&mut self, epoch: &EpochBatch) -> Result<(), StoreError> {
        take(&mut self.fold, &mut self.position, epoch)
    }

    /// Folds epochs in memory up to and with `last`, or all there are. Returns how many. What changed is not kept: nobody saves it.
    pub fn fold_up_to(&mut self, source: &mut dyn EpochSource, last: Option<i64>) -> Result<u64, StoreError> {
        let mut folded = 0_u64;
        while last.is_none_or(|last| self.position.next_epoch <= last) {
            if !step(&mut self.fold, &mut self.position, source)? {
                break;
            }
            folded += 1;
            if folded.is_multiple_of(BATCH_EPOCHS) {
                self.fold.forget_changes();
            }
        }
        self.fold.forget_changes();
        Ok(folded)
    }
}

/// Folds the next epoch, if it is there and follows.
fn step<F: Fold>(fold: &mut F, position: &mut ViewPosition, source: &mut dyn EpochSource) -> Result<bool, StoreError> {
    let Some(epoch) = source.next_epoch().map_err(StoreError::Source)? else { return Ok(false) };
    take(fold, position, &epoch)?;
    Ok(true)
}

fn take<F: Fold>(fold: &mut F, position: &mut ViewPosition, epoch: &EpochBatch) -> Result<(), StoreError> {
    let gap = |detail| StoreError::Gap {
        view: fold.name(),
        expected: position.next_epoch,
        found: epoch.record.epoch,
        detail,
    };
    if epoch.record.epoch != position.next_epoch {
        return Err(gap("its number is another"));
    }
    if epoch.record.previous_chain_hash != position.chain_head {
        return Err(gap("its previous chain hash is another"));
    }
    if let Some(feature) = unknown_feature(&epoch.record.features) {
        return Err(StoreError::Feature { epoch: epoch.record.epoch, feature: feature.to_string() });
    }
    fold.apply(epoch)?;
    position.next_epoch += 1;
    position.chain_head = epoch.chain_hash;
    Ok(())
}

impl<F: Fold + Default> ViewStore<F> {
    /// Opens the view in a directory, or begins it. What an interrupted rebuild left is removed.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let layout = Layout::new(directory);
        let turn = layout.wait_for_turn()?;
        let generation = match layout.current()? {
            Some(generation) => generation,
            None => {
                layout.clear_generation(1)?;
                let db = open_for_writing(&layout, 1)?;
                write(&db, &layout, Vec::new(), &View::<F>::empty().position)?;
                layout.set_current(1)?;
                1
            }
        };
        let db = open_for_writing(&layout, generation)?;
        layout.clear_all_but(generation)?;
        let View { fold, position } = load::<F>(&db, &layout)?;
        Ok(Self { layout, generation, db, _turn: turn, fold, position, checkpoint_epochs: None })
    }

    /// Keeps a checkpoint each time this many epochs have passed, for views as of an earlier epoch.
    pub fn keep_checkpoints(mut self, every_epochs: i64) -> Self {
        self.checkpoint_epochs = (every_epochs > 0).then_some(every_epochs);
        self
    }

    /// The state.
    pub fn fold(&self) -> &F {
        &self.fold
    }

    /// How far it has come.
    pub fn position(&self) -> &ViewPosition {
        &self.position
    }

    /// Folds all epochs that the source has, writing after each [`BATCH_EPOCHS`]. Returns how many there were. After an error
    /// what was folded but not written is of no use: open the store again.
    pub fn catch_up(&mut self, source: &mut dyn EpochSource) -> Result<u64, StoreError> {
        let mut folded = 0;
        let mut written = 0;
        while step(&mut self.fold, &mut self.position, source)? {
            folded += 1;
            if folded - written == BATCH_EPOCHS {
                self.write(source)?;
                written = folded;
            }
        }
        if folded > written {
            self.write(source)?;
        }
        Ok(folded)
    }

    /// Folds the whole log beside the view in use and swaps.
    pub fn rebuild(directory: &Path, source: &mut dyn EpochSource) -> Result<Self, StoreError> {
        let layout = Layout::new(directory);
        let turn = layout.wait_for_turn()?;
        let before = layout.current()?;
        let generation = before.unwrap_or(0) + 1;
        layout.clear_generation(generation)?;
        let db = open_for_writing(&layout, generation)?;
        let View { fold, position } = View::<F>::empty();
        let mut store = Self { layout, generation, db, _turn: turn, fold, position, checkpoint_epochs: None };
        write(&store.db, &store.layout, Vec::new(), &store.position)?;
        store.catch_up(source)?;
        store.db.flush().map_err(|e| store.layout.storage("flush", e))?;
        store.layout.set_current(generation)?;
        store.layout.clear_all_but(generation)?;
        Ok(store)
    }

    /// The view as it was last written, read beside whoever writes it.
    pub fn read(directory: &Path) -> Result<View<F>, StoreError> {
        let layout = Layout::new(directory);
        let Some(generation) = layout.current()? else {
            return Err(StoreError::Absent { path: layout.shown() });
        };
        load(&open_read_only(&layout, &layout.generation(generation))?, &layout)
    }

    /// Every key and value of the state as written, sorted by key: for comparing stores.
    pub fn dump(&self) -> Result<Vec<Entry>, StoreError> {
        state_entries(&self.db).collect::<Result<_, _>>().map_err(|e| self.layout.storage("read", e))
    }

    fn write(&mut self, source: &dyn EpochSource) -> Result<(), StoreError> {
        self.position.frontier = source.frontier();
        let changes = match self.fold.changes() {
            Some(changes) => changes,
            None => {
                let changes = differences(&self.db, self.fold.entries()).collect::<Result<_, _>>();
                changes.map_err(|e| self.layout.storage("read", e))?
            }
        };
        write(&self.db, &self.layout, changes, &self.position)?;
        self.keep_checkpoint()
    }

    fn keep_checkpoint(&self) -> Result<(), StoreError> {
        let Some(every) = self.checkpoint_epochs else { return Ok(()) };
        let kept = self.layout.checkpoints(self.generation)?.into_iter().map(|(next_epoch, _)| next_epoch).max();
        if self.position.next_epoch - kept.unwrap_or(0) < every {
            return Ok(());
        }
        let path = self.layout.checkpoint(self.generation, self.position.next_epoch)?;
        Checkpoint::new(&self.db)
            .and_then(|checkpoint| checkpoint.create_checkpoint(path))
            .map_err(|e| self.layout.storage("keep a checkpoint of", e))
    }
}

fn options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_compression_type(rocksdb::DBCompressionType::Zstd);
    options.set_keep_log_file_num(2);
    options
}

fn open_for_writing(layout: &Layout, generation: u64) -> Result<DB, StoreError> {
    let path = layout.generation(generation);
    std::fs::create_dir_all(&path).map_err(|e| layout.storage("create", e))?;
    DB::open(&options(), path).map_err(|e| layout.storage("open", e))
}

/// Opens beside whoever writes: its files may change under the opening, which is tried again then.
fn open_read_only(layout: &Layout, path: &Path) -> Result<DB, StoreError> {
    let mut tries = 1;
    loop {
        match DB::open_for_read_only(&options(), path, false) {
            Err(_) if tries < OPEN_TRIES_MAX && path.exists() => std::thread::sleep(OPEN_PAUSE),
            opened => return opened.map_err(|e| layout.storage("read", e)),
        }
        tries += 1;
    }
}

/// One batch: what changed and where that leaves the view.
fn write(db: &DB, layout: &Layout, changes: Vec<Change>, position: &ViewPosition) -> Result<(), StoreError> {
    let mut batch = WriteBatch::default();
    for (key, value) in changes {
        let key = stored_key(&key);
        match value {
            Some(value) => batch.put(key, value),
            None => batch.delete(key),
        }
    }
    let position = postcard::to_stdvec(position).map_err(|e| layout.storage("write", e))?;
    batch.put(POSITION_KEY, position);
    // Not synced: a view that loses its last batches at a power cut folds them again.
    db.write_opt(batch, &WriteOptions::default()).map_err(|e| layout.storage("write", e))
}

fn stored_key(key: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(key.len() + 1);
    stored.push(STATE);
    stored.extend_from_slice(key);
    stored
}

fn state_entries(db: &DB) -> impl Iterator<Item = Result<Entry, rocksdb::Error>> {
    db.iterator(IteratorMode::From(&[STATE], Direction::Forward))
        .map(|entry| entry.map(|(key, value)| (key[1..].to_vec(), value.into_vec())))
}

/// What must be written so that the database holds these sorted entries, in order of the keys.
fn differences(db: &DB, entries: Vec<Entry>) -> impl Iterator<Item = Result<Change, rocksdb::Error>> {
    let mut stored = state_entries(db).peekable();
    let mut wanted = entries.into_iter().peekable();
    std::iter::from_fn(move || {
        loop {
            let order = match (stored.peek(), wanted.peek()) {
                (None, None) => return None,
                (Some(Err(_)), _) => return stored.next()?.err().map(Err),
                (Some(Ok((key, _))), Some((new, _))) => key.cmp(new),
                (Some(Ok(_)), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
            };
            match order {
                Ordering::Less => return stored.next().map(|gone| gone.map(|(key, _)| (key, None))),
                Ordering::Greater => return wanted.next().map(|(key, value)| Ok((key, Some(value)))),
                Ordering::Equal => {
                    if let (Some(Ok((_, was))), Some((key, value))) = (stored.next(), wanted.next())
                        && was != value
                    {
                        return Some(Ok((key, Some(value))));
                    }
                }
            }
        }
    })
}

fn position_of(db: &DB, layout: &Layout) -> Result<ViewPosition, StoreError> {
    let bytes = db.get(POSITION_KEY).map_err(|e| layout.storage("read", e))?;
    let Some(bytes) = bytes else { return Err(StoreError::Absent { path: layout.shown() }) };
    postcard::from_bytes(&bytes).map_err(|e| layout.storage("read", e))
}

fn load<F: Fold + Default>(db: &DB, layout: &Layout) -> Result<View<F>, StoreError> {
    // A snapshot, so that position and state are of the same batch even if somebody in this process writes.
    let snapshot = db.snapshot();
    let bytes = snapshot.get(POSITION_KEY).map_err(|e| layout.storage("read", e))?;
    let Some(bytes) = bytes else { return Err(StoreError::Absent { path: layout.shown() }) };
    let position: ViewPosition = postcard::from_bytes(&bytes).map_err(|e| layout.storage("read", e))?;
    let mut fold = F::default();
    if position.format != fold.format() {
        return Err(StoreError::Format { view: fold.name(), found: position.format, expected: fold.format() });
    }
    let mut failed = None;
    let mut entries = snapshot
        .iterator(IteratorMode::From(&[STATE], Direction::Forward))
        .map_while(|entry| entry.map_err(|e| failed = Some(e)).ok())
        .map(|(key, value)| (key[1..].to_vec(), value.into_vec()));
    fold.load(&mut entries)?;
    drop(entries);
    match failed {
        Some(error) => Err(layout.storage("read", error)),
        None => Ok(View { fold, position }),
    }
}
