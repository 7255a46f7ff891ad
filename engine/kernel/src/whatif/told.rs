//! What if this were said now: a price, a sold lease, a reservation, a limit, a policy, or whatever else an input may be. Two
//! copies of the state go on as expected, one of them told; what is decided otherwise is the answer.

use std::collections::{BTreeMap, BTreeSet};

use solyx_schemas::epochs::Position;
use solyx_schemas::events::Event;
use solyx_schemas::events::decisions::{CostTerms, Overcommitment, StopCause};
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

use super::foresee::{Foreseen, Step};
use super::job::FORECAST_STEPS_MAX;
use super::{Fate, Rehearsal, fate, stays};
use crate::apply::apply;
use crate::decide::{Decided, decide};
use crate::index::Index;
use crate::judge::judge;
use crate::state::State;

/// Events that may be told at once.
pub const TOLD_MAX: usize = 1_000;

/// What comes of it if some events are said now, beside what comes without them.
#[derive(Clone, Debug, PartialEq)]
pub struct Consequence {
    /// Now.
    pub now: TimeUs,
    /// Both courses were looked at up to here. Before the instant that was asked for only where too much happens until then.
    pub reached: TimeUs,
    /// Jobs of which something else comes, by id.
    pub jobs: Vec<Otherwise>,
    /// Limits that would then be promised or used beyond what there is, in the next epoch: a lease of more than the fleet has, for one.
    pub overcommitments: Vec<Overcommitment>,
    /// Decisions by their event, without and with; those whose numbers are equal are left out.
    pub decisions: BTreeMap<&'static str, (u64, u64)>,
    /// What is left of the runs of now, without and with.
    pub rest: (Rest, Rest),
}

/// A job of which something else comes.
#[derive(Clone, Debug, PartialEq)]
pub struct Otherwise {
    /// The job.
    pub job: JobId,
    /// What comes of it without the events.
    pub without: Course,
    /// What comes of it with them.
    pub with: Course,
}

/// What comes of a job. With neither it runs or waits on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Course {
    /// Its run is first told to stop.
    pub stop: Option<Stop>,
    /// What is decided of it, when; a start counts for more than what it waited for before, and the first start is told.
    pub fate: Option<(TimeUs, Fate)>,
}

/// A run that is told to stop.
#[derive(Clone, Debug, PartialEq)]
pub struct Stop {
    /// When it is told.
    pub at: TimeUs,
    /// The run.
    pub run: RunId,
    /// Why.
    pub cause: StopCause,
    /// The job it makes room for.
    pub for_job: Option<JobId>,
}

/// What is left of what runs now: cost from now to the expected ends, where it runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rest {
    /// Runs.
    pub runs: u64,
    /// Those that cannot be priced; their cost is not in the sum.
    pub unpriced: u64,
    /// The sum, in the cell's currency.
    pub terms: CostTerms,
}

impl Rehearsal {
    /// What comes of events that are said now, in their order, up to an instant; up to now, only the next epoch is looked at.
    /// Refused with the event's number from 1 and the reason, in words.
    pub fn told(&self, events: &[Event], until: TimeUs) -> Result<Consequence, (usize, String)> {
        // Both are made ready, and then both ways are gone, side by side.
        let (now, told) = beside(|| (self.state.clone(), self.index.clone()), || self.after(events));
        let told = told?;
        let ((rest, without), (told_rest, with)) =
            beside(|| self.ahead(now.0, now.1, until), || self.ahead(told.0, told.1, until));
        Ok(Consequence {
            now: self.state.now(),
            reached: without.reached.min(with.reached),
            decisions: differing(&without.decisions, &with.decisions),
            overcommitments: with
                .overcommitments
                .into_iter()
                .filter(|o| !without.overcommitments.contains(o))
                .collect(),
            jobs: otherwise(without.jobs, with.jobs),
            rest: (rest, told_rest),
        })
    }

    /// The state after events.
    fn after(&self, events: &[Event]) -> Result<(State, Index), (usize, String)> {
        let (mut state, mut index) = (self.state.clone(), self.index.clone());
        for (place, event) in events.iter().enumerate().take(TOLD_MAX) {
            let refused = |detail: String| (place + 1, detail);
            self.recall(&mut state, event);
            if !event.topic().is_input() {
                return Err(refused(format!("{} is no input of the kernel", event.name())));
            }
            // After all that has been said, in the order in which they stand here.
            let position = Position::new(event.topic(), u32::MAX, u64::MAX - (TOLD_MAX - place) as u64);
            judge(&state, position, event.key().as_bytes(), event).map_err(|rejection| refused(rejection.detail))?;
            apply(&mut state, &mut index, position, event).map_err(|rejection| refused(rejection.detail))?;
        }
        Ok((state, index))
    }

    /// What is left of what runs now in a state, and what comes of its jobs.
    fn ahead(&self, mut state: State, mut index: Index, until: TimeUs) -> (Rest, Courses) {
        let rest = self.rest(&state, &mut index);
        index.changed = true;
        state.forget_changes();
        (rest, self.courses(state, index, until))
    }

    /// What is left of what runs now, at the prices of a state.
    fn rest(&self, state: &State, index: &mut Index) -> Rest {
        let mut rest = Rest::default();
        for (_, run) in self.state.runs.iter() {
            rest.runs += 1;
            match stays(state, index, run) {
                Some(terms) => rest.terms = sum(&rest.terms, &terms),
                None => rest.unpriced += 1,
            }
        }
        rest
    }

    fn courses(&self, mut state: State, mut index: Index, until: TimeUs) -> Courses {
        let Decided { outputs, overcommitments } = decide(&mut state, &mut index, &self.cell, 0);
        let mut courses = Courses { reached: until.max(state.now()), overcommitments, ..Courses::default() };
        let mut foreseen = Foreseen::new(&self.cell, state, index, outputs);
        courses.note(&mut foreseen);
        if until <= self.state.now() {
            return courses;
        }
        let mut foreseen = foreseen.into_expected();
        for _ in 0..FORECAST_STEPS_MAX {
            match foreseen.step(until) {
                Step::Went => courses.note(&mut foreseen),
                Step::Nothing => return courses,
                Step::TooMuch => break,
            }
        }
        courses.reached = foreseen.state.now();
        courses
    }
}

/// Does one thing on a thread of its own and another one on this, and waits for both.
fn beside<A: Send, B>(one: impl FnOnce() -> A + Send, other: impl FnOnce() -> B) -> (A, B) {
    std::thread::scope(|scope| {
        let one = scope.spawn(one);
        let other = other();
        (one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), other)
    })
}

/// What comes of all jobs.
#[derive(Default)]
struct Courses {
    reached: TimeUs,
    overcommitments: Vec<Overcommitment>,
    jobs: BTreeMap<JobId, Course>,
    decisions: BTreeMap<&'static str, u64>,
}

impl Courses {
    /// Takes down what was decided at an instant.
    fn note(&mut self, foreseen: &mut Foreseen<'_>) {
        let now = foreseen.state.now();
        let (state, index) = (&foreseen.state, &mut foreseen.index);
        for output in &foreseen.outputs {
            *self.decisions.entry(output.name()).or_default() += 1;
            if let Some((job, stop)) = stop_of(output, now) {
                self.jobs.entry(job.clone()).or_default().stop.get_or_insert(stop);
            }
            let Some((job, fate)) = fate::said(state, index, output) else { continue };
            let course = self.jobs.entry(job.clone()).or_default();
            let settled = course.fate.as_ref().is_some_and(|(_, fate)| !matches!(fate, Fate::Waits { .. }));
            if !settled {
                course.fate = Some((now, fate));
            }
        }
    }
}

fn stop_of(output: &Event, at: TimeUs) -> Option<(&JobId, Stop)> {
    match output {
        Event::JobPreempted(e) => {
            Some((&e.job, Stop { at, run: e.run.clone(), cause: e.cause, for_job: e.for_job.clone() }))
        }
        Event::JobMigrated(e) => Some((&e.job, Stop { at, run: e.run.clone(), cause: e.cause, for_job: None })),
        _ => None,
    }
}

/// Jobs of which something else comes. Whoever waits for the same limit waits on, however much of it is lacking.
fn otherwise(mut without: BTreeMap<JobId, Course>, mut with: BTreeMap<JobId, Course>) -> Vec<Otherwise> {
    let ids: BTreeSet<JobId> = without.keys().chain(with.keys()).cloned().collect();
    let both = ids.into_iter().map(|job| Otherwise {
        without: without.remove(&job).unwrap_or_default(),
        with: with.remove(&job).unwrap_or_default(),
        job,
    });
    both.filter(|job| !is_alike(&job.without, &job.with)).collect()
}

fn is_alike(one: &Course, other: &Course) -> bool {
    let limit = |course: &Course| match &course.fate {
        Some((_, Fate::Waits { limit, .. })) => Some(limit.kind),
        _ => None,
    };
    one.stop == other.stop && (one.fate == other.fate || limit(one).is_some_and(|kind| limit(other) == Some(kind)))
}

fn differing(
    without: &BTreeMap<&'static str, u64>,
    with: &BTreeMap<&'static str, u64>,
) -> BTreeMap<&'static str, (u64, u64)> {
    let names: BTreeSet<&'static str> = without.keys().chain(with.keys()).copied().collect();
    let count = |of: &BTreeMap<&'static str, u64>, name| of.get(name).copied().unwrap_or(0);
    let both = names.into_iter().map(|name| (name, (count(without, name), count(with, name))));
    both.filter(|(_, (without, with))| without != with).collect()
}

fn sum(one: &CostTerms, other: &CostTerms) -> CostTerms {
    let add = |a: MoneyMicros, b: MoneyMicros| MoneyMicros(a.0.saturating_add(b.0));
    CostTerms {
        rent_micros: add(one.rent_micros, other.rent_micros),
        energy_micros: add(one.energy_micros, other.energy_micros),
        carbon_micros: add(one.carbon_micros, other.carbon_micros),
        egress_micros: add(one.egress_micros, other.egress_micros),
        latency_micros: add(one.latency_micros, other.latency_micros),
        risk_micros: add(one.risk_micros, other.risk_micros),
        waiting_micros: add(one.waiting_micros, other.waiting_micros),
        policy_micros: add(one.policy_micros, other.policy_micros),
    }
}
