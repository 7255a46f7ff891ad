//! Fractions of two integers, reduced, with a positive denominator.

use serde::{Deserialize, Serialize};

use super::{RatingError, overflow};

/// An exact value. Equal values are equal fractions, since both parts are always reduced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Kept")]
pub struct Fraction {
    numerator: i128,
    denominator: i128,
}

/// A fraction as somebody has kept it.
#[derive(Deserialize)]
struct Kept {
    numerator: i128,
    denominator: i128,
}

impl TryFrom<Kept> for Fraction {
    type Error = String;

    fn try_from(Kept { numerator, denominator }: Kept) -> Result<Self, String> {
        match gcd(numerator.unsigned_abs(), denominator.unsigned_abs()) {
            1 if denominator > 0 => Ok(Self { numerator, denominator }),
            _ => Err(format!(
                "found the fraction {numerator}/{denominator}, expected a reduced one of a positive denominator"
            )),
        }
    }
}

fn gcd(a: u128, b: u128) -> u128 {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

impl Fraction {
    /// Nothing.
    pub const ZERO: Self = Self { numerator: 0, denominator: 1 };

    /// A whole number.
    pub fn whole(value: i128) -> Self {
        Self { numerator: value, denominator: 1 }
    }

    /// `numerator / denominator`; the denominator must be positive.
    pub fn new(numerator: i128, denominator: i128) -> Self {
        assert!(denominator > 0, "a fraction's denominator is positive");
        let common = gcd(numerator.unsigned_abs(), denominator.unsigned_abs());
        // The common divisor is at most the denominator, which is an i128.
        let common = common as i128;
        Self { numerator: numerator / common, denominator: denominator / common }
    }

    /// The reduced numerator.
    pub fn numerator(self) -> i128 {
        self.numerator
    }

    /// The reduced denominator, at least 1.
    pub fn denominator(self) -> i128 {
        self.denominator
    }

    /// Whether it is nothing.
    pub fn is_zero(self) -> bool {
        self.numerator == 0
    }

    /// The sum; an overflow names `what`.
    pub fn plus(self, other: Self, what: &'static str) -> Result<Self, RatingError> {
        let common = gcd(self.denominator.unsigned_abs(), other.denominator.unsigned_abs()) as i128;
        let other_factor = other.denominator / common;
        let numerator = self
            .numerator
            .checked_mul(other_factor)
            .zip(other.numerator.checked_mul(self.denominator / common))
            .and_then(|(a, b)| a.checked_add(b));
        let denominator = self.denominator.checked_mul(other_factor);
        numerator.zip(denominator).map(|(n, d)| Self::new(n, d)).ok_or(overflow(what))
    }

    /// The difference; an overflow names `what`.
    pub fn minus(self, other: Self, what: &'static str) -> Result<Self, RatingError> {
        self.plus(other.negated(what)?, what)
    }

    /// The value with the other sign.
    pub fn negated(self, what: &'static str) -> Result<Self, RatingError> {
        let numerator = self.numerator.checked_neg().ok_or(overflow(what))?;
        Ok(Self { numerator, denominator: self.denominator })
    }

    /// `self × numerator / denominator`; the denominator must be positive. Factors are cancelled before they are multiplied.
    pub fn scaled(self, numerator: i128, denominator: i128, what: &'static str) -> Result<Self, RatingError> {
        let factor = Self::new(numerator, denominator);
        let across = Self::new(self.numerator, factor.denominator);
        let back = Self::new(factor.numerator, self.denominator);
        let numerator = across.numerator.checked_mul(back.numerator);
        let denominator = across.denominator.checked_mul(back.denominator);
        numerator.zip(denominator).map(|(n, d)| Self { numerator: n, denominator: d }).ok_or(overflow(what))
    }

    /// The smaller of two; an overflow of the comparison names `what`.
    pub fn min(self, other: Self, what: &'static str) -> Result<Self, RatingError> {
        Ok(if self.minus(other, what)?.numerator <= 0 { self } else { other })
    }

    /// The largest whole number that is not larger.
    pub fn floor(self) -> i128 {
        self.numerator.div_euclid(self.denominator)
    }

    /// The smallest whole number that is not smaller.
    pub fn ceil(self) -> i128 {
        self.floor() + i128::from(self.denominator != 1)
    }

    /// The nearest whole number; exactly between two, the even one.
    pub fn round_half_even(self) -> i128 {
        let floor = self.floor();
        let above = self.numerator.rem_euclid(self.denominator);
        let to_next = self.denominator - above;
        match above.cmp(&to_next) {
            std::cmp::Ordering::Less => floor,
            std::cmp::Ordering::Greater => floor + 1,
            std::cmp::Ordering::Equal => floor + floor.rem_euclid(2),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_half_goes_to_the_even_neighbour_on_both_sides_of_zero() {
        let rounded: Vec<i128> =
            [-5, -3, -1, 1, 3, 5, 7].iter().map(|&n| Fraction::new(n, 2).round_half_even()).collect();
        assert_eq!(rounded, [-2, -2, 0, 0, 2, 2, 4]);
        assert_eq!(Fraction::new(5, 3).round_half_even(), 2);
        assert_eq!(Fraction::new(-4, 3).round_half_even(), -1);
        assert_eq!(Fraction::new(3, 2).ceil(), 2);
        assert_eq!(Fraction::new(-3, 2).ceil(), -1);
        assert_eq!(Fraction::whole(4).ceil(), 4);
    }

    #[test]
    fn what_overflowed_is_named() {
        let large = Fraction::whole(i128::MAX);
        let error = large.plus(Fraction::whole(1), "the total of an invoice").unwrap_err();
        assert_eq!(
            error.to_string(),
            "the total of an invoice overflows the range of rating, which is 128 bits for exact amounts and 64 for rounded ones"
        );
        assert!(Fraction::new(1, i128::MAX).scaled(1, 2, "a split").is_err());
        assert_eq!(large.scaled(2, i128::MAX, "a split"), Ok(Fraction::whole(2)));
    }

    proptest! {
        #[test]
        fn sums_and_products_agree_with_cross_multiplication(
            a in -1_000_000_i128..1_000_000, b in 1_i128..100_000,
            c in -1_000_000_i128..1_000_000, d in 1_i128..100_000,
        ) {
            let sum = Fraction::new(a, b).plus(Fraction::new(c, d), "sum").unwrap();
            prop_assert_eq!(sum.numerator() * b * d, (a * d + c * b) * sum.denominator());
            let product = Fraction::new(a, b).scaled(c, d, "product").unwrap();
            prop_assert_eq!(product.numerator() * b * d, a * c * product.denominator());
            prop_assert_eq!(product, Fraction::new(product.numerator(), product.denominator()));
        }

        #[test]
        fn rounding_moves_by_at_most_a_half(a in -1_000_000_i128..1_000_000, b in 1_i128..1_000) {
            let value = Fraction::new(a, b);
            let off = Fraction::whole(value.round_half_even()).minus(value, "difference").unwrap();
            prop_assert!(off.numerator().abs() * 2 <= off.denominator());
            prop_assert!(value.floor() <= value.ceil() && value.ceil() - value.floor() <= 1);
        }
    }
}
