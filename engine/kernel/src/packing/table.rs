//! Best patterns of kinds in the GPUs of a node, at given bids.

use std::collections::BTreeMap;

use super::node::GPU_MILLI;
use super::priced::Priced;

/// Holes are looked at in steps of so many thousandths.
pub(super) const STEP_MILLI: i64 = 10;
const STEPS: usize = (GPU_MILLI / STEP_MILLI) as usize;
/// Wholly free GPUs that one pattern covers; a node with more has several.
const WHOLE_MAX: usize = 64;
const NONE: u16 = u16::MAX;

/// Best patterns at one price of CPU.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// Value of the best pattern in a hole of so many steps, and the kind that ends it.
    hole: [i64; STEPS + 1],
    hole_pick: [u16; STEPS + 1],
    /// Value of so many wholly free GPUs, and the kind of several that ends the pattern.
    whole: [i64; WHOLE_MAX + 1],
    whole_pick: [u16; WHOLE_MAX + 1],
}

impl Table {
    /// Unbounded knapsacks over kinds with their bids.
    pub fn new<'k>(bids: impl Iterator<Item = (u16, &'k Priced, i64)>) -> Self {
        // Only the best bid of each size matters.
        let mut shares: BTreeMap<usize, (i64, u16)> = BTreeMap::new();
        let mut several: BTreeMap<usize, (i64, u16)> = BTreeMap::new();
        for (k, kind, bid) in bids {
            let (sizes, size) = if kind.gpus == 1 { (&mut shares, kind.steps) } else { (&mut several, kind.gpus) };
            let best = sizes.entry(size).or_insert((bid, k));
            if bid > best.0 {
                *best = (bid, k);
            }
        }
        let shares: Vec<(usize, i64, u16)> = shares.into_iter().map(|(size, (bid, k))| (size, bid, k)).collect();
        let (mut hole, mut hole_pick) = ([0; STEPS + 1], [NONE; STEPS + 1]);
        for steps in 1..=STEPS {
            hole[steps] = hole[steps - 1];
            for (size, bid, k) in shares.iter().take_while(|(size, _, _)| *size <= steps) {
                let value = hole[steps - size] + bid;
                if value > hole[steps] {
                    (hole[steps], hole_pick[steps]) = (value, *k);
                }
            }
        }
        let (mut whole, mut whole_pick) = ([0; WHOLE_MAX + 1], [NONE; WHOLE_MAX + 1]);
        for gpus in 1..=WHOLE_MAX {
            whole[gpus] = whole[gpus - 1] + hole[STEPS];
            for (size, (bid, k)) in several.range(..=gpus) {
                let value = whole[gpus - size] + bid;
                if value > whole[gpus] {
                    (whole[gpus], whole_pick[gpus]) = (value, *k);
                }
            }
        }
        Self { hole, hole_pick, whole, whole_pick }
    }

    /// Value of free GPUs, thousandths of each in ascending order.
    pub fn value(&self, holes: &[i64]) -> i64 {
        let partial = holes.partition_point(|hole| *hole < GPU_MILLI);
        let parts: i64 = holes[..partial].iter().map(|hole| self.hole[(hole / STEP_MILLI) as usize]).sum();
        let whole = holes.len() - partial;
        parts + (whole / WHOLE_MAX) as i64 * self.whole[WHOLE_MAX] + self.whole[whole % WHOLE_MAX]
    }

    /// Adds what the best pattern of such GPUs uses of each kind, on so many nodes.
    pub fn use_by(&self, kinds: &[Priced], holes: &[i64], nodes: i64, used: &mut [i64]) {
        let partial = holes.partition_point(|hole| *hole < GPU_MILLI);
        for hole in &holes[..partial] {
            self.use_hole(kinds, (hole / STEP_MILLI) as usize, nodes, used);
        }
        let whole = holes.len() - partial;
        self.use_whole(kinds, WHOLE_MAX, nodes * (whole / WHOLE_MAX) as i64, used);
        self.use_whole(kinds, whole % WHOLE_MAX, nodes, used);
    }

    fn use_whole(&self, kinds: &[Priced], mut whole: usize, nodes: i64, used: &mut [i64]) {
        let mut singles = 0;
        while nodes > 0 && whole > 0 {
            match self.whole_pick[whole] {
                NONE => {
                    singles += 1;
                    whole -= 1;
                }
                k => {
                    used[usize::from(k)] += nodes;
                    whole -= kinds[usize::from(k)].gpus;
                }
            }
        }
        self.use_hole(kinds, STEPS, nodes * singles, used);
    }

    fn use_hole(&self, kinds: &[Priced], mut steps: usize, holes: i64, used: &mut [i64]) {
        while holes > 0 && steps > 0 {
            match self.hole_pick[steps] {
                NONE => steps -= 1,
                k => {
                    used[usize::from(k)] += holes;
                    steps -= kinds[usize::from(k)].steps;
                }
            }
        }
    }
}
