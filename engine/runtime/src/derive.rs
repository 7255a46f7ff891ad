//! One epoch through the kernel: the same way when it is made, when it is made again after a restart, and in an audit.

use solyx_kernel::{Closed, EPOCH_SKIPPED_MAX, InputHashes, Kernel, OpenEpoch, Seen, input_hash};
use std::borrow::Cow;

use solyx_schemas::codec::{Codec, DecodeError, Decoded, frame_id};
use solyx_schemas::epochs::{EpochBatch, InputRecord, Position, RawEpoch, RawInput};
use solyx_schemas::events::Event;
use solyx_schemas::events::decisions::SkipReason;
use solyx_schemas::log::{Log, Record, StoredRecord};
use solyx_schemas::topics::{Topic, TopicName};

use crate::error::RuntimeError;
use crate::ids::{Claim, IdIndex};
use crate::intake::Intake;

/// A closed epoch with its inputs.
pub struct Derived {
    /// What the kernel says.
    pub closed: Closed,
    /// What it took, decoded; in the order of application.
    pub inputs: Vec<InputRecord>,
}

impl Derived {
    /// The epoch as every reader of the log sees it.
    pub fn into_batch(self) -> EpochBatch {
        let Closed { outputs, record, chain_hash } = self.closed;
        EpochBatch { record, chain_hash, inputs: self.inputs, outputs }
    }
}

/// Takes what lies unread within the kernel's limits and closes the epoch.
pub fn next_epoch(
    kernel: &mut Kernel,
    ids: &mut IdIndex,
    log: &dyn Log,
    intake: &mut Intake,
    clock_us: i64,
    term: i64,
) -> Result<Derived, RuntimeError> {
    let (records_max, bytes_max, _) = kernel.epoch_limits();
    let mut quota = intake.quota(records_max, bytes_max);
    let mut epoch = OpenEpoch::open(kernel, clock_us, term);
    let mut inputs = Vec::new();
    while epoch.skipped_so_far() < EPOCH_SKIPPED_MAX {
        let Some((position, stored)) = intake.next(log, &mut quota)? else { break };
        let decoded = Codec::global().decode_record(&stored.record);
        let skipped = epoch.skipped_so_far();
        inputs.push(take(&mut epoch, ids, position, &stored, decoded)?);
        if epoch.skipped_so_far() > skipped {
            quota.note_skipped(EPOCH_SKIPPED_MAX);
        }
    }
    Ok(with_reasons(epoch.close(&|topic: Topic| log.partitions(topic.into())), inputs))
}

/// What the kernel asked of an input record and what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// What the record says was seen of its id, if the kernel asked: it does not of what it cannot read.
    pub seen: Option<Seen>,
    /// Whether it counts.
    pub counts: bool,
}

/// Makes a recorded epoch again: ranges, `now`, term, "schema unknown then" and which records were seen before as recorded. A restart
/// leaves it at that, as its index of ids may be ahead of the epoch; an audit finds duplicates by itself.
pub fn recorded_epoch(kernel: &mut Kernel, log: &dyn Log, raw: &RawEpoch) -> Derived {
    let decoded = decoded_as_recorded(raw);
    let (closed, taken) = made_again(kernel, log, raw, &decoded, None);
    let mut inputs = Vec::with_capacity(decoded.len());
    for ((input, decoded), taken) in raw.inputs.iter().zip(decoded).zip(taken) {
        inputs.push(input_record(input.position, decoded, taken.counts));
    }
    with_reasons(closed, inputs)
}

/// The inputs of a recorded epoch, decoded as they were then.
pub fn decoded_as_recorded(raw: &RawEpoch) -> Vec<Result<Decoded, DecodeError>> {
    let codec = Codec::global();
    let one = |input: &RawInput| match (input.skipped, frame_id(&input.stored.written_value())) {
        (Some(SkipReason::UnknownSchema), Some(id)) => Err(DecodeError::UnknownSchema(id)),
        (Some(SkipReason::Undecodable), _) => {
            codec.decode_record(&input.stored.record).map_err(|error| match error {
                // Its schema id means something where it was written, and nothing here.
                DecodeError::UnknownSchema(_) => DecodeError::Recorded(words_of(raw, input.position)),
                error => error,
            })
        }
        _ => codec.decode_record(&input.stored.record),
    };
    raw.inputs.iter().map(one).collect()
}

/// The hashes of a recorded epoch's inputs.
pub fn hashes_of(raw: &RawEpoch, decoded: &[Result<Decoded, DecodeError>]) -> InputHashes {
    let one = |(input, decoded): (&RawInput, &Result<Decoded, DecodeError>)| {
        let value = value_of(&input.stored, decoded.is_ok());
        input_hash(input.position, &input.stored.record.key, &value, decoded.as_ref().ok())
    };
    InputHashes::of(raw.inputs.iter().zip(decoded).map(one).collect())
}

/// A recorded epoch from its decoded inputs, and what came of each of them. Their hashes, unless given, are made here.
pub fn made_again(
    kernel: &mut Kernel,
    log: &dyn Log,
    raw: &RawEpoch,
    decoded: &[Result<Decoded, DecodeError>],
    hashes: Option<InputHashes>,
) -> (Closed, Vec<Taken>) {
    let mut epoch = OpenEpoch::open(kernel, raw.record.now_us.0, raw.record.term);
    if let Some(hashes) = hashes {
        epoch.hashed(hashes);
    }
    epoch.written_by(&raw.record.engine_version, skipped_as_recorded(raw));
    let mut all = Vec::with_capacity(raw.inputs.len());
    for (input, decoded) in raw.inputs.iter().zip(decoded) {
        let recorded = match input.skipped {
            Some(SkipReason::Duplicate) => Seen::Duplicate,
            Some(SkipReason::Conflict) => Seen::Conflict,
            _ => Seen::New,
        };
        let mut seen = None;
        let counts = taken(&mut epoch, input.position, &input.stored, decoded.as_ref(), || {
            seen = Some(recorded);
            recorded
        });
        all.push(Taken { seen, counts });
    }
    (epoch.close(&|topic: Topic| log.partitions(topic.into())), all)
}

/// The records that do not count, with the reason and the words that the quarantine has.
fn skipped_as_recorded(raw: &RawEpoch) -> impl Iterator<Item = (Position, SkipReason, String)> {
    raw.outputs.iter().filter_map(|output| match &output.event {
        Event::RecordQuarantined(quarantined) => {
            let topic = Topic::parse(quarantined.topic.as_str())?;
            let partition = u32::try_from(quarantined.partition).ok()?;
            let ordinal = u64::try_from(quarantined.ordinal).ok()?;
            let position = Position::new(topic, partition, ordinal);
            Some((position, quarantined.reason, quarantined.detail.clone()))
        }
        _ => None,
    })
}

/// Why a record does not count, in the words that the quarantine has.
fn words_of(raw: &RawEpoch, position: Position) -> String {
    skipped_as_recorded(raw).find(|(of, ..)| *of == position).map(|(_, _, words)| words).unwrap_or_default()
}

/// Takes a record whose id is judged with the index.
fn take(
    epoch: &mut OpenEpoch<'_>,
    ids: &mut IdIndex,
    position: Position,
    stored: &StoredRecord,
    decoded: Result<Decoded, DecodeError>,
) -> Result<InputRecord, RuntimeError> {
    let mut claim = None;
    let mut failed = None;
    let counts = taken(epoch, position, stored, decoded.as_ref(), || {
        // `seen` is asked only for what decodes.
        let Ok(decoded) = &decoded else { return Seen::New };
        let claimed = Claim::of(decoded, &stored.record.value);
        let seen = ids.seen(&claimed).unwrap_or_else(|error| {
            failed = Some(error);
            Seen::New
        });
        claim = Some(claimed);
        seen
    });
    if let Some(error) = failed {
        return Err(error);
    }
    if counts && let Some(claim) = claim {
        ids.take(&claim);
    }
    Ok(input_record(position, decoded, counts))
}

fn taken(
    epoch: &mut OpenEpoch<'_>,
    position: Position,
    stored: &StoredRecord,
    decoded: Result<&Decoded, &DecodeError>,
    seen: impl FnOnce() -> Seen,
) -> bool {
    let value = value_of(stored, decoded.is_ok());
    epoch.take(position, &stored.record.key, &value, decoded, seen)
}

/// What an input is judged and hashed by: what does not decode, as it was written.
fn value_of(stored: &StoredRecord, decodes: bool) -> Cow<'_, [u8]> {
    if decodes { Cow::Borrowed(&stored.record.value[..]) } else { stored.written_value() }
}

/// The reason why one does not count is in the epoch record, which is not there before the epoch closes.
fn input_record(position: Position, decoded: Result<Decoded, DecodeError>, counts: bool) -> InputRecord {
    InputRecord { position, decoded: decoded.ok(), skipped: (!counts).then_some(SkipReason::Unknown) }
}

fn with_reasons(closed: Closed, mut inputs: Vec<InputRecord>) -> Derived {
    let not_counting = inputs.iter_mut().filter(|input| input.skipped.is_some());
    for (input, skip) in not_counting.zip(&closed.record.skipped) {
        input.skipped = Some(skip.reason);
        if matches!(skip.reason, SkipReason::Undecodable | SkipReason::UnknownSchema) {
            input.decoded = None;
        }
    }
    Derived { closed, inputs }
}

/// The records of a closed epoch: outputs in order of index, then the epoch record.
pub fn records_of(log: &dyn Log, closed: &Closed) -> Vec<Record> {
    let codec = Codec::global();
    let record = |event: &Event| {
        let topic = TopicName::live(event.topic());
        codec.record(event, topic, log.partitions(topic))
    };
    let mut records: Vec<Record> = closed.outputs.iter().map(record).collect();
    records.push(record(&Event::from(closed.record.clone())));
    records
}
