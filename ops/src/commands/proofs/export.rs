//! What others see: keys and heads on the terminal, and a head as a file for a witness.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use solyx_proofs::{Head, HeadsReport, SignedCheckpoint};

use super::super::audit_signed::witness_head;
use super::{judged, write_new};
use crate::failure::{Exit, Failure, Outcome};
use crate::output;
use crate::world::Source;

/// Show keys and heads, and what is wrong with them.
#[derive(Debug, Args)]
pub struct Show {
    #[command(flatten)]
    source: Source,
}

/// Write the last signed head for a witness.
#[derive(Debug, Args)]
pub struct Export {
    #[command(flatten)]
    source: Source,
    /// A head that the witness has; the file then carries the proof that the new one goes on from it.
    #[arg(long, value_name = "FILE")]
    since: Option<PathBuf>,
    /// The file; without it the head goes to stdout.
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Shows keys and heads.
pub fn show(command: &Show, json: bool) -> Outcome {
    let log = command.source.open()?;
    let (_, history, report) = judged(&*log, [])?;
    if json {
        output::json(&summary(&report, history.tree.size()));
    } else {
        output::line(text(&report, history.tree.size()));
    }
    Ok(if report.findings.is_empty() { Exit::Good } else { Exit::Finding })
}

/// Keys and heads as JSON with stable names.
pub fn summary(report: &HeadsReport, epochs: u64) -> serde_json::Value {
    let keys = report.signing.iter().map(|signing| {
        json!({
            "key_id": signing.key.id, "public_key": signing.key.digits(), "from_size": signing.from_size,
            "until_size": signing.until_size, "anew": signing.anew,
        })
    });
    let last = report.last.as_ref().map(
        |Head { checkpoint, key, .. }| json!({"tree_size": checkpoint.size, "root": checkpoint.root, "key_id": key.id}),
    );
    json!({
        "epochs": epochs, "keys": keys.collect::<Vec<_>>(), "heads": report.heads, "rotations": report.rotations.len(),
        "last": last, "distrusted": report.distrusted, "odd": report.odd, "findings": report.findings,
    })
}

/// The same for people.
pub fn text(report: &HeadsReport, epochs: u64) -> String {
    let mut lines = Vec::new();
    for signing in &report.signing {
        let until =
            signing.until_size.map_or_else(|| "still".to_owned(), |size| format!("until {}", output::grouped(size)));
        let anew = if signing.anew { "; began anew, since the one before was revoked: nobody signed it" } else { "" };
        let from = output::grouped(signing.from_size);
        lines.push(format!("key {}  trees of {from} epochs and more, {until}{anew}", signing.key.id));
        lines.push(format!("    public key {}", signing.key.digits()));
    }
    let heads = output::grouped(report.heads);
    lines.push(match &report.last {
        Some(Head { checkpoint, .. }) => {
            let (size, epochs) = (output::grouped(checkpoint.size), output::grouped(epochs));
            format!("{heads} signed heads, the last one of {size} epochs of {epochs}: root {}", checkpoint.root)
        }
        None => "no signed head".to_owned(),
    });
    if !report.distrusted.is_empty() {
        let count = report.distrusted.len();
        lines.push(format!(
            "{count} records were signed before their key was revoked, and are not trusted: {}",
            report.distrusted.join(", ")
        ));
    }
    lines.extend(report.odd.iter().map(|odd| format!("means nothing: {}: {}", odd.place, odd.detail)));
    lines.extend(report.findings.iter().map(|finding| format!("finding: {}: {}", finding.place, finding.detail)));
    lines.join("\n")
}

/// Writes the last head.
pub fn export(command: &Export, json: bool) -> Outcome {
    let log = command.source.open()?;
    let since = command.since.as_deref().map(witness_head).transpose()?;
    let (_, history, report) = judged(&*log, since.as_ref().map(|since| since.checkpoint.size))?;
    let Some(Head { checkpoint, key, signature }) = &report.last else {
        return Err(Failure::finding(
            "the log has no good signed head",
            "there is nothing to export",
            "solyx proofs sign signs one",
        ));
    };
    let mut head = SignedCheckpoint::new(checkpoint.clone(), key, *signature);
    if let Some(since) = since {
        if let Some(detail) = report.differs_from_witness(&since, &history) {
            return Err(Failure::finding(
                "this log does not go on from that head",
                detail,
                "solyx audit --head FILE looks closer",
            ));
        }
        let old = since.checkpoint.size;
        let proof = history.tree.first(checkpoint.size).consistency(old);
        let proof = proof.ok_or_else(|| {
            let detail = format!("it is of {old} epochs, and the last good one here of {}", checkpoint.size);
            Failure::finding(
                "that head is newer than the last one here",
                detail,
                "solyx proofs sign signs the tree as it is now",
            )
        })?;
        head.since = Some((old, proof));
    }
    match &command.out {
        Some(path) => {
            write_new(path, &head.note(), false)?;
            if json {
                output::json(
                    &json!({"file": path, "tree_size": checkpoint.size, "root": checkpoint.root, "key_id": key.id}),
                );
            } else {
                output::line(format!("head of {} epochs in {}", output::grouped(checkpoint.size), path.display()));
            }
        }
        None if json => {
            output::json(&json!({"note": head.note(), "tree_size": checkpoint.size, "root": checkpoint.root}))
        }
        None => output::line(head.note().trim_end()),
    }
    Ok(Exit::Good)
}
