//! What holds of every state between two epochs, whatever came: audits of real logs ask it of the last one, simulated histories of each.

use std::collections::{BTreeMap, BTreeSet};

use solyx_schemas::ids::{NodeId, RefId, RunId};

use crate::budget::budgets_of;
use crate::packing::Slices;
use crate::rows::{Phase, Run};
use crate::state::State;

impl State {
    /// The invariants that do not hold, each in a sentence of what and how much; always none.
    ///
    /// Nothing is overcommitted: no GPU and no slice of one, and neither the CPU nor the memory of a node unless something on it was
    /// told to stop. No job is lost or runs twice: whoever runs has the run that is its own, and whoever waits was told why. What is held
    /// against a budget is what living jobs that it covers have held.
    pub fn violations(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.check_nodes(&mut found);
        self.check_jobs(&mut found);
        self.check_budgets(&mut found);
        found
    }

    fn check_nodes(&self, found: &mut Vec<String>) {
        let mut gpus: BTreeMap<(&NodeId, i64), i64> = BTreeMap::new();
        let mut slices: BTreeMap<(&NodeId, i64), Slices> = BTreeMap::new();
        let mut amounts: BTreeMap<&NodeId, (i64, i64)> = BTreeMap::new();
        let mut stopping: BTreeSet<&NodeId> = BTreeSet::new();
        for (_, run) in self.runs.iter() {
            for (number, replica) in run.nodes.iter().enumerate() {
                stopping.extend(run.stop.as_ref().map(|_| &replica.node));
                let (cpu_milli, memory_mib) = amounts.entry(&replica.node).or_default();
                *cpu_milli += run.cpu_milli.0;
                *memory_mib += run.memory_mib.0;
                for (at, gpu) in replica.gpus.iter().enumerate() {
                    let place = (&replica.node, *gpu);
                    // Thousandths of MIG instances are rounded up each: what they cannot share are slices.
                    let Some(mig) = &run.mig else {
                        *gpus.entry(place).or_default() += replica.gpu_milli_each.0;
                        continue;
                    };
                    let (taken, own) = (slices.entry(place).or_default(), mig.slices_of(number, at));
                    if *taken & own != 0 {
                        found.push(format!("slices of GPU {gpu} of {} are in use twice", replica.node));
                    }
                    *taken |= own;
                }
            }
        }
        for (node, gpu) in gpus.keys().filter(|place| slices.contains_key(*place)) {
            found.push(format!("GPU {gpu} of {node} has MIG instances and shares in use"));
        }
        let over = gpus.into_iter().filter(|(_, milli)| *milli > 1_000);
        found.extend(over.map(|((node, gpu), milli)| format!("GPU {gpu} of {node} has {milli} thousandths in use")));
        for (node, (cpu_milli, memory_mib)) in amounts.into_iter().filter(|(node, _)| !stopping.contains(node)) {
            let Some(report) = self.nodes.get(node).and_then(|row| row.report.as_ref()) else { continue };
            for (what, used, has) in [
                ("thousandths of a core", cpu_milli, report.cpu_milli.0),
                ("MiB of memory", memory_mib, report.memory_mib.0),
            ] {
                if used > has {
                    found.push(format!("{node} has {used} {what} in use, and {has} in all"));
                }
            }
        }
    }

    fn check_jobs(&self, found: &mut Vec<String>) {
        for (id, job) in self.jobs.iter() {
            let has_run = job.run.as_ref().is_some_and(|run| self.runs.contains(run));
            let runs = matches!(job.phase, Phase::Running | Phase::Stopping);
            if has_run != runs {
                found.push(format!(
                    "job {id} is {:?}, and its run {:?} is among those that hold something: {has_run}",
                    job.phase, job.run
                ));
            }
            if !runs && !job.is_over() && job.told.is_none() {
                found.push(format!("job {id} waits and has not been told why"));
            }
        }
        let strays =
            |(id, run): &(&RunId, &Run)| self.jobs.get(&run.job).is_none_or(|job| job.run.as_ref() != Some(*id));
        found
            .extend(self.runs.iter().filter(strays).map(|(id, run)| format!("run {id} is not the run of {}", run.job)));
    }

    fn check_budgets(&self, found: &mut Vec<String>) {
        if self.budgets.is_empty() {
            return;
        }
        let mut held: BTreeMap<&RefId, i128> = BTreeMap::new();
        for (id, job) in self.jobs.iter().filter(|(_, job)| !job.is_over()) {
            let Some(own) = job.budget_held.as_ref() else { continue };
            let Some(spec) = self.spec(id) else { continue };
            let price = &own.price;
            for (budget, _) in
                budgets_of(self, &spec).into_iter().filter(|(_, b)| b.set.amount.currency == price.currency)
            {
                *held.entry(budget).or_default() += i128::from(price.micros.0);
            }
        }
        for (id, budget) in self.budgets.iter() {
            let jobs = held.get(id).copied().unwrap_or(0);
            if budget.held_micros != jobs {
                found.push(format!("budget {id} has {} micros held, its jobs {jobs}", budget.held_micros));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use solyx_schemas::ids::JobId;

    use super::*;
    use crate::rows::{Budget, Job};

    #[test]
    fn what_does_not_hold_is_said_with_what_and_how_much() {
        let mut state = State::default();
        assert_eq!(state.violations(), Vec::<String>::new());
        state.jobs.insert(JobId::from("lost"), Job { phase: Phase::Running, ..Job::default() }.into());
        state.jobs.insert(JobId::from("silent"), Job { phase: Phase::Waiting, ..Job::default() }.into());
        state.runs.insert(RunId::from("stray/1"), Run { job: JobId::from("stray"), ..Run::default() });
        state.budgets.insert(RefId::from("month"), Budget { held_micros: 7, ..Budget::default() });
        let found = state.violations();
        let said = |what: &str| found.iter().any(|violation| violation.starts_with(what));
        assert_eq!(found.len(), 4, "{found:?}");
        assert!(said("job lost is Running") && said("job silent waits"), "{found:?}");
        assert!(said("run stray/1 is not the run") && said("budget month has 7 micros held"), "{found:?}");
    }
}
