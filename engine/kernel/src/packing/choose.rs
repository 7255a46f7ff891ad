//! Node choice: for one replica, and for gangs all or nothing.

use solyx_schemas::ids::NodeId;
use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::inventory::Inventory;
use super::node::{Ask, Choice, NodeHandle, Rule};
use super::shelf::{Area, Class, Shelf};

/// Which nodes are looked at.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    areas: Option<&'a [Area]>,
    accepts: Option<&'a dyn Fn(NodeHandle) -> bool>,
}

impl<'a> Scope<'a> {
    /// Every node.
    pub const ALL: Scope<'static> = Scope { areas: None, accepts: None };

    /// Nodes of these areas. Those that overlap give the same nodes, twice looked at.
    pub fn of(areas: &'a [Area]) -> Self {
        Self { areas: Some(areas), accepts: None }
    }

    /// Only nodes for which this is true. It is asked of few nodes: of those that would be chosen.
    pub fn accepting(self, accepts: &'a dyn Fn(NodeHandle) -> bool) -> Self {
        Self { accepts: Some(accepts), ..self }
    }

    /// Whether a node may be chosen, as far as that is asked.
    pub(super) fn takes(&self, node: NodeHandle) -> bool {
        self.accepts.is_none_or(|accepts| accepts(node))
    }

    pub(super) fn shelves<'i>(&self, all: &'i BTreeMap<Area, Shelf>) -> impl Iterator<Item = &'i Shelf> + use<'i, 'a> {
        let named = self.areas.into_iter().flatten().filter_map(|area| all.get(area));
        let pools = self.areas.is_none().then(|| all.range(..Area::Domain(0)).map(|(_, shelf)| shelf));
        named.chain(pools.into_iter().flatten())
    }

    fn first<'c>(&self, class: &'c Class) -> Option<(&'c NodeId, NodeHandle)> {
        let accepts = |node| self.accepts.is_none_or(|accepts| accepts(node));
        class.nodes.iter().find(|(_, node)| accepts(*node)).map(|(name, node)| (name, *node))
    }
}

impl Inventory {
    /// The node and GPUs for one replica, or none when it fits nowhere in the scope.
    pub fn choose(&mut self, rule: Rule, ask: &Ask, scope: Scope<'_>) -> Option<Choice> {
        let Self { states, shelves, scorer, memory, .. } = self;
        let scores = memory.scores(rule, ask, states.capacity());
        let mut best: Option<(i64, u64, &NodeId, NodeHandle)> = None;
        for (id, class) in scope.shelves(shelves).flat_map(|shelf| &shelf.classes) {
            let Some(score) = scores.get(*id, class.generation, || scorer.score(rule, ask, states.get(*id))) else {
                continue;
            };
            if let Some((best_score, best_prefix, best_name, _)) = best
                && (score < best_score
                    || score == best_score && (class.prefix, class.first_name()) >= (best_prefix, best_name))
            {
                continue;
            }
            let Some((name, node)) = scope.first(class) else { continue };
            if best
                .is_none_or(|(best_score, _, best_name, _)| (Reverse(score), name) < (Reverse(best_score), best_name))
            {
                best = Some((score, super::shelf::prefix(name), name, node));
            }
        }
        let (_, _, _, node) = best?;
        let state = self.states.get(self.state_of(node)?);
        let gpus = self.scorer.gpus(rule, ask, state, &self.get(node)?.gpus);
        Some(Choice { node, gpus })
    }

    /// How many replicas fit in the scope, counted up to `limit`.
    pub fn feasible_replicas(&self, ask: &Ask, scope: Scope<'_>, limit: i64) -> i64 {
        let mut fitting = 0;
        for (id, class) in scope.shelves(&self.shelves).flat_map(|shelf| &shelf.classes) {
            let each = self.states.get(*id).replicas(ask, limit);
            if each == 0 {
                continue;
            }
            let nodes = match scope.accepts {
                None => class.nodes.len() as i64,
                Some(accepts) => class.nodes.iter().filter(|(_, node)| accepts(*node)).count() as i64,
            };
            fitting = i64::saturating_add(fitting, each.saturating_mul(nodes));
            if fitting >= limit {
                return limit;
            }
        }
        fitting
    }

    /// Nodes and GPUs for all replicas of a gang within the scope, or none; nothing is taken.
    pub fn choose_gang(&mut self, rule: Rule, ask: &Ask, replicas: i64, scope: Scope<'_>) -> Option<Vec<Choice>> {
        if self.feasible_replicas(ask, scope, replicas) < replicas {
            return None;
        }
        let mut gang = Vec::new();
        for _ in 0..replicas {
            let Some(choice) = self.choose(rule, ask, scope) else { break };
            if self.allocate(&choice, ask).is_err() {
                break;
            }
            gang.push(choice);
        }
        for choice in gang.iter().rev() {
            let released = self.release(choice, ask);
            assert!(released.is_ok(), "what was just taken can be given back");
        }
        (gang.len() as i64 == replicas).then_some(gang)
    }

    /// The fabric domain of a pool in which a whole gang fits and the least room is left, ties by its first node's name.
    pub fn tightest_domain(
        &self,
        ask: &Ask,
        replicas: i64,
        pool: u32,
        accepts: Option<&dyn Fn(NodeHandle) -> bool>,
    ) -> Option<u32> {
        let mut best: Option<(i64, &NodeId, u32)> = None;
        for (_, domain) in self.domains.range((pool, 0)..=(pool, u32::MAX)) {
            let areas = [Area::Domain(*domain)];
            let scope = Scope { areas: Some(&areas), accepts };
            // Room is counted beyond the gang only as far as it can matter.
            let room = self.feasible_replicas(ask, scope, i64::from(u32::MAX));
            let name =
                self.shelves.get(&areas[0]).and_then(|shelf| shelf.classes.values().map(Class::first_name).min());
            if room >= replicas
                && let Some(name) = name
                && best.is_none_or(|(best_room, best_name, _)| (room, name) < (best_room, best_name))
            {
                best = Some((room, name, *domain));
            }
        }
        best.map(|(_, _, domain)| domain)
    }
}
