//! Baselines: simple rules, as the literature compares with, said by what policy has values for.
//!
//! Each is a variation like one in a file. Those that order jobs leave the choice of pools as it was recorded, and those that
//! choose pools leave the order.

use solyx_schemas::events::Event;
use solyx_schemas::topics::Topic;
use solyx_schemas::units::RateMicros;
use std::collections::BTreeMap;

use super::recording::Recording;
use super::variation::{Pools, Variation};
use crate::fleet::format::Policy;
use crate::fleet::values::{Amount, Ratio, Span};

/// Price of carbon at which nothing else counts: a thousand USD a kilogram, say.
const CARBON_ALONE: Amount = Amount(1_000_000_000);

/// Names of the baselines, and what each does.
pub const BASELINES: [(&str, &str); 9] = [
    ("fifo", "in order of arrival, and nobody passes the first that waits for room"),
    ("shortest-first", "least expected work first, with backfill (sjf)"),
    ("easy", "in order of arrival, with EASY backfill"),
    (
        "cheapest-now",
        "the pool with the least rent, energy and egress at once; no weights, no waiting for a better hour",
    ),
    ("cheapest-region", "the same, within the one region with the lowest price of a GPU-hour"),
    ("lowest-carbon", "the pool with the least carbon at once, whatever it costs"),
    ("local-only", "owned and reserved pools alone; nothing is leased"),
    ("fgd", "nodes by fragmentation gradient descent"),
    ("best-fit", "nodes by best fit"),
];

/// Names, as an error message lists them.
pub fn names() -> String {
    BASELINES.map(|(name, _)| name).join(", ")
}

/// Adds what a baseline of this name changes; what the variation says itself goes first. Otherwise what was expected: the name of
/// a baseline, or a log in which it is something.
pub fn add(name: &str, variation: &mut Variation, recording: &Recording) -> Result<(), String> {
    match name {
        "fifo" => order(variation, "fifo", Some(0)),
        "shortest-first" => order(variation, "sjf", None),
        "easy" => order(variation, "fifo", None),
        "cheapest-now" => cheapest(variation),
        "cheapest-region" => {
            cheapest(variation);
            cordon_all_but(variation, recording)?;
        }
        "lowest-carbon" => {
            variation.weights.get_or_insert_default().carbon_per_kg.get_or_insert(CARBON_ALONE);
            cheapest(variation);
        }
        "local-only" => {
            for class in ["on-demand", "spot"] {
                variation.pools.push(Pools {
                    pool: "*".to_owned(),
                    class: Some(class.to_owned()),
                    cordon: true,
                    of_baseline: true,
                    ..Pools::default()
                });
            }
        }
        "fgd" | "best-fit" => {
            policy(variation).packing_rule.get_or_insert_with(|| name.to_owned());
        }
        _ => return Err(format!("one of {}", names())),
    }
    Ok(())
}

fn policy(variation: &mut Variation) -> &mut Policy {
    variation.policy.get_or_insert_default()
}

fn order(variation: &mut Variation, rule: &str, depth: Option<i64>) {
    let policy = policy(variation);
    policy.order_rule.get_or_insert_with(|| rule.to_owned());
    policy.backfill_depth = policy.backfill_depth.or(depth);
}

/// Rent, energy and egress as they are now, and nothing else.
fn cheapest(variation: &mut Variation) {
    policy(variation).deferral_max.get_or_insert(Span::default());
    let weights = variation.weights.get_or_insert_default();
    weights.owned_first.get_or_insert_with(|| "marginal-cost".to_owned());
    weights.carbon_per_kg.get_or_insert(Amount(0));
    weights.risk.get_or_insert(Ratio(0));
    weights.latency_per_ms_gpu_hour.get_or_insert(Amount(0));
    weights.waiting_factor.get_or_insert(Ratio(0));
}

/// Cordons the pools of all regions but the cheapest.
fn cordon_all_but(variation: &mut Variation, recording: &Recording) -> Result<(), String> {
    let regions = regions_of_pools(recording);
    let Some(cheapest) = cheapest_region(recording, &regions) else {
        return Err("another, or a log with prices of pools whose sites are in a region".to_owned());
    };
    for pool in regions.iter().filter(|(_, region)| **region != cheapest).map(|(pool, _)| pool.clone()) {
        variation.pools.push(Pools { pool, cordon: true, ..Pools::default() });
    }
    Ok(())
}

/// Region of each pool whose site is declared.
fn regions_of_pools(recording: &Recording) -> BTreeMap<String, String> {
    let mut regions = BTreeMap::new();
    for (_, event) in recording.events(Topic::Facility) {
        if let Event::SiteDeclared(site) = event {
            regions.insert(site.site.to_string(), site.region.to_string());
        }
    }
    let mut of_pools = BTreeMap::new();
    for (_, event) in recording.events(Topic::Capacity) {
        if let Event::PoolDeclared(pool) = event
            && let Some(region) = regions.get(pool.site.as_str())
        {
            of_pools.insert(pool.pool.to_string(), region.clone());
        }
    }
    of_pools
}

/// The region whose cheapest pool asks least for a GPU-hour, by the mean of the prices it had; the first by name among equals.
fn cheapest_region(recording: &Recording, regions: &BTreeMap<String, String>) -> Option<String> {
    let mut prices: BTreeMap<String, Vec<RateMicros>> = BTreeMap::new();
    for (_, event) in recording.events(Topic::Capacity) {
        if let Event::PoolPriced(price) = event {
            prices.entry(price.pool.to_string()).or_default().push(price.price_micros_per_gpu_hour);
        }
    }
    let mean = |rates: &Vec<RateMicros>| {
        let sum: i128 = rates.iter().map(|rate| i128::from(rate.0)).sum();
        sum / rates.len().max(1) as i128
    };
    let of_region = prices.iter().filter_map(|(pool, rates)| Some((mean(rates), regions.get(pool)?)));
    of_region.min().map(|(_, region)| region.clone())
}
