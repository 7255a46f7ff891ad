//! What executors say of runs.

use solyx_schemas::events::runs::*;
use solyx_schemas::ids::{JobId, RunId};
use solyx_schemas::units::{TimeUs, WorkUs};

use crate::decide::{Trouble, cause_of};
use crate::epoch::Rejection;
use crate::index::{Index, Timer};
use crate::rows::{Job, Phase, Run};
use crate::state::State;

type Folded = Result<(), Rejection>;

fn held<'s>(state: &'s State, job: &JobId, run: &RunId) -> Result<&'s Run, Rejection> {
    state.runs.get(run).filter(|held| held.job == *job).ok_or_else(|| {
        Rejection::rejected(format!("field run: found {run}, expected a run of {job} that holds resources"))
    })
}

pub fn run_started(state: &mut State, e: &RunStarted) -> Folded {
    held(state, &e.job, &e.run)?;
    if let Some(run) = state.runs.edit(&e.run) {
        run.started_us = Some(e.started_us);
    }
    Ok(())
}

pub fn run_checkpointed(state: &mut State, index: &mut Index, e: &RunCheckpointed) -> Folded {
    held(state, &e.job, &e.run)?;
    if let Some(run) = state.runs.edit(&e.run) {
        run.durable_work_us = run.durable_work_us.max(e.work_us);
        run.durable_us = run.durable_us.max(e.durable_us);
        if run.stop_at_checkpoint.is_some() {
            index.suspect_runs.insert(e.run.clone());
        }
    }
    if state.elastic.contains(&e.job) {
        index.checkpointed.insert(e.run.clone());
    }
    if let Some(job) = state.jobs.edit(&e.job) {
        job.kept_work_us = job.kept_work_us.max(e.work_us);
        job.past_mut().checkpoint_site = Some(e.site.clone());
    }
    Ok(())
}

pub fn run_finished(state: &mut State, index: &mut Index, e: &RunFinished) -> Folded {
    held(state, &e.job, &e.run)?;
    end_run(state, index, &e.run);
    close_job(state, index, &e.job, Phase::Done);
    Ok(())
}

pub fn run_failed(state: &mut State, index: &mut Index, e: &RunFailed) -> Folded {
    held(state, &e.job, &e.run)?;
    let kept = e.durable_work_us;
    let run = end_run(state, index, &e.run);
    // Only a node that it was on can be to blame.
    let node = e.node.clone().filter(|node| run.nodes.iter().any(|replica| replica.node == *node));
    let (category, cause) = (e.category, cause_of(e.category));
    record_failure(state, index, &e.job, &run, Trouble { category, node, cause }, kept);
    Ok(())
}

pub fn run_stopped(state: &mut State, index: &mut Index, e: &RunStopped) -> Folded {
    held(state, &e.job, &e.run)?;
    let run = end_run(state, index, &e.run);
    let ends_job = run.stop.as_ref().is_some_and(|stop| stop.ends_job)
        || (run.stop.is_none() && e.reason == StopReason::Cancelled);
    if ends_job {
        close_job(state, index, &e.job, Phase::Ended);
        return Ok(());
    }
    let now = state.now();
    if let Some(job) = state.jobs.edit(&e.job) {
        job.kept_work_us = job.kept_work_us.max(e.kept_work_us);
        wait_again(job, now);
    }
    index.queue.place(state, &e.job);
    Ok(())
}

pub fn run_lease_renewed(state: &mut State, index: &mut Index, e: &RunLeaseRenewed) -> Folded {
    let before = held(state, &e.job, &e.run)?.lease_until_us;
    if e.lease_until_us > before {
        index.set_timer(e.lease_until_us, Timer::Run(e.run.clone()));
        if let Some(run) = state.runs.edit(&e.run) {
            run.lease_until_us = e.lease_until_us;
        }
    }
    Ok(())
}

/// Releases what a run holds.
pub fn end_run(state: &mut State, index: &mut Index, id: &RunId) -> Run {
    if let Some(run) = state.runs.get(id) {
        let tenant = run.tenant.clone();
        crate::decay::note(state, index, &tenant);
    }
    // Callers have looked the run up.
    let run = state.runs.remove(id).expect("the run is there");
    let used_gpu_milli_s = held_gpu_milli_s(&run, state.now());
    if let Some(job) = state.jobs.edit(&run.job) {
        job.used_gpu_milli_s = job.used_gpu_milli_s.saturating_add(used_gpu_milli_s);
    }
    index.clear_timer(&Timer::Run(id.clone()));
    if run.drain_by_us.is_some() {
        index.clear_timer(&Timer::Drain(id.clone()));
    }
    if run.stop.is_some() {
        index.note_stopped(&run.pool);
    }
    index.hold(state, id, &run, -1);
    let now = state.now();
    for replica in &run.nodes {
        let idle = index.uses.get(&replica.node).is_none_or(|used| used.runs.is_empty());
        let node = state.nodes.get(&replica.node);
        if idle && node.is_some_and(|node| node.lease.is_some()) {
            if let Some(lease) = state.nodes.edit(&replica.node).and_then(|node| node.lease.as_mut()) {
                lease.idle_since_us = Some(now);
            }
            index.idle_instances.insert(replica.node.clone());
        }
        if node_is_gone(state, &replica.node) && idle {
            index.suspects.insert(replica.node.clone());
        }
    }
    index.changed = true;
    run
}

/// GPU time that a run has held by now, thousandths of a GPU × s.
pub fn held_gpu_milli_s(run: &Run, now: TimeUs) -> i64 {
    (now.since(run.placed_us).0 / 1_000_000).saturating_mul(run.gpu_milli.0)
}

fn node_is_gone(state: &State, node: &solyx_schemas::ids::NodeId) -> bool {
    state.nodes.get(node).is_some_and(|node| node.gone)
}

/// Ends a job for good; those that wait for it are looked at again.
pub fn close_job(state: &mut State, index: &mut Index, id: &JobId, phase: Phase) {
    crate::budget::settle_job(state, id);
    if let Some(job) = state.jobs.edit(id) {
        job.phase = phase;
        job.run = None;
        job.past = None;
    }
    index.queue.take_out(id);
    index.clear_timer(&Timer::Job(id.clone()));
    index.clear_timer(&Timer::Avoided(id.clone()));
    index.free_instances(state, id);
    index.give_up_claim(state, id);
    state.entitled.remove(id);
    index.changed |= state.clearing.remove(id).is_some();
    state.elastic.remove(id);
    if let Some(spec) = state.spec(id) {
        for dependency in &spec.depends_on {
            index.dependents.remove(&(dependency.job.clone(), id.clone()));
        }
        state.specs.remove(id);
        if let Some(key) = crate::queue::set_of(&spec) {
            index.queue.leave_set(state, id, &key);
            index.look_at_kept();
        }
    }
    let behind = index.dependents.range((id.clone(), JobId::default())..).take_while(|(on, _)| on == id);
    index.suspect_jobs.extend(behind.map(|(_, dependent)| dependent.clone()));
    index.changed = true;
}

/// Notes a failure; `decide` answers with a retry or the end of the job.
pub fn record_failure(state: &mut State, index: &mut Index, id: &JobId, run: &Run, trouble: Trouble, kept: WorkUs) {
    let done = run.durable_work_us.max(kept);
    let lost = WorkUs((expected_work_done(run, state.now()).0 - done.0).max(0));
    let lost_cost = crate::cost::worth_of(state, index, run, lost);
    // A run that was only to go on elsewhere or with another number of replicas failed by itself.
    let resized = state.elastic.get(id).is_some_and(|row| row.goes_on.is_some())
        || state.claims.get(id).is_some_and(|claim| claim.berth.is_some());
    index.failed.push(crate::decide::Failure {
        job: id.clone(),
        run: crate::decide::run_id_of(state, id),
        category: trouble.category,
        node: trouble.node,
        started: run.started_us.is_some(),
        cause: trouble.cause,
        kept: done,
        pool: run.pool.clone(),
        lost,
        lost_cost,
        stopped_for: run.stop.clone().filter(|stop| stop.ends_job || !resized),
    });
    let now = state.now();
    if let Some(job) = state.jobs.edit(id) {
        job.kept_work_us = job.kept_work_us.max(done);
        wait_again(job, now);
    }
}

fn wait_again(job: &mut Job, now: TimeUs) {
    job.phase = Phase::Waiting;
    job.run = None;
    job.told = None;
    job.waiting_since_us = now;
}

/// Work a run should have done by now, from the job's beginning.
pub fn expected_work_done(run: &Run, now: TimeUs) -> WorkUs {
    let Some(started) = run.started_us else { return run.from_work_us };
    WorkUs(run.from_work_us.0.saturating_add((now.since(started).0 / 1_000).saturating_mul(run.speed_milli.0)))
}
