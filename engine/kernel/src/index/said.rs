//! What requests say that has to be known before jobs stand in line. Whoever reads all requests anyway gathers it on the way: to
//! unpack a million of them takes about a second.

use std::collections::BTreeSet;

use solyx_schemas::ids::{JobId, TenantId};

use crate::apart::shares;
use crate::queue::{SetKey, set_of};
use crate::rows::Spec;
use crate::state::State;

/// What the requests of all jobs that are not over say.
#[derive(Default)]
pub struct Said {
    /// Tenants with a job that asks for GPUs of no other tenant.
    pub apart: BTreeSet<TenantId>,
    /// Jobs that start together with others.
    pub sets: Vec<(JobId, SetKey)>,
    /// Jobs that wait for others, behind those.
    pub dependents: BTreeSet<(JobId, JobId)>,
}

impl Said {
    /// What all requests of a state say.
    pub fn of(state: &State) -> Self {
        let mut said = Self::default();
        state.specs.iter().for_each(|(id, spec)| said.note(id, &spec.open()));
        said
    }

    /// Takes in the request of a job.
    pub fn note(&mut self, id: &JobId, spec: &Spec) {
        if shares(&spec.gang) && spec.gang.gpu_of_one_tenant == Some(true) {
            self.apart.insert(spec.tenant.clone());
        }
        if let Some(key) = set_of(spec) {
            self.sets.push((id.clone(), key));
        }
        for dependency in &spec.depends_on {
            self.dependents.insert((dependency.job.clone(), id.clone()));
        }
    }
}
