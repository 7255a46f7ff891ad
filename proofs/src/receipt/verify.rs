//! Checking a receipt, with nothing but the receipt and a public key.

use std::collections::BTreeSet;

use serde::Serialize;
use solyx_kernel::rating::Month;
use solyx_kernel::unknown_feature;
use solyx_projections::billing::{Billing, LineView};
use solyx_projections::fold::Fold;
use solyx_schemas::codec::Decoded;
use solyx_schemas::epochs::{EpochBatch, InputRecord, Position};
use solyx_schemas::events::Event;
use solyx_schemas::events::decisions::EpochCommitted;
use solyx_schemas::hash::{Hash32, chain_hash};
use solyx_schemas::ids::{RefId, TenantId};

use super::format::{EpochProof, Proven, Receipt, Subject};
use crate::checkpoint::Checkpoint;
use crate::epoch_hash::{event_hash, place_of};
use crate::keys::{PublicKey, rotation_text};
use crate::tree::{EpochLeaf, verify_inclusion};

/// Why a receipt is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {detail}")]
pub struct VerifyError {
    /// The part of the receipt.
    pub place: String,
    /// What is wrong with it.
    pub detail: String,
}

/// What a good receipt shows.
#[derive(Clone, Debug, Serialize)]
pub struct Verified {
    /// The cell.
    pub cell: String,
    /// What it is of: a decision's or a line's id.
    pub subject: String,
    /// Epochs in the tree whose head is signed.
    pub tree_size: u64,
    /// Its root.
    pub root: Hash32,
    /// The public key that signed it.
    pub public_key: String,
    /// Whether one of the keys that were given signed it, or handed over to the one that did. Without that, it is only known that
    /// the receipt fits together.
    pub key_trusted: bool,
    /// The events, in their order.
    pub records: Vec<VerifiedRecord>,
    /// The line that was rated again, if it is of one.
    pub line: Option<LineView>,
    /// Currency of its amount.
    pub currency: Option<String>,
    /// Time of the last epoch of the tree, where the receipt shows that epoch: the line is as of then.
    pub as_of_us: Option<i64>,
}

/// An event that is in the log and counted.
#[derive(Clone, Debug, Serialize)]
pub struct VerifiedRecord {
    /// Epoch.
    pub epoch: i64,
    /// Topic, partition and ordinal; an output's id in place of the ordinal.
    pub place: String,
    /// The event.
    pub event: Event,
}

fn wrong(place: impl Into<String>, detail: impl ToString) -> VerifyError {
    VerifyError { place: place.into(), detail: detail.to_string() }
}

/// Checks a receipt. `trusted` are public keys that the reader has from elsewhere.
pub fn verify(receipt: &Receipt, trusted: &[PublicKey]) -> Result<Verified, VerifyError> {
    let keys = signatures(receipt)?;
    let key_trusted = keys.iter().any(|key| trusted.iter().any(|known| known.is_same_as(key)));
    if !trusted.is_empty() && !key_trusted {
        let detail = format!(
            "the key {} is not one of those given, and none of them handed over to it",
            receipt.head.public_key
        );
        return Err(wrong("head.public_key", detail));
    }
    let mut epochs = Vec::new();
    for (i, proof) in receipt.epochs.iter().enumerate() {
        let place = format!("epochs[{i}]");
        let batch = epoch(receipt, proof, &place)?;
        if epochs.last().is_some_and(|before: &EpochBatch| before.record.epoch >= batch.record.epoch) {
            return Err(wrong(place, "it does not come after the epoch before it"));
        }
        epochs.push(batch);
    }
    let records = receipt.epochs.iter().zip(&epochs).flat_map(|(proof, batch)| shown(proof, batch)).collect();
    let mut verified = Verified {
        cell: receipt.cell.to_string(),
        subject: String::new(),
        tree_size: receipt.head.tree_size,
        root: receipt.head.root,
        public_key: receipt.head.public_key.clone(),
        key_trusted,
        records,
        line: None,
        currency: None,
        as_of_us: None,
    };
    match &receipt.subject {
        Subject::Decision { id } => {
            let decided = epochs.iter().flat_map(|batch| &batch.outputs).filter(|output| output.identity().id == *id);
            if decided.count() != 1 {
                return Err(wrong("subject.decision.id", format!("the receipt has no decision {id}")));
            }
            verified.subject.clone_from(id);
        }
        Subject::InvoiceLine { tenant, period, currency, line } => {
            let last = epochs.last().filter(|batch| batch.record.epoch as u64 + 1 == receipt.head.tree_size);
            let last = last.ok_or_else(|| {
                wrong("epochs", "the last epoch of the tree is missing, so that nothing says as of when the line is")
            })?;
            verified.as_of_us = Some(last.record.now_us.0);
            let rated = rated_again(&epochs, tenant, period, currency, line)?;
            verified.subject.clone_from(&rated.id);
            verified.line = Some(rated);
            verified.currency = Some(currency.clone());
        }
    }
    Ok(verified)
}

fn signature(place: &str, digits: &str) -> Result<[u8; 64], VerifyError> {
    let bytes = hex::decode(digits).ok().filter(|bytes| hex::encode(bytes) == digits);
    let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| wrong(place, format!("found {digits:?}, expected 128 hexadecimal digits in lower case")))
}

/// Checks the head's signature and the rotations that lead to its key; gives all keys, oldest first.
fn signatures(receipt: &Receipt) -> Result<Vec<PublicKey>, VerifyError> {
    let head = &receipt.head;
    let mut keys = Vec::new();
    for (i, rotation) in receipt.rotations.iter().enumerate() {
        let key = PublicKey::parse(&rotation.key_id, &rotation.public_key);
        keys.push(key.map_err(|e| wrong(format!("rotations[{i}].public_key"), e))?);
    }
    let last_id = receipt.rotations.last().map_or_else(|| RefId::from("head"), |rotation| rotation.next_key_id.clone());
    keys.push(PublicKey::parse(&last_id, &head.public_key).map_err(|e| wrong("head.public_key", e))?);
    let mut size_before = 0;
    for (i, (rotation, pair)) in receipt.rotations.iter().zip(keys.windows(2)).enumerate() {
        let place = format!("rotations[{i}]");
        if pair[1].id != rotation.next_key_id {
            return Err(wrong(
                place,
                format!("it hands over to {}, and the next is {}", rotation.next_key_id, pair[1].id),
            ));
        }
        let text = rotation_text(&receipt.cell, (rotation.tree_size, rotation.root), &rotation.key_id, &pair[1]);
        if !pair[0].verifies(&text, &signature(&place, &rotation.signature)?) {
            return Err(wrong(place, format!("the signature is not that of key {}", rotation.key_id)));
        }
        if rotation.tree_size < size_before || head.tree_size < rotation.tree_size {
            return Err(wrong(place, "its tree is not between those of the keys before and after it"));
        }
        size_before = rotation.tree_size;
    }
    let checkpoint = Checkpoint { cell: receipt.cell.clone(), size: head.tree_size, root: head.root };
    let signed = keys.last().is_some_and(|key| {
        signature("head.signature", &head.signature).is_ok_and(|signature| key.verifies(&checkpoint.text(), &signature))
    });
    if !signed {
        return Err(wrong("head.signature", "it is not the signature of this key over this head"));
    }
    Ok(keys)
}

/// Checks an epoch and its events; gives them as a fold takes them.
fn epoch(receipt: &Receipt, proof: &EpochProof, place: &str) -> Result<EpochBatch, VerifyError> {
    let at = |field: &str| format!("{place}.{field}");
    let (decoded, body) = proof.record.read().map_err(|e| wrong(at("record"), e))?;
    let Event::EpochCommitted(record) = decoded.event else {
        return Err(wrong(at("record"), format!("found {}, expected an epoch record", decoded.event.name())));
    };
    if record.cell != receipt.cell {
        return Err(wrong(at("record"), format!("it is of the cell {}, the receipt of {}", record.cell, receipt.cell)));
    }
    if !record.overcommitments.is_empty() {
        return Err(wrong(at("record"), "it shows overcommitments, which a receipt leaves out"));
    }
    let number = u64::try_from(record.epoch).map_err(|_| wrong(at("record"), "its epoch is below zero"))?;
    let leaf = EpochLeaf { chain_hash: proof.chain_hash, shown_hash: chain_hash(&body) };
    if !verify_inclusion(&leaf.bytes(), number, (receipt.head.tree_size, receipt.head.root), &proof.path) {
        return Err(wrong(
            place,
            format!("epoch {number} with this record, chain hash and path is not in the signed tree"),
        ));
    }
    let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
    let mut places = BTreeSet::new();
    for (i, proven) in proof.records.iter().enumerate() {
        let place = at(&format!("records[{i}]"));
        let (decoded, body) = proven.content.read().map_err(|e| wrong(place.as_str(), e))?;
        let order = match proven.ordinal {
            Some(ordinal) => {
                (0, input(&record, proven, ordinal, &decoded, &body).map_err(|e| wrong(place.as_str(), e))?)
            }
            None => (1, output(&record, proven, &decoded, &body).map_err(|e| wrong(place.as_str(), e))?),
        };
        if places.last().is_some_and(|last| *last >= order) {
            return Err(wrong(place, "it does not come after the record before it"));
        }
        places.insert(order);
        match proven.ordinal {
            Some(ordinal) => {
                let position = Position::new(decoded.event.topic(), proven.partition, ordinal);
                inputs.push(InputRecord { position, decoded: Some(decoded), skipped: None });
            }
            None => outputs.push(decoded.event),
        }
    }
    Ok(EpochBatch { record: *record, chain_hash: proof.chain_hash, inputs, outputs })
}

/// Checks an input; gives its place in the epoch.
fn input(
    record: &EpochCommitted,
    proven: &Proven,
    ordinal: u64,
    decoded: &Decoded,
    body: &[u8],
) -> Result<u64, String> {
    let topic = decoded.event.topic();
    let name = topic.name();
    let partition = proven.partition;
    let Some((index, size)) = place_of(record, (topic, partition, ordinal)) else {
        return Err(format!("the epoch did not take {name}/{partition}/{ordinal}"));
    };
    let skipped = record.skipped.iter().any(|skip| {
        skip.topic.as_str() == name
            && skip.partition == i64::from(partition)
            && u64::try_from(skip.ordinal) == Ok(ordinal)
    });
    if skipped {
        return Err(format!("the epoch took {name}/{partition}/{ordinal} as a record that does not count"));
    }
    let hash = event_hash(&decoded.event, (partition, Some(ordinal)), &decoded.schema, body);
    match verify_inclusion(&hash.0, index, (size, record.input_root), &proven.path) {
        true => Ok(index),
        false => Err(format!("this event is not what the epoch took at {name}/{partition}/{ordinal}")),
    }
}

/// Checks an output; gives its index.
fn output(record: &EpochCommitted, proven: &Proven, decoded: &Decoded, body: &[u8]) -> Result<u64, String> {
    let Some(stamp) = decoded.event.stamped() else {
        return Err(format!("{} is an input, and has no ordinal", decoded.event.name()));
    };
    if (stamp.epoch, stamp.term, &stamp.cell) != (record.epoch, record.term, &record.cell) {
        return Err("it is stamped for another epoch, term or cell".to_owned());
    }
    let counts = record.outputs.iter().map(|count| u64::try_from(count.records).unwrap_or(0));
    let size = counts.fold(0_u64, u64::saturating_add);
    let index = u64::try_from(stamp.index).map_err(|_| "its index is below zero")?;
    let hash = event_hash(&decoded.event, (proven.partition, None), &decoded.schema, body);
    match verify_inclusion(&hash.0, index, (size, record.output_root), &proven.path) {
        true => Ok(index),
        false => Err(format!("this event is not output {index} of the epoch")),
    }
}

fn shown(proof: &EpochProof, batch: &EpochBatch) -> Vec<VerifiedRecord> {
    let epoch = batch.record.epoch;
    let input = |input: &InputRecord| {
        let Position { partition, ordinal, .. } = input.position;
        let place = format!("{}/{partition}/{ordinal}", input.position.topic().name());
        input.decoded.as_ref().map(|decoded| VerifiedRecord { epoch, place, event: decoded.event.clone() })
    };
    let inputs = batch.inputs.iter().filter_map(input);
    let partitions = proof.records.iter().filter(|proven| proven.ordinal.is_none()).map(|proven| proven.partition);
    let outputs = batch.outputs.iter().zip(partitions).map(|(event, partition)| {
        let place = format!("{}/{partition}/{}", event.topic().name(), event.identity().id);
        VerifiedRecord { epoch, place, event: event.clone() }
    });
    inputs.chain(outputs).collect()
}

/// The line as its events give it, by the fold and the rating that made the invoice; it must be the one that is claimed.
fn rated_again(
    epochs: &[EpochBatch],
    tenant: &str,
    period: &str,
    currency: &str,
    claimed: &serde_json::Value,
) -> Result<LineView, VerifyError> {
    let at = "subject.invoice_line";
    let mut billing = Billing::default();
    for epoch in epochs {
        if let Some(feature) = unknown_feature(&epoch.record.features) {
            let number = epoch.record.epoch;
            let lacks = format!("epoch {number} has the feature {feature} in force, which this build lacks");
            return Err(wrong(at, lacks + "; use the build that wrote it or a newer one"));
        }
        billing.apply(epoch).map_err(|e| wrong(at, e))?;
    }
    let month = Month::parse(period).filter(|month| month.to_string() == period);
    let month = month.ok_or_else(|| wrong(at, format!("period: found {period:?}, expected a month as in 2023-09")))?;
    let invoice = billing.invoice(&TenantId::from(tenant), month);
    let none = || wrong(at, format!("the events give {tenant} no invoice for {period}"));
    let invoice = invoice.ok_or_else(none)?;
    if invoice.currency != currency {
        return Err(wrong(at, format!("currency: found {currency}, the events give {}", invoice.currency)));
    }
    let id = claimed.get("id").and_then(serde_json::Value::as_str).unwrap_or_default();
    let line = invoice.lines.into_iter().find(|line| line.id == id);
    let line = line.ok_or_else(|| wrong(at, format!("the events give no line {id:?}")))?;
    let rated = serde_json::to_value(&line).map_err(|e| wrong(at, e))?;
    if rated != *claimed {
        let field =
            rated.as_object().and_then(|map| map.iter().find(|(name, value)| claimed.get(*name) != Some(value)));
        let (name, value) = field.map_or(("line", &rated), |(name, value)| (name.as_str(), value));
        let found = claimed.get(name).cloned().unwrap_or_default();
        return Err(wrong(format!("{at}.line.{name}"), format!("found {found}, the events give {value}")));
    }
    Ok(line)
}
