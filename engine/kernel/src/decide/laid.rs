//! A gang in segments or spread, laid out over rooms that are free by some time: what a promise or a claim may count on.

use std::collections::BTreeMap;

use solyx_schemas::events::capacity::PoolDeclared;
use solyx_schemas::ids::NodeId;

use super::Epoch;
use crate::packing::Ask;
use crate::place::{Domain, Layout, Space, Spread, cover, domain_of};
use crate::rows::{Job, Spec};

/// Replicas by node for a whole gang as its layout says, or none if these rooms do not hold it.
pub(super) fn lay_out(
    epoch: &Epoch<'_>,
    (job, spec, ask): (&Job, &Spec, &Ask),
    pool: &PoolDeclared,
    rooms: &[(&NodeId, i64)],
) -> Option<BTreeMap<NodeId, i64>> {
    let (layout, replicas) = (Layout::of(spec), spec.gang.replicas_min.0);
    let mut groups: BTreeMap<Domain<'_>, Vec<(&NodeId, i64)>> = BTreeMap::new();
    for &(node, room) in rooms.iter().filter(|(_, room)| *room > 0) {
        let report = epoch.state.nodes.get(node).and_then(|row| row.report.as_ref())?;
        let domain = layout.required.map_or((true, ""), |level| domain_of(epoch.state, level, node, report));
        groups.entry(domain).or_default().push((node, room));
    }
    let room = |group: &[(&NodeId, i64)]| group.iter().map(|(_, room)| *room).fold(0, i64::saturating_add);
    if let Some(segment) = layout.segment {
        let spaces: Vec<Space<Domain<'_>>> = groups
            .iter()
            .map(|(domain, group)| Space { domain: *domain, above: (false, ""), room: room(group) / segment })
            .collect();
        let parts = cover(&spaces, replicas / segment)?;
        return Some(parts.into_iter().flat_map(|(domain, units)| fill(&groups[&domain], units * segment)).collect());
    }
    let fitting = groups.into_iter().filter(|(_, group)| room(group) >= replicas);
    let Some(over) = layout.spread else {
        return fitting.map(|(_, group)| fill(&group, replicas)).next();
    };
    let ever = |node: &NodeId| {
        let until = epoch.state.nodes.get(node).and_then(|row| row.attested_until_us);
        !job.past().avoided.contains(node)
            && (!spec.attestation_required || until.is_some_and(|until| until > epoch.now))
    };
    let spread = Spread {
        state: epoch.state,
        domains: &epoch.index.failure_domains,
        pool: &pool.pool,
        nodes: epoch.index.pool_nodes.get(&pool.pool),
        inside: None,
        over,
        ask,
        ever: &ever,
    };
    fitting.into_iter().find_map(|(domain, group)| {
        let inside = layout.required.map(|level| (level, domain));
        Spread { inside, ..spread }.divide(&group, replicas)
    })
}

/// The nodes with most room first, so that few are kept.
fn fill(group: &[(&NodeId, i64)], replicas: i64) -> BTreeMap<NodeId, i64> {
    let mut nodes: Vec<(i64, &NodeId)> = group.iter().map(|(node, room)| (-room, *node)).collect();
    nodes.sort();
    let mut missing = replicas;
    let mut filled = BTreeMap::new();
    for (room, node) in nodes {
        if missing <= 0 {
            break;
        }
        filled.insert(node.clone(), missing.min(-room));
        missing += room;
    }
    filled
}
