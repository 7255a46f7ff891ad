//! The plan of packing prices: a pure integer function of the state at an epoch boundary.
//!
//! It is made beside the decisions, published as an event, and counts from the epoch that reads it. Whoever has the state can
//! make it again, which an audit does. What follows from a plan in force (groups and tables of the inventory) is an index.

use std::collections::{BTreeMap, BTreeSet};

use solyx_schemas::events::plans::{KindPrice, ModelScarcity, PlanKind, PlanPublished};
use solyx_schemas::hash::sha256;
use solyx_schemas::ids::{CellId, EventId, GpuModelId, Name, SourceId};
use solyx_schemas::units::*;

use crate::Kernel;
use crate::frequencies::expected;
use crate::index::Numbers;
use crate::packing::{Fleet, Kind, PRICES_SOLVER, Prices, plan_prices};
use crate::state::State;

/// Who publishes packing prices.
pub const PLANNER: &str = "planner";

/// Everything that a plan of packing prices follows from, to be answered on another thread while epochs go on.
#[derive(Clone, Debug)]
pub struct PlanQuestion {
    cell: CellId,
    now: TimeUs,
    frontier_epoch: i64,
    requests: i64,
    /// GPU models in the order of their names; the numbers below are places in it.
    models: Vec<GpuModelId>,
    kinds: Vec<Kind>,
    last: Option<Prices>,
    fleet: Fleet,
}

impl Kernel {
    /// Whether the number of requests has reached or passed one at which a plan is made since the plan in force was.
    pub fn plan_is_due(&self) -> bool {
        let Some(interval) = self.state.policy().plan_interval() else { return false };
        let planned = self.state.packing_plan().and_then(|plan| plan.requests).map_or(0, |requests| requests.0);
        requests(&self.state) >= next_plan_at(planned, interval)
    }

    /// Requests after which the next plan is made; none when policy wants no plans.
    pub fn requests_before_plan(&self) -> Option<u64> {
        let interval = self.state.policy().plan_interval()?;
        let requests = requests(&self.state);
        Some((next_plan_at(requests, interval) - requests).unsigned_abs())
    }

    /// What the plan of packing prices of this epoch boundary follows from; none when there is nothing to price.
    pub fn plan_question(&self) -> Option<PlanQuestion> {
        assert!(!self.arrivals_open, "a plan is made at an epoch boundary");
        let expected = expected(&self.state);
        if expected.is_empty() {
            return None;
        }
        let fleet = self.index.inventory.fleet();
        if fleet.is_empty() {
            return None;
        }
        let last = self.state.packing_plan();
        let names: BTreeMap<u32, &GpuModelId> = self.index.models.iter().map(|(name, number)| (number, name)).collect();
        let in_fleet = fleet.models().filter_map(|number| names.get(&number).copied());
        let in_kinds = expected.keys().flat_map(|kind| &kind.models);
        let in_last = last.into_iter().flat_map(|plan| plan.kinds.iter().flat_map(|kind| &kind.models));
        let models: BTreeSet<&GpuModelId> = in_fleet.chain(in_kinds).chain(in_last).collect();
        let number: BTreeMap<&GpuModelId, u32> = models.iter().zip(0..).map(|(name, number)| (*name, number)).collect();
        let numbers = |names: &[GpuModelId]| -> Option<Vec<u32>> {
            (!names.is_empty()).then(|| names.iter().filter_map(|name| number.get(name).copied()).collect())
        };
        let kind = |(key, seen): (&crate::rows::KindKey, &crate::rows::Frequency)| Kind {
            cpu_milli: key.cpu_milli.0,
            memory_mib: seen.memory_mib.0,
            gpus: key.gpus,
            gpu_milli_each: key.gpu_milli_each.0,
            models: numbers(&key.models),
            count: seen.count,
        };
        let renumber = |old: u32| names.get(&old).and_then(|name| number.get(name).copied()).unwrap_or(u32::MAX);
        Some(PlanQuestion {
            cell: self.cell.clone(),
            now: self.now(),
            frontier_epoch: self.next_epoch() - 1,
            requests: requests(&self.state),
            kinds: expected.iter().map(kind).collect(),
            last: last.map(|plan| prices_of(plan, &mut |name| number.get(name).copied().unwrap_or(u32::MAX))),
            fleet: fleet.renumbered(renumber),
            models: models.into_iter().cloned().collect(),
        })
    }

    /// The plan of packing prices of this epoch boundary; none when there is nothing to price.
    pub fn packing_plan(&self) -> Option<PlanPublished> {
        self.plan_question()?.answer()
    }

    /// The plan that decisions lean on.
    pub fn plan_in_force(&self) -> Option<&PlanPublished> {
        self.state.packing_plan()
    }
}

impl PlanQuestion {
    /// The plan. It takes a part of a second for the first one of a large fleet, and hundredths of it after that.
    pub fn answer(&self) -> Option<PlanPublished> {
        let plan = plan_prices(&self.kinds, self.last.as_ref(), &self.fleet)?;
        let name = |number: &u32| self.models.get(*number as usize).cloned();
        let kind = |(kind, price): &(Kind, i64)| KindPrice {
            cpu_milli: CpuMilli(kind.cpu_milli),
            memory_mib: MemoryMib(kind.memory_mib),
            gpus: Count(kind.gpus),
            gpu_milli_each: GpuMilli(kind.gpu_milli_each),
            models: kind.models.iter().flatten().filter_map(name).collect(),
            frequency: Count(kind.count),
            price: *price,
        };
        let scarce = |(model, price): (&u32, &i64)| Some(ModelScarcity { model: name(model)?, price: *price });
        Some(PlanPublished {
            event_id: EventId::from(format!("{}/packing-prices/{}", self.cell, self.frontier_epoch)),
            source: SourceId::from(PLANNER),
            occurred_us: self.now,
            cell_id: self.cell.clone(),
            kind: PlanKind::PackingPrices,
            frontier_epoch: Count(self.frontier_epoch),
            prices: Vec::new(),
            targets: Vec::new(),
            objective: plan.objective_milli,
            bound: plan.bound_milli,
            solver: PRICES_SOLVER.to_owned(),
            model_digest: Name::from(self.digest()),
            kinds: plan.prices.kinds.iter().map(kind).collect(),
            scarcities: plan.prices.scarcity.iter().filter_map(scarce).collect(),
            cpu_price: Some(plan.prices.cpu_price),
            requests: Some(Count(self.requests)),
        })
    }

    /// SHA-256 over what the plan follows from, as lines of text.
    fn digest(&self) -> String {
        let mut text = format!("{} {} {}\n", self.cell, self.frontier_epoch, self.requests);
        let models = |numbers: &Option<Vec<u32>>| {
            let names = numbers.iter().flatten().filter_map(|number| self.models.get(*number as usize));
            names.map(GpuModelId::as_str).collect::<Vec<_>>().join(",")
        };
        let mut line = |what: &str, kind: &Kind, last: i64| {
            let Kind { cpu_milli, memory_mib, gpus, gpu_milli_each, models: numbers, count } = kind;
            let models = models(numbers);
            text += &format!("{what} {cpu_milli} {memory_mib} {gpus} {gpu_milli_each} {models} {count} {last}\n");
        };
        self.kinds.iter().for_each(|kind| line("kind", kind, 0));
        self.last.iter().flat_map(|last| &last.kinds).for_each(|(kind, price)| line("last", kind, *price));
        for (model, numbers, holes) in self.fleet.classes() {
            let name = self.models.get(model as usize).map_or("", GpuModelId::as_str);
            text += &format!("nodes {name} {numbers:?} {holes:?}\n");
        }
        sha256(text.as_bytes()).to_string()
    }
}

/// The prices of a plan, with numbers for its models.
fn prices_of(plan: &PlanPublished, number: &mut dyn FnMut(&GpuModelId) -> u32) -> Prices {
    let mut kinds = Vec::with_capacity(plan.kinds.len());
    for kind in &plan.kinds {
        let mut models: Vec<u32> = kind.models.iter().map(&mut *number).collect();
        models.sort_unstable();
        let own = Kind {
            cpu_milli: kind.cpu_milli.0,
            memory_mib: kind.memory_mib.0,
            gpus: kind.gpus.0,
            gpu_milli_each: kind.gpu_milli_each.0,
            models: (!models.is_empty()).then_some(models),
            count: kind.frequency.0,
        };
        kinds.push((own, kind.price));
    }
    let scarcity = plan.scarcities.iter().map(|scarce| (number(&scarce.model), scarce.price)).collect();
    Prices { kinds, cpu_price: plan.cpu_price.unwrap_or(0), scarcity }
}

/// The prices in force, with the index's numbers for models.
pub(crate) fn prices_in_force(state: &State, models: &mut Numbers<GpuModelId>) -> Option<Prices> {
    Some(prices_of(state.packing_plan()?, &mut |name| models.of(name)))
}

/// The next number of requests at which a plan is made: a multiple of the interval, and below the first one a power of two. The
/// first jobs stay where they are put, and without prices they are put badly: all of them cost a point of a full fleet.
fn next_plan_at(requests: i64, interval: i64) -> i64 {
    let multiple = (requests / interval).saturating_add(1).saturating_mul(interval);
    let doubled = (requests + 1).unsigned_abs().next_power_of_two();
    if requests < interval { multiple.min(doubled as i64) } else { multiple }
}

fn requests(state: &State) -> i64 {
    state.requests.get(&0).map_or(0, |all| all.requests)
}
