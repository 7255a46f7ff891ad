//! Instances of a divided GPU: where one may begin, how many more fit, and where one does the least harm.
//!
//! A MIG instance of a profile takes so many memory slices from one of the profile's starts (NVIDIA, "Multi-Instance GPU User
//! Guide", placements). An instance goes where the fewest placements that are still possible on the GPU become impossible, each
//! weighted by its slices: the least growth of fragmentation (Weng et al., USENIX ATC'23, for shares; Zambianco, Fasol and
//! Doriguzzi-Corin, arXiv:2511.18906, for MIG), with all profiles equally expected.

use super::node::{Ask, GpuSlot};

/// Slices of one GPU, a bit each.
pub type Slices = u16;

/// Slices that one GPU may have.
pub const SLICES_MAX: i64 = Slices::BITS as i64;

/// What a profile asks of a GPU, and what else the GPU could be divided into.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Division {
    /// Placements of the profile, by start.
    own: Vec<Slices>,
    /// Placements of all profiles.
    all: Vec<Slices>,
}

impl Division {
    /// The division of a profile among all of a model's, each as slices and starts. What reaches beyond the slices that a GPU
    /// can have is no placement.
    pub fn new(own: (i64, &[i64]), all: &[(i64, &[i64])]) -> Self {
        let of = |(slices, starts): (i64, &[i64])| {
            let mut masks: Vec<Slices> = starts.iter().filter_map(|start| mask(slices, *start)).collect();
            masks.sort_unstable();
            masks
        };
        Self { own: of(own), all: all.iter().flat_map(|profile| of(*profile)).collect() }
    }

    /// How many more instances of the profile fit beside what is taken: the first that is free, then the next. As all are
    /// equally long, no other choice gives more.
    pub fn room(&self, taken: Slices) -> i64 {
        let mut taken = taken;
        let mut room = 0;
        for place in &self.own {
            if taken & place == 0 {
                taken |= place;
                room += 1;
            }
        }
        room
    }

    /// Where the next instance begins, and how much that destroys. No place is taken that leaves room for fewer of the same
    /// profile than another would; among the others the least destroying goes first, then the lowest.
    pub fn best(&self, taken: Slices) -> Option<(i64, i64)> {
        let left = self.room(taken) - 1;
        let free = self.own.iter().filter(|place| taken & **place == 0 && self.room(taken | **place) >= left);
        let (loss, start) = free.map(|place| (self.loss(taken, *place), i64::from(place.trailing_zeros()))).min()?;
        Some((start, loss))
    }

    /// Slices of all placements that are possible and would no longer be.
    fn loss(&self, taken: Slices, place: Slices) -> i64 {
        let lost = self.all.iter().filter(|other| taken & **other == 0 && place & **other != 0);
        lost.map(|other| i64::from(other.count_ones())).sum()
    }

    /// The slices of an instance that begins there.
    pub fn slices_at(&self, start: i64) -> Option<Slices> {
        self.own.iter().copied().find(|place| i64::from(place.trailing_zeros()) == start)
    }
}

/// So many slices from a start, if a GPU can have them.
pub fn mask(slices: i64, start: i64) -> Option<Slices> {
    let fits = slices > 0 && start >= 0 && slices <= SLICES_MAX && start <= SLICES_MAX - slices;
    // It fits, so that nothing is cut off.
    fits.then(|| (((1_u32 << slices) - 1) << start) as Slices)
}

/// Replicas of so many instances each, every one on a GPU of its own, that GPUs with this room hold.
pub fn replicas(rooms: &[i64], each: i64, limit: i64) -> i64 {
    if each <= 1 {
        return rooms.iter().sum::<i64>().min(limit);
    }
    // n replicas take at most n of one GPU.
    let holds = |n: i64| rooms.iter().map(|room| (*room).min(n)).sum::<i64>() >= n.saturating_mul(each);
    let most = (rooms.iter().sum::<i64>() / each).min(limit);
    (0..=most).rev().find(|n| holds(*n)).unwrap_or(0)
}

/// GPUs and first slices for an ask's instances: GPUs already divided first, then where the least is destroyed, then by index.
/// Where that would leave room for fewer replicas than it might, those with most room first.
pub(super) fn instances(ask: &Ask, division: &Division, slots: &[GpuSlot]) -> (Vec<u8>, Vec<u8>) {
    let rooms: Vec<i64> = slots.iter().map(|gpu| gpu.instances(ask, division)).collect();
    let mut open: Vec<(bool, i64, usize, i64)> = Vec::new();
    for (index, (gpu, _)) in slots.iter().zip(&rooms).enumerate().filter(|(_, (_, room))| **room > 0) {
        if let Some((start, loss)) = division.best(gpu.slices) {
            open.push((gpu.slices == 0, loss, index, start));
        }
    }
    open.sort_unstable();
    let each = ask.gpus.max(0) as usize;
    if each > 1 {
        let mut left = rooms.clone();
        open.iter().take(each).for_each(|(_, _, index, _)| left[*index] -= 1);
        if replicas(&left, ask.gpus, i64::MAX) + 1 < replicas(&rooms, ask.gpus, i64::MAX) {
            open.sort_by_key(|(_, _, index, _)| (-rooms[*index], *index));
        }
    }
    open.truncate(each);
    open.into_iter().map(|(_, _, index, start)| (index as u8, start as u8)).unzip()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// NVIDIA's table for the A100 and H100: slices and starts of 1g, 1g with double memory, 2g, 3g, 4g and 7g.
    const A100: [(i64, &[i64]); 6] =
        [(1, &[0, 1, 2, 3, 4, 5, 6]), (2, &[0, 2, 4, 6]), (2, &[0, 2, 4]), (4, &[0, 4]), (4, &[0]), (8, &[0])];

    /// Every set of slices that disjoint instances at legal starts can take, in whatever order they come and go.
    fn reachable() -> BTreeSet<Slices> {
        let places: Vec<Slices> =
            A100.iter().flat_map(|(slices, starts)| starts.iter().filter_map(|at| mask(*slices, *at))).collect();
        let mut seen = BTreeSet::from([0]);
        let mut open = vec![0];
        while let Some(taken) = open.pop() {
            for place in places.iter().filter(|place| taken & **place == 0) {
                if seen.insert(taken | place) {
                    open.push(taken | place);
                }
            }
        }
        seen
    }

    #[test]
    fn an_instance_is_placed_whenever_a_gpu_has_a_free_legal_start_and_none_overlap() {
        let all = reachable();
        assert!(all.len() > 100, "{} divisions", all.len());
        for profile in A100 {
            let division = Division::new(profile, &A100);
            for taken in &all {
                let legal: Vec<i64> =
                    profile.1.iter().copied().filter(|at| mask(profile.0, *at).unwrap() & taken == 0).collect();
                match division.best(*taken) {
                    None => assert!(legal.is_empty(), "{profile:?} beside {taken:08b}"),
                    Some((start, _)) => {
                        assert!(legal.contains(&start), "{profile:?} at {start} beside {taken:08b}");
                        assert_eq!(division.slices_at(start), mask(profile.0, start));
                    }
                }
            }
        }
    }

    #[test]
    fn as_many_more_fit_as_the_best_of_all_choices_gives() {
        fn most(places: &[Slices], taken: Slices) -> i64 {
            let free = places.iter().filter(|place| taken & **place == 0);
            free.map(|place| 1 + most(places, taken | place)).max().unwrap_or(0)
        }
        // Also a table whose starts overlap one another.
        let odd: [(i64, &[i64]); 2] = [(2, &[0, 1, 2, 3]), (1, &[0, 3])];
        for table in [&A100[1..], &odd[..]] {
            for profile in table {
                let division = Division::new(*profile, table);
                for taken in 0..=u8::MAX {
                    let mut taken = Slices::from(taken);
                    let room = most(&division.own, taken);
                    assert_eq!(division.room(taken), room);
                    for _ in 0..room {
                        let (start, _) = division.best(taken).unwrap();
                        taken |= division.slices_at(start).unwrap();
                    }
                    assert_eq!(division.best(taken), None);
                }
            }
        }
    }

    #[test]
    fn a_small_instance_goes_where_the_fewest_large_ones_become_impossible() {
        let small = Division::new(A100[0], &A100);
        // Slice 6 is in no 2g, so that an empty GPU gives it up first.
        assert_eq!(small.best(0).unwrap().0, 6);
        // With the upper half begun the lower half stays whole.
        assert!(small.best(0b0100_0000).unwrap().0 >= 4);
        assert_eq!(small.best(0b0111_0000).unwrap().0, 0);
        assert_eq!(Division::new(A100[3], &A100).best(0b0100_0000), Some((0, 20)));
    }

    #[test]
    fn replicas_of_several_instances_have_each_on_another_gpu() {
        assert_eq!(replicas(&[7, 0], 2, 100), 0);
        assert_eq!(replicas(&[2, 1, 1], 2, 100), 2);
        assert_eq!(replicas(&[3, 3, 3], 3, 2), 2);
        assert_eq!(replicas(&[7, 7], 1, 100), 14);
    }

    #[test]
    fn what_reaches_beyond_a_gpu_is_no_placement() {
        assert_eq!(mask(8, 8), Some(0xFF00));
        assert_eq!((mask(9, 8), mask(0, 0), mask(1, -1), mask(1, 16)), (None, None, None, None));
        assert_eq!(mask(16, 0), Some(0xFFFF));
    }
}
