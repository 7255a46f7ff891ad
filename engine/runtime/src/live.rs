//! A run in real time: wait for input or for the kernel's next wake-up, make an epoch, commit it, again.
//!
//! Whatever leaves an outcome unknown ends with a new producer that reads to the end before it leads. One that was
//! fenced gives way.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use solyx_schemas::ids::CellId;
use solyx_schemas::log::{Log, LogErrorKind};
use solyx_schemas::units::DurationUs;

use crate::engine::{Engine, EngineOptions};
use crate::error::RuntimeError;
use crate::progress::{Ending, Progress, RunEnd};

/// Longest wait before the order to stop is looked at again.
const POLL: Duration = Duration::from_millis(100);
/// Time between two reports of progress.
const PROGRESS_PAUSE: Duration = Duration::from_millis(500);
/// Pause before leading again.
const RESTART_PAUSE: Duration = Duration::from_millis(200);
/// How often in a row an engine leads again without having committed anything.
const RESTARTS_MAX: u32 = 10;

/// How a run in real time goes.
#[derive(Clone)]
pub struct RunOptions {
    /// The engine.
    pub engine: EngineOptions,
    /// The sequencer's clock, µs UTC.
    pub clock: fn() -> i64,
    /// Time that it may take to stop once told.
    pub shutdown: Duration,
    /// Epochs between two syncs of what the log has not made durable by itself.
    pub sync_every_epochs: u64,
}

impl RunOptions {
    /// With the system's clock and ten seconds to stop in.
    pub fn new(cell: CellId, dir: Option<PathBuf>) -> Self {
        let engine = EngineOptions::new(cell, dir);
        Self { engine, clock: system_clock_us, shutdown: Duration::from_secs(10), sync_every_epochs: 1_000 }
    }
}

/// The system's clock, µs UTC.
pub fn system_clock_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Runs until `stop`.
pub fn run(
    log: &dyn Log,
    options: &RunOptions,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(&Progress),
) -> Result<RunEnd, RuntimeError> {
    let mut done = Progress::default();
    let mut restarts = 0;
    loop {
        let before = done.epochs;
        match lead(log, options, stop, &mut done, progress) {
            Err(RuntimeError::Log(error))
                if matches!(error.kind, LogErrorKind::Restart | LogErrorKind::Retry)
                    && !stop.load(Ordering::Relaxed) =>
            {
                restarts = if done.epochs > before { 0 } else { restarts + 1 };
                if restarts > RESTARTS_MAX {
                    return Err(RuntimeError::Log(error));
                }
                tracing::warn!(%error, "the engine reads to the end and leads again");
                std::thread::sleep(RESTART_PAUSE);
            }
            ended => return ended,
        }
    }
}

fn lead(
    log: &dyn Log,
    options: &RunOptions,
    stop: &AtomicBool,
    done: &mut Progress,
    progress: &mut dyn FnMut(&Progress),
) -> Result<RunEnd, RuntimeError> {
    let mut engine = Engine::lead(log, &options.engine, None)?;
    let mut told = Instant::now();
    let mut since_sync = 0;
    while !stop.load(Ordering::Relaxed) {
        if told.elapsed() >= PROGRESS_PAUSE {
            told = Instant::now();
            note(&mut engine, options, done)?;
            progress(done);
        }
        if !gather(&mut engine, options, stop)? {
            continue;
        }
        let batch = engine.epoch((options.clock)(), true)?;
        done.epochs += 1;
        done.events += batch.inputs.len() as u64;
        since_sync += 1;
        if since_sync >= options.sync_every_epochs || engine.wants_sync() {
            since_sync = 0;
            engine.sync()?;
        }
    }
    engine.finish(Some(Instant::now() + options.shutdown))?;
    note(&mut engine, options, done)?;
    progress(done);
    let kernel = engine.kernel();
    let (next_epoch, chain_head) = (kernel.next_epoch(), kernel.chain_head());
    Ok(RunEnd { ending: Ending::Stopped, progress: *done, next_epoch, chain_head })
}

/// Waits for input or for the next wake-up; once there is input, for more of it within the epoch's limits. False when
/// there is nothing to make an epoch of yet.
fn gather(engine: &mut Engine<'_>, options: &RunOptions, stop: &AtomicBool) -> Result<bool, RuntimeError> {
    let log = engine.log;
    engine.intake.refresh(log)?;
    if engine.intake.unread() == 0 {
        let wakeup = engine.kernel().next_wakeup();
        let left_us = wakeup.map(|wakeup| wakeup.0 - (options.clock)());
        if left_us.is_some_and(|left_us| left_us <= 0) {
            return Ok(true);
        }
        let left = left_us.map_or(POLL, |left_us| Duration::from_micros(left_us.unsigned_abs()).min(POLL));
        if !log.wait(&engine.intake.waiting_at(), Instant::now() + left)? {
            return Ok(false);
        }
        engine.intake.refresh(log)?;
    }
    let (records_max, _, latency_us) = engine.kernel().epoch_limits();
    let deadline = Instant::now() + Duration::from_micros(latency_us.unsigned_abs());
    while engine.intake.unread() < records_max as u64
        && !stop.load(Ordering::Relaxed)
        && log.wait(&engine.intake.waiting_at(), deadline)?
    {
        engine.intake.refresh(log)?;
    }
    Ok(engine.intake.unread() > 0)
}

fn note(engine: &mut Engine<'_>, options: &RunOptions, done: &mut Progress) -> Result<(), RuntimeError> {
    let log = engine.log;
    engine.intake.refresh(log)?;
    let oldest = engine.intake.oldest_append_us(log)?;
    let kernel = engine.kernel();
    *done = Progress {
        now: kernel.now(),
        waiting_jobs: kernel.waiting_jobs(),
        live_runs: kernel.live_runs(),
        lag_records: engine.intake.unread(),
        lag: DurationUs(oldest.map_or(0, |oldest| ((options.clock)() - oldest).max(0))),
        ..*done
    };
    Ok(())
}
