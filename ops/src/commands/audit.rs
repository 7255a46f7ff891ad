//! `solyx audit`: derives every decision and digest again and names the first difference.

use std::sync::atomic::{AtomicU64, Ordering};

use clap::Args;
use serde_json::{Value, json};
use solyx_runtime::{AuditOptions, AuditReport, Progress, Rates, SealedTexts};
use solyx_schemas::hash::Hash32;

use super::audit_many::{Sources, at_once, name, threads};
use crate::failure::{Exit, Failure, Outcome};
use crate::world::Source;
use crate::{output, progress};

/// Derive everything again from a log or an archive and compare.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  solyx audit --log world --json\n  solyx audit --archive world-archive --until-epoch 1000\n  solyx audit --log world --from 100000\n  solyx audit --log world --head 0578373a…\n  solyx audit --log cell-a --log cell-b --archive cell-c --json\n\n\
                  Several logs are audited at once, one report each: with --json as {\"ok\", \"reports\": [{\"log\", \"report\" or \"error\"}]}. \
                  The exit code is the highest of theirs."
)]
pub struct Audit {
    #[command(flatten)]
    sources: Sources,
    /// The last epoch to look at.
    #[arg(long, value_name = "EPOCH")]
    until_epoch: Option<i64>,
    /// Begin at the newest snapshot of this world's engine that stands at this epoch or before it, instead of at the first epoch.
    #[arg(long, value_name = "EPOCH", conflicts_with = "archive")]
    from: Option<i64>,
    /// A chain hash that history has to contain: what an earlier audit said. Only this finds a tail that was cut off whole.
    #[arg(long, value_name = "HASH", value_parser = head)]
    head: Option<Hash32>,
    /// Audits at once, of several logs; by default one for each core.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
}

fn head(text: &str) -> Result<Hash32, String> {
    Hash32::parse(text).ok_or_else(|| "expected 64 hexadecimal digits, as an audit prints its chain head".to_owned())
}

/// Runs it.
pub fn run(command: &Audit, json: bool) -> Outcome {
    let sources = command.sources.each();
    let bar = progress::spinner("epochs audited:", json);
    let audited = AtomicU64::new(0);
    if let [source] = &sources[..] {
        let report =
            one(command, source, &|epochs| bar.set_position(audited.fetch_add(epochs, Ordering::Relaxed) + epochs));
        bar.finish_and_clear();
        let report = report?;
        if json {
            output::json(&report);
        } else {
            tell(command, &report);
        }
        return Ok(exit_of(&report));
    }
    if command.head.is_some() {
        let detail = format!("found --head with {} logs", sources.len());
        return Err(Failure::usage("a head is of one log", detail, "audit that log alone"));
    }
    let threads = command.threads.map_or_else(threads, usize::from);
    let reports = at_once(&sources, threads, |source| {
        one(command, source, &|epochs| bar.set_position(audited.fetch_add(epochs, Ordering::Relaxed) + epochs))
    });
    bar.finish_and_clear();
    let exit = reports.iter().map(|said| said.as_ref().map_or_else(|failure| failure.exit, exit_of));
    let exit = exit.max_by_key(|exit| *exit as u8).unwrap_or(Exit::Good);
    if json {
        let reports: Vec<Value> = sources.iter().zip(&reports).map(json_of).collect();
        output::json(&json!({"ok": exit == Exit::Good, "reports": reports}));
        return Ok(exit);
    }
    for (source, said) in sources.iter().zip(&reports) {
        output::line(format!("{}:", name(source)));
        match said {
            Ok(report) => tell(command, report),
            Err(failure) => output::line(format!("{}: {}; {}", failure.what, failure.detail, failure.hint)),
        }
    }
    let good = reports.iter().flatten().filter(|report| report.ok).count();
    output::line(format!("{good} of {} logs came out as recorded", sources.len()));
    Ok(exit)
}

fn json_of((source, said): (&Source, &Result<AuditReport, Failure>)) -> Value {
    match said {
        Ok(report) => json!({"log": name(source), "report": report}),
        Err(Failure { exit, what, detail, hint, .. }) => {
            json!({"log": name(source), "error": {"what": what, "detail": detail, "hint": hint, "exit": *exit as u8}})
        }
    }
}

fn exit_of(report: &AuditReport) -> Exit {
    if report.ok { Exit::Good } else { Exit::Finding }
}

/// Audits one log; `advance` hears how many epochs more are done.
fn one(command: &Audit, source: &Source, advance: &dyn Fn(u64)) -> Result<AuditReport, Failure> {
    let log = source.open()?;
    // The index of ids of a long history does not fit into memory.
    let scratch = tempfile::Builder::new().prefix("solyx-audit-").tempdir().map_err(|e| {
        Failure::environment("no directory for the audit's index of ids", e, "set TMPDIR to one that can be written")
    })?;
    let options = AuditOptions {
        index_dir: Some(scratch.path().join("index")),
        until_epoch: command.until_epoch,
        from: command.from.and_then(|epoch| Some((source.log.as_ref()?.join("snapshots"), epoch))),
        head: command.head,
    };
    let mut told = 0;
    let mut progress = |p: &Progress| {
        advance(p.epochs - told);
        told = p.epochs;
    };
    solyx_runtime::audit(&*log, &options, &mut progress).map_err(super::run::failure)
}

/// A report for a person.
fn tell(command: &Audit, report: &AuditReport) {
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
    for sealed in &report.sealed {
        let SealedTexts { key_id, texts, quoted, destroyed_in_epoch, .. } = sealed;
        let gone = destroyed_in_epoch.map_or(String::new(), |epoch| {
            format!("; the key was destroyed in epoch {epoch}, what they said is erased")
        });
        let (texts, quoted) = (output::grouped(*texts), output::grouped(*quoted));
        output::line(format!(
            "sealed with key {key_id}, and audited as sealed: {texts} texts, quoted by {quoted} decisions{gone}"
        ));
    }
    if let Some(difference) = &report.first_difference {
        output::line(format!("first difference: {difference}"));
    }
}
