//! Consolidation: where as many GPUs are free as a gang asks for, but not where it could use them, runs are moved off few nodes
//! so that it fits.
//!
//! At each tick, for the first of each line that waits for room, by class and turn; under rules that promise starts, for the job that
//! has the first promise. Runs that move go on at once elsewhere: in the same pool, or in another that costs no more, with as many replicas
//! and within all their limits. Nobody waits but for the move itself, so that runs of any class may be moved, if their job and
//! class let them be stopped.
//!
//! A move costs what a stop costs: (time since the last durable checkpoint + restore) × GPUs. It is worth that if the gang's GPUs
//! × the time that the gang would wait otherwise are more: until its earliest start as runs are expected to end
//! (`promise.rs`) less the time that a run has to stop, or half of the time that it has waited where nothing is known. What
//! consolidation loses is taken from a bucket of GPU time which the policy's `consolidation_budget_us` fills in an hour.
//!
//! Moving ends: each counts against the job's `preemptions_max`, which never rises again.

use std::collections::BTreeSet;

use solyx_schemas::events::decisions::{LimitKind, StopCause};
use solyx_schemas::ids::{JobId, NodeId, PoolId, RunId};
use solyx_schemas::units::{DurationUs, HOUR_US, TimeUs};

use super::Epoch;
use super::moving::{berth_of, move_run};
use super::preempt::{Head, Victim, is_room, movable, waiting};
use super::promise::{earliest_start, promised_starts};
use super::room::{FullQuota, Plan, plan, standing_pools};
use super::share::{Given, Shares};
use crate::place::{Promises, costs_no_more, elsewhere, place_of};
use crate::queue::Fit;
use crate::rows::{Berth, Claim, Run, Tokens, limit_of};

/// Gangs for which one tick looks for runs to move.
const GANGS_MAX: usize = 8;
/// Runs that have nowhere to go and are left out of the next try, for one gang.
const TRIES: usize = 8;
/// Runs that are moved for one gang at most.
const MOVES_MAX: usize = 32;

/// Runs to be moved, each with its room, and the nodes of the gang.
struct Moves {
    runs: Vec<(usize, Berth)>,
    nodes: Vec<NodeId>,
}

/// Moves runs for gangs that wait, as far as the budget goes.
pub(super) fn tick(epoch: &mut Epoch<'_>) {
    let Some(budget) = epoch.state.policy().consolidation_budget() else { return };
    let mut left_us = tokens(epoch, budget);
    if left_us <= 0 {
        return;
    }
    // What stands in the way of one may be what another was promised, who asks for the same.
    let has_guard = !epoch.state.policy().order_rule().promises_starts() && !epoch.state.meta().promised.is_empty();
    let mut failed: Vec<Fit> = Vec::new();
    let mut victims: Option<Vec<Victim>> = None;
    let mut looked_for = 0;
    // As they are until something is moved.
    let mut promises: Option<Promises> = None;
    for head in gangs(epoch) {
        let pools = fragmented(epoch, &head);
        if pools.is_empty() || failed.contains(&head.fit) {
            continue;
        }
        if looked_for == GANGS_MAX {
            break;
        }
        looked_for += 1;
        let victims = victims.get_or_insert_with(|| movable(epoch));
        match for_gang(epoch, &head, &pools, victims, left_us, &mut promises) {
            Some(lost_us) => {
                left_us -= lost_us;
                promises = None;
            }
            None => failed.extend(Some(head.fit).filter(|_| !has_guard)),
        }
        if left_us <= 0 {
            break;
        }
    }
}

/// GPU time that may be lost now, µs: what was left, and what has come since.
fn tokens(epoch: &Epoch<'_>, budget: DurationUs) -> i64 {
    let Some(row) = epoch.state.tokens.get(&0) else { return budget.0 };
    let come = i128::from(epoch.now.since(row.as_of_us).0.max(0)) * i128::from(budget.0) / i128::from(HOUR_US);
    let left = (i128::from(row.left_us) + come).min(i128::from(budget.0));
    i64::try_from(left).unwrap_or(budget.0)
}

/// Gangs that wait for room and that nothing makes room for yet, in their turn.
fn gangs(epoch: &Epoch<'_>) -> Vec<Head> {
    let promises = epoch.state.policy().order_rule().promises_starts();
    let promised = epoch.state.meta().promised.first().filter(|_| promises);
    let is_gang = |head: &Head| {
        epoch.state.spec(&head.job).is_some_and(|spec| {
            spec.gang.gpus.0 > 1 || spec.gang.exclusive_node || spec.gang.gpus.0 == 1 && spec.gang.replicas_min.0 > 1
        })
    };
    let firsts = waiting(epoch, &is_room).filter_map(|heads| match promised {
        Some(job) => heads.into_iter().find(|head| head.job == *job),
        None => heads.into_iter().next(),
    });
    let mut gangs: Vec<Head> = firsts.filter(|head| head.set.is_empty() && is_gang(head)).collect();
    let shares = epoch.state.policy().promises_shares().then(|| Shares::of(epoch));
    let beyond = |head: &Head| shares.as_ref().is_some_and(|shares| !head.held(epoch, shares).everywhere);
    gangs.sort_by_cached_key(|head| (-head.class_value, beyond(head), head.turn, head.job.clone()));
    gangs
}

/// Pools that the job could use in which as much is free as it asks for.
fn fragmented(epoch: &Epoch<'_>, head: &Head) -> BTreeSet<PoolId> {
    let Some(spec) = epoch.state.spec(&head.job) else { return BTreeSet::new() };
    let free = |pool: &PoolId| {
        let number = epoch.index.pools.get(pool);
        let of_pool = epoch.index.inventory.free_gpu_milli().filter(|(of, ..)| Some(*of) == number);
        of_pool.map(|(.., milli)| milli).sum::<i64>()
    };
    let pools = standing_pools(epoch, &spec).into_iter().map(|(pool, _)| pool);
    pools.filter(|pool| free(&pool.pool) >= head.gpu_milli()).map(|pool| pool.pool.clone()).collect()
}

/// Moves runs for a gang if that is worth it and within what may be lost. Says what is lost, µs of one GPU.
fn for_gang(
    epoch: &mut Epoch<'_>,
    head: &Head,
    pools: &BTreeSet<PoolId>,
    victims: &mut [Victim],
    left_us: i64,
    promises: &mut Option<Promises>,
) -> Option<i64> {
    let mut stays: BTreeSet<usize> = BTreeSet::new();
    for (number, victim) in victims.iter().enumerate() {
        let inside = epoch.state.runs.get(&victim.run).is_some_and(|run| pools.contains(&run.pool));
        if victim.stopped || !inside || lost_us(epoch, std::iter::once(victim)) > left_us {
            stays.insert(number);
        }
    }
    let is_promised = epoch.state.meta().promised.first() == Some(&head.job);
    let mut worth = None;
    for _ in 0..TRIES {
        let may = |victim: &Victim, _: Given| {
            let number = victims.binary_search_by(|other| other.run.cmp(&victim.run));
            number.is_ok_and(|number| !stays.contains(&number))
        };
        let plan =
            plan(epoch, &head.job, victims, &may, FullQuota::Stays).filter(|plan| plan.victims.len() <= MOVES_MAX)?;
        let lost_us = lost_us(epoch, plan.victims.iter().map(|number| &victims[*number]));
        let saved = *worth.get_or_insert_with(|| saved(epoch, head));
        if lost_us > left_us || saved <= i128::from(lost_us) * 1_000 {
            return None;
        }
        let mut others = match epoch.state.meta().promised.iter().all(|job| *job == head.job) {
            true => Promises::default(),
            false => promises.get_or_insert_with(|| promised_starts(epoch)).clone(),
        };
        others.forget(&head.job);
        match find_room(epoch, head, &plan, victims, others.clone()) {
            // Under other rules who has the first promise may take what later ones need: those are made anew.
            Ok(moves) if !is_promised && others.need_any(&moves.nodes) => return None,
            Ok(moves) => {
                carry_out(epoch, head, moves, victims, (left_us, lost_us));
                return Some(lost_us);
            }
            Err(Some(stuck)) => {
                stays.insert(stuck);
            }
            Err(None) => return None,
        }
    }
    None
}

/// What is lost when runs are moved now: the time since their last durable checkpoint and their restore × GPUs, µs of one GPU,
/// rounded up for each.
fn lost_us<'v>(epoch: &Epoch<'_>, victims: impl Iterator<Item = &'v Victim>) -> i64 {
    let lost = victims.filter_map(|victim| epoch.state.runs.get(&victim.run)).map(|run| {
        let time = i128::from(epoch.now.since(run.durable_us).0.max(0)) + i128::from(run.restore_us.0);
        (time * i128::from(run.gpu_milli.0) + 999) / 1_000
    });
    i64::try_from(lost.sum::<i128>()).unwrap_or(i64::MAX)
}

/// GPU time that a gang would wait for otherwise, thousandths of a GPU × µs.
fn saved(epoch: &mut Epoch<'_>, head: &Head) -> i128 {
    let waits_us = match known_start(epoch, &head.job) {
        Some(start) => start.since(epoch.now.after(epoch.state.policy().grace())).0.max(0),
        None => {
            let since = epoch.state.jobs.get(&head.job).map_or(epoch.now, |job| job.waiting_since_us);
            epoch.now.since(since).0.max(0) / 2
        }
    };
    i128::from(waits_us) * i128::from(head.gpu_milli())
}

/// When a gang starts at the earliest as runs are expected to end, if the run that lets it was told to stop or said how long it
/// takes.
fn known_start(epoch: &mut Epoch<'_>, id: &JobId) -> Option<TimeUs> {
    let start = earliest_start(epoch, id, &Promises::default())?.start;
    let ends_then = |(end, run): &(TimeUs, RunId)| {
        epoch.state.runs.get(run).is_some_and(|run| match &run.stop {
            Some(stop) => stop.by_us.min(*end) == start,
            None => run.length_known && *end == start,
        })
    };
    epoch.index.ends.iter().any(ends_then).then_some(start)
}

/// Room for every run that is to be moved, with the gang in its place; otherwise the run that has none, or none if it is the
/// gang itself. Nothing of what is tried stays. What others were promised is not delayed.
fn find_room(
    epoch: &mut Epoch<'_>,
    head: &Head,
    plan: &Plan,
    victims: &[Victim],
    mut others: Promises,
) -> Result<Moves, Option<usize>> {
    let first = plan.nodes.first().and_then(|node| epoch.state.nodes.get(node)?.report.as_ref());
    let Some(pool) = first.map(|report| report.pool.clone()) else { return Err(None) };
    let rows: Vec<(usize, Run)> = plan
        .victims
        .iter()
        .filter_map(|number| Some((*number, epoch.state.runs.get(&victims[*number].run)?.clone())))
        .collect();
    epoch.index.keep_nodes(&plan.nodes, &head.job);
    let mut found: Vec<(usize, Berth)> = Vec::new();
    let mut stuck = None;
    // The largest first: they have the fewest places.
    let mut by_size: Vec<&(usize, Run)> = rows.iter().collect();
    by_size.sort_by_key(|(number, run)| (-run.gpu_milli.0, *number));
    for (number, run) in by_size {
        let id = &victims[*number].run;
        epoch.index.count_use(epoch.state, id, run, -1);
        let mut places = elsewhere(epoch.state, epoch.index, run, &others);
        // Its own pool before others.
        places.sort_by_key(|place| place.pool.pool != run.pool);
        let place = places.into_iter().find(|place| costs_no_more(epoch.state, epoch.index, run, place));
        epoch.index.count_use(epoch.state, id, run, 1);
        let Some(place) = place else {
            stuck = Some(*number);
            break;
        };
        others.note(&place.nodes, epoch.now.after(place.duration));
        let berth = berth_of(run, &place);
        epoch.index.hold_berth(epoch.state, &run.job, &berth, 1);
        found.push((*number, berth));
    }
    for (number, run) in &rows {
        epoch.index.hold_room(epoch.state, &victims[*number].run, run, -1);
    }
    let replicas = epoch.state.spec(&head.job).map_or(1, |spec| spec.gang.replicas_min.0);
    let gang = match stuck {
        None => place_of(epoch.state, epoch.index, &head.job, &pool, replicas).ok(),
        Some(_) => None,
    };
    for (number, run) in &rows {
        epoch.index.hold_room(epoch.state, &victims[*number].run, run, 1);
    }
    for (number, berth) in found.iter().rev() {
        let job = rows.iter().find(|(own, _)| own == number).map(|(_, run)| &run.job);
        job.into_iter().for_each(|job| epoch.index.hold_berth(epoch.state, job, berth, -1));
    }
    epoch.index.keep_no_more(&plan.nodes, &head.job);
    match (gang, stuck) {
        (Some(gang), None) => {
            let nodes: BTreeSet<&NodeId> = gang.nodes.iter().map(|replica| &replica.node).collect();
            Ok(Moves { runs: found, nodes: nodes.into_iter().cloned().collect() })
        }
        (_, stuck) => Err(stuck),
    }
}

/// Tells the runs to move, and keeps the gang's nodes for it.
fn carry_out(epoch: &mut Epoch<'_>, head: &Head, moves: Moves, victims: &mut [Victim], (left_us, lost_us): (i64, i64)) {
    let mut moved = Vec::new();
    for (number, berth) in moves.runs {
        let victim = &mut victims[number];
        victim.stopped = true;
        let job = epoch.state.runs.get(&victim.run).map(|run| run.job.clone());
        if move_run(epoch, &victim.run, StopCause::Priority, berth) {
            if let Some(job) = job.and_then(|job| epoch.state.jobs.edit(&job)) {
                job.preemptions = job.preemptions.saturating_add(1);
            }
            moved.push(victim.run.clone());
        }
    }
    let now = epoch.now;
    *epoch.state.tokens.edit_or_default(&0) = Tokens { left_us: left_us - lost_us, as_of_us: now };
    let claim = Claim { nodes: moves.nodes, victims: moved, gpu_milli: head.gpu_milli(), berth: None };
    epoch.index.claim(epoch.state, &head.job, claim);
    epoch.tell(&head.job, &limit_of(LimitKind::Draining, head.job.as_str(), head.gpu_milli(), 0, "GPU/1000"), None);
}
