//! Collects the events of a fleet file: gives each its id, source and time, checks it, and fills templates of names.

use solyx_schemas::events::Event;
use solyx_schemas::events::common::{Label, Sum};
use solyx_schemas::ids::{EventId, Name, SourceId};
use solyx_schemas::units::{MoneyMicros, TimeUs};
use std::collections::{BTreeMap, BTreeSet};

use super::FleetError;
use super::format::FleetFile;
use super::values::{Amount, Money};

/// The leading fields of an event.
pub struct Lead {
    pub event_id: EventId,
    pub source: SourceId,
    pub occurred_us: TimeUs,
}

/// Collects events.
pub struct Builder {
    file: String,
    name: String,
    at: TimeUs,
    pub events: Vec<Event>,
    ids: BTreeSet<EventId>,
}

impl Builder {
    pub fn new(file: &str, fleet: &FleetFile) -> Self {
        let name = match fleet.revision {
            0 => fleet.fleet.clone(),
            revision => format!("{}.{revision}", fleet.fleet),
        };
        Self { file: file.to_owned(), name, at: fleet.at.0, events: Vec::new(), ids: BTreeSet::new() }
    }

    /// The file's instant.
    pub fn at(&self) -> TimeUs {
        self.at
    }

    /// The leading fields of the event about `id`.
    pub fn lead(&self, kind: &str, id: &str) -> Lead {
        Lead {
            event_id: EventId::from(format!("fleet/{}/{kind}/{id}", self.name)),
            source: SourceId::from(format!("fleet/{}", self.name)),
            occurred_us: self.at,
        }
    }

    /// Takes an event that `place` of the file describes.
    pub fn push(&mut self, place: &str, event: impl Into<Event>) -> Result<(), FleetError> {
        let event = event.into();
        if let Err(e) = event.check() {
            return Err(self.error(&format!("{place}, field {}", e.path), &e.found, &e.expected));
        }
        let id = EventId::from(&*event.identity().id);
        if !self.ids.insert(id.clone()) {
            return Err(self.error(place, &format!("{id} a second time"), "each thing once"));
        }
        self.events.push(event);
        Ok(())
    }

    /// What is wrong at a place of the file.
    pub fn error(&self, place: &str, found: &str, expected: &str) -> FleetError {
        FleetError {
            file: self.file.clone(),
            place: place.to_owned(),
            found: found.to_owned(),
            expected: expected.to_owned(),
        }
    }

    /// An error unless a number is within its bounds.
    pub fn within(&self, place: &str, value: i64, bounds: std::ops::RangeInclusive<i64>) -> Result<(), FleetError> {
        if bounds.contains(&value) {
            return Ok(());
        }
        let expected = match (*bounds.start(), *bounds.end()) {
            (least, i64::MAX) => format!("{least} or more"),
            (least, most) => format!("{least} to {most}"),
        };
        Err(self.error(place, &value.to_string(), &expected))
    }

    /// The symbol of a word, by the contract's names in any case and with `-` for `_`.
    pub fn symbol<T: Copy>(
        &self,
        place: &str,
        word: &str,
        parse: fn(&str) -> Option<T>,
        all: &[&str],
    ) -> Result<T, FleetError> {
        let symbol = word.to_ascii_uppercase().replace('-', "_");
        parse(&symbol).ok_or_else(|| self.error(place, &format!("{word:?}"), &format!("one of {}", all.join(", "))))
    }
}

/// Symbols of an enum of the contract, as error messages list them.
macro_rules! symbols_of {
    ($t:ty) => {
        &<$t>::ALL.iter().map(|symbol| symbol.as_str()).collect::<Vec<_>>()
    };
}
pub(super) use symbols_of;

/// A sum of an amount and its currency.
pub fn sum(amount: Amount, currency: Money) -> Sum {
    Sum { currency: currency.0, micros: MoneyMicros(amount.0) }
}

/// Labels of a table.
pub fn labels(table: &BTreeMap<String, String>) -> Vec<Label> {
    table.iter().map(|(name, value)| Label { name: Name::from(name.as_str()), value: value.clone() }).collect()
}

/// Digits that a number is filled up to; an id has no room for more.
const DIGITS_MAX: usize = 128;

/// Fills a template: `{n}` becomes the number, `{nnn}` the number with at least three digits; the same with `leaf` and
/// `rack`, which are written out and not padded.
pub fn fill(template: &str, n: i64, leaf: i64, rack: i64) -> String {
    let mut out = String::with_capacity(template.len() + 4);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let Some((word, after)) = after.split_once('}') else {
            out.push('{');
            rest = after;
            continue;
        };
        match word {
            "leaf" => out.push_str(&leaf.to_string()),
            "rack" => out.push_str(&rack.to_string()),
            word if (1..=DIGITS_MAX).contains(&word.len()) && word.bytes().all(|b| b == b'n') => {
                out.push_str(&format!("{n:0width$}", width = word.len()));
            }
            // Left as it is, so that the id's check names it.
            other => out.push_str(&format!("{{{other}}}")),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::fill;

    #[test]
    fn templates_are_filled_with_numbers() {
        assert_eq!(fill("de-{nnn}/{leaf}/{rack}-{n}", 7, 1, 2), "de-007/1/2-7");
        assert_eq!(fill("{oops}{n", 7, 1, 2), "{oops}{n");
    }
}
