//! How a fleet file writes quantities: amounts as decimal text, lengths of time with their unit, instants as RFC 3339.
//! A TOML float is refused, since it is not exact.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use solyx_schemas::units::*;

use crate::import::decimal;
use crate::import::table::parse_instant;

/// An amount in millionths: `"1.99"` or `2`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount(pub i64);

/// A ratio in thousandths: `"1.25"` or `1`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ratio(pub i64);

/// Degrees in 1e-7: `"50.11"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Degrees(pub i64);

/// A length of time: `"90s"`, `"30m"`, `"6h"`, `"14d"`, `"4y"` (of 365 days), `"250ms"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span(pub DurationUs);

/// An instant: `"2023-09-01T00:00:00Z"` or `"2023-09-01"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment(pub TimeUs);

/// A currency: `"USD"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Money(pub Currency);

struct TextOr<'a, T> {
    expected: &'a str,
    text: fn(&str) -> Option<T>,
    integer: fn(i64) -> Option<T>,
}

impl<T> Visitor<'_> for TextOr<'_, T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.text)(text).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<T, E> {
        (self.integer)(value).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Signed(value), &self))
    }
}

macro_rules! written {
    ($( $name:ident $expected:literal, $text:expr, $integer:expr; )*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(TextOr { expected: $expected, text: $text, integer: $integer })
            }
        }
    )*};
}

written! {
    Amount "an amount in quotes such as \"1.99\", or a whole number",
        |text| decimal::micros(text).ok().map(Self), |n| n.checked_mul(1_000_000).map(Self);
    Ratio "a ratio in quotes such as \"1.25\", or a whole number",
        |text| decimal::scaled(text, 1_000).ok().map(Self), |n| n.checked_mul(1_000).map(Self);
    Degrees "degrees in quotes such as \"50.11\", or a whole number",
        |text| decimal::scaled(text, 10_000_000).ok().map(Self), |n| n.checked_mul(10_000_000).map(Self);
    Span "a length of time such as \"90s\", \"30m\", \"6h\", \"14d\" or \"4y\"", span, |_| None;
    Moment "an instant such as \"2023-09-01T00:00:00Z\"", |text| parse_instant(text).map(Self), |_| None;
    Money "an ISO 4217 code such as \"USD\"", |text| Currency::parse(text).map(Self), |_| None;
}

fn span(text: &str) -> Option<Span> {
    let units =
        [("ms", 1_000), ("s", SECOND_US), ("m", 60 * SECOND_US), ("h", HOUR_US), ("d", DAY_US), ("y", 365 * DAY_US)];
    let (number, unit) = units.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)))?;
    let length = decimal::scaled(number, unit).ok().filter(|us| *us >= 0)?;
    Some(Span(DurationUs(length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_carry_their_unit() {
        let us = |text| span(text).map(|s| s.0.0);
        assert_eq!(us("90s"), Some(90 * SECOND_US));
        assert_eq!(us("250ms"), Some(250_000));
        assert_eq!(us("1.5h"), Some(90 * 60 * SECOND_US));
        assert_eq!(us("4y"), Some(4 * 365 * DAY_US));
        for wrong in ["", "h", "5", "-1s", "1 week", "1e30d"] {
            assert_eq!(us(wrong), None, "{wrong:?}");
        }
    }
}
