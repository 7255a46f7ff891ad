//! Nodes are closed to newcomers for who is owed room and finds none, as `by_share` asks for it.
//!
//! Nothing is stopped before its class's minimum run is over, and a stream of short jobs may always have somebody on each node who has
//! just begun. So the nodes that can be cleared soonest are closed; what runs there runs on until then.

use std::collections::{BTreeMap, BTreeSet};

use solyx_schemas::ids::{GpuModelId, JobId, NodeId, RunId, TenantId};
use solyx_schemas::units::{DurationUs, SECOND_US, TimeUs};

use super::Epoch;
use super::by_share::room_by_moving;
use super::preempt::{Head, Scene};
use super::share::{Held, model_at};
use crate::queue::{Fit, set_of};
use crate::rows::{Closed, Run};

/// Nodes are closed for a job that has been owed room for so long and finds none: with a minimum run of 15 minutes and ticks of one
/// it then waits for 19 at most and what its victims take to stop.
const CLOSED_AFTER: DurationUs = DurationUs(120 * SECOND_US);
/// Nodes are not closed when it takes longer than this until they can be cleared.
const CLOSED_FOR: DurationUs = DurationUs(1_200 * SECOND_US);
/// Jobs and sets for which nodes are closed at a time.
const CLOSED_MAX: usize = 16;

/// What a tick closes.
pub(super) struct Closing {
    /// When runs may be stopped, each instant once.
    instants: Vec<TimeUs>,
    /// What found none.
    failed: Vec<(Fit, Held)>,
    /// What is closed, with whom it is for and what of each model that will be for its tenant, thousandths of a GPU.
    kept: BTreeMap<JobId, (TenantId, Option<GpuModelId>, i64)>,
}

impl Closing {
    /// Nothing yet. What was closed for one of a line is for those now that come first in it.
    pub fn of<'h>(epoch: &mut Epoch<'_>, scene: &Scene, heads: impl Iterator<Item = &'h Head>) -> Self {
        if !epoch.state.clearing.is_empty() {
            hand_on(epoch, heads);
        }
        let stoppable = scene.victims.iter().map(|victim| victim.stoppable_us.max(epoch.now));
        let instants: BTreeSet<TimeUs> = stoppable.collect();
        Self { instants: instants.into_iter().collect(), failed: Vec::new(), kept: BTreeMap::new() }
    }

    /// Closes nodes for a job that has been owed room for so long, if there are any on which it can be made in time; or leaves those
    /// closed that are, where no others can be cleared sooner.
    pub fn close(&mut self, epoch: &mut Epoch<'_>, scene: &mut Scene, head: &Head, waited: DurationUs, urgent: bool) {
        let held = self.held_beside(epoch, scene, head);
        if waited < CLOSED_AFTER || !held.anywhere() {
            return;
        }
        let before = self.still(epoch, scene, head, &held, urgent);
        let latest = before.as_ref().map_or(epoch.now.after(CLOSED_FOR), |closed| TimeUs(closed.clear_us.0 - 1));
        let is_hopeless = self.kept.len() >= CLOSED_MAX || self.failed.contains(&(head.fit, held.clone()));
        let soonest = if is_hopeless { None } else { self.soonest(epoch, scene, head, &held, latest) };
        let Some(closed) = soonest.or(before) else {
            self.failed.extend(Some((head.fit, held)).filter(|_| head.set.is_empty()));
            open(epoch, &head.job);
            return;
        };
        let model = model_at(epoch, &closed.nodes);
        self.kept.insert(head.job.clone(), (head.tenant().clone(), model, head.gpu_milli()));
        if epoch.state.clearing.get(&head.job) != Some(&closed) {
            open(epoch, &head.job);
            epoch.state.clearing.insert(head.job.clone(), closed);
        }
    }

    /// The promises that hold a job beside all for which nodes are closed.
    fn held_beside(&self, epoch: &Epoch<'_>, scene: &mut Scene, head: &Head) -> Held {
        let own = || self.kept.values().filter(|(tenant, ..)| tenant == head.tenant());
        own().for_each(|(tenant, model, milli)| scene.shares.take(tenant, model.as_ref(), *milli));
        let held = head.held(epoch, &scene.shares);
        own().for_each(|(tenant, model, milli)| scene.shares.take(tenant, model.as_ref(), -milli));
        held
    }

    /// What is closed for a job, if room can still be made there in time.
    fn still(&self, epoch: &mut Epoch<'_>, scene: &Scene, head: &Head, held: &Held, urgent: bool) -> Option<Closed> {
        let closed =
            epoch.state.clearing.get(&head.job).filter(|closed| closed.clear_us > epoch.now || !urgent)?.clone();
        let runs = closed.nodes.iter().filter_map(|node| epoch.index.uses.get(node)).flat_map(|used| &used.runs);
        let runs: BTreeSet<RunId> = runs.cloned().collect();
        let by = closed.clear_us.max(epoch.now);
        room_by_moving(epoch, scene, head, held, by, &|victim| runs.contains(&victim.run)).map(|_| closed)
    }

    /// The nodes on which room can be made soonest, and not later than this.
    fn soonest(
        &self,
        epoch: &mut Epoch<'_>,
        scene: &Scene,
        head: &Head,
        held: &Held,
        latest: TimeUs,
    ) -> Option<Closed> {
        let in_time = &self.instants[..self.instants.partition_point(|instant| *instant <= latest)];
        let mut room = |clear_us: TimeUs| {
            let plans = room_by_moving(epoch, scene, head, held, clear_us, &|_| true)?;
            let nodes: BTreeSet<NodeId> = plans.into_iter().flat_map(|(_, plan)| plan.nodes).collect();
            Some(Closed { nodes: nodes.into_iter().collect(), clear_us })
        };
        let (last, sooner) = in_time.split_last()?;
        let mut soonest = room(*last)?;
        // Halved until no sooner instant is left to be asked about.
        let (mut from, mut to) = (0, sooner.len());
        while from < to {
            let middle = usize::midpoint(from, to);
            match room(sooner[middle]) {
                Some(closed) => (soonest, to) = (closed, middle),
                None => from = middle + 1,
            }
        }
        Some(soonest)
    }

    /// Opens what is not closed any more.
    pub fn end(self, epoch: &mut Epoch<'_>) {
        let jobs = epoch.state.clearing.iter().map(|(job, _)| job).filter(|job| !self.kept.contains_key(*job));
        for job in jobs.cloned().collect::<Vec<_>>() {
            open(epoch, &job);
        }
    }
}

/// Hands what is closed for jobs of a line to those that come first in it, what is cleared sooner to who comes sooner. A set keeps its
/// own: it asks for more than others of the line of its first.
fn hand_on<'h>(epoch: &mut Epoch<'_>, heads: impl Iterator<Item = &'h Head>) {
    let line = |job: &JobId| {
        let is_alone = epoch.state.spec(job).is_some_and(|spec| set_of(&spec).is_none());
        let (value, _) = epoch.index.queue.turn_of(job).filter(|_| is_alone)?;
        Some((value, epoch.index.queue.line_of(job)?))
    };
    let mut lines: BTreeMap<_, BTreeSet<(TimeUs, Vec<NodeId>)>> = BTreeMap::new();
    for (job, closed) in epoch.state.clearing.iter() {
        if let Some(line) = line(job) {
            lines.entry(line).or_default().insert((closed.clear_us, closed.nodes.clone()));
        }
    }
    let next = |head: &Head| {
        let own = epoch.state.clearing.get(&head.job).filter(|_| !head.set.is_empty());
        let handed = || {
            let (clear_us, nodes) = lines.get_mut(&line(&head.job)?)?.pop_first()?;
            Some(Closed { nodes, clear_us })
        };
        Some((head.job.clone(), own.cloned().or_else(handed)?))
    };
    let handed: BTreeMap<JobId, Closed> = heads.filter_map(next).collect();
    let others = epoch.state.clearing.iter().map(|(job, _)| job).filter(|job| !handed.contains_key(*job));
    for job in others.cloned().collect::<Vec<_>>() {
        open(epoch, &job);
    }
    for (job, closed) in handed {
        if epoch.state.clearing.get(&job) != Some(&closed) {
            epoch.state.clearing.insert(job, closed);
        }
    }
}

/// A job that starts needs nothing closed any more. If it has gone where nodes were closed for another of its line, that has what was
/// closed for it.
pub(super) fn settle(epoch: &mut Epoch<'_>, id: &JobId, run: &Run) {
    if epoch.state.clearing.is_empty() {
        return;
    }
    let is_on = |closed: &Closed| run.nodes.iter().any(|replica| closed.nodes.contains(&replica.node));
    let own = epoch.state.clearing.get(id).filter(|closed| !is_on(closed)).cloned();
    let line = epoch.index.queue.line_of(id);
    let is_of_line = |job: &JobId| job != id && epoch.index.queue.line_of(job) == line;
    let robbed = epoch.state.clearing.iter().find(|(job, closed)| is_of_line(job) && is_on(closed));
    let robbed = robbed.map(|(job, _)| job.clone());
    open(epoch, id);
    if let Some(robbed) = robbed {
        open(epoch, &robbed);
        if let Some(closed) = own {
            epoch.state.clearing.insert(robbed, closed);
        }
    }
}

/// Opens the nodes that are closed for a job.
pub(super) fn open(epoch: &mut Epoch<'_>, job: &JobId) {
    epoch.index.changed |= epoch.state.clearing.remove(job).is_some();
}

/// Opens what is closed for who does not stand in line any more, and everything where nobody is owed a share.
pub(super) fn open_for_nobody(epoch: &mut Epoch<'_>) {
    let promises = epoch.state.policy().promises_shares() && epoch.state.tick().is_some();
    let waits = |job: &JobId| promises && epoch.index.queue.line_of(job).is_some();
    let jobs = epoch.state.clearing.iter().map(|(job, _)| job).filter(|job| !waits(job));
    for job in jobs.cloned().collect::<Vec<_>>() {
        epoch.state.clearing.remove(&job);
    }
}
