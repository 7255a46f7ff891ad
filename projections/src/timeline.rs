//! Values over time, by zone and kind: revisions, holes, and what stands in for them, kept for as long as the log is.
//!
//! A higher revision replaces its interval (an overlap within one revision never counts, so it is not seen here). In a hole
//! the last value of the best kind that has one stands for at most 24 hours and is stale; after that there is none.

use serde::{Deserialize, Serialize};
use solyx_schemas::events::world::PriceKind;
use solyx_schemas::ids::ZoneId;
use solyx_schemas::units::{Currency, DAY_US, TimeUs};

use crate::rows::Rows;

/// How long the last value stands in for a missing one.
const STALE_MAX_US: i64 = DAY_US;

/// Zone, rank of the kind (the lowest is gone by first), start.
pub(crate) type Key = (ZoneId, u8, TimeUs);

/// Places of the kinds of price, the one to go by first: what the contract says, what was settled in the hour, what was settled the
/// day before. A forecast comes last, and costs nobody anything.
pub(crate) fn price_rank(kind: PriceKind) -> u8 {
    match kind {
        PriceKind::Tariff => 0,
        PriceKind::RealTime => 1,
        PriceKind::DayAhead => 2,
        PriceKind::Forecast | PriceKind::Unknown => 3,
    }
}

/// Kinds of price that somebody pays.
pub(crate) const PAID_KINDS: u8 = 3;

/// A value over an interval.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Interval {
    pub(crate) to: TimeUs,
    pub(crate) value: i64,
    pub(crate) revision: i64,
    pub(crate) currency: Option<Currency>,
}

/// A value found at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) value: i64,
    pub(crate) currency: Option<Currency>,
    /// It stands in for a missing one.
    pub(crate) stale: bool,
}

/// Puts in a value over [`from`, `new.to`).
pub(crate) fn insert(rows: &mut Rows<Key, Interval>, zone: &ZoneId, kind: u8, from: TimeUs, new: Interval) {
    let key = |at: TimeUs| (zone.clone(), kind, at);
    // The interval before `from` may reach into it.
    let first = before(rows, zone, kind, from).map_or(from, |(start, _)| start);
    let overlapping: Vec<(TimeUs, Interval)> = rows
        .from(&key(first))
        .take_while(|((z, k, start), _)| z == zone && *k == kind && *start < new.to)
        .filter(|(_, interval)| interval.to > from)
        .map(|((_, _, start), interval)| (*start, interval.clone()))
        .collect();
    let mut free = vec![(from, new.to)];
    for (start, interval) in overlapping {
        if interval.revision > new.revision {
            free = free.into_iter().flat_map(|piece| without(piece, (start, interval.to))).collect();
            continue;
        }
        rows.remove(&key(start));
        for (piece_from, to) in without((start, interval.to), (from, new.to)) {
            rows.insert(key(piece_from), Interval { to, ..interval.clone() });
        }
    }
    for (piece_from, to) in free {
        rows.insert(key(piece_from), Interval { to, ..new.clone() });
    }
}

/// The value at an instant, of the first of `kinds` that knows one; else the last of the first that is not too old.
pub(crate) fn at(rows: &Rows<Key, Interval>, zone: &ZoneId, kinds: u8, at: TimeUs) -> Option<Found> {
    let latest: Vec<&Interval> = (0..kinds)
        .filter_map(|kind| before(rows, zone, kind, TimeUs(at.0 + 1)).map(|(_, interval)| interval))
        .collect();
    let found = |interval: &Interval, stale| Found { value: interval.value, currency: interval.currency, stale };
    if let Some(known) = latest.iter().find(|interval| at < interval.to) {
        return Some(found(known, false));
    }
    latest.iter().find(|interval| at.since(interval.to).0 < STALE_MAX_US).map(|interval| found(interval, true))
}

/// The mean over [`from`, `to`), by time, of what is known there; stale where any of it stands in for something missing.
pub(crate) fn over(rows: &Rows<Key, Interval>, zone: &ZoneId, kinds: u8, from: TimeUs, to: TimeUs) -> Option<Found> {
    let mut bounds: Vec<TimeUs> = (0..kinds).flat_map(|kind| changes(rows, zone, kind, from, to)).collect();
    bounds.extend([from, to]);
    bounds.sort_unstable();
    bounds.dedup();
    let (mut sum, mut time, mut found) = (0, 0, None);
    for pair in bounds.windows(2) {
        let Some(value) = at(rows, zone, kinds, pair[0]) else { continue };
        let us = i128::from(pair[1].since(pair[0]).0);
        sum += i128::from(value.value) * us;
        time += us;
        let known: &mut Found = found.get_or_insert(value);
        known.stale |= value.stale;
    }
    // Half up; a mean lies between its values.
    found.map(|found| Found { value: ((2 * sum + time).div_euclid(2 * time.max(1))) as i64, ..found })
}

/// When values of a kind begin, end, and are too old to stand in for others, within an interval.
fn changes(rows: &Rows<Key, Interval>, zone: &ZoneId, kind: u8, from: TimeUs, to: TimeUs) -> Vec<TimeUs> {
    let key = |at: TimeUs| (zone.clone(), kind, at);
    let first = before(rows, zone, kind, from).map_or(from, |(start, _)| start);
    let within = rows.from(&key(first)).take_while(|((z, k, start), _)| z == zone && *k == kind && *start < to);
    let of_each = within.flat_map(|((.., start), row)| [*start, row.to, TimeUs(row.to.0.saturating_add(STALE_MAX_US))]);
    of_each.filter(|at| from < *at && *at < to).collect()
}

/// The last interval of a zone and kind that starts before an instant.
fn before<'a>(rows: &'a Rows<Key, Interval>, zone: &ZoneId, kind: u8, at: TimeUs) -> Option<(TimeUs, &'a Interval)> {
    let ((z, k, start), interval) = rows.before(&(zone.clone(), kind, at))?;
    (z == zone && *k == kind).then_some((*start, interval))
}

/// What is left of [from, to) without another interval.
fn without((from, to): (TimeUs, TimeUs), (cut_from, cut_to): (TimeUs, TimeUs)) -> Vec<(TimeUs, TimeUs)> {
    [(from, to.min(cut_from)), (from.max(cut_to), to)].into_iter().filter(|(from, to)| from < to).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const H: i64 = 3_600_000_000;

    fn put(rows: &mut Rows<Key, Interval>, kind: u8, from_h: i64, to_h: i64, value: i64, revision: i64) {
        let new = Interval { to: TimeUs(to_h * H), value, revision, currency: None };
        insert(rows, &"DE".into(), kind, TimeUs(from_h * H), new);
    }

    fn value(rows: &Rows<Key, Interval>, hour: i64) -> Option<(i64, bool)> {
        at(rows, &"DE".into(), 2, TimeUs(hour * H)).map(|found| (found.value, found.stale))
    }

    #[test]
    fn a_higher_revision_replaces_its_interval_and_a_lower_one_fills_only_what_is_free() {
        let mut rows = Rows::default();
        put(&mut rows, 0, 0, 10, 1, 0);
        put(&mut rows, 0, 4, 6, 2, 1);
        put(&mut rows, 0, 3, 12, 3, 0);
        let values: Vec<_> = [0, 3, 4, 5, 6, 11].map(|hour| value(&rows, hour).map(|(v, _)| v)).into();
        assert_eq!(values, [Some(1), Some(3), Some(2), Some(2), Some(3), Some(3)]);
    }

    #[test]
    fn an_hour_has_the_mean_of_what_is_known_in_it() {
        let mut rows = Rows::default();
        for (quarter, value) in [40, 80, 120, 160].into_iter().enumerate() {
            let from = quarter as i64 * H / 4;
            let new = Interval { to: TimeUs(from + H / 4), value, revision: 0, currency: None };
            insert(&mut rows, &"DE".into(), 0, TimeUs(from), new);
        }
        let mean = |from: i64, to: i64| over(&rows, &"DE".into(), 2, TimeUs(from), TimeUs(to)).map(|found| found.value);
        assert_eq!(mean(0, H), Some(100));
        assert_eq!(mean(-H / 2, H / 2), Some(60), "what is not known is left out");
        assert_eq!(mean(H / 8, H / 2), Some(67));
        assert_eq!(mean(-2 * H, -H), None);
    }

    #[test]
    fn a_hole_is_filled_for_a_day_by_the_best_kind_and_then_no_more() {
        let mut rows = Rows::default();
        put(&mut rows, 0, 0, 1, 10, 0);
        put(&mut rows, 1, 0, 3, 20, 0);
        assert_eq!(value(&rows, 0), Some((10, false)));
        assert_eq!(value(&rows, 2), Some((20, false)), "another kind that is known comes before a stale one");
        assert_eq!(value(&rows, 3), Some((10, true)));
        assert_eq!(value(&rows, 25), Some((20, true)), "the first kind is older than a day");
        assert_eq!(value(&rows, 27), None);
        assert_eq!(at(&rows, &"FR".into(), 2, TimeUs(0)), None);
    }
}
