//! What a projection is: a pure fold over epochs whose state can be saved, loaded, compared and rebuilt.

use solyx_schemas::epochs::{EpochBatch, EpochReader};
use solyx_schemas::hash::Hash32;
use solyx_schemas::told::Told;

/// A key and its value, as a store keeps them.
pub type Entry = (Vec<u8>, Vec<u8>);
/// A key with its new value, or without one when it is gone.
pub type Change = (Vec<u8>, Option<Vec<u8>>);

/// An entry as it is told to a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToldRow {
    /// Name of its table.
    pub table: &'static str,
    /// Its key there.
    pub key: Told,
    /// What the row says.
    pub row: Told,
}

/// Hash of a view's entries in their order: two who derived the same have the same.
pub fn digest(entries: &[Entry]) -> Hash32 {
    let mut hasher = blake3::Hasher::new();
    for (key, value) in entries {
        for part in [key, value] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    }
    Hash32(*hasher.finalize().as_bytes())
}

/// A state that cannot be folded on or loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {fold} view cannot go on: {detail}; rebuild it, and report this when that does not help")]
pub struct FoldError {
    /// The fold.
    pub fold: &'static str,
    /// What happened.
    pub detail: String,
}

/// A pure fold of the log. It reads epochs and judges nothing again; what does not count, it does not see.
pub trait Fold: Send {
    /// Name of the view, which is also that of its directory.
    fn name(&self) -> &'static str;

    /// Version of its entries. A store of another version is rebuilt, never read.
    fn format(&self) -> u32;

    /// Takes the next epoch.
    fn apply(&mut self, epoch: &EpochBatch) -> Result<(), FoldError>;

    /// The whole state as canonical entries, sorted by key: equal states give equal bytes.
    fn entries(&self) -> Vec<Entry>;

    /// What changed since the last call, sorted by key. None when the fold does not follow that: the store compares.
    fn changes(&mut self) -> Option<Vec<Change>> {
        None
    }

    /// No longer remembers what changed, for who never asks.
    fn forget_changes(&mut self) {
        self.changes();
    }

    /// An entry of this or of a kept state as it is told to a person.
    fn told(&self, key: &[u8], value: &[u8]) -> Result<ToldRow, FoldError>;

    /// Puts a saved state into a fresh fold.
    fn load(&mut self, entries: &mut dyn Iterator<Item = Entry>) -> Result<(), FoldError>;
}

/// Whatever went wrong with a source of epochs.
pub type SourceError = Box<dyn std::error::Error + Send + Sync>;

/// Where epochs come from, in order and without holes: a log, an archive, or a test.
pub trait EpochSource {
    /// The next epoch, or nothing when there is none yet.
    fn next_epoch(&mut self) -> Result<Option<EpochBatch>, SourceError>;

    /// From what the source can be opened again where it stands; a store keeps it with the state.
    fn frontier(&self) -> Vec<u8> {
        Vec::new()
    }
}

/// Any iterator over epochs as a source.
pub struct Epochs<I>(pub I);

impl<I, E> EpochSource for Epochs<I>
where
    I: Iterator<Item = Result<EpochBatch, E>>,
    E: Into<SourceError>,
{
    fn next_epoch(&mut self) -> Result<Option<EpochBatch>, SourceError> {
        self.0.next().transpose().map_err(Into::into)
    }
}

/// A log is a source; the frontier of its reader is kept with the state.
impl EpochSource for EpochReader<'_> {
    fn next_epoch(&mut self) -> Result<Option<EpochBatch>, SourceError> {
        Ok(self.next_batch()?)
    }

    fn frontier(&self) -> Vec<u8> {
        // Plain data encodes to memory; without it a reader begins at the first epoch.
        postcard::to_stdvec(&EpochReader::frontier(self)).unwrap_or_default()
    }
}
