//! The hashes of the contract: records, schemas, Merkle roots, the chain.

use sha2::{Digest, Sha256};

use crate::field::{Field, FieldError, Seen};

/// A 32-byte hash; written as 64 hexadecimal digits.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash32(pub [u8; 32]);

impl Hash32 {
    /// The hash that 64 hexadecimal digits in lower case write.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        // Capitals would give the same hash other bytes on the wire.
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return None;
        }
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }
}

impl std::fmt::Display for Hash32 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&hex::encode(self.0))
    }
}

impl std::fmt::Debug for Hash32 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl serde::Serialize for Hash32 {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0))
    }
}

impl<'de> serde::Deserialize<'de> for Hash32 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("expected 64 hexadecimal digits"))
    }
}

impl Field for Hash32 {
    fn schema(_: &mut Seen) -> serde_json::Value {
        serde_json::json!("string")
    }

    fn check(&self) -> Result<(), FieldError> {
        Ok(())
    }

    fn example(_: &str) -> Self {
        Self([0xab; 32])
    }

    fn write(&self, out: &mut Vec<u8>) {
        crate::wire::write_str(&hex::encode(self.0), out);
    }

    fn read(input: &mut &[u8]) -> Result<Self, FieldError> {
        let text = crate::wire::read_str(input)?;
        Self::parse(text).ok_or_else(|| FieldError::here(format!("{text:?}"), "64 hexadecimal digits in lower case"))
    }
}

/// SHA-256 of bytes.
pub fn sha256(bytes: &[u8]) -> Hash32 {
    Hash32(Sha256::digest(bytes).into())
}

/// SHA-256 of a schema's JSON with keys sorted, without whitespace and without `doc`.
pub fn schema_hash(schema: &serde_json::Value) -> Hash32 {
    let mut text = String::new();
    write_canonical(schema, &mut text);
    Hash32(Sha256::digest(text.as_bytes()).into())
}

fn write_canonical(value: &serde_json::Value, out: &mut String) {
    use serde_json::Value;
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().filter(|key| *key != "doc").collect();
            keys.sort();
            out.push('{');
            for (i, key) in keys.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&Value::String(key.clone()).to_string());
                out.push(':');
                write_canonical(&map[key], out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

/// What the hash of a record covers. Each part is hashed with its length before it.
pub struct RecordParts<'a> {
    /// Topic without prefix.
    pub topic: &'a str,
    /// Partition.
    pub partition: u32,
    /// Ordinal; absent for outputs.
    pub ordinal: Option<u64>,
    /// Key.
    pub key: &'a [u8],
    /// Event id, source, record name, schema hash and Avro body; or, for what does not decode, the whole value.
    pub content: RecordContent<'a>,
}

/// The content of a record, as far as it could be understood.
pub enum RecordContent<'a> {
    /// An event.
    Event {
        /// Event id.
        id: &'a str,
        /// Source.
        source: &'a str,
        /// Full name of the record type.
        name: &'a str,
        /// Canonical hash of the writer's schema.
        schema: &'a Hash32,
        /// Avro body.
        body: &'a [u8],
    },
    /// Bytes that do not decode: the whole value.
    Undecodable {
        /// The value.
        value: &'a [u8],
    },
}

/// The hash of a record.
pub fn record_hash(parts: &RecordParts<'_>) -> Hash32 {
    let mut all = Parts::new();
    all.part(parts.topic.as_bytes());
    all.part(&parts.partition.to_le_bytes());
    match parts.ordinal {
        Some(ordinal) => all.part(&ordinal.to_le_bytes()),
        None => all.part(&[]),
    }
    all.part(parts.key);
    match parts.content {
        RecordContent::Event { id, source, name, schema, body } => {
            all.part(id.as_bytes());
            all.part(source.as_bytes());
            all.part(name.as_bytes());
            all.part(&schema.0);
            all.part(body);
        }
        RecordContent::Undecodable { value } => all.part(value),
    }
    all.hash()
}

/// Bytes of an ordinary record with its names: so many are hashed at once, which is cheaper than piece by piece.
const GATHERED_MAX: usize = 1_024;

/// Parts with their lengths, gathered and hashed.
struct Parts {
    gathered: [u8; GATHERED_MAX],
    len: usize,
    hasher: Sha256,
}

impl Parts {
    fn new() -> Self {
        Self { gathered: [0; GATHERED_MAX], len: 0, hasher: Sha256::new() }
    }

    fn part(&mut self, bytes: &[u8]) {
        self.put(&(bytes.len() as u64).to_le_bytes());
        self.put(bytes);
    }

    fn put(&mut self, bytes: &[u8]) {
        if bytes.len() > GATHERED_MAX - self.len {
            self.hasher.update(&self.gathered[..self.len]);
            self.len = 0;
            if bytes.len() > GATHERED_MAX {
                return self.hasher.update(bytes);
            }
        }
        self.gathered[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn hash(mut self) -> Hash32 {
        self.hasher.update(&self.gathered[..self.len]);
        Hash32(self.hasher.finalize().into())
    }
}

/// The Merkle tree hash of RFC 6962 section 2.1 over leaves that are hashes themselves. The root of no leaves is the hash of nothing.
pub fn merkle_root(leaves: &[Hash32]) -> Hash32 {
    let leaf = |leaf: &Hash32| {
        let mut bytes = [0; 33];
        bytes[1..].copy_from_slice(&leaf.0);
        sha256(&bytes)
    };
    let node = |left: &Hash32, right: &Hash32| {
        let mut bytes = [1; 65];
        bytes[1..33].copy_from_slice(&left.0);
        bytes[33..].copy_from_slice(&right.0);
        sha256(&bytes)
    };
    let mut level: Vec<Hash32> = leaves.iter().map(leaf).collect();
    if level.is_empty() {
        return sha256(&[]);
    }
    // Pairing neighbours level by level and carrying an odd last one up gives the same tree as RFC 6962's split at
    // the largest power of two.
    while level.len() > 1 {
        let (pairs, odd) = level.as_chunks::<2>();
        level = pairs.iter().map(|[left, right]| node(left, right)).chain(odd.iter().copied()).collect();
    }
    level[0]
}

/// The chain hash of an epoch record: blake3 of its Avro body as written.
pub fn chain_hash(epoch_body: &[u8]) -> Hash32 {
    Hash32(*blake3::hash(epoch_body).as_bytes())
}
