//! Bid prices of kinds and what a node is worth under them: the priced value of what it can still host.
//!
//! A kind's price is what one slot for it is worth, in millionths of a GPU; a node's value is the Lagrangian bound, over prices
//! of its CPU, of the best pattern of kinds that its free GPUs hold. Prices come from multiplicative weights for the linear
//! program "serve the mix as long as the fleet as it is can": what is supplied beyond its share of the mix becomes cheap.

use std::collections::BTreeMap;

use super::kinds::{Kind, Kinds};
use super::node::GPU_MILLI;
use super::state::NodeState;

/// Millionths of a GPU in one thousandth.
const MICRO: i64 = 1000;
/// Holes are looked at in steps of 10 thousandths.
const STEP_MILLI: i64 = 10;
const STEPS: usize = (GPU_MILLI / STEP_MILLI) as usize;
/// CPU levels: as many of the most frequent CPU sizes.
const LEVELS_MAX: usize = 16;
/// CPU prices tried, in units of the fleet's GPU per CPU / 15.
const CPU_PRICES: [i64; 12] = [0, 1, 2, 3, 5, 7, 10, 13, 17, 22, 30, 42];
const CPU_PRICE_PARTS: i64 = 15;
/// CPU prices are kept in 64ths of a millionth of a GPU per thousandth of a core.
const FRACTION: i64 = 64;
/// Kinds rarer than one in so many are priced with a frequent neighbour, when one is within three cores.
const RARE: i64 = 1250;
const NEIGHBOUR_CPU_MILLI: i64 = 3000;
/// A price is at most this many thousandths of a kind's own size: one that fits nowhere must not swallow the others.
const CAP_MILLI: i64 = 1200;
const SCALE: i64 = 10_000;
const NONE: u16 = u16::MAX;

/// A kind that is priced.
#[derive(Clone, Debug)]
struct Priced {
    kind: Kind,
    /// GPUs, and steps of each.
    gpus: usize,
    steps: usize,
    /// Its own size, millionths of a GPU.
    size: i64,
}

/// Prices, and the tables that follow from them.
#[derive(Clone, Debug)]
pub(super) struct Market {
    kinds: Vec<Priced>,
    prices: Vec<i64>,
    /// Ascending CPU sizes that part the levels.
    levels: Vec<i64>,
    /// CPU price unit, 64ths.
    unit: i64,
    gpus_max: usize,
    /// Group of a shape of node: which kinds it can ever host.
    groups: BTreeMap<Shape, usize>,
    hosts: Vec<Vec<u16>>,
    /// By group, level and CPU price.
    tables: Vec<Option<Table>>,
    /// What a GPU of a model costs beside, because pods bound to it are still to come; thousandths.
    scarcity: BTreeMap<u32, i64>,
}

/// What an empty node is, as far as hosting goes: model, GPUs, CPU, memory.
type Shape = (u32, usize, i64, i64);

/// Best patterns at one CPU price.
#[derive(Clone, Debug)]
struct Table {
    /// Value of the best pattern in a hole of so many steps, and the kind that ends it.
    hole: [i64; STEPS + 1],
    hole_pick: [u16; STEPS + 1],
    /// Value of so many wholly free GPUs, and the kind of several that ends the pattern.
    whole: Vec<i64>,
    whole_pick: Vec<u16>,
}

impl Market {
    /// Prices at each kind's own size, for a fleet of these states.
    pub fn new<'s>(kinds: &Kinds, states: impl Iterator<Item = (&'s NodeState, u32)>) -> Self {
        let kinds = priced(kinds);
        let (mut gpu_milli, mut cpu_milli, mut gpus_max) = (0, 0, 0);
        for (state, nodes) in states {
            gpu_milli += state.holes.len() as i64 * GPU_MILLI * i64::from(nodes);
            cpu_milli += state.cpu_milli * i64::from(nodes);
            gpus_max = gpus_max.max(state.holes.len());
        }
        let prices = kinds.iter().map(|priced| priced.size).collect();
        let unit = gpu_milli * MICRO * FRACTION / (cpu_milli * CPU_PRICE_PARTS).max(1);
        let levels = levels(&kinds);
        Self {
            kinds,
            prices,
            levels,
            unit,
            gpus_max,
            groups: BTreeMap::new(),
            hosts: Vec::new(),
            tables: Vec::new(),
            scarcity: BTreeMap::new(),
        }
    }

    /// Moves the prices by so many iterations of so large a step (ten-thousandths), for the fleet as it is.
    pub fn solve<'s>(&mut self, states: impl Iterator<Item = (&'s NodeState, u32)>, iterations: i64, step: i64) {
        let states: Vec<_> = states.filter(|(state, _)| state.holes.iter().any(|hole| *hole > 0)).collect();
        for (state, _) in &states {
            self.group(state);
        }
        let from = if iterations < 20 { 0 } else { iterations / 2 };
        let mut sums = vec![0; self.prices.len()];
        for iteration in 0..iterations {
            self.tables = vec![None; self.tables.len()];
            let mut used = vec![0; self.prices.len()];
            for (state, nodes) in &states {
                self.use_by(state, i64::from(*nodes), &mut used);
            }
            self.adjust(&used, step * 3 / (3 + iteration.isqrt()));
            if iteration >= from {
                sums.iter_mut().zip(&self.prices).for_each(|(sum, price)| *sum += price);
            }
        }
        self.scarcity = self.scarcities(&states);
        self.prices = sums.into_iter().map(|sum: i64| sum / (iterations - from).max(1)).collect();
        self.tables = vec![None; self.tables.len()];
        for group in 0..self.hosts.len() {
            for level in 0..=self.levels.len() {
                for price in 0..CPU_PRICES.len() {
                    self.fill(group, level, price);
                }
            }
        }
    }

    /// Value of a state, millionths of a GPU; none for a shape that was not there when prices were solved.
    pub fn value(&self, shape: &NodeState, cpu_free_milli: i64, holes: &[i64]) -> Option<i64> {
        let group = *self.groups.get(&of(shape))?;
        let level = self.level(cpu_free_milli);
        let mut best = i64::MAX;
        for (price, mu) in CPU_PRICES.iter().enumerate() {
            let table = self.tables[self.place(group, level, price)].as_ref()?;
            let value = mu * self.unit * cpu_free_milli.max(0) / FRACTION + table.value(holes);
            // Convex in the price of CPU.
            if value > best {
                break;
            }
            best = value;
        }
        Some(best)
    }

    /// What taking so many thousandths of a model costs for its scarcity, millionths of a GPU.
    pub fn scarcity(&self, model: u32, gpu_milli: i64) -> i64 {
        self.scarcity.get(&model).copied().unwrap_or_default() * gpu_milli * MICRO / 1000
    }

    /// 0.4 × r² with r = demand to come that is bound to the model / what is free of it, at most 2. Demand to come is what is
    /// free, and at least a twenty-eighth of the fleet.
    fn scarcities(&self, states: &[(&NodeState, u32)]) -> BTreeMap<u32, i64> {
        let mut free: BTreeMap<u32, i64> = BTreeMap::new();
        let mut fleet = 0;
        for (state, nodes) in states {
            *free.entry(state.model).or_default() += state.free_gpu_milli() * i64::from(*nodes);
            fleet += state.holes.len() as i64 * GPU_MILLI * i64::from(*nodes);
        }
        let to_come = i128::from(free.values().sum::<i64>().max(fleet / 28));
        let all: i128 = self.kinds.iter().map(|p| i128::from(p.kind.count) * i128::from(p.size)).sum();
        let mut bound: BTreeMap<u32, i128> = BTreeMap::new();
        for priced in &self.kinds {
            let Some(models) = &priced.kind.models else { continue };
            let demand = to_come * i128::from(priced.kind.count) * i128::from(priced.size) / all.max(1);
            let of = |model: &u32| i128::from(free.get(model).copied().unwrap_or_default());
            let accepted: i128 = models.iter().map(of).sum();
            for model in models {
                *bound.entry(*model).or_default() += demand * of(model) / accepted.max(1);
            }
        }
        let scarce = |(model, demand): (u32, i128)| {
            let ratio =
                (demand * 1000 / i128::from(free.get(&model).copied().unwrap_or_default().max(1))).min(2000) as i64;
            (model, 400 * ratio * ratio / 1_000_000)
        };
        bound.into_iter().map(scarce).collect()
    }

    fn level(&self, cpu_free_milli: i64) -> usize {
        self.levels.partition_point(|size| *size <= cpu_free_milli)
    }

    fn place(&self, group: usize, level: usize, price: usize) -> usize {
        (group * (self.levels.len() + 1) + level) * CPU_PRICES.len() + price
    }

    fn group(&mut self, state: &NodeState) -> usize {
        if let Some(group) = self.groups.get(&of(state)) {
            return *group;
        }
        let hosts = |kind: &Kind| {
            kind.models.as_ref().is_none_or(|models| models.contains(&state.model))
                && kind.gpus <= state.holes.len() as i64
                && kind.cpu_milli <= state.cpu_milli
                && kind.memory_mib <= state.memory_mib
        };
        let hosted: Vec<u16> =
            (0..self.kinds.len()).filter(|k| hosts(&self.kinds[*k].kind)).map(|k| k as u16).collect();
        let group = match self.hosts.iter().position(|known| *known == hosted) {
            Some(group) => group,
            None => {
                self.hosts.push(hosted);
                self.hosts.len() - 1
            }
        };
        self.groups.insert(of(state), group);
        self.tables.resize(self.hosts.len() * (self.levels.len() + 1) * CPU_PRICES.len(), None);
        group
    }

    fn fill(&mut self, group: usize, level: usize, price: usize) {
        let place = self.place(group, level, price);
        if self.tables[place].is_none() {
            let least_too_large = self.levels.get(level).copied().unwrap_or(i64::MAX);
            let mu = CPU_PRICES[price] * self.unit;
            let bids = self.hosts[group].iter().filter_map(|k| {
                let kind = &self.kinds[usize::from(*k)];
                let bid = self.prices[usize::from(*k)] - mu * kind.kind.cpu_milli / FRACTION;
                (kind.kind.cpu_milli < least_too_large && bid > 0).then_some((*k, kind, bid))
            });
            self.tables[place] = Some(Table::new(bids, self.gpus_max));
        }
    }

    /// Adds what the best patterns of nodes in this state use.
    fn use_by(&mut self, state: &NodeState, nodes: i64, used: &mut [i64]) {
        let group = self.group(state);
        let level = self.level(state.cpu_free_milli);
        let mut best = None;
        for (price, mu) in CPU_PRICES.iter().enumerate() {
            self.fill(group, level, price);
            let Some(table) = &self.tables[self.place(group, level, price)] else { continue };
            let value = mu * self.unit * state.cpu_free_milli.max(0) / FRACTION + table.value(&state.holes);
            if best.is_some_and(|(least, _)| value > least) {
                break;
            }
            best = Some((value, price));
        }
        let Some((_, price)) = best else { return };
        let Some(table) = &self.tables[self.place(group, level, price)] else { return };
        let mut whole = state.whole();
        let mut ends: Vec<usize> =
            state.holes.iter().filter(|hole| **hole < GPU_MILLI).map(|hole| (hole / STEP_MILLI) as usize).collect();
        while whole > 0 {
            match table.whole_pick[whole] {
                NONE => {
                    ends.push(STEPS);
                    whole -= 1;
                }
                k => {
                    used[usize::from(k)] += nodes;
                    whole -= self.kinds[usize::from(k)].gpus;
                }
            }
        }
        for mut steps in ends {
            while steps > 0 {
                match table.hole_pick[steps] {
                    NONE => steps -= 1,
                    k => {
                        used[usize::from(k)] += nodes;
                        steps -= self.kinds[usize::from(k)].steps;
                    }
                }
            }
        }
    }

    fn adjust(&mut self, used: &[i64], step: i64) {
        let worth = |amounts: &mut dyn Iterator<Item = i64>| -> i128 {
            amounts.zip(&self.prices).map(|(amount, price)| i128::from(amount) * i128::from(*price)).sum()
        };
        let supplied = worth(&mut used.iter().copied());
        let demanded = worth(&mut self.kinds.iter().map(|priced| priced.kind.count));
        for (k, priced) in self.kinds.iter().enumerate() {
            let a = i128::from(used[k]) * demanded;
            let b = i128::from(priced.kind.count) * supplied;
            if a + b > 0 {
                let x = ((a - b) * i128::from(SCALE) / (a + b)) as i64;
                let price = self.prices[k];
                self.prices[k] = (price - price * step * x / (SCALE * SCALE)).max(1);
            }
        }
        let target: i128 = self.kinds.iter().map(|p| i128::from(p.kind.count) * i128::from(p.size)).sum();
        let now: i128 =
            self.kinds.iter().zip(&self.prices).map(|(p, pi)| i128::from(p.kind.count) * i128::from(*pi)).sum();
        for (priced, price) in self.kinds.iter().zip(&mut self.prices) {
            let scaled = (i128::from(*price) * target / now.max(1)) as i64;
            *price = scaled.min(priced.size * CAP_MILLI / 1000);
        }
    }
}

impl Table {
    fn new<'k>(bids: impl Iterator<Item = (u16, &'k Priced, i64)>, gpus_max: usize) -> Self {
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
        let (mut whole, mut whole_pick) = (vec![0; gpus_max + 1], vec![NONE; gpus_max + 1]);
        for gpus in 1..=gpus_max {
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

    fn value(&self, holes: &[i64]) -> i64 {
        let partial = holes.partition_point(|hole| *hole < GPU_MILLI);
        let parts: i64 = holes[..partial].iter().map(|hole| self.hole[(hole / STEP_MILLI) as usize]).sum();
        parts + self.whole[(holes.len() - partial).min(self.whole.len() - 1)]
    }
}

fn of(state: &NodeState) -> Shape {
    (state.model, state.holes.len(), state.cpu_milli, state.memory_mib)
}

/// Kinds with GPUs, rare ones added to their nearest frequent neighbour.
fn priced(kinds: &Kinds) -> Vec<Priced> {
    let with_gpus: Vec<&Kind> = kinds.all().iter().filter(|kind| kind.gpus > 0 && kind.gpu_milli_each > 0).collect();
    let total: i64 = kinds.all().iter().map(|kind| kind.count).sum();
    // Memory has no price: kinds that differ in it only are one, of the smallest.
    let mut merged: BTreeMap<Kind, Kind> = BTreeMap::new();
    for kind in with_gpus {
        merged
            .entry(Kind { memory_mib: 0, count: 0, ..kind.clone() })
            .and_modify(|known| {
                known.count += kind.count;
                known.memory_mib = known.memory_mib.min(kind.memory_mib);
            })
            .or_insert_with(|| kind.clone());
    }
    let all: Vec<Kind> = merged.into_values().collect();
    let rare = |kind: &Kind| kind.count * RARE < total;
    let mut kept: Vec<Kind> = all.iter().filter(|kind| !rare(kind)).cloned().collect();
    let frequent = kept.len();
    for kind in all.iter().filter(|kind| rare(kind)) {
        let distance = |other: &Kind| (other.cpu_milli - kind.cpu_milli).abs();
        let alike = |other: &Kind| {
            (&other.models, other.gpus, other.gpu_milli_each) == (&kind.models, kind.gpus, kind.gpu_milli_each)
                && distance(other) <= NEIGHBOUR_CPU_MILLI
        };
        match (0..frequent).filter(|k| alike(&kept[*k])).min_by_key(|k| distance(&kept[*k])) {
            Some(neighbour) => kept[neighbour].count += kind.count,
            None => kept.push(kind.clone()),
        }
    }
    kept.into_iter()
        .map(|kind| Priced {
            gpus: kind.gpus as usize,
            steps: ((kind.gpu_milli_each.min(GPU_MILLI) + STEP_MILLI - 1) / STEP_MILLI) as usize,
            size: kind.gpus * kind.gpu_milli_each * MICRO,
            kind,
        })
        .collect()
}

fn levels(kinds: &[Priced]) -> Vec<i64> {
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
