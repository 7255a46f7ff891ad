//! The pure state machine that decides: `apply` folds events, `decide` answers with decisions.
//!
//! No I/O, clock, randomness, floating point, environment or unordered iteration happens here; every constant that decides
//! is in an event. The same log gives the same bits on any machine.

#![deny(clippy::float_arithmetic, clippy::disallowed_types, clippy::disallowed_methods)]

pub mod cost;
pub mod digest;
pub mod energy;
pub mod epoch;
pub mod follow;
pub mod frequencies;
pub mod mig;
pub mod order_rule;
pub mod packing;
pub mod place;
pub mod plan;
pub mod power;
pub mod queue;
pub mod rating;
pub mod rows;
pub mod set_aside;
pub mod state;
pub mod table;
pub mod whatif;

mod apart;
mod apply;
mod budget;
mod clearing;
mod cut;
mod decay;
mod decide;
mod index;
mod invariants;
mod judge;
mod lease;
mod snapshot;

use solyx_schemas::epochs::Position;
use solyx_schemas::events::Event;
use solyx_schemas::events::decisions::Overcommitment;
use solyx_schemas::hash::Hash32;
use solyx_schemas::ids::{CellId, FeatureId};
use solyx_schemas::units::TimeUs;

use crate::digest::SetHash;
pub use crate::epoch::{
    Closed, ENGINE_VERSION, EPOCH_RECORDS_MAX, EPOCH_SKIPPED_MAX, InputHashes, OpenEpoch, Rejection, Seen, input_hash,
    output_hash,
};
use crate::index::Index;
pub use crate::judge::{KNOWN_FEATURES, unknown_feature};
pub use crate::snapshot::{RestoreError, Snapshot, SnapshotHead};
use crate::state::State;
pub use crate::table::Entry;

/// The kernel of one cell at an epoch boundary, or inside an open epoch.
#[derive(Clone)]
pub struct Kernel {
    cell: CellId,
    state: State,
    index: Index,
    digest: SetHash,
    chain_head: Hash32,
    arrivals_open: bool,
    overcommitments: Vec<Overcommitment>,
    features_given: bool,
}

impl Kernel {
    /// A kernel before the first epoch.
    pub fn new(cell: CellId) -> Self {
        let mut state = State::default();
        state.meta_mut();
        Self {
            cell,
            state,
            index: Index::default(),
            digest: SetHash::default(),
            chain_head: Hash32::default(),
            arrivals_open: false,
            overcommitments: Vec::new(),
            features_given: false,
        }
    }

    /// A kernel before the first epoch in which these features are in force from the first epoch on, whatever a log switches on.
    /// For comparing sets of features: an engine takes them from its log.
    pub fn with_features(cell: CellId, mut features: Vec<FeatureId>) -> Self {
        features.sort();
        features.dedup();
        let mut kernel = Self::new(cell);
        kernel.state.meta_mut().features = features;
        kernel.features_given = true;
        kernel
    }

    /// The cell.
    pub fn cell(&self) -> &CellId {
        &self.cell
    }

    /// Everything it knows.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Time of the last epoch, or of the open one.
    pub fn now(&self) -> TimeUs {
        self.state.now()
    }

    /// Number of the next epoch, or of the open one.
    pub fn next_epoch(&self) -> i64 {
        self.state.meta().next_epoch
    }

    /// Chain hash of the last epoch record; zeros before the first.
    pub fn chain_head(&self) -> Hash32 {
        self.chain_head
    }

    /// Features in force, sorted.
    pub fn features(&self) -> Vec<FeatureId> {
        self.state.meta().features.clone()
    }

    /// The next instant at which something changes by itself, ticks included.
    pub fn next_wakeup(&self) -> Option<TimeUs> {
        let timer = self.index.next_timer();
        let tick = self.index.next_tick(&self.state);
        timer.into_iter().chain(tick).min()
    }

    /// The same without what nobody waits for: ticks, ends of attestations, limits and prices.
    pub fn next_counting_wakeup(&self) -> Option<TimeUs> {
        self.index.next_counting_timer()
    }

    /// Runs that hold resources.
    pub fn live_runs(&self) -> usize {
        self.state.runs.len()
    }

    /// Jobs that wait.
    pub fn waiting_jobs(&self) -> usize {
        self.index.waiting()
    }

    /// Indexes that do not say what the state does; always none. For tests: it makes all of them anew.
    pub fn index_differences(&self) -> Vec<String> {
        self.index.differences(&self.state)
    }

    /// Limits of an epoch as declared: records, bytes, latency in µs.
    pub fn epoch_limits(&self) -> (usize, usize, i64) {
        let (records, bytes, latency_us) = self.state.meta().epoch_limits.unwrap_or((65_536, 16 << 20, 5_000));
        ((records.max(1) as usize).min(EPOCH_RECORDS_MAX), bytes.max(1) as usize, latency_us)
    }

    pub(crate) fn begin(&mut self, clock: TimeUs) {
        let meta = self.state.meta_mut();
        meta.now_us = meta.now_us.max(clock);
        let pending = std::mem::take(&mut meta.features_pending);
        if !self.features_given {
            meta.features.extend(pending);
            meta.features.sort();
            meta.features.dedup();
        }
        self.arrivals_open = true;
        self.index.due(&self.state);
        budget::renew_due(&mut self.state, &mut self.index);
    }

    pub(crate) fn apply(&mut self, position: Position, event: &Event) -> Result<(), Rejection> {
        apply::apply(&mut self.state, &mut self.index, position, event)
    }

    pub(crate) fn decide(&mut self, term: i64) -> Vec<Event> {
        let decided = decide::decide(&mut self.state, &mut self.index, &self.cell, term);
        self.overcommitments = decided.overcommitments;
        decided.outputs
    }

    pub(crate) fn take_overcommitments(&mut self) -> Vec<Overcommitment> {
        std::mem::take(&mut self.overcommitments)
    }

    /// Digest of the state after the epoch. The number of the next epoch is in it.
    pub(crate) fn digest(&mut self) -> Hash32 {
        self.state.meta_mut().next_epoch += 1;
        self.state.digest_changes(&mut self.digest);
        self.digest.digest()
    }

    pub(crate) fn end(&mut self, chain_hash: Hash32) {
        self.chain_head = chain_hash;
        self.arrivals_open = false;
    }
}
