//! The promised share of a tenant: the part of the fleet that it gets back within minutes whoever has borrowed it.

use std::collections::BTreeMap;

use solyx_schemas::ids::{JobId, TenantId};

use super::Epoch;

/// Thousandths of a GPU that even the smallest share is.
const LEAST_MILLI: i64 = 1_000;

/// Promised shares and what is taken of them, as far as this pass has got.
pub struct Shares {
    promised: BTreeMap<TenantId, i64>,
    taken: BTreeMap<TenantId, i64>,
}

impl Shares {
    /// The shares as they are. What is told to stop is no longer taken, what room is made for is.
    pub fn of(epoch: &Epoch<'_>) -> Self {
        let mut taken: BTreeMap<TenantId, i64> =
            epoch.index.tenants.iter().map(|(tenant, used)| (tenant.clone(), used.gpu_milli)).collect();
        // What was paid for counts against no share.
        for (tenant, drawn) in &epoch.index.drawn {
            *taken.entry(tenant.clone()).or_default() -= drawn;
        }
        for (job, claim) in epoch.state.claims.iter() {
            // Who is moved has as much as before.
            let moved = |job: &JobId| epoch.state.claims.get(job).is_some_and(|claim| claim.berth.is_some());
            if moved(job) {
                continue;
            }
            for run in claim.victims.iter().filter_map(|run| epoch.state.runs.get(run)) {
                if run.draws.is_some() || moved(&run.job) {
                    continue;
                }
                *taken.entry(run.tenant.clone()).or_default() -= run.gpu_milli.0;
            }
            if let Some(spec) = epoch.state.spec(job).filter(|_| !epoch.index.queue.drawers.contains(job)) {
                *taken.entry(spec.tenant).or_default() += claim.gpu_milli;
            }
        }
        Self { promised: promised(epoch), taken }
    }

    /// What a tenant has or will have, thousandths of a GPU.
    pub fn taken(&self, tenant: &TenantId) -> i64 {
        self.taken.get(tenant).copied().unwrap_or(0)
    }

    /// Whether a tenant's promised share holds so much more.
    pub fn holds(&self, tenant: &TenantId, gpu_milli: i64) -> bool {
        self.taken(tenant) + gpu_milli <= self.promised(tenant)
    }

    /// Whether a tenant has more than its promised share, also once it has given so much back.
    pub fn borrows(&self, tenant: &TenantId, given_back_milli: i64) -> bool {
        self.taken(tenant) - given_back_milli > self.promised(tenant)
    }

    /// What all tenants have beyond their shares, thousandths of a GPU.
    pub fn borrowed(&self) -> i64 {
        self.taken.iter().map(|(tenant, taken)| (taken - self.promised(tenant)).max(0)).sum()
    }

    /// A tenant takes so much more, or gives it back when that is negative.
    pub fn take(&mut self, tenant: &TenantId, gpu_milli: i64) {
        *self.taken.entry(tenant.clone()).or_default() += gpu_milli;
    }

    /// What a tenant is promised, thousandths of a GPU.
    pub fn promised(&self, tenant: &TenantId) -> i64 {
        self.promised.get(tenant).copied().unwrap_or(LEAST_MILLI)
    }
}

/// Promised shares by tenant: its guaranteed quota, or its part by weight of what is promised of the fleet. Below a tenant, its
/// share is divided among its children in the same way.
fn promised(epoch: &Epoch<'_>) -> BTreeMap<TenantId, i64> {
    let tenants = &epoch.state.tenants;
    let mut weights: BTreeMap<Option<&TenantId>, i64> = BTreeMap::new();
    let above = |tenant: &TenantId| {
        let parent = tenants.get(tenant)?.parent.as_ref()?;
        tenants.contains(parent).then_some(parent)
    };
    for (id, tenant) in tenants.iter() {
        *weights.entry(above(id)).or_default() += tenant.weight_milli.0.max(1);
    }
    let part = i128::from(epoch.state.policy().promised_milli());
    let fleet = i128::from(epoch.index.total.gpu_milli);
    let share = |id: &TenantId| {
        if let Some(quota) = epoch.state.quotas.get(&(id.clone(), None, None)) {
            return quota.guaranteed_milli.0;
        }
        // From the tenant up to the root, or to the first that has a quota.
        let mut milli = None;
        let (mut over, mut under) = (1i128, 1i128);
        for tenant in epoch.state.lineage(id) {
            if let Some(quota) = epoch.state.quotas.get(&(tenant.clone(), None, None)) {
                milli = Some(i128::from(quota.guaranteed_milli.0));
                break;
            }
            over *= i128::from(tenants.get(tenant).map_or(1_000, |tenant| tenant.weight_milli.0.max(1)));
            under *= i128::from(weights.get(&above(tenant)).copied().unwrap_or(1_000));
            // However deep a tenant lies, the part stays one of 64 bits; what is cut off is less than 2⁻⁵⁰ of it.
            while under >= 1 << 63 {
                (over, under) = (over >> 1, under >> 1);
            }
        }
        let milli = milli.map_or_else(|| fleet * over / under / 1_000 * part, |milli| milli * over / under);
        i64::try_from(milli).unwrap_or(i64::MAX).max(LEAST_MILLI)
    };
    tenants.iter().map(|(id, _)| (id.clone(), share(id))).collect()
}
