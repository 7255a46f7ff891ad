//! A snapshot: the canonical entries of the state at an epoch boundary. A cache: losing it costs time, never data.

use serde::{Deserialize, Serialize};
use solyx_schemas::hash::Hash32;
use solyx_schemas::ids::{CellId, FeatureId};

use crate::Kernel;
use crate::digest::SetHash;
use crate::index::Index;
use crate::judge::KNOWN_FEATURES;
use crate::state::{SPECS, State};
use crate::table::Entry;

/// Format of snapshots that this build writes and reads.
pub const SNAPSHOT_FORMAT: u32 = 1;

/// The state at an epoch boundary. `B` is what holds the bytes of its entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot<B = Vec<u8>> {
    /// Format of this snapshot.
    pub format: u32,
    /// The cell.
    pub cell: CellId,
    /// The next epoch.
    pub next_epoch: i64,
    /// Chain hash of the last epoch record.
    pub chain_head: Hash32,
    /// State digest of that record.
    pub state_digest: Hash32,
    /// Features in force.
    pub features: Vec<FeatureId>,
    /// Canonical entries, in order of table and key.
    pub entries: Vec<Entry<B>>,
}

/// What stands before the entries of a snapshot that is made piece by piece. With so many entries after it, it is serialized
/// as the [`Snapshot`] would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SnapshotHead {
    /// Format of this snapshot.
    pub format: u32,
    /// The cell.
    pub cell: CellId,
    /// The next epoch.
    pub next_epoch: i64,
    /// Chain hash of the last epoch record.
    pub chain_head: Hash32,
    /// State digest of that record.
    pub state_digest: Hash32,
    /// Features in force.
    pub features: Vec<FeatureId>,
    /// Number of entries.
    pub entries: usize,
}

/// Why a snapshot is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// Another format.
    #[error(
        "snapshot has format {found}, this build reads {SNAPSHOT_FORMAT}; delete it and the log is read from its beginning"
    )]
    Format {
        /// The format found.
        found: u32,
    },
    /// A feature that this build lacks.
    #[error("snapshot needs feature {0}, which this build lacks; use the build that wrote it or a newer one")]
    Feature(FeatureId),
    /// An entry that cannot be read.
    #[error("snapshot is damaged: {0}; delete it and the log is read from its beginning")]
    Entry(String),
    /// The digest does not match the entries.
    #[error(
        "snapshot of epoch {next_epoch} has digest {derived}, its chain says {recorded}; delete it and the log is read from its beginning"
    )]
    Digest {
        /// The next epoch.
        next_epoch: i64,
        /// Digest that the chain says.
        recorded: Hash32,
        /// Digest of the entries.
        derived: Hash32,
    },
}

impl Kernel {
    /// The state as a snapshot; only at an epoch boundary.
    pub fn snapshot(&self) -> Snapshot {
        let SnapshotHead { format, cell, next_epoch, chain_head, state_digest, features, .. } = self.head(0);
        let entries = self.state.entries();
        Snapshot { format, cell, next_epoch, chain_head, state_digest, features, entries }
    }

    /// Begins a snapshot of the state at this epoch boundary, which [`Kernel::next_entries`] hands out while epochs go on. One that
    /// was begun before is given up.
    pub fn begin_snapshot(&mut self) -> SnapshotHead {
        let entries = self.state.begin_cut();
        self.head(entries)
    }

    /// The next entries of the snapshot that was begun, of about so many bytes; none once all are handed out.
    pub fn next_entries(&mut self, bytes_max: usize) -> Vec<Entry> {
        assert!(!self.arrivals_open, "entries are handed out at an epoch boundary");
        self.state.advance_cut(bytes_max)
    }

    fn head(&self, entries: usize) -> SnapshotHead {
        assert!(!self.arrivals_open, "a snapshot is taken at an epoch boundary");
        SnapshotHead {
            format: SNAPSHOT_FORMAT,
            cell: self.cell.clone(),
            next_epoch: self.next_epoch(),
            chain_head: self.chain_head,
            state_digest: self.digest.digest(),
            features: self.features(),
            entries,
        }
    }

    /// The kernel of a snapshot, after its digest was computed again.
    pub fn restore<B: AsRef<[u8]> + Sync>(snapshot: Snapshot<B>) -> Result<Self, RestoreError> {
        if snapshot.format != SNAPSHOT_FORMAT {
            return Err(RestoreError::Format { found: snapshot.format });
        }
        if let Some(feature) = snapshot.features.iter().find(|f| !KNOWN_FEATURES.contains(&f.as_str())) {
            return Err(RestoreError::Feature(feature.clone()));
        }
        let (state, digest) = load(&snapshot.entries).map_err(RestoreError::Entry)?;
        let derived = digest.digest();
        if derived != snapshot.state_digest {
            let recorded = snapshot.state_digest;
            return Err(RestoreError::Digest { next_epoch: snapshot.next_epoch, recorded, derived });
        }
        let index = Index::of(&state);
        Ok(Self {
            cell: snapshot.cell,
            state,
            index,
            digest,
            chain_head: snapshot.chain_head,
            arrivals_open: false,
            overcommitments: Vec::new(),
        })
    }
}

/// The state of entries and their digest. What jobs ask for is most of it, and the digest the rest of the work: each is done on a
/// thread of its own.
fn load<B: AsRef<[u8]> + Sync>(entries: &[Entry<B>]) -> Result<(State, SetHash), String> {
    let specs =
        entries.partition_point(|entry| entry.table < SPECS)..entries.partition_point(|entry| entry.table <= SPECS);
    let (before, after) = (&entries[..specs.start], &entries[specs.end..]);
    std::thread::scope(|scope| {
        let digest = scope.spawn(|| {
            let mut digest = SetHash::default();
            for entry in entries {
                digest.add(entry.table, entry.key.as_ref(), entry.value.as_ref());
            }
            digest
        });
        let specs = scope.spawn(|| state_of(&entries[specs]));
        let mut state = state_of(before.iter().chain(after))?;
        let died = |_| "a thread died".to_owned();
        state.specs = specs.join().map_err(died)??.specs;
        Ok((state, digest.join().map_err(died)?))
    })
}

fn state_of<'e, B: AsRef<[u8]> + 'e>(entries: impl IntoIterator<Item = &'e Entry<B>>) -> Result<State, String> {
    let mut state = State::default();
    entries.into_iter().try_for_each(|entry| state.load(entry))?;
    Ok(state)
}
