//! What an epoch means to the executor: facts among its inputs, orders among its outputs.

use solyx_schemas::epochs::EpochBatch;
use solyx_schemas::events::Event;
use solyx_schemas::events::decisions::{JobRequeued, StopCause};
use solyx_schemas::events::runs::StopReason;
use solyx_schemas::ids::*;
use solyx_schemas::units::TimeUs;

use super::SimulatedExecutor;

impl SimulatedExecutor {
    /// Takes note of the facts among an epoch's counted inputs.
    pub(super) fn learn(&mut self, epoch: &EpochBatch) {
        for (_, event) in epoch.counted() {
            self.facts.learn(event);
            match event {
                Event::PoolDeclared(e) => {
                    self.follow_script(&e.pool);
                    self.follow_power();
                }
                Event::PoolAvailabilityReported(e) if e.source != self.name => {
                    let leased = self.live_instances(&e.pool);
                    match e.instances {
                        Some(instances) => self.reported_total.insert(e.pool.clone(), leased + instances.0),
                        None => self.reported_total.remove(&e.pool),
                    };
                }
                Event::SiteDeclared(_) => self.follow_power(),
                Event::NodeReported(e) => self.note_node(e),
                Event::NodeStateChanged(e) if e.source != self.name => self.note_state(&e.node, e.state),
                Event::NodeRemoved(e) => self.remove_node(&e.node),
                Event::RunFinished(e) => self.forget_job(&e.job),
                _ => {}
            }
        }
    }

    /// Carries out the orders among an epoch's outputs.
    pub(super) fn carry_out(&mut self, epoch: &EpochBatch) {
        let now = epoch.record.now_us;
        for output in &epoch.outputs {
            match output {
                Event::JobPlaced(e) => self.place(e, now),
                Event::JobPreempted(e) => self.stop(&e.run, StopReason::Preempted, now, Some(e.stop_by_us)),
                Event::JobMigrated(e) => self.stop(&e.run, StopReason::Migrated, now, Some(e.stop_by_us)),
                Event::JobResized(e) => self.stop(&e.run, StopReason::Resized, now, None),
                Event::JobCancelled(e) => {
                    match &e.run {
                        Some(run) => self.stop(run, StopReason::Cancelled, now, None),
                        // A run that was given up for lost, and whose job may not be tried again.
                        None => self.lose_runs_of(&e.job, now),
                    }
                    self.forget_job(&e.job);
                }
                Event::JobRejected(e) => self.forget_job(&e.job),
                Event::JobRequeued(e) => self.let_go(e, now),
                Event::CapacityLeaseOrdered(e) => self.lease(e, now),
                Event::CapacityReleaseOrdered(e) => self.release(e, now),
                _ => {}
            }
        }
    }

    /// A job whose run was given up for lost waits again: should the run still be there, it ends without a word.
    fn let_go(&mut self, requeued: &JobRequeued, now: TimeUs) {
        let lost = [StopCause::LeasePassed, StopCause::NodeLost, StopCause::SiteLost, StopCause::SpotReclaimed];
        if lost.contains(&requeued.cause) {
            self.lose_run(&requeued.run, now);
        }
    }

    fn lose_runs_of(&mut self, job: &JobId, now: TimeUs) {
        let of_job = self.runs.iter().filter(|(_, run)| run.job == *job);
        let runs: Vec<RunId> = of_job.map(|(id, _)| id.clone()).collect();
        runs.iter().for_each(|run| self.lose_run(run, now));
    }

    fn forget_job(&mut self, job: &JobId) {
        self.facts.jobs.remove(job);
        self.scripts.forget(job);
    }
}
