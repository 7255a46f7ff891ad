//! What our own energy cost: joules × PUE × the price of the hour, exact.
//!
//! A job's part is what was metered for its runs. What nodes were measured to draw is all of it, with what they draw while
//! nothing runs: where a pool's nodes are measured, that is what its energy cost, and what no job accounts for is idle.
//!
//! Of the kinds of price the contract's tariff counts first, then what was settled in the hour, then day-ahead; forecasts
//! cost nobody anything. In a hole the last value of a kind stands for at most 24 h.

use solyx_kernel::rating::{Fraction, Month, RatingError, split};
use solyx_schemas::events::capacity::CapacityClass;
use solyx_schemas::events::facility::{MeasuredKind, PowerMeasured};
use solyx_schemas::events::world::EnergyPriced;
use solyx_schemas::ids::{JobId, NodeId, PoolId, RunId, ZoneId};
use solyx_schemas::units::{Currency, JOULES_PER_MWH, TimeUs};

use super::Billing;
use super::rows::*;
use crate::timeline::{self, Interval, PAID_KINDS, price_rank};

/// W × µs in a joule.
const W_US_PER_J: i128 = 1_000_000;

/// A part of some energy, with what its MWh cost in micros; absent when nobody knows.
struct EnergyPart {
    month: Month,
    quantity: Fraction,
    price: Option<(i64, Currency)>,
}

/// What a quantity costs with what cooling and losses take; `units_per_j` of it are a joule.
fn energy_cost(quantity: Fraction, site: &SiteRow, price: i64, units_per_j: i128) -> Result<Fraction, RatingError> {
    let rate = i128::from(price) * i128::from(site.pue_milli);
    quantity.scaled(rate, JOULES_PER_MWH * 1_000 * units_per_j, "the cost of energy")
}

impl Billing {
    pub(super) fn energy_priced(&mut self, e: &EnergyPriced) {
        let rank = price_rank(e.kind);
        if rank < PAID_KINDS {
            let (value, revision) = (e.price_micros_per_mwh.0, e.revision.0);
            let new = Interval { to: e.to_us, value, revision, currency: Some(e.currency) };
            timeline::insert(&mut self.tables.energy_prices, &e.zone, rank, e.from_us, new);
        }
    }

    /// Books the energy that a job used on hardware of ours.
    pub(super) fn energy_used(
        &mut self,
        job: &JobId,
        run: &RunId,
        joules: i64,
        from: TimeUs,
        to: TimeUs,
    ) -> Result<(), RatingError> {
        let Some(pool_id) = self.tables.runs.get(run).map(|run| run.pool.clone()) else { return Ok(()) };
        let Some(site) = self.own_site(&pool_id) else { return Ok(()) };
        for part in self.energy_parts(&site, joules.into(), from, to)? {
            match part.price {
                Some((price, currency)) => {
                    let cost = energy_cost(part.quantity, &site, price, 1)?;
                    let key = (job.clone(), pool_id.clone(), part.month, currency.to_string());
                    self.tables.energy_costs.entry(&key).add(cost)?;
                }
                None => {
                    let with_overhead = part.quantity.scaled(site.pue_milli.into(), 1_000, "energy without a price")?;
                    self.tables.energy_unpriced.entry(&(pool_id.clone(), part.month)).add(with_overhead)?;
                }
            }
        }
        Ok(())
    }

    /// Books what a node of ours was measured to draw.
    pub(super) fn power_measured(&mut self, e: &PowerMeasured) -> Result<(), RatingError> {
        if e.measured != MeasuredKind::Node || e.to_us <= e.from_us {
            return Ok(());
        }
        let node = NodeId::from(e.subject.as_str());
        let Some(pool_id) = self.tables.nodes.get(&node).map(|node| node.pool.clone()) else { return Ok(()) };
        let Some(site) = self.own_site(&pool_id) else { return Ok(()) };
        let watt_us = i128::from(e.power_w.0) * i128::from(e.to_us.0 - e.from_us.0);
        for part in self.energy_parts(&site, watt_us, e.from_us, e.to_us)? {
            if let Some((price, currency)) = part.price {
                let cost = energy_cost(part.quantity, &site, price, W_US_PER_J)?;
                let key = (pool_id.clone(), part.month, currency.to_string());
                self.tables.energy_measured.entry(&key).add(cost)?;
            }
        }
        Ok(())
    }

    /// The site of a pool whose energy is on our bill.
    fn own_site(&self, pool: &PoolId) -> Option<SiteRow> {
        let pool = self.tables.pools.get(pool).filter(|pool| pool.class == CapacityClass::Owned)?;
        self.tables.sites.get(&pool.site).cloned()
    }

    /// A quantity of energy, split where its price or the month changes.
    fn energy_parts(
        &self,
        site: &SiteRow,
        quantity: i128,
        from: TimeUs,
        to: TimeUs,
    ) -> Result<Vec<EnergyPart>, RatingError> {
        let mut boundaries: Vec<TimeUs> =
            (0..PAID_KINDS).flat_map(|kind| self.price_changes(&site.zone, kind, from, to)).collect();
        if Month::of(from).end() < to {
            boundaries.push(Month::of(from).end());
        }
        boundaries.sort_unstable();
        let parts = split(from, to, quantity, &boundaries)?.into_iter().map(|part| EnergyPart {
            month: Month::of(part.from),
            quantity: part.quantity,
            price: timeline::at(&self.tables.energy_prices, &site.zone, PAID_KINDS, part.from)
                .map(|price| (price.value, price.currency.unwrap_or_default())),
        });
        Ok(parts.collect())
    }

    /// When prices of a kind begin and end within an interval.
    fn price_changes(&self, zone: &ZoneId, kind: u8, from: TimeUs, to: TimeUs) -> Vec<TimeUs> {
        let prices = &self.tables.energy_prices;
        let before = prices.up_to(&(zone.clone(), kind, from)).filter(|((z, k, _), _)| z == zone && *k == kind);
        let first = (zone.clone(), kind, TimeUs(from.0 + 1));
        let within = prices.from(&first).take_while(|((z, k, at), _)| z == zone && *k == kind && *at < to);
        let changes = before.into_iter().chain(within).flat_map(|((_, _, at), row)| [*at, row.to]);
        changes.filter(|at| from < *at && *at < to).collect()
    }
}

/// The rounded whole of an exact sum of micros.
pub(super) fn rounded(sum: &ExactSum) -> Result<i128, RatingError> {
    sum.total().map(Fraction::round_half_even)
}
