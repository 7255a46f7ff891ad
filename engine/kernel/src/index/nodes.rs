//! What nodes have and runs hold: free capacity, use by node and tenant, committed power. Follows the state change by change.

use std::collections::BTreeSet;

use solyx_schemas::events::nodes::NodeState;
use solyx_schemas::ids::*;

use super::{Amounts, Index, NodeUse, QuotaKey};
use crate::packing::{GpuSlot, NO_DOMAIN, NodeHandle, NodeSpec};
use crate::power::SitePower;
use crate::rows::*;
use crate::state::State;

/// The quotas that a run of a tenant counts against: its project's, its own, and those of the tenants above it.
pub fn quota_keys(state: &State, tenant: &TenantId, project: Option<&ProjectId>, model: &GpuModelId) -> Vec<QuotaKey> {
    let own = project.map(|project| (tenant.clone(), Some(project.clone())));
    let family = state.lineage(tenant).map(|tenant| (tenant.clone(), None));
    let scopes: Vec<_> = own.into_iter().chain(family).collect();
    let with = |(tenant, project): (TenantId, Option<ProjectId>)| {
        [None, Some(model.clone())].map(|model| (tenant.clone(), project.clone(), model))
    };
    scopes.into_iter().flat_map(with).collect()
}

impl Index {
    /// Counts anew what tenants use after the tree of tenants has changed.
    pub fn regroup(&mut self, state: &State) {
        self.families.clear();
        self.quota_use.clear();
        for (_, run) in state.runs.iter() {
            let replicas = run.nodes.len() as i64;
            let amounts = Amounts {
                gpu_milli: run.gpu_milli.0,
                cpu_milli: run.cpu_milli.0 * replicas,
                memory_mib: run.memory_mib.0 * replicas,
            };
            if run.draws.is_some() {
                continue;
            }
            for tenant in state.lineage(&run.tenant) {
                self.families.entry(tenant.clone()).or_default().add(amounts, 1);
            }
            for key in quota_keys(state, &run.tenant, run.project.as_ref(), &run.model) {
                *self.quota_use.entry(key).or_default() += run.gpu_milli.0;
            }
        }
        self.suspect_quotas.extend(state.quotas.iter().map(|(key, _)| key.clone()));
    }

    /// Adds a run's resources to what is in use, or takes them away with a sign of −1.
    pub fn hold(&mut self, state: &State, id: &RunId, run: &Run, sign: i64) {
        self.count(state, id, run, sign);
        self.hold_room(state, id, run, sign);
    }

    /// Adds all but what it holds of nodes.
    pub(super) fn count(&mut self, state: &State, id: &RunId, run: &Run, sign: i64) {
        if crate::apart::keeps(state, run) {
            self.keepers += sign;
        }
        self.count_use(state, id, run, sign);
    }

    /// Adds what a run holds of nodes, or takes it away with a sign of −1: who it counts against stays as it is.
    pub fn hold_room(&mut self, state: &State, id: &RunId, run: &Run, sign: i64) {
        self.use_nodes(id, run, sign);
        let nodes: BTreeSet<&NodeId> = run.nodes.iter().map(|replica| &replica.node).collect();
        for node in nodes {
            self.refresh_node(state, node);
        }
    }

    /// The same for who refreshes the nodes then.
    pub(super) fn use_nodes(&mut self, id: &RunId, run: &Run, sign: i64) {
        for (number, replica) in run.nodes.iter().enumerate() {
            let used = self.uses.entry(replica.node.clone()).or_default();
            if let Some(mig) = &run.mig {
                for (at, gpu) in replica.gpus.iter().enumerate() {
                    let slices = used.slices.entry(*gpu).or_default();
                    let own = mig.slices_of(number, at);
                    *slices = if sign > 0 { *slices | own } else { *slices & !own };
                }
                used.slices.retain(|_, slices| *slices != 0);
            }
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
    }

    /// Adds room that is held for a job that is moved to what is in use, or takes it away with a sign of −1.
    pub fn hold_berth(&mut self, state: &State, job: &JobId, berth: &Berth, sign: i64) {
        for replica in &berth.nodes {
            let used = self.uses.entry(replica.node.clone()).or_default();
            for gpu in &replica.gpus {
                *used.gpu_milli.entry(*gpu).or_default() += sign * replica.gpu_milli_each.0;
            }
            used.gpu_milli.retain(|_, milli| *milli != 0);
            used.cpu_milli += sign * berth.cpu_milli.0;
            used.memory_mib += sign * berth.memory_mib.0;
            used.scratch_gib += sign * berth.scratch_gib.0;
            used.replicas += sign;
        }
        let nodes: BTreeSet<&NodeId> = berth.nodes.iter().map(|replica| &replica.node).collect();
        for node in nodes {
            let used = self.uses.entry(node.clone()).or_default();
            let here = berth.nodes.iter().filter(|replica| replica.node == *node);
            match sign > 0 {
                true => used.berths.insert(job.clone(), here.cloned().collect()),
                false => used.berths.remove(job),
            };
            self.refresh_node(state, node);
        }
    }

    /// Counts a run against its tenant and quotas, and among those that end, or no more with a sign of −1.
    pub fn count_use(&mut self, state: &State, id: &RunId, run: &Run, sign: i64) {
        let replicas = run.nodes.len() as i64;
        let amounts = Amounts {
            gpu_milli: run.gpu_milli.0,
            cpu_milli: run.cpu_milli.0 * replicas,
            memory_mib: run.memory_mib.0 * replicas,
        };
        self.tenants.entry(run.tenant.clone()).or_default().add(amounts, sign);
        if run.draws.is_none() {
            for tenant in state.lineage(&run.tenant) {
                self.families.entry(tenant.clone()).or_default().add(amounts, sign);
            }
            for key in quota_keys(state, &run.tenant, run.project.as_ref(), &run.model) {
                *self.quota_use.entry(key).or_default() += sign * run.gpu_milli.0;
            }
            let on_model = self.on_models.entry(run.model.clone()).or_default();
            *on_model.entry(run.tenant.clone()).or_default() += sign * run.gpu_milli.0;
        } else {
            // It was paid for, and counts against no share and no quota.
            *self.drawn.entry(run.tenant.clone()).or_default() += sign * run.gpu_milli.0;
            if self.set_aside.is_on() {
                self.set_aside.count(run, sign);
            }
        }
        if sign > 0 {
            self.ends.insert((run.expected_end_us, id.clone()));
        } else {
            self.ends.remove(&(run.expected_end_us, id.clone()));
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
        self.settle(state, id, report.map(|report| &report.pool));
        match report {
            Some(report) => self.refresh_power(state, id, report),
            None => {
                self.capacity.remove(id);
            }
        }
        if self.set_aside.is_on() {
            self.share_node(state, id);
        }
    }

    /// Has a node stand in a pool and at its site, and nowhere else: both may be others than before.
    fn settle(&mut self, state: &State, id: &NodeId, pool: Option<&PoolId>) {
        let site_of = |pool: &PoolId| Some(state.pools.get(pool)?.declared.as_ref()?.site.clone());
        let home = pool.map(|pool| (pool.clone(), site_of(pool)));
        let before = self.homes.get(id);
        if before == home.as_ref() {
            return;
        }
        if let Some((pool, site)) = before {
            if let Some(nodes) = self.pool_nodes.get_mut(pool) {
                nodes.remove(id);
            }
            if let Some(power) = site.as_ref().and_then(|site| self.power.get_mut(site)) {
                power.forget(id);
            }
        }
        match home {
            Some(home) => {
                self.pool_nodes.entry(home.0.clone()).or_default().insert(id.clone());
                self.homes.insert(id.clone(), home);
            }
            None => {
                self.homes.remove(id);
            }
        }
    }

    /// Notes that the power of a node's site is to be looked at.
    pub fn suspect_power_of(&mut self, id: &NodeId) {
        if let Some((_, Some(site))) = self.homes.get(id) {
            self.suspect_sites.insert(site.clone());
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
        let nothing = NodeUse::default();
        let used = self.uses.get(id).unwrap_or(&nothing);
        let model = report.gpus.first().map_or(&declared.gpu_model, |gpu| &gpu.model);
        let gpu_count = report.gpus.iter().map(|gpu| gpu.index + 1).max().unwrap_or(0);
        let slot = |index: i64| {
            let present = report.gpus.iter().any(|gpu| gpu.index == index);
            let slices = used.slices.get(&index).copied().unwrap_or(0);
            let used_milli = used.gpu_milli.get(&index).copied().unwrap_or(0);
            let shared = slices != 0 || used_milli > 0 && used_milli < 1_000;
            let is_marked = shared && !self.apart.is_empty();
            let (owner, kept) = if is_marked { self.owner_of(state, id, index) } else { (0, false) };
            GpuSlot {
                free_milli: if present && slices == 0 { 1_000 - used_milli } else { 0 },
                usable: present && !node.avoided_gpus.contains(&index),
                slices,
                owner,
                kept,
            }
        };
        let gpus = (0..gpu_count).map(slot).collect();
        // A run that has a node to itself is alone on it.
        let alone = used.runs.first().filter(|_| used.runs.len() == 1).and_then(|run| state.runs.get(run));
        let exclusive = alone.is_some_and(|run| run.exclusive_node);
        Some(NodeSpec {
            name: id.clone(),
            pool: self.pools.of(&report.pool),
            model: self.models.of(model),
            domain: report
                .leaf
                .as_ref()
                .map_or(NO_DOMAIN, |leaf| self.domains.of(&(report.pool.clone(), leaf.clone()))),
            gpus,
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
}
