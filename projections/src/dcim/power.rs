//! Load at every element of a site's power tree: as it is, and with any one root lost.
//!
//! The rule is the kernel's: a node's load divides over its feeds by their shares, and over an element's parents evenly; with
//! a root lost all of it falls on what still leads to another. Loads are carried in microwatts and rounded up, so that
//! headroom is never shown larger than it is.

use std::collections::{BTreeMap, BTreeSet};

use solyx_schemas::events::facility::ElementState;
use solyx_schemas::events::nodes::FeedShare;
use solyx_schemas::ids::ElementId;

use super::state::Element;

/// Microwatts in a watt.
const UW_PER_W: i64 = 1_000_000;

/// A power tree of one site.
pub(super) struct Tree<'a> {
    pub(super) elements: BTreeMap<&'a ElementId, &'a Element>,
}

/// Loads by element, µW.
pub(super) type Loads<'a> = BTreeMap<&'a ElementId, i64>;

impl<'a> Tree<'a> {
    /// The roots whose loss is looked at: all of them where there are two or more.
    pub(super) fn roots(&self) -> Vec<&'a ElementId> {
        let roots: Vec<_> =
            self.elements.iter().filter(|(_, element)| element.parents.is_empty()).map(|(id, _)| *id).collect();
        if roots.len() < 2 { Vec::new() } else { roots }
    }

    /// What every element carries of these nodes' loads, W, while `lost` is out.
    pub(super) fn loads<'n>(
        &self,
        nodes: impl Iterator<Item = (&'n [FeedShare], i64)>,
        lost: Option<&ElementId>,
    ) -> Loads<'a> {
        let upwards = self.upwards();
        let fed = self.fed(&upwards, lost);
        // What nobody has declared has power.
        let has_power = |id: &ElementId| fed.contains(id) || !self.elements.contains_key(id) && lost != Some(id);
        let mut loads = Loads::new();
        for (feeds, load_w) in nodes {
            let live: Vec<&FeedShare> = feeds.iter().filter(|feed| has_power(&feed.element)).collect();
            let whole: i64 = live.iter().map(|feed| feed.share_milli.0).sum();
            let count = live.len() as i64;
            for feed in live {
                // Where only those are left that carry nothing otherwise, they carry all of it.
                let (part, of) = if whole > 0 { (feed.share_milli.0, whole) } else { (1, count) };
                let part = i128::from(load_w) * i128::from(UW_PER_W) * i128::from(part);
                if let Some((id, _)) = self.elements.get_key_value(&feed.element) {
                    *loads.entry(*id).or_insert(0) += ceil_div(part, i128::from(of)) as i64;
                }
            }
        }
        for id in upwards {
            let Some(load_uw) = loads.get(id).copied() else { continue };
            let live: Vec<&ElementId> = self.elements[id].parents.iter().filter(|parent| has_power(parent)).collect();
            for parent in &live {
                if let Some((above, _)) = self.elements.get_key_value(*parent) {
                    *loads.entry(*above).or_insert(0) += ceil_div(i128::from(load_uw), live.len() as i128) as i64;
                }
            }
        }
        loads
    }

    /// The elements, each before those that feed it. There are no circles: the kernel lets none in.
    fn upwards(&self) -> Vec<&'a ElementId> {
        let mut below: BTreeMap<&ElementId, usize> = BTreeMap::new();
        for parent in self.elements.values().flat_map(|element| &element.parents) {
            *below.entry(parent).or_default() += 1;
        }
        let mut upwards: Vec<&'a ElementId> =
            self.elements.keys().copied().filter(|id| !below.contains_key(*id)).collect();
        let mut next = 0;
        while let Some(id) = upwards.get(next).copied() {
            next += 1;
            for parent in &self.elements[id].parents {
                let left = below.entry(parent).or_default();
                *left -= 1;
                if *left == 0 {
                    upwards.extend(self.elements.get_key_value(parent).map(|(id, _)| *id));
                }
            }
        }
        upwards
    }

    /// The elements that are in service and have something above them, up to a root, that is too.
    fn fed(&self, upwards: &[&'a ElementId], lost: Option<&ElementId>) -> BTreeSet<&'a ElementId> {
        let mut fed = BTreeSet::new();
        for id in upwards.iter().rev().copied() {
            let element = self.elements[id];
            let out = matches!(element.state, ElementState::Failed | ElementState::Maintenance);
            let has_power = |parent: &ElementId| {
                fed.contains(parent) || !self.elements.contains_key(parent) && lost != Some(parent)
            };
            if lost != Some(id) && !out && (element.parents.is_empty() || element.parents.iter().any(has_power)) {
                fed.insert(id);
            }
        }
        fed
    }
}

/// Microwatts as watts, rounded up.
pub(super) fn watts(load_uw: i64) -> i64 {
    ceil_div(i128::from(load_uw), i128::from(UW_PER_W)) as i64
}

fn ceil_div(dividend: i128, divisor: i128) -> i128 {
    (dividend + divisor - 1).div_euclid(divisor)
}
