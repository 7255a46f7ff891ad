//! `solyx audit`: derives every decision and digest again and names the first difference.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use solyx_proofs::{HeadsReport, SignedCheckpoint};
use solyx_runtime::{AuditOptions, Progress, Rates};
use solyx_schemas::hash::Hash32;
use solyx_schemas::log::Log;

use super::proofs;
use crate::failure::{Exit, Failure, Outcome};
use crate::world::Source;
use crate::{output, progress};

/// Derive everything again from a log or an archive and compare.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  solyx audit --log world --json\n  solyx audit --archive world-archive --until-epoch 1000\n  solyx audit --log world --from 100000\n  solyx audit --log world --head 0578373a…\n  solyx audit --log world --head head.txt"
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
    /// What history has to contain: a chain hash that an earlier audit said, or a file with a signed head that a witness kept. Only
    /// this finds a tail that was cut off whole.
    #[arg(long, value_name = "HASH|FILE", value_parser = known_head)]
    head: Option<KnownHead>,
}

/// A head that somebody kept.
#[derive(Clone, Debug)]
enum KnownHead {
    Chain(Hash32),
    File(PathBuf),
}

fn known_head(text: &str) -> Result<KnownHead, String> {
    match Hash32::parse(text) {
        Some(hash) => Ok(KnownHead::Chain(hash)),
        None if Path::new(text).exists() => Ok(KnownHead::File(text.into())),
        None => Err("expected 64 hexadecimal digits, as an audit prints its chain head, or a file with a signed head"
            .to_owned()),
    }
}

/// The signed head that a witness kept in a file.
pub(super) fn witness_head(path: &Path) -> Result<SignedCheckpoint, Failure> {
    let text = proofs::read_text(path, solyx_proofs::NOTE_LEN_MAX as u64)?;
    SignedCheckpoint::parse(&text).map_err(|e| {
        Failure::usage(format!("{} is no signed head", path.display()), e, "`solyx proofs export` writes one")
    })
}

/// What an audit finds of signed heads.
struct Signed {
    report: HeadsReport,
    epochs: u64,
    /// Size of a witness's head and what is wrong with it.
    witness: Option<(u64, Option<String>)>,
}

impl Signed {
    fn is_good(&self) -> bool {
        let witness = self.witness.as_ref().is_none_or(|(_, detail)| detail.is_none());
        self.report.findings.is_empty() && witness
    }

    fn json(&self) -> serde_json::Value {
        let mut summary = proofs::summary(&self.report, self.epochs);
        if let Some((size, detail)) = &self.witness {
            summary["witness"] = json!({"tree_size": size, "ok": detail.is_none(), "detail": detail});
        }
        summary
    }

    fn text(&self) -> String {
        let mut text = proofs::text(&self.report, self.epochs);
        if let Some((size, detail)) = &self.witness {
            let size = output::grouped(*size);
            text += &match detail {
                None => format!("\nthe witness's head of {size} epochs is one of this log's"),
                Some(detail) => format!("\nfinding: the witness's head of {size} epochs: {detail}"),
            };
        }
        text
    }
}

/// Looks at all that was signed, and at a witness's head; nothing where there is neither.
fn signed(log: &dyn Log, witness: Option<&SignedCheckpoint>) -> Result<Option<Signed>, Failure> {
    if witness.is_none() && solyx_proofs::signed_events(log)?.is_empty() {
        return Ok(None);
    }
    let (_, history, report) = proofs::judged(log, witness.map(|witness| witness.checkpoint.size))?;
    let witness = witness.map(|witness| (witness.checkpoint.size, report.differs_from_witness(witness, &history)));
    Ok(Some(Signed { report, epochs: history.tree.size(), witness }))
}

/// Runs it.
pub fn run(command: &Audit, json: bool) -> Outcome {
    let witness = match &command.head {
        Some(KnownHead::File(path)) => Some(witness_head(path)?),
        _ => None,
    };
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
        head: match command.head {
            Some(KnownHead::Chain(hash)) => Some(hash),
            _ => None,
        },
    };
    let report = solyx_runtime::audit(&*log, &options, &mut |p: &Progress| bar.set_position(p.epochs));
    bar.finish_and_clear();
    let report = report.map_err(super::run::failure)?;
    let signed = match signed(&*log, witness.as_ref()) {
        // Where history breaks off is said already.
        Err(_) if !report.ok => None,
        signed => signed?,
    };
    let ok = report.ok && signed.as_ref().is_none_or(Signed::is_good);
    if json {
        let mut said = serde_json::to_value(&report)
            .map_err(|e| Failure::environment("the report cannot be written", e, "report this"))?;
        said["ok"] = ok.into();
        if let Some(signed) = &signed {
            said["proofs"] = signed.json();
        }
        output::json(&said);
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
        if let Some(signed) = &signed {
            output::line(signed.text());
        }
    }
    Ok(if ok { Exit::Good } else { Exit::Finding })
}
