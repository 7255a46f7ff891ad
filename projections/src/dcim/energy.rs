//! What an hour's energy costs and emits.
//!
//! Cost = energy × PUE × price, carbon = energy × PUE × intensity; each hour's amount is rounded once, half to even, and
//! totals are sums of those. PUE is the hour's measured one (facility by IT, in thousandths, half to even) or the design's.

use solyx_kernel::rating::Fraction;
use solyx_schemas::units::*;

use super::Dcim;
use super::state::{Hour, Site};
use crate::timeline::{self, PAID_KINDS};

const CARBON_KINDS: u8 = 2;
/// W × µs in a joule.
const W_US_PER_J: i128 = 1_000_000;

/// What holds for a site in one hour.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HourRates {
    pub(super) pue_milli: i64,
    pub(super) pue_measured: bool,
    pub(super) price: Option<timeline::Found>,
    pub(super) carbon: Option<timeline::Found>,
}

impl Dcim {
    /// PUE, price and carbon of an hour since 1970 at a site.
    pub(super) fn rates(&self, site: &Site, measured: Option<&Hour>, hour: i64) -> HourRates {
        let at = TimeUs(hour * HOUR_US);
        let measured = measured.filter(|row| row.it_w_us > 0);
        let design = if site.design_pue_milli > 0 { site.design_pue_milli } else { 1_000 };
        HourRates {
            pue_milli: measured.map_or(design, |row| round(row.facility_w_us * 1_000, row.it_w_us)),
            pue_measured: measured.is_some(),
            price: timeline::over(&self.prices, &site.zone, PAID_KINDS, at, at.after(DurationUs(HOUR_US))),
            carbon: timeline::over(&self.carbon, &site.zone, CARBON_KINDS, at, at.after(DurationUs(HOUR_US))),
        }
    }
}

impl HourRates {
    /// Cost of IT energy in micros, with its currency; absent without a price.
    pub(super) fn cost(&self, energy_j: i64) -> Option<(Currency, i64)> {
        let price = self.price?;
        let exact = i128::from(energy_j) * i128::from(self.pue_milli) * i128::from(price.value);
        Some((price.currency.unwrap_or_default(), round(exact, 1_000 * JOULES_PER_MWH)))
    }

    /// Carbon of IT energy, mg; absent without an intensity.
    pub(super) fn carbon_mg(&self, energy_j: i64) -> Option<i64> {
        let carbon = self.carbon?;
        let exact = i128::from(energy_j) * i128::from(self.pue_milli) * i128::from(carbon.value);
        Some(round(exact, 1_000 * JOULES_PER_KWH))
    }

    /// Energy of the whole facility that stands behind IT energy, J.
    pub(super) fn facility_j(&self, energy_j: i64) -> i64 {
        round(i128::from(energy_j) * i128::from(self.pue_milli), 1_000)
    }
}

/// Energy measured at nodes in an hour, J.
pub(super) fn measured_j(row: &Hour) -> i64 {
    round(row.nodes_w_us, W_US_PER_J)
}

fn round(numerator: i128, denominator: i128) -> i64 {
    Fraction::new(numerator, denominator).round_half_even() as i64
}
