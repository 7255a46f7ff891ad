//! A log in memory, for tests and for what-if runs that nobody keeps. It keeps the whole promise of the trait: atomic
//! appends, fencing by name, ordinals, waiting with a deadline. It can be told to fail, to show another clock, and to
//! hold what no honest writer would have written.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::codec::VALUE_LEN_MAX;
use crate::log::{Ack, Log, LogError, LogErrorKind, Producer, ReadLimit, Record, StoredRecord, Written};
use crate::topics::{Topic, TopicName};

/// A log in memory; clones are handles of the same log.
#[derive(Clone, Default)]
pub struct MemoryLog {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    grown: Condvar,
}

#[derive(Clone, Default)]
struct State {
    partitions: BTreeMap<TopicName, u32>,
    records: BTreeMap<(TopicName, u32), Vec<StoredRecord>>,
    writers: BTreeMap<String, i64>,
    terms: bool,
    clock_us: Option<i64>,
    last_append_us: i64,
    failure: Option<(u64, Failure)>,
    /// An append that nobody is shown until the next producer of its name has begun.
    undecided: Option<(String, Ack, Vec<Record>)>,
    appends: u64,
}

/// What the next append is to suffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What the writer is told.
    pub kind: LogErrorKind,
    /// What becomes of the records, which the writer cannot know.
    pub fate: Fate,
}

/// What becomes of the records of an append that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// They are nowhere.
    Lost,
    /// They are there all the same.
    Committed,
    /// They will be there once the next producer of that name has begun, as with a transaction whose commit was on its way.
    Undecided,
}

impl Fate {
    /// Each of them.
    pub const ALL: [Self; 3] = [Self::Lost, Self::Committed, Self::Undecided];
}

impl MemoryLog {
    /// An empty log, always of term 0, as the embedded log is.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty log with so many partitions of these topics and of their staged twins; others have their default.
    pub fn with_partitions(partitions: &BTreeMap<Topic, u32>) -> Self {
        let log = Self::default();
        for (topic, count) in partitions {
            log.set_partitions(TopicName::live(*topic), *count);
            log.set_partitions(TopicName::staged(*topic), *count);
        }
        log
    }

    /// An empty log whose producers have terms, as those of Apache Kafka have.
    pub fn with_terms() -> Self {
        let log = Self::default();
        log.state().terms = true;
        log
    }

    /// Gives a topic another number of partitions than its default; only before it is written.
    pub fn set_partitions(&self, topic: TopicName, partitions: u32) {
        self.state().partitions.insert(topic, partitions);
    }

    /// Fixes the clock of append times; `None` is the system's clock.
    pub fn set_clock_us(&self, clock_us: Option<i64>) {
        self.state().clock_us = clock_us;
    }

    /// Lets the next append fail.
    pub fn fail_next(&self, failure: Failure) {
        self.fail_after(0, failure);
    }

    /// Lets an append fail once so many more have been committed.
    pub fn fail_after(&self, appends: u64, failure: Failure) {
        let mut state = self.state();
        state.failure = Some((state.appends + appends, failure));
    }

    /// Whatever was to fail no longer does.
    pub fn fail_no_more(&self) {
        self.state().failure = None;
    }

    /// Appends that have been committed.
    pub fn appends(&self) -> u64 {
        self.state().appends
    }

    /// A log of its own with the same records: what a copy of the disk would hold now.
    pub fn fork(&self) -> Self {
        let state = self.state().clone();
        Self { shared: Arc::new(Shared { state: Mutex::new(state), grown: Condvar::new() }) }
    }

    /// Changes records behind everybody's back. Ordinals and offsets are counted again afterwards.
    pub fn tamper(&self, topic: TopicName, partition: u32, change: impl FnOnce(&mut Vec<StoredRecord>)) {
        let mut state = self.state();
        let records = state.records.entry((topic, partition)).or_default();
        change(records);
        for (ordinal, stored) in records.iter_mut().enumerate() {
            stored.ordinal = ordinal as u64;
            stored.offset = ordinal as i64;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic in another thread leaves whole appends behind, so that the state is good.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn partitions(&self, topic: TopicName) -> u32 {
        self.partitions.get(&topic).copied().unwrap_or_else(|| topic.topic.default_partitions())
    }

    fn end(&self, topic: TopicName, partition: u32) -> u64 {
        self.records.get(&(topic, partition)).map_or(0, |records| records.len() as u64)
    }

    /// When an append would be taken: by the clock, and never before the one before it.
    fn append_time_us(&self) -> i64 {
        let clock_us = self.clock_us.unwrap_or_else(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            since.as_micros() as i64
        });
        clock_us.max(self.last_append_us)
    }

    fn commit(&mut self, ack: &Ack, batch: Vec<Record>) {
        self.last_append_us = ack.append_time_us;
        for record in batch {
            let stored = self.records.entry((record.topic, record.partition)).or_default();
            let ordinal = stored.len() as u64;
            let append_time_us = ack.append_time_us;
            stored.push(StoredRecord { ordinal, offset: ordinal as i64, append_time_us, record, wire_id: None });
        }
        self.appends += 1;
    }

    fn check_fence(&self, name: &str, generation: i64) -> Result<(), LogError> {
        if self.writers.get(name) == Some(&generation) {
            return Ok(());
        }
        let detail = format!("a newer producer {name} was opened");
        Err(LogError::new(LogErrorKind::Fenced, "another writer took over", detail, "stop this one"))
    }

    fn check_record(&self, record: &Record) -> Result<(), LogError> {
        let (name, partitions) = (record.topic.name(), self.partitions(record.topic));
        if record.partition >= partitions {
            let what = format!("topic {name} has no partition {}", record.partition);
            let detail = format!("it has {partitions}, counted from 0");
            return Err(LogError::new(LogErrorKind::Stop, what, detail, "give the topic more partitions"));
        }
        if record.value.len() > VALUE_LEN_MAX {
            let what = format!("a record for topic {name} is too large");
            let detail = format!("its value has {} bytes", record.value.len());
            return Err(LogError::new(LogErrorKind::Stop, what, detail, format!("the largest has {VALUE_LEN_MAX}")));
        }
        Ok(())
    }
}

impl Log for MemoryLog {
    fn partitions(&self, topic: TopicName) -> u32 {
        self.state().partitions(topic)
    }

    fn end(&self, topic: TopicName, partition: u32) -> Result<u64, LogError> {
        Ok(self.state().end(topic, partition))
    }

    fn read(
        &self,
        topic: TopicName,
        partition: u32,
        from: u64,
        limit: ReadLimit,
    ) -> Result<Vec<StoredRecord>, LogError> {
        let state = self.state();
        let Some(records) = state.records.get(&(topic, partition)) else { return Ok(Vec::new()) };
        let mut taken: Vec<StoredRecord> = Vec::new();
        let mut bytes = 0;
        for stored in records.iter().skip(from as usize) {
            bytes += stored.record.size();
            if !taken.is_empty() && (taken.len() >= limit.records || bytes > limit.bytes) {
                break;
            }
            taken.push(stored.clone());
        }
        Ok(taken)
    }

    fn wait(&self, positions: &[(TopicName, u32, u64)], deadline: Instant) -> Result<bool, LogError> {
        let mut state = self.state();
        loop {
            if positions.iter().any(|(topic, partition, ordinal)| state.end(*topic, *partition) > *ordinal) {
                return Ok(true);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            state = self.shared.grown.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn producer(&self, name: &str) -> Result<Box<dyn Producer>, LogError> {
        let mut state = self.state();
        let generation = state.writers.entry(name.to_owned()).or_default();
        *generation += 1;
        let generation = *generation;
        let terms = state.terms;
        if let Some((_, ack, batch)) = state.undecided.take_if(|(of, ..)| of == name) {
            state.commit(&ack, batch);
            self.shared.grown.notify_all();
        }
        Ok(Box::new(MemoryProducer { log: self.clone(), name: name.to_owned(), generation, terms }))
    }
}

struct MemoryProducer {
    log: MemoryLog,
    name: String,
    generation: i64,
    terms: bool,
}

impl Producer for MemoryProducer {
    fn term_after(&self, highest: i64) -> i64 {
        if self.terms { self.generation.max(highest + 1) } else { 0 }
    }

    fn append_if(&mut self, batch: &[Record], accept: &mut dyn FnMut(&Ack) -> bool) -> Result<Ack, LogError> {
        let mut state = self.log.state();
        state.check_fence(&self.name, self.generation)?;
        batch.iter().try_for_each(|record| state.check_record(record))?;
        let mut written: BTreeMap<(TopicName, u32), (u64, u64)> = BTreeMap::new();
        for record in batch {
            let first = state.end(record.topic, record.partition);
            written.entry((record.topic, record.partition)).or_insert((first, 0)).1 += 1;
        }
        let ack = Ack {
            append_time_us: state.append_time_us(),
            written: written
                .into_iter()
                .map(|((topic, partition), (first, records))| Written { topic, partition, first: Some(first), records })
                .collect(),
        };
        if !accept(&ack) {
            return Err(LogError::new(
                LogErrorKind::Declined,
                "the append was declined",
                "its guard did not accept the acknowledgement",
                "nothing was written",
            ));
        }
        let appends = state.appends;
        let failure = state.failure.take_if(|(after, _)| *after <= appends).map(|(_, failure)| failure);
        match failure.map(|failure| failure.fate) {
            None | Some(Fate::Committed) => {
                state.commit(&ack, batch.to_vec());
                self.log.shared.grown.notify_all();
            }
            Some(Fate::Undecided) => state.undecided = Some((self.name.clone(), ack.clone(), batch.to_vec())),
            Some(Fate::Lost) => {}
        }
        match failure {
            None => Ok(ack),
            Some(failure) => Err(LogError::new(failure.kind, "the append failed", "as it was told to", "go on")),
        }
    }

    fn sync(&mut self) -> Result<(), LogError> {
        self.log.state().check_fence(&self.name, self.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn record(partition: u32, value: &[u8]) -> Record {
        let topic = TopicName::live(Topic::Jobs);
        Record { topic, partition, key: b"k".to_vec(), value: value.to_vec(), headers: Vec::new() }
    }

    const ALL: ReadLimit = ReadLimit { records: 100, bytes: 1 << 20 };

    #[test]
    fn an_append_is_there_whole_or_not_at_all() {
        let log = MemoryLog::new();
        let mut producer = log.producer("a").unwrap();
        let ack = producer.append(vec![record(0, b"1"), record(1, b"2"), record(0, b"3")]).unwrap();
        let topic = TopicName::live(Topic::Jobs);
        let written = |partition, first, records| Written { topic, partition, first: Some(first), records };
        assert_eq!(ack.written, vec![written(0, 0, 2), written(1, 0, 1)]);
        assert!(producer.append_if(&[record(0, b"4")], &mut |_| false).is_err());
        assert!(producer.append(vec![record(0, b"4"), record(9, b"5")]).is_err());
        assert_eq!(log.read(topic, 0, 0, ALL).unwrap().len(), 2);
        assert_eq!(log.read(topic, 0, 1, ALL).unwrap()[0].record.value, b"3");
    }

    #[test]
    fn a_second_writer_of_a_name_fences_the_first() {
        let log = MemoryLog::with_terms();
        let mut first = log.producer("a").unwrap();
        let mut second = log.producer("a").unwrap();
        assert_eq!((first.term_after(0), second.term_after(1)), (1, 2));
        assert_eq!(first.append(vec![record(0, b"1")]).unwrap_err().kind, LogErrorKind::Fenced);
        second.append(vec![record(0, b"2")]).unwrap();
    }

    #[test]
    fn waiting_ends_with_a_record_or_with_its_deadline() {
        let log = MemoryLog::new();
        let topic = TopicName::live(Topic::Jobs);
        assert!(!log.wait(&[(topic, 0, 0)], Instant::now() + Duration::from_millis(5)).unwrap());
        let writer = log.clone();
        let thread = std::thread::spawn(move || writer.producer("a").unwrap().append(vec![record(0, b"1")]).unwrap());
        assert!(log.wait(&[(topic, 0, 0)], Instant::now() + Duration::from_secs(30)).unwrap());
        thread.join().unwrap();
    }
}
