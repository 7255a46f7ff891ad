//! The hashes of one epoch as its records in the log have them: what its roots are over, and its leaf in the tree of epochs.

use solyx_schemas::codec::{Codec, FRAME_LEN, frame_id};
use solyx_schemas::epochs::{RawEpoch, RawInput, RawOutput};
use solyx_schemas::events::decisions::SkipReason;
use solyx_schemas::hash::{Hash32, RecordContent, RecordParts, chain_hash, record_hash};
use solyx_schemas::shape::RecordShape;
use solyx_schemas::topics::Topic;

use crate::tree::{EpochLeaf, HashTree};

/// The field of an epoch record that is not shown to anybody but auditors.
const HIDDEN: &str = "overcommitments";

/// Both trees of an epoch, as the epoch record's roots are over them.
pub struct EpochHashes {
    /// Over the hashes of inputs in the order of application.
    pub inputs: HashTree<[u8; 32]>,
    /// Over the hashes of outputs in the order of index.
    pub outputs: HashTree<[u8; 32]>,
}

impl EpochHashes {
    /// The trees of an epoch, which must have the roots that its record names.
    pub fn of(raw: &RawEpoch) -> Result<Self, String> {
        let inputs = HashTree::of(raw.inputs.iter().map(|input| input_hash(input).0));
        let outputs = raw.outputs.iter().map(|output| output_hash(output).map(|hash| hash.0));
        let outputs = HashTree::of(outputs.collect::<Result<Vec<_>, _>>()?);
        for (what, root, recorded) in [
            ("input_root", inputs.root(), raw.record.input_root),
            ("output_root", outputs.root(), raw.record.output_root),
        ] {
            if root != recorded {
                return Err(format!("{what}: recorded {recorded}, its records have {root}"));
            }
        }
        Ok(Self { inputs, outputs })
    }
}

/// The hash of an input record as the input root is over it.
pub fn input_hash(input: &RawInput) -> Hash32 {
    let record = &input.stored.record;
    let unread = matches!(input.skipped, Some(SkipReason::Undecodable | SkipReason::UnknownSchema));
    let decoded = if unread { None } else { Codec::global().decode_record(record).ok() };
    let parts = |content| RecordParts {
        topic: input.position.topic().name(),
        partition: input.position.partition,
        ordinal: Some(input.position.ordinal),
        key: &record.key,
        content,
    };
    let Some(decoded) = decoded else {
        return record_hash(&parts(RecordContent::Undecodable { value: &input.stored.written_value() }));
    };
    let identity = decoded.event.identity();
    record_hash(&parts(RecordContent::Event {
        id: &identity.id,
        source: identity.source,
        name: decoded.event.name(),
        schema: &decoded.schema,
        body: &record.value[FRAME_LEN..],
    }))
}

/// The hash of an output as the output root is over it.
pub fn output_hash(output: &RawOutput) -> Result<Hash32, String> {
    let record = &output.stored.record;
    let schema = frame_id(&record.value).and_then(|id| Codec::global().writer_schema(id));
    let (_, schema) = schema.ok_or("an output is of an unknown schema")?;
    Ok(event_hash(&output.event, (record.partition, None), &schema, &record.value[FRAME_LEN..]))
}

/// The hash of an event that decodes: at an ordinal for an input, without one for an output.
pub(crate) fn event_hash(
    event: &solyx_schemas::events::Event,
    (partition, ordinal): (u32, Option<u64>),
    schema: &Hash32,
    body: &[u8],
) -> Hash32 {
    let identity = event.identity();
    let key = event.key();
    record_hash(&RecordParts {
        topic: event.topic().name(),
        partition,
        ordinal,
        key: key.as_bytes(),
        content: RecordContent::Event { id: &identity.id, source: identity.source, name: event.name(), schema, body },
    })
}

/// The leaf of an epoch.
pub(crate) fn leaf(raw: &RawEpoch) -> Result<EpochLeaf, String> {
    let shown_hash = match raw.record.overcommitments.is_empty() {
        true => raw.chain_hash,
        false => chain_hash(&without_overcommitments(&raw.stored.record.value)?[FRAME_LEN..]),
    };
    Ok(EpochLeaf { chain_hash: raw.chain_hash, shown_hash })
}

/// The framed value of an epoch record with an empty list of overcommitments, by its writer's schema and not by today's: what was
/// signed once stays what it is.
pub fn without_overcommitments(value: &[u8]) -> Result<Vec<u8>, String> {
    let id = frame_id(value).ok_or("an epoch record has no frame")?;
    let schema = Codec::global().schemas().find(|schema| schema.id == id).ok_or("its schema is unknown")?;
    let shape = RecordShape::parse(schema.avsc)?;
    let mut kept = value[..FRAME_LEN].to_vec();
    let mut rest = &value[FRAME_LEN..];
    for field in &shape.fields {
        let before = rest;
        field.shape.read(&mut rest).map_err(|e| e.within(&field.name).to_string())?;
        if field.name == HIDDEN {
            kept.push(0);
        } else {
            kept.extend_from_slice(&before[..before.len() - rest.len()]);
        }
    }
    Ok(kept)
}

/// The place of an input among those of its epoch, by the ranges that the epoch record names; and how many there are.
pub(crate) fn place_of(
    record: &solyx_schemas::events::decisions::EpochCommitted,
    (topic, partition, ordinal): (Topic, u32, u64),
) -> Option<(u64, u64)> {
    let mut place = None;
    let mut count: u64 = 0;
    for range in &record.inputs {
        let (from, next) = (u64::try_from(range.from_ordinal).ok()?, u64::try_from(range.next_ordinal).ok()?);
        let here = range.topic.as_str() == topic.name() && range.partition == i64::from(partition);
        if here && (from..next).contains(&ordinal) {
            place = Some(count.checked_add(ordinal - from)?);
        }
        count = count.checked_add(next.checked_sub(from)?)?;
    }
    Some((place?, count))
}
