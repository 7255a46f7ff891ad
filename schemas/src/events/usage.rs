//! What meters say, and what suppliers charge.

use crate::events::common::Sum;
use crate::ids::*;
use crate::units::*;

symbols! { "solyx.usage";
    /// What is metered; each meter has one unit.
    Meter {
        /// thousandths of a GPU × µs
        GpuTime = "GPU_TIME",
        /// thousandths of a core × µs
        CpuTime = "CPU_TIME",
        /// MiB × µs
        Memory = "MEMORY",
        /// GiB × µs
        Scratch = "SCRATCH",
        /// joules
        Energy = "ENERGY",
        /// bytes that left a region
        Egress = "EGRESS",
        /// GiB × µs
        Storage = "STORAGE",
        /// tokens
        Tokens = "TOKENS",
        /// requests
        Requests = "REQUESTS",
    }
}

records! { "solyx.usage";
    /// A line of a supplier's invoice.
    SupplierLine {
        /// Instance or commitment it is for.
        subject: RefId,
        /// What it says.
        description: String,
        /// Amount.
        amount: Sum,
    }
}

inputs! { "solyx.usage", Usage;
    /// What one run used of one meter within one clock hour.
    UsageMetered key |e| e.job.as_str().into(); {
        /// The job.
        job: JobId,
        /// The run.
        run: RunId,
        /// Node or instance; absent when it is the whole run's.
        node: Option<NodeId>,
        /// The meter.
        meter: Meter,
        /// Quantity in the meter's unit.
        quantity: UsageQuantity,
        /// Start of the interval.
        from_us: TimeUs,
        /// End of the interval.
        to_us: TimeUs,
    }
    /// A correction of usage metered before.
    UsageCorrected key |e| e.job.as_str().into(); {
        /// The job.
        job: JobId,
        /// Source of the event it corrects.
        corrects_source: SourceId,
        /// Id of the event it corrects.
        corrects_event: EventId,
        /// Difference in the meter's unit; negative takes away.
        difference: i64,
        /// Why.
        reason: String,
    }
    /// A supplier's invoice.
    SupplierInvoiced key |e| e.provider.as_str().into(); {
        /// The provider.
        provider: ProviderId,
        /// Its number.
        invoice: RefId,
        /// The month, as in `2023-09`.
        period: Name,
        /// Its lines.
        lines: Vec<SupplierLine>,
    }
}
