//! What was lent is given back at a checkpoint: the run stops there and goes on with so many replicas fewer that the job that
//! waits has its room, and keeps the others.
//!
//! It goes to jobs of the same class or a higher one, in the order of the line. Where shares are promised, a tenant gives
//! back to others only what it has beyond its own. The job has to have waited for long enough to pay for what is lost, as in
//! `preempt.rs`, unless its tenant's promised share holds it.

use std::collections::BTreeSet;

use solyx_schemas::events::decisions::LimitKind;
use solyx_schemas::ids::{NodeId, RunId};

use super::waiting::{Head, Waiting};
use super::{largest_between, nodes_of};
use crate::decide::Epoch;
use crate::decide::share::{Given, Shares};
use crate::decide::stops::resize_run;
use crate::place::{Candidate, place_of};
use crate::rows::{Claim, Elastic, Run, limit_of};

/// Jobs in line that one checkpoint is offered to.
const OFFERS_MAX: usize = 8;

/// Gives back what the first of those who wait needs, if what was lent is enough for it.
pub(super) fn to_whoever_waits(epoch: &mut Epoch<'_>, waiting: &mut Waiting, id: &RunId, run: &Run, row: &Elastic) {
    let class = epoch.state.classes.get(&run.class);
    let (class_value, minimum) = class.map_or((0, None), |class| (class.value, Some(class.minimum_run_us)));
    let young = minimum.is_some_and(|minimum| run.started_us.unwrap_or(run.placed_us).after(minimum) > epoch.now);
    if run.nodes.len() as i64 <= row.least || young {
        return;
    }
    let in_question = |head: &Head| head.class_value >= class_value && !epoch.state.claims.contains(&head.job);
    // Shares take a look at every tenant: not for nobody.
    if !waiting.heads.iter().any(in_question) {
        return;
    }
    let shares = epoch.state.policy().promises_shares().then(|| Shares::of(epoch));
    let promises_starts = epoch.state.policy().order_rule().promises_starts();
    let promised = epoch.state.meta().promised.first().filter(|_| promises_starts).cloned();
    let held = |head: &Head, shares: &Shares| {
        shares.held(&head.tenant, head.gpu_milli, epoch.index.queue.accepted(Some(head.models)))
    };
    let owed = |head: &Head| shares.as_ref().is_some_and(|shares| held(head, shares).on(&run.model));
    let comes_first = |head: &&Head| {
        let beyond = |shares: &Shares| {
            head.tenant == run.tenant
                || shares.borrows(&run.tenant, &run.model, Given::default())
                || shares.owes(&held(head, shares), &run.tenant, &run.model, Given::default())
        };
        in_question(head)
            && promised.as_ref().is_none_or(|promised| *promised == head.job)
            && shares.as_ref().is_none_or(beyond)
            && (owed(head) || pays(epoch, head, run))
    };
    let mut heads: Vec<Head> = waiting.heads.iter().filter(comes_first).cloned().collect();
    heads.sort_by_cached_key(|head| (-head.class_value, !owed(head), head.turn, head.job.clone()));
    for head in heads.into_iter().take(OFFERS_MAX) {
        let Some((theirs, own)) = shared(epoch, &head, id, run, row) else { continue };
        let replicas = own.nodes.len() as i64;
        let reason = format!("gives back {} replicas to {}", run.nodes.len() as i64 - replicas, head.job);
        if resize_run(epoch, id, replicas, replicas, reason) {
            let nodes = nodes_of(&theirs);
            let rest: BTreeSet<NodeId> = nodes_of(&own).into_iter().filter(|node| !nodes.contains(node)).collect();
            let gpu_milli = run.gpu_milli.0 / run.nodes.len().max(1) as i64 * replicas;
            let claim = Claim { nodes, victims: vec![id.clone()], gpu_milli: head.gpu_milli, berth: None };
            epoch.index.claim(epoch.state, &head.job, claim);
            let claim = Claim { nodes: rest.into_iter().collect(), victims: Vec::new(), gpu_milli, berth: None };
            epoch.index.claim(epoch.state, &run.job, claim);
            epoch.tell(
                &head.job,
                &limit_of(LimitKind::Draining, run.job.as_str(), head.gpu_milli, 0, "GPU/1000"),
                None,
            );
        }
        return;
    }
}

/// Whether a job has waited for long enough: half of what its GPUs would have done meanwhile is more than what is lost.
fn pays(epoch: &Epoch<'_>, head: &Head, run: &Run) -> bool {
    let since = epoch.state.jobs.get(&head.job).map_or(epoch.now, |job| job.waiting_since_us);
    let lost = i128::from(epoch.now.since(run.durable_us).0.max(0)) + i128::from(run.restore_us.0);
    i128::from(epoch.now.since(since).0) * i128::from(head.gpu_milli) >= 2 * lost * i128::from(run.gpu_milli.0)
}

/// The place of the job that waits and the largest that the run then still has, if both have one.
fn shared(epoch: &mut Epoch<'_>, head: &Head, id: &RunId, run: &Run, row: &Elastic) -> Option<(Candidate, Candidate)> {
    let spec = epoch.state.spec(&head.job)?;
    // What has its node to itself is known by its run, which there is none of yet.
    if spec.gang.exclusive_node {
        return None;
    }
    epoch.index.hold(epoch.state, id, run, -1);
    let theirs = place_of(epoch.state, epoch.index, &head.job, &run.pool, spec.gang.replicas_min.0).ok();
    let both = theirs.and_then(|theirs| {
        let as_if = Run {
            tenant: head.tenant.clone(),
            project: spec.project.clone(),
            model: theirs.model.clone(),
            nodes: theirs.nodes.clone(),
            cpu_milli: spec.gang.cpu_milli,
            memory_mib: epoch
                .state
                .jobs
                .get(&head.job)
                .and_then(|job| job.past().memory_mib)
                .unwrap_or(spec.gang.memory_mib),
            scratch_gib: spec.gang.scratch_gib.unwrap_or_default(),
            gpu_milli: solyx_schemas::units::GpuMilli(head.gpu_milli),
            ..Run::default()
        };
        let name = RunId::from(format!("{}/room", head.job));
        epoch.index.hold(epoch.state, &name, &as_if, 1);
        let own = largest_between(epoch, run, row.least, run.nodes.len() as i64 - 1);
        epoch.index.hold(epoch.state, &name, &as_if, -1);
        own.map(|own| (theirs, own))
    });
    epoch.index.hold(epoch.state, id, run, 1);
    both
}
