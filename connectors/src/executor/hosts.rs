//! Nodes: their power, and how they fail, are fenced and come back.

use std::collections::BTreeMap;

use solyx_schemas::events::common::NodeGpus;
use solyx_schemas::events::jobs::FailureCategory;
use solyx_schemas::events::nodes::{NodeReported, NodeState};
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

use super::facts::INTERVAL_MIN;
use super::reports;
use super::run::next_multiple;
use super::{SimulatedExecutor, Subject};

/// Time from a failure until the node is certainly off.
const FENCING_US: i64 = 60 * SECOND_US;
/// Microwatts in a watt.
const UW_PER_W: i128 = 1_000_000;

/// Whether a node works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Up,
    /// Failed by a draw: fenced and repaired in time.
    Failed {
        since: TimeUs,
        fenced: bool,
    },
    /// Down because somebody else says so, until they say otherwise.
    Lost,
}

/// A node that was reported.
#[derive(Debug)]
pub(super) struct Node {
    pool: PoolId,
    idle_w: i64,
    gpu_max_w: BTreeMap<i64, i64>,
    health: Health,
    /// What operators last said of it; it comes back to that.
    wanted: NodeState,
    /// Failures so far.
    failures: u64,
    /// When it fails, is fenced or comes back.
    due_at: Option<TimeUs>,
    /// What its GPUs draw now, µW.
    busy_uw: i64,
    /// Energy since the last reading, µW × µs, up to `changed_at`.
    energy_uw_us: i128,
    changed_at: TimeUs,
    read_at: TimeUs,
}

impl Node {
    fn settle(&mut self, at: TimeUs) {
        let power =
            if self.health == Health::Up { i128::from(self.idle_w) * UW_PER_W + i128::from(self.busy_uw) } else { 0 };
        self.energy_uw_us += power * i128::from(at.since(self.changed_at).0);
        self.changed_at = at;
    }
}

impl SimulatedExecutor {
    /// Takes note of a node; the first report of it starts its clock.
    pub(super) fn note_node(&mut self, report: &NodeReported) {
        let now = self.now;
        let gpu_max_w: BTreeMap<i64, i64> = report.gpus.iter().map(|gpu| (gpu.index, gpu.max_w.0)).collect();
        if let Some(node) = self.nodes.get_mut(&report.node) {
            node.settle(now);
            node.pool = report.pool.clone();
            node.idle_w = report.idle_w.0;
            node.gpu_max_w = gpu_max_w;
            self.follow_power();
            return;
        }
        let node = Node {
            pool: report.pool.clone(),
            idle_w: report.idle_w.0,
            gpu_max_w,
            health: Health::Up,
            wanted: NodeState::Ready,
            // Its reports have ids of their own also when it was there before.
            failures: self.failures_before.remove(&report.node).unwrap_or(0),
            due_at: None,
            busy_uw: 0,
            energy_uw_us: 0,
            changed_at: now,
            read_at: now,
        };
        self.nodes.insert(report.node.clone(), node);
        self.draw_failure(&report.node, now);
        self.follow_power();
    }

    /// Somebody else says how a node is. One that is down or fenced takes its runs with it, silently.
    pub(super) fn note_state(&mut self, id: &NodeId, state: NodeState) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(id) else { return };
        match state {
            NodeState::Down | NodeState::Fenced => {
                if node.health == Health::Lost {
                    return;
                }
                node.settle(now);
                if let Health::Failed { .. } = node.health {
                    self.recovering -= 1;
                }
                node.health = Health::Lost;
                self.await_node(id, None);
                for run in self.runs_on(id) {
                    self.lose_run(&run, now);
                }
            }
            NodeState::Ready | NodeState::Cordoned | NodeState::Draining => {
                node.wanted = state;
                if node.health == Health::Lost {
                    node.settle(now);
                    node.health = Health::Up;
                    node.failures += 1;
                    self.draw_failure(id, now);
                }
            }
            NodeState::Unknown => {}
        }
    }

    /// A node is gone for good.
    pub(super) fn remove_node(&mut self, id: &NodeId) {
        self.note_state(id, NodeState::Fenced);
        self.await_node(id, None);
        if let Some(node) = self.nodes.remove(id).filter(|node| node.failures > 0) {
            self.failures_before.insert(id.clone(), node.failures + 1);
        }
        self.follow_power();
    }

    /// Whether a node or instance can run something.
    pub(super) fn is_up(&self, id: &NodeId) -> bool {
        match self.nodes.get(id) {
            Some(node) => node.health == Health::Up,
            None => self.instances.get(id.as_str()).is_some_and(super::leases::Instance::is_live),
        }
    }

    /// What is due of a node: a failure, its fencing, its return.
    pub(super) fn advance_node(&mut self, id: &NodeId, at: TimeUs) {
        let repair = DurationUs(self.scripts.habits().repair.0.max(FENCING_US));
        let Some(node) = self.nodes.get_mut(id) else { return };
        node.settle(at);
        node.due_at = None;
        let attempt = node.failures;
        match node.health {
            Health::Up => {
                node.health = Health::Failed { since: at, fenced: false };
                self.recovering += 1;
                self.report(reports::node_state(&self.name, id, NodeState::Down, attempt, "it failed", at));
                for run in self.runs_on(id) {
                    self.fail_run(&run, FailureCategory::Node, id, "its node failed", at);
                }
                self.await_node(id, Some(at.after(DurationUs(FENCING_US))));
            }
            Health::Failed { since, fenced: false } => {
                node.health = Health::Failed { since, fenced: true };
                self.report(reports::node_state(&self.name, id, NodeState::Fenced, attempt, "it was switched off", at));
                self.await_node(id, Some(since.after(repair)));
            }
            Health::Failed { fenced: true, .. } => {
                node.health = Health::Up;
                node.failures += 1;
                let wanted = node.wanted;
                self.recovering -= 1;
                self.report(reports::node_state(&self.name, id, wanted, attempt, "it was repaired", at));
                self.draw_failure(id, at);
            }
            Health::Lost => {}
        }
    }

    /// Reads the power of every node of ours since the last reading.
    pub(super) fn read_power(&mut self, at: TimeUs) {
        let mut readings = Vec::new();
        for (id, node) in &mut self.nodes {
            node.settle(at);
            let elapsed = i128::from(at.since(node.read_at).0);
            let energy = std::mem::take(&mut node.energy_uw_us);
            let from = std::mem::replace(&mut node.read_at, at);
            if elapsed > 0
                && let Some(site) = self.facts.metered_site(&node.pool)
            {
                let unit = elapsed * UW_PER_W;
                let mean = PowerW(((2 * energy + unit) / (2 * unit)) as i64);
                readings.push(reports::node_power(&self.name, site, id, mean, from, at));
            }
        }
        for reading in readings {
            self.report(reading);
        }
        self.power_due = None;
        self.follow_power();
    }

    /// Power that an allotment makes its GPUs draw, µW: thousandths of the largest power of its share of each.
    pub(super) fn busy_uw(&self, host: &NodeGpus, model: &GpuModelId) -> i64 {
        let by_model = self.facts.gpu_max_w(model);
        let on_node = self.nodes.get(&host.node).map(|node| &node.gpu_max_w);
        let max_w = |gpu: &i64| on_node.and_then(|gpus| gpus.get(gpu)).copied().filter(|w| *w > 0).unwrap_or(by_model);
        let watts: i64 = host.gpus.iter().map(max_w).sum();
        watts * self.scripts.habits().busy_power_milli * host.gpu_milli_each.0
    }

    /// The part of a node's idle power that its share of the GPUs answers for, µW.
    pub(super) fn idle_share_uw(&self, host: &NodeGpus) -> i128 {
        let Some(node) = self.nodes.get(&host.node).filter(|node| !node.gpu_max_w.is_empty()) else { return 0 };
        let share_milli = host.gpus.len() as i128 * i128::from(host.gpu_milli_each.0);
        i128::from(node.idle_w) * (UW_PER_W / 1_000) * share_milli / node.gpu_max_w.len() as i128
    }

    /// Adds to what a node's GPUs draw from now on.
    pub(super) fn add_load(&mut self, id: &NodeId, uw: i64, at: TimeUs) {
        if let Some(node) = self.nodes.get_mut(id) {
            node.settle(at);
            node.busy_uw += uw;
        }
    }

    fn draw_failure(&mut self, id: &NodeId, up_since: TimeUs) {
        let habits = self.scripts.habits();
        let attempt = self.nodes.get(id).map_or(0, |node| node.failures);
        let wait = habits.draws.waiting_time("node-failure", id.as_str(), attempt, habits.node_failures_per_1000_h);
        self.await_node(id, wait.map(|wait| up_since.after(wait)));
    }

    fn await_node(&mut self, id: &NodeId, at: Option<TimeUs>) {
        let Some(node) = self.nodes.get_mut(id) else { return };
        if let Some(before) = node.due_at.take() {
            self.due.remove(&(before, Subject::Node(id.clone())));
        }
        if let Some(at) = at {
            node.due_at = Some(at);
            self.due.insert((at, Subject::Node(id.clone())));
        }
    }

    /// Power is read as long as there is a node whose power is measured.
    pub(super) fn follow_power(&mut self) {
        let said = self.scripts.habits().power_interval;
        let interval = if said.0 > 0 { said.max(INTERVAL_MIN) } else { said };
        let measured = || self.nodes.values().any(|node| self.facts.metered_site(&node.pool).is_some());
        match self.power_due {
            None if interval.0 > 0 && measured() => {
                let at = next_multiple(self.now, interval);
                self.power_due = Some(at);
                self.due.insert((at, Subject::Power));
            }
            Some(at) if !measured() => {
                self.power_due = None;
                self.due.remove(&(at, Subject::Power));
            }
            _ => {}
        }
    }
}
