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
mod packing_laws;
mod packing_plan;
mod power;
mod preemption;
mod queues;
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

use solyx_schemas::events::policy::PriorityClassSet;
use solyx_schemas::ids::ClassId;

/// A class that may be preempted, and preempts if its value is above zero.
fn class_of_value(name: &str, value: i64) -> solyx_schemas::events::Event {
    let (class, preempts) = (ClassId::from(name), value > 0);
    PriorityClassSet { class, value, preempts, preemptible: true, ..PriorityClassSet::default() }.into()
}
