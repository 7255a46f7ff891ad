//! States of nodes: nodes of equal state are interchangeable but for their names, so that scores belong to states.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::mig::{Division, Slices, replicas};
use super::node::{Ask, GPU_MILLI, GpuSlot, NodeSpec, lets_in};

/// A state inside one [`States`].
pub(super) type StateId = u32;

/// What states have in common that differ in free CPU, memory and scratch space only: model, free thousandths of each GPU,
/// what is marked, and whether nothing is on the node.
pub(super) type Profile = (u32, Vec<i64>, Vec<Marked>, bool);

/// A usable GPU in use of which more is to be known than free thousandths: it is divided, or somebody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Marked {
    pub slices: Slices,
    pub owner: u32,
    pub kept: bool,
    pub free_milli: i64,
}

impl Marked {
    fn of(gpu: &GpuSlot) -> Option<Self> {
        // Of what nothing is free nobody need know whose it is.
        let owned = gpu.owner != 0 && gpu.free_milli > 0 && gpu.free_milli < GPU_MILLI;
        (gpu.usable && (gpu.slices != 0 || owned)).then_some(Self {
            slices: gpu.slices,
            owner: gpu.owner,
            kept: gpu.kept,
            free_milli: if gpu.slices == 0 { gpu.free_milli } else { 0 },
        })
    }
}

/// Everything of a node that node choice looks at, in canonical form: usable GPUs' free thousandths ascending. A divided GPU
/// has none free; marks are few, and none in a fleet without MIG where no tenant asks to be apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NodeState {
    pub model: u32,
    pub cpu_free_milli: i64,
    pub memory_free_mib: i64,
    pub scratch_free_gib: i64,
    pub cpu_milli: i64,
    pub memory_mib: i64,
    pub holes: Vec<i64>,
    pub marked: Vec<Marked>,
    pub idle: bool,
    pub closed: bool,
}

impl NodeState {
    pub fn of(spec: &NodeSpec) -> Self {
        let mut holes: Vec<i64> = spec.gpus.iter().filter(|gpu| gpu.usable).map(free_milli).collect();
        holes.sort_unstable();
        let mut marked: Vec<Marked> = spec.gpus.iter().filter_map(Marked::of).collect();
        marked.sort_unstable();
        Self {
            model: spec.model,
            cpu_free_milli: spec.cpu_free_milli,
            memory_free_mib: spec.memory_free_mib,
            scratch_free_gib: spec.scratch_free_gib,
            cpu_milli: spec.cpu_milli,
            memory_mib: spec.memory_mib,
            holes,
            marked,
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
            marked: Vec::new(),
            idle: true,
            closed: false,
            ..self.clone()
        }
    }

    /// Its profile.
    pub fn profile(&self) -> Profile {
        (self.model, self.holes.clone(), self.marked.clone(), self.idle)
    }

    /// The node as an ask may use it: without GPUs whose tenants do not let it in, or that it is not to share with them.
    pub fn seen_by(&self, ask: &Ask) -> Cow<'_, Self> {
        let hidden = |mark: &Marked| !lets_in(mark.owner, mark.kept, ask);
        if !ask.shares() || !ask.apart && !self.marked.iter().any(hidden) {
            return Cow::Borrowed(self);
        }
        let mut seen = self.clone();
        seen.marked.retain(|mark| !hidden(mark));
        if ask.apart {
            let in_use = self.holes.len() - self.whole();
            // What is in use and nobody's in particular is several tenants', or another's.
            seen.holes[..in_use].fill(0);
            for (hole, mark) in seen.holes.iter_mut().zip(seen.marked.iter().filter(|mark| mark.free_milli > 0)) {
                *hole = mark.free_milli;
            }
        } else {
            for mark in self.marked.iter().filter(|mark| mark.free_milli > 0 && hidden(mark)) {
                if let Some(hole) = seen.holes.iter_mut().find(|hole| **hole == mark.free_milli) {
                    *hole = 0;
                }
            }
        }
        seen.holes.sort_unstable();
        Cow::Owned(seen)
    }

    /// Room for instances of a profile: of each divided GPU, then of each that nothing is on.
    fn instances(&self, division: &Division) -> Vec<i64> {
        let divided = self.marked.iter().filter(|mark| mark.slices != 0).map(|mark| division.room(mark.slices));
        divided.chain(std::iter::repeat_n(division.room(0), self.whole())).filter(|room| *room > 0).collect()
    }

    /// What the least harmful place for an ask's instances costs: GPUs that have to be divided first, then what it destroys.
    pub fn harm(&self, ask: &Ask, division: &Division) -> Option<(i64, i64)> {
        let divided = self.marked.iter().filter(|mark| mark.slices != 0).filter_map(|mark| division.best(mark.slices));
        let fresh = division.best(0).into_iter().flat_map(|best| std::iter::repeat_n(best, self.whole()));
        let divided = divided.map(|(_, loss)| (0, loss));
        let mut harms: Vec<(i64, i64)> = divided.chain(fresh.map(|(_, loss)| (1, loss))).collect();
        harms.sort_unstable();
        let taken = harms.get(..usize::try_from(ask.gpus).ok()?)?;
        Some(taken.iter().fold((0, 0), |sum, harm| (sum.0 + harm.0, sum.1 + harm.1)))
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
            && (ask.gpus <= 0 || self.seen_by(ask).has_gpus(ask))
    }

    fn has_gpus(&self, ask: &Ask) -> bool {
        match &ask.mig {
            None => self.wide_enough(ask.gpu_milli_each) as i64 >= ask.gpus,
            Some(division) => self.instances(division).len() as i64 >= ask.gpus,
        }
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
        let seen = self.seen_by(ask);
        if let Some(division) = ask.mig.as_ref().filter(|_| ask.gpus > 0) {
            most = replicas(&seen.instances(division), ask.gpus, most);
        } else if ask.gpus > 0 && ask.gpu_milli_each > 0 {
            let slots: i64 = seen.holes.iter().map(|hole| hole / ask.gpu_milli_each).sum();
            most = most.min(slots / ask.gpus);
        }
        most
    }
}

fn free_milli(gpu: &GpuSlot) -> i64 {
    if gpu.slices == 0 { gpu.free_milli.clamp(0, GPU_MILLI) } else { 0 }
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
