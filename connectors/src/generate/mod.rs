//! A world from a seed: a cell with everything that the contract can say, and the scripts of its simulated executor.
//!
//! Every choice is a draw of (seed, kind, entity), never the next number of a stream, and all arithmetic is in integers:
//! the same seed and size give the same events on any machine, and what a job asks for does not depend on how many come
//! after it; only its length does, so that the fleet is kept busy. A generated world is no measurement of anything real;
//! it is for tests, benchmarks and first steps.

use solyx_schemas::events::Event;
use solyx_schemas::log::Log;
use solyx_schemas::topics::Topic;

use crate::import::{ImportError, Sink, Summary};

mod facility;
mod feeds;
mod jobs;
mod luck;
mod models;
mod nodes;
mod plan;
mod pools;
mod requests;
mod rules;
mod storage;
mod tenants;
mod trouble;
mod turns;
mod world;

use plan::Plan;
pub use plan::{END_SLACK_US, OPENING_US, START_US};
use world::World;

/// The largest seed.
pub const SEED_MAX: u64 = 1_000_000_000_000_000_000;

/// How large a world is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Jobs that are asked for.
    pub jobs: u32,
    /// Nodes of owned and reserved pools; eight GPUs each. At least 4.
    pub nodes: u32,
    /// Days over which jobs come. At least 1.
    pub days: u32,
}

impl Default for Size {
    fn default() -> Self {
        Self { jobs: 1_000, nodes: 48, days: 7 }
    }
}

/// The world of a seed, in order of time and then topic. What belongs to topic `sim` is told at the opening.
pub fn generate(seed: u64, size: Size) -> Vec<Event> {
    let mut events = Vec::new();
    each(seed, size, &mut |event| events.push(event));
    events.sort_by_cached_key(|event| (event.identity().occurred_us, event.topic()));
    events
}

/// Every event of the world of a seed, as it is made, in no order of time: for worlds that do not fit in memory.
pub fn each(seed: u64, size: Size, out: &mut dyn FnMut(Event)) {
    let plan = Plan::draw(seed.min(SEED_MAX), size);
    let mut world = World::new(&plan, out);
    rules::build(&plan, &mut world);
    tenants::build(&plan, &mut world);
    facility::build(&plan, &mut world);
    pools::build(&plan, &mut world);
    nodes::build(&plan, &mut world);
    feeds::build(&plan, &mut world);
    storage::build(&plan, &mut world);
    trouble::build(&plan, &mut world);
    jobs::build(&plan, &mut world);
}

/// Writes the world of a seed to the staged topics of a log, and its scripts to topic `sim`.
pub fn publish(
    seed: u64,
    size: Size,
    log: &dyn Log,
    progress: &mut dyn FnMut(&Summary),
) -> Result<Summary, ImportError> {
    let mut sink = Sink::open(log, None, progress)?;
    let mut failed = None;
    each(seed, size, &mut |event| {
        if failed.is_none() {
            failed = sink.put(&event).err();
        }
    });
    match failed {
        Some(error) => Err(error),
        None => sink.finish(),
    }
}

/// Whether an event is the simulated executor's alone.
pub fn is_script(event: &Event) -> bool {
    event.topic() == Topic::Sim
}

#[cfg(test)]
mod tests;
