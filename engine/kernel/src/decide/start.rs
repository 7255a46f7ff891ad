//! Starting a job: the best of its places is taken, ordered, or waited for.

use solyx_schemas::events::decisions::{
    Alternative, CapacityLeaseOrdered, JobDeferred, JobPlaced, LeaseOrderCause, Limit, LimitKind, StopCause,
};
use solyx_schemas::ids::{GpuModelId, JobId, RefId, RunId};
use solyx_schemas::units::*;

use super::sets::{start_all, unstarted};
use super::stops::cancel_job;
use super::{Epoch, closing, deferral};
use crate::apart::shares;
use crate::budget::lease_of;
use crate::index::Timer;
use crate::order_rule::said_gpu_milli_s;
use crate::place::{Candidate, Places, Promises, ask_at, duration_of, most_replicas, places_of, scaled};
use crate::queue::set_of;
use crate::rows::*;
use crate::set_aside::in_force;

/// What became of an attempt to start a job.
pub enum Outcome {
    /// It no longer stands in line: it runs, waits for instances or a better hour, or has ended.
    Left,
    /// It waits on.
    Waits {
        /// The limit that binds.
        limit: Limit,
        /// Whether it would bind anybody who asks for the same.
        binds_all: bool,
        /// Whether it would start if what is in use became free.
        wants_room: bool,
    },
}

/// Tries to start a job now.
pub fn try_start(epoch: &mut Epoch<'_>, id: &JobId, promises: &mut Promises) -> Outcome {
    let Some(spec) = epoch.state.spec(id) else {
        return Outcome::Waits { limit: limit(LimitKind::Gpus), binds_all: true, wants_room: false };
    };
    if is_given_up(epoch, id, &spec) {
        return Outcome::Left;
    }
    if let Some(set) = together(epoch, id, &spec) {
        // Where one is given up the others no longer stand in line: they wait for another in its place.
        let is_late = |member: &&JobId| {
            let spec = epoch.state.spec(member);
            spec.is_some_and(|spec| is_given_up(epoch, member, &spec))
        };
        if set.iter().filter(is_late).count() > 0 {
            return Outcome::Left;
        }
        return match start_all(epoch, &set, promises) {
            Ok(()) => Outcome::Left,
            Err((limit, wants_room)) => Outcome::Waits { limit, binds_all: false, wants_room },
        };
    }
    let found = match epoch.state.jobs.get(id) {
        Some(job) => places_of(epoch.state, epoch.index, id, (job, &spec), promises),
        None => Places::default(),
    };
    let Some(best) = found.candidates.first() else {
        return Outcome::Waits { limit: found.binding(), binds_all: found.binds_all(), wants_room: found.wants_room() };
    };
    // Who has paid for the room does not wait for a better hour, nor does one for whom others were stopped.
    if best.draws.is_none()
        && !epoch.state.claims.contains(id)
        && let Some(later) = deferral::better_hour(epoch, id, &spec, best)
    {
        defer(epoch, id, &spec, best, &later);
        return Outcome::Left;
    }
    let runner_up = found.candidates.get(1).map(|other| Alternative {
        pool: other.pool.pool.clone(),
        start_us: other.start,
        terms: other.terms.clone(),
    });
    if best.new_instances > 0 {
        order_instances(epoch, id, &spec, best);
    } else {
        place(epoch, id, &spec, best, runner_up, !promises.is_empty());
        promises.note(&best.nodes, epoch.now.after(best.duration));
    }
    Outcome::Left
}

/// Cancels a job whose deadline can no longer be kept.
fn is_given_up(epoch: &mut Epoch<'_>, id: &JobId, spec: &Spec) -> bool {
    let Some(late) = hopeless(epoch, id, spec) else { return false };
    let detail = format!("its deadline can no longer be kept: {late} µs are missing");
    cancel_job(epoch, id, StopCause::Deadline, detail);
    true
}

/// The jobs that this one starts together with, itself among them.
pub(super) fn together(epoch: &Epoch<'_>, id: &JobId, spec: &Spec) -> Option<Vec<JobId>> {
    let key = set_of(spec)?;
    epoch.state.jobs.get(id).filter(|job| job.attempts == 0)?;
    Some(unstarted(epoch, &key).cloned().collect())
}

/// By how much a job would miss its deadline even if it started now on the fastest model it accepts, as large as it may be.
fn hopeless(epoch: &Epoch<'_>, id: &JobId, spec: &Spec) -> Option<i64> {
    let deadline = spec.deadline_us?;
    let job = epoch.state.jobs.get(id)?;
    let fastest = spec.models.iter().map(|choice| choice.speed_milli.0).max().unwrap_or(1_000);
    let fastest = scaled(fastest, most_replicas(spec), spec.gang.replicas_min.0);
    let (duration, known) = duration_of(epoch.state, spec, job, fastest);
    let end = epoch.now.after(duration);
    (known && end > deadline).then(|| end.since(deadline).0)
}

fn defer(epoch: &mut Epoch<'_>, id: &JobId, spec: &Spec, now: &Candidate, later: &deferral::Later) {
    let tenant = spec.tenant.clone();
    if let Some(job) = epoch.state.jobs.edit(id) {
        job.not_before_us = later.start;
        job.not_before_limit = Some(LimitKind::Deferral);
        job.deferred = true;
        job.told = Some(LimitKind::Deferral);
    }
    epoch.index.set_timer(later.start, Timer::Job(id.clone()));
    closing::open(epoch, id);
    epoch.index.queue.place(epoch.state, id);
    let currency = epoch.state.meta().currency.unwrap_or_default();
    epoch.say(JobDeferred {
        job: id.clone(),
        tenant,
        until_us: later.start,
        pool: now.pool.pool.clone(),
        currency,
        now_terms: now.terms.clone(),
        then_terms: later.terms.clone(),
        ..JobDeferred::default()
    });
}

/// Thousandths of GPUs that a job has on a model, as large as it has to be.
pub(super) fn amount(epoch: &mut Epoch<'_>, id: &JobId, spec: &Spec, model: &GpuModelId) -> GpuMilli {
    let job = epoch.state.jobs.get(id);
    let each = job.map_or(0, |job| ask_at(epoch.state, spec, job, epoch.index, model).gpu_milli());
    GpuMilli(spec.gang.replicas_min.0 * each)
}

/// The order of the instances that a job needs at a place.
pub(super) fn order_of(epoch: &mut Epoch<'_>, id: &JobId, spec: &Spec, best: &Candidate) -> Order {
    // What draws on a contract is paid for, and counts against no quota.
    let is_drawn = in_force(epoch.state, spec).is_some();
    let gpu_milli = if is_drawn { GpuMilli(0) } else { amount(epoch, id, spec, &best.model) };
    Order {
        pool: best.pool.pool.clone(),
        job: id.clone(),
        tenant: spec.tenant.clone(),
        project: spec.project.clone(),
        model: best.model.clone(),
        gpu_milli,
        pending: best.new_instances,
        came: Vec::new(),
        ordered_us: epoch.now,
    }
}

pub(super) fn order_instances(epoch: &mut Epoch<'_>, id: &JobId, spec: &Spec, best: &Candidate) {
    let order = epoch.next_output_id();
    let price = epoch.state.pools.get(&best.pool.pool).and_then(|pool| pool.price_at(epoch.now)).cloned();
    let Some(price) = price else { return };
    if let Some(job) = epoch.state.jobs.edit(id) {
        job.phase = Phase::Leasing;
        job.past_mut().order = Some(order.clone());
    }
    closing::open(epoch, id);
    epoch.index.queue.take_out(id);
    let row = order_of(epoch, id, spec, best);
    epoch.state.orders.insert(order, row);
    epoch.index.look_at_kept();
    epoch.say(CapacityLeaseOrdered {
        pool: best.pool.pool.clone(),
        instances: Count(best.new_instances),
        job: Some(id.clone()),
        cause: LeaseOrderCause::ForJob,
        price_micros_per_gpu_hour: price.price,
        currency: price.currency,
        until_us: Some(best.start.after(best.duration)),
        ..CapacityLeaseOrdered::default()
    });
    epoch.tell(id, &limit(LimitKind::LeasePending), Some(best.start));
}

/// The run that a job would have at a place.
pub(super) fn run_of(epoch: &Epoch<'_>, id: &JobId, spec: &Spec, best: &Candidate) -> Option<(RunId, Run)> {
    let lease_us = epoch.state.policy().run_lease();
    let job = epoch.state.jobs.get(id)?;
    let run_id = RunId::from(format!("{id}/{}", job.attempts + 1));
    let gang_milli: i64 = best.nodes.iter().map(|replica| replica.gpus.len() as i64 * replica.gpu_milli_each.0).sum();
    let run = Run {
        job: id.clone(),
        tenant: spec.tenant.clone(),
        project: spec.project.clone(),
        class: spec.class.clone(),
        preemptible: spec.preemptible,
        restore_us: spec.restore_us.unwrap_or_default(),
        said_gpu_milli_s: said_gpu_milli_s(epoch.state, spec),
        pool: best.pool.pool.clone(),
        site: best.pool.site.clone(),
        model: best.model.clone(),
        nodes: best.nodes.clone(),
        exclusive_node: spec.gang.exclusive_node,
        cpu_milli: spec.gang.cpu_milli,
        memory_mib: job.past().memory_mib.unwrap_or(spec.gang.memory_mib),
        scratch_gib: spec.gang.scratch_gib.unwrap_or_default(),
        gpu_milli: GpuMilli(gang_milli),
        placed_us: epoch.now,
        started_us: None,
        expected_end_us: epoch.now.after(best.duration),
        length_known: spec.expected_work_us.is_some(),
        // The start may take as long as the pool says before the first renewal can come.
        lease_until_us: epoch.now.after(lease_us).after(best.pool.start_delay_us),
        lease_us,
        speed_milli: Milli(best.speed),
        from_work_us: job.kept_work_us,
        durable_work_us: job.kept_work_us,
        durable_us: epoch.now,
        stop: None,
        stop_at_checkpoint: None,
        drain_by_us: None,
        draws: best.draws.clone(),
        yields_at_us: best.yields_at,
        mig: best.mig.clone(),
        gpu_of_one_tenant: shares(&spec.gang) && spec.gang.gpu_of_one_tenant.unwrap_or(false),
    };
    Some((run_id, run))
}

pub(super) fn place(
    epoch: &mut Epoch<'_>,
    id: &JobId,
    spec: &Spec,
    best: &Candidate,
    runner_up: Option<Alternative>,
    backfilled: bool,
) {
    let Some((run_id, run)) = run_of(epoch, id, spec, best) else { return };
    let Some(job) = epoch.state.jobs.get(id) else { return };
    let attempt = job.attempts + 1;
    let known = spec.expected_work_us.is_some();
    let end = run.expected_end_us;
    let plan = epoch.state.packing_plan().map(|plan| RefId::from(plan.event_id.as_str()));
    let owner = Owner::of(&run, lease_of(spec));
    let placed = JobPlaced {
        job: id.clone(),
        tenant: spec.tenant.clone(),
        run: run_id.clone(),
        attempt: Count(attempt),
        pool: run.pool.clone(),
        site: run.site.clone(),
        nodes: run.nodes.clone(),
        replicas: Count(run.nodes.len() as i64),
        gpu_milli: run.gpu_milli,
        gpu_model: run.model.clone(),
        speed_milli: run.speed_milli,
        from_work_us: run.from_work_us,
        start_us: epoch.now,
        expected_end_us: known.then_some(end),
        lease_until_us: run.lease_until_us,
        currency: epoch.state.meta().currency.unwrap_or_default(),
        terms: best.terms.clone(),
        runner_up,
        backfilled,
        plan,
        ..JobPlaced::default()
    };
    if let Some(job) = epoch.state.jobs.edit(id) {
        job.phase = Phase::Running;
        job.attempts = attempt;
        job.run = Some(run_id.clone());
        job.told = None;
        if let Some(past) = &mut job.past {
            past.order = None;
            past.recover_by_us = None;
        }
    }
    closing::settle(epoch, id, &run);
    epoch.index.queue.take_out(id);
    epoch.index.give_up_claim(epoch.state, id);
    epoch.state.entitled.remove(id);
    super::elastic::note_placed(epoch, id, spec);
    occupy_instances(epoch, id, &run);
    epoch.index.set_timer(run.lease_until_us, Timer::Run(run_id.clone()));
    if !epoch.state.budgets.is_empty() {
        epoch.state.owners.insert(run_id.clone(), owner);
    }
    crate::decay::note(epoch.state, epoch.index, &run.tenant);
    let draws = run.draws.clone();
    if run.mig.is_some() {
        epoch.divided.insert(run_id.clone());
    }
    epoch.state.runs.insert(run_id.clone(), run);
    if let Some(run) = epoch.state.runs.get(&run_id) {
        epoch.index.hold(epoch.state, &run_id, run, 1);
    }
    if let Some(draw) = &draws {
        epoch.index.set_aside.answered(draw);
    }
    epoch.say(placed);
}

/// Leased instances that a run takes are no longer idle; others that were waited for by the same job are free for anyone.
fn occupy_instances(epoch: &mut Epoch<'_>, id: &JobId, run: &Run) {
    epoch.index.free_instances(epoch.state, id);
    for replica in &run.nodes {
        let leased = epoch.state.nodes.get(&replica.node).is_some_and(|node| node.lease.is_some());
        if leased && let Some(lease) = epoch.state.nodes.edit(&replica.node).and_then(|row| row.lease.as_mut()) {
            lease.idle_since_us = None;
            epoch.index.clear_timer(&Timer::Instance(replica.node.clone()));
        }
    }
}
