//! Staging a recording in an empty log, and running it: in one go, or, where records came late, in as many as it took.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use solyx_runtime::{
    Ending, EngineOptions, INSTANT, Lockstep, Progress, RunEnd, RuntimeError, VirtualOptions, run_virtual,
};
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

/// Writes a recording with its changes to an empty log, without what has these places: demand and world to the staged topics, each at
/// its instant; scripts to topic `sim`.
pub fn stage(
    recording: &Recording,
    changes: &Changes,
    log: &dyn Log,
    left_out: &BTreeSet<usize>,
) -> Result<(), LogError> {
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
    for (at, taken) in recording.taken.iter().enumerate().filter(|(at, _)| !left_out.contains(at)) {
        if let Some(record) = changed(taken, at, changes) {
            put(staged(record, taken.at))?;
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

/// What is in the place of a record, if anything is.
fn changed<'r>(taken: &'r Taken, at: usize, changes: &'r Changes) -> Option<&'r Record> {
    match changes.replaced.get(&at) {
        None => Some(&taken.record),
        Some(record) => record.as_ref(),
    }
}

fn staged(record: &Record, at: TimeUs) -> Record {
    let mut record = record.clone();
    record.topic = TopicName::staged(record.topic.topic);
    record.headers.push((INSTANT.to_owned(), at.0.to_string().into_bytes()));
    record
}

/// Stages a recording with its changes in an empty log and runs it as far as the recording goes: to its last instant when something ran
/// then, otherwise until nothing runs or can start any more, and to its last instant at least. What came late comes so again: the run
/// ends at the instant before it, as it did then, and goes on with it. `see` is shown each epoch; `dir` takes the engine's index and
/// snapshots.
pub fn stage_and_run(
    recording: &Recording,
    changes: &Changes,
    log: &dyn Log,
    dir: Option<PathBuf>,
    stop: &AtomicBool,
    see: &mut (dyn FnMut(&EpochBatch) + Send),
    progress: &mut dyn FnMut(&Progress),
) -> Result<RunEnd, RunError> {
    stage(recording, changes, log, &recording.late.iter().cloned().flatten().collect())?;
    let mut going = Going { recording, log, dir, stop, see, seen: 0, progress };
    for late in &recording.late {
        let at = recording.taken[late.start].at;
        let end = going.up_to(at)?;
        if matches!(end.ending, Ending::Stopped) {
            return Ok(end);
        }
        let places = late.clone().map(|at| (at, &recording.taken[at]));
        let records = places.filter_map(|(at, taken)| changed(taken, at, changes));
        // A variation may have nothing to do at this instant: then it is yet to come to it.
        let is_there = end.progress.now == at;
        let records: Vec<Record> =
            records.map(|record| if is_there { record.clone() } else { staged(record, at) }).collect();
        if !records.is_empty() {
            let mut producer = log.producer(PRODUCER)?;
            producer.append(records)?;
            producer.sync()?;
        }
    }
    going.finish()
}

/// A run in one or several goes.
struct Going<'r> {
    recording: &'r Recording,
    log: &'r dyn Log,
    dir: Option<PathBuf>,
    stop: &'r AtomicBool,
    see: &'r mut (dyn FnMut(&EpochBatch) + Send),
    /// Epochs that were shown; a go begins with all that there are.
    seen: i64,
    progress: &'r mut dyn FnMut(&Progress),
}

impl Going<'_> {
    fn finish(&mut self) -> Result<RunEnd, RunError> {
        let Recording { complete, to, .. } = *self.recording;
        let mut options = self.options();
        options.until_idle = complete;
        options.idle_from = Some(to);
        options.until = (!complete).then_some(to);
        self.go(&options)
    }

    fn up_to(&mut self, at: TimeUs) -> Result<RunEnd, RunError> {
        let mut options = self.options();
        options.until_idle = false;
        options.until = Some(at);
        self.go(&options)
    }

    fn options(&self) -> VirtualOptions {
        let mut engine = EngineOptions::new(self.recording.cell.clone(), self.dir.clone());
        // Nothing goes on from here: a snapshot would only cost time.
        engine.snapshot_every_epochs = i64::MAX;
        let mut options = VirtualOptions::new(engine);
        options.sync_every_epochs = u64::MAX;
        options
    }

    fn go(&mut self, options: &VirtualOptions) -> Result<RunEnd, RunError> {
        let executor = SimulatedExecutor::from_log(self.recording.executor(), self.log)?;
        let mut watched = Watched { executor, see: &mut *self.see, seen: &mut self.seen };
        Ok(run_virtual(self.log, Some(&mut watched), options, self.stop, self.progress)?)
    }
}

/// An executor whose epochs somebody else is shown as well, each once.
struct Watched<'s> {
    executor: SimulatedExecutor,
    see: &'s mut (dyn FnMut(&EpochBatch) + Send),
    seen: &'s mut i64,
}

impl Lockstep for Watched<'_> {
    fn name(&self) -> SourceId {
        self.executor.name()
    }

    fn observe(&mut self, epoch: &EpochBatch) {
        self.executor.observe(epoch);
        if epoch.record.epoch >= *self.seen {
            *self.seen = epoch.record.epoch + 1;
            (self.see)(epoch);
        }
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
