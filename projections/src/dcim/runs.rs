//! Runs from placing to their end: which GPUs are allotted.
//!
//! An executor says when a run has ended. Of one that is lost the engine says so by queueing its job again or ending it; of one
//! that was told to stop for good and says nothing more it says nothing either, and gives it up when its lease has passed.

use solyx_schemas::events::Event;
use solyx_schemas::events::decisions::JobPlaced;
use solyx_schemas::events::runs::RunLeaseRenewed;
use solyx_schemas::ids::{JobId, NodeId, RunId};
use solyx_schemas::units::TimeUs;

use super::Dcim;
use super::state::Run;

impl Dcim {
    pub(super) fn fold_run(&mut self, event: &Event) {
        match event {
            Event::RunFinished(e) => self.end(&e.job, &e.run),
            Event::RunFailed(e) => self.end(&e.job, &e.run),
            Event::RunStopped(e) => self.end(&e.job, &e.run),
            Event::RunLeaseRenewed(e) => self.renew(e),
            _ => {}
        }
    }

    pub(super) fn fold_decision(&mut self, output: &Event) {
        match output {
            Event::JobPlaced(e) => self.place(e),
            Event::JobRequeued(e) => self.end(&e.job, &e.run),
            Event::JobCancelled(e) if e.run.is_none() => self.give_up(&e.job),
            Event::JobCancelled(e) if self.live.get(&e.job).is_some() => self.stopping.insert(e.job.clone(), ()),
            _ => {}
        }
    }

    fn place(&mut self, placed: &JobPlaced) {
        let owned = self.pools.get(&placed.pool).is_some_and(|pool| pool.owned);
        let gpus = placed.nodes.iter().map(|host| (host.node.clone(), host.gpus.clone())).collect();
        self.runs.insert(placed.run.clone(), Run { site: placed.site.clone(), owned, gpus });
        self.live.insert(placed.job.clone(), (placed.run.clone(), placed.lease_until_us));
    }

    fn renew(&mut self, renewed: &RunLeaseRenewed) {
        if let Some((run, until)) = self.live.get_mut(&renewed.job)
            && *run == renewed.run
        {
            *until = renewed.lease_until_us.max(*until);
        }
    }

    fn end(&mut self, job: &JobId, run: &RunId) {
        if let Some(row) = self.runs.get_mut(run) {
            row.gpus.clear();
        }
        if self.live.get(job).is_some_and(|(live, _)| live == run) {
            self.live.remove(job);
            self.stopping.remove(job);
        }
    }

    /// Ends the run of a job, whichever it is.
    fn give_up(&mut self, job: &JobId) {
        if let Some((run, _)) = self.live.get(job).cloned() {
            self.end(job, &run);
        }
    }

    /// Gives up what was told to stop for good and whose lease has passed.
    pub(super) fn leases_passed(&mut self, now: TimeUs) {
        let passed = |job: &JobId| self.live.get(job).is_some_and(|(_, until)| *until <= now);
        let jobs: Vec<JobId> = self.stopping.iter().map(|(job, ())| job.clone()).filter(passed).collect();
        jobs.iter().for_each(|job| self.give_up(job));
    }

    /// Ends what was on a node that certainly runs nothing any more.
    pub(super) fn clear(&mut self, node: &NodeId) {
        let is_on_it =
            |run: &RunId| self.runs.get(run).is_some_and(|run| run.gpus.iter().any(|(host, _)| host == node));
        let on_it = self.live.iter().filter(|(_, (run, _))| is_on_it(run));
        let jobs: Vec<JobId> = on_it.map(|(job, _)| job.clone()).collect();
        jobs.iter().for_each(|job| self.give_up(job));
    }
}
