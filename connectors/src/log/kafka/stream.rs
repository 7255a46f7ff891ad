//! One topic-partition as it is read: where reading stands, what was read ahead, and what a reader may be told of the end.
//!
//! The broker's last stable offset says where committed records end, but the last ones before it may be markers or belong to an
//! aborted transaction, and those are never shown. So the end is reached when a record next to that offset was read, or
//! when a fetch that began after the offset was asked for says that there is nothing more.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::Message;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Headers};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use solyx_schemas::codec::frame_id;
use solyx_schemas::log::{LogError, LogErrorKind, ReadLimit, Record, StoredRecord};
use solyx_schemas::topics::TopicName;

use super::bell::Bell;
use super::book::{Book, EVERY, Entry, fingerprint};
use super::client::Context;
use super::errors::{log_error, timed_out};
use super::ids::FrameIds;

/// Records and bytes read ahead of the reader.
const HELD: ReadLimit = ReadLimit { records: 8_192, bytes: 8 << 20 };
/// How far ahead it is quicker to read over records than to go to another place.
const READ_OVER_MAX: u64 = 20_000;
/// How long a broker may take to say where a topic is.
const METADATA_MAX: Duration = Duration::from_secs(2);
/// How long a broker may take to answer before the reader is told to try again.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(10);

/// What a stream needs of the log that it belongs to.
pub(super) struct Shared {
    pub consumer: Arc<BaseConsumer<Context>>,
    /// Asks where topics end. A broker answers a connection in order, so that a question on the consumer's own would wait
    /// behind its fetch.
    pub asker: BaseConsumer<Context>,
    pub bell: Arc<Bell>,
    pub ids: Arc<dyn FrameIds>,
}

/// One topic-partition.
pub(super) struct Stream {
    topic: TopicName,
    /// Full name on the broker.
    name: String,
    partition: u32,
    book: Book,
    queue: Option<PartitionQueue<Context>>,
    /// Ordinal of the next record to come.
    next: u64,
    /// Nothing comes from before this offset.
    next_offset: i64,
    /// The next record must be this one, if reading went on at a noted place.
    expected: Option<Entry>,
    held: VecDeque<StoredRecord>,
    held_bytes: usize,
    /// What is committed ends here at least; absent once that is reached.
    end_offset: Option<i64>,
    /// There is no record from `next_offset` to here: a fetch said so.
    clear_to: i64,
    /// Nothing is fetched, but what was counted holds.
    rests: bool,
}

impl Stream {
    pub fn new(topic: TopicName, name: String, partition: u32, book: Book) -> Self {
        Self {
            topic,
            name,
            partition,
            book,
            queue: None,
            next: 0,
            next_offset: 0,
            expected: None,
            held: VecDeque::new(),
            held_bytes: 0,
            end_offset: None,
            clear_to: 0,
            rests: false,
        }
    }

    /// Reads on at an ordinal: what is held before it goes, what lies between is read over, or reading begins elsewhere.
    pub fn go_to(&mut self, shared: &Shared, from: u64) -> Result<(), LogError> {
        if self.queue.is_some() {
            let first = self.held.front().map_or(self.next, |stored| stored.ordinal);
            if (first..=self.next).contains(&from) {
                self.drop_before(from);
                return Ok(());
            }
            if from > self.next && from - self.next <= READ_OVER_MAX {
                return self.read_over(shared, from);
            }
        }
        let noted = self.book.at_or_before(from);
        let ahead = self.queue.is_some() && from > self.next;
        if !(ahead && noted.is_none_or(|noted| noted.ordinal <= self.next)) {
            self.begin(shared, noted)?;
        }
        self.read_over(shared, from)
    }

    /// Begins to fetch what is not fetched yet, so that what is asked for soon is there.
    pub fn begin_towards(&mut self, shared: &Shared, from: u64) -> Result<(), LogError> {
        let first = self.held.front().map_or(self.next, |stored| stored.ordinal);
        if self.queue.is_some() && (first..=self.next + READ_OVER_MAX).contains(&from) {
            return Ok(());
        }
        self.begin(shared, self.book.at_or_before(from))
    }

    /// Counts on to where committed records end; its ordinal.
    pub fn count_to_end(&mut self, shared: &Shared) -> Result<u64, LogError> {
        if self.queue.is_none() {
            let noted = self.book.at_or_before(u64::MAX);
            self.begin(shared, noted)?;
        }
        while self.pump(shared, true)? {
            // Reading ahead stops at what may be held; counting does not.
            if self.is_full() {
                self.held.clear();
                self.held_bytes = 0;
            }
        }
        Ok(self.next)
    }

    /// Takes what has come from an ordinal on, and waits for more while nothing is held and it is known that there is something.
    /// The ordinal up to which records are held.
    ///
    /// A reader may stand beyond the end that it sees: a commit is over before its markers are everywhere, and its writer knows
    /// where it stands. What shows then of records before is not for that reader.
    pub fn fill(&mut self, shared: &Shared, from: u64) -> Result<u64, LogError> {
        loop {
            self.drop_before(from);
            if !self.pump(shared, self.held.is_empty())? {
                return Ok(self.next);
            }
        }
    }

    /// Takes what has come, without waiting and without giving up what is held: whoever waits beyond it may still read it.
    pub fn watch(&mut self, shared: &Shared, ordinal: u64) -> Result<u64, LogError> {
        if self.queue.is_none() || ordinal > self.next {
            self.go_to(shared, ordinal)?;
        }
        while self.pump(shared, false)? {}
        Ok(self.next)
    }

    /// Hands over what is held from the front, with our schema ids. One whose id cannot be looked up now stays; it is an
    /// error only when it is the first.
    pub fn take(&mut self, shared: &Shared, limit: ReadLimit) -> Result<Vec<StoredRecord>, LogError> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some(stored) = self.held.front_mut() {
            let size = stored.record.size();
            bytes += size;
            if !taken.is_empty() && (taken.len() >= limit.records || bytes > limit.bytes) {
                break;
            }
            let before = frame_id(&stored.record.value);
            match shared.ids.to_ours(&mut stored.record.value) {
                Err(error) if taken.is_empty() => return Err(error),
                Err(_) => break,
                Ok(()) => {
                    stored.wire_id = before.filter(|_| frame_id(&stored.record.value) != before);
                    taken.extend(self.pop());
                }
            }
        }
        Ok(taken)
    }

    /// Looks anew where the topic-partition ends; whatever is committed by now will be read before its end is said to be
    /// reached. Where to fetch from again, if that is not known already: a fetch under way may say that it found the end of
    /// before. A topic-partition that nobody reads is asked when somebody does.
    pub fn look_up(&mut self, shared: &Shared) -> Result<Option<(&str, i32, i64)>, LogError> {
        if self.queue.is_none() {
            return Ok(None);
        }
        let end = self.stable_end(shared)?;
        if end <= self.next_offset.max(self.clear_to) {
            return Ok(None);
        }
        self.end_offset = Some(end);
        Ok(Some((&self.name, self.partition.cast_signed(), self.next_offset)))
    }

    /// Gives the topic-partition up if it was looked up where it ends and nothing has said yet that it was reached.
    pub fn forget_end(&mut self, shared: &Shared) {
        if self.end_offset.is_some() {
            self.give_up(shared);
        }
    }

    /// The ordinal of a record at an offset that is committed and was not read before.
    pub fn ordinal_at(&mut self, shared: &Shared, offset: i64) -> Result<Option<u64>, LogError> {
        if self.queue.is_none() && self.rests {
            self.fetch(shared)?;
        }
        let deadline = Instant::now() + ANSWER_MAX;
        while self.queue.is_some() {
            if let Some(found) = self.held.iter().find(|stored| stored.offset >= offset) {
                return Ok((found.offset == offset).then_some(found.ordinal));
            }
            if self.next_offset > offset {
                return Ok(None);
            }
            if self.is_full() {
                self.held.clear();
                self.held_bytes = 0;
            }
            if !self.poll(shared, Duration::from_millis(20))? && Instant::now() > deadline {
                return Err(self.too_slow(shared, deadline));
            }
        }
        Ok(None)
    }

    /// Fetches nothing more for now, but remembers what was counted.
    pub fn rest(&mut self, shared: &Shared) {
        self.give_up(shared);
        self.rests = true;
    }

    /// Gives the topic-partition up: nothing more is fetched of it until somebody reads it.
    fn give_up(&mut self, shared: &Shared) {
        if self.queue.take().is_some()
            && let Err(error) = shared.consumer.incremental_unassign(&self.list(None))
        {
            tracing::debug!(%error, topic = self.name, partition = self.partition, "nothing to give up");
        }
        self.held.clear();
        self.held_bytes = 0;
        self.end_offset = None;
        self.clear_to = 0;
    }

    fn pop(&mut self) -> Option<StoredRecord> {
        let stored = self.held.pop_front()?;
        self.held_bytes -= stored.record.size();
        Some(stored)
    }

    fn drop_before(&mut self, ordinal: u64) {
        while self.held.front().is_some_and(|stored| stored.ordinal < ordinal) {
            self.pop();
        }
    }

    fn is_full(&self) -> bool {
        self.held.len() >= HELD.records || self.held_bytes >= HELD.bytes
    }

    fn list(&self, from: Option<i64>) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        let partition = self.partition.cast_signed();
        let mut element = list.add_partition(&self.name, partition);
        if let Some(from) = from {
            // The offset of a partition that was just added can be set.
            let _ = element.set_offset(Offset::Offset(from));
        }
        list
    }

    /// Begins at a noted place, or at the first record.
    fn begin(&mut self, shared: &Shared, noted: Option<Entry>) -> Result<(), LogError> {
        self.give_up(shared);
        (self.next, self.next_offset) = noted.map_or((0, 0), |noted| (noted.ordinal, noted.offset));
        self.expected = noted;
        let end = self.stable_end(shared)?;
        if end < self.next_offset {
            return self.begin_anew(shared, "it is shorter than it was");
        }
        self.end_offset = (end > self.next_offset).then_some(end);
        self.fetch(shared)
    }

    /// Fetches from where counting stands.
    fn fetch(&mut self, shared: &Shared) -> Result<(), LogError> {
        self.rests = false;
        let mut queue =
            shared.consumer.split_partition_queue(&self.name, self.partition.cast_signed()).ok_or_else(|| {
                LogError::new(
                    LogErrorKind::Stop,
                    format!("{} {} cannot be read", self.name, self.partition),
                    "the client has no queue for it",
                    "`solyx topics diff` says what is missing",
                )
            })?;
        let bell = Arc::clone(&shared.bell);
        queue.set_nonempty_callback(move || bell.ring());
        self.queue = Some(queue);
        shared.consumer.incremental_assign(&self.list(Some(self.next_offset))).map_err(|e| self.error(&e))
    }

    /// The topic is not the one that the book is of.
    fn begin_anew(&mut self, shared: &Shared, why: &str) -> Result<(), LogError> {
        tracing::warn!(
            topic = self.name,
            partition = self.partition,
            why,
            "the topic is another one; it is counted anew"
        );
        self.book.clear();
        self.begin(shared, None)
    }

    /// Where committed records end for readers like this one. Records must not have been deleted before.
    fn stable_end(&self, shared: &Shared) -> Result<i64, LogError> {
        self.end_seen_by(&shared.asker)
    }

    /// The offset behind the last record that a client may read.
    pub fn end_seen_by(&self, asker: &BaseConsumer<Context>) -> Result<i64, LogError> {
        let partition = self.partition.cast_signed();
        let begun = Instant::now();
        let (low, end) = loop {
            match asker.fetch_watermarks(&self.name, partition, ANSWER_MAX) {
                Ok(found) => break found,
                Err(error) => {
                    let error = self.error(&error);
                    if error.kind != LogErrorKind::Retry || begun.elapsed() > ANSWER_MAX {
                        return Err(error);
                    }
                    std::thread::sleep(Duration::from_millis(100));
                    // A client that has lost a broker knows nothing of a topic until it has heard of it again.
                    let heard = asker.fetch_metadata(Some(&self.name), METADATA_MAX);
                    drop(heard.map_err(|error| tracing::debug!(%error, topic = self.name, "not heard of")));
                }
            }
        };
        if low > 0 {
            return Err(LogError::new(
                LogErrorKind::Stop,
                format!("{} {} lost its first records", self.name, self.partition),
                format!("it begins at offset {low}, expected 0"),
                "set retention.ms and retention.bytes to -1, and restore the topic from an archive",
            ));
        }
        Ok(end)
    }

    fn read_over(&mut self, shared: &Shared, from: u64) -> Result<(), LogError> {
        loop {
            self.drop_before(from);
            if self.next >= from || !self.pump(shared, true)? {
                return Ok(());
            }
        }
    }

    /// One step of reading ahead; false when there is nothing to be had now: everything is held that may be, or has come.
    /// With `wait`, not before the end that is known of is reached.
    fn pump(&mut self, shared: &Shared, wait: bool) -> Result<bool, LogError> {
        if self.is_full() {
            return Ok(false);
        }
        if self.poll(shared, Duration::ZERO)? {
            return Ok(true);
        }
        let begun = Instant::now();
        while wait && self.end_offset.is_some() {
            if self.poll(shared, Duration::from_millis(100))? {
                return Ok(true);
            }
            if begun.elapsed() > ANSWER_MAX {
                return Err(self.too_slow(shared, begun));
            }
        }
        Ok(false)
    }

    /// Takes one record, or the news of the end; false when nothing came.
    fn poll(&mut self, shared: &Shared, timeout: Duration) -> Result<bool, LogError> {
        let Some(queue) = &self.queue else { return Ok(false) };
        match queue.poll(timeout) {
            None => Ok(false),
            Some(Err(KafkaError::PartitionEOF(_))) => {
                self.clear_to = self.end_offset.take().unwrap_or(self.clear_to);
                Ok(false)
            }
            Some(Err(error)) => Err(self.error(&error)),
            Some(Ok(message)) => {
                let stored = stored_record(&message, self.topic, self.partition, self.next);
                drop(message);
                self.hold(shared, stored)
            }
        }
    }

    fn hold(&mut self, shared: &Shared, stored: StoredRecord) -> Result<bool, LogError> {
        if stored.offset < self.next_offset {
            return Ok(true);
        }
        let entry = |stored: &StoredRecord| Entry {
            ordinal: stored.ordinal,
            offset: stored.offset,
            fingerprint: fingerprint(&stored.record),
        };
        if let Some(expected) = self.expected.take()
            && entry(&stored) != expected
        {
            self.begin_anew(shared, "a record is not where it was")?;
            return Ok(true);
        }
        if stored.ordinal.is_multiple_of(EVERY) {
            self.book.note(entry(&stored));
        }
        self.next = stored.ordinal + 1;
        self.next_offset = stored.offset + 1;
        self.end_offset = self.end_offset.filter(|end| *end > self.next_offset);
        self.held_bytes += stored.record.size();
        self.held.push_back(stored);
        Ok(true)
    }

    fn error(&self, error: &KafkaError) -> LogError {
        log_error(&format!("reading {} {}", self.name, self.partition), error)
    }

    fn too_slow(&self, shared: &Shared, since: Instant) -> LogError {
        let doing = format!("reading {} {}", self.name, self.partition);
        if let Some(refused) = shared.consumer.context().refused(&doing) {
            return refused;
        }
        let said = shared.consumer.context().trouble_since(since);
        let detail = said.unwrap_or_else(|| format!("no answer for {} s", ANSWER_MAX.as_secs()));
        timed_out(LogErrorKind::Retry, &doing, detail)
    }
}

/// A header; none where its name is no UTF-8, at which rdkafka 0.39 panics. No name of ours is such.
fn header(headers: &BorrowedHeaders, place: usize) -> Option<(String, Vec<u8>)> {
    let read = || {
        let header = headers.try_get(place)?;
        Some((header.key.to_owned(), header.value.unwrap_or_default().to_vec()))
    };
    // Nothing is shared with what panics.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(read)).unwrap_or_else(|_| {
        tracing::warn!(place, "a header is passed over: its name is no UTF-8");
        None
    })
}

fn stored_record(message: &BorrowedMessage<'_>, topic: TopicName, partition: u32, ordinal: u64) -> StoredRecord {
    let value = message.payload().unwrap_or_default().to_vec();
    let headers = message
        .headers()
        .map_or_else(Vec::new, |headers| (0..headers.count()).filter_map(|place| header(headers, place)).collect());
    let record = Record { topic, partition, key: message.key().unwrap_or_default().to_vec(), value, headers };
    let append_time_us = message.timestamp().to_millis().unwrap_or(0) * 1_000;
    StoredRecord { ordinal, offset: message.offset(), append_time_us, record, wire_id: None }
}
