//! A run in virtual time: from instant to instant, as fast as the machine allows.
//!
//! Time jumps to the least of: the next staged record, the kernel's next wake-up, the executor's next report. What is due
//! goes to the input topics in one batch with its cursors; epochs with the same `now` read it; the reports that their
//! decisions cause at this instant follow, until none is due. Everything that is decided here follows from the log, so
//! that a run that was killed at any point goes on as if it had not been.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use solyx_schemas::codec::Codec;
use solyx_schemas::epochs::EpochBatch;
use solyx_schemas::ids::SourceId;
use solyx_schemas::log::{Log, Record, Scan};
use solyx_schemas::topics::{Topic, TopicName};
use solyx_schemas::units::TimeUs;

use crate::cursors::{self, Cursors, STAGED};
use crate::engine::{Engine, EngineOptions, producer_name};
use crate::error::RuntimeError;
use crate::follow::Follower;
use crate::lockstep::Lockstep;
use crate::planner::Planner;
use crate::progress::{Ending, Progress, RunEnd};
use crate::staged::Staged;

/// Epochs at one instant without any input, after which time is said to stand still.
const IDLE_EPOCHS_MAX: u32 = 10_000;
/// Time between two reports of progress.
const PROGRESS_PAUSE: Duration = Duration::from_millis(100);

/// How a virtual run goes.
#[derive(Clone, Debug)]
pub struct VirtualOptions {
    /// The engine.
    pub engine: EngineOptions,
    /// Whether it ends once nothing is left but prices, telemetry and ticks. Otherwise it goes through all that is staged.
    pub until_idle: bool,
    /// Until when it goes on although it is idle.
    pub idle_from: Option<TimeUs>,
    /// The last instant it deals with.
    pub until: Option<TimeUs>,
    /// Epochs between two syncs.
    pub sync_every_epochs: u64,
}

impl VirtualOptions {
    /// Until idle, with a sync each 1,000 epochs.
    pub fn new(engine: EngineOptions) -> Self {
        Self { engine, until_idle: true, idle_from: None, until: None, sync_every_epochs: 1_000 }
    }
}

/// Runs until the end that the options name, or until `stop`.
pub fn run_virtual(
    log: &dyn Log,
    executor: Option<&mut dyn Lockstep>,
    options: &VirtualOptions,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(&Progress),
) -> Result<RunEnd, RuntimeError> {
    let mut run = VirtualRun::begin(log, executor, options)?;
    let mut told = Instant::now();
    let ending = loop {
        if stop.load(Ordering::Relaxed) {
            break Ending::Stopped;
        }
        if told.elapsed() >= PROGRESS_PAUSE {
            told = Instant::now();
            progress(&run.progress());
        }
        if let Some(ending) = run.step(stop)? {
            break ending;
        }
    };
    run.engine.finish(None)?;
    let last = run.progress();
    progress(&last);
    let kernel = run.engine.kernel();
    Ok(RunEnd { ending, progress: last, next_epoch: kernel.next_epoch(), chain_head: kernel.chain_head() })
}

struct VirtualRun<'a, 'l> {
    engine: Engine<'l>,
    staged: Staged<'l>,
    planner: Planner,
    executor: Option<&'a mut dyn Lockstep>,
    options: VirtualOptions,
    /// Staged records and reports handed on so far, as the cursors count them.
    staged_handed_on: u64,
    reports_handed_on: u64,
    /// The ends of the staged topics are yet to be told.
    ends_untold: bool,
    /// What lies unread is to be read at this instant before anything else.
    unread_at: Option<TimeUs>,
    since_sync: u64,
    idle_epochs: u32,
    epochs: u64,
    events: u64,
}

impl<'a, 'l> VirtualRun<'a, 'l> {
    fn begin(
        log: &'l dyn Log,
        mut executor: Option<&'a mut dyn Lockstep>,
        options: &VirtualOptions,
    ) -> Result<Self, RuntimeError> {
        // The name is taken first, which decides what becomes of an append that was on its way; then the cursors say how far
        // the run has come.
        let producer = log.producer(&producer_name(&options.engine.cell))?;
        log.settle(Topic::Cursors.into())?;
        let cursors = Cursors::read(log)?;
        let reports_handed_on = executor.as_ref().map_or(0, |executor| cursors.handed_on(executor.name().as_str()));
        let mut engine = match &mut executor {
            Some(executor) => {
                executor.resume_at(reports_handed_on);
                let mut observe = |batch: &EpochBatch| executor.observe(batch);
                let engine = Follower::begin(log, &options.engine, true)?.lead(producer, Some(&mut observe))?;
                executor.resume_at(reports_handed_on);
                engine
            }
            None => Follower::begin(log, &options.engine, false)?.lead(producer, None)?,
        };
        // What lies unread is read at one instant, all of it: a part more or less would be another history.
        engine.intake.reach_end(log)?;
        let staged = Staged::sort(log, cursors.staged(), cursors.handed_on(STAGED))?;
        let mut planner = Planner::begin(&engine)?;
        planner.publish(&mut engine)?;
        let begun = engine.kernel().next_epoch() > 0 || cursors.instant().is_some();
        let unread_at = (begun && (engine.intake.unread() > 0 || staged.is_cut()))
            .then(|| cursors.instant().unwrap_or_default().max(engine.kernel().now()));
        let ends_untold = cursors.staged().is_none_or(|(_, ends)| ends != staged.ends());
        Ok(Self {
            engine,
            staged,
            planner,
            executor,
            options: options.clone(),
            staged_handed_on: cursors.handed_on(STAGED),
            reports_handed_on,
            ends_untold,
            unread_at,
            since_sync: 0,
            idle_epochs: 0,
            epochs: 0,
            events: 0,
        })
    }

    fn progress(&self) -> Progress {
        let kernel = self.engine.kernel();
        Progress {
            epochs: self.epochs,
            events: self.events,
            now: kernel.now(),
            waiting_jobs: kernel.waiting_jobs(),
            live_runs: kernel.live_runs(),
            lag_records: self.staged.left() as u64 + self.engine.intake.unread(),
            ..Progress::default()
        }
    }

    /// Deals with one instant; says when the run is over.
    fn step(&mut self, stop: &AtomicBool) -> Result<Option<Ending>, RuntimeError> {
        if let Some(now) = self.unread_at {
            self.read_all(now, stop)?;
            if self.engine.intake.unread() == 0 {
                self.unread_at = None;
                self.follow_up(now, stop)?;
            }
            return Ok(None);
        }
        let next = self.next_instant()?;
        let may_end = self.options.idle_from.is_none_or(|from| next.is_none_or(|next| next > from));
        if self.options.until_idle && may_end && self.is_idle() {
            return Ok(Some(Ending::Idle));
        }
        let Some(now) = next else { return Ok(Some(Ending::Exhausted)) };
        if self.options.until.is_some_and(|until| now > until) {
            return Ok(Some(Ending::Until));
        }
        if !self.options.until_idle && self.staged.left() == 0 && self.is_idle() {
            return Ok(Some(Ending::Idle));
        }
        self.instant(now, stop)?;
        Ok(None)
    }

    /// The least of the next staged record, wake-up and report; never before the last epoch. What lies unread when none
    /// of them is known is read at the time when the last of it happened.
    fn next_instant(&self) -> Result<Option<TimeUs>, RuntimeError> {
        let kernel = self.engine.kernel();
        let report = self.executor.as_ref().and_then(|executor| executor.next_report_us());
        let next = [self.staged.next_us(), kernel.next_wakeup(), report].into_iter().flatten().min();
        let next = match next {
            None if self.engine.intake.unread() > 0 => Some(self.last_unread_us()?),
            next => next,
        };
        Ok(next.map(|next| next.max(kernel.now())))
    }

    fn last_unread_us(&self) -> Result<TimeUs, RuntimeError> {
        let log = self.engine.log;
        let positions = self.engine.intake.positions();
        let mut last = TimeUs::ZERO;
        for topic in Topic::INPUTS {
            let name = TopicName::live(topic);
            for partition in 0..log.partitions(name) {
                for stored in Scan::new(log, name, partition, positions.get(topic, partition)) {
                    if let Ok(decoded) = Codec::global().decode(&stored?.record.value) {
                        last = last.max(decoded.event.identity().occurred_us);
                    }
                }
            }
        }
        Ok(last)
    }

    /// Idle: nothing staged but prices or telemetry, no live run, no wake-up but ticks, no report that anybody waits for.
    fn is_idle(&self) -> bool {
        let kernel = self.engine.kernel();
        let executor_idle = self.executor.as_ref().is_none_or(|executor| {
            executor.live_runs() == 0 && (executor.next_report_us().is_none() || executor.next_report_is_background())
        });
        self.engine.intake.unread() == 0
            && self.staged.is_background(kernel.waiting_jobs() > 0)
            && kernel.live_runs() == 0
            && kernel.next_counting_wakeup().is_none()
            && executor_idle
    }

    /// One instant: what is due, epochs until all is read, then what their decisions cause at this instant.
    fn instant(&mut self, now: TimeUs, stop: &AtomicBool) -> Result<(), RuntimeError> {
        let handed_on = self.hand_on(now)?;
        let unread = self.engine.intake.unread() > 0;
        let awake = self.engine.kernel().next_wakeup().is_some_and(|wakeup| wakeup <= now);
        if !unread && !awake {
            let detail = format!("something is due and gives nothing ({handed_on} records)");
            return Err(RuntimeError::Stuck { now_us: now.0, detail });
        }
        if unread {
            self.read_all(now, stop)?;
        } else {
            self.epoch(now)?;
            self.read_all(now, stop)?;
        }
        self.follow_up(now, stop)
    }

    fn follow_up(&mut self, now: TimeUs, stop: &AtomicBool) -> Result<(), RuntimeError> {
        while !stop.load(Ordering::Relaxed) && self.engine.intake.unread() == 0 && self.hand_on(now)? > 0 {
            self.read_all(now, stop)?;
        }
        Ok(())
    }

    /// Epochs until all is read. When it is told to stop it leaves the rest, which is read first by the next run.
    fn read_all(&mut self, now: TimeUs, stop: &AtomicBool) -> Result<(), RuntimeError> {
        while self.engine.intake.unread() > 0 && !stop.load(Ordering::Relaxed) {
            self.epoch(now)?;
        }
        Ok(())
    }

    /// Appends due staged records, then due reports, with their cursors, in one batch. Says how many records they were. Staged
    /// records are cut at the request after which a plan is made: the rest follows when that has been read.
    fn hand_on(&mut self, now: TimeUs) -> Result<usize, RuntimeError> {
        let log = self.engine.log;
        let next_epoch = self.engine.kernel().next_epoch();
        let mut batch: Vec<Record> = self.staged.take_due(now, self.engine.kernel().requests_before_plan())?;
        let staged = batch.len();
        if staged > 0 {
            self.staged_handed_on += staged as u64;
            let ends = self.ends_untold.then(|| self.staged.ends());
            let reader = SourceId::from(STAGED);
            batch.push(cursors::record(log, &reader, now, next_epoch, self.staged_handed_on, ends));
            self.ends_untold = false;
        }
        let mut reports = 0;
        if let Some(executor) = &mut self.executor {
            let due = executor.take_due(now);
            reports = due.len();
            for event in &due {
                let topic = TopicName::live(event.topic());
                batch.push(Codec::global().record(event, topic, log.partitions(topic)));
            }
            if reports > 0 {
                self.reports_handed_on += reports as u64;
                let reader = executor.name();
                batch.push(cursors::record(log, &reader, now, next_epoch, self.reports_handed_on, None));
            }
        }
        if !batch.is_empty() {
            self.engine.append_inputs(batch)?;
        }
        Ok(staged + reports)
    }

    fn epoch(&mut self, now: TimeUs) -> Result<(), RuntimeError> {
        let before = self.engine.kernel().now();
        let batch = self.engine.epoch(now.0, false)?;
        if let Some(executor) = &mut self.executor {
            executor.observe(&batch);
        }
        self.planner.observe(&batch);
        self.planner.publish(&mut self.engine)?;
        self.epochs += 1;
        self.events += batch.inputs.len() as u64;
        self.idle_epochs = if batch.inputs.is_empty() && before == now { self.idle_epochs + 1 } else { 0 };
        if self.idle_epochs > IDLE_EPOCHS_MAX {
            let detail = "the kernel asks to be woken at the present again and again".to_owned();
            return Err(RuntimeError::Stuck { now_us: now.0, detail });
        }
        self.since_sync += 1;
        if self.since_sync >= self.options.sync_every_epochs || self.engine.wants_sync() {
            self.since_sync = 0;
            self.engine.sync()?;
        }
        self.engine.go_on();
        Ok(())
    }
}
