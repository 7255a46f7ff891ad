//! What happened to each job on its way: where its runs were, which limits it was told, how much GPU time it held.

use std::collections::BTreeMap;

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
    now: TimeUs,
}

#[derive(Debug)]
struct Live {
    job: JobId,
    gpu_milli: i64,
    owned: bool,
    from: TimeUs,
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
                _ => {}
            }
        }
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
        let live = Live { job: e.job.clone(), gpu_milli: e.gpu_milli.0, owned, from: self.now };
        self.live.insert(e.run.clone(), live);
    }

    fn release(&mut self, run: &RunId) {
        let Some(live) = self.live.remove(run) else { return };
        let held = i128::from(live.gpu_milli) * i128::from(self.now.since(live.from).0);
        let trail = self.jobs.entry(live.job).or_default();
        trail.held += held;
        trail.held_owned += if live.owned { held } else { 0 };
    }
}
