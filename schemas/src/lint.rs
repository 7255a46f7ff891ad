//! What Avro's own rules let through: units, logical types, namespaces, defaults and symbols.
//!
//! [`schema`] looks at one schema, [`change`] at two versions of one. Both say everything that they find.

use serde_json::Value;

use crate::shape::{FieldShape, RecordShape, Shape};

/// Units with the part of a field's name that says them. Names without such a part stand for plain numbers.
const UNIT_WORDS: &[(&str, &[&str])] = &[
    ("us", &["µs UTC", "µs", "µs at speed 1000"]),
    ("micros", &["micros", "micros per unit"]),
    ("w", &["W"]),
    ("j", &["J"]),
    ("mg", &["mg CO2e", "mg CO2e/kWh"]),
    ("milli", &["GPU/1000", "CPU/1000", "1/1000"]),
    ("mib", &["MiB"]),
    ("gib", &["GiB"]),
];
/// Units whose fields need no word in their name.
const WORDLESS_UNITS: &[&str] = &["count", "meter units"];
/// Fields whose name carries a word for another reason; the documentation says their unit.
const EXCEPTIONS: &[(&str, &str)] = &[("ThermalMeasured.temperature_milli_c", "thousandths of a degree")];

/// Everything wrong with a schema by itself.
pub fn schema(record: &RecordShape) -> Vec<String> {
    let mut found = Vec::new();
    let area = record.name.rsplit_once('.').map_or("", |(namespace, _)| namespace);
    let good = area.strip_prefix("solyx.").is_some_and(|a| !a.is_empty() && a.bytes().all(|b| b.is_ascii_lowercase()));
    if !good {
        found.push(format!("{}: namespace {area:?}, expected solyx.<area>", record.name));
    }
    if record.fields.iter().any(|f| f.name == "type") {
        found.push(format!(
            "{}.type: a field of this name cannot be written as JSON beside the event's type",
            record.name
        ));
    }
    lint_record(record, &mut found);
    found
}

fn lint_record(record: &RecordShape, found: &mut Vec<String>) {
    documented(&record.name, &record.doc, found);
    if record.fields.is_empty() {
        found.push(format!("{}: has no field", record.name));
    }
    for field in &record.fields {
        let path = format!("{}.{}", record.name, field.name);
        documented(&path, &field.doc, found);
        lint_unit(&path, field, found);
        lint_default(&path, field, found);
        lint_type(&path, &field.shape, found);
    }
}

fn lint_type(path: &str, shape: &Shape, found: &mut Vec<String>) {
    match shape {
        Shape::Array(inner) => {
            if matches!(**inner, Shape::Optional(_)) {
                found.push(format!("{path}: a list of what may be null, expected a list of values"));
            }
            lint_type(path, inner, found);
        }
        Shape::Optional(inner) => lint_type(path, inner, found),
        Shape::Record(record) => lint_record(record, found),
        Shape::Enum(symbols) => {
            documented(&symbols.name, &symbols.doc, found);
            let first = symbols.symbols.first().map(String::as_str);
            if first != Some("UNKNOWN") || symbols.default.as_deref() != Some("UNKNOWN") {
                found.push(format!("{}: UNKNOWN must be its first symbol and its default", symbols.name));
            }
        }
        Shape::Long { .. } | Shape::Bool | Shape::Text => {}
    }
}

fn documented(path: &str, doc: &str, found: &mut Vec<String>) {
    if doc.trim().is_empty() {
        found.push(format!("{path}: has no documentation"));
    }
}

fn lint_unit(path: &str, field: &FieldShape, found: &mut Vec<String>) {
    if EXCEPTIONS.iter().any(|(exception, _)| path.ends_with(exception)) {
        return;
    }
    let said = UNIT_WORDS.iter().find(|(word, _)| says(&field.name, word));
    match (said, integer(&field.shape)) {
        (Some((word, _)), None) => found.push(format!("{path}: named _{word} but is not an integer")),
        (Some((word, units)), Some((unit, time))) => {
            let unit = if time { Some("µs UTC") } else { unit };
            if !unit.is_some_and(|u| units.contains(&u)) {
                found.push(format!("{path}: named _{word} but its unit is {unit:?}, expected one of {units:?}"));
            }
        }
        (None, Some((Some(unit), _))) if !WORDLESS_UNITS.contains(&unit) => {
            found.push(format!("{path}: its unit is {unit}, which its name does not say"));
        }
        _ => {}
    }
}

/// Whether a name says a unit: money and thousandths anywhere, the others at its end or before `per`.
fn says(name: &str, word: &str) -> bool {
    let words: Vec<&str> = name.split('_').collect();
    match word {
        "micros" | "milli" => words.contains(&word),
        _ => {
            let ends = words.last() == Some(&word) || words.windows(2).any(|pair| pair == [word, "per"]);
            ends && !words.contains(&"micros")
        }
    }
}

fn integer(shape: &Shape) -> Option<(Option<&str>, bool)> {
    match shape {
        Shape::Long { unit, time } => Some((unit.as_deref(), *time)),
        Shape::Optional(inner) | Shape::Array(inner) => integer(inner),
        _ => None,
    }
}

fn lint_default(path: &str, field: &FieldShape, found: &mut Vec<String>) {
    let wanted = match &field.shape {
        Shape::Optional(_) => Some(Value::Null),
        Shape::Array(_) => Some(Value::Array(Vec::new())),
        _ => return,
    };
    if field.default != wanted {
        let wanted = wanted.unwrap_or_default();
        found.push(format!("{path}: default {:?}, expected {wanted}", field.default));
    }
}

/// Everything forbidden between an earlier version of a schema and a later one.
pub fn change(earlier: &RecordShape, later: &RecordShape) -> Vec<String> {
    let mut found = Vec::new();
    changed_record(earlier, later, &mut found);
    found
}

fn changed_record(earlier: &RecordShape, later: &RecordShape, found: &mut Vec<String>) {
    if earlier.name != later.name {
        found.push(format!("{}: is now {}", earlier.name, later.name));
    }
    for field in &earlier.fields {
        let path = format!("{}.{}", earlier.name, field.name);
        match later.fields.iter().find(|f| f.name == field.name) {
            Some(now) => {
                changed_type(&path, &field.shape, &now.shape, found);
                if field.default != now.default {
                    found.push(format!("{path}: default {:?} is now {:?}", field.default, now.default));
                }
            }
            None if field.default.is_none() => found.push(format!("{path}: dropped, and had no default")),
            None => found.push(format!("{path}: dropped; a field stays and may be left at its default")),
        }
    }
    let kept: Vec<&str> = earlier.fields.iter().map(|f| f.name.as_str()).collect();
    for field in later.fields.iter().filter(|f| !kept.contains(&f.name.as_str())) {
        if field.default.is_none() {
            found.push(format!("{}.{}: new, and has no default", later.name, field.name));
        }
    }
    let order: Vec<&str> = later.fields.iter().map(|f| f.name.as_str()).filter(|name| kept.contains(name)).collect();
    let before: Vec<&str> = kept.into_iter().filter(|name| order.contains(name)).collect();
    if order != before {
        found.push(format!("{}: the order of its fields changed", later.name));
    }
}

fn changed_type(path: &str, earlier: &Shape, later: &Shape, found: &mut Vec<String>) {
    match (earlier, later) {
        (Shape::Long { unit, time }, Shape::Long { unit: unit_now, time: time_now }) => {
            if unit != unit_now {
                found.push(format!("{path}: unit {unit:?} is now {unit_now:?}"));
            }
            if time != time_now {
                found.push(format!("{path}: its logical type changed"));
            }
        }
        (Shape::Bool, Shape::Bool) | (Shape::Text, Shape::Text) => {}
        (Shape::Enum(earlier), Shape::Enum(later)) => {
            if earlier.name != later.name {
                found.push(format!("{path}: type {} is now {}", earlier.name, later.name));
            }
            for (i, symbol) in earlier.symbols.iter().enumerate() {
                match later.symbols.iter().position(|s| s == symbol) {
                    None => found.push(format!("{path}: symbol {symbol} of {} was dropped", later.name)),
                    Some(now) if now != i => found.push(format!("{path}: symbol {symbol} of {} moved", later.name)),
                    Some(_) => {}
                }
            }
        }
        (Shape::Array(earlier), Shape::Array(later)) | (Shape::Optional(earlier), Shape::Optional(later)) => {
            changed_type(path, earlier, later, found);
        }
        (Shape::Record(earlier), Shape::Record(later)) => changed_record(earlier, later, found),
        (earlier, later) => {
            found.push(format!("{path}: was {}, is now {}", earlier.expected(), later.expected()));
        }
    }
}
