//! What is set aside is given to whom it is owed: their jobs go first, and runs that were lent it are told to stop.
//!
//! For jobs that single GPUs are enough for, and for reservations about to begin, so much is told to stop as is missing: whole
//! gangs, those that lose least first. For a gang that needs several GPUs of a node, room is made node by node (`room.rs`), and
//! its nodes are kept for it until it starts.

use std::collections::{BTreeMap, BTreeSet};

use solyx_schemas::events::common::NodeGpus;
use solyx_schemas::events::decisions::{Limit, LimitKind, Overcommitment, StopCause};
use solyx_schemas::ids::{JobId, NodeId, RunId};

use super::Epoch;
use super::order::Pass;
use super::preempt::{Victim, is_room, lent, loss_of};
use super::room::{FullQuota, plan};
use super::start::{Outcome, try_start};
use super::stops::stop_run;
use crate::place::Promises;
use crate::rows::{Claim, Run, limit_of};
use crate::set_aside::{Place, is_reclaimable};

/// Lists what an input has taken below what is set aside, or set aside beyond what there is, when that is news.
pub fn list(epoch: &mut Epoch<'_>) {
    if !std::mem::take(&mut epoch.index.set_aside.is_touched) {
        return;
    }
    // Capacity that is taken away lets nobody start, but it may have to be made up for.
    epoch.index.changed |= !epoch.index.set_aside.short_of_free().is_empty();
    let found = epoch.index.set_aside.shortages();
    for (key, (asked, have)) in &found {
        let (place, before) = (&key.0, epoch.index.shortages.get(key));
        let before = before.map_or(0, |(asked, have)| asked - have);
        if asked - have > before {
            let limit = limit_of(LimitKind::Reservation, &place.subject(), *asked, *have, "GPU/1000");
            epoch.overcommitments.push(Overcommitment { limit, runs: Vec::new() });
        }
    }
    epoch.index.shortages = found;
}

/// Counts anew what jobs in line ask of leases in force.
pub fn count_asked(epoch: &mut Epoch<'_>) {
    if epoch.index.set_aside.is_on() {
        let asked = epoch.index.asked(epoch.state);
        epoch.index.set_aside.set_asked(asked);
    }
}

/// At the end of an epoch: shortages that have become less are held as what they are now, and what is asked as it stands.
pub fn settle(epoch: &mut Epoch<'_>) {
    count_asked(epoch);
    if std::mem::take(&mut epoch.index.set_aside.is_touched) || !epoch.index.set_aside.is_on() {
        epoch.index.shortages = epoch.index.set_aside.shortages();
    }
}

/// At the beginning of a pass: jobs that draw on a contract in force are tried before all others, and for those that do not fit
/// room is made at once.
pub fn serve(epoch: &mut Epoch<'_>, pass: &mut Pass) {
    if !epoch.index.set_aside.is_on() {
        return;
    }
    let mut drawers: Vec<_> = epoch
        .index
        .queue
        .drawers
        .iter()
        .filter(|job| !epoch.state.claims.contains(*job))
        .filter_map(|job| Some((epoch.index.queue.turn_of(job)?, job.clone())))
        .map(|((class_value, turn), job)| (-class_value, turn, job))
        .collect();
    drawers.sort();
    let mut victims: Option<Vec<Victim>> = None;
    for (_, _, job) in drawers {
        let Some((tenant, shape)) = epoch.index.queue.line_of(&job) else { continue };
        if pass.passes_over(epoch, &tenant, shape) {
            continue;
        }
        match try_start(epoch, &job, &mut Promises::default()) {
            Outcome::Left => pass.left(epoch, &tenant, shape, &job),
            Outcome::Waits { limit, .. } if is_room(limit.kind) => {
                let victims = victims.get_or_insert_with(|| lent(epoch));
                if make_room(epoch, victims, &job) {
                    pass.tried(&job);
                } else {
                    wait(epoch, pass, &job, &limit);
                }
            }
            Outcome::Waits { limit, .. } => wait(epoch, pass, &job, &limit),
        }
    }
    // The stops above have made some of it free.
    count_asked(epoch);
    clear(epoch);
}

fn wait(epoch: &mut Epoch<'_>, pass: &mut Pass, job: &JobId, limit: &Limit) {
    epoch.tell(job, limit, None);
    pass.block(epoch, job, limit);
}

/// Makes room for a gang that needs several GPUs of a node.
fn make_room(epoch: &mut Epoch<'_>, victims: &mut [Victim], id: &JobId) -> bool {
    let needs_nodes = epoch.state.spec(id).is_some_and(|spec| spec.gang.gpus.0 > 1 || spec.gang.exclusive_node);
    if !needs_nodes {
        return false;
    }
    let Some(found) = plan(epoch, id, victims, &|victim, _| !victim.stopped, FullQuota::Stays) else { return false };
    let mut stopped = Vec::new();
    for victim in found.victims {
        let victim = &mut victims[victim];
        victim.stopped = true;
        if stop_run(epoch, &victim.run, StopCause::Priority, Some(id.clone())) {
            stopped.push(victim.run.clone());
        }
    }
    let gpu_milli = epoch.state.spec(id).map_or(0, |spec| crate::order_rule::gang_milli(epoch.state, &spec));
    epoch.index.claim(epoch.state, id, Claim { nodes: found.nodes, victims: stopped, gpu_milli, berth: None });
    epoch.tell(id, &limit_of(LimitKind::Draining, id.as_str(), gpu_milli, 0, "GPU/1000"), None);
    true
}

/// Tells as much to stop as is missing of what is to be left free, place by place, the narrowest first.
pub fn clear(epoch: &mut Epoch<'_>) {
    for (place, _) in epoch.index.set_aside.short_of_free() {
        // What was told to stop for a narrower place counts here too.
        let mut missing = -epoch.index.set_aside.spare(&place);
        if missing <= 0 {
            continue;
        }
        let mut chosen: Vec<(i64, Vec<RunId>, i64)> = Vec::new();
        for (loss, runs, milli) in lent_in(epoch, &place) {
            if missing <= 0 {
                break;
            }
            missing -= milli;
            chosen.push((loss, runs, milli));
        }
        // Those that lose most are spared first if the others are enough.
        for number in (0..chosen.len()).rev() {
            if missing + chosen[number].2 <= 0 {
                missing += chosen.remove(number).2;
            }
        }
        for run in chosen.into_iter().flat_map(|(_, runs, _)| runs) {
            stop_run(epoch, &run, StopCause::Priority, None);
        }
    }
}

/// What could be told to stop in a place: work that would be lost per GPU, a run, or all that is on a divided GPU, and thousandths
/// of GPUs that it has there.
fn lent_in(epoch: &Epoch<'_>, place: &Place) -> Vec<(i64, Vec<RunId>, i64)> {
    let nodes = &epoch.index.set_aside.nodes;
    let inside: BTreeSet<&NodeId> =
        nodes.iter().filter(|(_, share)| share.places.contains(place)).map(|(node, _)| node).collect();
    let mut found = BTreeSet::new();
    for id in inside.iter().filter_map(|node| epoch.index.uses.get(*node)).flat_map(|used| &used.runs) {
        let Some(run) = epoch.state.runs.get(id).filter(|run| run.stop.is_none()) else { continue };
        if !is_reclaimable(epoch.state, run) {
            continue;
        }
        let here = run.nodes.iter().filter(|replica| inside.contains(&replica.node));
        let milli: i64 = match run.exclusive_node {
            // A divided GPU is free only when all that is on it has gone: see below.
            false if run.mig.is_some() => 0,
            false => here.map(|replica| usable(epoch, replica) * replica.gpu_milli_each.0).sum(),
            true => {
                let own: BTreeSet<&NodeId> = here.map(|replica| &replica.node).collect();
                own.iter().filter_map(|node| nodes.get(*node)).map(|share| share.total).sum()
            }
        };
        if milli > 0 {
            let loss = loss_of(run, epoch.now.since(run.durable_us));
            found.insert((loss.saturating_mul(1_000) / milli, vec![id.clone()], milli));
        }
    }
    // By all that has to go: one run may be alone on several.
    let mut divided: BTreeMap<Vec<RunId>, (i64, i64)> = BTreeMap::new();
    for (node, used) in inside.iter().filter_map(|node| Some((*node, epoch.index.uses.get(*node)?))) {
        for gpu in used.slices.keys().filter(|gpu| takes_work(epoch, node, **gpu)) {
            let has = |run: &Run| run.nodes.iter().any(|own| own.node == *node && own.gpus.contains(gpu));
            let runs = used.runs.iter().filter_map(|id| Some((id, epoch.state.runs.get(id)?)));
            let staying: Vec<(&RunId, &Run)> = runs.filter(|(_, run)| run.stop.is_none() && has(run)).collect();
            // Who has the node to itself was counted with all of it.
            let may_go = |run: &Run| is_reclaimable(epoch.state, run) && !run.exclusive_node;
            if staying.iter().all(|(_, run)| may_go(run)) && !staying.is_empty() {
                let loss = staying.iter().map(|(_, run)| loss_of(run, epoch.now.since(run.durable_us))).sum();
                let runs = staying.into_iter().map(|(id, _)| id.clone()).collect();
                divided.entry(runs).or_insert((loss, 0)).1 += 1_000;
            }
        }
    }
    let divided = divided.into_iter();
    found.extend(divided.map(|(runs, (loss, milli))| (loss.saturating_mul(1_000) / milli, runs, milli)));
    found.into_iter().collect()
}

/// GPUs of a replica that would take new work.
fn usable(epoch: &Epoch<'_>, replica: &NodeGpus) -> i64 {
    replica.gpus.iter().filter(|gpu| takes_work(epoch, &replica.node, **gpu)).count() as i64
}

/// Whether a GPU is there and is not one that is avoided.
fn takes_work(epoch: &Epoch<'_>, node: &NodeId, gpu: i64) -> bool {
    let node = epoch.state.nodes.get(node);
    let report = node.and_then(|node| node.report.as_ref());
    report.is_some_and(|report| report.gpus.iter().any(|own| own.index == gpu))
        && node.is_some_and(|node| !node.avoided_gpus.contains(&gpu))
}
