//! A second opinion on what is set aside: counted again from nodes, runs and contracts, with no sums of the kernel.

use std::collections::{BTreeMap, BTreeSet};

use solyx_kernel::Closed;
use solyx_kernel::rows::Run;
use solyx_kernel::set_aside::{Contract, Place, is_standing, named, places_of, terms};
use solyx_kernel::state::State;
use solyx_schemas::events::Event;
use solyx_schemas::events::nodes::NodeState;
use solyx_schemas::ids::RunId;
use solyx_schemas::units::TimeUs;

/// What was missing after the last epoch, by place, and what has been seen.
#[derive(Default)]
pub struct SetAsideBook {
    missing: BTreeMap<Place, i64>,
    /// Runs that drew on a contract, and epochs in which something was lent.
    pub drew: usize,
    pub lent: usize,
}

fn reclaimable(state: &State, run: &Run, now: TimeUs) -> bool {
    if run.stop.is_some() {
        return true;
    }
    match &run.draws {
        Some(draw) => !terms(state, &draw.contract).is_some_and(|terms| terms.from <= now && now < terms.to),
        None => {
            let class = state.classes.get(&run.class);
            run.preemptible && class.is_none_or(|class| class.preemptible)
                || run.yields_at_us.is_some_and(|at| at <= now)
        }
    }
}

impl SetAsideBook {
    /// Takes in an epoch and checks it.
    pub fn epoch(&mut self, state: &State, closed: &Closed) {
        let now = state.now();
        let (mut free, mut lendable, mut stoppable) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (id, node) in state.nodes.iter() {
            let Some(report) = node.report.as_ref() else { continue };
            let Some(pool) = state.pools.get(&report.pool).and_then(|pool| pool.declared.as_ref()) else { continue };
            if node.gone || node.state != NodeState::Ready || !is_standing(pool) {
                continue;
            }
            let runs: Vec<&Run> =
                state.runs.iter().map(|(_, run)| run).filter(|run| run.nodes.iter().any(|r| r.node == *id)).collect();
            let lasting_alone = runs.iter().any(|run| run.exclusive_node && !reclaimable(state, run, now));
            let staying_alone = runs.iter().any(|run| run.exclusive_node && run.stop.is_none());
            let (mut none, mut some, mut divided) = (0, 0, 0);
            for gpu in report.gpus.iter().filter(|gpu| !node.avoided_gpus.contains(&gpu.index)) {
                let of = |run: &&&Run| -> i64 {
                    let here = run.nodes.iter().filter(|r| r.node == *id && r.gpus.contains(&gpu.index));
                    here.map(|r| r.gpu_milli_each.0).sum()
                };
                let on_it = |run: &&&Run| run.nodes.iter().any(|r| r.node == *id && r.gpus.contains(&gpu.index));
                if runs.iter().filter(on_it).any(|run| run.mig.is_some()) {
                    // A divided GPU is free when all that is on it has gone.
                    none += if runs.iter().filter(on_it).all(|run| run.stop.is_some()) { 1_000 } else { 0 };
                    let all = runs.iter().filter(on_it).all(|run| reclaimable(state, run, now));
                    some += if all { 1_000 } else { 0 };
                    divided += if all && runs.iter().filter(on_it).any(|run| run.stop.is_none()) { 1_000 } else { 0 };
                    continue;
                }
                let staying: i64 = runs.iter().filter(|run| run.stop.is_none()).map(|run| of(&run)).sum();
                let lasting: i64 = runs.iter().filter(|run| !reclaimable(state, run, now)).map(|run| of(&run)).sum();
                none += 1_000 - staying;
                some += 1_000 - lasting;
            }
            for place in places_of(pool) {
                *free.entry(place.clone()).or_insert(0) += if staying_alone { 0 } else { none };
                *lendable.entry(place.clone()).or_insert(0) += if lasting_alone { 0 } else { some };
                let held: i64 = runs
                    .iter()
                    .filter(|run| {
                        run.stop.is_none() && run.mig.is_none() && run.gpu_milli.0 > 0 && reclaimable(state, run, now)
                    })
                    .flat_map(|run| run.nodes.iter().filter(|replica| replica.node == *id))
                    .map(|replica| {
                        let takes = |gpu: &&i64| {
                            report.gpus.iter().any(|own| own.index == **gpu) && !node.avoided_gpus.contains(*gpu)
                        };
                        replica.gpus.iter().filter(takes).count() as i64 * replica.gpu_milli_each.0
                    })
                    .sum();
                *stoppable.entry(place).or_insert(0) += held + divided;
            }
        }
        let mut used: BTreeMap<&Contract, i64> = BTreeMap::new();
        for (_, run) in state.runs.iter().filter(|(_, run)| run.stop.is_none()) {
            if let Some(draw) = &run.draws {
                *used.entry(&draw.contract).or_default() += draw.gpu_milli;
            }
        }
        let leases = state.sold_leases.iter().map(|(id, _)| Contract::Lease(id.clone()));
        let reservations = state.reservations.iter().map(|(id, _)| Contract::Reservation(id.clone()));
        let (mut owed, mut reserved) = (BTreeMap::new(), BTreeMap::new());
        for contract in leases.chain(reservations) {
            let terms = terms(state, &contract).unwrap();
            if !(terms.from <= now && now < terms.to) {
                continue;
            }
            let left = (terms.gpu_milli - used.get(&contract).copied().unwrap_or(0)).max(0);
            for place in solyx_kernel::set_aside::around(state, &terms.place) {
                *owed.entry(place.clone()).or_insert(0) += left;
                if matches!(contract, Contract::Reservation(_)) {
                    *reserved.entry(place).or_insert(0) += left;
                }
            }
        }
        let of = |sums: &BTreeMap<Place, i64>, place: &Place| sums.get(place).copied().unwrap_or(0);
        let listed = |place: &Place| {
            let subject = place.subject();
            let mut all = closed.record.overcommitments.iter();
            all.any(|o| o.limit.subject.as_ref().is_some_and(|of| of.as_str() == subject))
        };
        let mut missing = BTreeMap::new();
        for (place, owed) in &owed {
            let short = owed - of(&lendable, place);
            let before = of(&self.missing, place);
            assert!(short <= before.max(0) || listed(place), "{place:?}: {short} missing, {before} before, not listed");
            missing.insert(place.clone(), short);
            self.lent += usize::from(owed - of(&free, place) > 0);
        }
        for (place, reserved) in &reserved {
            let short = reserved - of(&free, place);
            assert!(short <= 0 || of(&stoppable, place) == 0, "{place:?}: {short} not free while runs could stop");
        }
        self.missing = missing;
        let placed = |output: &Event| match output {
            Event::JobPlaced(placed) => Some(placed.run.clone()),
            _ => None,
        };
        let placed: BTreeSet<RunId> = closed.outputs.iter().filter_map(placed).collect();
        for (id, run) in state.runs.iter().filter(|(id, _)| placed.contains(*id)) {
            self.drew += usize::from(run.draws.is_some());
            let spec = state.spec(&run.job).unwrap_or_default();
            let drawn = run.draws.as_ref().map(|draw| draw.contract.clone());
            assert!(drawn.is_none() || drawn == named(&spec), "{id} draws on what its job does not name");
        }
        for (contract, used) in used {
            let live = terms(state, contract).filter(|terms| terms.to > now);
            let placed_now = state.runs.iter().any(|(id, run)| {
                placed.contains(id) && run.draws.as_ref().is_some_and(|draw| draw.contract == *contract)
            });
            assert!(!placed_now || live.is_some_and(|terms| used <= terms.gpu_milli), "{contract:?}: {used} in use");
        }
    }
}
