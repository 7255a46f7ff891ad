//! Whole cells under faults, in simulated time: producers that lie, engines that die, logs that fail, two who believe that they
//! lead. Everything follows from one seed; after each epoch a witness derives it again and the books are kept.

pub mod bills;
pub mod cell;
pub mod faults;
pub mod inputs;
pub mod losses;
pub mod money;
pub mod shrink;
pub mod tamper;
pub mod witness;

use std::collections::{BTreeMap, BTreeSet};

use solyx_histories::START;
use solyx_histories::history::{Luck, Mood, Wider, beginning};
use solyx_schemas::hash::Hash32;
use solyx_schemas::log::memory::MemoryLog;
use solyx_schemas::topics::{Topic, TopicName};
use solyx_schemas::units::HOUR_US;

use crate::cell::{Cell, Starts};
use crate::faults::{Fault, Weather};
use crate::inputs::Inputs;
use crate::money::Money;
use crate::witness::Witness;

/// Turns of a history that is not told otherwise.
pub const TURNS: u32 = 60;
/// One history in so many keeps snapshots and an index on a disk.
const ON_DISK: u64 = 8;

/// A history to be simulated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// All that happens follows from it.
    pub seed: u64,
    /// Turns until it comes to rest.
    pub turns: u32,
    /// What does not go wrong in it.
    pub without: BTreeSet<Fault>,
    /// Its epochs are told on stderr as they are seen: inputs that count and outputs, as JSON.
    pub traced: bool,
}

/// What a history was.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Simulated time, µs.
    pub simulated_us: i64,
    /// Epochs.
    pub epochs: u64,
    /// Inputs taken.
    pub inputs: u64,
    /// What went wrong, how often.
    pub struck: BTreeMap<Fault, u64>,
    /// How often engines began to lead until it came to rest.
    pub starts: Starts,
    /// Chain hash of the last epoch.
    pub chain_head: Hash32,
}

impl History {
    /// That of a seed, whole.
    pub fn of(seed: u64) -> Self {
        Self { seed, turns: TURNS, without: BTreeSet::new(), traced: false }
    }

    /// Lives through it. An error, or a panic of one of the books, is a finding.
    pub fn simulate(&self) -> anyhow::Result<Summary> {
        self.logged().map(|(summary, _)| summary)
    }

    /// The same with the log that it left behind.
    pub fn logged(&self) -> anyhow::Result<(Summary, MemoryLog)> {
        let mut luck = Luck(self.seed);
        let mood = *luck.of(&[Mood::Wild, Mood::Wild, Mood::Crowded, Mood::Shaken, Mood::Calm]);
        let log = if luck.chance(70) { MemoryLog::with_terms() } else { MemoryLog::new() };
        for topic in Topic::INPUTS {
            log.set_partitions(TopicName::live(topic), 1 + luck.below(3) as u32);
        }
        let summary = self.live(&log, luck, mood)?;
        Ok((summary, log))
    }

    fn live(&self, log: &MemoryLog, mut luck: Luck, mood: Mood) -> anyhow::Result<Summary> {
        // In one calm or crowded history of two all that is said arrives as it was said: more may be promised of those.
        let is_plain = !Money::is_in(self.seed) && !Wider::is_in(self.seed);
        let orderly = matches!(mood, Mood::Calm | Mood::Crowded) && self.seed.is_multiple_of(2) && is_plain;
        let spared = Fault::OF_INPUTS.iter().filter(|_| orderly);
        let mut weather = Weather::of(self.seed, &self.without.iter().chain(spared).copied().collect());
        let disk = if self.seed.is_multiple_of(ON_DISK) { Some(tempfile::tempdir()?) } else { None };
        let dir = disk.as_ref().map(|disk| disk.path().to_path_buf());
        let mut cell = Cell::of(log, dir, self.seed, &self.without);
        let mut witness = Witness::of(log, if orderly { mood } else { as_told(mood) }, self.traced)?;
        let mut inputs = Inputs::default();
        let (mut executor, mut events) = beginning(&mut luck, mood);
        let (mut money, mut wider) = (Money::of(self.seed), Wider::of(self.seed));
        let mut now = START;
        wider.begins(now, &mut events);
        events.extend(money.begins());
        for _ in 0..self.turns {
            log.set_clock_us(Some(now));
            inputs.write(log, &mut weather, std::mem::take(&mut events), now)?;
            cell.turn(&mut weather, now)?;
            let decided = witness.look()?;
            executor.sees(&mut luck, now, &decided);
            now = later(&mut luck, now, witness.kernel().next_wakeup().map(|at| at.0));
            events = executor.says(&mut luck, now);
            wider.widens(&executor, now, &mut events);
            let kernel = witness.kernel();
            events.extend(money.says(kernel.state(), now));
            events.extend(kernel.plan_is_due().then(|| kernel.packing_plan()).flatten().map(Into::into));
        }
        weather.clears();
        log.set_clock_us(Some(now));
        cell.come_to_rest(now)?;
        witness.look()?;
        witness.at_rest(&mut Luck(self.seed))?;
        witness.tampering_is_found(&mut Luck(self.seed))?;
        let (epochs, inputs) = (witness.epochs, witness.inputs);
        let chain_head = witness.kernel().chain_head();
        let mut struck = weather.struck;
        cell.struck().iter().for_each(|(fault, count)| *struck.entry(*fault).or_default() += count);
        Ok(Summary { simulated_us: now - START, epochs, inputs, struck, starts: cell.starts, chain_head })
    }
}

/// What may be promised of a history whose records come late or out of order: not that whatever is held is kept, as in calm ones.
fn as_told(mood: Mood) -> Mood {
    if mood == Mood::Wild { Mood::Wild } else { Mood::Shaken }
}

/// The next instant: that of a wake-up, the same, or a bit later.
fn later(luck: &mut Luck, now: i64, wakeup: Option<i64>) -> i64 {
    match (luck.below(3), wakeup) {
        (0, Some(at)) => at.clamp(now, now + 12 * HOUR_US),
        (1, _) => now,
        _ => now + luck.below(HOUR_US),
    }
}
