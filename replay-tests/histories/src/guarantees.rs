//! A second opinion on guarantees: where shares are promised nobody stops for a job of another tenant, if not of a higher class that
//! preempts, while what its own tenant has lies within what that is guaranteed, of all GPUs or of the run's model.

use std::collections::BTreeMap;

use solyx_kernel::Closed;
use solyx_kernel::rows::{Run, Spec};
use solyx_kernel::state::State;
use solyx_schemas::events::Event;
use solyx_schemas::events::decisions::StopCause;
use solyx_schemas::ids::*;

/// A run of so many thousandths of GPUs is no small one, which is only moved out of a gang's way.
const LARGE_MILLI: i64 = 8_000;

/// Checks an epoch. A gang that has shrunk meanwhile is not as large any more as it was when that was decided.
pub fn check(state: &State, closed: &Closed) {
    let has_shrunk = |output: &Event| matches!(output, Event::JobResized(_));
    if !state.policy().promises_shares() || closed.outputs.iter().any(has_shrunk) {
        return;
    }
    let mut stopped: BTreeMap<(&TenantId, Option<&GpuModelId>), Vec<i64>> = BTreeMap::new();
    for (run, winner) in closed.outputs.iter().filter_map(|output| for_another(state, output)) {
        stopped.entry((&run.tenant, Some(&run.model))).or_default().push(run.gpu_milli.0);
        // Of a model its guarantees go before shares of all GPUs.
        if guaranteed(state, &winner.tenant, Some(&run.model)).is_none() {
            stopped.entry((&run.tenant, None)).or_default().push(run.gpu_milli.0);
        }
    }
    for ((tenant, of), stopped) in stopped {
        let Some(guaranteed) = guaranteed(state, tenant, of) else { continue };
        // Whichever was the last, its tenant still had more than that.
        let left = had(state, tenant, of) - stopped.iter().sum::<i64>() + stopped.iter().max().unwrap_or(&0);
        assert!(
            left > guaranteed,
            "{stopped:?} of {tenant} stop for others; it has {left} of {of:?}, and is guaranteed {guaranteed}"
        );
    }
}

/// The run that a decision stops for a job of another tenant, with that job's request. Whoever draws on a contract takes what was
/// lent whoever has it, and a higher class that preempts what a lower one has. What is smaller than the job may have been moved.
fn for_another<'s>(state: &'s State, output: &Event) -> Option<(&'s Run, Spec)> {
    let Event::JobPreempted(e) = output else { return None };
    let winner = state.spec(e.for_job.as_ref().filter(|_| e.cause == StopCause::Priority)?)?;
    let run = state.runs.get(&e.run)?;
    let draws = run.draws.is_some() || winner.reservation.is_some() || winner.sold_lease.is_some();
    let value = |class: &ClassId| state.classes.get(class).map_or(0, |class| class.value);
    let preempts = state.classes.get(&winner.class).is_some_and(|class| class.preempts);
    let is_higher = preempts && value(&winner.class) > value(&run.class);
    let asked = winner.gang.replicas_min.0 * winner.gang.gpus.0 * winner.gang.gpu_milli_each.0;
    let is_small = run.gpu_milli.0 < asked.min(LARGE_MILLI);
    (!draws && !is_higher && !is_small && run.tenant != winner.tenant).then_some((run, winner))
}

/// What a tenant is guaranteed of a model or of all, if that is said, thousandths of GPUs.
fn guaranteed(state: &State, tenant: &TenantId, of: Option<&GpuModelId>) -> Option<i64> {
    let quota = state.quotas.get(&(tenant.clone(), None, of.cloned()))?;
    Some(quota.guaranteed_milli.0)
}

/// The most that a tenant can be taken to have of a model or of all: its runs, and what room is made for.
fn had(state: &State, tenant: &TenantId, of: Option<&GpuModelId>) -> i64 {
    let runs = state.runs.iter().map(|(_, run)| run).filter(|run| run.draws.is_none() && run.tenant == *tenant);
    let running: i64 = runs.filter(|run| of.is_none_or(|of| *of == run.model)).map(|run| run.gpu_milli.0).sum();
    let claims = state.claims.iter().filter(|(job, _)| state.spec(job).is_some_and(|spec| spec.tenant == *tenant));
    running + claims.map(|(_, claim)| claim.gpu_milli).sum::<i64>()
}
