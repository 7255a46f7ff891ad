//! What an input reached: branches, where the build counts them, and what was said of it.
//!
//! `ops/fuzz` builds the workspace's crates with LLVM's inline 8-bit counters (SanitizerCoverage, "Inline 8bit-counters"); on the stable
//! toolchain, in the one profile, without a rebuild of other crates. Without them only what was said tells inputs apart.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::PoisonError;

/// What has been reached so far.
#[derive(Default)]
pub struct Reached {
    said: BTreeSet<[u8; 32]>,
    branches: Vec<u8>,
}

impl Reached {
    /// Notes what an input reached and what was said of it; whether any of it is new.
    pub fn note(&mut self, said: &str) -> bool {
        let new = self.said.len() < SAID_MAX && self.said.insert(*blake3::hash(form(said).as_bytes()).as_bytes());
        counters::note(&mut self.branches) | new
    }

    /// Branches reached; none where the build does not count them.
    pub fn branches(&self) -> usize {
        self.branches.iter().filter(|seen| **seen != 0).count()
    }
}

/// Different things said that are told apart.
const SAID_MAX: usize = 4_096;

/// What is said without what it was said of: numbers, what stands in quotes, and what lies between `found` and `expected`.
fn form(said: &str) -> String {
    let mut form = String::new();
    for (place, part) in said.split(FOUND).enumerate() {
        let part = if place == 0 { part } else { part.split_once(EXPECTED).map_or("", |(_, after)| after) };
        let outside = part.split('"').step_by(2).flat_map(str::chars);
        form.extend(outside.filter(|letter| letter.is_ascii_lowercase() || *letter == ' ').take(FORM_MAX));
    }
    form
}

/// How errors of the product name what stands there, and what should.
const FOUND: &str = "found ";
const EXPECTED: &str = "expected ";
/// Letters of a part that tell it apart.
const FORM_MAX: usize = 80;

/// The counters' ranges in memory, as their address and length.
static RANGES: Mutex<Vec<(usize, usize)>> = Mutex::new(Vec::new());

fn ranges() -> Vec<(usize, usize)> {
    RANGES.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// How often, in steps: once, twice, … many times (the buckets of AFL).
fn step(count: u8) -> u8 {
    match count {
        0..=2 => count,
        3 => 4,
        4..=7 => 8,
        8..=15 => 16,
        16..=31 => 32,
        32..=127 => 64,
        _ => 128,
    }
}

#[expect(unsafe_code, reason = "LLVM's counters are memory that the linker lays out")]
mod counters {
    use std::sync::PoisonError;

    use super::{RANGES, ranges, step};

    /// Called by LLVM's start-up code with where a module's counters lie.
    ///
    /// # Safety
    /// `start` and `stop` bound memory that lives as long as the process.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn __sanitizer_cov_8bit_counters_init(start: *mut u8, stop: *mut u8) {
        let (start, stop) = (start as usize, stop as usize);
        let mut ranges = RANGES.lock().unwrap_or_else(PoisonError::into_inner);
        if stop > start && !ranges.iter().any(|(from, _)| *from == start) {
            ranges.push((start, stop - start));
        }
    }

    /// Takes over what was counted since the last time, and begins to count anew. Whether any of it is new.
    pub(super) fn note(seen: &mut Vec<u8>) -> bool {
        let mut new = false;
        let mut place = 0;
        for (from, len) in ranges() {
            // SAFETY: LLVM gave this range; nothing else refers to it as Rust memory, and counting is by single bytes, of which a race
            // loses one at most.
            let counters = unsafe { std::slice::from_raw_parts_mut(from as *mut u8, len) };
            if seen.len() < place + len {
                seen.resize(place + len, 0);
            }
            let seen = &mut seen[place..place + len];
            for (counters, seen) in counters.chunks_mut(64).zip(seen.chunks_mut(64)) {
                if counters.iter().all(|count| *count == 0) {
                    continue;
                }
                for (count, seen) in counters.iter_mut().zip(seen) {
                    let step = step(std::mem::take(count));
                    new |= step & !*seen != 0;
                    *seen |= step;
                }
            }
            place += len;
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_counts_once_whatever_number_or_text_it_is_said_of() {
        let mut reached = Reached::default();
        let new = |reached: &mut Reached, said: &str| {
            let before = reached.said.len();
            reached.note(said);
            reached.said.len() > before
        };
        assert!(new(&mut reached, "found \"x\", expected 7 bytes"));
        assert!(!new(&mut reached, "found \"y z\", expected 12 bytes"));
        assert!(new(&mut reached, "found nothing"));
    }
}
