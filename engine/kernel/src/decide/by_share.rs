//! What was lent is given back: a job that a promise of its tenant holds, its share of all GPUs or its guarantee of a model
//! (`share.rs`), takes back what is owed to it.
//!
//! At first only from runs that have just written a checkpoint, and when it has waited for long, or for a large gang, from any; then
//! it may also have others moved that stand in the way of a gang. What holds it on one model only takes nothing on another. Where no
//! room can be made yet nodes are closed to newcomers (`closing.rs`).

use std::collections::BTreeSet;

use solyx_schemas::ids::{GpuModelId, JobId};
use solyx_schemas::units::{DurationUs, SECOND_US, TimeUs};

use super::Epoch;
use super::closing::Closing;
use super::preempt::{Bounds, Head, Scene, Victim, find, find_by, free_milli, is_room, make_room, waiting};
use super::room::{FullQuota, Plan};
use super::share::{Given, Held, Shares};
use crate::queue::Fit;

/// After a checkpoint a run counts as cheap to stop for so long.
const CHEAP: DurationUs = DurationUs(300 * SECOND_US);
/// A job that its tenant's share holds waits no longer than this for cheap runs.
const URGENT: DurationUs = DurationUs(600 * SECOND_US);
/// A gang of this size takes whole nodes and does not wait for cheap runs, thousandths of a GPU.
const LARGE_MILLI: i64 = 8_000;

/// Jobs that a promise of their tenants holds as things are. Those ahead of them may take it from them; until then they are owed
/// it like those.
fn entitled(epoch: &Epoch<'_>, shares: &Shares) -> Vec<Head> {
    waiting(epoch, &is_room).flatten().filter(|head| head.held(epoch, shares).anywhere()).collect()
}

/// Takes back what is owed, for those first that have been owed longest.
pub(super) fn for_shares(epoch: &mut Epoch<'_>, scene: &mut Scene) {
    let heads = entitled(epoch, &scene.shares);
    note_since(epoch, &heads);
    let since = |epoch: &Epoch<'_>, job: &JobId| epoch.state.entitled.get(job).copied().unwrap_or(epoch.now);
    let mut heads: Vec<_> = heads.into_iter().map(|head| (since(epoch, &head.job), head.turn, head)).collect();
    heads.sort_by(|a, b| (-a.2.class_value, a.0, a.1, &a.2.job).cmp(&(-b.2.class_value, b.0, b.1, &b.2.job)));
    let mut failed: Vec<(Fit, Held)> = Vec::new();
    let mut closing = Closing::of(epoch, scene, heads.iter().map(|(.., head)| head));
    for (since, _, head) in heads {
        // What a promise holds changes as others of the tenant are given room.
        let held = head.held(epoch, &scene.shares);
        if !held.anywhere() {
            continue;
        }
        let waited = epoch.now.since(since);
        let urgent = waited >= URGENT;
        // What others have failed at it may find on nodes that are closed for it.
        let fails = !epoch.state.clearing.contains(&head.job) && failed.contains(&(head.fit, held.clone()));
        let room = if fails { None } else { room_owed(epoch, scene, &head, &held, urgent) };
        match room {
            Some(plans) => make_room(epoch, scene, &head, plans, false),
            None => {
                // Of a set it is not the shape of one that finds none.
                failed.extend(Some((head.fit, held)).filter(|_| !fails && head.set.is_empty()));
                closing.close(epoch, scene, &head, waited, urgent);
            }
        }
    }
    closing.end(epoch);
}

/// Keeps since when each job has been owed room.
fn note_since(epoch: &mut Epoch<'_>, held: &[Head]) {
    let kept: BTreeSet<&JobId> = held.iter().map(|head| &head.job).collect();
    let before: Vec<JobId> = epoch.state.entitled.iter().map(|(job, _)| job.clone()).collect();
    for job in before.iter().filter(|job| !kept.contains(job)) {
        epoch.state.entitled.remove(job);
    }
    for head in held {
        if !epoch.state.entitled.contains(&head.job) {
            epoch.state.entitled.insert(head.job.clone(), epoch.now);
            // It may go onto nodes now that are closed for another.
            epoch.index.changed |= !epoch.state.clearing.is_empty() && epoch.index.queue.is_owed(&head.job);
        }
    }
}

/// Room for a job from those who owe it.
fn room_owed(
    epoch: &mut Epoch<'_>,
    scene: &Scene,
    head: &Head,
    held: &Held,
    urgent: bool,
) -> Option<Vec<(JobId, Plan)>> {
    let owed = |victim: &Victim, given: Given| {
        victim.tenant() != head.tenant() && scene.shares.owes(held, victim.tenant(), &victim.model, given)
    };
    let cheap = |victim: &Victim, given: Given| owed(victim, given) && victim.since_checkpoint <= CHEAP;
    let mut found = find(epoch, scene, head, None, &cheap);
    if found.is_none() && (urgent || head.gpu_milli() >= LARGE_MILLI) {
        found = find(epoch, scene, head, None, &owed);
    }
    if found.is_none() && urgent {
        found = room_by_moving(epoch, scene, head, held, epoch.now, &|_| true);
    }
    found
}

/// Room for a job from those who owe it and by moving what is small, as it could be made by an instant by stopping nobody but these.
pub(super) fn room_by_moving(
    epoch: &mut Epoch<'_>,
    scene: &Scene,
    head: &Head,
    held: &Held,
    by: TimeUs,
    among: &dyn Fn(&Victim) -> bool,
) -> Option<Vec<(JobId, Plan)>> {
    let owed = |victim: &Victim, given: Given| {
        victim.tenant() != head.tenant() && scene.shares.owes(held, victim.tenant(), &victim.model, given)
    };
    let is_small = |victim: &Victim| victim.gpu_milli < head.gpu_milli().min(LARGE_MILLI) && held.on(&victim.model);
    let in_the_way = |victim: &Victim, given: Given| among(victim) && (owed(victim, given) || is_small(victim));
    find_by(epoch, scene, head, Bounds { by, budget: None, full: FullQuota::Stays }, &in_the_way).filter(|plans| {
        let victims = plans.iter().flat_map(|(_, plan)| &plan.victims).map(|victim| &scene.victims[*victim]);
        let moved: Vec<&Victim> = victims.filter(|victim| !owed(victim, Given::default())).collect();
        have_somewhere_to_go(epoch, &scene.shares, head, held, &moved)
    })
}

/// What is moved has to have somewhere to go: in what is free and borrowed. What lies within a guarantee of its model stays on that:
/// the job may take no more of it than what is free and what others have beyond their guarantees.
fn have_somewhere_to_go(epoch: &Epoch<'_>, shares: &Shares, head: &Head, held: &Held, moved: &[&Victim]) -> bool {
    let milli: i64 = moved.iter().map(|victim| victim.gpu_milli).sum();
    if held.by_share() && milli > free_milli(epoch) + shares.borrowed() {
        return false;
    }
    let within = moved.iter().filter(|victim| shares.covers(victim.tenant(), &victim.model, Given::default()));
    let models: BTreeSet<&GpuModelId> = within.map(|victim| &victim.model).collect();
    models.into_iter().all(|model| head.gpu_milli() <= free_of(epoch, model) + shares.unguaranteed(model))
}

fn free_of(epoch: &Epoch<'_>, model: &GpuModelId) -> i64 {
    let number = epoch.index.models.get(model);
    let free = epoch.index.inventory.free_gpu_milli().filter(|(_, of, _)| Some(*of) == number);
    free.map(|(.., milli)| milli).sum()
}
