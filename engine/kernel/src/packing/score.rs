//! Scores of states under a rule, remembered per ask: the higher the better, equal ones are settled by name.

use std::collections::BTreeMap;

use super::fragmentation::Fragmentation;
use super::kinds::Kinds;
use super::market::Market;
use super::node::{Ask, GPU_MILLI, GpuSlot, Rule};
use super::state::{NodeState, StateId};

/// Largest CPU that best fit measures against, thousandths of a core, and largest GPU, as in the published comparison.
const BEST_FIT_CPU_MILLI: i64 = 128_000;
const BEST_FIT_GPU_MILLI: i64 = 8_000;
const BEST_FIT_CPU_PER_GPU: i64 = BEST_FIT_CPU_MILLI / BEST_FIT_GPU_MILLI;
/// What is left over is measured in thousandths of a core of two such nodes.
const BEST_FIT_SCALE: i64 = 2 * BEST_FIT_CPU_MILLI;

/// Losses of value closer than this (millionths of a GPU) are told apart by fragmentation, in steps of so many thousandths.
const VALUE_STEP: i64 = 10_000;
const FALL_STEP_MILLI: i64 = 40;
const SCORE_PER_STEP: i64 = 10_000;
const TIE_MAX: i64 = 4_000;

/// What a GPU that has to be divided weighs in the score of instances, and a slice of a placement that is destroyed: more than all
/// that comes after it.
const FRESH_GPU: i64 = 1_000_000_000_000;
const DESTROYED: i64 = 2_000;

/// Scores remembered at most, over all asks (16 bytes each).
const REMEMBERED_MAX: usize = 4 << 20;

/// What rules need to know beside the state.
#[derive(Clone, Debug)]
pub(super) struct Scorer {
    fragmentation: Fragmentation,
    pub market: Option<Market>,
}

impl Scorer {
    pub fn new(kinds: &Kinds) -> Self {
        Self { fragmentation: Fragmentation::new(kinds), market: None }
    }

    /// Score of placing one replica on a node in this state; none when it does not fit.
    pub fn score(&self, rule: Rule, ask: &Ask, state: &NodeState) -> Option<i64> {
        if !state.fits(ask) {
            return None;
        }
        let state = &*state.seen_by(ask);
        if ask.mig.is_some() {
            return of_instances(ask, state);
        }
        if let (Rule::Solyx, Some(market)) = (rule, &self.market) {
            return self.priced(market, ask, state).map(|(score, _)| score);
        }
        match self.effective(rule) {
            Rule::BestFit => Some(best_fit(ask, state.cpu_free_milli, state.free_gpu_milli())),
            Rule::Fgd | Rule::Solyx => self.coarse(ask, state),
        }
    }

    fn coarse(&self, ask: &Ask, state: &NodeState) -> Option<i64> {
        let fall = if ask.is_share() {
            let mut most = None;
            self.fragmentation.each_hole(ask, state, |_, fall| most = most.max(Some(fall)));
            most?
        } else {
            self.fragmentation.fall(ask, state)
        };
        Some(self.fragmentation.coarse(fall))
    }

    /// The coarse score of a state that has a GPU for the ask, and up to which free CPU, that excluded, it stays as it is.
    pub fn coarse_step(&self, ask: &Ask, state: &NodeState) -> Option<(i64, i64)> {
        let next = |cpu_milli: i64| self.fragmentation.next_size(state.model, cpu_milli);
        let after = next(state.cpu_free_milli - ask.cpu_milli).saturating_add(ask.cpu_milli);
        Some((self.coarse(ask, state)?, next(state.cpu_free_milli).min(after)))
    }

    /// GPUs of a node in this state, by index, on which the replica fits and scores best.
    pub fn gpus(&self, rule: Rule, ask: &Ask, state: &NodeState, slots: &[GpuSlot]) -> Vec<u8> {
        let wide =
            |gpu: &GpuSlot, milli: i64| gpu.usable && gpu.slices == 0 && gpu.free_milli >= milli && gpu.lets_in(ask);
        let by_index = slots.iter().enumerate().filter(|(_, gpu)| wide(gpu, ask.gpu_milli_each));
        if ask.gpus <= 0 {
            return Vec::new();
        }
        if let (true, Rule::Solyx, Some(market)) = (ask.is_share(), rule, &self.market) {
            let hole = self.priced(market, ask, state).map(|(_, hole)| hole);
            return by_index.filter(|(_, gpu)| Some(gpu.free_milli) == hole).map(|(i, _)| i as u8).take(1).collect();
        }
        if ask.is_share() && self.effective(rule) != Rule::BestFit {
            let mut holes = Vec::new();
            let mut best = None;
            self.fragmentation.each_hole(ask, state, |hole, fall| {
                let score = Some(self.fragmentation.coarse(fall));
                if score > best {
                    holes.clear();
                    best = score;
                }
                if score == best {
                    holes.push(hole);
                }
            });
            // The first by index among equally good ones, which is part of the published result.
            return by_index.filter(|(_, gpu)| holes.contains(&gpu.free_milli)).map(|(i, _)| i as u8).take(1).collect();
        }
        let mut fitting: Vec<(i64, u8)> = by_index.map(|(i, gpu)| (gpu.free_milli, i as u8)).collect();
        fitting.sort_unstable();
        fitting.into_iter().map(|(_, i)| i).take(ask.gpus as usize).collect()
    }

    /// Expected fragmentation of a state: a sum, and what to divide it by.
    pub fn fragmentation(&self, state: &NodeState) -> (i64, i64) {
        (self.fragmentation.of(state), self.fragmentation.total())
    }

    /// Least loss of priced value, fragmentation settling what is near; with the hole a share goes to.
    fn priced(&self, market: &Market, ask: &Ask, state: &NodeState) -> Option<(i64, i64)> {
        let cpu_left = state.cpu_free_milli - ask.cpu_milli;
        let before = market.value(state, state.cpu_free_milli, &state.holes);
        let scarcity = market.scarcity(state.model, ask.gpu_milli());
        let score = |holes: &mut Vec<i64>, fall: i64| {
            holes.sort_unstable();
            let loss = match (before, market.value(state, cpu_left, holes)) {
                (Some(before), Some(after)) => before - after,
                _ => ask.gpu_milli() * 1000,
            };
            let steps = (loss + scarcity + VALUE_STEP / 2).div_euclid(VALUE_STEP);
            let tie = (fall.div_euclid(self.fragmentation.total().max(1) * FALL_STEP_MILLI)).clamp(-TIE_MAX, TIE_MAX);
            tie - steps * SCORE_PER_STEP
        };
        if !ask.is_share() {
            let mut holes = state.holes.clone();
            let wide = holes.iter_mut().filter(|hole| **hole >= ask.gpu_milli_each);
            wide.take(ask.gpus.max(0) as usize).for_each(|hole| *hole -= ask.gpu_milli_each);
            return Some((score(&mut holes, self.fragmentation.fall(ask, state)), 0));
        }
        let mut best = None;
        self.fragmentation.each_hole(ask, state, |hole, fall| {
            let mut holes = state.holes.clone();
            let place = holes.partition_point(|other| *other < hole);
            holes[place] -= ask.gpu_milli_each;
            let score = score(&mut holes, fall);
            // Equal ones go to the smallest hole, which comes first.
            if best.is_none_or(|(most, _)| score > most) {
                best = Some((score, hole));
            }
        });
        best
    }

    /// Without known kinds nothing is known of fragmentation.
    pub fn effective(&self, rule: Rule) -> Rule {
        if self.fragmentation.total() == 0 { Rule::BestFit } else { rule }
    }
}

/// The score of MIG instances under every rule: few GPUs that have to be divided first, then little that is destroyed (`mig.rs`),
/// then few whole GPUs beside, where one has to be divided. None where they do not fit.
pub(super) fn of_instances(ask: &Ask, state: &NodeState) -> Option<i64> {
    let (fresh, loss) = state.harm(ask, ask.mig.as_ref()?)?;
    let whole = if fresh > 0 { state.whole() as i64 } else { 0 };
    Some(-(fresh * FRESH_GPU + loss * DESTROYED + whole))
}

/// int(100 × (1 − ½ CPU left / 128 cores − ½ GPU left / 8 GPUs)).
fn best_fit(ask: &Ask, cpu_free_milli: i64, gpu_free_milli: i64) -> i64 {
    let cpu_left = cpu_free_milli - ask.cpu_milli;
    let gpu_left = gpu_free_milli - ask.gpu_milli();
    let left = cpu_left + gpu_left * BEST_FIT_CPU_PER_GPU;
    (100 * (BEST_FIT_SCALE - left)).div_euclid(BEST_FIT_SCALE)
}

/// The score of best fit, and up to which free CPU, that excluded, it stays as it is.
pub(super) fn best_fit_step(ask: &Ask, cpu_free_milli: i64, gpu_free_milli: i64) -> (i64, i64) {
    let score = best_fit(ask, cpu_free_milli, gpu_free_milli);
    let left_most = BEST_FIT_SCALE - score * (BEST_FIT_SCALE / 100);
    let gpu_left = gpu_free_milli - ask.gpu_milli();
    (score, left_most - gpu_left * BEST_FIT_CPU_PER_GPU + ask.cpu_milli + 1)
}

/// Scores by rule and ask, then by number of the state.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    by_ask: BTreeMap<(Rule, Ask), Scores>,
    remembered: usize,
}

/// Scores of one ask.
#[derive(Clone, Debug, Default)]
pub(super) struct Scores(Vec<Remembered>);

#[derive(Clone, Copy, Debug, Default)]
struct Remembered {
    /// Generation of the state's number when it was scored; 0 for never.
    generation: u32,
    fits: bool,
    score: i64,
}

impl Memory {
    pub fn forget(&mut self) {
        self.by_ask.clear();
        self.remembered = 0;
    }

    /// The scores of an ask, with room for so many states.
    pub fn scores(&mut self, rule: Rule, ask: &Ask, states: usize) -> &mut Scores {
        let key = (rule, ask.clone());
        let known = self.by_ask.get(&key).map_or(0, |scores| scores.0.len());
        if known < states {
            // Room in steps, so that a growing number of states does not reallocate each time.
            let room = states.next_power_of_two().max(64);
            if self.remembered + room - known > REMEMBERED_MAX {
                self.forget();
            }
            let scores = self.by_ask.entry(key.clone()).or_default();
            self.remembered += room - scores.0.len();
            scores.0.resize(room, Remembered::default());
        }
        self.by_ask.entry(key).or_default()
    }
}

impl Scores {
    /// The score of a state, computed when it is not known.
    pub fn get(&mut self, id: StateId, generation: u32, compute: impl FnOnce() -> Option<i64>) -> Option<i64> {
        let known = &mut self.0[id as usize];
        if known.generation != generation {
            let score = compute();
            *known = Remembered { generation, fits: score.is_some(), score: score.unwrap_or_default() };
        }
        known.fits.then_some(known.score)
    }
}

const _: () = assert!(BEST_FIT_SCALE % 100 == 0, "a step of best fit is a whole number of thousandths");
const _: () = assert!(GPU_MILLI == 1000, "thresholds and best fit are in thousandths");
