//! Node choice for a gang as its layout says: within one domain, in segments, over few domains, or spread.

use std::collections::{BTreeMap, BTreeSet};

use solyx_schemas::events::jobs::TopologyLevel;
use solyx_schemas::ids::NodeId;

use super::cover::{Space, cover};
use super::layout::{Domain, Layout, above, domain_of};
use super::spread::Spread;
use crate::packing::{Area, Ask, Choice, Inventory, NodeHandle, Rule, Scope};
use crate::state::State;

/// Nodes with room, each with how many replicas.
type Rooms = Vec<(NodeHandle, i64)>;

/// A gang and where it looks.
#[derive(Clone, Copy)]
pub struct Seeker<'a> {
    /// The state.
    pub state: &'a State,
    /// Names of nodes that take work.
    pub names: &'a BTreeMap<NodeHandle, NodeId>,
    /// The rule of node choice.
    pub rule: Rule,
    /// What a replica asks for.
    pub ask: &'a Ask,
    /// How many.
    pub replicas: i64,
    /// The pool's number.
    pub pool: u32,
    /// How its failure domains are counted.
    pub spread: Option<Spread<'a>>,
}

impl<'a> Seeker<'a> {
    /// Nodes and GPUs for the whole gang laid out like this, or none; nothing is taken.
    pub fn choose(
        &self,
        inventory: &mut Inventory,
        layout: Layout,
        accepts: &dyn Fn(NodeHandle) -> bool,
    ) -> Option<Vec<Choice>> {
        if layout.required.is_none() && layout.preferred.is_none() {
            return self.anywhere(inventory, layout, None, accepts, self.replicas);
        }
        let rooms = self.rooms(inventory, accepts);
        let Some(level) = layout.required else {
            let level = layout.preferred?;
            return match layout.spread {
                // Spread goes before nearness: within one domain when it can be kept there.
                Some(_) => self
                    .in_one(inventory, layout.without_preference(), level, &rooms)
                    .or_else(|| self.anywhere(inventory, layout, None, accepts, self.replicas)),
                None => self.in_parts(inventory, level, 1, &rooms),
            };
        };
        match layout.segment {
            Some(segment) => self.in_parts(inventory, level, segment, &rooms),
            None => self.in_one(inventory, layout, level, &rooms),
        }
    }

    /// In the order of nodes' names: that of classes and handles depends on how they came to be.
    pub fn rooms(&self, inventory: &Inventory, accepts: &dyn Fn(NodeHandle) -> bool) -> Rooms {
        let mut rooms = inventory.rooms(self.ask, Scope::of(&[Area::Pool(self.pool)]).accepting(accepts), i64::MAX);
        rooms.sort_by_key(|(node, _)| self.names.get(node));
        rooms
    }

    fn domain(&self, level: TopologyLevel, node: NodeHandle) -> Option<Domain<'a>> {
        let name = self.names.get(&node)?;
        Some(domain_of(self.state, level, name, self.state.nodes.get(name)?.report.as_ref()?))
    }

    /// Nodes with room by domain, with the room of all.
    fn grouped(&self, level: TopologyLevel, rooms: &Rooms) -> BTreeMap<Domain<'a>, (i64, Rooms)> {
        let mut groups: BTreeMap<Domain<'a>, (i64, Rooms)> = BTreeMap::new();
        for (node, room) in rooms {
            let Some(domain) = self.domain(level, *node) else { continue };
            let group = groups.entry(domain).or_default();
            group.0 = group.0.saturating_add(*room);
            group.1.push((*node, *room));
        }
        groups
    }

    /// The domain with the least room left over takes the gang, so that large rooms stay whole.
    fn in_one(
        &self,
        inventory: &mut Inventory,
        layout: Layout,
        level: TopologyLevel,
        rooms: &Rooms,
    ) -> Option<Vec<Choice>> {
        let groups = self.grouped(level, rooms);
        let mut fitting: Vec<(i64, Domain<'_>, Rooms)> = groups
            .into_iter()
            .filter(|(_, (room, _))| *room >= self.replicas)
            .map(|(domain, (room, rooms))| (room, domain, rooms))
            .collect();
        fitting.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
        fitting.into_iter().find_map(|(_, domain, rooms)| {
            if let (Some(preferred), None) = (layout.preferred, layout.spread) {
                return self.in_parts(inventory, preferred, 1, &rooms);
            }
            let nodes: BTreeSet<NodeHandle> = rooms.iter().map(|(node, _)| *node).collect();
            self.anywhere(inventory, layout, Some((level, domain)), &|node| nodes.contains(&node), self.replicas)
        })
    }

    /// Over the fewest domains that hold it in whole segments.
    fn in_parts(
        &self,
        inventory: &mut Inventory,
        level: TopologyLevel,
        segment: i64,
        rooms: &Rooms,
    ) -> Option<Vec<Choice>> {
        let groups = self.grouped(level, rooms);
        let higher = |rooms: &Rooms| match (above(level), rooms.first()) {
            (Some(level), Some((node, _))) => self.domain(level, *node),
            _ => Some((false, "")),
        };
        let space = |(domain, (room, rooms)): (&Domain<'a>, &(i64, Rooms))| {
            // More than the gang counts too: the tightest is taken.
            Some(Space { domain: *domain, above: higher(rooms)?, room: room / segment })
        };
        let spaces: Vec<Space<Domain<'a>>> = groups.iter().filter_map(space).collect();
        let mut gang = Vec::new();
        for (domain, segments) in cover(&spaces, self.replicas / segment)? {
            let nodes: BTreeSet<NodeHandle> = groups[&domain].1.iter().map(|(node, _)| *node).collect();
            let part =
                self.anywhere(inventory, Layout::default(), None, &|node| nodes.contains(&node), segments * segment)?;
            gang.extend(part);
        }
        Some(gang)
    }

    /// Among these nodes, spread if the layout says so.
    fn anywhere(
        &self,
        inventory: &mut Inventory,
        layout: Layout,
        inside: Option<(TopologyLevel, Domain<'a>)>,
        accepts: &dyn Fn(NodeHandle) -> bool,
        replicas: i64,
    ) -> Option<Vec<Choice>> {
        let area = [Area::Pool(self.pool)];
        let scope = Scope::of(&area).accepting(accepts);
        match self.spread.filter(|_| layout.spread.is_some()) {
            Some(spread) => self.spread_out(inventory, &Spread { inside, ..spread }, accepts),
            None if replicas == 1 => inventory.choose(self.rule, self.ask, scope).map(|choice| vec![choice]),
            None => inventory.choose_gang(self.rule, self.ask, replicas, scope),
        }
    }

    /// One replica after the other, each on the best node of the domains that have the fewest so far.
    fn spread_out(
        &self,
        inventory: &mut Inventory,
        spread: &Spread<'a>,
        accepts: &dyn Fn(NodeHandle) -> bool,
    ) -> Option<Vec<Choice>> {
        let area = [Area::Pool(self.pool)];
        let mut loads: BTreeMap<Domain<'a>, i64> = BTreeMap::new();
        let mut gang: Vec<Choice> = Vec::new();
        let mut level = 0;
        while (gang.len() as i64) < self.replicas {
            let load_of = |node: NodeHandle| {
                let domain = self.names.get(&node).and_then(|name| spread.domain(name));
                domain.map(|domain| loads.get(&domain).copied().unwrap_or(0))
            };
            let open = |node: NodeHandle| accepts(node) && load_of(node).is_some_and(|load| load <= level);
            let chosen = inventory.choose(self.rule, self.ask, Scope::of(&area).accepting(&open));
            let Some(choice) = chosen.filter(|choice| inventory.allocate(choice, self.ask).is_ok()) else {
                // Domains that have room have more than this; those with less have none.
                level += 1;
                if level > loads.values().max().copied().unwrap_or(-1) {
                    break;
                }
                continue;
            };
            let domain = self.names.get(&choice.node).and_then(|name| spread.domain(name));
            domain.into_iter().for_each(|domain| *loads.entry(domain).or_default() += 1);
            gang.push(choice);
        }
        for choice in gang.iter().rev() {
            let released = inventory.release(choice, self.ask);
            assert!(released.is_ok(), "what was just taken can be given back");
        }
        let whole = gang.len() as i64 == self.replicas;
        (whole && spread.skew(&loads) <= spread.over.1).then_some(gang)
    }

    /// The most replicas that domains hold as the layout says: in one, or in whole segments over all.
    pub fn most(&self, inventory: &Inventory, layout: Layout) -> i64 {
        let rooms = self.rooms(inventory, &|_| true);
        let groups = self.grouped(layout.required.unwrap_or(TopologyLevel::Site), &rooms);
        let held = groups.values().map(|(room, _)| (*room).min(self.replicas));
        match layout.segment {
            Some(segment) => held.map(|room| room / segment * segment).fold(0, i64::saturating_add),
            None => held.max().unwrap_or(0),
        }
    }
}
