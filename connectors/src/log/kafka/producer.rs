//! Writing: an append is one transaction of an idempotent producer. Whoever begins a producer of a name fences the one before.
//!
//! After an error in a transaction the producer is of no more use, since whether the transaction came through is not known: a
//! new one is begun, which waits until the old one's is decided, and the log is read to see what was committed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{ClientContext, Message};
use solyx_schemas::codec::{Codec, VALUE_LEN_MAX};
use solyx_schemas::log::{Ack, LogError, LogErrorKind, Producer, Record, Written};
use solyx_schemas::topics::TopicName;

use super::client::Context;
use super::config::SOCKET_TIMEOUT_MS;
use super::errors::{code_error, log_error, timed_out};
use super::{Inner, topic_name};
use crate::log::heads::{declined, locked, wall_clock_us};

/// Largest request: the largest value with its key and headers.
pub(super) const REQUEST_BYTES_MAX: usize = VALUE_LEN_MAX + (1 << 20);
/// How long the coordinator may take to end what a fenced producer began, before it is tried again.
const FENCE_STEP: Duration = Duration::from_secs(5);
/// How long the record that others failed with is waited for.
const CAUSE_MAX: Duration = Duration::from_millis(500);
/// How long fencing may take in all.
const FENCE_MAX: Duration = Duration::from_secs(60);

/// What became of one record.
struct Delivery {
    place: usize,
    result: Result<(i64, i64), RDKafkaErrorCode>,
}

/// A context that passes deliveries on.
struct Deliveries {
    context: Context,
    sender: Sender<Delivery>,
}

impl ClientContext for Deliveries {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.context.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.context.error(error, reason);
    }

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.context.generate_oauth_token(config)
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, place: usize) {
        let result = match result {
            Ok(message) => Ok((message.offset(), message.timestamp().to_millis().unwrap_or(0))),
            Err((error, _)) => Err(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail)),
        };
        // Nobody listens any more once the producer was given up.
        let _ = self.sender.send(Delivery { place, result });
    }
}

/// Where this producer has left a topic-partition: the next record has this ordinal if it gets this offset.
#[derive(Clone, Copy)]
struct Tail {
    ordinal: u64,
    offset: i64,
}

/// When transactions end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// With each append.
    Each,
    /// With one of many appends: what is not committed yet is lost with the process, as a whole. For writers that nobody waits for
    /// and that find out from the log how far they came.
    Many,
}

/// Appends, records, bytes and time of one transaction of many appends.
const GROUP_APPENDS: usize = 1_000;
const GROUP_RECORDS: usize = 20_000;
const GROUP_BYTES: usize = 16 << 20;
const GROUP_TIME: Duration = Duration::from_millis(500);

/// A transaction that is open.
struct Open {
    since: Instant,
    appends: usize,
    bytes: usize,
    /// What was sent: where to, and the offset that it must get for the ordinals told to be true.
    sent: Vec<Sent>,
}

struct Sent {
    topic: TopicName,
    partition: u32,
    expected: Option<i64>,
}

/// What the broker said of an open transaction's records.
struct Delivered {
    offsets: Vec<i64>,
    append_time_us: i64,
}

/// A writer.
pub(super) struct KafkaProducer {
    inner: Arc<Inner>,
    producer: ThreadedProducer<Deliveries>,
    deliveries: Receiver<Delivery>,
    timeout: Duration,
    grouping: Grouping,
    tails: BTreeMap<(TopicName, u32), Tail>,
    open: Option<Open>,
    /// Why it is of no more use.
    failed: Option<LogError>,
}

impl KafkaProducer {
    /// Fences whoever wrote under this name, and waits until what that one began is ended.
    pub fn begin(inner: Arc<Inner>, name: &str) -> Result<Self, LogError> {
        let config = &inner.config;
        let id = format!("{}.{}", config.prefix, config.writer(name));
        let timeout_ms = config.transaction_timeout_ms;
        let mut client = config.client()?;
        client
            .set("transactional.id", &id)
            .set("transaction.timeout.ms", timeout_ms.to_string())
            // The client takes no longer time for a question than for a transaction.
            .set("socket.timeout.ms", timeout_ms.min(SOCKET_TIMEOUT_MS).to_string())
            .set("message.timeout.ms", (timeout_ms * 9 / 10).to_string())
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("linger.ms", "0")
            .set("compression.type", "lz4")
            .set("message.max.bytes", REQUEST_BYTES_MAX.to_string())
            .set("queue.buffering.max.messages", "200000")
            .set("queue.buffering.max.kbytes", "262144");
        let (sender, deliveries) = channel();
        let context = Deliveries { context: Context::new(config.security.clone()), sender };
        let producer: ThreadedProducer<Deliveries> =
            client.create_with_context(context).map_err(|e| log_error("making a producer", &e))?;
        fence(&producer, &format!("fencing earlier writers of {id}"))?;
        let timeout = Duration::from_millis(timeout_ms.into());
        let grouping = inner.grouping;
        let tails = BTreeMap::new();
        Ok(Self { inner, producer, deliveries, timeout, grouping, tails, open: None, failed: None })
    }

    fn write(&mut self, batch: &[Record], accept: &mut dyn FnMut(&Ack) -> bool) -> Result<Ack, LogError> {
        if self.open.is_none() {
            self.producer.begin_transaction().map_err(|e| log_error("beginning a transaction", &e))?;
            self.open = Some(Open { since: Instant::now(), appends: 0, bytes: 0, sent: Vec::new() });
        }
        let begun = self.open.as_ref().map_or(0, |open| open.sent.len());
        let mut ack = Ack { append_time_us: wall_clock_us(), written: self.expect(batch) };
        self.send(batch, begun)?;
        let known = ack.written.iter().all(|written| written.first.is_some());
        if self.grouping == Grouping::Many && known && self.open.as_ref().is_some_and(|open| !open.is_full()) {
            return if accept(&ack) { Ok(ack) } else { self.take_back().and_then(|()| Err(declined())) };
        }
        let delivered = self.delivered()?;
        if let Some(misplaced) = self.misplaced(&delivered, 0..begun) {
            // Ordinals that were told are not true: somebody else has written.
            return Err(misplaced);
        }
        ack.append_time_us = delivered.append_time_us;
        if !accept(&Ack { written: unnumbered(&ack.written), ..ack }) {
            return self.take_back().and_then(|()| Err(declined()));
        }
        let offsets = &delivered.offsets[begun..];
        for written in &mut ack.written {
            let place = (written.topic, written.partition);
            let tail = self.tails.get(&place).map(|tail| tail.offset - 1);
            if tail != last_of(batch, offsets, place) {
                written.first = None;
                self.tails.remove(&place);
            }
        }
        self.commit()?;
        self.count(batch, offsets, &mut ack)?;
        Ok(ack)
    }

    /// Notes what is about to be sent; the ordinals, as far as they are known from what was written before.
    fn expect(&mut self, batch: &[Record]) -> Vec<Written> {
        let Self { tails, open, .. } = self;
        let mut counts: BTreeMap<(TopicName, u32), Written> = BTreeMap::new();
        for record in batch {
            let place = (record.topic, record.partition);
            let tail = tails.get_mut(&place);
            let written = counts.entry(place).or_insert_with(|| Written {
                topic: record.topic,
                partition: record.partition,
                first: tail.as_ref().map(|tail| tail.ordinal),
                records: 0,
            });
            written.records += 1;
            let expected = tail.map(|tail| {
                tail.ordinal += 1;
                tail.offset += 1;
                tail.offset - 1
            });
            if let Some(open) = open {
                open.bytes += record.size();
                open.sent.push(Sent { topic: record.topic, partition: record.partition, expected });
            }
        }
        if let Some(open) = open {
            open.appends += 1;
        }
        counts.into_values().collect()
    }

    fn send(&self, batch: &[Record], begun: usize) -> Result<(), LogError> {
        let mut value = Vec::new();
        for (place, record) in batch.iter().enumerate() {
            let name = &self.inner.name(record.topic);
            value.clear();
            value.extend_from_slice(&record.value);
            // What does not decode is hashed as it is written, and so is written as it is.
            if self.inner.shared.ids.differ() && Codec::global().decode_record(record).is_ok() {
                self.inner.shared.ids.to_wire(&mut value)?;
            }
            let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
            for (key, value) in &record.headers {
                headers = headers.insert(Header { key, value: Some(value) });
            }
            let mut message = BaseRecord::with_opaque_to(name, begun + place)
                .partition(record.partition.cast_signed())
                .key(&record.key)
                .payload(&value)
                .headers(headers);
            let deadline = Instant::now() + self.timeout;
            while let Err((error, unsent)) = self.producer.send(message) {
                let full = error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull);
                if !full || Instant::now() > deadline {
                    let failed = error.rdkafka_error_code().is_some_and(is_consequence);
                    let error = log_error(&format!("writing to {name}"), &error);
                    return Err(if failed { self.cause(error) } else { error });
                }
                std::thread::sleep(Duration::from_millis(1));
                message = unsent;
            }
        }
        Ok(())
    }

    /// Waits for the broker's word on each record of the open transaction.
    fn delivered(&self) -> Result<Delivered, LogError> {
        let deadline = Instant::now() + self.timeout;
        let sent = self.open.as_ref().map_or(&[][..], |open| &open.sent);
        let mut delivered = Delivered { offsets: vec![0; sent.len()], append_time_us: 0 };
        for _ in sent {
            let delivery = self.deliveries.recv_timeout(deadline.saturating_duration_since(Instant::now()));
            let Delivery { place, result } = delivery.map_err(|error| match error {
                RecvTimeoutError::Timeout => timed_out(LogErrorKind::Restart, "writing", "no acknowledgement came"),
                RecvTimeoutError::Disconnected => {
                    timed_out(LogErrorKind::Restart, "writing", "the client ended by itself")
                }
            })?;
            let (offset, append_ms) = result.map_err(|code| {
                let doing = format!("writing to {}", self.inner.name(sent[place].topic));
                let error = code_error(&doing, code);
                if is_consequence(code) { self.cause(error) } else { error }
            })?;
            delivered.offsets[place] = offset;
            if place + 1 == sent.len() {
                delivered.append_time_us = append_ms * 1_000;
            }
        }
        Ok(delivered)
    }

    /// What one failed for, when all records of a transaction fail: it alone says why.
    fn cause(&self, error: LogError) -> LogError {
        let deadline = Instant::now() + CAUSE_MAX;
        let sent = self.open.as_ref().map_or(&[][..], |open| &open.sent);
        while let Ok(delivery) = self.deliveries.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            if let (Err(code), Some(sent)) = (delivery.result, sent.get(delivery.place))
                && !is_consequence(code)
            {
                return code_error(&format!("writing to {}", self.inner.name(sent.topic)), code);
            }
        }
        // A transaction that has failed cannot be committed; asked to, the client says why it failed.
        match self.producer.commit_transaction(CAUSE_MAX) {
            Err(KafkaError::Transaction(inner)) if !is_consequence(inner.code()) => {
                let mut cause = code_error(&error.what.replace(" failed", ""), inner.code());
                cause.detail = inner.to_string();
                cause
            }
            _ => self.producer.context().context.refused(&error.what).unwrap_or(error),
        }
    }

    /// The first of these records that is not where it was to be.
    fn misplaced(&self, delivered: &Delivered, places: Range<usize>) -> Option<LogError> {
        let sent = &self.open.as_ref()?.sent;
        let place = places
            .into_iter()
            .find(|place| sent[*place].expected.is_some_and(|expected| expected != delivered.offsets[*place]))?;
        let (topic, partition) = (self.inner.name(sent[place].topic), sent[place].partition);
        let detail = format!(
            "{topic} {partition}: offset {}, expected {}",
            delivered.offsets[place],
            sent[place].expected.unwrap_or_default()
        );
        let hint = "nothing was written; end the other writer, or go on without grouped appends";
        Some(LogError::new(LogErrorKind::Restart, "somebody else writes to the same topics", detail, hint))
    }

    fn commit(&mut self) -> Result<(), LogError> {
        self.producer.commit_transaction(self.timeout).map_err(|e| log_error("committing a transaction", &e))?;
        let places: BTreeSet<(TopicName, u32)> =
            self.open.take().into_iter().flat_map(|open| open.sent).map(|sent| (sent.topic, sent.partition)).collect();
        for place in places {
            // After the last record comes the marker that ends the transaction.
            if let Some(tail) = self.tails.get_mut(&place) {
                tail.offset += 1;
            }
        }
        Ok(())
    }

    /// Aborts. Offsets were used up: the next records are counted anew.
    fn take_back(&mut self) -> Result<(), LogError> {
        self.producer.abort_transaction(self.timeout).map_err(|e| log_error("taking back a transaction", &e))?;
        let alone = self.open.take().is_some_and(|open| open.appends == 1);
        self.tails.clear();
        if alone {
            return Ok(());
        }
        let (what, detail) = ("an append was declined in a transaction of many", "the others went with it");
        Err(LogError::new(LogErrorKind::Restart, what, detail, "read to the end and go on"))
    }

    /// The ordinals of what was committed, as far as they can be counted by what this handle has read.
    fn count(&mut self, batch: &[Record], offsets: &[i64], ack: &mut Ack) -> Result<(), LogError> {
        for written in ack.written.iter_mut().filter(|written| written.first.is_none()) {
            let place = (written.topic, written.partition);
            let Some(last) = last_of(batch, offsets, place) else { continue };
            let first = last + 1 - written.records.cast_signed();
            if first_of(batch, offsets, place) != Some(first) {
                // Somebody else's records stand between these.
                continue;
            }
            let mut stream = locked(self.inner.stream(written.topic, written.partition)?);
            written.first = stream.ordinal_at(&self.inner.shared, first)?;
            if written.first.is_some() && !written.topic.topic.is_input() {
                // Only its own writer is asked for the ordinals of outputs from now on.
                stream.rest(&self.inner.shared);
            }
            match written.first {
                Some(ordinal) => {
                    let tail = Tail { ordinal: ordinal + written.records, offset: last + 2 };
                    self.tails.insert(place, tail)
                }
                None => self.tails.remove(&place),
            };
        }
        Ok(())
    }
}

impl KafkaProducer {
    /// After any error but a declined append this producer is of no more use, and what to do is to begin anew.
    fn settled<T>(&mut self, outcome: Result<T, LogError>) -> Result<T, LogError> {
        outcome.map_err(|mut error| {
            if error.kind == LogErrorKind::Declined {
                return error;
            }
            if error.kind == LogErrorKind::Retry {
                error.kind = LogErrorKind::Restart;
            }
            self.failed = Some(error.clone());
            error
        })
    }
}

impl Open {
    fn is_full(&self) -> bool {
        self.appends >= GROUP_APPENDS
            || self.sent.len() >= GROUP_RECORDS
            || self.bytes >= GROUP_BYTES
            || self.since.elapsed() >= GROUP_TIME
    }
}

/// Whether a record failed only because its transaction had failed.
fn is_consequence(code: RDKafkaErrorCode) -> bool {
    matches!(code, RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight | RDKafkaErrorCode::State)
}

/// Takes the name over.
fn fence(producer: &ThreadedProducer<Deliveries>, doing: &str) -> Result<(), LogError> {
    let begun = Instant::now();
    while let Err(error) = producer.init_transactions(FENCE_STEP) {
        let context = &producer.context().context;
        if let Some(refused) = context.refused(doing) {
            return Err(refused);
        }
        let retriable = matches!(&error, KafkaError::Transaction(inner) if inner.is_retriable());
        if !retriable || begun.elapsed() > FENCE_MAX {
            let mut error = log_error(doing, &error);
            if let Some(said) = context.trouble_since(begun) {
                error.detail = format!("{}: {said}", error.detail);
            }
            return Err(error);
        }
    }
    Ok(())
}

fn offsets_of(batch: &[Record], offsets: &[i64], place: (TopicName, u32)) -> impl Iterator<Item = i64> {
    let of_it = batch.iter().zip(offsets).filter(move |(record, _)| (record.topic, record.partition) == place);
    of_it.map(|(_, offset)| *offset)
}

fn first_of(batch: &[Record], offsets: &[i64], place: (TopicName, u32)) -> Option<i64> {
    offsets_of(batch, offsets, place).min()
}

fn last_of(batch: &[Record], offsets: &[i64], place: (TopicName, u32)) -> Option<i64> {
    offsets_of(batch, offsets, place).max()
}

fn unnumbered(written: &[Written]) -> Vec<Written> {
    written.iter().map(|written| Written { first: None, ..*written }).collect()
}

fn check(record: &Record, partitions: u32, prefix: &str) -> Result<(), LogError> {
    let refused = |what: String, detail: String, hint: &str| Err(LogError::new(LogErrorKind::Stop, what, detail, hint));
    let name = topic_name(prefix, record.topic);
    if record.partition >= partitions {
        let detail = format!("it has {partitions}, counted from 0");
        return refused(
            format!("topic {name} has no partition {}", record.partition),
            detail,
            "`solyx topics diff` says more",
        );
    }
    if record.value.len() > VALUE_LEN_MAX {
        let detail = format!("its value has {} bytes", record.value.len());
        return refused(
            format!("a record for topic {name} is too large"),
            detail,
            &format!("the largest has {VALUE_LEN_MAX}"),
        );
    }
    Ok(())
}

impl Producer for KafkaProducer {
    fn term_after(&self, highest: i64) -> i64 {
        let next = |last: i64| Some(last.max(highest) + 1);
        // What an earlier producer of this process wrote may have come to nothing, and its term with it.
        self.inner
            .last_term
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
            .map_or(highest + 1, |last| last.max(highest) + 1)
    }

    fn append_if(&mut self, batch: &[Record], accept: &mut dyn FnMut(&Ack) -> bool) -> Result<Ack, LogError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        for record in batch {
            check(record, self.inner.slots.count(record.topic), &self.inner.config.prefix)?;
        }
        if batch.is_empty() {
            return Ok(Ack { append_time_us: 0, written: Vec::new() });
        }
        let written = self.write(batch, accept);
        self.settled(written)
    }

    /// A committed transaction is on as many replicas as `min_insync_replicas` says.
    fn sync(&mut self) -> Result<(), LogError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let Some(open) = &self.open else { return Ok(()) };
        let records = open.sent.len();
        let committed = self.delivered().and_then(|delivered| match self.misplaced(&delivered, 0..records) {
            Some(misplaced) => Err(misplaced),
            None => self.commit(),
        });
        self.settled(committed)
    }
}
