//! Making a receipt from a log: one pass for the tree and what is billed, one for the events.

use std::collections::BTreeSet;

use solyx_kernel::unknown_feature;
use solyx_projections::billing::Billing;
use solyx_projections::fold::{Fold, FoldError};
use solyx_schemas::codec::{Codec, frame_id};
use solyx_schemas::epochs::{EpochReader, RawEpoch, ReadError};
use solyx_schemas::events::Event;
use solyx_schemas::log::{Log, LogError};

use super::format::{Content, EpochProof, Proven, Receipt, RotationSigned, SignedHead, Subject, VERSION};
use super::select::Selection;
use super::verify::verify;
use crate::epoch_hash::{EpochHashes, without_overcommitments};
use crate::heads::{Head, HeadsReport, judge};
use crate::history::{History, HistoryError, Signed, SignedEvent, signed_events};
use crate::tree::EpochTree;

/// Why there is no receipt.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// The log has no head.
    #[error("the log has no signed head")]
    NoHead,
    /// The head of the largest tree is not good.
    #[error("{place}: {detail}")]
    BadHead {
        /// The record.
        place: String,
        /// What is wrong.
        detail: String,
    },
    /// What is asked for lies after the last head.
    #[error("it is in epoch {epoch}, and the last signed head is of the first {size} epochs")]
    NotSigned {
        /// Its epoch.
        epoch: i64,
        /// Epochs of the head.
        size: u64,
    },
    /// There is no such thing under the head.
    #[error("there is none in the first {size} epochs, which the last signed head is of")]
    Unknown {
        /// Epochs of the head.
        size: u64,
    },
    /// The id is none.
    #[error("found {found:?}, expected {expected}")]
    Id {
        /// What was given.
        found: String,
        /// What should be.
        expected: &'static str,
    },
    /// A feature is in force that this build lacks: it may change what is billed.
    #[error(
        "epoch {epoch} has the feature {feature} in force, which this build lacks; use the build that wrote it or a newer one"
    )]
    Feature {
        /// Epoch.
        epoch: i64,
        /// The feature.
        feature: String,
    },
    /// What was picked does not give a good receipt.
    #[error("what it comes from cannot be shown alone: {0}")]
    NotAlone(String),
    /// The log cannot be read, or is not what its hashes say.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The billing view cannot be folded.
    #[error(transparent)]
    Fold(#[from] FoldError),
}

impl From<ReadError> for ProveError {
    fn from(error: ReadError) -> Self {
        Self::History(error.into())
    }
}

impl From<LogError> for ProveError {
    fn from(error: LogError) -> Self {
        Self::History(error.into())
    }
}

/// The tree of the last good head.
struct UnderHead {
    head: Head,
    report: HeadsReport,
    tree: EpochTree,
}

/// A receipt of a decision, with the request of its job and what amended it.
pub fn prove_decision(log: &dyn Log, id: &str) -> Result<Receipt, ProveError> {
    let expected = "the id of a decision, <cell>/<epoch>/<term>/<index>, as `solyx tail decisions` shows it";
    let number = id.rsplit('/').nth(2).and_then(|epoch| epoch.parse::<i64>().ok()).filter(|epoch| *epoch >= 0);
    let number = number.ok_or_else(|| ProveError::Id { found: id.to_owned(), expected })?;
    let mut decided = None;
    let under = under_head(log, |raw: RawEpoch, _| {
        if raw.record.epoch == number {
            decided = raw.outputs.into_iter().map(|output| output.event).find(|event| event.identity().id == id);
        }
        Ok(())
    })?;
    let size = under.head.checkpoint.size;
    if number as u64 >= size {
        return Err(ProveError::NotSigned { epoch: number, size });
    }
    let decided = decided.ok_or(ProveError::Unknown { size })?;
    let job = solyx_schemas::json::to_json(&decided).get("job").cloned();
    let mut epochs = Vec::new();
    let mut reader = EpochReader::new(log);
    while let Some(raw) = reader.next_raw()? {
        let inputs: Vec<usize> = raw
            .inputs
            .iter()
            .enumerate()
            .filter(|(_, input)| input.skipped.is_none() && is_request_of(&input.stored.record.value, job.as_ref()))
            .map(|(place, _)| place)
            .collect();
        let outputs = raw.outputs.iter().enumerate().filter(|(_, output)| output.event == decided);
        let outputs: Vec<usize> = outputs.map(|(place, _)| place).collect();
        if !inputs.is_empty() || !outputs.is_empty() {
            epochs.push(epoch_proof(&raw, &under, &inputs, &outputs)?);
        }
        if raw.record.epoch == number {
            break;
        }
    }
    finished(under, Subject::Decision { id: id.to_owned() }, epochs)
}

fn is_request_of(value: &[u8], job: Option<&serde_json::Value>) -> bool {
    let name = frame_id(value).and_then(|id| Codec::global().writer_schema(id)).map(|(name, _)| name);
    if !matches!(name, Some("solyx.jobs.JobRequested" | "solyx.jobs.JobRequestAmended")) {
        return false;
    }
    let of = Codec::global().decode(value).ok().and_then(|decoded| match decoded.event {
        Event::JobRequested(e) => Some(e.job),
        Event::JobRequestAmended(e) => Some(e.job),
        _ => None,
    });
    of.is_some_and(|of| job.and_then(serde_json::Value::as_str) == Some(of.as_str()))
}

/// A receipt of a line of an invoice, as the billing view has it at the end of the last signed tree.
pub fn prove_line(log: &dyn Log, id: &str) -> Result<Receipt, ProveError> {
    let mut billing = Billing::default();
    let under = under_head(log, |raw: RawEpoch, size| {
        let epoch = raw.record.epoch;
        if (epoch as u64) < size {
            if let Some(feature) = unknown_feature(&raw.record.features) {
                return Err(ProveError::Feature { epoch, feature: feature.to_string() });
            }
            billing.apply(&raw.decode()?)?;
        }
        Ok(())
    })?;
    let size = under.head.checkpoint.size;
    let sources = billing.line_sources(id).ok_or(ProveError::Unknown { size })?;
    let mut selection = Selection::new(&sources);
    let mut epochs = picked(log, &under, &mut selection)?;
    // A correction may be of usage on another line, which only the correction names.
    while let Some(again) = std::mem::replace(&mut selection, Selection::new(&sources)).again() {
        selection = again;
        epochs = picked(log, &under, &mut selection)?;
    }
    let line = serde_json::to_value(&sources.line).map_err(|e| ProveError::NotAlone(e.to_string()))?;
    let subject = Subject::InvoiceLine {
        tenant: sources.tenant.to_string(),
        period: sources.month.to_string(),
        currency: sources.currency.to_string(),
        line,
    };
    finished(under, subject, epochs)
}

/// What a selection picks in the epochs under the head, and the last of them.
fn picked(log: &dyn Log, under: &UnderHead, selection: &mut Selection<'_>) -> Result<Vec<EpochProof>, ProveError> {
    let size = under.head.checkpoint.size;
    let mut epochs = Vec::new();
    let mut reader = EpochReader::new(log);
    while let Some(raw) = reader.next_raw()? {
        let (inputs, outputs) = selection.of_epoch(&raw);
        let is_last = raw.record.epoch as u64 + 1 == size;
        if is_last || !inputs.is_empty() || !outputs.is_empty() {
            let events = events_of(&raw, &inputs, &outputs)?;
            epochs.push((epoch_proof(&raw, under, &inputs, &outputs)?, events, is_last));
        }
        if is_last {
            break;
        }
    }
    let mut kept = Vec::new();
    for (mut proof, events, is_last) in epochs {
        let mut events = events.iter();
        proof.records.retain(|_| events.next().is_some_and(|event| selection.keeps(event)));
        if is_last || !proof.records.is_empty() {
            kept.push(proof);
        }
    }
    Ok(kept)
}

fn events_of(raw: &RawEpoch, inputs: &[usize], outputs: &[usize]) -> Result<Vec<Event>, ProveError> {
    let decode = |place: &usize| {
        let decoded = Codec::global().decode(&raw.inputs[*place].stored.record.value);
        decoded.map(|decoded| decoded.event).map_err(|e| ProveError::NotAlone(e.to_string()))
    };
    let mut events = inputs.iter().map(decode).collect::<Result<Vec<_>, _>>()?;
    events.extend(outputs.iter().map(|place| raw.outputs[*place].event.clone()));
    Ok(events)
}

/// Reads the log once and judges its heads. Each epoch is handed on with the size of the largest tree that is signed.
fn under_head(
    log: &dyn Log,
    mut on_epoch: impl FnMut(RawEpoch, u64) -> Result<(), ProveError>,
) -> Result<UnderHead, ProveError> {
    let signed = signed_events(log)?;
    let sizes: BTreeSet<u64> = signed.iter().filter_map(|s| s.event.as_ref().ok().map(SignedEvent::size)).collect();
    let heads = signed.iter().filter_map(|s| match &s.event {
        Ok(event @ SignedEvent::Head(_)) => Some(event.size()),
        _ => None,
    });
    let size = heads.max().ok_or(ProveError::NoHead)?;
    let history = History::read(log, &sizes, |raw| on_epoch(raw, size))?;
    let mut report = judge(&signed, &history);
    match report.last.take() {
        Some(head) if head.checkpoint.size == size => {
            let tree = history.tree.first(size);
            Ok(UnderHead { head, report, tree })
        }
        _ => Err(why_not(&signed, size, &report)),
    }
}

/// Why the head of the largest tree is not good.
fn why_not(signed: &[Signed], size: u64, report: &HeadsReport) -> ProveError {
    let of_size = |s: &&Signed| matches!(&s.event, Ok(event @ SignedEvent::Head(_)) if event.size() == size);
    let place = signed.iter().find(of_size).map(|s| s.place.clone()).unwrap_or_default();
    let finding = report.findings.iter().find(|finding| finding.place == place);
    let detail = finding.map_or_else(|| "its key is no longer trusted".to_owned(), |finding| finding.detail.clone());
    ProveError::BadHead { place, detail }
}

/// An epoch with events at these places of its inputs and outputs.
fn epoch_proof(
    raw: &RawEpoch,
    under: &UnderHead,
    inputs: &[usize],
    outputs: &[usize],
) -> Result<EpochProof, ProveError> {
    let odd = |detail: String| ProveError::History(HistoryError::Epoch { epoch: raw.record.epoch, detail });
    let shown = without_overcommitments(&raw.stored.record.value).map_err(odd)?;
    let path = under.tree.inclusion(raw.record.epoch as u64);
    let path = path.ok_or(ProveError::NotSigned { epoch: raw.record.epoch, size: under.head.checkpoint.size })?;
    let mut proof =
        EpochProof { record: Content::of(&shown).map_err(odd)?, chain_hash: raw.chain_hash, path, records: Vec::new() };
    if inputs.is_empty() && outputs.is_empty() {
        return Ok(proof);
    }
    let hashes = EpochHashes::of(raw).map_err(odd)?;
    for place in inputs {
        let input = &raw.inputs[*place];
        proof.records.push(Proven {
            partition: input.position.partition,
            ordinal: Some(input.position.ordinal),
            content: Content::of(&input.stored.record.value).map_err(odd)?,
            path: hashes.inputs.inclusion(*place as u64).unwrap_or_default(),
        });
    }
    for place in outputs {
        let record = &raw.outputs[*place].stored.record;
        proof.records.push(Proven {
            partition: record.partition,
            ordinal: None,
            content: Content::of(&record.value).map_err(odd)?,
            path: hashes.outputs.inclusion(*place as u64).unwrap_or_default(),
        });
    }
    Ok(proof)
}

/// The receipt, which is checked before anybody gets it.
fn finished(under: UnderHead, subject: Subject, epochs: Vec<EpochProof>) -> Result<Receipt, ProveError> {
    let UnderHead { head, report, .. } = under;
    let rotations = rotations_to(&report, &head);
    let receipt = Receipt {
        solyx_receipt: VERSION,
        subject,
        cell: head.checkpoint.cell.clone(),
        head: SignedHead {
            tree_size: head.checkpoint.size,
            root: head.checkpoint.root,
            public_key: head.key.digits(),
            signature: hex::encode(head.signature),
        },
        rotations,
        epochs,
    };
    // Through its text, as whoever reads it will have it.
    let read = Receipt::parse(&receipt.text()).map_err(ProveError::NotAlone)?;
    verify(&read, std::slice::from_ref(&head.key)).map_err(|e| ProveError::NotAlone(e.to_string()))?;
    Ok(receipt)
}

/// The rotations without a break that lead to the key of a head.
fn rotations_to(report: &HeadsReport, head: &Head) -> Vec<RotationSigned> {
    let mut rotations = Vec::new();
    let mut key = &head.key;
    while let Some(rotation) = report.rotations.iter().find(|rotation| rotation.next == *key) {
        rotations.push(RotationSigned {
            tree_size: rotation.tree.0,
            root: rotation.tree.1,
            key_id: rotation.key.id.clone(),
            public_key: rotation.key.digits(),
            next_key_id: rotation.next.id.clone(),
            signature: hex::encode(rotation.signature),
        });
        key = &rotation.key;
    }
    rotations.reverse();
    rotations
}

#[cfg(test)]
mod tests {
    use solyx_schemas::events::decisions::EpochCommitted;
    use solyx_schemas::events::plans::HeadSigned;
    use solyx_schemas::field::Field;
    use solyx_schemas::log::memory::MemoryLog;
    use solyx_schemas::topics::TopicName;
    use solyx_schemas::units::Count;

    use super::*;

    #[test]
    fn a_line_is_not_rated_by_a_build_that_lacks_a_feature_in_force() {
        let log = MemoryLog::new();
        let record = EpochCommitted { features: vec!["from-the-future".into()], ..EpochCommitted::default() };
        let head = HeadSigned { tree_size: Count(1), ..HeadSigned::example("") };
        for event in [Event::from(record), Event::from(head)] {
            let topic = TopicName::live(event.topic());
            let record = Codec::global().record(&event, topic, log.partitions(topic));
            log.producer("engine").and_then(|mut engine| engine.append(vec![record])).expect("it is written");
        }
        let error = prove_line(&log, "a/2023-09/1").expect_err("it is refused").to_string();
        let expected = "epoch 0 has the feature from-the-future in force, which this build lacks; use the build that wrote it or a newer one";
        assert_eq!(error, expected);
    }
}
