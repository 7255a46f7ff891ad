//! A second opinion on room that is made for a job: while it is kept, nobody else takes it, and who is moved to it goes on first;
//! and nobody new comes onto nodes that are closed until room can be made there.

use std::collections::{BTreeMap, BTreeSet};

use solyx_kernel::Closed;
use solyx_kernel::rows::{self, Claim, Spec};
use solyx_kernel::state::State;
use solyx_schemas::events::Event;
use solyx_schemas::events::decisions::{LimitKind, StopCause};
use solyx_schemas::ids::{JobId, NodeId, PoolId};
use solyx_schemas::units::TimeUs;

/// The room that was kept after the last epoch, by the job that it is kept for.
#[derive(Default)]
pub struct KeptRoom {
    claims: BTreeMap<JobId, Claim>,
    shut: BTreeMap<JobId, rows::Closed>,
    /// Who is owed recovery, and by when.
    owed: BTreeMap<JobId, TimeUs>,
    /// Who is held by its tenant's share.
    entitled: BTreeSet<JobId>,
    /// When room was last looked for, which is when that is found out.
    ticked_us: TimeUs,
}

/// The pool and nodes to which a job is moved that this is kept for. A node may be in another pool by then.
fn berth(claim: &Claim) -> Option<(&PoolId, BTreeSet<&NodeId>)> {
    let berth = claim.berth.as_ref()?;
    Some((&berth.pool, berth.nodes.iter().map(|replica| &replica.node).collect()))
}

/// By when a job that waits is owed to run again after a loss.
fn recover_by(state: &State, job: &JobId) -> Option<TimeUs> {
    state.jobs.get(job)?.past().recover_by_us
}

impl KeptRoom {
    /// Takes in an epoch and checks it.
    pub fn epoch(&mut self, state: &State, closed: &Closed) {
        // What is the same now was kept all the while, unless room was made for the job in this epoch: of a set some have nobody
        // stopped for them, and look the same when all of it was given up and made again.
        let made = |job: &JobId| {
            closed.outputs.iter().any(|output| matches!(output, Event::JobHeld(held) if held.job == *job && held.limit.kind == LimitKind::Draining))
        };
        let kept = |job: &JobId, claim: &Claim| state.claims.get(job) == Some(claim) && !made(job);
        // Where a site is short of power what is held there is given up before anybody is placed, and who comes back does so in turn.
        let site_of = |pool: &PoolId| Some(&state.pools.get(pool)?.declared.as_ref()?.site);
        let is_short = |pool: &PoolId| {
            closed.outputs.iter().any(|output| matches!(output, Event::JobPreempted(told) if told.cause == StopCause::PowerLimit && site_of(&told.from_pool) == site_of(pool)))
        };
        let mut before_it = None;
        for output in &closed.outputs {
            let Event::JobPlaced(placed) = output else { continue };
            let nodes: BTreeSet<&NodeId> = placed.nodes.iter().map(|replica| &replica.node).collect();
            let own = self.claims.get(&placed.job);
            let is_in_berth = own.and_then(berth).is_some_and(|(pool, berth)| *pool == placed.pool && berth == nodes);
            let goes_on = is_in_berth && !is_short(&placed.pool);
            // Who is moved has its room already, on a node of which the rest may be kept for another.
            for (job, claim) in
                self.claims.iter().filter(|(job, claim)| !goes_on && **job != placed.job && kept(job, claim))
            {
                let taken = claim.nodes.iter().find(|node| nodes.contains(node));
                assert!(taken.is_none(), "{} takes room on {taken:?} that is kept for {job}", placed.job);
            }
            if own.is_none() {
                self.is_no_newcomer(state, closed, &placed.job, &nodes);
            }
            // It uses what it has used all along: nobody for whom room is made is asked before it.
            assert!(!goes_on || before_it.is_none(), "{} is moved and goes on after {before_it:?}", placed.job);
            if own.is_some_and(|claim| claim.berth.is_none()) {
                before_it = Some(placed.job.clone());
            }
        }
        self.claims = state.claims.iter().map(|(job, claim)| (job.clone(), claim.clone())).collect();
        self.shut = state.clearing.iter().map(|(job, closed)| (job.clone(), closed.clone())).collect();
        self.owed = state.jobs.iter().filter_map(|(job, _)| Some((job.clone(), recover_by(state, job)?))).collect();
        self.entitled = state.entitled.iter().map(|(job, _)| job.clone()).collect();
        self.ticked_us = state.meta().last_tick_us;
    }

    /// By when a job that was placed had been owed to run again, where its tenant's share held it: that may have been found out in the
    /// same epoch, in which it may have been lost as well.
    fn was_owed(&self, state: &State, closed: &Closed, id: &JobId, spec: &Spec) -> Option<TimeUs> {
        let lost = || {
            let is_lost = |output: &Event| matches!(output, Event::JobRequeued(told) if told.job == *id);
            let within = spec.recovery.as_ref().and_then(|recovery| recovery.rto_us);
            within.filter(|_| closed.outputs.iter().any(is_lost)).map(|within| state.now().after(within))
        };
        let is_held = self.entitled.contains(id) || state.meta().last_tick_us != self.ticked_us;
        self.owed.get(id).copied().or_else(lost).filter(|_| is_held)
    }

    /// Nobody of the same class or a lower one comes onto nodes that are closed for another all the while, but for who asks for the
    /// same for the same tenant, for its set, for who draws on a contract, and for who was owed recovery sooner than the other.
    fn is_no_newcomer(&self, state: &State, epoch: &Closed, id: &JobId, nodes: &BTreeSet<&NodeId>) {
        let Some(own) = state.spec(id).filter(|own| own.sold_lease.is_none() && own.reservation.is_none()) else {
            return;
        };
        let owed_by = self.was_owed(state, epoch, id, &own);
        let value = |spec: &Spec| state.classes.get(&spec.class).map_or(0, |class| class.value);
        for (job, closed) in self.shut.iter().filter(|(job, closed)| state.clearing.get(*job) == Some(*closed)) {
            let Some(other) = state.spec(job).filter(|_| job != id) else { continue };
            let is_let_in = own.tenant == other.tenant
                && (own.gang == other.gang || own.job_set.is_some() && own.job_set == other.job_set);
            let is_owed_sooner = owed_by.is_some_and(|own| recover_by(state, job).is_none_or(|other| own < other));
            let comes = value(&own) <= value(&other) && closed.nodes.iter().any(|node| nodes.contains(node));
            assert!(
                !comes || is_let_in || is_owed_sooner,
                "{id} comes onto {nodes:?}, of which {closed:?} is closed for {job}"
            );
        }
    }
}
