//! The parts of Avro's binary encoding that an archive needs: integers, bytes, and how far a value of a schema reaches.
//!
//! Bodies are copied, never built again. What makes that safe is [`Shape`]: it walks a body by its schema and accepts it only
//! when it is encoded exactly as our codec encodes (shortest integers, arrays in one block), so that decoding and encoding
//! again gives the same bytes. (Avro 1.12 specification, "Binary Encoding".)

use std::collections::HashMap;

use serde_json::Value;

/// Schemas nest no deeper than this; deeper data is not accepted.
const DEPTH_MAX: u32 = 64;

/// Appends a long: zigzag, then variable length.
pub(super) fn write_long(value: i64, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Appends bytes or a string: the length, then the bytes.
pub(super) fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    write_long(bytes.len() as i64, out);
    out.extend_from_slice(bytes);
}

/// Bytes being read from the front. Every method gives nothing where the bytes are not what was asked for.
#[derive(Clone, Copy)]
pub(super) struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    /// How many bytes were read, from the very front.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn is_empty(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// What lies between an earlier place and here.
    pub(super) fn since(&self, start: usize) -> &'a [u8] {
        &self.bytes[start..self.at]
    }

    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    /// A long in its shortest form.
    pub(super) fn long(&mut self) -> Option<i64> {
        let mut value = 0u64;
        for place in 0..10 {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            if place == 9 && byte > 1 {
                return None;
            }
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                let shortest = place == 0 || byte != 0;
                return shortest.then_some((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        None
    }

    /// How many bytes are left.
    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.at.min(self.bytes.len())
    }

    pub(super) fn len(&mut self) -> Option<usize> {
        usize::try_from(self.long()?).ok()
    }

    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.len()?;
        self.take(len)
    }

    pub(super) fn string(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }
}

enum Node {
    Null,
    Boolean,
    Int,
    Long,
    Bytes,
    String,
    Fixed(usize),
    Enum(i64),
    Record(Vec<usize>),
    Union(Vec<usize>),
    Array(usize),
    Map(usize),
}

/// Schemas made ready for walking; they may refer to each other's named types.
#[derive(Default)]
pub(super) struct Shape {
    nodes: Vec<Node>,
    /// Which of them have no bytes, whatever the value: nothing, and records of nothing.
    empty: Vec<bool>,
    names: HashMap<String, usize>,
}

impl Shape {
    /// Adds a schema and gives its node. Named types must come before they are referred to.
    pub(super) fn add(&mut self, schema: &Value, namespace: &str) -> Result<usize, String> {
        match schema {
            Value::String(name) => self.named(name, namespace),
            Value::Array(branches) => {
                let branches: Result<_, _> = branches.iter().map(|branch| self.add(branch, namespace)).collect();
                Ok(self.push(Node::Union(branches?)))
            }
            Value::Object(_) => self.add_object(schema, namespace),
            other => Err(format!("{other} is no schema")),
        }
    }

    fn push(&mut self, node: Node) -> usize {
        self.empty.push(matches!(node, Node::Null | Node::Fixed(0)));
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn named(&mut self, name: &str, namespace: &str) -> Result<usize, String> {
        let node = match name {
            "null" => Node::Null,
            "boolean" => Node::Boolean,
            "int" => Node::Int,
            "long" => Node::Long,
            "float" => Node::Fixed(4),
            "double" => Node::Fixed(8),
            "bytes" => Node::Bytes,
            "string" => Node::String,
            name => {
                let full = super::schemas::full_name(name, None, namespace);
                return self
                    .names
                    .get(&full)
                    .copied()
                    .ok_or_else(|| format!("type {full} is not defined before its use"));
            }
        };
        Ok(self.push(node))
    }

    fn add_object(&mut self, schema: &Value, namespace: &str) -> Result<usize, String> {
        let text = |key: &str| schema.get(key).and_then(Value::as_str);
        let part = |key: &str| schema.get(key).ok_or_else(|| format!("{key} is missing in {schema}"));
        let Some(kind) = text("type") else { return self.add(part("type")?, namespace) };
        match kind {
            "array" => {
                let items = self.add(part("items")?, namespace)?;
                if self.empty[items] {
                    // A few bytes could say any number of them.
                    return Err("an array's items may have no bytes".to_owned());
                }
                Ok(self.push(Node::Array(items)))
            }
            "map" => {
                let values = self.add(part("values")?, namespace)?;
                Ok(self.push(Node::Map(values)))
            }
            "record" | "enum" | "fixed" => {
                let name = part("name")?.as_str().unwrap_or_default();
                let full = super::schemas::full_name(name, text("namespace"), namespace);
                let inner = full.rsplit_once('.').map_or("", |(space, _)| space).to_owned();
                let node = self.push(Node::Null);
                self.empty[node] = false;
                if self.names.insert(full.clone(), node).is_some() {
                    return Err(format!("type {full} is defined twice"));
                }
                self.nodes[node] = match kind {
                    "enum" => Node::Enum(part("symbols")?.as_array().map_or(0, Vec::len) as i64),
                    "fixed" => Node::Fixed(part("size")?.as_u64().unwrap_or(0) as usize),
                    _ => {
                        let fields = part("fields")?.as_array().ok_or("fields are a list")?;
                        let nodes: Result<_, _> = fields
                            .iter()
                            .map(|field| self.add(field.get("type").unwrap_or(&Value::Null), &inner))
                            .collect();
                        Node::Record(nodes?)
                    }
                };
                self.empty[node] = match &self.nodes[node] {
                    Node::Record(fields) => fields.iter().all(|field| self.empty[*field]),
                    Node::Fixed(size) => *size == 0,
                    _ => false,
                };
                Ok(node)
            }
            primitive => self.named(primitive, namespace),
        }
    }

    /// Reads past one value; nothing when it is not encoded as our codec would.
    pub(super) fn pass(&self, node: usize, input: &mut Input<'_>) -> Option<()> {
        self.pass_within(node, input, DEPTH_MAX)
    }

    fn pass_within(&self, node: usize, input: &mut Input<'_>, depth: u32) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        if self.empty[node] {
            return Some(());
        }
        match &self.nodes[node] {
            Node::Null => {}
            Node::Boolean => return (input.take(1)?[0] <= 1).then_some(()),
            Node::Int => drop(i32::try_from(input.long()?).ok()?),
            Node::Long => drop(input.long()?),
            Node::Bytes => drop(input.bytes()?),
            Node::String => drop(input.string()?),
            Node::Fixed(size) => drop(input.take(*size)?),
            Node::Enum(symbols) => return (0..*symbols).contains(&input.long()?).then_some(()),
            Node::Record(fields) => {
                for field in fields {
                    self.pass_within(*field, input, depth)?;
                }
            }
            Node::Union(branches) => {
                let branch = branches.get(input.len()?)?;
                self.pass_within(*branch, input, depth)?;
            }
            Node::Array(items) => {
                // No item is empty, so there are never more items than bytes.
                let count = input.len().filter(|count| *count <= input.bytes.len())?;
                for _ in 0..count {
                    self.pass_within(*items, input, depth)?;
                }
                if count > 0 && input.long()? != 0 {
                    return None;
                }
            }
            Node::Map(values) => {
                // The order of entries is lost in decoding: only what has no order can come back the same.
                let count = input.len().filter(|count| *count <= 1)?;
                if count == 1 {
                    input.string()?;
                    self.pass_within(*values, input, depth)?;
                    return (input.long()? == 0).then_some(());
                }
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use solyx_schemas::codec::{Codec, FRAME_LEN};
    use solyx_schemas::events::EVENT_TYPES;

    #[test]
    fn the_body_of_every_event_is_passed_to_its_last_byte() {
        for event_type in EVENT_TYPES {
            let mut shape = Shape::default();
            let root = shape.add(&serde_json::from_str(event_type.avsc).unwrap(), "").unwrap();
            let value = Codec::global().encode(&(event_type.example)());
            let body = &value[FRAME_LEN..];
            let mut input = Input::new(body, 0);
            assert!(shape.pass(root, &mut input).is_some() && input.is_empty(), "{}", event_type.name);
            let cut = shape.pass(root, &mut Input::new(&body[..body.len() - 1], 0));
            assert!(cut.is_none(), "{} without its last byte", event_type.name);
        }
    }

    #[test]
    fn integers_are_read_back_and_only_in_their_shortest_form() {
        for value in [0, 1, -1, 63, 64, -64, -65, i64::MAX, i64::MIN, 1 << 40] {
            let mut out = Vec::new();
            write_long(value, &mut out);
            assert_eq!(Input::new(&out, 0).long(), Some(value));
        }
        for longer in [&[0x80, 0x00][..], &[0x82, 0x80, 0x00], &[0xff; 10], &[0x80]] {
            assert_eq!(Input::new(longer, 0).long(), None, "{longer:?}");
        }
    }

    #[test]
    fn nothing_takes_long_that_has_no_bytes() {
        let mut shape = Shape::default();
        let nothing = serde_json::json!({"type": "array", "items": "null"});
        assert!(shape.add(&nothing, "").unwrap_err().contains("no bytes"));
        // Each of sixty records holds the one before it twice: a walk through all of them would not end.
        let mut inner = serde_json::json!("null");
        for number in 0..60 {
            let name = format!("R{number}");
            let fields = serde_json::json!([{"name": "a", "type": inner}, {"name": "b", "type": inner_name(&inner)}]);
            inner = serde_json::json!({"type": "record", "name": name, "fields": fields});
        }
        let root = shape.add(&inner, "").unwrap();
        assert!(shape.pass(root, &mut Input::new(&[], 0)).is_some());
    }

    fn inner_name(schema: &Value) -> Value {
        schema.get("name").cloned().unwrap_or_else(|| schema.clone())
    }

    #[test]
    fn an_array_in_several_blocks_is_not_as_our_codec_writes_it() {
        let mut shape = Shape::default();
        let root = shape.add(&serde_json::json!({"type": "array", "items": "long"}), "").unwrap();
        let accepts = |bytes: &[u8]| shape.pass(root, &mut Input::new(bytes, 0)).is_some();
        assert!(accepts(&[0]));
        assert!(accepts(&[4, 2, 2, 0]));
        assert!(!accepts(&[2, 2, 2, 2, 0]), "two blocks of one");
        assert!(!accepts(&[3, 4, 2, 2, 0]), "a block with its size");
    }
}
