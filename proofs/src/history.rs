//! One pass over the epochs of a log for all that proofs need of it: the tree, the times, and what became of keys.

use std::collections::{BTreeMap, BTreeSet};

use solyx_schemas::codec::{Codec, frame_id};
use solyx_schemas::epochs::{EpochReader, RawEpoch, ReadError};
use solyx_schemas::events::Event;
use solyx_schemas::events::plans::{HeadSigned, SigningKeyRotated};
use solyx_schemas::hash::Hash32;
use solyx_schemas::ids::CellId;
use solyx_schemas::log::{Log, LogError, Scan};
use solyx_schemas::topics::Topic;
use solyx_schemas::units::TimeUs;

use crate::epoch_hash::{EpochHashes, leaf};
use crate::keys::KeyHistory;
use crate::tree::EpochTree;

/// History that cannot be read for proofs.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An epoch is not what its hashes say.
    #[error("epoch {epoch}: {detail}")]
    Epoch {
        /// The epoch.
        epoch: i64,
        /// What is wrong.
        detail: String,
    },
}

impl From<LogError> for HistoryError {
    fn from(error: LogError) -> Self {
        Self::Read(error.into())
    }
}

/// What proofs need of all epochs. Bounded by their number: 128 bytes of the tree, 64 of the leaf and 8 of the time for each.
#[derive(Debug, Default)]
pub struct History {
    /// The cell; absent where there is no epoch.
    pub cell: Option<CellId>,
    /// Leaves and inner nodes of all epochs.
    pub tree: EpochTree,
    /// `now` of each epoch.
    pub times: Vec<TimeUs>,
    /// What is said of keys.
    pub keys: KeyHistory,
    /// Roots of the trees that were asked for, by size; larger ones than the log has are missing.
    pub roots: BTreeMap<u64, Hash32>,
}

impl History {
    /// Reads all epochs; `sizes` are trees whose roots are wanted. Each epoch is handed on when it has been taken in.
    pub fn read<E: From<HistoryError>>(
        log: &dyn Log,
        sizes: &BTreeSet<u64>,
        mut on_epoch: impl FnMut(RawEpoch) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut history = Self::default();
        let mut reader = EpochReader::new(log);
        if sizes.contains(&0) {
            history.roots.insert(0, history.tree.root());
        }
        while let Some(raw) = reader.next_raw().map_err(HistoryError::from)? {
            history.take(&raw)?;
            let size = history.tree.size();
            if sizes.contains(&size) {
                history.roots.insert(size, history.tree.root());
            }
            on_epoch(raw)?;
        }
        reader.ended().map_err(HistoryError::from)?;
        Ok(history)
    }

    fn take(&mut self, raw: &RawEpoch) -> Result<(), HistoryError> {
        let epoch = raw.record.epoch;
        let leaf = leaf(raw).map_err(|detail| HistoryError::Epoch { epoch, detail })?;
        self.cell.get_or_insert_with(|| raw.record.cell.clone());
        self.tree.push(leaf.bytes());
        self.times.push(raw.record.now_us);
        let policies =
            raw.inputs.iter().filter(|input| input.skipped.is_none() && input.position.topic() == Topic::Policy);
        for input in policies.filter(|input| is_of_keys(&input.stored.record.value)) {
            // What says whose signatures count has to be what the epoch took.
            EpochHashes::of(raw).map_err(|detail| HistoryError::Epoch { epoch, detail })?;
            if let Ok(decoded) = Codec::global().decode(&input.stored.record.value) {
                self.keys.apply(epoch, &decoded.event);
            }
        }
        Ok(())
    }

    /// Time of the last epoch of the tree of this size; nothing for an empty tree or one that the log does not have.
    pub fn time_at(&self, size: u64) -> Option<TimeUs> {
        self.times.get(usize::try_from(size.checked_sub(1)?).ok()?).copied()
    }
}

/// Whether a value says something of a signing key, by its schema alone.
fn is_of_keys(value: &[u8]) -> bool {
    let schema = frame_id(value).and_then(|id| Codec::global().writer_schema(id));
    schema.is_some_and(|(name, _)| name.starts_with("solyx.policy.SigningKey"))
}

/// A record of `solyx.proofs`.
#[derive(Clone, Debug)]
pub struct Signed {
    /// Where it stands, as in `proofs/0/7`.
    pub place: String,
    /// What it says, or why that cannot be read.
    pub event: Result<SignedEvent, String>,
}

/// What a record of `solyx.proofs` says.
#[derive(Clone, Debug)]
pub enum SignedEvent {
    /// A signed head.
    Head(HeadSigned),
    /// A key that hands over.
    Rotation(SigningKeyRotated),
}

impl SignedEvent {
    /// Size of the tree that is signed.
    pub fn size(&self) -> u64 {
        let size = match self {
            Self::Head(head) => head.tree_size,
            Self::Rotation(rotation) => rotation.tree_size,
        };
        u64::try_from(size.0).unwrap_or_default()
    }
}

/// Every record of `solyx.proofs`, in the order of partitions and ordinals.
pub fn signed_events(log: &dyn Log) -> Result<Vec<Signed>, LogError> {
    let mut signed = Vec::new();
    for partition in 0..log.partitions(Topic::Proofs.into()) {
        for stored in Scan::new(log, Topic::Proofs.into(), partition, 0) {
            let stored = stored?;
            let place = format!("{}/{partition}/{}", Topic::Proofs.name(), stored.ordinal);
            let decoded = Codec::global().decode_record(&stored.record).map_err(|e| e.to_string());
            let checked = decoded.and_then(|decoded| {
                decoded.event.check().map_err(|e| e.to_string())?;
                match decoded.event {
                    Event::HeadSigned(head) => Ok(SignedEvent::Head(*head)),
                    Event::SigningKeyRotated(rotation) => Ok(SignedEvent::Rotation(*rotation)),
                    other => Err(format!("found {}, expected a signed head or a rotation of keys", other.name())),
                }
            });
            signed.push(Signed { place, event: checked });
        }
    }
    Ok(signed)
}
