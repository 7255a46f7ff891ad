//! Failing histories made smaller: fewer turns, fewer kinds of faults, as long as they fail.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::faults::Fault;
use crate::{History, Summary};

/// Lives through a history; what was found, as text.
pub fn outcome(history: &History) -> Result<Summary, String> {
    match catch_unwind(AssertUnwindSafe(|| history.simulate())) {
        Ok(Ok(summary)) => Ok(summary),
        Ok(Err(error)) => Err(format!("{error:#}")),
        Err(panic) => Err(panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_string()))
            .unwrap_or_else(|| "a panic without words".to_string())),
    }
}

/// The smallest history found that still fails, and how.
pub fn shrink(failing: &History, found: String) -> (History, String) {
    let mut best = (failing.clone(), found);
    // The fewest turns, by halves.
    let (mut passes, mut fails) = (0, best.0.turns);
    while fails - passes > 1 {
        let turns = passes + (fails - passes) / 2;
        let shorter = History { turns, ..best.0.clone() };
        match outcome(&shorter) {
            Ok(_) => passes = turns,
            Err(found) => {
                fails = turns;
                best = (shorter, found);
            }
        }
    }
    for fault in Fault::ALL {
        let mut calmer = best.0.clone();
        calmer.without.insert(*fault);
        if let Err(found) = outcome(&calmer) {
            best = (calmer, found);
        }
    }
    best
}

/// The command that repeats a history.
pub fn command(history: &History) -> String {
    let mut command = format!("./ops/sim --seeds 1 --first {}", history.seed);
    if history.turns != crate::TURNS {
        command += &format!(" --turns {}", history.turns);
    }
    if !history.without.is_empty() {
        let names: Vec<&str> = history.without.iter().map(|fault| fault.name()).collect();
        command += &format!(" --without {}", names.join(","));
    }
    command
}

/// Adds up what went wrong.
pub fn add(all: &mut BTreeMap<&'static str, u64>, summary: &Summary) {
    for (fault, count) in &summary.struck {
        *all.entry(fault.name()).or_default() += count;
    }
}
