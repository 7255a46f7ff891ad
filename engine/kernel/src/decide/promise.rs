//! The earliest start of a gang that does not fit now: which nodes will have room, and when, if runs end as expected.

use std::collections::{BTreeMap, BTreeSet};

use solyx_schemas::events::capacity::CapacityClass;
use solyx_schemas::events::jobs::TopologyLevel;
use solyx_schemas::events::nodes::NodeState;
use solyx_schemas::ids::{JobId, NodeId};
use solyx_schemas::units::{SECOND_US, TimeUs};

use super::Epoch;
use crate::packing::Ask;
use crate::place::{Promise, accepted, ask_of};
use crate::rows::Run;

/// Time by which a run that has outlived its expected end is taken to end from now.
const OVERDUE_US: i64 = 60 * SECOND_US;

/// Free room of a node as time goes on.
struct Room {
    group: String,
    gpus: Vec<i64>,
    cpu: i64,
    memory: i64,
    scratch: i64,
}

impl Room {
    fn replicas(&self, ask: &Ask) -> i64 {
        let by = |have: i64, need: i64| if need > 0 { have.max(0) / need } else { i64::MAX };
        let gpus = match ask.gpus {
            0 => i64::MAX,
            1 => self.gpus.iter().map(|free| free.max(&0) / ask.gpu_milli_each.max(1)).sum(),
            count => self.gpus.iter().filter(|free| **free >= ask.gpu_milli_each).count() as i64 / count,
        };
        let fits = gpus.min(by(self.cpu, ask.cpu_milli)).min(by(self.memory, ask.memory_mib));
        fits.min(by(self.scratch, ask.scratch_gib)).min(1_000_000)
    }
}

/// The promise for a job: over all owned and reserved pools it could use, the one in which it starts first.
pub fn earliest_start(epoch: &mut Epoch<'_>, id: &JobId) -> Option<Promise> {
    let (job, spec) = (epoch.state.jobs.get(id)?, epoch.state.specs.get(id)?);
    let ask = ask_of(spec, job, epoch.index);
    let replicas = spec.gang.replicas_min.0;
    let level = spec.topology.as_ref().and_then(|topology| topology.required);
    let mut best: Option<Promise> = None;
    for (pool_id, pool) in epoch.state.pools.iter() {
        let Some(declared) = &pool.declared else { continue };
        let standing = matches!(declared.class, CapacityClass::Owned | CapacityClass::Reserved);
        if !standing || accepted(spec, declared).is_none() {
            continue;
        }
        let Some(nodes) = epoch.index.pool_nodes.get(pool_id) else { continue };
        let mut rooms: BTreeMap<&NodeId, Room> = BTreeMap::new();
        for node in nodes.iter().filter(|node| !job.avoided.contains(*node)) {
            if let Some(room) = room_of(epoch, node, level) {
                rooms.insert(node, room);
            }
        }
        if let Some((start, nodes)) = first_fit(epoch, &ask, replicas, &mut rooms) {
            let earlier = best.as_ref().is_none_or(|best| start < best.start);
            if earlier {
                best = Some(Promise { job: id.clone(), start, nodes });
            }
        }
    }
    best
}

fn room_of(epoch: &Epoch<'_>, id: &NodeId, level: Option<TopologyLevel>) -> Option<Room> {
    let node = epoch.state.nodes.get(id).filter(|node| node.state == NodeState::Ready && !node.gone)?;
    let report = node.report.as_ref()?;
    let used = epoch.index.uses.get(id);
    let of_gpu = |index: i64| used.and_then(|used| used.gpu_milli.get(&index)).copied().unwrap_or(0);
    let highest = report.gpus.iter().map(|gpu| gpu.index + 1).max().unwrap_or(0);
    let mut gpus = vec![0; highest as usize];
    for gpu in report.gpus.iter().filter(|gpu| !node.avoided_gpus.contains(&gpu.index)) {
        gpus[gpu.index as usize] = 1_000 - of_gpu(gpu.index);
    }
    let group = match level {
        Some(TopologyLevel::Leaf) => report.leaf.as_ref().map_or(id.to_string(), ToString::to_string),
        Some(TopologyLevel::Spine) => report.spine.as_ref().map_or(id.to_string(), ToString::to_string),
        Some(TopologyLevel::Rack) => report.rack.as_ref().map_or(id.to_string(), ToString::to_string),
        Some(TopologyLevel::NvlinkDomain) => id.to_string(),
        _ => String::new(),
    };
    Some(Room {
        group,
        gpus,
        cpu: report.cpu_milli.0 - used.map_or(0, |used| used.cpu_milli),
        memory: report.memory_mib.0 - used.map_or(0, |used| used.memory_mib),
        scratch: report.scratch_gib.0 - used.map_or(0, |used| used.scratch_gib),
    })
}

/// Lets runs end in their expected order until the gang fits.
fn first_fit(
    epoch: &Epoch<'_>,
    ask: &Ask,
    replicas: i64,
    rooms: &mut BTreeMap<&NodeId, Room>,
) -> Option<(TimeUs, BTreeSet<NodeId>)> {
    let mut fitting: BTreeMap<String, i64> = BTreeMap::new();
    for room in rooms.values() {
        *fitting.entry(room.group.clone()).or_default() += room.replicas(ask);
    }
    if let Some(nodes) = gang(&fitting, rooms, ask, replicas) {
        return Some((TimeUs(epoch.now.0 + 1), nodes));
    }
    for (end, id) in &epoch.index.ends {
        let Some(run) = epoch.state.runs.get(id) else { continue };
        if !release(run, rooms, ask, &mut fitting) {
            continue;
        }
        if let Some(nodes) = gang(&fitting, rooms, ask, replicas) {
            let end = run.stop.as_ref().map_or(*end, |stop| stop.by_us.min(*end));
            let start = if end > epoch.now { end } else { TimeUs(epoch.now.0 + OVERDUE_US) };
            return Some((start, nodes));
        }
    }
    None
}

fn release(run: &Run, rooms: &mut BTreeMap<&NodeId, Room>, ask: &Ask, fitting: &mut BTreeMap<String, i64>) -> bool {
    let mut touched = false;
    for replica in &run.nodes {
        let Some(room) = rooms.get_mut(&replica.node) else { continue };
        let before = room.replicas(ask);
        for gpu in &replica.gpus {
            if let Some(free) = room.gpus.get_mut(*gpu as usize) {
                *free += replica.gpu_milli_each.0;
            }
        }
        room.cpu += run.cpu_milli.0;
        room.memory += run.memory_mib.0;
        room.scratch += run.scratch_gib.0;
        *fitting.entry(room.group.clone()).or_default() += room.replicas(ask) - before;
        touched = true;
    }
    touched
}

/// The nodes of the first domain that has room for the whole gang: those with most room first, so that few are kept.
fn gang(
    fitting: &BTreeMap<String, i64>,
    rooms: &BTreeMap<&NodeId, Room>,
    ask: &Ask,
    replicas: i64,
) -> Option<BTreeSet<NodeId>> {
    let (group, _) = fitting.iter().find(|(_, room)| **room >= replicas)?;
    let mut nodes: Vec<(i64, &NodeId)> = rooms
        .iter()
        .filter(|(_, room)| room.group == *group)
        .map(|(node, room)| (-room.replicas(ask), *node))
        .filter(|(room, _)| *room < 0)
        .collect();
    nodes.sort();
    let mut chosen = BTreeSet::new();
    let mut missing = replicas;
    for (room, node) in nodes {
        if missing <= 0 {
            break;
        }
        missing += room;
        chosen.insert(node.clone());
    }
    Some(chosen)
}
