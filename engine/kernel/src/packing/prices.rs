//! Bid prices of kinds: the pure function that makes them of a fleet, of the kinds that are expected and of the last prices.
//!
//! Prices come from multiplicative weights for the linear program "serve the mix as long as the fleet as it is can": what is
//! supplied beyond its share of the mix becomes cheap. At any prices the value of the fleet, over the price of the mix, bounds
//! how much of the mix it can still serve (weak duality).

use std::collections::BTreeMap;

use super::kinds::Kind;
use super::market::{FRACTION, Market};
use super::node::GPU_MILLI;
use super::priced::{MICRO, Priced, priced};
use super::state::NodeState;

/// Iterations and steps (ten-thousandths) by which prices start, for the fleet as if it were empty, and move.
const START: [(i64, i64); 2] = [(150, 1500), (150, 500)];
const MOVE: (i64, i64) = (12, 500);
/// How prices are made, as plans name it. Whoever changes a constant that decides prices changes the number.
pub const PRICES_SOLVER: &str = "solyx-prices/1 start=150x1500,150x500 move=12x500";

/// The unit of CPU prices is the fleet's GPU per CPU over so many, and at most so much.
const CPU_PRICE_PARTS: i128 = 15;
const CPU_PRICE_MAX: i128 = 1_000_000;
/// A price is at most this many thousandths of a kind's own size: one that fits nowhere must not swallow the others.
const CAP_MILLI: i64 = 1200;
const SCALE: i64 = 10_000;

/// Prices as a plan has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prices {
    /// All kinds that are expected, with what one slot for each is worth, millionths of a GPU: 0 for those without GPUs, that of
    /// its neighbour for a rare one.
    pub kinds: Vec<(Kind, i64)>,
    /// Unit of the prices of CPU that are tried, 64ths of a millionth of a GPU per thousandth of a core.
    pub cpu_price: i64,
    /// What a GPU of a model costs beside, because jobs bound to it are still to come; thousandths of a GPU.
    pub scarcity: BTreeMap<u32, i64>,
}

/// Prices with what they prove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PricePlan {
    /// The prices.
    pub prices: Prices,
    /// What the free GPUs are worth at these prices, thousandths of a GPU.
    pub objective_milli: i64,
    /// How much of the mix can still be served at most, thousandths of a GPU.
    pub bound_milli: i64,
}

/// A fleet as prices see it: how many nodes are in which state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fleet(BTreeMap<NodeState, u32>);

impl Fleet {
    pub(super) fn of<'s>(states: impl Iterator<Item = (&'s NodeState, u32)>) -> Self {
        let mut classes: BTreeMap<NodeState, u32> = BTreeMap::new();
        // Nothing more goes to a node that somebody has to himself.
        for (state, nodes) in states.filter(|(state, _)| !state.closed && !state.holes.is_empty()) {
            let nothing = Vec::new();
            let seen =
                NodeState { memory_free_mib: 0, scratch_free_gib: 0, idle: true, marked: nothing, ..state.clone() };
            *classes.entry(seen).or_default() += nodes;
        }
        Self(classes)
    }

    /// The same with other numbers for models.
    pub fn renumbered(&self, number: impl Fn(u32) -> u32) -> Self {
        let other =
            |(state, nodes): (&NodeState, &u32)| (NodeState { model: number(state.model), ..state.clone() }, *nodes);
        Self(self.0.iter().map(other).collect())
    }

    /// Models in it, each once.
    pub fn models(&self) -> impl Iterator<Item = u32> + '_ {
        let mut last = None;
        self.0.keys().map(|state| state.model).filter(move |model| last.replace(*model) != Some(*model))
    }

    /// Whether it has no GPU.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Classes as plain numbers: model, CPU and memory of the empty node, free CPU, number of nodes, then free thousandths of each GPU.
    pub fn classes(&self) -> impl Iterator<Item = (u32, [i64; 4], &[i64])> + '_ {
        self.0.iter().map(|(state, nodes)| {
            let numbers = [state.cpu_milli, state.memory_mib, state.cpu_free_milli, i64::from(*nodes)];
            (state.model, numbers, &state.holes[..])
        })
    }

    fn emptied(&self) -> Self {
        let mut empty: BTreeMap<NodeState, u32> = BTreeMap::new();
        for (state, nodes) in &self.0 {
            *empty.entry(NodeState { memory_free_mib: 0, ..state.emptied() }).or_default() += nodes;
        }
        Self(empty)
    }
}

/// Prices of these kinds for this fleet, moved on from the last ones; none when there is nothing to price. The numbers of models
/// decide by their order alone.
pub fn plan_prices(kinds: &[Kind], last: Option<&Prices>, fleet: &Fleet) -> Option<PricePlan> {
    let at_own_size: Vec<(Kind, i64)> = kinds.iter().map(|kind| (kind.clone(), kind.size_micros())).collect();
    let mut priced = priced(&at_own_size);
    if priced.is_empty() || fleet.is_empty() {
        return None;
    }
    if let Some(last) = last {
        for own in &mut priced {
            // One that is new begins at the price of its neighbour in CPU.
            let near = last.kinds.iter().filter_map(|(other, price)| Some((own.distance(other)?, *price)));
            own.price = near.min_by_key(|(distance, _)| *distance).map_or(own.size, |(_, price)| price);
        }
    }
    let mut solver = Solver { market: Market::new(priced, cpu_price(fleet), BTreeMap::new()) };
    let empty = fleet.emptied();
    if last.is_none() {
        for (iterations, step) in START {
            solver.solve(&empty, iterations, step);
        }
    }
    if last.is_some() || *fleet != empty {
        solver.solve(fleet, MOVE.0, MOVE.1);
    }
    Some(solver.plan(kinds, fleet))
}

/// The fleet's GPU per CPU over 15, 64ths of a millionth of a GPU per thousandth of a core.
fn cpu_price(fleet: &Fleet) -> i64 {
    let (mut gpu_milli, mut cpu_milli) = (0, 0);
    for (state, nodes) in &fleet.0 {
        gpu_milli += i128::from(state.holes.len() as i64 * GPU_MILLI) * i128::from(*nodes);
        cpu_milli += i128::from(state.cpu_milli) * i128::from(*nodes);
    }
    let unit = gpu_milli * i128::from(MICRO * FRACTION) / (cpu_milli * CPU_PRICE_PARTS).max(1);
    unit.min(CPU_PRICE_MAX) as i64
}

struct Solver {
    market: Market,
}

/// Nodes in one state, with the group that prices them.
struct Class<'f> {
    group: usize,
    state: &'f NodeState,
    nodes: i64,
}

impl Solver {
    fn classes<'f>(&mut self, fleet: &'f Fleet) -> Vec<Class<'f>> {
        let with_room = fleet.0.iter().filter(|(state, _)| state.holes.iter().any(|hole| *hole > 0));
        with_room
            .map(|(state, nodes)| Class { group: self.market.admit(state), state, nodes: i64::from(*nodes) })
            .collect()
    }

    /// Moves the prices by so many iterations of so large a step (ten-thousandths). The result is their average.
    fn solve(&mut self, fleet: &Fleet, iterations: i64, step: i64) {
        let classes = self.classes(fleet);
        let from = if iterations < 20 { 0 } else { iterations / 2 };
        let mut sums = vec![0; self.market.kinds.len()];
        for iteration in 0..iterations {
            self.market.forget_tables();
            let mut used = vec![0; sums.len()];
            for Class { group, state, nodes } in &classes {
                let (_, table) = self.market.best(*group, state.cpu_free_milli, &state.holes);
                table.use_by(&self.market.kinds, &state.holes, *nodes, &mut used);
            }
            adjust(&mut self.market.kinds, &used, step * 3 / (3 + iteration.isqrt()));
            if iteration >= from {
                sums.iter_mut().zip(&self.market.kinds).for_each(|(sum, kind)| *sum += kind.price);
            }
        }
        for (kind, sum) in self.market.kinds.iter_mut().zip(sums) {
            kind.price = sum / (iterations - from).max(1);
        }
        self.market.forget_tables();
    }

    fn plan(mut self, expected: &[Kind], fleet: &Fleet) -> PricePlan {
        let scarcity = scarcities(&self.market.kinds, fleet);
        let classes = self.classes(fleet);
        let value = |class: &Class<'_>| {
            let (value, _) = self.market.best(class.group, class.state.cpu_free_milli, &class.state.holes);
            i128::from(value) * i128::from(class.nodes)
        };
        let worth: i128 = classes.iter().map(value).sum();
        let kinds = &self.market.kinds;
        let mix = |each: fn(&Priced) -> i64| -> i128 {
            kinds.iter().map(|kind| i128::from(kind.kind.count) * i128::from(each(kind))).sum()
        };
        let bound = worth * mix(|kind| kind.size) / mix(|kind| kind.price).max(1);
        let milli = |micros: i128| i64::try_from((micros + 999) / 1000).unwrap_or(i64::MAX);
        let prices = Prices {
            kinds: expected.iter().map(|kind| (kind.clone(), price_of(kinds, kind))).collect(),
            cpu_price: cpu_price(fleet),
            scarcity,
        };
        PricePlan { prices, objective_milli: milli(worth), bound_milli: milli(bound) }
    }
}

/// What a slot for a kind is worth: the price of the nearest that is like it, 0 without GPUs.
fn price_of(priced: &[Priced], kind: &Kind) -> i64 {
    let near = priced.iter().filter_map(|other| Some((other.distance(kind)?, other.price)));
    near.min_by_key(|(distance, _)| *distance).map_or(0, |(_, price)| price)
}

/// What is supplied beyond its share of the mix becomes cheaper. The whole mix keeps its price.
fn adjust(kinds: &mut [Priced], used: &[i64], step: i64) {
    let mut supplied = 0;
    let mut demanded = 0;
    for (kind, used) in kinds.iter().zip(used) {
        supplied += i128::from(*used) * i128::from(kind.price);
        demanded += i128::from(kind.kind.count) * i128::from(kind.price);
    }
    for (kind, used) in kinds.iter_mut().zip(used) {
        let a = i128::from(*used) * demanded;
        let b = i128::from(kind.kind.count) * supplied;
        if a + b > 0 {
            let x = ((a - b) * i128::from(SCALE) / (a + b)) as i64;
            kind.price = (kind.price - kind.price * step * x / (SCALE * SCALE)).max(1);
        }
    }
    let target: i128 = kinds.iter().map(|kind| i128::from(kind.kind.count) * i128::from(kind.size)).sum();
    let now: i128 = kinds.iter().map(|kind| i128::from(kind.kind.count) * i128::from(kind.price)).sum();
    for kind in kinds {
        let scaled = (i128::from(kind.price) * target / now.max(1)) as i64;
        kind.price = scaled.min(kind.size * CAP_MILLI / 1000);
    }
}

/// 0.4 × r² with r = demand to come that is bound to the model / what is free of it, at most 2; thousandths. Demand to come is
/// what is free, and at least a twenty-eighth of the fleet.
fn scarcities(kinds: &[Priced], fleet: &Fleet) -> BTreeMap<u32, i64> {
    let mut free: BTreeMap<u32, i128> = BTreeMap::new();
    let mut all_gpus = 0;
    for (state, nodes) in &fleet.0 {
        *free.entry(state.model).or_default() += i128::from(state.free_gpu_milli()) * i128::from(*nodes);
        all_gpus += i128::from(state.holes.len() as i64 * GPU_MILLI) * i128::from(*nodes);
    }
    let to_come = free.values().sum::<i128>().max(all_gpus / 28);
    let mix: i128 = kinds.iter().map(|p| i128::from(p.kind.count) * i128::from(p.size)).sum();
    let free_of = |model: &u32| free.get(model).copied().unwrap_or_default();
    let mut bound: BTreeMap<u32, i128> = BTreeMap::new();
    for priced in kinds {
        let Some(models) = &priced.kind.models else { continue };
        let demand = to_come * i128::from(priced.kind.count) * i128::from(priced.size) / mix.max(1);
        let accepted: i128 = models.iter().map(free_of).sum();
        for model in models {
            *bound.entry(*model).or_default() += demand * free_of(model) / accepted.max(1);
        }
    }
    let scarce = |(model, demand): (u32, i128)| {
        let ratio = (demand * 1000 / free_of(&model).max(1)).min(2000) as i64;
        (model, 400 * ratio * ratio / 1_000_000)
    };
    bound.into_iter().map(scarce).filter(|(_, price)| *price > 0).collect()
}
