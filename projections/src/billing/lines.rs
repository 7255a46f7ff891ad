//! What the lines of invoices cost, exactly: each by its card's tiers, in the order in which usage came.

use std::collections::BTreeMap;

use solyx_kernel::rating::{Fraction, Month, Price, RateCard, RatingError};
use solyx_schemas::events::policy::TierMode;
use solyx_schemas::ids::{RefId, TenantId};
use solyx_schemas::units::Currency;

use super::Billing;
use super::rows::*;

/// A line with its exact amount in the rate's currency.
pub(super) struct PricedLine<'a> {
    pub key: &'a LineKey,
    pub row: &'a LineRow,
    pub currency: Currency,
    pub exact: Result<Fraction, RatingError>,
}

/// Lines that share tiers: those of one card line, tenant and month of usage.
type TierGroup<'a> = (&'a TenantId, Month, &'a RefId, u32, u32);

impl Billing {
    /// Every line that a card prices, in the order of their keys.
    pub(super) fn priced_lines(&self) -> Vec<PricedLine<'_>> {
        let mut lines: Vec<PricedLine<'_>> = Vec::new();
        let mut tiered: BTreeMap<TierGroup<'_>, Vec<usize>> = BTreeMap::new();
        for (key, row) in self.tables.lines.iter() {
            let LinePrice::Card { card, version, line } = &key.price else { continue };
            let Some((id_and_card, price)) = self.price(card, *version, *line) else { continue };
            let exact = match price.line.tiers.len() {
                1 => row.quantity.total().and_then(|q| price.exact(Fraction::ZERO, q, q)),
                _ => {
                    let group = (&key.tenant, key.usage_month, card, *version, *line);
                    tiered.entry(group).or_default().push(lines.len());
                    Ok(Fraction::ZERO)
                }
            };
            lines.push(PricedLine { key, row, currency: id_and_card.currency, exact });
        }
        for ((_, _, card, version, line), mut members) in tiered {
            members.sort_by_key(|&i| (lines[i].key.month, lines[i].row.events.first().copied()));
            if let Some((_, price)) = self.price(card, version, line) {
                price_group(&mut lines, &members, &price);
            }
        }
        lines
    }

    /// The price of a card line that is or was in force.
    pub(super) fn price(&self, card_id: &RefId, version: u32, line: u32) -> Option<(&RateCard, Price<'_>)> {
        let ((id, found), card) = self.tables.cards.from(&(card_id.clone(), version)).next()?;
        if id != card_id || *found != version {
            return None;
        }
        let line_index = line as usize;
        let price = Price { card: id, version, line_index, currency: card.currency, line: card.lines.get(line_index)? };
        Some((card, price))
    }
}

/// Prices lines of one group in their order. A month's invoice counts what came up to that month, so that a closed one stays
/// as it was: what comes later goes on at the tier that was reached.
fn price_group(lines: &mut [PricedLine<'_>], members: &[usize], price: &Price<'_>) {
    let what = "usage of a month";
    let mut before = Ok(Fraction::ZERO);
    let mut whole_of: BTreeMap<Month, Result<Fraction, RatingError>> = BTreeMap::new();
    if price.line.mode == TierMode::Volume {
        let mut whole = Ok(Fraction::ZERO);
        for &i in members {
            whole = whole.and_then(|sum: Fraction| sum.plus(lines[i].row.quantity.total()?, what));
            whole_of.insert(lines[i].key.month, whole);
        }
    }
    for &i in members {
        let whole = whole_of.get(&lines[i].key.month).copied().unwrap_or(Ok(Fraction::ZERO));
        let exact = |before: Fraction| {
            let quantity = lines[i].row.quantity.total()?;
            Ok((price.exact(before, quantity, whole?)?, before.plus(quantity, what)?))
        };
        match before.and_then(exact) {
            Ok((cost, after)) => {
                lines[i].exact = Ok(cost);
                before = Ok(after);
            }
            Err(error) => {
                lines[i].exact = Err(error);
                before = Err(error);
            }
        }
    }
}
