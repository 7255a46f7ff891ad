//! Where the parts of a world put their events: gives each its id and source, and says some of them twice.

use solyx_schemas::events::Event;
use solyx_schemas::events::common::Sum;
use solyx_schemas::ids::{EventId, SourceId};
use solyx_schemas::topics::Topic;
use solyx_schemas::units::{Currency, MoneyMicros, TimeUs};

use super::luck::Luck;
use super::plan::Plan;

/// How many records in a thousand a producer of nodes or jobs says twice: it delivers at least once.
const REPEATED_MILLI: i64 = 2;

/// The leading fields of an event.
pub(super) struct Lead {
    pub(super) event_id: EventId,
    pub(super) source: SourceId,
    pub(super) occurred_us: TimeUs,
}

/// Takes the events.
pub(super) struct World<'o> {
    luck: Luck,
    source: SourceId,
    out: &'o mut dyn FnMut(Event),
}

impl<'o> World<'o> {
    pub(super) fn new(plan: &Plan, out: &'o mut dyn FnMut(Event)) -> Self {
        Self { luck: plan.luck, source: SourceId::from(format!("generate/{}", plan.seed)), out }
    }

    /// The leading fields of what is said of `id` at an instant.
    pub(super) fn lead(&self, kind: &str, id: &str, at: TimeUs) -> Lead {
        Lead { event_id: EventId::from(format!("{kind}/{id}")), source: self.source.clone(), occurred_us: at }
    }

    pub(super) fn push(&mut self, event: impl Into<Event>) {
        let event = event.into();
        let repeats = matches!(event.topic(), Topic::Jobs | Topic::Nodes);
        if repeats && self.luck.chance("repeated", &event.identity().id, REPEATED_MILLI) {
            (self.out)(event.clone());
        }
        (self.out)(event);
    }
}

/// Says an event: where it goes, when, of which kind and thing, and its own fields.
macro_rules! say {
    ($world:expr, $at:expr, $kind:expr, $id:expr, $event:ident { $($body:tt)* }) => {{
        let lead = $world.lead($kind, $id, $at);
        $world.push($event {
            event_id: lead.event_id,
            source: lead.source,
            occurred_us: lead.occurred_us,
            $($body)*
        });
    }};
}
pub(super) use say;

/// A sum of whole units of a currency.
pub(super) fn sum(currency: &str, units: i64) -> Sum {
    Sum { currency: money(currency), micros: MoneyMicros(units * 1_000_000) }
}

/// A currency by its code.
pub(super) fn money(code: &str) -> Currency {
    Currency::parse(code).unwrap_or_default()
}
