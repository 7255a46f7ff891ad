//! How often which kind of job is asked for: counted as requests are applied, and blended with what policy knows beforehand.
//!
//! Counts are part of the state and bounded: with too many kinds, or too many counts in all, every count is halved and what
//! comes to nothing is forgotten, so that rare kinds go and what was long ago weighs less.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use solyx_schemas::events::jobs::{Gang, JobRequested};
use solyx_schemas::events::policy::KindPrior;
use solyx_schemas::ids::GpuModelId;
use solyx_schemas::units::{GpuMilli, MemoryMib};
use solyx_schemas::validity::NODE_GPUS_MAX;

use crate::rows::{Frequency, KindKey};
use crate::state::State;

/// The most distinct kinds that are counted, and the most that are expected.
pub const KINDS_MAX: usize = 1_024;
/// Counts in all at which every count is halved.
pub const COUNTED_MAX: i64 = 1 << 24;
/// Replicas of one request that count at most.
const REPLICAS_MAX: i64 = 1_024;
/// Frequencies that are expected add up to so much at most.
const EXPECTED_MAX: i128 = 1 << 28;

/// Takes note of a request. Nothing is counted while policy wants no plans.
pub fn count(state: &mut State, request: &JobRequested) {
    if state.policy().plan_interval().is_none() {
        return;
    }
    let requests = state.requests.edit_or_default(&0);
    requests.requests += 1;
    // Prices are of thousandths: what asks for MIG instances is no such kind.
    if !(0..=NODE_GPUS_MAX).contains(&request.gang.gpus.0) || request.gang.mig_profile.is_some() {
        return;
    }
    let replicas = request.gang.replicas_min.0.clamp(1, REPLICAS_MAX);
    requests.counted += replicas;
    let counted = requests.counted;
    let key = key_of(&request.gang, request.models.iter().map(|choice| &choice.model));
    let seen = state.kinds.edit_or_default(&key);
    let memory_mib = request.gang.memory_mib;
    seen.memory_mib = if seen.count == 0 { memory_mib } else { seen.memory_mib.min(memory_mib) };
    seen.count += replicas;
    if counted > COUNTED_MAX || state.kinds.len() > KINDS_MAX {
        halve(state);
    }
}

fn halve(state: &mut State) {
    while state.kinds.len() > KINDS_MAX || state.requests.get(&0).is_some_and(|all| all.counted > COUNTED_MAX) {
        let keys: Vec<KindKey> = state.kinds.iter().map(|(key, _)| key.clone()).collect();
        let mut counted = 0;
        for key in keys {
            let left = state.kinds.edit(&key).map_or(0, |seen| {
                seen.count /= 2;
                seen.count
            });
            counted += left;
            if left == 0 {
                state.kinds.remove(&key);
            }
        }
        state.requests.edit_or_default(&0).counted = counted;
    }
}

/// The kinds that are expected, by key: what policy knows beforehand, with its weight in requests, and what was counted.
pub fn expected(state: &State) -> BTreeMap<KindKey, Frequency> {
    let mut expected: BTreeMap<KindKey, (i128, MemoryMib)> = BTreeMap::new();
    let mut add = |key: KindKey, count: i128, memory_mib: MemoryMib| {
        let seen = expected.entry(key).or_insert((0, memory_mib));
        *seen = (seen.0 + count, seen.1.min(memory_mib));
    };
    if let Some(policy) = state.policy().as_set() {
        let sum: i128 = policy.prior_kinds.iter().map(|prior| i128::from(prior.frequency.0)).sum();
        let weight = policy.prior_weight.map_or(sum, |weight| i128::from(weight.0));
        for prior in policy.prior_kinds.iter().filter(|prior| (0..=NODE_GPUS_MAX).contains(&prior.gpus.0)) {
            let count = (i128::from(prior.frequency.0) * weight + sum / 2) / sum.max(1);
            add(key_of_prior(prior), count, prior.memory_mib);
        }
    }
    for (key, seen) in state.kinds.iter() {
        add(key.clone(), i128::from(seen.count), seen.memory_mib);
    }
    let mut by_count: Vec<(Reverse<i128>, KindKey, MemoryMib)> =
        expected.into_iter().map(|(key, (count, memory))| (Reverse(count), key, memory)).collect();
    by_count.sort_unstable();
    by_count.truncate(KINDS_MAX);
    let total: i128 = by_count.iter().map(|(Reverse(count), ..)| count).sum();
    let scaled = |count: i128| if total > EXPECTED_MAX { count * EXPECTED_MAX / total } else { count };
    let row = |(Reverse(count), key, memory_mib): (Reverse<i128>, KindKey, MemoryMib)| {
        (key, Frequency { count: scaled(count) as i64, memory_mib })
    };
    by_count.into_iter().map(row).filter(|(_, seen)| seen.count > 0).collect()
}

fn key_of<'m>(gang: &Gang, models: impl Iterator<Item = &'m GpuModelId>) -> KindKey {
    let mut models: Vec<GpuModelId> = models.cloned().collect();
    models.sort_unstable();
    models.dedup();
    let gpu_milli_each = if gang.gpus.0 > 0 { gang.gpu_milli_each } else { GpuMilli(0) };
    KindKey { cpu_milli: gang.cpu_milli, gpus: gang.gpus.0, gpu_milli_each, models }
}

fn key_of_prior(prior: &KindPrior) -> KindKey {
    let gang =
        Gang { cpu_milli: prior.cpu_milli, gpus: prior.gpus, gpu_milli_each: prior.gpu_milli_each, ..Gang::default() };
    key_of(&gang, prior.models.iter())
}
