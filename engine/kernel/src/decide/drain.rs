//! Draining: what may be stopped leaves its node, everything else is left to end.
//!
//! Which of the two is policy: a cordoned node, pool or site takes nothing new and its runs go on; a drained one's runs are moved.
//! Of a cordoned tenant or queue nothing starts; of a drained one everything is stopped and waits.
//! A run that takes checkpoints and is not late with the next is told to stop once it has written it, so that nothing is lost;
//! any other is told at once. Where there is room elsewhere it is held for the job until its run has stopped (`moving.rs`);
//! otherwise the job waits for its turn. This is looked at after the pass, so that nobody in line is passed over.

use solyx_schemas::events::decisions::StopCause;
use solyx_schemas::events::policy::ScopeState;
use solyx_schemas::ids::RunId;
use solyx_schemas::units::TimeUs;

use super::Epoch;
use super::moving::{berth_of, is_movable, move_run};
use super::promise::promised_starts;
use super::stops::stop_run;
use crate::index::Timer;
use crate::place::elsewhere;
use crate::rows::Run;
use crate::state::State;

/// Has a run leave a node that is drained: at its next checkpoint, or at the end of this epoch's decisions.
pub(super) fn ask_to_leave(epoch: &mut Epoch<'_>, id: &RunId) {
    let Some(run) = epoch.state.runs.get(id).filter(|run| run.stop.is_none() && may_stop(epoch, run)) else { return };
    if run.drain_by_us.is_some() {
        return;
    }
    match next_checkpoint_by(epoch, run).filter(|by| *by > epoch.now) {
        Some(by) => {
            if let Some(run) = epoch.state.runs.edit(id) {
                run.stop_at_checkpoint = run.stop_at_checkpoint.or(Some(StopCause::Drain));
                run.drain_by_us = Some(by);
            }
            epoch.index.set_timer(by, Timer::Drain(id.clone()));
        }
        None => {
            epoch.index.leaving.insert(id.clone());
        }
    }
}

/// Whether a run is of a tenant or a queue that is drained, or below a tenant that is: it goes nowhere else.
pub(super) fn is_of_drained(state: &State, run: &Run) -> bool {
    !state.scopes.is_empty()
        && state.scopes_of(&run.tenant, run.project.as_ref()).any(|(.., is)| is == ScopeState::Drained)
}

/// A run stays after all: its nodes are no longer drained.
pub(super) fn may_stay(epoch: &mut Epoch<'_>, id: &RunId) {
    if epoch.state.runs.get(id).is_none_or(|run| run.drain_by_us.is_none()) {
        return;
    }
    if let Some(run) = epoch.state.runs.edit(id) {
        run.drain_by_us = None;
        run.stop_at_checkpoint = run.stop_at_checkpoint.filter(|cause| *cause != StopCause::Drain);
    }
    epoch.index.clear_timer(&Timer::Drain(id.clone()));
    epoch.index.leaving.remove(id);
}

/// Whether a run may be stopped: its job and its class let it.
fn may_stop(epoch: &Epoch<'_>, run: &Run) -> bool {
    run.preemptible && epoch.state.classes.get(&run.class).is_none_or(|class| class.preemptible)
}

/// By when a run's next checkpoint ought to be durable: an interval after its last, and the time that a run has to stop.
fn next_checkpoint_by(epoch: &Epoch<'_>, run: &Run) -> Option<TimeUs> {
    let interval = epoch.state.spec(&run.job)?.checkpoint_interval_us?;
    let since = run.started_us?.max(run.durable_us);
    Some(since.after(interval).after(epoch.state.policy().grace()))
}

/// Tells those that leave to stop, and holds room for their jobs elsewhere where there is any.
pub(super) fn move_away(epoch: &mut Epoch<'_>) {
    let leaving = std::mem::take(&mut epoch.index.leaving);
    if leaving.is_empty() {
        return;
    }
    // Who were promised a start are not delayed by what goes before them.
    let mut promises = promised_starts(epoch);
    for id in leaving {
        let Some(run) = epoch.state.runs.get(&id).filter(|run| run.stop.is_none()).cloned() else { continue };
        if is_movable(epoch, &run) && !is_of_drained(epoch.state, &run) {
            epoch.index.count_use(epoch.state, &id, &run, -1);
            let place = elsewhere(epoch.state, epoch.index, &run, &promises).into_iter().next();
            epoch.index.count_use(epoch.state, &id, &run, 1);
            if let Some(place) = place {
                promises.note(&place.nodes, epoch.now.after(place.duration));
                move_run(epoch, &id, StopCause::Drain, berth_of(&run, &place));
                continue;
            }
        }
        stop_run(epoch, &id, StopCause::Drain, None);
    }
}
