//! Exchange rates as fractions of two integers, each in force from an instant until the next.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use solyx_schemas::events::policy::ExchangeRateSet;
use solyx_schemas::units::{Currency, TimeUs};

use super::{Fraction, RatingError, overflow};

/// Every exchange rate known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExchangeBook {
    pairs: BTreeMap<(Currency, Currency), BTreeMap<TimeUs, (i64, i64)>>,
}

impl ExchangeBook {
    /// Takes a rate; one from the same instant is replaced.
    pub fn insert(&mut self, set: &ExchangeRateSet) {
        let rates = self.pairs.entry((set.from_currency, set.to_currency)).or_default();
        rates.insert(set.effective_from_us, (set.numerator.0, set.denominator.0));
    }

    /// Puts back a rate that was saved: numerator and denominator.
    pub fn restore(&mut self, from: Currency, to: Currency, at: TimeUs, rate: (i64, i64)) {
        self.pairs.entry((from, to)).or_default().insert(at, rate);
    }

    /// Units of `to` per unit of `from` in force at an instant. A pair without a rate of its own takes the inverse of the
    /// opposite pair's; a chain over a third currency is never made up.
    pub fn rate(&self, from: Currency, to: Currency, at: TimeUs) -> Option<Fraction> {
        if from == to {
            return Some(Fraction::whole(1));
        }
        let in_force = |a, b| self.pairs.get(&(a, b))?.range(..=at).next_back().map(|(_, rate)| *rate);
        let (numerator, denominator) =
            in_force(from, to).or_else(|| in_force(to, from).map(|(n, d)| (d, n))).filter(|&(n, d)| n > 0 && d > 0)?;
        Some(Fraction::new(numerator.into(), denominator.into()))
    }

    /// The amount in another currency, rounded up: what a placement's cost counts as. None without a rate, or when it
    /// leaves the range of money.
    pub fn convert_ceil(&self, amount: i64, from: Currency, to: Currency, at: TimeUs) -> Option<i64> {
        let rate = self.rate(from, to, at)?;
        let exact = Fraction::whole(amount.into())
            .scaled(rate.numerator(), rate.denominator(), "a cost in the cell's currency")
            .ok()?;
        exact.ceil().try_into().ok()
    }

    /// The amount in another currency, rounded once, half to even: what a rounded line counts as on an invoice. None
    /// without a rate.
    pub fn convert_half_even(
        &self,
        amount: i64,
        from: Currency,
        to: Currency,
        at: TimeUs,
    ) -> Result<Option<i64>, RatingError> {
        let Some(rate) = self.rate(from, to, at) else { return Ok(None) };
        let what = "a line in the billing currency";
        let exact = Fraction::whole(amount.into()).scaled(rate.numerator(), rate.denominator(), what)?;
        exact.round_half_even().try_into().map(Some).map_err(|_| overflow(what))
    }

    /// Every rate: pair, from when on, numerator and denominator, in that order.
    pub fn entries(&self) -> impl Iterator<Item = (Currency, Currency, TimeUs, i64, i64)> {
        self.pairs.iter().flat_map(|(&(from, to), rates)| rates.iter().map(move |(&at, &(n, d))| (from, to, at, n, d)))
    }
}

#[cfg(test)]
mod tests {
    use solyx_schemas::units::Count;

    use super::*;

    fn currency(code: &str) -> Currency {
        Currency::parse(code).unwrap()
    }

    fn book(rates: &[(&str, &str, i64, i64, i64)]) -> ExchangeBook {
        let mut book = ExchangeBook::default();
        for &(from, to, at, numerator, denominator) in rates {
            book.insert(&ExchangeRateSet {
                from_currency: currency(from),
                to_currency: currency(to),
                numerator: Count(numerator),
                denominator: Count(denominator),
                effective_from_us: TimeUs(at),
                ..Default::default()
            });
        }
        book
    }

    #[test]
    fn the_rate_in_force_is_the_last_one_that_has_begun() {
        let book = book(&[("EUR", "USD", 100, 11, 10), ("EUR", "USD", 200, 12, 10)]);
        let (eur, usd) = (currency("EUR"), currency("USD"));
        assert_eq!(book.rate(eur, usd, TimeUs(99)), None);
        assert_eq!(book.rate(eur, usd, TimeUs(199)), Some(Fraction::new(11, 10)));
        assert_eq!(book.rate(eur, usd, TimeUs(200)), Some(Fraction::new(6, 5)));
        assert_eq!(book.rate(usd, eur, TimeUs(200)), Some(Fraction::new(5, 6)), "the inverse stands in");
        assert_eq!(book.rate(usd, currency("GBP"), TimeUs(200)), None);
    }

    #[test]
    fn costs_round_up_and_lines_round_half_to_even() {
        let book = book(&[("EUR", "USD", 0, 1, 2)]);
        let (eur, usd) = (currency("EUR"), currency("USD"));
        let at = TimeUs(1);
        assert_eq!(book.convert_ceil(5, eur, usd, at), Some(3));
        assert_eq!(book.convert_ceil(-5, eur, usd, at), Some(-2));
        assert_eq!(book.convert_half_even(5, eur, usd, at), Ok(Some(2)));
        assert_eq!(book.convert_half_even(7, eur, usd, at), Ok(Some(4)));
        assert_eq!(book.convert_half_even(7, eur, eur, at), Ok(Some(7)));
        assert_eq!(book.convert_half_even(7, currency("GBP"), usd, at), Ok(None));
        assert_eq!(book.convert_ceil(i64::MAX, usd, eur, at), None, "a cost beyond the range is no candidate");
        let error = book.convert_half_even(i64::MAX, usd, eur, at).unwrap_err();
        assert!(error.to_string().starts_with("a line in the billing currency overflows"), "{error}");
    }
}
