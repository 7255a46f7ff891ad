//! Splitting what was used over an interval at boundaries, in proportion to time, as exact fractions.

use solyx_schemas::units::TimeUs;

use super::{Fraction, Month, Price, RatingError};

/// A part of an interval with its share of the quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Start.
    pub from: TimeUs,
    /// End.
    pub to: TimeUs,
    /// Share of the quantity, in the meter's unit.
    pub quantity: Fraction,
}

/// A part of metered usage within one month and under one price.
#[derive(Clone, Debug)]
pub struct RatedPart<'a> {
    /// Month it belongs to.
    pub month: Month,
    /// The part.
    pub part: Part,
    /// Its price; absent when no card in force has one.
    pub price: Option<Price<'a>>,
}

/// Splits `quantity` over [from, to) at the boundaries that lie within; they must be sorted. What has no length stays whole.
pub fn split(from: TimeUs, to: TimeUs, quantity: i128, boundaries: &[TimeUs]) -> Result<Vec<Part>, RatingError> {
    let mut parts = Vec::new();
    let length = i128::from(to.0) - i128::from(from.0);
    if length <= 0 {
        return Ok(vec![Part { from, to: from, quantity: Fraction::whole(quantity) }]);
    }
    let mut start = from;
    for &boundary in boundaries.iter().chain([&to]) {
        if boundary <= start || boundary > to {
            continue;
        }
        let share = i128::from(boundary.0 - start.0);
        let quantity = Fraction::whole(quantity).scaled(share, length, "the share of an interval")?;
        parts.push(Part { from: start, to: boundary, quantity });
        start = boundary;
    }
    Ok(parts)
}

/// The starts of months within (from, to).
pub(super) fn month_boundaries(from: TimeUs, to: TimeUs) -> Vec<TimeUs> {
    let mut boundaries = Vec::new();
    let mut next = Month::of(from).end();
    while next < to {
        boundaries.push(next);
        next = Month::of(next).end();
    }
    boundaries
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use solyx_schemas::units::parse_time;

    use super::*;

    #[test]
    fn an_interval_over_the_end_of_a_month_gives_each_month_its_time() {
        let from = parse_time("2023-09-30T23:40:00Z").unwrap();
        let to = parse_time("2023-10-01T00:20:00Z").unwrap();
        let parts = split(from, to, 7, &month_boundaries(from, to)).unwrap();
        assert_eq!(parts.len(), 2);
        assert_eq!(parts[0].quantity, Fraction::new(7, 2));
        assert_eq!(parts[1].from, parse_time("2023-10-01").unwrap());
        assert_eq!(parts[1].quantity, Fraction::new(7, 2));
    }

    #[test]
    fn what_has_no_length_stays_whole() {
        let parts = split(TimeUs(5), TimeUs(5), 3, &[TimeUs(5)]).unwrap();
        assert_eq!(parts, [Part { from: TimeUs(5), to: TimeUs(5), quantity: Fraction::whole(3) }]);
    }

    proptest! {
        #[test]
        fn parts_add_up_to_the_whole_and_touch(
            from in 0_i64..1_000_000, length in 1_i64..4_000_000_000, quantity in 0_i128..9_000_000_000_000_000_000,
            mut cuts in proptest::collection::vec(0_i64..4_001_000_000, 0..5),
        ) {
            cuts.sort_unstable();
            let cuts: Vec<TimeUs> = cuts.into_iter().map(TimeUs).collect();
            let parts = split(TimeUs(from), TimeUs(from + length), quantity, &cuts).unwrap();
            let mut sum = Fraction::ZERO;
            let mut end = TimeUs(from);
            for part in &parts {
                prop_assert_eq!(part.from, end);
                prop_assert!(part.from < part.to);
                end = part.to;
                sum = sum.plus(part.quantity, "sum").unwrap();
            }
            prop_assert_eq!(end, TimeUs(from + length));
            prop_assert_eq!(sum, Fraction::whole(quantity));
        }
    }
}
