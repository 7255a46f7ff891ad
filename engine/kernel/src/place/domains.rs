//! Node choice for a gang, within one domain when the job asks for that.

use std::collections::{BTreeMap, BTreeSet};

use solyx_schemas::events::jobs::TopologyLevel;
use solyx_schemas::ids::NodeId;

use crate::packing::{Area, Ask, Choice, NodeHandle, Rule, Scope};
use crate::state::State;

/// Nodes of a pool by the domain of a level they lie in.
fn groups(
    state: &State,
    inventory: &crate::packing::Inventory,
    names: &BTreeMap<NodeHandle, NodeId>,
    pool: u32,
    level: TopologyLevel,
) -> BTreeMap<String, BTreeSet<NodeHandle>> {
    let mut groups: BTreeMap<String, BTreeSet<NodeHandle>> = BTreeMap::new();
    for (handle, _) in inventory.nodes().filter(|(_, node)| node.pool == pool) {
        let Some(node) = names.get(&handle) else { continue };
        let Some(report) = state.nodes.get(node).and_then(|row| row.report.as_ref()) else { continue };
        let group = match level {
            TopologyLevel::Leaf => report.leaf.as_ref().map(ToString::to_string),
            TopologyLevel::Spine => report.spine.as_ref().map(ToString::to_string),
            TopologyLevel::Rack => report.rack.as_ref().map(ToString::to_string),
            TopologyLevel::Site => Some(String::new()),
            TopologyLevel::NvlinkDomain | TopologyLevel::Unknown => Some(node.to_string()),
        };
        groups.entry(group.unwrap_or_else(|| node.to_string())).or_default().insert(handle);
    }
    groups
}

#[expect(clippy::too_many_arguments, reason = "node choice with its domain, called from one place")]
pub fn choose(
    state: &State,
    inventory: &mut crate::packing::Inventory,
    names: &BTreeMap<NodeHandle, NodeId>,
    rule: Rule,
    ask: &Ask,
    replicas: i64,
    pool: u32,
    level: Option<TopologyLevel>,
    accepts: &dyn Fn(NodeHandle) -> bool,
) -> Option<Vec<Choice>> {
    let area = [Area::Pool(pool)];
    let Some(level) =
        level.filter(|level| *level != TopologyLevel::Site && (replicas > 1 || *level == TopologyLevel::NvlinkDomain))
    else {
        return if replicas == 1 {
            inventory.choose(rule, ask, Scope::of(&area).accepting(accepts)).map(|choice| vec![choice])
        } else {
            inventory.choose_gang(rule, ask, replicas, Scope::of(&area).accepting(accepts))
        };
    };
    // The domain with the least room left over takes the gang, so that large rooms stay whole.
    let mut fitting: Vec<(i64, String, BTreeSet<NodeHandle>)> = Vec::new();
    for (name, group) in groups(state, inventory, names, pool, level) {
        let inside = |handle: NodeHandle| group.contains(&handle) && accepts(handle);
        let room = inventory.feasible_replicas(ask, Scope::of(&area).accepting(&inside), i64::MAX);
        if room >= replicas {
            fitting.push((room, name, group));
        }
    }
    fitting.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    fitting.into_iter().find_map(|(_, _, group)| {
        let inside = |handle: NodeHandle| group.contains(&handle) && accepts(handle);
        inventory.choose_gang(rule, ask, replicas, Scope::of(&area).accepting(&inside))
    })
}

pub fn index_largest(
    state: &State,
    inventory: &crate::packing::Inventory,
    names: &BTreeMap<NodeHandle, NodeId>,
    ask: &Ask,
    pool: u32,
    level: Option<TopologyLevel>,
    replicas: i64,
) -> i64 {
    let area = [Area::Pool(pool)];
    let groups = groups(state, inventory, names, pool, level.unwrap_or(TopologyLevel::Site));
    let room = |group: &BTreeSet<NodeHandle>| {
        let inside = |handle: NodeHandle| group.contains(&handle);
        inventory.feasible_replicas(ask, Scope::of(&area).accepting(&inside), replicas)
    };
    groups.values().map(room).max().unwrap_or(0)
}
