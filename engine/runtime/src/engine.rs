//! The engine of one cell at work on a log: it fences, reads to the end, and then makes epochs.
//!
//! Whatever fails after the kernel has gone ahead leaves an engine that is of no more use: drop it and lead again.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use solyx_kernel::Kernel;
use solyx_schemas::epochs::{EpochBatch, Frontier, Positions, RecordPlace};
use solyx_schemas::hash::Hash32;
use solyx_schemas::ids::CellId;
use solyx_schemas::log::{Ack, Log, LogErrorKind, Producer, Record, Written};
use solyx_schemas::topics::{Topic, TopicName};

use crate::derive::{Derived, next_epoch, records_of};
use crate::error::RuntimeError;
use crate::follow::{FollowedTo, Follower};
use crate::ids::IdIndex;
use crate::intake::Intake;
use crate::snapshots::Snapshots;

/// How far an epoch's clock reading may be ahead of the append time of its record.
pub const CLOCK_AHEAD_MAX_US: i64 = 5_000_000;
/// How often an append that may work later is tried again.
const RETRIES: u32 = 20;

/// What every engine is told.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// The cell.
    pub cell: CellId,
    /// Where `index` and `snapshots` are kept; in memory and not at all when absent.
    pub dir: Option<PathBuf>,
    /// Epochs between snapshots, at least.
    pub snapshot_every_epochs: i64,
    /// How long after it failed an append that may work later is tried again.
    pub retry_pause: Duration,
}

impl EngineOptions {
    /// Of a cell, with everything kept in a directory.
    pub fn new(cell: CellId, dir: Option<PathBuf>) -> Self {
        Self { cell, dir, snapshot_every_epochs: 10_000, retry_pause: Duration::from_millis(50) }
    }
}

/// An engine that leads.
pub struct Engine<'l> {
    pub(crate) log: &'l dyn Log,
    pub(crate) kernel: Kernel,
    pub(crate) intake: Intake,
    producer: Box<dyn Producer>,
    term: i64,
    ids: IdIndex,
    snapshots: Snapshots,
    outputs: Positions,
    record: Option<RecordPlace>,
    chain_head: Hash32,
    retry_pause: Duration,
}

impl<'l> Engine<'l> {
    /// Fences whoever wrote before, reads to the end, and leads. `observe` sees the whole history from its first epoch.
    pub fn lead(
        log: &'l dyn Log,
        options: &EngineOptions,
        observe: Option<&mut dyn FnMut(&EpochBatch)>,
    ) -> Result<Self, RuntimeError> {
        // The name is taken first: what is read after that is all that there will be of others.
        let producer = log.producer(&producer_name(&options.cell))?;
        let from_the_first = observe.is_some();
        Follower::begin(log, options, from_the_first)?.lead(producer, observe)
    }

    /// Of a follower that has read to the end after its producer fenced.
    pub(crate) fn of(follower: FollowedTo<'l>, producer: Box<dyn Producer>) -> Result<Self, RuntimeError> {
        let FollowedTo { log, kernel, ids, snapshots, frontier, highest_term, retry_pause } = follower;
        let intake = Intake::new(log, &frontier.inputs)?;
        warn_of_partitions(log, &kernel);
        let Frontier { outputs, record, chain_head, .. } = frontier;
        let term = producer.term_after(highest_term);
        Ok(Self { log, kernel, intake, producer, term, ids, snapshots, outputs, record, chain_head, retry_pause })
    }

    /// Leads no longer; whoever leads next is followed. Only an engine whose last epoch was committed can do so.
    pub(crate) fn step_down(self) -> Follower<'l> {
        let frontier = self.frontier();
        let cell = self.kernel.cell().clone();
        let Self { log, kernel, ids, snapshots, term, retry_pause, .. } = self;
        Follower::again(FollowedTo { log, kernel, ids, snapshots, frontier, highest_term: term, retry_pause }, cell)
    }

    /// The kernel between two epochs.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// How far it has come.
    pub fn frontier(&self) -> Frontier {
        Frontier {
            next_epoch: self.kernel.next_epoch(),
            chain_head: self.chain_head,
            record: self.record,
            inputs: self.intake.positions(),
            outputs: self.outputs.clone(),
        }
    }

    /// Appends input records as a producer does, and takes note of them.
    pub(crate) fn append_inputs(&mut self, records: Vec<Record>) -> Result<(), RuntimeError> {
        let ack = self.append_retrying(&records, &mut |_| true)?;
        self.intake.offer(&ack, records);
        Ok(())
    }

    /// One turn without waiting: an epoch if input lies unread or the kernel wants to be woken by now, and what is to be made
    /// durable after it. For whoever has a clock of its own.
    pub fn turn(&mut self, clock_us: i64) -> Result<Option<EpochBatch>, RuntimeError> {
        let log = self.log;
        self.intake.refresh(log)?;
        let is_due = self.kernel.next_wakeup().is_some_and(|wakeup| wakeup.0 <= clock_us);
        if self.intake.unread() == 0 && !is_due {
            return Ok(None);
        }
        let batch = self.epoch(clock_us, true)?;
        if self.wants_sync() {
            self.sync()?;
        }
        self.go_on();
        Ok(Some(batch))
    }

    /// Makes the next epoch of what lies unread and commits it; its time is the clock's, never earlier than the last epoch's.
    /// `guarded` compares the clock's reading with the log's time for the epoch's record.
    pub(crate) fn epoch(&mut self, clock_us: i64, guarded: bool) -> Result<EpochBatch, RuntimeError> {
        let log = self.log;
        let derived = next_epoch(&mut self.kernel, &mut self.ids, log, &mut self.intake, clock_us, self.term)?;
        let mut ahead_us = 0;
        let mut accept = |ack: &Ack| {
            ahead_us = clock_us - ack.append_time_us;
            !guarded || ahead_us <= CLOCK_AHEAD_MAX_US
        };
        let appended = self.append_retrying(&records_of(log, &derived.closed), &mut accept);
        let ack = appended.map_err(|error| match error {
            RuntimeError::Log(error) if error.kind == LogErrorKind::Declined => {
                RuntimeError::ClockAhead { ahead_us, allowed_us: CLOCK_AHEAD_MAX_US }
            }
            other => other,
        })?;
        self.note(&ack, &derived)?;
        self.snapshots.count(derived.inputs.len() + derived.closed.outputs.len());
        Ok(derived.into_batch())
    }

    /// The epoch record is the last of its partition.
    fn note(&mut self, ack: &Ack, derived: &Derived) -> Result<(), RuntimeError> {
        let key = self.kernel.cell().as_str().as_bytes();
        let topic = TopicName::live(Topic::Decisions);
        let of_record = solyx_schemas::topics::partition_of(key, self.log.partitions(topic));
        for Written { topic: name, partition, first, records } in &ack.written {
            let next = first.map_or_else(|| self.log.end(*name, *partition), |first| Ok(first + records))?;
            self.outputs.set(name.topic, *partition, next);
            if *name == topic && *partition == of_record {
                self.record = Some(RecordPlace { partition: *partition, ordinal: next - 1 });
            }
        }
        self.chain_head = derived.closed.chain_hash;
        Ok(())
    }

    fn append_retrying(
        &mut self,
        records: &[Record],
        accept: &mut dyn FnMut(&Ack) -> bool,
    ) -> Result<Ack, RuntimeError> {
        let mut retries = 0;
        loop {
            match self.producer.append_if(records, accept) {
                Err(error) if error.kind == LogErrorKind::Retry && retries < RETRIES => {
                    retries += 1;
                    let (epoch, pause_ms) = (self.kernel.next_epoch(), self.retry_pause.as_millis() as u64);
                    tracing::warn!(%error, epoch, retries, pause_ms, "an append is tried again");
                    std::thread::sleep(self.retry_pause);
                }
                done => return Ok(done?),
            }
        }
    }

    /// Makes what was appended durable; then the index may be written, and a snapshot begun when one is due.
    pub(crate) fn sync(&mut self) -> Result<(), RuntimeError> {
        self.producer.sync()?;
        let due = self.snapshots.is_due(self.kernel.next_epoch());
        if due || self.ids.is_full() {
            let frontier = self.frontier();
            self.ids.flush(&frontier)?;
            if due {
                self.snapshots.begin(&mut self.kernel, &frontier);
            }
        }
        Ok(())
    }

    /// Whether the index should be written or a snapshot begun, which needs a durable log.
    pub(crate) fn wants_sync(&self) -> bool {
        self.ids.is_full() || self.snapshots.is_due(self.kernel.next_epoch())
    }

    /// Goes on for a moment with a snapshot that was begun.
    pub(crate) fn go_on(&mut self) {
        self.snapshots.go_on(&mut self.kernel);
    }

    /// Leaves everything durable, with a snapshot when the deadline leaves time for it.
    pub fn finish(&mut self, deadline: Option<Instant>) -> Result<(), RuntimeError> {
        self.producer.sync()?;
        let frontier = self.frontier();
        self.ids.flush(&frontier)?;
        let in_time = deadline.is_none_or(|deadline| Instant::now() < deadline);
        if in_time && self.snapshots.is_behind(frontier.next_epoch) {
            self.snapshots.begin(&mut self.kernel, &frontier);
            self.snapshots.complete(&mut self.kernel);
        }
        Ok(())
    }
}

/// What the engine of a cell writes as. The newest of the name is the one that may.
pub fn producer_name(cell: &CellId) -> String {
    format!("engine-{cell}")
}

/// Producers take a topic's partitions from `CellDeclared`, or those it has by default; where the log has others, keys go astray.
/// That is no reason to stop: the engine takes every partition there is, and only an engine that runs takes in a new declaration.
fn warn_of_partitions(log: &dyn Log, kernel: &Kernel) {
    let declared = &kernel.state().meta().partitions;
    for topic in Topic::ALL {
        let has = log.partitions(topic.into());
        let own = declared.iter().find(|(name, _)| name.as_str() == topic.name()).map(|(_, count)| *count);
        let expected = own.unwrap_or(topic.default_partitions().into());
        if i64::from(has) != expected {
            let by = if own.is_some() { "the cell's declaration" } else { "default" };
            tracing::warn!(
                topic = topic.name(),
                has,
                expected,
                by,
                "producers expect other partitions than the log has; declare those it has"
            );
        }
    }
}
