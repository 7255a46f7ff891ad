//! From events to records and back: Confluent framing, ids of the lock file, CloudEvents headers, canonical bytes.
//!
//! A value is the byte 0, the schema id as four bytes big-endian, and the Avro body. Bodies are decoded with the
//! writer's schema into structs whose newer fields have defaults.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::events::{EVENT_TYPES, Event, Identity};
use crate::hash::{Hash32, schema_hash};
use crate::json::shape;
use crate::log::Record;
use crate::shape::{RecordShape, resolve};
use crate::topics::{TopicName, partition_of};
use crate::units::{TimeUs, parse_time, rfc3339};

/// The lock file: schema ids without a registry.
pub const REGISTRY_LOCK: &str = include_str!("../registry.lock");
/// The first schema id of the lock file; the two high bytes are "SX". A registry counts its ids up from 1 and does not come this far,
/// so that a value copied from Kafka with its registry's id can never be taken for another schema: the id is unknown here.
pub const LOCK_ID_FIRST: u32 = 0x5358_0001;
/// Bytes before the Avro body.
pub const FRAME_LEN: usize = 5;
/// The largest value of a record; larger ones are refused when written and do not count when read.
pub const VALUE_LEN_MAX: usize = 8 << 20;

/// The schema id in a value's frame, if it has one.
pub fn frame_id(value: &[u8]) -> Option<u32> {
    match value.first_chunk::<FRAME_LEN>()? {
        [0, id @ ..] => Some(u32::from_be_bytes(*id)),
        _ => None,
    }
}

/// Why bytes are not an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The frame is not there.
    #[error("value of {0} bytes has no Confluent frame, expected a zero byte and a schema id before the Avro body")]
    Frame(usize),
    /// Larger than any record may be.
    #[error("value of {0} bytes, expected at most {VALUE_LEN_MAX}")]
    TooLarge(usize),
    /// The id is not in the lock file or registry.
    #[error("schema id {0} is unknown, expected one of the registry's")]
    UnknownSchema(u32),
    /// As it was found where its schema id is known.
    #[error("{0}")]
    Recorded(String),
    /// The body is not what its schema says.
    #[error("the body is not a {name}: {detail}")]
    Body {
        /// Full name of the record type.
        name: &'static str,
        /// What the decoder found.
        detail: String,
    },
    /// A header says something else than the body.
    #[error("header {header}: found {found:?}, expected {expected:?} as in the body")]
    Header {
        /// The header.
        header: &'static str,
        /// What it says.
        found: String,
        /// What the body says.
        expected: String,
    },
}

/// An event with what its hash covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// The event.
    pub event: Event,
    /// Canonical hash of the writer's schema.
    pub schema: Hash32,
}

/// A schema that writers have used.
struct WriterSchema {
    type_index: usize,
    hash: Hash32,
    avsc: &'static str,
    /// Its shape, when it is not today's.
    earlier: Option<RecordShape>,
}

/// How a record type is written today.
struct TypeCodec {
    id: u32,
    hash: Hash32,
}

/// A schema that this build reads.
#[derive(Clone, Copy, Debug)]
pub struct KnownSchema {
    /// Schema id of the lock file.
    pub id: u32,
    /// Full name of the record type.
    pub name: &'static str,
    /// Canonical hash.
    pub hash: Hash32,
    /// Text of the schema file.
    pub avsc: &'static str,
    /// Whether events are written with it today.
    pub is_today: bool,
}

/// Encodes and decodes every event.
pub struct Codec {
    types: Vec<TypeCodec>,
    by_id: HashMap<u32, WriterSchema>,
}

/// One line of the lock file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockLine {
    /// Schema id.
    pub id: u32,
    /// Subject: the record's full name.
    pub subject: String,
    /// Version of the subject, from 1.
    pub version: u32,
    /// Canonical hash of the schema.
    pub hash: Hash32,
}

/// The lines of a lock file; blank lines and those that begin with `#` say nothing.
pub fn parse_lock(text: &str) -> Result<Vec<LockLine>, String> {
    let mut lines = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let parts: Vec<&str> = line.split_whitespace().collect();
        let parsed = match parts.as_slice() {
            [id, subject, version, hash] => (id.parse().ok(), subject, version.parse().ok(), Hash32::parse(hash)),
            _ => (None, &"", None, None),
        };
        let (Some(id), subject, Some(version), Some(hash)) = parsed else {
            return Err(format!("line {}: found {line:?}, expected: id subject version sha256", number + 1));
        };
        lines.push(LockLine { id, subject: (*subject).to_owned(), version, hash });
    }
    Ok(lines)
}

static GLOBAL: LazyLock<Codec> = LazyLock::new(Codec::from_lock);

impl Codec {
    /// The codec of this build, with the lock file's ids.
    pub fn global() -> &'static Self {
        &GLOBAL
    }

    fn from_lock() -> Self {
        let lock = parse_lock(REGISTRY_LOCK).expect("the lock file is part of this build and its tests read it");
        let mut types = Vec::new();
        let mut by_id = HashMap::new();
        for (type_index, event_type) in EVENT_TYPES.iter().enumerate() {
            let mut current = None;
            for (avsc, hash) in writer_schemas(event_type.name, event_type.avsc) {
                let line = lock.iter().find(|line| line.subject == event_type.name && line.hash == hash);
                let Some(line) = line else { continue };
                let earlier = (avsc != event_type.avsc).then(|| {
                    RecordShape::parse(avsc).expect("schema files are part of this build and its tests parse them")
                });
                by_id.insert(line.id, WriterSchema { type_index, hash, avsc, earlier });
                current = Some(TypeCodec { id: line.id, hash });
            }
            types.push(current.unwrap_or_else(|| {
                panic!(
                    "schema of {} is not in registry.lock; run the schema tests with SOLYX_UPDATE=1",
                    event_type.name
                )
            }));
        }
        Self { types, by_id }
    }

    /// The schema id and the canonical schema hash that an event is written with.
    pub fn schema_of(&self, event: &Event) -> (u32, Hash32) {
        let codec = &self.types[event.type_index()];
        (codec.id, codec.hash)
    }

    /// The record name and canonical schema hash of a framing id.
    pub fn writer_schema(&self, id: u32) -> Option<(&'static str, Hash32)> {
        self.by_id.get(&id).map(|w| (EVENT_TYPES[w.type_index].name, w.hash))
    }

    /// Every schema that this build reads, by id.
    pub fn schemas(&self) -> impl Iterator<Item = KnownSchema> {
        let mut ids: Vec<&u32> = self.by_id.keys().collect();
        ids.sort_unstable();
        ids.into_iter().map(|id| {
            let writer = &self.by_id[id];
            let name = EVENT_TYPES[writer.type_index].name;
            let is_today = self.types[writer.type_index].id == *id;
            KnownSchema { id: *id, name, hash: writer.hash, avsc: writer.avsc, is_today }
        })
    }

    /// The framed value of an event: the same event gives the same bytes.
    pub fn encode(&self, event: &Event) -> Vec<u8> {
        let codec = &self.types[event.type_index()];
        let mut value = Vec::with_capacity(256);
        value.push(0);
        value.extend_from_slice(&codec.id.to_be_bytes());
        event.write_body(&mut value);
        value
    }

    /// The event of a framed value.
    pub fn decode(&self, value: &[u8]) -> Result<Decoded, DecodeError> {
        if value.len() > VALUE_LEN_MAX {
            return Err(DecodeError::TooLarge(value.len()));
        }
        let Some((&[0, a, b, c, d], body)) = value.split_first_chunk::<FRAME_LEN>() else {
            return Err(DecodeError::Frame(value.len()));
        };
        let id = u32::from_be_bytes([a, b, c, d]);
        let writer = self.by_id.get(&id).ok_or(DecodeError::UnknownSchema(id))?;
        let wrong = |detail: String| DecodeError::Body { name: EVENT_TYPES[writer.type_index].name, detail };
        let mut rest = body;
        let event = match &writer.earlier {
            None => Event::from_body(writer.type_index, &mut rest),
            Some(earlier) => resolve(earlier, shape(writer.type_index), &mut rest)
                .and_then(|today| Event::from_body(writer.type_index, &mut today.as_slice())),
        }
        .map_err(|e| wrong(e.to_string()))?;
        if !rest.is_empty() {
            return Err(wrong(format!("{} bytes follow it", rest.len())));
        }
        Ok(Decoded { event, schema: writer.hash })
    }

    /// The event of a record, whose headers must agree with it. A header may be missing; one that is there twice must agree twice.
    pub fn decode_record(&self, record: &Record) -> Result<Decoded, DecodeError> {
        let decoded = self.decode(&record.value)?;
        let identity = decoded.event.identity();
        for (name, found) in &record.headers {
            let (header, expected) = match name.as_str() {
                "ce_id" => ("ce_id", &*identity.id),
                "ce_source" => ("ce_source", identity.source),
                "ce_type" => ("ce_type", decoded.event.name()),
                "ce_specversion" => ("ce_specversion", SPEC_VERSION),
                "ce_time" if !says_time(found, identity.occurred_us) => {
                    return Err(contradicts("ce_time", found, rfc3339(identity.occurred_us)));
                }
                _ => continue,
            };
            if found != expected.as_bytes() {
                return Err(contradicts(header, found, expected.to_owned()));
            }
        }
        Ok(decoded)
    }

    /// The record of an event for a topic with so many partitions.
    pub fn record(&self, event: &Event, topic: TopicName, partitions: u32) -> Record {
        let identity = event.identity();
        let key = event.key().into_owned().into_bytes();
        Record {
            topic,
            partition: partition_of(&key, partitions),
            value: self.encode(event),
            headers: cloud_event_headers(event.name(), &identity),
            key,
        }
    }
}

/// The schemas that a record type has had, the newest last.
fn writer_schemas(name: &str, current: &'static str) -> Vec<(&'static str, Hash32)> {
    let hash =
        |avsc: &str| schema_hash(&serde_json::from_str(avsc).expect("schema files are JSON, which the tests check"));
    let mut schemas: Vec<(&'static str, Hash32)> =
        crate::released::schemas(name).map(|avsc| (avsc, hash(avsc))).collect();
    let current_hash = hash(current);
    schemas.retain(|(_, hash)| *hash != current_hash);
    schemas.push((current, current_hash));
    schemas
}

/// The version of CloudEvents that headers follow.
const SPEC_VERSION: &str = "1.0";

/// Whether a header says this instant, in whatever form RFC 3339 allows.
fn says_time(found: &[u8], expected: TimeUs) -> bool {
    std::str::from_utf8(found).ok().and_then(parse_time) == Some(expected)
}

fn contradicts(header: &'static str, found: &[u8], expected: String) -> DecodeError {
    let found = String::from_utf8_lossy(found).chars().take(256).collect();
    DecodeError::Header { header, found, expected }
}

/// CloudEvents attributes in Kafka's binary mode (CloudEvents 1.0, Kafka protocol binding).
fn cloud_event_headers(name: &str, identity: &Identity<'_>) -> Vec<(String, Vec<u8>)> {
    vec![
        ("ce_specversion".to_owned(), SPEC_VERSION.as_bytes().to_vec()),
        ("ce_id".to_owned(), identity.id.as_bytes().to_vec()),
        ("ce_source".to_owned(), identity.source.as_bytes().to_vec()),
        ("ce_type".to_owned(), name.as_bytes().to_vec()),
        ("ce_time".to_owned(), rfc3339(identity.occurred_us).into_bytes()),
        ("content-type".to_owned(), b"application/avro".to_vec()),
    ]
}
