//! `solyx leader`: who leads among the engines of a cell, and handing over.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;
use solyx_connectors::log::kafka::{self, KafkaConfig};
use solyx_schemas::units::{TimeUs, rfc3339};

use crate::failure::{Exit, Failure, Outcome};
use crate::{output, world};

/// Longest wait for another engine to lead.
const TRANSFER_MAX: Duration = Duration::from_secs(30);

/// Show which engine leads, or hand over to another one before this one is stopped.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  solyx leader show --log world\n  solyx leader transfer --log world --to engine-b")]
pub struct Leader {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// The engines that are alive.
    Show {
        /// Directory of the world.
        #[arg(long, value_name = "DIR")]
        log: PathBuf,
    },
    /// Let another engine lead; the one that leads follows from then on.
    Transfer {
        /// Directory of the world.
        #[arg(long, value_name = "DIR")]
        log: PathBuf,
        /// The engine that is to lead; by default the standby that has come furthest.
        #[arg(long, value_name = "INSTANCE")]
        to: Option<String>,
    },
}

/// Runs it.
pub fn run(command: &Leader, json: bool) -> Outcome {
    match &command.action {
        Action::Show { log } => {
            let instances = kafka::instances(&cluster(log)?)?;
            let led = instances.iter().any(|instance| instance.leads);
            if json {
                output::json(&json!({"instances": instances}));
            } else {
                let rows = instances.iter().map(|i| {
                    let role = if i.leads { "leads" } else { "follows" };
                    let seen = rfc3339(TimeUs(i.seen_ms * 1_000));
                    [i.instance.clone(), role.to_owned(), output::grouped(i.next_epoch), seen]
                });
                output::line(output::table(["instance", "role", "next epoch", "last seen"], &[2], rows));
            }
            Ok(if led { Exit::Good } else { Exit::Finding })
        }
        Action::Transfer { log, to } => {
            let (leader, gap_ms) = kafka::transfer(&cluster(log)?, to.as_deref(), TRANSFER_MAX)?;
            if json {
                output::json(&json!({"leader": leader, "gap_ms": gap_ms}));
            } else {
                output::line(format!("{leader} leads; nobody did for {gap_ms} ms"));
            }
            Ok(Exit::Good)
        }
    }
}

fn cluster(dir: &std::path::Path) -> Result<KafkaConfig, Failure> {
    world::cluster(dir)?.ok_or_else(|| {
        Failure::usage(
            "this world is not on a cluster",
            format!("no {} in {}", world::KAFKA, dir.display()),
            "an embedded log has one engine; `solyx topics apply` names a cluster for a world",
        )
    })
}
