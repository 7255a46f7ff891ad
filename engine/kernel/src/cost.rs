//! What a placement costs, term by term, in the cell's currency. Integers throughout; every term is rounded up once.

use std::collections::BTreeMap;

use solyx_schemas::events::capacity::{CapacityClass, PoolDeclared};
use solyx_schemas::events::common::Sum;
use solyx_schemas::events::decisions::CostTerms;
use solyx_schemas::events::policy::CostWeightsSet;
use solyx_schemas::ids::{RegionId, SiteId};
use solyx_schemas::units::*;

use crate::energy::{carbon_at, hour_end, price_at};
use crate::index::Index;
use crate::rows::{Run, Spec};
use crate::state::State;

/// Hours looked at one by one; what lies beyond is taken at their mean.
const HOURS_MAX: i64 = 48;
/// Bytes in a GiB over bytes in a GB, as a fraction.
const GB_PER_GIB: (i128, i128) = (1_073_741_824, 1_000_000_000);

/// What is to be priced.
pub struct Question<'a> {
    /// The job.
    pub spec: &'a Spec,
    /// The pool.
    pub pool: &'a PoolDeclared,
    /// When it would start.
    pub start: TimeUs,
    /// How long it would run.
    pub duration: DurationUs,
    /// GPUs allotted, thousandths.
    pub gpu_milli: i64,
    /// Power of what is allotted.
    pub power_w: i64,
    /// New instances that would be leased for it.
    pub new_instances: i64,
    /// Work of each replica that is at stake in a reclaim, at most: a checkpoint interval and the restore.
    pub at_risk_us: i64,
    /// Site of its last checkpoint, and the size.
    pub checkpoint: Option<(&'a SiteId, i64)>,
}

/// Why there is no cost: a price or an exchange rate is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpriced(pub String);

/// The total of all terms.
pub fn total(terms: &CostTerms) -> i128 {
    let CostTerms {
        rent_micros,
        energy_micros,
        carbon_micros,
        egress_micros,
        latency_micros,
        risk_micros,
        waiting_micros,
        policy_micros,
    } = terms;
    [
        rent_micros,
        energy_micros,
        carbon_micros,
        egress_micros,
        latency_micros,
        risk_micros,
        waiting_micros,
        policy_micros,
    ]
    .into_iter()
    .map(|term| i128::from(term.0))
    .sum()
}

/// The weights in force.
pub fn weights(state: &State, at: TimeUs) -> Option<&CostWeightsSet> {
    if state.weights.is_empty() {
        return None;
    }
    let cell = solyx_schemas::ids::Name::from("cell");
    let range = (cell.clone(), TimeUs(0))..=(cell, at);
    let (_, set) = state.weights.range(range).next_back()?;
    set.to_us.is_none_or(|to| at < to).then_some(set)
}

fn micros(value: i128) -> MoneyMicros {
    MoneyMicros(i64::try_from(value).unwrap_or(i64::MAX / 16))
}

fn div_ceil(numerator: i128, denominator: i128) -> i128 {
    -((-numerator).div_euclid(denominator))
}

/// Every term of a placement's cost.
pub fn terms(state: &State, index: &Index, q: &Question<'_>) -> Result<CostTerms, Unpriced> {
    let now = state.now();
    let weights = weights(state, now);
    // Whatever is weighted by them: whether there is a cost is to change with weights and rates only, which everybody is asked after.
    weights.map_or(Ok(0), |w| convert(state, index, 1, w.currency))?;
    let (rent, rent_rate) = rent(state, index, q)?;
    let (energy, carbon) = energy_and_carbon(state, index, q, weights)?;
    let hours = |rate: i64, us: i128| div_ceil(i128::from(rate) * us, i128::from(HOUR_US));
    let waiting = weights.map_or(0, |w| {
        let rate = w
            .waiting
            .iter()
            .find(|class| class.class == q.spec.class)
            .map_or(0, |class| class.waiting_micros_per_hour.0);
        hours(rate, i128::from(q.start.since(now).0))
    });
    let weighted = |amount: i128| weights.map_or(Ok(0), |w| convert(state, index, amount, w.currency));
    Ok(CostTerms {
        rent_micros: micros(rent),
        energy_micros: micros(energy),
        carbon_micros: micros(weighted(carbon)?),
        egress_micros: micros(egress(state, index, q)?),
        latency_micros: micros(weighted(latency(state, q, weights))?),
        risk_micros: micros(weights.map_or(0, |w| risk(q, w, rent_rate))),
        waiting_micros: micros(weighted(waiting)?),
        policy_micros: MoneyMicros(0),
    })
}

fn convert(state: &State, index: &Index, amount: i128, from: Currency) -> Result<i128, Unpriced> {
    let to = state.meta().currency.unwrap_or(from);
    if from == to || amount == 0 {
        return Ok(amount);
    }
    let missing = || Unpriced(format!("exchange:{from}/{to}"));
    let amount = i64::try_from(amount).map_err(|_| missing())?;
    index.exchange.convert_ceil(amount, from, to, state.now()).map(i128::from).ok_or_else(missing)
}

/// Rent, and the rate per GPU-hour in the cell's currency that risk is valued at.
fn rent(state: &State, index: &Index, q: &Question<'_>) -> Result<(i128, i128), Unpriced> {
    let leased = matches!(q.pool.class, CapacityClass::OnDemand | CapacityClass::Spot);
    let price = state.pools.get(&q.pool.pool).and_then(|pool| pool.price_at(q.start.max(state.now())));
    let Some(price) = price else {
        return if leased { Err(Unpriced(format!("pool:{}", q.pool.pool))) } else { Ok((0, 0)) };
    };
    let rate = i128::from(price.price.0);
    let allotted = i128::from(q.gpu_milli) * i128::from(q.duration.0);
    let quantity = if leased && q.new_instances > 0 {
        let used = DurationUs(q.duration.0.saturating_add(q.pool.start_delay_us.0));
        let billed = crate::lease::billed(used, q.pool.minimum_billing_us, q.pool.granularity_us);
        let whole = i128::from(q.new_instances * q.pool.shape.gpus.0 * 1_000) * i128::from(billed.0);
        whole.max(allotted)
    } else {
        allotted
    };
    let rent = convert(state, index, div_ceil(quantity * rate, GPU_MILLI_US_PER_GPU_HOUR), price.currency)?;
    Ok((rent, convert(state, index, rate, price.currency)?))
}

/// What so much work of each replica of a run is worth at the price of its pool now, in the cell's currency; nothing when there
/// is no such work or no price.
pub fn worth_of(state: &State, index: &Index, run: &Run, work: WorkUs) -> Option<Sum> {
    let price = state.pools.get(&run.pool)?.price_at(state.now()).filter(|_| work.0 > 0)?;
    let time_us = i128::from(work.0) * 1_000 / i128::from(run.speed_milli.0.max(1));
    let rent = i128::from(run.gpu_milli.0) * time_us * i128::from(price.price.0);
    let rent = convert(state, index, div_ceil(rent, GPU_MILLI_US_PER_GPU_HOUR), price.currency).ok()?;
    Some(Sum { currency: state.meta().currency.unwrap_or(price.currency), micros: micros(rent) })
}

/// Energy at the hours it runs × PUE, and carbon × carbon price in the weights' currency.
fn energy_and_carbon(
    state: &State,
    index: &Index,
    q: &Question<'_>,
    weights: Option<&CostWeightsSet>,
) -> Result<(i128, i128), Unpriced> {
    let Some(site) = state.sites.get(&q.pool.site) else { return Ok((0, 0)) };
    let pays_energy = matches!(q.pool.class, CapacityClass::Owned);
    let carbon_price = weights.map_or(0, |w| w.carbon_micros_per_kg.0);
    // By currency, each over all hours that have a price.
    let (mut prices, mut priced_us): (BTreeMap<Currency, i128>, i128) = (BTreeMap::new(), 0);
    let mut carbon = Mean::default();
    if pays_energy || carbon_price > 0 {
        walk_hours(q, |at, us| {
            if pays_energy
                && let Some(value) = price_at(state, &site.grid_zone, at)
                && let Some(currency) = value.currency
            {
                *prices.entry(currency).or_default() += i128::from(value.value) * i128::from(us);
                priced_us += i128::from(us);
            }
            if carbon_price > 0
                && let Some(value) = carbon_at(state, &site.grid_zone, at)
            {
                carbon.add(value.value, us);
            }
        });
    }
    // W × µs × thousandths of PUE: joules × 1e9.
    let energy = i128::from(q.power_w) * i128::from(q.duration.0) * i128::from(site.design_pue_milli.0.max(1_000));
    let mut cost = 0;
    for (currency, sum) in prices {
        let part = Mean { sum, us: priced_us }.of(energy, 1_000_000_000 * JOULES_PER_MWH);
        cost += convert(state, index, part, currency)?;
    }
    let carbon_mg = carbon.of(energy, 1_000_000_000 * JOULES_PER_KWH);
    Ok((cost, div_ceil(carbon_mg * i128::from(carbon_price), 1_000_000)))
}

/// A mean weighted by time, kept as numerator and denominator.
#[derive(Default)]
struct Mean {
    sum: i128,
    us: i128,
}

impl Mean {
    fn add(&mut self, value: i64, us: i64) {
        self.sum += i128::from(value) * i128::from(us);
        self.us += i128::from(us);
    }

    /// The mean × quantity / divisor, rounded up; nothing when nothing is known.
    fn of(&self, quantity: i128, divisor: i128) -> i128 {
        if self.us == 0 {
            return 0;
        }
        // The mean is rounded up to a thousandth first, which keeps the product within i128.
        let mean_milli = div_ceil(self.sum * 1_000, self.us);
        div_ceil(mean_milli * (quantity / 1_000), divisor)
    }
}

fn walk_hours(q: &Question<'_>, mut visit: impl FnMut(TimeUs, i64)) {
    let end = q.start.after(q.duration);
    let mut at = q.start;
    for _ in 0..HOURS_MAX {
        if at >= end {
            break;
        }
        let next = hour_end(at).min(end);
        visit(at, next.since(at).0);
        at = next;
    }
}

/// Expected loss: reclaims or failures × what each costs, valued at the rent of what is lost.
fn risk(q: &Question<'_>, weights: &CostWeightsSet, rate_per_gpu_hour: i128) -> i128 {
    let per_1000_h = match q.pool.class {
        CapacityClass::Spot => weights.spot_reclaims_per_1000_h.0,
        _ => weights.node_failures_per_1000_h.0,
    };
    // events = hours × rate / 1000; loss of each = half of what is at risk × GPUs × rent.
    let hours_us = i128::from(q.duration.0);
    let loss_gpu_milli_us = i128::from(q.gpu_milli) * i128::from(q.at_risk_us) / 2;
    let loss_micros = div_ceil(loss_gpu_milli_us * rate_per_gpu_hour, GPU_MILLI_US_PER_GPU_HOUR);
    div_ceil(
        loss_micros * hours_us / 1_000_000 * i128::from(per_1000_h) * i128::from(weights.risk_milli.0),
        i128::from(HOUR_US) / 1_000_000 * 1_000 * 1_000,
    )
}

/// Moving data sets and the last checkpoint to the site, from the replica that is cheapest to move.
fn egress(state: &State, index: &Index, q: &Question<'_>) -> Result<i128, Unpriced> {
    let Some(to) = state.sites.get(&q.pool.site) else { return Ok(0) };
    let mut sum = 0;
    for dataset in &q.spec.datasets {
        let Some(declared) = state.datasets.get(dataset) else { continue };
        let range = (dataset.clone(), SiteId::default())..;
        let replicas = state.replicas.range(range).take_while(|((id, _), _)| id == dataset);
        let durable = replicas.filter(|(_, r)| r.state == solyx_schemas::events::world::ReplicaState::Durable);
        let regions = durable.filter_map(|((_, site), _)| state.sites.get(site)).map(|site| &site.region);
        let costs: Result<Vec<i128>, Unpriced> =
            regions.map(|from| traffic(state, index, from, &to.region, declared.size_gib.0)).collect();
        sum += costs?.into_iter().min().unwrap_or(0);
    }
    if let Some((site, size_mib)) = q.checkpoint
        && let Some(from) = state.sites.get(site)
    {
        sum += traffic(state, index, &from.region, &to.region, (size_mib + 1_023) / 1_024)?;
    }
    Ok(sum)
}

/// The price of so many GiB from one region to another, at the first tier; nothing within a region or where no price is known.
fn traffic(state: &State, index: &Index, from: &RegionId, to: &RegionId, gib: i64) -> Result<i128, Unpriced> {
    if from == to {
        return Ok(0);
    }
    let Some(priced) = state.egress.get(&(from.clone(), to.clone())) else { return Ok(0) };
    let Some(tier) = priced.tiers.first() else { return Ok(0) };
    let amount = div_ceil(i128::from(gib) * GB_PER_GIB.0 * i128::from(tier.price_micros_per_gb.0), GB_PER_GIB.1);
    convert(state, index, amount, priced.currency)
}

/// Round-trip time beyond the objective × weight × rate, in the weights' currency.
fn latency(state: &State, q: &Question<'_>, weights: Option<&CostWeightsSet>) -> i128 {
    let (Some(weights), Some(site)) = (weights, state.sites.get(&q.pool.site)) else { return 0 };
    let mut beyond = 0i128;
    for client in &q.spec.client_regions {
        let Some(objective) = client.latency_objective_us else { continue };
        let rtt = rtt(state, &client.region, &site.region).unwrap_or(0);
        beyond += i128::from((rtt - objective.0).max(0)) * i128::from(client.weight_milli.0);
    }
    // µs × thousandths × thousandths of a GPU × µs of running.
    let gpu_us = i128::from(q.gpu_milli) * i128::from(q.duration.0) / 1_000_000;
    div_ceil(beyond * gpu_us * i128::from(weights.latency_micros_per_ms_gpu_hour.0), GPU_MILLI_US_PER_GPU_HOUR)
}

/// Round-trip time between two regions, µs, measured in either direction.
pub fn rtt(state: &State, a: &RegionId, b: &RegionId) -> Option<i64> {
    if a == b {
        return Some(0);
    }
    let there = state.links.get(&(a.clone(), b.clone()));
    there.or_else(|| state.links.get(&(b.clone(), a.clone()))).map(|link| link.rtt_us.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_of_a_unit_counts_as_one_and_nothing_beyond_it_does() {
        for denominator in [1, 3, 7, 1_000, GPU_MILLI_US_PER_GPU_HOUR] {
            for whole in [-2, 0, 1, 5, 1_000_003] {
                let exact = whole * denominator;
                assert_eq!(div_ceil(exact, denominator), whole);
                assert_eq!(div_ceil(exact + 1, denominator), whole + 1);
                assert_eq!(div_ceil(exact - denominator + 1, denominator), whole);
            }
        }
    }
}
