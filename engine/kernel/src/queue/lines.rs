//! The jobs of one tenant and class that stand in line.

use std::collections::BTreeMap;
use std::ops::Bound;

use solyx_schemas::events::decisions::LimitKind;
use solyx_schemas::ids::JobId;

use super::{Group, Shape, Turn};

/// A place in line: what is asked for, whose turn it is, who it is.
pub type Place = (Shape, Turn, JobId);

/// The first of a line, in the order of turns.
pub type Head = (Turn, JobId, Shape);

/// The limit that a job was last told of.
pub type Told = Option<LimitKind>;

/// Lines of jobs that ask for the same, each by turn. They lie in one map: where every job asks for something of its own, a set
/// per line would take ten times as much memory.
#[derive(Clone, Default)]
pub struct Lines {
    places: BTreeMap<Place, Told>,
    /// The first of every line, by what a promised share looks at.
    firsts: BTreeMap<Group, BTreeMap<Head, Told>>,
}

impl Lines {
    pub(super) fn insert(&mut self, group: Group, (shape, turn, id): Place, told: Told) {
        let first = self.line(shape).next().map(|((_, turn, id), _)| (*turn, id.clone()));
        if first.as_ref().is_none_or(|(first, of)| (turn, &id) < (*first, of)) {
            let firsts = self.firsts.entry(group).or_default();
            if let Some((turn, id)) = first {
                firsts.remove(&(turn, id, shape));
            }
            firsts.insert((turn, id.clone(), shape), told);
        }
        self.places.insert((shape, turn, id), told);
    }

    pub(super) fn remove(&mut self, group: Group, place: Place) {
        self.places.remove(&place);
        let (shape, turn, id) = place;
        let next = self.line(shape).next().map(|((_, turn, id), told)| ((*turn, id.clone(), shape), *told));
        let Some(firsts) = self.firsts.get_mut(&group) else { return };
        if firsts.remove(&(turn, id, shape)).is_none() {
            return;
        }
        firsts.extend(next);
        if firsts.is_empty() {
            self.firsts.remove(&group);
        }
    }

    pub(super) fn tell(&mut self, group: Group, place: Place, kind: LimitKind) {
        let Some(told) = self.places.get_mut(&place) else { return };
        *told = Some(kind);
        let (shape, turn, id) = place;
        if let Some(told) = self.firsts.get_mut(&group).and_then(|firsts| firsts.get_mut(&(turn, id, shape))) {
            *told = Some(kind);
        }
    }

    /// Has every line be of the group that it is of now.
    pub(super) fn regroup(&mut self, group: impl Fn(Shape) -> Group) {
        for (head, told) in std::mem::take(&mut self.firsts).into_values().flatten() {
            self.firsts.entry(group(head.2)).or_default().insert(head, told);
        }
    }

    /// Whether nobody stands in any.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Everybody, line by line.
    pub fn iter(&self) -> impl Iterator<Item = (&Place, &Told)> {
        self.places.iter()
    }

    /// Groups that somebody is of.
    pub fn groups(&self) -> impl Iterator<Item = Group> {
        self.firsts.keys().copied()
    }

    /// The first of every line of a group in the order of turns, behind one of them.
    pub fn firsts_behind(&self, group: Group, after: Option<&Head>) -> impl Iterator<Item = (&Head, &Told)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.firsts.get(&group).into_iter().flat_map(move |firsts| firsts.range::<Head, _>((from, Bound::Unbounded)))
    }

    /// The first of every line.
    pub fn firsts(&self) -> impl Iterator<Item = (&Head, &Told)> {
        self.firsts.values().flatten()
    }

    /// What a job was last told, if it stands in line.
    pub fn told(&self, (turn, id, shape): &Head) -> Option<Told> {
        self.places.get(&(*shape, *turn, id.clone())).copied()
    }

    /// A line from its beginning.
    pub fn line(&self, shape: Shape) -> impl Iterator<Item = (&Place, &Told)> {
        self.places.range(start_of(shape)..start_of(shape + 1))
    }

    /// The rest of a line, behind a place in it.
    pub fn behind(&self, place: &Place) -> impl Iterator<Item = (&Place, &Told)> {
        self.places.range((Bound::Excluded(place), Bound::Excluded(&start_of(place.0 + 1))))
    }
}

/// Before everybody of a shape.
fn start_of(shape: Shape) -> Place {
    (shape, Turn::FIRST, JobId::default())
}
