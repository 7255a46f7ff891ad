//! Priority between classes: a job of a class that preempts takes room from runs of lower classes, under every order rule.
//!
//! At each tick, before anything else that makes room. Where a quota is full, runs within it make room in it. Victims are whole gangs that may be preempted, those with the least lost
//! work first; a class is never stopped for an equal or a lower one, so that no chain of such stops comes back to where it
//! began. Where somebody of the same class or a higher one was promised a start before it was, room is made beside what that needs.

use std::collections::BTreeMap;

use solyx_schemas::events::decisions::LimitKind;
use solyx_schemas::ids::{JobId, NodeId, PoolId, TenantId};

use super::Epoch;
use super::preempt::{Bounds, Head, Scene, Victim, find_by, is_room, make_room, waiting};
use super::promise::promised_starts;
use super::room::FullQuota;
use super::share::Given;
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
    // What is kept for a promise is no room for them, but there may be other; in a full quota those within it make room.
    let is_room = |kind: LimitKind| is_room(kind) || matches!(kind, LimitKind::Backfill | LimitKind::Quota);
    let mut heads: Vec<Head> = waiting(epoch, &is_room).flatten().collect();
    heads.retain(|head| preempts(epoch, head));
    heads.sort_by(|a, b| (-a.class_value, a.turn, &a.job).cmp(&(-b.class_value, b.turn, &b.job)));
    if heads.is_empty() {
        return;
    }
    let promised = PromisedStarts::of(epoch);
    let mut kept: BTreeMap<JobId, Vec<NodeId>> = BTreeMap::new();
    // What found no room, within whose quotas, and how many promises it had to heed.
    let mut failed: BTreeMap<(Fit, Option<TenantId>), usize> = BTreeMap::new();
    let has_quotas = !epoch.state.quotas.is_empty();
    for head in heads {
        let before = promised.before(head.class_value, head.jobs());
        let what = (head.fit, has_quotas.then(|| head.tenant().clone()));
        if failed.get(&what).is_some_and(|heeded| before.len() >= *heeded)
            || before.iter().any(|promised| promised.needs_quota_of(epoch, &head))
        {
            continue;
        }
        keep_for(epoch, &mut kept, &before);
        let lower = |victim: &Victim, _: Given| victim.class_value < head.class_value;
        let bounds = Bounds { by: epoch.now, budget: None, full: FullQuota::GivesWay };
        match find_by(epoch, scene, &head, bounds, &lower) {
            Some(plans) => make_room(epoch, scene, &head, plans, false),
            None => {
                failed.extend(Some((what, before.len())).filter(|_| head.set.is_empty()));
            }
        }
    }
    keep_for(epoch, &mut kept, &[]);
}

/// Keeps the nodes of these promises, and of no others.
fn keep_for(epoch: &mut Epoch<'_>, kept: &mut BTreeMap<JobId, Vec<NodeId>>, before: &[&Promised]) {
    kept.retain(|job, nodes| {
        let stays = before.iter().any(|promised| promised.promise.job == *job);
        if !stays {
            epoch.index.keep_no_more(nodes, job);
        }
        stays
    });
    for promised in before {
        let job = &promised.promise.job;
        if !kept.contains_key(job) {
            let nodes = match epoch.state.claims.get(job) {
                None => promised.nodes(epoch),
                // What is its own by a claim stays so, with the power of those who stop for it.
                Some(claim) => {
                    promised.promise.nodes.iter().filter(|node| !claim.nodes.contains(node)).cloned().collect()
                }
            };
            epoch.index.keep_nodes(&nodes, job);
            kept.insert(job.clone(), nodes);
        }
    }
}

/// Starts that were promised, in the order in which they were: none under rules that promise none.
pub(super) struct PromisedStarts(Vec<Promised>);

/// Somebody who was promised a start.
pub(super) struct Promised {
    pub promise: Promise,
    class_value: i64,
}

impl PromisedStarts {
    /// As things are.
    pub fn of(epoch: &mut Epoch<'_>) -> Self {
        if !epoch.state.policy().order_rule().promises_starts() {
            return Self(Vec::new());
        }
        let promises = promised_starts(epoch);
        let of = |promise: &Promise| {
            let (class_value, _) = epoch.index.queue.turn_of(&promise.job)?;
            Some(Promised { promise: promise.clone(), class_value })
        };
        Self(promises.iter().filter_map(of).collect())
    }

    /// Those beside which room is made for jobs of such a class: of that class or a higher one, and made before any of theirs.
    pub fn before(&self, class_value: i64, jobs: &[JobId]) -> Vec<&Promised> {
        let own = self.0.iter().position(|promised| jobs.contains(&promised.promise.job));
        let before = self.0.iter().take(own.unwrap_or(self.0.len()));
        before.filter(|promised| promised.class_value >= class_value).collect()
    }
}

impl Promised {
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
