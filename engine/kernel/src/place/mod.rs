//! Where a job can go now: the candidates pool by pool, with what each costs or the limit that rules it out.

mod berth;
mod cover;
mod domains;
mod elastic;
mod layout;
mod leased;
mod lending;
mod limits;
mod nodes;
mod promise;
mod set_aside;
mod spread;

use std::collections::BTreeSet;

use solyx_schemas::events::capacity::{CapacityClass, PoolDeclared};
use solyx_schemas::events::common::NodeGpus;
use solyx_schemas::events::decisions::{CostTerms, Limit, LimitKind};
use solyx_schemas::events::policy::OwnedFirst;
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

use self::berth::still_there;
pub use self::berth::{costs_no_more, elsewhere, place_at};
pub(crate) use self::cover::{Space, cover};
use self::elastic::in_time;
pub use self::elastic::{most_replicas, place_of, scaled, step};
pub(crate) use self::layout::{Domain, Layout, contradiction, domain_of, failure_domain_of, spread_name, spread_of};
use self::leased::order_size;
pub(crate) use self::leased::takes_orders;
pub use self::lending::{kept_milli, lending_limit};
pub(crate) use self::limits::fixed_limits;
use self::limits::{failover_limit, spread_limit};
pub use self::limits::{on_order, quota_limit, quota_most, quota_subject};
pub(crate) use self::nodes::replica_w;
use self::nodes::{Wanted, added_power};
pub use self::promise::{Promise, Promises};
use self::set_aside::{Offer, set_aside_offer};
pub(crate) use self::spread::Spread;
use crate::clearing::is_for_like;
use crate::cost::{Question, Unpriced, terms, total, weights};
use crate::index::{Index, quota_keys};
use crate::mig::{self, Instances};
use crate::packing::{Ask, Kind, Kinds};
use crate::rows::*;
use crate::set_aside::Draw;
use crate::state::State;

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
    /// MIG instances on them.
    pub mig: Option<Instances>,
    /// Instances to be ordered first.
    pub new_instances: i64,
    /// When it could start.
    pub start: TimeUs,
    /// How long it is expected to run.
    pub duration: DurationUs,
    /// Its cost.
    pub terms: CostTerms,
    /// What it takes of a reservation or sold lease.
    pub draws: Option<Draw>,
    /// When it has to be over, since what it takes is set aside from then on.
    pub yields_at: Option<TimeUs>,
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

/// Everything known about a job's places now.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Candidates, best first.
    pub candidates: Vec<Candidate>,
    /// Per pool that is none, why.
    pub refusals: Vec<(PoolId, Limit)>,
    /// Whose the job is may be why.
    by_tenant: bool,
}

impl Places {
    /// Whether some pool would take the job if what is in use there became free.
    pub fn wants_room(&self) -> bool {
        self.refusals.iter().any(|(_, limit)| {
            matches!(
                limit.kind,
                LimitKind::Gpus
                    | LimitKind::Cpu
                    | LimitKind::Memory
                    | LimitKind::Scratch
                    | LimitKind::FabricDomain
                    | LimitKind::Spread
                    | LimitKind::Power
                    | LimitKind::Draining
            )
        })
    }

    /// Whether what rules the pools out is the same for whoever asks for the same.
    pub fn binds_all(&self) -> bool {
        use LimitKind::{Backfill, Budget, Deadline, Price, Quota, Reservation};
        let own = |limit: &Limit| matches!(limit.kind, Backfill | Budget | Deadline | Price | Quota | Reservation);
        !self.by_tenant && !self.refusals.iter().any(|(_, limit)| own(limit))
    }

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
        LimitKind::FailoverReserve | LimitKind::Reservation => 16,
        LimitKind::Cpu | LimitKind::Memory | LimitKind::Scratch => 15,
        LimitKind::FabricDomain | LimitKind::Spread => 14,
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

/// What one replica of a job asks of a node. Of a MIG profile it is still open what that is: see [`ask_on`].
pub fn ask_of(state: &State, spec: &Spec, job: &Job, index: &mut Index) -> Ask {
    let apart = crate::apart::asks(state, spec);
    let tenant = if crate::apart::shares(&spec.gang) { index.owner_number(&spec.tenant) } else { 0 };
    let models = model_numbers(spec.models.iter().map(|choice| &choice.model), &mut index.models);
    Ask {
        gpus: spec.gang.gpus.0,
        gpu_milli_each: spec.gang.gpu_milli_each.0,
        cpu_milli: spec.gang.cpu_milli.0,
        memory_mib: job.past().memory_mib.unwrap_or(spec.gang.memory_mib).0,
        scratch_gib: spec.gang.scratch_gib.map_or(0, |g| g.0),
        models,
        exclusive: spec.gang.exclusive_node,
        mig: None,
        tenant,
        apart,
    }
}

/// The same on a GPU model, where it is another than in general: with a MIG profile, whose placements are the model's.
pub fn ask_on(state: &State, spec: &Spec, index: &Index, ask: &Ask, model: &GpuModelId) -> Option<Ask> {
    let profile = spec.gang.mig_profile.as_ref()?;
    Some(Ask {
        gpu_milli_each: mig::milli_each_on(state, spec, model),
        // A model that has no number is on no node.
        models: Some(index.models.get(model).into_iter().collect()),
        mig: Some(mig::division(state, model, profile)),
        ..ask.clone()
    })
}

/// What one replica of a job asks of a node with this GPU model.
pub fn ask_at(state: &State, spec: &Spec, job: &Job, index: &mut Index, model: &GpuModelId) -> Ask {
    let ask = ask_of(state, spec, job, index);
    ask_on(state, spec, index, &ask, model).unwrap_or(ask)
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
pub fn places(state: &State, index: &mut Index, id: &JobId, promises: &Promises) -> Places {
    match (state.jobs.get(id), state.spec(id)) {
        (Some(job), Some(spec)) => places_of(state, index, id, (job, &spec), promises),
        _ => Places::default(),
    }
}

/// The same for who has the job's rows at hand: a request has to be unpacked.
pub fn places_of(
    state: &State,
    index: &mut Index,
    id: &JobId,
    (job, spec): (&Job, &Spec),
    promises: &Promises,
) -> Places {
    let mut found = Places::default();
    let ask = ask_of(state, spec, job, index);
    found.by_tenant =
        crate::apart::shares(&spec.gang) && (ask.apart || index.keepers > 0) || is_for_like(state, &index.queue, id);
    let pools: Vec<&PoolDeclared> = state.pools.iter().filter_map(|(_, pool)| pool.declared.as_ref()).collect();
    if pools.is_empty() {
        let subject = Some(RefId::from("pools"));
        found.refusals.push((PoolId::default(), Limit { subject, ..limit(LimitKind::Undeclared) }));
    }
    let asking = Asking { id, job, spec, ask: &ask };
    for pool in pools {
        match candidate(state, index, asking, asking.replicas(), pool, promises, None) {
            Ok(candidate) => found.candidates.push(candidate),
            Err(limit) => {
                let larger =
                    if limit.kind == LimitKind::Deadline { in_time(state, index, id, pool, promises) } else { None };
                match larger {
                    Some(candidate) => found.candidates.push(candidate),
                    None => found.refusals.push((pool.pool.clone(), limit)),
                }
            }
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

/// A job that asks for a place.
#[derive(Clone, Copy)]
pub struct Asking<'a> {
    /// The job.
    pub id: &'a JobId,
    /// Its row.
    pub job: &'a Job,
    /// Its request, with as many replicas as it asks for now.
    pub spec: &'a Spec,
    /// What a replica asks of a node.
    pub ask: &'a Ask,
}

impl Asking<'_> {
    /// Replicas.
    pub fn replicas(&self) -> i64 {
        self.spec.gang.replicas_min.0
    }

    /// Thousandths of GPUs of the whole gang.
    pub fn gpu_milli(&self) -> i64 {
        self.replicas() * self.ask.gpu_milli()
    }
}

/// What a pool answers to a job; what it says of its work is of a gang of `least`. The best nodes are looked for, unless it asks
/// for certain ones.
fn candidate(
    state: &State,
    index: &mut Index,
    asking: Asking<'_>,
    least: i64,
    pool: &PoolDeclared,
    promises: &Promises,
    at: Option<&[NodeGpus]>,
) -> Result<Candidate, Limit> {
    let Asking { id, job, spec, .. } = asking;
    let (model, speed) = suits(state, asking, pool)?;
    let speed = scaled(speed, asking.replicas(), least);
    let on_model = ask_on(state, spec, index, asking.ask, model);
    let asking = Asking { ask: on_model.as_ref().unwrap_or(asking.ask), ..asking };
    let now = state.now();
    let (duration, known) = duration_of(state, spec, job, speed);
    let before = promises.before(id, now.after(duration));
    // What draws on a contract is paid for, and counts against no quota.
    let draws = index.set_aside.is_on() && crate::set_aside::in_force(state, spec).is_some();
    if !draws {
        within_quotas(state, index, asking, (pool, model), &before)?;
    }
    let planned = match at {
        Some(nodes) => still_there(state, index, asking, pool, nodes).map(|nodes| (nodes, None)),
        None => Wanted { state, asking, pool, before: &before }.plan(index),
    };
    let leased = is_leased(pool);
    let ((nodes, mig), new_instances, start) = match planned {
        Ok(gang) => (gang, 0, now),
        // Who has idle instances kept that do not hold it orders no more before those are given up.
        Err(_) if leased && !index.keeps_idle(id) => {
            let instances = order_size(state, spec, asking.ask, pool)?;
            ((Vec::new(), None), instances, now.after(pool.start_delay_us))
        }
        Err(limit) => return Err(limit),
    };
    // What an instance takes from others is the GPU that has to be divided for it.
    let gpu_milli = if mig.is_some() { fresh_milli(index, &nodes) } else { asking.gpu_milli() };
    if !draws
        && mig.is_some()
        && let Some(limit) = lending_limit(state, index, pool, spec, model, gpu_milli)
    {
        return Err(limit);
    }
    let end = known.then(|| start.after(duration));
    let Offer { draws, yields_at } =
        set_aside_offer(state, index, spec, pool, (&nodes, mig.is_some()), gpu_milli, end)?;
    if draws.is_none()
        && let Some(limit) = failover_limit(state, index, pool, model, gpu_milli, new_instances)
    {
        return Err(limit);
    }
    if let Some((deadline, end)) = spec.deadline_us.zip(end)
        && end > deadline
    {
        return Err(limit_of(LimitKind::Deadline, id.as_str(), end.since(deadline).0, 0, "µs late"));
    }
    let terms = price(state, index, asking, pool, (start, duration), new_instances)?;
    let forced = weights(state, now).is_none_or(|weights| weights.owned_first != OwnedFirst::MarginalCost);
    Ok(Candidate {
        pool: pool.clone(),
        model: model.clone(),
        speed,
        nodes,
        mig,
        new_instances,
        start,
        duration,
        terms,
        draws,
        yields_at,
        rank: if forced { class_rank(pool.class) } else { 0 },
    })
}

fn is_leased(pool: &PoolDeclared) -> bool {
    matches!(pool.class, CapacityClass::OnDemand | CapacityClass::Spot)
}

/// The model of a pool where a job may go as it is, with its speed there; otherwise the limit, whatever is in use.
fn suits<'a>(state: &State, asking: Asking<'a>, pool: &'a PoolDeclared) -> Result<(&'a GpuModelId, i64), Limit> {
    let Asking { id, spec, .. } = asking;
    if let Some(limit) = fixed_limits(state, spec, pool).or_else(|| spread_limit(state, spec, pool)) {
        return Err(limit);
    }
    let on = accepted(spec, pool).ok_or_else(|| limit(LimitKind::GpuModel))?;
    let replicas = asking.replicas();
    if let Some(segment) = Layout::of(spec).segment.filter(|segment| replicas % segment != 0) {
        let fit = replicas - replicas % segment;
        return Err(limit_of(LimitKind::FabricDomain, id.as_str(), replicas, fit, "replicas in equal segments"));
    }
    let is_priced = || state.pools.get(&pool.pool).is_some_and(|row| row.price_at(state.now()).is_some());
    if is_leased(pool) && !is_priced() {
        return Err(Limit { subject: Some(RefId::from(format!("pool:{}", pool.pool))), ..limit(LimitKind::Price) });
    }
    Ok(on)
}

/// Whether quotas let a job have what it asks for in a pool of a model: its own, what others keep of theirs, and what promises before
/// it will need.
fn within_quotas(
    state: &State,
    index: &Index,
    asking: Asking<'_>,
    (pool, model): (&PoolDeclared, &GpuModelId),
    before: &[&Promise],
) -> Result<(), Limit> {
    let Asking { spec, ask, .. } = asking;
    let gpu_milli = asking.gpu_milli();
    if let Some(limit) = quota_limit(state, index, spec, model, gpu_milli) {
        return Err(limit);
    }
    if ask.mig.is_none()
        && let Some(limit) = lending_limit(state, index, pool, spec, model, gpu_milli)
    {
        return Err(limit);
    }
    if !before.is_empty() {
        let keys = quota_keys(state, &spec.tenant, spec.project.as_ref(), model);
        if let Some(promise) = before.iter().find(|promise| promise.breaks_quota(state, index, &keys, gpu_milli)) {
            return Err(promise.limit());
        }
    }
    Ok(())
}

/// Thousandths of GPUs that have to be divided for instances there.
fn fresh_milli(index: &Index, nodes: &[NodeGpus]) -> i64 {
    let gpus: BTreeSet<(&NodeId, i64)> =
        nodes.iter().flat_map(|own| own.gpus.iter().map(|gpu| (&own.node, *gpu))).collect();
    let is_divided = |node: &NodeId, gpu: i64| index.uses.get(node).is_some_and(|used| used.slices.contains_key(&gpu));
    gpus.into_iter().filter(|(node, gpu)| !is_divided(node, *gpu)).count() as i64 * 1_000
}

/// What a job costs in a pool that it accepts, from a start on and for so long.
pub fn price(
    state: &State,
    index: &Index,
    asking: Asking<'_>,
    pool: &PoolDeclared,
    (start, duration): (TimeUs, DurationUs),
    new_instances: i64,
) -> Result<CostTerms, Limit> {
    let Asking { job, spec, ask, .. } = asking;
    let (model, _) = accepted(spec, pool).ok_or_else(|| limit(LimitKind::GpuModel))?;
    let checkpoint_mib = spec.checkpoint_mib.map_or(0, |size| size.0);
    let interval = spec.checkpoint_interval_us.map_or(duration.0, |interval| interval.0.min(duration.0));
    let question = Question {
        spec,
        pool,
        start,
        duration,
        gpu_milli: asking.gpu_milli(),
        power_w: power_of(state, ask, model, asking.replicas()),
        new_instances,
        at_risk_us: interval.saturating_add(spec.restore_us.map_or(0, |restore| restore.0)),
        checkpoint: job.past().checkpoint_site.as_ref().map(|site| (site, checkpoint_mib)),
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
