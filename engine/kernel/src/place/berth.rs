//! Where a run could be moved: a place for as many replicas as it has, beside all that is in use, its own room among it. And
//! whether a place that was held for it still holds it.

use std::collections::BTreeMap;

use solyx_schemas::events::capacity::PoolDeclared;
use solyx_schemas::events::common::NodeGpus;
use solyx_schemas::events::decisions::{Limit, LimitKind};
use solyx_schemas::events::nodes::NodeState;
use solyx_schemas::ids::{JobId, NodeId, PoolId};
use solyx_schemas::units::Count;

use super::layout::{Domain, Layout};
use super::{
    Asking, Candidate, Promises, Spread, added_power, ask_of, candidate, class_rank, domain_of, duration_of, limit_of,
    most_replicas, price,
};
use crate::cost::total;
use crate::index::Index;
use crate::rows::{Run, limit};
use crate::set_aside::is_standing;
use crate::state::State;

/// The places in owned and reserved pools that a run's job could have now with the replicas that the run has, best first. Who
/// asks has taken the run out of what counts against its tenant, and left it the room that it holds.
pub fn elsewhere(state: &State, index: &mut Index, run: &Run, promises: &Promises) -> Vec<Candidate> {
    let id = &run.job;
    let Some((job, mut spec)) = state.jobs.get(id).zip(state.spec(id)) else { return Vec::new() };
    let replicas = Count(run.nodes.len() as i64);
    let least = std::mem::replace(&mut spec.gang.replicas_min, replicas).0;
    let ask = ask_of(state, &spec, job, index);
    let pools = state.pools.iter().filter_map(|(_, pool)| pool.declared.as_ref()).filter(|pool| is_standing(pool));
    let asking = Asking { id, job, spec: &spec, ask: &ask };
    let answers = pools.filter_map(|pool| candidate(state, index, asking, least, pool, promises, None).ok());
    let mut found: Vec<Candidate> = answers.collect();
    // By then the run has had its time to stop.
    let grace = state.policy().grace();
    let late = |found: &Candidate| {
        spec.expected_work_us.is_some()
            && spec.deadline_us.is_some_and(|deadline| found.start.after(grace).after(found.duration) > deadline)
    };
    found.retain(|found| !late(found));
    found.sort_by(|a, b| a.order().cmp(&b.order()));
    found
}

/// Whether a job loses nothing by being in another place than its run's: in the same pool, or in one of no lower class that is
/// as fast and costs no more.
pub fn costs_no_more(state: &State, index: &mut Index, run: &Run, place: &Candidate) -> bool {
    if place.pool.pool == run.pool {
        return true;
    }
    let Some((job, mut spec)) = state.jobs.get(&run.job).zip(state.spec(&run.job)) else { return false };
    let Some(own) = state.pools.get(&run.pool).and_then(|pool| pool.declared.as_ref()) else { return false };
    spec.gang.replicas_min = Count(run.nodes.len() as i64);
    let ask = ask_of(state, &spec, job, index);
    let (duration, _) = duration_of(state, &spec, job, run.speed_milli.0);
    let asking = Asking { id: &run.job, job, spec: &spec, ask: &ask };
    let stays = price(state, index, asking, own, (place.start, duration), 0);
    class_rank(place.pool.class) <= class_rank(own.class)
        && place.speed >= run.speed_milli.0
        && stays.is_ok_and(|stays| total(&place.terms) <= total(&stays))
}

/// The place that these nodes and GPUs of a pool are for a job, or the limit that rules it out by now.
pub fn place_at(
    state: &State,
    index: &mut Index,
    id: &JobId,
    pool: &PoolId,
    nodes: &[NodeGpus],
) -> Result<Candidate, Limit> {
    let unknown = || limit(LimitKind::Undeclared);
    let (job, mut spec) = state.jobs.get(id).zip(state.spec(id)).ok_or_else(unknown)?;
    let declared = state.pools.get(pool).and_then(|pool| pool.declared.as_ref()).ok_or_else(unknown)?;
    let (replicas, most) = (nodes.len() as i64, most_replicas(&spec));
    let least = std::mem::replace(&mut spec.gang.replicas_min, Count(replicas)).0;
    if !(least..=most).contains(&replicas) {
        return Err(limit_of(LimitKind::Gpus, id.as_str(), least, replicas, "replicas"));
    }
    let ask = ask_of(state, &spec, job, index);
    let asking = Asking { id, job, spec: &spec, ask: &ask };
    candidate(state, index, asking, least, declared, &Promises::default(), Some(nodes))
}

/// These nodes and GPUs, if they are free and the gang may lie there.
pub(super) fn still_there(
    state: &State,
    index: &Index,
    asking: Asking<'_>,
    pool: &PoolDeclared,
    nodes: &[NodeGpus],
) -> Result<Vec<NodeGpus>, Limit> {
    let Asking { job, spec, ask, .. } = asking;
    let gone = |node: &NodeId| limit_of(LimitKind::Gpus, node.as_str(), ask.gpu_milli(), 0, "GPU/1000");
    let mut replicas: BTreeMap<&NodeId, i64> = BTreeMap::new();
    let mut taken: BTreeMap<(&NodeId, i64), i64> = BTreeMap::new();
    for replica in nodes {
        *replicas.entry(&replica.node).or_default() += 1;
        for gpu in &replica.gpus {
            *taken.entry((&replica.node, *gpu)).or_default() += replica.gpu_milli_each.0;
        }
    }
    for (id, count) in &replicas {
        let row =
            state.nodes.get(*id).filter(|row| row.state == NodeState::Ready && !row.gone).ok_or_else(|| gone(id))?;
        let attested = !spec.attestation_required || row.attested_until_us.is_some_and(|until| until > state.now());
        let free = index.handle_of(id).and_then(|handle| index.inventory.get(handle)).ok_or_else(|| gone(id))?;
        let in_pool = row.report.as_ref().is_some_and(|report| report.pool == pool.pool);
        let enough = free.cpu_free_milli >= count * ask.cpu_milli
            && free.memory_free_mib >= count * ask.memory_mib
            && free.scratch_free_gib >= count * ask.scratch_gib
            && !free.closed
            && (!ask.exclusive || free.replicas == 0);
        if !attested || !in_pool || !enough || job.past().avoided.contains(id) {
            return Err(gone(id));
        }
        let of_node = taken.iter().filter(|((node, _), _)| node == id);
        for ((_, gpu), milli) in of_node {
            let slot = free.gpus.get(*gpu as usize);
            if !slot.is_some_and(|slot| slot.usable && slot.free_milli >= *milli && slot.lets_in(ask)) {
                return Err(gone(id));
            }
        }
    }
    let power = index.power.get(&pool.site);
    if let Some(overload) = power.and_then(|power| power.overload_with(&added_power(state, &index.uses, nodes))) {
        return Err(overload.limit(&pool.site));
    }
    match lies_well(state, index, asking, pool, &replicas) {
        true => Ok(nodes.to_vec()),
        false => Err(limit(LimitKind::FabricDomain)),
    }
}

/// Whether replicas on these nodes lie as the job requires.
fn lies_well(
    state: &State,
    index: &Index,
    Asking { spec, ask, .. }: Asking<'_>,
    pool: &PoolDeclared,
    replicas: &BTreeMap<&NodeId, i64>,
) -> bool {
    let layout = Layout::of(spec);
    let spread = layout.spread.map(|over| Spread {
        state,
        domains: &index.failure_domains,
        pool: &pool.pool,
        nodes: index.pool_nodes.get(&pool.pool),
        inside: None,
        over,
        ask,
        ever: &|_| true,
    });
    let mut domains: BTreeMap<Domain<'_>, i64> = BTreeMap::new();
    let mut loads: BTreeMap<Domain<'_>, i64> = BTreeMap::new();
    for (node, count) in replicas {
        let report = state.nodes.get(*node).and_then(|row| row.report.as_ref());
        let Some(report) = report else { return false };
        if let Some(level) = layout.required {
            *domains.entry(domain_of(state, level, node, report)).or_default() += count;
        }
        if let Some(domain) = spread.and_then(|spread| spread.domain(node)) {
            *loads.entry(domain).or_default() += count;
        }
    }
    let whole = match layout.segment {
        Some(segment) => domains.values().all(|count| count % segment == 0),
        None => domains.len() <= 1,
    };
    let inside = layout.required.zip(domains.into_keys().next());
    whole && spread.is_none_or(|spread| Spread { inside, ..spread }.skew(&loads) <= spread.over.1)
}
