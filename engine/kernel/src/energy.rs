//! Energy prices and carbon over time: intervals by revision, holes, and what stands in for them.
//!
//! Same zone, kind and revision overlapping is rejected; a higher revision replaces its interval. In a hole the last value of
//! the kind stands for at most [`STALE_MAX`] and is marked stale; after that there is none.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use solyx_schemas::events::world::{CarbonReported, CarbonStatus, EnergyPriced, PriceKind};
use solyx_schemas::ids::{Name, ZoneId};
use solyx_schemas::units::{Currency, DAY_US, DurationUs, HOUR_US, TimeUs};

use crate::epoch::Rejection;
use crate::rows::Interval;
use crate::state::State;
use crate::table::Table;

/// How long the last value stands in for a missing one.
pub const STALE_MAX: DurationUs = DurationUs(DAY_US);
/// Intervals that ended longer ago than this are forgotten.
const FORGET_AFTER_US: i64 = 8 * DAY_US;

/// A table of series: zone, kind and start of the interval.
pub type Series = Table<(ZoneId, Name, TimeUs), Interval>;

/// A value at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value {
    /// The value, in the series' unit.
    pub value: i64,
    /// Currency of a price.
    pub currency: Option<Currency>,
    /// It stands in for a missing one.
    pub stale: bool,
    /// The instant until which it holds.
    pub until_us: TimeUs,
}

/// Kinds of prices, the one to go by first: where a contract says what is paid, what exchanges settle costs nothing.
const PRICE_KINDS: [PriceKind; 4] = [PriceKind::Tariff, PriceKind::RealTime, PriceKind::DayAhead, PriceKind::Forecast];
/// Kinds of carbon values, the one to go by first: average by location.
const CARBON_KINDS: [&str; 2] = ["ACTUAL/AVERAGE/LOCATION", "FORECAST/AVERAGE/LOCATION"];

static PRICE_NAMES: LazyLock<[Name; 4]> = LazyLock::new(|| PRICE_KINDS.map(|kind| Name::from(kind.as_str())));
static CARBON_NAMES: LazyLock<[Name; 2]> = LazyLock::new(|| CARBON_KINDS.map(Name::from));

/// Takes in a price.
pub fn insert_price(state: &mut State, event: &EnergyPriced) -> Result<(), Rejection> {
    let interval = Interval {
        to_us: event.to_us,
        value: event.price_micros_per_mwh.0,
        currency: Some(event.currency),
        revision: event.revision.0,
        published_us: event.published_us,
    };
    let now = state.now();
    insert(&mut state.prices, &event.zone, event.kind.as_str(), event.from_us, interval, now)
}

/// Takes in a carbon value.
pub fn insert_carbon(state: &mut State, event: &CarbonReported) -> Result<(), Rejection> {
    let interval = Interval {
        to_us: event.to_us,
        value: event.mg_per_kwh.0,
        currency: None,
        revision: event.revision.0,
        published_us: event.published_us,
    };
    let status = if event.status == CarbonStatus::Actual { "ACTUAL" } else { "FORECAST" };
    let kind = format!("{status}/{}/{}", event.signal, event.method);
    let now = state.now();
    insert(&mut state.carbon, &event.zone, &kind, event.from_us, interval, now)
}

/// The price of energy in a zone at an instant, as far as it is known.
pub fn price_at(state: &State, zone: &ZoneId, at: TimeUs) -> Option<Value> {
    lookup(&state.prices, zone, &PRICE_NAMES[..], at)
}

/// The carbon intensity of a zone at an instant, as far as it is known.
pub fn carbon_at(state: &State, zone: &ZoneId, at: TimeUs) -> Option<Value> {
    lookup(&state.carbon, zone, &CARBON_NAMES[..], at)
}

fn lookup(series: &Series, zone: &ZoneId, kinds: &[Name], at: TimeUs) -> Option<Value> {
    if series.is_empty() {
        return None;
    }
    let mut stale = None;
    for kind in kinds {
        let before = series.range(..=(zone.clone(), kind.clone(), at)).next_back();
        let latest = before.filter(|((of, named, _), _)| of == zone && named == kind);
        let Some((_, Interval { to_us, value, currency, .. })) = latest else { continue };
        let (value, currency) = (*value, *currency);
        // Most often the first kind has a value, and the others need not be looked at.
        if at < *to_us {
            return Some(Value { value, currency, stale: false, until_us: *to_us });
        }
        if at.since(*to_us) < STALE_MAX && stale.is_none() {
            stale = Some(Value { value, currency, stale: true, until_us: to_us.after(STALE_MAX) });
        }
    }
    stale
}

/// Zones of which prices are known.
pub fn priced_zones(state: &State) -> BTreeSet<ZoneId> {
    state.prices.iter().map(|((zone, ..), _)| zone.clone()).collect()
}

/// When the price of a zone changes next, where one of its prices is in a currency that does not convert: something begins, is over,
/// or is too old to stand in for a missing one. What begins may be of another kind and end what stood in.
pub fn next_change_of_unconverted(state: &State, zone: &ZoneId, converts: impl Fn(Currency) -> bool) -> Option<TimeUs> {
    let now = state.now();
    let (mut keeps_out, mut next) = (false, None);
    for kind in PRICE_NAMES.iter() {
        let key = |at: i64| (zone.clone(), kind.clone(), TimeUs(at));
        // What began before is at least as long over by now.
        let before = state.prices.range(key(0)..=key((now.0 - STALE_MAX.0).max(0))).next_back();
        let first = before.map_or(0, |((.., from), _)| from.0);
        for ((.., from), interval) in state.prices.range(key(first)..=key(i64::MAX)) {
            let instants = [*from, interval.to_us, interval.to_us.after(STALE_MAX)];
            let Some(change) = instants.into_iter().find(|at| *at > now) else { continue };
            keeps_out |= interval.currency.is_some_and(|currency| !converts(currency));
            next = Some(next.map_or(change, |next: TimeUs| next.min(change)));
        }
    }
    next.filter(|_| keeps_out)
}

/// The end of the clock hour that an instant lies in.
pub fn hour_end(at: TimeUs) -> TimeUs {
    TimeUs((at.0.div_euclid(HOUR_US) + 1) * HOUR_US)
}

fn insert(
    series: &mut Series,
    zone: &ZoneId,
    kind: &str,
    from: TimeUs,
    new: Interval,
    now: TimeUs,
) -> Result<(), Rejection> {
    let kind = Name::from(kind);
    let key = |at: TimeUs| (zone.clone(), kind.clone(), at);
    let overlapping: Vec<(TimeUs, Interval)> = series
        .range(key(TimeUs(0))..key(new.to_us))
        .filter(|(_, interval)| interval.to_us > from)
        .map(|((_, _, start), interval)| (*start, interval.clone()))
        .collect();
    if let Some((start, same)) = overlapping.iter().find(|(_, interval)| interval.revision == new.revision) {
        return Err(Rejection::rejected(format!(
            "field from_us: found [{}, {}) of revision {}, expected no overlap with [{}, {}) of the same zone, kind and revision",
            from.0, new.to_us.0, new.revision, start.0, same.to_us.0
        )));
    }
    // What a higher revision has already replaced stays as it is; of the rest the new interval takes its part.
    let mut free = vec![(from, new.to_us)];
    for (start, interval) in &overlapping {
        if interval.revision > new.revision {
            free = free.into_iter().flat_map(|piece| without(piece, (*start, interval.to_us))).collect();
            continue;
        }
        series.remove(&key(*start));
        for (piece_from, piece_to) in without((*start, interval.to_us), (from, new.to_us)) {
            series.insert(key(piece_from), Interval { to_us: piece_to, ..interval.clone() });
        }
    }
    for (piece_from, piece_to) in free {
        series.insert(key(piece_from), Interval { to_us: piece_to, ..new.clone() });
    }
    let horizon = TimeUs((now.0 - FORGET_AFTER_US).max(0));
    let old: Vec<TimeUs> = series
        .range(key(TimeUs(0))..key(horizon))
        .take_while(|(_, interval)| interval.to_us < horizon)
        .map(|((_, _, start), _)| *start)
        .collect();
    for start in old {
        series.remove(&key(start));
    }
    Ok(())
}

/// What is left of [from, to) without another interval.
fn without((from, to): (TimeUs, TimeUs), (cut_from, cut_to): (TimeUs, TimeUs)) -> Vec<(TimeUs, TimeUs)> {
    [(from, to.min(cut_from)), (from.max(cut_to), to)].into_iter().filter(|(from, to)| from < to).collect()
}
