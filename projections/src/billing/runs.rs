//! Runs from placing to release: whose GPU time it was.

use solyx_schemas::events::decisions::JobPlaced;
use solyx_schemas::ids::{JobId, NodeId, RunId};
use solyx_schemas::units::TimeUs;

use super::Billing;
use super::rows::*;

impl Billing {
    pub(super) fn job_placed(&mut self, e: &JobPlaced, now: TimeUs) {
        let mut row = RunRow {
            job: e.job.clone(),
            pool: e.pool.clone(),
            model: e.gpu_model.clone(),
            gpu_milli: e.gpu_milli.0,
            nodes: Default::default(),
            placed_us: now,
            started_us: None,
            stop_ordered_us: None,
            ended_us: None,
            released_us: None,
            outcome: Outcome::Live,
            metered: 0,
            covered: 0,
            metered_to_us: TimeUs::ZERO,
            billed: ExactSum::default(),
        };
        for place in &e.nodes {
            *row.nodes.entry(place.node.clone()).or_default() += place.gpus.len() as i64 * place.gpu_milli_each.0;
        }
        for (node, gpu_milli) in &row.nodes {
            let node_use = NodeUse { job: e.job.clone(), gpu_milli: *gpu_milli, from_us: now, to_us: None };
            self.tables.node_uses.insert((node.clone(), e.run.clone()), node_use);
        }
        self.tables.meta.entry(&0).held_milli += i128::from(row.gpu_milli);
        self.tables.runs.insert(e.run.clone(), row);
        self.tables.live.insert(e.job.clone(), e.run.clone());
        self.tables.run_leases.insert(e.run.clone(), e.lease_until_us);
    }

    pub(super) fn run_lease_renewed(&mut self, run: &RunId, until: TimeUs) {
        if let Some(lease) = self.tables.run_leases.get_mut(run) {
            *lease = until.max(*lease);
        }
    }

    pub(super) fn run_started(&mut self, run: &RunId, started: TimeUs) {
        if let Some(run) = self.tables.runs.get_mut(run) {
            run.started_us.get_or_insert(started);
        }
    }

    pub(super) fn stop_ordered(&mut self, id: &RunId, now: TimeUs, for_good: bool) {
        if let Some(run) = self.tables.runs.get_mut(id) {
            run.stop_ordered_us.get_or_insert(now);
            if for_good && run.released_us.is_none() {
                self.tables.stopping.insert(id.clone(), ());
            }
        }
    }

    pub(super) fn job_over(&mut self, job: &JobId, now: TimeUs) {
        if let Some(run) = self.tables.live.get(job).cloned() {
            self.run_lost(&run, now);
        }
    }

    /// Gives up what was told to stop for good and whose lease has passed, as the engine does without a word.
    pub(super) fn leases_passed(&mut self, now: TimeUs) {
        let passed = |run: &RunId| self.tables.run_leases.get(run).is_some_and(|until| *until <= now);
        let runs: Vec<RunId> = self.tables.stopping.iter().map(|(run, ())| run.clone()).filter(passed).collect();
        runs.iter().for_each(|run| self.run_lost(run, now));
    }

    pub(super) fn run_ended(&mut self, run: &RunId, ended: TimeUs, now: TimeUs) {
        if let Some(row) = self.tables.runs.get_mut(run) {
            row.ended_us.get_or_insert(ended);
        }
        self.release(run, now, Outcome::Reported);
    }

    pub(super) fn run_lost(&mut self, run: &RunId, now: TimeUs) {
        self.release(run, now, Outcome::Lost);
    }

    /// A node is certainly not running anything. A run that was told to stop for good is queued by nobody, so nothing but
    /// this releases it.
    pub(super) fn node_gone(&mut self, node: &NodeId, now: TimeUs) {
        let first = (node.clone(), RunId::default());
        let held: Vec<RunId> = self
            .tables
            .node_uses
            .from(&first)
            .take_while(|((on, _), _)| on == node)
            .filter(|(_, node_use)| node_use.to_us.is_none())
            .map(|((_, run), _)| run.clone())
            .collect();
        for run in held {
            if self.tables.stopping.get(&run).is_some() {
                self.run_lost(&run, now);
            }
        }
    }

    fn release(&mut self, run: &RunId, now: TimeUs, outcome: Outcome) {
        let Some(row) = self.tables.runs.get_mut(run) else { return };
        if row.released_us.is_some() {
            return;
        }
        row.released_us = Some(now);
        row.outcome = outcome;
        let gpu_milli = row.gpu_milli;
        let job = row.job.clone();
        let nodes: Vec<NodeId> = row.nodes.keys().cloned().collect();
        for node in nodes {
            if let Some(node_use) = self.tables.node_uses.get_mut(&(node, run.clone())) {
                node_use.to_us = Some(now);
            }
        }
        if self.tables.live.get(&job) == Some(run) {
            self.tables.live.remove(&job);
        }
        self.tables.run_leases.remove(run);
        self.tables.stopping.remove(run);
        self.tables.meta.entry(&0).held_milli -= i128::from(gpu_milli);
    }
}
