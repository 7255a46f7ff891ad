//! What has to add up in the bills of a cell, whatever meters and prices say.

use std::collections::BTreeMap;

use anyhow::ensure;
use solyx_kernel::rating::{Fraction, RatingError};
use solyx_projections::billing::{BillingView, FractionView, InvoiceView};

const WHAT: &str = "rounding";

/// GPU time is conserved, and each invoice ties to its lines.
pub fn add_up(view: &BillingView) -> anyhow::Result<()> {
    ensure!(view.gpu_time.conserved, "GPU time is not conserved: {:?}", view.gpu_time);
    for invoice in &view.invoices {
        let InvoiceView { tenant, period, total_micros, rounding, .. } = invoice;
        ensure!(
            is_sum_of_lines(invoice),
            "the invoice of {tenant} for {period} is not the sum of its lines: {invoice:?}"
        );
        ensure!(
            rounding_ties(invoice)?,
            "the invoice of {tenant} for {period} is of {total_micros:?}, and {rounding:?} is not what rounding did: {:?}",
            invoice.lines
        );
    }
    Ok(())
}

/// There is no total where a line has no amount.
fn is_sum_of_lines(invoice: &InvoiceView) -> bool {
    let amounts = invoice.lines.iter().map(|line| line.amount_micros);
    let total = amounts.into_iter().try_fold(0_i64, |sum, amount| sum.checked_add(amount?));
    total == invoice.total_micros
}

/// Each line is the nearest to its exact amount, and the sum of rounded lines less the rounding shown is the exact sum, by currency of
/// the rate. A sum that leaves the range of fractions ties to nothing.
fn rounding_ties(invoice: &InvoiceView) -> anyhow::Result<bool> {
    let mut left: BTreeMap<&str, Result<Fraction, RatingError>> = BTreeMap::new();
    for line in &invoice.lines {
        let (Some(exact), Some(rounded)) = (&line.exact_micros, line.rounded_micros) else { continue };
        let difference = Fraction::whole(rounded.into()).minus(fraction(exact)?, WHAT);
        if difference.is_ok_and(|difference| 2 * difference.numerator().abs() > difference.denominator()) {
            return Ok(false);
        }
        let sum = left.entry(line.rate_currency.as_str()).or_insert(Ok(Fraction::ZERO));
        *sum = sum.and_then(|sum| sum.plus(difference?, WHAT));
    }
    if left.len() != invoice.rounding.len() {
        return Ok(false);
    }
    for shown in &invoice.rounding {
        match left.get(shown.currency.as_str()) {
            Some(Ok(sum)) if *sum != fraction(&shown.difference)? => return Ok(false),
            None => return Ok(false),
            _ => {}
        }
    }
    Ok(true)
}

fn fraction(view: &FractionView) -> anyhow::Result<Fraction> {
    Ok(Fraction::new(view.numerator.parse()?, view.denominator.parse()?))
}
