//! The sums of what is set aside follow the state: node by node and run by run while a contract lives, and as a whole when a
//! contract, a class or a pool changes, or one of their instants passes.

use std::collections::BTreeMap;

use solyx_schemas::ids::*;
use solyx_schemas::units::TimeUs;

use super::{Index, Timer};
use crate::rows::Run;
use crate::set_aside::{Contract, NodeShare, SetAside, is_reclaimable, is_standing, named, places_of};
use crate::state::State;

impl Index {
    /// Counts anew what is set aside, after a contract or what runs let themselves be stopped for has changed.
    pub fn rebuild_set_aside(&mut self, state: &State) {
        let was_on = self.set_aside.is_on();
        self.set_aside = SetAside::of(state);
        if !self.set_aside.is_on() {
            self.clear_timer(&Timer::SetAside);
            self.contracts_changed |= was_on;
            return;
        }
        self.contracts_changed = true;
        for (_, run) in state.runs.iter() {
            self.set_aside.count(run, 1);
        }
        for (id, _) in state.nodes.iter() {
            self.share_node(state, id);
        }
        self.set_set_aside_timer(state);
    }

    /// Whether a living contract makes a change of what can be stopped count.
    pub fn rebuild_set_aside_if_on(&mut self, state: &State) {
        if self.set_aside.is_on() {
            self.rebuild_set_aside(state);
        }
    }

    fn set_set_aside_timer(&mut self, state: &State) {
        match self.set_aside.next_instant(state.now()) {
            Some(at) => self.set_timer(at, Timer::SetAside),
            None => self.clear_timer(&Timer::SetAside),
        }
    }

    /// Takes in what a node has for contracts now.
    pub(super) fn share_node(&mut self, state: &State, id: &NodeId) {
        let share = self.share_of(state, id);
        let yields = |share: Option<&NodeShare>| share.is_some_and(|share| !share.yields.is_empty());
        let timed = yields(self.set_aside.nodes.get(id)) || yields(share.as_ref());
        self.set_aside.set_node(id, share);
        if timed {
            self.set_set_aside_timer(state);
        }
    }

    fn share_of(&self, state: &State, id: &NodeId) -> Option<NodeShare> {
        let handle = self.handles.get(id)?;
        let spec = self.inventory.get(*handle)?;
        let report = state.nodes.get(id)?.report.as_ref()?;
        let pool = state.pools.get(&report.pool)?.declared.as_ref().filter(|pool| is_standing(pool))?;
        let usable = |gpu: i64| spec.gpus.get(gpu as usize).is_some_and(|slot| slot.usable);
        let total = spec.gpus.iter().filter(|slot| slot.usable).count() as i64 * 1_000;
        let free = spec.gpus.iter().filter(|slot| slot.usable).map(|slot| slot.free_milli).sum();
        let mut share = NodeShare { places: places_of(pool), free, lendable: free, total, yields: BTreeMap::new() };
        let runs = self.uses.get(id).into_iter().flat_map(|used| &used.runs).filter_map(|run| state.runs.get(run));
        let mut lasting_exclusive = None;
        let mut staying_exclusive = false;
        for run in runs {
            let here = run.nodes.iter().filter(|replica| replica.node == *id);
            let milli = |replica: &solyx_schemas::events::common::NodeGpus| {
                replica.gpus.iter().filter(|gpu| usable(**gpu)).count() as i64 * replica.gpu_milli_each.0
            };
            if run.mig.is_some() {
                // A divided GPU is everybody's that is on it.
                continue;
            }
            let milli: i64 = here.map(milli).sum();
            let reclaimable = is_reclaimable(state, run);
            staying_exclusive |= run.exclusive_node && run.stop.is_none();
            if run.stop.is_some() {
                share.free += milli;
            }
            if reclaimable {
                share.lendable += milli;
            } else {
                if let Some(at) = run.yields_at_us.filter(|at| *at > state.now()) {
                    *share.yields.entry(at).or_default() += milli;
                }
                lasting_exclusive = lasting_exclusive.or(run.exclusive_node.then_some(run.yields_at_us));
            }
        }
        for replica in self.uses.get(id).into_iter().flat_map(|used| used.berths.values()).flatten() {
            // Who is moved there can be told to stop there.
            share.lendable += replica.gpus.iter().filter(|gpu| usable(**gpu)).count() as i64 * replica.gpu_milli_each.0;
        }
        for (gpu, _) in self.uses.get(id).into_iter().flat_map(|used| &used.slices).filter(|(gpu, _)| usable(**gpu)) {
            let on_it: Vec<&Run> = self.runs_on(state, id, *gpu).collect();
            let whole = |all: bool| if all { 1_000 } else { 0 };
            share.free += whole(on_it.iter().all(|run| run.stop.is_some()));
            let lasting: Vec<&&Run> = on_it.iter().filter(|run| !is_reclaimable(state, run)).collect();
            share.lendable += whole(lasting.is_empty());
            let until = lasting.iter().map(|run| run.yields_at_us.unwrap_or(TimeUs(i64::MAX))).max();
            if let Some(at) = until.filter(|at| *at > state.now() && at.0 < i64::MAX) {
                *share.yields.entry(at).or_default() += 1_000;
            }
        }
        for run in self.uses.get(id).into_iter().flat_map(|used| &used.runs).filter_map(|run| state.runs.get(run)) {
            if run.mig.is_some() && run.exclusive_node {
                staying_exclusive |= run.stop.is_none();
                if !is_reclaimable(state, run) {
                    lasting_exclusive = lasting_exclusive.or(Some(run.yields_at_us));
                }
            }
        }
        share.yields.retain(|_, milli| *milli != 0);
        // Beside a run that has the node to itself nothing can be.
        if staying_exclusive {
            share.free = 0;
        }
        if let Some(yields_at) = lasting_exclusive {
            share.lendable = 0;
            share.yields = yields_at.filter(|at| *at > state.now()).map(|at| (at, total)).into_iter().collect();
        }
        Some(share)
    }

    /// Takes note that a run was told to stop; `before` is how it was.
    pub fn note_told(&mut self, state: &State, before: &Run) {
        if !self.set_aside.is_on() {
            return;
        }
        self.set_aside.count(before, -1);
        // What is owed to its contract again may be missing elsewhere.
        self.changed |= before.draws.is_some();
        let nodes: std::collections::BTreeSet<&NodeId> = before.nodes.iter().map(|replica| &replica.node).collect();
        nodes.into_iter().for_each(|node| self.share_node(state, node));
    }

    /// What jobs in line ask of leases in force, as far as stopping single runs gives it to them: those that room is made
    /// for node by node count once it is.
    pub fn asked(&self, state: &State) -> BTreeMap<Contract, i64> {
        let mut asked = BTreeMap::new();
        for id in &self.queue.drawers {
            let Some(spec) = state.spec(id) else { continue };
            let Some(contract) = named(&spec) else { continue };
            if state.claims.contains(id) || spec.gang.gpus.0 <= 1 && !spec.gang.exclusive_node {
                *asked.entry(contract).or_default() += crate::order_rule::gang_milli(state, &spec);
            }
        }
        asked
    }

    /// The next instant at which a contract comes into force that a job waits for.
    pub(super) fn next_contract(&self) -> Option<TimeUs> {
        self.queue.awaiting.first().map(|(at, _)| *at)
    }
}
