//! A site's power tree in reading order: feeds first, each followed by what it feeds.

use std::collections::BTreeSet;

use solyx_projections::dcim::{ElementView, SiteView};
use solyx_schemas::ids::ElementId;

/// An element with its place in the tree.
pub struct Branch<'v> {
    /// Steps below a root.
    pub depth: usize,
    /// The element. One with two feeds stands below its first.
    pub element: &'v ElementView,
}

impl Branch<'_> {
    /// The least headroom with any one feed lost, and which; absent where there is only one feed.
    pub fn worst_loss(&self) -> Option<(i64, &ElementId)> {
        self.element.without.iter().map(|loss| (loss.headroom_w, &loss.lost)).min()
    }
}

/// All elements of a site.
pub fn tree(site: &SiteView) -> Vec<Branch<'_>> {
    let mut branches = Vec::new();
    let mut seen = BTreeSet::new();
    for root in site.elements.iter().filter(|element| element.parents.is_empty()) {
        grow(site, root, 0, &mut seen, &mut branches);
    }
    // What hangs in a circle, or below something that is not declared, is shown too.
    for element in &site.elements {
        grow(site, element, 0, &mut seen, &mut branches);
    }
    branches
}

fn grow<'v>(
    site: &'v SiteView,
    element: &'v ElementView,
    depth: usize,
    seen: &mut BTreeSet<&'v ElementId>,
    branches: &mut Vec<Branch<'v>>,
) {
    if !seen.insert(&element.element) {
        return;
    }
    branches.push(Branch { depth, element });
    for child in site.elements.iter().filter(|child| child.parents.first() == Some(&element.element)) {
        grow(site, child, depth + 1, seen, branches);
    }
}
