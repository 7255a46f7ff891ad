//! What one line of an invoice comes from, for whoever has to show it without the rest of the log.

use std::collections::BTreeSet;

use solyx_kernel::rating::Month;
use solyx_schemas::events::usage::Meter;
use solyx_schemas::ids::{JobId, RefId, TenantId};
use solyx_schemas::units::Currency;

use super::Billing;
use super::rows::*;
use super::view::LineView;

/// A line and what it was computed from. Nothing of another tenant is among it.
#[derive(Clone, Debug)]
pub struct LineSources {
    /// Who pays.
    pub tenant: TenantId,
    /// Month whose invoice has the line.
    pub month: Month,
    /// The first month whose closing may have put the line there.
    pub since: Month,
    /// The line.
    pub line: LineView,
    /// Currency of the invoice.
    pub currency: Currency,
    /// Currency of the rate.
    pub rate_currency: Currency,
    /// Epoch at whose end the invoice was closed; absent while it is open.
    pub closed_at_epoch: Option<i64>,
    /// Usage that the line rates, and usage before it that decides which tier it falls into.
    pub usage: BTreeSet<EventAt>,
    /// The jobs of that usage.
    pub jobs: BTreeSet<JobId>,
    /// Its meter; absent for a sold lease.
    pub meter: Option<Meter>,
    /// The sold lease.
    pub lease: Option<RefId>,
}

impl Billing {
    /// The line of this id and what it comes from.
    pub fn line_sources(&self, id: &str) -> Option<LineSources> {
        let amounts = self.amounts();
        let ((tenant, month), of_invoice) =
            amounts.iter().find(|(_, amounts)| amounts.iter().any(|a| a.line_id() == id))?;
        let place = of_invoice.iter().position(|amount| amount.line_id() == id)?;
        let amount = &of_invoice[place];
        let invoice = self.invoice_of(tenant, *month, of_invoice);
        let line = invoice.lines.get(place)?.clone();
        let mut sources = LineSources {
            tenant: (*tenant).clone(),
            month: *month,
            since: *month,
            line,
            currency: Currency::parse(&invoice.currency)?,
            rate_currency: amount.currency,
            closed_at_epoch: invoice.closed_at_epoch,
            usage: BTreeSet::new(),
            jobs: BTreeSet::new(),
            meter: None,
            lease: None,
        };
        match amount.earned {
            Some(key) => self.of_usage(key, &mut sources),
            None => {
                sources.lease = sources.line.lease.as_deref().map(RefId::from);
                let lease = self.tables.sold_leases.get(sources.lease.as_ref()?)?;
                sources.since = Month::of(lease.from_us);
            }
        }
        Some(sources)
    }

    fn of_usage(&self, key: &LineKey, sources: &mut LineSources) {
        sources.since = key.usage_month;
        sources.meter = Some(key.meter);
        if let LinePrice::Lease(lease) = &key.price {
            sources.lease = Some(lease.clone());
        }
        let tiered = match &key.price {
            LinePrice::Card { card, version, line } => {
                self.price(card, *version, *line).is_some_and(|(_, price)| price.line.tiers.len() > 1)
            }
            _ => false,
        };
        // Lines that share tiers are counted in their order, up to the month of this one.
        let shares = |other: &LineKey| {
            tiered
                && other.tenant == key.tenant
                && other.usage_month == key.usage_month
                && other.price == key.price
                && other.month <= key.month
        };
        for (other, row) in self.tables.lines.iter().filter(|(other, _)| *other == key || shares(other)) {
            sources.jobs.insert(other.job.clone());
            sources.usage.extend(row.events.iter().copied());
        }
    }
}
