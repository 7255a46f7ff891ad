//! Losses thought through, and put against what the jobs' recovery classes want.

use std::collections::{BTreeMap, BTreeSet};

use solyx_kernel::cost::total;
use solyx_kernel::follow::Follower;
use solyx_kernel::rows::Phase;
use solyx_kernel::state::State;
use solyx_kernel::whatif::{Cause, Contents, Domain, Fate, Hit, Rehearsal, WhatIf};
use solyx_schemas::events::capacity::CapacityClass;
use solyx_schemas::events::decisions::CostTerms;
use solyx_schemas::events::jobs::SpreadLevel;
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

use super::Failover;
use super::view::*;

/// Information older than this is marked stale, as the last value of an energy price stands for at most so long.
const STALE_AFTER: DurationUs = DurationUs(DAY_US);

impl Failover {
    /// The view at the end of the last epoch.
    pub fn view(&self) -> FailoverView {
        let meta = self.meta.get(&0).cloned().unwrap_or_default();
        let mut view = FailoverView {
            epoch: meta.epoch,
            now_us: meta.now,
            stale_after_us: STALE_AFTER,
            drills: self.drills.iter().map(drill_view).collect(),
            ..FailoverView::default()
        };
        let Some(follower) = &self.follower else { return view };
        let state = follower.state();
        view.currency = state.meta().currency;
        view.runs_live = state.runs.len();
        view.jobs_waiting = state.jobs.iter().filter(|(_, job)| job.phase == Phase::Waiting).count();
        let rehearsal = follower.rehearsal();
        view.domains = rehearsal.domains().iter().map(|domain| self.domain(state, &rehearsal, domain, None)).collect();
        view
    }

    /// The answer to a drill: the domain of that name, lost until an instant.
    pub(super) fn answer(&self, domain: &RefId, back: TimeUs) -> Option<DomainView> {
        let follower = self.follower.as_ref()?;
        let rehearsal = follower.rehearsal();
        let domain = rehearsal.domains().into_iter().find(|known| known.to_string() == domain.as_str())?;
        Some(self.domain(follower.state(), &rehearsal, &domain, Some(back)))
    }

    fn domain(&self, state: &State, rehearsal: &Rehearsal, domain: &Domain, back: Option<TimeUs>) -> DomainView {
        let information = self.information(state, domain, &rehearsal.contents(domain));
        DomainView { information, ..lost(state, rehearsal, domain, back) }
    }

    fn information(&self, state: &State, domain: &Domain, contents: &Contents) -> InformationView {
        let now = state.now();
        let age = |at: Option<&TimeUs>| at.map(|at| now.since(*at));
        let leased = |pool: &&PoolId| {
            let declared = state.pools.get(*pool).and_then(|pool| pool.declared.as_ref());
            declared.is_some_and(|pool| matches!(pool.class, CapacityClass::OnDemand | CapacityClass::Spot))
        };
        let news = || contents.pools.iter().filter(leased).filter_map(|pool| self.pools.get(pool));
        let node_age_us = contents.nodes.iter().filter_map(|node| age(self.nodes.get(node))).max();
        let capacity_age_us = news().filter_map(|news| age(news.available.as_ref())).max();
        let price_age_us = news().filter_map(|news| age(news.priced.as_ref())).max();
        let ages = [node_age_us, capacity_age_us, price_age_us];
        let something = ages.iter().any(Option::is_some);
        // A feed or site with nothing on it has nothing that could be stale.
        let empty = contents.nodes.is_empty() && contents.pools.is_empty() && !matches!(domain, Domain::Provider(_));
        let stale = ages.into_iter().flatten().any(|age| age > STALE_AFTER) || (!something && !empty);
        InformationView { node_age_us, capacity_age_us, price_age_us, stale }
    }
}

/// The view of one failure domain, `site:frankfurt` as an example, from a state alone: how old the news of it is, is not known.
/// Nothing if no domain has that name.
pub fn domain_lost(follower: &Follower, name: &str) -> Option<FailoverView> {
    let (state, rehearsal) = (follower.state(), follower.rehearsal());
    let domain = rehearsal.domains().into_iter().find(|known| known.to_string() == name)?;
    let meta = state.meta();
    Some(FailoverView {
        epoch: meta.next_epoch - 1,
        now_us: state.now(),
        stale_after_us: STALE_AFTER,
        currency: meta.currency,
        runs_live: state.runs.len(),
        jobs_waiting: state.jobs.iter().filter(|(_, job)| job.phase == Phase::Waiting).count(),
        domains: vec![lost(state, &rehearsal, &domain, None)],
        ..FailoverView::default()
    })
}

/// A domain's loss, thought through.
fn lost(state: &State, rehearsal: &Rehearsal, domain: &Domain, back: Option<TimeUs>) -> DomainView {
    let contents = rehearsal.contents(domain);
    let WhatIf { hits, overloads } = rehearsal.loss(domain);
    let overload = |(site, over): (SiteId, solyx_kernel::power::Overload)| OverloadView {
        site,
        element: over.element,
        also_lost: over.lost_root,
        load_w: over.load_w,
        limit_w: over.limit_w,
        over_w: over.load_w - over.limit_w,
    };
    let mut view = DomainView {
        domain: domain.to_string(),
        kind: kind_of(domain),
        nodes: contents.nodes.len(),
        jobs_hit: hits.len(),
        overloads: overloads.into_iter().map(overload).collect(),
        reserves: reserves(state, domain, &hits),
        ..DomainView::default()
    };
    for hit in &hits {
        let mut job = hit_view(state, hit, back);
        if job.protected {
            job.order = Some(view.moves.len() + 1);
            view.moves.push(job.job.clone());
        }
        view.jobs.push(job);
    }
    sum_up(&mut view, &hits);
    view
}

fn drill_view((id, drill): (&RefId, &super::state::Drill)) -> DrillView {
    DrillView {
        drill: id.clone(),
        domain: drill.domain.clone(),
        epoch: drill.epoch,
        asked_us: drill.asked,
        duration_us: drill.duration,
        answer: drill.answer.clone(),
    }
}

fn kind_of(domain: &Domain) -> DomainKind {
    match domain {
        Domain::Site(_) => DomainKind::Site,
        Domain::Provider(_) => DomainKind::Provider,
        Domain::Feed(..) => DomainKind::Feed,
        Domain::Fabric(..) => DomainKind::Fabric,
    }
}

fn reserves(state: &State, domain: &Domain, hits: &[Hit]) -> Vec<ReserveView> {
    let subject = domain.to_string();
    let held = |model: &GpuModelId| {
        hits.iter().filter(|hit| hit.held.model == *model).map(|hit| hit.held.gpu_milli.0).sum::<i64>()
    };
    let own = state.reserves.iter().filter(|((of, _), _)| of.as_str() == subject);
    own.map(|((_, model), reserve)| ReserveView {
        gpu_model: model.clone(),
        held_back_milli: reserve.held_back_milli.0,
        gpu_milli_hit: held(model),
    })
    .collect()
}

/// A hit job against its recovery class. A job without a place has one again when the domain comes back.
fn hit_view(state: &State, hit: &Hit, back: Option<TimeUs>) -> HitView {
    let now = state.now();
    let spec = state.spec(&hit.job);
    let spec = spec.as_ref();
    let release = hit.released.since(now);
    let restore = spec.and_then(|spec| spec.restore_us).filter(|_| hit.kept_work.0 > 0).unwrap_or_default();
    // What gives way to an overload or to another goes on only once it has stopped, what is lost as soon as that is known.
    let stopping = if hit.cause == Cause::Lost { DurationUs::ZERO } else { release };
    let mut view = HitView {
        job: hit.job.clone(),
        tenant: hit.held.tenant.clone(),
        run: hit.run.clone(),
        class: spec.map(|spec| spec.class.clone()).unwrap_or_default(),
        cause: match hit.cause {
            Cause::Lost => HitCause::Lost,
            Cause::Overload => HitCause::Overload,
            Cause::Preempted => HitCause::Preempted,
        },
        gpu_milli: hit.held.gpu_milli.0,
        gpu_model: hit.held.model.clone(),
        from_pool: hit.held.pool.clone(),
        from_site: hit.held.site.clone(),
        release_us: release,
        restore_us: restore,
        work_lost_us: hit.lost_work,
        work_kept_us: hit.kept_work,
        checkpoint_lost: hit.checkpoint_lost,
        datasets_lost: hit.datasets_lost.clone(),
        rpo_us: exposed(state, hit),
        ..HitView::default()
    };
    let start = fate(state, hit, &mut view).map(|start| start.after(stopping));
    let returns = back.filter(|_| view.outcome == Outcome::Waits);
    view.start_us = start.into_iter().chain(returns).min();
    view.protected = view.outcome != Outcome::Waits && view.outcome != Outcome::Ends && hit.datasets_lost.is_empty();
    if let Some(start) = view.start_us.filter(|_| view.outcome != Outcome::Ends) {
        let wait = start.since(now);
        let unfenced = if hit.cause == Cause::Lost { release } else { DurationUs::ZERO };
        // What starts as soon as it may does so once the loss is known; an hour that was chosen, or somebody's end, is waited for
        // meanwhile.
        let known_later = match view.outcome {
            Outcome::Deferred | Outcome::Waits => wait.max(unfenced),
            _ => DurationUs(wait.0.saturating_add(unfenced.0)),
        };
        let after_restore = |wait: DurationUs| DurationUs(wait.0.saturating_add(restore.0));
        view.rto_fenced_us = Some(after_restore(wait));
        view.rto_us = Some(after_restore(known_later));
    }
    if let Some(class) = spec.and_then(|spec| spec.recovery.as_ref()) {
        let met = |time: Option<DurationUs>| {
            class.rto_us.map(|target| time.is_some_and(|time| time <= target) && hit.datasets_lost.is_empty())
        };
        (view.rto_target_us, view.rpo_target_us) = (class.rto_us, class.rpo_us);
        (view.rto_met, view.rto_fenced_met) = (met(view.rto_us), met(view.rto_fenced_us));
        view.rpo_met = class.rpo_us.map(|target| view.rpo_us <= target);
        view.spread = class.spread;
        view.spread_met = class.spread.map(|level| is_spread(state, hit, level));
    }
    view
}

/// Fills in what becomes of the job, and says when it starts.
fn fate(state: &State, hit: &Hit, view: &mut HitView) -> Option<TimeUs> {
    let (outcome, place, terms, start) = match &hit.fate {
        Fate::Placed { pool, nodes, start, terms } => {
            view.to_nodes.clone_from(nodes);
            (Outcome::Placed, Some(pool), Some(terms), Some(*start))
        }
        Fate::Leases { pool, instances, start, terms } => {
            view.instances = *instances;
            (Outcome::Leased, Some(pool), terms.as_ref(), Some(*start))
        }
        Fate::Deferred { pool, start, terms } => (Outcome::Deferred, Some(pool), Some(terms), Some(*start)),
        Fate::Waits { limit, earliest } => {
            view.limit = Some(limit.clone());
            (Outcome::Waits, None, None, *earliest)
        }
        Fate::Ends { detail } => {
            view.detail = Some(detail.clone());
            (Outcome::Ends, None, None, None)
        }
    };
    let site = |pool| state.pools.get(pool).and_then(|pool| pool.declared.as_ref()).map(|pool| pool.site.clone());
    view.outcome = outcome;
    view.to_pool = place.cloned();
    view.to_site = place.and_then(site);
    view.cost = terms.zip(hit.stays.as_ref()).map(|(there, here)| move_cost(there, here));
    start
}

fn move_cost(there: &CostTerms, here: &CostTerms) -> MoveCost {
    let difference = total(there) - total(here);
    MoveCost {
        rent_difference_micros: there.rent_micros.0 - here.rent_micros.0,
        egress_micros: there.egress_micros.0,
        total_difference_micros: i64::try_from(difference).unwrap_or(if difference < 0 { i64::MIN } else { i64::MAX }),
    }
}

/// Time since the job's work was last durable: since its checkpoint or, when it is lost or there was none, since it began.
fn exposed(state: &State, hit: &Hit) -> DurationUs {
    let now = state.now();
    if hit.checkpoint_lost {
        // Of its first run it is known when that began; of more, only that it was after the request.
        return state.jobs.get(&hit.job).map_or(DurationUs::ZERO, |job| match job.attempts {
            0 | 1 => now.since(hit.held.started_us.unwrap_or(now)),
            _ => now.since(job.requested_us),
        });
    }
    // A run that has not started yet has done nothing that could be lost.
    hit.held.started_us.map_or(DurationUs::ZERO, |started| now.since(hit.held.durable_us.max(started)))
}

/// Whether a run's replicas are in more than one domain of a level. A run is in one pool, and so at one site of one provider.
fn is_spread(state: &State, hit: &Hit, level: SpreadLevel) -> bool {
    let nodes: BTreeSet<&NodeId> = hit.held.nodes.iter().map(|replica| &replica.node).collect();
    let reports = || nodes.iter().filter_map(|node| state.nodes.get(*node)).filter_map(|node| node.report.as_ref());
    match level {
        SpreadLevel::Node => nodes.len() > 1,
        SpreadLevel::Rack => reports().filter_map(|report| report.rack.as_ref()).collect::<BTreeSet<_>>().len() > 1,
        SpreadLevel::Feed => {
            reports().flat_map(|report| &report.feeds).map(|feed| &feed.element).collect::<BTreeSet<_>>().len() > 1
        }
        SpreadLevel::Site | SpreadLevel::Provider | SpreadLevel::Unknown => false,
    }
}

/// The domain's sums over its jobs.
fn sum_up(view: &mut DomainView, hits: &[Hit]) {
    let mut limits: BTreeMap<String, (usize, i64)> = BTreeMap::new();
    for (job, hit) in view.jobs.iter().zip(hits) {
        view.gpu_milli_hit += job.gpu_milli;
        view.lost_gpu_milli_us += i128::from(job.work_lost_us.0) * i128::from(job.gpu_milli);
        view.worst_rpo_us = view.worst_rpo_us.max(Some(job.rpo_us));
        view.rpo_missed += usize::from(job.rpo_met == Some(false));
        if hit.held.stop.as_ref().is_some_and(|stop| stop.ends_job) {
            view.ending += 1;
            continue;
        }
        view.rto_missed += usize::from(job.rto_met == Some(false));
        if job.protected {
            view.protected += 1;
            view.worst_rto_us = view.worst_rto_us.max(job.rto_us);
            match &job.cost {
                Some(cost) => view.cost = view.cost.and(cost),
                None => view.jobs_unpriced += 1,
            }
            continue;
        }
        view.unprotected += 1;
        view.gpu_milli_unprotected += job.gpu_milli;
        let limit = match (&job.limit, job.outcome) {
            (Some(limit), _) => limit.kind.as_str(),
            (None, Outcome::Ends) => "ENDS",
            (None, _) => "DATA_LOST",
        };
        let (jobs, gpu_milli) = limits.entry(limit.to_owned()).or_default();
        *jobs += 1;
        *gpu_milli += job.gpu_milli;
    }
    view.limits = limits.into_iter().map(|(limit, (jobs, gpu_milli))| LimitCount { limit, jobs, gpu_milli }).collect();
    view.limits.sort_by(|a, b| b.jobs.cmp(&a.jobs).then(a.limit.cmp(&b.limit)));
}

impl MoveCost {
    /// Both together.
    fn and(self, other: &Self) -> Self {
        Self {
            rent_difference_micros: self.rent_difference_micros.saturating_add(other.rent_difference_micros),
            egress_micros: self.egress_micros.saturating_add(other.egress_micros),
            total_difference_micros: self.total_difference_micros.saturating_add(other.total_difference_micros),
        }
    }
}
