//! Writing: an append is one transaction of an idempotent producer. Whoever begins a producer of a name fences the one before.
//!
//! After an error in a transaction the producer is of no more use, since whether the transaction came through is not known: a
//! new one is begun, which waits until the old one's is decided, and the log is read to see what was committed.

mod delivery;
mod group;
mod ordinals;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};
use solyx_schemas::codec::{Codec, VALUE_LEN_MAX};
use solyx_schemas::log::{Ack, LogError, LogErrorKind, Producer, Record, Written};

pub use self::group::Grouping;

use self::delivery::{Deliveries, Delivery, is_consequence};
use self::group::Open;
use self::ordinals::{Extent, Place, Tails};
use super::client::Context;
use super::config::SOCKET_TIMEOUT_MS;
use super::errors::{code_error, log_error};
use super::{Inner, topic_name};
use crate::log::heads::{declined, locked, wall_clock_us};

/// Largest request: the largest value with its key and headers.
pub(super) const REQUEST_BYTES_MAX: usize = VALUE_LEN_MAX + (1 << 20);
/// How long the coordinator may take to end what a fenced producer began, before it is tried again.
const FENCE_STEP: Duration = Duration::from_secs(5);
/// How long the client may take to count what it has told us of, and how often that is looked at.
const SETTLE_MAX: Duration = Duration::from_millis(20);
const SETTLE_STEP: Duration = Duration::from_micros(50);
/// How long the record that others failed with is waited for.
const CAUSE_MAX: Duration = Duration::from_millis(500);
/// How long fencing may take in all.
const FENCE_MAX: Duration = Duration::from_secs(60);

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
    tails: Tails,
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
        let (context, deliveries) = Deliveries::new(Context::new(config.security.clone()));
        let producer: ThreadedProducer<Deliveries> =
            client.create_with_context(context).map_err(|e| log_error("making a producer", &e))?;
        fence(&producer, &format!("fencing earlier writers of {id}"))?;
        let timeout = Duration::from_millis(timeout_ms.into());
        let grouping = inner.grouping;
        let tails = Tails::default();
        Ok(Self { inner, producer, deliveries, timeout, grouping, tails, open: None, failed: None })
    }

    fn write(&mut self, batch: &[Record], accept: &mut dyn FnMut(&Ack) -> bool) -> Result<Ack, LogError> {
        if self.open.is_none() {
            self.producer.begin_transaction().map_err(|e| log_error("beginning a transaction", &e))?;
        }
        let open = self.open.get_or_insert_with(Open::new);
        let begun = open.sent.len();
        let mut ack = Ack { append_time_us: wall_clock_us(), written: self.tails.expect(batch, open) };
        let known = ack.written.iter().all(|written| written.first.is_some());
        let goes_on = self.grouping == Grouping::Many && known && !open.is_full();
        self.send(batch, begun)?;
        if goes_on {
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
        let extents = Extent::of(batch, &delivered.offsets[begun..]);
        for written in &mut ack.written {
            let place = (written.topic, written.partition);
            if !extents.get(&place).is_some_and(|extent| self.tails.confirm(place, *extent)) {
                written.first = None;
            }
        }
        self.commit()?;
        self.count(&extents, &mut ack)?;
        Ok(ack)
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
            let Delivery { place, result } = delivery::next(&self.deliveries, deadline)?;
            let (offset, append_ms) = result.map_err(|code| {
                let doing = format!("writing to {}", self.inner.name(sent[place].place.0));
                let error = code_error(&doing, code);
                if is_consequence(code) { self.cause(error) } else { error }
            })?;
            if offset < 0 {
                return Err(self.unsaid(sent[place].place));
            }
            delivered.offsets[place] = offset;
            if place + 1 == sent.len() {
                delivered.append_time_us = append_ms * 1_000;
            }
        }
        Ok(delivered)
    }

    /// A request failed and a later one came through: the client then takes the earlier one's records for written, without
    /// offsets. The brokers refuse a gap only where they know the producer, so that may be wrong.
    fn unsaid(&self, (topic, partition): Place) -> LogError {
        let detail = format!("no broker said where a record of {} {partition} stands", self.inner.name(topic));
        LogError::new(LogErrorKind::Restart, "an append may lack a record", detail, "read to the end and go on")
    }

    /// What one failed for, when all records of a transaction fail: it alone says why.
    fn cause(&self, error: LogError) -> LogError {
        let deadline = Instant::now() + CAUSE_MAX;
        let sent = self.open.as_ref().map_or(&[][..], |open| &open.sent);
        while let Ok(Delivery { place, result }) = delivery::next(&self.deliveries, deadline) {
            if let (Err(code), Some(sent)) = (result, sent.get(place))
                && !is_consequence(code)
            {
                return code_error(&format!("writing to {}", self.inner.name(sent.place.0)), code);
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
        let (topic, partition) = (self.inner.name(sent[place].place.0), sent[place].place.1);
        let detail = format!(
            "{topic} {partition}: offset {}, expected {}",
            delivered.offsets[place],
            sent[place].expected.unwrap_or_default()
        );
        let hint = "nothing was written; end the other writer, or go on without grouped appends";
        Some(LogError::new(LogErrorKind::Restart, "somebody else writes to the same topics", detail, hint))
    }

    fn commit(&mut self) -> Result<(), LogError> {
        self.settle();
        self.producer.commit_transaction(self.timeout).map_err(|e| log_error("committing a transaction", &e))?;
        if let Some(open) = self.open.take() {
            self.tails.pass_marker(&open);
        }
        Ok(())
    }

    /// Waits until the client itself has counted the records that it told us of: while it still takes one for under way,
    /// its commit looks again only after 100 ms.
    fn settle(&self) {
        let deadline = Instant::now() + SETTLE_MAX;
        while self.producer.in_flight_count() > 0 && Instant::now() < deadline {
            std::thread::sleep(SETTLE_STEP);
        }
    }

    /// Aborts. Offsets were used up: the next records are counted anew.
    fn take_back(&mut self) -> Result<(), LogError> {
        self.producer.abort_transaction(self.timeout).map_err(|e| log_error("taking back a transaction", &e))?;
        let alone = self.open.take().is_some_and(|open| open.appends == 1);
        self.tails.forget();
        if alone {
            return Ok(());
        }
        let (what, detail) = ("an append was declined in a transaction of many", "the others went with it");
        Err(LogError::new(LogErrorKind::Restart, what, detail, "read to the end and go on"))
    }

    /// The ordinals of what was committed, as far as they can be counted by what this handle has read.
    fn count(&mut self, extents: &BTreeMap<Place, Extent>, ack: &mut Ack) -> Result<(), LogError> {
        for written in ack.written.iter_mut().filter(|written| written.first.is_none()) {
            let place = (written.topic, written.partition);
            // Where somebody else's records stand between these, nobody can say which are whose without reading.
            let Some(extent) = extents.get(&place).filter(|extent| extent.holds_only(written.records)) else {
                continue;
            };
            let mut stream = locked(self.inner.stream(written.topic, written.partition)?);
            written.first = stream.ordinal_at(&self.inner.shared, extent.first)?;
            let Some(first) = written.first else { continue };
            if !written.topic.topic.is_input() {
                // Only its own writer is asked for the ordinals of outputs from now on.
                stream.rest(&self.inner.shared);
            }
            self.tails.begin_at(place, first + written.records, extent.last);
        }
        Ok(())
    }

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
