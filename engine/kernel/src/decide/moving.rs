//! Moving a run: room is held for its job elsewhere, it is told to stop, and once it has its job goes on there before anything
//! else is placed. Attempts, durable work and what is held against budgets go on as after any stop.
//!
//! The room counts as in use from the decision on, so that nobody can take it. It is given up when its node no longer has it, or
//! its site no longer has the power: the job then waits for its turn, with its old place in line.

use solyx_schemas::events::decisions::StopCause;
use solyx_schemas::events::nodes::NodeState;
use solyx_schemas::ids::{JobId, NodeId, RunId, SiteId};

use super::Epoch;
use super::start::place;
use super::stops::migrate_run;
use crate::place::{Candidate, place_at};
use crate::rows::{Berth, Claim, Run};

/// Whether a job is being moved to room that is held for it.
pub(super) fn is_moved(epoch: &Epoch<'_>, id: &JobId) -> bool {
    epoch.state.claims.get(id).is_some_and(|claim| claim.berth.is_some())
}

/// Whether a run is one that can be moved: nobody else is told to make room for it, and it shares its nodes. What has its nodes
/// to itself is known by its run, and there is none yet in the room that would be held; nor is there room held for MIG instances.
pub(super) fn is_movable(epoch: &Epoch<'_>, run: &Run) -> bool {
    run.stop.is_none()
        && !run.exclusive_node
        && run.mig.is_none()
        && run.gpu_milli.0 > 0
        && !epoch.state.claims.contains(&run.job)
}

/// The room that a run's job would have at a place.
pub(super) fn berth_of(run: &Run, place: &Candidate) -> Berth {
    Berth {
        pool: place.pool.pool.clone(),
        nodes: place.nodes.clone(),
        cpu_milli: run.cpu_milli,
        memory_mib: run.memory_mib,
        scratch_gib: run.scratch_gib,
    }
}

/// Holds the room and tells the run to stop. Says whether it was running.
pub(super) fn move_run(epoch: &mut Epoch<'_>, id: &RunId, cause: StopCause, berth: Berth) -> bool {
    if !migrate_run(epoch, id, cause, Some(berth.pool.clone())) {
        return false;
    }
    let Some(run) = epoch.state.runs.get(id) else { return false };
    let (job, gpu_milli) = (run.job.clone(), run.gpu_milli.0);
    epoch.index.claim(epoch.state, &job, Claim { berth: Some(berth), gpu_milli, ..Claim::default() });
    true
}

/// Places a job whose run has stopped to be moved in the room that is held for it. What is held is given up either way.
pub(super) fn go_on(epoch: &mut Epoch<'_>, id: &JobId) -> bool {
    let Some(berth) = epoch.state.claims.get(id).and_then(|claim| claim.berth.clone()) else { return false };
    epoch.index.give_up_claim(epoch.state, id);
    let Some(spec) = epoch.state.spec(id) else { return false };
    match place_at(epoch.state, epoch.index, id, &berth.pool, &berth.nodes) {
        Ok(candidate) => {
            place(epoch, id, &spec, &candidate, None, false);
            true
        }
        Err(_) => false,
    }
}

/// Gives up room that is held on a node which no longer has it.
pub(super) fn check_node(epoch: &mut Epoch<'_>, id: &NodeId) {
    let Some(used) = epoch.index.uses.get(id).filter(|used| !used.berths.is_empty()) else { return };
    let has_it = epoch.state.nodes.get(id).is_some_and(|node| {
        let report = node.report.as_ref().filter(|_| node.state == NodeState::Ready && !node.gone);
        report.is_some_and(|report| {
            let mut gpus = used.berths.values().flatten().flat_map(|replica| &replica.gpus);
            gpus.all(|gpu| report.gpus.iter().any(|own| own.index == *gpu))
                && used.cpu_milli <= report.cpu_milli.0
                && used.memory_mib <= report.memory_mib.0
                && used.scratch_gib <= report.scratch_gib.0
        })
    });
    if !has_it {
        let jobs: Vec<JobId> = used.berths.keys().cloned().collect();
        jobs.iter().for_each(|job| epoch.index.give_up_claim(epoch.state, job));
    }
}

/// Gives up room that is held at a site which has no power for it.
pub(super) fn give_up_at(epoch: &mut Epoch<'_>, site: &SiteId) {
    let there = |pool| {
        let pool = epoch.state.pools.get(pool).and_then(|pool| pool.declared.as_ref());
        pool.is_none_or(|pool| pool.site == *site)
    };
    let held =
        epoch.state.claims.iter().filter(|(_, claim)| claim.berth.as_ref().is_some_and(|held| there(&held.pool)));
    let jobs: Vec<JobId> = held.map(|(job, _)| job.clone()).collect();
    jobs.iter().for_each(|job| epoch.index.give_up_claim(epoch.state, job));
}
