//! What a price of each meter is per.
//!
//! | meter | its own unit | priced per | own units in that |
//! |---|---|---|---|
//! | GPU_TIME | thousandths of a GPU × µs | GPU-hour | 3.6e12 |
//! | CPU_TIME | thousandths of a core × µs | core-hour | 3.6e12 |
//! | MEMORY | MiB × µs | GiB-hour | 1,024 × 3.6e9 |
//! | SCRATCH, STORAGE | GiB × µs | GiB-hour | 3.6e9 |
//! | ENERGY | J | kWh | 3.6e6 |
//! | EGRESS | bytes | GB (1e9 bytes) | 1e9 |
//! | TOKENS, REQUESTS | one | thousand | 1,000 |

use solyx_schemas::events::usage::Meter;
use solyx_schemas::units::{GPU_MILLI_US_PER_GPU_HOUR, HOUR_US, JOULES_PER_KWH};

use super::RatingError;

const HOUR: i128 = HOUR_US as i128;

/// How many of the meter's own units one priced unit holds: the divisor of quantity × rate.
pub fn units_per_price(meter: Meter) -> Result<i128, RatingError> {
    match meter {
        Meter::GpuTime => Ok(GPU_MILLI_US_PER_GPU_HOUR),
        Meter::CpuTime => Ok(1_000 * HOUR),
        Meter::Memory => Ok(1_024 * HOUR),
        Meter::Scratch | Meter::Storage => Ok(HOUR),
        Meter::Energy => Ok(JOULES_PER_KWH),
        Meter::Egress => Ok(1_000_000_000),
        Meter::Tokens | Meter::Requests => Ok(1_000),
        Meter::Unknown => Err(RatingError::UnknownMeter),
    }
}

/// The unit that a price of the meter is per, as invoices print it.
pub fn price_unit(meter: Meter) -> &'static str {
    match meter {
        Meter::GpuTime => "GPU-hour",
        Meter::CpuTime => "core-hour",
        Meter::Memory | Meter::Scratch | Meter::Storage => "GiB-hour",
        Meter::Energy => "kWh",
        Meter::Egress => "GB",
        Meter::Tokens => "1000 tokens",
        Meter::Requests => "1000 requests",
        Meter::Unknown => "unknown",
    }
}
