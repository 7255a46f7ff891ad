//! Who is kept out by prices, and until when.

use solyx_histories::*;
use solyx_schemas::events::Event;
use solyx_schemas::events::decisions::LimitKind;
use solyx_schemas::events::policy::{CellDeclared, CostWeightsSet, ExchangeRateSet, OwnedFirst};
use solyx_schemas::events::world::{EnergyPriced, PriceKind};
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

/// A price of Germany from an hour of the history to another.
fn priced(kind: PriceKind, hours: (i64, i64), revision: i64, currency: Currency) -> Event {
    EnergyPriced {
        zone: ZoneId::from("DE-LU"),
        from_us: TimeUs(START + hours.0 * HOUR_US),
        to_us: TimeUs(START + hours.1 * HOUR_US),
        price_micros_per_mwh: RateMicros(100_000_000),
        currency,
        kind,
        revision: Count(revision),
        published_us: TimeUs(START),
        ..EnergyPriced::default()
    }
    .into()
}

fn euro() -> Currency {
    Currency::parse("EUR").unwrap()
}

/// A cell without an exchange rate, in which these prices keep `a` out, and that `a` starts `hours` after the start by itself.
fn is_kept_out_until(prices: Vec<Event>, hours: i64) {
    let mut world = kept_out_by(prices);
    let left_us = START + hours * HOUR_US - world.now;
    assert!(placed(&world.advance(left_us - 1), "a").is_none());
    assert!(placed(&world.advance(1), "a").is_some(), "nothing else has happened meanwhile");
}

fn kept_out_by(prices: Vec<Event>) -> World {
    let mut world = World::with_nodes(1);
    world.step(vec![ordered_by("srpt").into()]);
    let outputs = world.step(prices);
    assert_eq!(outputs, []);
    let outputs = world.step(vec![job("a", "red", 1, 8, 2).into()]);
    assert_eq!(held(&outputs, "a").map(|held| held.limit.kind), Some(LimitKind::Price), "{outputs:?}");
    world
}

#[test]
fn who_is_kept_out_by_a_price_that_does_not_convert_starts_when_it_is_over() {
    let hours = [(0, usd()), (1, euro()), (2, euro()), (3, usd()), (4, usd())];
    let prices = || hours.map(|(hour, currency)| priced(PriceKind::DayAhead, (hour, hour + 1), 1, currency)).into();
    is_kept_out_until(prices(), 3);
    // A revision in the cell's currency ends it, too.
    let mut world = kept_out_by(prices());
    let revised = [1, 2].map(|hour| priced(PriceKind::DayAhead, (hour, hour + 1), 2, usd()));
    let outputs = world.step(revised.into());
    assert!(placed(&outputs, "a").is_some(), "{outputs:?}");
}

#[test]
fn a_price_that_only_stands_in_for_a_missing_one_keeps_out_until_there_is_another() {
    let prices = vec![priced(PriceKind::RealTime, (0, 1), 1, euro()), priced(PriceKind::DayAhead, (3, 9), 1, usd())];
    is_kept_out_until(prices, 3);
    is_kept_out_until(vec![priced(PriceKind::RealTime, (0, 1), 1, euro())], 25);
}

#[test]
fn another_currency_of_the_cell_asks_who_was_kept_out() {
    let mut world = kept_out_by(vec![priced(PriceKind::DayAhead, (0, 9), 1, euro())]);
    let first = base_events().into_iter().find_map(|event| match event {
        Event::CellDeclared(cell) => Some(*cell),
        _ => None,
    });
    let outputs = world.step(vec![CellDeclared { reference_currency: euro(), ..first.unwrap() }.into()]);
    assert!(placed(&outputs, "a").is_some(), "{outputs:?}");
}

#[test]
fn weights_that_do_not_convert_keep_out_until_there_is_a_rate_whatever_they_weigh() {
    for carbon_micros_per_kg in [0, 80_000].map(RateMicros) {
        let weights = CostWeightsSet {
            scope: Name::from("cell"),
            from_us: TimeUs(START),
            currency: euro(),
            carbon_micros_per_kg,
            owned_first: OwnedFirst::Forced,
            ..CostWeightsSet::default()
        };
        let mut world = kept_out_by(vec![weights.into()]);
        assert!(placed(&world.advance(30 * HOUR_US), "a").is_none());
        let rate = ExchangeRateSet {
            from_currency: euro(),
            to_currency: usd(),
            numerator: Count(11),
            denominator: Count(10),
            effective_from_us: TimeUs(world.now),
            ..ExchangeRateSet::default()
        };
        let outputs = world.step(vec![rate.into()]);
        assert!(placed(&outputs, "a").is_some(), "{outputs:?}");
    }
}
