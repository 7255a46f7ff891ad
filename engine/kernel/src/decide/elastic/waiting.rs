//! Who waits for room, as far as nothing is lent while they do.

use std::collections::{BTreeMap, BTreeSet};

use solyx_schemas::events::decisions::LimitKind;
use solyx_schemas::ids::{JobId, PoolId, TenantId};

use crate::decide::Epoch;
use crate::place::fixed_limits;
use crate::queue::{Fit, Models, Turn};
use crate::rows::{Run, Spec};

/// The first job of a line that waits for room.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub class_value: i64,
    pub tenant: TenantId,
    pub turn: Turn,
    pub job: JobId,
    pub gpu_milli: i64,
    pub models: Models,
}

/// Who waits for room.
pub(super) struct Waiting {
    /// The first of each line.
    pub heads: Vec<Head>,
    /// What they ask for, each once.
    asked: Vec<Spec>,
    /// Tenants whose jobs wait for quota, with those above them.
    short_of_quota: BTreeSet<TenantId>,
    /// Pools that some of them could use.
    wanted: BTreeMap<PoolId, bool>,
}

/// Limits that more room would not lift.
fn is_beyond_room(kind: LimitKind) -> bool {
    use LimitKind::*;
    matches!(
        kind,
        Quota
            | Price
            | Deadline
            | GpuModel
            | GpuMemory
            | Certificate
            | Residency
            | Cordon
            | Undeclared
            | Attestation
            | ProviderCapacity
    )
}

impl Waiting {
    /// Those in line after the pass.
    pub fn of(epoch: &Epoch<'_>) -> Self {
        let (mut heads, mut short_of_quota) = (Vec::new(), BTreeSet::new());
        let mut asked: BTreeMap<Fit, JobId> = BTreeMap::new();
        let queue = &epoch.index.queue;
        let lines =
            queue.classes().flat_map(|class| queue.tenants(class).map(move |(tenant, lines)| (class, tenant, lines)));
        for (class_value, tenant, lines) in lines {
            for ((turn, job, shape), told) in lines.firsts() {
                let promised = epoch.state.meta().promised.contains(job);
                if *told == Some(LimitKind::Quota) {
                    short_of_quota.extend(epoch.state.lineage(tenant).cloned());
                }
                if !promised && told.is_some_and(is_beyond_room) {
                    continue;
                }
                let common = queue.common(*shape);
                asked.entry(common.fit).or_insert_with(|| job.clone());
                let (tenant, turn, job) = (tenant.clone(), *turn, job.clone());
                let (gpu_milli, models) = (common.gpu_milli, common.models);
                heads.push(Head { class_value, tenant, turn, job, gpu_milli, models });
            }
        }
        let asked = asked.values().filter_map(|job| epoch.state.spec(job)).collect();
        Self { heads, asked, short_of_quota, wanted: BTreeMap::new() }
    }

    /// Whether somebody could use the room that a run would take.
    pub fn want_room_of(&mut self, epoch: &Epoch<'_>, run: &Run) -> bool {
        if epoch.state.lineage(&run.tenant).any(|tenant| self.short_of_quota.contains(tenant)) {
            return true;
        }
        let Some(pool) = epoch.state.pools.get(&run.pool).and_then(|pool| pool.declared.as_ref()) else { return true };
        let asked = &self.asked;
        let could = || asked.iter().any(|spec| fixed_limits(epoch.state, spec, pool).is_none());
        *self.wanted.entry(run.pool.clone()).or_insert_with(could)
    }
}
