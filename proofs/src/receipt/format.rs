//! The file. Every value in it is covered by a hash, a signature or a computation: what could be changed unseen is not in it.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use solyx_schemas::codec::{Codec, Decoded, FRAME_LEN};
use solyx_schemas::hash::Hash32;
use solyx_schemas::ids::{CellId, RefId};
use solyx_schemas::json::{from_json, to_json};

use super::strict::Strict;

/// Version of the format. A verifier refuses others.
pub const VERSION: u32 = 1;
/// The largest receipt that is read.
pub const RECEIPT_BYTES_MAX: u64 = 256 << 20;

/// A receipt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// Version of the format.
    pub solyx_receipt: u32,
    /// What it is of.
    pub subject: Subject,
    /// The cell whose log it is from.
    pub cell: CellId,
    /// The signed head that everything leads to.
    pub head: SignedHead,
    /// How the signing key took over from the first one, oldest first: who knows an earlier key can go on from it.
    pub rotations: Vec<RotationSigned>,
    /// Epochs with what is shown of them, in their order.
    pub epochs: Vec<EpochProof>,
}

/// What a receipt is of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Subject {
    /// A decision, by its id.
    Decision {
        /// `<cell>/<epoch>/<term>/<index>`.
        id: String,
    },
    /// A line of an invoice.
    InvoiceLine {
        /// Who pays.
        tenant: String,
        /// Month of the invoice.
        period: String,
        /// Currency of the invoice.
        currency: String,
        /// The line as the billing view has it at the end of the tree.
        line: Value,
    },
}

/// A signed head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedHead {
    /// Epochs in the tree.
    pub tree_size: u64,
    /// Its root.
    pub root: Hash32,
    /// The public key, hexadecimal. Its id is not signed, and so not here.
    pub public_key: String,
    /// Ed25519 over the three lines of the checkpoint, hexadecimal.
    pub signature: String,
}

/// A key that handed over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotationSigned {
    /// Epochs in the last tree that it signed.
    pub tree_size: u64,
    /// Its root.
    pub root: Hash32,
    /// Id of the key.
    pub key_id: RefId,
    /// The public key, hexadecimal. The next one's is in the next rotation, or in the head.
    pub public_key: String,
    /// Id of the next key.
    pub next_key_id: RefId,
    /// Ed25519 over the text of the rotation, hexadecimal.
    pub signature: String,
}

/// An epoch with what is shown of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochProof {
    /// The epoch record with an empty list of overcommitments.
    pub record: Content,
    /// Chain hash of the record as written.
    pub chain_hash: Hash32,
    /// Path of the epoch's leaf to the head's root, lowest first.
    pub path: Vec<Hash32>,
    /// Events of the epoch, inputs first, in the order in which it has them.
    pub records: Vec<Proven>,
}

/// An event with its path to a root of its epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proven {
    /// Partition of the event's topic.
    pub partition: u32,
    /// Ordinal; absent for an output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordinal: Option<u64>,
    /// What it says.
    #[serde(flatten)]
    pub content: Content,
    /// Path of its hash to the root of the epoch's inputs or outputs, lowest first.
    pub path: Vec<Hash32>,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// The event as JSON, which gives the record's bytes again.
    Event(Value),
    /// The framed value, hexadecimal: of an event that an earlier schema wrote.
    Value(String),
}

impl Content {
    /// The content of a framed value: as JSON where that gives the same bytes.
    pub fn of(value: &[u8]) -> Result<Self, String> {
        let decoded = Codec::global().decode(value).map_err(|e| e.to_string())?;
        let json = to_json(&decoded.event);
        let same = from_json(&json).is_ok_and(|event| Codec::global().encode(&event) == value);
        Ok(if same { Self::Event(json) } else { Self::Value(hex::encode(value)) })
    }

    /// The event, and its Avro body. What is said otherwise than [`Content::of`] says it is refused.
    pub fn read(&self) -> Result<(Decoded, Vec<u8>), String> {
        let value = match self {
            Self::Event(json) => {
                let event = from_json(json).map_err(|errors| shown(&errors))?;
                if to_json(&event) != *json {
                    return Err("the event is not in the one form that a receipt has".to_owned());
                }
                Codec::global().encode(&event)
            }
            Self::Value(digits) => {
                let value = hex::decode(digits).map_err(|e| format!("field value: {e}"))?;
                if Self::of(&value)? != *self {
                    return Err("field value: it is not in the one form that a receipt has".to_owned());
                }
                value
            }
        };
        let decoded = Codec::global().decode(&value).map_err(|e| e.to_string())?;
        decoded.event.check().map_err(|e| e.to_string())?;
        Ok((decoded, value[FRAME_LEN..].to_vec()))
    }
}

fn shown(errors: &[solyx_schemas::field::FieldError]) -> String {
    errors.first().map_or_else(|| "the event is not valid".to_owned(), ToString::to_string)
}

impl Receipt {
    /// The receipt that a file's text says. Only the one form that [`Receipt::text`] gives is taken, but for spaces and the order of
    /// fields.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Strict(value) = serde_json::from_str(text).map_err(|e| e.to_string())?;
        match value.get("solyx_receipt").map(Value::as_u64) {
            Some(Some(version)) if version == u64::from(VERSION) => {}
            Some(found) => {
                let found = found.map_or_else(|| "something else".to_owned(), |version| version.to_string());
                return Err(format!(
                    "field solyx_receipt: found {found}, expected {VERSION}, the version that this build reads"
                ));
            }
            None => return Err("field solyx_receipt is missing: this is no receipt".to_owned()),
        }
        let receipt = Self::deserialize(&value).map_err(|e| e.to_string())?;
        let again = serde_json::to_value(&receipt).map_err(|e| e.to_string())?;
        if again != value {
            return Err("it is not in the one form that a receipt has".to_owned());
        }
        Ok(receipt)
    }

    /// The text of its file.
    pub fn text(&self) -> String {
        // Texts, numbers and hashes: nothing in it can fail to be written as JSON.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}
