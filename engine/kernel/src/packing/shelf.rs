//! Nodes of one pool or of one fabric domain, by state, and by name within a state; states by what their GPUs are like.

use solyx_schemas::ids::NodeId;
use std::collections::{BTreeMap, BTreeSet};

use super::node::NodeHandle;
use super::state::{NodeState, Profile, StateId};
use super::tree::{Tree, key};

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

/// Open classes of one area and one profile.
#[derive(Clone, Debug)]
pub(super) struct Bin {
    /// One of its states, which stands for what they have in common.
    pub like: NodeState,
    pub free_gpu_milli: i64,
    pub tree: Tree,
}

/// Classes of one area.
#[derive(Clone, Debug, Default)]
pub(super) struct Shelf {
    pub classes: BTreeMap<StateId, Class>,
    /// Those of nodes that take something.
    pub bins: BTreeMap<Profile, Bin>,
}

impl Shelf {
    pub fn insert(&mut self, id: StateId, state: &NodeState, generation: u32, name: &NodeId, node: NodeHandle) {
        let new = || Class { generation, prefix: u64::MAX, nodes: BTreeSet::new() };
        let class = self.classes.entry(id).or_insert_with(new);
        class.generation = generation;
        let known = !class.nodes.is_empty();
        class.nodes.insert((name.clone(), node));
        class.prefix = class.prefix.min(prefix(name));
        if state.closed || known && class.first_name() != name {
            return;
        }
        let bin = self.bins.entry(state.profile()).or_insert_with(|| Bin {
            like: state.clone(),
            free_gpu_milli: state.free_gpu_milli(),
            tree: Tree::default(),
        });
        if known {
            bin.tree.rename(key(state, id), name.clone());
        } else {
            bin.tree.insert(key(state, id), name.clone());
        }
    }

    /// True when nothing is left.
    pub fn remove(&mut self, id: StateId, state: &NodeState, name: &NodeId, node: NodeHandle) -> bool {
        let Some(class) = self.classes.get_mut(&id) else { return self.classes.is_empty() };
        let first = class.first_name() == name;
        class.nodes.remove(&(name.clone(), node));
        let next = class.nodes.first().map(|(next, _)| next.clone());
        match &next {
            Some(next) => class.prefix = prefix(next),
            None => {
                self.classes.remove(&id);
            }
        }
        if first && !state.closed {
            let profile = state.profile();
            if let Some(bin) = self.bins.get_mut(&profile) {
                match next {
                    Some(next) => bin.tree.rename(key(state, id), next),
                    None => bin.tree.remove(key(state, id)),
                }
                if bin.tree.is_empty() {
                    self.bins.remove(&profile);
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
