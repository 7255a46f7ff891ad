//! Starts that gangs were promised: what they need by then is kept for them.

use std::collections::{BTreeMap, BTreeSet};

use solyx_schemas::events::common::NodeGpus;
use solyx_schemas::events::decisions::{Limit, LimitKind};
use solyx_schemas::ids::{JobId, NodeId, RefId, SiteId};
use solyx_schemas::units::TimeUs;

use super::{on_order, quota_most};
use crate::index::{Index, QuotaKey};
use crate::rows::limit;
use crate::state::State;

/// What a gang that waits has been promised: these nodes from this instant on.
#[derive(Clone, Debug)]
pub struct Promise {
    /// The job.
    pub job: JobId,
    /// When it starts at the latest, as far as lengths are known.
    pub start: TimeUs,
    /// When it ends if it starts then, as far as its length is known.
    pub end: TimeUs,
    /// The nodes it starts on.
    pub nodes: BTreeSet<NodeId>,
    /// Their site.
    pub site: SiteId,
    /// What it asks for, thousandths of GPUs.
    pub gpu_milli: i64,
    /// Power that it commits on its nodes, W.
    pub own_w: BTreeMap<NodeId, i64>,
    /// By how much the committed power of nodes will have changed by then, W: by what has ended, by the gang, and by those that
    /// were promised a start before it and are not over by then.
    pub power_w: BTreeMap<NodeId, i64>,
    /// Power of the GPUs that nothing will use any more by then, which `power_w` has taken off, W by node and GPU.
    pub idle_w: BTreeMap<NodeId, BTreeMap<i64, i64>>,
    /// The same of the quotas that it counts against, thousandths of GPUs.
    pub quota: BTreeMap<QuotaKey, i64>,
}

impl Promise {
    /// The limit by which something that lasts beyond the promised start is kept off.
    pub fn limit(&self) -> Limit {
        Limit { subject: Some(RefId::from(self.job.as_str())), ..limit(LimitKind::Backfill) }
    }

    /// Whether nothing will use a GPU by then that something uses now.
    pub(crate) fn leaves_idle(&self, node: &NodeId, gpu: i64) -> bool {
        self.idle_w.get(node).is_some_and(|idle| idle.contains_key(&gpu))
    }

    /// Whether so much more would break a quota within which the gang has to be by then.
    pub(crate) fn breaks_quota(&self, state: &State, index: &Index, keys: &[QuotaKey], gpu_milli: i64) -> bool {
        self.quota.iter().filter(|(key, _)| gpu_milli > 0 && keys.contains(key)).any(|(key, change)| {
            let Some(most) = state.quotas.get(key).and_then(quota_most) else { return false };
            let used = index.quota_use.get(key).copied().unwrap_or(0) + on_order(state, key, &self.job);
            used + change + gpu_milli > most
        })
    }

    fn note(&mut self, nodes: &[NodeGpus], end: TimeUs) {
        if end <= self.start {
            return;
        }
        for NodeGpus { node, gpus, .. } in nodes {
            let Some(idle) = self.idle_w.get_mut(node) else { continue };
            let no_longer: i64 = gpus.iter().filter_map(|gpu| idle.remove(gpu)).sum();
            *self.power_w.entry(node.clone()).or_default() += no_longer;
        }
    }
}

/// All promises, in the order in which they were made: each is kept beside those before it.
#[derive(Clone, Debug, Default)]
pub struct Promises(Vec<Promise>);

impl Promises {
    /// Adds the promise of a gang.
    pub fn make(&mut self, promise: Promise) {
        self.0.push(promise);
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = &Promise> {
        self.0.iter()
    }

    /// What a job was promised.
    pub fn of(&self, job: &JobId) -> Option<&Promise> {
        self.0.iter().find(|promise| promise.job == *job)
    }

    /// Those of other jobs that a job would be in the way of if it lasted until then.
    pub fn before(&self, job: &JobId, end: TimeUs) -> Vec<&Promise> {
        self.0.iter().filter(|promise| promise.job != *job && promise.start < end).collect()
    }

    /// Whether any of these nodes is promised.
    pub fn need_any(&self, nodes: &[NodeId]) -> bool {
        self.0.iter().any(|promise| nodes.iter().any(|node| promise.nodes.contains(node)))
    }

    /// Leaves out that of a job.
    pub fn forget(&mut self, job: &JobId) {
        self.0.retain(|promise| promise.job != *job);
    }

    /// Takes note of a gang that was just placed: where it lasts beyond a start, its GPUs will not be idle by then.
    pub fn note(&mut self, nodes: &[NodeGpus], end: TimeUs) {
        self.0.iter_mut().for_each(|promise| promise.note(nodes, end));
    }
}
