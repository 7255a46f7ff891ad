//! Indexes for speed, all derived from the state: what is free where, who uses what, who waits in which order, and what
//! happens by itself at which instant. Rebuilt from the state when a snapshot is restored.

mod apart;
mod check;
mod domains;
mod nodes;
mod said;
mod set_aside;
mod timers;

use std::collections::{BTreeMap, BTreeSet};

use solyx_schemas::events::common::NodeGpus;
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

pub use self::domains::FailureDomains;
pub use self::nodes::quota_keys;
pub use self::said::Said;
pub use self::timers::Timer;
use crate::packing::{Inventory, Kinds, NodeHandle, Slices};
use crate::place::kept_milli;
use crate::power::SitePower;
use crate::queue::Queue;
use crate::rows::*;
use crate::set_aside::{SetAside, Shortages};
use crate::state::State;

/// What is in use on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeUse {
    /// Thousandths by GPU index.
    pub gpu_milli: BTreeMap<i64, i64>,
    /// CPU.
    pub cpu_milli: i64,
    /// Memory.
    pub memory_mib: i64,
    /// Scratch space.
    pub scratch_gib: i64,
    /// Slices that MIG instances have, by GPU index.
    pub slices: BTreeMap<i64, Slices>,
    /// Replicas.
    pub replicas: i64,
    /// Runs.
    pub runs: BTreeSet<RunId>,
    /// Replicas of jobs that are moved here, for which room is held.
    pub berths: BTreeMap<JobId, Vec<NodeGpus>>,
}

/// GPU, CPU and memory in use, or all there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Thousandths of GPUs.
    pub gpu_milli: i64,
    /// Thousandths of cores.
    pub cpu_milli: i64,
    /// MiB.
    pub memory_mib: i64,
}

impl Amounts {
    fn add(&mut self, other: Self, sign: i64) {
        self.gpu_milli += sign * other.gpu_milli;
        self.cpu_milli += sign * other.cpu_milli;
        self.memory_mib += sign * other.memory_mib;
    }
}

/// Numbers for ids inside the inventory; the order of numbers decides nothing.
#[derive(Clone)]
pub struct Numbers<T>(BTreeMap<T, u32>);

impl<T> Default for Numbers<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Ord + Clone> Numbers<T> {
    /// Whether nothing has a number.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of an id, a new one if it has none.
    pub fn of(&mut self, id: &T) -> u32 {
        let next = self.0.len() as u32;
        *self.0.entry(id.clone()).or_insert(next)
    }

    /// All ids with their numbers, in order of the ids.
    pub fn iter(&self) -> impl Iterator<Item = (&T, u32)> {
        self.0.iter().map(|(id, number)| (id, *number))
    }

    /// The number of an id that has one.
    pub fn get(&self, id: &T) -> Option<u32> {
        self.0.get(id).copied()
    }
}

/// What a quota is of: tenant, project, GPU model.
pub type QuotaKey = (TenantId, Option<ProjectId>, Option<GpuModelId>);

/// All indexes.
#[derive(Clone)]
pub struct Index {
    /// Free capacity of nodes that take work.
    pub inventory: Inventory,
    handles: BTreeMap<NodeId, NodeHandle>,
    /// Names of handles.
    pub names: BTreeMap<NodeHandle, NodeId>,
    /// Numbers of pools.
    pub pools: Numbers<PoolId>,
    /// Numbers of GPU models.
    pub models: Numbers<GpuModelId>,
    /// Numbers of fabric domains: pool and leaf.
    pub domains: Numbers<(PoolId, Name)>,
    /// Numbers of tenants that have asked to be apart: GPUs that they share are marked as theirs. One stays when it no longer asks,
    /// which decides nothing.
    pub apart: Numbers<TenantId>,
    /// Runs that keep other tenants off their GPUs.
    pub keepers: i64,
    /// What is in use by node.
    pub uses: BTreeMap<NodeId, NodeUse>,
    /// Nodes by pool, gone ones not among them.
    pub pool_nodes: BTreeMap<PoolId, BTreeSet<NodeId>>,
    /// Racks and feeds with their nodes, by pool.
    pub failure_domains: FailureDomains,
    /// Power by site.
    pub power: BTreeMap<SiteId, SitePower>,
    /// All capacity of nodes that are not gone.
    pub total: Amounts,
    capacity: BTreeMap<NodeId, Amounts>,
    /// In use by tenant.
    pub tenants: BTreeMap<TenantId, Amounts>,
    /// GPUs in use of each model by tenant, without what draws on contracts.
    pub on_models: BTreeMap<GpuModelId, BTreeMap<TenantId, i64>>,
    /// GPUs in use by tenant, project and model, with and without project and model.
    pub quota_use: BTreeMap<QuotaKey, i64>,
    /// Quotas of tenants that lend less than all of them.
    pub lenders: BTreeSet<QuotaKey>,
    /// In use by tenant, with all that those below it use.
    pub families: BTreeMap<TenantId, Amounts>,
    /// Pool and site in which a node stands.
    homes: BTreeMap<NodeId, (PoolId, Option<SiteId>)>,
    /// Quotas that may be broken by an input.
    pub suspect_quotas: BTreeSet<QuotaKey>,
    /// Jobs that wait.
    pub queue: Queue,
    /// Runs in order of expected end.
    pub ends: BTreeSet<(TimeUs, RunId)>,
    /// Jobs that came in this epoch.
    pub requested: BTreeSet<(Arrival, JobId)>,
    /// Jobs that wait for others, behind those.
    pub dependents: BTreeSet<(JobId, JobId)>,
    /// Nodes to be looked at: lost, drained or overcommitted perhaps.
    pub suspects: BTreeSet<NodeId>,
    /// Sites whose power is to be checked.
    pub suspect_sites: BTreeSet<SiteId>,
    /// Runs whose lease is to be checked.
    pub suspect_runs: BTreeSet<RunId>,
    /// Runs of elastic jobs that have written a checkpoint in this epoch.
    pub checkpointed: BTreeSet<RunId>,
    /// Jobs to be looked at: cancelled, released, finished …
    pub suspect_jobs: BTreeSet<JobId>,
    /// Runs that are to leave their nodes for a drain.
    pub leaving: BTreeSet<RunId>,
    /// Leased instances to be looked at: idle perhaps.
    pub idle_instances: BTreeSet<NodeId>,
    /// Something that waiting jobs depend on has changed.
    pub changed: bool,
    /// What is declared has changed: every waiting job is sorted anew.
    pub redeclared: bool,
    /// A contract has changed: those who name one are sorted anew.
    pub contracts_changed: bool,
    /// Failures of this epoch that `decide` answers.
    pub failed: Vec<crate::decide::Failure>,
    /// Prices of usage.
    pub rates: crate::rating::RateBook,
    /// Exchange rates.
    pub exchange: crate::rating::ExchangeBook,
    /// A budget is to be looked at.
    pub budgets_touched: BTreeSet<RefId>,
    /// Budgets that were set in this epoch: what is held against them is to be counted.
    pub budgets_set: BTreeSet<RefId>,
    /// Runs that were told to stop and have not, by pool.
    pub stopping: BTreeMap<PoolId, u32>,
    /// Nodes on which room is made for a job.
    pub claimed: BTreeMap<NodeId, BTreeSet<JobId>>,
    /// Leased instances kept for the jobs they were ordered for.
    pub earmarked: BTreeMap<JobId, BTreeSet<NodeId>>,
    /// What is set aside by reservations and sold leases.
    pub set_aside: SetAside,
    /// What is missing of it by place, as it was at the end of the last epoch.
    pub shortages: Shortages,
    /// What runs hold that draw on contracts, thousandths of GPUs by tenant.
    pub drawn: BTreeMap<TenantId, i64>,
    timers: timers::Timers,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            inventory: Inventory::new(&Kinds::new([])),
            handles: BTreeMap::new(),
            names: BTreeMap::new(),
            pools: Numbers::default(),
            models: Numbers::default(),
            domains: Numbers::default(),
            apart: Numbers::default(),
            keepers: 0,
            uses: BTreeMap::new(),
            pool_nodes: BTreeMap::new(),
            failure_domains: FailureDomains::default(),
            power: BTreeMap::new(),
            total: Amounts::default(),
            capacity: BTreeMap::new(),
            tenants: BTreeMap::new(),
            on_models: BTreeMap::new(),
            quota_use: BTreeMap::new(),
            lenders: BTreeSet::new(),
            families: BTreeMap::new(),
            homes: BTreeMap::new(),
            suspect_quotas: BTreeSet::new(),
            queue: Queue::default(),
            ends: BTreeSet::new(),
            requested: BTreeSet::new(),
            dependents: BTreeSet::new(),
            suspects: BTreeSet::new(),
            suspect_sites: BTreeSet::new(),
            suspect_runs: BTreeSet::new(),
            checkpointed: BTreeSet::new(),
            suspect_jobs: BTreeSet::new(),
            leaving: BTreeSet::new(),
            idle_instances: BTreeSet::new(),
            changed: false,
            redeclared: false,
            contracts_changed: false,
            failed: Vec::new(),
            rates: crate::rating::RateBook::default(),
            exchange: crate::rating::ExchangeBook::default(),
            budgets_touched: BTreeSet::new(),
            budgets_set: BTreeSet::new(),
            stopping: BTreeMap::new(),
            claimed: BTreeMap::new(),
            earmarked: BTreeMap::new(),
            set_aside: SetAside::default(),
            shortages: BTreeMap::new(),
            drawn: BTreeMap::new(),
            timers: timers::Timers::default(),
        }
    }
}

impl Index {
    /// The indexes of a state at an epoch boundary.
    pub fn of(state: &State) -> Self {
        Self::with(state, Said::of(state))
    }

    /// The same for who knows what requests say. Who waits is put in line on a thread of its own.
    pub fn with(state: &State, said: Said) -> Self {
        let Said { apart, sets, dependents } = said;
        let (mut index, queue) = std::thread::scope(|scope| {
            let queue = scope.spawn(|| Queue::of(state, sets));
            let index = Self::without_queue(state, &apart, dependents);
            (index, queue.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        index.queue = queue;
        index.rebuild_set_aside(state);
        if index.set_aside.is_on() {
            let asked = index.asked(state);
            index.set_aside.set_asked(asked);
        }
        index.shortages = index.set_aside.shortages();
        // Everything has just been sorted and looked at.
        index.redeclared = false;
        index.contracts_changed = false;
        index.set_aside.is_touched = false;
        index
    }

    fn without_queue(state: &State, apart: &BTreeSet<TenantId>, dependents: BTreeSet<(JobId, JobId)>) -> Self {
        let mut index = Self { dependents, ..Self::default() };
        index.set_kinds(state);
        for (_, card) in state.rate_cards.iter() {
            index.rates.insert(card);
        }
        for (_, rate) in state.exchange.iter() {
            index.exchange.insert(rate);
        }
        for (key, _) in state.quotas.iter() {
            index.note_lender(state, key);
        }
        for (site, _) in state.sites.iter() {
            index.power.insert(site.clone(), SitePower::of(state, site));
        }
        for (id, _) in state.tenants.iter().filter(|(_, tenant)| tenant.gpu_of_one_tenant == Some(true)) {
            index.apart.of(id);
        }
        for tenant in apart {
            index.apart.of(tenant);
        }
        for (id, run) in state.runs.iter() {
            index.count(state, id, run, 1);
            index.use_nodes(id, run, 1);
            if run.stop.is_some() {
                index.note_stopping(&run.pool);
            }
        }
        for (id, node) in state.nodes.iter() {
            index.refresh_node(state, id);
            index.failure_domains.refresh(state, id);
            if let Some(job) = node.lease.as_ref().and_then(|lease| lease.earmarked.clone()) {
                index.earmarked.entry(job).or_default().insert(id.clone());
            }
        }
        index.set_all_timers(state);
        for (id, claim) in state.claims.iter() {
            index.keep_nodes(&claim.nodes, id);
            if let Some(berth) = &claim.berth {
                index.hold_berth(state, id, berth, 1);
            }
        }
        index
    }

    /// Notes whether a quota keeps something for its tenant.
    pub fn note_lender(&mut self, state: &State, key: &QuotaKey) {
        if state.quotas.get(key).is_some_and(|quota| kept_milli(quota) > 0) {
            self.lenders.insert(key.clone());
        } else {
            self.lenders.remove(key);
        }
    }

    /// Takes in the kinds of jobs that node choice expects, with the prices of the plan in force.
    pub fn set_kinds(&mut self, state: &State) {
        match crate::plan::prices_in_force(state, &mut self.models) {
            Some(prices) => self.inventory.set_prices(&prices),
            None => self.inventory.set_kinds(&crate::place::expected_kinds(state, &mut self.models)),
        }
    }

    /// Instances that were kept for a job are free for anyone, and idle perhaps.
    pub fn free_instances(&mut self, state: &mut State, job: &JobId) {
        for node in self.earmarked.remove(job).unwrap_or_default() {
            if let Some(lease) = state.nodes.edit(&node).and_then(|row| row.lease.as_mut()) {
                lease.earmarked = None;
            }
            self.idle_instances.insert(node);
            // Others that wait may take it.
            self.changed = true;
        }
    }

    /// An order came, was answered or is nobody's any more: until when what came of others is kept may be another instant now.
    pub fn look_at_kept(&mut self) {
        self.idle_instances.extend(self.earmarked.values().flatten().cloned());
    }

    /// An instance that is no more is kept for nobody.
    pub fn forget_earmark(&mut self, state: &State, node: &NodeId) {
        let job = state.nodes.get(node).and_then(|row| row.lease.as_ref()).and_then(|lease| lease.earmarked.as_ref());
        let Some(job) = job else { return };
        if let Some(kept) = self.earmarked.get_mut(job) {
            kept.remove(node);
            if kept.is_empty() {
                self.earmarked.remove(job);
            }
        }
    }

    /// A run in a pool was told to stop.
    pub fn note_stopping(&mut self, pool: &PoolId) {
        *self.stopping.entry(pool.clone()).or_default() += 1;
    }

    /// A run in a pool that was told to stop is no more.
    pub fn note_stopped(&mut self, pool: &PoolId) {
        if let Some(left) = self.stopping.get_mut(pool) {
            *left -= 1;
            if *left == 0 {
                self.stopping.remove(pool);
            }
        }
    }

    /// Keeps nodes for a job while they become free.
    pub fn claim(&mut self, state: &mut State, job: &JobId, claim: Claim) {
        self.give_up_claim(state, job);
        // What was closed for it is not needed any more.
        self.changed |= state.clearing.remove(job).is_some();
        self.keep_nodes(&claim.nodes, job);
        if let Some(berth) = &claim.berth {
            self.hold_berth(state, job, berth, 1);
        }
        state.claims.insert(job.clone(), claim);
    }

    /// Nodes that were kept for a job are anybody's again.
    pub fn give_up_claim(&mut self, state: &mut State, job: &JobId) {
        let Some(claim) = state.claims.remove(job) else { return };
        self.keep_no_more(&claim.nodes, job);
        if let Some(berth) = &claim.berth {
            self.hold_berth(state, job, berth, -1);
        }
        self.changed = true;
    }

    /// Lets only this job onto nodes, beside others that they are kept for already.
    pub fn keep_nodes(&mut self, nodes: &[NodeId], job: &JobId) {
        for node in nodes {
            self.claimed.entry(node.clone()).or_default().insert(job.clone());
        }
    }

    /// Whether instances are kept for a job on which nothing runs.
    pub fn keeps_idle(&self, job: &JobId) -> bool {
        let is_idle = |node: &NodeId| self.uses.get(node).is_none_or(|used| used.runs.is_empty());
        self.earmarked.get(job).is_some_and(|nodes| nodes.iter().any(is_idle))
    }

    /// Takes back that nodes are kept for a job.
    pub fn keep_no_more(&mut self, nodes: &[NodeId], job: &JobId) {
        for node in nodes {
            if let Some(jobs) = self.claimed.get_mut(node) {
                jobs.remove(job);
                if jobs.is_empty() {
                    self.claimed.remove(node);
                }
            }
        }
    }

    /// What is noted that `decide` has not answered yet.
    pub fn open_notes(&self) -> impl Iterator<Item = &'static str> {
        let notes = [
            ("changed", self.changed),
            ("suspects", !self.suspects.is_empty()),
            ("suspect sites", !self.suspect_sites.is_empty()),
            ("suspect quotas", !self.suspect_quotas.is_empty()),
            ("suspect runs", !self.suspect_runs.is_empty()),
            ("suspect jobs", !self.suspect_jobs.is_empty()),
            ("failed", !self.failed.is_empty()),
        ];
        notes.into_iter().filter(|(_, is_open)| *is_open).map(|(name, _)| name)
    }

    /// Jobs that wait.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }
}
