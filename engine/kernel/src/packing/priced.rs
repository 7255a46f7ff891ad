//! The kinds that prices are of: those with GPUs, rare ones added to a frequent neighbour.

use std::collections::BTreeMap;

use super::kinds::Kind;
use super::node::GPU_MILLI;
use super::table::STEP_MILLI;

/// Millionths of a GPU in one thousandth.
pub(super) const MICRO: i64 = 1000;
/// CPU levels: as many of the most frequent CPU sizes.
const LEVELS_MAX: usize = 16;
/// Kinds rarer than one in so many are priced with a frequent neighbour, when one is within three cores.
const RARE: i64 = 1250;
const NEIGHBOUR_CPU_MILLI: i64 = 3000;

/// A kind that is priced.
#[derive(Clone, Debug)]
pub(super) struct Priced {
    pub kind: Kind,
    /// GPUs, and steps of each.
    pub gpus: usize,
    pub steps: usize,
    /// Its own size, millionths of a GPU.
    pub size: i64,
    /// What a slot for it is worth, millionths of a GPU.
    pub price: i64,
}

impl Priced {
    /// At a price of its own; none of a kind without GPUs.
    pub fn new(kind: Kind, price: i64) -> Option<Self> {
        if kind.gpus <= 0 || kind.gpu_milli_each <= 0 {
            return None;
        }
        let size = kind.size_micros();
        Some(Self {
            gpus: kind.gpus as usize,
            steps: ((kind.gpu_milli_each.min(GPU_MILLI) + STEP_MILLI - 1) / STEP_MILLI) as usize,
            size,
            price,
            kind,
        })
    }

    /// How far apart two kinds are in CPU that are the same but for it and memory; none when they are not.
    pub fn distance(&self, other: &Kind) -> Option<i64> {
        let alike = (&other.models, other.gpus, other.gpu_milli_each)
            == (&self.kind.models, self.kind.gpus, self.kind.gpu_milli_each);
        alike.then(|| (other.cpu_milli - self.kind.cpu_milli).abs())
    }
}

/// Those of the kinds that have GPUs, with their prices, rare ones added to their nearest frequent neighbour.
pub(super) fn priced(kinds: &[(Kind, i64)]) -> Vec<Priced> {
    let with_gpus = || kinds.iter().filter_map(|(kind, price)| Priced::new(kind.clone(), *price));
    let total: i64 = with_gpus().map(|priced| priced.kind.count).sum();
    // Memory has no price: kinds that differ in it only are one, of the smallest.
    let mut merged: BTreeMap<Kind, Priced> = BTreeMap::new();
    for priced in with_gpus() {
        merged
            .entry(Kind { memory_mib: 0, count: 0, ..priced.kind.clone() })
            .and_modify(|known| {
                known.kind.count += priced.kind.count;
                known.kind.memory_mib = known.kind.memory_mib.min(priced.kind.memory_mib);
            })
            .or_insert(priced);
    }
    let (rare, mut kept): (Vec<Priced>, Vec<Priced>) =
        merged.into_values().partition(|priced| priced.kind.count * RARE < total);
    let frequent = kept.len();
    for priced in rare {
        let near = |k: &usize| kept[*k].distance(&priced.kind).filter(|distance| *distance <= NEIGHBOUR_CPU_MILLI);
        match (0..frequent).filter_map(|k| Some((near(&k)?, k))).min() {
            Some((_, neighbour)) => kept[neighbour].kind.count += priced.kind.count,
            None => kept.push(priced),
        }
    }
    kept
}

/// The most frequent CPU sizes of kinds of one GPU, ascending.
pub(super) fn levels(kinds: &[Priced]) -> Vec<i64> {
    let mut sizes: BTreeMap<i64, i64> = BTreeMap::new();
    for priced in kinds.iter().filter(|priced| priced.gpus == 1) {
        *sizes.entry(priced.kind.cpu_milli).or_default() += priced.kind.count;
    }
    let mut by_count: Vec<(i64, i64)> = sizes.into_iter().map(|(size, count)| (-count, size)).collect();
    by_count.sort_unstable();
    by_count.truncate(LEVELS_MAX);
    let mut levels: Vec<i64> = by_count.into_iter().map(|(_, size)| size).collect();
    levels.sort_unstable();
    levels
}
