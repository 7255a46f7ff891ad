//! Classes of one bin, ordered by free CPU: the least left over that holds an ask, and the least name within a range, by few
//! looks.
//!
//! A treap (Seidel and Aragon, "Randomized Search Trees", 1996), with weights that are a mix of the state's number. Each
//! subtree knows the most memory and scratch space free in it and its least name, so that what cannot hold an ask and what
//! cannot be the least name is never gone into. Shapes decide nothing: what is asked has one answer.

use solyx_schemas::ids::NodeId;
use std::ops::Range;

use super::node::Ask;
use super::state::{NodeState, StateId};

const NONE: u32 = u32::MAX;

/// What classes are ordered by: free CPU, memory, scratch space, then the number, which tells them apart.
pub(super) type Key = (i64, i64, i64, StateId);

/// The key of a state.
pub(super) fn key(state: &NodeState, id: StateId) -> Key {
    (state.cpu_free_milli, state.memory_free_mib, state.scratch_free_gib, id)
}

/// An ordered set of classes.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    root: u32,
    items: Vec<Item>,
    free: Vec<u32>,
}

#[derive(Clone, Debug)]
struct Item {
    key: Key,
    /// The class's least name.
    first: NodeId,
    weight: u32,
    left: u32,
    right: u32,
    /// Over the subtree.
    memory_mib: i64,
    scratch_gib: i64,
    least: NodeId,
}

impl Default for Tree {
    fn default() -> Self {
        Self { root: NONE, items: Vec::new(), free: Vec::new() }
    }
}

impl Tree {
    pub fn is_empty(&self) -> bool {
        self.root == NONE
    }

    /// The most CPU and the most memory that is free in a class, not in the same one perhaps; none without classes.
    pub fn most(&self) -> Option<(i64, i64)> {
        let root = self.items.get(self.root as usize)?;
        let mut last = root;
        while let Some(next) = self.items.get(last.right as usize) {
            last = next;
        }
        Some((last.key.0, root.memory_mib))
    }

    /// Puts a class in that is not there yet.
    pub fn insert(&mut self, key: Key, first: NodeId) {
        let item = Item {
            key,
            weight: mix(key.3),
            left: NONE,
            right: NONE,
            memory_mib: key.1,
            scratch_gib: key.2,
            least: first.clone(),
            first,
        };
        let new = match self.free.pop() {
            Some(at) => {
                self.items[at as usize] = item;
                at
            }
            None => {
                self.items.push(item);
                (self.items.len() - 1) as u32
            }
        };
        self.root = self.put(self.root, new);
    }

    /// Takes a class out.
    pub fn remove(&mut self, key: Key) {
        self.root = self.take(self.root, key);
    }

    /// A class has another least name.
    pub fn rename(&mut self, key: Key, first: NodeId) {
        self.name(self.root, key, &first);
    }

    /// The first class from some CPU on that holds the rest of an ask and for which `accepts` is true.
    pub fn first_fit(&self, cpu_milli: i64, ask: &Ask, accepts: &mut dyn FnMut(StateId) -> bool) -> Option<Key> {
        self.first(self.root, cpu_milli, ask, accepts)
    }

    /// Calls `better` with classes whose CPU is in a range, that hold the rest of an ask and whose least name is not behind
    /// the limit, until none is left; `better` gives the limit from there on, when it has moved.
    pub fn least_names(
        &self,
        cpu_milli: Range<i64>,
        ask: &Ask,
        mut limit: Option<NodeId>,
        better: &mut dyn FnMut(StateId) -> Option<NodeId>,
    ) {
        self.least(self.root, &cpu_milli, ask, &mut limit, better);
    }

    /// Calls `seen` with every class that holds CPU, memory and scratch space of an ask until it says false.
    pub fn each_fit(&self, ask: &Ask, seen: &mut dyn FnMut(StateId) -> bool) -> bool {
        self.each(self.root, ask, seen)
    }

    fn holds(&self, at: u32, ask: &Ask) -> bool {
        let item = &self.items[at as usize];
        item.memory_mib >= ask.memory_mib && item.scratch_gib >= ask.scratch_gib
    }

    fn first(&self, at: u32, cpu_milli: i64, ask: &Ask, accepts: &mut dyn FnMut(StateId) -> bool) -> Option<Key> {
        if at == NONE || !self.holds(at, ask) {
            return None;
        }
        let item = &self.items[at as usize];
        if item.key.0 >= cpu_milli {
            if let Some(found) = self.first(item.left, cpu_milli, ask, accepts) {
                return Some(found);
            }
            if own_fits(item, ask) && accepts(item.key.3) {
                return Some(item.key);
            }
        }
        self.first(item.right, cpu_milli, ask, accepts)
    }

    fn least(
        &self,
        at: u32,
        cpu_milli: &Range<i64>,
        ask: &Ask,
        limit: &mut Option<NodeId>,
        better: &mut dyn FnMut(StateId) -> Option<NodeId>,
    ) {
        if at == NONE || !self.holds(at, ask) {
            return;
        }
        let item = &self.items[at as usize];
        if limit.as_ref().is_some_and(|limit| item.least >= *limit) {
            return;
        }
        if item.key.0 < cpu_milli.start {
            return self.least(item.right, cpu_milli, ask, limit, better);
        }
        if item.key.0 >= cpu_milli.end {
            return self.least(item.left, cpu_milli, ask, limit, better);
        }
        if own_fits(item, ask)
            && limit.as_ref().is_none_or(|limit| item.first < *limit)
            && let Some(moved) = better(item.key.3)
        {
            *limit = Some(moved);
        }
        let least = |at: u32| self.items.get(at as usize).map(|item| &item.least);
        let (mut one, mut other) = (item.left, item.right);
        if one == NONE || other != NONE && least(other) < least(one) {
            (one, other) = (other, one);
        }
        self.least(one, cpu_milli, ask, limit, better);
        self.least(other, cpu_milli, ask, limit, better);
    }

    fn each(&self, at: u32, ask: &Ask, seen: &mut dyn FnMut(StateId) -> bool) -> bool {
        if at == NONE || !self.holds(at, ask) {
            return true;
        }
        let item = &self.items[at as usize];
        if item.key.0 >= ask.cpu_milli && (!self.each(item.left, ask, seen) || own_fits(item, ask) && !seen(item.key.3))
        {
            return false;
        }
        self.each(item.right, ask, seen)
    }

    /// Sums up a subtree from its halves.
    fn sum_up(&mut self, at: u32) {
        let item = &self.items[at as usize];
        let (mut memory_mib, mut scratch_gib, mut least) = (item.key.1, item.key.2, &item.first);
        for half in [item.left, item.right] {
            if let Some(half) = self.items.get(half as usize) {
                memory_mib = memory_mib.max(half.memory_mib);
                scratch_gib = scratch_gib.max(half.scratch_gib);
                least = least.min(&half.least);
            }
        }
        if item.least != *least {
            let least = least.clone();
            self.items[at as usize].least = least;
        }
        let item = &mut self.items[at as usize];
        (item.memory_mib, item.scratch_gib) = (memory_mib, scratch_gib);
    }

    fn put(&mut self, at: u32, new: u32) -> u32 {
        if at == NONE {
            return new;
        }
        let (here, item) = (&self.items[at as usize], &self.items[new as usize]);
        let (key, goes_left) = (item.key, item.key < here.key);
        if (item.weight, item.key.3) > (here.weight, here.key.3) {
            let (left, right) = self.split(at, key);
            (self.items[new as usize].left, self.items[new as usize].right) = (left, right);
            self.sum_up(new);
            return new;
        }
        if goes_left {
            let left = self.put(here.left, new);
            self.items[at as usize].left = left;
        } else {
            let right = self.put(here.right, new);
            self.items[at as usize].right = right;
        }
        self.sum_up(at);
        at
    }

    /// What is below a key, and what is not.
    fn split(&mut self, at: u32, key: Key) -> (u32, u32) {
        if at == NONE {
            return (NONE, NONE);
        }
        let (left, right) = (self.items[at as usize].left, self.items[at as usize].right);
        let halves = if self.items[at as usize].key < key {
            let (low, high) = self.split(right, key);
            self.items[at as usize].right = low;
            (at, high)
        } else {
            let (low, high) = self.split(left, key);
            self.items[at as usize].left = high;
            (low, at)
        };
        self.sum_up(at);
        halves
    }

    fn take(&mut self, at: u32, key: Key) -> u32 {
        if at == NONE {
            return NONE;
        }
        let (here, left, right) = {
            let item = &self.items[at as usize];
            (item.key, item.left, item.right)
        };
        if here == key {
            self.free.push(at);
            return self.join(left, right);
        }
        if key < here {
            let left = self.take(left, key);
            self.items[at as usize].left = left;
        } else {
            let right = self.take(right, key);
            self.items[at as usize].right = right;
        }
        self.sum_up(at);
        at
    }

    fn join(&mut self, left: u32, right: u32) -> u32 {
        let (Some(low), Some(high)) = (self.items.get(left as usize), self.items.get(right as usize)) else {
            return if left == NONE { right } else { left };
        };
        if (low.weight, low.key.3) > (high.weight, high.key.3) {
            let joined = self.join(low.right, right);
            self.items[left as usize].right = joined;
            self.sum_up(left);
            left
        } else {
            let joined = self.join(left, high.left);
            self.items[right as usize].left = joined;
            self.sum_up(right);
            right
        }
    }

    fn name(&mut self, at: u32, key: Key, first: &NodeId) {
        if at == NONE {
            return;
        }
        let item = &mut self.items[at as usize];
        let next = match key.cmp(&item.key) {
            std::cmp::Ordering::Less => item.left,
            std::cmp::Ordering::Greater => item.right,
            std::cmp::Ordering::Equal => {
                item.first = first.clone();
                NONE
            }
        };
        self.name(next, key, first);
        self.sum_up(at);
    }
}

fn own_fits(item: &Item, ask: &Ask) -> bool {
    item.key.1 >= ask.memory_mib && item.key.2 >= ask.scratch_gib
}

/// The finalizer of MurmurHash3.
fn mix(number: u32) -> u32 {
    let mut mixed = number.wrapping_add(0x9E37_79B9);
    mixed = (mixed ^ (mixed >> 16)).wrapping_mul(0x85EB_CA6B);
    mixed = (mixed ^ (mixed >> 13)).wrapping_mul(0xC2B2_AE35);
    mixed ^ (mixed >> 16)
}
