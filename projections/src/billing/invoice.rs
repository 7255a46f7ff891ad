//! Invoices, computed from lines of quantities when they are asked for.

use std::collections::BTreeMap;

use num_bigint::BigInt;
use solyx_kernel::rating::{Fraction, Month, RatingError, price_unit, units_per_price};
use solyx_schemas::ids::{RefId, TenantId};
use solyx_schemas::topics::Topic;
use solyx_schemas::units::Currency;

use super::Billing;
use super::lines::PricedLine;
use super::rows::*;
use super::sold_leases::due;
use super::view::*;

/// An amount on its way to an invoice.
pub(super) struct Amount<'a> {
    pub tenant: &'a TenantId,
    pub month: Month,
    pub currency: Currency,
    pub exact: Result<Fraction, RatingError>,
    /// The job and pool it was earned with; absent for a sold lease.
    pub earned: Option<&'a LineKey>,
    line: LineView,
}

/// Amounts by who owes them and in which month.
pub(super) type Amounts<'a> = BTreeMap<(&'a TenantId, Month), Vec<Amount<'a>>>;

impl Amount<'_> {
    /// Id of its line.
    pub fn line_id(&self) -> &str {
        &self.line.id
    }

    /// Rounded once, half to even.
    pub fn rounded(&self) -> Result<i64, RatingError> {
        let rounded = self.exact?.round_half_even();
        rounded.try_into().map_err(|_| RatingError::Overflow { what: "a line of an invoice" })
    }
}

impl Billing {
    /// Every amount that anybody owes, by tenant and month.
    pub(super) fn amounts(&self) -> Amounts<'_> {
        let usage = self.priced_lines().into_iter().map(|line| self.usage_amount(line));
        let covered = self.tables.lines.iter().filter_map(|(key, row)| match &key.price {
            LinePrice::Lease(lease) => Some(self.covered_amount(key, row, lease)),
            _ => None,
        });
        let sold = self.tables.sold_leases.iter().flat_map(|(id, lease)| self.lease_amounts(id, lease));
        let mut amounts = Amounts::new();
        for amount in usage.chain(covered).chain(sold) {
            amounts.entry((amount.tenant, amount.month)).or_default().push(amount);
        }
        amounts
    }

    /// The invoice that amounts of one tenant and month make.
    pub(super) fn invoice_of(&self, tenant: &TenantId, month: Month, amounts: &[Amount<'_>]) -> InvoiceView {
        let closed = self.tables.closed.get(&(tenant.clone(), month));
        let currency = closed.map_or_else(|| self.billing_currency(tenant), |closed| closed.currency);
        let mut total = Some(0_i64);
        let mut rounding: BTreeMap<Currency, (BigInt, BigInt)> = BTreeMap::new();
        let mut lines = Vec::new();
        for amount in amounts {
            let rounded = amount.rounded();
            if let (Ok(exact), Ok(rounded)) = (amount.exact, rounded) {
                let sum = rounding.entry(amount.currency).or_insert_with(|| (BigInt::ZERO, BigInt::from(1)));
                add_to(sum, exact, rounded);
            }
            let converted = rounded.ok().and_then(|rounded| {
                let frozen = closed.and_then(|closed| closed.rates.get(&amount.currency));
                self.converted(rounded, amount.currency, currency, month, frozen.copied())
            });
            total = total.zip(converted).and_then(|(sum, amount)| sum.checked_add(amount));
            lines.push(LineView { rounded_micros: rounded.ok(), amount_micros: converted, ..amount.line.clone() });
        }
        let rounding = rounding
            .into_iter()
            .map(|(currency, (numerator, denominator))| RoundingView {
                currency: currency.to_string(),
                difference: reduced(numerator, denominator),
            })
            .collect();
        InvoiceView {
            tenant: tenant.to_string(),
            period: month.to_string(),
            closed_at_epoch: closed.map(|closed| closed.epoch),
            currency: currency.to_string(),
            lines,
            rounding,
            total_micros: total,
        }
    }

    /// A rounded line in another currency at the rate in force at the period's end, or at the one frozen when it was closed.
    pub(super) fn converted(
        &self,
        rounded: i64,
        from: Currency,
        to: Currency,
        month: Month,
        frozen: Option<Fraction>,
    ) -> Option<i64> {
        let Some(rate) = frozen else {
            return self.exchange.convert_half_even(rounded, from, to, month.end()).ok().flatten();
        };
        let exact = Fraction::whole(rounded.into()).scaled(rate.numerator(), rate.denominator(), "a line").ok()?;
        exact.round_half_even().try_into().ok()
    }

    fn usage_amount<'a>(&self, priced: PricedLine<'a>) -> Amount<'a> {
        let PricedLine { key, row, currency, exact } = priced;
        let rate = matches!(key.price, LinePrice::Card { .. }).then(|| price_text(&key.price));
        let kind = if key.month == key.usage_month { LineKind::Usage } else { LineKind::Correction };
        let exact_micros = exact.ok().map(fraction_view);
        let line = LineView { rate, exact_micros, ..usage_line(kind, key, row, currency) };
        Amount { tenant: &key.tenant, month: key.month, currency, exact, earned: Some(key), line }
    }

    fn covered_amount<'a>(&self, key: &'a LineKey, row: &'a LineRow, lease: &RefId) -> Amount<'a> {
        let sold = self.tables.sold_leases.get(lease);
        let currency = sold.map_or_else(|| self.billing_currency(&key.tenant), |sold| sold.price.currency);
        let line = LineView {
            lease: Some(lease.to_string()),
            exact_micros: Some(fraction_view(Fraction::ZERO)),
            ..usage_line(LineKind::CoveredByLease, key, row, currency)
        };
        Amount { tenant: &key.tenant, month: key.month, currency, exact: Ok(Fraction::ZERO), earned: Some(key), line }
    }

    fn lease_amounts<'a>(&'a self, id: &'a RefId, lease: &'a SoldLeaseRow) -> Vec<Amount<'a>> {
        let parts = self.lease_parts(id, lease).into_iter();
        parts.map(|LeasePart { month, corrects, exact }| lease_amount(id, lease, month, corrects, exact)).collect()
    }

    /// A lease's part of each month; what closed months were short of stands on the invoices that were closed with it, and what
    /// they are short of still in the first open one.
    fn lease_parts(&self, id: &RefId, lease: &SoldLeaseRow) -> Vec<LeasePart> {
        let mut parts = Vec::new();
        let mut note = |month, corrects, exact: Result<Fraction, RatingError>| {
            if exact.is_err() || exact.is_ok_and(|exact| !exact.is_zero()) {
                parts.push(LeasePart { month, corrects, exact });
            }
        };
        let closed = |month: Month| self.tables.closed.get(&(lease.tenant.clone(), month));
        let what = "a correction of a sold lease";
        let mut month = Month::of(lease.from_us);
        let last = Month::of(lease.to_us.max(lease.from_us));
        let now = Month::of(self.meta().now_us);
        while month <= last && month <= now {
            let due_now = due(lease, month);
            match closed(month) {
                None => note(month, None, due_now),
                Some(row) => {
                    let own = row.leases.get(id).copied().unwrap_or(Fraction::ZERO);
                    note(month, None, Ok(own));
                    let mut short = due_now.and_then(|due| due.minus(own, what));
                    let mut on = month.next();
                    while let Some(later) = closed(on) {
                        if let Some(corrected) = later.lease_corrections.get(&(id.clone(), month)) {
                            note(on, Some(month), Ok(*corrected));
                            short = short.and_then(|short| short.minus(*corrected, what));
                        }
                        on = on.next();
                    }
                    note(on, Some(month), short);
                }
            }
            month = month.next();
        }
        parts
    }

    /// What stands on an open month's invoice of earlier months' leases.
    pub(super) fn lease_corrections_on(&self, tenant: &TenantId, month: Month) -> BTreeMap<(RefId, Month), Fraction> {
        let leases = self.tables.sold_leases.iter().filter(|(_, lease)| lease.tenant == *tenant);
        let parts = leases.flat_map(|(id, lease)| self.lease_parts(id, lease).into_iter().map(move |part| (id, part)));
        let here = parts.filter(|(_, part)| part.month == month);
        here.filter_map(|(id, part)| Some(((id.clone(), part.corrects?), part.exact.ok()?))).collect()
    }
}

/// Part of a sold lease that stands on one invoice.
struct LeasePart {
    month: Month,
    corrects: Option<Month>,
    exact: Result<Fraction, RatingError>,
}

fn lease_amount<'a>(
    id: &RefId,
    lease: &'a SoldLeaseRow,
    month: Month,
    corrects: Option<Month>,
    exact: Result<Fraction, RatingError>,
) -> Amount<'a> {
    let kind = if corrects.is_some() { LineKind::Correction } else { LineKind::SoldLease };
    let currency = lease.price.currency;
    let corrects_period = corrects.map(|month| month.to_string());
    let (of, corrected) = (month.to_string(), corrects_period.clone().unwrap_or_default());
    let line = LineView {
        id: line_id(&["lease", lease.tenant.as_str(), &of, &corrected, id.as_str()]),
        corrects_period,
        lease: Some(id.to_string()),
        gpu_model: Some(lease.model.to_string()),
        exact_micros: exact.ok().map(fraction_view),
        events: vec![format!("{}/{}/{}", Topic::Policy.name(), lease.at.partition, lease.at.ordinal)],
        ..empty_line(kind, currency)
    };
    Amount { tenant: &lease.tenant, month, currency, exact, earned: None, line }
}

fn empty_line(kind: LineKind, currency: Currency) -> LineView {
    LineView {
        id: String::new(),
        kind,
        corrects_period: None,
        job: None,
        project: None,
        lease: None,
        pool: None,
        gpu_model: None,
        meter: None,
        quantity: None,
        priced_quantity: None,
        unit: None,
        rate: None,
        rate_currency: currency.to_string(),
        exact_micros: None,
        rounded_micros: None,
        amount_micros: None,
        events: Vec::new(),
    }
}

fn usage_line(kind: LineKind, key: &LineKey, row: &LineRow, currency: Currency) -> LineView {
    let quantity = row.quantity.total().ok();
    let (month, usage_month) = (key.month.to_string(), key.usage_month.to_string());
    let corrects = (key.month != key.usage_month).then(|| usage_month.clone());
    let (meter, price) = (key.meter.to_string(), price_text(&key.price));
    let parts =
        ["usage", key.tenant.as_str(), &month, &usage_month, key.job.as_str(), &meter, key.pool.as_str(), &price];
    LineView {
        id: line_id(&parts),
        corrects_period: corrects,
        job: Some(key.job.to_string()),
        project: row.project.as_ref().map(ToString::to_string),
        pool: Some(key.pool.to_string()),
        gpu_model: row.model.as_ref().map(ToString::to_string),
        meter: Some(key.meter.to_string()),
        quantity: quantity.map(fraction_view),
        priced_quantity: quantity.and_then(|q| six_digits(q, units_per_price(key.meter).ok()?)),
        unit: Some(price_unit(key.meter).to_owned()),
        events: shown_events(&row.events),
        ..empty_line(kind, currency)
    }
}

/// Card, version and line; or the lease.
fn price_text(price: &LinePrice) -> String {
    match price {
        LinePrice::Card { card, version, line } => format!("{card}/{version}/{line}"),
        LinePrice::Lease(lease) => format!("lease {lease}"),
        LinePrice::Nothing => String::new(),
    }
}

/// The id of a line: the first 16 hexadecimal digits of blake3 over what it is for, each part with its length before it.
fn line_id(parts: &[&str]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

/// A fraction in decimal text.
pub(super) fn fraction_view(value: Fraction) -> FractionView {
    FractionView { numerator: value.numerator().to_string(), denominator: value.denominator().to_string() }
}

/// A quantity over its divisor with six digits, rounded half to even.
pub(super) fn six_digits(quantity: Fraction, divisor: i128) -> Option<String> {
    let millionths = quantity.scaled(1_000_000, divisor, "a quantity for people").ok()?.round_half_even();
    let sign = if millionths < 0 { "-" } else { "" };
    let magnitude = millionths.unsigned_abs();
    Some(format!("{sign}{}.{:06}", magnitude / 1_000_000, magnitude % 1_000_000))
}

/// Positions as text, neighbours as one range.
pub(super) fn shown_events(events: &[EventAt]) -> Vec<String> {
    let mut ranges: Vec<(u32, u64, u64)> = Vec::new();
    let mut sorted: Vec<(u32, u64)> = events.iter().map(|at| (at.partition, at.ordinal)).collect();
    sorted.sort_unstable();
    sorted.dedup();
    for (partition, ordinal) in sorted {
        match ranges.last_mut() {
            Some((p, _, last)) if *p == partition && *last + 1 == ordinal => *last = ordinal,
            _ => ranges.push((partition, ordinal, ordinal)),
        }
    }
    let topic = Topic::Usage.name();
    ranges
        .into_iter()
        .map(|(partition, first, last)| match first == last {
            true => format!("{topic}/{partition}/{first}"),
            false => format!("{topic}/{partition}/{first}-{last}"),
        })
        .collect()
}

/// Adds (rounded − exact) to a sum that may leave 128 bits: lines of an invoice share no denominator.
fn add_to(sum: &mut (BigInt, BigInt), exact: Fraction, rounded: i64) {
    let denominator = BigInt::from(exact.denominator());
    let difference = BigInt::from(rounded) * &denominator - BigInt::from(exact.numerator());
    if sum.1 == denominator {
        sum.0 += difference;
        return;
    }
    let common = gcd(sum.1.clone(), denominator.clone());
    let to_sum = &denominator / &common;
    sum.0 = &sum.0 * &to_sum + difference * (&sum.1 / &common);
    sum.1 = &sum.1 * &to_sum;
}

fn gcd(mut a: BigInt, mut b: BigInt) -> BigInt {
    while b != BigInt::ZERO {
        let rest = &a % &b;
        a = b;
        b = rest;
    }
    a
}

fn reduced(numerator: BigInt, denominator: BigInt) -> FractionView {
    let common = gcd(denominator.clone(), numerator.magnitude().clone().into());
    FractionView { numerator: (numerator / &common).to_string(), denominator: (denominator / common).to_string() }
}
