//! Who is kept out by prices, and until when.

use solyx_histories::*;
use solyx_schemas::events::Event;
use solyx_schemas::events::decisions::LimitKind;
use solyx_schemas::events::world::{EnergyPriced, PriceKind};
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

#[test]
fn who_is_kept_out_by_a_price_that_does_not_convert_starts_when_it_is_over() {
    let price = |hour: i64, revision: i64, currency: Currency| -> Event {
        EnergyPriced {
            zone: ZoneId::from("DE-LU"),
            from_us: TimeUs(START + hour * HOUR_US),
            to_us: TimeUs(START + (hour + 1) * HOUR_US),
            price_micros_per_mwh: RateMicros(100_000_000),
            currency,
            kind: PriceKind::DayAhead,
            revision: Count(revision),
            published_us: TimeUs(START),
            ..EnergyPriced::default()
        }
        .into()
    };
    let euro = Currency::parse("EUR").unwrap();
    let kept_out = || {
        let mut world = World::with_nodes(1);
        let hours = [(0, usd()), (1, euro), (2, euro), (3, usd()), (4, usd())];
        world.step(vec![ordered_by("srpt").into()]);
        world.step(hours.map(|(hour, currency)| price(hour, 1, currency)).into());
        let outputs = world.step(vec![job("a", "red", 1, 8, 2).into()]);
        assert_eq!(held(&outputs, "a").map(|held| held.limit.kind), Some(LimitKind::Price), "{outputs:?}");
        world
    };
    let mut world = kept_out();
    let left_us = START + 3 * HOUR_US - world.now;
    assert!(placed(&world.advance(left_us - 1), "a").is_none());
    assert!(placed(&world.advance(1), "a").is_some(), "nothing else has happened meanwhile");
    // A revision in the cell's currency ends it, too.
    let mut world = kept_out();
    let outputs = world.step(vec![price(1, 2, usd()), price(2, 2, usd())]);
    assert!(placed(&outputs, "a").is_some(), "{outputs:?}");
}
