//! States of nodes: nodes of equal state are interchangeable but for their names, so that scores belong to states.

use std::collections::BTreeMap;

use super::node::{Ask, GPU_MILLI, NodeSpec};

/// A state inside one [`States`].
pub(super) type StateId = u32;

/// What states have in common that differ in free CPU, memory and scratch space only: model, free thousandths of each GPU,
/// and whether nothing is on the node.
pub(super) type Profile = (u32, Vec<i64>, bool);

/// Everything of a node that node choice looks at, in canonical form: usable GPUs' free thousandths ascending.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NodeState {
    pub model: u32,
    pub cpu_free_milli: i64,
    pub memory_free_mib: i64,
    pub scratch_free_gib: i64,
    pub cpu_milli: i64,
    pub memory_mib: i64,
    pub holes: Vec<i64>,
    pub idle: bool,
    pub closed: bool,
}

impl NodeState {
    pub fn of(spec: &NodeSpec) -> Self {
        let mut holes: Vec<i64> =
            spec.gpus.iter().filter(|gpu| gpu.usable).map(|gpu| gpu.free_milli.clamp(0, GPU_MILLI)).collect();
        holes.sort_unstable();
        Self {
            model: spec.model,
            cpu_free_milli: spec.cpu_free_milli,
            memory_free_mib: spec.memory_free_mib,
            scratch_free_gib: spec.scratch_free_gib,
            cpu_milli: spec.cpu_milli,
            memory_mib: spec.memory_mib,
            holes,
            idle: spec.replicas == 0,
            closed: spec.closed,
        }
    }

    /// The same node with nothing on it.
    pub fn emptied(&self) -> Self {
        Self {
            cpu_free_milli: self.cpu_milli,
            memory_free_mib: self.memory_mib,
            holes: vec![GPU_MILLI; self.holes.len()],
            idle: true,
            closed: false,
            ..self.clone()
        }
    }

    /// Its profile.
    pub fn profile(&self) -> Profile {
        (self.model, self.holes.clone(), self.idle)
    }

    /// GPUs with at least `milli` free: the upper end of the ascending holes.
    fn wide_enough(&self, milli: i64) -> usize {
        self.holes.len() - self.holes.partition_point(|hole| *hole < milli)
    }

    /// Wholly free GPUs.
    pub fn whole(&self) -> usize {
        self.wide_enough(GPU_MILLI)
    }

    pub fn free_gpu_milli(&self) -> i64 {
        self.holes.iter().sum()
    }

    /// Whether one replica fits.
    pub fn fits(&self, ask: &Ask) -> bool {
        self.suits(ask)
            && self.cpu_free_milli >= ask.cpu_milli
            && self.memory_free_mib >= ask.memory_mib
            && self.scratch_free_gib >= ask.scratch_gib
    }

    /// Whether one replica fits but for CPU, memory and scratch space: what is so of one state is so of its whole profile.
    pub fn suits(&self, ask: &Ask) -> bool {
        !self.closed
            && (self.idle || !ask.exclusive)
            && ask.accepts(self.model)
            && (ask.gpus <= 0 || self.wide_enough(ask.gpu_milli_each) as i64 >= ask.gpus)
    }

    /// How many replicas fit one after the other; an upper bound when a replica takes shares of several GPUs.
    pub fn replicas(&self, ask: &Ask, limit: i64) -> i64 {
        if !self.fits(ask) {
            return 0;
        }
        if ask.exclusive {
            return limit.min(1);
        }
        let by = |free: i64, each: i64| if each > 0 { free / each } else { limit };
        let mut most = limit
            .min(by(self.cpu_free_milli, ask.cpu_milli))
            .min(by(self.memory_free_mib, ask.memory_mib))
            .min(by(self.scratch_free_gib, ask.scratch_gib));
        if ask.gpus > 0 && ask.gpu_milli_each > 0 {
            let slots: i64 = self.holes.iter().map(|hole| hole / ask.gpu_milli_each).sum();
            most = most.min(slots / ask.gpus);
        }
        most
    }
}

/// States in use, interned: each has a number while some node is in it.
#[derive(Clone, Debug, Default)]
pub(super) struct States {
    ids: BTreeMap<NodeState, StateId>,
    slots: Vec<Slot>,
    free: Vec<StateId>,
}

#[derive(Clone, Debug)]
struct Slot {
    state: NodeState,
    /// Tells the states apart that have had this number, for whoever remembers something about a number.
    generation: u32,
    nodes: u32,
}

impl States {
    /// The number of a state, which one more node is in now.
    pub fn enter(&mut self, state: NodeState) -> StateId {
        if let Some(id) = self.ids.get(&state) {
            self.slots[*id as usize].nodes += 1;
            return *id;
        }
        let id = match self.free.pop() {
            Some(id) => {
                let slot = &mut self.slots[id as usize];
                slot.state = state.clone();
                slot.generation += 1;
                slot.nodes = 1;
                id
            }
            None => {
                self.slots.push(Slot { state: state.clone(), generation: 1, nodes: 1 });
                (self.slots.len() - 1) as StateId
            }
        };
        self.ids.insert(state, id);
        id
    }

    /// One node less is in this state.
    pub fn leave(&mut self, id: StateId) {
        let slot = &mut self.slots[id as usize];
        slot.nodes -= 1;
        if slot.nodes == 0 {
            self.ids.remove(&slot.state);
            self.free.push(id);
        }
    }

    pub fn get(&self, id: StateId) -> &NodeState {
        &self.slots[id as usize].state
    }

    pub fn generation(&self, id: StateId) -> u32 {
        self.slots[id as usize].generation
    }

    /// Numbers given so far, those free again included.
    pub fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// States in use, with how many nodes are in each.
    pub fn iter(&self) -> impl Iterator<Item = (&NodeState, u32)> {
        self.ids.iter().map(|(state, id)| (state, self.slots[*id as usize].nodes))
    }
}
