//! Quantities with their units, and arithmetic that says what overflowed.
//!
//! Money is an integer number of micro-units of a named currency; rates are micro-units per GPU-hour (GB, MWh). Time is
//! microseconds UTC. Nothing here is a float.

use serde_json::{Value, json};

use crate::field::{Field, FieldError, Seen};

/// An addition, subtraction or multiplication that left the range of its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} overflows the range of {unit}")]
pub struct Overflow {
    /// What was computed.
    pub what: &'static str,
    /// The unit it was computed in.
    pub unit: &'static str,
}

/// Microseconds in a second.
pub const SECOND_US: i64 = 1_000_000;
/// Microseconds in an hour.
pub const HOUR_US: i64 = 3_600 * SECOND_US;
/// Microseconds in a day.
pub const DAY_US: i64 = 24 * HOUR_US;
/// Thousandths of a GPU × microseconds in one GPU-hour: the divisor of a rate per GPU-hour.
pub const GPU_MILLI_US_PER_GPU_HOUR: i128 = 1_000 * HOUR_US as i128;
/// Joules in a megawatt-hour: the divisor of an energy price.
pub const JOULES_PER_MWH: i128 = 3_600_000_000;
/// Joules in a kilowatt-hour: the divisor of a carbon intensity.
pub const JOULES_PER_KWH: i128 = 3_600_000;
/// The last instant the contract allows: 2200-01-01T00:00:00Z.
pub const TIME_MAX_US: i64 = 7_258_118_400 * SECOND_US;

quantities! {
    /// An instant, microseconds since 1970-01-01T00:00:00 UTC.
    TimeUs ["µs UTC"] 0..=TIME_MAX_US;
    /// A length of time.
    DurationUs ["µs"] 0..=TIME_MAX_US;
    /// Work: microseconds at speed 1000.
    WorkUs ["µs at speed 1000"] 0..=TIME_MAX_US;
    /// An amount in millionths of a currency unit; the currency stands beside it.
    MoneyMicros ["micros"] -1_000_000_000_000_000_000..=1_000_000_000_000_000_000_i64;
    /// Millionths of a currency unit per GPU-hour, GB or MWh, as the field's name says.
    RateMicros ["micros per unit"] -1_000_000_000_000_000..=1_000_000_000_000_000_i64;
    /// Power.
    PowerW ["W"] 0..=100_000_000_000_i64;
    /// Energy.
    EnergyJ ["J"] 0..=1_000_000_000_000_000_000_i64;
    /// Carbon, milligrams of CO2 equivalent.
    CarbonMg ["mg CO2e"] 0..=1_000_000_000_000_000_000_i64;
    /// Carbon intensity, milligrams of CO2 equivalent per kilowatt-hour.
    CarbonIntensityMgPerKwh ["mg CO2e/kWh"] 0..=10_000_000_000_i64;
    /// A share of a GPU, in thousandths.
    GpuMilli ["GPU/1000"] 0..=1_000_000_000_i64;
    /// Processor time share, thousandths of a core.
    CpuMilli ["CPU/1000"] 0..=1_000_000_000_i64;
    /// Memory.
    MemoryMib ["MiB"] 0..=1_000_000_000_000_i64;
    /// Storage.
    StorageGib ["GiB"] 0..=1_000_000_000_000_i64;
    /// A ratio in thousandths (PUE, derating, relative speed, weights).
    Milli ["1/1000"] 0..=1_000_000_000_i64;
    /// What a meter counted, in the meter's unit. Wider than a count: an hour of 300 GPUs or of 300 GiB is beyond 1e15.
    UsageQuantity ["meter units"] 0..=9_000_000_000_000_000_000_i64;
    /// A number of things, never negative.
    Count ["count"] 0..=1_000_000_000_000_000_000_i64;
}

impl TimeUs {
    /// This instant and `duration` later; stays at the end of time rather than leave it.
    pub fn after(self, duration: DurationUs) -> Self {
        Self(self.0.saturating_add(duration.0))
    }

    /// Time from `earlier` until this instant; zero if it is not earlier.
    pub fn since(self, earlier: Self) -> DurationUs {
        DurationUs((self.0 - earlier.0).max(0))
    }
}

pub(crate) fn quantity_schema(unit: &str) -> Value {
    if unit == "µs UTC" {
        return json!({"type": "long", "logicalType": "timestamp-micros", "unit": unit});
    }
    json!({"type": "long", "unit": unit})
}

/// 2023-09-04T00:00:00Z: the Monday at which examples happen.
const EXAMPLE_TIME_US: i64 = 1_693_785_600 * SECOND_US;

pub(crate) fn example_quantity(unit: &str, name: &str) -> i64 {
    let hours = match name {
        name if name.starts_with("to_") || name.contains("_to_") || name.contains("until") || name.contains("end") => {
            24
        }
        name if name.contains("deadline") => 48,
        _ => 0,
    };
    match unit {
        "µs UTC" => EXAMPLE_TIME_US + hours * HOUR_US,
        "µs" | "µs at speed 1000" => HOUR_US,
        "micros" | "micros per unit" => 2_500_000,
        "W" => 700,
        "J" => 3_600_000,
        "mg CO2e" | "mg CO2e/kWh" => 250_000,
        "MiB" => 16_384,
        "GiB" => 100,
        "count" => 8,
        _ => 1_000,
    }
}

/// An ISO 4217 currency code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

impl Currency {
    /// The currency of a three-letter code in capitals.
    pub fn parse(code: &str) -> Option<Self> {
        let bytes: [u8; 3] = code.as_bytes().try_into().ok()?;
        bytes.iter().all(u8::is_ascii_uppercase).then_some(Self(bytes))
    }

    /// The code.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("???")
    }
}

impl Default for Currency {
    fn default() -> Self {
        Self(*b"XXX")
    }
}

impl std::fmt::Display for Currency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::fmt::Debug for Currency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for Currency {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> serde::Deserialize<'de> for Currency {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text)
            .ok_or_else(|| serde::de::Error::custom(format!("found \"{text}\", expected an ISO 4217 code such as USD")))
    }
}

impl Field for Currency {
    fn schema(_: &mut Seen) -> Value {
        json!("string")
    }

    fn check(&self) -> Result<(), FieldError> {
        if *self == Self::default() {
            return Err(FieldError::here("XXX", "an ISO 4217 code such as USD"));
        }
        Ok(())
    }

    fn example(name: &str) -> Self {
        Self(if name == "from_currency" { *b"EUR" } else { *b"USD" })
    }

    fn write(&self, out: &mut Vec<u8>) {
        crate::wire::write_str(self.as_str(), out);
    }

    fn read(input: &mut &[u8]) -> Result<Self, FieldError> {
        let code = crate::wire::read_str(input)?;
        Self::parse(code).ok_or_else(|| FieldError::here(format!("{code:?}"), "an ISO 4217 code such as USD"))
    }
}

/// An instant as RFC 3339 text in UTC, with microseconds only where there are some.
pub fn rfc3339(time: TimeUs) -> String {
    let instant = chrono::DateTime::from_timestamp_micros(time.0).unwrap_or_default();
    instant.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
}

/// The instant of RFC 3339 text, or of a date alone at midnight UTC.
pub fn parse_time(text: &str) -> Option<TimeUs> {
    if let Ok(instant) = chrono::DateTime::parse_from_rfc3339(text) {
        return Some(TimeUs(instant.timestamp_micros()));
    }
    let date = chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    Some(TimeUs(date.and_hms_opt(0, 0, 0)?.and_utc().timestamp_micros()))
}
