//! Rating: from metered quantities to money, exactly.
//!
//! The kernel holds budgets with it and billing invoices with it, so that both say the same. Everything is an integer or
//! a fraction of two integers in i128; nothing is rounded but where a function's name says so, and whatever leaves the
//! range is an error that names what was computed. A rate is millionths of a currency per unit that people know (GPU-hour,
//! GB, kWh); [`units_per_price`] says how many of a meter's own units that is.

mod book;
mod exchange;
mod fraction;
mod meters;
mod month;
mod split;

pub use book::{Price, RateBook, RateCard};
pub use exchange::ExchangeBook;
pub use fraction::Fraction;
pub use meters::{price_unit, units_per_price};
pub use month::Month;
pub use split::{Part, RatedPart, split};

/// Why something has no exact amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RatingError {
    /// A sum or product left the range of i128, or a rounded amount that of money.
    #[error("{what} overflows the range of rating, which is 128 bits for exact amounts and 64 for rounded ones")]
    Overflow {
        /// What was computed.
        what: &'static str,
    },
    /// A meter that has no unit.
    #[error("a meter of kind UNKNOWN has no unit, expected one of the contract's")]
    UnknownMeter,
    /// Two currencies without a rate between them.
    #[error("no exchange rate is in force for it; set one with ExchangeRateSet")]
    NoExchangeRate,
}

/// Names what overflowed.
pub(crate) fn overflow(what: &'static str) -> RatingError {
    RatingError::Overflow { what }
}
