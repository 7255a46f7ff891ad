//! What if a failure domain were lost now: which runs it hits, and what the kernel would do with their jobs. What of one job,
//! asked for now or waiting (`job.rs`). And what if something were said now (`told.rs`).
//!
//! A rehearsal is a copy of the state. The domain is taken out of it as the loss would take it out, and `decide` answers as
//! it would in the next epoch: in the kernel's order, each job on what the ones before it have left, beside all that waits
//! already. Nothing of it reaches the state that the copy was made from.

mod domain;
mod fate;
mod foresee;
mod job;
mod told;

use std::collections::{BTreeMap, BTreeSet};

use solyx_schemas::epochs::Position;
use solyx_schemas::events::Event;
use solyx_schemas::events::capacity::ProviderState;
use solyx_schemas::events::common::NodeGpus;
use solyx_schemas::events::decisions::{CostTerms, Limit, StopCause};
use solyx_schemas::events::facility::{ElementState, PowerElementStateChanged};
use solyx_schemas::events::nodes::NodeState;
use solyx_schemas::events::runs::{RunStopped, StopReason};
use solyx_schemas::events::world::ReplicaState;
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

pub use self::domain::{Contents, Domain, domains};
pub use self::job::{Answer, Forecast, PlaceInLine, PoolAnswer};
pub use self::told::{Consequence, Course, Otherwise, Rest, Stop, TOLD_MAX};

use self::domain::contents;
use self::fate::fates;
use crate::Kernel;
use crate::apply::{apply, expected_work_done};
use crate::decide::{decide, note_losses};
use crate::follow::Follower;
use crate::index::Index;
use crate::place::{Asking, ask_at, duration_of, price};
use crate::power::Overload;
use crate::rows::{Job, Provider, Run};
use crate::state::State;
use crate::table::Table;

/// Times that runs are let stop for a loss before what is decided then stands: each may make others stop.
const STOP_ROUNDS_MAX: usize = 8;

/// Why a run is hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Nodes that it holds are lost.
    Lost,
    /// What is left of the power tree cannot carry it.
    Overload,
    /// It is stopped to make room for a job that was hit.
    Preempted,
}

/// What becomes of a job that was hit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is placed on nodes that are there.
    Placed {
        /// The pool.
        pool: PoolId,
        /// Nodes and GPUs.
        nodes: Vec<NodeGpus>,
        /// When.
        start: TimeUs,
        /// What the rest of it costs there.
        terms: CostTerms,
    },
    /// Instances are ordered for it.
    Leases {
        /// The pool.
        pool: PoolId,
        /// How many.
        instances: i64,
        /// When they are expected.
        start: TimeUs,
        /// What the rest of it costs there; none when it cannot be priced.
        terms: Option<CostTerms>,
    },
    /// It waits for a cheaper or cleaner hour.
    Deferred {
        /// The pool.
        pool: PoolId,
        /// The hour.
        start: TimeUs,
        /// What the rest of it costs then.
        terms: CostTerms,
    },
    /// It has no place, and this limit binds.
    Waits {
        /// The limit.
        limit: Limit,
        /// Earliest start that is known.
        earliest: Option<TimeUs>,
    },
    /// It ends: it was to stop for good, may not be retried, or can no longer keep its deadline.
    Ends {
        /// Why.
        detail: String,
    },
}

/// A run that is hit, and what becomes of its job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// The job.
    pub job: JobId,
    /// The run.
    pub run: RunId,
    /// What the run holds.
    pub held: Run,
    /// Why it is hit.
    pub cause: Cause,
    /// When its resources count as released at the latest: the end of its lease, unless its nodes are fenced before, or of
    /// the time it has to stop.
    pub released: TimeUs,
    /// Work of each replica that is kept.
    pub kept_work: WorkUs,
    /// Work of each replica that is lost.
    pub lost_work: WorkUs,
    /// The last checkpoint is lost with its site, and no other copy is known.
    pub checkpoint_lost: bool,
    /// Data sets whose last durable copy is lost.
    pub datasets_lost: Vec<DatasetId>,
    /// What the rest of it would cost where it is; none when that cannot be priced.
    pub stays: Option<CostTerms>,
    /// What becomes of it.
    pub fate: Fate,
}

/// What the loss of a domain does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WhatIf {
    /// Runs that are hit, in the order in which the kernel deals with their jobs.
    pub hits: Vec<Hit>,
    /// Elements of the power tree that carry more than they may after it.
    pub overloads: Vec<(SiteId, Overload)>,
}

/// A state on copies of which losses are thought through. It leaves out jobs that are over and that nobody depends on.
pub struct Rehearsal {
    cell: CellId,
    state: State,
    index: Index,
    /// All jobs, also those that are left out.
    past: Table<JobId, Box<Job>>,
    /// How long it still is until room is made for those who wait. Everything is thought through as if that were now.
    until_tick: DurationUs,
}

impl Follower {
    /// A rehearsal at the end of the last epoch.
    pub fn rehearsal(&self) -> Rehearsal {
        Rehearsal::of(self.kernel.cell.clone(), self.kernel.state.clone(), self.kernel.index.clone())
    }

    /// The same of a state that nobody follows any further: without a copy.
    pub fn into_rehearsal(self) -> Rehearsal {
        let Kernel { cell, state, index, .. } = self.kernel;
        Rehearsal::of(cell, state, index)
    }
}

impl Rehearsal {
    fn of(cell: CellId, mut state: State, index: Index) -> Self {
        let needed: BTreeSet<&JobId> = index.dependents.iter().map(|(on, _)| on).collect();
        let living = state.jobs.filtered(|id, job| !job.is_over() || needed.contains(id));
        let past = std::mem::replace(&mut state.jobs, living);
        let next_tick = state.tick().map(|tick| state.meta().last_tick_us.after(tick).max(state.now()));
        let until_tick = next_tick.map_or(DurationUs::ZERO, |next| next.since(state.now()));
        state.meta_mut().last_tick_us = TimeUs(0);
        state.forget_changes();
        Self { cell, state, index, past, until_tick }
    }

    /// Puts back what a request names of jobs that are over: its own id, and what it waits for.
    fn recall(&self, state: &mut State, event: &Event) {
        let Event::JobRequested(request) = event else { return };
        for id in request.depends_on.iter().map(|other| &other.job).chain([&request.job]) {
            if !state.jobs.contains(id)
                && let Some(job) = self.past.get(id)
            {
                state.jobs.insert(id.clone(), job.clone());
            }
        }
    }

    /// The instant at which it stands.
    pub fn now(&self) -> TimeUs {
        self.state.now()
    }

    /// Every failure domain.
    pub fn domains(&self) -> Vec<Domain> {
        domains(&self.state)
    }

    /// What lies in a domain.
    pub fn contents(&self, domain: &Domain) -> Contents {
        contents(&self.state, &self.index, domain)
    }

    /// The loss of a domain, thought through.
    pub fn loss(&self, domain: &Domain) -> WhatIf {
        let mut contents = self.contents(domain);
        let feed = matches!(domain, Domain::Feed(..));
        if !feed && self.runs_on(&contents.nodes).is_empty() {
            return WhatIf::default();
        }
        let (mut state, mut index) = (self.state.clone(), self.index.clone());
        if let Domain::Feed(site, element) = domain {
            let failed = PowerElementStateChanged {
                site: site.clone(),
                element: element.clone(),
                state: ElementState::Failed,
                ..PowerElementStateChanged::default()
            };
            tell(&mut state, &mut index, failed.into());
            contents.nodes.retain(|node| !is_powered(&state, &index, site, node));
        }
        let mut hits: BTreeMap<JobId, Hit> = BTreeMap::new();
        for id in self.runs_on(&contents.nodes) {
            if let Some(hit) = self.hit(&id, Cause::Lost, &contents, &mut index) {
                hits.insert(hit.job.clone(), hit);
            }
        }
        for hit in hits.values().filter(|hit| hit.checkpoint_lost) {
            forget_checkpoint(&mut state, hit);
        }
        take_out(&mut state, &mut index, &self.cell, domain, &contents);
        let mut outputs = decide(&mut state, &mut index, &self.cell, 0).outputs;
        let overloads = overloads_of(&index, domain);
        let mut from = 0;
        for _ in 0..STOP_ROUNDS_MAX {
            let stops = self.stop_told(&mut state, &mut index, &outputs[from..], &contents, &mut hits);
            if stops.is_empty() {
                break;
            }
            from = outputs.len();
            outputs.extend(decide(&mut state, &mut index, &self.cell, 0).outputs);
            start_after(&mut outputs[from..], &stops);
        }
        let hits = fates(&state, &mut index, hits, &outputs);
        WhatIf { hits, overloads }
    }

    /// Runs that hold something on any of these nodes.
    fn runs_on(&self, nodes: &BTreeSet<NodeId>) -> BTreeSet<RunId> {
        nodes.iter().filter_map(|node| self.index.uses.get(node)).flat_map(|used| used.runs.iter().cloned()).collect()
    }

    /// A run that is hit, before it is known what becomes of its job.
    fn hit(&self, id: &RunId, cause: Cause, lost: &Contents, numbers: &mut Index) -> Option<Hit> {
        let run = self.state.runs.get(id)?;
        let (job, spec) = (self.state.jobs.get(&run.job)?, self.state.spec(&run.job)?);
        let is_lost = |site: &SiteId| lost.sites.contains(site);
        let checkpoint = DatasetId::from(format!("checkpoint:{}", run.job));
        let checkpoint_lost = job.past().checkpoint_site.as_ref().is_some_and(is_lost)
            && durable_sites(&self.state, &checkpoint).iter().all(is_lost);
        let kept = if checkpoint_lost { WorkUs(0) } else { run.durable_work_us };
        let gone = |dataset: &&DatasetId| {
            let sites = durable_sites(&self.state, dataset);
            !sites.is_empty() && sites.iter().all(is_lost)
        };
        Some(Hit {
            job: run.job.clone(),
            run: id.clone(),
            held: run.clone(),
            cause,
            released: run.lease_until_us,
            // Unless a decision says otherwise: of a job that ends with its run none does.
            kept_work: kept,
            lost_work: WorkUs((expected_work_done(run, self.state.now()).0 - kept.0).max(0)),
            checkpoint_lost,
            datasets_lost: spec.datasets.iter().filter(gone).cloned().collect(),
            stays: stays(&self.state, numbers, run),
            fate: Fate::Ends { detail: "it is not dealt with".to_owned() },
        })
    }

    /// Lets the runs stop that were told to because the power tree is overloaded or a job that was hit needs their room, the
    /// latter from the next tick on. Which jobs they stop for, none for the power tree, and by when.
    fn stop_told(
        &self,
        state: &mut State,
        index: &mut Index,
        outputs: &[Event],
        lost: &Contents,
        hits: &mut BTreeMap<JobId, Hit>,
    ) -> Vec<(Option<JobId>, TimeUs)> {
        let mut stops = Vec::new();
        for output in outputs {
            let Event::JobPreempted(told) = output else { continue };
            let hit_needs_it = told.for_job.as_ref().is_some_and(|job| hits.contains_key(job));
            let (cause, by) = match told.cause {
                StopCause::PowerLimit => (Cause::Overload, told.stop_by_us),
                _ if hit_needs_it => (Cause::Preempted, told.stop_by_us.after(self.until_tick)),
                _ => continue,
            };
            let Some(hit) = self.hit(&told.run, cause, lost, index) else { continue };
            // Whoever was hit before and stops once more was hit first.
            hits.entry(told.job.clone()).or_insert(Hit { released: by, ..hit });
            let stopped = RunStopped {
                job: told.job.clone(),
                run: told.run.clone(),
                reason: StopReason::Preempted,
                kept_work_us: told.kept_work_us,
                stopped_us: state.now(),
                ..RunStopped::default()
            };
            tell(state, index, stopped.into());
            stops.push((told.for_job.clone(), by));
        }
        stops
    }
}

/// What was placed once these had stopped starts when those have that stopped for it; when the last has, if it is not known which.
fn start_after(outputs: &mut [Event], stops: &[(Option<JobId>, TimeUs)]) {
    let Some(last) = stops.iter().filter(|(job, _)| job.is_some()).map(|(_, by)| *by).max() else { return };
    for output in outputs {
        if let Event::JobPlaced(placed) = output {
            let own = stops.iter().filter(|(job, _)| job.as_ref() == Some(&placed.job)).map(|(_, by)| *by).max();
            placed.start_us = placed.start_us.max(own.unwrap_or(last));
        }
    }
}

/// What the rest of a run costs where it is: nothing has to be fetched, and nothing restored.
fn stays(state: &State, index: &mut Index, run: &Run) -> Option<CostTerms> {
    let pool = state.pools.get(&run.pool)?.declared.as_ref()?;
    let mut spec = state.spec(&run.job)?;
    let mut job = state.jobs.get(&run.job)?.clone();
    let now = state.now();
    spec.datasets.clear();
    spec.restore_us = None;
    spec.gang.replicas_min = Count(run.nodes.len() as i64);
    job.past_mut().checkpoint_site = None;
    job.kept_work_us = expected_work_done(run, now);
    let (duration, _) = duration_of(state, &spec, &job, run.speed_milli.0);
    let ask = ask_at(state, &spec, &job, index, &run.model);
    let asking = Asking { id: &run.job, job: &job, spec: &spec, ask: &ask };
    price(state, index, asking, pool, (now, duration), 0).ok()
}

/// Folds what a loss would have somebody say. It follows from the state, which cannot contradict it.
fn tell(state: &mut State, index: &mut Index, event: Event) {
    let told = apply(state, index, Position::default(), &event);
    assert!(told.is_ok(), "{} follows from the state: {told:?}", event.name());
}

fn is_powered(state: &State, index: &Index, site: &SiteId, node: &NodeId) -> bool {
    let report = state.nodes.get(node).and_then(|node| node.report.as_ref());
    match (report, index.power.get(site)) {
        (Some(report), Some(power)) => power.reaches(state, site, &report.feeds),
        _ => true,
    }
}

/// Sites that hold a durable copy.
fn durable_sites(state: &State, dataset: &DatasetId) -> Vec<SiteId> {
    let replicas = state.replicas.range((dataset.clone(), SiteId::default())..);
    replicas
        .take_while(|((id, _), _)| id == dataset)
        .filter(|(_, replica)| replica.state == ReplicaState::Durable)
        .map(|((_, site), _)| site.clone())
        .collect()
}

/// Its job begins anew: no copy of its last checkpoint is left.
fn forget_checkpoint(state: &mut State, hit: &Hit) {
    if let Some(job) = state.jobs.edit(&hit.job) {
        job.kept_work_us = WorkUs(0);
        job.past_mut().checkpoint_site = None;
    }
    if let Some(run) = state.runs.edit(&hit.run) {
        run.durable_work_us = WorkUs(0);
    }
}

/// Takes a domain out of the state as its loss would.
fn take_out(state: &mut State, index: &mut Index, cell: &CellId, domain: &Domain, lost: &Contents) {
    if let Domain::Provider(provider) = domain {
        state.providers.insert(provider.clone(), Provider { state: ProviderState::Down });
    }
    let copies: Vec<(DatasetId, SiteId)> =
        state.replicas.iter().filter(|((_, site), _)| lost.sites.contains(site)).map(|(key, _)| key.clone()).collect();
    for copy in &copies {
        state.replicas.remove(copy);
    }
    // What is held back for this loss is there for it.
    let subject = domain.to_string();
    let reserves: Vec<(RefId, GpuModelId)> =
        state.reserves.iter().filter(|((of, _), _)| of.as_str() == subject).map(|(key, _)| key.clone()).collect();
    for reserve in &reserves {
        state.reserves.remove(reserve);
    }
    // Whoever was promised a start elsewhere does not go before those that it is held back for.
    if !reserves.is_empty() {
        state.meta_mut().promised.clear();
    }
    for id in &lost.nodes {
        if let Some(node) = state.nodes.edit(id) {
            match domain {
                // The nodes are still there and draw power, but nothing reaches them.
                Domain::Fabric(..) => node.state = NodeState::Fenced,
                _ => node.gone = true,
            }
        }
        index.refresh_node(state, id);
        index.suspects.insert(id.clone());
    }
    // By what they are lost, pools that are still declared say.
    note_losses(state, index, cell);
    for id in &lost.pools {
        if let Some(pool) = state.pools.edit(id) {
            pool.declared = None;
        }
    }
    index.changed = true;
}

/// Elements of the site that are overloaded without the feed; the loss itself is not named once more.
fn overloads_of(index: &Index, domain: &Domain) -> Vec<(SiteId, Overload)> {
    let Domain::Feed(site, element) = domain else { return Vec::new() };
    let overloads = index.power.get(site).map(|power| power.overloads()).unwrap_or_default();
    let others = overloads.into_iter().filter(|overload| overload.lost_root.as_ref() != Some(element));
    others.map(|overload| (site.clone(), overload)).collect()
}
