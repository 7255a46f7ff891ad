//! What every log of one process keeps in memory: how many partitions a topic has, where each ends, who may write.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use solyx_schemas::codec::VALUE_LEN_MAX;
use solyx_schemas::log::{Ack, LogError, LogErrorKind, Record, Written};
use solyx_schemas::topics::{Topic, TopicName};

/// Every topic-partition, numbered without gaps in the order of topics, live before staged.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    counts: Vec<u32>,
    first: Vec<usize>,
    total: usize,
}

fn place(topic: TopicName) -> usize {
    topic.topic as usize * 2 + usize::from(topic.staged)
}

/// Every topic and its staged twin.
pub(super) fn topic_names() -> impl Iterator<Item = TopicName> {
    Topic::ALL.into_iter().flat_map(|topic| [TopicName::live(topic), TopicName::staged(topic)])
}

impl Slots {
    pub(super) fn new(count: impl Fn(TopicName) -> u32) -> Self {
        let counts: Vec<u32> = topic_names().map(count).collect();
        let mut total = 0;
        let first = counts
            .iter()
            .map(|count| {
                let first = total;
                total += *count as usize;
                first
            })
            .collect();
        Self { counts, first, total }
    }

    /// As asked, and by default for what was not asked; a staged twin has as many as its topic.
    pub(super) fn asked(partitions: Option<&BTreeMap<Topic, u32>>) -> Self {
        let of = |topic: Topic| partitions.and_then(|p| p.get(&topic)).copied();
        Self::new(|name| of(name.topic).unwrap_or_else(|| name.topic.default_partitions()).max(1))
    }

    pub(super) fn total(&self) -> usize {
        self.total
    }

    pub(super) fn count(&self, topic: TopicName) -> u32 {
        self.counts[place(topic)]
    }

    pub(super) fn index(&self, topic: TopicName, partition: u32) -> Result<usize, LogError> {
        let count = self.count(topic);
        if partition < count {
            return Ok(self.first[place(topic)] + partition as usize);
        }
        Err(LogError::new(
            LogErrorKind::Stop,
            format!("topic {} has no partition {partition}", topic.name()),
            format!("it has {count}, counted from 0"),
            "partition counts are fixed when a log is created; use those of this log",
        ))
    }

    /// Every topic-partition in the order of its number.
    pub(super) fn iter(&self) -> impl Iterator<Item = (TopicName, u32)> {
        topic_names().flat_map(|topic| (0..self.count(topic)).map(move |partition| (topic, partition)))
    }

    /// The acknowledgement of a batch on top of these ends, and the ordinal of each of its records.
    pub(super) fn assign(
        &self,
        ends: &[u64],
        batch: &[Record],
        append_time_us: i64,
    ) -> Result<(Ack, Vec<u64>), LogError> {
        let mut next = ends.to_vec();
        let mut ordinals = Vec::with_capacity(batch.len());
        for record in batch {
            if record.value.len() > VALUE_LEN_MAX {
                return Err(LogError::new(
                    LogErrorKind::Stop,
                    format!("a record for topic {} is too large", record.topic.name()),
                    format!("its value has {} bytes", record.value.len()),
                    format!("the largest has {VALUE_LEN_MAX}"),
                ));
            }
            let slot = self.index(record.topic, record.partition)?;
            ordinals.push(next[slot]);
            next[slot] += 1;
        }
        let written = self
            .iter()
            .enumerate()
            .filter(|(slot, _)| next[*slot] > ends[*slot])
            .map(|(slot, (topic, partition))| {
                let (first, records) = (Some(ends[slot]), next[slot] - ends[slot]);
                Written { topic, partition, first, records }
            })
            .collect();
        Ok((Ack { append_time_us, written }, ordinals))
    }
}

/// Where each topic-partition ends, for readers; changes wake those that wait.
pub(super) struct Ends {
    ends: Mutex<Vec<u64>>,
    moved: Condvar,
}

impl Ends {
    pub(super) fn new(ends: Vec<u64>) -> Self {
        Self { ends: Mutex::new(ends), moved: Condvar::new() }
    }

    pub(super) fn get(&self, slot: usize) -> u64 {
        locked(&self.ends)[slot]
    }

    pub(super) fn all(&self) -> Vec<u64> {
        locked(&self.ends).clone()
    }

    /// Shows what another process has committed.
    pub(super) fn set(&self, all: Vec<u64>) {
        *locked(&self.ends) = all;
        self.moved.notify_all();
    }

    /// Shows what an append has committed.
    pub(super) fn advance(&self, slots: &Slots, ack: &Ack) {
        let mut ends = locked(&self.ends);
        for Written { topic, partition, first, records } in &ack.written {
            if let (Ok(slot), Some(first)) = (slots.index(*topic, *partition), first) {
                ends[slot] = first + records;
            }
        }
        self.moved.notify_all();
    }

    /// Waits until one slot has more than its number of records; false when the deadline came first.
    pub(super) fn wait(&self, positions: &[(usize, u64)], deadline: Instant) -> bool {
        let mut ends = locked(&self.ends);
        loop {
            if positions.iter().any(|(slot, ordinal)| ends[*slot] > *ordinal) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            ends = self.moved.wait_timeout(ends, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Producers by name: of each name, only the newest may write.
#[derive(Default)]
pub(super) struct Fence {
    generations: HashMap<String, u64>,
}

impl Fence {
    /// A new generation of this name; the ones before are fenced.
    pub(super) fn enter(&mut self, name: &str) -> u64 {
        let generation = self.generations.entry(name.to_owned()).or_default();
        *generation += 1;
        *generation
    }

    pub(super) fn check(&self, name: &str, generation: u64) -> Result<(), LogError> {
        if self.generations.get(name) == Some(&generation) {
            return Ok(());
        }
        Err(LogError::new(
            LogErrorKind::Fenced,
            format!("producer {name} is fenced"),
            "a later producer of the same name took over",
            "stop writing; the later one goes on",
        ))
    }
}

/// The error of an append that its caller declined.
pub(super) fn declined() -> LogError {
    LogError::new(
        LogErrorKind::Declined,
        "the append was declined",
        "its caller did not accept the acknowledgement",
        "nothing was written",
    )
}

/// A lock whose holder panicked is taken all the same: whatever it guards changes only in steps that are whole.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// µs UTC by the machine's clock.
pub(super) fn wall_clock_us() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
