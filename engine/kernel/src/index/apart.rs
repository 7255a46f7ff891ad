//! Whose a shared GPU is, for tenants that have asked to be apart (`apart.rs`). A fleet in which nobody has pays for none of it.

use std::collections::BTreeSet;

use solyx_schemas::ids::{NodeId, TenantId};

use super::Index;
use crate::apart::{asks, keeps, run_shares};
use crate::rows::Run;
use crate::state::State;

/// The owner of a GPU that nobody else may come to: several tenants have a part of it, and one asks to be apart.
const CLOSED: u32 = u32::MAX;

impl Index {
    /// A tenant asks to be apart: from now on GPUs that it shares are marked as its own.
    pub fn note_apart(&mut self, state: &State, tenant: &TenantId) {
        if self.apart.get(tenant).is_none() {
            self.apart.of(tenant);
            self.refresh_shared(state, tenant);
        }
    }

    /// What a tenant asks for all its jobs has changed.
    pub fn recount_apart(&mut self, state: &State, tenant: &TenantId) {
        self.apart.of(tenant);
        self.keepers = state.runs.iter().filter(|(_, run)| keeps(state, run)).count() as i64;
        self.refresh_shared(state, tenant);
    }

    fn refresh_shared(&mut self, state: &State, tenant: &TenantId) {
        let runs = state.runs.iter().map(|(_, run)| run).filter(|run| run.tenant == *tenant && run_shares(run));
        let of_runs = runs.flat_map(|run| &run.nodes).map(|replica| &replica.node);
        // Room that is held for runs which are moved is rare: all of it is looked at.
        let of_berths = self.uses.iter().filter(|(_, used)| !used.berths.is_empty()).map(|(node, _)| node);
        let nodes: BTreeSet<NodeId> = of_runs.chain(of_berths).cloned().collect();
        nodes.iter().for_each(|node| self.refresh_node(state, node));
    }

    /// Runs that have a part of a GPU.
    pub fn runs_on<'s>(&'s self, state: &'s State, node: &'s NodeId, gpu: i64) -> impl Iterator<Item = &'s Run> {
        let runs = self.uses.get(node).into_iter().flat_map(|used| &used.runs).filter_map(|run| state.runs.get(run));
        runs.filter(move |run| run.nodes.iter().any(|own| own.node == *node && own.gpus.contains(&gpu)))
    }

    /// The number of a tenant where its jobs may find GPUs marked as its own; 0 where not.
    pub fn owner_number(&self, tenant: &TenantId) -> u32 {
        self.apart.get(tenant).map_or(0, |number| number + 1)
    }

    /// Whose a GPU is that is in use in part, and whether others are kept off.
    pub(super) fn owner_of(&self, state: &State, node: &NodeId, gpu: i64) -> (u32, bool) {
        let mut tenants = BTreeSet::new();
        let mut kept = false;
        for run in self.runs_on(state, node, gpu) {
            tenants.insert(&run.tenant);
            kept |= keeps(state, run);
        }
        let berths = self.uses.get(node).into_iter().flat_map(|used| &used.berths);
        let here = berths.filter(|(_, replicas)| replicas.iter().any(|replica| replica.gpus.contains(&gpu)));
        let specs: Vec<_> = here.filter_map(|(job, _)| state.spec(job)).collect();
        for spec in &specs {
            tenants.insert(&spec.tenant);
            kept |= asks(state, spec);
        }
        match tenants.first() {
            Some(tenant) if tenants.len() == 1 => (self.owner_number(tenant), kept),
            _ if kept => (CLOSED, true),
            _ => (0, false),
        }
    }
}
