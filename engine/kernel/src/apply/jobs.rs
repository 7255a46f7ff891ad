//! What tenants ask for.

use std::collections::BTreeSet;

use solyx_schemas::epochs::Position;
use solyx_schemas::events::decisions::LimitKind;
use solyx_schemas::events::jobs::*;
use solyx_schemas::ids::JobId;
use solyx_schemas::units::TimeUs;

use crate::epoch::Rejection;
use crate::index::{Index, Timer};
use crate::rows::{Arrival, Job, Phase};
use crate::state::State;
use crate::table::Packed;

type Folded = Result<(), Rejection>;

pub fn job_requested(state: &mut State, index: &mut Index, position: Position, e: &JobRequested) -> Folded {
    if state.jobs.contains(&e.job) {
        return Err(Rejection::rejected(format!(
            "field job: found {}, expected a job that was not requested before",
            e.job
        )));
    }
    if let Some(waited_for) = closes_a_ring(state, index, e) {
        return Err(Rejection::rejected(format!(
            "field depends_on: found {waited_for}, which waits for {} itself, expected a job that does not",
            e.job
        )));
    }
    let arrival = Arrival { epoch: state.meta().next_epoch, position };
    let now = state.now();
    let not_before_us = e.not_before_us.unwrap_or(TimeUs(0));
    let job = Job { arrival, requested_us: now, waiting_since_us: now, not_before_us, hold: e.hold, ..Job::default() };
    for dependency in &e.depends_on {
        index.dependents.insert((dependency.job.clone(), e.job.clone()));
    }
    if not_before_us > now {
        index.set_timer(not_before_us, Timer::Job(e.job.clone()));
    }
    state.specs.insert(e.job.clone(), Packed::of(e));
    state.jobs.insert(e.job.clone(), Box::new(job));
    if crate::apart::asks(state, e) {
        index.note_apart(state, &e.tenant);
    }
    if let Some(key) = crate::queue::set_of(e) {
        index.queue.join_set(state, &e.job, key);
    }
    crate::frequencies::count(state, e);
    index.requested.insert((arrival, e.job.clone()));
    index.changed = true;
    Ok(())
}

/// Jobs that are looked at for one that waits for the job that is to wait for it; longer chains are let in.
const CHAIN_MAX: usize = 10_000;

/// The job named by a request that waits, itself or over others, for the job that is requested: none of them could ever start.
fn closes_a_ring<'e>(state: &State, index: &Index, e: &'e JobRequested) -> Option<&'e JobId> {
    let of = |job: &JobId| (job.clone(), JobId::default());
    index.dependents.range(of(&e.job)..).next().filter(|(job, _)| *job == e.job)?;
    let mut seen: BTreeSet<JobId> = BTreeSet::new();
    e.depends_on.iter().map(|dependency| &dependency.job).find(|first| {
        let mut ahead = vec![(*first).clone()];
        while let Some(job) = ahead.pop() {
            if job == e.job {
                return true;
            }
            if seen.len() < CHAIN_MAX && seen.insert(job.clone()) {
                let spec = state.jobs.get(&job).filter(|row| !row.is_over()).and_then(|_| state.spec(&job));
                ahead.extend(spec.into_iter().flat_map(|spec| spec.depends_on).map(|dependency| dependency.job));
            }
        }
        false
    })
}

/// The job of a request about a living job.
fn living<'s>(state: &'s State, id: &JobId) -> Result<&'s Job, Rejection> {
    match state.jobs.get(id) {
        Some(job) if !job.is_over() => Ok(job),
        Some(_) => Err(Rejection::rejected(format!("field job: found {id}, which has ended, expected a living job"))),
        None => Err(Rejection::rejected(format!("field job: found {id}, expected a job that was requested"))),
    }
}

pub fn job_request_amended(state: &mut State, index: &mut Index, e: &JobRequestAmended) -> Folded {
    let job = living(state, &e.job)?;
    if !matches!(job.phase, Phase::Requested | Phase::Waiting) {
        return Err(Rejection::rejected(format!(
            "field job: found {}, which no longer waits, expected a waiting job",
            e.job
        )));
    }
    let Some(before) = state.spec(&e.job) else { return living(state, &e.job).map(|_| ()) };
    let mut amended = before.clone();
    amended.class = e.class.clone().unwrap_or(amended.class);
    amended.deadline_us = e.deadline_us.or(amended.deadline_us);
    amended.budget = e.budget.clone().or(amended.budget);
    amended.gang.replicas_min = e.replicas_min.unwrap_or(amended.gang.replicas_min);
    amended.gang.replicas_max = e.replicas_max.unwrap_or(amended.gang.replicas_max);
    solyx_schemas::events::Event::from(amended.clone())
        .check()
        .map_err(|error| Rejection::rejected(error.to_string()))?;
    if let Some((_, detail)) = crate::place::contradiction(&amended) {
        return Err(Rejection::rejected(detail));
    }
    crate::budget::hold_amended(state, index, &amended).map_err(|limit| {
        let (budget, left) = (limit.subject.unwrap_or_default(), limit.available.unwrap_or_default());
        let asked = limit.asked.unwrap_or_default();
        Rejection::rejected(format!(
            "its price: found {asked} micros, expected at most {left}, which budget {budget} has left"
        ))
    })?;
    // What was lost is owed, not more than that.
    let asks_more = amended.class != before.class || amended.gang.replicas_min > before.gang.replicas_min;
    if asks_more && let Some(past) = state.jobs.edit(&e.job).and_then(|job| job.past.as_mut()) {
        past.recover_by_us = None;
    }
    state.specs.insert(e.job.clone(), Packed::of(&amended));
    let now = state.now();
    if let Some(job) = state.jobs.edit(&e.job).filter(|job| job.not_before_limit == Some(LimitKind::Deferral)) {
        // The better hour was chosen for what it was.
        (job.not_before_us, job.not_before_limit, job.deferred) = (now, None, false);
        index.clear_timer(&Timer::Job(e.job.clone()));
    }
    index.queue.place(state, &e.job);
    index.changed = true;
    Ok(())
}

pub fn job_hold_set(state: &mut State, index: &mut Index, e: &JobHoldSet) -> Folded {
    living(state, &e.job)?;
    if let Some(job) = state.jobs.edit(&e.job) {
        job.hold = e.action == HoldAction::Hold;
    }
    index.queue.place(state, &e.job);
    index.changed = true;
    Ok(())
}

pub fn job_cancel_requested(state: &mut State, index: &mut Index, e: &JobCancelRequested) -> Folded {
    living(state, &e.job)?;
    if let Some(job) = state.jobs.edit(&e.job) {
        job.past_mut().cancel = Some(format!("asked by {}: {}", e.actor, e.reason));
    }
    index.suspect_jobs.insert(e.job.clone());
    index.changed = true;
    Ok(())
}
