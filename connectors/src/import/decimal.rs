//! Decimal text into integers, exactly: the only way a price, a duration or an intensity enters from a file. No floats.

/// Why a text is not a number that fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    /// Not a decimal number.
    #[error("a decimal number such as -12.5 or 1.5e-3")]
    NotANumber,
    /// Too many digits or too large an exponent to be held exactly.
    #[error("a decimal number of at most {DIGITS_MAX} digits")]
    TooLong,
    /// Does not fit after scaling.
    #[error("a decimal number that fits 64 bits in its unit")]
    Overflow,
}

/// The most significant digits a number may have.
pub const DIGITS_MAX: u32 = 30;

/// A decimal number as written: `mantissa` / 10^`scale`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal {
    mantissa: i128,
    scale: u32,
}

impl Decimal {
    /// Reads `[+-]digits[.digits][e[+-]digits]`; blanks around it are allowed, nothing else is.
    pub fn parse(text: &str) -> Result<Self, DecimalError> {
        let text = text.trim();
        let (number, exponent) = match text.split_once(['e', 'E']) {
            Some((number, exponent)) => (number, exponent.parse::<i32>().map_err(|_| DecimalError::NotANumber)?),
            None => (text, 0),
        };
        let (negative, digits) = match number.as_bytes() {
            [b'-', ..] => (true, &number[1..]),
            [b'+', ..] => (false, &number[1..]),
            _ => (false, number),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if whole.len() + fraction.len() == 0 || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
            return Err(DecimalError::NotANumber);
        }
        let mut mantissa: i128 = 0;
        let mut significant = 0;
        for digit in whole.bytes().chain(fraction.bytes()) {
            mantissa = mantissa * 10 + i128::from(digit - b'0');
            significant += u32::from(mantissa != 0);
            if significant > DIGITS_MAX {
                return Err(DecimalError::TooLong);
            }
        }
        let mut scale = i64::try_from(fraction.len()).map_err(|_| DecimalError::TooLong)? - i64::from(exponent);
        while scale < 0 && mantissa != 0 {
            significant += 1;
            if significant > DIGITS_MAX {
                return Err(DecimalError::TooLong);
            }
            mantissa *= 10;
            scale += 1;
        }
        while scale > 0 && mantissa % 10 == 0 && mantissa != 0 {
            mantissa /= 10;
            scale -= 1;
        }
        let scale = if mantissa == 0 { 0 } else { u32::try_from(scale).map_err(|_| DecimalError::TooLong)? };
        if scale > DIGITS_MAX {
            return Err(DecimalError::TooLong);
        }
        Ok(Self { mantissa: if negative { -mantissa } else { mantissa }, scale })
    }

    /// The number times `multiplier` as an integer. What lies beyond the unit is rounded once, half to even.
    pub fn times(self, multiplier: i64) -> Result<i64, DecimalError> {
        let product = self.mantissa.checked_mul(i128::from(multiplier)).ok_or(DecimalError::Overflow)?;
        let divisor = 10_i128.pow(self.scale);
        let quotient = product.div_euclid(divisor);
        let rest = product.rem_euclid(divisor);
        let up = 2 * rest > divisor || (2 * rest == divisor && quotient % 2 != 0);
        i64::try_from(quotient + i128::from(up)).map_err(|_| DecimalError::Overflow)
    }
}

/// Decimal text times `multiplier` as an integer: seconds to microseconds with 1,000,000, grams to milligrams with 1,000.
pub fn scaled(text: &str, multiplier: i64) -> Result<i64, DecimalError> {
    Decimal::parse(text)?.times(multiplier)
}

/// Decimal text in millionths: prices, and seconds as microseconds.
pub fn micros(text: &str) -> Result<i64, DecimalError> {
    scaled(text, 1_000_000)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn prices_become_millionths_exactly() {
        for (text, expected) in [
            ("6.44", 6_440_000),
            ("-30.62", -30_620_000),
            ("0", 0),
            ("-0.0", 0),
            (" +1.000001 ", 1_000_001),
            (".5", 500_000),
            ("7.", 7_000_000),
            ("1.5e-3", 1_500),
            ("2E3", 2_000_000_000),
            ("0.0000005", 0),
            ("0.0000015", 2),
            ("-0.0000015", -2),
            ("0.00000051", 1),
        ] {
            assert_eq!(micros(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn text_that_is_no_number_is_refused() {
        for text in ["", "-", ".", "1,5", "0x10", "NaN", "inf", "1 2", "1e", "1.2.3", "--1", "1e1.5"] {
            assert_eq!(micros(text), Err(DecimalError::NotANumber), "{text:?}");
        }
        assert_eq!(micros("1e400"), Err(DecimalError::TooLong));
        assert_eq!(micros("1e-400"), Err(DecimalError::TooLong));
        assert_eq!(micros("99999999999999999999"), Err(DecimalError::Overflow));
    }

    proptest! {
        #[test]
        fn what_was_printed_is_read_back(value in any::<i64>()) {
            let text = format!("{}{}.{:06}", if value < 0 { "-" } else { "" },
                value.unsigned_abs() / 1_000_000, value.unsigned_abs() % 1_000_000);
            prop_assert_eq!(micros(&text), Ok(value));
        }

        #[test]
        fn zeros_around_a_number_change_nothing(value in -1_000_000_000_i64..1_000_000_000, before in 0_usize..20, after in 0_usize..20) {
            let sign = if value < 0 { "-" } else { "" };
            let text = format!("{sign}{}{}.5{}", "0".repeat(before), value.unsigned_abs(), "0".repeat(after));
            prop_assert_eq!(micros(&text), micros(&format!("{sign}{}.5", value.unsigned_abs())));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[-+.eE0-9 ]{0,50}") {
            let _ = micros(&text);
        }

        #[test]
        fn the_result_is_within_half_a_unit(whole in -1_000_000_i64..1_000_000, nanos in 0_i64..1_000_000_000) {
            let sign = if whole < 0 { "-" } else { "" };
            let text = format!("{sign}{}.{nanos:09}", whole.unsigned_abs());
            let exact = i128::from(whole.unsigned_abs()) * 1_000_000_000 + i128::from(nanos);
            let exact = if whole < 0 { -exact } else { exact };
            let got = i128::from(micros(&text).map_err(|e| TestCaseError::fail(e.to_string()))?) * 1_000;
            prop_assert!((got - exact).abs() <= 500);
        }
    }
}
