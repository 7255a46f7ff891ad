//! The log on Apache Kafka: ordinals counted from committed records, one transaction per append, fencing by name.
//!
//! Partitions are assigned statically and read with `read_committed`; where reading stands is kept by the readers
//! themselves, in their own records and stores, never in a consumer group. Nothing here judges: what is in the topics comes
//! out as it is, with the lock file's schema ids.

mod bell;
mod book;
mod client;
mod config;
mod errors;
mod ids;
mod leader;
mod producer;
mod stream;
mod topics;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use solyx_schemas::log::{Log, LogError, LogErrorKind, Producer, ReadLimit, StoredRecord};
use solyx_schemas::topics::TopicName;

pub use self::config::{KafkaConfig, Mechanism, Protocol, Security};
pub use self::ids::{FrameIds, LockIds};
pub use self::leader::{Instance, KafkaElection, instances, transfer};
pub use self::producer::Grouping;
pub use self::topics::{Applied, TopicDifference, apply, diff, verify};

use self::bell::Bell;
use self::book::Book;
use self::client::Context;
use self::errors::log_error;
use self::producer::KafkaProducer;
use self::stream::{ANSWER_MAX, Shared, Stream};
use crate::log::heads::{Slots, locked};

/// How long brokers may take to say what topics there are.
const METADATA_MAX: Duration = Duration::from_secs(10);
/// Longest sleep before the client's own events are looked after.
const SLEEP_MAX: Duration = Duration::from_millis(100);
/// Pause between two looks whether everything written is settled.
const SETTLE_PAUSE: Duration = Duration::from_millis(5);

/// How a log is opened.
pub struct KafkaOptions {
    /// The cluster.
    pub config: KafkaConfig,
    /// Where offsets are noted, so that a restart need not count from the first record.
    pub dir: Option<PathBuf>,
    /// Whether each record's checksum is compared as it is read.
    pub check_crcs: bool,
    /// When the transactions of its producers end.
    pub grouping: Grouping,
    /// Schema ids on the wire.
    pub ids: Arc<dyn FrameIds>,
}

impl KafkaOptions {
    /// A cluster, with the schema ids of its registry if it has one, and a transaction for each append.
    pub fn new(config: KafkaConfig, dir: Option<&Path>) -> Result<Self, LogError> {
        let ids = ids::of(&config, dir)?;
        Ok(Self { config, dir: dir.map(Path::to_owned), check_crcs: false, grouping: Grouping::Each, ids })
    }
}

/// A cell's topics on a cluster.
pub struct KafkaLog {
    inner: Arc<Inner>,
}

/// What a log and its producers share.
struct Inner {
    config: KafkaConfig,
    grouping: Grouping,
    /// The last term that a producer of this handle was given.
    last_term: AtomicI64,
    slots: Slots,
    shared: Shared,
    streams: Vec<Mutex<Stream>>,
}

impl KafkaLog {
    /// Connects, and compares the topics with what they have to be.
    pub fn open(options: KafkaOptions) -> Result<Arc<Self>, LogError> {
        let KafkaOptions { config, dir, check_crcs, grouping, ids } = options;
        let consumer = consumer(&config, check_crcs)?;
        let found = topics::existing(&config, &consumer, METADATA_MAX)?;
        topics::check(&config, &found)?;
        let slots = Slots::new(|name| found.partitions(name));
        let streams = slots
            .iter()
            .map(|(topic, partition)| {
                let name = topic_name(&config.prefix, topic);
                let book = dir.as_ref().map_or_else(Book::default, |dir| Book::open(dir, &name, partition));
                Mutex::new(Stream::new(topic, name, partition, book))
            })
            .collect();
        let asker = self::consumer(&config, false)?;
        let shared = Shared { consumer: Arc::new(consumer), asker, bell: Arc::new(Bell::default()), ids };
        Ok(Arc::new(Self {
            inner: Arc::new(Inner { config, grouping, last_term: AtomicI64::new(0), slots, shared, streams }),
        }))
    }
}

/// A topic's name on the broker.
pub fn topic_name(prefix: &str, topic: TopicName) -> String {
    format!("{prefix}.{}", topic.name())
}

fn consumer(config: &KafkaConfig, check_crcs: bool) -> Result<BaseConsumer<Context>, LogError> {
    isolated(config, check_crcs, "read_committed")
}

fn isolated(config: &KafkaConfig, check_crcs: bool, isolation: &str) -> Result<BaseConsumer<Context>, LogError> {
    let mut client: ClientConfig = config.client()?;
    client
        // The client wants a name though no group is joined and nothing is committed to it.
        .set("group.id", format!("{}.{}", config.prefix, config.writer("reader")))
        .set("isolation.level", isolation)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "true")
        .set("check.crcs", if check_crcs { "true" } else { "false" })
        // A fetch that waits for one topic-partition delays one that is added meanwhile.
        .set("fetch.wait.max.ms", "50")
        .set("fetch.queue.backoff.ms", "5")
        .set("fetch.error.backoff.ms", "100")
        .set("queued.min.messages", "20000")
        .set("queued.max.messages.kbytes", "8192")
        .set("fetch.message.max.bytes", "4194304");
    client.create_with_context(Context::new(config.security.clone())).map_err(|e| log_error("making a consumer", &e))
}

impl Inner {
    fn settle(&self, topic: TopicName) -> Result<(), LogError> {
        let asker = isolated(&self.config, false, "read_uncommitted")?;
        let begun = Instant::now();
        for partition in 0..self.slots.count(topic) {
            let stream = locked(self.stream(topic, partition)?);
            loop {
                let (readable, written) = (stream.end_seen_by(&self.shared.asker)?, stream.end_seen_by(&asker)?);
                if readable >= written {
                    break;
                }
                tracing::debug!(topic = topic.name(), partition, readable, written, "a transaction is not over yet");
                if begun.elapsed() > ANSWER_MAX {
                    return Err(LogError::new(
                        LogErrorKind::Restart,
                        format!("{} {partition} does not settle", topic.name()),
                        format!("it is written to offset {written} and readable to {readable}"),
                        "a transaction is open: its timeout ends it, or whoever writes under its name",
                    ));
                }
                std::thread::sleep(SETTLE_PAUSE);
            }
        }
        Ok(())
    }

    fn name(&self, topic: TopicName) -> String {
        topic_name(&self.config.prefix, topic)
    }

    fn stream(&self, topic: TopicName, partition: u32) -> Result<&Mutex<Stream>, LogError> {
        Ok(&self.streams[self.slots.index(topic, partition)?])
    }

    /// Serves what the client has to say beside records: errors, tokens to be renewed.
    fn serve(&self) -> Result<(), LogError> {
        while let Some(event) = self.shared.consumer.poll(Duration::ZERO) {
            if let Err(error) = event {
                let error = log_error("reading from the cluster", &error);
                if error.kind == LogErrorKind::Stop {
                    return Err(error);
                }
                tracing::info!(%error, "the cluster is waited for");
            }
        }
        // The other client has nothing to say but through its answers; its tokens are renewed here.
        let _ = self.shared.asker.poll(Duration::ZERO);
        self.shared.consumer.context().refused("reading from the cluster").map_or(Ok(()), Err)
    }

    fn look_up(&self) -> Result<(), LogError> {
        // Nobody reads until it is settled where fetching goes on.
        let mut streams: Vec<_> = self.streams.iter().map(locked).collect();
        let sought = self.seek_ends(&mut streams);
        if sought.is_err() {
            // What an end was looked up for and which was not sought would take the end of before for it.
            streams.iter_mut().for_each(|stream| stream.forget_end(&self.shared));
        }
        sought
    }

    fn seek_ends(&self, streams: &mut [MutexGuard<'_, Stream>]) -> Result<(), LogError> {
        let mut again = TopicPartitionList::new();
        for stream in streams {
            if let Some((name, partition, offset)) = stream.look_up(&self.shared)? {
                again
                    .add_partition_offset(name, partition, Offset::Offset(offset))
                    .map_err(|e| log_error("looking where topics end", &e))?;
            }
        }
        if again.count() == 0 {
            return Ok(());
        }
        let sought = self.shared.consumer.seek_partitions(again, ANSWER_MAX);
        let sought = sought.map_err(|e| log_error("looking where topics end", &e))?;
        sought.elements().iter().try_for_each(|element| {
            element.error().map_err(|e| log_error(&format!("looking where {} ends", element.topic()), &e))
        })
    }
}

impl Log for KafkaLog {
    fn partitions(&self, topic: TopicName) -> u32 {
        self.inner.slots.count(topic)
    }

    fn end(&self, topic: TopicName, partition: u32) -> Result<u64, LogError> {
        locked(self.inner.stream(topic, partition)?).count_to_end(&self.inner.shared)
    }

    fn readable(&self, topic: TopicName, partition: u32, from: u64) -> Result<u64, LogError> {
        let mut stream = locked(self.inner.stream(topic, partition)?);
        stream.go_to(&self.inner.shared, from)?;
        stream.fill(&self.inner.shared, from)
    }

    fn look_up(&self) -> Result<(), LogError> {
        self.inner.look_up()
    }

    fn settle(&self, topic: TopicName) -> Result<(), LogError> {
        self.inner.settle(topic)
    }

    fn about_to_read(&self, positions: &[(TopicName, u32, u64)]) -> Result<(), LogError> {
        positions.iter().try_for_each(|(topic, partition, from)| {
            locked(self.inner.stream(*topic, *partition)?).begin_towards(&self.inner.shared, *from)
        })
    }

    fn read(
        &self,
        topic: TopicName,
        partition: u32,
        from: u64,
        limit: ReadLimit,
    ) -> Result<Vec<StoredRecord>, LogError> {
        let mut stream = locked(self.inner.stream(topic, partition)?);
        stream.go_to(&self.inner.shared, from)?;
        stream.fill(&self.inner.shared, from)?;
        stream.take(&self.inner.shared, limit)
    }

    fn wait(&self, positions: &[(TopicName, u32, u64)], deadline: Instant) -> Result<bool, LogError> {
        loop {
            let heard = self.inner.shared.bell.rings();
            self.inner.serve()?;
            for (topic, partition, ordinal) in positions {
                let mut stream = locked(self.inner.stream(*topic, *partition)?);
                if stream.watch(&self.inner.shared, *ordinal)? > *ordinal {
                    return Ok(true);
                }
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            self.inner.shared.bell.wait(heard, deadline.min(Instant::now() + SLEEP_MAX));
        }
    }

    fn producer(&self, name: &str) -> Result<Box<dyn Producer>, LogError> {
        let began = Instant::now();
        let producer = KafkaProducer::begin(Arc::clone(&self.inner), name)?;
        let fenced = Instant::now();
        self.inner.look_up()?;
        tracing::debug!(
            name,
            fencing_ms = (fenced - began).as_millis() as u64,
            looking_up_ms = fenced.elapsed().as_millis() as u64,
            "a producer begins"
        );
        Ok(Box::new(producer))
    }
}
