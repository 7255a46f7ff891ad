//! The engines of a cell: one leads, another may take its place, cold or as a standby that has followed, and any of them may die.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use solyx_histories::history::Luck;
use solyx_runtime::engine::producer_name;
use solyx_runtime::{Engine, EngineOptions, Follower, RuntimeError};
use solyx_schemas::epochs::ReadError;
use solyx_schemas::ids::CellId;
use solyx_schemas::log::memory::{Failure, Fate, MemoryLog};
use solyx_schemas::log::{Log, LogErrorKind};
use solyx_schemas::units::SECOND_US;

use crate::faults::{Fault, Weather};

/// Engines of a cell.
const ENGINES: usize = 2;
/// Epochs that a standby follows in a turn, at most.
const FOLLOWED_MAX: i64 = 4;

/// Where an engine may be at work.
#[derive(Default)]
enum Seat<'l> {
    #[default]
    Empty,
    Leads(Box<Engine<'l>>),
    Stands(Box<Follower<'l>>),
}

/// How often engines began to lead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Starts {
    /// From what was kept, or from nothing.
    pub cold: u64,
    /// From what a standby had in memory.
    pub warm: u64,
}

/// The engines.
pub struct Cell<'l> {
    log: &'l MemoryLog,
    seats: [Seat<'l>; ENGINES],
    options: [EngineOptions; ENGINES],
    /// Which is to lead next.
    next: usize,
    /// What standbys do and suffer is drawn beside the rest, so that whoever leads lives as it would without them.
    luck: Luck,
    /// How likely an empty seat has a standby after a turn.
    standby_percent: i64,
    standby_weather: Weather,
    /// How often engines began to lead.
    pub starts: Starts,
}

impl<'l> Cell<'l> {
    /// None of them at work yet. Those that keep something keep it in a directory of their own below `dir`.
    pub fn of(log: &'l MemoryLog, dir: Option<PathBuf>, seed: u64, without: &BTreeSet<Fault>) -> Self {
        let options = [0, 1].map(|number: usize| {
            let own = dir.as_ref().map(|dir| dir.join(number.to_string()));
            let mut options = EngineOptions::new(CellId::from("test"), own);
            options.snapshot_every_epochs = 5;
            options.retry_pause = Duration::ZERO;
            options
        });
        let own = seed ^ 0x7374_616e_6462_7973;
        let mut luck = Luck(own);
        let standby_percent = if luck.chance(30) { 0 } else { 5 + luck.below(50) };
        let standby_weather = Weather::of(own, without);
        let (seats, starts) = ([Seat::Empty, Seat::Empty], Starts::default());
        Self { log, seats, options, next: 0, luck, standby_percent, standby_weather, starts }
    }

    /// What standbys suffered.
    pub fn struck(&self) -> &BTreeMap<Fault, u64> {
        &self.standby_weather.struck
    }

    /// Each that believes that it leads makes an epoch, if there is something to make one of, and standbys follow.
    pub fn turn(&mut self, weather: &mut Weather, clock_us: i64) -> anyhow::Result<()> {
        let leads = self.seats.iter().any(|seat| matches!(seat, Seat::Leads(_)));
        if !leads || weather.strikes(Fault::SecondLeader) {
            self.lead(weather)?;
        }
        for number in 0..ENGINES {
            if !matches!(self.seats[number], Seat::Leads(_)) {
                continue;
            }
            let append = self.append_fails(weather);
            let clock_us = clock_us + skew(weather);
            let Seat::Leads(engine) = &mut self.seats[number] else { continue };
            let turned = engine.turn(clock_us);
            // It may have had nothing to append.
            self.log.fail_no_more();
            if let Err(error) = turned {
                // It is of no more use. What it said of itself has to be one of the ways in which an engine may stop.
                self.dies(number, weather)?;
                let may = match &error {
                    RuntimeError::Log(error) | RuntimeError::Read(ReadError::Log(error)) => {
                        append.is_some_and(|kind| kind == error.kind) || error.kind == LogErrorKind::Fenced
                    }
                    RuntimeError::ClockAhead { .. } => true,
                    _ => false,
                };
                if !may {
                    return Err(error).context("an engine stopped");
                }
            } else if weather.strikes(Fault::Crash) {
                self.dies(number, weather)?;
            }
        }
        (0..ENGINES).try_for_each(|number| self.stand_by(number))
    }

    /// A standby follows some epochs, keeps what is due, and may die; where nobody is at work one may begin.
    fn stand_by(&mut self, number: usize) -> anyhow::Result<()> {
        let options = &self.options[number];
        match &mut self.seats[number] {
            Seat::Leads(_) => {}
            Seat::Stands(follower) => {
                follower.follow(self.luck.below(FOLLOWED_MAX + 1) as u64, None).context("a standby that follows")?;
                follower.keep().context("a standby that keeps what it has")?;
                if self.standby_weather.strikes(Fault::Crash) {
                    self.seats[number] = Seat::Empty;
                    suffers(options.dir.as_deref(), &mut self.standby_weather)?;
                }
            }
            empty if self.luck.chance(self.standby_percent) => {
                let follower = Follower::begin(self.log, options, false).context("a standby that begins")?;
                *empty = Seat::Stands(Box::new(follower));
            }
            Seat::Empty => {}
        }
        Ok(())
    }

    /// Lets all epochs be made that can be made now.
    pub fn come_to_rest(&mut self, clock_us: i64) -> anyhow::Result<()> {
        self.seats = [Seat::Empty, Seat::Empty];
        let mut engine = Engine::lead(self.log, &self.options[0], None).context("an engine that begins in calm")?;
        while engine.turn(clock_us).context("an engine in calm")?.is_some() {}
        self.seats[0] = Seat::Leads(Box::new(engine));
        Ok(())
    }

    fn lead(&mut self, weather: &mut Weather) -> anyhow::Result<()> {
        let number = self.next;
        self.next = (number + 1) % ENGINES;
        if matches!(self.seats[number], Seat::Leads(_)) {
            self.dies(number, weather)?;
        }
        let options = &self.options[number];
        let engine = match std::mem::take(&mut self.seats[number]) {
            Seat::Stands(follower) => {
                self.starts.warm += 1;
                let producer = self.log.producer(&producer_name(&options.cell))?;
                follower.lead(producer, None).context("a standby that takes the lead")?
            }
            _ => {
                self.starts.cold += 1;
                Engine::lead(self.log, options, None).context("an engine that begins")?
            }
        };
        self.seats[number] = Seat::Leads(Box::new(engine));
        Ok(())
    }

    /// Sets up the next append to fail, perhaps; how its writer will be told.
    fn append_fails(&mut self, weather: &mut Weather) -> Option<LogErrorKind> {
        use LogErrorKind::{Restart, Retry, Stop};
        let ways = [
            (Fault::AppendLost, Restart, Fate::Lost),
            (Fault::AppendCommitted, Restart, Fate::Committed),
            (Fault::AppendUndecided, Restart, Fate::Undecided),
            (Fault::AppendRetried, Retry, Fate::Lost),
            (Fault::DiskFull, Stop, Fate::Lost),
        ];
        let (_, kind, fate) = ways.into_iter().find(|(fault, ..)| weather.strikes(*fault))?;
        self.log.fail_next(Failure { kind, fate });
        Some(kind)
    }

    /// An engine is gone, with what it had in memory; what it kept may have suffered.
    fn dies(&mut self, number: usize, weather: &mut Weather) -> anyhow::Result<()> {
        self.seats[number] = Seat::Empty;
        suffers(self.options[number].dir.as_deref(), weather)
    }
}

/// What somebody who died had kept, if anything, may be torn or gone.
fn suffers(dir: Option<&Path>, weather: &mut Weather) -> anyhow::Result<()> {
    let Some(dir) = dir.filter(|dir| dir.exists()) else { return Ok(()) };
    if weather.strikes(Fault::TornSnapshot) {
        tear(weather.luck(Fault::TornSnapshot), &dir.join("snapshots"))?;
    }
    let index = dir.join("index");
    if weather.strikes(Fault::LostIndex) && index.exists() {
        std::fs::remove_dir_all(index)?;
    }
    Ok(())
}

/// By how much the clock of whoever leads is off: by more than may be, or by a bit.
fn skew(weather: &mut Weather) -> i64 {
    if weather.strikes(Fault::ClockAhead) {
        return weather.luck(Fault::ClockAhead).below(10 * SECOND_US);
    }
    if weather.strikes(Fault::ClockBehind) {
        return -weather.luck(Fault::ClockBehind).below(3_600 * SECOND_US);
    }
    0
}

/// Cuts one of the files, or turns a bit in it.
fn tear(luck: &mut Luck, dir: &Path) -> anyhow::Result<()> {
    let mut files = Vec::new();
    if dir.exists() {
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            if path.is_file() {
                files.push(path);
            }
        }
    }
    files.sort();
    if files.is_empty() {
        return Ok(());
    }
    let path = luck.of(&files);
    let mut bytes = std::fs::read(path)?;
    if bytes.is_empty() {
        return Ok(());
    }
    let at = luck.below(bytes.len() as i64) as usize;
    match luck.chance(50) {
        true => bytes.truncate(at),
        false => bytes[at] ^= 1 << luck.below(8),
    }
    std::fs::write(path, bytes)?;
    Ok(())
}
