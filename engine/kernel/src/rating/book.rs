//! Rate cards: which price is in force for a tenant, meter, GPU model and class, and what a quantity costs at it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use solyx_schemas::events::policy::{RateCardSet, RateLine, TierMode};
use solyx_schemas::events::usage::Meter;
use solyx_schemas::ids::{ClassId, GpuModelId, RefId, TenantId};
use solyx_schemas::units::{Currency, RateMicros, TimeUs};

use super::split::month_boundaries;
use super::{Fraction, Month, RatedPart, RatingError, split, units_per_price};

/// A rate card as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateCard {
    /// How often a card of this id was set before: tells lines of a replaced card from those of the new one.
    pub version: u32,
    /// The tenant; absent means the default.
    pub tenant: Option<TenantId>,
    /// Start of validity.
    pub from_us: TimeUs,
    /// End of validity; absent means open.
    pub to_us: Option<TimeUs>,
    /// Currency of the prices.
    pub currency: Currency,
    /// Price lines.
    pub lines: Vec<RateLine>,
}

/// Every rate card, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateBook {
    cards: BTreeMap<RefId, RateCard>,
}

/// A price line in force, and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price<'a> {
    /// The card's id.
    pub card: &'a RefId,
    /// The card's version.
    pub version: u32,
    /// Place of the line on the card, from 0.
    pub line_index: usize,
    /// Currency.
    pub currency: Currency,
    /// The line.
    pub line: &'a RateLine,
}

impl RateCard {
    /// The card that an event sets.
    pub fn of(set: &RateCardSet, version: u32) -> Self {
        Self {
            version,
            tenant: set.tenant.clone(),
            from_us: set.from_us,
            to_us: set.to_us,
            currency: set.currency,
            lines: set.lines.clone(),
        }
    }

    fn in_force(&self, at: TimeUs) -> bool {
        self.from_us <= at && self.to_us.is_none_or(|to| at < to)
    }

    fn concerns(&self, tenant: &TenantId) -> bool {
        self.tenant.as_ref().is_none_or(|own| own == tenant)
    }
}

impl RateBook {
    /// Takes a card; one of the same id is replaced.
    pub fn insert(&mut self, set: &RateCardSet) {
        let version = self.cards.get(&set.rate_card).map_or(0, |card| card.version.saturating_add(1));
        self.cards.insert(set.rate_card.clone(), RateCard::of(set, version));
    }

    /// Every card by id.
    pub fn cards(&self) -> impl Iterator<Item = (&RefId, &RateCard)> {
        self.cards.iter()
    }

    /// Puts back a card that was saved, with its version.
    pub fn restore(&mut self, id: RefId, card: RateCard) {
        self.cards.insert(id, card);
    }

    /// The most specific line in force: the tenant's own card over the default, then a line of the model over any, then of
    /// the class over any; then the card that began last, then the larger id, then the line listed first.
    pub fn price_of(
        &self,
        tenant: &TenantId,
        meter: Meter,
        model: Option<&GpuModelId>,
        class: Option<&ClassId>,
        at: TimeUs,
    ) -> Option<Price<'_>> {
        let fits = |line: &RateLine| {
            line.meter == meter
                && !line.tiers.is_empty()
                && line.gpu_model.as_ref().is_none_or(|own| Some(own) == model)
                && line.class.as_ref().is_none_or(|own| Some(own) == class)
        };
        let in_force = self.cards.iter().filter(|(_, card)| card.in_force(at) && card.concerns(tenant));
        in_force
            .flat_map(|(id, card)| card.lines.iter().enumerate().map(move |(index, line)| (id, card, index, line)))
            .filter(|(_, _, _, line)| fits(line))
            .max_by_key(|(id, card, index, line)| {
                let listed_first = std::cmp::Reverse(*index);
                let specific = (card.tenant.is_some(), line.gpu_model.is_some(), line.class.is_some());
                (specific, card.from_us, *id, listed_first)
            })
            .map(|(card_id, card, line_index, line)| Price {
                card: card_id,
                version: card.version,
                line_index,
                currency: card.currency,
                line,
            })
    }

    /// The price for holding a budget: the highest tier of the line in force, per priced unit of the meter.
    pub fn highest_price(
        &self,
        tenant: &TenantId,
        meter: Meter,
        model: Option<&GpuModelId>,
        class: Option<&ClassId>,
        at: TimeUs,
    ) -> Option<(Currency, RateMicros)> {
        self.price_of(tenant, meter, model, class, at).map(|price| (price.currency, price.highest()))
    }

    /// Instants within (from, to) at which another card may begin to count for the tenant, sorted.
    pub fn boundaries(&self, tenant: &TenantId, from: TimeUs, to: TimeUs) -> Vec<TimeUs> {
        let concerned = self.cards.values().filter(|card| card.concerns(tenant));
        let mut instants: Vec<TimeUs> = concerned
            .flat_map(|card| [Some(card.from_us), card.to_us])
            .flatten()
            .filter(|&instant| from < instant && instant < to)
            .collect();
        instants.sort_unstable();
        instants.dedup();
        instants
    }

    /// What was used over [from, to), split at months and at changes of the rate, each part with its price.
    #[expect(
        clippy::too_many_arguments,
        reason = "they are the coordinates of one quantity, used together nowhere else"
    )]
    pub fn rate(
        &self,
        tenant: &TenantId,
        meter: Meter,
        model: Option<&GpuModelId>,
        class: Option<&ClassId>,
        from: TimeUs,
        to: TimeUs,
        quantity: i128,
    ) -> Result<Vec<RatedPart<'_>>, RatingError> {
        let mut boundaries = self.boundaries(tenant, from, to);
        boundaries.extend(month_boundaries(from, to));
        boundaries.sort_unstable();
        let parts = split(from, to, quantity, &boundaries)?;
        Ok(parts
            .into_iter()
            .map(|part| RatedPart {
                month: Month::of(part.from),
                part,
                price: self.price_of(tenant, meter, model, class, part.from),
            })
            .collect())
    }
}

impl Price<'_> {
    /// The highest price of its tiers.
    pub fn highest(&self) -> RateMicros {
        self.line.tiers.iter().map(|tier| tier.price_micros).max().unwrap_or_default()
    }

    /// What `quantity` costs exactly, in micros of the price's currency, at the highest tier.
    pub fn exact_at_highest(&self, quantity: Fraction) -> Result<Fraction, RatingError> {
        quantity.scaled(self.highest().0.into(), units_per_price(self.line.meter)?, "usage at the highest tier")
    }

    /// What `quantity` costs exactly after `before` of the same line was used in the month. Graduated tiers price each
    /// part where it falls. Of a volume price it is the quantity at the tier that `whole`, the month's total, reaches.
    pub fn exact(&self, before: Fraction, quantity: Fraction, whole: Fraction) -> Result<Fraction, RatingError> {
        tiered(self.line, before, quantity, whole)
    }
}

/// See [`Price::exact`].
pub(super) fn tiered(
    line: &RateLine,
    before: Fraction,
    quantity: Fraction,
    whole: Fraction,
) -> Result<Fraction, RatingError> {
    let divisor = units_per_price(line.meter)?;
    let priced = |part: Fraction, price: RateMicros| part.scaled(price.0.into(), divisor, "usage × rate");
    if line.mode == TierMode::Volume {
        return priced(quantity, volume_price(line, whole, divisor)?);
    }
    let up_to_now = graduated(line, before.plus(quantity, "usage of a month")?, divisor)?;
    up_to_now.minus(graduated(line, before, divisor)?, "usage × rate")
}

/// The price of the tier that a quantity reaches. A quantity at a tier's upper end is still in it.
fn volume_price(line: &RateLine, whole: Fraction, divisor: i128) -> Result<RateMicros, RatingError> {
    for tier in &line.tiers {
        let Some(up_to) = tier.up_to else { return Ok(tier.price_micros) };
        let end = Fraction::whole(i128::from(up_to.0) * divisor);
        if whole.minus(end, "usage of a month")?.numerator() <= 0 {
            return Ok(tier.price_micros);
        }
    }
    // Beyond a closed last tier its price goes on.
    Ok(line.tiers.last().map(|tier| tier.price_micros).unwrap_or_default())
}

/// What the first `quantity` of a month costs in graduated tiers.
fn graduated(line: &RateLine, quantity: Fraction, divisor: i128) -> Result<Fraction, RatingError> {
    let mut cost = Fraction::ZERO;
    let mut start = Fraction::ZERO;
    for (index, tier) in line.tiers.iter().enumerate() {
        let last = index + 1 == line.tiers.len();
        let end = match tier.up_to {
            Some(up_to) if !last => Fraction::whole(i128::from(up_to.0) * divisor).min(quantity, "usage of a month")?,
            _ => quantity,
        };
        let within = end.minus(start, "usage of a tier")?;
        // Less than nothing was used when corrections outweigh usage: the first tier's price takes it back.
        if within.numerator() > 0 || index == 0 {
            let priced = within.scaled(tier.price_micros.0.into(), divisor, "usage × rate")?;
            cost = cost.plus(priced, "cost of a month")?;
            start = end;
        }
    }
    Ok(cost)
}
