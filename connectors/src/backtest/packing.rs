//! The published packing experiment, through the kernel's own inventory.
//!
//! Pods arrive one at a time until 130 % of the GPUs have been asked for; none leaves, none waits, each is tried once. One that
//! does not fit is dropped and still counts as arrived. A column is the mean over the arrivals whose rounded arrived per cent
//! it is. Floating point is for the report only.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use serde::Serialize;
use solyx_kernel::packing::{
    Ask, GPU_MILLI, GpuSlot, Inventory, Kind, Kinds, NO_DOMAIN, NodeHandle, NodeSpec, Prices, Rule, Scope, plan_prices,
};

use super::BacktestError;
use super::openb::{self, TraceNode, TracePod};

/// Columns of the report, in per cent arrived.
const COLUMNS: [i64; 2] = [100, 130];

/// Arrivals between two plans of packing prices, under the kernel's own rule. What is learned gives plans at powers of two before
/// that, as in an engine.
pub(super) const PLAN_INTERVAL: usize = 250;

/// What the kernel's own rule knows of the kinds of pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Frequencies {
    /// Those of the whole workload, before the first pod arrives.
    #[default]
    Prior,
    /// Those of the pods that have arrived; nothing before the first plan.
    Learned,
}

/// What one run of the experiment gave.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PackingReport {
    /// The rule.
    pub policy: String,
    /// The seed.
    pub seed: u64,
    /// Allocated GPU, per cent of all, by per cent arrived.
    pub alloc_pct: BTreeMap<String, f64>,
    /// Idle GPU that typical kinds cannot use, per cent of what is idle.
    pub frag_ratio_pct_of_idle: BTreeMap<String, f64>,
    /// The same, per cent of all GPUs.
    pub frag_amount_pct_of_gpus: BTreeMap<String, f64>,
    /// Pods placed.
    pub placed: u64,
    /// Pods dropped.
    pub dropped: u64,
    /// Time of a decision: choosing and allocating, without the planning of prices, µs.
    pub us_per_decision: Quantiles,
    /// Mean time of a plan of prices but the first, µs; 0 under rules without prices.
    pub us_per_price_move: f64,
    /// Time of all plans but the first over the number of arrivals, µs.
    pub us_of_price_moves_per_decision: f64,
}

/// Quantiles of a time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quantiles {
    /// Half are below.
    pub p50: f64,
    /// One in a hundred is above.
    pub p99: f64,
}

/// Reads the trace (gzip or not) and runs one seed under one rule.
pub fn packing_backtest(
    nodes: &Path,
    pods: &Path,
    arrivals: &Path,
    seed: u64,
    policy: Rule,
    frequencies: Frequencies,
) -> Result<PackingReport, BacktestError> {
    let nodes = openb::nodes(nodes)?;
    let pods = openb::pods(pods)?;
    let arrivals = openb::arrivals(arrivals, seed, nodes.len(), pods.len())?;
    Ok(run(&nodes, &pods, &arrivals, seed, policy, frequencies))
}

/// Runs one seed under one rule.
pub fn run(
    nodes: &[TraceNode],
    pods: &[TracePod],
    arrivals: &openb::Arrivals,
    seed: u64,
    policy: Rule,
    frequencies: Frequencies,
) -> PackingReport {
    let models = Models::of(nodes.iter(), pods.iter());
    let asks: Vec<Ask> = pods.iter().map(|pod| models.ask(pod)).collect();
    let (kinds, nothing) = (Kinds::new(asks.iter().map(kind_of)), Kinds::default());
    let learns = policy == Rule::Solyx && frequencies == Frequencies::Learned;
    let mut inventory = Inventory::new(if learns { &nothing } else { &kinds });
    // Fragmentation is measured against the whole workload, whatever the rule knows.
    let mut measured = Inventory::new(&kinds);
    for (node, number) in nodes.iter().zip(&arrivals.node_numbers) {
        inventory.add(models.spec(node, *number));
        measured.add(models.spec(node, *number));
    }
    let mut meter = Meter::new(&measured, nodes);
    let mut decisions_ns = Vec::with_capacity(arrivals.pods.len());
    let mut planner = Planner::new(frequencies, &kinds);
    for (count, pod) in arrivals.pods.iter().enumerate() {
        // A plan is made beside the decisions; its time is not theirs.
        let due = count.is_multiple_of(PLAN_INTERVAL) || count < PLAN_INTERVAL && count.is_power_of_two();
        if policy == Rule::Solyx && due && planner.may_plan(count) {
            planner.plan(&mut inventory);
        }
        planner.arrived(&asks[*pod]);
        let ask = &asks[*pod];
        let begun = Instant::now();
        let choice = inventory.choose(policy, ask, Scope::ALL);
        let chosen = begun.elapsed();
        let placed = choice.as_ref().map(|choice| (choice, measured.fragmentation(choice.node)));
        let begun = Instant::now();
        // A choice always fits the inventory it was made from.
        let taken = choice.as_ref().is_some_and(|choice| inventory.allocate(choice, ask).is_ok());
        decisions_ns.push((chosen + begun.elapsed()).as_nanos() as u64);
        let taken = taken && choice.as_ref().is_some_and(|choice| measured.allocate(choice, ask).is_ok());
        meter.arrived(ask, placed.filter(|_| taken).map(|(choice, before)| (choice.node, before)), &measured);
    }
    meter.report(policy, seed, decisions_ns, &planner)
}

pub(super) fn kind_of(ask: &Ask) -> Kind {
    Kind {
        cpu_milli: ask.cpu_milli,
        memory_mib: ask.memory_mib,
        gpus: ask.gpus,
        gpu_milli_each: ask.gpu_milli_each,
        models: ask.models.clone(),
        count: 1,
    }
}

/// Plans of prices as an engine makes them, with the time they took.
pub(super) struct Planner {
    frequencies: Frequencies,
    kinds: Vec<Kind>,
    seen: BTreeMap<Kind, i64>,
    last: Option<Prices>,
    moves_ns: Vec<u64>,
}

impl Planner {
    pub fn new(frequencies: Frequencies, workload: &Kinds) -> Self {
        let known = frequencies == Frequencies::Prior;
        let kinds = if known { workload.all().to_vec() } else { Vec::new() };
        Self { frequencies, kinds, seen: BTreeMap::new(), last: None, moves_ns: Vec::new() }
    }

    /// Kinds that are known beforehand do not change with the first arrivals.
    pub fn may_plan(&self, count: usize) -> bool {
        self.frequencies == Frequencies::Learned || count.is_multiple_of(PLAN_INTERVAL)
    }

    pub fn arrived(&mut self, ask: &Ask) {
        if self.frequencies == Frequencies::Learned {
            *self.seen.entry(kind_of(ask)).or_default() += 1;
        }
    }

    pub fn plan(&mut self, inventory: &mut Inventory) {
        if self.frequencies == Frequencies::Learned {
            self.kinds = self.seen.iter().map(|(kind, count)| Kind { count: *count, ..kind.clone() }).collect();
        }
        let begun = Instant::now();
        let Some(plan) = plan_prices(&self.kinds, self.last.as_ref(), &inventory.fleet()) else { return };
        inventory.set_prices(&plan.prices);
        let took = begun.elapsed().as_nanos() as u64;
        if self.last.replace(plan.prices).is_some() {
            self.moves_ns.push(took);
        }
    }
}

/// Numbers of GPU models.
pub(super) struct Models(BTreeMap<String, u32>);

impl Models {
    pub fn of<'t>(nodes: impl Iterator<Item = &'t TraceNode>, pods: impl Iterator<Item = &'t TracePod>) -> Self {
        let names = nodes.map(|node| &node.model).chain(pods.flat_map(|pod| &pod.models));
        let mut models: BTreeMap<String, u32> = names.map(|name| (name.clone(), 0)).collect();
        for (number, model) in models.values_mut().enumerate() {
            *model = number as u32;
        }
        Self(models)
    }

    pub fn ask(&self, pod: &TracePod) -> Ask {
        let models: Vec<u32> = pod.models.iter().map(|model| self.0[model]).collect();
        Ask {
            gpus: pod.gpus,
            gpu_milli_each: pod.gpu_milli,
            cpu_milli: pod.cpu_milli,
            memory_mib: pod.memory_mib,
            scratch_gib: 0,
            models: (!models.is_empty()).then_some(models),
            exclusive: false,
            ..Ask::default()
        }
    }

    pub fn spec(&self, node: &TraceNode, number: usize) -> NodeSpec {
        NodeSpec {
            name: format!("{number:04}-{}", node.sn).into(),
            pool: 0,
            model: self.0[&node.model],
            domain: NO_DOMAIN,
            gpus: vec![GpuSlot::FREE; node.gpus as usize],
            cpu_milli: node.cpu_milli,
            memory_mib: node.memory_mib,
            cpu_free_milli: node.cpu_milli,
            memory_free_mib: node.memory_mib,
            scratch_free_gib: 0,
            replicas: 0,
            closed: false,
        }
    }
}

/// Sums over the arrivals of one column, in per cent.
#[derive(Clone, Copy, Default)]
struct Column {
    alloc: f64,
    frag_ratio: f64,
    frag_amount: f64,
    arrivals: f64,
}

/// What is counted while pods arrive.
struct Meter {
    gpu_milli: i64,
    arrived_milli: i64,
    allocated_milli: i64,
    /// Fragmentation of all nodes times the sum of counts, and that sum.
    fragmented: i64,
    counts: i64,
    placed: u64,
    dropped: u64,
    columns: BTreeMap<i64, Column>,
}

impl Meter {
    fn new(inventory: &Inventory, nodes: &[TraceNode]) -> Self {
        let parts: Vec<(i64, i64)> = inventory.nodes().filter_map(|(node, _)| inventory.fragmentation(node)).collect();
        Self {
            gpu_milli: nodes.iter().map(|node| node.gpus * GPU_MILLI).sum(),
            arrived_milli: 0,
            allocated_milli: 0,
            fragmented: parts.iter().map(|part| part.0).sum(),
            counts: parts.first().map_or(1, |part| part.1.max(1)),
            placed: 0,
            dropped: 0,
            columns: BTreeMap::new(),
        }
    }

    fn arrived(&mut self, ask: &Ask, placed: Option<(NodeHandle, Option<(i64, i64)>)>, inventory: &Inventory) {
        self.arrived_milli += ask.gpu_milli();
        match placed {
            Some((node, before)) => {
                let after = inventory.fragmentation(node);
                self.fragmented += after.map_or(0, |part| part.0) - before.map_or(0, |part| part.0);
                self.allocated_milli += ask.gpu_milli();
                self.placed += 1;
            }
            None => self.dropped += 1,
        }
        let all = self.gpu_milli as f64;
        let idle = (self.gpu_milli - self.allocated_milli) as f64;
        let fragmented = self.fragmented as f64 / self.counts as f64;
        let column = self.columns.entry((100.0 * self.arrived_milli as f64 / all).round() as i64).or_default();
        column.alloc += 100.0 * self.allocated_milli as f64 / all;
        column.frag_ratio += if idle > 0.0 { 100.0 * fragmented / idle } else { 0.0 };
        column.frag_amount += 100.0 * fragmented / all;
        column.arrivals += 1.0;
    }

    fn report(self, policy: Rule, seed: u64, mut decisions_ns: Vec<u64>, planner: &Planner) -> PackingReport {
        let moves_us = planner.moves_ns.iter().sum::<u64>() as f64 / 1000.0;
        decisions_ns.sort_unstable();
        let quantile = |percent: usize| {
            let place = (decisions_ns.len() * percent / 100).min(decisions_ns.len().saturating_sub(1));
            decisions_ns.get(place).map_or(0.0, |ns| *ns as f64 / 1000.0)
        };
        let by_column = |value: fn(&Column) -> f64| -> BTreeMap<String, f64> {
            let columns = COLUMNS.iter().filter_map(|name| Some((name, self.columns.get(name)?)));
            columns.map(|(name, column)| (name.to_string(), round(value(column) / column.arrivals))).collect()
        };
        PackingReport {
            policy: policy.name().to_owned(),
            seed,
            alloc_pct: by_column(|column| column.alloc),
            frag_ratio_pct_of_idle: by_column(|column| column.frag_ratio),
            frag_amount_pct_of_gpus: by_column(|column| column.frag_amount),
            placed: self.placed,
            dropped: self.dropped,
            us_per_decision: Quantiles { p50: quantile(50), p99: quantile(99) },
            us_per_price_move: round(moves_us / planner.moves_ns.len().max(1) as f64),
            us_of_price_moves_per_decision: round(moves_us / decisions_ns.len().max(1) as f64),
        }
    }
}

/// Four digits behind the point, as the published table has.
fn round(value: f64) -> f64 {
    (value * 10_000.0).round() / 10_000.0
}
