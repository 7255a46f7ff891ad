//! What an audit finds of signed heads, and of a head that somebody kept.

use std::path::{Path, PathBuf};

use serde_json::json;
use solyx_proofs::{HeadsReport, SignedCheckpoint};
use solyx_schemas::hash::Hash32;
use solyx_schemas::log::Log;

use super::proofs;
use crate::failure::Failure;
use crate::output;

/// A head that somebody kept.
#[derive(Clone, Debug)]
pub enum KnownHead {
    /// A chain hash.
    Chain(Hash32),
    /// A file with a signed head.
    File(PathBuf),
}

/// Reads either.
pub fn known_head(text: &str) -> Result<KnownHead, String> {
    match Hash32::parse(text) {
        Some(hash) => Ok(KnownHead::Chain(hash)),
        None if Path::new(text).exists() => Ok(KnownHead::File(text.into())),
        None => Err("expected 64 hexadecimal digits, as an audit prints its chain head, or a file with a signed head"
            .to_owned()),
    }
}

/// The signed head that a witness kept in a file.
pub fn witness_head(path: &Path) -> Result<SignedCheckpoint, Failure> {
    let text = proofs::read_text(path, solyx_proofs::NOTE_LEN_MAX as u64)?;
    SignedCheckpoint::parse(&text).map_err(|e| {
        Failure::usage(format!("{} is no signed head", path.display()), e, "`solyx proofs export` writes one")
    })
}

/// What an audit finds of signed heads.
pub struct Signed {
    report: HeadsReport,
    epochs: u64,
    /// Size of a witness's head and what is wrong with it.
    witness: Option<(u64, Option<String>)>,
}

impl Signed {
    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        let witness = self.witness.as_ref().is_none_or(|(_, detail)| detail.is_none());
        self.report.findings.is_empty() && witness
    }

    /// For a script.
    pub fn json(&self) -> serde_json::Value {
        let mut summary = proofs::summary(&self.report, self.epochs);
        if let Some((size, detail)) = &self.witness {
            summary["witness"] = json!({"tree_size": size, "ok": detail.is_none(), "detail": detail});
        }
        summary
    }

    /// For a person.
    pub fn text(&self) -> String {
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
pub fn signed(log: &dyn Log, witness: Option<&SignedCheckpoint>) -> Result<Option<Signed>, Failure> {
    if witness.is_none() && solyx_proofs::signed_events(log)?.is_empty() {
        return Ok(None);
    }
    let (_, history, report) = proofs::judged(log, witness.map(|witness| witness.checkpoint.size))?;
    let witness = witness.map(|witness| (witness.checkpoint.size, report.differs_from_witness(witness, &history)));
    Ok(Some(Signed { report, epochs: history.tree.size(), witness }))
}
