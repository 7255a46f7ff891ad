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
use crate::rows::limit;

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
    'classes: for class in classes {
        while let Some((tenant, shape, job)) = next(epoch, &pass, class) {
            if pass.promise.is_some() {
                pass.depth += 1;
                if pass.depth > depth_max {
                    break 'classes;
                }
            }
            match try_start(epoch, &job, pass.promise.as_ref()) {
                Outcome::Left => {}
                Outcome::Waits(limit) => waits(epoch, &mut pass, tenant, shape, &job, limit),
            }
        }
    }
    // Whoever has not been told anything yet hears what keeps its line, or that it lies too deep.
    for job in std::mem::take(&mut epoch.index.queue.fresh) {
        let line = epoch.index.queue.line_of(&job);
        let known = line.and_then(|line| pass.blocked.get(&line)).cloned();
        epoch.tell(&job, &known.unwrap_or_else(|| limit(LimitKind::Depth)), None);
    }
}

fn waits(epoch: &mut Epoch<'_>, pass: &mut Pass, tenant: TenantId, shape: Shape, job: &JobId, limit: Limit) {
    let mut earliest = None;
    let capacity = matches!(
        limit.kind,
        LimitKind::Gpus
            | LimitKind::Cpu
            | LimitKind::Memory
            | LimitKind::Scratch
            | LimitKind::FabricDomain
            | LimitKind::Draining
    );
    if capacity && pass.promise.is_none() {
        pass.promise = promise::earliest_start(epoch, job);
        earliest = pass.promise.as_ref().map(|promise| promise.start);
    }
    epoch.tell(job, &limit, earliest);
    // Behind the promise a shorter job of the same shape may fit where this one would not, and a deadline is one's own.
    if matches!(limit.kind, LimitKind::Backfill | LimitKind::Deadline | LimitKind::Price) {
        pass.tried.insert(job.clone());
    } else {
        pass.blocked.insert((tenant, shape), limit);
    }
}

/// The next job to try: of the tenant with the least weighted dominant share its earliest arrival.
fn next(epoch: &Epoch<'_>, pass: &Pass, class: i64) -> Option<(TenantId, Shape, JobId)> {
    let mut best: Option<(&TenantId, Shape, &JobId, crate::rows::Arrival)> = None;
    for (tenant, lines) in epoch.index.queue.tenants(class) {
        let open = lines.iter().filter(|(shape, _)| !pass.blocked.contains_key(&(tenant.clone(), **shape)));
        let first = open
            .filter_map(|(shape, line)| {
                let (arrival, job) = line.iter().find(|(_, job)| !pass.tried.contains(job))?;
                Some((*arrival, job, *shape))
            })
            .min();
        let Some((arrival, job, shape)) = first else { continue };
        let ahead = match &best {
            None => true,
            Some((other, _, _, other_arrival)) => {
                let order = compare_shares(epoch, tenant, other);
                order.then(arrival.cmp(other_arrival)).is_lt()
            }
        };
        if ahead {
            best = Some((tenant, shape, job, arrival));
        }
    }
    best.map(|(tenant, shape, job, _)| (tenant.clone(), shape, job.clone()))
}

/// Compares two tenants' weighted dominant shares without dividing.
fn compare_shares(epoch: &Epoch<'_>, a: &TenantId, b: &TenantId) -> std::cmp::Ordering {
    let (share_a, of_a) = dominant_share(epoch, a);
    let (share_b, of_b) = dominant_share(epoch, b);
    let weight =
        |tenant: &TenantId| i128::from(epoch.state.tenants.get(tenant).map_or(1_000, |t| t.weight_milli.0.max(1)));
    // share/of/weight: with both sides scaled by 1e9 the quotients keep more than enough digits for any fleet.
    let scaled = |share: i128, of: i128, weight: i128| share * 1_000_000_000_000 / of.max(1) / weight;
    scaled(share_a, of_a, weight(a)).cmp(&scaled(share_b, of_b, weight(b)))
}

/// The largest part of any resource that a tenant uses: as numerator and denominator.
fn dominant_share(epoch: &Epoch<'_>, tenant: &TenantId) -> (i128, i128) {
    let used = epoch.index.tenants.get(tenant).copied().unwrap_or_default();
    let total = epoch.index.total;
    let shares = [
        (i128::from(used.gpu_milli), i128::from(total.gpu_milli)),
        (i128::from(used.cpu_milli), i128::from(total.cpu_milli)),
        (i128::from(used.memory_mib), i128::from(total.memory_mib)),
    ];
    let larger = |a: &(i128, i128), b: &(i128, i128)| (a.0 * b.1.max(1)).cmp(&(b.0 * a.1.max(1)));
    shares.into_iter().max_by(larger).unwrap_or((0, 1))
}
