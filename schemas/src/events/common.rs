//! Records that several areas share.

use crate::ids::*;
use crate::units::*;

records! { "solyx.common";
    /// An amount of money.
    Sum {
        /// Currency.
        currency: Currency,
        /// Amount in millionths of it.
        micros: MoneyMicros,
    }
    /// A name and a value that people attach.
    Label {
        /// Name.
        name: Name,
        /// Value.
        value: String,
    }
    /// GPUs of one node, by index.
    NodeGpus {
        /// The node or leased instance.
        node: NodeId,
        /// Indices of the GPUs on it; empty for a job without GPUs.
        gpus: Vec<i64>,
        /// Share of each of them.
        gpu_milli_each: GpuMilli,
    }
}
