//! What is said of sites, hardware, pools, nodes and the world outside; and what the engine itself says.

use super::{
    Checked, GPU_W_MAX, NODE_GPUS_MAX, WHOLE_MILLI, amount, at_least, between, country, expect, gpu_share, hexadecimal,
    interval, month, nodes, price, tiers, unique,
};
use crate::events::Event;
use crate::events::assets::{AssetInstalled, DepreciationMethod};
use crate::events::facility::{PowerElementDeclared, SiteDeclared};
use crate::events::nodes::NodeReported;
use crate::events::plans::PlanPublished;
use crate::field::FieldError;
use crate::units::{HOUR_US, TimeUs};

/// A right angle in 1e-7 degrees.
const QUARTER_E7: i64 = 900_000_000;

/// The longest that one reading may be of: views divide it among its hours.
const READING_US_MAX: i64 = 31 * 24 * HOUR_US;

/// The most kinds a plan may price, the highest price of CPU, and the highest of a scarce model: what is reckoned with them
/// stays within 64 bits.
const PLAN_KINDS_MAX: usize = 4_096;
const PLAN_FREQUENCY_MAX: i64 = 1 << 30;
const PLAN_CPU_PRICE_MAX: i64 = 1_000_000;
const PLAN_SCARCITY_MAX: i64 = 1_000_000;

pub(super) fn check(event: &Event) -> Checked {
    match event {
        Event::SiteDeclared(e) => site(e),
        Event::PowerElementDeclared(e) => element(e),
        Event::PowerMeasured(e) => reading(e.from_us, e.to_us),
        Event::CoolingMeasured(e) => reading(e.from_us, e.to_us),
        Event::AssetOrdered(e) => amount("cost", &e.cost),
        Event::AssetInstalled(e) => asset(e),
        Event::AssetRepaired(e) => amount("cost", &e.cost),
        Event::PoolDeclared(e) => between(0, NODE_GPUS_MAX, "gpus", e.shape.gpus.0).map_err(|e| e.within("shape")),
        Event::PoolPriced(e) => price("price_micros_per_gpu_hour", e.price_micros_per_gpu_hour),
        Event::NodeReported(e) => node(e),
        Event::GpuDegraded(e) => between(0, NODE_GPUS_MAX - 1, "gpu_index", e.gpu_index),
        Event::NodeAttested(e) => hexadecimal("evidence_digest", e.evidence_digest.as_str(), Some(32)),
        Event::EgressPriced(e) => {
            tiers(&e.tiers, |tier| tier.up_to_gb.map(|end| end.0), "up_to_gb")?;
            e.tiers.iter().try_for_each(|tier| price("price_micros_per_gb", tier.price_micros_per_gb))
        }
        Event::EnergyPriced(e) => {
            interval(e.from_us, e.to_us)?;
            published(e.occurred_us, e.published_us)
        }
        Event::CarbonReported(e) => {
            interval(e.from_us, e.to_us)?;
            published(e.occurred_us, e.published_us)
        }
        Event::DatasetDeclared(e) => e.residency.iter().try_for_each(|code| country("residency", code.as_str())),
        Event::InstanceLeased(e) => price("price_micros_per_gpu_hour", e.price_micros_per_gpu_hour),
        Event::InstanceLeaseRefused(e) => at_least(1, "instances", e.instances.0),
        Event::InstanceLeaseEnded(e) => {
            // A lease may end in the instant in which it began.
            expect(e.from_us <= e.to_us, "to_us", e.to_us.0, || format!("not before from_us, which is {}", e.from_us.0))
        }
        Event::PlanPublished(e) => plan(e),
        Event::HeadSigned(e) => {
            hexadecimal("root", e.root.as_str(), Some(32))?;
            hexadecimal("signature", e.signature.as_str(), None)
        }
        Event::SigningKeyRotated(e) => {
            hexadecimal("root", e.root.as_str(), Some(32))?;
            hexadecimal("next_public_key", e.next_public_key.as_str(), None)?;
            hexadecimal("signature", e.signature.as_str(), None)
        }
        Event::JobPlaced(e) => nodes(&e.nodes),
        Event::RouteSet(e) => between(0, WHOLE_MILLI, "weight_milli", e.weight_milli.0),
        Event::BudgetExhausted(e) if !e.period.as_str().contains('T') => month("period", e.period.as_str()),
        Event::RecordQuarantined(e) => {
            hexadecimal("original_key", &e.original_key, None)?;
            hexadecimal("original_value", &e.original_value, None)
        }
        _ => Ok(()),
    }
}

/// An interval that something was measured over.
fn reading(from: TimeUs, to: TimeUs) -> Checked {
    interval(from, to)?;
    let end = from.0.saturating_add(READING_US_MAX);
    expect(to.0 <= end, "to_us", to.0, || format!("at most {end}, 31 days after from_us"))
}

fn site(e: &SiteDeclared) -> Checked {
    country("country", e.country.as_str())?;
    between(-QUARTER_E7, QUARTER_E7, "latitude_e7", e.latitude_e7)?;
    between(-2 * QUARTER_E7, 2 * QUARTER_E7, "longitude_e7", e.longitude_e7)?;
    at_least(WHOLE_MILLI, "design_pue_milli", e.design_pue_milli.0)?;
    for (i, tier) in e.storage_tiers.iter().enumerate() {
        price("price_micros_per_gib_month", tier.price_micros_per_gib_month)
            .map_err(|e| e.within(&format!("storage_tiers[{i}]")))?;
    }
    unique("storage_tiers", e.storage_tiers.iter().map(|t| &t.tier))
}

fn element(e: &PowerElementDeclared) -> Checked {
    between(1, WHOLE_MILLI, "derating_milli", e.derating_milli.0)?;
    expect(e.parents.len() <= 2, "parents", e.parents.len(), || "none, one, or two for A and B".to_owned())?;
    expect(!e.parents.contains(&e.element), "parents", &e.element, || "other elements".to_owned())?;
    unique("parents", &e.parents)
}

fn asset(e: &AssetInstalled) -> Checked {
    amount("cost", &e.cost)?;
    amount("salvage", &e.salvage)?;
    expect(e.salvage.currency == e.cost.currency, "salvage.currency", e.salvage.currency, || {
        format!("that of cost, {}", e.cost.currency)
    })?;
    expect(e.salvage.micros <= e.cost.micros, "salvage.micros", e.salvage.micros.0, || {
        format!("at most the cost, {}", e.cost.micros.0)
    })?;
    at_least(1, "life_us", e.life_us.0)?;
    match (e.method, e.declining_milli_per_year) {
        (DepreciationMethod::DecliningBalance, Some(rate)) => {
            between(1, WHOLE_MILLI, "declining_milli_per_year", rate.0)
        }
        (DepreciationMethod::DecliningBalance, None) => {
            Err(FieldError::at("declining_milli_per_year", "null", "1 to 1000, since the method is DECLINING_BALANCE"))
        }
        (_, Some(rate)) => {
            Err(FieldError::at("declining_milli_per_year", rate.0, "null, since the method is not DECLINING_BALANCE"))
        }
        _ => Ok(()),
    }
}

fn node(e: &NodeReported) -> Checked {
    for (i, gpu) in e.gpus.iter().enumerate() {
        let within = |e: FieldError| e.within(&format!("gpus[{i}]"));
        between(0, NODE_GPUS_MAX - 1, "index", gpu.index).map_err(within)?;
        between(0, GPU_W_MAX, "max_w", gpu.max_w.0).map_err(within)?;
    }
    unique("gpus", e.gpus.iter().map(|g| g.index))?;
    between(0, NODE_GPUS_MAX * GPU_W_MAX, "max_w", e.max_w.0)?;
    expect(e.idle_w <= e.max_w, "max_w", e.max_w.0, || format!("at least idle_w, which is {}", e.idle_w.0))?;
    unique("feeds", e.feeds.iter().map(|f| &f.element))?;
    let shares: i128 = e.feeds.iter().map(|f| i128::from(f.share_milli.0)).sum();
    expect(e.feeds.is_empty() || shares == i128::from(WHOLE_MILLI), "feeds", shares, || {
        "shares that add up to 1000".to_owned()
    })
}

/// A price or carbon value happened when it was published, so that nothing knows the future.
fn plan(e: &PlanPublished) -> Checked {
    hexadecimal("model_digest", e.model_digest.as_str(), Some(32))?;
    expect(e.kinds.len() <= PLAN_KINDS_MAX, "kinds", e.kinds.len(), || format!("at most {PLAN_KINDS_MAX}"))?;
    for (i, kind) in e.kinds.iter().enumerate() {
        let within = |e: FieldError| e.within(&format!("kinds[{i}]"));
        between(0, NODE_GPUS_MAX, "gpus", kind.gpus.0).map_err(within)?;
        gpu_share(kind.gpus.0, kind.gpu_milli_each.0).map_err(within)?;
        between(1, PLAN_FREQUENCY_MAX, "frequency", kind.frequency.0).map_err(within)?;
        // Two whole slots for the price of one is more than any plan says.
        between(0, 2 * kind.gpus.0 * kind.gpu_milli_each.0 * 1_000, "price", kind.price).map_err(within)?;
    }
    for (i, scarcity) in e.scarcities.iter().enumerate() {
        between(0, PLAN_SCARCITY_MAX, "price", scarcity.price).map_err(|e| e.within(&format!("scarcities[{i}]")))?;
    }
    unique("scarcities", e.scarcities.iter().map(|s| &s.model))?;
    between(0, PLAN_CPU_PRICE_MAX, "cpu_price", e.cpu_price.unwrap_or(0))
}

fn published(occurred: TimeUs, published: TimeUs) -> Checked {
    expect(occurred == published, "published_us", published.0, || format!("the same as occurred_us, {}", occurred.0))
}
