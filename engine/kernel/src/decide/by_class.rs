//! Priority between classes: a job of a class that preempts takes room from runs of lower classes, under every order rule.
//!
//! At each tick, before anything else that makes room. Victims are whole gangs that may be preempted, those with the least lost
//! work first; a class is never stopped for an equal or a lower one, so that no chain of such stops comes back to where it
//! began. Where somebody of the same class or a higher one was promised a start, room is made beside what that needs.

use std::collections::{BTreeMap, BTreeSet};

use solyx_schemas::events::decisions::LimitKind;
use solyx_schemas::ids::{JobId, NodeId, PoolId};

use super::Epoch;
use super::preempt::{Head, Scene, Victim, find, is_room, make_room, waiting};
use super::promise::promised_starts;
use crate::index::{QuotaKey, quota_keys};
use crate::place::Promise;
use crate::queue::Fit;
use crate::state::State;

/// Whether any class preempts.
pub fn any_preempts(state: &State) -> bool {
    state.classes.iter().any(|(_, class)| class.preempts)
}

/// Makes room for the jobs of classes that preempt, highest first.
pub(super) fn for_classes(epoch: &mut Epoch<'_>, scene: &mut Scene) {
    let preempts = |epoch: &Epoch<'_>, head: &Head| {
        head.jobs().iter().all(|job| {
            let class = epoch.state.spec(job).map(|spec| spec.class);
            class.and_then(|class| epoch.state.classes.get(&class)).is_some_and(|class| class.preempts)
        })
    };
    // What is kept for a promise is no room for them, but there may be other.
    let is_room = |kind: LimitKind| is_room(kind) || kind == LimitKind::Backfill;
    let mut heads: Vec<Head> = waiting(epoch, &is_room).flatten().collect();
    heads.retain(|head| preempts(epoch, head));
    heads.sort_by(|a, b| (-a.class_value, a.turn, &a.job).cmp(&(-b.class_value, b.turn, &b.job)));
    if heads.is_empty() {
        return;
    }
    let promised = promised(epoch);
    let mut kept: BTreeMap<JobId, Vec<NodeId>> = BTreeMap::new();
    let mut failed: BTreeSet<Fit> = BTreeSet::new();
    for head in heads {
        if failed.contains(&head.fit) {
            continue;
        }
        // Beside what others of their class or a higher one were promised. Those that come first in this order need not heed it.
        let before = || promised.iter().filter(|promised| promised.goes_before(head.class_value, head.jobs()));
        if before().any(|promised| promised.needs_quota_of(epoch, &head)) {
            continue;
        }
        for promised in before() {
            let job = &promised.promise.job;
            if !kept.contains_key(job) {
                let nodes = promised.nodes(epoch);
                epoch.index.keep_nodes(&nodes, job);
                kept.insert(job.clone(), nodes);
            }
        }
        let lower = |victim: &Victim, _: i64| victim.class_value < head.class_value;
        match find(epoch, scene, &head, None, &lower) {
            Some(plans) => make_room(epoch, scene, &head, plans, false),
            None => {
                failed.extend(Some(head.fit).filter(|_| head.set.is_empty()));
            }
        }
    }
    kept.iter().for_each(|(job, nodes)| epoch.index.keep_no_more(nodes, job));
}

/// Somebody who was promised a start, and the value of its class.
pub(super) struct Promised {
    pub promise: Promise,
    class_value: i64,
}

impl Promised {
    /// Whether it does so for jobs of such a class that room is made for: it is none of them, and of their class or a higher one.
    pub fn goes_before(&self, class_value: i64, jobs: &[JobId]) -> bool {
        self.class_value >= class_value && !jobs.contains(&self.promise.job)
    }

    /// Whether it will need what a job would take of their quotas.
    fn needs_quota_of(&self, epoch: &Epoch<'_>, head: &Head) -> bool {
        head.jobs().iter().filter_map(|job| epoch.state.spec(job)).any(|spec| {
            let keys = |model| quota_keys(epoch.state, &spec.tenant, spec.project.as_ref(), model);
            let keys: Vec<QuotaKey> = match spec.models.is_empty() {
                true => epoch.state.models.iter().flat_map(|(model, _)| keys(model)).collect(),
                false => spec.models.iter().flat_map(|choice| keys(&choice.model)).collect(),
            };
            self.promise.breaks_quota(epoch.state, epoch.index, &keys, head.gpu_milli())
        })
    }

    /// The nodes on which nobody else makes room: those that it starts on and, where power is limited, all of their site.
    fn nodes(&self, epoch: &Epoch<'_>) -> Vec<NodeId> {
        let site = &self.promise.site;
        let is_limited = epoch.state.elements.iter().any(|((of, _), _)| of == site)
            || epoch.state.power_limits.iter().any(|(_, limit)| limit.site == *site);
        if !is_limited {
            return self.promise.nodes.iter().cloned().collect();
        }
        let is_there = |pool: &PoolId| {
            let declared = epoch.state.pools.get(pool).and_then(|row| row.declared.as_ref());
            declared.is_some_and(|declared| declared.site == *site)
        };
        let pools = epoch.index.pool_nodes.iter().filter(|(pool, _)| is_there(pool));
        pools.flat_map(|(_, nodes)| nodes).cloned().collect()
    }
}

/// Those who were promised starts under a rule that promises any, and for whom no room is made.
pub(super) fn promised(epoch: &mut Epoch<'_>) -> Vec<Promised> {
    if !epoch.state.policy().order_rule().promises_starts() {
        return Vec::new();
    }
    let promises = promised_starts(epoch);
    let of = |promise: &Promise| {
        let (class_value, _) = epoch.index.queue.turn_of(&promise.job)?;
        let waits = !epoch.state.claims.contains(&promise.job);
        waits.then(|| Promised { promise: promise.clone(), class_value })
    };
    promises.iter().filter_map(of).collect()
}
