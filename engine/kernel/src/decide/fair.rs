//! Weighted dominant-resource fairness between tenants (Ghodsi and others, "Dominant Resource Fairness", NSDI 2011).

use solyx_schemas::ids::TenantId;

use super::Epoch;
use super::order::First;
use crate::decay::{Average, charged, served};
use crate::queue::Turn;

/// The job of the tenant that is served least. From the top of the tree of tenants down, the branch with the least weighted
/// dominant share is gone into, of equal ones that with the earliest turn; a tenant's own jobs are a branch beside those
/// below it.
pub(super) fn least_served<'a>(epoch: &Epoch<'a>, firsts: Vec<First<'a>>) -> Option<First<'a>> {
    if firsts.len() < 2 {
        return firsts.into_iter().next();
    }
    let mut left: Vec<(Vec<&TenantId>, First<'_>)> = Vec::new();
    for first in firsts {
        // The topmost first.
        let mut lineage: Vec<&TenantId> = epoch.state.lineage(first.tenant).collect();
        lineage.reverse();
        left.push((lineage, first));
    }
    let mut level = 0;
    while left.len() > 1 {
        let mut best: Option<(Branch<'_>, Turn)> = None;
        for (lineage, first) in &left {
            let branch = Branch::of(lineage, level);
            best = match best {
                None => Some((branch, first.turn)),
                Some((other, turn)) if other == branch => Some((other, turn.min(first.turn))),
                Some((other, turn)) => {
                    let order = compare_shares(epoch, branch, other).then(first.turn.cmp(&turn));
                    Some(if order.is_lt() { (branch, first.turn) } else { (other, turn) })
                }
            };
        }
        let (branch, _) = best?;
        left.retain(|(lineage, _)| Branch::of(lineage, level) == branch);
        level += 1;
    }
    left.pop().map(|(_, first)| first)
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
    standing(epoch, a).cmp(&standing(epoch, b))
}

/// Whether a branch is beyond a quota that has a weight of its own for what is beyond, and its share by weight. Within such a quota
/// it goes before all others (as NVIDIA's KAI and Run:ai have it); beyond, only that part of its share counts, by that weight.
fn standing(epoch: &Epoch<'_>, branch: Branch<'_>) -> (bool, i128) {
    let (share, of) = dominant_share(epoch, branch);
    // With shares scaled by 1e12 the quotients keep more than enough digits for any fleet.
    let share = share * 1_000_000_000_000 / of.max(1);
    let tenant = branch.tenant();
    let weight = epoch.state.tenants.get(tenant).map_or(1_000, |tenant| tenant.weight_milli.0.max(1));
    let quota = epoch.state.quotas.get(&(tenant.clone(), None, None));
    let Some((guaranteed, over_weight)) = quota.and_then(|quota| {
        let over_weight = quota.over_quota_weight_milli?;
        matches!(branch, Branch::Family(_)).then_some((quota.guaranteed_milli.0, over_weight.0.max(1)))
    }) else {
        return (true, share / i128::from(weight));
    };
    let used = epoch.index.families.get(tenant).map_or(0, |used| used.gpu_milli);
    if used < guaranteed {
        return (false, share / i128::from(weight));
    }
    let beyond = i128::from(used - guaranteed) * share / i128::from(used.max(1));
    (true, beyond / i128::from(over_weight))
}

/// The largest part of any resource that a branch uses, and has used as far as policy remembers: as numerator and denominator.
fn dominant_share(epoch: &Epoch<'_>, branch: Branch<'_>) -> (i128, i128) {
    let used = match branch {
        Branch::Family(tenant) => epoch.index.families.get(tenant),
        Branch::Own(tenant) => epoch.index.tenants.get(tenant),
    };
    let past = epoch.state.policy().half_life().map_or_else(Average::default, |half_life| {
        let served = served(epoch.state, epoch.index, branch.tenant(), half_life);
        if let Branch::Family(_) = branch { served.family } else { served.own }
    });
    let [gpu, cpu, memory] = charged(used.copied().unwrap_or_default(), past);
    let total = charged(epoch.index.total, Average::default());
    let shares = [(gpu, total[0]), (cpu, total[1]), (memory, total[2])];
    let larger = |a: &(i128, i128), b: &(i128, i128)| (a.0 * b.1.max(1)).cmp(&(b.0 * a.1.max(1)));
    shares.into_iter().max_by(larger).unwrap_or((0, 1))
}
