//! Indexes for speed, all derived from the state: what is free where, who uses what, who waits in which order, and what
//! happens by itself at which instant. Rebuilt from the state when a snapshot is restored.

use std::collections::{BTreeMap, BTreeSet};

use solyx_schemas::events::nodes::NodeState;
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

use crate::packing::{GpuSlot, Inventory, Kinds, NO_DOMAIN, NodeHandle, NodeSpec};
use crate::power::SitePower;
use crate::queue::Queue;
use crate::rows::*;
use crate::state::State;

/// Something that happens by itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// A job may start, be retried or has waited for its better hour.
    Job(JobId),
    /// A run's lease passes.
    Run(RunId),
    /// An instance's paid time ends, or it has been idle long enough.
    Instance(NodeId),
    /// A pool may be asked again.
    Pool(PoolId),
    /// A limit, weight, price or rate begins or ends.
    Limits,
    /// An attestation ends.
    Attestation(NodeId),
    /// A budget's period ends.
    Budgets,
}

impl Timer {
    /// Whether somebody waits for it: such a wake-up keeps a virtual run from being idle.
    fn counts(&self) -> bool {
        matches!(self, Self::Job(_) | Self::Run(_) | Self::Instance(_) | Self::Pool(_))
    }
}

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
    /// Replicas.
    pub replicas: i64,
    /// Runs.
    pub runs: BTreeSet<RunId>,
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
    /// The number of an id, a new one if it has none.
    pub fn of(&mut self, id: &T) -> u32 {
        let next = self.0.len() as u32;
        *self.0.entry(id.clone()).or_insert(next)
    }

    /// The number of an id that has one.
    pub fn get(&self, id: &T) -> Option<u32> {
        self.0.get(id).copied()
    }
}

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
    /// What is in use by node.
    pub uses: BTreeMap<NodeId, NodeUse>,
    /// Nodes by pool, gone ones not among them.
    pub pool_nodes: BTreeMap<PoolId, BTreeSet<NodeId>>,
    /// Power by site.
    pub power: BTreeMap<SiteId, SitePower>,
    /// All capacity of nodes that are not gone.
    pub total: Amounts,
    capacity: BTreeMap<NodeId, Amounts>,
    /// In use by tenant.
    pub tenants: BTreeMap<TenantId, Amounts>,
    /// GPUs in use by tenant, project and model, with and without project and model.
    pub quota_use: BTreeMap<(TenantId, Option<ProjectId>, Option<GpuModelId>), i64>,
    /// Jobs that wait.
    pub queue: Queue,
    /// Runs in order of expected end.
    pub ends: BTreeSet<(TimeUs, RunId)>,
    /// Jobs that came in this epoch.
    pub requested: BTreeSet<(Arrival, JobId)>,
    /// Jobs that wait for others.
    pub dependents: BTreeMap<JobId, BTreeSet<JobId>>,
    /// Nodes to be looked at: lost, drained or overcommitted perhaps.
    pub suspects: BTreeSet<NodeId>,
    /// Sites whose power is to be checked.
    pub suspect_sites: BTreeSet<SiteId>,
    /// Runs whose lease is to be checked.
    pub suspect_runs: BTreeSet<RunId>,
    /// Jobs to be looked at: cancelled, released, finished …
    pub suspect_jobs: BTreeSet<JobId>,
    /// Leased instances to be looked at: idle perhaps.
    pub idle_instances: BTreeSet<NodeId>,
    /// Something that waiting jobs depend on has changed.
    pub changed: bool,
    /// What is declared has changed: every waiting job is sorted anew.
    pub redeclared: bool,
    /// Failures of this epoch that `decide` answers.
    pub failed: Vec<crate::decide::Failure>,
    /// Prices of usage.
    pub rates: crate::rating::RateBook,
    /// Exchange rates.
    pub exchange: crate::rating::ExchangeBook,
    /// A budget is to be looked at.
    pub budgets_touched: BTreeSet<RefId>,
    timers: BTreeSet<(TimeUs, Timer)>,
    counting: BTreeSet<(TimeUs, Timer)>,
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
            uses: BTreeMap::new(),
            pool_nodes: BTreeMap::new(),
            power: BTreeMap::new(),
            total: Amounts::default(),
            capacity: BTreeMap::new(),
            tenants: BTreeMap::new(),
            quota_use: BTreeMap::new(),
            queue: Queue::default(),
            ends: BTreeSet::new(),
            requested: BTreeSet::new(),
            dependents: BTreeMap::new(),
            suspects: BTreeSet::new(),
            suspect_sites: BTreeSet::new(),
            suspect_runs: BTreeSet::new(),
            suspect_jobs: BTreeSet::new(),
            idle_instances: BTreeSet::new(),
            changed: false,
            redeclared: false,
            failed: Vec::new(),
            rates: crate::rating::RateBook::default(),
            exchange: crate::rating::ExchangeBook::default(),
            budgets_touched: BTreeSet::new(),
            timers: BTreeSet::new(),
            counting: BTreeSet::new(),
        }
    }
}

impl Index {
    /// The indexes of a state at an epoch boundary.
    pub fn of(state: &State) -> Self {
        let mut index = Self::default();
        index.set_kinds(state);
        for (_, card) in state.rate_cards.iter() {
            index.rates.insert(card);
        }
        for (_, rate) in state.exchange.iter() {
            index.exchange.insert(rate);
        }
        for (site, _) in state.sites.iter() {
            index.power.insert(site.clone(), SitePower::of(state, site));
        }
        for (id, run) in state.runs.iter() {
            index.hold(state, id, run, 1);
        }
        for (id, _) in state.nodes.iter() {
            index.refresh_node(state, id);
        }
        for (id, spec) in state.specs.iter() {
            for dependency in &spec.depends_on {
                index.dependents.entry(dependency.job.clone()).or_default().insert(id.clone());
            }
        }
        index.set_all_timers(state);
        let waiting: Vec<JobId> =
            state.jobs.iter().filter(|(_, job)| job.phase == Phase::Waiting).map(|(id, _)| id.clone()).collect();
        for id in waiting {
            index.queue.place(state, &id);
        }
        index
    }

    /// Takes in the kinds of jobs that node choice expects.
    pub fn set_kinds(&mut self, state: &State) {
        let kinds = crate::place::expected_kinds(state, &mut self.models);
        self.inventory.set_kinds(&kinds);
    }

    /// Adds a run's resources to what is in use, or takes them away with a sign of −1.
    pub fn hold(&mut self, state: &State, id: &RunId, run: &Run, sign: i64) {
        for replica in &run.nodes {
            let used = self.uses.entry(replica.node.clone()).or_default();
            for gpu in &replica.gpus {
                *used.gpu_milli.entry(*gpu).or_default() += sign * replica.gpu_milli_each.0;
            }
            used.gpu_milli.retain(|_, milli| *milli != 0);
            used.cpu_milli += sign * run.cpu_milli.0;
            used.memory_mib += sign * run.memory_mib.0;
            used.scratch_gib += sign * run.scratch_gib.0;
            used.replicas += sign;
            if sign > 0 {
                used.runs.insert(id.clone());
            } else {
                used.runs.remove(id);
            }
        }
        let replicas = run.nodes.len() as i64;
        let amounts = Amounts {
            gpu_milli: run.gpu_milli.0,
            cpu_milli: run.cpu_milli.0 * replicas,
            memory_mib: run.memory_mib.0 * replicas,
        };
        self.tenants.entry(run.tenant.clone()).or_default().add(amounts, sign);
        let project = state.specs.get(&run.job).and_then(|spec| spec.project.clone());
        for project in [None, project.clone()].into_iter().take(if project.is_some() { 2 } else { 1 }) {
            for model in [None, Some(run.model.clone())] {
                *self.quota_use.entry((run.tenant.clone(), project.clone(), model)).or_default() +=
                    sign * run.gpu_milli.0;
            }
        }
        if sign > 0 {
            self.ends.insert((run.expected_end_us, id.clone()));
        } else {
            self.ends.remove(&(run.expected_end_us, id.clone()));
        }
        let nodes: BTreeSet<&NodeId> = run.nodes.iter().map(|replica| &replica.node).collect();
        for node in nodes {
            self.refresh_node(state, node);
        }
    }

    /// Brings everything about a node in line with the state.
    pub fn refresh_node(&mut self, state: &State, id: &NodeId) {
        let node = state.nodes.get(id);
        let report = node.filter(|node| !node.gone).and_then(|node| node.report.as_ref());
        let spec = node.and_then(|node| self.spec_of(state, id, node));
        match (self.handles.get(id).copied(), spec) {
            (Some(handle), Some(spec)) => {
                self.inventory.set(handle, spec);
            }
            (Some(handle), None) => {
                self.inventory.remove(handle);
                self.handles.remove(id);
                self.names.remove(&handle);
            }
            (None, Some(spec)) => {
                let handle = self.inventory.add(spec);
                self.handles.insert(id.clone(), handle);
                self.names.insert(handle, id.clone());
            }
            (None, None) => {}
        }
        let capacity = report.map_or(Amounts::default(), |report| Amounts {
            gpu_milli: report.gpus.len() as i64 * 1_000,
            cpu_milli: report.cpu_milli.0,
            memory_mib: report.memory_mib.0,
        });
        let before = self.capacity.insert(id.clone(), capacity).unwrap_or_default();
        self.total.add(before, -1);
        self.total.add(capacity, 1);
        match report {
            Some(report) => {
                self.pool_nodes.entry(report.pool.clone()).or_default().insert(id.clone());
                self.refresh_power(state, id, report);
            }
            None => {
                for nodes in self.pool_nodes.values_mut() {
                    nodes.remove(id);
                }
                for power in self.power.values_mut().filter(|power| power.committed(id) > 0) {
                    power.set_node(state, &SiteId::default(), id, &[], 0);
                }
                self.capacity.remove(id);
            }
        }
    }

    fn refresh_power(&mut self, state: &State, id: &NodeId, report: &solyx_schemas::events::nodes::NodeReported) {
        let Some(site) = state.pools.get(&report.pool).and_then(|pool| Some(pool.declared.as_ref()?.site.clone()))
        else {
            return;
        };
        let used = self.uses.get(id);
        let busy = |index: i64| used.is_some_and(|used| used.gpu_milli.get(&index).is_some_and(|milli| *milli > 0));
        let allotted: i64 = report.gpus.iter().filter(|gpu| busy(gpu.index)).map(|gpu| gpu.max_w.0).sum();
        if let Some(power) = self.power.get_mut(&site) {
            power.set_node(state, &site, id, &report.feeds, report.idle_w.0 + allotted);
        }
    }

    fn spec_of(&mut self, state: &State, id: &NodeId, node: &Node) -> Option<NodeSpec> {
        let report = node.report.as_ref()?;
        let pool = state.pools.get(&report.pool)?;
        let declared = pool.declared.as_ref()?;
        let released = node.lease.as_ref().is_some_and(|lease| lease.released);
        if node.gone || released || node.state != NodeState::Ready {
            return None;
        }
        let used = self.uses.get(id).cloned().unwrap_or_default();
        let model = report.gpus.first().map_or(&declared.gpu_model, |gpu| &gpu.model);
        let gpu_count = report.gpus.iter().map(|gpu| gpu.index + 1).max().unwrap_or(0);
        let slot = |index: i64| {
            let present = report.gpus.iter().any(|gpu| gpu.index == index);
            GpuSlot {
                free_milli: if present { 1_000 - used.gpu_milli.get(&index).copied().unwrap_or(0) } else { 0 },
                usable: present && !node.avoided_gpus.contains(&index),
            }
        };
        let exclusive = used.runs.iter().any(|run| {
            let job = state.runs.get(run).map(|run| &run.job);
            job.and_then(|job| state.specs.get(job)).is_some_and(|spec| spec.gang.exclusive_node)
        });
        Some(NodeSpec {
            name: std::sync::Arc::from(id.as_str()),
            pool: self.pools.of(&report.pool),
            model: self.models.of(model),
            domain: report
                .leaf
                .as_ref()
                .map_or(NO_DOMAIN, |leaf| self.domains.of(&(report.pool.clone(), leaf.clone()))),
            gpus: (0..gpu_count).map(slot).collect(),
            cpu_milli: report.cpu_milli.0,
            memory_mib: report.memory_mib.0,
            cpu_free_milli: report.cpu_milli.0 - used.cpu_milli,
            memory_free_mib: report.memory_mib.0 - used.memory_mib,
            scratch_free_gib: report.scratch_gib.0 - used.scratch_gib,
            replicas: used.replicas.max(0) as u32,
            closed: exclusive,
        })
    }

    /// Forgets how a node hangs on the power tree: it may hang otherwise now.
    pub fn forget_power_path(&mut self, node: &NodeId) {
        for power in self.power.values_mut() {
            power.forget(node);
        }
    }

    /// The node of a handle.
    pub fn node_of(&self, handle: NodeHandle) -> Option<&NodeId> {
        self.names.get(&handle)
    }

    /// The handle of a node that takes work.
    pub fn handle_of(&self, node: &NodeId) -> Option<NodeHandle> {
        self.handles.get(node).copied()
    }

    /// Rebuilds the power tree of a site and what its nodes commit.
    pub fn rebuild_site(&mut self, state: &State, site: &SiteId) {
        self.power.insert(site.clone(), SitePower::of(state, site));
        let at_site =
            |pool: &PoolId| state.pools.get(pool).and_then(|p| p.declared.as_ref()).is_some_and(|d| d.site == *site);
        let nodes: Vec<NodeId> = self
            .pool_nodes
            .iter()
            .filter(|(pool, _)| at_site(pool))
            .flat_map(|(_, nodes)| nodes.iter().cloned())
            .collect();
        for node in nodes {
            self.refresh_node(state, &node);
        }
        self.suspect_sites.insert(site.clone());
    }

    /// Sets a timer.
    pub fn set_timer(&mut self, at: TimeUs, timer: Timer) {
        if timer.counts() {
            self.counting.insert((at, timer.clone()));
        }
        self.timers.insert((at, timer));
    }

    /// Takes a timer back.
    pub fn clear_timer(&mut self, at: TimeUs, timer: Timer) {
        let entry = (at, timer);
        self.timers.remove(&entry);
        self.counting.remove(&entry);
    }

    fn set_all_timers(&mut self, state: &State) {
        let now = state.now();
        for (id, job) in state.jobs.iter().filter(|(_, job)| !job.is_over() && job.not_before_us > now) {
            self.set_timer(job.not_before_us, Timer::Job(id.clone()));
        }
        for (id, run) in state.runs.iter() {
            self.set_timer(run.lease_until_us, Timer::Run(id.clone()));
        }
        for (id, node) in state.nodes.iter() {
            if let Some(until) = node.attested_until_us.filter(|until| *until > now) {
                self.set_timer(until, Timer::Attestation(id.clone()));
            }
            if let Some(at) = crate::lease::release_at(state, id) {
                self.set_timer(at.max(TimeUs(now.0 + 1)), Timer::Instance(id.clone()));
            }
        }
        for (id, pool) in state.pools.iter().filter(|(_, pool)| pool.refused_until_us > now) {
            self.set_timer(pool.refused_until_us, Timer::Pool(id.clone()));
        }
        for (_, set) in state.power_limits.iter() {
            for at in [Some(set.from_us), set.to_us].into_iter().flatten().filter(|at| *at > now) {
                self.set_timer(at, Timer::Limits);
            }
        }
        for ((_, from), _) in state.weights.iter().filter(|((_, from), _)| *from > now) {
            self.set_timer(*from, Timer::Limits);
        }
        for (_, pool) in state.pools.iter() {
            for price in pool.prices.iter().filter(|price| price.from_us > now) {
                self.set_timer(price.from_us, Timer::Limits);
            }
        }
        for (_, budget) in state.budgets.iter() {
            let (_, end) = crate::budget::period_at(&budget.set, now);
            if end > now {
                self.set_timer(end, Timer::Budgets);
            }
        }
    }

    /// Notes what is due at the epoch's time.
    pub fn due(&mut self, state: &State) {
        let now = state.now();
        while let Some((at, _)) = self.timers.first()
            && *at <= now
        {
            let Some((at, timer)) = self.timers.pop_first() else { break };
            self.counting.remove(&(at, timer.clone()));
            self.changed = true;
            match timer {
                Timer::Job(job) => {
                    self.suspect_jobs.insert(job);
                }
                Timer::Run(run) => {
                    self.suspect_runs.insert(run);
                }
                Timer::Instance(node) => {
                    self.idle_instances.insert(node);
                }
                Timer::Attestation(node) => {
                    self.suspects.insert(node);
                }
                Timer::Limits => {
                    let sites: Vec<SiteId> = self.power.keys().cloned().collect();
                    for site in sites {
                        if let Some(power) = self.power.get_mut(&site) {
                            power.refresh_limits(state, &site);
                        }
                        self.suspect_sites.insert(site);
                    }
                }
                Timer::Budgets => {
                    self.budgets_touched.extend(state.budgets.iter().map(|(id, _)| id.clone()));
                }
                Timer::Pool(_) => {}
            }
        }
    }

    /// The next instant at which something happens by itself.
    pub fn next_timer(&self) -> Option<TimeUs> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// The next instant for which somebody waits.
    pub fn next_counting_timer(&self) -> Option<TimeUs> {
        self.counting.first().map(|(at, _)| *at)
    }

    /// The next tick, while something waits.
    pub fn next_tick(&self, state: &State) -> Option<TimeUs> {
        let tick = state.policy().tick()?;
        (!self.queue.is_empty()).then(|| state.now().after(tick))
    }

    /// Jobs that wait.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }
}
