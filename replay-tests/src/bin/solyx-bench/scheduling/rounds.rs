//! Scheduling rounds through the whole kernel: jobs wait, then a fleet comes and one epoch decides on all of them; later one
//! run ends, and the next epoch decides again.

use solyx_schemas::events::Event;
use solyx_schemas::ids::{JobId, RunId};

use super::events::{self, Amounts, Sequence, Sizes};
use super::world::{Parts, World};

/// Records of one epoch while a queue is filled.
const EPOCH_JOBS: usize = 32_768;

/// A workload.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    pub nodes: usize,
    pub jobs: usize,
    pub tenants: usize,
    pub sizes: Sizes,
    /// GPUs of a node, and of a job.
    pub gpus: Option<(i64, i64)>,
}

impl Workload {
    /// The work that Armada's scheduler core was measured on: nodes of 32 CPU and 256 GiB, jobs of 1 CPU and 4 GiB.
    pub fn armada(nodes: usize, jobs: usize, tenants: usize, sizes: Sizes) -> Self {
        Self { nodes, jobs, tenants, sizes, gpus: None }
    }

    /// Jobs of 1 CPU and 4 GiB, or of 1 to 4 CPU in thousandths and 2 to 12 GiB in MiB.
    pub fn asks(&self) -> Vec<Amounts> {
        let mut sequence = Sequence(1);
        let gpus = self.gpus.map_or(0, |gpus| gpus.1);
        let one = |_| match self.sizes {
            Sizes::Alike => Amounts { gpus, cpu_milli: 1_000, memory_mib: 4_096 },
            Sizes::Own => {
                Amounts { gpus, cpu_milli: sequence.within(1_000, 4_000), memory_mib: sequence.within(2_048, 12_288) }
            }
        };
        (0..self.jobs).map(one).collect()
    }

    /// Nodes of 32 CPU and 256 GiB, or with up to 4 CPU and 32 GiB of it gone, each its own.
    pub fn haves(&self) -> Vec<Amounts> {
        let mut sequence = Sequence(2);
        let gpus = self.gpus.map_or(0, |gpus| gpus.0);
        let one = |_| match self.sizes {
            Sizes::Alike => Amounts { gpus, cpu_milli: 32_000, memory_mib: 262_144 },
            Sizes::Own => Amounts {
                gpus,
                cpu_milli: 32_000 - sequence.within(0, 4_000),
                memory_mib: 262_144 - sequence.within(0, 32_768),
            },
        };
        (0..self.nodes).map(one).collect()
    }
}

/// What was measured of a workload.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rounds {
    /// The round in which the fleet came.
    pub first: Parts,
    /// Jobs that it placed.
    pub placed: usize,
    /// Jobs that waited after it.
    pub waiting: usize,
    /// The round after one run ended, the median of several.
    pub next: Parts,
}

/// Runs a workload: the first round, then so many before each of which one more run ended.
pub fn run(workload: Workload, next_rounds: usize) -> Rounds {
    let mut world = World::new();
    world.epoch(&events::cell(workload.tenants));
    let asks = workload.asks();
    for (part, chunk) in asks.chunks(EPOCH_JOBS).enumerate() {
        let first = part * EPOCH_JOBS;
        let jobs: Vec<Event> =
            chunk.iter().enumerate().map(|(i, asks)| events::job(first + i, workload.tenants, *asks)).collect();
        world.epoch(&jobs);
    }
    let nodes: Vec<Event> = workload.haves().into_iter().enumerate().map(|(i, has)| events::node(i, has)).collect();
    let (closed, first) = world.epoch(&nodes);
    let runs: Vec<(JobId, RunId)> = closed
        .outputs
        .iter()
        .filter_map(|output| match output {
            Event::JobPlaced(placed) => Some((placed.job.clone(), placed.run.clone())),
            _ => None,
        })
        .collect();
    drop(closed);
    let mut next: Vec<Parts> = Vec::new();
    for i in 0..next_rounds.min(runs.len()) {
        let (job, run) = &runs[i * (runs.len() / next_rounds).max(1)];
        next.push(world.epoch(&[events::finished(job, run, world.now_us())]).1);
    }
    next.sort_by_key(Parts::whole);
    Rounds {
        first,
        placed: runs.len(),
        waiting: world.kernel.waiting_jobs(),
        next: next.get(next.len() / 2).copied().unwrap_or_default(),
    }
}
