//! An executor in real time: it reads epochs as they come, and writes its reports as they fall due.
//!
//! Each batch of reports carries a cursor that says how many epochs had been read and what time it was. A restart observes
//! the same epochs and takes the same reports at the same points, so that it knows what was said and says nothing twice.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use solyx_schemas::codec::Codec;
use solyx_schemas::epochs::EpochReader;
use solyx_schemas::events::Event;
use solyx_schemas::events::plans::CursorAdvanced;
use solyx_schemas::log::{Log, LogError, LogErrorKind, Producer, Record};
use solyx_schemas::topics::{Topic, TopicName};
use solyx_schemas::units::TimeUs;

use crate::cursors::{self, Cursors};
use crate::error::RuntimeError;
use crate::lockstep::Lockstep;
use crate::progress::Progress;

/// Longest wait for the next epoch.
const POLL: Duration = Duration::from_millis(50);
/// Reports of one append.
const REPORTS_MAX: usize = 4_096;
const PROGRESS_PAUSE: Duration = Duration::from_millis(500);

/// What an executor writes as.
pub fn producer_name(executor: &str) -> String {
    format!("executor-{executor}")
}

/// Carries out decisions until `stop`, or until the log fails; then make a new executor and call this again.
pub fn execute(
    log: &dyn Log,
    executor: &mut dyn Lockstep,
    clock: fn() -> i64,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Progress, RuntimeError> {
    let producer = log.producer(&producer_name(executor.name().as_str()))?;
    log.settle(Topic::Cursors.into())?;
    let cursors = Cursors::history(log, executor.name().as_str())?;
    let mut execution =
        Execution { log, executor, producer, reader: EpochReader::new(log), handed_on: 0, done: Progress::default() };
    execution.catch_up(&cursors)?;
    let mut told = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        execution.observe(i64::MAX)?;
        execution.hand_on(TimeUs(clock()))?;
        if told.elapsed() >= PROGRESS_PAUSE {
            told = Instant::now();
            progress(&execution.done);
        }
        let due_us = execution.executor.next_report_us().map_or(i64::MAX, |due| due.0 - clock());
        let pause = Duration::from_micros(due_us.max(0).unsigned_abs()).min(POLL);
        execution.reader.wait(Instant::now() + pause)?;
    }
    progress(&execution.done);
    Ok(execution.done)
}

struct Execution<'a, 'l> {
    log: &'l dyn Log,
    executor: &'a mut dyn Lockstep,
    producer: Box<dyn Producer>,
    reader: EpochReader<'l>,
    handed_on: u64,
    done: Progress,
}

impl Execution<'_, '_> {
    /// Goes through what was observed and said before.
    fn catch_up(&mut self, cursors: &[CursorAdvanced]) -> Result<(), RuntimeError> {
        for cursor in cursors {
            self.observe(cursor.next_epoch.0)?;
            let said = self.executor.take_due(cursor.instant_us).len();
            self.handed_on += said as u64;
            if self.reader.next_epoch() != cursor.next_epoch.0 || self.handed_on != cursor.handed_on.0.unsigned_abs() {
                return Err(RuntimeError::Log(LogError::new(
                    LogErrorKind::Stop,
                    "the executor's history does not repeat",
                    format!(
                        "at epoch {} it would have said {} reports, the log has {}",
                        cursor.next_epoch.0, self.handed_on, cursor.handed_on.0
                    ),
                    "use the build and the scripts that it ran with, or another executor's name",
                )));
            }
        }
        Ok(())
    }

    /// Observes epochs before this one, as far as they are there.
    fn observe(&mut self, before: i64) -> Result<(), RuntimeError> {
        while self.reader.next_epoch() < before {
            let Some(batch) = self.reader.next_batch()? else { break };
            self.executor.observe(&batch);
            self.done.followed += 1;
            self.done.now = batch.record.now_us;
        }
        self.done.live_runs = self.executor.live_runs();
        Ok(())
    }

    /// Hands on what is due by now, in appends of about [`REPORTS_MAX`]: after a long break much is due at once.
    fn hand_on(&mut self, now: TimeUs) -> Result<(), RuntimeError> {
        loop {
            let mut due = Vec::new();
            while due.len() < REPORTS_MAX
                && let Some(next) = self.executor.next_report_us().filter(|next| *next <= now)
            {
                let reports = self.executor.take_due(next);
                if reports.is_empty() && self.executor.next_report_us() == Some(next) {
                    break;
                }
                due.extend(reports);
            }
            if due.is_empty() {
                return Ok(());
            }
            self.append(&due, now)?;
        }
    }

    /// Appends reports with the cursor behind them.
    fn append(&mut self, due: &[Event], now: TimeUs) -> Result<(), RuntimeError> {
        let record = |event| {
            let topic = TopicName::live(Event::topic(event));
            Codec::global().record(event, topic, self.log.partitions(topic))
        };
        let mut batch: Vec<Record> = due.iter().map(record).collect();
        self.handed_on += due.len() as u64;
        self.done.events += due.len() as u64;
        let (reader, next_epoch) = (self.executor.name(), self.reader.next_epoch());
        batch.push(cursors::record(self.log, &reader, now, next_epoch, self.handed_on, None));
        self.producer.append(batch)?;
        Ok(())
    }
}
