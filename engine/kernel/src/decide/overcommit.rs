//! Limits that an input took below what is committed: each is listed, and the least important runs are told to stop until
//! what stays is within it. What was told to stop before counts as leaving.

use std::collections::{BTreeMap, BTreeSet};

use solyx_schemas::events::decisions::{Limit, LimitKind, Overcommitment, StopCause};
use solyx_schemas::ids::*;
use solyx_schemas::units::TimeUs;

use super::stops::stop_run;
use super::upkeep::owe_recovery;
use super::{Epoch, moving};
use crate::index::{QuotaKey, quota_keys};
use crate::place::{quota_most, quota_subject};
use crate::power::Overload;
use crate::rows::*;

/// What runs use of GPUs that are no longer there, CPU, memory and scratch space of a node.
#[derive(Clone, Copy, Default)]
struct Use([i64; 4]);

impl Use {
    fn less(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] - other.0[i]))
    }

    fn is_within(&self) -> bool {
        self.0.iter().all(|excess| *excess <= 0)
    }

    /// Whether it has a part in what another is too much of.
    fn helps(&self, excess: &Self) -> bool {
        self.0.iter().zip(excess.0).any(|(own, excess)| *own > 0 && excess > 0)
    }
}

/// Stops what no longer fits on a node.
pub fn shrunk(epoch: &mut Epoch<'_>, id: &NodeId) {
    let Some(report) = epoch.state.nodes.get(id).and_then(|node| node.report.as_ref()) else { return };
    let Some(used) = epoch.index.uses.get(id) else { return };
    let present: BTreeSet<i64> = report.gpus.iter().map(|gpu| gpu.index).collect();
    let missing: BTreeSet<i64> = used.gpu_milli.keys().filter(|index| !present.contains(index)).copied().collect();
    let have = [report.cpu_milli.0, report.memory_mib.0, report.scratch_gib.0];
    let uses = [used.cpu_milli, used.memory_mib, used.scratch_gib];
    let over: [i64; 3] = std::array::from_fn(|i| uses[i] - have[i]);
    let mut excess = Use([missing.len() as i64, over[0], over[1], over[2]]);
    if excess.is_within() {
        return;
    }
    let part = |row: &Run| {
        let here: Vec<_> = row.nodes.iter().filter(|replica| replica.node == *id).collect();
        let hit = here.iter().any(|replica| replica.gpus.iter().any(|gpu| missing.contains(gpu)));
        let replicas = here.len() as i64;
        let of = [row.cpu_milli.0, row.memory_mib.0, row.scratch_gib.0].map(|each| each * replicas);
        (hit, Use([0, of[0], of[1], of[2]]))
    };
    // GPUs that are gone are not counted down: every run on one of them has to stop.
    excess.0[0] = 0;
    let mut leaving = Vec::new();
    let mut staying = Vec::new();
    for run in &used.runs {
        let Some(row) = epoch.state.runs.get(run) else { continue };
        let (hit, uses) = part(row);
        if row.stop.is_some() {
            excess = excess.less(uses);
            leaving.push(run.clone());
        } else {
            staying.push((run.clone(), hit, uses));
        }
    }
    let order = by_importance(epoch, staying.iter().map(|(run, _, _)| run.clone()).collect());
    let parts: BTreeMap<RunId, (bool, Use)> = staying.into_iter().map(|(run, hit, uses)| (run, (hit, uses))).collect();
    // Those that have to stop anyway go first: what they leave may be enough for the others.
    let (hit, others): (Vec<RunId>, Vec<RunId>) = order.into_iter().partition(|run| parts[run].0);
    for run in hit.into_iter().chain(others) {
        let (hit, uses) = parts[&run];
        if (hit || uses.helps(&excess)) && stop_for_loss(epoch, &run, StopCause::CapacityLost) {
            excess = excess.less(uses);
            leaving.push(run);
        }
    }
    let name = id.as_str();
    let gpus = present.len() as i64;
    let mut limits = Vec::new();
    if !missing.is_empty() {
        limits.push(limit_of(LimitKind::Gpus, name, gpus + missing.len() as i64, gpus, "GPUs"));
    }
    let rest = [(LimitKind::Cpu, "CPU/1000"), (LimitKind::Memory, "MiB"), (LimitKind::Scratch, "GiB")];
    for (i, (kind, unit)) in rest.into_iter().enumerate().filter(|(i, _)| over[*i] > 0) {
        limits.push(limit_of(kind, name, uses[i], have[i], unit));
    }
    list(epoch, limits, &leaving);
}

/// Stops what a quota no longer allows.
pub fn quotas(epoch: &mut Epoch<'_>) {
    for key in std::mem::take(&mut epoch.index.suspect_quotas) {
        let Some(most) = epoch.state.quotas.get(&key).and_then(quota_most) else { continue };
        let used = epoch.index.quota_use.get(&key).copied().unwrap_or(0);
        if used > most {
            lower(epoch, &key, used, most);
        }
    }
}

fn lower(epoch: &mut Epoch<'_>, key: &QuotaKey, used: i64, most: i64) {
    let counts = |run: &Run| quota_keys(epoch.state, &run.tenant, run.project.as_ref(), &run.model);
    let under: Vec<(RunId, i64, bool)> = epoch
        .state
        .runs
        .iter()
        .filter(|(_, run)| run.gpu_milli.0 > 0 && run.draws.is_none() && counts(run).contains(key))
        .map(|(id, run)| (id.clone(), run.gpu_milli.0, run.stop.is_some()))
        .collect();
    let mut staying = used - under.iter().filter(|(_, _, told)| *told).map(|(_, milli, _)| milli).sum::<i64>();
    let mut leaving: Vec<RunId> = under.iter().filter(|(_, _, told)| *told).map(|(id, _, _)| id.clone()).collect();
    let milli: BTreeMap<RunId, i64> =
        under.into_iter().filter(|(_, _, told)| !told).map(|(id, milli, _)| (id, milli)).collect();
    for run in by_importance(epoch, milli.keys().cloned().collect()) {
        if staying <= most {
            break;
        }
        if stop_run(epoch, &run, StopCause::CapacityLost, None) {
            staying -= milli[&run];
            leaving.push(run);
        }
    }
    list(epoch, [limit_of(LimitKind::Quota, &quota_subject(key), used, most, "GPU/1000")], &leaving);
}

/// Power limits that dropped below what is committed: stops the least important runs until it fits, and lists it.
pub fn power(epoch: &mut Epoch<'_>) {
    for site in std::mem::take(&mut epoch.index.suspect_sites) {
        let overloads_of =
            |epoch: &Epoch<'_>| epoch.index.power.get(&site).map(|power| power.overloads()).unwrap_or_default();
        if !overloads_of(epoch).is_empty() {
            moving::give_up_at(epoch, &site);
        }
        let overloads = overloads_of(epoch);
        for overload in overloads {
            relieve(epoch, &site, &overload);
        }
    }
}

/// A GPU counts as long as a run stays on it, as a whole, by the part of its node's load that passes through the element.
fn relieve(epoch: &mut Epoch<'_>, site: &SiteId, overload: &Overload) {
    let Some(power) = epoch.index.power.get(site) else { return };
    let Some((load_uw, limit_uw)) = power.load_and_limit_uw(overload) else { return };
    // By GPU that runs use behind the element: µW there, and how many of them stay.
    let mut gpus: BTreeMap<(NodeId, i64), (i64, usize)> = BTreeMap::new();
    let mut on_it: BTreeMap<RunId, BTreeSet<(NodeId, i64)>> = BTreeMap::new();
    let mut leaving = BTreeSet::new();
    for (node, used) in &epoch.index.uses {
        let share = power.share_of(overload, node);
        let Some(report) = epoch.state.nodes.get(node).and_then(|row| row.report.as_ref()).filter(|_| share > 0) else {
            continue;
        };
        for id in &used.runs {
            let Some(run) = epoch.state.runs.get(id) else { continue };
            let held: BTreeSet<i64> =
                run.nodes.iter().filter(|r| r.node == *node).flat_map(|r| r.gpus.iter().copied()).collect();
            for gpu in report.gpus.iter().filter(|gpu| gpu.max_w.0 > 0 && held.contains(&gpu.index)) {
                let key = (node.clone(), gpu.index);
                let entry = gpus.entry(key.clone()).or_insert((gpu.max_w.0 * share, 0));
                if run.stop.is_some() {
                    leaving.insert(id.clone());
                } else {
                    entry.1 += 1;
                    on_it.entry(id.clone()).or_default().insert(key);
                }
            }
        }
    }
    let mut staying_uw = load_uw - gpus.values().filter(|(_, stay)| *stay == 0).map(|(uw, _)| uw).sum::<i64>();
    let mut ordered: Vec<RunId> = leaving.into_iter().collect();
    for run in by_importance(epoch, on_it.keys().cloned().collect()) {
        if staying_uw <= limit_uw {
            break;
        }
        if !stop_for_loss(epoch, &run, StopCause::PowerLimit) {
            continue;
        }
        for key in &on_it[&run] {
            if let Some((uw, stay)) = gpus.get_mut(key) {
                *stay -= 1;
                staying_uw -= if *stay == 0 { *uw } else { 0 };
            }
        }
        ordered.push(run);
    }
    list(epoch, [overload.limit(site)], &ordered);
}

/// Stops a run whose place the fleet has lost: its job is owed recovery.
fn stop_for_loss(epoch: &mut Epoch<'_>, id: &RunId, cause: StopCause) -> bool {
    let Some(job) = epoch.state.runs.get(id).map(|run| run.job.clone()) else { return false };
    let stopped = stop_run(epoch, id, cause, None);
    if stopped
        && let Some(spec) = epoch.state.spec(&job)
        && let Some(row) = epoch.state.jobs.edit(&job)
    {
        owe_recovery(row, &spec, epoch.now);
    }
    stopped
}

fn list(epoch: &mut Epoch<'_>, limits: impl IntoIterator<Item = Limit>, runs: &[RunId]) {
    let listed = limits.into_iter().map(|limit| Overcommitment { limit, runs: runs.to_vec() });
    epoch.overcommitments.extend(listed);
}

/// Runs, the least important first: lowest class, then placed last.
fn by_importance(epoch: &Epoch<'_>, mut runs: Vec<RunId>) -> Vec<RunId> {
    let key = |id: &RunId| {
        let run = epoch.state.runs.get(id);
        let class = run.and_then(|run| epoch.state.classes.get(&run.class));
        let value = class.map_or(0, |class| class.value);
        (value, std::cmp::Reverse(run.map_or(TimeUs(0), |run| run.placed_us)), id.clone())
    };
    runs.sort_by_key(key);
    runs
}
