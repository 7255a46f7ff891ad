//! What happened to each job on its way: where its runs were, which limits it was told, how much GPU time it held.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use solyx_schemas::epochs::EpochBatch;
use solyx_schemas::events::Event;
use solyx_schemas::events::capacity::CapacityClass;
use solyx_schemas::events::decisions::JobPlaced;
use solyx_schemas::ids::{JobId, PoolId, RunId};
use solyx_schemas::units::TimeUs;

/// Runs of a job that are told; of more, the first ones and how many there were.
const RUNS_TOLD_MAX: usize = 8;

/// The way of one job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trail {
    /// The first runs, in order.
    pub runs: Vec<RunOf>,
    /// Runs in all.
    pub run_count: usize,
    /// Limits it was told to wait for, with how often.
    pub limits: BTreeMap<String, u32>,
    /// GPU time held, thousandths of a GPU × µs, and the part on owned hardware.
    #[serde(skip)]
    pub held: i128,
    #[serde(skip)]
    pub held_owned: i128,
}

/// A run of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunOf {
    /// Its pool.
    pub pool: PoolId,
    /// When it was placed.
    pub placed_us: TimeUs,
}

/// Trails of all jobs.
#[derive(Debug, Default)]
pub struct Trails {
    pub jobs: BTreeMap<JobId, Trail>,
    owned: BTreeMap<PoolId, bool>,
    live: BTreeMap<RunId, Live>,
    /// Runs that were told to stop for good: nobody says the end of one that is lost.
    stopping: BTreeSet<RunId>,
    now: TimeUs,
}

#[derive(Debug)]
struct Live {
    job: JobId,
    gpu_milli: i64,
    owned: bool,
    from: TimeUs,
    lease_until: TimeUs,
}

impl Trails {
    /// Takes the next epoch.
    pub fn apply(&mut self, epoch: &EpochBatch) {
        self.now = epoch.record.now_us;
        for (_, event) in epoch.counted() {
            match event {
                Event::PoolDeclared(e) => _ = self.owned.insert(e.pool.clone(), e.class == CapacityClass::Owned),
                Event::RunFinished(e) => self.release(&e.run),
                Event::RunFailed(e) => self.release(&e.run),
                Event::RunStopped(e) => self.release(&e.run),
                Event::RunLeaseRenewed(e) => {
                    if let Some(live) = self.live.get_mut(&e.run) {
                        live.lease_until = live.lease_until.max(e.lease_until_us);
                    }
                }
                _ => {}
            }
        }
        for event in &epoch.outputs {
            match event {
                Event::JobPlaced(e) => self.place(e),
                Event::JobHeld(e) => {
                    let limits = &mut self.jobs.entry(e.job.clone()).or_default().limits;
                    *limits.entry(e.limit.kind.as_str().to_owned()).or_default() += 1;
                }
                // A run that was lost says nothing of its own.
                Event::JobRequeued(e) => self.release(&e.run),
                Event::JobCancelled(e) => match &e.run {
                    Some(run) => _ = self.stopping.insert(run.clone()),
                    None => self.release_of(&e.job),
                },
                _ => {}
            }
        }
        self.leases_passed();
    }

    /// Counts what is still held, at the end.
    pub fn finish(&mut self) {
        let live: Vec<RunId> = self.live.keys().cloned().collect();
        live.iter().for_each(|run| self.release(run));
    }

    fn place(&mut self, e: &JobPlaced) {
        let trail = self.jobs.entry(e.job.clone()).or_default();
        trail.run_count += 1;
        if trail.runs.len() < RUNS_TOLD_MAX {
            trail.runs.push(RunOf { pool: e.pool.clone(), placed_us: self.now });
        }
        let owned = self.owned.get(&e.pool).copied().unwrap_or(false);
        let live =
            Live { job: e.job.clone(), gpu_milli: e.gpu_milli.0, owned, from: self.now, lease_until: e.lease_until_us };
        self.live.insert(e.run.clone(), live);
    }

    /// Ends the run of a job that ends with it.
    fn release_of(&mut self, job: &JobId) {
        let runs: Vec<RunId> =
            self.live.iter().filter(|(_, live)| live.job == *job).map(|(run, _)| run.clone()).collect();
        runs.iter().for_each(|run| self.release(run));
    }

    /// Ends what was told to stop for good and whose lease has passed.
    fn leases_passed(&mut self) {
        let passed = |run: &&RunId| self.live.get(*run).is_some_and(|live| live.lease_until <= self.now);
        let runs: Vec<RunId> = self.stopping.iter().filter(passed).cloned().collect();
        runs.iter().for_each(|run| self.release(run));
    }

    fn release(&mut self, run: &RunId) {
        self.stopping.remove(run);
        let Some(live) = self.live.remove(run) else { return };
        let held = i128::from(live.gpu_milli) * i128::from(self.now.since(live.from).0);
        let trail = self.jobs.entry(live.job).or_default();
        trail.held += held;
        trail.held_owned += if live.owned { held } else { 0 };
    }
}
