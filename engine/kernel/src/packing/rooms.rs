//! Room node by node, for whoever groups nodes by something that areas do not know.

use super::choose::Scope;
use super::inventory::Inventory;
use super::node::{Ask, NodeHandle};
use super::shelf::Area;

/// What nodes with the same free GPUs have free at most; not all of it on one of them perhaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peak {
    /// Wholly free GPUs of each.
    pub gpus: i64,
    /// Thousandths that are free of one.
    pub gpu_milli: i64,
    /// CPU.
    pub cpu_milli: i64,
    /// Memory.
    pub memory_mib: i64,
}

impl Inventory {
    /// The most that is free in a pool, for each kind of free GPUs on a node.
    pub fn peaks(&self, pool: u32) -> impl Iterator<Item = Peak> {
        let bins = self.shelves.get(&Area::Pool(pool)).into_iter().flat_map(|shelf| shelf.bins.values());
        bins.filter_map(|bin| {
            let (cpu_milli, memory_mib) = bin.tree.most()?;
            let gpu_milli = bin.like.holes.last().copied().unwrap_or(0);
            Some(Peak { gpus: bin.like.whole() as i64, gpu_milli, cpu_milli, memory_mib })
        })
    }

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
