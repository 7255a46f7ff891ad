//! An epoch from its first record to the record that closes it.
//!
//! The engine and an audit drive the kernel through the same [`OpenEpoch`]; what differs is only where records come from
//! and where the result goes.

use std::collections::BTreeMap;

use solyx_schemas::codec::{Codec, DecodeError, Decoded, FRAME_LEN};
use solyx_schemas::epochs::Position;
use solyx_schemas::events::decisions::{
    EpochCommitted, InputRange, OutputCount, RecordQuarantined, SkipReason, SkippedRecord,
};
use solyx_schemas::events::{Event, Stamp};
use solyx_schemas::hash::{Hash32, RecordContent, RecordParts, chain_hash, merkle_root, record_hash};
use solyx_schemas::ids::Name;
use solyx_schemas::topics::{Topic, partition_of};
use solyx_schemas::units::{Count, TimeUs};

use crate::Kernel;

/// Most records an epoch takes, whatever the cell declares.
pub const EPOCH_RECORDS_MAX: usize = 65_536;
/// Records that do not count at which an epoch closes early.
pub const EPOCH_SKIPPED_MAX: usize = 1_024;
/// Bytes of an original that a quarantine record carries at most.
pub const QUARANTINE_BYTES_MAX: usize = 64 << 10;
/// The longest words that say why a record does not count.
const DETAIL_BYTES_MAX: usize = 4 << 10;
/// Version of the engine, as epoch records name it.
pub const ENGINE_VERSION: &str = env!("CARGO_PKG_VERSION");

/// What the index of ids knows of an event's source and id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Never counted before.
    New,
    /// Counted before, the same record.
    Duplicate,
    /// Counted before as another record.
    Conflict,
}

/// Why an input record does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// By name.
    pub reason: SkipReason,
    /// In words.
    pub detail: String,
}

impl Rejection {
    /// The state contradicts the event.
    pub fn rejected(detail: impl Into<String>) -> Self {
        Self { reason: SkipReason::Rejected, detail: detail.into() }
    }
}

/// A closed epoch: what goes to the log, and the kernel is ahead of it already.
#[derive(Clone, Debug)]
pub struct Closed {
    /// Decisions, then quarantine records; stamped, in order of index.
    pub outputs: Vec<Event>,
    /// The epoch record.
    pub record: EpochCommitted,
    /// Its chain hash.
    pub chain_hash: Hash32,
}

/// The hashes of an epoch's inputs: they follow from the records alone, so whoever has those may make them beforehand.
pub struct InputHashes {
    leaves: Vec<Hash32>,
    root: Hash32,
}

impl InputHashes {
    /// From the hash of each record, in the order in which the epoch takes them.
    pub fn of(leaves: Vec<Hash32>) -> Self {
        let root = merkle_root(&leaves);
        Self { leaves, root }
    }
}

/// The hash of an input record: as the event that it is, or as the bytes of what is none.
pub fn input_hash(position: Position, key: &[u8], value: &[u8], decoded: Option<&Decoded>) -> Hash32 {
    let identity;
    let content = match decoded {
        Some(decoded) => {
            identity = decoded.event.identity();
            RecordContent::Event {
                id: &identity.id,
                source: identity.source,
                name: decoded.event.name(),
                schema: &decoded.schema,
                body: &value[FRAME_LEN.min(value.len())..],
            }
        }
        None => RecordContent::Undecodable { value },
    };
    record_hash(&RecordParts {
        topic: position.topic().name(),
        partition: position.partition,
        ordinal: Some(position.ordinal),
        key,
        content,
    })
}

/// An epoch that still takes records.
pub struct OpenEpoch<'k> {
    kernel: &'k mut Kernel,
    term: i64,
    engine_version: Name,
    recorded: BTreeMap<Position, (SkipReason, String)>,
    last: Option<Position>,
    ranges: BTreeMap<(u8, u32), (u64, u64)>,
    hashed: Option<InputHashes>,
    leaves: Vec<Hash32>,
    skipped: Vec<SkippedRecord>,
    quarantined: Vec<RecordQuarantined>,
}

impl<'k> OpenEpoch<'k> {
    /// Opens the next epoch at the sequencer's clock; time never runs backwards.
    pub fn open(kernel: &'k mut Kernel, clock_us: i64, term: i64) -> Self {
        kernel.begin(TimeUs(clock_us));
        Self {
            kernel,
            term,
            engine_version: Name::from(ENGINE_VERSION),
            recorded: BTreeMap::new(),
            last: None,
            ranges: BTreeMap::new(),
            hashed: None,
            leaves: Vec::new(),
            skipped: Vec::new(),
            quarantined: Vec::new(),
        }
    }

    /// Has the epoch record name another version than this build's: whoever makes a recorded epoch again takes the version as
    /// recorded. What another build did not know then, and the words in which it said why a record does not count, are
    /// taken as recorded too; the reasons themselves are judged again.
    pub fn written_by(
        &mut self,
        engine_version: &Name,
        skipped: impl IntoIterator<Item = (Position, SkipReason, String)>,
    ) {
        self.engine_version = engine_version.clone();
        if engine_version.as_str() != ENGINE_VERSION {
            self.recorded = skipped.into_iter().map(|(position, reason, words)| (position, (reason, words))).collect();
        }
    }

    /// The hashes of the records that the epoch is going to take, made already.
    pub fn hashed(&mut self, hashes: InputHashes) {
        self.hashed = Some(hashes);
    }

    /// Judges a record and, if it counts, applies it. Records come in order of topic, partition and ordinal. `seen` is asked
    /// only for events that could count otherwise. Says whether the record counts.
    pub fn take(
        &mut self,
        position: Position,
        key: &[u8],
        value: &[u8],
        decoded: Result<&Decoded, &DecodeError>,
        seen: impl FnOnce() -> Seen,
    ) -> bool {
        assert!(
            self.last.is_none_or(|last| last < position),
            "records of an epoch come in order, {position:?} did not"
        );
        self.last = Some(position);
        let range =
            self.ranges.entry((position.topic, position.partition)).or_insert((position.ordinal, position.ordinal));
        range.1 = position.ordinal + 1;

        let recorded = self.recorded.remove(&position);
        let unknown_then = matches!(&recorded, Some((SkipReason::UnknownFeature, _)));
        let mut verdict = self.judge_and_apply(position, key, decoded, unknown_then, seen);
        if let (Err(rejection), Some((reason, words))) = (&mut verdict, recorded)
            && rejection.reason == reason
        {
            rejection.detail = words;
        }
        let undecodable =
            matches!(&verdict, Err(r) if matches!(r.reason, SkipReason::Undecodable | SkipReason::UnknownSchema));
        // Were one that decodes refused as if it did not, its hash would be that of its bytes.
        let hashed = self.hashed.as_ref().filter(|_| undecodable == decoded.is_err());
        let hash = match hashed.and_then(|hashes| hashes.leaves.get(self.leaves.len())) {
            Some(hash) => *hash,
            None => input_hash(position, key, value, decoded.ok().filter(|_| !undecodable)),
        };
        self.leaves.push(hash);
        match verdict {
            Ok(()) => true,
            Err(rejection) => {
                self.skip(position, key, value, hash, rejection);
                false
            }
        }
    }

    fn judge_and_apply(
        &mut self,
        position: Position,
        key: &[u8],
        decoded: Result<&Decoded, &DecodeError>,
        unknown_then: bool,
        seen: impl FnOnce() -> Seen,
    ) -> Result<(), Rejection> {
        let decoded = decoded.map_err(|error| {
            let reason = match error {
                DecodeError::UnknownSchema(_) => SkipReason::UnknownSchema,
                _ => SkipReason::Undecodable,
            };
            Rejection { reason, detail: error.to_string() }
        })?;
        crate::judge::judge(self.kernel.state(), position, key, &decoded.event)?;
        if unknown_then && matches!(decoded.event, Event::FeatureEnabled(_)) {
            let detail = "the build that wrote the epoch did not know the feature".to_owned();
            return Err(Rejection { reason: SkipReason::UnknownFeature, detail });
        }
        match seen() {
            Seen::New => {}
            Seen::Duplicate => {
                let detail = "the same event was counted before".to_owned();
                return Err(Rejection { reason: SkipReason::Duplicate, detail });
            }
            Seen::Conflict => {
                let identity = decoded.event.identity();
                let detail = format!(
                    "event {} of {} was counted before with another name, schema or body",
                    identity.id, identity.source
                );
                return Err(Rejection { reason: SkipReason::Conflict, detail });
            }
        }
        self.kernel.apply(position, &decoded.event)
    }

    fn skip(&mut self, position: Position, key: &[u8], value: &[u8], hash: Hash32, rejection: Rejection) {
        let topic = Name::from(position.topic().name());
        self.skipped.push(SkippedRecord {
            topic: topic.clone(),
            partition: i64::from(position.partition),
            ordinal: position.ordinal as i64,
            reason: rejection.reason,
        });
        self.quarantined.push(RecordQuarantined {
            topic,
            partition: i64::from(position.partition),
            ordinal: position.ordinal as i64,
            reason: rejection.reason,
            detail: cut(rejection.detail),
            record_hash: hash,
            original_key: hex(&key[..key.len().min(QUARANTINE_BYTES_MAX)]),
            original_value: hex(&value[..value.len().min(QUARANTINE_BYTES_MAX)]),
            original_bytes: Count(value.len() as i64),
            ..RecordQuarantined::default()
        });
    }

    /// Records that do not count so far; an epoch closes early at [`EPOCH_SKIPPED_MAX`].
    pub fn skipped_so_far(&self) -> usize {
        self.skipped.len()
    }

    /// Decides, and closes the epoch. `partitions` says how many an output topic has.
    pub fn close(self, partitions: &dyn Fn(Topic) -> u32) -> Closed {
        self.decide().seal(partitions)
    }

    /// Decides. What is left to do is to write it down: apart from it for whoever measures the two.
    pub fn decide(self) -> DecidedEpoch<'k> {
        let number = self.kernel.next_epoch();
        let mut outputs: Vec<Event> = self.kernel.decide(self.term);
        outputs.extend(self.quarantined.into_iter().map(Event::from));
        DecidedEpoch {
            kernel: self.kernel,
            number,
            term: self.term,
            engine_version: self.engine_version,
            ranges: self.ranges,
            hashed: self.hashed,
            leaves: self.leaves,
            skipped: self.skipped,
            outputs,
        }
    }
}

/// Words of at most [`DETAIL_BYTES_MAX`]: what they quote may be as long as a record.
fn cut(mut detail: String) -> String {
    if detail.len() > DETAIL_BYTES_MAX {
        let end = (0..=DETAIL_BYTES_MAX).rev().find(|at| detail.is_char_boundary(*at)).unwrap_or(0);
        detail.truncate(end);
        detail.push('…');
    }
    detail
}

/// An epoch that has decided and is still to be sealed.
pub struct DecidedEpoch<'k> {
    kernel: &'k mut Kernel,
    number: i64,
    term: i64,
    engine_version: Name,
    ranges: BTreeMap<(u8, u32), (u64, u64)>,
    hashed: Option<InputHashes>,
    leaves: Vec<Hash32>,
    skipped: Vec<SkippedRecord>,
    outputs: Vec<Event>,
}

impl DecidedEpoch<'_> {
    /// Stamps and hashes what was decided, and writes the epoch record.
    pub fn seal(self, partitions: &dyn Fn(Topic) -> u32) -> Closed {
        let mut outputs = self.outputs;
        let mut stamp = Stamp {
            cell: self.kernel.cell().clone(),
            epoch: self.number,
            term: self.term,
            index: 0,
            now_us: self.kernel.now(),
        };
        let codec = Codec::global();
        let known_root = self.hashed.filter(|hashed| hashed.leaves == self.leaves).map(|hashed| hashed.root);
        let mut leaves = Vec::with_capacity(outputs.len());
        let mut counts: BTreeMap<(Topic, u32), i64> = BTreeMap::new();
        for (index, output) in outputs.iter_mut().enumerate() {
            stamp.index = index as i64;
            output.stamp(&stamp);
            let key = output.key();
            let partition = partition_of(key.as_bytes(), partitions(output.topic()));
            *counts.entry((output.topic(), partition)).or_default() += 1;
            leaves.push(output_hash(codec, output, partition, key.as_bytes()));
        }
        stamp.index = outputs.len() as i64;

        let mut record = EpochCommitted {
            inputs: self.ranges.into_iter().map(input_range).collect(),
            skipped: self.skipped,
            outputs: counts.into_iter().map(output_count).collect(),
            overcommitments: self.kernel.take_overcommitments(),
            engine_version: self.engine_version,
            features: self.kernel.features(),
            input_root: known_root.unwrap_or_else(|| merkle_root(&self.leaves)),
            output_root: merkle_root(&leaves),
            state_digest: self.kernel.digest(),
            previous_chain_hash: self.kernel.chain_head(),
            ..EpochCommitted::default()
        };
        solyx_schemas::events::OutputBody::stamp(&mut record, &stamp);
        let chain_hash = chain_hash(&codec.encode(&Event::from(record.clone()))[FRAME_LEN..]);
        self.kernel.end(chain_hash);
        Closed { outputs, record, chain_hash }
    }
}

/// The hash of a stamped output; it leaves out the ordinal, which is not known before the append.
pub fn output_hash(codec: &Codec, output: &Event, partition: u32, key: &[u8]) -> Hash32 {
    let identity = output.identity();
    let (_, schema) = codec.schema_of(output);
    let value = codec.encode(output);
    record_hash(&RecordParts {
        topic: output.topic().name(),
        partition,
        ordinal: None,
        key,
        content: RecordContent::Event {
            id: &identity.id,
            source: identity.source,
            name: output.name(),
            schema: &schema,
            body: &value[FRAME_LEN..],
        },
    })
}

fn input_range(((topic, partition), (from, next)): ((u8, u32), (u64, u64))) -> InputRange {
    InputRange {
        topic: Name::from(Topic::ALL[usize::from(topic)].name()),
        partition: i64::from(partition),
        from_ordinal: from as i64,
        next_ordinal: next as i64,
    }
}

fn output_count(((topic, partition), records): ((Topic, u32), i64)) -> OutputCount {
    OutputCount { topic: Name::from(topic.name()), partition: i64::from(partition), records }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}
