//! Priority between classes: a job of a class that preempts takes room from runs of lower classes, under every order rule.
//!
//! At each tick, before anything else that makes room. Victims are whole gangs that may be preempted, those with the least lost
//! work first; a class is never stopped for an equal or a lower one, so that no chain of such stops comes back to where it
//! began.

use std::collections::BTreeSet;

use super::Epoch;
use super::preempt::{Head, Scene, Victim, find, make_room, waiting};
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
    // The room that somebody of its class or a higher one has been promised is not what others may make theirs.
    let promised = epoch.state.meta().promised.as_ref().filter(|_| epoch.state.policy().order_rule().promises_starts());
    let promised = promised.and_then(|job| Some((job, epoch.index.queue.turn_of(job)?.0)));
    let passes = |head: &Head| {
        promised.is_some_and(|(job, class_value)| class_value >= head.class_value && !head.jobs().contains(job))
    };
    let mut heads: Vec<Head> = waiting(epoch).flatten().collect();
    heads.retain(|head| preempts(epoch, head) && !passes(head));
    heads.sort_by(|a, b| (-a.class_value, a.turn, &a.job).cmp(&(-b.class_value, b.turn, &b.job)));
    let mut failed: BTreeSet<Fit> = BTreeSet::new();
    for head in heads {
        if failed.contains(&head.fit) {
            continue;
        }
        let lower = |victim: &Victim, _: i64| victim.class_value < head.class_value;
        match find(epoch, scene, &head, None, &lower) {
            Some(plans) => make_room(epoch, scene, &head, plans, false),
            None => {
                failed.extend(Some(head.fit).filter(|_| head.set.is_empty()));
            }
        }
    }
}
