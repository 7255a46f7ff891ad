//! Writing: an append is one transaction of an idempotent producer. Whoever begins a producer of a name fences the one before.
//!
//! After an error in a transaction the producer is of no more use, since whether the transaction came through is not known: a
//! new one is begun, which waits until the old one's is decided, and the log is read to see what was committed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{ClientContext, Message};
use solyx_schemas::codec::VALUE_LEN_MAX;
use solyx_schemas::log::{Ack, LogError, LogErrorKind, Producer, Record, Written};
use solyx_schemas::topics::TopicName;

use super::client::Context;
use super::errors::{log_error, timed_out};
use super::{Inner, topic_name};
use crate::log::heads::{declined, locked};

/// Largest request: the largest value with its key and headers.
pub(super) const REQUEST_BYTES_MAX: usize = VALUE_LEN_MAX + (1 << 20);
/// How long the coordinator may take to end what a fenced producer began, before it is tried again.
const FENCE_STEP: Duration = Duration::from_secs(5);
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

/// Where this producer's last transaction left a topic-partition: the next record has this ordinal if it has this offset.
#[derive(Clone, Copy)]
struct Tail {
    ordinal: u64,
    offset: i64,
}

/// A writer.
pub(super) struct KafkaProducer {
    inner: Arc<Inner>,
    producer: ThreadedProducer<Deliveries>,
    deliveries: Receiver<Delivery>,
    timeout: Duration,
    tails: BTreeMap<(TopicName, u32), Tail>,
    /// Why it is of no more use.
    failed: Option<LogError>,
}

impl KafkaProducer {
    /// Fences whoever wrote under this name, and waits until what that one began is ended.
    pub fn begin(inner: Arc<Inner>, name: &str) -> Result<Self, LogError> {
        let config = &inner.config;
        let timeout_ms = config.transaction_timeout_ms;
        let mut client = config.client()?;
        client
            .set("transactional.id", format!("{}.{name}", config.prefix))
            .set("transaction.timeout.ms", timeout_ms.to_string())
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
        let doing = format!("fencing earlier writers of {}.{name}", config.prefix);
        let begun = Instant::now();
        while let Err(error) = producer.init_transactions(FENCE_STEP) {
            let retriable = matches!(&error, KafkaError::Transaction(inner) if inner.is_retriable());
            if let Some(refused) = producer.context().context.refused(&doing) {
                return Err(refused);
            }
            if !retriable || begun.elapsed() > FENCE_MAX {
                let mut error = log_error(&doing, &error);
                if let Some(said) = producer.context().context.trouble_since(begun) {
                    error.detail = format!("{}: {said}", error.detail);
                }
                return Err(error);
            }
        }
        let timeout = Duration::from_millis(timeout_ms.into());
        Ok(Self { inner, producer, deliveries, timeout, tails: BTreeMap::new(), failed: None })
    }

    fn send(&self, batch: &[Record]) -> Result<(), LogError> {
        for (place, record) in batch.iter().enumerate() {
            let name = topic_name(&self.inner.config.prefix, record.topic);
            let mut value = record.value.clone();
            self.inner.shared.ids.to_wire(&mut value)?;
            let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
            for (key, value) in &record.headers {
                headers = headers.insert(Header { key, value: Some(value) });
            }
            let mut message = BaseRecord::with_opaque_to(&name, place)
                .partition(record.partition.cast_signed())
                .key(&record.key)
                .payload(&value)
                .headers(headers);
            let deadline = Instant::now() + self.timeout;
            while let Err((error, unsent)) = self.producer.send(message) {
                let full = error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull);
                if !full || Instant::now() > deadline {
                    return Err(log_error(&format!("writing to {name}"), &error));
                }
                std::thread::sleep(Duration::from_millis(1));
                message = unsent;
            }
        }
        Ok(())
    }

    /// Waits for the broker's word on each record: its offset, and the append time of the last, µs UTC.
    fn delivered(&self, batch: &[Record]) -> Result<(Vec<i64>, i64), LogError> {
        let deadline = Instant::now() + self.timeout;
        let mut offsets = vec![0; batch.len()];
        let mut append_time_us = 0;
        for _ in batch {
            let delivery = self.deliveries.recv_timeout(deadline.saturating_duration_since(Instant::now()));
            let Delivery { place, result } = delivery.map_err(|error| match error {
                RecvTimeoutError::Timeout => timed_out(LogErrorKind::Restart, "writing", "no acknowledgement came"),
                RecvTimeoutError::Disconnected => {
                    timed_out(LogErrorKind::Restart, "writing", "the client ended by itself")
                }
            })?;
            let name = topic_name(&self.inner.config.prefix, batch[place].topic);
            let (offset, append_ms) = result.map_err(|code| {
                let mut error = super::errors::code_error(&format!("writing to {name}"), code);
                if error.kind == LogErrorKind::Retry {
                    error.kind = LogErrorKind::Restart;
                }
                error
            })?;
            offsets[place] = offset;
            if place + 1 == batch.len() {
                append_time_us = append_ms * 1_000;
            }
        }
        Ok((offsets, append_time_us))
    }

    fn transact(
        &mut self,
        batch: &[Record],
        accept: &mut dyn FnMut(&Ack) -> bool,
    ) -> Result<(Vec<i64>, Ack), LogError> {
        self.producer.begin_transaction().map_err(|e| log_error("beginning a transaction", &e))?;
        self.send(batch)?;
        let (offsets, append_time_us) = self.delivered(batch)?;
        let ack = Ack { append_time_us, written: written(batch) };
        if !accept(&ack) {
            self.producer.abort_transaction(self.timeout).map_err(|e| log_error("taking back a transaction", &e))?;
            // Offsets were used up: the next records are counted anew.
            self.tails.clear();
            return Err(declined());
        }
        self.producer.commit_transaction(self.timeout).map_err(|e| log_error("committing a transaction", &e))?;
        Ok((offsets, ack))
    }

    /// The ordinals of what was committed, where they are known or can be counted by what this handle has read.
    fn count(&mut self, batch: &[Record], offsets: &[i64], ack: &mut Ack) -> Result<(), LogError> {
        for written in &mut ack.written {
            let place = (written.topic, written.partition);
            let of_it = || batch.iter().zip(offsets).filter(|(record, _)| (record.topic, record.partition) == place);
            let (Some(first), Some(last)) = (of_it().map(|(_, o)| *o).min(), of_it().map(|(_, o)| *o).max()) else {
                continue;
            };
            written.first = match self.tails.get(&place) {
                Some(tail) if tail.offset == first => Some(tail.ordinal),
                _ => {
                    let mut stream = locked(self.inner.stream(written.topic, written.partition)?);
                    let found = stream.ordinal_at(&self.inner.shared, first)?;
                    if found.is_some() && !written.topic.topic.is_input() {
                        stream.rest(&self.inner.shared);
                    }
                    found
                }
            };
            // After the last record comes the marker that ends the transaction.
            let tail = written.first.map(|ordinal| Tail { ordinal: ordinal + written.records, offset: last + 2 });
            match tail {
                Some(tail) => self.tails.insert(place, tail),
                None => self.tails.remove(&place),
            };
        }
        Ok(())
    }
}

/// What each topic-partition is given; ordinals are not known yet.
fn written(batch: &[Record]) -> Vec<Written> {
    let mut counts: BTreeMap<(TopicName, u32), u64> = BTreeMap::new();
    for record in batch {
        *counts.entry((record.topic, record.partition)).or_default() += 1;
    }
    let written = |((topic, partition), records)| Written { topic, partition, first: None, records };
    counts.into_iter().map(written).collect()
}

fn check(record: &Record, partitions: u32, prefix: &str) -> Result<(), LogError> {
    let refused = |what: String, detail: String, hint: &str| Err(LogError::new(LogErrorKind::Stop, what, detail, hint));
    let name = topic_name(prefix, record.topic);
    if record.partition >= partitions {
        let detail = format!("it has {partitions}, counted from 0");
        return refused(format!("topic {name} has no partition {}", record.partition), detail, "`solyx topics diff` says more");
    }
    if record.value.len() > VALUE_LEN_MAX {
        let detail = format!("its value has {} bytes", record.value.len());
        return refused(format!("a record for topic {name} is too large"), detail, &format!("the largest has {VALUE_LEN_MAX}"));
    }
    Ok(())
}

impl Producer for KafkaProducer {
    fn term_after(&self, highest: i64) -> i64 {
        highest + 1
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
        match self.transact(batch, accept) {
            Ok((offsets, mut ack)) => {
                self.count(batch, &offsets, &mut ack)?;
                Ok(ack)
            }
            Err(error) if error.kind == LogErrorKind::Declined => Err(error),
            Err(mut error) => {
                if error.kind == LogErrorKind::Retry {
                    error.kind = LogErrorKind::Restart;
                }
                self.failed = Some(error.clone());
                Err(error)
            }
        }
    }

    fn sync(&mut self) -> Result<(), LogError> {
        // A committed transaction is on as many replicas as `min_insync_replicas` says.
        self.failed.clone().map_or(Ok(()), Err)
    }
}
