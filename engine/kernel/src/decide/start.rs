//! Starting a job: the best of its places is taken, ordered, or waited for.

use solyx_schemas::events::decisions::{
    Alternative, CapacityLeaseOrdered, JobDeferred, JobPlaced, LeaseOrderCause, Limit, LimitKind, StopCause,
};
use solyx_schemas::ids::{JobId, RefId, RunId};
use solyx_schemas::units::*;

use super::stops::cancel_job;
use super::{Epoch, deferral};
use crate::index::Timer;
use crate::order_rule::said_gpu_milli_s;
use crate::place::{Candidate, Promise, duration_of, places};
use crate::rows::*;

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
pub fn try_start(epoch: &mut Epoch<'_>, id: &JobId, promise: Option<&mut Promise>) -> Outcome {
    if let Some(late) = hopeless(epoch, id) {
        let detail = format!("its deadline can no longer be kept: {late} µs are missing");
        cancel_job(epoch, id, StopCause::Deadline, detail);
        return Outcome::Left;
    }
    let found = places(epoch.state, epoch.index, id, promise.as_deref());
    let Some(best) = found.candidates.first() else {
        return Outcome::Waits { limit: found.binding(), binds_all: found.binds_all(), wants_room: found.wants_room() };
    };
    if let Some(later) = deferral::better_hour(epoch, id, best) {
        defer(epoch, id, best, &later);
        return Outcome::Left;
    }
    let runner_up = found.candidates.get(1).map(|other| Alternative {
        pool: other.pool.pool.clone(),
        start_us: other.start,
        terms: other.terms.clone(),
    });
    if best.new_instances > 0 {
        order_instances(epoch, id, best);
    } else {
        place(epoch, id, best, runner_up, promise.is_some());
        if let Some(promise) = promise {
            promise.note(&best.nodes, epoch.now.after(best.duration));
        }
    }
    Outcome::Left
}

/// By how much a job would miss its deadline even if it started now on the fastest model it accepts.
fn hopeless(epoch: &Epoch<'_>, id: &JobId) -> Option<i64> {
    let (job, spec) = (epoch.state.jobs.get(id)?, epoch.state.spec(id)?);
    let deadline = spec.deadline_us?;
    let fastest = spec.models.iter().map(|choice| choice.speed_milli.0).max().unwrap_or(1_000);
    let (duration, known) = duration_of(epoch.state, &spec, job, fastest);
    let end = epoch.now.after(duration);
    (known && end > deadline).then(|| end.since(deadline).0)
}

fn defer(epoch: &mut Epoch<'_>, id: &JobId, now: &Candidate, later: &deferral::Later) {
    let tenant = epoch.state.spec(id).map(|spec| spec.tenant.clone()).unwrap_or_default();
    if let Some(job) = epoch.state.jobs.edit(id) {
        job.not_before_us = later.start;
        job.not_before_limit = Some(LimitKind::Deferral);
        job.deferred = true;
        job.told = Some(LimitKind::Deferral);
    }
    epoch.index.set_timer(later.start, Timer::Job(id.clone()));
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

fn order_instances(epoch: &mut Epoch<'_>, id: &JobId, best: &Candidate) {
    let order = epoch.next_output_id();
    let price = epoch.state.pools.get(&best.pool.pool).and_then(|pool| pool.price_at(epoch.now)).cloned();
    let Some(price) = price else { return };
    if let Some(job) = epoch.state.jobs.edit(id) {
        job.phase = Phase::Leasing;
        job.order = Some(order.clone());
    }
    epoch.index.queue.take_out(id);
    let row = Order {
        pool: best.pool.pool.clone(),
        job: id.clone(),
        pending: best.new_instances,
        came: Vec::new(),
        ordered_us: epoch.now,
    };
    epoch.state.orders.insert(order, row);
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

fn place(epoch: &mut Epoch<'_>, id: &JobId, best: &Candidate, runner_up: Option<Alternative>, backfilled: bool) {
    let policy = epoch.state.policy();
    let lease_us = policy.run_lease();
    let plan = epoch.state.packing_plan().map(|plan| RefId::from(plan.event_id.as_str()));
    let (Some(job), Some(spec)) = (epoch.state.jobs.get(id), &epoch.state.spec(id)) else { return };
    let attempt = job.attempts + 1;
    let run_id = RunId::from(format!("{id}/{attempt}"));
    let known = spec.expected_work_us.is_some();
    let end = epoch.now.after(best.duration);
    let gang_milli: i64 = best.nodes.iter().map(|replica| replica.gpus.len() as i64 * replica.gpu_milli_each.0).sum();
    let run = Run {
        job: id.clone(),
        tenant: spec.tenant.clone(),
        project: spec.project.clone(),
        class: spec.class.clone(),
        preemptible: spec.preemptible,
        restore_us: spec.restore_us.unwrap_or_default(),
        said_gpu_milli_s: said_gpu_milli_s(spec),
        pool: best.pool.pool.clone(),
        site: best.pool.site.clone(),
        model: best.model.clone(),
        nodes: best.nodes.clone(),
        exclusive_node: spec.gang.exclusive_node,
        cpu_milli: spec.gang.cpu_milli,
        memory_mib: job.memory_mib.unwrap_or(spec.gang.memory_mib),
        scratch_gib: spec.gang.scratch_gib.unwrap_or_default(),
        gpu_milli: GpuMilli(gang_milli),
        placed_us: epoch.now,
        started_us: None,
        expected_end_us: end,
        length_known: known,
        // The start may take as long as the pool says before the first renewal can come.
        lease_until_us: epoch.now.after(lease_us).after(best.pool.start_delay_us),
        lease_us,
        speed_milli: Milli(best.speed),
        from_work_us: job.kept_work_us,
        durable_work_us: job.kept_work_us,
        durable_us: epoch.now,
        stop: None,
        stop_at_checkpoint: None,
    };
    let owner = Owner {
        job: id.clone(),
        tenant: spec.tenant.clone(),
        project: spec.project.clone(),
        class: spec.class.clone(),
        model: best.model.clone(),
    };
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
        job.order = None;
    }
    epoch.index.queue.take_out(id);
    epoch.index.give_up_claim(epoch.state, id);
    epoch.state.entitled.remove(id);
    occupy_instances(epoch, id, &run);
    epoch.index.set_timer(run.lease_until_us, Timer::Run(run_id.clone()));
    if !epoch.state.budgets.is_empty() {
        epoch.state.owners.insert(run_id.clone(), owner);
    }
    epoch.state.runs.insert(run_id.clone(), run.clone());
    epoch.index.hold(epoch.state, &run_id, &run, 1);
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
