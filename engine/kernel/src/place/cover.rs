//! The fewest domains that hold so many units (replicas or whole segments), and among such choices the one that crosses
//! least above.

use std::collections::BTreeMap;

/// A domain that has room.
#[derive(Clone, Debug)]
pub struct Space<D> {
    /// Its name.
    pub domain: D,
    /// The domain above in which it lies; equal where crossing above does not matter.
    pub above: D,
    /// Units that have room.
    pub room: i64,
}

/// Which domains take how many units each, or none when all together have no room. The fullest rooms are taken first and the
/// last is the tightest that holds the rest, which is as few domains as can be. Where domains under one above are as few, those
/// of the one with the least room left are taken.
pub fn cover<D: Ord + Copy>(spaces: &[Space<D>], units: i64) -> Option<Vec<(D, i64)>> {
    let all: Vec<&Space<D>> = spaces.iter().filter(|space| space.room > 0).collect();
    let mut under: BTreeMap<D, Vec<&Space<D>>> = BTreeMap::new();
    for space in &all {
        under.entry(space.above).or_default().push(space);
    }
    let total = |spaces: &[&Space<D>]| spaces.iter().map(|space| space.room).fold(0, i64::saturating_add);
    let totals: BTreeMap<D, i64> = under.iter().map(|(above, spaces)| (*above, total(spaces))).collect();
    let anywhere = fullest_first(all, units, &totals)?;
    let alone = under.into_iter().filter_map(|(above, spaces)| {
        let choice = fullest_first(spaces, units, &totals)?;
        (choice.len() == anywhere.len()).then_some(((left_over(&choice, units), totals[&above], above), choice))
    });
    let best = alone.min_by(|a, b| a.0.cmp(&b.0)).map(|(_, choice)| choice);
    Some(taken(best.unwrap_or(anywhere), units))
}

/// Room left over in the chosen domains.
fn left_over<D>(choice: &[&Space<D>], units: i64) -> i64 {
    choice.iter().map(|space| space.room).fold(0, i64::saturating_add) - units
}

/// Equal rooms are taken where most room is together.
fn fullest_first<'s, D: Ord + Copy>(
    mut spaces: Vec<&'s Space<D>>,
    units: i64,
    totals: &BTreeMap<D, i64>,
) -> Option<Vec<&'s Space<D>>> {
    spaces.sort_by_key(|space| (-space.room, -totals[&space.above], space.above, space.domain));
    let mut chosen: Vec<&Space<D>> = Vec::new();
    let mut missing = units;
    for (i, space) in spaces.iter().enumerate() {
        if space.room >= missing {
            // Of those that hold the rest, the tightest; it may be far down the order.
            let holds = spaces[i..].iter().filter(|other| other.room >= missing);
            let crosses = |other: &Space<D>| !chosen.is_empty() && chosen.iter().all(|own| own.above != other.above);
            let tightest =
                holds.min_by_key(|other| (crosses(other), other.room, totals[&other.above], other.domain))?;
            chosen.push(tightest);
            return Some(chosen);
        }
        chosen.push(space);
        missing -= space.room;
    }
    None
}

fn taken<D: Copy>(choice: Vec<&Space<D>>, units: i64) -> Vec<(D, i64)> {
    let mut missing = units;
    let mut taken = Vec::new();
    for space in choice {
        let takes = space.room.min(missing);
        taken.push((space.domain, takes));
        missing -= takes;
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spaces(of: &[(&'static str, &'static str, i64)]) -> Vec<Space<&'static str>> {
        of.iter().map(|(above, domain, room)| Space { domain: *domain, above: *above, room: *room }).collect()
    }

    #[test]
    fn one_domain_takes_all_and_it_is_the_tightest() {
        let spaces = spaces(&[("s1", "a", 9), ("s1", "b", 4), ("s2", "c", 5)]);
        assert_eq!(cover(&spaces, 4), Some(vec![("b", 4)]));
        assert_eq!(cover(&spaces, 5), Some(vec![("c", 5)]));
    }

    #[test]
    fn the_fullest_go_first_and_the_tightest_takes_the_rest() {
        let spaces = spaces(&[("s", "a", 9), ("s", "b", 4), ("s", "c", 2), ("s", "d", 7)]);
        assert_eq!(cover(&spaces, 11), Some(vec![("a", 9), ("c", 2)]));
        assert_eq!(cover(&spaces, 23), None);
    }

    #[test]
    fn equal_spans_stay_under_one_domain_above() {
        let spaces = spaces(&[("s1", "a", 5), ("s2", "b", 4), ("s2", "c", 4)]);
        assert_eq!(cover(&spaces, 8), Some(vec![("b", 4), ("c", 4)]));
        // A domain less is worth more than a spine less.
        assert_eq!(cover(&spaces, 5), Some(vec![("a", 5)]));
    }
}
