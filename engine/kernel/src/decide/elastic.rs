//! Elastic jobs: between their least and their largest number of replicas.
//!
//! A job starts with its least number as soon as that fits. Room that nobody waits for is then lent: at once and for nothing to
//! jobs placed in the same epoch, and at a checkpoint to those that run, where the work of the additional GPUs exceeds what the
//! restart costs. What was lent is given back at a checkpoint to whoever waits for it (`elastic/give_back.rs`), or at once in
//! place of a preemption (`preempt.rs`). Only jobs that may be preempted are lent anything, only on owned and reserved
//! capacity, and nothing is ever taken of the least number here.

mod give_back;
mod waiting;

use std::collections::BTreeSet;

use solyx_schemas::events::Event;
use solyx_schemas::ids::{JobId, NodeId, RunId};
use solyx_schemas::units::{Count, DurationUs, Milli, SECOND_US};

use self::waiting::Waiting;
use super::Epoch;
use super::start::place;
use super::stops::resize_run;
use crate::clearing::is_closed;
use crate::place::{Candidate, most_replicas, place_of, step};
use crate::rows::{Claim, Elastic, Run, Spec};

/// Least time between two resizes of a job at its checkpoints.
const PAUSE: DurationUs = DurationUs(1_800 * SECOND_US);
/// Time for which there has to have been room, as a job's checkpoints saw it, before it grows.
const IDLE: DurationUs = DurationUs(300 * SECOND_US);

/// Takes note of a job that is placed by the next output.
pub(super) fn note_placed(epoch: &mut Epoch<'_>, id: &JobId, spec: &Spec) {
    let (least, most) = (spec.gang.replicas_min.0, most_replicas(spec));
    if least == most {
        // It may have been elastic before it was amended.
        if epoch.state.elastic.contains(id) {
            epoch.state.elastic.remove(id);
        }
        return;
    }
    let row = epoch.state.elastic.edit_or_default(id);
    (row.least, row.most, row.room_us, row.goes_on) = (least, most, None, None);
    epoch.may_grow.push(epoch.outputs.len());
}

/// Lends room that nobody waits for to jobs placed in this epoch, in their turn. Nothing has started yet, so that it is free.
pub(super) fn at_start(epoch: &mut Epoch<'_>) {
    let placed = std::mem::take(&mut epoch.may_grow);
    if placed.is_empty() {
        return;
    }
    let mut waiting = Waiting::of(epoch);
    for output in placed {
        let Some(Event::JobPlaced(placed)) = epoch.outputs.get(output) else { continue };
        let (id, job) = (placed.run.clone(), placed.job.clone());
        let Some((run, row)) = growing(epoch, &id, &job) else { continue };
        if waiting.want_room_of(epoch, &run) {
            continue;
        }
        if let Some(larger) = largest(epoch, &id, &run, row.most) {
            enlarge(epoch, output, &id, run, larger);
        }
    }
}

/// A run that may have more than it has.
fn growing(epoch: &Epoch<'_>, id: &RunId, job: &JobId) -> Option<(Run, Elastic)> {
    let row = epoch.state.elastic.get(job)?;
    let run = epoch.state.runs.get(id).filter(|run| may_be_resized(epoch, run))?;
    ((run.nodes.len() as i64) < row.most).then(|| (run.clone(), row.clone()))
}

/// What cannot be taken back is not lent.
fn may_be_resized(epoch: &Epoch<'_>, run: &Run) -> bool {
    let class = epoch.state.classes.get(&run.class);
    run.stop.is_none()
        && run.stop_at_checkpoint.is_none()
        && run.preemptible
        && class.is_none_or(|class| class.preemptible)
}

/// The place with the most replicas that a run could have in its pool, if it is more than it has.
fn largest(epoch: &mut Epoch<'_>, id: &RunId, run: &Run, most: i64) -> Option<Candidate> {
    epoch.index.hold(epoch.state, id, run, -1);
    let found = largest_between(epoch, run, run.nodes.len() as i64 + 1, most);
    epoch.index.hold(epoch.state, id, run, 1);
    found
}

/// The place with the most replicas from `low` to `high` in the run's pool, while the run holds nothing.
fn largest_between(epoch: &mut Epoch<'_>, run: &Run, low: i64, high: i64) -> Option<Candidate> {
    let step = epoch.state.spec(&run.job).map_or(1, |spec| step(&spec));
    // In whole steps.
    let (mut low, mut high) = ((low + step - 1) / step, high / step);
    let mut best = None;
    let mut next = high;
    while low <= high {
        match place_of(epoch.state, epoch.index, &run.job, &run.pool, next * step) {
            Ok(candidate) => {
                best = Some(candidate);
                low = next + 1;
            }
            Err(_) => high = next - 1,
        }
        next = low + (high - low) / 2;
    }
    best
}

/// Has a run that was placed in this epoch have a larger place.
fn enlarge(epoch: &mut Epoch<'_>, output: usize, id: &RunId, run: Run, larger: Candidate) {
    epoch.index.hold(epoch.state, id, &run, -1);
    let mut run = run;
    run.gpu_milli.0 = run.gpu_milli.0 / run.nodes.len().max(1) as i64 * larger.nodes.len() as i64;
    run.nodes = larger.nodes;
    run.mig = larger.mig;
    run.speed_milli = Milli(larger.speed);
    run.expected_end_us = epoch.now.after(larger.duration);
    (run.draws, run.yields_at_us) = (larger.draws, larger.yields_at);
    if let Some(Event::JobPlaced(placed)) = epoch.outputs.get_mut(output) {
        placed.nodes.clone_from(&run.nodes);
        placed.replicas = Count(run.nodes.len() as i64);
        placed.gpu_milli = run.gpu_milli;
        placed.speed_milli = run.speed_milli;
        placed.expected_end_us = run.length_known.then_some(run.expected_end_us);
        placed.terms = larger.terms;
    }
    epoch.state.runs.insert(id.clone(), run.clone());
    epoch.index.hold(epoch.state, id, &run, 1);
}

/// Answers checkpoints of elastic jobs: what was lent is given back, or more is lent.
pub(super) fn at_checkpoints(epoch: &mut Epoch<'_>) {
    let runs = std::mem::take(&mut epoch.index.checkpointed);
    if runs.is_empty() {
        return;
    }
    let mut waiting = Waiting::of(epoch);
    for id in runs {
        let Some(run) = epoch.state.runs.get(&id).filter(|run| may_be_resized(epoch, run)) else { continue };
        let Some(row) = epoch.state.elastic.get(&run.job).cloned() else { continue };
        if run.started_us.is_none() || row.resized_us.is_some_and(|at| at.after(PAUSE) > epoch.now) {
            continue;
        }
        let run = run.clone();
        if waiting.want_room_of(epoch, &run) {
            saw_room(epoch, &run.job, false);
            give_back::to_whoever_waits(epoch, &mut waiting, &id, &run, &row);
        } else if (run.nodes.len() as i64) < row.most {
            grow(epoch, &id, &run, &row);
        }
    }
}

/// Keeps for how long there has been room for more at a job's checkpoints.
fn saw_room(epoch: &mut Epoch<'_>, job: &JobId, room: bool) {
    let known = epoch.state.elastic.get(job).map(|row| row.room_us.is_some());
    if known == Some(room) {
        return;
    }
    let since = room.then_some(epoch.now);
    if let Some(row) = epoch.state.elastic.edit(job) {
        row.room_us = since;
    }
}

/// Has a run stop at its checkpoint to go on with more replicas, if there has been room for long enough and it pays.
fn grow(epoch: &mut Epoch<'_>, id: &RunId, run: &Run, row: &Elastic) {
    let larger = largest(epoch, id, run, row.most);
    saw_room(epoch, &run.job, larger.is_some());
    let (Some(larger), Some(since)) = (larger, row.room_us) else { return };
    if since.after(IDLE) > epoch.now || !pays(epoch, run, larger.nodes.len() as i64) {
        return;
    }
    let (from, to) = (run.nodes.len() as i64, larger.nodes.len() as i64);
    let reason = format!("nobody waits for the room of {} replicas more", to - from);
    // What it has is its own; what it is lent goes to whoever comes to wait for it until it has stopped.
    if resize_run(epoch, id, to, from, reason) {
        let gpu_milli = run.gpu_milli.0 / from.max(1) * to;
        let claim = Claim { nodes: nodes_of(&larger), victims: vec![id.clone()], gpu_milli, berth: None };
        epoch.index.claim(epoch.state, &run.job, claim);
    }
}

/// Whether the work of the additional GPUs until the end exceeds what the restart costs: the restore of all, and the work since
/// the checkpoint.
fn pays(epoch: &Epoch<'_>, run: &Run, replicas: i64) -> bool {
    let (from, each) = (run.nodes.len() as i64, i128::from(run.gpu_milli.0) / run.nodes.len().max(1) as i128);
    let left = i128::from(run.expected_end_us.since(epoch.now).0.max(0)) * i128::from(from) / i128::from(replicas);
    let since_checkpoint = i128::from(epoch.now.since(run.durable_us).0.max(0));
    let gain = i128::from(replicas - from) * each * left;
    let cost = i128::from(replicas) * each * i128::from(run.restore_us.0) + i128::from(from) * each * since_checkpoint;
    gain > cost
}

/// The nodes of a place, each once.
fn nodes_of(place: &Candidate) -> Vec<NodeId> {
    let nodes: BTreeSet<&NodeId> = place.nodes.iter().map(|replica| &replica.node).collect();
    nodes.into_iter().cloned().collect()
}

/// Whether a job is being resized: what is kept for it waits for its own run.
pub(super) fn is_resized(epoch: &Epoch<'_>, id: &JobId) -> bool {
    epoch.state.elastic.get(id).is_some_and(|row| row.goes_on.is_some())
}

/// Places a job whose run has stopped to be resized, with the replicas that are kept for it.
pub(super) fn go_on(epoch: &mut Epoch<'_>, id: &JobId) -> bool {
    let Some(goes_on) = epoch.state.elastic.get(id).and_then(|row| row.goes_on.clone()) else { return false };
    let Some(spec) = epoch.state.spec(id) else { return false };
    // It may have been amended meanwhile.
    let replicas = goes_on.replicas.clamp(spec.gang.replicas_min.0, most_replicas(&spec));
    match place_of(epoch.state, epoch.index, id, &goes_on.pool, replicas) {
        Ok(candidate) => {
            place(epoch, id, &spec, &candidate, None, false);
            true
        }
        Err(_) => false,
    }
}

/// A job that did not get what was kept for it waits like any other.
pub(super) fn waits_again(epoch: &mut Epoch<'_>, id: &JobId) {
    if is_resized(epoch, id)
        && let Some(row) = epoch.state.elastic.edit(id)
    {
        row.goes_on = None;
    }
}

/// How many of a victim's replicas stay when these nodes are taken, where that is at least its least number: those on nodes
/// that nobody else has a claim on.
pub(super) fn stays(epoch: &Epoch<'_>, id: &RunId, taken: &[NodeId]) -> Option<(Vec<NodeId>, i64)> {
    let run = epoch.state.runs.get(id)?;
    let row = epoch.state.elastic.get(&run.job)?;
    let is_kept = |node: &NodeId| epoch.index.claimed.contains_key(node) || is_closed(epoch.state, node);
    let free = |node: &NodeId| !taken.contains(node) && !is_kept(node);
    let staying: Vec<&NodeId> = run.nodes.iter().map(|replica| &replica.node).filter(|node| free(node)).collect();
    let step = epoch.state.spec(&run.job).map_or(1, |spec| step(&spec));
    let replicas = staying.len() as i64 / step * step;
    let nodes: BTreeSet<&NodeId> = staying.into_iter().collect();
    let enough = replicas >= row.least && replicas < run.nodes.len() as i64;
    enough.then(|| (nodes.into_iter().cloned().collect(), replicas))
}

/// Has a victim stop so that it goes on with the replicas that stay. Says how many thousandths of GPUs it keeps.
pub(super) fn give_back_at_once(
    epoch: &mut Epoch<'_>,
    id: &RunId,
    (nodes, replicas): (Vec<NodeId>, i64),
    to: &JobId,
) -> Option<i64> {
    let run = epoch.state.runs.get(id)?;
    let (job, had) = (run.job.clone(), run.nodes.len() as i64);
    let gpu_milli = run.gpu_milli.0 / had.max(1) * replicas;
    let reason = format!("gives back {} replicas at once to {to}", had - replicas);
    resize_run(epoch, id, replicas, replicas, reason).then(|| {
        epoch.index.claim(epoch.state, &job, Claim { nodes, victims: Vec::new(), gpu_milli, berth: None });
        gpu_milli
    })
}
