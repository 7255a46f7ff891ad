//! Events as JSON, for people and scripts. An error says the field, what was found and what was expected.
//!
//! The object carries `"type"`, the record's full or short name, beside its fields. Instants may be text (RFC 3339)
//! where they are read and are integers where they are written. Fields with a default may be left out.

use std::io::BufRead;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use crate::events::{EVENT_TYPES, Event, EventType};
use crate::field::FieldError;
use crate::shape::{Reading, RecordShape, distance, shown};

/// The shapes of all record types, in the order of [`EVENT_TYPES`].
static SHAPES: LazyLock<Vec<RecordShape>> = LazyLock::new(|| {
    let parse = |event_type: &EventType| {
        RecordShape::parse(event_type.avsc).expect("schema files are part of this build and its tests parse them")
    };
    EVENT_TYPES.iter().map(parse).collect()
});

/// The shape of a record type by its place in [`EVENT_TYPES`].
pub fn shape(type_index: usize) -> &'static RecordShape {
    &SHAPES[type_index]
}

/// The event that a JSON object says, checked; or everything that is wrong with it.
pub fn from_json(value: &Value) -> Result<Event, Vec<FieldError>> {
    let Value::Object(map) = value else {
        return Err(vec![FieldError::here(shown(value), "an object with \"type\" and the fields of an event")]);
    };
    let type_index = type_index(map.get("type")).map_err(|e| vec![e])?;
    let fields: Map<String, Value> =
        map.iter().filter(|(name, _)| *name != "type").map(|(name, value)| (name.clone(), value.clone())).collect();
    let mut body = Vec::new();
    let mut errors = Vec::new();
    shape(type_index).write(&fields, Reading::Strict, &mut body, &mut errors);
    if !errors.is_empty() {
        return Err(errors);
    }
    let event = Event::from_body(type_index, &mut body.as_slice()).map_err(|e| vec![e])?;
    event.check().map_err(|e| vec![e])?;
    Ok(event)
}

fn type_index(name: Option<&Value>) -> Result<usize, FieldError> {
    let Some(Value::String(name)) = name else {
        let found = name.map_or_else(|| "nothing".to_owned(), shown);
        return Err(FieldError::at("type", found, "the name of an event, as in JobRequested"));
    };
    let found = EVENT_TYPES.iter().position(|t| t.name == name || t.short_name() == name);
    found.ok_or_else(|| FieldError::at("type", format!("{name:?}"), unknown_type_hint(name)))
}

/// What to say to somebody who named an event that does not exist.
pub fn unknown_type_hint(name: &str) -> String {
    let short = name.rsplit('.').next().unwrap_or(name);
    let near = EVENT_TYPES.iter().map(|t| (distance(t.short_name(), short), t.short_name())).min();
    match near {
        Some((distance, near)) if distance <= 4 => format!("the name of an event; perhaps {near}"),
        _ => "the name of an event, as `solyx events list` shows them".to_owned(),
    }
}

/// The JSON object of an event, with its full name under `"type"`.
pub fn to_json(event: &Event) -> Value {
    let mut body = Vec::new();
    event.write_body(&mut body);
    let fields = shape(event.type_index())
        .read(&mut body.as_slice())
        .expect("an event's own bytes are what its schema says, which the tests check for every record type");
    let mut map = Map::new();
    map.insert("type".to_owned(), Value::from(event.name()));
    map.extend(fields);
    Value::Object(map)
}

/// A line that was read.
#[derive(Debug)]
pub struct Line {
    /// Number, from 1.
    pub number: u64,
    /// The event, or everything that is wrong with the line.
    pub event: Result<Event, Vec<FieldError>>,
}

/// The longest line that is read as JSON; a longer one is a bad line.
pub const LINE_LEN_MAX: usize = 32 << 20;

/// Reads events, one JSON object per line, and hands each line over; a bad line stops nothing. Empty lines are passed over.
pub fn read_lines(mut reader: impl BufRead, mut on_line: impl FnMut(Line)) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    for number in 1.. {
        bytes.clear();
        if read_line(&mut reader, &mut bytes)? == 0 {
            break;
        }
        let text = bytes.trim_ascii();
        if !text.is_empty() {
            on_line(Line { number, event: parse_line(text) });
        }
    }
    Ok(())
}

/// Reads a line and keeps no more of it than one byte beyond the limit; the number of bytes it had.
fn read_line(reader: &mut impl BufRead, bytes: &mut Vec<u8>) -> std::io::Result<usize> {
    let mut total = 0;
    loop {
        let chunk = reader.fill_buf()?;
        if chunk.is_empty() {
            return Ok(total);
        }
        let end = chunk.iter().position(|b| *b == b'\n');
        let taken = end.map_or(chunk.len(), |i| i + 1);
        let kept = taken.min((LINE_LEN_MAX + 1).saturating_sub(bytes.len()));
        bytes.extend_from_slice(&chunk[..kept]);
        reader.consume(taken);
        total += taken;
        if end.is_some() {
            return Ok(total);
        }
    }
}

fn parse_line(text: &[u8]) -> Result<Event, Vec<FieldError>> {
    if text.len() > LINE_LEN_MAX {
        let expected = format!("at most {LINE_LEN_MAX} bytes on a line");
        return Err(vec![FieldError::here("a longer line", expected)]);
    }
    let value: Value = serde_json::from_slice(text).map_err(|e| {
        let start: String = String::from_utf8_lossy(text).chars().take(60).collect();
        vec![FieldError::here(format!("{start:?}"), format!("a JSON object ({e})"))]
    })?;
    from_json(&value)
}
