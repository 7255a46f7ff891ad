//! Failure domains of a pool and the nodes in them, kept as nodes are reported and removed, so that nobody looks through the
//! fleet to know which there are.

use std::collections::{BTreeMap, BTreeSet};

use solyx_schemas::events::jobs::SpreadLevel;
use solyx_schemas::ids::{NodeId, PoolId};

use crate::place::failure_domain_of;
use crate::state::State;

/// A domain's name; false for a node that belongs to none and is one of its own.
type Key = (bool, String);

/// Domains of one level in one pool.
type Level = BTreeMap<Key, BTreeSet<NodeId>>;

/// Racks and feeds by pool. Nodes are their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FailureDomains {
    levels: BTreeMap<(PoolId, SpreadLevel), Level>,
    of_node: BTreeMap<NodeId, (PoolId, [Key; 2])>,
}

const LEVELS: [SpreadLevel; 2] = [SpreadLevel::Rack, SpreadLevel::Feed];

impl FailureDomains {
    /// Has a node stand in the domains that the state says, and in no others.
    pub fn refresh(&mut self, state: &State, id: &NodeId) {
        let row = state.nodes.get(id).filter(|row| !row.gone);
        let is = row.and_then(|row| row.report.as_ref()).map(|report| {
            let keys = LEVELS.map(|level| {
                let (named, name) = failure_domain_of(level, id, report);
                (named, name.to_owned())
            });
            (report.pool.clone(), keys)
        });
        let was = self.of_node.get(id);
        if was == is.as_ref() {
            return;
        }
        if let Some((pool, keys)) = self.of_node.remove(id) {
            for (level, key) in LEVELS.into_iter().zip(keys) {
                self.leave(&(pool.clone(), level), &key, id);
            }
        }
        if let Some((pool, keys)) = is {
            for (level, key) in LEVELS.into_iter().zip(&keys) {
                let domains = self.levels.entry((pool.clone(), level)).or_default();
                domains.entry(key.clone()).or_default().insert(id.clone());
            }
            self.of_node.insert(id.clone(), (pool, keys));
        }
    }

    fn leave(&mut self, level: &(PoolId, SpreadLevel), key: &Key, id: &NodeId) {
        let Some(domains) = self.levels.get_mut(level) else { return };
        if let Some(nodes) = domains.get_mut(key) {
            nodes.remove(id);
            if nodes.is_empty() {
                domains.remove(key);
            }
        }
        if domains.is_empty() {
            self.levels.remove(level);
        }
    }

    /// The racks or feeds of a pool with their nodes.
    pub fn of(&self, pool: &PoolId, level: SpreadLevel) -> impl Iterator<Item = ((bool, &str), &BTreeSet<NodeId>)> {
        let domains = self.levels.get(&(pool.clone(), level)).into_iter().flatten();
        domains.map(|((named, name), nodes)| ((*named, name.as_str()), nodes))
    }
}
