//! Telling runs to stop. What a run holds stays held until it has stopped.

use solyx_schemas::events::common::Sum;
use solyx_schemas::events::decisions::{JobCancelled, JobMigrated, JobPreempted, JobResized, StopCause};
use solyx_schemas::ids::{JobId, PoolId, RunId};
use solyx_schemas::units::{Count, TimeUs, WorkUs};

use super::Epoch;
use crate::apply::expected_work_done;
use crate::cost::worth_of;
use crate::index::Timer;
use crate::rows::{GoesOn, Phase, Run, Stop};

/// A run that is told to stop, and what that costs.
struct Stopped {
    job: JobId,
    pool: PoolId,
    replicas: Count,
    by_us: TimeUs,
    kept_work_us: WorkUs,
    lost_work_us: WorkUs,
    lost_cost: Option<Sum>,
}

/// Marks a run that was not told yet; its job goes on once it has stopped.
fn stop(epoch: &mut Epoch<'_>, id: &RunId, cause: StopCause) -> Option<Stopped> {
    let run = epoch.state.runs.get(id).filter(|run| run.stop.is_none())?;
    let by_us = epoch.now.after(epoch.state.policy().grace());
    let (lost_work_us, lost_cost) = lost(epoch, run, run.durable_work_us);
    let stopped = Stopped {
        job: run.job.clone(),
        pool: run.pool.clone(),
        replicas: Count(run.nodes.len() as i64),
        by_us,
        kept_work_us: run.durable_work_us,
        lost_work_us,
        lost_cost,
    };
    mark(epoch, id, &stopped.job, Stop { cause, by_us, ends_job: false });
    Some(stopped)
}

/// Work that is lost beyond what is kept, and what it had cost.
fn lost(epoch: &Epoch<'_>, run: &Run, kept: WorkUs) -> (WorkUs, Option<Sum>) {
    let lost = WorkUs((expected_work_done(run, epoch.now).0 - kept.0).max(0));
    (lost, worth_of(epoch.state, epoch.index, run, lost))
}

/// Tells a run to stop; its job waits again once it has. Says whether it was running.
pub fn stop_run(epoch: &mut Epoch<'_>, id: &RunId, cause: StopCause, for_job: Option<JobId>) -> bool {
    let moves = matches!(cause, StopCause::Drain | StopCause::AttestationExpired | StopCause::Residency);
    if moves {
        return migrate_run(epoch, id, cause, None);
    }
    let Some(stopped) = stop(epoch, id, cause) else { return false };
    epoch.say(JobPreempted {
        job: stopped.job,
        run: id.clone(),
        from_pool: stopped.pool,
        cause,
        for_job,
        stop_by_us: stopped.by_us,
        kept_work_us: stopped.kept_work_us,
        lost_work_us: stopped.lost_work_us,
        lost_cost: stopped.lost_cost,
        ..JobPreempted::default()
    });
    true
}

/// Tells a run to stop so that its job goes on elsewhere: in a pool where room is held for it, or wherever its turn comes. Says
/// whether it was running.
pub fn migrate_run(epoch: &mut Epoch<'_>, id: &RunId, cause: StopCause, to_pool: Option<PoolId>) -> bool {
    let Some(stopped) = stop(epoch, id, cause) else { return false };
    epoch.say(JobMigrated {
        job: stopped.job,
        run: id.clone(),
        cause,
        from_pool: stopped.pool,
        to_pool,
        stop_by_us: stopped.by_us,
        kept_work_us: stopped.kept_work_us,
        lost_work_us: stopped.lost_work_us,
        lost_cost: stopped.lost_cost,
        ..JobMigrated::default()
    });
    true
}

/// Tells a run to stop so that its job goes on with `to` replicas, of which so many are kept for it. Says whether it was running.
pub fn resize_run(epoch: &mut Epoch<'_>, id: &RunId, to: i64, kept: i64, reason: String) -> bool {
    let Some(stopped) = stop(epoch, id, StopCause::Priority) else { return false };
    let now = epoch.now;
    if let Some(row) = epoch.state.elastic.edit(&stopped.job) {
        row.resized_us = Some(now);
        row.room_us = None;
        row.goes_on = Some(GoesOn { pool: stopped.pool, replicas: kept });
    }
    epoch.say(JobResized {
        job: stopped.job,
        run: id.clone(),
        from_replicas: stopped.replicas,
        to_replicas: Count(to),
        reason,
        kept_work_us: stopped.kept_work_us,
        lost_work_us: stopped.lost_work_us,
        lost_cost: stopped.lost_cost,
        ..JobResized::default()
    });
    true
}

/// Ends a job for good: at once when nothing runs, otherwise once its run has stopped.
pub fn cancel_job(epoch: &mut Epoch<'_>, id: &JobId, cause: StopCause, detail: String) {
    let Some(job) = epoch.state.jobs.get(id) else { return };
    let run = job.run.clone();
    let (mut from_pool, mut kept_work_us, mut lost_work_us, mut lost_cost) =
        (None, job.kept_work_us, WorkUs::ZERO, None);
    if let Some(row) = run.as_ref().and_then(|run| epoch.state.runs.get(run)) {
        from_pool = Some(row.pool.clone());
        kept_work_us = kept_work_us.max(row.durable_work_us);
        (lost_work_us, lost_cost) = lost(epoch, row, kept_work_us);
    }
    match &run {
        Some(run) => {
            let by_us = epoch.now.after(epoch.state.policy().grace());
            mark(epoch, run, id, Stop { cause, by_us, ends_job: true });
        }
        None => crate::apply::close_job(epoch.state, epoch.index, id, Phase::Ended),
    }
    epoch.say(JobCancelled {
        job: id.clone(),
        run,
        from_pool,
        cause,
        detail,
        kept_work_us,
        lost_work_us,
        lost_cost,
        ..JobCancelled::default()
    });
}

fn mark(epoch: &mut Epoch<'_>, id: &RunId, job: &JobId, stop: Stop) {
    if let Some(run) = epoch.state.runs.edit(id) {
        if run.stop.is_none() {
            epoch.index.note_stopping(&run.pool);
        }
        let before = run.clone();
        run.stop = Some(stop);
        run.stop_at_checkpoint = None;
        if run.drain_by_us.take().is_some() {
            epoch.index.clear_timer(&Timer::Drain(id.clone()));
        }
        epoch.index.note_told(epoch.state, &before);
    }
    if let Some(job) = epoch.state.jobs.edit(job) {
        job.phase = Phase::Stopping;
        if let Some(past) = &mut job.past {
            past.cancel = None;
        }
    }
}
