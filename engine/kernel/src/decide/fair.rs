//! Weighted dominant-resource fairness between tenants (Ghodsi and others, "Dominant Resource Fairness", NSDI 2011).

use std::collections::{BTreeMap, BTreeSet};

use solyx_schemas::ids::TenantId;
use solyx_schemas::units::TimeUs;

use super::Epoch;
use crate::decay::{Average, charged, served};
use crate::queue::Turn;

/// Tenants that have somebody in line, by how well they are served: from the top of the tree of tenants down, the branch with the
/// least weighted dominant share is gone into, of equal ones that with the earliest turn; a tenant's own jobs are a branch beside
/// those below it. Only what a decision has changed is compared anew.
#[derive(Default)]
pub(super) struct Tree {
    /// Branches below a tenant, or at the top.
    below: BTreeMap<Option<TenantId>, Below>,
    /// Where each branch stands.
    standing: BTreeMap<Branch, (Standing, Turn)>,
}

/// Branches side by side, by how well they are served, and by turn.
#[derive(Default)]
struct Below {
    by_share: BTreeSet<(Standing, Turn, Branch)>,
    by_turn: BTreeSet<(Turn, Branch)>,
}

/// What is compared at a level of the tree of tenants.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Branch {
    /// A tenant with all that are below it.
    Family(TenantId),
    /// A tenant's own jobs, beside those of the tenants below it.
    Own(TenantId),
}

/// By when somebody in a branch is owed to run again, whether the branch is beyond its quota, then its weighted share.
type Standing = (TimeUs, bool, i128);

impl Tree {
    /// The tenant that is served least.
    pub fn least_served(&self) -> Option<&TenantId> {
        let mut above = None;
        loop {
            match &self.below.get(&above)?.by_share.first()?.2 {
                Branch::Family(tenant) => above = Some(tenant.clone()),
                Branch::Own(tenant) => return Some(tenant),
            }
        }
    }

    /// A tenant's first job in line, or what it and those above it are served, has changed.
    pub fn refresh(&mut self, epoch: &Epoch<'_>, tenant: &TenantId, first: Option<Turn>) {
        self.put(epoch, Some(tenant), Branch::Own(tenant.clone()), first);
        let lineage: Vec<&TenantId> = epoch.state.lineage(tenant).collect();
        for (level, family) in lineage.iter().enumerate() {
            let below = self.below.get(&Some((*family).clone()));
            let first = below.and_then(|below| below.by_turn.first()).map(|(turn, _)| *turn);
            self.put(epoch, lineage.get(level + 1).copied(), Branch::Family((*family).clone()), first);
        }
    }

    fn put(&mut self, epoch: &Epoch<'_>, above: Option<&TenantId>, branch: Branch, first: Option<Turn>) {
        let below = self.below.entry(above.cloned()).or_default();
        if let Some((standing, turn)) = self.standing.remove(&branch) {
            below.by_share.remove(&(standing, turn, branch.clone()));
            below.by_turn.remove(&(turn, branch.clone()));
        }
        let Some(turn) = first else { return };
        let (beyond, share) = standing(epoch, &branch);
        let standing = (turn.recover_by(), beyond, share);
        below.by_share.insert((standing, turn, branch.clone()));
        below.by_turn.insert((turn, branch.clone()));
        self.standing.insert(branch, (standing, turn));
    }
}

impl Branch {
    fn tenant(&self) -> &TenantId {
        match self {
            Self::Family(tenant) | Self::Own(tenant) => tenant,
        }
    }
}

/// Whether a branch is beyond a quota that has a weight of its own for what is beyond, and its share by weight. Within such a quota
/// it goes before all others (as NVIDIA's KAI and Run:ai have it); beyond, only that part of its share counts, by that weight.
fn standing(epoch: &Epoch<'_>, branch: &Branch) -> (bool, i128) {
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
fn dominant_share(epoch: &Epoch<'_>, branch: &Branch) -> (i128, i128) {
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
