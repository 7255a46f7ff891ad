//! Views as a person reads them. Scripts read their JSON.

pub mod billing;
pub mod dcim;
pub mod failover;
pub mod invoice;
pub mod jobs;
pub mod power;
