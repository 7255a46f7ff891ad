//! Prices of energy, carbon, links and traffic, each known only once it has been published.

use std::collections::BTreeMap;

use solyx_schemas::events::world::*;
use solyx_schemas::units::*;

use super::models::Place;
use super::plan::Plan;
use super::world::{World, money, say};

/// Price of energy by hour of the day, thousandths of a zone's typical one: cheap at night and in the sun, dear at dusk.
const PRICE_SHAPE_MILLI: [i64; 24] = [
    720, 680, 650, 640, 660, 760, 980, 1_180, 1_240, 1_100, 900, 760, 640, 600, 640, 780, 980, 1_260, 1_520, 1_560,
    1_380, 1_120, 940, 820,
];
/// Carbon by hour of the day, thousandths of a zone's typical one.
const CARBON_SHAPE_MILLI: [i64; 24] = [
    1_080, 1_090, 1_100, 1_110, 1_100, 1_060, 1_020, 960, 880, 800, 740, 700, 680, 690, 730, 800, 900, 1_020, 1_140,
    1_200, 1_190, 1_160, 1_130, 1_100,
];
/// Hour of the day at which tomorrow's prices come out.
const DAY_AHEAD_HOUR: i64 = 12;

pub(super) fn build(plan: &Plan, world: &mut World<'_>) {
    let mut zones: BTreeMap<&str, &Place> = BTreeMap::new();
    for site in &plan.sites {
        zones.entry(site.place.zone).or_insert(site.place);
    }
    for (zone, place) in &zones {
        energy(plan, zone, place, world);
        carbon(plan, zone, place, world);
    }
    network(plan, world);
}

fn hour_of_day(at: TimeUs) -> usize {
    (at.0.rem_euclid(DAY_US) / HOUR_US) as usize
}

/// Noon of the day before an hour.
fn noon_before(at: TimeUs) -> TimeUs {
    TimeUs(at.0.div_euclid(DAY_US) * DAY_US - DAY_US + DAY_AHEAD_HOUR * HOUR_US)
}

fn energy(plan: &Plan, zone: &str, place: &Place, world: &mut World<'_>) {
    for (n, from) in plan.hours(plan.start, plan.close).enumerate() {
        let id = format!("{zone}/{n}");
        let shape = PRICE_SHAPE_MILLI[hour_of_day(from)] + plan.luck.between("price", &id, -120, 160);
        // The sun of a windy noon pushes prices below nothing.
        let negative = (11..15).contains(&hour_of_day(from)) && plan.luck.chance("price-negative", &id, 80);
        let per_mwh = if negative { -place.energy_per_mwh * 250 } else { place.energy_per_mwh * shape };
        let mut price = |id: &str, kind, micros, revision, published: TimeUs| {
            say!(
                world,
                published,
                "energy",
                id,
                EnergyPriced {
                    zone: zone.into(),
                    from_us: from,
                    to_us: TimeUs(from.0 + HOUR_US),
                    price_micros_per_mwh: RateMicros(micros),
                    currency: money(place.currency),
                    kind,
                    revision: Count(revision),
                    published_us: published,
                }
            );
        };
        // One hour in a hundred was never published.
        if plan.luck.chance("price-hole", &id, 10) {
            continue;
        }
        let published = noon_before(from);
        price(&id, PriceKind::DayAhead, per_mwh * 1_000, 0, published);
        if plan.luck.chance("price-revised", &id, 20) {
            let again = TimeUs(published.0 + 90 * 60 * SECOND_US);
            price(&format!("{id}/1"), PriceKind::DayAhead, per_mwh * 1_020, 1, again);
        }
        if plan.luck.chance("price-real-time", &id, 300) {
            let micros = per_mwh * plan.luck.between("price-real-time-by", &id, 850, 1_250);
            price(&format!("{id}/real-time"), PriceKind::RealTime, micros, 0, from);
        }
    }
}

fn carbon(plan: &Plan, zone: &str, place: &Place, world: &mut World<'_>) {
    for (n, from) in plan.hours(plan.start, plan.close).enumerate() {
        let id = format!("{zone}/{n}");
        let to = TimeUs(from.0 + HOUR_US);
        let shape = CARBON_SHAPE_MILLI[hour_of_day(from)] + plan.luck.between("carbon", &id, -80, 80);
        let actual = place.carbon_g_per_kwh * shape;
        let mut report = |id: &str, mg, status, method, revision, published: TimeUs| {
            say!(
                world,
                published,
                "carbon",
                id,
                CarbonReported {
                    zone: zone.into(),
                    from_us: from,
                    to_us: to,
                    mg_per_kwh: CarbonIntensityMgPerKwh(mg),
                    status,
                    signal: CarbonSignal::Average,
                    method,
                    revision: Count(revision),
                    published_us: published,
                }
            );
        };
        let guess = actual * plan.luck.between("carbon-guess", &id, 900, 1_100) / 1_000;
        let (grid, contract) = (CarbonMethod::Location, CarbonMethod::Market);
        report(&format!("{id}/forecast"), guess, CarbonStatus::Forecast, grid, 0, noon_before(from));
        if plan.luck.chance("carbon-hole", &id, 10) {
            continue;
        }
        report(&id, actual, CarbonStatus::Actual, grid, 0, to);
        report(&format!("{id}/market"), actual / 4, CarbonStatus::Actual, contract, 0, to);
        if plan.luck.chance("carbon-revised", &id, 30) {
            let again = TimeUs(to.0 + 5 * HOUR_US);
            report(&format!("{id}/1"), actual * 103 / 100, CarbonStatus::Actual, grid, 1, again);
        }
    }
}

/// Links are measured each day, traffic is priced once.
fn network(plan: &Plan, world: &mut World<'_>) {
    let mut regions: BTreeMap<&str, &Place> = BTreeMap::new();
    for site in &plan.sites {
        regions.entry(site.place.region).or_insert(site.place);
    }
    for (from, here) in &regions {
        for (to, there) in &regions {
            let pair = format!("{from}-{to}");
            let base = if from == to { 500 } else { distance_us(here, there) };
            for day in 0..i64::from(plan.size.days) {
                let at = if day == 0 { plan.opening } else { TimeUs(plan.start.0 + day * DAY_US + 3 * HOUR_US) };
                let id = format!("{pair}/{day}");
                say!(
                    world,
                    at,
                    "link",
                    &id,
                    LinkMeasured {
                        from_region: (*from).into(),
                        to_region: (*to).into(),
                        rtt_us: DurationUs(base * plan.luck.between("rtt", &id, 950, 1_200) / 1_000),
                        throughput_mbit_s: Some(Count(plan.luck.between("throughput", &id, 2_000, 10_000))),
                    }
                );
            }
            if from != to {
                let price = plan.luck.between("egress", &pair, 20_000, 90_000);
                say!(
                    world,
                    plan.opening,
                    "egress",
                    &pair,
                    EgressPriced {
                        from_region: (*from).into(),
                        to_region: (*to).into(),
                        currency: money("USD"),
                        tiers: vec![
                            EgressTier { up_to_gb: Some(Count(10_240)), price_micros_per_gb: RateMicros(price) },
                            EgressTier { up_to_gb: None, price_micros_per_gb: RateMicros(price * 8 / 10) },
                        ],
                    }
                );
            }
        }
    }
}

/// Round trip by the difference in degrees: some 2 ms for each, and 4 ms at least.
fn distance_us(here: &Place, there: &Place) -> i64 {
    let degrees = |a: i64, b: i64| (a - b).abs() / 10_000_000;
    let apart =
        degrees(here.latitude_e7, there.latitude_e7).max(degrees(here.longitude_e7, there.longitude_e7) * 7 / 10);
    4_000 + apart * 1_500
}
