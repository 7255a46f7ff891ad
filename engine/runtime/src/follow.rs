//! Following history with a warm kernel: every epoch that somebody wrote is derived here too, and compared.
//!
//! A standby does nothing else until it leads. One that derives something else than what is recorded stops and names the
//! epoch: either it or the leader is wrong, and none of them may go on unseen.

use solyx_kernel::{KNOWN_FEATURES, Kernel};
use solyx_schemas::epochs::{EpochBatch, EpochReader, Frontier, RawEpoch};
use solyx_schemas::ids::CellId;
use solyx_schemas::log::{Log, Producer};

use crate::audit_features::switched_on;
use crate::compare::first_difference;
use crate::derive::recorded_epoch;
use crate::engine::{Engine, EngineOptions};
use crate::error::RuntimeError;
use crate::ids::{Claim, IdIndex};
use crate::snapshots::{Snapshots, recorded};

/// A kernel that follows the log.
pub struct Follower<'l> {
    log: &'l dyn Log,
    cell: CellId,
    kernel: Kernel,
    ids: IdIndex,
    /// What the index held when it was opened; epochs before that are in it.
    indexed: Frontier,
    snapshots: Snapshots,
    reader: EpochReader<'l>,
    /// Term of the record that the reader began at.
    term_before: i64,
    retry_pause: std::time::Duration,
}

/// What a follower hands to the engine that it becomes.
pub(crate) struct FollowedTo<'l> {
    pub log: &'l dyn Log,
    pub kernel: Kernel,
    pub ids: IdIndex,
    pub snapshots: Snapshots,
    pub frontier: Frontier,
    pub highest_term: i64,
    pub retry_pause: std::time::Duration,
}

impl<'l> Follower<'l> {
    /// Begins at the newest snapshot, or at the first epoch when somebody wants to see all of history.
    pub fn begin(log: &'l dyn Log, options: &EngineOptions, from_the_first: bool) -> Result<Self, RuntimeError> {
        let dir = |name: &str| options.dir.as_ref().map(|dir| dir.join(name));
        let mut snapshots = Snapshots::new(dir("snapshots"), options.snapshot_every_epochs);
        let (kernel, from) = snapshots.load(log, &options.cell)?;
        let ids = dir("index").map_or_else(|| Ok(IdIndex::in_memory()), |dir| IdIndex::open(&dir, log))?;
        let indexed = ids.frontier().clone();
        let from = match from_the_first {
            true => Frontier::default(),
            false if indexed.next_epoch < from.next_epoch => indexed.clone(),
            false => from,
        };
        let term_before = recorded(log, &from)?.map_or(0, |record| record.term);
        let reader = EpochReader::at(log, &from);
        let (cell, retry_pause) = (options.cell.clone(), options.retry_pause);
        Ok(Self { log, cell, kernel, ids, indexed, snapshots, reader, term_before, retry_pause })
    }

    /// What an engine is again that has committed all it did and leads no longer.
    pub(crate) fn again(followed: FollowedTo<'l>, cell: CellId) -> Self {
        let FollowedTo { log, kernel, ids, snapshots, frontier, highest_term, retry_pause } = followed;
        let reader = EpochReader::at(log, &frontier);
        Self { log, cell, kernel, ids, indexed: frontier, snapshots, reader, term_before: highest_term, retry_pause }
    }

    /// The kernel between two epochs.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// Takes the epochs that are there, at most so many; how many it took. `observe` sees each.
    pub fn follow(
        &mut self,
        epochs_max: u64,
        mut observe: Option<&mut dyn FnMut(&EpochBatch)>,
    ) -> Result<u64, RuntimeError> {
        let mut taken = 0;
        while taken < epochs_max {
            let Some(raw) = self.reader.next_raw()? else { break };
            let batch = self.take(raw)?;
            if let Some(observe) = &mut observe {
                observe(&batch);
            }
            taken += 1;
        }
        Ok(taken)
    }

    /// Waits until there is more of history; false when the deadline came first.
    pub fn wait(&self, deadline: std::time::Instant) -> Result<bool, RuntimeError> {
        Ok(self.reader.wait(deadline)?)
    }

    /// Leads, once all is read that was there when the producer fenced.
    pub fn lead(
        mut self,
        producer: Box<dyn Producer>,
        observe: Option<&mut dyn FnMut(&EpochBatch)>,
    ) -> Result<Engine<'l>, RuntimeError> {
        self.follow(u64::MAX, observe)?;
        let Self { log, kernel, ids, snapshots, reader, term_before, retry_pause, .. } = self;
        let highest_term = term_before.max(reader.highest_term());
        let frontier = reader.frontier();
        Engine::of(FollowedTo { log, kernel, ids, snapshots, frontier, highest_term, retry_pause }, producer)
    }

    /// Keeps a snapshot when one is due, so that a standby restarts as fast as it takes over; goes on for a moment with one that
    /// was begun.
    pub fn keep(&mut self) -> Result<(), RuntimeError> {
        let frontier = self.reader.frontier();
        if frontier.next_epoch == self.kernel.next_epoch() && self.snapshots.is_due(frontier.next_epoch) {
            self.ids.flush(&frontier)?;
            self.snapshots.begin(&mut self.kernel, &frontier);
        }
        self.snapshots.go_on(&mut self.kernel);
        Ok(())
    }

    fn take(&mut self, raw: RawEpoch) -> Result<EpochBatch, RuntimeError> {
        check_belongs(&raw, &self.cell)?;
        let values: Vec<Vec<u8>> = match raw.record.epoch >= self.indexed.next_epoch {
            true => raw.inputs.iter().map(|input| input.stored.record.value.clone()).collect(),
            false => Vec::new(),
        };
        let derived = raw.record.epoch >= self.kernel.next_epoch();
        let batch = caught_up(&mut self.kernel, self.log, raw)?;
        if derived {
            self.snapshots.count(batch.inputs.len() + batch.outputs.len());
        }
        for (input, value) in batch.inputs.iter().zip(&values) {
            if let (Some(decoded), None) = (&input.decoded, input.skipped) {
                self.ids.take(&Claim::of(decoded, value));
            }
        }
        if self.ids.is_full() {
            self.ids.flush(&self.reader.frontier())?;
        }
        Ok(batch)
    }
}

fn check_belongs(raw: &RawEpoch, cell: &CellId) -> Result<(), RuntimeError> {
    if raw.record.cell != *cell {
        return Err(RuntimeError::Cell { found: raw.record.cell.to_string(), expected: cell.to_string() });
    }
    let lacking = raw.record.features.iter().find(|feature| !KNOWN_FEATURES.contains(&feature.as_str()));
    if let Some(feature) = lacking {
        return Err(RuntimeError::Feature { epoch: raw.record.epoch, feature: feature.to_string() });
    }
    Ok(())
}

/// The epoch decoded; if the kernel has not come so far, derived again and compared.
fn caught_up(kernel: &mut Kernel, log: &dyn Log, raw: RawEpoch) -> Result<EpochBatch, RuntimeError> {
    if raw.record.epoch < kernel.next_epoch() {
        return Ok(raw.decode()?);
    }
    let derived = recorded_epoch(kernel, log, &raw);
    match first_difference(&raw, &derived.closed) {
        Some(difference) => {
            switched_on(&raw, &derived.closed)?;
            Err(RuntimeError::Diverged(Box::new(difference)))
        }
        None => Ok(derived.into_batch()),
    }
}
