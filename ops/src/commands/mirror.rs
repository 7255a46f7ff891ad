//! `solyx mirror`: a log copied to another kind of log.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use solyx_connectors::log::archive;
use solyx_connectors::log::mirror;
use solyx_schemas::log::{Log, LogErrorKind};
use solyx_schemas::topics::Topic;

use super::archive::follow;
use crate::failure::{Exit, Outcome};
use crate::world::{self, Source};
use crate::{output, progress};

/// Name of the producer.
const PRODUCER: &str = "mirror";
/// Pause before a copy goes on after its log failed, and how often in a row.
const PAUSE: Duration = Duration::from_secs(1);
const ATTEMPTS_MAX: u32 = 30;

/// Copy a log: embedded, on Apache Kafka, or an archive. Keys, headers and bodies stay as they are, and so does every hash; a
/// copy that was interrupted goes on where it stopped.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  solyx mirror --log world --to-log world-on-kafka\n  \
                        solyx mirror --log world-on-kafka --to-archive archive\n  \
                        solyx mirror --archive archive --to-log again\n\n\
                        A world is on Apache Kafka when its directory has a kafka.toml (solyx topics apply).")]
pub struct Mirror {
    #[command(flatten)]
    from: Source,
    #[command(flatten)]
    to: Target,
}

/// Where to.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Target {
    /// Directory of a world; its log is begun when it is not there.
    #[arg(long, value_name = "DIR")]
    to_log: Option<PathBuf>,
    /// Directory of a new archive.
    #[arg(long, value_name = "DIR")]
    to_archive: Option<PathBuf>,
}

/// Runs it.
pub fn run(command: &Mirror, json: bool) -> Outcome {
    let bar = progress::bar(0, "records", json);
    let tell = follow(&bar);
    let from = command.from.open()?;
    if let Some(archive) = &command.to.to_archive {
        let done = archive::export(&*from, archive, &tell)?;
        bar.finish_and_clear();
        if json {
            output::json(&done);
        } else {
            let (records, files) = (output::grouped(done.records), output::grouped(done.files as u64));
            output::line(format!("{records} records in {files} files; manifest {}", done.manifest_sha256));
        }
    }
    if let Some(dir) = &command.to.to_log {
        let mut attempts = 0;
        let done = loop {
            let to = world::writer_with(dir, false, Some(partitions(&*from)))?;
            match mirror::mirror(&*from, &*to, PRODUCER, &tell) {
                Err(error) if may_go_on(error.kind) && attempts < ATTEMPTS_MAX => {
                    attempts += 1;
                    tracing::warn!(%error, "the copy goes on where it stopped");
                    std::thread::sleep(PAUSE);
                }
                done => break done?,
            }
        };
        bar.finish_and_clear();
        if json {
            output::json(&done);
        } else {
            let (records, present) = (output::grouped(done.records), output::grouped(done.present));
            output::line(format!("{records} records written, {present} were there"));
        }
    }
    Ok(Exit::Good)
}

fn may_go_on(kind: LogErrorKind) -> bool {
    matches!(kind, LogErrorKind::Retry | LogErrorKind::Restart)
}

fn partitions(log: &dyn Log) -> BTreeMap<Topic, u32> {
    Topic::ALL.into_iter().map(|topic| (topic, log.partitions(topic.into()))).collect()
}
