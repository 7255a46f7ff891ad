//! A snapshot: the canonical entries of the state at an epoch boundary. A cache: losing it costs time, never data.

use serde::{Deserialize, Serialize};
use solyx_schemas::hash::Hash32;
use solyx_schemas::ids::{CellId, FeatureId, JobId};

use crate::Kernel;
use crate::digest::SetHash;
use crate::index::{Index, Said};
use crate::judge::KNOWN_FEATURES;
use crate::rows::Spec;
use crate::state::{SPECS, State};
use crate::table::{Entry, Packed, Table};

/// Format of snapshots that this build writes and reads.
pub const SNAPSHOT_FORMAT: u32 = 1;

/// The state at an epoch boundary. `B` is what holds the bytes of its entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot<B = Vec<u8>> {
    /// What the state is of.
    pub head: SnapshotHead,
    /// Canonical entries, in order of table and key.
    pub entries: Vec<Entry<B>>,
}

/// What a snapshot is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
        Snapshot { head: self.head(), entries: self.state.entries() }
    }

    /// Begins a snapshot of the state at this epoch boundary, which [`Kernel::next_entries`] hands out while epochs go on: its head
    /// and the number of its entries. One that was begun before is given up.
    pub fn begin_snapshot(&mut self) -> (SnapshotHead, usize) {
        let entries = self.state.begin_cut();
        (self.head(), entries)
    }

    /// The next entries of the snapshot that was begun, of about so many bytes; none once all are handed out.
    pub fn next_entries(&mut self, bytes_max: usize) -> Vec<Entry> {
        assert!(!self.arrivals_open, "entries are handed out at an epoch boundary");
        self.state.advance_cut(bytes_max)
    }

    /// Gives up the snapshot that was begun, so that what changes is no longer kept for it.
    pub fn give_up_snapshot(&mut self) {
        self.state.end_cut();
    }

    fn head(&self) -> SnapshotHead {
        assert!(!self.arrivals_open, "a snapshot is taken at an epoch boundary");
        SnapshotHead {
            format: SNAPSHOT_FORMAT,
            cell: self.cell.clone(),
            next_epoch: self.next_epoch(),
            chain_head: self.chain_head,
            state_digest: self.digest.digest(),
            features: self.features(),
        }
    }

    /// The kernel of a snapshot, after its digest was computed again.
    pub fn restore<B: AsRef<[u8]> + Sync>(snapshot: Snapshot<B>) -> Result<Self, RestoreError> {
        let Snapshot { head, entries } = snapshot;
        if head.format != SNAPSHOT_FORMAT {
            return Err(RestoreError::Format { found: head.format });
        }
        if let Some(feature) = head.features.iter().find(|f| !KNOWN_FEATURES.contains(&f.as_str())) {
            return Err(RestoreError::Feature(feature.clone()));
        }
        let (state, said, digest) = load(&entries).map_err(RestoreError::Entry)?;
        let derived = digest.digest();
        if derived != head.state_digest {
            return Err(RestoreError::Digest { next_epoch: head.next_epoch, recorded: head.state_digest, derived });
        }
        if state.meta.get(&0).is_none() {
            return Err(RestoreError::Entry("the cell's own row is missing".to_owned()));
        }
        // Only of a state that hangs together can indexes be made.
        let index = Index::with(&state, said);
        Ok(Self {
            cell: head.cell,
            state,
            index,
            digest,
            chain_head: head.chain_head,
            arrivals_open: false,
            overcommitments: Vec::new(),
            features_given: false,
        })
    }
}

/// The state of entries with what its jobs ask for, and their digest. The digest is half of the work and done on two threads, and
/// reading what jobs ask for a third, on one of its own.
fn load<B: AsRef<[u8]> + Sync>(entries: &[Entry<B>]) -> Result<(State, Said, SetHash), String> {
    let specs =
        entries.partition_point(|entry| entry.table < SPECS)..entries.partition_point(|entry| entry.table <= SPECS);
    let (before, after) = (&entries[..specs.start], &entries[specs.end..]);
    std::thread::scope(|scope| {
        let digest_of = |entries: &[Entry<B>]| {
            let mut digest = SetHash::default();
            for entry in entries {
                digest.add(entry.table, entry.key.as_ref(), entry.value.as_ref());
            }
            digest
        };
        let (first, second) = entries.split_at(entries.len() / 2);
        let digests = [first, second].map(|entries| scope.spawn(move || digest_of(entries)));
        let specs = scope.spawn(|| {
            let (mut table, mut said) = (Table::default(), Said::default());
            let row = |id: &JobId, bytes: &[u8]| {
                let (packed, spec) = Packed::<Spec>::read(bytes)?;
                said.note(id, &spec);
                Ok(packed)
            };
            table.load_each(&entries[specs], row).map_err(|error| format!("table specs: {error}"))?;
            Ok::<_, String>((table, said))
        });
        let mut state = State::default();
        state.load_tables(before)?;
        state.load_tables(after)?;
        let died = |_| "a thread died".to_owned();
        let (table, said) = specs.join().map_err(died)??;
        state.specs = table;
        let mut digest = SetHash::default();
        for part in digests {
            digest.add_all(&part.join().map_err(died)?);
        }
        Ok((state, said, digest))
    })
}
