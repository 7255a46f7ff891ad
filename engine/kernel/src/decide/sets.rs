//! Jobs of one set start together: all of those that have not started yet, in one epoch, or none.
//!
//! Each is found a place with those before it held for the time being; then either all places are taken or what was held is
//! given back. Nothing is said before that. A set orders no instances and is not put off to a better hour.

use solyx_schemas::events::decisions::{Limit, LimitKind};
use solyx_schemas::ids::{JobId, RunId};

use super::Epoch;
use super::start::{place, run_of};
use crate::place::{Candidate, Promise, places};
use crate::queue::SetKey;
use crate::rows::{Phase, Run, limit_of};

/// Members of a set that wait for their first start, in the order of their ids.
pub(super) fn unstarted(epoch: &Epoch<'_>, key: &SetKey) -> Vec<JobId> {
    let waits = |id: &&JobId| {
        epoch.state.jobs.get(*id).is_some_and(|job| {
            job.attempts == 0 && matches!(job.phase, Phase::Requested | Phase::Waiting | Phase::Leasing)
        })
    };
    epoch.index.queue.set(key).filter(waits).cloned().collect()
}

/// Starts all members, or says which does not fit, and whether more room would help it.
pub(super) fn start_all(
    epoch: &mut Epoch<'_>,
    members: &[JobId],
    mut promise: Option<&mut Promise>,
) -> Result<(), (Limit, bool)> {
    let mut found: Vec<(JobId, Candidate)> = Vec::new();
    let mut held: Vec<(RunId, Run)> = Vec::new();
    let mut missing = None;
    for id in members {
        if epoch.index.queue.line_of(id).is_none() {
            let why = epoch.index.queue.parked(id).map(|limit| limit.kind);
            missing = Some((id.clone(), why.unwrap_or(LimitKind::JobSet), false));
            break;
        }
        let places = places(epoch.state, epoch.index, id, promise.as_deref());
        let Some(best) = places.candidates.iter().find(|candidate| candidate.new_instances == 0) else {
            let why = if places.candidates.is_empty() { places.binding().kind } else { LimitKind::LeasePending };
            missing = Some((id.clone(), why, places.wants_room()));
            break;
        };
        let Some(spec) = epoch.state.spec(id) else { continue };
        let Some((run_id, run)) = run_of(epoch, id, &spec, best) else { continue };
        epoch.state.runs.insert(run_id.clone(), run.clone());
        epoch.index.hold(epoch.state, &run_id, &run, 1);
        held.push((run_id, run));
        found.push((id.clone(), best.clone()));
    }
    for (run_id, run) in held.iter().rev() {
        epoch.state.runs.remove(run_id);
        epoch.index.hold(epoch.state, run_id, run, -1);
    }
    if let Some((id, why, wants_room)) = missing {
        let unit = format!("jobs of the set; {why}");
        let (of, fit) = (members.len() as i64, found.len() as i64);
        return Err((limit_of(LimitKind::JobSet, id.as_str(), of, fit, &unit), wants_room));
    }
    for (id, best) in &found {
        let Some(spec) = epoch.state.spec(id) else { continue };
        place(epoch, id, &spec, best, None, promise.is_some());
        if let Some(promise) = promise.as_deref_mut() {
            promise.note(&best.nodes, epoch.now.after(best.duration));
        }
    }
    Ok(())
}
