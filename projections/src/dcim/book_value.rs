//! What an asset is worth at an instant.
//!
//! Straight line: the cost less the part of (cost − salvage) that the time in use is of its life. Declining balance: each
//! year of use takes its thousandths of what was left at the year's beginning, within a year in proportion to time; the
//! value at a year's end is booked in whole micros. Neither goes below the salvage value. Rounding is half to even.

use solyx_kernel::rating::Fraction;
use solyx_schemas::events::assets::DepreciationMethod;
use solyx_schemas::units::{DAY_US, TimeUs};

use super::state::Asset;

/// A year of use.
const YEAR_US: i64 = 365 * DAY_US;
/// After so many years of declining balance nothing is left that counts; it bounds the loop.
const YEARS_MAX: i64 = 200;

/// Book value at an instant, micros of its cost's currency; the cost before it is put to use.
pub(super) fn book_value_micros(asset: &Asset, at: TimeUs) -> i64 {
    let cost = asset.cost.micros.0;
    let Some(installed) = asset.installed else { return cost };
    let at = asset.retired.map_or(at, |retired| at.min(retired));
    let used = at.since(installed).0;
    let value = match asset.method {
        DepreciationMethod::DecliningBalance => declining(cost, asset.declining_milli_per_year, used),
        DepreciationMethod::StraightLine | DepreciationMethod::Unknown => {
            let life = asset.life_us.max(1);
            let lost = i128::from(cost - asset.salvage_micros) * i128::from(used.min(life));
            round(i128::from(cost) * i128::from(life) - lost, life)
        }
    };
    value.max(asset.salvage_micros.min(cost))
}

fn declining(cost: i64, milli_per_year: i64, used_us: i64) -> i64 {
    let kept = i128::from(1_000 - milli_per_year.clamp(0, 1_000));
    let mut value = cost;
    for _ in 0..(used_us / YEAR_US).min(YEARS_MAX) {
        value = round(i128::from(value) * kept, 1_000);
    }
    let within = i128::from(used_us % YEAR_US);
    let year = i128::from(YEAR_US);
    Fraction::whole(i128::from(value))
        .scaled(1_000 * year - (1_000 - kept) * within, 1_000 * year, "a book value")
        .map_or(value, |exact| exact.round_half_even() as i64)
}

fn round(numerator: i128, denominator: i64) -> i64 {
    Fraction::new(numerator, i128::from(denominator)).round_half_even() as i64
}

#[cfg(test)]
mod tests {
    use solyx_schemas::events::common::Sum;
    use solyx_schemas::units::{Currency, MoneyMicros};

    use super::*;

    fn asset(method: DepreciationMethod) -> Asset {
        Asset {
            cost: Sum { currency: Currency::default(), micros: MoneyMicros(1_000_000) },
            salvage_micros: 100_000,
            installed: Some(TimeUs(DAY_US)),
            life_us: 5 * YEAR_US,
            method,
            declining_milli_per_year: 400,
            ..Asset::default()
        }
    }

    fn value(asset: &Asset, years_milli: i64) -> i64 {
        book_value_micros(asset, TimeUs(DAY_US + YEAR_US / 1_000 * years_milli))
    }

    #[test]
    fn a_straight_line_ends_at_the_salvage_value() {
        let asset = asset(DepreciationMethod::StraightLine);
        assert_eq!(book_value_micros(&asset, TimeUs(0)), 1_000_000);
        assert_eq!(value(&asset, 2_500), 550_000);
        assert_eq!(value(&asset, 5_000), 100_000);
        assert_eq!(value(&asset, 9_000), 100_000);
    }

    #[test]
    fn a_declining_balance_loses_a_part_of_what_is_left_each_year() {
        let asset = asset(DepreciationMethod::DecliningBalance);
        assert_eq!(value(&asset, 1_000), 600_000);
        assert_eq!(value(&asset, 1_500), 480_000);
        assert_eq!(value(&asset, 2_000), 360_000);
        assert_eq!(value(&asset, 20_000), 100_000, "never below the salvage value");
    }

    #[test]
    fn a_retired_asset_keeps_the_value_it_had_then() {
        let mut asset = asset(DepreciationMethod::StraightLine);
        asset.retired = Some(TimeUs(DAY_US + YEAR_US));
        assert_eq!(value(&asset, 4_000), 820_000);
    }
}
