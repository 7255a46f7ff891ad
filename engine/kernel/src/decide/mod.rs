//! Deciding: once an epoch, after all its events.
//!
//! Two words first. A *pass* goes once over the queue and starts whoever may start. A *tick* comes after the policy's period, while
//! somebody waits, and makes room for those who do not start by themselves.
//!
//! The steps, in the order of [`decide`]:
//! 1. what was kept too long for who did not come is anybody's (`instances`); budgets and declarations that are new count (`upkeep`);
//! 2. who was asked for is admitted or rejected (`admission`);
//! 3. what has to be answered is, until nothing is left: losses, failures, cancellations, drained nodes, leases of runs (`upkeep`),
//!    what power and quotas no longer carry (`overcommit`), contracts that are owed (`reclaim`), and, when anything changed that
//!    somebody waits for, the pass (`order`);
//! 4. who is to leave is told to, or moved (`drain`, `moving`);
//! 5. at a tick, room is made (`preempt`);
//! 6. elastic jobs grow and give back (`elastic`), and GPUs are divided (`divide`);
//! 7. who is kept out hears why (`upkeep`), idle instances are given back (`instances`), contracts are settled (`reclaim`).
//!
//! Who: `order`, `heads`, `fair`, `share`, `sets`, `standstill`. Where and when: `start`, `promise`, `laid`, `deferral`. Making room:
//! `preempt`, `by_class`, `by_share`, `closing`, `room`, `consolidate`, `stops`.

use std::collections::BTreeSet;

use solyx_schemas::events::Event;
use solyx_schemas::events::common::Sum;
use solyx_schemas::events::decisions::{JobHeld, Limit, Overcommitment, StopCause};
use solyx_schemas::events::jobs::FailureCategory;
use solyx_schemas::ids::{CellId, JobId, NodeId, PoolId, RefId, RunId, TenantId};
use solyx_schemas::units::{TimeUs, WorkUs};

use crate::index::Index;
use crate::place::Promises;
use crate::queue::Shape;
use crate::rows::Stop;
use crate::state::State;

mod admission;
pub(crate) mod by_class;
mod by_share;
mod closing;
mod consolidate;
mod deferral;
mod divide;
mod drain;
mod elastic;
mod fair;
mod heads;
mod instances;
mod laid;
mod moving;
mod order;
mod overcommit;
mod preempt;
mod promise;
mod quota_room;
mod reclaim;
mod room;
mod sets;
mod share;
mod standstill;
mod start;
mod stops;
mod upkeep;

/// A failure that `apply` noted.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The job.
    pub job: JobId,
    /// The run that failed.
    pub run: RunId,
    /// The pool it was in.
    pub pool: PoolId,
    /// Category.
    pub category: FailureCategory,
    /// The node that failed.
    pub node: Option<NodeId>,
    /// Whether the run had started.
    pub started: bool,
    /// Why the job waits again.
    pub cause: StopCause,
    /// Work that is durable.
    pub kept: WorkUs,
    /// Work that is lost.
    pub lost: WorkUs,
    /// What it had cost.
    pub lost_cost: Option<Sum>,
    /// It had been told to stop.
    pub stopped_for: Option<Stop>,
}

/// What a run failed by.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// Category.
    pub category: FailureCategory,
    /// The node that failed.
    pub node: Option<NodeId>,
    /// Why the job waits again.
    pub cause: StopCause,
}

/// What came of an epoch.
pub struct Decided {
    /// Decisions, unstamped, in order of index.
    pub outputs: Vec<Event>,
    /// Overcommitments that inputs caused.
    pub overcommitments: Vec<Overcommitment>,
}

/// What the parts of a decision share.
pub(crate) struct Epoch<'a> {
    pub state: &'a mut State,
    pub index: &'a mut Index,
    pub cell: &'a CellId,
    pub number: i64,
    pub term: i64,
    pub now: TimeUs,
    pub outputs: Vec<Event>,
    pub overcommitments: Vec<Overcommitment>,
    /// Which outputs place jobs that may have more replicas.
    pub may_grow: Vec<usize>,
    /// Runs with MIG instances that were placed in this epoch.
    pub divided: BTreeSet<RunId>,
}

impl<'a> Epoch<'a> {
    /// One in which nothing is decided yet.
    fn of(state: &'a mut State, index: &'a mut Index, cell: &'a CellId, term: i64) -> Self {
        let (number, now) = (state.meta().next_epoch, state.now());
        Self {
            state,
            index,
            cell,
            number,
            term,
            now,
            outputs: Vec::new(),
            overcommitments: Vec::new(),
            may_grow: Vec::new(),
            divided: BTreeSet::new(),
        }
    }

    /// The id that the next output will have.
    pub fn next_output_id(&self) -> RefId {
        RefId::from(format!("{}/{}/{}/{}", self.cell, self.number, self.term, self.outputs.len()))
    }

    /// Writes a decision.
    pub fn say(&mut self, decision: impl Into<Event>) {
        self.outputs.push(decision.into());
    }

    /// Says which limit binds a waiting job, when that is news.
    pub fn tell(&mut self, id: &JobId, limit: &Limit, earliest_start_us: Option<TimeUs>) {
        let Some(job) = self.state.jobs.get(id) else { return };
        self.index.queue.fresh.remove(id);
        if job.told == Some(limit.kind) {
            return;
        }
        // The line knows it: a request has to be unpacked.
        let in_line = self.index.queue.tenant_of(id).cloned();
        let Some(tenant) = in_line.or_else(|| Some(self.state.spec(id)?.tenant)) else { return };
        if let Some(job) = self.state.jobs.edit(id) {
            job.told = Some(limit.kind);
        }
        self.index.queue.note_told(id, limit.kind);
        self.say(JobHeld { job: id.clone(), tenant, limit: limit.clone(), earliest_start_us, ..JobHeld::default() });
    }
}

/// Decides an epoch.
pub fn decide(state: &mut State, index: &mut Index, cell: &CellId, term: i64) -> Decided {
    let mut epoch = Epoch::of(state, index, cell, term);
    instances::end_keeping(&mut epoch);
    upkeep::budgets_set(&mut epoch);
    upkeep::redeclared(&mut epoch);
    admission::admit(&mut epoch);
    upkeep::losses(&mut epoch);
    upkeep::budgets(&mut epoch);
    answer(&mut epoch);
    drain::move_away(&mut epoch);
    preempt::tick(&mut epoch);
    elastic::at_start(&mut epoch);
    elastic::at_checkpoints(&mut epoch);
    // What has grown by its own contract may leave another without what is kept for it.
    reclaim::clear(&mut epoch);
    // Whatever was told to stop since may leave a contract owed.
    if epoch.index.open_notes().next().is_some() {
        answer(&mut epoch);
        drain::move_away(&mut epoch);
    }
    divide::order(&mut epoch);
    upkeep::notices(&mut epoch);
    instances::release_idle(&mut epoch);
    reclaim::settle(&mut epoch);
    epoch.index.queue.forget_unused();
    Decided { outputs: epoch.outputs, overcommitments: epoch.overcommitments }
}

/// Answers everything that is noted.
fn answer(epoch: &mut Epoch<'_>) {
    // A pass may itself end jobs, which others wait for. Nothing may be left for the next epoch: a kernel restored from a
    // snapshot would not know of it. Each further round has ended a job or opened nodes, so that there is a last one.
    loop {
        upkeep::losses(epoch);
        upkeep::failures(epoch);
        upkeep::jobs(epoch);
        upkeep::nodes(epoch);
        upkeep::runs(epoch);
        overcommit::power(epoch);
        overcommit::quotas(epoch);
        reclaim::list(epoch);
        if std::mem::take(&mut epoch.index.changed) {
            order::pass(epoch);
        }
        if epoch.index.open_notes().next().is_none() {
            break;
        }
    }
}

/// When a waiting job could start if it went before all others and what runs ended when expected.
pub fn earliest_start(state: &mut State, index: &mut Index, cell: &CellId, id: &JobId) -> Option<TimeUs> {
    promise::earliest_start(&mut Epoch::of(state, index, cell, 0), id, &Promises::default())
        .map(|promise| promise.start)
}

/// Takes note of what runs on lost nodes, as the next decision would.
pub fn note_losses(state: &mut State, index: &mut Index, cell: &CellId) {
    upkeep::losses(&mut Epoch::of(state, index, cell, 0));
}

/// How tenants stand to what they are promised.
pub struct Standing(share::Shares);

impl Standing {
    /// As things are.
    pub fn of(state: &mut State, index: &mut Index, cell: &CellId) -> Self {
        Self(share::Shares::of(&Epoch::of(state, index, cell, 0)))
    }

    /// What a tenant is promised, and what it has, thousandths of GPUs.
    pub fn share(&self, tenant: &TenantId) -> (i64, i64) {
        (self.0.promised(tenant), self.0.taken(tenant))
    }

    /// Whether what is promised to a tenant holds a job in line that asks for this: such jobs go before the others of their class.
    pub fn holds(&self, index: &Index, tenant: &TenantId, shape: Shape) -> bool {
        let common = index.queue.common(shape);
        self.0.held(tenant, common.gpu_milli, index.queue.accepted(Some(common.models))).everywhere
    }
}

/// The run of a job's present attempt.
pub fn run_id_of(state: &State, job: &JobId) -> RunId {
    let attempt = state.jobs.get(job).map_or(0, |row| row.attempts);
    RunId::from(format!("{job}/{attempt}"))
}

/// The cause by which a failure's category is told.
pub fn cause_of(category: FailureCategory) -> StopCause {
    match category {
        FailureCategory::SpotReclaim => StopCause::SpotReclaimed,
        FailureCategory::Node => StopCause::NodeLost,
        _ => StopCause::Failed,
    }
}
