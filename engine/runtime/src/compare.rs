//! What was derived against what is recorded: the first difference by epoch, record and field.

use serde::Serialize;
use solyx_kernel::Closed;
use solyx_schemas::codec::Codec;
use solyx_schemas::epochs::RawEpoch;
use solyx_schemas::events::Event;
use solyx_schemas::events::decisions::{EpochCommitted, SkippedRecord};

/// The longest value that a difference prints, in characters.
const SHOWN_MAX: usize = 300;

/// Where two histories part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Epoch.
    pub epoch: i64,
    /// The record: topic, partition and ordinal, or what is missing.
    pub record: String,
    /// The field, or what of the record differs.
    pub what: String,
    /// As the log has it.
    pub recorded: String,
    /// As it was derived.
    pub derived: String,
}

impl Difference {
    /// A difference of two texts.
    pub fn new(
        epoch: i64,
        record: impl Into<String>,
        what: impl Into<String>,
        recorded: impl ToString,
        derived: impl ToString,
    ) -> Self {
        let shown = |text: String| text.chars().take(SHOWN_MAX).collect();
        let (recorded, derived) = (shown(recorded.to_string()), shown(derived.to_string()));
        Self { epoch, record: record.into(), what: what.into(), recorded, derived }
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { epoch, record, what, recorded, derived } = self;
        write!(f, "epoch {epoch}, {record}, {what}: recorded {recorded}, derived {derived}")
    }
}

/// The first difference of an epoch, judgements first, then outputs, then the epoch record.
pub fn first_difference(raw: &RawEpoch, closed: &Closed) -> Option<Difference> {
    if raw.record == closed.record && raw.chain_hash == closed.chain_hash && same_outputs(raw, closed) {
        return None;
    }
    judgements(raw, closed).or_else(|| outputs(raw, closed)).or_else(|| epoch_record(raw, closed))
}

fn same_outputs(raw: &RawEpoch, closed: &Closed) -> bool {
    raw.outputs.len() == closed.outputs.len()
        && raw.outputs.iter().zip(&closed.outputs).all(|(recorded, derived)| {
            let record = &recorded.stored.record;
            recorded.event == *derived
                && record.key == derived.key().as_bytes()
                && record.value == Codec::global().encode(derived)
        })
        && raw.stored.record.key == Event::from(closed.record.clone()).key().as_bytes()
}

fn judgements(raw: &RawEpoch, closed: &Closed) -> Option<Difference> {
    let place = |skip: &SkippedRecord| format!("{}/{}/{}", skip.topic, skip.partition, skip.ordinal);
    let mut recorded = raw.record.skipped.iter().peekable();
    let mut derived = closed.record.skipped.iter().peekable();
    for input in &raw.inputs {
        let position = input.position;
        let here = |skip: &&SkippedRecord| {
            skip.topic.as_str() == position.topic().name()
                && skip.partition == i64::from(position.partition)
                && skip.ordinal == position.ordinal as i64
        };
        let (was, is) = (recorded.next_if(here), derived.next_if(here));
        let said = |skip: Option<&SkippedRecord>| skip.map_or("counts".to_owned(), |skip| skip.reason.to_string());
        if was.map(|skip| skip.reason) != is.map(|skip| skip.reason) {
            let record = format!("{}/{}/{}", position.topic().name(), position.partition, position.ordinal);
            return Some(Difference::new(raw.record.epoch, record, "judgement", said(was), said(is)));
        }
    }
    // What is left names records that this epoch did not take.
    let left = recorded.next()?;
    Some(Difference::new(raw.record.epoch, place(left), "judgement", left.reason, "not taken by this epoch"))
}

fn outputs(raw: &RawEpoch, closed: &Closed) -> Option<Difference> {
    let epoch = raw.record.epoch;
    for (index, recorded) in raw.outputs.iter().enumerate() {
        let stored = &recorded.stored;
        let place = format!("{}/{}/{}", stored.record.topic.name(), stored.record.partition, stored.ordinal);
        let Some(derived) = closed.outputs.get(index) else {
            return Some(Difference::new(epoch, place, "output", recorded.event.name(), "none"));
        };
        if let Some((what, was, is)) = event_difference(&recorded.event, derived) {
            return Some(Difference::new(epoch, place, what, was, is));
        }
        let value = Codec::global().encode(derived);
        if stored.record.value != value {
            let (was, is) = (hex::encode(&stored.record.value), hex::encode(value));
            return Some(Difference::new(epoch, place, "bytes", was, is));
        }
        if stored.record.key != derived.key().as_bytes() {
            let was = String::from_utf8_lossy(&stored.record.key).into_owned();
            return Some(Difference::new(epoch, place, "key", was, derived.key()));
        }
    }
    let missing = closed.outputs.get(raw.outputs.len())?;
    Some(Difference::new(epoch, format!("output {}", raw.outputs.len()), "output", "none", missing.name()))
}

fn epoch_record(raw: &RawEpoch, closed: &Closed) -> Option<Difference> {
    let epoch = raw.record.epoch;
    let stored = &raw.stored;
    let place = format!("{}/{}/{}", stored.record.topic.name(), stored.record.partition, stored.ordinal);
    let [recorded, derived] = [&raw.record, &closed.record].map(|record| Event::from(EpochCommitted::clone(record)));
    if let Some((what, was, is)) = event_difference(&recorded, &derived) {
        return Some(Difference::new(epoch, place, what, was, is));
    }
    let key = derived.key();
    if stored.record.key != key.as_bytes() {
        let was = String::from_utf8_lossy(&stored.record.key).into_owned();
        return Some(Difference::new(epoch, place, "key", was, key));
    }
    (raw.chain_hash != closed.chain_hash)
        .then(|| Difference::new(epoch, place, "chain hash", raw.chain_hash, closed.chain_hash))
}

/// The first field in which two events differ, with both values.
fn event_difference(recorded: &Event, derived: &Event) -> Option<(String, String, String)> {
    if recorded == derived {
        return None;
    }
    if recorded.name() != derived.name() {
        return Some(("record name".to_owned(), recorded.name().to_owned(), derived.name().to_owned()));
    }
    let json = |event: &Event| serde_json::to_value(event).unwrap_or_default();
    field_difference("", &json(recorded), &json(derived))
}

fn field_difference(
    path: &str,
    recorded: &serde_json::Value,
    derived: &serde_json::Value,
) -> Option<(String, String, String)> {
    use serde_json::Value;
    if recorded == derived {
        return None;
    }
    match (recorded, derived) {
        (Value::Object(was), Value::Object(is)) => was.iter().find_map(|(name, value)| {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            field_difference(&path, value, is.get(name).unwrap_or(&Value::Null))
        }),
        (Value::Array(was), Value::Array(is)) if was.len() == is.len() => was
            .iter()
            .zip(is)
            .enumerate()
            .find_map(|(index, (was, is))| field_difference(&format!("{path}[{index}]"), was, is)),
        _ => Some((path.to_owned(), recorded.to_string(), derived.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use solyx_schemas::events::decisions::JobHeld;
    use solyx_schemas::field::Field;

    #[test]
    fn the_field_that_differs_is_named_by_its_path() {
        let held = JobHeld::example("");
        let mut other = held.clone();
        other.job = "another".into();
        let difference = event_difference(&Event::from(held), &Event::from(other)).unwrap();
        assert_eq!(difference.0, "job");
        assert_eq!(difference.2, "\"another\"");
    }
}
