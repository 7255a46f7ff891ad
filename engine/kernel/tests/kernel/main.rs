//! What the kernel decides: scenarios, and laws over random histories. One binary, since each would link all of it again.
#![allow(clippy::unwrap_used)]

mod backfill;
mod budgets;
mod elastic;
mod laws;
mod leasing;
mod mig;
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
