//! Nodes of one pool or of one fabric domain, by state, and by name within a state.

use solyx_schemas::ids::NodeId;
use std::collections::{BTreeMap, BTreeSet};

use super::node::NodeHandle;
use super::state::StateId;

/// Where to look for nodes. Areas are what the inventory keeps nodes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Area {
    /// A pool.
    Pool(u32),
    /// A fabric domain.
    Domain(u32),
}

/// Nodes of one state in one area.
#[derive(Clone, Debug)]
pub(super) struct Class {
    /// Generation of the state's number.
    pub generation: u32,
    /// First eight bytes of the smallest name, to settle most comparisons without following pointers.
    pub prefix: u64,
    /// Nodes by name; never empty.
    pub nodes: BTreeSet<(NodeId, NodeHandle)>,
}

impl Class {
    pub fn first_name(&self) -> &NodeId {
        // A class is dropped with its last node.
        &self.nodes.first().expect("a class has nodes").0
    }
}

/// Classes of one area.
#[derive(Clone, Debug, Default)]
pub(super) struct Shelf {
    pub classes: BTreeMap<StateId, Class>,
}

impl Shelf {
    pub fn insert(&mut self, state: StateId, generation: u32, name: &NodeId, node: NodeHandle) {
        let class =
            self.classes.entry(state).or_insert_with(|| Class { generation, prefix: u64::MAX, nodes: BTreeSet::new() });
        class.generation = generation;
        class.nodes.insert((name.clone(), node));
        class.prefix = class.prefix.min(prefix(name));
    }

    /// True when nothing is left.
    pub fn remove(&mut self, state: StateId, name: &NodeId, node: NodeHandle) -> bool {
        if let Some(class) = self.classes.get_mut(&state) {
            class.nodes.remove(&(name.clone(), node));
            match class.nodes.first() {
                Some((first, _)) => class.prefix = prefix(first),
                None => {
                    self.classes.remove(&state);
                }
            }
        }
        self.classes.is_empty()
    }
}

/// The first eight bytes of a name as a number that orders like the name.
pub(super) fn prefix(name: &NodeId) -> u64 {
    let mut bytes = [0; 8];
    let name = name.as_str().as_bytes();
    let taken = name.len().min(8);
    bytes[..taken].copy_from_slice(&name[..taken]);
    u64::from_be_bytes(bytes)
}
