//! Who starts: by priority class, then as the order rule says (`order_rule.rs`).
//!
//! Under rules that promise starts, the first gangs that do not fit (one, unless policy says more) are promised their earliest
//! starts, and what comes after may start only if it does not delay them (EASY backfill; Lifka, "The ANL/IBM SP Scheduling System", 1995). Under the others
//! whatever fits starts, and room is made for those who wait too long (`preempt.rs`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use solyx_schemas::events::decisions::{Limit, LimitKind};
use solyx_schemas::ids::{JobId, NodeId, TenantId};
use solyx_schemas::units::TimeUs;

use super::by_class::{Promised, PromisedStarts};
use super::closing::open_for_nobody;
use super::heads::{Heads, Order, Verdict};
use super::share::Shares;
use super::standstill::Standstill;
use super::start::{Outcome, together, try_start};
use super::{Epoch, elastic, moving, promise, reclaim};
use crate::order_rule::gang_milli;
use crate::place::{Promises, quota_limit};
use crate::queue::{Fit, Head, Shape, Told};
use crate::rows::{Phase, Run, limit};

/// What one pass has found out so far.
#[derive(Default)]
pub(super) struct Pass {
    /// Lines that need not be asked again, and why.
    blocked: BTreeMap<(TenantId, Shape), Limit>,
    /// What there is no room for, whoever asks.
    full: BTreeMap<Fit, Limit>,
    /// Jobs tried without their line being blocked.
    tried: BTreeSet<JobId>,
    /// The first gangs that did not fit.
    promises: Promises,
    /// Jobs tried after it.
    depth: i64,
    /// Jobs that what is set aside was kept from.
    kept_off: i64,
    /// What tenants have of their promised shares, under rules that look at it.
    shares: Option<Shares>,
    /// What no node has enough of, under rules that promise no starts: those promise one to whoever does not fit.
    standstill: Option<Standstill>,
    /// Something was placed since that was looked at.
    is_past: bool,
    /// Lines in which somebody is to be told what keeps them.
    untold: BTreeSet<Shape>,
    /// Lines in which somebody has instances kept for it: it is asked whatever keeps those before it.
    keepers: BTreeSet<(TenantId, Shape)>,
    /// Whether the order rule promises starts.
    promises_starts: bool,
    /// Jobs tried after the first promise at most.
    depth_max: i64,
    /// Who was promised a start by the pass before.
    promised: Vec<JobId>,
}

/// One pass over all who wait.
pub fn pass(epoch: &mut Epoch<'_>) {
    let mut pass = Pass::begin(epoch);
    // Where neither starts nor shares are promised, a start is to who starves, until it starts.
    let guards = !pass.promises_starts && pass.shares.is_none();
    let mut guard = pass.promised.first().filter(|_| guards).and_then(|job| Guard::of(epoch, job));
    let classes: Vec<i64> = epoch.index.queue.classes().collect();
    for class in classes {
        ask_class(epoch, &mut pass, class, &mut guard);
    }
    let now_promised: Vec<JobId> = match guards {
        true => pass.promised.iter().filter(|job| epoch.index.queue.line_of(job).is_some()).cloned().collect(),
        false => pass.promises.iter().map(|promise| promise.job.clone()).collect(),
    };
    // Who starved has left the line after others were kept off what it did not take.
    epoch.index.changed |= guards && now_promised.len() < pass.promised.len();
    if epoch.state.meta().promised != now_promised {
        epoch.state.meta_mut().promised = now_promised;
    }
    tell_fresh(epoch, &pass);
}

/// Asks whoever waits in a class, as the order rule says, until nobody is left who could start.
fn ask_class(epoch: &mut Epoch<'_>, pass: &mut Pass, class: i64, guard: &mut Option<Guard>) {
    // Who have promises keep them while shares turn: they go first in their class, but for those who are owed recovery.
    let promised = pass.promised.iter();
    let mut first: VecDeque<_> = promised.filter_map(|job| epoch.index.queue.in_line(job, class)).collect();
    if pass.is_deep() && first.is_empty() {
        return;
    }
    let rule = epoch.state.policy().order_rule();
    let mut heads = Heads::of(&epoch.index.queue, class, &pass.verdict(epoch));
    let mut order = Order::of(epoch, rule, &heads, pass.shares.as_ref());
    loop {
        // However deep the pass has gone, whoever was promised a start is asked.
        let next = Some(&order).filter(|_| !pass.is_deep()).and_then(|order| order.next(&heads));
        let is_asked = !first.is_empty() || guard.is_some();
        let turn = next.as_ref().filter(|_| is_asked).and_then(|(.., job)| epoch.index.queue.turn_of(job));
        let owed_by = turn.filter(|(_, turn)| turn.is_owed()).map(|(_, turn)| turn.recover_by());
        let next = if owed_by.is_some() { next } else { first.pop_front().or(next) };
        let Some((tenant, shape, job)) = next else { break };
        if let Some(guard) = guard {
            guard.stand(epoch, &mut pass.promises, class, owed_by);
        }
        // Much may have changed since it was found to be next.
        let place = epoch.index.queue.place_of(&job);
        let changed = match place.filter(|(head, told)| pass.verdict(epoch)(&tenant, head, *told) == Verdict::Open) {
            Some(_) => ask(epoch, pass, (tenant, shape, job)),
            None => vec![tenant],
        };
        for tenant in &changed {
            heads.settle(&epoch.index.queue, tenant, &pass.verdict(epoch));
            order.refresh(epoch, &heads, pass.shares.as_ref(), tenant);
        }
    }
}

/// Asks one job, with its set if it is of one. Whose lines may have changed by that.
fn ask(epoch: &mut Epoch<'_>, pass: &mut Pass, (tenant, shape, job): (TenantId, Shape, JobId)) -> Vec<TenantId> {
    if !pass.promises.is_empty() && pass.promises_starts {
        pass.depth += 1;
    }
    let set = set_lines(epoch, &job);
    match try_start(epoch, &job, &mut pass.promises) {
        Outcome::Left if set.is_empty() => {
            pass.left(epoch, &tenant, shape, &job);
            // It does not stand in line any more; if it did, it would be asked for ever.
            if epoch.index.queue.line_of(&job).is_some() {
                pass.tried(&job);
            }
        }
        Outcome::Left => set.iter().for_each(|(tenant, shape, job)| pass.left(epoch, tenant, *shape, job)),
        Outcome::Waits { limit, binds_all, wants_room } => {
            // What runs before it on its tenant's quota does not end a promise: it is to end by then.
            let holds = pass.promised.contains(&job) && limit.kind == LimitKind::Quota;
            let is_kept_off = limit.kind == LimitKind::Backfill;
            if pass.promises_starts && (wants_room || holds || is_kept_off) && pass.may_promise(epoch, &job) {
                // Of a set it is the one that lacks room.
                let lacking = limit.subject.as_ref().filter(|_| limit.kind == LimitKind::JobSet);
                let lacking = lacking.map_or_else(|| job.clone(), |id| JobId::from(id.as_str()));
                let promise = promise::earliest_start(epoch, &lacking, &pass.promises);
                promise.into_iter().for_each(|promise| pass.promises.make(promise));
            }
            for (.., other) in set.iter().filter(|(.., other)| *other != job) {
                epoch.tell(other, &limit, None);
                pass.tried.insert(other.clone());
            }
            waits(epoch, pass, tenant.clone(), shape, &job, limit, binds_all);
        }
    }
    let mut changed: Vec<TenantId> = set.into_iter().map(|(tenant, ..)| tenant).chain([tenant]).collect();
    changed.sort();
    changed.dedup();
    changed
}

/// Whoever has not been told anything yet hears what keeps its line, or that it lies too deep.
fn tell_fresh(epoch: &mut Epoch<'_>, pass: &Pass) {
    for job in std::mem::take(&mut epoch.index.queue.fresh) {
        let known = epoch.index.queue.line_of(&job).and_then(|line| {
            let fit = epoch.index.queue.common(line.1).fit;
            let for_all = || pass.full.get(&fit).map(|limit| own_quota(epoch, &job).unwrap_or_else(|| limit.clone()));
            pass.blocked.get(&line).cloned().or_else(for_all)
        });
        epoch.tell(&job, &known.unwrap_or_else(|| limit(LimitKind::Depth)), None);
    }
}

/// The quota that keeps a job out whatever model it takes: what keeps everybody who asks for the same counts for less.
fn own_quota(epoch: &Epoch<'_>, job: &JobId) -> Option<Limit> {
    let spec = epoch.state.spec(job).filter(|_| !epoch.state.quotas.is_empty())?;
    let asked = gang_milli(epoch.state, &spec);
    let of = |model| quota_limit(epoch.state, epoch.index, &spec, model, asked);
    match spec.models.is_empty() {
        true => epoch.state.models.iter().map(|(model, _)| of(model)).collect::<Option<Vec<_>>>()?.pop(),
        false => spec.models.iter().map(|choice| of(&choice.model)).collect::<Option<Vec<_>>>()?.pop(),
    }
}

/// The jobs that would start together with one, each with its line.
fn set_lines(epoch: &Epoch<'_>, job: &JobId) -> Vec<(TenantId, Shape, JobId)> {
    if epoch.index.queue.has_no_sets() {
        return Vec::new();
    }
    let Some(spec) = epoch.state.spec(job) else { return Vec::new() };
    let place = |id: JobId| {
        let (tenant, shape) = epoch.index.queue.line_of(&id)?;
        Some((tenant, shape, id))
    };
    together(epoch, job, &spec).into_iter().flatten().filter_map(place).collect()
}

/// Those that room is made for take it first, as soon as it is free. A claim ends when it is used, and when what was told to
/// stop for it is gone and the room is still not enough.
fn claims(epoch: &mut Epoch<'_>, pass: &mut Pass) {
    let mut jobs: Vec<JobId> = epoch.state.claims.iter().map(|(job, _)| job.clone()).collect();
    // Who is moved goes on first: it uses what it has used all along. What a job gives back is taken before it goes on with the
    // rest.
    jobs.sort_by_key(|job| (!moving::is_moved(epoch, job), elastic::is_resized(epoch, job)));
    // As they are until somebody starts or gives up its claim.
    let mut promised: Option<PromisedStarts> = None;
    for job in jobs {
        let Some((tenant, shape)) = epoch.index.queue.line_of(&job) else {
            let stopping = epoch.state.jobs.get(&job).is_some_and(|job| job.phase == Phase::Stopping);
            if !stopping || !elastic::is_resized(epoch, &job) && !moving::is_moved(epoch, &job) {
                elastic::waits_again(epoch, &job);
                epoch.index.give_up_claim(epoch.state, &job);
            }
            continue;
        };
        if moving::is_moved(epoch, &job) {
            // Without the room that was held for it, it waits for its turn.
            if moving::go_on(epoch, &job) {
                pass.left(epoch, &tenant, shape, &job);
            }
            continue;
        }
        if elastic::go_on(epoch, &job) {
            promised = None;
            pass.left(epoch, &tenant, shape, &job);
            continue;
        }
        elastic::waits_again(epoch, &job);
        if pass.tried.contains(&job) {
            continue;
        }
        // Of a set some may have their room before others.
        let set = set_lines(epoch, &job);
        let all = if set.is_empty() { vec![(tenant, shape, job.clone())] } else { set };
        let starts = promised.get_or_insert_with(|| PromisedStarts::of(epoch));
        match start_beside(epoch, &job, &all, starts) {
            Outcome::Left => {
                promised = None;
                all.iter().for_each(|(tenant, shape, job)| pass.left(epoch, tenant, *shape, job));
            }
            Outcome::Waits { limit, .. } => {
                let claims = all.iter().filter_map(|(.., job)| epoch.state.claims.get(job));
                let is_over = !claims.flat_map(|claim| &claim.victims).any(|run| epoch.state.runs.contains(run));
                if is_over {
                    promised = None;
                }
                for (.., job) in all {
                    epoch.tell(&job, &limit, None);
                    if is_over {
                        epoch.index.give_up_claim(epoch.state, &job);
                    }
                    pass.tried.insert(job);
                }
            }
        }
    }
}

/// Starts a job for which room was made, beside what others were promised before it if that is possible.
fn start_beside(
    epoch: &mut Epoch<'_>,
    job: &JobId,
    all: &[(TenantId, Shape, JobId)],
    promised: &PromisedStarts,
) -> Outcome {
    let jobs: Vec<JobId> = all.iter().map(|(.., job)| job.clone()).collect();
    let value = jobs.iter().filter_map(|job| epoch.index.queue.turn_of(job)).map(|(value, _)| value).min();
    let mut others = value.map_or_else(Vec::new, |value| promised.before(value, &jobs));
    // What room is made for is kept by its own claim.
    others.retain(|other| !epoch.state.claims.contains(&other.promise.job));
    if !others.is_empty() {
        let claims = jobs.iter().filter_map(|job| epoch.state.claims.get(job));
        let own: BTreeSet<NodeId> = claims.flat_map(|claim| &claim.nodes).cloned().collect();
        let beside = |Promised { promise, .. }: &Promised| {
            let nodes = promise.nodes.iter().filter(|node| !own.contains(*node));
            (nodes.cloned().collect::<Vec<NodeId>>(), promise.job.clone())
        };
        let kept: Vec<_> = others.into_iter().map(beside).collect();
        kept.iter().for_each(|(nodes, job)| epoch.index.keep_nodes(nodes, job));
        let outcome = try_start(epoch, job, &mut Promises::default());
        kept.iter().for_each(|(nodes, job)| epoch.index.keep_no_more(nodes, job));
        if matches!(outcome, Outcome::Left) {
            return outcome;
        }
    }
    try_start(epoch, job, &mut Promises::default())
}

/// Who starves, where neither starts nor shares are promised: nobody delays its start but those of its class or a higher one who are
/// owed recovery.
struct Guard {
    job: JobId,
    class_value: i64,
    /// By when it is owed to run again itself.
    recover_by: TimeUs,
    /// Whether the promise is made as things are, if there is one to make.
    stands: bool,
}

impl Guard {
    fn of(epoch: &Epoch<'_>, job: &JobId) -> Option<Self> {
        let (class_value, turn) = epoch.index.queue.turn_of(job)?;
        Some(Self { job: job.clone(), class_value, recover_by: turn.recover_by(), stands: false })
    }

    /// Makes the promise beside somebody of a class, or takes it back for one who is owed recovery before it.
    fn stand(&mut self, epoch: &mut Epoch<'_>, promises: &mut Promises, class_value: i64, owed_by: Option<TimeUs>) {
        let before = |by| class_value > self.class_value || class_value == self.class_value && by < self.recover_by;
        let yields = owed_by.is_some_and(before);
        let holds = !yields && epoch.index.queue.line_of(&self.job).is_some();
        if !holds {
            promises.forget(&self.job);
        } else if !self.stands {
            let promise = promise::earliest_start(epoch, &self.job, promises);
            promise.into_iter().for_each(|promise| promises.make(promise));
        }
        self.stands = holds;
    }
}

impl Pass {
    /// Whoever has a claim or reclaims its share goes before all others.
    fn begin(epoch: &mut Epoch<'_>) -> Self {
        let policy = epoch.state.policy();
        let mut pass = Self {
            promises_starts: policy.order_rule().promises_starts(),
            depth_max: policy.backfill_depth(),
            ..Self::default()
        };
        open_for_nobody(epoch);
        reclaim::count_asked(epoch);
        claims(epoch, &mut pass);
        // Who had a claim has been counted by that; now it counts by its run.
        if epoch.state.policy().promises_shares() {
            pass.shares = Some(Shares::of(epoch));
        }
        reclaim::count_asked(epoch);
        reclaim::serve(epoch, &mut pass);
        if !pass.promises_starts {
            pass.standstill = Some(Standstill::of(epoch));
        }
        let untold = epoch.index.queue.fresh.iter().filter_map(|job| epoch.index.queue.line_of(job));
        pass.untold = untold.map(|(_, shape)| shape).collect();
        pass.keepers = epoch.index.earmarked.keys().filter_map(|job| epoch.index.queue.line_of(job)).collect();
        pass.promised = epoch.state.meta().promised.clone();
        pass
    }

    /// Whether as many were tried behind a promise as may be.
    fn is_deep(&self) -> bool {
        self.promises_starts && !self.promises.is_empty() && self.depth >= self.depth_max
    }

    /// Whether another start may be promised to such a job: those who are owed recovery do not use up what there is for others.
    fn may_promise(&self, epoch: &Epoch<'_>, job: &JobId) -> bool {
        let is_owed = |job: &JobId| epoch.index.queue.is_owed(job);
        let alike = self.promises.iter().filter(|promise| is_owed(&promise.job) == is_owed(job));
        alike.count() < epoch.state.policy().backfill_reservations()
    }

    /// Takes note of a job that was tried and need not wait for room any more.
    pub(super) fn left(&mut self, epoch: &Epoch<'_>, tenant: &TenantId, shape: Shape, job: &JobId) {
        self.is_past = true;
        if epoch.index.queue.line_of(job).is_some() {
            // Of its set others wait for instances.
            return;
        }
        let run = epoch.state.jobs.get(job).and_then(|job| job.run.as_ref());
        if let (Some(shares), Some(run)) = (self.shares.as_mut(), run) {
            let least = epoch.index.queue.common(shape).gpu_milli;
            // What draws on something set aside was paid for and takes nothing of a share.
            let taken = |run: &Run| if run.draws.is_some() { 0 } else { run.gpu_milli.0 };
            let run = epoch.state.runs.get(run);
            shares.take(tenant, run.map(|run| &run.model), run.map_or(least, taken));
        }
    }

    /// Takes note of a job that need not be tried again.
    pub(super) fn tried(&mut self, job: &JobId) {
        self.tried.insert(job.clone());
    }

    /// Takes note of what keeps the line of a job.
    pub(super) fn block(&mut self, epoch: &Epoch<'_>, job: &JobId, limit: &Limit) {
        if let Some(line) = epoch.index.queue.line_of(job) {
            self.blocked.insert(line, limit.clone());
        }
    }

    pub(super) fn passes_over(&self, epoch: &Epoch<'_>, tenant: &TenantId, shape: Shape) -> bool {
        self.full.contains_key(&epoch.index.queue.common(shape).fit)
            || !self.blocked.is_empty() && self.blocked.contains_key(&(tenant.clone(), shape))
    }

    /// What is to be done about whoever is next in a line.
    fn verdict(&self, epoch: &Epoch<'_>) -> impl Fn(&TenantId, &Head, Told) -> Verdict {
        |tenant, (_, job, shape), told| {
            let stands_still = || {
                self.standstill.as_ref().is_some_and(|standstill| standstill.holds(epoch, *shape, told))
                    && !self.untold.contains(shape)
            };
            let is_passed = self.passes_over(epoch, tenant, *shape) || stands_still();
            let has_keepers = !self.keepers.is_empty() && self.keepers.contains(&(tenant.clone(), *shape));
            if is_passed && !has_keepers {
                Verdict::Passed
            } else if self.tried.contains(job) || is_passed && !epoch.index.earmarked.contains_key(job) {
                Verdict::Tried
            } else {
                Verdict::Open
            }
        }
    }
}

fn waits(
    epoch: &mut Epoch<'_>,
    pass: &mut Pass,
    tenant: TenantId,
    shape: Shape,
    job: &JobId,
    limit: Limit,
    binds_all: bool,
) {
    if std::mem::take(&mut pass.is_past) && pass.standstill.is_some() {
        pass.standstill = Some(Standstill::of(epoch));
    }
    let own = pass.promises.of(job);
    let earliest = own.map(|promise| promise.start);
    // Who stands behind it in its line may be promised a start, too.
    let leads = own.is_some() && pass.may_promise(epoch, job);
    epoch.tell(job, &limit, earliest);
    // Behind the promise a shorter job of the same shape may fit where this one would not, and a deadline is one's own.
    // What is set aside may also be taken by a job that ends in time; so many are asked as are for backfill.
    let ends_in_time = limit.kind == LimitKind::Reservation && pass.kept_off < epoch.state.policy().backfill_depth();
    pass.kept_off += i64::from(ends_in_time);
    let is_own = matches!(limit.kind, LimitKind::Backfill | LimitKind::Deadline | LimitKind::JobSet | LimitKind::Price);
    let keeps = epoch.index.earmarked.contains_key(job);
    if keeps {
        pass.tried.insert(job.clone());
    }
    // Whoever has idle instances kept that do not hold it orders no others; those behind it may.
    if ends_in_time || is_own || leads || keeps && epoch.index.keeps_idle(job) {
        pass.tried.insert(job.clone());
    } else if binds_all && !keeps {
        pass.full.insert(epoch.index.queue.common(shape).fit, limit);
    } else {
        pass.blocked.insert((tenant, shape), limit);
    }
}
