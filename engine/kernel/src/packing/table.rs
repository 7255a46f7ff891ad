//! Best patterns of kinds in the GPUs of a node, at given bids.

use super::node::GPU_MILLI;
use super::priced::Priced;

/// Holes are looked at in steps of so many thousandths.
pub(super) const STEP_MILLI: i64 = 10;
const STEPS: usize = (GPU_MILLI / STEP_MILLI) as usize;
/// Wholly free GPUs that one pattern covers; a node with more has several.
const WHOLE_MAX: usize = 64;
const NONE: u16 = u16::MAX;

/// Bids by size: what one is worth, and its kind.
type Bids<const SIZES: usize> = [(i64, u16); SIZES];

/// What room of each size up to the largest is worth, and the bid that ends its best pattern: of equals the smallest. Room that no bid
/// ends adds `bare` for each unit.
///
/// A bid that is worth no more than the best that its room comes to without it is left out: whoever does that instead does no worse, and
/// is found before it.
fn patterns<const SIZES: usize>(bids: &Bids<SIZES>, bare: i64, largest: usize) -> ([i64; SIZES], [u16; SIZES]) {
    let (mut worth, mut ends) = ([0; SIZES], [NONE; SIZES]);
    let mut worthwhile: Vec<(usize, i64, u16)> = Vec::new();
    for room in 1..=largest.min(SIZES - 1) {
        let (mut best, mut end) = (worth[room - 1] + bare, NONE);
        for (size, bid, k) in &worthwhile {
            let value = worth[room - size] + bid;
            if value > best {
                (best, end) = (value, *k);
            }
        }
        let (bid, k) = bids[room];
        if bid > best {
            (best, end) = (bid, k);
            worthwhile.push((room, bid, k));
        }
        (worth[room], ends[room]) = (best, end);
    }
    (worth, ends)
}

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
    /// Unbounded knapsacks over kinds with their bids, for nodes of so many GPUs at most.
    pub fn new<'k>(bids: impl Iterator<Item = (u16, &'k Priced, i64)>, gpus_max: usize) -> Self {
        // Only the best bid of each size matters.
        let (mut shares, mut several): (Bids<{ STEPS + 1 }>, Bids<{ WHOLE_MAX + 1 }>) =
            ([(0, NONE); STEPS + 1], [(0, NONE); WHOLE_MAX + 1]);
        for (k, kind, bid) in bids {
            let best = if kind.gpus == 1 { shares.get_mut(kind.steps) } else { several.get_mut(kind.gpus) };
            if let Some(best) = best.filter(|best| bid > best.0) {
                *best = (bid, k);
            }
        }
        let (hole, hole_pick) = patterns(&shares, 0, STEPS);
        let (whole, whole_pick) = patterns(&several, hole[STEPS], gpus_max);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIZES: usize = 25;

    /// The same with every bid tried for every room.
    fn plain(bids: &Bids<SIZES>, bare: i64) -> ([i64; SIZES], [u16; SIZES]) {
        let (mut worth, mut ends) = ([0; SIZES], [NONE; SIZES]);
        for room in 1..SIZES {
            worth[room] = worth[room - 1] + bare;
            for size in (1..=room).filter(|size| bids[*size].0 > 0) {
                let value = worth[room - size] + bids[size].0;
                if value > worth[room] {
                    (worth[room], ends[room]) = (value, bids[size].1);
                }
            }
        }
        (worth, ends)
    }

    proptest! {
        #[test]
        fn bids_that_are_left_out_would_end_no_pattern(
            offered in proptest::collection::vec((1..SIZES, 1_i64..60), 0..20),
            bare in 0_i64..4,
        ) {
            let mut bids = [(0, NONE); SIZES];
            for (k, (size, bid)) in offered.into_iter().enumerate() {
                bids[size] = (bid, k as u16);
            }
            prop_assert_eq!(patterns(&bids, bare, SIZES), plain(&bids, bare));
        }
    }
}
