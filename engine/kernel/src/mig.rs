//! What MIG profiles are: which models have them, what an instance counts as, and which instances a run has.
//!
//! An instance counts as its memory slices over all slices of the model, in thousandths of a GPU, rounded up, for quotas, shares,
//! prices and GPU time. All slices of a model reach to the end of the last placement of its table. The table is that of
//! `GpuModelDeclared`; instances keep the slices that they were placed on when it is declared anew.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use solyx_schemas::events::policy::{GpuModelDeclared, MigProfile};
use solyx_schemas::ids::{GpuModelId, Name};

use crate::packing::{Division, GPU_MILLI, Slices, mask};
use crate::rows::Spec;
use crate::state::State;

/// The instances of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instances {
    /// Their profile.
    pub profile: Name,
    /// Memory slices of each.
    pub slices: i64,
    /// First slice of each, by replica, in the order of its GPUs.
    pub starts: Vec<Vec<i64>>,
}

impl Instances {
    /// Slices of a replica's instance on the GPU that it lists at this place.
    pub fn slices_of(&self, replica: usize, at: usize) -> Slices {
        let start = self.starts.get(replica).and_then(|starts| starts.get(at));
        start.and_then(|start| mask(self.slices, *start)).unwrap_or(0)
    }
}

/// A profile of a model.
pub fn profile<'s>(
    state: &'s State,
    model: &GpuModelId,
    name: &Name,
) -> Option<(&'s GpuModelDeclared, &'s MigProfile)> {
    let model = state.models.get(model)?;
    Some((model, model.mig_profiles.iter().find(|profile| profile.profile == *name)?))
}

/// Thousandths of a GPU that an instance counts as.
pub fn charge_milli(model: &GpuModelDeclared, profile: &MigProfile) -> i64 {
    let ends = model.mig_profiles.iter().flat_map(|of| of.starts.iter().map(|start| start + of.slices.0));
    let all = ends.max().unwrap_or(0).max(profile.slices.0).max(1);
    (profile.slices.0 * GPU_MILLI + all - 1).div_euclid(all)
}

/// The declared models that a job accepts and that have its profile, each with what an instance counts as there.
pub fn models<'s>(state: &'s State, spec: &'s Spec) -> impl Iterator<Item = (&'s GpuModelId, i64)> {
    let name = spec.gang.mig_profile.as_ref();
    let accepted = |model: &GpuModelId| spec.models.is_empty() || spec.models.iter().any(|own| own.model == *model);
    // Who names none looks at no model.
    let models = name.into_iter().flat_map(|name| state.models.iter().map(move |(id, _)| (id, name)));
    models.filter(move |(id, _)| accepted(id)).filter_map(|(id, name)| {
        let (model, profile) = profile(state, id, name)?;
        Some((id, charge_milli(model, profile)))
    })
}

/// Thousandths that each GPU of a replica counts as, at least: of a profile, on the model on which it is least.
pub fn milli_each(state: &State, spec: &Spec) -> i64 {
    if spec.gang.mig_profile.is_none() {
        return spec.gang.gpu_milli_each.0;
    }
    models(state, spec).map(|(_, milli)| milli).min().unwrap_or(GPU_MILLI)
}

/// The same on the model on which it is most.
pub fn most_milli_each(state: &State, spec: &Spec) -> i64 {
    models(state, spec).map(|(_, milli)| milli).max().unwrap_or(spec.gang.gpu_milli_each.0)
}

/// Thousandths that each GPU of a replica counts as on a model.
pub fn milli_each_on(state: &State, spec: &Spec, model: &GpuModelId) -> i64 {
    let known = spec.gang.mig_profile.as_ref().and_then(|name| profile(state, model, name));
    known.map_or(spec.gang.gpu_milli_each.0, |(model, profile)| charge_milli(model, profile))
}

/// What an instance of a profile asks of a GPU of a model; of one that does not have it, what can never be.
pub fn division(state: &State, model: &GpuModelId, name: &Name) -> Arc<Division> {
    let Some((model, own)) = profile(state, model, name) else { return Arc::default() };
    let of = |profile: &'_ MigProfile| (profile.slices.0, profile.starts.clone());
    let all: Vec<(i64, Vec<i64>)> = model.mig_profiles.iter().map(of).collect();
    let all: Vec<(i64, &[i64])> = all.iter().map(|(slices, starts)| (*slices, starts.as_slice())).collect();
    Arc::new(Division::new((own.slices.0, &own.starts), &all))
}
