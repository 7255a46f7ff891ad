//! Which events a line of an invoice comes from: found in the log again, with nothing of anybody else among them.

use std::collections::{BTreeMap, BTreeSet};

use solyx_kernel::rating::Month;
use solyx_projections::billing::{EventAt, LineSources};
use solyx_schemas::codec::{Codec, frame_id};
use solyx_schemas::epochs::{RawEpoch, RawInput};
use solyx_schemas::events::Event;
use solyx_schemas::events::policy::{ExchangeRateSet, RateCardSet};
use solyx_schemas::ids::{EventId, RefId, RunId, SourceId};
use solyx_schemas::units::{Currency, TimeUs};

/// Record types that a line can come from.
const TYPES: [&str; 12] = [
    "solyx.policy.CellDeclared",
    "solyx.policy.TenantDeclared",
    "solyx.policy.RateCardSet",
    "solyx.policy.ExchangeRateSet",
    "solyx.policy.PeriodClosed",
    "solyx.policy.LeaseSold",
    "solyx.policy.SoldLeaseEnded",
    "solyx.jobs.JobRequested",
    "solyx.jobs.JobRequestAmended",
    "solyx.usage.UsageMetered",
    "solyx.usage.UsageCorrected",
    "solyx.decisions.JobPlaced",
];

/// Goes through the epochs and says which of their events a line comes from.
pub struct Selection<'s> {
    sources: &'s LineSources,
    /// Usage that is shown: the line's own, and what its corrections correct.
    usage: BTreeSet<EventAt>,
    cards: BTreeSet<RefId>,
    /// Cards of which an earlier version was passed over, as it had no price of the meter.
    passed: BTreeSet<RefId>,
    /// Where usage of the line's jobs stands that is not shown.
    others: BTreeMap<(SourceId, EventId), EventAt>,
    lacking: BTreeSet<EventAt>,
    runs: BTreeSet<RunId>,
    /// Whether the tenant is declared: otherwise its currency is the cell's.
    declared: bool,
    rates: BTreeMap<(Currency, Currency), (TimeUs, EventId)>,
}

impl<'s> Selection<'s> {
    /// For a line.
    pub fn new(sources: &'s LineSources) -> Self {
        Self::showing(sources, sources.usage.clone(), BTreeSet::new())
    }

    fn showing(sources: &'s LineSources, usage: BTreeSet<EventAt>, cards: BTreeSet<RefId>) -> Self {
        Self {
            sources,
            usage,
            cards,
            passed: BTreeSet::new(),
            others: BTreeMap::new(),
            lacking: BTreeSet::new(),
            runs: BTreeSet::new(),
            declared: false,
            rates: BTreeMap::new(),
        }
    }

    /// The same with what was found lacking, usage or earlier versions of a card; nothing when none was.
    pub fn again(self) -> Option<Self> {
        let Self { sources, mut usage, mut lacking, cards, passed, .. } = self;
        if lacking.is_empty() && cards.is_disjoint(&passed) {
            return None;
        }
        usage.append(&mut lacking);
        Some(Self::showing(sources, usage, cards))
    }

    /// Places of inputs and of outputs in an epoch that may have to be shown; epochs come in order.
    pub fn of_epoch(&mut self, raw: &RawEpoch) -> (Vec<usize>, Vec<usize>) {
        let epoch = raw.record.epoch;
        let mut inputs = Vec::new();
        for (place, input) in raw.inputs.iter().enumerate() {
            if self.takes_input(epoch, input) {
                inputs.push(place);
            }
        }
        let outputs = raw.outputs.iter().enumerate();
        let of_jobs = |event: &Event| matches!(event, Event::JobPlaced(e) if self.sources.jobs.contains(&e.job));
        let outputs = outputs.filter(|(_, output)| of_jobs(&output.event)).map(|(place, _)| place).collect();
        (inputs, outputs)
    }

    fn takes_input(&mut self, epoch: i64, input: &RawInput) -> bool {
        let value = &input.stored.record.value;
        let name = frame_id(value).and_then(|id| Codec::global().writer_schema(id)).map(|(name, _)| name);
        if input.skipped.is_some() || !name.is_some_and(|name| TYPES.contains(&name)) {
            return false;
        }
        let Ok(decoded) = Codec::global().decode(value) else { return false };
        let at = EventAt { epoch, partition: input.position.partition, ordinal: input.position.ordinal };
        self.takes(at, &decoded.event)
    }

    fn takes(&mut self, at: EventAt, event: &Event) -> bool {
        let sources = self.sources;
        match event {
            Event::CellDeclared(_) => true,
            Event::TenantDeclared(e) => {
                let own = e.tenant == sources.tenant;
                self.declared |= own;
                own
            }
            Event::RateCardSet(e) => self.takes_card(e),
            Event::ExchangeRateSet(e) => self.takes_rate(at.epoch, e),
            Event::PeriodClosed(e) => {
                let month = Month::parse(e.period.as_str());
                e.tenant == sources.tenant
                    && month.is_some_and(|month| (sources.since..=sources.month).contains(&month))
            }
            Event::LeaseSold(e) => sources.lease.as_ref() == Some(&e.lease),
            Event::SoldLeaseEnded(e) => sources.lease.as_ref() == Some(&e.lease),
            Event::JobRequested(e) => sources.jobs.contains(&e.job),
            Event::JobRequestAmended(e) => e.class.is_some() && sources.jobs.contains(&e.job),
            Event::UsageMetered(e) if sources.jobs.contains(&e.job) => {
                let shown = self.usage.contains(&at);
                if shown {
                    self.runs.insert(e.run.clone());
                } else {
                    self.others.insert((e.source.clone(), e.event_id.clone()), at);
                }
                shown
            }
            Event::UsageCorrected(e) if self.usage.contains(&at) => {
                self.lacking.extend(self.others.get(&(e.corrects_source.clone(), e.corrects_event.clone())));
                true
            }
            _ => false,
        }
    }

    /// Cards that may price the meter for the tenant, in all their versions: a line names the version.
    fn takes_card(&mut self, e: &RateCardSet) -> bool {
        let concerns = e.tenant.as_ref().is_none_or(|own| *own == self.sources.tenant);
        let prices = e.lines.iter().any(|line| Some(line.meter) == self.sources.meter);
        let takes = concerns && (prices || self.cards.contains(&e.rate_card));
        let noted = if takes { &mut self.cards } else { &mut self.passed };
        if concerns {
            noted.insert(e.rate_card.clone());
        }
        takes
    }

    /// Rates between the two currencies that were in force at the month's end, as far as they were known when it was closed.
    fn takes_rate(&mut self, epoch: i64, e: &ExchangeRateSet) -> bool {
        let pair = (e.from_currency, e.to_currency);
        let LineSources { currency, rate_currency, month, closed_at_epoch, .. } = self.sources;
        let of_line =
            currency != rate_currency && (pair == (*rate_currency, *currency) || pair == (*currency, *rate_currency));
        let known = closed_at_epoch.is_none_or(|closed| epoch <= closed) && e.effective_from_us <= month.end();
        let later = |(since, _): &(TimeUs, EventId)| *since <= e.effective_from_us;
        let takes = of_line && known && self.rates.get(&pair).is_none_or(later);
        if takes {
            self.rates.insert(pair, (e.effective_from_us, e.event_id.clone()));
        }
        takes
    }

    /// Whether an event that was taken is still to be shown, now that all of them are known.
    pub fn keeps(&self, event: &Event) -> bool {
        match event {
            Event::CellDeclared(_) => !self.declared,
            Event::JobPlaced(e) => self.runs.contains(&e.run),
            Event::ExchangeRateSet(e) => {
                let last = self.rates.get(&(e.from_currency, e.to_currency));
                last.is_some_and(|(_, id)| *id == e.event_id)
            }
            _ => true,
        }
    }
}
