//! Room node by node, for whoever groups nodes by something that areas do not know.

use super::choose::Scope;
use super::inventory::Inventory;
use super::node::{Ask, NodeHandle};

impl Inventory {
    /// Nodes of a scope on which replicas fit, each with how many, counted up to `limit`. Only those are looked at.
    pub fn rooms(&self, ask: &Ask, scope: Scope<'_>, limit: i64) -> Vec<(NodeHandle, i64)> {
        let mut rooms = Vec::new();
        for (id, class) in scope.shelves(&self.shelves).flat_map(|shelf| &shelf.classes) {
            let each = self.states.get(*id).replicas(ask, limit);
            if each > 0 {
                let nodes = class.nodes.iter().map(|(_, node)| *node).filter(|node| scope.takes(*node));
                rooms.extend(nodes.map(|node| (node, each)));
            }
        }
        rooms
    }
}
