//! What a promised share looks at in a job: how much it asks for and, where its tenant is guaranteed something of a model that it
//! accepts, of which models. A pass takes the lines together that are alike in this.

use std::collections::{BTreeMap, BTreeSet};

use solyx_schemas::events::policy::QuotaSet;
use solyx_schemas::ids::{GpuModelId, JobId, TenantId};

use super::Queue;
use super::shapes::{Models, Shape, Shapes};
use crate::state::State;

/// Lines of a tenant and class whose jobs a promised share holds alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// Thousandths of GPUs that one asks for at least.
    pub gpu_milli: i64,
    /// The models that they accept, where their tenant is guaranteed something of one of them.
    pub models: Option<Models>,
}

/// The models of which tenants are guaranteed something by a quota of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guarantees(BTreeMap<TenantId, BTreeSet<GpuModelId>>);

impl Guarantees {
    /// As the quotas say.
    pub(super) fn of(state: &State) -> Self {
        let mut guarantees = Self::default();
        for (_, quota) in state.quotas.iter() {
            guarantees.note(quota);
        }
        guarantees
    }

    /// Takes in a quota. Whether its tenant has guarantees of other models now.
    pub(super) fn note(&mut self, quota: &QuotaSet) -> bool {
        let Some(model) = quota.gpu_model.as_ref().filter(|_| quota.project.is_none()) else { return false };
        if quota.guaranteed_milli.0 > 0 {
            return self.0.entry(quota.tenant.clone()).or_default().insert(model.clone());
        }
        let Some(models) = self.0.get_mut(&quota.tenant) else { return false };
        let was_there = models.remove(model);
        if models.is_empty() {
            self.0.remove(&quota.tenant);
        }
        was_there
    }

    /// Tenants, each with a model.
    pub fn iter(&self) -> impl Iterator<Item = (&TenantId, &GpuModelId)> {
        self.0.iter().flat_map(|(tenant, models)| models.iter().map(move |model| (tenant, model)))
    }

    /// The group of a tenant's jobs of a shape.
    pub(super) fn group(&self, tenant: &TenantId, shapes: &Shapes, shape: Shape) -> Group {
        let common = shapes.common(shape);
        let own = if self.0.is_empty() { None } else { self.0.get(tenant) };
        let counts = own.is_some_and(|own| shapes.accepted(common.models).iter().any(|model| own.contains(model)));
        Group { gpu_milli: common.gpu_milli, models: counts.then_some(common.models) }
    }
}

impl Queue {
    /// Has the lines of a quota's tenant be grouped by models that it is guaranteed now.
    pub fn note_quota(&mut self, quota: &QuotaSet) {
        if !self.guarantees.note(quota) {
            return;
        }
        let Self { lines, shapes, guarantees, .. } = self;
        for own in lines.values_mut().filter_map(|tenants| tenants.get_mut(&quota.tenant)) {
            own.regroup(|shape| guarantees.group(&quota.tenant, shapes, shape));
        }
    }

    /// The models that the jobs of a group accept, if it is told apart by them.
    pub fn accepted(&self, models: Option<Models>) -> &[GpuModelId] {
        models.map_or(&[], |models| self.shapes.accepted(models))
    }

    /// The first of every line, by class value, tenant, size and the names of the models that they are told apart by.
    pub fn groups(&self) -> BTreeMap<(i64, &TenantId, i64, &[GpuModelId]), BTreeSet<&JobId>> {
        let mut groups: BTreeMap<_, BTreeSet<&JobId>> = BTreeMap::new();
        for (class, tenants) in &self.lines {
            for (tenant, lines) in tenants {
                for group in lines.groups() {
                    let key = (class.0, tenant, group.gpu_milli, self.accepted(group.models));
                    let firsts = lines.firsts_behind(group, None).map(|((_, job, _), _)| job);
                    groups.entry(key).or_default().extend(firsts);
                }
            }
        }
        groups
    }
}
