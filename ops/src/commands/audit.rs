//! `solyx audit`: derives every decision and digest again and names the first difference.

use clap::Args;
use solyx_runtime::{AuditOptions, Progress, Rates};
use solyx_schemas::hash::Hash32;

use crate::failure::{Exit, Failure, Outcome};
use crate::world::Source;
use crate::{output, progress};

/// Derive everything again from a log or an archive and compare.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  solyx audit --log world --json\n  solyx audit --archive world-archive --until-epoch 1000\n  solyx audit --log world --from 100000\n  solyx audit --log world --head 0578373a…"
)]
pub struct Audit {
    #[command(flatten)]
    source: Source,
    /// The last epoch to look at.
    #[arg(long, value_name = "EPOCH")]
    until_epoch: Option<i64>,
    /// Begin at the newest snapshot of this world's engine that stands at this epoch or before it, instead of at the first epoch.
    #[arg(long, value_name = "EPOCH", conflicts_with = "archive")]
    from: Option<i64>,
    /// A chain hash that history has to contain: what an earlier audit said. Only this finds a tail that was cut off whole.
    #[arg(long, value_name = "HASH", value_parser = head)]
    head: Option<Hash32>,
}

fn head(text: &str) -> Result<Hash32, String> {
    Hash32::parse(text).ok_or_else(|| "expected 64 hexadecimal digits, as an audit prints its chain head".to_owned())
}

/// Runs it.
pub fn run(command: &Audit, json: bool) -> Outcome {
    let log = command.source.open()?;
    let bar = progress::spinner("epochs audited:", json);
    // The index of ids of a long history does not fit into memory.
    let scratch = tempfile::Builder::new().prefix("solyx-audit-").tempdir().map_err(|e| {
        Failure::environment("no directory for the audit's index of ids", e, "set TMPDIR to one that can be written")
    })?;
    let options = AuditOptions {
        index_dir: Some(scratch.path().join("index")),
        until_epoch: command.until_epoch,
        from: command.from.and_then(|epoch| Some((command.source.log.as_ref()?.join("snapshots"), epoch))),
        head: command.head,
    };
    let report = solyx_runtime::audit(&*log, &options, &mut |p: &Progress| bar.set_position(p.epochs));
    bar.finish_and_clear();
    let report = report.map_err(super::run::failure)?;
    if json {
        output::json(&report);
    } else {
        let verdict = if report.ok { "everything came out as recorded" } else { "something differs" };
        output::line(format!(
            "{verdict}: {} epochs, {} events, {} events/s",
            output::grouped(report.epochs),
            output::grouped(report.events),
            output::grouped(report.events_per_s)
        ));
        let Rates { read, applied, duplicates } = report.per_s;
        output::line(format!(
            "beside one another, events/s: read {}, applied {}, duplicates found {}",
            output::grouped(read),
            output::grouped(applied),
            output::grouped(duplicates)
        ));
        if report.from_epoch > 0 {
            output::line(format!(
                "epochs before {} are taken from a snapshot whose digest is in the chain, and what was a duplicate of their records as recorded",
                output::grouped(report.from_epoch as u64)
            ));
        } else if command.from.is_some() {
            output::line("no good snapshot stands before that epoch: all of it was looked at");
        }
        output::line(format!("chain head {}", report.chain_head));
        output::line(
            "taken as recorded, for no log can prove them: ranges, times, terms, engine versions, and schemas and features unknown then",
        );
        if report.plans + report.plans_as_recorded > 0 {
            let (made, recorded) = (output::grouped(report.plans), output::grouped(report.plans_as_recorded));
            output::line(format!("plans of packing prices: {made} made again, {recorded} taken as recorded"));
        }
        if let Some(difference) = &report.first_difference {
            output::line(format!("first difference: {difference}"));
        }
    }
    Ok(if report.ok { Exit::Good } else { Exit::Finding })
}
