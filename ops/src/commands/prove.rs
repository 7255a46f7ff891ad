//! `solyx prove`: receipts.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;
use solyx_proofs::receipt::{ProveError, Receipt, prove_decision, prove_line};

use super::proofs::{history_failure, write_new};
use crate::failure::{Exit, Failure, Outcome};
use crate::output;
use crate::world::Source;

/// Write a receipt that is checked without the log.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:\n  solyx view billing --invoice TENANT --log world --json     # lines with their ids\n  \
                  solyx prove invoice-line 1f0c8a9be2d47765 --log world -o line.json\n  \
                  solyx prove decision cell-1/1042/0/3 --log world -o decision.json\n  \
                  solyx verify line.json --public-keys signing.key.pub"
)]
pub struct Prove {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// A line of an invoice, down to usage, rate and decision.
    InvoiceLine(Of),
    /// A decision, with the request of its job.
    Decision(Of),
}

#[derive(Debug, Args)]
struct Of {
    /// Id of the line (`id` in the JSON of `solyx view billing`), or of the decision (`<cell>/<epoch>/<term>/<index>`).
    id: String,
    #[command(flatten)]
    source: Source,
    /// The file; without it the receipt goes to stdout.
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Runs it.
pub fn run(command: &Prove, json: bool) -> Outcome {
    let (of, receipt) = match &command.what {
        What::InvoiceLine(of) => (of, prove_line(&*of.source.open()?, &of.id)),
        What::Decision(of) => (of, prove_decision(&*of.source.open()?, &of.id)),
    };
    let receipt = receipt.map_err(|error| failure(of, error))?;
    let text = receipt.text();
    let Some(path) = &of.out else {
        // Not as it is shown to a person: every byte is signed.
        output::bytes(text.trim_end());
        return Ok(Exit::Good);
    };
    write_new(path, &text, false)?;
    let events: usize = receipt.epochs.iter().map(|epoch| epoch.records.len()).sum();
    let Receipt { head, epochs, .. } = &receipt;
    if json {
        output::json(&json!({
            "file": path, "bytes": text.len(), "events": events, "epochs": epochs.len(), "tree_size": head.tree_size,
            "root": head.root, "public_key": head.public_key,
        }));
    } else {
        output::line(format!(
            "{}: {} events in {} epochs, under the signed head of {} epochs; {} bytes",
            path.display(),
            output::grouped(events as u64),
            output::grouped(epochs.len() as u64),
            output::grouped(head.tree_size),
            output::grouped(text.len() as u64)
        ));
    }
    Ok(Exit::Good)
}

fn failure(of: &Of, error: ProveError) -> Failure {
    let what = format!("there is no receipt of {}", of.id);
    let hint = match &error {
        ProveError::NoHead => {
            "`solyx proofs sign` signs one, with a key that `solyx proofs keygen` makes and `solyx proofs declare` declares"
        }
        ProveError::BadHead { .. } => "`solyx proofs show` lists what is wrong with signed heads",
        ProveError::NotSigned { .. } => "`solyx proofs sign` signs the tree as it is now",
        ProveError::Unknown { .. } => {
            "lines are in `solyx view billing --invoice TENANT --json`, decisions in `solyx tail decisions --json`; what is newer than the head needs `solyx proofs sign`"
        }
        ProveError::Id { .. } => return Failure::usage(what, error, "`solyx tail decisions --json` shows the ids"),
        ProveError::Feature { .. } => {
            return Failure::environment(what, error, "`solyx --version` says which build this is");
        }
        ProveError::NotAlone(_) => "report this with the id; `solyx audit` says whether the log is good",
        ProveError::Fold(_) => "`solyx audit` says whether the log is good",
        ProveError::History(_) => match error {
            ProveError::History(error) => return history_failure(error),
            _ => unreachable!("the outer match has looked"),
        },
    };
    Failure::finding(what, error, hint)
}
