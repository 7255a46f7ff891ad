//! Making room for jobs that wait, once a tick.
//!
//! 1. By moving, where that is enough: nobody is stopped (`consolidate.rs`).
//! 2. For classes that preempt (`by_class.rs`).
//!
//! And, under order rules that promise no starts:
//!
//! 3. For the promised shares (`by_share.rs`).
//! 4. By the order of the line: a job may take the place of runs that come after it, if the work that is lost is less than half of what
//!    its own GPUs would have done while it waited. Where no shares are promised, who is first in line and starves is promised a start,
//!    and its nodes are nobody else's.
//!
//! Victims are whole gangs, those with the least lost work first.

use solyx_schemas::events::decisions::{LimitKind, StopCause};
use solyx_schemas::ids::{GpuModelId, JobId, NodeId, RunId, TenantId};
use solyx_schemas::units::{DurationUs, HOUR_US, TimeUs};

use super::by_class::{any_preempts, for_classes};
use super::by_share::for_shares;
use super::promise::earliest_start;
use super::room::{FullQuota, MayStop, Plan, plan};
use super::sets::{room_for_all, suffices, unstarted};
use super::share::{Given, Held, Shares, model_at};
use super::start::together;
use super::stops::stop_run;
use super::{Epoch, consolidate, elastic, moving};
use crate::apply::{expected_work_done, held_gpu_milli_s};
use crate::order_rule::{OrderRule, gang_milli, level, outstanding, rank, surcharged, surcharged_use};
use crate::place::{Promise, Promises};
use crate::queue::{Fit, Models, Place, Told, Turn, set_of};
use crate::rows::{Claim, Run, limit_of};
use crate::set_aside::is_reclaimable;

/// Whoever has waited so long for room, first in line, is promised a start where neither starts nor shares are.
const STARVED: DurationUs = DurationUs(48 * HOUR_US);
/// Jobs that one tick makes room for by the order of the line.
const STARTS_MAX: usize = 40;
/// Jobs of one line that are looked at for one that has waited long enough.
const LOOK_MAX: usize = 16;
/// Lines that are looked at for one that could start if others ended.
const STARTABLE_MAX: usize = 64;
/// Work that is lost at least when anything is stopped, thousandths of a GPU × s: a job that has waited for less cannot pay.
const LEAST_LOSS: i64 = 300_000;

/// A job that waits, as its line has it.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub class_value: i64,
    tenant: TenantId,
    pub turn: Turn,
    pub job: JobId,
    /// What it asks for, or all of its set together.
    gpu_milli: i64,
    pub fit: Fit,
    /// The models that it accepts, or all of its set; none where those differ.
    models: Option<Models>,
    /// The jobs that it starts together with, itself among them; empty where it starts by itself.
    pub set: Vec<JobId>,
}

/// A run that may be stopped for another job.
pub(super) struct Victim {
    pub run: RunId,
    tenant: TenantId,
    pub model: GpuModelId,
    pub gpu_milli: i64,
    /// Work that would be lost, thousandths of a GPU × s.
    pub loss: i64,
    pub since_checkpoint: DurationUs,
    /// From when on it has run for its class's minimum.
    pub stoppable_us: TimeUs,
    pub class_value: i64,
    level: usize,
    rank: i64,
    /// It may still be stopped for the order of the line alone.
    by_order: bool,
    pub stopped: bool,
}

impl Head {
    /// Whose job it is.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// Thousandths of GPUs that it, or its set, asks for at least.
    pub fn gpu_milli(&self) -> i64 {
        self.gpu_milli
    }

    /// The promises of its tenant that hold it.
    pub fn held(&self, epoch: &Epoch<'_>, shares: &Shares) -> Held {
        shares.held(&self.tenant, self.gpu_milli, epoch.index.queue.accepted(self.models))
    }

    /// The jobs that start if it does.
    pub fn jobs(&self) -> &[JobId] {
        if self.set.is_empty() { std::slice::from_ref(&self.job) } else { &self.set }
    }
}

impl Victim {
    /// Whose it is.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }
}

/// What a tick goes by.
pub(super) struct Scene {
    rule: OrderRule,
    /// Whether promised shares are given back.
    has_shares: bool,
    pub shares: Shares,
    pub victims: Vec<Victim>,
}

/// Makes room if it is time to.
pub fn tick(epoch: &mut Epoch<'_>) {
    let policy = epoch.state.policy();
    let (rule, tick) = (policy.order_rule(), epoch.state.tick());
    let due = tick.is_some_and(|tick| epoch.state.meta().last_tick_us.after(tick) <= epoch.now);
    if !due || epoch.index.queue.is_empty() {
        return;
    }
    epoch.state.meta_mut().last_tick_us = epoch.now;
    // Where moving is enough nobody is stopped.
    consolidate::tick(epoch);
    let by_class = any_preempts(epoch.state);
    if rule.promises_starts() && !by_class {
        return;
    }
    let has_shares = epoch.state.policy().promises_shares();
    let mut scene = Scene { rule, has_shares, shares: Shares::of(epoch), victims: victims(epoch, rule) };
    if by_class {
        for_classes(epoch, &mut scene);
    }
    if rule.promises_starts() {
        return;
    }
    if scene.has_shares {
        for_shares(epoch, &mut scene);
        by_order(epoch, &mut scene);
        return;
    }
    // What is promised to who starves is no room for those who only come before others.
    let kept = starving(epoch).map(|promise| (promise.nodes.into_iter().collect::<Vec<NodeId>>(), promise.job));
    if let Some((nodes, job)) = &kept {
        epoch.index.keep_nodes(nodes, job);
    }
    by_order(epoch, &mut scene);
    if let Some((nodes, job)) = &kept {
        epoch.index.keep_no_more(nodes, job);
    }
}

/// Whoever is first in line and has waited for longer than anybody should for room is promised its start, under rules that promise none
/// otherwise: without that, a stream of small jobs behind it would keep a gang from room for ever.
///
/// Whoever no end of any run lets start, on a fleet that has become too small for it, is passed over, and takes nobody's turn.
fn starving(epoch: &mut Epoch<'_>) -> Option<Promise> {
    let promised = epoch.state.meta().promised.first().cloned();
    if let Some(job) = promised.filter(|job| epoch.index.queue.line_of(job).is_some()) {
        if epoch.state.claims.contains(&job) {
            return None;
        }
        if let Some(promise) = earliest_start(epoch, &job, &Promises::default()) {
            return Some(promise);
        }
    }
    let room = |kind: LimitKind| is_room(kind) || kind == LimitKind::Power;
    let first = |heads: Vec<Head>| heads.into_iter().find(|head| head.set.is_empty());
    let mut heads: Vec<Head> = waiting(epoch, &room).filter_map(first).collect();
    let starves = |epoch: &Epoch<'_>, head: &Head| {
        epoch.state.jobs.get(&head.job).is_some_and(|job| job.waiting_since_us.after(STARVED) <= epoch.now)
    };
    if !heads.iter().any(|head| starves(epoch, head)) {
        return None;
    }
    heads.sort_by(|a, b| (-a.class_value, a.turn, &a.job).cmp(&(-b.class_value, b.turn, &b.job)));
    let mut startable = heads.into_iter().take(STARTABLE_MAX).filter_map(|head| {
        let promise = earliest_start(epoch, &head.job, &Promises::default())?;
        Some((starves(epoch, &head), promise))
    });
    let promise = startable.next().and_then(|(starves, promise)| starves.then_some(promise))?;
    epoch.state.meta_mut().promised = vec![promise.job.clone()];
    epoch.index.changed = true;
    Some(promise)
}

/// Everything that may be stopped at all.
fn victims(epoch: &Epoch<'_>, rule: OrderRule) -> Vec<Victim> {
    let most = epoch.state.policy().preemptions_max();
    let runs = epoch.state.runs.iter().filter(|(_, run)| {
        run.stop.is_none()
            // What is in use on a contract is nobody else's.
            && (run.draws.is_none() || is_reclaimable(epoch.state, run))
            && run.stop_at_checkpoint.is_none()
            && run.preemptible
            && epoch.state.classes.get(&run.class).is_none_or(|class| class.preemptible)
    });
    let stoppable_us = |run: &Run| {
        let least = epoch.state.classes.get(&run.class).map_or(DurationUs(0), |class| class.minimum_run_us);
        run.started_us.unwrap_or(run.placed_us).after(least)
    };
    runs.filter_map(|(id, run)| {
        let job = epoch.state.jobs.get(&run.job).filter(|job| i64::from(job.preemptions) < most)?;
        let policy = epoch.state.policy();
        let held = job.used_gpu_milli_s + held_gpu_milli_s(run, epoch.now);
        // Work is that of each replica of the least gang.
        let replicas = run.nodes.len() as i64;
        let least = epoch.state.elastic.get(&run.job).map_or(replicas, |row| row.least);
        let least_milli = run.gpu_milli.0 / replicas.max(1) * least;
        let done = (expected_work_done(run, epoch.now).0 / 1_000_000).saturating_mul(least_milli);
        let used = outstanding(run.said_gpu_milli_s, done, held);
        let left_s = run.expected_end_us.since(epoch.now).0.max(0) / 1_000_000;
        let rank = match rule {
            OrderRule::ShareSurcharge => surcharged(policy, job, used),
            OrderRule::ShortestRemaining => left_s.saturating_mul(run.gpu_milli.0),
            _ => level(policy, used) as i64,
        };
        let since_checkpoint = epoch.now.since(run.durable_us);
        Some(Victim {
            run: id.clone(),
            tenant: run.tenant.clone(),
            model: run.model.clone(),
            gpu_milli: run.gpu_milli.0,
            loss: loss_of(run, since_checkpoint),
            since_checkpoint,
            stoppable_us: stoppable_us(run),
            class_value: epoch.state.classes.get(&run.class).map_or(0, |class| class.value),
            level: level(policy, used),
            rank,
            by_order: i64::from(job.order_preemptions) < most.div_euclid(2).max(1),
            stopped: false,
        })
    })
    .collect()
}

/// Everything that was lent what is set aside: it can be told to stop for whom that is owed, whatever its class, how long it has
/// run and how often it was stopped.
pub(super) fn lent(epoch: &Epoch<'_>) -> Vec<Victim> {
    let runs = epoch.state.runs.iter().filter(|(_, run)| run.stop.is_none() && is_reclaimable(epoch.state, run));
    let victim = |(id, run): (&RunId, &Run)| {
        let since_checkpoint = epoch.now.since(run.durable_us);
        Victim {
            run: id.clone(),
            tenant: run.tenant.clone(),
            model: run.model.clone(),
            gpu_milli: run.gpu_milli.0,
            loss: loss_of(run, since_checkpoint),
            since_checkpoint,
            stoppable_us: epoch.now,
            class_value: 0,
            level: 0,
            rank: 0,
            by_order: false,
            stopped: false,
        }
    };
    runs.map(victim).collect()
}

/// Everything that may be moved, in the order of runs' ids: what may be stopped for another job whose place in line is lost on
/// nobody.
pub(super) fn movable(epoch: &Epoch<'_>) -> Vec<Victim> {
    let mut found = victims(epoch, epoch.state.policy().order_rule());
    found.retain(|victim| {
        let run = epoch.state.runs.get(&victim.run).filter(|_| victim.stoppable_us <= epoch.now);
        run.is_some_and(|run| moving::is_movable(epoch, run) && run.draws.is_none() && run.started_us.is_some())
    });
    found
}

/// Work that is lost when a run stops now, restoring it among that, thousandths of a GPU × s.
pub(super) fn loss_of(run: &Run, since_checkpoint: DurationUs) -> i64 {
    let lost_s = (since_checkpoint.0.saturating_add(run.restore_us.0)) / 1_000_000;
    lost_s.saturating_mul(run.gpu_milli.0)
}

/// Of every line, the first of the jobs that wait for room, as the limit that they were told says, and that nothing makes room for
/// yet.
pub(super) fn waiting<'e>(
    epoch: &'e Epoch<'_>,
    is_room: &'e dyn Fn(LimitKind) -> bool,
) -> impl Iterator<Item = Vec<Head>> + 'e {
    let lines = epoch.index.queue.classes().flat_map(move |class_value| {
        let tenants = epoch.index.queue.tenants(class_value);
        tenants.flat_map(move |(tenant, lines)| {
            lines.firsts().map(move |((.., shape), _)| (class_value, tenant, *shape, lines.line(*shape)))
        })
    });
    lines.map(move |(class_value, tenant, shape, line)| {
        let common = epoch.index.queue.common(shape);
        let waits_for_room = |((_, turn, job), told): (&Place, &Told)| {
            if epoch.state.claims.contains(job) || epoch.index.queue.drawers.contains(job) {
                return None;
            }
            let (gpu_milli, models, set) = match *told {
                Some(LimitKind::JobSet) => led_by(epoch, job)?,
                told => told.is_some_and(is_room).then(|| (common.gpu_milli, Some(common.models), Vec::new()))?,
            };
            // A set takes room from nobody from whom one of it could not.
            let values = set.iter().filter_map(|member| epoch.index.queue.turn_of(member)).map(|(value, _)| value);
            let class_value = values.min().unwrap_or(class_value);
            let (tenant, job) = (tenant.clone(), job.clone());
            Some(Head { class_value, tenant, turn: *turn, job, gpu_milli, fit: common.fit, models, set })
        };
        line.take(LOOK_MAX).filter_map(waits_for_room).collect()
    })
}

/// The members of a set in line, what they ask for together, and the models that all of them accept, for the first of them.
fn led_by(epoch: &Epoch<'_>, job: &JobId) -> Option<(i64, Option<Models>, Vec<JobId>)> {
    let spec = epoch.state.spec(job)?;
    // It is asked of every member, and answered by the first.
    if unstarted(epoch, &set_of(&spec)?).next() != Some(job) {
        return None;
    }
    let members = together(epoch, job, &spec)?;
    // What is still kept for one of them is used or given up first.
    let waits = |member: &JobId| epoch.index.queue.line_of(member).is_some() && !epoch.state.claims.contains(member);
    if !members.iter().all(waits) {
        return None;
    }
    let specs = members.iter().filter_map(|member| epoch.state.spec(member));
    let gpu_milli = specs.map(|spec| gang_milli(epoch.state, &spec)).sum();
    let queue = &epoch.index.queue;
    let mut models =
        members.iter().filter_map(|member| queue.line_of(member)).map(|(_, shape)| queue.common(shape).models);
    let first = models.next().filter(|first| models.all(|other| other == *first));
    Some((gpu_milli, first, members))
}

/// Whether a limit is one that stopping runs lifts.
pub(super) fn is_room(kind: LimitKind) -> bool {
    use LimitKind::{Cpu, Depth, Draining, FabricDomain, Gpus, Memory, Scratch, Spread};
    matches!(kind, Gpus | Cpu | Memory | Scratch | FabricDomain | Spread | Draining | Depth)
}

pub(super) fn free_milli(epoch: &Epoch<'_>) -> i64 {
    let used: i64 = epoch.index.tenants.values().map(|used| used.gpu_milli).sum();
    (epoch.index.total.gpu_milli - used).max(0)
}

/// Gives places to those who come before what runs there.
fn by_order(epoch: &mut Epoch<'_>, scene: &mut Scene) {
    let can_pay = |heads: Vec<Head>| heads.into_iter().find(|head| budget(epoch, head) >= LEAST_LOSS);
    let mut heads: Vec<Head> = waiting(epoch, &is_room).filter_map(can_pay).collect();
    heads.sort_by_cached_key(|head| {
        let beyond = scene.has_shares && !head.held(epoch, &scene.shares).everywhere;
        (-head.class_value, beyond, head.turn, head.job.clone())
    });
    for head in heads.into_iter().take(STARTS_MAX) {
        let Some((own_level, own_rank)) = place_of(epoch, &head) else { continue };
        let comes_before = |victim: &Victim, given: Given| {
            let behind =
                victim.rank > own_rank && (scene.rule != OrderRule::ShareSurcharge || victim.level > own_level);
            let borrows = || scene.shares.borrows(&victim.tenant, &victim.model, given);
            let whose = || !scene.has_shares || victim.tenant == head.tenant || borrows();
            victim.class_value == head.class_value && victim.by_order && behind && whose()
        };
        if let Some(plans) = find(epoch, scene, &head, Some(budget(epoch, &head)), &comes_before) {
            make_room(epoch, scene, &head, plans, true);
        }
    }
}

/// What may be lost for a job: half of what its GPUs would have done while it waited, thousandths of a GPU × s.
fn budget(epoch: &Epoch<'_>, head: &Head) -> i64 {
    let since = epoch.state.jobs.get(&head.job).map_or(epoch.now, |job| job.waiting_since_us);
    (epoch.now.since(since).0 / 1_000_000).saturating_mul(head.gpu_milli) / 2
}

/// Steps of GPU time that a job has used, and its rank by the order rule.
fn place_of(epoch: &Epoch<'_>, head: &Head) -> Option<(usize, i64)> {
    let (row, spec) = (epoch.state.jobs.get(&head.job)?, epoch.state.spec(&head.job)?);
    let own_rank = head.turn.rank().unwrap_or_else(|| rank(epoch.state, row, &spec));
    Some((level(epoch.state.policy(), surcharged_use(epoch.state, row, &spec)), own_rank))
}

/// Room for a job, or for each of its set, on the nodes where the least work is lost. `may` says whether a run can be stopped for
/// it when its tenant has given back so much already.
pub(super) fn find(
    epoch: &mut Epoch<'_>,
    scene: &Scene,
    head: &Head,
    budget: Option<i64>,
    may: &MayStop<'_>,
) -> Option<Vec<(JobId, Plan)>> {
    let bounds = Bounds { by: epoch.now, budget, full: FullQuota::Stays };
    find_by(epoch, scene, head, bounds, may)
}

/// How far room is looked for.
pub(super) struct Bounds {
    /// By when it can be made.
    pub by: TimeUs,
    /// The most work that may be lost, thousandths of a GPU × s; none for as much as it takes.
    pub budget: Option<i64>,
    /// What becomes of a quota that is full; those of a set stay.
    pub full: FullQuota,
}

/// Room within bounds.
pub(super) fn find_by(
    epoch: &mut Epoch<'_>,
    scene: &Scene,
    head: &Head,
    bounds: Bounds,
    may: &MayStop<'_>,
) -> Option<Vec<(JobId, Plan)>> {
    let Bounds { by, budget, full } = bounds;
    let may = |victim: &Victim, given: Given| {
        !victim.stopped
            && victim.stoppable_us <= by
            && victim.class_value <= head.class_value
            && budget.is_none_or(|budget| victim.loss <= budget)
            && may(victim, given)
    };
    // Most questions end here: what may be stopped is not enough, wherever it is.
    let mut stoppable =
        scene.victims.iter().filter(|victim| may(victim, Given::default())).map(|victim| victim.gpu_milli);
    let first = stoppable.next()?;
    if first + stoppable.sum::<i64>() + free_milli(epoch) < head.gpu_milli {
        return None;
    }
    let plans = match head.set.is_empty() {
        true => {
            let plans = vec![(head.job.clone(), plan(epoch, &head.job, &scene.victims, &may, full)?)];
            // A plan knows nothing of power, of a deadline and of what is set aside or held back: nobody is stopped for whom that
            // keeps out.
            if !suffices(epoch, &plans, &scene.victims) {
                return None;
            }
            plans
        }
        false => room_for_all(epoch, &head.set, &scene.victims, &may)?,
    };
    let loss: i64 = plans.iter().map(|(_, plan)| plan.loss).sum();
    let stops_any = plans.iter().any(|(_, plan)| !plan.victims.is_empty());
    (stops_any && budget.is_none_or(|budget| loss <= budget)).then_some(plans)
}

/// Tells the victims to stop and keeps their nodes for the job, or for each of its set.
pub(super) fn make_room(
    epoch: &mut Epoch<'_>,
    scene: &mut Scene,
    head: &Head,
    plans: Vec<(JobId, Plan)>,
    by_order: bool,
) {
    for (job, plan) in plans {
        let gpu_milli = epoch.state.spec(&job).map_or(0, |spec| gang_milli(epoch.state, &spec));
        scene.shares.take(&head.tenant, model_at(epoch, &plan.nodes).as_ref(), gpu_milli);
        make_room_for(epoch, scene, &job, plan, by_order);
    }
}

fn make_room_for(epoch: &mut Epoch<'_>, scene: &mut Scene, id: &JobId, plan: Plan, by_order: bool) {
    let mut stopped = Vec::new();
    for victim in plan.victims {
        let victim = &mut scene.victims[victim];
        let kept_milli = match elastic::stays(epoch, &victim.run, &plan.nodes) {
            Some(stays) => elastic::give_back_at_once(epoch, &victim.run, stays, id),
            None => stop_run(epoch, &victim.run, StopCause::Priority, Some(id.clone())).then_some(0),
        };
        let Some(kept_milli) = kept_milli else { continue };
        victim.stopped = true;
        scene.shares.take(&victim.tenant, Some(&victim.model), kept_milli - victim.gpu_milli);
        let job = epoch.state.runs.get(&victim.run).map(|run| run.job.clone());
        if let Some(job) = job.and_then(|job| epoch.state.jobs.edit(&job)) {
            job.preemptions = job.preemptions.saturating_add(1);
            job.order_preemptions = job.order_preemptions.saturating_add(u16::from(by_order));
        }
        stopped.push(victim.run.clone());
    }
    let gpu_milli = epoch.state.spec(id).map_or(0, |spec| gang_milli(epoch.state, &spec));
    epoch.index.claim(epoch.state, id, Claim { nodes: plan.nodes, victims: stopped, gpu_milli, berth: None });
    epoch.tell(id, &limit_of(LimitKind::Draining, id.as_str(), gpu_milli, 0, "GPU/1000"), None);
}
