//! Runs from their placement to their end.

use solyx_schemas::events::decisions::JobPlaced;
use solyx_schemas::events::jobs::FailureCategory;
use solyx_schemas::events::runs::StopReason;
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

use super::reports;
use super::run::{End, Run};
use super::{SimulatedExecutor, Subject};

impl SimulatedExecutor {
    /// A job got its place: its run starts after the delay. Leased instances are up already and take none.
    pub(super) fn place(&mut self, placed: &JobPlaced, now: TimeUs) {
        if self.runs.contains_key(&placed.run) {
            return;
        }
        let delay =
            if self.facts.is_leased(&placed.pool) { DurationUs::ZERO } else { self.scripts.habits().start_delay };
        let job = self.facts.jobs.get(&placed.job).copied().unwrap_or_default();
        let script = self.scripts.job(&placed.job, job.expected_work);
        let mut run = Run::placed(placed, job, script, now.max(placed.start_us).after(delay));
        run.busy_uw = run.nodes.iter().map(|host| self.busy_uw(host, &placed.gpu_model)).collect();
        let idle_uw: i128 = run.nodes.iter().map(|host| self.idle_share_uw(host)).sum();
        run.draw_uw = run.busy_uw.iter().map(|uw| i128::from(*uw)).sum::<i128>() + idle_uw;
        for host in &run.nodes {
            self.runs_on.entry(host.node.clone()).or_default().insert(run.run.clone());
        }
        let id = run.run.clone();
        self.runs.insert(id.clone(), run);
        self.await_run(&id);
    }

    /// A run is told to stop; it does so after the executor's delay, and by `by` at the latest.
    pub(super) fn stop(&mut self, id: &RunId, reason: StopReason, now: TimeUs, by: Option<TimeUs>) {
        let delay = self.scripts.habits().stop_delay;
        let Some(run) = self.runs.get_mut(id) else { return };
        let at = if run.started { now.after(delay).min(by.unwrap_or(TimeUs(i64::MAX)).max(now)) } else { now };
        if run.stop.is_none_or(|(before, _)| at < before) {
            run.stop = Some((at, reason));
        }
        self.await_run(id);
    }

    /// Puts a run where it belongs in the queue of what is due.
    fn await_run(&mut self, id: &RunId) {
        let Some(run) = self.runs.get_mut(id) else { return };
        if let Some(before) = run.due_at.take() {
            self.due.remove(&(before, Subject::Run(id.clone())));
        }
        let at = run.next_due();
        run.due_at = Some(at);
        self.due.insert((at, Subject::Run(id.clone())));
    }

    /// All that a run does at an instant, in the order of the kinds below.
    pub(super) fn advance_run(&mut self, id: &RunId, at: TimeUs) {
        // It is taken out while it is worked on, so that reports can be written beside it.
        let Some(mut run) = self.runs.remove(id) else { return };
        run.due_at = None;
        if !run.started && run.stops(at).is_none() && run.starts_at <= at && !self.start(&mut run, at) {
            return;
        }
        if let Some(work) = run.checkpoint(at) {
            self.report(reports::run_checkpointed(&self.name, &run, work, at));
        }
        let stops = run.stops(at);
        let over = run.is_over(at);
        if stops.is_some() && !over {
            // A stop is graceful: what can be kept is kept.
            if let Some(work) = run.keep_work(at) {
                self.report(reports::run_checkpointed(&self.name, &run, work, at));
            }
        }
        self.meter(&mut run, at, over || stops.is_some());
        if over {
            self.end(run, at);
        } else if let Some(reason) = stops {
            self.report(reports::run_stopped(&self.name, &run, reason, at));
            self.clear_hosts(&run, at);
        } else {
            if let Some(until) = run.renewal(at) {
                self.report(reports::run_lease_renewed(&self.name, &run, until, at));
            }
            self.runs.insert(id.clone(), run);
            self.await_run(id);
        }
    }

    /// Starts a run; false if what it was to run on is gone, which is reported.
    fn start(&mut self, run: &mut Run, at: TimeUs) -> bool {
        let gone = run.nodes.iter().find(|host| !self.is_up(&host.node)).map(|host| host.node.clone());
        if let Some(node) = gone {
            let leased = !self.nodes.contains_key(&node);
            let category = if leased { FailureCategory::SpotReclaim } else { FailureCategory::Node };
            let detail = format!("{node} was gone before the run started");
            self.report(reports::run_failed(&self.name, run, category, Some(node), &detail, at));
            self.clear_hosts(run, at);
            return false;
        }
        run.start();
        for (host, uw) in run.nodes.iter().zip(&run.busy_uw) {
            self.add_load(&host.node, *uw, at);
        }
        self.report(reports::run_started(&self.name, run, at));
        true
    }

    /// A run ends by itself, as its script has it.
    fn end(&mut self, run: Run, at: TimeUs) {
        match run.end {
            End::Finish { exit_code } => {
                // The job is known until this counts: the engine may have given the run up, and let the job run again.
                self.report(reports::run_finished(&self.name, &run, exit_code, at));
            }
            End::Fail { category } => {
                let detail = "as its script has it";
                self.report(reports::run_failed(&self.name, &run, category, None, detail, at));
                if let Some(job) = self.facts.jobs.get_mut(&run.job) {
                    job.failed = true;
                }
            }
        }
        self.clear_hosts(&run, at);
    }

    /// A run fails with what it runs on.
    pub(super) fn fail_run(&mut self, id: &RunId, category: FailureCategory, node: &NodeId, detail: &str, at: TimeUs) {
        let Some(mut run) = self.take_run(id) else { return };
        self.meter(&mut run, at, true);
        self.report(reports::run_failed(&self.name, &run, category, Some(node.clone()), detail, at));
        self.clear_hosts(&run, at);
    }

    /// A run ends and nobody is there to report it; its meters stood elsewhere.
    pub(super) fn lose_run(&mut self, id: &RunId, at: TimeUs) {
        let Some(mut run) = self.take_run(id) else { return };
        self.meter(&mut run, at, true);
        self.clear_hosts(&run, at);
    }

    /// The runs on a node or instance, in order.
    pub(super) fn runs_on(&self, node: &NodeId) -> Vec<RunId> {
        self.runs_on.get(node).map(|runs| runs.iter().cloned().collect()).unwrap_or_default()
    }

    fn take_run(&mut self, id: &RunId) -> Option<Run> {
        let run = self.runs.remove(id)?;
        if let Some(at) = run.due_at {
            self.due.remove(&(at, Subject::Run(id.clone())));
        }
        Some(run)
    }

    fn meter(&mut self, run: &mut Run, at: TimeUs, ending: bool) {
        let Some(metered) = run.meter(at, ending) else { return };
        let usage: Vec<_> = reports::usage(&self.name, run, metered).collect();
        for event in usage {
            self.report(event);
        }
    }

    /// Takes an ended run off its nodes.
    fn clear_hosts(&mut self, run: &Run, at: TimeUs) {
        for (host, uw) in run.nodes.iter().zip(&run.busy_uw) {
            if run.started {
                self.add_load(&host.node, -uw, at);
            }
            if let Some(runs) = self.runs_on.get_mut(&host.node) {
                runs.remove(&run.run);
                if runs.is_empty() {
                    self.runs_on.remove(&host.node);
                }
            }
        }
    }
}
