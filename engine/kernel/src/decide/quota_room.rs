//! Room in quotas that are full: who within them stops for a gang of a higher class.

use std::collections::BTreeMap;

use solyx_schemas::ids::GpuModelId;

use super::Epoch;
use super::preempt::Victim;
use crate::index::{QuotaKey, quota_keys};
use crate::place::{on_order, quota_most};
use crate::rows::Spec;

/// Who has to stop so that the quotas of a gang have room for it: of those who may, the ones with the least lost work, and nobody whom
/// the others make up for.
pub(super) fn within_quotas(
    epoch: &Epoch<'_>,
    spec: &Spec,
    model: &GpuModelId,
    asked_milli: i64,
    victims: &[Victim],
    may_stop: &[usize],
) -> Option<Vec<usize>> {
    let keys = quota_keys(epoch.state, &spec.tenant, spec.project.as_ref(), model);
    let lacking = |key: QuotaKey| {
        let most = epoch.state.quotas.get(&key).and_then(quota_most)?;
        let used = epoch.index.quota_use.get(&key).copied().unwrap_or(0) + on_order(epoch.state, &key, &spec.job);
        Some((key, used + asked_milli - most)).filter(|(_, lacking)| *lacking > 0)
    };
    let lacking: BTreeMap<QuotaKey, i64> = keys.into_iter().filter_map(lacking).collect();
    // What each would give back, by quota.
    let gives = |number: &usize| -> BTreeMap<QuotaKey, i64> {
        let Some(run) = epoch.state.runs.get(&victims[*number].run).filter(|run| run.draws.is_none()) else {
            return BTreeMap::new();
        };
        let keys = quota_keys(epoch.state, &run.tenant, run.project.as_ref(), &run.model);
        keys.into_iter().filter(|key| lacking.contains_key(key)).map(|key| (key, run.gpu_milli.0)).collect()
    };
    let mut offers: Vec<(usize, BTreeMap<QuotaKey, i64>)> =
        may_stop.iter().map(|number| (*number, gives(number))).filter(|(_, gives)| !gives.is_empty()).collect();
    let suffice = |of: &[(usize, BTreeMap<QuotaKey, i64>)]| {
        lacking.iter().all(|(key, lacking)| of.iter().filter_map(|(_, gives)| gives.get(key)).sum::<i64>() >= *lacking)
    };
    offers.sort_by_key(|(number, _)| (victims[*number].loss, *number));
    let least = (1..=offers.len()).find(|count| suffice(&offers[..*count]))?;
    offers.truncate(least);
    // The most lost work first.
    for spared in (0..offers.len()).rev() {
        let offer = offers.remove(spared);
        if !suffice(&offers) {
            offers.insert(spared, offer);
        }
    }
    Some(offers.into_iter().map(|(number, _)| number).collect())
}
