//! Who leads, by a topic of one partition that every engine of a cell reads and writes.
//!
//! Its order decides, and its append times are the only clock: an instance leads from the record in which it claims the lead,
//! if nobody led by then: the leader resigned, or said nothing for [`LEASE`]. All that read the topic come to the same
//! answer. It is only an answer to who should write; that nobody else can is up to the producer's fencing.

mod fold;
mod part;

use std::time::{Duration, Instant};

use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde::Serialize;
use solyx_schemas::log::{LogError, LogErrorKind};

use super::client::Context;
use super::config::KafkaConfig;
use super::errors::log_error;

pub use self::part::KafkaElection;

use self::fold::{Fold, Saying};

/// Name of the topic, behind the prefix.
pub const LEADER_TOPIC: &str = "leader";
/// A leader that says nothing for so long leads no more.
pub const LEASE: Duration = Duration::from_millis(2_000);
/// How much of the topic is read at the start.
const HISTORY: i64 = 2_000;
/// An instance that was silent for so long is not shown.
const FORGET: Duration = Duration::from_secs(30);
const STEP: Duration = Duration::from_millis(10);
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// An instance as the others see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Instance {
    /// Its name.
    pub instance: String,
    /// Whether it leads.
    pub leads: bool,
    /// Its next epoch, as last told.
    pub next_epoch: i64,
    /// Append time of its last sign of life, ms UTC.
    pub seen_ms: i64,
}

/// The topic, read and written.
struct Talk {
    topic: String,
    consumer: BaseConsumer<Context>,
    producer: BaseProducer<Context>,
    fold: Fold,
    /// When the leader last gave a sign of life, by this process's clock.
    leader_heard: Instant,
}

impl Talk {
    fn begin(config: &KafkaConfig) -> Result<Self, LogError> {
        let topic = format!("{}.{LEADER_TOPIC}", config.prefix);
        let consumer = super::consumer(config, false)?;
        let (low, end) =
            consumer.fetch_watermarks(&topic, 0, ANSWER_MAX).map_err(|e| log_error(&format!("reading {topic}"), &e))?;
        let mut list = TopicPartitionList::new();
        let from = Offset::Offset((end - HISTORY).max(low));
        list.add_partition_offset(&topic, 0, from)
            .and_then(|()| consumer.assign(&list))
            .map_err(|e| log_error(&format!("reading {topic}"), &e))?;
        let producer = config
            .client()?
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("linger.ms", "0")
            .set("message.timeout.ms", "3000")
            .create_with_context(Context::new(config.security.clone()))
            .map_err(|e| log_error("making a producer", &e))?;
        Ok(Self { topic, consumer, producer, fold: Fold::default(), leader_heard: Instant::now() })
    }

    /// Takes what has been said, for at most so long.
    fn listen(&mut self, time: Duration) -> Result<(), LogError> {
        let deadline = Instant::now() + time;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.consumer.poll(left) {
                None => break,
                Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => {}
                Some(Err(error)) => {
                    let error = log_error(&format!("reading {}", self.topic), &error);
                    if error.kind == LogErrorKind::Stop {
                        return Err(error);
                    }
                }
                Some(Ok(message)) => {
                    let Some(payload) = message.payload() else { continue };
                    let Ok(saying) = serde_json::from_slice(payload) else { continue };
                    let before = self.fold.leader.clone();
                    self.fold.apply(message.offset(), message.timestamp().to_millis().unwrap_or(0), saying);
                    if self.fold.leader != before {
                        self.leader_heard = Instant::now();
                    }
                }
            }
        }
        self.producer.poll(Duration::ZERO);
        let forbidden = self.producer.context().forbidden(&format!("writing {}", self.topic));
        forbidden.map_or(Ok(()), Err)
    }

    fn say(&self, saying: &Saying) {
        // It has only texts and numbers, which can all be written.
        let Ok(text) = serde_json::to_vec(saying) else { return };
        let record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&self.topic).partition(0).payload(&text);
        if let Err((error, _)) = self.producer.send(record) {
            tracing::debug!(%error, "a sign of life was not sent");
        }
    }
}

/// Who takes part, as the topic says after listening for a moment.
pub fn instances(config: &KafkaConfig) -> Result<Vec<Instance>, LogError> {
    let mut talk = Talk::begin(config)?;
    talk.listen(LEASE / 2)?;
    Ok(talk.fold.instances())
}

/// Asks the leader to hand over, and waits until another one leads; its name and how long nobody did, ms by the log's clock.
pub fn transfer(config: &KafkaConfig, to: Option<&str>, wait: Duration) -> Result<(String, i64), LogError> {
    let mut talk = Talk::begin(config)?;
    talk.listen(LEASE / 2)?;
    let refused =
        |detail: String, hint: &str| LogError::new(LogErrorKind::Stop, "the lead is not handed over", detail, hint);
    let Some(before) = talk.fold.leader.clone() else {
        return Err(refused("nobody leads".to_owned(), "start an engine, or wait until one has taken the lead"));
    };
    if to == Some(before.instance.as_str()) {
        return Err(refused(format!("{} leads already", before.instance), "name another instance"));
    }
    if let Some(to) = to
        && !talk.fold.seen.contains_key(to)
    {
        let known: Vec<&str> = talk.fold.seen.keys().map(String::as_str).collect();
        return Err(refused(format!("found no instance {to}, expected one of {}", known.join(", ")), "start it first"));
    }
    if talk.fold.successor(&before.instance).is_none() {
        return Err(refused(format!("{} is alone", before.instance), "start a second engine of this cell first"));
    }
    talk.say(&Saying::Transfer { to: to.map(str::to_owned) });
    let deadline = Instant::now() + wait;
    let mut resigned_ms = None;
    while Instant::now() < deadline {
        talk.listen(STEP)?;
        match &talk.fold.leader {
            None => {
                resigned_ms.get_or_insert(talk.fold.now_ms);
            }
            Some(leader) if leader.claim != before.claim => {
                let gap_ms = leader.seen_ms - resigned_ms.unwrap_or(leader.seen_ms);
                return Ok((leader.instance.clone(), gap_ms.max(0)));
            }
            Some(_) => {}
        }
    }
    Err(LogError::new(
        LogErrorKind::Retry,
        "the lead is not handed over yet",
        format!("{} still leads after {} s", before.instance, wait.as_secs()),
        "look at its log; it hands over at the end of an epoch",
    ))
}
