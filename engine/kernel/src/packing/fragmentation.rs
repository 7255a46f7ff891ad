//! Expected fragmentation of a node, in exact integers, and FGD's coarse score of what a placement does to it.
//!
//! F(node) = Σ over typical kinds of count × idle thousandths of GPU that a replica of this kind cannot use (Weng et al.,
//! "Beware of Fragmentation", USENIX ATC'23); divided by the sum of counts it is the expectation. A kind that cannot run on
//! the node at all counts all that is idle.

use std::collections::BTreeMap;

use super::kinds::Kinds;
use super::node::{Ask, GPU_MILLI};
use super::state::NodeState;

/// 10⁹ × ln(s / (100 − s)) for s = 51 … 99, rounded up: where int(100 × sigmoid(x)) reaches s.
const LOGITS_1E9: [i64; 49] = [
    40_005_335,
    80_042_708,
    120_144_312,
    160_342_651,
    200_670_696,
    241_162_057,
    281_851_153,
    322_773_393,
    363_965_378,
    405_465_109,
    447_312_219,
    489_548_226,
    532_216_814,
    575_364_145,
    619_039_209,
    663_294_218,
    708_185_058,
    753_771_803,
    800_119_301,
    847_297_861,
    895_384_048,
    944_461_609,
    994_622_576,
    1_045_968_556,
    1_098_612_289,
    1_152_679_510,
    1_208_311_206,
    1_265_666_374,
    1_324_925_415,
    1_386_294_362,
    1_450_010_176,
    1_516_347_490,
    1_585_627_264,
    1_658_228_077,
    1_734_601_056,
    1_815_289_967,
    1_900_958_762,
    1_992_430_165,
    2_090_741_097,
    2_197_224_578,
    2_313_634_930,
    2_442_347_036,
    2_586_689_345,
    2_751_535_314,
    2_944_438_980,
    3_178_053_831,
    3_476_098_690,
    3_891_820_299,
    4_595_119_851,
];

/// Fragmentation of nodes of any model under given kinds.
#[derive(Clone, Debug)]
pub(super) struct Fragmentation {
    /// Sum of the typical kinds' counts.
    total: i64,
    /// Number of distinct shares that a hole of h thousandths is wide enough for, by h.
    rank: Vec<u16>,
    ranks: usize,
    /// Least decrease of F (× total) for a score of 1, 2, …
    thresholds: Vec<i64>,
    by_model: BTreeMap<u32, Table>,
    /// For models that no kind names.
    unnamed: Table,
}

/// Counts of kinds that one model serves, cumulated.
#[derive(Clone, Debug)]
struct Table {
    /// Distinct CPU sizes, ascending; the level of a node is how many of them its free CPU holds.
    cpu_sizes: Vec<i64>,
    /// By level and rank: kinds of one GPU that fit in the hole.
    one: Vec<i64>,
    /// By level and wholly free GPUs (up to `multi_max`): kinds of several GPUs that fit.
    multi: Vec<i64>,
    multi_max: usize,
}

impl Fragmentation {
    pub fn new(kinds: &Kinds) -> Self {
        let typical = kinds.typical();
        let total: i64 = typical.iter().map(|kind| kind.count).sum();
        let mut shares: Vec<i64> =
            typical.iter().filter(|kind| kind.gpus > 0).map(|kind| kind.gpu_milli_each).collect();
        shares.sort_unstable();
        shares.dedup();
        let rank: Vec<u16> =
            (0..=GPU_MILLI).map(|hole| shares.partition_point(|share| *share <= hole) as u16).collect();
        let ranks = shares.len() + 1;
        let mut models: Vec<u32> = typical.iter().filter_map(|kind| kind.models.as_ref()).flatten().copied().collect();
        models.sort_unstable();
        models.dedup();
        let table = |model: Option<u32>| Table::new(kinds, model, &rank, ranks);
        let by_model = models.into_iter().map(|model| (model, table(Some(model)))).collect();
        let unnamed = table(None);
        let thresholds = thresholds(total);
        Self { total, rank, ranks, thresholds, by_model, unnamed }
    }

    /// Sum of the typical kinds' counts.
    pub fn total(&self) -> i64 {
        self.total
    }

    /// F of a state, times the sum of counts.
    pub fn of(&self, state: &NodeState) -> i64 {
        let view = self.view(state.model, state.cpu_free_milli);
        self.total * state.free_gpu_milli() - view.used(&state.holes, state.whole())
    }

    /// Calls `seen` with each hole that one share may go to, once per size, and by how much F × total falls there.
    pub fn each_hole(&self, ask: &Ask, state: &NodeState, mut seen: impl FnMut(i64, i64)) {
        let whole = state.whole();
        let before = self.view(state.model, state.cpu_free_milli).used(&state.holes, whole);
        let view = self.view(state.model, state.cpu_free_milli - ask.cpu_milli);
        let unchanged = view.used(&state.holes, whole);
        let mut last = None;
        for hole in state.holes.iter().copied().filter(|hole| *hole >= ask.gpu_milli_each) {
            if last == Some(hole) {
                continue;
            }
            last = Some(hole);
            let mut after = unchanged - view.one(hole) + view.one(hole - ask.gpu_milli_each);
            if hole == GPU_MILLI {
                after += view.several(whole - 1) - view.several(whole);
            }
            seen(hole, self.total * ask.gpu_milli_each - before + after);
        }
    }

    /// By how much F × total falls when GPUs are taken that are wholly free, or the tightest for shares of several.
    pub fn fall(&self, ask: &Ask, state: &NodeState) -> i64 {
        let whole = state.whole();
        let before = self.view(state.model, state.cpu_free_milli).used(&state.holes, whole);
        let view = self.view(state.model, state.cpu_free_milli - ask.cpu_milli);
        let unchanged = view.used(&state.holes, whole);
        let mut after = unchanged;
        let mut left = whole;
        for hole in
            state.holes.iter().copied().filter(|hole| *hole >= ask.gpu_milli_each).take(ask.gpus.max(0) as usize)
        {
            after += view.one(hole - ask.gpu_milli_each) - view.one(hole);
            left -= usize::from(hole == GPU_MILLI);
        }
        after += view.several(left) - view.several(whole);
        self.total * ask.gpu_milli() - before + after
    }

    /// int(100 × sigmoid((F before − F after) / 1000)) of a fall of F × total.
    pub fn coarse(&self, fall: i64) -> i64 {
        self.thresholds.partition_point(|least| *least <= fall) as i64
    }

    /// The next larger CPU size among the kinds that a model serves: up to there F does not depend on free CPU.
    pub fn next_size(&self, model: u32, cpu_free_milli: i64) -> i64 {
        let sizes = &self.by_model.get(&model).unwrap_or(&self.unnamed).cpu_sizes;
        sizes.get(sizes.partition_point(|size| *size <= cpu_free_milli)).copied().unwrap_or(i64::MAX)
    }

    fn view(&self, model: u32, cpu_free_milli: i64) -> View<'_> {
        let table = self.by_model.get(&model).unwrap_or(&self.unnamed);
        let level = table.cpu_sizes.partition_point(|size| *size <= cpu_free_milli);
        View {
            rank: &self.rank,
            one: &table.one[level * self.ranks..][..self.ranks],
            multi: &table.multi[level * (table.multi_max + 1)..][..table.multi_max + 1],
        }
    }
}

/// A table at one CPU level.
struct View<'a> {
    rank: &'a [u16],
    one: &'a [i64],
    multi: &'a [i64],
}

impl View<'_> {
    /// Thousandths × count that kinds of one GPU can use of a hole.
    fn one(&self, hole: i64) -> i64 {
        hole * self.one[usize::from(self.rank[hole as usize])]
    }

    /// The same of wholly free GPUs by kinds of several.
    fn several(&self, whole: usize) -> i64 {
        GPU_MILLI * whole as i64 * self.multi[whole.min(self.multi.len() - 1)]
    }

    fn used(&self, holes: &[i64], whole: usize) -> i64 {
        holes.iter().map(|hole| self.one(*hole)).sum::<i64>() + self.several(whole)
    }
}

impl Table {
    fn new(kinds: &Kinds, model: Option<u32>, rank: &[u16], ranks: usize) -> Self {
        let served = |models: &Option<Vec<u32>>| match (models, model) {
            (None, _) => true,
            (Some(models), Some(model)) => models.contains(&model),
            (Some(_), None) => false,
        };
        let kinds: Vec<_> = kinds.typical().iter().filter(|kind| kind.gpus > 0 && served(&kind.models)).collect();
        let mut cpu_sizes: Vec<i64> = kinds.iter().map(|kind| kind.cpu_milli).collect();
        cpu_sizes.sort_unstable();
        cpu_sizes.dedup();
        // Shares of several GPUs are rare; they count like one share here.
        let several = |gpus: i64, milli: i64| gpus > 1 && milli >= GPU_MILLI;
        let multi_max = kinds
            .iter()
            .filter(|kind| several(kind.gpus, kind.gpu_milli_each))
            .map(|kind| kind.gpus)
            .max()
            .unwrap_or(0) as usize;
        let mut one = vec![0; (cpu_sizes.len() + 1) * ranks];
        let mut multi = vec![0; (cpu_sizes.len() + 1) * (multi_max + 1)];
        for kind in kinds {
            let first_level = cpu_sizes.partition_point(|size| *size <= kind.cpu_milli);
            for level in first_level..=cpu_sizes.len() {
                if several(kind.gpus, kind.gpu_milli_each) {
                    for whole in kind.gpus as usize..=multi_max {
                        multi[level * (multi_max + 1) + whole] += kind.count;
                    }
                } else {
                    let least = usize::from(rank[kind.gpu_milli_each.clamp(0, GPU_MILLI) as usize]);
                    for wide in least..ranks {
                        one[level * ranks + wide] += kind.count;
                    }
                }
            }
        }
        Self { cpu_sizes, one, multi, multi_max }
    }
}

/// Least falls of F × total for the scores 1 to 99. With D = fall × total and x = D / total / 1000, x ≥ ln(s / (100 − s)).
fn thresholds(total: i64) -> Vec<i64> {
    let ceil = |logit_1e9: i64| {
        let product = i128::from(logit_1e9) * i128::from(total);
        // Milli-GPU over 1,000: a fall of 10⁶ / 10⁹.
        -((-product).div_euclid(1_000_000)) as i64
    };
    // ln(s / (100 − s)) is odd around 50; rounding up below 50 is rounding the mirrored value down.
    let below = LOGITS_1E9.iter().rev().map(|logit| ceil(-(logit - 1)));
    let above = LOGITS_1E9.iter().map(|logit| ceil(*logit));
    below.chain([0]).chain(above).collect()
}
