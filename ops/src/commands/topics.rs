//! `solyx topics`: what a cell needs on a cluster, and what differs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;
use solyx_connectors::fleet;
use solyx_connectors::log::kafka::{self, KafkaConfig, TopicDifference};
use solyx_schemas::topics::Topic;

use super::publish::declared_partitions;
use crate::failure::{Exit, Failure, Outcome};
use crate::{output, world};

/// Create the topics of a cell on Apache Kafka, or say what differs. Nothing that is there is ever changed or deleted.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ops/kafka up --dir cluster\n  solyx topics apply --kafka cluster/kafka.toml --log world\n  \
                        solyx topics diff --log world --json\n\nExit code 1 says that something differs."
)]
pub struct Topics {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Create what is missing.
    Apply(Cluster),
    /// Say what differs.
    Diff(Cluster),
}

#[derive(Debug, Args)]
struct Cluster {
    /// How the cluster is reached; by default the world's kafka.toml.
    #[arg(long, value_name = "FILE")]
    kafka: Option<PathBuf>,
    /// Directory of the world; `apply` with --kafka keeps the file in it, so that other commands find the cluster.
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
    /// Fleet files whose cells declare the partitions of their topics.
    #[arg(long, value_name = "FLEET.toml")]
    fleet: Vec<PathBuf>,
}

/// Runs it.
pub fn run(command: &Topics, json: bool) -> Outcome {
    match &command.action {
        Action::Apply(cluster) => apply(cluster, json),
        Action::Diff(cluster) => {
            let differences = kafka::diff(&cluster.config()?, &cluster.partitions()?)?;
            if json {
                output::json(&json!({"differences": differences}));
            } else {
                show(&differences);
            }
            Ok(exit(&differences))
        }
    }
}

fn apply(cluster: &Cluster, json: bool) -> Outcome {
    let config = cluster.config()?;
    let applied = kafka::apply(&config, &cluster.partitions()?)?;
    if let (Some(file), Some(dir)) = (&cluster.kafka, &cluster.log) {
        keep(file, dir)?;
    }
    if json {
        output::json(&json!(applied));
    } else {
        output::line(format!("{} topics created, {} were there", applied.created.len(), applied.present));
        show(&applied.differences);
    }
    Ok(exit(&applied.differences))
}

fn exit(differences: &[TopicDifference]) -> Exit {
    if differences.is_empty() { Exit::Good } else { Exit::Finding }
}

fn show(differences: &[TopicDifference]) {
    if differences.is_empty() {
        output::line("all topics are as they have to be");
        return;
    }
    let rows = differences.iter().map(|d| [&d.topic, &d.setting, &d.found, &d.expected].map(String::clone));
    output::line(output::table(["topic", "setting", "found", "expected"], &[], rows));
}

/// The world names its cluster from now on.
fn keep(file: &Path, dir: &Path) -> Result<(), Failure> {
    let kept = dir.join(world::KAFKA);
    let copied = std::fs::create_dir_all(dir).and_then(|()| std::fs::read(file));
    copied
        .and_then(
            |text| if std::fs::read(&kept).is_ok_and(|old| old == text) { Ok(()) } else { std::fs::write(&kept, text) },
        )
        .map_err(|e| Failure::environment(format!("cannot write {}", kept.display()), e, "check the path and the disk"))
}

impl Cluster {
    fn config(&self) -> Result<KafkaConfig, Failure> {
        let file = match (&self.kafka, &self.log) {
            (Some(file), _) => file.clone(),
            (None, Some(dir)) => dir.join(world::KAFKA),
            (None, None) => {
                return Err(Failure::usage("no cluster is named", "expected --kafka or --log", "see --help"));
            }
        };
        Ok(KafkaConfig::load(&file)?)
    }

    fn partitions(&self) -> Result<BTreeMap<Topic, u32>, Failure> {
        let events = self.fleet.iter().map(|file| {
            fleet::load(file).map(Some).map_err(|e| {
                Failure::usage("the fleet file is not valid", e, "ops/fleets/README.md documents every table")
            })
        });
        let fleets = events.collect::<Result<Vec<_>, Failure>>()?;
        Ok(declared_partitions(&fleets).unwrap_or_default())
    }
}
