//! Priority between classes: a job of a class that preempts takes room from runs of lower classes, under every order rule.
//!
//! At each tick, before anything else that makes room. Victims are whole gangs that may be preempted, those with the least lost
//! work first; a class is never stopped for an equal or a lower one, so that no chain of such stops comes back to where it
//! began. Where somebody of the same class or a higher one was promised a start, room is made beside what that needs.

use std::collections::BTreeSet;

use solyx_schemas::ids::{JobId, NodeId, TenantId};

use super::Epoch;
use super::preempt::{Head, Scene, Victim, find, make_room, waiting};
use super::promise::earliest_start;
use super::room::Plan;
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
    let mut heads: Vec<Head> = waiting(epoch).flatten().collect();
    heads.retain(|head| preempts(epoch, head));
    heads.sort_by(|a, b| (-a.class_value, a.turn, &a.job).cmp(&(-b.class_value, b.turn, &b.job)));
    let promised = promised(epoch).filter(|_| !heads.is_empty());
    let mut failed: BTreeSet<Fit> = BTreeSet::new();
    for head in heads {
        if failed.contains(&head.fit) {
            continue;
        }
        let lower = |victim: &Victim, _: i64| victim.class_value < head.class_value;
        let before = promised.as_ref().filter(|promised| promised.goes_before(&head));
        let found = match before {
            Some(promised) => find_beside(epoch, scene, &head, promised, &lower),
            None => find(epoch, scene, &head, None, &lower),
        };
        match found {
            Some(plans) => make_room(epoch, scene, &head, plans, false),
            None => {
                failed.extend(Some(head.fit).filter(|_| head.set.is_empty()));
            }
        }
    }
}

/// Somebody who was promised a start, and the value of its class.
struct Promised {
    promise: Promise,
    class_value: i64,
}

impl Promised {
    /// Whether it does so for a job that would make room for itself: it is of its class or a higher one.
    fn goes_before(&self, head: &Head) -> bool {
        self.class_value >= head.class_value && !head.jobs().contains(&self.promise.job)
    }
}

fn promised(epoch: &mut Epoch<'_>) -> Option<Promised> {
    let promises = epoch.state.policy().order_rule().promises_starts();
    let job = epoch.state.meta().promised.clone().filter(|job| promises && !epoch.state.claims.contains(job))?;
    let (class_value, _) = epoch.index.queue.turn_of(&job)?;
    Some(Promised { promise: earliest_start(epoch, &job)?, class_value })
}

/// Room beside what somebody was promised: not on its nodes, not of a quota that it will need, and, where power is limited, not
/// at its site.
fn find_beside(
    epoch: &mut Epoch<'_>,
    scene: &Scene,
    head: &Head,
    Promised { promise, .. }: &Promised,
    may: &dyn Fn(&Victim, i64) -> bool,
) -> Option<Vec<(JobId, Plan)>> {
    let is_above = |tenant: &TenantId| epoch.state.lineage(head.tenant()).any(|above| above == tenant);
    if promise.quota.keys().any(|key| epoch.state.quotas.contains(key) && is_above(&key.0)) {
        return None;
    }
    let nodes: Vec<NodeId> = promise.nodes.iter().cloned().collect();
    epoch.index.keep_nodes(&nodes, &promise.job);
    let found = find(epoch, scene, head, None, may);
    epoch.index.keep_no_more(&nodes, &promise.job);
    let is_at_its_site = |node: &NodeId| {
        let pool = epoch.state.nodes.get(node).and_then(|row| epoch.state.pools.get(&row.report.as_ref()?.pool));
        pool.and_then(|pool| pool.declared.as_ref()).is_some_and(|declared| declared.site == promise.site)
    };
    let is_limited = epoch.state.elements.iter().any(|((site, _), _)| *site == promise.site)
        || epoch.state.power_limits.iter().any(|(_, limit)| limit.site == promise.site);
    found.filter(|plans| !is_limited || !plans.iter().flat_map(|(_, plan)| &plan.nodes).any(is_at_its_site))
}
