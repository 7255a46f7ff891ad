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

    /// Adds a node's load, W, to what its feeds and all above them carry while `lost` is out.
    pub(super) fn add(&self, loads: &mut Loads<'a>, feeds: &[FeedShare], load_w: i64, lost: Option<&ElementId>) {
        let live: Vec<&FeedShare> = feeds.iter().filter(|feed| self.leads_up(&feed.element, lost)).collect();
        let whole: i64 = live.iter().map(|feed| feed.share_milli.0).sum();
        for feed in live {
            let part = i128::from(load_w) * i128::from(UW_PER_W) * i128::from(feed.share_milli.0);
            let load_uw = ceil_div(part, i128::from(whole.max(1))) as i64;
            self.push_up(loads, &feed.element, load_uw, lost, &mut BTreeSet::new());
        }
    }

    /// Whether an element is in service and something above it, up to a root, is too.
    fn leads_up(&self, id: &ElementId, lost: Option<&ElementId>) -> bool {
        self.leads_up_past(id, lost, self.elements.len())
    }

    fn leads_up_past(&self, id: &ElementId, lost: Option<&ElementId>, levels: usize) -> bool {
        if lost == Some(id) {
            return false;
        }
        let Some(element) = self.elements.get(id) else { return true };
        let out = matches!(element.state, ElementState::Failed | ElementState::Maintenance);
        if out || levels == 0 {
            return false;
        }
        element.parents.is_empty() || element.parents.iter().any(|parent| self.leads_up_past(parent, lost, levels - 1))
    }

    fn push_up(
        &self,
        loads: &mut Loads<'a>,
        id: &ElementId,
        load_uw: i64,
        lost: Option<&ElementId>,
        below: &mut BTreeSet<ElementId>,
    ) {
        let Some((id, element)) = self.elements.get_key_value(id) else { return };
        // A tree that is declared in a circle carries a load once.
        if !below.insert((*id).clone()) {
            return;
        }
        *loads.entry(*id).or_insert(0) += load_uw;
        let live: Vec<&ElementId> = element.parents.iter().filter(|parent| self.leads_up(parent, lost)).collect();
        for parent in &live {
            let part = ceil_div(i128::from(load_uw), live.len() as i128) as i64;
            self.push_up(loads, parent, part, lost, below);
        }
        below.remove(*id);
    }
}

/// Microwatts as watts, rounded up.
pub(super) fn watts(load_uw: i64) -> i64 {
    ceil_div(i128::from(load_uw), i128::from(UW_PER_W)) as i64
}

fn ceil_div(dividend: i128, divisor: i128) -> i128 {
    (dividend + divisor - 1).div_euclid(divisor)
}
