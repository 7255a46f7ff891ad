//! A second opinion on what jobs are told: whoever is told that it lacks room finds none when its start is rehearsed.

use solyx_kernel::Kernel;
use solyx_kernel::follow::Follower;
use solyx_kernel::rows::{Job, Phase, Spec};
use solyx_kernel::state::State;
use solyx_schemas::events::decisions::LimitKind;
use solyx_schemas::ids::JobId;

use crate::history::Luck;

/// Whoever waits and was told that GPUs, CPU or memory are short finds no place, under rules by which a pass looks at all who wait.
/// One of them is asked: an answer takes long. Panics when it finds one.
pub fn who_was_told_of_a_lack_lacks_it(kernel: &Kernel, luck: &mut Luck) {
    let state = kernel.state();
    if state.policy().order_rule().promises_starts() {
        return;
    }
    let keeps = keeps_gpus(state);
    let is_asked = |id: &JobId| state.spec(id).is_some_and(|spec| !may_fit_later(&spec, keeps));
    let waiting: Vec<_> = state.jobs.iter().filter(|(id, job)| was_told_of_a_lack(job) && is_asked(id)).collect();
    if waiting.is_empty() {
        return;
    }
    let (id, job) = waiting[luck.below(waiting.len() as i64) as usize];
    let Some(answer) = Follower::of(kernel.clone()).rehearsal().waiting(id) else { return };
    let no_place = answer.pools.iter().all(|pool| pool.place.is_err());
    assert!(no_place, "{id} was told {:?} and finds a place: {:?}", job.told, answer.pools);
}

fn was_told_of_a_lack(job: &Job) -> bool {
    let lack = |kind: LimitKind| matches!(kind, LimitKind::Gpus | LimitKind::Cpu | LimitKind::Memory);
    job.phase == Phase::Waiting && job.told.is_some_and(lack)
}

/// Whether whoever is placed later in a pass may be what makes a job fit. Where replicas are to be spread, one domain fewer may be.
/// Where GPUs are kept, to open one for a share or an instance takes a whole one that is not kept: who comes later in the pass and has
/// one may open it, and there is room beside it.
fn may_fit_later(spec: &Spec, keeps: bool) -> bool {
    let is_spread = spec.topology.as_ref().is_some_and(|topology| topology.spread.is_some());
    let is_part = spec.gang.gpu_milli_each.0 < 1_000 || spec.gang.mig_profile.is_some();
    is_spread || keeps && is_part
}

/// Whether some tenant lends less than it is guaranteed.
fn keeps_gpus(state: &State) -> bool {
    let mut quotas = state.quotas.iter().map(|(_, quota)| quota);
    quotas.any(|quota| quota.lending_limit_milli.is_some_and(|lent| lent < quota.guaranteed_milli))
}
