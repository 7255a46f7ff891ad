//! What a field of an event is: its Avro type, its own validity and an example of it.
//!
//! Every struct of the contract implements [`Field`] through the macros in `define`. The `.avsc` files under
//! `schemas/avsc` are the contract; the tests compare them with what these implementations say.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::wire;

/// A field that breaks the contract: where, what was found, what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}found {found}, expected {expected}", place(path))]
pub struct FieldError {
    /// Path from the record, as in `gang.replicas_min` or `gpus[3].index`.
    pub path: String,
    /// The value as found.
    pub found: String,
    /// What would have been valid.
    pub expected: String,
}

/// What an error's text begins with; a value as a whole has no path.
fn place(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!("field {path}: ") }
}

impl FieldError {
    /// An error at the value itself; containers add their names with [`FieldError::within`].
    pub fn here(found: impl ToString, expected: impl ToString) -> Self {
        Self { path: String::new(), found: found.to_string(), expected: expected.to_string() }
    }

    /// An error at a named field.
    pub fn at(field: &str, found: impl ToString, expected: impl ToString) -> Self {
        Self::here(found, expected).within(field)
    }

    /// The same error seen from the container that holds it under `name`.
    pub fn within(mut self, name: &str) -> Self {
        self.path = match self.path.as_bytes().first() {
            None => name.to_owned(),
            Some(b'[') => format!("{name}{}", self.path),
            Some(_) => format!("{name}.{}", self.path),
        };
        self
    }
}

/// The names of Avro types already written out in a schema; a second use refers to the name.
pub type Seen = BTreeSet<String>;

/// A type that can stand in an event.
pub trait Field: Sized {
    /// Default in Avro's JSON, for fields that may be absent.
    const DEFAULT: Option<&'static str> = None;

    /// The Avro type in JSON.
    fn schema(seen: &mut Seen) -> Value;

    /// Whether the value is one that the contract allows.
    fn check(&self) -> Result<(), FieldError>;

    /// A plausible value for a field of this name; deterministic.
    fn example(name: &str) -> Self;

    /// Appends its Avro bytes.
    fn write(&self, out: &mut Vec<u8>);

    /// Takes its Avro bytes off the front of `input`.
    fn read(input: &mut &[u8]) -> Result<Self, FieldError>;
}

/// A field of a record, with its name in an error.
pub(crate) fn read_field<T: Field>(input: &mut &[u8], name: &str) -> Result<T, FieldError> {
    T::read(input).map_err(|e| e.within(name))
}

impl<T: Field> Field for Option<T> {
    const DEFAULT: Option<&'static str> = Some("null");

    fn schema(seen: &mut Seen) -> Value {
        json!(["null", T::schema(seen)])
    }

    fn check(&self) -> Result<(), FieldError> {
        self.as_ref().map_or(Ok(()), Field::check)
    }

    fn example(name: &str) -> Self {
        Some(T::example(name))
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            None => out.push(0),
            Some(value) => {
                wire::write_long(1, out);
                value.write(out);
            }
        }
    }

    fn read(input: &mut &[u8]) -> Result<Self, FieldError> {
        wire::read_present(input)?.then(|| T::read(input)).transpose()
    }
}

/// The most elements an array of an event may have; it bounds what one record can make the engine hold.
pub const ARRAY_LEN_MAX: usize = 65_536;

impl<T: Field> Field for Vec<T> {
    const DEFAULT: Option<&'static str> = Some("[]");

    fn schema(seen: &mut Seen) -> Value {
        json!({"type": "array", "items": T::schema(seen)})
    }

    fn check(&self) -> Result<(), FieldError> {
        if self.len() > ARRAY_LEN_MAX {
            return Err(FieldError::here(format!("{} elements", self.len()), format!("at most {ARRAY_LEN_MAX}")));
        }
        for (i, item) in self.iter().enumerate() {
            item.check().map_err(|e| e.within(&format!("[{i}]")))?;
        }
        Ok(())
    }

    fn example(name: &str) -> Self {
        vec![T::example(name)]
    }

    fn write(&self, out: &mut Vec<u8>) {
        if !self.is_empty() {
            wire::write_long(self.len() as i64, out);
            for item in self {
                item.write(out);
            }
        }
        out.push(0);
    }

    fn read(input: &mut &[u8]) -> Result<Self, FieldError> {
        let mut items = Self::new();
        wire::read_array(input, |input, place| {
            items.push(T::read(input).map_err(|e| e.within(&format!("[{place}]")))?);
            Ok(())
        })?;
        Ok(items)
    }
}

impl<T: Field> Field for Box<T> {
    const DEFAULT: Option<&'static str> = T::DEFAULT;

    fn schema(seen: &mut Seen) -> Value {
        T::schema(seen)
    }

    fn check(&self) -> Result<(), FieldError> {
        (**self).check()
    }

    fn example(name: &str) -> Self {
        Box::new(T::example(name))
    }

    fn write(&self, out: &mut Vec<u8>) {
        (**self).write(out);
    }

    fn read(input: &mut &[u8]) -> Result<Self, FieldError> {
        T::read(input).map(Box::new)
    }
}

impl Field for bool {
    fn schema(_: &mut Seen) -> Value {
        json!("boolean")
    }

    fn check(&self) -> Result<(), FieldError> {
        Ok(())
    }

    fn example(_: &str) -> Self {
        false
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn read(input: &mut &[u8]) -> Result<Self, FieldError> {
        wire::read_bool(input)
    }
}

/// A signed integer without a unit type of its own; the field's name carries the unit.
impl Field for i64 {
    fn schema(_: &mut Seen) -> Value {
        json!("long")
    }

    fn check(&self) -> Result<(), FieldError> {
        Ok(())
    }

    fn example(_: &str) -> Self {
        1
    }

    fn write(&self, out: &mut Vec<u8>) {
        wire::write_long(*self, out);
    }

    fn read(input: &mut &[u8]) -> Result<Self, FieldError> {
        wire::read_long(input)
    }
}

/// The longest free text (a reason, a description) an event may carry, in bytes; 64 KiB of an original in hexadecimal fit.
pub const TEXT_LEN_MAX: usize = 131_072;

impl Field for String {
    fn schema(_: &mut Seen) -> Value {
        json!("string")
    }

    fn check(&self) -> Result<(), FieldError> {
        if self.len() > TEXT_LEN_MAX {
            return Err(FieldError::here(format!("{} bytes", self.len()), format!("at most {TEXT_LEN_MAX} bytes")));
        }
        Ok(())
    }

    fn example(name: &str) -> Self {
        format!("{} of an example", name.replace('_', " "))
    }

    fn write(&self, out: &mut Vec<u8>) {
        wire::write_str(self, out);
    }

    fn read(input: &mut &[u8]) -> Result<Self, FieldError> {
        wire::read_str(input).map(str::to_owned)
    }
}

/// The JSON of one field of a record schema.
pub(crate) fn field_schema<T: Field>(name: &str, doc: &str, seen: &mut Seen) -> Value {
    let mut field = json!({"name": name, "type": T::schema(seen), "doc": doc.trim()});
    if let Some(default) = T::DEFAULT {
        field["default"] = serde_json::from_str(default).expect("defaults are written as JSON in this crate");
    }
    field
}

/// The JSON of a record schema, or its name when it was written out before.
pub(crate) fn record_schema(
    namespace: &str,
    name: &str,
    doc: &str,
    seen: &mut Seen,
    fields: impl FnOnce(&mut Seen) -> Vec<Value>,
) -> Value {
    let full = format!("{namespace}.{name}");
    if !seen.insert(full.clone()) {
        return json!(full);
    }
    let fields = fields(seen);
    json!({"type": "record", "name": name, "namespace": namespace, "doc": doc.trim(), "fields": fields})
}
