//! What has to be answered before anything new starts: losses, failures, limits that dropped, budgets that ran out.

use solyx_schemas::events::capacity::{CapacityClass, PoolDeclared, ProviderState};
use solyx_schemas::events::decisions::{
    BudgetExhausted, BudgetScope, JobRequeued, LimitKind, NodeCordonOrdered, StopCause,
};
use solyx_schemas::events::jobs::FailureCategory;
use solyx_schemas::events::nodes::NodeState;
use solyx_schemas::events::policy::{ScopeKind, ScopeState};
use solyx_schemas::ids::*;
use solyx_schemas::units::{Count, TimeUs, WorkUs};

use super::stops::{cancel_job, stop_run};
use super::{Epoch, Failure, Trouble};
use super::{drain, moving, overcommit};
use crate::apply::{end_run, expected_work_done, record_failure};
use crate::budget::{budgets_of, is_covered, lease_of};
use crate::index::Timer;
use crate::rows::*;
use crate::state::State;

/// Sorts every waiting job anew after something was declared, or those that name a contract after one has changed.
pub fn redeclared(epoch: &mut Epoch<'_>) {
    let contracts = std::mem::take(&mut epoch.index.contracts_changed);
    let jobs: Vec<JobId> = match std::mem::take(&mut epoch.index.redeclared) {
        true => epoch.index.queue.jobs(),
        false if contracts => epoch.index.queue.namers.iter().cloned().collect(),
        false => return,
    };
    for id in jobs {
        epoch.index.queue.place(epoch.state, &id);
    }
    epoch.index.changed = true;
}

/// Counts what is held against budgets that were set, and lets go on what may.
pub fn budgets_set(epoch: &mut Epoch<'_>) {
    crate::budget::hold_anew(epoch.state, epoch.index);
    if epoch.index.redeclared && !epoch.index.budgets_touched.is_empty() {
        spare(epoch);
    }
}

/// Takes back that runs are to stop at their next checkpoint for a budget which has something left again.
fn spare(epoch: &mut Epoch<'_>) {
    let marked = epoch.state.runs.iter().filter(|(_, run)| run.stop_at_checkpoint == Some(StopCause::Budget));
    let spared = marked.filter(|(_, run)| {
        epoch.state.spec(&run.job).is_none_or(|spec| crate::budget::parking(epoch.state, &spec).is_none())
    });
    let spared: Vec<RunId> = spared.map(|(id, _)| id.clone()).collect();
    for id in spared {
        if let Some(run) = epoch.state.runs.edit(&id) {
            run.stop_at_checkpoint = run.drain_by_us.map(|_| StopCause::Drain);
        }
    }
}

/// Says exhausted budgets, and stops what they pay for if they are hard.
pub fn budgets(epoch: &mut Epoch<'_>) {
    for id in std::mem::take(&mut epoch.index.budgets_touched) {
        let in_force = |budget: &&Budget| crate::budget::is_in_force(&budget.set, epoch.now);
        let Some(budget) = epoch.state.budgets.get(&id).filter(in_force) else { continue };
        let (used, amount) = (budget.used_micros(), budget.set.amount.clone());
        let (set, hard) = (budget.set.clone(), budget.is_hard());
        if used < amount.micros.0 {
            continue;
        }
        if budget.exhausted {
            // What a sold lease paid for, and pays for no longer, stops like all else.
            if hard && !epoch.state.sold_leases.is_empty() {
                let leased = |(run, _): &(&RunId, &Run)| {
                    let lease = epoch.state.owners.get(*run).and_then(|owner| owner.lease.as_ref());
                    lease.is_some() && !is_covered(epoch.state, lease, epoch.now)
                };
                let runs = ids_of(epoch.state.runs.iter().filter(leased));
                stop_runs(epoch, &id, runs);
            }
            continue;
        }
        if let Some(budget) = epoch.state.budgets.edit(&id) {
            budget.exhausted = true;
        }
        let scope = match (&set.job, &set.project) {
            (Some(_), _) => BudgetScope::Job,
            (None, Some(_)) => BudgetScope::Project,
            (None, None) => BudgetScope::Tenant,
        };
        let used = solyx_schemas::events::common::Sum {
            currency: amount.currency,
            micros: solyx_schemas::units::MoneyMicros(used),
        };
        let period = Name::from(crate::rating::Month::of(epoch.now).to_string());
        let tenant = set.tenant.clone();
        epoch.say(BudgetExhausted {
            budget: id.clone(),
            scope,
            tenant,
            amount,
            used,
            period,
            ..BudgetExhausted::default()
        });
        if hard {
            stop_budgeted(epoch, &id);
        }
    }
}

/// Stops what a budget pays for, and keeps out who waits on it.
fn stop_budgeted(epoch: &mut Epoch<'_>, budget: &RefId) {
    let runs = ids_of(epoch.state.runs.iter());
    stop_runs(epoch, budget, runs);
    for job in epoch.index.queue.jobs() {
        if pays_for(epoch, budget, &job) {
            epoch.index.queue.place(epoch.state, &job);
            // Others may have been kept off what it was promised.
            epoch.index.changed = true;
        }
    }
}

/// Whether a budget pays for what a job uses now, which no sold lease does then.
fn pays_for(epoch: &Epoch<'_>, budget: &RefId, job: &JobId) -> bool {
    let spec = epoch.state.spec(job).filter(|spec| !is_covered(epoch.state, lease_of(spec), epoch.now));
    spec.is_some_and(|spec| budgets_of(epoch.state, &spec).iter().any(|(id, _)| *id == budget))
}

/// Runs that are not told to stop for a budget yet, with their jobs.
fn ids_of<'r>(runs: impl Iterator<Item = (&'r RunId, &'r Run)>) -> Vec<(RunId, JobId)> {
    let told = |run: &Run| run.stop.is_some() || run.stop_at_checkpoint == Some(StopCause::Budget);
    runs.filter(|(_, run)| !told(run)).map(|(id, run)| (id.clone(), run.job.clone())).collect()
}

/// Stops those of these runs that a budget pays for.
fn stop_runs(epoch: &mut Epoch<'_>, budget: &RefId, runs: Vec<(RunId, JobId)>) {
    for (id, job) in runs {
        if !pays_for(epoch, budget, &job) {
            continue;
        }
        let checkpoints = epoch.state.spec(&job).is_some_and(|spec| spec.checkpoint_interval_us.is_some());
        if checkpoints {
            if let Some(run) = epoch.state.runs.edit(&id).filter(|run| run.stop.is_none()) {
                // Whoever may stay on a node after all stops for this all the same.
                run.stop_at_checkpoint = Some(StopCause::Budget);
            }
        } else {
            stop_run(epoch, &id, StopCause::Budget, None);
        }
    }
}

/// Cancellations, and jobs whose time or dependency has come.
pub fn jobs(epoch: &mut Epoch<'_>) {
    for id in std::mem::take(&mut epoch.index.suspect_jobs) {
        let Some(job) = epoch.state.jobs.get(&id) else { continue };
        if job.is_over() {
            continue;
        }
        if let Some(detail) = job.past().cancel.clone() {
            cancel_job(epoch, &id, StopCause::Asked, detail);
            continue;
        }
        let failed = epoch.state.spec(&id).and_then(|spec| {
            spec.depends_on.into_iter().find(|dependency| {
                let ended = epoch.state.jobs.get(&dependency.job).is_some_and(|job| job.phase == Phase::Ended);
                ended && dependency.condition == solyx_schemas::events::jobs::DependencyCondition::Ok
            })
        });
        if let Some(dependency) = failed {
            let detail = format!("{} ended without finishing", dependency.job);
            cancel_job(epoch, &id, StopCause::Dependency, detail);
            continue;
        }
        forget_avoided(epoch, &id);
        epoch.index.queue.place(epoch.state, &id);
        epoch.index.changed = true;
    }
}

/// Nodes that failed a job long enough ago may have it again.
fn forget_avoided(epoch: &mut Epoch<'_>, id: &JobId) {
    let over = |job: &Job| !job.past().avoided.is_empty() && job.past().avoided_until_us <= epoch.now;
    if epoch.state.jobs.get(id).is_some_and(|job| over(job))
        && let Some(job) = epoch.state.jobs.edit(id)
    {
        job.past_mut().avoided.clear();
    }
}

/// Answers failures: a retry with its wait, or the end of the job.
pub fn failures(epoch: &mut Epoch<'_>) {
    for failure in std::mem::take(&mut epoch.index.failed) {
        if failure.stopped_for.as_ref().is_some_and(|stop| stop.ends_job) {
            crate::apply::close_job(epoch.state, epoch.index, &failure.job, Phase::Ended);
            continue;
        }
        answer(epoch, failure);
    }
}

/// Notes by when a job that the fleet has lost is owed to run again, if it names a recovery time.
pub(super) fn owe_recovery(job: &mut Job, spec: &Spec, now: TimeUs) {
    let Some(within) = spec.recovery.as_ref().and_then(|recovery| recovery.rto_us) else { return };
    job.past_mut().recover_by_us.get_or_insert(now.after(within));
}

fn answer(epoch: &mut Epoch<'_>, failure: Failure) {
    let Some(spec) = epoch.state.spec(&failure.job) else { return };
    let place = FailureCategory::ALL.iter().position(|c| *c == failure.category).unwrap_or(0);
    let said =
        spec.retry_limits.iter().find(|limit| limit.category == failure.category).map(|limit| limit.retries_max.0);
    // What the fleet does to a job never uses up its retries unless the job says so itself.
    let default = match failure.category {
        FailureCategory::SpotReclaim | FailureCategory::Node | FailureCategory::Provider => i64::MAX,
        FailureCategory::UserCode => 0,
        _ => epoch.state.policy().retries_max(),
    };
    let most = said.unwrap_or(default);
    let backoff = epoch.state.policy().retry_backoff();
    let avoided_for = epoch.state.policy().lemon_window();
    let memory_max = spec.gang.memory_max_mib;
    let out_of_memory = failure.category == FailureCategory::OutOfMemory;
    let avoids = matches!(failure.category, FailureCategory::Gpu | FailureCategory::Node);
    let node_avoided = failure.node.clone().filter(|_| avoids);
    let now = epoch.now;
    let Some(job) = epoch.state.jobs.edit(&failure.job) else { return };
    let failures = &mut job.past_mut().failures;
    failures.resize(FailureCategory::ALL.len(), 0);
    failures[place] += 1;
    let count = failures[place];
    let attempts = Count(job.attempts);
    if count > most {
        let detail = format!("{} failures of category {}, {most} retries allowed", count, failure.category);
        cancel_job(epoch, &failure.job, StopCause::Failed, detail);
        if let Some(node) = node_avoided {
            count_failure(epoch, &node);
        }
        return;
    }
    let own_fault = default != i64::MAX;
    let wait = match own_fault {
        true => backoff.0.saturating_mul(1 << (count - 1).clamp(0, 16)),
        // Whoever cannot even start them would be given the job again at once, for ever.
        false if !failure.started && failure.node.is_none() && failure.cause == StopCause::Failed => backoff.0,
        false => 0,
    };
    let retry_at_us = TimeUs(now.0.saturating_add(wait));
    job.not_before_us = job.not_before_us.max(retry_at_us);
    job.not_before_limit = (wait > 0).then_some(LimitKind::RetryBackoff);
    let past = job.past_mut();
    if let Some(node) = &node_avoided {
        if !past.avoided.contains(node) {
            past.avoided.push(node.clone());
        }
        past.avoided_until_us = now.after(avoided_for);
        epoch.index.set_timer(past.avoided_until_us, Timer::Avoided(failure.job.clone()));
    }
    if out_of_memory {
        past.memory_mib = memory_max.or(past.memory_mib);
    }
    // Who was to leave for somebody else has lost nothing to the fleet.
    let gave_way = |stop: &Stop| matches!(stop.cause, StopCause::Priority | StopCause::Budget);
    if !own_fault && !failure.stopped_for.as_ref().is_some_and(gave_way) {
        owe_recovery(job, &spec, now);
    }
    let not_before = job.not_before_us;
    if wait > 0 {
        epoch.index.set_timer(not_before, Timer::Job(failure.job.clone()));
    }
    epoch.index.queue.place(epoch.state, &failure.job);
    epoch.index.changed = true;
    let cause = failure.stopped_for.as_ref().map_or(failure.cause, |stop| stop.cause);
    epoch.say(JobRequeued {
        job: failure.job.clone(),
        run: failure.run,
        from_pool: failure.pool,
        cause,
        category: Some(failure.category),
        attempts,
        node_avoided,
        retry_at_us,
        kept_work_us: failure.kept,
        lost_work_us: failure.lost,
        lost_cost: failure.lost_cost,
        ..JobRequeued::default()
    });
    if let Some(node) = failure.node.filter(|_| avoids) {
        count_failure(epoch, &node);
    }
}

/// The most times of failures that evidence against a node names.
const EVIDENCE_MAX: usize = 8;

/// How many failures are too many, and since when they count.
fn lemon_rule(epoch: &Epoch<'_>) -> Option<(i64, TimeUs)> {
    let policy = epoch.state.policy();
    let most = policy.as_set()?.lemon_failures_max.filter(|most| most.0 > 0)?;
    Some((most.0, TimeUs((epoch.now.0 - policy.lemon_window().0).max(0))))
}

/// Holds a failure against a node. Whatever fails on it at one instant failed for one reason.
fn count_failure(epoch: &mut Epoch<'_>, id: &NodeId) {
    let Some((_, since)) = lemon_rule(epoch) else { return };
    let now = epoch.now;
    let Some(node) = epoch.state.nodes.edit(id).filter(|node| !node.gone) else { return };
    node.failures.retain(|at| *at >= since);
    if node.failures.last() != Some(&now) {
        node.failures.push(now);
    }
    cordon_lemon(epoch, id);
}

/// Cordons a node that takes work and has failed too often, with the evidence.
fn cordon_lemon(epoch: &mut Epoch<'_>, id: &NodeId) {
    let Some((most, since)) = lemon_rule(epoch) else { return };
    let is_lemon = |node: &Node| {
        let failures = node.failures.iter().filter(|at| **at >= since).count() as i64;
        failures >= most && !node.gone && node.state == NodeState::Ready
    };
    if !epoch.state.nodes.get(id).is_some_and(is_lemon) {
        return;
    }
    let Some(node) = epoch.state.nodes.edit(id) else { return };
    node.failures.retain(|at| *at >= since);
    let failures = node.failures.len() as i64;
    let latest = &node.failures[node.failures.len().saturating_sub(EVIDENCE_MAX)..];
    let times: Vec<String> = latest.iter().map(|at| at.0.to_string()).collect();
    node.state = NodeState::Cordoned;
    epoch.index.refresh_node(epoch.state, id);
    let evidence =
        format!("{failures} failures of runs on it, {most} are too many; the latest at {} µs", times.join(", "));
    let failures = Count(failures);
    epoch.say(NodeCordonOrdered {
        node: id.clone(),
        failures,
        since_us: since,
        reason: "too many failures".to_owned(),
        evidence,
        ..NodeCordonOrdered::default()
    });
}

/// Runs that are certainly over although nobody said so: on a node that is gone or fenced, or past their lease. They come before
/// every order to stop, since nobody is left to follow one.
pub fn losses(epoch: &mut Epoch<'_>) {
    let lost_nodes: Vec<NodeId> = epoch.index.suspects.iter().cloned().collect();
    for id in lost_nodes {
        let Some(node) = epoch.state.nodes.get(&id).filter(|node| node.is_lost()) else { continue };
        let (category, cause) = loss_of(epoch.state, node);
        let runs: Vec<RunId> =
            epoch.index.uses.get(&id).map(|used| used.runs.iter().cloned().collect()).unwrap_or_default();
        for run in runs {
            lose_run(epoch, &run, Trouble { category, node: Some(id.clone()), cause });
        }
    }
    let now = epoch.now;
    let passed = |run: &&RunId| epoch.state.runs.get(*run).is_some_and(|run| run.lease_until_us <= now);
    let passed: Vec<RunId> = epoch.index.suspect_runs.iter().filter(passed).cloned().collect();
    for run in passed {
        let (category, cause) = (FailureCategory::Node, StopCause::LeasePassed);
        lose_run(epoch, &run, Trouble { category, node: None, cause });
    }
}

/// Nodes that are lost, drained, no longer attested, or report less than is used on them.
pub fn nodes(epoch: &mut Epoch<'_>) {
    for id in std::mem::take(&mut epoch.index.suspects) {
        moving::check_node(epoch, &id);
        // One that was fenced may have come back.
        cordon_lemon(epoch, &id);
        let Some(node) = epoch.state.nodes.get(&id) else { continue };
        let runs: Vec<RunId> =
            epoch.index.uses.get(&id).map(|used| used.runs.iter().cloned().collect()).unwrap_or_default();
        if node.is_lost() {
            forget_if_empty(epoch, &id);
            continue;
        }
        let leaving = is_drained(epoch, &id);
        let expired = node.attested_until_us.is_none_or(|until| until <= epoch.now);
        for run in &runs {
            let needs = |run: &RunId| {
                let job = epoch.state.runs.get(run).map(|run| run.job.clone());
                job.and_then(|job| epoch.state.spec(&job)).is_some_and(|spec| spec.attestation_required)
            };
            if expired && needs(run) {
                stop_run(epoch, run, StopCause::AttestationExpired, None);
            } else if leaving || epoch.state.runs.get(run).is_some_and(|run| drain::is_of_drained(epoch.state, run)) {
                drain::ask_to_leave(epoch, run);
            } else if !is_on_drained(epoch, run) {
                drain::may_stay(epoch, run);
            }
        }
        overcommit::shrunk(epoch, &id);
    }
}

/// Whether a node, its pool or its site is drained.
fn is_drained(epoch: &Epoch<'_>, id: &NodeId) -> bool {
    let (pool, site) = place_of(epoch, id);
    let drained = |kind, scope: &str| epoch.state.scope(kind, scope) == ScopeState::Drained;
    epoch.state.nodes.get(id).is_some_and(|node| node.state == NodeState::Draining)
        || drained(ScopeKind::Pool, pool.as_str())
        || drained(ScopeKind::Site, site.as_str())
}

/// Whether any node of a run that waits for its checkpoint is still drained, or who it is of.
fn is_on_drained(epoch: &Epoch<'_>, id: &RunId) -> bool {
    let run = epoch.state.runs.get(id).filter(|run| run.drain_by_us.is_some());
    run.is_none_or(|run| {
        run.nodes.iter().any(|replica| is_drained(epoch, &replica.node)) || drain::is_of_drained(epoch.state, run)
    })
}

fn place_of(epoch: &Epoch<'_>, id: &NodeId) -> (PoolId, SiteId) {
    let pool = epoch.state.nodes.get(id).and_then(|node| Some(node.report.as_ref()?.pool.clone())).unwrap_or_default();
    let site = epoch.state.pools.get(&pool).and_then(|p| Some(p.declared.as_ref()?.site.clone())).unwrap_or_default();
    (pool, site)
}

fn forget_if_empty(epoch: &mut Epoch<'_>, id: &NodeId) {
    let empty = epoch.index.uses.get(id).is_none_or(|used| used.runs.is_empty());
    if empty && epoch.state.nodes.get(id).is_some_and(|node| node.gone) {
        epoch.index.forget_earmark(epoch.state, id);
        epoch.state.nodes.remove(id);
        epoch.index.clear_timer(&Timer::Attestation(id.clone()));
        epoch.index.uses.remove(id);
        epoch.index.refresh_node(epoch.state, id);
    }
}

/// What runs on a lost node are lost to: its provider that is down, the market that a spot instance went back to, or the node.
fn loss_of(state: &State, node: &Node) -> (FailureCategory, StopCause) {
    let pool = node.report.as_ref().and_then(|report| state.pools.get(&report.pool)?.declared.as_ref());
    let is_down = |pool: &&PoolDeclared| {
        state.providers.get(&pool.provider).is_some_and(|provider| provider.state == ProviderState::Down)
    };
    match pool {
        Some(pool) if is_down(&pool) => (FailureCategory::Provider, StopCause::SiteLost),
        Some(pool) if node.lease.is_some() && pool.class == CapacityClass::Spot => {
            (FailureCategory::SpotReclaim, StopCause::SpotReclaimed)
        }
        _ => (FailureCategory::Node, StopCause::NodeLost),
    }
}

/// What a run holds is released, and its job waits again.
fn lose_run(epoch: &mut Epoch<'_>, id: &RunId, trouble: Trouble) {
    let Some(run) = epoch.state.runs.get(id) else { return };
    let job = run.job.clone();
    let run = end_run(epoch.state, epoch.index, id);
    record_failure(epoch.state, epoch.index, &job, &run, trouble, WorkUs(0));
}

/// Runs that were to stop at their next checkpoint.
pub fn runs(epoch: &mut Epoch<'_>) {
    for id in std::mem::take(&mut epoch.index.suspect_runs) {
        let Some(run) = epoch.state.runs.get(&id) else { continue };
        if let Some(cause) = run.stop_at_checkpoint {
            let since_order = expected_work_done(run, epoch.now).0 >= run.durable_work_us.0;
            if since_order && cause == StopCause::Drain {
                epoch.index.leaving.insert(id);
            } else if since_order {
                stop_run(epoch, &id, cause, None);
            }
        }
    }
}

/// Says why jobs wait that are kept out of the line, when that is news.
pub fn notices(epoch: &mut Epoch<'_>) {
    for id in std::mem::take(&mut epoch.index.queue.notices) {
        if let Some(limit) = epoch.index.queue.parked_now(epoch.state, &id) {
            let contract = epoch.index.queue.awaits(&id);
            let earliest =
                epoch.state.jobs.get(&id).map(|job| job.not_before_us).filter(|at| *at > epoch.now).or(contract);
            epoch.tell(&id, &limit, earliest);
        }
    }
}
