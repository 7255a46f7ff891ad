//! Where a job can go now: the candidates pool by pool, with what each costs or the limit that rules it out.

use std::collections::{BTreeMap, BTreeSet};

use solyx_schemas::events::capacity::{CapacityClass, PoolDeclared, ProviderState};
use solyx_schemas::events::common::NodeGpus;
use solyx_schemas::events::decisions::{CostTerms, Limit, LimitKind};
use solyx_schemas::events::jobs::TopologyLevel;
use solyx_schemas::events::policy::{OwnedFirst, ScopeKind, ScopeState};
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

use crate::cost::{Question, Unpriced, terms, total, weights};
use crate::index::{Index, NodeUse};
use crate::packing::{Area, Ask, Choice, Kind, Kinds, NodeHandle, Rule, Scope};
use crate::rows::*;
use crate::state::State;

/// The rule of a name.
pub fn packing_rule(name: &str) -> Option<Rule> {
    match name {
        "solyx" => Some(Rule::Solyx),
        "fgd" => Some(Rule::Fgd),
        "best-fit" => Some(Rule::BestFit),
        _ => None,
    }
}

/// The kinds of jobs that node choice expects: those that policy names.
pub fn expected_kinds(state: &State, models: &mut crate::index::Numbers<GpuModelId>) -> Kinds {
    let set = state.policy();
    let Some(set) = set.as_set() else { return Kinds::new([]) };
    Kinds::new(set.prior_kinds.iter().map(|prior| Kind {
        gpus: prior.gpus.0,
        gpu_milli_each: prior.gpu_milli_each.0,
        cpu_milli: prior.cpu_milli.0,
        memory_mib: prior.memory_mib.0,
        models: model_numbers(prior.models.iter(), models),
        count: prior.frequency.0,
    }))
}

fn model_numbers<'a>(
    names: impl Iterator<Item = &'a GpuModelId>,
    models: &mut crate::index::Numbers<GpuModelId>,
) -> Option<Vec<u32>> {
    let mut numbers: Vec<u32> = names.map(|name| models.of(name)).collect();
    numbers.sort_unstable();
    (!numbers.is_empty()).then_some(numbers)
}

/// A place that a job could have.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The pool.
    pub pool: PoolDeclared,
    /// GPU model.
    pub model: GpuModelId,
    /// Speed in thousandths.
    pub speed: i64,
    /// Nodes and GPUs; empty when instances have to be ordered first.
    pub nodes: Vec<NodeGpus>,
    /// Instances to be ordered first.
    pub new_instances: i64,
    /// When it could start.
    pub start: TimeUs,
    /// How long it is expected to run.
    pub duration: DurationUs,
    /// Its cost.
    pub terms: CostTerms,
    /// Owned before reserved before leased, when policy forces that.
    rank: i64,
}

impl Candidate {
    fn order(&self) -> (i64, i128, TimeUs, i64, &PoolId) {
        (self.rank, total(&self.terms), self.start, class_rank(self.pool.class), &self.pool.pool)
    }
}

fn class_rank(class: CapacityClass) -> i64 {
    match class {
        CapacityClass::Owned => 0,
        CapacityClass::Reserved => 1,
        _ => 2,
    }
}

/// What a gang that waits has been promised: these nodes from this instant on.
#[derive(Clone, Debug)]
pub struct Promise {
    /// The job.
    pub job: JobId,
    /// When it starts at the latest, as far as lengths are known.
    pub start: TimeUs,
    /// The nodes it starts on.
    pub nodes: BTreeSet<NodeId>,
}

/// Everything known about a job's places now.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Candidates, best first.
    pub candidates: Vec<Candidate>,
    /// Per pool that is none, why.
    pub refusals: Vec<(PoolId, Limit)>,
}

impl Places {
    /// The limit that binds: of the pool that came nearest.
    pub fn binding(&self) -> Limit {
        let nearest = self.refusals.iter().max_by_key(|(pool, limit)| (nearness(limit.kind), std::cmp::Reverse(pool)));
        nearest.map_or_else(|| limit(LimitKind::Gpus), |(_, limit)| limit.clone())
    }
}

/// How far a pool got before its limit: those that depend on the moment are nearer than those that never change.
fn nearness(kind: LimitKind) -> u8 {
    match kind {
        LimitKind::Backfill => 20,
        LimitKind::Draining => 19,
        LimitKind::LeasePending => 18,
        LimitKind::Power => 17,
        LimitKind::FailoverReserve => 16,
        LimitKind::Cpu | LimitKind::Memory | LimitKind::Scratch => 15,
        LimitKind::FabricDomain => 14,
        LimitKind::Gpus => 13,
        LimitKind::Attestation => 12,
        LimitKind::ProviderCapacity => 11,
        LimitKind::Deadline => 10,
        LimitKind::Quota => 9,
        LimitKind::Price => 8,
        LimitKind::Cordon => 7,
        LimitKind::GpuMemory => 6,
        LimitKind::Certificate => 5,
        LimitKind::Residency => 4,
        LimitKind::GpuModel => 2,
        _ => 1,
    }
}

/// What one replica of a job asks of a node.
pub fn ask_of(spec: &Spec, job: &Job, index: &mut Index) -> Ask {
    let models = model_numbers(spec.models.iter().map(|choice| &choice.model), &mut index.models);
    Ask {
        gpus: spec.gang.gpus.0,
        gpu_milli_each: spec.gang.gpu_milli_each.0,
        cpu_milli: spec.gang.cpu_milli.0,
        memory_mib: job.memory_mib.unwrap_or(spec.gang.memory_mib).0,
        scratch_gib: spec.gang.scratch_gib.map_or(0, |g| g.0),
        models,
        exclusive: spec.gang.exclusive_node,
    }
}

/// How long a job still runs at a speed: what is left of its work, and the restore. Also whether that is known.
pub fn duration_of(state: &State, spec: &Spec, job: &Job, speed: i64) -> (DurationUs, bool) {
    let known = spec.expected_work_us.is_some();
    let work = spec.expected_work_us.unwrap_or(state.policy().default_work());
    // A job that has outlived its estimate is taken to need a tenth of it more.
    let left = (work.0 - job.kept_work_us.0).max(work.0 / 10).max(1);
    let restore = if job.kept_work_us.0 > 0 { spec.restore_us.map_or(0, |r| r.0) } else { 0 };
    let run = (i128::from(left) * 1_000).div_euclid(i128::from(speed.max(1)));
    (DurationUs(i64::try_from(run).unwrap_or(TIME_MAX_US).saturating_add(restore).min(TIME_MAX_US)), known)
}

/// All places of a waiting job now, best first.
pub fn places(state: &State, index: &mut Index, id: &JobId, promise: Option<&Promise>) -> Places {
    let mut found = Places::default();
    let (Some(job), Some(spec)) = (state.jobs.get(id), state.specs.get(id)) else { return found };
    let ask = ask_of(spec, job, index);
    let pools: Vec<&PoolDeclared> = state.pools.iter().filter_map(|(_, pool)| pool.declared.as_ref()).collect();
    if pools.is_empty() {
        let subject = Some(RefId::from("pools"));
        found.refusals.push((PoolId::default(), Limit { subject, ..limit(LimitKind::Undeclared) }));
    }
    for pool in pools {
        match candidate(state, index, id, job, spec, &ask, pool, promise) {
            Ok(candidate) => found.candidates.push(candidate),
            Err(limit) => found.refusals.push((pool.pool.clone(), limit)),
        }
    }
    found.candidates.sort_by(|a, b| a.order().cmp(&b.order()));
    found
}

/// The model of a pool that a job accepts, with its speed there.
pub fn accepted<'a>(spec: &'a Spec, pool: &'a PoolDeclared) -> Option<(&'a GpuModelId, i64)> {
    if spec.models.is_empty() || spec.gang.gpus.0 == 0 {
        return Some((&pool.gpu_model, 1_000));
    }
    let choice = spec.models.iter().find(|choice| choice.model == pool.gpu_model)?;
    Some((&choice.model, choice.speed_milli.0))
}

/// Limits of a pool for a job that do not depend on what is free.
fn fixed_limits(state: &State, spec: &Spec, pool: &PoolDeclared) -> Option<Limit> {
    let of = |kind, subject: &str| Limit { subject: Some(RefId::from(subject)), ..limit(kind) };
    if accepted(spec, pool).is_none() {
        return Some(of(LimitKind::GpuModel, pool.gpu_model.as_str()));
    }
    let Some(site) = state.sites.get(&pool.site) else {
        return Some(of(LimitKind::Undeclared, &format!("site:{}", pool.site)));
    };
    if !spec.residency.is_empty() && !spec.residency.contains(&site.country) {
        return Some(of(LimitKind::Residency, site.country.as_str()));
    }
    let confined = spec
        .datasets
        .iter()
        .filter_map(|d| state.datasets.get(d))
        .find(|d| !d.residency.is_empty() && !d.residency.contains(&site.country));
    if let Some(dataset) = confined {
        return Some(of(LimitKind::Residency, dataset.dataset.as_str()));
    }
    if let Some(missing) = spec.certificates.iter().find(|c| !site.certificates.contains(c)) {
        return Some(of(LimitKind::Certificate, missing.as_str()));
    }
    if let Some(least) = spec.gang.gpu_memory_mib {
        let memory = match pool.shape.gpu_memory_mib.0 {
            0 => state.models.get(&pool.gpu_model).map_or(0, |model| model.memory_mib.0),
            own => own,
        };
        if spec.gang.gpus.0 > 0 && memory < least.0 {
            return Some(limit_of(LimitKind::GpuMemory, pool.gpu_model.as_str(), least.0, memory, "MiB"));
        }
    }
    if state.scope(ScopeKind::Pool, pool.pool.as_str()) != ScopeState::Open {
        return Some(of(LimitKind::Cordon, pool.pool.as_str()));
    }
    if state.scope(ScopeKind::Site, pool.site.as_str()) != ScopeState::Open {
        return Some(of(LimitKind::Cordon, pool.site.as_str()));
    }
    let provider = state.providers.get(&pool.provider).map(|provider| provider.state);
    if matches!(provider, Some(ProviderState::Degraded | ProviderState::Down)) {
        return Some(of(LimitKind::ProviderCapacity, pool.provider.as_str()));
    }
    None
}

/// The quota that so much more of a model would break.
pub fn quota_limit(state: &State, index: &Index, spec: &Spec, model: &GpuModelId, gpu_milli: i64) -> Option<Limit> {
    let projects = [None, spec.project.clone()];
    for project in projects.iter().take(if spec.project.is_some() { 2 } else { 1 }) {
        for of_model in [None, Some(model.clone())] {
            let key = (spec.tenant.clone(), project.clone(), of_model);
            let Some(quota) = state.quotas.get(&key) else { continue };
            let Some(borrowing) = quota.borrowing_limit_milli else { continue };
            let used = index.quota_use.get(&key).copied().unwrap_or(0);
            let available = quota.guaranteed_milli.0 + borrowing.0 - used;
            if gpu_milli > available {
                let subject = key.2.as_ref().map_or(key.0.to_string(), |model| format!("{}/{model}", key.0));
                return Some(limit_of(LimitKind::Quota, &subject, gpu_milli, available, "GPU/1000"));
            }
        }
    }
    None
}

#[expect(clippy::too_many_arguments, reason = "one pool's answer to one job, called from one place")]
fn candidate(
    state: &State,
    index: &mut Index,
    id: &JobId,
    job: &Job,
    spec: &Spec,
    ask: &Ask,
    pool: &PoolDeclared,
    promise: Option<&Promise>,
) -> Result<Candidate, Limit> {
    if let Some(limit) = fixed_limits(state, spec, pool) {
        return Err(limit);
    }
    let (model, speed) = accepted(spec, pool).ok_or_else(|| limit(LimitKind::GpuModel))?;
    let replicas = spec.gang.replicas_min.0;
    let gpu_milli = replicas * ask.gpu_milli();
    if let Some(limit) = quota_limit(state, index, spec, model, gpu_milli) {
        return Err(limit);
    }
    let now = state.now();
    let (duration, known) = duration_of(state, spec, job, speed);
    let leased = matches!(pool.class, CapacityClass::OnDemand | CapacityClass::Spot);
    let planned = plan_nodes(state, index, id, job, spec, ask, pool, now.after(duration), promise);
    let (nodes, new_instances, start) = match planned {
        Ok(nodes) => (nodes, 0, now),
        Err(_) if leased => {
            let instances = order_size(state, index, spec, ask, pool)?;
            (Vec::new(), instances, now.after(pool.start_delay_us))
        }
        Err(limit) => return Err(limit),
    };
    if let Some(limit) = failover_limit(state, index, pool, model, gpu_milli, new_instances) {
        return Err(limit);
    }
    if known
        && let Some(deadline) = spec.deadline_us
        && start.after(duration) > deadline
    {
        let late = start.after(duration).since(deadline).0;
        return Err(limit_of(LimitKind::Deadline, id.as_str(), late, 0, "µs late"));
    }
    let terms = price(state, index, spec, job, ask, pool, (start, duration), new_instances)?;
    let forced = weights(state, now).is_none_or(|weights| weights.owned_first != OwnedFirst::MarginalCost);
    Ok(Candidate {
        pool: pool.clone(),
        model: model.clone(),
        speed,
        nodes,
        new_instances,
        start,
        duration,
        terms,
        rank: if forced { class_rank(pool.class) } else { 0 },
    })
}

/// What a job costs in a pool that it accepts, from a start on and for so long.
#[expect(clippy::too_many_arguments, reason = "a job, a pool and a time, as they are asked about")]
pub fn price(
    state: &State,
    index: &Index,
    spec: &Spec,
    job: &Job,
    ask: &Ask,
    pool: &PoolDeclared,
    (start, duration): (TimeUs, DurationUs),
    new_instances: i64,
) -> Result<CostTerms, Limit> {
    let (model, _) = accepted(spec, pool).ok_or_else(|| limit(LimitKind::GpuModel))?;
    let replicas = spec.gang.replicas_min.0;
    let checkpoint_mib = spec.checkpoint_mib.map_or(0, |size| size.0);
    let interval = spec.checkpoint_interval_us.map_or(duration.0, |interval| interval.0.min(duration.0));
    let question = Question {
        spec,
        pool,
        start,
        duration,
        gpu_milli: replicas * ask.gpu_milli(),
        power_w: power_of(state, ask, model, replicas),
        new_instances,
        at_risk_us: interval.saturating_add(spec.restore_us.map_or(0, |restore| restore.0)),
        checkpoint: job.checkpoint_site.as_ref().map(|site| (site, checkpoint_mib)),
    };
    terms(state, index, &question)
        .map_err(|Unpriced(subject)| Limit { subject: Some(RefId::from(subject)), ..limit(LimitKind::Price) })
}

/// Power of what a gang is allotted.
pub fn power_of(state: &State, ask: &Ask, model: &GpuModelId, replicas: i64) -> i64 {
    let max_w = state.models.get(model).map_or(0, |model| model.max_w.0);
    let milli = replicas * ask.gpu_milli();
    (milli * max_w + 999).div_euclid(1_000)
}

/// How many instances a pool would have to lease for a job, or why it cannot.
fn order_size(state: &State, index: &Index, spec: &Spec, ask: &Ask, declared: &PoolDeclared) -> Result<i64, Limit> {
    let pool = state.pools.get(&declared.pool).ok_or_else(|| limit(LimitKind::Undeclared))?;
    let name = declared.pool.as_str();
    let per_gpu = if ask.gpu_milli_each > 0 { 1_000 / ask.gpu_milli_each.max(1) } else { 0 };
    let by_gpu = match (ask.gpus, per_gpu) {
        (0, _) => i64::MAX,
        (1, shares) => declared.shape.gpus.0 * shares.max(1),
        (gpus, _) => declared.shape.gpus.0 / gpus,
    };
    let by = |have: i64, need: i64| if need > 0 { have / need } else { i64::MAX };
    let fits =
        by_gpu.min(by(declared.shape.cpu_milli.0, ask.cpu_milli)).min(by(declared.shape.memory_mib.0, ask.memory_mib));
    let fits = if ask.exclusive { fits.min(1) } else { fits };
    if fits < 1 {
        return Err(limit_of(LimitKind::Gpus, name, ask.gpus, declared.shape.gpus.0, "GPUs of one instance"));
    }
    let replicas = spec.gang.replicas_min.0;
    let instances = (replicas + fits - 1) / fits;
    if spec.attestation_required {
        return Err(limit(LimitKind::Attestation));
    }
    if pool.withdrawn || pool.refused_until_us > state.now() {
        return Err(limit_of(LimitKind::ProviderCapacity, name, instances, 0, "instances"));
    }
    let (ordered, most) = (orders_of(state, &declared.pool), state.policy().lease_orders_max());
    if ordered + instances > most {
        return Err(limit_of(LimitKind::LeasePending, name, ordered + instances, most, "instances on order"));
    }
    if let Some(available) = pool.available
        && instances + ordered > available
    {
        return Err(limit_of(LimitKind::ProviderCapacity, name, instances, (available - ordered).max(0), "instances"));
    }
    let level = spec.topology.as_ref().and_then(|topology| topology.required);
    if matches!(level, Some(TopologyLevel::NvlinkDomain)) && instances > 1 {
        return Err(limit_of(LimitKind::FabricDomain, name, replicas, fits, "replicas in one domain"));
    }
    let _ = index;
    Ok(instances)
}

fn orders_of(state: &State, pool: &PoolId) -> i64 {
    state.orders.iter().filter(|(_, order)| order.pool == *pool).map(|(_, order)| order.pending).sum()
}

/// Capacity held back for failover that would no longer be there.
fn failover_limit(
    state: &State,
    index: &Index,
    pool: &PoolDeclared,
    model: &GpuModelId,
    gpu_milli: i64,
    new_instances: i64,
) -> Option<Limit> {
    if new_instances > 0 {
        return None;
    }
    state.reserves.iter().filter(|((_, of), _)| of == model).find_map(|((domain, _), reserve)| {
        let inside = |pool: &PoolDeclared| {
            *domain.as_str() == *format!("site:{}", pool.site)
                || *domain.as_str() == *format!("provider:{}", pool.provider)
        };
        if inside(pool) {
            return None;
        }
        let number = index.models.get(model)?;
        let outside: BTreeSet<u32> = state
            .pools
            .iter()
            .filter(|(_, pool)| pool.declared.as_ref().is_some_and(|declared| !inside(declared)))
            .filter_map(|(id, _)| index.pools.get(id))
            .collect();
        let free: i64 = index
            .inventory
            .nodes()
            .filter(|(_, node)| node.model == number && outside.contains(&node.pool))
            .flat_map(|(_, node)| node.gpus.iter())
            .filter(|gpu| gpu.usable)
            .map(|gpu| gpu.free_milli.max(0))
            .sum();
        let available = free - reserve.held_back_milli.0;
        (gpu_milli > available)
            .then(|| limit_of(LimitKind::FailoverReserve, domain.as_str(), gpu_milli, available, "GPU/1000"))
    })
}

/// Nodes and GPUs for the whole gang in one pool now, or the limit that binds there.
#[expect(clippy::too_many_arguments, reason = "one pool's answer to one job, called from one place")]
fn plan_nodes(
    state: &State,
    index: &mut Index,
    id: &JobId,
    job: &Job,
    spec: &Spec,
    ask: &Ask,
    pool: &PoolDeclared,
    end: TimeUs,
    promise: Option<&Promise>,
) -> Result<Vec<NodeGpus>, Limit> {
    let name = pool.pool.as_str();
    let replicas = spec.gang.replicas_min.0;
    let asked = replicas * ask.gpu_milli();
    let Some(number) = index.pools.get(&pool.pool) else {
        return Err(limit_of(LimitKind::Gpus, name, asked, 0, "GPU/1000"));
    };
    let area = [Area::Pool(number)];
    // Most questions end here: too little is free, whatever node it is on.
    let mut bare = ask.clone();
    (bare.cpu_milli, bare.memory_mib, bare.scratch_gib) = (0, 0, 0);
    if index.inventory.feasible_replicas(&bare, Scope::of(&area), replicas) < replicas {
        let free: i64 = index
            .inventory
            .nodes()
            .filter(|(_, node)| node.pool == number)
            .flat_map(|(_, node)| node.gpus.iter())
            .filter(|gpu| gpu.usable)
            .map(|gpu| gpu.free_milli.max(0))
            .sum();
        let stopping = state.runs.iter().any(|(_, run)| run.pool == pool.pool && run.stop.is_some());
        let kind = if stopping { LimitKind::Draining } else { LimitKind::Gpus };
        return Err(limit_of(kind, name, asked, free, "GPU/1000"));
    }
    let rule = packing_rule(state.policy().packing_rule()).unwrap_or(Rule::Solyx);
    let kept_free = promise.filter(|promise| promise.job != *id && promise.start < end);
    let max_w =
        state.models.get(accepted(spec, pool).map_or(&pool.gpu_model, |(model, _)| model)).map_or(0, |m| m.max_w.0);
    let per_node_w = ask.gpus.max(0) * max_w;
    let Index { inventory, power, uses, .. } = index;
    let names = &index.names;
    let site_power = power.get(&pool.site);
    let now = state.now();
    let acceptable = |handle: NodeHandle, with_promise: bool, margin: Margin| {
        let Some(node) = names.get(&handle) else { return false };
        let Some(row) = state.nodes.get(node) else { return false };
        let attested = !spec.attestation_required || row.attested_until_us.is_some_and(|until| until > now);
        let mine = row.lease.as_ref().is_none_or(|lease| lease.earmarked.as_ref().is_none_or(|own| own == id));
        let promised = with_promise && kept_free.is_some_and(|promise| promise.nodes.contains(node));
        let powered = || {
            let in_use = || uses.get(node).is_some_and(|used| !used.gpu_milli.is_empty());
            match margin {
                Margin::Any => true,
                Margin::Least if ask.gpus == 1 && ask.gpu_milli_each < 1_000 && in_use() => true,
                Margin::Least | Margin::Whole => site_power
                    .is_none_or(|power| power.overload_with(&BTreeMap::from([(node.clone(), per_node_w)])).is_none()),
            }
        };
        attested && mine && !promised && !job.avoided.contains(node) && powered()
    };
    let level = spec.topology.as_ref().and_then(|topology| topology.required);
    let preferred = spec.topology.as_ref().and_then(|topology| topology.preferred);
    let levels = [level.or(preferred), level];
    let tries = if level.is_none() && preferred.is_some() { 2 } else { 1 };
    // A share may go to a GPU that is in use, which commits no more power; where it would wake one, room for that is asked.
    let mut refused = None;
    for margin in [Margin::Least, Margin::Whole] {
        if matches!(margin, Margin::Whole) && refused.is_none() {
            break;
        }
        for level in levels.into_iter().take(tries) {
            let all = |handle: NodeHandle| acceptable(handle, true, margin);
            let Some(gang) = choose(state, inventory, names, rule, ask, replicas, number, level, &all) else {
                continue;
            };
            let nodes = name_gang(names, ask, &gang);
            match site_power.and_then(|power| power.overload_with(&added_power(state, uses, &nodes))) {
                Some(overload) => refused = Some(overload.limit(&pool.site)),
                None => return Ok(nodes),
            }
        }
    }
    if let Some(limit) = refused {
        return Err(limit);
    }
    // Which limit was it? Lift one after the other until the gang fits.
    let mut fits = |ask: &Ask, level: Option<TopologyLevel>, accepts: &dyn Fn(NodeHandle) -> bool| {
        choose(state, inventory, names, rule, ask, replicas, number, level, accepts).is_some()
    };
    if kept_free.is_some() && fits(ask, level, &|handle| acceptable(handle, false, Margin::Least)) {
        let subject = kept_free.map(|promise| promise.job.to_string()).unwrap_or_default();
        return Err(Limit { subject: Some(RefId::from(subject)), ..limit(LimitKind::Backfill) });
    }
    if fits(ask, level, &|handle| acceptable(handle, false, Margin::Any)) {
        let added: BTreeMap<NodeId, i64> = names
            .values()
            .filter(|node| state.nodes.get(*node).and_then(|n| n.report.as_ref()).is_some_and(|r| r.pool == pool.pool))
            .map(|node| (node.clone(), per_node_w))
            .collect();
        let overload = site_power.and_then(|power| {
            added.into_iter().find_map(|(node, w)| power.overload_with(&BTreeMap::from([(node, w)])))
        });
        return Err(overload.map_or_else(|| limit(LimitKind::Power), |overload| overload.limit(&pool.site)));
    }
    if spec.attestation_required && fits(ask, level, &|_| true) {
        return Err(Limit { subject: Some(RefId::from(name)), ..limit(LimitKind::Attestation) });
    }
    if level.is_some() && fits(ask, None, &|_| true) {
        let largest = index_largest(state, inventory, names, ask, number, level, replicas);
        return Err(limit_of(LimitKind::FabricDomain, name, replicas, largest, "replicas in one domain"));
    }
    let mut less = ask.clone();
    less.cpu_milli = 0;
    if fits(&less, None, &|_| true) {
        return Err(limit_of(LimitKind::Cpu, name, ask.cpu_milli * replicas, 0, "CPU/1000 beside the GPUs"));
    }
    less.memory_mib = 0;
    if fits(&less, None, &|_| true) {
        return Err(limit_of(LimitKind::Memory, name, ask.memory_mib * replicas, 0, "MiB beside the GPUs"));
    }
    Err(limit_of(LimitKind::Gpus, name, asked, 0, "GPU/1000 on acceptable nodes"))
}

/// How much power a node must have left for a replica to go there.
#[derive(Clone, Copy)]
enum Margin {
    /// None.
    Any,
    /// What it takes at least: nothing for a share where a GPU is in use.
    Least,
    /// What all of its GPUs draw at most.
    Whole,
}

/// Power that a gang commits beside what is committed: all of each GPU that nothing uses yet, however small the share.
fn added_power(state: &State, uses: &BTreeMap<NodeId, NodeUse>, nodes: &[NodeGpus]) -> BTreeMap<NodeId, i64> {
    let mut added: BTreeMap<NodeId, i64> = BTreeMap::new();
    let mut woken: BTreeSet<(&NodeId, i64)> = BTreeSet::new();
    for replica in nodes {
        let report = state.nodes.get(&replica.node).and_then(|node| node.report.as_ref());
        for gpu in report.into_iter().flat_map(|report| &report.gpus).filter(|gpu| replica.gpus.contains(&gpu.index)) {
            let in_use = uses.get(&replica.node).is_some_and(|used| used.gpu_milli.contains_key(&gpu.index));
            if !in_use && woken.insert((&replica.node, gpu.index)) {
                *added.entry(replica.node.clone()).or_default() += gpu.max_w.0;
            }
        }
    }
    added
}

fn name_gang(names: &BTreeMap<NodeHandle, NodeId>, ask: &Ask, gang: &[Choice]) -> Vec<NodeGpus> {
    let name = |choice: &Choice| {
        Some(NodeGpus {
            node: names.get(&choice.node)?.clone(),
            gpus: choice.gpus.iter().map(|gpu| i64::from(*gpu)).collect(),
            gpu_milli_each: GpuMilli(if ask.gpus > 0 { ask.gpu_milli_each } else { 0 }),
        })
    };
    gang.iter().filter_map(name).collect()
}

/// Nodes of a pool by the domain of a level they lie in.
fn groups(
    state: &State,
    inventory: &crate::packing::Inventory,
    names: &BTreeMap<NodeHandle, NodeId>,
    pool: u32,
    level: TopologyLevel,
) -> BTreeMap<String, BTreeSet<NodeHandle>> {
    let mut groups: BTreeMap<String, BTreeSet<NodeHandle>> = BTreeMap::new();
    for (handle, _) in inventory.nodes().filter(|(_, node)| node.pool == pool) {
        let Some(node) = names.get(&handle) else { continue };
        let Some(report) = state.nodes.get(node).and_then(|row| row.report.as_ref()) else { continue };
        let group = match level {
            TopologyLevel::Leaf => report.leaf.as_ref().map(ToString::to_string),
            TopologyLevel::Spine => report.spine.as_ref().map(ToString::to_string),
            TopologyLevel::Rack => report.rack.as_ref().map(ToString::to_string),
            TopologyLevel::Site => Some(String::new()),
            TopologyLevel::NvlinkDomain | TopologyLevel::Unknown => Some(node.to_string()),
        };
        groups.entry(group.unwrap_or_else(|| node.to_string())).or_default().insert(handle);
    }
    groups
}

#[expect(clippy::too_many_arguments, reason = "node choice with its domain, called from one place")]
fn choose(
    state: &State,
    inventory: &mut crate::packing::Inventory,
    names: &BTreeMap<NodeHandle, NodeId>,
    rule: Rule,
    ask: &Ask,
    replicas: i64,
    pool: u32,
    level: Option<TopologyLevel>,
    accepts: &dyn Fn(NodeHandle) -> bool,
) -> Option<Vec<Choice>> {
    let area = [Area::Pool(pool)];
    let Some(level) =
        level.filter(|level| *level != TopologyLevel::Site && (replicas > 1 || *level == TopologyLevel::NvlinkDomain))
    else {
        return if replicas == 1 {
            inventory.choose(rule, ask, Scope::of(&area).accepting(accepts)).map(|choice| vec![choice])
        } else {
            inventory.choose_gang(rule, ask, replicas, Scope::of(&area).accepting(accepts))
        };
    };
    // The domain with the least room left over takes the gang, so that large rooms stay whole.
    let mut fitting: Vec<(i64, String, BTreeSet<NodeHandle>)> = Vec::new();
    for (name, group) in groups(state, inventory, names, pool, level) {
        let inside = |handle: NodeHandle| group.contains(&handle) && accepts(handle);
        let room = inventory.feasible_replicas(ask, Scope::of(&area).accepting(&inside), i64::MAX);
        if room >= replicas {
            fitting.push((room, name, group));
        }
    }
    fitting.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    fitting.into_iter().find_map(|(_, _, group)| {
        let inside = |handle: NodeHandle| group.contains(&handle) && accepts(handle);
        inventory.choose_gang(rule, ask, replicas, Scope::of(&area).accepting(&inside))
    })
}

fn index_largest(
    state: &State,
    inventory: &crate::packing::Inventory,
    names: &BTreeMap<NodeHandle, NodeId>,
    ask: &Ask,
    pool: u32,
    level: Option<TopologyLevel>,
    replicas: i64,
) -> i64 {
    let area = [Area::Pool(pool)];
    let groups = groups(state, inventory, names, pool, level.unwrap_or(TopologyLevel::Site));
    let room = |group: &BTreeSet<NodeHandle>| {
        let inside = |handle: NodeHandle| group.contains(&handle);
        inventory.feasible_replicas(ask, Scope::of(&area).accepting(&inside), replicas)
    };
    groups.values().map(room).max().unwrap_or(0)
}
