//! History, epoch by epoch, from any log.
//!
//! Of an epoch number, the first epoch record by position whose previous hash is the head counts; outputs of other terms
//! are dropped. An epoch is given when its record and the number of outputs that it names for each partition are
//! there. The reader judges nothing: what does not count stands in the epoch record.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::codec::Codec;
use crate::epochs::frontier::{Frontier, Positions, RecordPlace};
use crate::epochs::outputs::{Candidate, OutputQueue};
use crate::epochs::{EpochBatch, InputRecord, Position};
use crate::events::Event;
use crate::events::decisions::{EpochCommitted, InputRange, SkipReason};
use crate::hash::Hash32;
use crate::log::{Log, LogError, SCAN_LIMIT, StoredRecord};
use crate::topics::{Topic, TopicName};

/// How long an epoch's inputs may show after its record before the log is asked for them.
const LATE_MAX: Duration = Duration::from_millis(100);

/// Why history cannot be read on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Positions do not follow each other.
    #[error(
        "records are missing: {topic}/{partition} goes on at ordinal {found}, expected {expected}; the log is damaged, restore it from an archive"
    )]
    Gap {
        /// Topic.
        topic: &'static str,
        /// Partition.
        partition: u32,
        /// Ordinal expected.
        expected: u64,
        /// Ordinal found.
        found: u64,
    },
    /// A record that an epoch counted, or an output, does not decode.
    #[error("a record cannot be read: {place}: {detail}; use a build that knows its schema")]
    Undecodable {
        /// Topic, partition, ordinal.
        place: String,
        /// What the decoder found.
        detail: String,
    },
    /// An epoch record that contradicts itself or its outputs.
    #[error("epoch {epoch} cannot be read: {detail}; the log is damaged, restore it from an archive")]
    Damaged {
        /// Epoch.
        epoch: i64,
        /// What is wrong.
        detail: String,
    },
    /// There are epoch records beyond the last epoch, but none that follows it.
    #[error(
        "history breaks off after {epochs} epochs: {place} is a record of epoch {epoch}, which does not follow; the log is damaged, `solyx audit` says where, restore it from an archive"
    )]
    Broken {
        /// Epochs until there.
        epochs: i64,
        /// Topic, partition, ordinal.
        place: String,
        /// Epoch of the record.
        epoch: i64,
    },
    /// Outputs pile up whose epoch record does not come.
    #[error(
        "{topic}/{partition} holds too many outputs whose epoch record is not there; find the writer that appends without committing"
    )]
    Overfull {
        /// Topic.
        topic: &'static str,
        /// Partition.
        partition: u32,
    },
}

impl ReadError {
    pub(super) fn gap(topic: Topic, partition: u32, expected: u64, found: u64) -> Self {
        Self::Gap { topic: topic.name(), partition, expected, found }
    }
}

/// An input record as the log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawInput {
    /// Where it stands.
    pub position: Position,
    /// The record.
    pub stored: StoredRecord,
    /// Why it does not count; absent for one that does.
    pub skipped: Option<SkipReason>,
}

/// An output as the log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawOutput {
    /// The event.
    pub event: Event,
    /// The record.
    pub stored: StoredRecord,
}

/// One epoch with its records as the log has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawEpoch {
    /// The epoch record.
    pub record: EpochCommitted,
    /// Its chain hash.
    pub chain_hash: Hash32,
    /// The epoch record as the log has it.
    pub stored: StoredRecord,
    /// Inputs in the order of application; skipped ones among them.
    pub inputs: Vec<RawInput>,
    /// Outputs in order of index.
    pub outputs: Vec<RawOutput>,
}

impl RawEpoch {
    /// The epoch with its inputs decoded. What was recorded as undecodable stays so, even if this build could read it.
    pub fn decode(self) -> Result<EpochBatch, ReadError> {
        let codec = Codec::global();
        let mut inputs = Vec::with_capacity(self.inputs.len());
        for RawInput { position, stored, skipped } in self.inputs {
            let decoded = match skipped {
                Some(SkipReason::Undecodable | SkipReason::UnknownSchema) => None,
                Some(_) => codec.decode_record(&stored.record).ok(),
                None => Some(codec.decode_record(&stored.record).map_err(|error| ReadError::Undecodable {
                    place: format!("{}/{}/{}", position.topic().name(), position.partition, position.ordinal),
                    detail: error.to_string(),
                })?),
            };
            inputs.push(InputRecord { position, decoded, skipped });
        }
        let outputs = self.outputs.into_iter().map(|output| output.event).collect();
        Ok(EpochBatch { record: self.record, chain_hash: self.chain_hash, inputs, outputs })
    }
}

/// What was read ahead of one input topic-partition.
#[derive(Default)]
struct InputQueue {
    next: u64,
    ahead: VecDeque<StoredRecord>,
}

/// Reads epochs in order. Bounded in memory by one epoch and a piece of each topic-partition.
pub struct EpochReader<'a> {
    log: &'a dyn Log,
    next_epoch: i64,
    chain_head: Hash32,
    record: Option<RecordPlace>,
    inputs: BTreeMap<(Topic, u32), InputQueue>,
    outputs: BTreeMap<(Topic, u32), OutputQueue>,
    /// Whether the log knows what will be read.
    announced: bool,
}

impl<'a> EpochReader<'a> {
    /// Begins at the first epoch.
    pub fn new(log: &'a dyn Log) -> Self {
        Self::at(log, &Frontier::default())
    }

    /// Goes on where another reader stood. Ask [`Frontier::is_in`] first when the log may have changed.
    pub fn at(log: &'a dyn Log, frontier: &Frontier) -> Self {
        let mut outputs = BTreeMap::new();
        for topic in [Topic::Quarantine, Topic::Decisions] {
            for partition in 0..log.partitions(topic.into()) {
                let from = frontier.outputs.get(topic, partition);
                outputs.insert((topic, partition), OutputQueue::new(topic, partition, from));
            }
        }
        let inputs = frontier
            .inputs
            .iter()
            .map(|(topic, partition, next)| ((topic, partition), InputQueue { next, ahead: VecDeque::new() }))
            .collect();
        let Frontier { next_epoch, chain_head, record, .. } = *frontier;
        Self { log, next_epoch, chain_head, record, inputs, outputs, announced: false }
    }

    /// Number of the next epoch.
    pub fn next_epoch(&self) -> i64 {
        self.next_epoch
    }

    /// Chain hash of the last epoch given.
    pub fn chain_head(&self) -> Hash32 {
        self.chain_head
    }

    /// The highest term of any output that this reader has read, those that count for nothing among them.
    pub fn highest_term(&self) -> i64 {
        self.outputs.values().map(OutputQueue::highest_term).max().unwrap_or(0)
    }

    /// How far this reader has come.
    pub fn frontier(&self) -> Frontier {
        let mut inputs = Positions::default();
        for ((topic, partition), queue) in &self.inputs {
            inputs.set(*topic, *partition, queue.next);
        }
        let mut outputs = Positions::default();
        for ((topic, partition), queue) in &self.outputs {
            outputs.set(*topic, *partition, queue.position());
        }
        let Self { next_epoch, chain_head, record, .. } = *self;
        Frontier { next_epoch, chain_head, record, inputs, outputs }
    }

    /// The next epoch, or nothing when it is not there yet; it may be asked again.
    pub fn next_batch(&mut self) -> Result<Option<EpochBatch>, ReadError> {
        self.next_raw()?.map(RawEpoch::decode).transpose()
    }

    /// The next epoch as the log has it.
    pub fn next_raw(&mut self) -> Result<Option<RawEpoch>, ReadError> {
        self.announce()?;
        let Some((partition, candidate)) = self.candidate()? else { return Ok(None) };
        let Candidate { record, chain_hash, stored } = candidate;
        if !self.holds_outputs(&record)? {
            return Ok(None);
        }
        let inputs = self.take_inputs(&record)?;
        let outputs = self.take_outputs(&record)?;
        if let Some(queue) = self.outputs.get_mut(&(Topic::Decisions, partition)) {
            queue.committed();
        }
        self.next_epoch = record.epoch + 1;
        self.chain_head = chain_hash;
        self.record = Some(RecordPlace { partition, ordinal: stored.ordinal });
        Ok(Some(RawEpoch { record, chain_hash, stored, inputs, outputs }))
    }

    /// To be asked once no epoch comes any more: whether history ended, rather than broke off with more behind it.
    pub fn ended(&self) -> Result<(), ReadError> {
        let queues = self.outputs.iter().filter(|((topic, _), _)| *topic == Topic::Decisions);
        let mut beyond = queues.filter_map(|((topic, partition), queue)| {
            let (epoch, ordinal) = queue.goes_on(self.next_epoch)?;
            Some((epoch, format!("{}/{partition}/{ordinal}", topic.name())))
        });
        match beyond.next() {
            Some((epoch, place)) => Err(ReadError::Broken { epochs: self.next_epoch, place, epoch }),
            None => Ok(()),
        }
    }

    fn announce(&mut self) -> Result<(), LogError> {
        if std::mem::replace(&mut self.announced, true) {
            return Ok(());
        }
        let outputs = self.outputs.iter().map(|((topic, partition), queue)| (*topic, *partition, queue.next_read()));
        let all =
            Topic::INPUTS.into_iter().flat_map(|topic| (0..self.log.partitions(topic.into())).map(move |p| (topic, p)));
        let inputs = all.map(|(topic, p)| (topic, p, self.inputs.get(&(topic, p)).map_or(0, |queue| queue.next)));
        let soon: Vec<(TopicName, u32, u64)> =
            outputs.chain(inputs).map(|(topic, partition, next)| (topic.into(), partition, next)).collect();
        self.log.about_to_read(&soon)
    }

    /// Waits until more of the outputs is there; false when the deadline came first.
    pub fn wait(&self, deadline: Instant) -> Result<bool, ReadError> {
        let positions: Vec<(TopicName, u32, u64)> = self
            .outputs
            .iter()
            .map(|((topic, partition), queue)| (TopicName::live(*topic), *partition, queue.next_read()))
            .collect();
        Ok(self.log.wait(&positions, deadline)?)
    }

    /// The record of the next epoch and its partition. All of a cell's records have one key and so one partition; until
    /// the first was seen, every partition is looked through.
    fn candidate(&mut self) -> Result<Option<(u32, Candidate)>, ReadError> {
        let known = self.record.map(|place| place.partition);
        loop {
            let mut filled = false;
            for ((topic, partition), queue) in &mut self.outputs {
                if *topic != Topic::Decisions || known.is_some_and(|known| known != *partition) {
                    continue;
                }
                if let Some(candidate) = queue.candidate(self.next_epoch, &self.chain_head) {
                    return Ok(Some((*partition, candidate)));
                }
                filled |= queue.fill(self.log)?;
            }
            if !filled {
                return Ok(None);
            }
        }
    }

    fn holds_outputs(&mut self, record: &EpochCommitted) -> Result<bool, ReadError> {
        let epoch = record.epoch;
        for count in &record.outputs {
            let damaged = |detail: String| ReadError::Damaged { epoch, detail };
            let topic = Topic::parse(count.topic.as_str());
            let place = topic.zip(u32::try_from(count.partition).ok());
            let queue = place.and_then(|place| self.outputs.get_mut(&place));
            let queue = queue.ok_or_else(|| {
                damaged(format!("it names outputs in {}/{}, which the log does not have", count.topic, count.partition))
            })?;
            let records = usize::try_from(count.records)
                .map_err(|_| damaged(format!("it names {} outputs in {}", count.records, count.topic)))?;
            while !queue.holds(epoch, record.term, records) {
                if queue.fill(self.log)? {
                    continue;
                }
                return match queue.take_unread() {
                    Some(detail) => {
                        let place = format!("{}/{}", count.topic, count.partition);
                        Err(ReadError::Undecodable { place, detail })
                    }
                    None => Ok(false),
                };
            }
        }
        Ok(true)
    }

    fn take_outputs(&mut self, record: &EpochCommitted) -> Result<Vec<RawOutput>, ReadError> {
        let mut taken = Vec::new();
        for ((topic, partition), queue) in &mut self.outputs {
            let named = |count: &&crate::events::decisions::OutputCount| {
                count.topic.as_str() == topic.name() && count.partition == i64::from(*partition)
            };
            let records = record.outputs.iter().find(named).map_or(0, |count| count.records as usize);
            queue.take(record.epoch, record.term, records, &mut taken);
        }
        taken.sort_by_key(|(index, _)| *index);
        if let Some((place, (index, _))) = taken.iter().enumerate().find(|(place, (index, _))| *place as i64 != *index)
        {
            let detail = format!("output {place} is missing, {index} was found in its place");
            return Err(ReadError::Damaged { epoch: record.epoch, detail });
        }
        Ok(taken.into_iter().map(|(_, output)| output).collect())
    }

    fn take_inputs(&mut self, record: &EpochCommitted) -> Result<Vec<RawInput>, ReadError> {
        let skipped: HashMap<(&str, i64, i64), SkipReason> = record
            .skipped
            .iter()
            .map(|skip| ((skip.topic.as_str(), skip.partition, skip.ordinal), skip.reason))
            .collect();
        let mut inputs = Vec::new();
        for range in &record.inputs {
            self.take_range(record.epoch, range, &skipped, &mut inputs)?;
        }
        if inputs.windows(2).any(|pair| pair[0].position >= pair[1].position) {
            let detail = "its inputs are not in the order of application".to_owned();
            return Err(ReadError::Damaged { epoch: record.epoch, detail });
        }
        Ok(inputs)
    }

    fn take_range(
        &mut self,
        epoch: i64,
        range: &InputRange,
        skipped: &HashMap<(&str, i64, i64), SkipReason>,
        into: &mut Vec<RawInput>,
    ) -> Result<(), ReadError> {
        let place = Topic::parse(range.topic.as_str()).filter(|topic| topic.is_input());
        let place = place.zip(u32::try_from(range.partition).ok());
        let Some((topic, partition)) = place else {
            let detail = format!("it names the input {}/{}, which is none", range.topic, range.partition);
            return Err(ReadError::Damaged { epoch, detail });
        };
        let queue = self.inputs.entry((topic, partition)).or_default();
        if range.from_ordinal != queue.next as i64 || range.next_ordinal < range.from_ordinal {
            let detail = format!(
                "it took {}/{} from {} to {}, expected to begin at {}",
                range.topic, range.partition, range.from_ordinal, range.next_ordinal, queue.next
            );
            return Err(ReadError::Damaged { epoch, detail });
        }
        while (queue.next as i64) < range.next_ordinal {
            if queue.ahead.is_empty() {
                queue.ahead.extend(taken(self.log, topic.into(), partition, queue.next)?);
            }
            let Some(stored) = queue.ahead.pop_front() else {
                let detail =
                    format!("it took {}/{}/{}, which the log does not have", topic.name(), partition, queue.next);
                return Err(ReadError::Damaged { epoch, detail });
            };
            if stored.ordinal != queue.next {
                return Err(ReadError::gap(topic, partition, queue.next, stored.ordinal));
            }
            queue.next += 1;
            let skipped = skipped.get(&(topic.name(), i64::from(partition), stored.ordinal as i64)).copied();
            into.push(RawInput { position: Position::new(topic, partition, stored.ordinal), stored, skipped });
        }
        Ok(())
    }
}

/// Records that an epoch took. They were there before its record was, but a log that fetches its topics apart may show them
/// after it: only one that has looked anew lacks them.
fn taken(log: &dyn Log, topic: TopicName, partition: u32, from: u64) -> Result<Vec<StoredRecord>, LogError> {
    let records = log.read(topic, partition, from, SCAN_LIMIT)?;
    if !records.is_empty() {
        return Ok(records);
    }
    if !log.wait(&[(topic, partition, from)], Instant::now() + LATE_MAX)? {
        log.look_up()?;
    }
    log.read(topic, partition, from, SCAN_LIMIT)
}

impl Iterator for EpochReader<'_> {
    type Item = Result<EpochBatch, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_batch().transpose()
    }
}
