//! A run in real time: wait for input or for the kernel's next wake-up, make an epoch, commit it, again.
//!
//! Whatever leaves an outcome unknown ends with a new producer that reads to the end before it leads. One that was
//! fenced gives way: it follows, where an election says who leads, and otherwise ends. A log that is away is waited for.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use solyx_schemas::epochs::ReadError;
use solyx_schemas::ids::CellId;
use solyx_schemas::log::{Log, LogErrorKind};
use solyx_schemas::units::DurationUs;

use crate::backoff::Backoff;
use crate::election::{Election, Standing};
use crate::engine::{Engine, EngineOptions, producer_name};
use crate::error::RuntimeError;
use crate::follow::Follower;
use crate::planner::Planner;
use crate::progress::{Ending, Progress, RunEnd};

/// Longest wait before the order to stop is looked at again.
const POLL: Duration = Duration::from_millis(100);
/// Longest wait of a standby before it looks whether it is to lead.
const STANDBY_POLL: Duration = Duration::from_millis(20);
/// Epochs a standby takes before it looks again.
const STANDBY_EPOCHS: u64 = 256;
/// Time between two reports of progress.
const PROGRESS_PAUSE: Duration = Duration::from_millis(500);
/// For how long an engine whose clock runs ahead does not stand for the lead.
const CLOCK_PAUSE: Duration = Duration::from_secs(30);

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

/// Leads and makes epochs until `stop`. Whoever takes the lead away ends it.
pub fn run(
    log: &dyn Log,
    options: &RunOptions,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(&Progress),
) -> Result<RunEnd, RuntimeError> {
    Live { log, options, election: None, stop, progress, done: Progress::default() }.run()
}

/// Follows, and leads while the election says so, until `stop`.
pub fn run_elected(
    log: &dyn Log,
    options: &RunOptions,
    election: &dyn Election,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(&Progress),
) -> Result<RunEnd, RuntimeError> {
    Live { log, options, election: Some(election), stop, progress, done: Progress::default() }.run()
}

struct Live<'r> {
    log: &'r dyn Log,
    options: &'r RunOptions,
    election: Option<&'r dyn Election>,
    stop: &'r AtomicBool,
    progress: &'r mut dyn FnMut(&Progress),
    done: Progress,
}

impl<'r> Live<'r> {
    fn run(mut self) -> Result<RunEnd, RuntimeError> {
        let mut backoff = Backoff::new(self.stop);
        loop {
            let before = self.done.epochs + self.done.followed;
            let error = match self.attempt() {
                Ok(end) => return Ok(end),
                Err(error) => error,
            };
            if self.is_stopped() || !self.may_go_on(&error) {
                return Err(error);
            }
            // A standby that is warm goes on sooner than this one, which has to read what it missed.
            self.resign();
            if self.done.epochs + self.done.followed > before {
                backoff.reset();
            }
            let epochs = self.done.epochs + self.done.followed;
            tracing::warn!(%error, epochs, pause_ms = backoff.pause_ms(), "the engine begins again from the log");
            backoff.sleep();
        }
    }

    /// Whether an error goes away by beginning again.
    fn may_go_on(&self, error: &RuntimeError) -> bool {
        let log_error = match error {
            RuntimeError::Log(error) | RuntimeError::Read(ReadError::Log(error)) => error,
            RuntimeError::ClockAhead { .. } => {
                return self.election.is_some_and(|election| {
                    election.abstain(CLOCK_PAUSE);
                    true
                });
            }
            _ => return false,
        };
        match log_error.kind {
            LogErrorKind::Retry | LogErrorKind::Restart => true,
            // Somebody else leads now; one that stands for election follows.
            LogErrorKind::Fenced => self.election.is_some(),
            LogErrorKind::Declined | LogErrorKind::Damaged | LogErrorKind::Stop => false,
        }
    }

    fn attempt(&mut self) -> Result<RunEnd, RuntimeError> {
        if self.election.is_none() {
            let engine = Engine::lead(self.log, &self.options.engine, None)?;
            let mut engine = self.lead(engine)?;
            return self.end(&mut engine);
        }
        let mut follower = Follower::begin(self.log, &self.options.engine, false)?;
        loop {
            self.follow(&mut follower)?;
            if self.is_stopped() {
                let kernel = follower.kernel();
                let (next_epoch, chain_head) = (kernel.next_epoch(), kernel.chain_head());
                return Ok(RunEnd { ending: Ending::Stopped, progress: self.done, next_epoch, chain_head });
            }
            let began = Instant::now();
            let producer = self.log.producer(&producer_name(&self.options.engine.cell))?;
            let fenced = Instant::now();
            let engine = follower.lead(producer, None)?;
            tracing::info!(
                fencing_ms = (fenced - began).as_millis() as u64,
                next_epoch = engine.kernel().next_epoch(),
                took_ms = began.elapsed().as_millis() as u64,
                "this engine leads"
            );
            let mut engine = self.lead(engine)?;
            engine.sync()?;
            self.resign();
            if self.is_stopped() {
                return self.end(&mut engine);
            }
            tracing::info!(next_epoch = engine.kernel().next_epoch(), "this engine leads no longer");
            follower = engine.step_down();
        }
    }

    fn end(&mut self, engine: &mut Engine<'_>) -> Result<RunEnd, RuntimeError> {
        engine.finish(Some(Instant::now() + self.options.shutdown))?;
        self.note(engine)?;
        (self.progress)(&self.done);
        let kernel = engine.kernel();
        let (next_epoch, chain_head) = (kernel.next_epoch(), kernel.chain_head());
        Ok(RunEnd { ending: Ending::Stopped, progress: self.done, next_epoch, chain_head })
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn stands(&self) -> Standing {
        self.election.map_or(Standing::Leads, Election::standing)
    }

    fn resign(&self) {
        if let Some(election) = self.election {
            election.resign();
        }
    }

    /// Follows until it is to lead or to stop.
    fn follow(&mut self, follower: &mut Follower<'r>) -> Result<(), RuntimeError> {
        let mut told = Instant::now();
        while !self.is_stopped() {
            let followed = follower.follow(STANDBY_EPOCHS, None)?;
            follower.keep()?;
            let kernel = follower.kernel();
            self.done.followed += followed;
            if let Some(election) = self.election {
                election.progressed(kernel.next_epoch(), followed < STANDBY_EPOCHS);
            }
            if told.elapsed() >= PROGRESS_PAUSE {
                told = Instant::now();
                self.done = Progress {
                    leads: false,
                    now: kernel.now(),
                    waiting_jobs: kernel.waiting_jobs(),
                    live_runs: kernel.live_runs(),
                    lag_records: 0,
                    lag: DurationUs(0),
                    ..self.done
                };
                (self.progress)(&self.done);
            }
            match self.stands() {
                // One that is still far behind would keep everybody waiting.
                Standing::Leads if followed < STANDBY_EPOCHS => return Ok(()),
                // Asked for the lead before it has begun to lead: it gives it on at once.
                Standing::HandsOver => self.resign(),
                Standing::Leads | Standing::Follows => {}
            }
            if followed < STANDBY_EPOCHS {
                follower.wait(Instant::now() + STANDBY_POLL)?;
            }
        }
        Ok(())
    }

    /// Makes epochs until it is to stop or to lead no longer.
    fn lead(&mut self, mut engine: Engine<'r>) -> Result<Engine<'r>, RuntimeError> {
        let mut told = Instant::now();
        let mut since_sync = 0;
        let mut planner = Planner::begin(&engine)?;
        while !self.is_stopped() && self.stands() == Standing::Leads {
            if told.elapsed() >= PROGRESS_PAUSE {
                told = Instant::now();
                self.note(&mut engine)?;
                (self.progress)(&self.done);
            }
            if let Some(election) = self.election {
                election.progressed(engine.kernel().next_epoch(), true);
            }
            engine.go_on();
            planner.go_on(&mut engine)?;
            if !gather(&mut engine, self.options, self.stop)? {
                continue;
            }
            let batch = engine.epoch((self.options.clock)(), true)?;
            planner.observe(&batch);
            self.done.epochs += 1;
            self.done.events += batch.inputs.len() as u64;
            since_sync += 1;
            if since_sync >= self.options.sync_every_epochs || engine.wants_sync() {
                since_sync = 0;
                engine.sync()?;
            }
        }
        Ok(engine)
    }

    fn note(&mut self, engine: &mut Engine<'_>) -> Result<(), RuntimeError> {
        let log = engine.log;
        engine.intake.refresh(log)?;
        let oldest = engine.intake.oldest_append_us(log)?;
        let kernel = engine.kernel();
        self.done = Progress {
            leads: true,
            now: kernel.now(),
            waiting_jobs: kernel.waiting_jobs(),
            live_runs: kernel.live_runs(),
            lag_records: engine.intake.unread(),
            lag: DurationUs(oldest.map_or(0, |oldest| ((self.options.clock)() - oldest).max(0))),
            ..self.done
        };
        Ok(())
    }
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
