//! Who starts: by priority class, then the tenant with the least weighted dominant share (Ghodsi and others, "Dominant
//! Resource Fairness", NSDI 2011), then arrival. The first gang that does not fit is promised its earliest start, and what
//! comes after may start only if it does not delay it (EASY backfill; Lifka, "The ANL/IBM SP Scheduling System", 1995).

use std::collections::{BTreeMap, BTreeSet};

use solyx_schemas::events::decisions::{Limit, LimitKind};
use solyx_schemas::ids::{JobId, TenantId};

use super::start::{Outcome, try_start};
use super::{Epoch, promise};
use crate::place::Promise;
use crate::queue::Shape;
use crate::rows::{Arrival, limit};

/// What one pass has found out so far.
#[derive(Default)]
struct Pass {
    /// Lines that need not be asked again, and why.
    blocked: BTreeMap<(TenantId, Shape), Limit>,
    /// Jobs tried without their line being blocked.
    tried: BTreeSet<JobId>,
    /// The first gang that did not fit.
    promise: Option<Promise>,
    /// Jobs tried after it.
    depth: i64,
}

/// One pass over all who wait.
pub fn pass(epoch: &mut Epoch<'_>) {
    let mut pass = Pass::default();
    let depth_max = epoch.state.policy().backfill_depth();
    let classes: Vec<i64> = epoch.index.queue.classes().collect();
    let promised = epoch.state.meta().promised.clone();
    'classes: for class in classes {
        // Whoever has a promise keeps it while shares turn: it goes first in its class.
        let mut first = promised.as_ref().and_then(|job| epoch.index.queue.in_line(job, class));
        while let Some((tenant, shape, job)) = first.take().or_else(|| next(epoch, &pass, class)) {
            if pass.promise.is_some() {
                pass.depth += 1;
                if pass.depth > depth_max {
                    break 'classes;
                }
            }
            match try_start(epoch, &job, pass.promise.as_mut()) {
                Outcome::Left => {}
                Outcome::Waits { limit, wants_room } => {
                    // What runs before it on its tenant's quota does not end a promise: it is to end by then.
                    let holds = promised.as_ref() == Some(&job) && limit.kind == LimitKind::Quota;
                    if (wants_room || holds) && pass.promise.is_none() {
                        pass.promise = promise::earliest_start(epoch, &job);
                    }
                    waits(epoch, &mut pass, tenant, shape, &job, limit);
                }
            }
        }
    }
    let now_promised = pass.promise.as_ref().map(|promise| promise.job.clone());
    if epoch.state.meta().promised != now_promised {
        epoch.state.meta_mut().promised = now_promised;
    }
    // Whoever has not been told anything yet hears what keeps its line, or that it lies too deep.
    for job in std::mem::take(&mut epoch.index.queue.fresh) {
        let line = epoch.index.queue.line_of(&job);
        let known = line.and_then(|line| pass.blocked.get(&line)).cloned();
        epoch.tell(&job, &known.unwrap_or_else(|| limit(LimitKind::Depth)), None);
    }
}

fn waits(epoch: &mut Epoch<'_>, pass: &mut Pass, tenant: TenantId, shape: Shape, job: &JobId, limit: Limit) {
    let own = pass.promise.as_ref().filter(|promise| promise.job == *job);
    let earliest = own.map(|promise| promise.start);
    epoch.tell(job, &limit, earliest);
    // Behind the promise a shorter job of the same shape may fit where this one would not, and a deadline is one's own.
    if matches!(limit.kind, LimitKind::Backfill | LimitKind::Deadline | LimitKind::Price) {
        pass.tried.insert(job.clone());
    } else {
        pass.blocked.insert((tenant, shape), limit);
    }
}

/// The first job of a tenant's lines.
struct First<'a> {
    /// The tenant and those above it, the topmost first.
    lineage: Vec<&'a TenantId>,
    arrival: Arrival,
    shape: Shape,
    job: &'a JobId,
}

/// The next job to try. From the top of the tree of tenants down, the branch with the least weighted dominant share is gone
/// into, of equal ones that with the earliest arrival; a tenant's own jobs are a branch beside those below it.
fn next(epoch: &Epoch<'_>, pass: &Pass, class: i64) -> Option<(TenantId, Shape, JobId)> {
    let mut left: Vec<First<'_>> = Vec::new();
    for (tenant, lines) in epoch.index.queue.tenants(class) {
        let open = lines.iter().filter(|(shape, _)| !pass.blocked.contains_key(&(tenant.clone(), **shape)));
        let first = open
            .filter_map(|(shape, line)| {
                let (arrival, job) = line.iter().find(|(_, job)| !pass.tried.contains(job))?;
                Some((*arrival, job, *shape))
            })
            .min();
        let Some((arrival, job, shape)) = first else { continue };
        let mut lineage: Vec<&TenantId> = epoch.state.lineage(tenant).collect();
        lineage.reverse();
        left.push(First { lineage, arrival, shape, job });
    }
    let mut level = 0;
    while left.len() > 1 {
        let mut best: Option<(Branch<'_>, Arrival)> = None;
        for first in &left {
            let branch = Branch::of(&first.lineage, level);
            best = match best {
                None => Some((branch, first.arrival)),
                Some((other, arrival)) if other == branch => Some((other, arrival.min(first.arrival))),
                Some((other, arrival)) => {
                    let order = compare_shares(epoch, branch, other).then(first.arrival.cmp(&arrival));
                    Some(if order.is_lt() { (branch, first.arrival) } else { (other, arrival) })
                }
            };
        }
        let (branch, _) = best?;
        left.retain(|first| Branch::of(&first.lineage, level) == branch);
        level += 1;
    }
    let First { lineage, shape, job, .. } = left.pop()?;
    Some(((*lineage.last()?).clone(), shape, job.clone()))
}

/// What is compared at a level of the tree of tenants.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Branch<'a> {
    /// A tenant with all that are below it.
    Family(&'a TenantId),
    /// A tenant's own jobs, beside those of the tenants below it.
    Own(&'a TenantId),
}

impl<'a> Branch<'a> {
    fn of(lineage: &[&'a TenantId], level: usize) -> Self {
        match (lineage.get(level), lineage.last()) {
            (Some(tenant), _) => Self::Family(tenant),
            (None, Some(tenant)) => Self::Own(tenant),
            (None, None) => unreachable!("a lineage begins with the tenant itself"),
        }
    }

    fn tenant(&self) -> &'a TenantId {
        match self {
            Self::Family(tenant) | Self::Own(tenant) => tenant,
        }
    }
}

/// Compares two branches' weighted dominant shares.
fn compare_shares(epoch: &Epoch<'_>, a: Branch<'_>, b: Branch<'_>) -> std::cmp::Ordering {
    // Share by weight: with both sides scaled by 1e12 the quotients keep more than enough digits for any fleet.
    let scaled = |branch: Branch<'_>| {
        let (share, of) = dominant_share(epoch, branch);
        let weight = epoch.state.tenants.get(branch.tenant()).map_or(1_000, |tenant| tenant.weight_milli.0.max(1));
        share * 1_000_000_000_000 / of.max(1) / i128::from(weight)
    };
    scaled(a).cmp(&scaled(b))
}

/// The largest part of any resource that a branch uses: as numerator and denominator.
fn dominant_share(epoch: &Epoch<'_>, branch: Branch<'_>) -> (i128, i128) {
    let used = match branch {
        Branch::Family(tenant) => epoch.index.families.get(tenant),
        Branch::Own(tenant) => epoch.index.tenants.get(tenant),
    };
    let used = used.copied().unwrap_or_default();
    let total = epoch.index.total;
    let shares = [
        (i128::from(used.gpu_milli), i128::from(total.gpu_milli)),
        (i128::from(used.cpu_milli), i128::from(total.cpu_milli)),
        (i128::from(used.memory_mib), i128::from(total.memory_mib)),
    ];
    let larger = |a: &(i128, i128), b: &(i128, i128)| (a.0 * b.1.max(1)).cmp(&(b.0 * a.1.max(1)));
    shares.into_iter().max_by(larger).unwrap_or((0, 1))
}
