//! What of one job: one that nobody has asked for yet, or one that waits. Where it would go and why, pool by pool; its place in
//! line; when it could start at the earliest, and when it will if nothing unforeseen happens.

use std::collections::BTreeMap;

use solyx_schemas::epochs::Position;
use solyx_schemas::events::Event;
use solyx_schemas::events::decisions::{CostTerms, JobPlaced, Limit, LimitKind};
use solyx_schemas::events::jobs::JobRequested;
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

use super::foresee::{Foreseen, Step};
use super::{Fate, Rehearsal, fate};
use crate::apply::apply;
use crate::decide::{Standing, decide, earliest_start};
use crate::index::Index;
use crate::judge::judge;
use crate::order_rule::{OrderRule, rank};
use crate::place::{Promises, places};
use crate::queue::{Place, Shape, Told};
use crate::rows::{Closed, Phase};
use crate::state::State;

/// Instants that a forecast looks at before it gives up.
pub(super) const FORECAST_STEPS_MAX: usize = 2_000;

/// What the kernel says of one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What becomes of it in the next epoch.
    pub fate: Fate,
    /// The decision that places it, if it is placed: with its terms and the best place that it does not take.
    pub placed: Option<Box<JobPlaced>>,
    /// What each pool says of it now, best first, then those that cannot take it by name.
    pub pools: Vec<PoolAnswer>,
    /// Runs that are told to stop for it, with their jobs.
    pub victims: Vec<(JobId, RunId)>,
    /// Its place in line, if it stands there.
    pub line: Option<PlaceInLine>,
    /// When it could start if it went before all who wait and what runs ended when expected: no promise can be earlier. For a
    /// job that is kept out of the line until an instant, that instant.
    pub earliest: Option<TimeUs>,
    /// What comes of it if what runs and starts ends when expected, nothing fails and nobody asks for more.
    pub forecast: Forecast,
}

/// A pool and a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolAnswer {
    /// The pool.
    pub pool: PoolId,
    /// When it could start there and what it costs, or the limit that rules it out.
    pub place: Result<(TimeUs, CostTerms), Limit>,
}

/// Where a job stands in line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaceInLine {
    /// Value of its priority class.
    pub class_value: i64,
    /// Jobs whose turn comes before its own; who is tried first changes with shares, and who fits may go first.
    pub ahead: usize,
    /// Those of its own tenant among them.
    pub ahead_of_tenant: usize,
    /// The name of the order rule.
    pub rule: Name,
    /// By when it is owed to run again after a loss: who is goes before all others of its class.
    pub recover_by: Option<TimeUs>,
    /// By how much its place lies behind the time of its request, µs; where the rule has surcharges.
    pub surcharge_us: Option<i64>,
    /// What the tenant is promised and what it has of it, thousandths of GPUs; where the rule promises shares.
    pub share: Option<(i64, i64)>,
    /// The nodes that are closed to newcomers for it, and when all that stands in its way there may be stopped.
    pub closed: Option<Closed>,
}

/// What will come of a job if everything goes as expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forecast {
    /// It starts.
    Starts(TimeUs),
    /// It ends without having run.
    Ends(TimeUs),
    /// Nothing that is foreseen lets it start.
    Never,
    /// It has not started by then, and further ahead nothing was looked at.
    NotBefore(TimeUs),
}

impl Rehearsal {
    /// What would become of a job that is asked for now, or why it cannot be asked for.
    pub fn job(&self, request: &JobRequested) -> Result<Answer, String> {
        let event = Event::from(request.clone());
        let (mut state, mut index) = (self.state.clone(), self.index.clone());
        self.recall(&mut state, &event);
        let arrival = Position::new(solyx_schemas::topics::Topic::Jobs, u32::MAX, u64::MAX);
        judge(&state, arrival, event.key().as_bytes(), &event).map_err(|refused| refused.detail)?;
        apply(&mut state, &mut index, arrival, &event).map_err(|refused| refused.detail)?;
        Ok(self.answer(state, index, &request.job))
    }

    /// What becomes of a job that waits; nothing if it does not.
    pub fn waiting(&self, id: &JobId) -> Option<Answer> {
        let job = self.state.jobs.get(id)?;
        let waits = matches!(job.phase, Phase::Requested | Phase::Waiting | Phase::Leasing);
        let (mut state, mut index) = (self.state.clone(), self.index.clone());
        // What it was told is not said again, unless nothing was.
        let was_told = job.told.is_some_and(|told| told != LimitKind::Draining) && index.queue.line_of(id).is_some();
        if let Some(job) = state.jobs.edit(id).filter(|_| was_told) {
            job.told = None;
            index.queue.place(&state, id);
        }
        waits.then(|| self.answer(state, index, id))
    }

    fn answer(&self, mut state: State, mut index: Index, id: &JobId) -> Answer {
        index.changed = true;
        let pools = pools(&state, &mut index, id);
        let outputs = decide(&mut state, &mut index, &self.cell, 0).outputs;
        let mut placed = None;
        let mut victims = Vec::new();
        for output in &outputs {
            match output {
                Event::JobPlaced(e) if e.job == *id => placed = Some(e.clone()),
                Event::JobPreempted(e) if e.for_job.as_ref() == Some(id) => {
                    victims.push((e.job.clone(), e.run.clone()))
                }
                _ => {}
            }
        }
        let fate = fate::of_job(&state, &mut index, id, &outputs);
        Answer {
            fate,
            placed,
            pools,
            victims,
            line: self.place_in_line(&mut state, &mut index, id),
            earliest: self.earliest(&mut state, &mut index, id),
            forecast: self.forecast(state, index, id, outputs),
        }
    }

    fn earliest(&self, state: &mut State, index: &mut Index, id: &JobId) -> Option<TimeUs> {
        let now = state.now();
        if index.queue.turn_of(id).is_none() {
            return state.jobs.get(id).map(|job| job.not_before_us).filter(|at| *at > now);
        }
        // A promise begins after the present; what fits now could start now.
        earliest_start(state, index, &self.cell, id).map(|start| if start.0 == now.0 + 1 { now } else { start })
    }

    fn place_in_line(&self, state: &mut State, index: &mut Index, id: &JobId) -> Option<PlaceInLine> {
        let (class_value, turn) = index.queue.turn_of(id)?;
        let (tenant, shape) = index.queue.line_of(id)?;
        let standing = state.policy().promises_shares().then(|| Standing::of(state, index, &self.cell));
        let is_beyond = |tenant: &TenantId, shape: Shape| {
            standing.as_ref().is_some_and(|standing| !standing.holds(index, tenant, shape))
        };
        let own = (is_beyond(&tenant, shape), turn, id);
        let (mut ahead, mut ahead_of_tenant) = (0, 0);
        for class in index.queue.classes().take_while(|class| *class >= class_value) {
            for (other, lines) in index.queue.tenants(class) {
                let mut beyond: BTreeMap<Shape, bool> = BTreeMap::new();
                let mut before = |((shape, turn, job), _): &(&Place, &Told)| {
                    let beyond = *beyond.entry(*shape).or_insert_with(|| is_beyond(other, *shape));
                    class > class_value || (beyond, *turn, job) < own
                };
                let count = lines.iter().filter(|place| before(place)).count();
                ahead += count;
                ahead_of_tenant += if *other == tenant { count } else { 0 };
            }
        }
        let share = standing.as_ref().map(|standing| standing.share(&tenant));
        let rule = state.policy().order_rule();
        let (job, spec) = (state.jobs.get(id)?, state.spec(id)?);
        let own_rank = turn.rank().unwrap_or_else(|| rank(state, job, &spec));
        Some(PlaceInLine {
            class_value,
            ahead,
            ahead_of_tenant,
            rule: Name::from(rule.name()),
            recover_by: turn.is_owed().then(|| turn.recover_by()),
            surcharge_us: (rule == OrderRule::ShareSurcharge).then(|| own_rank.saturating_sub(job.requested_us.0)),
            share,
            closed: state.clearing.get(id).cloned(),
        })
    }

    /// Goes from end to end of runs, as they are expected, until the job starts.
    fn forecast(&self, state: State, index: Index, id: &JobId, outputs: Vec<Event>) -> Forecast {
        let mut foreseen = Foreseen::new(&self.cell, state, index, outputs).into_expected();
        for _ in 0..FORECAST_STEPS_MAX {
            if let Some(settled) = settled(&foreseen.state, id) {
                return settled;
            }
            match foreseen.step(TimeUs(TIME_MAX_US)) {
                Step::Went => {}
                // What is on order may come at any time.
                Step::Nothing if !foreseen.state.orders.is_empty() => break,
                Step::Nothing => return Forecast::Never,
                Step::TooMuch => break,
            }
        }
        Forecast::NotBefore(foreseen.state.now())
    }
}

/// What has come of a job, if it no longer waits.
fn settled(state: &State, id: &JobId) -> Option<Forecast> {
    let Some(job) = state.jobs.get(id) else { return Some(Forecast::Never) };
    if let Some(run) = job.run.as_ref().and_then(|run| state.runs.get(run)) {
        return Some(Forecast::Starts(run.placed_us));
    }
    if let Some(pool) = job.past().order.as_ref().and_then(|order| state.orders.get(order)).map(|order| &order.pool) {
        let delay = state.pools.get(pool).and_then(|pool| Some(pool.declared.as_ref()?.start_delay_us));
        return Some(Forecast::Starts(state.now().after(delay.unwrap_or_default())));
    }
    job.is_over().then(|| Forecast::Ends(state.now()))
}

/// What each pool says of a job before anybody starts in the next epoch.
fn pools(state: &State, index: &mut Index, id: &JobId) -> Vec<PoolAnswer> {
    let found = places(state, index, id, &Promises::default());
    let taken = found.candidates.into_iter().map(|c| PoolAnswer { pool: c.pool.pool, place: Ok((c.start, c.terms)) });
    let refused = found.refusals.into_iter().map(|(pool, limit)| PoolAnswer { pool, place: Err(limit) });
    taken.chain(refused).collect()
}
