//! Leases sold to tenants: what is due of each in which month.
//!
//! All upfront is due in the month of the start; of a partial payment half of it, and the rest with time; without upfront
//! everything with time, so that each month has its part of the term. After an early end nothing more is due; what was paid
//! upfront is not given back.

use std::collections::BTreeMap;

use solyx_kernel::rating::{Fraction, Month, RatingError};
use solyx_schemas::events::policy::{LeaseSold, PaymentOption};
use solyx_schemas::ids::{RefId, TenantId};

use super::Billing;
use super::rows::*;

impl Billing {
    pub(super) fn lease_sold(&mut self, at: EventAt, e: &LeaseSold) {
        let row = SoldLeaseRow {
            tenant: e.tenant.clone(),
            gpus: e.gpus.0,
            model: e.gpu_model.clone(),
            from_us: e.from_us,
            to_us: e.to_us,
            ended_us: None,
            price: e.price.clone(),
            payment: e.payment,
            at,
        };
        self.tables.sold_leases.insert(e.lease.clone(), row);
    }

    /// What is due in a month by now, exact, of each lease of a tenant.
    pub(super) fn leases_due(&self, tenant: &TenantId, month: Month) -> BTreeMap<RefId, Fraction> {
        let own = self.tables.sold_leases.iter().filter(|(_, lease)| lease.tenant == *tenant);
        own.filter_map(|(id, lease)| Some((id.clone(), due(lease, month).ok()?)))
            .filter(|(_, due)| !due.is_zero())
            .collect()
    }
}

/// What is due of a lease in a month.
pub(super) fn due(lease: &SoldLeaseRow, month: Month) -> Result<Fraction, RatingError> {
    let what = "what is due of a sold lease";
    let price = i128::from(lease.price.micros.0);
    let (upfront, over_time) = match lease.payment {
        PaymentOption::AllUpfront => (Fraction::whole(price), Fraction::ZERO),
        PaymentOption::Partial => (Fraction::new(price, 2), Fraction::new(price, 2)),
        PaymentOption::None | PaymentOption::Unknown => (Fraction::ZERO, Fraction::whole(price)),
    };
    let term = lease.to_us.0 - lease.from_us.0;
    let until = lease.ended_us.map_or(lease.to_us, |ended| ended.min(lease.to_us)).max(lease.from_us);
    let within = until.min(month.end()).0 - lease.from_us.max(month.start()).0;
    let mut due =
        if term > 0 && within > 0 { over_time.scaled(within.into(), term.into(), what)? } else { Fraction::ZERO };
    if Month::of(lease.from_us) == month {
        due = due.plus(upfront, what)?;
    }
    Ok(due)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use solyx_schemas::events::common::Sum;
    use solyx_schemas::units::{Currency, MoneyMicros, TimeUs};

    use super::*;

    proptest! {
        #[test]
        fn the_months_of_a_term_add_up_to_its_price(
            from in 1_600_000_000_000_000_i64..1_700_000_000_000_000, days in 1_i64..900, price in 0_i64..1_000_000_000_000,
            payment in proptest::sample::select(PaymentOption::ALL),
        ) {
            let lease = SoldLeaseRow {
                tenant: "t".into(), gpus: 8, model: "H100".into(), from_us: TimeUs(from),
                to_us: TimeUs(from + days * 86_400_000_000), ended_us: None,
                price: Sum { currency: Currency::parse("USD").unwrap(), micros: MoneyMicros(price) },
                payment, at: EventAt { epoch: 0, partition: 0, ordinal: 0 },
            };
            let mut month = Month::of(lease.from_us);
            let mut sum = Fraction::ZERO;
            while month.start() < lease.to_us {
                sum = sum.plus(due(&lease, month).unwrap(), "sum").unwrap();
                month = month.next();
            }
            prop_assert_eq!(sum, Fraction::whole(price.into()));
        }
    }
}
