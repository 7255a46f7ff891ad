//! A schema file as a tree that can be walked: bytes to JSON, JSON to bytes, and an old writer's bytes to today's.
//!
//! It knows exactly the part of Avro that the contract uses; a schema file that uses another part does not parse.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::field::FieldError;
use crate::units::parse_time;
use crate::wire;

/// The type of a field.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// A `long`, with the unit that the schema names; `time` for an instant.
    Long {
        /// The unit; absent where the field's name and documentation say it.
        unit: Option<String>,
        /// Whether it is an instant (`timestamp-micros`).
        time: bool,
    },
    /// A `boolean`.
    Bool,
    /// A `string`.
    Text,
    /// An `enum`.
    Enum(Arc<EnumShape>),
    /// An `array`.
    Array(Box<Shape>),
    /// A union of `null` and something.
    Optional(Box<Shape>),
    /// A `record`.
    Record(Arc<RecordShape>),
}

/// An enumeration.
#[derive(Clone, Debug, PartialEq)]
pub struct EnumShape {
    /// Full name.
    pub name: String,
    /// Documentation.
    pub doc: String,
    /// Symbols in order.
    pub symbols: Vec<String>,
    /// The symbol that stands for those a reader does not know.
    pub default: Option<String>,
}

/// A record.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordShape {
    /// Full name.
    pub name: String,
    /// Documentation.
    pub doc: String,
    /// Fields in order.
    pub fields: Vec<FieldShape>,
}

/// A field of a record.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldShape {
    /// Name.
    pub name: String,
    /// Documentation.
    pub doc: String,
    /// Type.
    pub shape: Shape,
    /// Value when it is absent; none means that it must be there.
    pub default: Option<Value>,
}

/// How strictly JSON is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// As a person wrote it: every unknown field and symbol is an error, instants may be text.
    Strict,
    /// As an older or newer schema wrote it: unknown fields are dropped, unknown symbols become the default.
    Resolving,
}

type Named = BTreeMap<String, Shape>;

impl RecordShape {
    /// The shape of a schema file's text.
    pub fn parse(avsc: &str) -> Result<Self, String> {
        let value = serde_json::from_str(avsc).map_err(|e| e.to_string())?;
        match Shape::parse(&value, &mut Named::new())? {
            Shape::Record(record) => Ok(Arc::unwrap_or_clone(record)),
            other => Err(format!("found {}, expected a record", other.expected())),
        }
    }

    /// The JSON of an Avro body, taken off the front of `input`.
    pub fn read(&self, input: &mut &[u8]) -> Result<Map<String, Value>, FieldError> {
        let mut map = Map::new();
        for field in &self.fields {
            let value = field.shape.read(input).map_err(|e| e.within(&field.name))?;
            map.insert(field.name.clone(), value);
        }
        Ok(map)
    }

    /// Appends the Avro body of a JSON object; adds to `errors` what is wrong with it and goes on.
    pub fn write(&self, map: &Map<String, Value>, reading: Reading, out: &mut Vec<u8>, errors: &mut Vec<FieldError>) {
        if reading == Reading::Strict {
            for (name, value) in map {
                if !self.fields.iter().any(|f| f.name == *name) {
                    errors.push(FieldError::at(name, shown(value), self.nearest(name)));
                }
            }
        }
        for field in &self.fields {
            let from = errors.len();
            match (map.get(&field.name), &field.default) {
                (Some(value), _) => field.shape.write(value, reading, out, errors),
                (None, Some(default)) => field.shape.write(default, reading, out, errors),
                (None, None) => errors.push(FieldError::here("nothing", field.shape.expected())),
            }
            name_errors(errors, from, &field.name);
        }
    }

    fn nearest(&self, name: &str) -> String {
        let nearest = self.fields.iter().map(|f| (distance(&f.name, name), &f.name)).min();
        match nearest {
            Some((distance, near)) if distance <= 3 => format!("no such field in {}; perhaps {near}", self.name),
            _ => {
                let names: Vec<&str> = self.fields.iter().map(|f| f.name.as_str()).collect();
                format!("a field of {}: {}", self.name, names.join(", "))
            }
        }
    }
}

impl Shape {
    fn parse(value: &Value, named: &mut Named) -> Result<Self, String> {
        match value {
            Value::String(name) => match name.as_str() {
                "long" => Ok(Self::Long { unit: None, time: false }),
                "boolean" => Ok(Self::Bool),
                "string" => Ok(Self::Text),
                other => named.get(other).cloned().ok_or_else(|| format!("type {other} is not one of the contract's")),
            },
            Value::Array(branches) => match branches.as_slice() {
                [Value::String(null), other] if null == "null" => {
                    Ok(Self::Optional(Box::new(Self::parse(other, named)?)))
                }
                _ => Err(format!("found union {value}, expected [\"null\", …]")),
            },
            Value::Object(map) => Self::parse_object(map, named),
            _ => Err(format!("found {value}, expected a type")),
        }
    }

    fn parse_object(map: &Map<String, Value>, named: &mut Named) -> Result<Self, String> {
        let text = |key: &str| map.get(key).and_then(Value::as_str);
        let full = || match (text("namespace"), text("name")) {
            (Some(namespace), Some(name)) => Ok(format!("{namespace}.{name}")),
            _ => Err(format!("{map:?} has no name and namespace")),
        };
        let doc = text("doc").unwrap_or_default().to_owned();
        let list = |key: &str| map.get(key).and_then(Value::as_array).ok_or_else(|| format!("{map:?} has no {key}"));
        match text("type") {
            Some("long") => {
                let time = match text("logicalType") {
                    None => false,
                    Some("timestamp-micros") => true,
                    Some(other) => return Err(format!("logical type {other} is not one of the contract's")),
                };
                Ok(Self::Long { unit: text("unit").map(str::to_owned), time })
            }
            Some("array") => {
                let items = map.get("items").ok_or("an array has no items")?;
                Ok(Self::Array(Box::new(Self::parse(items, named)?)))
            }
            Some("enum") => {
                let name = full()?;
                let symbols = list("symbols")?.iter().filter_map(Value::as_str).map(str::to_owned).collect();
                let default = text("default").map(str::to_owned);
                let shape = Self::Enum(Arc::new(EnumShape { name: name.clone(), doc, symbols, default }));
                named.insert(name, shape.clone());
                Ok(shape)
            }
            Some("record") => {
                let name = full()?;
                let mut fields = Vec::new();
                for field in list("fields")? {
                    let text = |key: &str| field[key].as_str().unwrap_or_default().to_owned();
                    fields.push(FieldShape {
                        name: text("name"),
                        doc: text("doc"),
                        shape: Self::parse(&field["type"], named).map_err(|e| format!("{}: {e}", text("name")))?,
                        default: field.get("default").cloned(),
                    });
                }
                let shape = Self::Record(Arc::new(RecordShape { name: name.clone(), doc, fields }));
                named.insert(name, shape.clone());
                Ok(shape)
            }
            _ => Err(format!("found {map:?}, expected a type of the contract")),
        }
    }

    /// What a value of it is, for people.
    pub fn expected(&self) -> String {
        match self {
            Self::Long { time: true, .. } => "an instant: µs since 1970, or text as in 2023-09-04T00:00:00Z".to_owned(),
            Self::Long { unit: Some(unit), .. } => format!("an integer, in {unit}"),
            Self::Long { unit: None, .. } => "an integer".to_owned(),
            Self::Bool => "true or false".to_owned(),
            Self::Text => "text".to_owned(),
            Self::Enum(shape) => format!("one of {}", shape.known().collect::<Vec<_>>().join(", ")),
            Self::Array(items) => format!("a list, each {}", items.expected()),
            Self::Optional(inner) => format!("{}, or null", inner.expected()),
            Self::Record(shape) => format!("an object: {}", shape.name),
        }
    }

    /// The JSON of a value of this type, taken off the front of `input`.
    pub fn read(&self, input: &mut &[u8]) -> Result<Value, FieldError> {
        Ok(match self {
            Self::Long { .. } => Value::from(wire::read_long(input)?),
            Self::Bool => Value::from(wire::read_bool(input)?),
            Self::Text => Value::from(wire::read_str(input)?),
            Self::Enum(shape) => {
                let place = wire::read_long(input)?;
                let symbol = usize::try_from(place).ok().and_then(|i| shape.symbols.get(i));
                match symbol {
                    Some(symbol) => Value::from(symbol.as_str()),
                    None => return Err(FieldError::here(format!("symbol number {place}"), self.expected())),
                }
            }
            Self::Array(items) => {
                let mut list = Vec::new();
                wire::read_array(input, |input, place| {
                    list.push(items.read(input).map_err(|e| e.within(&format!("[{place}]")))?);
                    Ok(())
                })?;
                Value::from(list)
            }
            Self::Optional(inner) => {
                if wire::read_present(input)? {
                    inner.read(input)?
                } else {
                    Value::Null
                }
            }
            Self::Record(shape) => Value::Object(shape.read(input)?),
        })
    }

    fn write(&self, value: &Value, reading: Reading, out: &mut Vec<u8>, errors: &mut Vec<FieldError>) {
        match (self, value) {
            (Self::Long { time, .. }, value) => match long_of(value, *time && reading == Reading::Strict) {
                Some(number) => wire::write_long(number, out),
                None => errors.push(FieldError::here(shown(value), self.expected())),
            },
            (Self::Bool, Value::Bool(yes)) => out.push(u8::from(*yes)),
            (Self::Text, Value::String(text)) => wire::write_str(text, out),
            (Self::Enum(shape), Value::String(symbol)) => {
                let symbol = match reading {
                    Reading::Strict if shape.default.as_deref() == Some(symbol) => None,
                    Reading::Strict => shape.place(symbol),
                    Reading::Resolving => shape.place(symbol).or_else(|| shape.place(shape.default.as_deref()?)),
                };
                match symbol {
                    Some(place) => wire::write_long(place as i64, out),
                    None => errors.push(FieldError::here(shown(value), self.expected())),
                }
            }
            (Self::Array(items), Value::Array(list)) => {
                if !list.is_empty() {
                    wire::write_long(list.len() as i64, out);
                    for (place, item) in list.iter().enumerate() {
                        let from = errors.len();
                        items.write(item, reading, out, errors);
                        name_errors(errors, from, &format!("[{place}]"));
                    }
                }
                out.push(0);
            }
            (Self::Optional(_), Value::Null) => out.push(0),
            (Self::Optional(inner), value) => {
                wire::write_long(1, out);
                inner.write(value, reading, out, errors);
            }
            (Self::Record(shape), Value::Object(map)) => shape.write(map, reading, out, errors),
            (_, value) => errors.push(FieldError::here(shown(value), self.expected())),
        }
    }
}

impl EnumShape {
    /// The symbols that an event may hold.
    pub fn known(&self) -> impl Iterator<Item = &str> {
        self.symbols.iter().map(String::as_str).filter(|s| Some(*s) != self.default.as_deref())
    }

    fn place(&self, symbol: &str) -> Option<usize> {
        self.symbols.iter().position(|s| s == symbol)
    }
}

/// Today's bytes for what an older schema wrote.
pub fn resolve(writer: &RecordShape, reader: &RecordShape, input: &mut &[u8]) -> Result<Vec<u8>, FieldError> {
    let map = writer.read(input)?;
    let mut out = Vec::new();
    let mut errors = Vec::new();
    reader.write(&map, Reading::Resolving, &mut out, &mut errors);
    errors.into_iter().next().map_or(Ok(out), Err)
}

/// A value as an error message shows it: JSON, cut where it becomes long.
pub(crate) fn shown(value: &Value) -> String {
    const SHOWN_CHARS_MAX: usize = 120;
    let text = value.to_string();
    if text.chars().count() <= SHOWN_CHARS_MAX {
        return text;
    }
    text.chars().take(SHOWN_CHARS_MAX).chain(['…']).collect()
}

fn long_of(value: &Value, text_allowed: bool) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) if text_allowed => parse_time(text).map(|time| time.0),
        _ => None,
    }
}

fn name_errors(errors: &mut [FieldError], from: usize, name: &str) {
    for error in &mut errors[from..] {
        let taken = FieldError { path: String::new(), found: String::new(), expected: String::new() };
        *error = std::mem::replace(error, taken).within(name);
    }
}

/// Edits between two names (Levenshtein).
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let change = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
