//! Tenants apart: GPUs that are shared with nobody else where a job or its tenant asks for that.
//!
//! A GPU that is held in part by one tenant's runs takes another tenant's only if none of them asks to be apart. The tenant is
//! the one that the job names; what a tenant asks holds for all its jobs, also those that run already. Nothing is stopped for it.

use solyx_schemas::events::jobs::Gang;
use solyx_schemas::ids::TenantId;

use crate::packing::GPU_MILLI;
use crate::rows::{Run, Spec};
use crate::state::State;

/// Whether replicas leave something of their GPUs to others.
pub fn shares(gang: &Gang) -> bool {
    gang.mig_profile.is_some() || gang.gpus.0 == 1 && gang.gpu_milli_each.0 < GPU_MILLI
}

fn tenant_asks(state: &State, tenant: &TenantId) -> bool {
    state.tenants.get(tenant).and_then(|tenant| tenant.gpu_of_one_tenant).unwrap_or(false)
}

/// Whether a job asks to be apart.
pub fn asks(state: &State, spec: &Spec) -> bool {
    shares(&spec.gang) && (spec.gang.gpu_of_one_tenant.unwrap_or(false) || tenant_asks(state, &spec.tenant))
}

/// Whether a run keeps other tenants off the GPUs that it shares.
pub fn keeps(state: &State, run: &Run) -> bool {
    run_shares(run) && (run.gpu_of_one_tenant || tenant_asks(state, &run.tenant))
}

/// Whether a run leaves something of its GPUs to others.
pub fn run_shares(run: &Run) -> bool {
    run.mig.is_some() || run.nodes.iter().any(|replica| replica.gpus.len() == 1 && replica.gpu_milli_each.0 < GPU_MILLI)
}
