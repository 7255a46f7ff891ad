//! Committed load at every element of a site's power tree, as it is and with any one root lost.
//!
//! A node's committed load is its idle power plus the largest power of its allotted GPUs, divided over its feeds by their
//! shares; with one root lost all of it falls on the feeds that still have one. Loads are in microwatts, rounded up, so that a
//! check never errs on the wrong side.

use std::collections::{BTreeMap, BTreeSet};

use solyx_schemas::events::decisions::{Limit, LimitKind};
use solyx_schemas::events::facility::{ElementState, PowerElementDeclared};
use solyx_schemas::events::nodes::FeedShare;
use solyx_schemas::ids::{ElementId, NodeId, SiteId};
use solyx_schemas::units::TimeUs;

use crate::rows::limit_of;
use crate::state::State;

const MICROWATTS: i64 = 1_000_000;
const SHARE_WHOLE: i64 = 1_000_000;

/// One element, or the site as a whole.
#[derive(Clone, Debug)]
struct Element {
    id: Option<ElementId>,
    limit_uw: Option<i64>,
    parents: Vec<Parent>,
    in_service: bool,
}

/// What feeds an element.
#[derive(Clone, Copy, Debug)]
enum Parent {
    /// Another element of the tree, by its place.
    Declared(usize),
    /// Something that nobody has declared, and whether it is in service.
    Undeclared(bool),
}

/// The power tree of a site with what is committed.
#[derive(Clone, Debug, Default)]
pub struct SitePower {
    elements: Vec<Element>,
    places: BTreeMap<ElementId, usize>,
    /// The elements, each before those that feed it.
    upwards: Vec<usize>,
    /// By scenario, then element: whether it has power.
    live: Vec<Vec<bool>>,
    /// By scenario, then element. Scenario 0 is as it is; the others each lose one root.
    load_uw: Vec<Vec<i64>>,
    lost: Vec<Option<ElementId>>,
    /// Per node: scenario, element, share of the node's load in millionths.
    paths: BTreeMap<NodeId, Vec<(usize, usize, i64)>>,
    committed_w: BTreeMap<NodeId, i64>,
}

/// An element whose limit is not enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overload {
    /// The element; absent for the site as a whole.
    pub element: Option<ElementId>,
    /// The root thought lost; absent when everything is in service.
    pub lost_root: Option<ElementId>,
    /// Load, W rounded up.
    pub load_w: i64,
    /// Limit, W.
    pub limit_w: i64,
}

impl Overload {
    /// As a limit of a decision.
    pub fn limit(&self, site: &SiteId) -> Limit {
        let element = self.element.as_ref().map_or("site", |e| e.as_str());
        let subject = match &self.lost_root {
            Some(root) => format!("{site}/{element}:without:{root}"),
            None => format!("{site}/{element}"),
        };
        limit_of(LimitKind::Power, &subject, self.load_w, self.limit_w, "W")
    }
}

impl SitePower {
    /// Load by scenario and element, µW, with the limits.
    pub fn loads(&self) -> Vec<(Option<ElementId>, Vec<i64>)> {
        self.lost.iter().cloned().zip(self.load_uw.iter().cloned()).collect()
    }

    /// The tree of a site, with nothing committed.
    pub fn of(state: &State, site: &SiteId) -> Self {
        let range = (site.clone(), ElementId::default())..;
        let declared: Vec<_> =
            state.elements.range(range).take_while(|((s, _), _)| s == site).map(|(_, element)| element).collect();
        let mut elements = vec![Element { id: None, limit_uw: None, parents: Vec::new(), in_service: true }];
        let mut lost = vec![None];
        let of_place = |(place, element): (usize, &&PowerElementDeclared)| (element.element.clone(), place + 1);
        let places: BTreeMap<ElementId, usize> = declared.iter().enumerate().map(of_place).collect();
        for element in &declared {
            let limit_uw = element.limit_w.0 * element.derating_milli.0 * (MICROWATTS / 1_000);
            let parent = |id: &ElementId| match places.get(id) {
                Some(place) => Parent::Declared(*place),
                None => Parent::Undeclared(in_service(state, site, id)),
            };
            elements.push(Element {
                id: Some(element.element.clone()),
                limit_uw: Some(limit_uw),
                parents: element.parents.iter().map(parent).collect(),
                in_service: in_service(state, site, &element.element),
            });
            if element.parents.is_empty() {
                lost.push(Some(element.element.clone()));
            }
        }
        if lost.len() < 3 {
            lost.truncate(1);
        }
        let load_uw = vec![vec![0; elements.len()]; lost.len()];
        let upwards = upwards(&elements);
        let live = lost.iter().map(|lost| live(&elements, &upwards, lost.as_ref())).collect();
        let mut tree = Self { elements, places, upwards, live, load_uw, lost, ..Self::default() };
        tree.refresh_limits(state, site);
        tree
    }

    /// Takes in the limits in force now.
    pub fn refresh_limits(&mut self, state: &State, site: &SiteId) {
        let now = state.now();
        for element in &mut self.elements {
            element.limit_uw = element.id.as_ref().and_then(|id| {
                let declared = state.elements.get(&(site.clone(), id.clone()))?;
                Some(declared.limit_w.0 * declared.derating_milli.0 * (MICROWATTS / 1_000))
            });
        }
        let in_force = |from: TimeUs, to: Option<TimeUs>| from <= now && to.is_none_or(|to| now < to);
        for (_, set) in
            state.power_limits.iter().filter(|(_, set)| set.site == *site && in_force(set.from_us, set.to_us))
        {
            let limit = set.limit_w.0 * MICROWATTS;
            if let Some(element) = self.elements.iter_mut().find(|element| element.id == set.element) {
                element.limit_uw = Some(element.limit_uw.map_or(limit, |own| own.min(limit)));
            }
        }
    }

    /// Puts a node in its place, with its load.
    pub fn set_node(&mut self, state: &State, site: &SiteId, node: &NodeId, feeds: &[FeedShare], load_w: i64) {
        if !self.paths.contains_key(node) {
            let paths = self.paths_of(state, site, feeds);
            self.paths.insert(node.clone(), paths);
        }
        let before = self.committed_w.insert(node.clone(), load_w).unwrap_or(0);
        self.shift(node, before, load_w);
    }

    /// Takes a node out, with its load.
    pub fn forget(&mut self, node: &NodeId) {
        let before = self.committed_w.remove(node).unwrap_or(0);
        self.shift(node, before, 0);
        self.paths.remove(node);
    }

    /// Load that is thought to come on top.
    pub fn beside(&self) -> Beside<'_> {
        Beside { power: self, more_uw: BTreeMap::new() }
    }

    fn shift(&mut self, node: &NodeId, before_w: i64, after_w: i64) {
        let Some(paths) = self.paths.get(node) else { return };
        for &(scenario, element, share) in paths {
            self.load_uw[scenario][element] += after_w * share - before_w * share;
        }
    }

    /// Load committed for a node, W.
    pub fn committed(&self, node: &NodeId) -> i64 {
        self.committed_w.get(node).copied().unwrap_or(0)
    }

    /// The element that could not carry so much more at these nodes together, if any.
    pub fn overload_with(&self, added: &BTreeMap<NodeId, i64>) -> Option<Overload> {
        let mut more: BTreeMap<(usize, usize), i64> = BTreeMap::new();
        for (node, added_w) in added.iter().filter(|(_, w)| **w > 0) {
            for &(scenario, element, share) in self.paths.get(node).into_iter().flatten() {
                *more.entry((scenario, element)).or_default() += added_w * share;
            }
        }
        more.into_iter().find_map(|((scenario, element), more)| self.overload(scenario, element, more))
    }

    /// The element that could not carry what is added at these nodes after their load has changed by so much, if any; with
    /// nothing added, any element whose load the change raises somewhere.
    pub fn overload_later(
        &self,
        changed_w: &BTreeMap<NodeId, i64>,
        added_w: &BTreeMap<NodeId, i64>,
    ) -> Option<Overload> {
        let mut more: BTreeMap<(usize, usize), (i64, bool)> = BTreeMap::new();
        let changed = changed_w.iter().map(|(node, w)| (node, *w, added_w.is_empty()));
        for (node, w, concerned) in changed.chain(added_w.iter().map(|(node, w)| (node, *w, true))) {
            for &(scenario, element, share) in self.paths.get(node).into_iter().flatten() {
                let entry = more.entry((scenario, element)).or_default();
                entry.0 += w * share;
                entry.1 |= concerned && w > 0;
            }
        }
        let concerned = more.into_iter().filter(|(_, (_, concerned))| *concerned);
        concerned.into_iter().find_map(|((scenario, element), (more, _))| self.overload(scenario, element, more))
    }

    /// Elements that carry more than they may now.
    pub fn overloads(&self) -> Vec<Overload> {
        let scenarios = 0..self.lost.len();
        scenarios
            .flat_map(|scenario| (0..self.elements.len()).filter_map(move |e| self.overload(scenario, e, 0)))
            .collect()
    }

    fn overload(&self, scenario: usize, element: usize, more_uw: i64) -> Option<Overload> {
        let limit = self.elements[element].limit_uw?;
        let load = self.load_uw[scenario][element] + more_uw;
        (load > limit).then(|| Overload {
            element: self.elements[element].id.clone(),
            lost_root: self.lost[scenario].clone(),
            load_w: (load + MICROWATTS - 1).div_euclid(MICROWATTS),
            limit_w: limit.div_euclid(MICROWATTS),
        })
    }

    /// Load of an overloaded element in its scenario and its limit, µW; none when it is not in the tree.
    pub fn load_and_limit_uw(&self, overload: &Overload) -> Option<(i64, i64)> {
        let element = self.elements.iter().position(|element| element.id == overload.element)?;
        let scenario = self.lost.iter().position(|lost| *lost == overload.lost_root)?;
        Some((self.load_uw[scenario][element], self.elements[element].limit_uw?))
    }

    /// Millionths of a node's load that pass through an overloaded element in its scenario.
    pub fn share_of(&self, overload: &Overload, node: &NodeId) -> i64 {
        let paths = self.paths.get(node).into_iter().flatten();
        let hit = |scenario: usize, element: usize| {
            self.lost[scenario] == overload.lost_root && self.elements[element].id == overload.element
        };
        paths.filter(|(scenario, element, _)| hit(*scenario, *element)).map(|(_, _, share)| share).sum()
    }

    /// Whether a node's load passes through an overloaded element in its scenario.
    pub fn carries(&self, overload: &Overload, node: &NodeId) -> bool {
        self.paths.get(node).into_iter().flatten().any(|&(scenario, element, share)| {
            share > 0 && self.lost[scenario] == overload.lost_root && self.elements[element].id == overload.element
        })
    }

    /// Whether a node that hangs on these feeds has power. One that hangs on none is not known to lack it.
    pub fn reaches(&self, state: &State, site: &SiteId, feeds: &[FeedShare]) -> bool {
        feeds.is_empty() || feeds.iter().any(|feed| self.is_live(state, site, &feed.element, 0))
    }

    fn is_live(&self, state: &State, site: &SiteId, id: &ElementId, scenario: usize) -> bool {
        match self.places.get(id) {
            Some(place) => self.live[scenario][*place],
            None => in_service(state, site, id),
        }
    }

    fn paths_of(&self, state: &State, site: &SiteId, feeds: &[FeedShare]) -> Vec<(usize, usize, i64)> {
        let mut paths = Vec::new();
        for scenario in 0..self.lost.len() {
            let mut shares = vec![0; self.elements.len()];
            shares[0] = SHARE_WHOLE;
            let live: Vec<&FeedShare> =
                feeds.iter().filter(|feed| self.is_live(state, site, &feed.element, scenario)).collect();
            let whole: i64 = live.iter().map(|feed| feed.share_milli.0).sum();
            let count = live.len() as i64;
            for feed in live {
                // Where only those are left that carry nothing otherwise, they carry all of it.
                let (part, of) = if whole > 0 { (feed.share_milli.0, whole) } else { (1, count) };
                if let Some(place) = self.places.get(&feed.element) {
                    shares[*place] += ceil_div(SHARE_WHOLE * part, of);
                }
            }
            self.push_up(&self.live[scenario], &mut shares);
            let used = shares.into_iter().enumerate().filter(|(_, share)| *share > 0);
            paths.extend(used.map(|(element, share)| (scenario, element, share)));
        }
        paths
    }

    /// Divides what each element carries evenly over those of its parents that have power.
    fn push_up(&self, live: &[bool], shares: &mut [i64]) {
        for &place in self.upwards.iter().filter(|place| **place > 0) {
            let share = shares[place];
            if share == 0 {
                continue;
            }
            let parents = self.elements[place].parents.iter().filter(|parent| parent.is_live(live));
            let count = parents.clone().count() as i64;
            for parent in parents {
                if let Parent::Declared(above) = parent {
                    shares[*above] += ceil_div(share, count);
                }
            }
        }
    }
}

impl Parent {
    fn is_live(self, live: &[bool]) -> bool {
        match self {
            Self::Declared(place) => live[place],
            Self::Undeclared(in_service) => in_service,
        }
    }
}

/// A site's power with load that is thought to come on top of what is committed.
pub struct Beside<'p> {
    power: &'p SitePower,
    /// By scenario and element, µW.
    more_uw: BTreeMap<(usize, usize), i64>,
}

impl Beside<'_> {
    /// Adds to the load of a node, or takes off it.
    pub fn add(&mut self, node: &NodeId, more_w: i64) {
        for &(scenario, element, share) in self.power.paths.get(node).into_iter().flatten() {
            *self.more_uw.entry((scenario, element)).or_default() += more_w * share;
        }
    }

    /// How many times so much more can be carried at a node, as often as `limit` at most.
    pub fn times(&self, node: &NodeId, each_w: i64, limit: i64) -> i64 {
        let paths = self.power.paths.get(node).into_iter().flatten().filter(|(.., share)| each_w > 0 && *share > 0);
        let carried = paths.filter_map(|&(scenario, element, share)| {
            let limit = self.power.elements[element].limit_uw?;
            let more = self.more_uw.get(&(scenario, element)).copied().unwrap_or(0);
            Some(((limit - self.power.load_uw[scenario][element] - more) / (each_w * share)).max(0))
        });
        carried.min().map_or(limit, |times| times.min(limit))
    }
}

fn in_service(state: &State, site: &SiteId, id: &ElementId) -> bool {
    let key = (site.clone(), id.clone());
    state.element_states.get(&key).is_none_or(|said| said.state == ElementState::InService)
}

/// The elements, each before those that feed it. What is declared in a circle is left out: it is not let in.
fn upwards(elements: &[Element]) -> Vec<usize> {
    let mut children = vec![0_usize; elements.len()];
    let above = |place: usize| {
        elements[place].parents.iter().filter_map(|parent| match parent {
            Parent::Declared(above) => Some(*above),
            Parent::Undeclared(_) => None,
        })
    };
    (0..elements.len()).flat_map(above).for_each(|above| children[above] += 1);
    let mut upwards: Vec<usize> = (0..elements.len()).filter(|place| children[*place] == 0).collect();
    let mut next = 0;
    while let Some(place) = upwards.get(next).copied() {
        next += 1;
        for above in above(place) {
            children[above] -= 1;
            if children[above] == 0 {
                upwards.push(above);
            }
        }
    }
    upwards
}

/// Which elements have power while one is lost: those in service that are roots or have a parent with power.
fn live(elements: &[Element], upwards: &[usize], lost: Option<&ElementId>) -> Vec<bool> {
    let mut live = vec![false; elements.len()];
    for &place in upwards.iter().rev() {
        let element = &elements[place];
        let fed = element.parents.is_empty() || element.parents.iter().any(|parent| parent.is_live(&live));
        live[place] = element.in_service && fed && (lost.is_none() || element.id.as_ref() != lost);
    }
    live
}

/// Whether an element that is fed by these would feed itself.
pub fn closes_circle(state: &State, site: &SiteId, element: &ElementId, parents: &[ElementId]) -> bool {
    let mut above: Vec<ElementId> = parents.to_vec();
    let mut seen = BTreeSet::new();
    while let Some(id) = above.pop() {
        if id == *element {
            return true;
        }
        if let Some(declared) = state.elements.get(&(site.clone(), id.clone()))
            && seen.insert(id)
        {
            above.extend(declared.parents.iter().cloned());
        }
    }
    false
}

fn ceil_div(a: i64, b: i64) -> i64 {
    (a + b - 1).div_euclid(b)
}
