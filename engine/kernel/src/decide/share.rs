//! What tenants are promised: a share of all GPUs, and what a quota guarantees of single models. They get it back within minutes
//! whoever has borrowed it. The formulas are in SCHEDULING.md, under queues.

use std::collections::BTreeMap;

use solyx_schemas::ids::{GpuModelId, JobId, NodeId, TenantId};

use super::Epoch;
use crate::rows::Claim;

/// Thousandths of a GPU that even the smallest share is.
const LEAST_MILLI: i64 = 1_000;

/// Promised shares and what is taken of them, as far as this pass has got: of all GPUs, and of each model of which anybody is
/// guaranteed some.
///
/// A tenant's share of all GPUs holds a job if taken + asked ≤ promised. The guarantee of a model that the job accepts holds it
/// if what the tenant has on that model + asked ≤ guaranteed; then only on that model.
pub struct Shares {
    all: Book,
    models: BTreeMap<GpuModelId, Book>,
}

/// What tenants are promised and have, thousandths of a GPU.
struct Book {
    promised: BTreeMap<TenantId, i64>,
    taken: BTreeMap<TenantId, i64>,
}

/// What a tenant has given back already for a job, thousandths of a GPU.
#[derive(Clone, Copy, Debug, Default)]
pub struct Given {
    /// In all.
    pub milli: i64,
    /// Of the model that is asked about.
    pub of_model_milli: i64,
}

/// The promises that hold a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    by_share: bool,
    /// Models that it accepts and of which its tenant's guarantee holds it.
    on: Vec<GpuModelId>,
    /// It is held whichever of the models it is given that it accepts.
    pub everywhere: bool,
}

impl Held {
    /// Whether any promise does.
    pub fn anywhere(&self) -> bool {
        self.by_share || !self.on.is_empty()
    }

    /// Whether one does on a model.
    pub fn on(&self, model: &GpuModelId) -> bool {
        self.by_share || self.on.contains(model)
    }

    /// Whether the share of all GPUs does.
    pub fn by_share(&self) -> bool {
        self.by_share
    }
}

impl Book {
    fn taken(&self, tenant: &TenantId) -> i64 {
        self.taken.get(tenant).copied().unwrap_or(0)
    }

    fn take(&mut self, tenant: &TenantId, gpu_milli: i64) {
        *self.taken.entry(tenant.clone()).or_default() += gpu_milli;
    }

    /// Whether a promise, if the tenant has one here, holds so much more.
    fn holds(&self, tenant: &TenantId, gpu_milli: i64) -> bool {
        self.promised.get(tenant).is_some_and(|promised| self.taken(tenant) + gpu_milli <= *promised)
    }

    /// Whether it still holds all that the tenant has once so much is given back, and something is promised at all.
    fn covers(&self, tenant: &TenantId, given_back_milli: i64) -> bool {
        self.promised.get(tenant).is_some_and(|promised| self.taken(tenant) - given_back_milli <= *promised)
    }

    /// What a tenant has within its promise.
    fn within(&self, tenant: &TenantId) -> i64 {
        self.promised.get(tenant).map_or(0, |promised| self.taken(tenant).clamp(0, *promised))
    }
}

impl Shares {
    /// The shares as they are. What is told to stop is no longer taken, what room is made for is.
    pub fn of(epoch: &Epoch<'_>) -> Self {
        let taken = epoch.index.tenants.iter().map(|(tenant, used)| (tenant.clone(), used.gpu_milli)).collect();
        let mut shares = Self { all: Book { promised: promised(epoch), taken }, models: guaranteed(epoch) };
        // What was paid for counts against no share.
        for (tenant, drawn) in &epoch.index.drawn {
            shares.all.take(tenant, -drawn);
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
                shares.take(&run.tenant, Some(&run.model), -run.gpu_milli.0);
            }
            if let Some(spec) = epoch.state.spec(job).filter(|_| !epoch.index.queue.drawers.contains(job)) {
                let model = if shares.models.is_empty() { None } else { model_of(epoch, job, claim) };
                shares.take(&spec.tenant, model.as_ref(), claim.gpu_milli);
            }
        }
        shares
    }

    /// What a tenant has or will have, thousandths of a GPU.
    pub fn taken(&self, tenant: &TenantId) -> i64 {
        self.all.taken(tenant)
    }

    /// What a tenant is promised, thousandths of a GPU.
    pub fn promised(&self, tenant: &TenantId) -> i64 {
        self.all.promised.get(tenant).copied().unwrap_or(LEAST_MILLI)
    }

    /// What holds a job that asks for so much more and accepts these models, or any where none are named.
    pub fn held(&self, tenant: &TenantId, gpu_milli: i64, accepted: &[GpuModelId]) -> Held {
        let by_share = self.taken(tenant) + gpu_milli <= self.promised(tenant);
        if self.models.is_empty() || accepted.is_empty() {
            return Held { by_share, on: Vec::new(), everywhere: by_share };
        }
        let holds = |model: &&GpuModelId| self.models.get(*model).is_some_and(|book| book.holds(tenant, gpu_milli));
        let on: Vec<GpuModelId> = accepted.iter().filter(holds).cloned().collect();
        let everywhere = by_share || on.len() == accepted.len();
        Held { by_share, on, everywhere }
    }

    /// Whether what a tenant has on a model is borrowed, also once it has given so much back: it has more than its share, and not
    /// within its guarantee of that model.
    pub fn borrows(&self, tenant: &TenantId, model: &GpuModelId, given: Given) -> bool {
        self.taken(tenant) - given.milli > self.promised(tenant) && !self.covers(tenant, model, given)
    }

    /// Whether what a tenant has on a model lies within its guarantee of that, once it has given so much back.
    pub fn covers(&self, tenant: &TenantId, model: &GpuModelId, given: Given) -> bool {
        self.models.get(model).is_some_and(|book| book.covers(tenant, given.of_model_milli))
    }

    /// Whether what a tenant has on a model is owed to a job of another that is so held. To a share it is what is borrowed; to a
    /// guarantee of the model all that does not lie within one: of a model its guarantees go before shares of all GPUs.
    pub fn owes(&self, held: &Held, tenant: &TenantId, model: &GpuModelId, given: Given) -> bool {
        held.by_share && self.borrows(tenant, model, given)
            || held.on.contains(model) && !self.covers(tenant, model, given)
    }

    /// What all tenants have beyond their shares and guarantees, thousandths of a GPU.
    pub fn borrowed(&self) -> i64 {
        let beyond = |(tenant, taken): (&TenantId, &i64)| {
            let guaranteed: i64 = self.models.values().map(|book| book.within(tenant)).sum();
            (taken - self.promised(tenant).max(guaranteed)).max(0)
        };
        self.all.taken.iter().map(beyond).sum()
    }

    /// What all tenants have of a model beyond their guarantees of it, thousandths of a GPU.
    pub fn unguaranteed(&self, model: &GpuModelId) -> i64 {
        let book = self.models.get(model);
        book.map_or(0, |book| book.taken.iter().map(|(tenant, taken)| (taken - book.within(tenant)).max(0)).sum())
    }

    /// A tenant takes so much more, of a model where it is known, or gives it back when that is negative.
    pub fn take(&mut self, tenant: &TenantId, model: Option<&GpuModelId>, gpu_milli: i64) {
        self.all.take(tenant, gpu_milli);
        if let Some(book) = model.and_then(|model| self.models.get_mut(model)) {
            book.take(tenant, gpu_milli);
        }
    }
}

/// The model that nodes on which room is made are of.
pub fn model_at(epoch: &Epoch<'_>, nodes: &[NodeId]) -> Option<GpuModelId> {
    nodes.iter().find_map(|node| {
        let report = epoch.state.nodes.get(node)?.report.as_ref()?;
        Some(epoch.state.pools.get(&report.pool)?.declared.as_ref()?.gpu_model.clone())
    })
}

/// The model that a job will have by its claim: where none of its nodes is left, that of its run.
fn model_of(epoch: &Epoch<'_>, job: &JobId, claim: &Claim) -> Option<GpuModelId> {
    let of_run = || {
        let run = epoch.state.jobs.get(job)?.run.as_ref()?;
        Some(epoch.state.runs.get(run)?.model.clone())
    };
    model_at(epoch, &claim.nodes).or_else(of_run)
}

/// What tenants are guaranteed of single models by quotas of their own, and what they use of those.
fn guaranteed(epoch: &Epoch<'_>) -> BTreeMap<GpuModelId, Book> {
    let mut models: BTreeMap<GpuModelId, Book> = BTreeMap::new();
    for (tenant, model) in epoch.index.queue.guarantees.iter() {
        let Some(quota) = epoch.state.quotas.get(&(tenant.clone(), None, Some(model.clone()))) else { continue };
        let book = models.entry(model.clone()).or_insert_with(|| {
            let taken = epoch.index.on_models.get(model).cloned().unwrap_or_default();
            Book { promised: BTreeMap::new(), taken }
        });
        book.promised.insert(tenant.clone(), quota.guaranteed_milli.0);
    }
    models
}

/// Those directly below one tenant, or below none.
#[derive(Default)]
struct Siblings {
    /// What those with a quota are guaranteed, thousandths of a GPU.
    guaranteed_milli: i64,
    /// Weights of the others together.
    weight_milli: i64,
}

/// Promised shares by tenant: its guaranteed quota; without one, its part by weight of what is promised of the fleet and not guaranteed
/// to others. Below a tenant, its share is divided among its children in the same way.
fn promised(epoch: &Epoch<'_>) -> BTreeMap<TenantId, i64> {
    let tenants = &epoch.state.tenants;
    let mut siblings: BTreeMap<Option<&TenantId>, Siblings> = BTreeMap::new();
    let above = |tenant: &TenantId| {
        let parent = tenants.get(tenant)?.parent.as_ref()?;
        tenants.contains(parent).then_some(parent)
    };
    let quota_of = |tenant: &TenantId| Some(epoch.state.quotas.get(&(tenant.clone(), None, None))?.guaranteed_milli.0);
    for (id, tenant) in tenants.iter() {
        let siblings = siblings.entry(above(id)).or_default();
        match quota_of(id) {
            Some(milli) => siblings.guaranteed_milli = siblings.guaranteed_milli.saturating_add(milli),
            None => siblings.weight_milli += tenant.weight_milli.0.max(1),
        }
    }
    let part = i128::from(epoch.state.policy().promised_milli());
    let fleet = i128::from(epoch.index.total.gpu_milli);
    let share = |id: &TenantId| {
        if let Some(milli) = quota_of(id) {
            return milli;
        }
        // From the tenant up to the root, or to the first that has a quota.
        let (mut milli, mut others) = (None, 0i128);
        let (mut over, mut under) = (1i128, 1i128);
        for tenant in epoch.state.lineage(id) {
            if let Some(own) = quota_of(tenant) {
                milli = Some(i128::from(own));
                break;
            }
            let beside = siblings.get(&above(tenant));
            over *= i128::from(tenants.get(tenant).map_or(1_000, |tenant| tenant.weight_milli.0.max(1)));
            under *= i128::from(beside.map_or(1_000, |beside| beside.weight_milli));
            // However deep a tenant lies, the part stays one of 64 bits; what is cut off is less than 2⁻⁵⁰ of it.
            while under >= 1 << 63 {
                (over, under) = (over >> 1, under >> 1);
            }
            others += beside.map_or(0, |beside| i128::from(beside.guaranteed_milli)) * over / under;
        }
        let whole = milli.map_or_else(|| fleet * over / under / 1_000 * part, |milli| milli * over / under);
        i64::try_from(whole - others).unwrap_or(i64::MAX).max(LEAST_MILLI)
    };
    tenants.iter().map(|(id, _)| (id.clone(), share(id))).collect()
}
