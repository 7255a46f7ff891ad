//! What a node is worth under prices of kinds: the priced value of what it can still host.
//!
//! A kind's price is what one slot for it is worth, in millionths of a GPU; a node's value is the Lagrangian bound, over prices
//! of its CPU, of the best pattern of kinds that its free GPUs hold. All of it follows from the prices of a plan and the shapes
//! of nodes; tables are made when they are first looked at.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use super::priced::{MICRO, Priced, levels, priced};
use super::prices::Prices;
use super::state::NodeState;
use super::table::Table;

/// CPU prices tried, in units of the plan's.
const CPU_PRICES: [i64; 12] = [0, 1, 2, 3, 5, 7, 10, 13, 17, 22, 30, 42];
/// CPU prices are kept in 64ths of a millionth of a GPU per thousandth of a core.
pub(super) const FRACTION: i64 = 64;

/// Prices, and the tables that follow from them.
#[derive(Clone, Debug)]
pub(super) struct Market {
    pub kinds: Vec<Priced>,
    /// Ascending CPU sizes that part the levels.
    levels: Vec<i64>,
    /// CPU price unit, 64ths.
    unit: i64,
    /// What a GPU of a model costs beside, because pods bound to it are still to come; thousandths.
    scarcity: BTreeMap<u32, i64>,
    /// Group of a shape of node: which kinds it can ever host.
    groups: BTreeMap<Shape, usize>,
    hosts: Vec<Vec<u16>>,
    /// Most GPUs that can be used on a node that was taken in.
    gpus_max: usize,
    /// By group, level and CPU price.
    tables: Vec<OnceLock<Arc<Table>>>,
}

/// What an empty node is, as far as hosting goes: model, GPUs, CPU, memory.
type Shape = (u32, usize, i64, i64);

impl Market {
    /// Of the prices of a plan.
    pub fn of(prices: &Prices) -> Self {
        Self::new(priced(&prices.kinds), prices.cpu_price, prices.scarcity.clone())
    }

    pub fn new(kinds: Vec<Priced>, unit: i64, scarcity: BTreeMap<u32, i64>) -> Self {
        let levels = levels(&kinds);
        let (groups, hosts, tables) = (BTreeMap::new(), Vec::new(), Vec::new());
        Self { kinds, levels, unit, scarcity, groups, hosts, gpus_max: 0, tables }
    }

    /// Prices have moved, or a larger node has come: the tables are to be made again.
    pub fn forget_tables(&mut self) {
        self.tables.iter_mut().for_each(|table| *table = OnceLock::new());
    }

    /// Takes in a node's shape; its group.
    pub fn admit(&mut self, state: &NodeState) -> usize {
        let shape = shape(state);
        if let Some(group) = self.groups.get(&shape) {
            return *group;
        }
        let hosts = |kind: &super::Kind| {
            kind.models.as_ref().is_none_or(|models| models.contains(&state.model))
                && kind.gpus <= state.holes.len() as i64
                && kind.cpu_milli <= state.cpu_milli
                && kind.memory_mib <= state.memory_mib
        };
        let hosted: Vec<u16> =
            (0..self.kinds.len()).filter(|k| hosts(&self.kinds[*k].kind)).map(|k| k as u16).collect();
        let group = self.hosts.iter().position(|known| *known == hosted).unwrap_or_else(|| {
            self.hosts.push(hosted);
            self.hosts.len() - 1
        });
        self.groups.insert(shape, group);
        if state.holes.len() > self.gpus_max {
            self.gpus_max = state.holes.len();
            self.forget_tables();
        }
        self.tables.resize(self.hosts.len() * (self.levels.len() + 1) * CPU_PRICES.len(), OnceLock::new());
        group
    }

    /// Value of a node of this shape with so much free, millionths of a GPU; none for a shape that was not admitted.
    pub fn value(&self, shape_of: &NodeState, cpu_free_milli: i64, holes: &[i64]) -> Option<i64> {
        let group = *self.groups.get(&shape(shape_of))?;
        Some(self.best(group, cpu_free_milli, holes).0)
    }

    /// Value of a node of this group with so much free, and the table that says so.
    pub fn best(&self, group: usize, cpu_free_milli: i64, holes: &[i64]) -> (i64, &Table) {
        let level = self.levels.partition_point(|size| *size <= cpu_free_milli);
        let at = |price: usize| {
            let table = self.table(group, level, price);
            (CPU_PRICES[price] * self.unit * cpu_free_milli.max(0) / FRACTION + table.value(holes), table)
        };
        let mut best = at(0);
        for price in 1..CPU_PRICES.len() {
            let next = at(price);
            // Convex in the price of CPU.
            if next.0 > best.0 {
                break;
            }
            best = next;
        }
        best
    }

    /// What taking so many thousandths of a model costs for its scarcity, millionths of a GPU.
    pub fn scarcity(&self, model: u32, gpu_milli: i64) -> i64 {
        self.scarcity.get(&model).copied().unwrap_or_default() * gpu_milli * MICRO / 1000
    }

    fn table(&self, group: usize, level: usize, price: usize) -> &Table {
        let place = (group * (self.levels.len() + 1) + level) * CPU_PRICES.len() + price;
        self.tables[place].get_or_init(|| {
            // What cannot fit the remaining CPU is not priced.
            let least_too_large = self.levels.get(level).copied().unwrap_or(i64::MAX);
            let mu = CPU_PRICES[price] * self.unit;
            let bids = self.hosts[group].iter().filter_map(|k| {
                let kind = &self.kinds[usize::from(*k)];
                let bid = kind.price - mu * kind.kind.cpu_milli / FRACTION;
                (kind.kind.cpu_milli < least_too_large && bid > 0).then_some((*k, kind, bid))
            });
            Arc::new(Table::new(bids, self.gpus_max))
        })
    }
}

fn shape(state: &NodeState) -> Shape {
    (state.model, state.holes.len(), state.cpu_milli, state.memory_mib)
}
