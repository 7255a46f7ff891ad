//! All books of a history, kept from epoch to epoch. They panic when something is not as it has to be.

use std::collections::BTreeSet;

use solyx_kernel::rows::Phase;
use solyx_kernel::state::State;
use solyx_kernel::{Closed, Kernel};
use solyx_schemas::events::Event;
use solyx_schemas::events::decisions::LimitKind;
use solyx_schemas::ids::RunId;

use crate::budgets;
use crate::guarantees;
use crate::history::Mood;
use crate::kept_back::KeptBackBook;
use crate::kept_room::KeptRoom;
use crate::ledger::Ledger;
use crate::moves::MovesBook;
use crate::set_aside::SetAsideBook;
use crate::shared_gpus::SharedBook;
use crate::stops::StopsBook;

/// The books of one history.
#[derive(Default)]
pub struct Books {
    mood: Mood,
    /// Who holds what.
    pub ledger: Ledger,
    /// What is owed to contracts.
    pub set_aside: SetAsideBook,
    /// What is moved.
    pub moves: MovesBook,
    /// Who shares GPUs.
    pub shared: SharedBook,
    /// What is kept free for whom.
    pub kept_room: KeptRoom,
    /// What stays free whoever asks.
    pub kept_back: KeptBackBook,
    /// Who stops for whom.
    pub stops: StopsBook,
}

impl Books {
    /// Empty ones for a history in which this is what happens beside runs.
    pub fn of(mood: Mood) -> Self {
        Self { mood, ..Self::default() }
    }

    /// Takes in an epoch, by the inputs that counted and the decisions, and checks it and the state after it.
    pub fn epoch(&mut self, counted: &[Event], closed: &Closed, kernel: &Kernel) {
        let (state, now) = (kernel.state(), kernel.now().0);
        // Before the cell has a currency there is none to be named.
        for output in closed.outputs.iter().filter(|_| state.meta().currency.is_some()) {
            assert_eq!(output.check(), Ok(()), "{}: a decision is an event like any other", output.name());
        }
        self.ledger.epoch(now, counted, closed);
        self.set_aside.epoch(state, closed);
        let nothing_is_lost = matches!(self.mood, Mood::Calm | Mood::Crowded);
        self.moves.epoch(now, counted, closed, state, nothing_is_lost);
        self.shared.epoch(state, counted, closed);
        self.kept_room.epoch(state, closed);
        self.kept_back.epoch(state, closed);
        self.stops.epoch(state, closed);
        guarantees::check(state, closed);
        budgets::check(state, &closed.outputs);
        assert_eq!(state.violations(), Vec::<String>::new(), "after epoch {}", closed.record.epoch);
        assert_eq!(kernel.index_differences(), Vec::<String>::new(), "after epoch {}", closed.record.epoch);
        self.nobody_is_kept_out_by_growth(state);
        let live: BTreeSet<&RunId> = state.runs.iter().map(|(id, _)| id).collect();
        assert_eq!(live, self.ledger.held.keys().collect(), "what is held is what live runs hold");
    }

    /// GPU time from placing to release is that which was counted epoch by epoch.
    pub fn gpu_time_is_held_once(&self) {
        let still = self.ledger.held.values().map(|run| {
            let milli: i64 = run.nodes.iter().map(|n| n.gpus.len() as i64 * n.gpu_milli_each.0).sum();
            i128::from(milli) * i128::from(run.counted_until - run.placed)
        });
        let by_run = self.ledger.by_run + still.sum::<i128>();
        assert_eq!(self.ledger.by_epoch, by_run, "GPU time from placing to release is held once");
    }

    /// Where no quotas are set, nothing grows in an epoch after which somebody waits for room that it may use.
    fn nobody_is_kept_out_by_growth(&self, state: &State) {
        let ledger = &self.ledger;
        if ledger.grown.is_empty() || !state.quotas.is_empty() {
            return;
        }
        let runs = ledger.grown.iter().filter_map(|job| state.jobs.get(job)?.run.as_ref());
        let countries: BTreeSet<_> =
            runs.filter_map(|run| state.sites.get(&state.runs.get(run)?.site)).map(|site| &site.country).collect();
        for (id, job) in state.jobs.iter().filter(|(_, job)| job.phase == Phase::Waiting) {
            let room =
                matches!(job.told, Some(LimitKind::Gpus | LimitKind::Cpu | LimitKind::Memory | LimitKind::Scratch));
            let Some(spec) = state.spec(id).filter(|_| room) else { continue };
            let datasets = spec.datasets.iter().filter_map(|id| state.datasets.get(id));
            let confined: Vec<_> =
                datasets.map(|d| &d.residency).chain([&spec.residency]).filter(|all| !all.is_empty()).collect();
            let could = countries.iter().any(|country| confined.iter().all(|all| all.contains(country)));
            assert!(!could, "{id} waits for {:?} and {:?} grows", job.told, ledger.grown);
        }
    }
}
