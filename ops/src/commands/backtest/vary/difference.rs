//! Differences of numbers to those of the base.

use serde_json::{Map, Value};

use super::numbers::{MEASURES, Numbers};

/// Each number less the base's, by name; what either does not have is left out.
pub fn of(numbers: &Numbers, base: &Numbers) -> Map<String, Value> {
    let difference = |measure: &super::numbers::Measure| {
        let less = (measure.of)(numbers)?.checked_sub((measure.of)(base)?)?;
        Some((measure.name.to_owned(), Value::from(less)))
    };
    MEASURES.iter().filter_map(difference).collect()
}

/// The part by which a number is above another, in thousandths; absent when that is nothing.
pub fn part_milli(value: i64, base: i64) -> Option<i64> {
    let less = i128::from(value) - i128::from(base);
    (less * 1_000).checked_div(i128::from(base).abs()).and_then(|milli| i64::try_from(milli).ok())
}
