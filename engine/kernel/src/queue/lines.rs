//! The jobs of one tenant and class that stand in line.

use std::collections::BTreeSet;
use std::ops::Bound;

use solyx_schemas::ids::JobId;

use super::{Shape, Turn};
use crate::rows::Arrival;

/// A place in line: what is asked for, whose turn it is, who it is.
pub type Place = (Shape, Turn, JobId);

/// Lines of jobs that ask for the same, each by turn. They lie in one set: where every job asks for something of its own, a set per
/// line would take ten times as much memory.
#[derive(Clone, Default)]
pub struct Lines(BTreeSet<Place>);

impl Lines {
    pub(super) fn insert(&mut self, shape: Shape, turn: Turn, id: &JobId) {
        self.0.insert((shape, turn, id.clone()));
    }

    pub(super) fn remove(&mut self, shape: Shape, turn: Turn, id: &JobId) {
        self.0.remove(&(shape, turn, id.clone()));
    }

    /// Whether nobody stands in any.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Everybody, line by line.
    pub fn iter(&self) -> impl Iterator<Item = &Place> {
        self.0.iter()
    }

    /// The first of every line.
    pub fn firsts(&self) -> impl Iterator<Item = &Place> {
        let after = |(shape, ..): &&Place| self.0.range(start_of(*shape + 1)..).next();
        std::iter::successors(self.0.first(), after)
    }

    /// A line from its beginning.
    pub fn line(&self, shape: Shape) -> impl Iterator<Item = &Place> {
        self.0.range(start_of(shape)..start_of(shape + 1))
    }

    /// The rest of a line, behind a place in it.
    pub fn behind(&self, place: &Place) -> impl Iterator<Item = &Place> {
        self.0.range((Bound::Excluded(place), Bound::Excluded(&start_of(place.0 + 1))))
    }
}

/// Before everybody of a shape.
fn start_of(shape: Shape) -> Place {
    let arrival = Arrival { epoch: i64::MIN, ..Arrival::default() };
    (shape, Turn { rank: i64::MIN, arrival }, JobId::default())
}
