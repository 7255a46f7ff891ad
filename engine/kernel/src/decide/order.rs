//! Who starts: by priority class, then as the order rule says (`order_rule.rs`).
//!
//! Under rules that promise starts, the first gang that does not fit is promised its earliest start, and what comes after may
//! start only if it does not delay it (EASY backfill; Lifka, "The ANL/IBM SP Scheduling System", 1995). Under the others
//! whatever fits starts, and room is made for those who wait too long (`preempt.rs`).

use std::collections::{BTreeMap, BTreeSet};

use solyx_schemas::events::decisions::{Limit, LimitKind};
use solyx_schemas::ids::{JobId, TenantId};

use super::heads::Heads;
use super::share::Shares;
use super::start::{Outcome, try_start};
use super::{Epoch, fair, promise};
use crate::order_rule::OrderRule;
use crate::place::Promise;
use crate::queue::{Fit, Shape, Turn};
use crate::rows::limit;

/// What one pass has found out so far.
#[derive(Default)]
pub(super) struct Pass {
    /// Lines that need not be asked again, and why.
    blocked: BTreeMap<(TenantId, Shape), Limit>,
    /// What there is no room for, whoever asks.
    full: BTreeMap<Fit, Limit>,
    /// Jobs tried without their line being blocked.
    tried: BTreeSet<JobId>,
    /// The first gang that did not fit.
    promise: Option<Promise>,
    /// Jobs tried after it.
    depth: i64,
    /// What tenants have of their promised shares, under rules that look at it.
    shares: Option<Shares>,
}

/// The first job of a tenant's lines that need not be passed over.
pub(super) struct First<'a> {
    /// The tenant.
    pub tenant: &'a TenantId,
    /// Its turn.
    pub turn: Turn,
    /// What it asks for.
    pub shape: Shape,
    /// The job.
    pub job: &'a JobId,
}

/// One pass over all who wait.
pub fn pass(epoch: &mut Epoch<'_>) {
    let rule = epoch.state.policy().order_rule();
    let mut pass = Pass::default();
    if epoch.state.policy().promises_shares() {
        pass.shares = Some(Shares::of(epoch));
    }
    claims(epoch, &mut pass);
    let depth_max = epoch.state.policy().backfill_depth();
    let classes: Vec<i64> = epoch.index.queue.classes().collect();
    let promised = epoch.state.meta().promised.clone();
    'classes: for class in classes {
        // Whoever has a promise keeps it while shares turn: it goes first in its class.
        let mut first = promised.as_ref().and_then(|job| epoch.index.queue.in_line(job, class));
        let mut heads = Heads::of(&epoch.index.queue, class, &pass.tried);
        while let Some((tenant, shape, job)) = first.take().or_else(|| next(epoch, &pass, rule, &mut heads)) {
            let Some((_, turn)) = epoch.index.queue.turn_of(&job) else { break };
            if pass.promise.is_some() {
                pass.depth += 1;
                if pass.depth > depth_max {
                    break 'classes;
                }
            }
            match try_start(epoch, &job, pass.promise.as_mut()) {
                Outcome::Left => pass.left(epoch, &tenant, shape, &job),
                Outcome::Waits { limit, binds_all, wants_room } => {
                    // What runs before it on its tenant's quota does not end a promise: it is to end by then.
                    let holds = promised.as_ref() == Some(&job) && limit.kind == LimitKind::Quota;
                    if rule.promises_starts() && (wants_room || holds) && pass.promise.is_none() {
                        pass.promise = promise::earliest_start(epoch, &job);
                    }
                    waits(epoch, &mut pass, tenant.clone(), shape, &job, limit, binds_all);
                }
            }
            heads.go_on(&epoch.index.queue, &tenant, (turn, job, shape), &pass.tried);
        }
    }
    let now_promised = pass.promise.as_ref().map(|promise| promise.job.clone());
    if epoch.state.meta().promised != now_promised {
        epoch.state.meta_mut().promised = now_promised;
    }
    // Whoever has not been told anything yet hears what keeps its line, or that it lies too deep.
    for job in std::mem::take(&mut epoch.index.queue.fresh) {
        let line = epoch.index.queue.line_of(&job);
        let known = line.and_then(|line| {
            let fit = epoch.index.queue.common(line.1).fit;
            pass.blocked.get(&line).or_else(|| pass.full.get(&fit)).cloned()
        });
        epoch.tell(&job, &known.unwrap_or_else(|| limit(LimitKind::Depth)), None);
    }
}

/// Those that room is made for take it first, as soon as it is free. A claim ends when it is used, and when what was told to
/// stop for it is gone and the room is still not enough.
fn claims(epoch: &mut Epoch<'_>, pass: &mut Pass) {
    let jobs: Vec<JobId> = epoch.state.claims.iter().map(|(job, _)| job.clone()).collect();
    for job in jobs {
        let Some((tenant, shape)) = epoch.index.queue.line_of(&job) else {
            epoch.index.give_up_claim(epoch.state, &job);
            continue;
        };
        match try_start(epoch, &job, None) {
            Outcome::Left => pass.left(epoch, &tenant, shape, &job),
            Outcome::Waits { limit, .. } => {
                epoch.tell(&job, &limit, None);
                let victims = epoch.state.claims.get(&job).map(|claim| claim.victims.clone()).unwrap_or_default();
                if !victims.iter().any(|run| epoch.state.runs.contains(run)) {
                    epoch.index.give_up_claim(epoch.state, &job);
                }
                pass.tried.insert(job);
            }
        }
    }
}

impl Pass {
    /// Takes note of a job that no longer stands in line.
    fn left(&mut self, epoch: &Epoch<'_>, tenant: &TenantId, shape: Shape, job: &JobId) {
        let runs = epoch.state.jobs.get(job).is_some_and(|job| job.run.is_some());
        if let Some(shares) = self.shares.as_mut().filter(|_| runs) {
            shares.take(tenant, epoch.index.queue.common(shape).gpu_milli);
        }
    }

    fn passes_over(&self, epoch: &Epoch<'_>, tenant: &TenantId, shape: Shape) -> bool {
        self.full.contains_key(&epoch.index.queue.common(shape).fit)
            || self.blocked.contains_key(&(tenant.clone(), shape))
    }
}

fn waits(
    epoch: &mut Epoch<'_>,
    pass: &mut Pass,
    tenant: TenantId,
    shape: Shape,
    job: &JobId,
    limit: Limit,
    binds_all: bool,
) {
    let own = pass.promise.as_ref().filter(|promise| promise.job == *job);
    let earliest = own.map(|promise| promise.start);
    epoch.tell(job, &limit, earliest);
    // Behind the promise a shorter job of the same shape may fit where this one would not, and a deadline is one's own.
    if matches!(limit.kind, LimitKind::Backfill | LimitKind::Deadline | LimitKind::Price) {
        pass.tried.insert(job.clone());
    } else if binds_all && epoch.index.earmarked.is_empty() {
        // Instances that are kept for one job may hold it where there is no room for another.
        pass.full.insert(epoch.index.queue.common(shape).fit, limit);
    } else {
        pass.blocked.insert((tenant, shape), limit);
    }
}

/// The next job to try.
fn next(epoch: &Epoch<'_>, pass: &Pass, rule: OrderRule, heads: &mut Heads) -> Option<(TenantId, Shape, JobId)> {
    // What the promised share still holds may not be the first in line.
    let firsts = heads.firsts(pass.shares.is_some(), |tenant, shape| pass.passes_over(epoch, tenant, shape));
    let first = match (rule, &pass.shares) {
        (OrderRule::Classic, _) => fair::least_served(epoch, firsts)?,
        (_, Some(shares)) => firsts.into_iter().min_by_key(|first| {
            let gpu_milli = epoch.index.queue.common(first.shape).gpu_milli;
            (!shares.holds(first.tenant, gpu_milli), first.turn, first.job)
        })?,
        (_, None) => firsts.into_iter().min_by_key(|first| (first.turn, first.job))?,
    };
    Some((first.tenant.clone(), first.shape, first.job.clone()))
}
