//! Where a world is kept: `--log DIR` holds the log, its index, snapshots and views; `--archive DIR` is a log to read.
//!
//! A world whose directory has a `kafka.toml` keeps its log on that cluster; index, snapshots and views stay in the directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use solyx_connectors::log::archive::ArchiveLog;
use solyx_connectors::log::embedded::{Durability, EmbeddedLog, EmbeddedOptions};
use solyx_connectors::log::kafka::{Grouping, KafkaConfig, KafkaLog, KafkaOptions};
use solyx_projections::fold::{EpochSource, SourceError};
use solyx_schemas::codec::Codec;
use solyx_schemas::epochs::{EpochBatch, EpochReader, Frontier, ReadError};
use solyx_schemas::events::Event;
use solyx_schemas::ids::CellId;
use solyx_schemas::log::{Log, LogError, ReadLimit};
use solyx_schemas::topics::{Topic, TopicName};

use crate::failure::Failure;

/// The log to read: a world's or an archive.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Source {
    /// Directory of the world.
    #[arg(long, value_name = "DIR")]
    pub log: Option<PathBuf>,
    /// An archive.
    #[arg(long, value_name = "DIR")]
    pub archive: Option<PathBuf>,
}

impl Source {
    /// Opens it for reading; a world may be written meanwhile.
    pub fn open(&self) -> Result<Arc<dyn Log>, Failure> {
        match (&self.log, &self.archive) {
            (_, Some(archive)) => Ok(ArchiveLog::open(archive)?),
            (Some(dir), None) => reader(dir),
            (None, None) => Err(Failure::usage("no log is named", "expected --log or --archive", "see --help")),
        }
    }
}

/// The file of a world that names the cluster its log is on.
pub const KAFKA: &str = "kafka.toml";

/// The cluster that the world's directory names.
pub fn cluster(dir: &Path) -> Result<Option<KafkaConfig>, Failure> {
    let file = dir.join(KAFKA);
    Ok(if file.is_file() { Some(KafkaConfig::load(&file)?) } else { None })
}

/// The log on a cluster, when the world's directory names one.
fn on_kafka(dir: &Path, grouping: Grouping) -> Result<Option<Arc<dyn Log>>, Failure> {
    let Some(config) = cluster(dir)? else { return Ok(None) };
    let options = KafkaOptions { grouping, ..KafkaOptions::new(config, Some(&dir.join("offsets")))? };
    Ok(Some(KafkaLog::open(options)?))
}

/// Opens a world's log for reading.
pub fn reader(dir: &Path) -> Result<Arc<dyn Log>, Failure> {
    if let Some(log) = on_kafka(dir, Grouping::Each)? {
        return Ok(log);
    }
    let log = dir.join("log");
    if !log.is_dir() {
        return Err(Failure::usage(
            format!("there is no log in {}", dir.display()),
            format!("{} is not a directory", log.display()),
            "`solyx publish` or `solyx import` with --log begins one; `solyx topics apply` names a cluster for it",
        ));
    }
    Ok(EmbeddedLog::open_read_only(&log)?)
}

/// Opens a world's log for writing, and begins it when it is not there. `syncs_itself` makes each append durable.
pub fn writer(dir: &Path, syncs_itself: bool) -> Result<Arc<dyn Log>, Failure> {
    writer_with(dir, syncs_itself, None)
}

/// The same; a log that is begun has the partitions named here, one that is there must have them already.
pub fn writer_with(
    dir: &Path,
    syncs_itself: bool,
    partitions: Option<BTreeMap<Topic, u32>>,
) -> Result<Arc<dyn Log>, Failure> {
    std::fs::create_dir_all(dir).map_err(|e| {
        Failure::environment(
            format!("cannot make {}", dir.display()),
            e,
            "check the path, the permissions and the disk",
        )
    })?;
    let grouping = if syncs_itself { Grouping::Each } else { Grouping::Many };
    if let Some(log) = on_kafka(dir, grouping)? {
        return Ok(log);
    }
    let durability = if syncs_itself { Durability::EveryAppend } else { Durability::EveryN(1_000) };
    Ok(EmbeddedLog::open(&dir.join("log"), EmbeddedOptions { durability, partitions })?)
}

/// Every event of a topic that decodes, in the order of partitions.
pub fn events_of(log: &dyn Log, topic: TopicName, mut on_event: impl FnMut(Event)) -> Result<(), LogError> {
    const PIECE: ReadLimit = ReadLimit { records: 4_096, bytes: 4 << 20 };
    for partition in 0..log.partitions(topic) {
        let mut from = 0;
        loop {
            let records = log.read(topic, partition, from, PIECE)?;
            let Some(last) = records.last() else { break };
            from = last.ordinal + 1;
            for stored in records {
                if let Ok(decoded) = Codec::global().decode(&stored.record.value) {
                    on_event(decoded.event);
                }
            }
        }
    }
    Ok(())
}

/// The cell of a world: that of its first epoch record, or the one that its policies declare.
pub fn cell_of(log: &dyn Log) -> Result<Option<CellId>, Failure> {
    if let Some(first) = EpochReader::new(log).next_raw().map_err(|e| unreadable_history(&e))? {
        return Ok(Some(first.record.cell));
    }
    let mut cell = None;
    for topic in [TopicName::live(Topic::Policy), TopicName::staged(Topic::Policy)] {
        events_of(log, topic, |event| {
            if let Event::CellDeclared(declared) = event {
                cell.get_or_insert(declared.cell_id);
            }
        })?;
    }
    Ok(cell)
}

/// History that cannot be read on.
pub fn unreadable_history(error: &(dyn std::error::Error + 'static)) -> Failure {
    if let Some(ReadError::Log(error)) = error.downcast_ref() {
        return error.clone().into();
    }
    Failure::environment("history cannot be read", error, "`solyx audit` says where it breaks off")
}

/// The epochs of a log as a view takes them.
pub struct LogEpochs<'l>(pub EpochReader<'l>);

impl<'l> LogEpochs<'l> {
    /// Goes on where a view stands, if the log still has that.
    pub fn at(log: &'l dyn Log, frontier: &[u8]) -> Result<Option<Self>, SourceError> {
        if frontier.is_empty() {
            return Ok(Some(Self(EpochReader::new(log))));
        }
        let frontier: Frontier = serde_json::from_slice(frontier)?;
        Ok(frontier.is_in(log)?.then(|| Self(EpochReader::at(log, &frontier))))
    }
}

impl EpochSource for LogEpochs<'_> {
    fn next_epoch(&mut self) -> Result<Option<EpochBatch>, SourceError> {
        Ok(self.0.next_batch()?)
    }

    fn frontier(&self) -> Vec<u8> {
        // A frontier is numbers, names and a hash: nothing in it can fail to be written as JSON.
        serde_json::to_vec(&self.0.frontier()).unwrap_or_default()
    }
}
