//! What the kernel decides: scenarios, and laws over random histories. One binary, since each would link all of it again.
#![allow(clippy::unwrap_used)]

mod backfill;
mod budgets;
mod elastic;
mod laws;
mod leasing;
mod mig;
mod model_guarantees;
mod moving;
mod overtaking;
mod packing_laws;
mod packing_plan;
mod power;
mod preemption;
mod prices;
mod queues;
mod recovery;
mod reservations;
mod scheduling;
mod sealed_fields;
mod set_aside;
mod share_surcharge;
mod snapshots;
mod topology;
mod trouble;
mod whatif;
mod whatif_job;
mod whatif_told;

use solyx_schemas::events::Event;
use solyx_schemas::events::policy::{PriorityClassSet, QuotaSet};
use solyx_schemas::ids::{ClassId, TenantId};
use solyx_schemas::units::GpuMilli;

/// A class that may be preempted.
fn class(name: &str, value: i64, preempts: bool) -> Event {
    let class = ClassId::from(name);
    PriorityClassSet { class, value, preempts, preemptible: true, ..PriorityClassSet::default() }.into()
}

/// One that preempts if its value is above zero.
fn class_of_value(name: &str, value: i64) -> Event {
    class(name, value, value > 0)
}

/// A tenant's guaranteed share of all GPUs.
fn guaranteed_to(tenant: &str, gpus: i64) -> QuotaSet {
    let tenant = TenantId::from(tenant);
    QuotaSet { tenant, guaranteed_milli: GpuMilli(gpus * 1_000), ..QuotaSet::default() }
}
