//! Receipts that somebody else made up: any events, with hashes, paths and a signature that fit. Whoever verifies without a key of
//! ours gets as far as with a good one, and rates what no kernel has judged.

use std::collections::BTreeMap;

use solyx_kernel::unknown_feature;
use solyx_projections::billing::{Billing, LineView};
use solyx_projections::fold::Fold;
use solyx_proofs::receipt::{Content, EpochProof, Proven, Receipt, SignedHead, Subject, VERSION, verify};
use solyx_proofs::{Checkpoint, EpochLeaf, EpochTree, HashTree, input_hash, output_hash};
use solyx_schemas::codec::{Codec, FRAME_LEN};
use solyx_schemas::epochs::{EpochBatch, InputRecord, Position, RawInput, RawOutput};
use solyx_schemas::events::decisions::{EpochCommitted, InputRange, OutputCount};
use solyx_schemas::events::{Event, Stamp};
use solyx_schemas::hash::chain_hash;
use solyx_schemas::ids::{CellId, Name};
use solyx_schemas::json;
use solyx_schemas::log::StoredRecord;
use solyx_schemas::topics::Topic;

use super::signed::{SIGNED, hex};
use super::{proofs, said};
use crate::{Outcome, Target, holds};

pub fn targets() -> Vec<Target> {
    vec![Target {
        name: "proven",
        takes: "events that anybody proves and signs",
        seeds: events_of_receipts,
        words: WORDS,
        run: proven,
    }]
}

const WORDS: &[&str] = &[
    "null",
    "GPU_TIME",
    "ENERGY",
    "EGRESS",
    "TOKENS",
    "VOLUME",
    "GRADUATED",
    "USD",
    "EUR",
    "2023-09",
    "2023-10",
    "9223372036854775807",
    "1000000000000000",
    "job-a",
    "job-b",
    "red",
    "green",
    "lease-1",
];
/// Lines of invoices that are proven of one input.
const LINES_MAX: usize = 3;

/// Each receipt's events as JSON, one a line, an epoch's behind its record; and those of the whole log.
fn events_of_receipts() -> Vec<Vec<u8>> {
    let event = |content: &Content| content.read().map(|(decoded, _)| decoded.event);
    let of = |text: &String| {
        let receipt = Receipt::parse(text).expect("a good receipt");
        let contents = receipt
            .epochs
            .iter()
            .flat_map(|epoch| [&epoch.record].into_iter().chain(epoch.records.iter().map(|proven| &proven.content)));
        lines(contents.map(|content| event(content).expect("a good receipt")))
    };
    let mut all: Vec<Vec<u8>> = proofs::texts().iter().map(of).collect();
    let mut reader = solyx_schemas::epochs::EpochReader::new(&SIGNED.log);
    let mut whole = Vec::new();
    while let Some(epoch) = reader.next_batch().expect("a good log is read") {
        let inputs: Vec<Event> = epoch.counted().map(|(_, event)| event.clone()).collect();
        whole.extend([Event::from(epoch.record)].into_iter().chain(inputs).chain(epoch.outputs));
    }
    all.push(lines(whole));
    all
}

fn lines(events: impl IntoIterator<Item = Event>) -> Vec<u8> {
    let lines = events.into_iter().map(|event| json::to_json(&event).to_string());
    lines.collect::<Vec<_>>().join("\n").into_bytes()
}

/// What is made to fit is not refused for its proofs, and a line is rated as the events give it.
fn proven(input: &[u8]) -> Outcome {
    let mut epochs: Vec<(EpochCommitted, Vec<Event>)> = Vec::new();
    let read = json::read_lines(input, |line| match (line.event, epochs.last_mut()) {
        (Ok(Event::EpochCommitted(record)), _) => epochs.push((*record, Vec::new())),
        (Ok(event), Some((_, events))) => events.push(event),
        _ => {}
    });
    read.map_err(|error| error.to_string())?;
    let Some((first, _)) = epochs.first() else { return Ok("no epoch".to_owned()) };
    let made = Made::of(first.cell.clone(), epochs)?;
    let mut words = String::new();
    if let Some(output) = made.batches.iter().flat_map(|batch| &batch.outputs).next() {
        let id = output.identity().id.into_owned();
        let verified = verify(&made.receipt(Subject::Decision { id }), &[]);
        let verified = verified.map_err(|error| format!("a decision that is proven is refused: {error}"))?;
        holds!(!verified.key_trusted, "a key that nobody named is trusted");
        words.push_str(output.name());
    }
    let mut billing = Billing::default();
    for batch in &made.batches {
        if unknown_feature(&batch.record.features).is_some() {
            return Ok("a feature that this build lacks".to_owned());
        }
        if let Err(error) = billing.apply(batch) {
            return said(error);
        }
    }
    let view = billing.view();
    let lines = view.invoices.iter().flat_map(|invoice| invoice.lines.iter().map(move |line| (invoice, line)));
    for (invoice, line) in lines.take(LINES_MAX) {
        let (tenant, period, currency) = (invoice.tenant.clone(), invoice.period.clone(), invoice.currency.clone());
        let claimed = serde_json::to_value(line).map_err(|error| format!("a line is not written: {error}"))?;
        let subject = Subject::InvoiceLine { tenant, period, currency, line: claimed };
        let verified = verify(&made.receipt(subject), &[]);
        let verified = verified.map_err(|error| format!("a line that the events give is refused: {error}"))?;
        holds!(verified.line.as_ref() == Some(line), "{:?} is rated again as {:?}", line, verified.line);
        words.push_str(&about(line));
    }
    words.extend(view.problems.iter().take(LINES_MAX).map(|problem| format!("{problem:?}")));
    Ok(words)
}

fn about(line: &LineView) -> String {
    let kind = serde_json::to_string(&line.kind).unwrap_or_default().replace('"', " ");
    format!("{kind} {} {}", if line.corrects_period.is_some() { "corrects" } else { "" }, line.job.is_some())
}

/// A tree of epochs that fits together.
struct Made {
    cell: CellId,
    proofs: Vec<EpochProof>,
    batches: Vec<EpochBatch>,
    tree: EpochTree,
}

impl Made {
    fn of(cell: CellId, epochs: Vec<(EpochCommitted, Vec<Event>)>) -> Result<Self, String> {
        let mut made = Self { cell, proofs: Vec::new(), batches: Vec::new(), tree: EpochTree::default() };
        let mut ordinals = BTreeMap::new();
        for (record, events) in epochs {
            made.push(record, events, &mut ordinals)?;
        }
        for (number, proof) in made.proofs.iter_mut().enumerate() {
            proof.path = made.tree.inclusion(number as u64).unwrap_or_default();
        }
        Ok(made)
    }

    fn push(
        &mut self,
        mut record: EpochCommitted,
        events: Vec<Event>,
        ordinals: &mut BTreeMap<Topic, u64>,
    ) -> Result<(), String> {
        let (mut inputs, mut outputs): (Vec<Event>, Vec<Event>) =
            events.into_iter().partition(|event| event.stamped().is_none());
        inputs.retain(|event| event.topic().is_input());
        inputs.sort_by_key(Event::topic);
        let stamp = Stamp {
            cell: self.cell.clone(),
            epoch: self.proofs.len() as i64,
            term: record.term,
            index: 0,
            now_us: record.now_us,
        };
        for (index, output) in outputs.iter_mut().enumerate() {
            output.stamp(&Stamp { index: index as i64, ..stamp.clone() });
        }
        record.inputs.clear();
        let mut taken = Vec::new();
        for event in inputs {
            let ordinal = ordinals.entry(event.topic()).or_default();
            let position = Position::new(event.topic(), 0, *ordinal);
            *ordinal += 1;
            let topic = Name::from(event.topic().name());
            match record.inputs.last_mut().filter(|range| range.topic == topic) {
                Some(range) => range.next_ordinal += 1,
                None => {
                    let (from_ordinal, next_ordinal) = (position.ordinal as i64, position.ordinal as i64 + 1);
                    record.inputs.push(InputRange { topic, partition: 0, from_ordinal, next_ordinal });
                }
            }
            taken.push(RawInput { position, stored: stored(&event, position.ordinal), skipped: None });
        }
        record.outputs =
            vec![OutputCount { topic: Name::from("decisions"), partition: 0, records: outputs.len() as i64 }];
        let given: Vec<RawOutput> =
            outputs.iter().map(|event| RawOutput { stored: stored(event, 0), event: event.clone() }).collect();
        let inputs = HashTree::of(taken.iter().map(|input| input_hash(input).0));
        let hashes = given.iter().map(|output| output_hash(output).map(|hash| hash.0));
        let output_tree = HashTree::of(hashes.collect::<Result<Vec<_>, _>>()?);
        (record.input_root, record.output_root) = (inputs.root(), output_tree.root());
        (record.cell, record.epoch, record.index) = (stamp.cell, stamp.epoch, outputs.len() as i64);
        record.skipped.clear();
        record.overcommitments.clear();
        let value = Codec::global().encode(&Event::from(record.clone()));
        let hash = chain_hash(&value[FRAME_LEN..]);
        self.tree.push(EpochLeaf { chain_hash: hash, shown_hash: hash }.bytes());
        let of_inputs = taken.iter().zip(0..).map(|(input, place)| Proven {
            partition: 0,
            ordinal: Some(input.position.ordinal),
            content: content(&input.stored.record.value),
            path: inputs.inclusion(place).unwrap_or_default(),
        });
        let of_outputs = given.iter().zip(0..).map(|(output, place)| Proven {
            partition: 0,
            ordinal: None,
            content: content(&output.stored.record.value),
            path: output_tree.inclusion(place).unwrap_or_default(),
        });
        self.proofs.push(EpochProof {
            record: content(&value),
            chain_hash: hash,
            path: Vec::new(),
            records: of_inputs.chain(of_outputs).collect(),
        });
        let decoded = |input: &RawInput| InputRecord {
            position: input.position,
            decoded: Codec::global().decode(&input.stored.record.value).ok(),
            skipped: None,
        };
        let inputs = taken.iter().map(decoded).collect();
        self.batches.push(EpochBatch { record, chain_hash: hash, inputs, outputs });
        Ok(())
    }

    fn receipt(&self, subject: Subject) -> Receipt {
        let key = &SIGNED.keys[1];
        let checkpoint = Checkpoint { cell: self.cell.clone(), size: self.tree.size(), root: self.tree.root() };
        let head = SignedHead {
            tree_size: checkpoint.size,
            root: checkpoint.root,
            public_key: key.public().digits(),
            signature: hex(&key.sign(&checkpoint.text())),
        };
        let epochs = self.proofs.clone();
        Receipt { solyx_receipt: VERSION, subject, cell: self.cell.clone(), head, rotations: Vec::new(), epochs }
    }
}

fn stored(event: &Event, ordinal: u64) -> StoredRecord {
    let record = Codec::global().record(event, event.topic().into(), 1);
    StoredRecord { ordinal, offset: 0, append_time_us: 0, record, wire_id: None }
}

fn content(value: &[u8]) -> Content {
    Content::of(value).unwrap_or_else(|_| Content::Value(hex(value)))
}
