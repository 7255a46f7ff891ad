//! A state that goes on as expected: what runs ends when it is expected to, what is told to stop stops in time, what is placed
//! starts at once, nothing fails and nobody asks for more.

use std::collections::BTreeSet;

use solyx_schemas::events::Event;
use solyx_schemas::events::runs::{RunFinished, RunStarted, RunStopped, StopReason};
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

use super::tell;
use crate::apply::expected_work_done;
use crate::decide::decide;
use crate::index::{Index, Timer};
use crate::state::State;

/// By when a run that has outlived its expected end is taken to end, from then on.
const OVERDUE_US: i64 = 60 * SECOND_US;

/// Ends of runs that are looked at before somebody gives up: that many take about half a second.
const ENDS_MAX: usize = 16_384;

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It stands at a later instant.
    Went,
    /// Nothing more is foreseen until then.
    Nothing,
    /// More would happen than is looked at.
    TooMuch,
}

/// A state on its way.
pub(super) struct Foreseen<'c> {
    cell: &'c CellId,
    /// Where it stands.
    pub(super) state: State,
    /// Its index.
    pub(super) index: Index,
    /// What was decided at this instant.
    pub(super) outputs: Vec<Event>,
    /// Runs that are told to stop, by when they must have.
    stopping: BTreeSet<(TimeUs, RunId)>,
    ends_left: usize,
}

impl<'c> Foreseen<'c> {
    /// A state in which this was decided.
    pub(super) fn new(cell: &'c CellId, state: State, index: Index, outputs: Vec<Event>) -> Self {
        let stops = state.runs.iter().filter_map(|(id, run)| Some((run.stop.as_ref()?.by_us, id.clone())));
        let stopping = stops.collect();
        Self { cell, state, index, outputs, stopping, ends_left: ENDS_MAX }
    }

    /// Takes no run for lost, however long nobody renews its lease: to be called before the first step.
    pub(super) fn into_expected(mut self) -> Self {
        let runs: Vec<RunId> = self.state.runs.iter().map(|(run, _)| run.clone()).collect();
        runs.iter().for_each(|run| holds_on(&mut self.state, &mut self.index, run));
        self
    }

    /// Starts what was placed and goes to the next instant at which something ends or is waited for, if that is not after
    /// `until`.
    pub(super) fn step(&mut self, until: TimeUs) -> Step {
        let (state, index) = (&mut self.state, &mut self.index);
        for output in &self.outputs {
            if let Event::JobPlaced(placed) = output {
                start(state, index, &placed.run);
            }
        }
        self.outputs.clear();
        let Some(next) = next_instant(state, index, &self.stopping).filter(|next| *next <= until) else {
            return Step::Nothing;
        };
        let ends = index.ends.iter().take_while(|(end, _)| *end <= next).take(self.ends_left + 1).count();
        let Some(left) = self.ends_left.checked_sub(ends) else { return Step::TooMuch };
        self.ends_left = left;
        state.meta_mut().now_us = next;
        index.due(state);
        crate::budget::renew_due(state, index);
        end_runs(state, index, &mut self.stopping);
        self.outputs = decide(state, index, self.cell, 0).outputs;
        let told = self.outputs.iter().filter_map(stopped_run);
        let stops = told.filter_map(|id| Some((state.runs.get(id)?.stop.as_ref()?.by_us, id.clone())));
        self.stopping.extend(stops);
        Step::Went
    }
}

/// A run is not thought lost.
fn holds_on(state: &mut State, index: &mut Index, id: &RunId) {
    index.clear_timer(&Timer::Run(id.clone()));
    if let Some(run) = state.runs.edit(id) {
        run.lease_until_us = TimeUs(TIME_MAX_US);
    }
}

fn start(state: &mut State, index: &mut Index, id: &RunId) {
    holds_on(state, index, id);
    let Some(run) = state.runs.get(id) else { return };
    let started = RunStarted {
        job: run.job.clone(),
        run: id.clone(),
        nodes: run.nodes.clone(),
        started_us: state.now(),
        ..RunStarted::default()
    };
    tell(state, index, started.into());
}

/// The run that a decision tells to stop.
fn stopped_run(output: &Event) -> Option<&RunId> {
    match output {
        Event::JobPreempted(e) => Some(&e.run),
        Event::JobMigrated(e) => Some(&e.run),
        Event::JobResized(e) => Some(&e.run),
        Event::JobCancelled(e) => e.run.as_ref(),
        _ => None,
    }
}

/// Whether a run is still to stop by then.
fn is_to_stop(state: &State, (by, id): &(TimeUs, RunId)) -> bool {
    state.runs.get(id).and_then(|run| run.stop.as_ref()).is_some_and(|stop| stop.by_us == *by)
}

/// When the next run ends or the next thing happens that somebody waits for.
fn next_instant(state: &State, index: &Index, stopping: &BTreeSet<(TimeUs, RunId)>) -> Option<TimeUs> {
    let now = state.now();
    let end = |id: &RunId, expected: TimeUs| {
        let stop = state.runs.get(id).and_then(|run| run.stop.as_ref());
        stop.map_or(expected, |stop| stop.by_us.min(expected))
    };
    // Those told to stop end before the others of their place in the order of ends.
    let first_stop = stopping.iter().find(|stop| is_to_stop(state, stop)).map(|(by, _)| *by);
    let ending = index.ends.first().map(|(expected, id)| end(id, *expected));
    let next = [first_stop, ending, index.next_counting_timer()].into_iter().flatten().min()?;
    Some(if next > now { next } else { now.after(DurationUs(OVERDUE_US)) })
}

/// Ends the runs whose time has come.
fn end_runs(state: &mut State, index: &mut Index, stopping: &mut BTreeSet<(TimeUs, RunId)>) {
    let now = state.now();
    let finished: Vec<RunId> = index.ends.iter().take_while(|(end, _)| *end <= now).map(|(_, id)| id.clone()).collect();
    while let Some(stop) = stopping.first().filter(|(by, _)| *by <= now).cloned() {
        stopping.remove(&stop);
        let Some(run) = state.runs.get(&stop.1).filter(|_| is_to_stop(state, &stop)) else { continue };
        let id = stop.1;
        let kept_work_us = run.durable_work_us;
        let job = run.job.clone();
        let event = RunStopped {
            job,
            run: id,
            reason: StopReason::Preempted,
            kept_work_us,
            stopped_us: now,
            ..RunStopped::default()
        };
        tell(state, index, event.into());
    }
    for id in finished {
        let Some(run) = state.runs.get(&id) else { continue };
        let work_us = expected_work_done(run, now);
        let event = RunFinished { job: run.job.clone(), run: id, work_us, finished_us: now, ..RunFinished::default() };
        tell(state, index, event.into());
    }
}
