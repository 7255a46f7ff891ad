//! The topics of a cell on a cluster: what they have to be, what they are, what differs.
//!
//! Topics that are missing are created; one that is there is never changed or deleted.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use serde::Serialize;
use solyx_schemas::log::{LogError, LogErrorKind};
use solyx_schemas::topics::{Topic, TopicName};

use super::client::Context;
use super::config::KafkaConfig;
use super::errors::{code_error, log_error};
use super::leader::LEADER_TOPIC;
use super::producer::REQUEST_BYTES_MAX;
use super::topic_name;
use crate::log::heads::topic_names;

const ADMIN_MAX: Duration = Duration::from_secs(30);
/// How long one attempt to hear of the topics may take: a refusal is told after it.
const METADATA_STEP: Duration = Duration::from_secs(2);
/// How long the client's words on why nobody answers are waited for.
const WORDS_MAX: Duration = Duration::from_millis(500);
/// How long brokers may take to agree on new topics.
const SETTLE_MAX: Duration = Duration::from_secs(15);
/// How long it is kept who led.
const LEADER_RETENTION_MS: i64 = 86_400_000;

/// Where something is not as it has to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TopicDifference {
    /// Full name of the topic.
    pub topic: String,
    /// What of it.
    pub setting: String,
    /// What it is.
    pub found: String,
    /// What it has to be.
    pub expected: String,
}

/// What [`apply`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Applied {
    /// Topics that were created.
    pub created: Vec<String>,
    /// Topics that were there.
    pub present: usize,
    /// What differs and was left alone.
    pub differences: Vec<TopicDifference>,
}

/// Topics of a cluster with their partitions and replicas.
pub(super) struct Existing {
    prefix: String,
    topics: BTreeMap<String, (u32, usize)>,
}

impl Existing {
    pub fn partitions(&self, topic: TopicName) -> u32 {
        self.topics.get(&topic_name(&self.prefix, topic)).map_or(0, |(partitions, _)| *partitions)
    }
}

/// A topic as it has to be.
struct Wanted {
    name: String,
    partitions: u32,
    settings: Vec<(&'static str, String)>,
}

/// Every topic of a cell: those of the log, and the one by which engines agree on who leads.
fn all(config: &KafkaConfig, partitions: &BTreeMap<Topic, u32>) -> Vec<Wanted> {
    let of_log = topic_names().map(|topic| Wanted {
        name: topic_name(&config.prefix, topic),
        partitions: partitions.get(&topic.topic).copied().unwrap_or_else(|| topic.topic.default_partitions()),
        settings: settings(config, REQUEST_BYTES_MAX, -1),
    });
    let of_leader = Wanted {
        name: format!("{}.{LEADER_TOPIC}", config.prefix),
        partitions: 1,
        settings: settings(config, 1 << 20, LEADER_RETENTION_MS),
    };
    of_log.chain([of_leader]).collect()
}

/// What is there of this cell's topics.
pub(super) fn existing(
    config: &KafkaConfig,
    consumer: &BaseConsumer<Context>,
    timeout: Duration,
) -> Result<Existing, LogError> {
    let doing = "asking the brokers for their topics";
    let begun = Instant::now();
    let context = consumer.context();
    let metadata = loop {
        let error = match consumer.fetch_metadata(None, METADATA_STEP.min(timeout)) {
            Ok(metadata) => break metadata,
            Err(error) => error,
        };
        // The client's own words, which come a moment later, say why the brokers do not answer.
        let heard = Instant::now();
        while context.trouble_since(begun).is_none() && heard.elapsed() < WORDS_MAX {
            let _ = consumer.poll(Duration::from_millis(20));
        }
        if let Some(refused) = context.refused(doing) {
            return Err(refused);
        }
        if begun.elapsed() >= timeout {
            let mut error = log_error(doing, &error);
            if let Some(said) = context.trouble_since(begun) {
                error.detail = said;
            }
            return Err(error);
        }
    };
    let ours = metadata.topics().iter().filter(|topic| {
        topic.name().strip_prefix(config.prefix.as_str()).is_some_and(|rest| rest.starts_with('.'))
            && topic.error().is_none()
    });
    let topics = ours.map(|topic| {
        let replicas = topic.partitions().iter().map(|p| p.replicas().len()).min().unwrap_or(0);
        (topic.name().to_owned(), (topic.partitions().len() as u32, replicas))
    });
    Ok(Existing { prefix: config.prefix.clone(), topics: topics.collect() })
}

/// A topic that a log cannot do without must be there.
pub(super) fn check(config: &KafkaConfig, found: &Existing) -> Result<(), LogError> {
    let missing: Vec<String> = Topic::ALL
        .into_iter()
        .filter(|topic| found.partitions((*topic).into()) == 0)
        .map(|topic| topic_name(&config.prefix, topic.into()))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(LogError::new(
        LogErrorKind::Stop,
        "topics of this cell are missing",
        missing.join(", "),
        "`solyx topics apply` creates them, one that was deleted comes back from an archive; or this user may not see them and needs Describe",
    ))
}

fn settings(config: &KafkaConfig, request_bytes: usize, retention_ms: i64) -> Vec<(&'static str, String)> {
    vec![
        ("cleanup.policy", "delete".to_owned()),
        ("retention.ms", retention_ms.to_string()),
        ("retention.bytes", "-1".to_owned()),
        ("message.timestamp.type", "LogAppendTime".to_owned()),
        ("max.message.bytes", request_bytes.to_string()),
        ("min.insync.replicas", config.min_insync_replicas.to_string()),
        ("unclean.leader.election.enable", "false".to_owned()),
    ]
}

/// What differs between the cluster and what this cell needs.
pub fn diff(config: &KafkaConfig, partitions: &BTreeMap<Topic, u32>) -> Result<Vec<TopicDifference>, LogError> {
    Session::open(config)?.diff(partitions)
}

/// An error that names the settings in which topics that are there are not as they have to be; partitions are the cell's affair.
pub fn verify(config: &KafkaConfig) -> Result<(), LogError> {
    let differences = diff(config, &BTreeMap::new())?;
    let wrong: Vec<String> = differences
        .iter()
        .filter(|d| d.setting != "partitions" && d.setting != "replication.factor")
        .map(|d| format!("{} {}: found {}, expected {}", d.topic, d.setting, d.found, d.expected))
        .collect();
    if wrong.is_empty() {
        return Ok(());
    }
    let hint = "change them by hand, `solyx topics diff` shows all; nothing of that is ever changed by itself";
    Err(LogError::new(LogErrorKind::Stop, "topics are not set as they have to be", wrong.join("; "), hint))
}

/// Creates what is missing; what is there stays as it is.
pub fn apply(config: &KafkaConfig, partitions: &BTreeMap<Topic, u32>) -> Result<Applied, LogError> {
    let session = Session::open(config)?;
    let found = session.existing()?;
    let wanted = all(config, partitions);
    let missing: Vec<Wanted> = wanted.into_iter().filter(|topic| !found.topics.contains_key(&topic.name)).collect();
    let created = session.create(&missing)?;
    let present = all(config, partitions).len() - created.len();
    // Every broker knows a new topic's settings a little later, too.
    let begun = Instant::now();
    let differences = loop {
        let differences = session.diff(partitions)?;
        let of_new = differences.iter().any(|d| created.contains(&d.topic));
        if !of_new || begun.elapsed() > SETTLE_MAX {
            break differences;
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    Ok(Applied { created, present, differences })
}

/// A connection for administration.
struct Session<'c> {
    config: &'c KafkaConfig,
    consumer: BaseConsumer<Context>,
    admin: AdminClient<Context>,
    runtime: tokio::runtime::Runtime,
}

impl<'c> Session<'c> {
    fn open(config: &'c KafkaConfig) -> Result<Self, LogError> {
        let consumer = super::consumer(config, false)?;
        let admin = config
            .client()?
            .create_with_context(Context::new(config.security.clone()))
            .map_err(|e| log_error("making an administrator's client", &e))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(|e| {
            LogError::new(LogErrorKind::Stop, "no runtime for the administrator's client", e, "free memory or threads")
        })?;
        Ok(Self { config, consumer, admin, runtime })
    }

    fn existing(&self) -> Result<Existing, LogError> {
        existing(self.config, &self.consumer, ADMIN_MAX)
    }

    fn create(&self, missing: &[Wanted]) -> Result<Vec<String>, LogError> {
        if missing.is_empty() {
            return Ok(Vec::new());
        }
        let topics: Vec<NewTopic<'_>> = missing
            .iter()
            .map(|wanted| {
                let replication = TopicReplication::Fixed(self.config.replication);
                let new = NewTopic::new(&wanted.name, wanted.partitions.cast_signed(), replication);
                wanted.settings.iter().fold(new, |new, (setting, value)| new.set(setting, value))
            })
            .collect();
        let options = AdminOptions::new().request_timeout(Some(ADMIN_MAX)).operation_timeout(Some(ADMIN_MAX));
        let results = self
            .runtime
            .block_on(self.admin.create_topics(&topics, &options))
            .map_err(|e| log_error("creating topics", &e))?;
        let mut created = Vec::new();
        for result in results {
            match result {
                Ok(name) => created.push(name),
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((name, code)) => return Err(code_error(&format!("creating {name}"), code)),
            }
        }
        self.wait_for(missing)?;
        Ok(created)
    }

    /// Every broker knows a new topic a little later.
    fn wait_for(&self, topics: &[Wanted]) -> Result<(), LogError> {
        let begun = Instant::now();
        loop {
            let found = self.existing()?;
            if topics.iter().all(|topic| found.topics.contains_key(&topic.name)) {
                return Ok(());
            }
            if begun.elapsed() > ADMIN_MAX {
                let detail = "they were created and are not shown";
                return Err(LogError::new(LogErrorKind::Retry, "the new topics do not appear", detail, "try again"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn diff(&self, partitions: &BTreeMap<Topic, u32>) -> Result<Vec<TopicDifference>, LogError> {
        let found = self.existing()?;
        let mut differences = Vec::new();
        let mut there = Vec::new();
        for wanted in all(self.config, partitions) {
            let mut differs = |setting: &str, found: String, expected: String| {
                if found != expected {
                    let (topic, setting) = (wanted.name.clone(), setting.to_owned());
                    differences.push(TopicDifference { topic, setting, found, expected });
                }
            };
            match found.topics.get(&wanted.name) {
                None => differs("topic", "missing".to_owned(), "there".to_owned()),
                Some((count, replicas)) => {
                    differs("partitions", count.to_string(), wanted.partitions.to_string());
                    differs("replication.factor", replicas.to_string(), self.config.replication.to_string());
                    there.push(wanted);
                }
            }
        }
        self.diff_settings(&there, &mut differences)?;
        Ok(differences)
    }

    fn diff_settings(&self, topics: &[Wanted], into: &mut Vec<TopicDifference>) -> Result<(), LogError> {
        if topics.is_empty() {
            return Ok(());
        }
        let resources: Vec<ResourceSpecifier<'_>> =
            topics.iter().map(|topic| ResourceSpecifier::Topic(&topic.name)).collect();
        let options = AdminOptions::new().request_timeout(Some(ADMIN_MAX));
        let described = self
            .runtime
            .block_on(self.admin.describe_configs(&resources, &options))
            .map_err(|e| log_error("describing topics", &e))?;
        for (topic, described) in topics.iter().zip(described) {
            let described = described.map_err(|code| code_error(&format!("describing {}", topic.name), code))?;
            for (setting, expected) in &topic.settings {
                let found = described.get(setting).and_then(|entry| entry.value.clone()).unwrap_or_default();
                if found != *expected {
                    let (topic, setting, expected) = (topic.name.clone(), (*setting).to_owned(), expected.clone());
                    into.push(TopicDifference { topic, setting, found, expected });
                }
            }
        }
        Ok(())
    }
}
