//! A row of an archive file: one record of the log, its body copied as it is.

use std::borrow::Cow;

use serde_json::Value;
use solyx_schemas::codec::{Codec, FRAME_LEN};
use solyx_schemas::log::{Record, StoredRecord};
use solyx_schemas::topics::TopicName;

use super::avro::{Input, Shape, write_bytes, write_long};
use super::schemas::{SchemaSet, row_schema};

/// Bytes of the shortest header: the lengths of its name and its value. A crafted block could say millions in some bytes.
const HEADER_BYTES_MIN: usize = 2;

/// The framing id and the body of a value; a value without a frame is all body.
pub(super) fn unframe(value: &[u8]) -> (Option<u32>, &[u8]) {
    match value.split_first_chunk::<FRAME_LEN>() {
        Some((&[0, a, b, c, d], body)) => (Some(u32::from_be_bytes([a, b, c, d])), body),
        _ => (None, value),
    }
}

/// Appends a row. `branch` is the union's branch of its body.
pub(super) fn write_row(stored: &StoredRecord, branch: usize, set: &SchemaSet, out: &mut Vec<u8>) {
    let record = &stored.record;
    write_long(stored.ordinal as i64, out);
    write_long(stored.append_time_us, out);
    write_bytes(&record.key, out);
    if !record.headers.is_empty() {
        write_long(record.headers.len() as i64, out);
        for (name, value) in &record.headers {
            write_bytes(name.as_bytes(), out);
            write_bytes(value, out);
        }
    }
    write_long(0, out);
    let is_bytes = branch == set.bytes_branch();
    // What does not decode is kept as it was written, since it is hashed so.
    let as_written = is_bytes && stored.wire_id.is_some() && Codec::global().decode_record(record).is_err();
    let value = if as_written { stored.written_value() } else { Cow::Borrowed(&record.value[..]) };
    let (id, body) = unframe(&value);
    match id {
        None => write_long(0, out),
        Some(id) => {
            write_long(1, out);
            write_long(i64::from(id), out);
        }
    }
    write_long(branch as i64, out);
    if is_bytes {
        write_bytes(body, out);
    } else {
        out.extend_from_slice(body);
    }
}

/// How the rows of a file are read: by the schema that the file carries.
pub(super) struct RowReader {
    shape: Shape,
    /// Nodes of the union's branches; the last is bytes.
    branches: Vec<usize>,
    /// The union's schemas, as the file has them.
    pub(super) body: Vec<Value>,
}

/// A row that was read, and the union's branch of its body; nothing for bytes.
pub(super) struct Row {
    pub(super) stored: StoredRecord,
    pub(super) framing_id: Option<u32>,
    pub(super) branch: Option<usize>,
}

impl RowReader {
    pub(super) fn new(schema: &Value) -> Result<Self, String> {
        let body =
            schema.pointer("/fields/5/type").and_then(Value::as_array).ok_or("its schema has no body of a union")?;
        if *schema != row_schema(body.clone()) || body.last() != Some(&Value::from("bytes")) {
            return Err("its schema is not that of an archive's rows".to_owned());
        }
        let mut shape = Shape::default();
        let branches: Result<Vec<usize>, String> =
            body.iter().map(|branch| shape.add(branch, "solyx.archive")).collect();
        Ok(Self { shape, branches: branches?, body: body.clone() })
    }

    /// The next row; nothing when the bytes are not one.
    pub(super) fn read(&self, input: &mut Input<'_>, topic: TopicName, partition: u32) -> Option<Row> {
        let ordinal = u64::try_from(input.long()?).ok()?;
        let append_time_us = input.long()?;
        let key = input.bytes()?.to_vec();
        let mut headers = Vec::new();
        let count = input.len().filter(|count| *count <= input.left() / HEADER_BYTES_MIN)?;
        for _ in 0..count {
            headers.push((input.string()?.to_owned(), input.bytes()?.to_vec()));
        }
        if count > 0 && input.long()? != 0 {
            return None;
        }
        let framing_id = match input.long()? {
            0 => None,
            1 => Some(u32::try_from(input.long()?).ok()?),
            _ => return None,
        };
        let branch = input.len()?;
        let node = *self.branches.get(branch)?;
        let is_bytes = branch + 1 == self.branches.len();
        let body = if is_bytes {
            input.bytes()?
        } else {
            let start = input.at();
            self.shape.pass(node, input)?;
            input.since(start)
        };
        let mut value = Vec::with_capacity(FRAME_LEN + body.len());
        if let Some(id) = framing_id {
            value.push(0);
            value.extend_from_slice(&id.to_be_bytes());
        }
        value.extend_from_slice(body);
        let record = Record { topic, partition, key, value, headers };
        let stored = StoredRecord { ordinal, offset: ordinal as i64, append_time_us, record, wire_id: None };
        Some(Row { stored, framing_id, branch: (!is_bytes).then_some(branch) })
    }
}
