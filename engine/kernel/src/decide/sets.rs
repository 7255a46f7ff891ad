//! Jobs of one set start together: all of those that have not started yet, in one epoch, or none.
//!
//! Each is found a place with those before it held for the time being; then either all places are taken or what was held is
//! given back. Nothing is said before that. Where some would have to be on instances that are not there yet, and every other has
//! a place, those are ordered and all wait for them. A set is not put off to a better hour.

use std::collections::BTreeSet;

use solyx_schemas::events::decisions::{Limit, LimitKind};
use solyx_schemas::ids::{JobId, NodeId, RefId, RunId};

use super::Epoch;
use super::preempt::{Victim, is_room};
use super::room::{FullQuota, MayStop, Plan, plan};
use super::share::Given;
use super::start::{amount, order_instances, order_of, place, run_of};
use crate::place::{Candidate, Promises, places};
use crate::queue::SetKey;
use crate::rows::{Phase, Run, limit_of};

/// Members of a set that wait for their first start, in the order of their ids.
pub(super) fn unstarted<'e>(epoch: &'e Epoch<'_>, key: &SetKey) -> impl Iterator<Item = &'e JobId> {
    let waits = |id: &&JobId| {
        epoch.state.jobs.get(*id).is_some_and(|job| {
            job.attempts == 0 && matches!(job.phase, Phase::Requested | Phase::Waiting | Phase::Leasing)
        })
    };
    epoch.index.queue.set(key).filter(waits)
}

/// Starts all members, or orders the instances that some of them lack; otherwise says which does not fit, and whether more room
/// would help it, or that which is kept for a promise.
pub(super) fn start_all(
    epoch: &mut Epoch<'_>,
    members: &[JobId],
    promises: &mut Promises,
) -> Result<(), (Limit, bool)> {
    let mut tried = Tried::default();
    let mut missing = None;
    for id in members {
        match tried.find(epoch, id, promises, true) {
            Ok(best) => tried.hold(epoch, id, best),
            Err((why, wants_room)) => {
                missing = Some((id, why, wants_room || why == LimitKind::Backfill));
                break;
            }
        }
    }
    tried.give_back(epoch);
    if let Some((id, why, wants_room)) = missing {
        let unit = format!("jobs of the set; {why}");
        let (of, fit) = (members.len() as i64, tried.found.len() as i64);
        return Err((limit_of(LimitKind::JobSet, id.as_str(), of, fit, &unit), wants_room));
    }
    if tried.orders.is_empty() {
        for (id, best) in &tried.found {
            let Some(spec) = epoch.state.spec(id) else { continue };
            place(epoch, id, &spec, best, None, !promises.is_empty());
            promises.note(&best.nodes, epoch.now.after(best.duration));
        }
    } else {
        let lacking = tried.found.iter().filter(|(_, best)| best.new_instances > 0);
        for (id, best) in lacking {
            let Some(spec) = epoch.state.spec(id) else { continue };
            order_instances(epoch, id, &spec, best);
        }
    }
    Ok(())
}

/// Room for every member that has no place beside the others, by stopping runs: for each its nodes, and whom it takes them from,
/// nobody twice.
pub(super) fn room_for_all(
    epoch: &mut Epoch<'_>,
    members: &[JobId],
    victims: &[Victim],
    may: &MayStop<'_>,
) -> Option<Vec<(JobId, Plan)>> {
    let mut tried = Tried::default();
    let mut plans: Vec<(JobId, Plan)> = Vec::new();
    for id in members {
        let found = match tried.find(epoch, id, &Promises::default(), false) {
            Ok(best) => {
                let nodes: BTreeSet<NodeId> = best.nodes.iter().map(|replica| replica.node.clone()).collect();
                tried.hold(epoch, id, best);
                Some(Plan { nodes: nodes.into_iter().collect(), victims: Vec::new(), loss: 0 })
            }
            Err((why, _)) if !is_room(why) => None,
            Err(_) => {
                let taken: BTreeSet<usize> = plans.iter().flat_map(|(_, plan)| &plan.victims).copied().collect();
                let gave = |victim: &Victim, on_its_model: bool| {
                    let others = taken.iter().map(|number| &victims[*number]);
                    let others = others.filter(|other| other.tenant() == victim.tenant());
                    let others = others.filter(|other| !on_its_model || other.model == victim.model);
                    others.map(|other| other.gpu_milli).sum::<i64>()
                };
                let is_taken = |victim: &Victim| taken.iter().any(|number| victims[*number].run == victim.run);
                let with_others = |victim: &Victim, given: Given| Given {
                    milli: given.milli + gave(victim, false),
                    of_model_milli: given.of_model_milli + gave(victim, true),
                };
                let may = |victim: &Victim, given| !is_taken(victim) && may(victim, with_others(victim, given));
                plan(epoch, id, victims, &may, FullQuota::Stays)
            }
        };
        let Some(found) = found else { break };
        // What a member gets is no longer there for those after it.
        if !found.victims.is_empty() {
            tried.hold_amount(epoch, id, &found);
            epoch.index.keep_nodes(&found.nodes, id);
        }
        plans.push((id.clone(), found));
    }
    for (id, plan) in plans.iter().filter(|(_, plan)| !plan.victims.is_empty()) {
        epoch.index.keep_no_more(&plan.nodes, id);
    }
    tried.give_back(epoch);
    (plans.len() == members.len() && suffices(epoch, &plans, victims)).then_some(plans)
}

/// Whether all members find places once the victims are gone, as they will be looked for then: a member that has room already may
/// then take another.
pub(super) fn suffices(epoch: &mut Epoch<'_>, plans: &[(JobId, Plan)], victims: &[Victim]) -> bool {
    let stopped = plans.iter().flat_map(|(_, plan)| &plan.victims).map(|number| &victims[*number].run);
    let gone: Vec<(RunId, Run)> = stopped.filter_map(|id| Some((id.clone(), epoch.state.runs.remove(id)?))).collect();
    for (id, run) in &gone {
        epoch.index.hold(epoch.state, id, run, -1);
    }
    for (id, plan) in plans {
        epoch.index.keep_nodes(&plan.nodes, id);
    }
    let mut tried = Tried::default();
    let all = plans.iter().all(|(id, _)| {
        tried.find(epoch, id, &Promises::default(), false).map(|best| tried.hold(epoch, id, best)).is_ok()
    });
    tried.give_back(epoch);
    for (id, plan) in plans {
        epoch.index.keep_no_more(&plan.nodes, id);
    }
    for (id, run) in gone {
        epoch.state.runs.insert(id.clone(), run.clone());
        epoch.index.hold(epoch.state, &id, &run, 1);
    }
    all
}

/// What has been found for members so far, and is held for the time being.
#[derive(Default)]
struct Tried {
    found: Vec<(JobId, Candidate)>,
    runs: Vec<(RunId, Run)>,
    orders: Vec<RefId>,
}

impl Tried {
    /// A place for a member beside those before it, on what is there rather than on what would have to be ordered. Otherwise says
    /// what keeps it, and whether more room would help.
    fn find(
        &self,
        epoch: &mut Epoch<'_>,
        id: &JobId,
        promises: &Promises,
        may_order: bool,
    ) -> Result<Candidate, (LimitKind, bool)> {
        if epoch.index.queue.line_of(id).is_none() {
            let orders = epoch.state.jobs.get(id).is_some_and(|job| job.phase == Phase::Leasing);
            let parked = epoch.index.queue.parked(id).map(|limit| limit.kind);
            return Err((if orders { LimitKind::LeasePending } else { parked.unwrap_or(LimitKind::JobSet) }, false));
        }
        let places = places(epoch.state, epoch.index, id, promises);
        let is_there = |candidate: &&Candidate| candidate.new_instances == 0;
        let there = places.candidates.iter().find(is_there);
        let best = there.or_else(|| places.candidates.first().filter(|_| may_order));
        best.cloned().ok_or_else(|| (places.binding().kind, places.wants_room()))
    }

    /// Holds a place. What is to be ordered counts as on order, although nobody knows yet on which nodes it will be.
    fn hold(&mut self, epoch: &mut Epoch<'_>, id: &JobId, best: Candidate) {
        let Some(spec) = epoch.state.spec(id) else { return };
        let Some((run_id, run)) = run_of(epoch, id, &spec, &best) else { return };
        if best.new_instances > 0 {
            let order = RefId::from(format!("{run_id}/order"));
            let row = order_of(epoch, id, &spec, &best);
            epoch.state.orders.insert(order.clone(), row);
            self.orders.push(order);
        } else {
            self.hold_run(epoch, run_id, run);
        }
        self.found.push((id.clone(), best));
    }

    /// Holds what a member counts against quotas, not its room.
    fn hold_amount(&mut self, epoch: &mut Epoch<'_>, id: &JobId, plan: &Plan) {
        let report = plan.nodes.first().and_then(|node| epoch.state.nodes.get(node)?.report.as_ref());
        let pool = report.and_then(|report| epoch.state.pools.get(&report.pool)?.declared.as_ref()).cloned();
        let (Some(pool), Some(spec)) = (pool, epoch.state.spec(id)) else { return };
        let run = Run {
            job: id.clone(),
            tenant: spec.tenant.clone(),
            project: spec.project.clone(),
            gpu_milli: amount(epoch, id, &spec, &pool.gpu_model),
            pool: pool.pool,
            site: pool.site,
            model: pool.gpu_model,
            ..Run::default()
        };
        self.hold_run(epoch, RunId::from(format!("{id}/room")), run);
    }

    fn hold_run(&mut self, epoch: &mut Epoch<'_>, id: RunId, run: Run) {
        epoch.state.runs.insert(id.clone(), run.clone());
        epoch.index.hold(epoch.state, &id, &run, 1);
        self.runs.push((id, run));
    }

    fn give_back(&self, epoch: &mut Epoch<'_>) {
        for (run_id, run) in self.runs.iter().rev() {
            epoch.state.runs.remove(run_id);
            epoch.index.hold(epoch.state, run_id, run, -1);
        }
        self.orders.iter().for_each(|order| {
            epoch.state.orders.remove(order);
        });
    }
}
