//! Pools of all four classes: what they are, cost and have to give, and the record of what spot capacity was left to run.

use solyx_schemas::events::capacity::*;
use solyx_schemas::events::plans::AvailabilityScripted;
use solyx_schemas::units::*;

use super::models::Model;
use super::plan::{LeasedPool, NODE_GPUS, Plan};
use super::world::{World, money, say};

const MINUTE_US: i64 = 60 * SECOND_US;
/// Hours between two reports of what can be had on demand, and between two changes of spot capacity.
const REPORT_HOURS: usize = 6;
const SPOT_HOURS: usize = 3;

pub(super) fn build(plan: &Plan, world: &mut World<'_>) {
    for (n, pool) in plan.node_pools.iter().enumerate() {
        let site = &plan.sites[pool.site];
        // The second pool is declared after its nodes have been reported.
        let said = if n == 1 { TimeUs(plan.opening.0 + 14 * HOUR_US) } else { plan.opening };
        say!(
            world,
            said,
            "pool",
            &pool.id,
            PoolDeclared {
                pool: pool.id.as_str().into(),
                provider: site.provider.into(),
                site: site.id.as_str().into(),
                class: if pool.owned { CapacityClass::Owned } else { CapacityClass::Reserved },
                gpu_model: pool.model.id.into(),
                shape: shape(pool.model),
                fabric: if pool.model.nvlink > 1 { FabricKind::Infiniband } else { FabricKind::Roce },
                minimum_billing_us: DurationUs::ZERO,
                granularity_us: DurationUs(SECOND_US),
                start_delay_us: DurationUs::ZERO,
                commitment: (!pool.owned).then(|| format!("commitment/{}", pool.id).as_str().into()),
            }
        );
        let price = if pool.owned { 0 } else { pool.model.cost_milli * 600 };
        priced(world, &pool.id, 0, plan.opening, price, "USD");
    }
    for pool in &plan.leased_pools {
        leased(plan, pool, world);
        if pool.spot {
            spot(plan, pool, world);
        } else {
            reports(plan, pool, world);
        }
    }
}

/// An instance or node of eight GPUs of a model.
fn shape(model: &Model) -> InstanceShape {
    InstanceShape {
        instance_type: format!("8x{}", model.id).as_str().into(),
        gpus: Count(NODE_GPUS),
        cpu_milli: CpuMilli(super::nodes::CPU_MILLI),
        memory_mib: MemoryMib(super::nodes::MEMORY_MIB),
        gpu_memory_mib: MemoryMib(model.memory_mib),
        scratch_gib: StorageGib(super::nodes::SCRATCH_GIB),
    }
}

fn priced(world: &mut World<'_>, pool: &str, n: usize, at: TimeUs, micros: i64, currency: &str) {
    say!(
        world,
        at,
        "pool-priced",
        &format!("{pool}/{n}"),
        PoolPriced {
            pool: pool.into(),
            price_micros_per_gpu_hour: RateMicros(micros),
            currency: money(currency),
            effective_from_us: at,
        }
    );
}

fn leased(plan: &Plan, pool: &LeasedPool, world: &mut World<'_>) {
    let site = &plan.sites[pool.site];
    let minimum = *plan.luck.pick("minimum-billing", &pool.id, &[1, 10, 60]);
    say!(
        world,
        plan.opening,
        "pool",
        &pool.id,
        PoolDeclared {
            pool: pool.id.as_str().into(),
            provider: site.provider.into(),
            site: site.id.as_str().into(),
            class: if pool.spot { CapacityClass::Spot } else { CapacityClass::OnDemand },
            gpu_model: pool.model.id.into(),
            shape: shape(pool.model),
            fabric: FabricKind::Ethernet,
            minimum_billing_us: DurationUs(minimum * MINUTE_US),
            granularity_us: DurationUs(if pool.spot { SECOND_US } else { MINUTE_US }),
            start_delay_us: DurationUs(plan.luck.between("start-delay", &pool.id, 2, 6) * MINUTE_US),
            commitment: None,
        }
    );
    // Spot prices move every six hours, the others each day.
    let hours = if pool.spot { 6 } else { 24 };
    let part_milli = if pool.spot { 380 } else { 1_000 };
    for (n, at) in plan.hours(plan.start, plan.end).step_by(hours).enumerate() {
        let id = format!("{}/{n}", pool.id);
        let base = pool.model.cost_milli * part_milli;
        let micros = base * plan.luck.between("pool-price", &id, 900, 1_150) / 1_000;
        let at = if n == 0 { plan.opening } else { at };
        priced(world, &pool.id, n, at, micros, site.place.currency);
    }
}

/// What a provider says can be had on demand; now and then it does not say.
fn reports(plan: &Plan, pool: &LeasedPool, world: &mut World<'_>) {
    for (n, at) in plan.hours(plan.start, plan.end).step_by(REPORT_HOURS).enumerate() {
        let id = format!("{}/{n}", pool.id);
        let unknown = n > 0 && plan.luck.chance("availability-unknown", &id, 50);
        let instances = Count(plan.luck.between("availability", &id, pool.instances / 2, pool.instances));
        let at = if n == 0 { plan.opening } else { at };
        say!(
            world,
            at,
            "availability",
            &id,
            PoolAvailabilityReported { pool: pool.id.as_str().into(), instances: (!unknown).then_some(instances) }
        );
    }
}

fn spot(plan: &Plan, pool: &LeasedPool, world: &mut World<'_>) {
    for (n, from) in plan.hours(plan.opening, plan.end).step_by(SPOT_HOURS).enumerate() {
        let id = format!("{}/{n}", pool.id);
        let gone = plan.luck.chance("spot-gone", &id, 120);
        let instances = if gone { 0 } else { plan.luck.between("spot", &id, 1, pool.instances) };
        let from = if n == 0 { plan.opening } else { from };
        say!(
            world,
            plan.opening,
            "spot-scripted",
            &id,
            AvailabilityScripted { pool: pool.id.as_str().into(), from_us: from, instances: Count(instances) }
        );
    }
}
