//! What is asked for how often, from which plans of packing are made.

use serde::{Deserialize, Serialize};
use solyx_schemas::ids::GpuModelId;
use solyx_schemas::units::*;

/// A kind of job, as far as packing tells kinds apart. Memory has no price: kinds that differ in it only are one.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KindKey {
    /// CPU per replica.
    pub cpu_milli: CpuMilli,
    /// GPUs per replica.
    pub gpus: i64,
    /// Share of each.
    pub gpu_milli_each: GpuMilli,
    /// Acceptable models, sorted; none means any.
    pub models: Vec<GpuModelId>,
}

/// How often a kind was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frequency {
    /// Replicas; every count is halved now and then.
    pub count: i64,
    /// The least memory per replica among them.
    pub memory_mib: MemoryMib,
}

/// How many jobs were asked for while plans are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    /// Requests that counted, in all.
    pub requests: i64,
    /// Sum of the counts of kinds.
    pub counted: i64,
}
