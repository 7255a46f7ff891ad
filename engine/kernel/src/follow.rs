//! The state of a cell for readers that need the kernel's own rules: made again from recorded epochs, without digests.
//!
//! A view that asks where jobs would go has to know all that the kernel knows. It follows the log through the same `apply`
//! and `decide`, and compares what it decides with what was decided then. It keeps no digest and no chain: whoever wants
//! those proven audits the log.

use solyx_schemas::epochs::Position;
use solyx_schemas::events::decisions::EpochCommitted;
use solyx_schemas::events::{Event, Stamp};
use solyx_schemas::hash::Hash32;
use solyx_schemas::ids::{CellId, FeatureId};

use crate::Kernel;
use crate::index::Index;
use crate::judge::KNOWN_FEATURES;
use crate::state::State;
use crate::table::{Changed, Entry};

/// Why an epoch cannot be made again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FollowError {
    /// A feature that this build lacks.
    #[error("epoch {epoch} needs feature {feature}, which this build lacks")]
    Feature {
        /// The epoch.
        epoch: i64,
        /// The feature.
        feature: FeatureId,
    },
    /// An event that counted is refused now.
    #[error("{event} counted in epoch {epoch} and does not now: {detail}")]
    Refused {
        /// The epoch.
        epoch: i64,
        /// Name of the event.
        event: &'static str,
        /// Why.
        detail: String,
    },
    /// Another decision than the recorded one.
    #[error("decision {index} of epoch {epoch} is {recorded} in the log and {derived} here")]
    Decided {
        /// The epoch.
        epoch: i64,
        /// Index of the first decision that differs.
        index: usize,
        /// As recorded.
        recorded: &'static str,
        /// As decided now.
        derived: &'static str,
    },
    /// A saved entry that cannot be read.
    #[error("a saved entry does not decode: {0}")]
    Entry(String),
}

/// A kernel that follows a log at the ends of its epochs.
#[derive(Clone)]
pub struct Follower {
    pub(crate) kernel: Kernel,
}

impl Follower {
    /// Before the first epoch of a cell.
    pub fn new(cell: CellId) -> Self {
        Self { kernel: Kernel::new(cell) }
    }

    /// At the boundary where a kernel stands.
    pub fn of(kernel: Kernel) -> Self {
        Self { kernel }
    }

    /// From the canonical entries of a state at the end of an epoch.
    pub fn load(cell: CellId, entries: impl IntoIterator<Item = Entry>) -> Result<Self, FollowError> {
        let mut state = State::default();
        for entry in entries {
            state.load(&entry).map_err(FollowError::Entry)?;
        }
        if state.meta.get(&0).is_none() {
            return Err(FollowError::Entry("the cell's own row is missing".to_owned()));
        }
        let mut kernel = Kernel::new(cell);
        kernel.index = Index::of(&state);
        kernel.state = state;
        Ok(Self { kernel })
    }

    /// The cell.
    pub fn cell(&self) -> &CellId {
        self.kernel.cell()
    }

    /// Everything it knows.
    pub fn state(&self) -> &State {
        self.kernel.state()
    }

    /// All canonical entries, in order of table and key.
    pub fn entries(&self) -> Vec<Entry> {
        self.kernel.state.entries()
    }

    /// What changed since the last call, in order of table and key.
    pub fn take_changes(&mut self) -> Vec<Changed> {
        self.kernel.state.take_changes()
    }

    /// No longer remembers what changed.
    pub fn forget_changes(&mut self) {
        self.kernel.state.forget_changes();
    }

    /// Makes the next epoch again: the events that counted in the order of application, then its decisions, which must be
    /// those recorded. Of no use after an error.
    pub fn follow<'e>(
        &mut self,
        record: &EpochCommitted,
        counted: impl IntoIterator<Item = (Position, &'e Event)>,
        outputs: &[Event],
    ) -> Result<(), FollowError> {
        let epoch = record.epoch;
        if let Some(feature) = record.features.iter().find(|feature| !KNOWN_FEATURES.contains(&feature.as_str())) {
            return Err(FollowError::Feature { epoch, feature: feature.clone() });
        }
        let kernel = &mut self.kernel;
        kernel.begin(record.now_us);
        for (position, event) in counted {
            kernel.apply(position, event).map_err(|rejection| FollowError::Refused {
                epoch,
                event: event.name(),
                detail: rejection.detail,
            })?;
        }
        let decided = kernel.decide(record.term);
        kernel.take_overcommitments();
        compare(kernel, record, decided, outputs)?;
        kernel.state.meta_mut().next_epoch += 1;
        kernel.end(Hash32::default());
        Ok(())
    }
}

/// The first decision that differs from the recorded ones; copies of records that did not count stand after them.
fn compare(
    kernel: &Kernel,
    record: &EpochCommitted,
    decided: Vec<Event>,
    outputs: &[Event],
) -> Result<(), FollowError> {
    let differs =
        |index, recorded, derived| Err(FollowError::Decided { epoch: record.epoch, index, recorded, derived });
    let mut recorded = outputs.iter().filter(|output| !matches!(output, Event::RecordQuarantined(_)));
    let mut stamp =
        Stamp { cell: kernel.cell.clone(), epoch: record.epoch, term: record.term, index: 0, now_us: kernel.now() };
    for (index, mut derived) in decided.into_iter().enumerate() {
        stamp.index = index as i64;
        derived.stamp(&stamp);
        match recorded.next() {
            Some(recorded) if *recorded == derived => {}
            Some(recorded) => return differs(index, recorded.name(), derived.name()),
            None => return differs(index, "none", derived.name()),
        }
    }
    match recorded.next() {
        Some(more) => differs(stamp.index as usize + 1, more.name(), "none"),
        None => Ok(()),
    }
}
