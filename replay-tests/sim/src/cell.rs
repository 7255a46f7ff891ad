//! The engines of a cell: one leads, another may take its place, and any of them may die.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use solyx_histories::history::Luck;
use solyx_runtime::{Engine, EngineOptions, RuntimeError};
use solyx_schemas::epochs::ReadError;
use solyx_schemas::ids::CellId;
use solyx_schemas::log::LogErrorKind;
use solyx_schemas::log::memory::{Failure, Fate, MemoryLog};
use solyx_schemas::units::SECOND_US;

use crate::faults::{Fault, Weather};

/// Engines of a cell.
const ENGINES: usize = 2;

/// The engines.
pub struct Cell<'l> {
    log: &'l MemoryLog,
    engines: [Option<Engine<'l>>; ENGINES],
    options: [EngineOptions; ENGINES],
    /// Which is to lead next.
    next: usize,
}

impl<'l> Cell<'l> {
    /// None of them at work yet. Those that keep something keep it in a directory of their own below `dir`.
    pub fn of(log: &'l MemoryLog, dir: Option<PathBuf>) -> Self {
        let options = [0, 1].map(|number: usize| {
            let own = dir.as_ref().map(|dir| dir.join(number.to_string()));
            let mut options = EngineOptions::new(CellId::from("test"), own);
            options.snapshot_every_epochs = 5;
            options.retry_pause = Duration::ZERO;
            options
        });
        Self { log, engines: [None, None], options, next: 0 }
    }

    /// Each that believes that it leads makes an epoch, if there is something to make one of.
    pub fn turn(&mut self, weather: &mut Weather, clock_us: i64) -> anyhow::Result<()> {
        let leads = self.engines.iter().any(Option::is_some);
        if !leads || weather.strikes(Fault::SecondLeader) {
            self.lead(weather)?;
        }
        for number in 0..ENGINES {
            if self.engines[number].is_none() {
                continue;
            }
            let append = self.append_fails(weather);
            let clock_us = clock_us + skew(weather);
            let turned = self.engines[number].as_mut().map(|engine| engine.turn(clock_us));
            // It may have had nothing to append.
            self.log.fail_no_more();
            if let Some(Err(error)) = turned {
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
        Ok(())
    }

    /// Lets all epochs be made that can be made now.
    pub fn come_to_rest(&mut self, clock_us: i64) -> anyhow::Result<()> {
        for number in 0..ENGINES {
            self.engines[number] = None;
        }
        let mut engine = Engine::lead(self.log, &self.options[0], None).context("an engine that begins in calm")?;
        while engine.turn(clock_us).context("an engine in calm")?.is_some() {}
        self.engines[0] = Some(engine);
        Ok(())
    }

    fn lead(&mut self, weather: &mut Weather) -> anyhow::Result<()> {
        let number = self.next;
        self.next = (number + 1) % ENGINES;
        if self.engines[number].is_some() {
            self.dies(number, weather)?;
        }
        let engine = Engine::lead(self.log, &self.options[number], None).context("an engine that begins")?;
        self.engines[number] = Some(engine);
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
        self.engines[number] = None;
        let Some(dir) = self.options[number].dir.clone().filter(|dir| dir.exists()) else { return Ok(()) };
        if weather.strikes(Fault::TornSnapshot) {
            tear(weather.luck(Fault::TornSnapshot), &dir.join("snapshots"))?;
        }
        let index = dir.join("index");
        if weather.strikes(Fault::LostIndex) && index.exists() {
            std::fs::remove_dir_all(index)?;
        }
        Ok(())
    }
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
fn tear(luck: &mut Luck, dir: &std::path::Path) -> anyhow::Result<()> {
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
