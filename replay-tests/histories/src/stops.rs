//! A second opinion on who is told to stop for another: never of a higher class, nor before its class's minimum run, nor who may not
//! be stopped, nor more often than policy says; and where starts are promised only for a higher class that preempts.

use std::collections::BTreeMap;

use solyx_kernel::Closed;
use solyx_kernel::rows::{Run, Spec};
use solyx_kernel::state::State;
use solyx_schemas::events::Event;
use solyx_schemas::events::decisions::StopCause;
use solyx_schemas::ids::{ClassId, JobId, Name, RunId};

/// How often a job is stopped for others where policy does not say.
const STOPS_MAX: i64 = 10;

/// Who was stopped for others so far.
#[derive(Default)]
pub struct StopsBook {
    times: BTreeMap<JobId, i64>,
    /// Runs that were stopped for a job of a higher class.
    pub by_class: usize,
}

impl StopsBook {
    /// Takes in an epoch and checks it.
    pub fn epoch(&mut self, state: &State, closed: &Closed) {
        for output in &closed.outputs {
            match output {
                Event::JobPreempted(e) if e.cause == StopCause::Priority => {
                    let winner = e.for_job.as_ref().and_then(|job| state.spec(job));
                    // For who draws on a contract whatever was lent stops, whoever it is of.
                    let draws = |spec: &Spec| spec.reservation.is_some() || spec.sold_lease.is_some();
                    if let Some(winner) = winner.filter(|winner| !draws(winner)) {
                        self.may_stop(state, &e.run);
                        self.is_for(state, &e.run, &winner);
                    }
                }
                Event::JobMigrated(e) if e.cause == StopCause::Priority => self.may_stop(state, &e.run),
                Event::JobResized(e) if e.reason.contains("at once") => self.may_stop(state, &e.run),
                _ => {}
            }
        }
    }

    fn may_stop(&mut self, state: &State, id: &RunId) {
        let run = run_of(state, id);
        let class = state.classes.get(&run.class);
        assert!(run.preemptible && class.is_none_or(|class| class.preemptible), "{id} may not be stopped");
        let least = class.map_or(0, |class| class.minimum_run_us.0);
        let ran = state.now().0 - run.started_us.unwrap_or(run.placed_us).0;
        assert!(ran >= least, "{id} is stopped after {ran} µs, {least} are the least of {}", run.class);
        let policy = state.policies.get(&Name::from("cell"));
        let most = policy.and_then(|policy| policy.preemptions_max).map_or(STOPS_MAX, |most| most.0);
        let times = self.times.entry(run.job.clone()).or_default();
        *times += 1;
        assert!(*times <= most, "{} is stopped {times} times, {most} are the most", run.job);
    }

    fn is_for(&mut self, state: &State, id: &RunId, winner: &Spec) {
        let value = |class: &ClassId| state.classes.get(class).map_or(0, |class| class.value);
        let (own, other) = (value(&run_of(state, id).class), value(&winner.class));
        assert!(own <= other, "{id} of class {own} is stopped for {} of class {other}", winner.job);
        self.by_class += usize::from(own < other);
        let preempts = state.classes.get(&winner.class).is_some_and(|class| class.preempts);
        let promises = state.policy().order_rule().promises_starts();
        assert!(!promises || (own < other && preempts), "{id} of class {own} is stopped for {}", winner.job);
    }
}

fn run_of<'s>(state: &'s State, id: &RunId) -> &'s Run {
    state.runs.get(id).unwrap_or_else(|| panic!("{id} is told to stop and holds nothing"))
}
