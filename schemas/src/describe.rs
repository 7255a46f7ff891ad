//! What an event is, for people: its fields with types, units, documentation and defaults, its topic and key.

use serde::Serialize;
use serde_json::Value;

use crate::events::event_type;
use crate::json::shape;
use crate::shape::{RecordShape, Shape};

/// An event.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Description {
    /// Full name.
    pub name: String,
    /// What it says.
    pub doc: String,
    /// Topic without prefix.
    pub topic: &'static str,
    /// Fields that make the record's key.
    pub key: Vec<&'static str>,
    /// Its fields.
    pub fields: Vec<FieldDescription>,
}

/// A field.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FieldDescription {
    /// Name.
    pub name: String,
    /// Type in words: `integer`, `instant`, `text`, `true or false`, a symbol's or record's name, `list of …`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Whether it must be there.
    pub required: bool,
    /// Value when it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// What it says.
    pub doc: String,
    /// Symbols it may hold.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub symbols: Vec<String>,
    /// Fields of the record in it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldDescription>,
}

/// The description of an event by its full or short name.
pub fn describe(name: &str) -> Option<Description> {
    let event_type = event_type(name)?;
    let shape = shape(event_type.index());
    Some(Description {
        name: shape.name.clone(),
        doc: shape.doc.clone(),
        topic: event_type.topic.name(),
        key: event_type.key_fields(),
        fields: fields(shape),
    })
}

fn fields(record: &RecordShape) -> Vec<FieldDescription> {
    let describe = |field: &crate::shape::FieldShape| {
        let mut described = FieldDescription {
            name: field.name.clone(),
            kind: String::new(),
            unit: None,
            required: field.default.is_none(),
            default: field.default.clone(),
            doc: field.doc.clone(),
            symbols: Vec::new(),
            fields: Vec::new(),
        };
        described.kind = kind(&field.shape, &mut described);
        described
    };
    record.fields.iter().map(describe).collect()
}

fn kind(shape: &Shape, described: &mut FieldDescription) -> String {
    match shape {
        Shape::Long { time: true, .. } => {
            described.unit = Some("µs UTC".to_owned());
            "instant".to_owned()
        }
        Shape::Long { unit, .. } => {
            described.unit = unit.clone();
            "integer".to_owned()
        }
        Shape::Bool => "true or false".to_owned(),
        Shape::Text => "text".to_owned(),
        Shape::Enum(symbols) => {
            described.symbols = symbols.known().map(str::to_owned).collect();
            short(&symbols.name)
        }
        Shape::Array(items) => format!("list of {}", kind(items, described)),
        Shape::Optional(inner) => kind(inner, described),
        Shape::Record(record) => {
            described.fields = fields(record);
            short(&record.name)
        }
    }
}

fn short(name: &str) -> String {
    name.rsplit('.').next().unwrap_or(name).to_owned()
}
