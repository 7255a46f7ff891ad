//! Staging a recording in an empty log, and running it.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use solyx_runtime::{EngineOptions, INSTANT, Lockstep, Progress, RunEnd, RuntimeError, VirtualOptions, run_virtual};
use solyx_schemas::codec::Codec;
use solyx_schemas::epochs::EpochBatch;
use solyx_schemas::events::Event;
use solyx_schemas::ids::SourceId;
use solyx_schemas::log::{Log, LogError, Record};
use solyx_schemas::topics::{Topic, TopicName};
use solyx_schemas::units::TimeUs;

use super::apply::Changes;
use super::recording::{Recording, Taken};
use crate::executor::SimulatedExecutor;

/// Records and bytes of one append.
const BATCH_RECORDS: usize = 8_192;
const BATCH_BYTES: usize = 4 << 20;
/// Who stages.
const PRODUCER: &str = "backtest";

/// Why a log could not be run again.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The log that is written.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The run.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

/// Writes a recording with its changes to an empty log: demand and world to the staged topics, each at its instant; scripts to
/// topic `sim`.
pub fn stage(recording: &Recording, changes: &Changes, log: &dyn Log) -> Result<(), LogError> {
    let mut producer = log.producer(PRODUCER)?;
    let (mut batch, mut bytes) = (Vec::new(), 0);
    let mut put = |record: Record| -> Result<(), LogError> {
        bytes += record.size();
        batch.push(record);
        if batch.len() >= BATCH_RECORDS || bytes >= BATCH_BYTES {
            bytes = 0;
            producer.append(std::mem::take(&mut batch))?;
        }
        Ok(())
    };
    for (at, taken) in recording.taken.iter().enumerate() {
        match changes.replaced.get(&at) {
            None => put(staged(&taken.record, taken.at))?,
            Some(Some(record)) => put(staged(record, taken.at))?,
            Some(None) => {}
        }
    }
    for Taken { at, record, .. } in &changes.added {
        put(staged(record, *at))?;
    }
    let sim = TopicName::live(Topic::Sim);
    for event in changes.scripts.as_ref().unwrap_or(&recording.scripts) {
        put(Codec::global().record(event, sim, log.partitions(sim)))?;
    }
    if !batch.is_empty() {
        producer.append(batch)?;
    }
    producer.sync()
}

fn staged(record: &Record, at: TimeUs) -> Record {
    let mut record = record.clone();
    record.topic = TopicName::staged(record.topic.topic);
    record.headers.push((INSTANT.to_owned(), at.0.to_string().into_bytes()));
    record
}

/// Runs what is staged, as far as the recording goes: to its last instant when something ran then, otherwise until nothing runs or
/// can start any more, and to its last instant at least. `see` is shown each epoch; `dir` takes the engine's index and snapshots.
pub fn run(
    recording: &Recording,
    log: &dyn Log,
    dir: Option<PathBuf>,
    stop: &AtomicBool,
    see: &mut (dyn FnMut(&EpochBatch) + Send),
    progress: &mut dyn FnMut(&Progress),
) -> Result<RunEnd, RunError> {
    let mut engine = EngineOptions::new(recording.cell.clone(), dir);
    // Nothing goes on from here: a snapshot would only cost time.
    engine.snapshot_every_epochs = i64::MAX;
    let mut options = VirtualOptions::new(engine);
    options.sync_every_epochs = u64::MAX;
    options.until_idle = recording.complete;
    options.idle_from = Some(recording.to);
    options.until = (!recording.complete).then_some(recording.to);
    let executor = SimulatedExecutor::from_log(recording.executor(), log)?;
    let mut watched = Watched { executor, see };
    Ok(run_virtual(log, Some(&mut watched), &options, stop, progress)?)
}

/// An executor whose epochs somebody else is shown as well.
struct Watched<'s> {
    executor: SimulatedExecutor,
    see: &'s mut (dyn FnMut(&EpochBatch) + Send),
}

impl Lockstep for Watched<'_> {
    fn name(&self) -> SourceId {
        self.executor.name()
    }

    fn observe(&mut self, epoch: &EpochBatch) {
        self.executor.observe(epoch);
        (self.see)(epoch);
    }

    fn next_report_us(&self) -> Option<TimeUs> {
        self.executor.next_report_us()
    }

    fn take_due(&mut self, now: TimeUs) -> Vec<Event> {
        self.executor.take_due(now)
    }

    fn live_runs(&self) -> usize {
        self.executor.live_runs()
    }

    fn next_report_is_background(&self) -> bool {
        self.executor.next_report_is_background()
    }

    fn resume_at(&mut self, handed_on: u64) {
        self.executor.resume_at(handed_on);
    }
}
