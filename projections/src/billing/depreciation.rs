//! What is left of an asset's cost at an instant.
//!
//! Straight line: (cost − salvage) in proportion to the part of its life that has passed. Declining balance: each whole year
//! of 365 days takes its part of what was left, rounded once half to even, and within a year the loss goes with time; never
//! below the salvage value, and nothing more after its life.

use solyx_kernel::rating::{Fraction, RatingError};
use solyx_schemas::events::assets::DepreciationMethod;
use solyx_schemas::units::{DAY_US, TimeUs};

use super::rows::AssetRow;

const YEAR_US: i64 = 365 * DAY_US;

/// Book value in micros of the asset's currency, exact within the year.
pub(super) fn book_value(asset: &AssetRow, at: TimeUs) -> Result<Fraction, RatingError> {
    let what = "the book value of an asset";
    let cost = i128::from(asset.cost.micros.0);
    let salvage = i128::from(asset.salvage_micros).min(cost);
    let at = asset.retired_us.map_or(at, |retired| at.min(retired));
    let used = (at.0 - asset.installed_us.0).clamp(0, asset.life_us.max(0));
    if asset.method != DepreciationMethod::DecliningBalance {
        if asset.life_us <= 0 {
            return Ok(Fraction::whole(salvage));
        }
        let lost = Fraction::whole(cost - salvage).scaled(used.into(), asset.life_us.into(), what)?;
        return Fraction::whole(cost).minus(lost, what);
    }
    let yearly = i128::from(asset.declining_milli.clamp(0, 1_000));
    let mut left = cost;
    for _ in 0..used / YEAR_US {
        left -= Fraction::new(left * yearly, 1_000).round_half_even();
    }
    let lost = Fraction::new(left * yearly, 1_000).scaled((used % YEAR_US).into(), YEAR_US.into(), what)?;
    let value = Fraction::whole(left).minus(lost, what)?;
    let floor = Fraction::whole(salvage);
    Ok(if value.minus(floor, what)?.numerator() < 0 { floor } else { value })
}

/// What it lost between two instants, rounded so that neighbouring intervals add up.
pub(super) fn loss(asset: &AssetRow, from: TimeUs, to: TimeUs) -> Result<i128, RatingError> {
    Ok(book_value(asset, from)?.round_half_even() - book_value(asset, to.max(from))?.round_half_even())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use solyx_schemas::events::common::Sum;
    use solyx_schemas::units::{Currency, MoneyMicros};

    use super::*;

    fn asset(method: DepreciationMethod) -> AssetRow {
        AssetRow {
            site: "metapod-1".into(),
            nodes: Vec::new(),
            cost: Sum { currency: Currency::parse("USD").unwrap(), micros: MoneyMicros(1_000_000) },
            installed_us: TimeUs(0),
            life_us: 4 * YEAR_US,
            salvage_micros: 200_000,
            method,
            declining_milli: 500,
            retired_us: None,
        }
    }

    #[test]
    fn an_asset_loses_the_same_each_year_or_a_part_of_what_is_left() {
        let after = |method, years: i64| book_value(&asset(method), TimeUs(years * YEAR_US)).unwrap().round_half_even();
        let straight: Vec<i128> = (0..6).map(|y| after(DepreciationMethod::StraightLine, y)).collect();
        assert_eq!(straight, [1_000_000, 800_000, 600_000, 400_000, 200_000, 200_000]);
        let declining: Vec<i128> = (0..6).map(|y| after(DepreciationMethod::DecliningBalance, y)).collect();
        assert_eq!(declining, [1_000_000, 500_000, 250_000, 200_000, 200_000, 200_000]);
    }

    proptest! {
        #[test]
        fn neighbouring_losses_add_up(a in 0..5 * YEAR_US, b in 0..5 * YEAR_US, c in 0..5 * YEAR_US, straight: bool) {
            let method = if straight { DepreciationMethod::StraightLine } else { DepreciationMethod::DecliningBalance };
            let mut times = [a, b, c].map(TimeUs);
            times.sort_unstable();
            let asset = asset(method);
            let whole = loss(&asset, times[0], times[2]).unwrap();
            let parts = loss(&asset, times[0], times[1]).unwrap() + loss(&asset, times[1], times[2]).unwrap();
            prop_assert_eq!(whole, parts);
            prop_assert!(whole >= 0);
        }
    }
}
