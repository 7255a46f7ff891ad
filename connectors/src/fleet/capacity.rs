//! The part of a fleet file that says what can be had: pools with prices and availability, commitments, reserves.

use solyx_schemas::events::capacity::*;
use solyx_schemas::events::policy::{CommitmentBought, ReserveSet};
use solyx_schemas::ids::{Name, PoolId, RefId};
use solyx_schemas::units::*;

use super::FleetError;
use super::expand::{Builder, Lead, sum, symbols_of};
use super::format::{self, FleetFile};

pub fn build(fleet: &FleetFile, out: &mut Builder) -> Result<(), FleetError> {
    for commitment in &fleet.commitment {
        let Lead { event_id, source, occurred_us } = out.lead("commitment", &commitment.id);
        out.push(
            &format!("commitment {}", commitment.id),
            CommitmentBought {
                event_id,
                source,
                occurred_us,
                commitment: RefId::from(commitment.id.as_str()),
                provider: commitment.provider.as_str().into(),
                pool: commitment.pool.as_str().into(),
                quantity: Count(commitment.quantity),
                from_us: commitment.from.0,
                to_us: commitment.to.0,
                price: sum(commitment.price, commitment.currency),
            },
        )?;
    }
    for pool in &fleet.pool {
        if !fleet.site.iter().any(|site| site.id == pool.site) {
            let sites: Vec<&str> = fleet.site.iter().map(|site| site.id.as_str()).collect();
            let expected = format!("a site of this file: {}", sites.join(", "));
            return Err(out.error(&format!("pool {}, field site", pool.id), &format!("{:?}", pool.site), &expected));
        }
        declare(pool, fleet, out)?;
        price(pool, fleet, out)?;
        // On-demand and spot pools that say nothing report that nobody knows.
        if matches!(pool.class.to_ascii_uppercase().replace('-', "_").as_str(), "ON_DEMAND" | "SPOT") {
            let Lead { event_id, source, occurred_us } = out.lead("availability", &pool.id);
            out.push(
                &format!("pool {}, field instances", pool.id),
                PoolAvailabilityReported {
                    event_id,
                    source,
                    occurred_us,
                    pool: PoolId::from(pool.id.as_str()),
                    instances: pool.instances.map(Count),
                },
            )?;
        }
    }
    for reserve in &fleet.reserve {
        let id = format!("{}/{}", reserve.domain, reserve.gpu_model);
        let Lead { event_id, source, occurred_us } = out.lead("reserve", &id);
        out.push(
            &format!("reserve {id}"),
            ReserveSet {
                event_id,
                source,
                occurred_us,
                domain: RefId::from(reserve.domain.as_str()),
                gpu_model: reserve.gpu_model.as_str().into(),
                held_back_milli: GpuMilli(reserve.gpus.0),
            },
        )?;
    }
    Ok(())
}

fn declare(pool: &format::Pool, fleet: &FleetFile, out: &mut Builder) -> Result<(), FleetError> {
    let place = format!("pool {}", pool.id);
    let Some(model) = fleet.gpu_model.iter().find(|model| model.id == pool.gpu_model) else {
        let known: Vec<&str> = fleet.gpu_model.iter().map(|model| model.id.as_str()).collect();
        let expected = format!("a gpu_model of this file: {}", known.join(", "));
        return Err(out.error(&format!("{place}, field gpu_model"), &format!("{:?}", pool.gpu_model), &expected));
    };
    let class =
        out.symbol(&format!("{place}, field class"), &pool.class, CapacityClass::parse, symbols_of!(CapacityClass))?;
    let fabric =
        out.symbol(&format!("{place}, field fabric"), &pool.fabric, FabricKind::parse, symbols_of!(FabricKind))?;
    let Lead { event_id, source, occurred_us } = out.lead("pool", &pool.id);
    out.push(
        &place,
        PoolDeclared {
            event_id,
            source,
            occurred_us,
            pool: PoolId::from(pool.id.as_str()),
            provider: pool.provider.as_str().into(),
            site: pool.site.as_str().into(),
            class,
            gpu_model: pool.gpu_model.as_str().into(),
            shape: InstanceShape {
                instance_type: Name::from(pool.instance_type.as_str()),
                gpus: Count(pool.gpus),
                cpu_milli: CpuMilli(pool.cpus.saturating_mul(1_000)),
                memory_mib: MemoryMib(pool.memory_gib.saturating_mul(1_024)),
                gpu_memory_mib: MemoryMib(pool.gpu_memory_mib.unwrap_or(model.memory_mib)),
                scratch_gib: StorageGib(pool.scratch_gib),
            },
            fabric,
            minimum_billing_us: pool.minimum_billing.0,
            granularity_us: pool.granularity.0,
            start_delay_us: pool.start_delay.0,
            commitment: pool.commitment.as_deref().map(RefId::from),
        },
    )
}

fn price(pool: &format::Pool, fleet: &FleetFile, out: &mut Builder) -> Result<(), FleetError> {
    let first = pool.price_per_gpu_hour.map(|price| (out.at(), price));
    let later = pool.price_change.iter().map(|change| (change.from.0, change.price_per_gpu_hour));
    for (effective, price) in first.into_iter().chain(later) {
        let lead = out.lead("price", &format!("{}/{}", pool.id, effective.0 / SECOND_US));
        out.push(
            &format!("pool {}, field price_per_gpu_hour", pool.id),
            PoolPriced {
                event_id: lead.event_id,
                source: lead.source,
                occurred_us: lead.occurred_us,
                pool: PoolId::from(pool.id.as_str()),
                price_micros_per_gpu_hour: RateMicros(price.0),
                currency: pool.currency.map_or(fleet.cell.currency.0, |currency| currency.0),
                effective_from_us: effective,
            },
        )?;
    }
    Ok(())
}
