//! Replicas spread over failure domains: each goes where the fewest of the gang are among those that have room, which keeps the
//! difference between the most and the least loaded domain as small as room allows.

use std::collections::{BTreeMap, BTreeSet};

use solyx_schemas::events::jobs::{SpreadLevel, TopologyLevel};
use solyx_schemas::events::nodes::NodeState;
use solyx_schemas::ids::{NodeId, PoolId};

use super::layout::{Domain, domain_of, failure_domain_of};
use crate::index::FailureDomains;
use crate::packing::Ask;
use crate::state::State;

/// Over what, how evenly, and among which nodes.
#[derive(Clone, Copy)]
pub struct Spread<'a> {
    /// The state.
    pub state: &'a State,
    /// Racks and feeds.
    pub domains: &'a FailureDomains,
    /// The pool.
    pub pool: &'a PoolId,
    /// Its nodes.
    pub nodes: Option<&'a BTreeSet<NodeId>>,
    /// The one domain in which the gang has to be, if it has to.
    pub inside: Option<(TopologyLevel, Domain<'a>)>,
    /// Level and skew.
    pub over: (SpreadLevel, i64),
    /// What a replica asks for.
    pub ask: &'a Ask,
    /// Nodes that the job may ever be on, whatever is in use there.
    pub ever: &'a dyn Fn(&NodeId) -> bool,
}

impl<'a> Spread<'a> {
    /// The domain in which a node lies.
    pub fn domain(&self, node: &'a NodeId) -> Option<Domain<'a>> {
        let report = self.state.nodes.get(node)?.report.as_ref()?;
        Some(failure_domain_of(self.over.0, node, report))
    }

    /// The difference between the most and the least loaded domain of those that could take one.
    pub fn skew(&self, loads: &BTreeMap<Domain<'_>, i64>) -> i64 {
        let most = loads.values().max().copied().unwrap_or(0);
        let least = loads.values().min().copied().unwrap_or(0);
        // Whether one more could take one matters only where that would break the rule.
        if most - least <= self.over.1 && most > self.over.1 && self.leaves_one_out(loads) {
            most
        } else {
            most - least
        }
    }

    fn leaves_one_out(&self, loads: &BTreeMap<Domain<'_>, i64>) -> bool {
        if self.over.0 == SpreadLevel::Node {
            let mut nodes = self.nodes.into_iter().flatten();
            return nodes.any(|node| !loads.contains_key(&(false, node.as_str())) && self.could_take_one(node));
        }
        let mut domains = self.domains.of(self.pool, self.over.0);
        domains
            .any(|(domain, nodes)| !loads.contains_key(&domain) && nodes.iter().any(|node| self.could_take_one(node)))
    }

    /// Whether a replica would fit if nothing else were there.
    fn could_take_one(&self, id: &NodeId) -> bool {
        let Some(node) = self.state.nodes.get(id).filter(|node| node.state == NodeState::Ready && !node.gone) else {
            return false;
        };
        let Some(report) = &node.report else { return false };
        let released = node.lease.as_ref().is_some_and(|lease| lease.released);
        let gpus = report.gpus.iter().filter(|gpu| !node.avoided_gpus.contains(&gpu.index)).count() as i64;
        let inside = self.inside.is_none_or(|(level, domain)| domain_of(self.state, level, id, report) == domain);
        !released
            && inside
            && gpus >= self.ask.gpus
            && report.cpu_milli.0 >= self.ask.cpu_milli
            && report.memory_mib.0 >= self.ask.memory_mib
            && report.scratch_gib.0 >= self.ask.scratch_gib
            && (self.ever)(id)
    }

    /// Replicas by node from the room on each, spread as evenly as can be; none when there is too little room or the skew
    /// would be too great.
    pub fn divide(&self, rooms: &[(&'a NodeId, i64)], replicas: i64) -> Option<BTreeMap<NodeId, i64>> {
        let mut left: BTreeMap<Domain<'_>, Vec<(i64, &NodeId)>> = BTreeMap::new();
        for (node, room) in rooms.iter().filter(|(_, room)| *room > 0) {
            left.entry(self.domain(node)?).or_default().push((*room, node));
        }
        let mut loads: BTreeMap<Domain<'_>, i64> = BTreeMap::new();
        let mut chosen: BTreeMap<NodeId, i64> = BTreeMap::new();
        let mut missing = replicas;
        while missing > 0 {
            let before = missing;
            for (domain, rooms) in left.iter_mut().take(missing as usize) {
                let Some((room, node)) = rooms.last_mut() else { continue };
                *chosen.entry((*node).clone()).or_default() += 1;
                *loads.entry(*domain).or_default() += 1;
                *room -= 1;
                if *room == 0 {
                    rooms.pop();
                }
                missing -= 1;
            }
            left.retain(|_, rooms| !rooms.is_empty());
            if missing == before {
                return None;
            }
        }
        (self.skew(&loads) <= self.over.1).then_some(chosen)
    }
}
