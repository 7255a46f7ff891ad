//! The inventory itself: nodes in, nodes out, free amounts taken and given back.

use std::collections::{BTreeMap, BTreeSet};

use super::kinds::Kinds;
use super::market::Market;
use super::mig::Slices;
use super::node::{Ask, Choice, GPU_MILLI, NO_DOMAIN, NodeHandle, NodeSpec, PackingError};
use super::prices::{Fleet, Prices};
use super::score::{Memory, Scorer};
use super::shelf::{Area, Shelf};
use super::state::{NodeState, StateId, States};

/// Nodes by state, for node choice. Derived: it is rebuilt from the kernel's state and is no part of any digest.
#[derive(Clone, Debug)]
pub struct Inventory {
    nodes: Vec<Option<Node>>,
    free: Vec<NodeHandle>,
    pub(super) states: States,
    pub(super) shelves: BTreeMap<Area, Shelf>,
    /// Domains by pool.
    pub(super) domains: BTreeSet<(u32, u32)>,
    /// Free thousandths of usable GPUs by pool and model.
    free_gpu_milli: BTreeMap<(u32, u32), i64>,
    pub(super) scorer: Scorer,
    pub(super) memory: Memory,
}

#[derive(Clone, Debug)]
struct Node {
    spec: NodeSpec,
    state: StateId,
}

impl Default for Inventory {
    fn default() -> Self {
        Self::new(&Kinds::default())
    }
}

impl Inventory {
    /// An empty one that expects these kinds.
    pub fn new(kinds: &Kinds) -> Self {
        Self {
            nodes: Vec::new(),
            free: Vec::new(),
            states: States::default(),
            shelves: BTreeMap::new(),
            domains: BTreeSet::new(),
            free_gpu_milli: BTreeMap::new(),
            scorer: Scorer::new(kinds),
            memory: Memory::default(),
        }
    }

    /// Other kinds are expected from now on.
    pub fn set_kinds(&mut self, kinds: &Kinds) {
        self.scorer = Scorer::new(kinds);
        self.memory.forget();
    }

    /// Has [`Rule::Solyx`](super::Rule::Solyx) go by the priced values of a plan, whose kinds are expected from now on. Without
    /// prices it goes by expected fragmentation.
    pub fn set_prices(&mut self, prices: &Prices) {
        self.set_kinds(&Kinds::new(prices.kinds.iter().map(|(kind, _)| kind.clone())));
        let mut market = Market::of(prices);
        for (state, _) in self.states.iter() {
            market.admit(state);
        }
        self.scorer.market = Some(market);
    }

    /// The nodes as prices see them.
    pub fn fleet(&self) -> Fleet {
        Fleet::of(self.states.iter())
    }

    /// What a node is worth under the prices in force, millionths of a GPU; none without prices.
    pub fn value(&self, handle: NodeHandle) -> Option<i64> {
        let state = self.states.get(self.state_of(handle)?);
        self.scorer.market.as_ref()?.value(state, state.cpu_free_milli, &state.holes)
    }

    /// A node comes in. Names must differ.
    pub fn add(&mut self, spec: NodeSpec) -> NodeHandle {
        let handle = match self.free.pop() {
            Some(handle) => handle,
            None => {
                self.nodes.push(None);
                NodeHandle((self.nodes.len() - 1) as u32)
            }
        };
        self.shelve(handle, spec);
        handle
    }

    /// A node goes, for good or while nothing may be placed there.
    pub fn remove(&mut self, handle: NodeHandle) -> Option<NodeSpec> {
        let spec = self.unshelve(handle)?;
        self.free.push(handle);
        Some(spec)
    }

    /// A node is something else than before. False when there is none.
    pub fn set(&mut self, handle: NodeHandle, spec: NodeSpec) -> bool {
        let known = self.unshelve(handle).is_some();
        if known {
            self.shelve(handle, spec);
        }
        known
    }

    /// The node as it is now.
    pub fn get(&self, handle: NodeHandle) -> Option<&NodeSpec> {
        self.nodes.get(handle.0 as usize)?.as_ref().map(|node| &node.spec)
    }

    /// Takes what one replica asks, from the chosen GPUs.
    pub fn allocate(&mut self, choice: &Choice, ask: &Ask) -> Result<(), PackingError> {
        let node = self.get(choice.node).ok_or(PackingError::UnknownNode)?;
        let wide = |at: usize, index: &u8| {
            let slot = node.gpus.get(usize::from(*index));
            slot.is_some_and(|gpu| match slices_at(ask, choice, at) {
                None => gpu.usable && gpu.slices == 0 && gpu.free_milli >= ask.gpu_milli_each && gpu.lets_in(ask),
                Some(slices) => {
                    let open = gpu.is_whole() || gpu.slices != 0;
                    slices != 0 && gpu.usable && open && gpu.slices & slices == 0 && gpu.lets_in(ask)
                }
            })
        };
        let twice = |(at, index): (usize, &u8)| choice.gpus[..at].contains(index);
        let fits = self.state_of(choice.node).is_some_and(|state| self.states.get(state).fits(ask));
        if !fits
            || choice.gpus.len() as i64 != ask.gpus.max(0)
            || !choice.gpus.iter().enumerate().all(|(at, index)| wide(at, index))
            || choice.gpus.iter().enumerate().any(twice)
        {
            return Err(PackingError::DoesNotFit);
        }
        let mut spec = self.unshelve(choice.node).ok_or(PackingError::UnknownNode)?;
        for (at, index) in choice.gpus.iter().enumerate() {
            let gpu = &mut spec.gpus[usize::from(*index)];
            if gpu.is_whole() && ask.shares() {
                (gpu.owner, gpu.kept) = (ask.tenant, ask.apart);
            }
            match slices_at(ask, choice, at) {
                None => gpu.free_milli -= ask.gpu_milli_each,
                Some(slices) => (gpu.slices, gpu.free_milli) = (gpu.slices | slices, 0),
            }
        }
        spec.cpu_free_milli -= ask.cpu_milli;
        spec.memory_free_mib -= ask.memory_mib;
        spec.scratch_free_gib -= ask.scratch_gib;
        spec.replicas += 1;
        spec.closed |= ask.exclusive;
        self.shelve(choice.node, spec);
        Ok(())
    }

    /// Gives back what one replica had taken.
    pub fn release(&mut self, choice: &Choice, ask: &Ask) -> Result<(), PackingError> {
        let node = self.get(choice.node).ok_or(PackingError::UnknownNode)?;
        let mut spec = node.clone();
        for (at, index) in choice.gpus.iter().enumerate() {
            let Some(gpu) = spec.gpus.get_mut(usize::from(*index)) else { return Err(PackingError::NotAllocated) };
            match slices_at(ask, choice, at) {
                None if gpu.slices == 0 && gpu.free_milli + ask.gpu_milli_each <= GPU_MILLI => {
                    gpu.free_milli += ask.gpu_milli_each;
                }
                Some(slices) if slices != 0 && gpu.slices & slices == slices => {
                    gpu.slices &= !slices;
                    gpu.free_milli = if gpu.slices == 0 { GPU_MILLI } else { 0 };
                }
                _ => return Err(PackingError::NotAllocated),
            }
            if gpu.is_whole() {
                (gpu.owner, gpu.kept) = (0, false);
            }
        }
        spec.cpu_free_milli += ask.cpu_milli;
        spec.memory_free_mib += ask.memory_mib;
        spec.scratch_free_gib += ask.scratch_gib;
        spec.replicas = spec.replicas.checked_sub(1).ok_or(PackingError::NotAllocated)?;
        spec.closed &= !ask.exclusive;
        self.set(choice.node, spec);
        Ok(())
    }

    /// Nodes in it.
    pub fn len(&self) -> usize {
        self.nodes.len() - self.free.len()
    }

    /// Whether there is no node.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All nodes, by handle.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeHandle, &NodeSpec)> {
        self.nodes.iter().enumerate().filter_map(|(i, node)| Some((NodeHandle(i as u32), &node.as_ref()?.spec)))
    }

    /// Free thousandths of usable GPUs: pool, model, amount.
    pub fn free_gpu_milli(&self) -> impl Iterator<Item = (u32, u32, i64)> + '_ {
        self.free_gpu_milli.iter().map(|((pool, model), free)| (*pool, *model, *free))
    }

    /// Expected fragmentation of a node as a fraction: Σ over typical kinds of count × idle thousandths of GPU that a
    /// replica of this kind cannot use, over the sum of counts (0 when no kind is known).
    pub fn fragmentation(&self, handle: NodeHandle) -> Option<(i64, i64)> {
        let state = self.states.get(self.state_of(handle)?);
        Some(self.scorer.fragmentation(state))
    }

    /// The state's number of a node that is present.
    pub(super) fn state_of(&self, handle: NodeHandle) -> Option<StateId> {
        Some(self.nodes.get(handle.0 as usize)?.as_ref()?.state)
    }

    fn shelve(&mut self, handle: NodeHandle, spec: NodeSpec) {
        let state = self.states.enter(NodeState::of(&spec));
        let generation = self.states.generation(state);
        if let Some(market) = &mut self.scorer.market {
            market.admit(self.states.get(state));
        }
        for area in areas(&spec) {
            let shelf = self.shelves.entry(area).or_default();
            shelf.insert(state, self.states.get(state), generation, &spec.name, handle);
        }
        if spec.domain != NO_DOMAIN {
            self.domains.insert((spec.pool, spec.domain));
        }
        *self.free_gpu_milli.entry((spec.pool, spec.model)).or_default() += free_gpu_milli(&spec);
        self.nodes[handle.0 as usize] = Some(Node { spec, state });
    }

    fn unshelve(&mut self, handle: NodeHandle) -> Option<NodeSpec> {
        let Node { spec, state } = self.nodes.get_mut(handle.0 as usize)?.take()?;
        for area in areas(&spec) {
            if let Some(shelf) = self.shelves.get_mut(&area)
                && shelf.remove(state, self.states.get(state), &spec.name, handle)
            {
                self.shelves.remove(&area);
                if area == Area::Domain(spec.domain) {
                    self.domains.remove(&(spec.pool, spec.domain));
                }
            }
        }
        self.states.leave(state);
        *self.free_gpu_milli.entry((spec.pool, spec.model)).or_default() -= free_gpu_milli(&spec);
        Some(spec)
    }
}

/// Slices of an instance that a choice has on the GPU it lists at this place; none where no MIG profile is asked for.
fn slices_at(ask: &Ask, choice: &Choice, at: usize) -> Option<Slices> {
    let division = ask.mig.as_ref()?;
    Some(choice.starts.get(at).and_then(|start| division.slices_at(i64::from(*start))).unwrap_or(0))
}

fn free_gpu_milli(spec: &NodeSpec) -> i64 {
    spec.gpus.iter().filter(|gpu| gpu.usable && gpu.slices == 0).map(|gpu| gpu.free_milli.max(0)).sum()
}

fn areas(spec: &NodeSpec) -> impl Iterator<Item = Area> {
    let domain = (spec.domain != NO_DOMAIN).then_some(Area::Domain(spec.domain));
    [Area::Pool(spec.pool)].into_iter().chain(domain)
}
