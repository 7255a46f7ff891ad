//! Signed heads as text: a checkpoint (c2sp.org/tlog-checkpoint) in a signed note (c2sp.org/signed-note), as witnesses of
//! transparency logs take it.
//!
//! ```text
//! solyx/cell-1
//! 1234
//! CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
//!
//! — solyx/cell-1 Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
//! ```
//!
//! What is signed is the first three lines with their newlines. The first line keeps heads of different cells, and heads and
//! rotations of keys, apart.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use solyx_schemas::field::Field;
use solyx_schemas::hash::Hash32;
use solyx_schemas::ids::CellId;

use crate::keys::PublicKey;
use crate::tree::verify_consistency;

/// The longest text that is read as a signed head.
pub const NOTE_LEN_MAX: usize = 64 << 10;
/// Signatures that are looked at in a note; witnesses add theirs below the log's.
const SIGNATURES_MAX: usize = 64;
/// Bytes of a signature's line: four of the key's hash, 64 of Ed25519.
const SIGNATURE_BYTES: usize = 68;

/// A head of the tree of epochs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The cell.
    pub cell: CellId,
    /// Epochs in the tree.
    pub size: u64,
    /// Its root.
    pub root: Hash32,
}

/// A head with signatures, and with what shows that it goes on from an earlier one, where that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedCheckpoint {
    /// What is signed.
    pub checkpoint: Checkpoint,
    /// Signatures under the log's own name.
    pub signatures: Vec<NoteSignature>,
    /// Size of an earlier tree, and the proof that this one goes on from it.
    pub since: Option<(u64, Vec<Hash32>)>,
}

/// A signature in a note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoteSignature {
    /// What it says of its key ([`PublicKey::hint`]).
    pub hint: [u8; 4],
    /// Ed25519 over the text.
    pub signature: [u8; 64],
}

/// What is wrong with a text that should be a signed head.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: found {found}, expected {expected}")]
pub struct CheckpointError {
    /// Line, from 1.
    pub line: usize,
    /// What is there.
    pub found: String,
    /// What should be.
    pub expected: &'static str,
}

impl Checkpoint {
    /// The first line: what keeps the heads of a cell apart from all else that is signed.
    pub fn origin(&self) -> String {
        format!("solyx/{}", self.cell)
    }

    /// The bytes that are signed.
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin(), self.size, STANDARD.encode(self.root.0))
    }
}

impl SignedCheckpoint {
    /// A head with one signature of a key.
    pub fn new(checkpoint: Checkpoint, key: &PublicKey, signature: [u8; 64]) -> Self {
        let hint = key.hint(&checkpoint.origin());
        Self { checkpoint, signatures: vec![NoteSignature { hint, signature }], since: None }
    }

    /// Whether one of its signatures is a key's.
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        let hint = key.hint(&self.checkpoint.origin());
        let text = self.checkpoint.text();
        self.signatures.iter().any(|of| of.hint == hint && key.verifies(&text, &of.signature))
    }

    /// Whether the proof that it carries shows that it goes on from an earlier head; nothing when it carries none for that size.
    pub fn goes_on_from(&self, old: &Checkpoint) -> Option<bool> {
        let Checkpoint { cell, size, root } = &self.checkpoint;
        if *cell != old.cell {
            return Some(false);
        }
        let (since, proof) = match &self.since {
            Some((since, proof)) if *since == old.size => (*since, proof.as_slice()),
            _ if *size == old.size => (*size, [].as_slice()),
            _ => return None,
        };
        Some(verify_consistency((since, old.root), (*size, *root), proof))
    }

    /// The text of a file; with a proof it is the body of a witness's `add-checkpoint` (c2sp.org/tlog-witness).
    pub fn note(&self) -> String {
        let mut note = String::new();
        if let Some((size, proof)) = &self.since {
            note += &format!("old {size}\n");
            proof.iter().for_each(|hash| note += &format!("{}\n", STANDARD.encode(hash.0)));
            note += "\n";
        }
        note += &self.checkpoint.text();
        note += "\n";
        for NoteSignature { hint, signature } in &self.signatures {
            let bytes = [&hint[..], &signature[..]].concat();
            note += &format!("— {} {}\n", self.checkpoint.origin(), STANDARD.encode(bytes));
        }
        note
    }

    /// Reads such a text.
    pub fn parse(note: &str) -> Result<Self, CheckpointError> {
        let lines = Lines(note.split('\n').collect());
        let mut at = 0;
        let since = lines.since(&mut at)?;
        let cell = lines.cell(at)?;
        let size = lines.number(at + 1, lines.get(at + 1)?)?;
        let root = lines.hash(at + 2)?;
        let checkpoint = Checkpoint { cell, size, root };
        if !lines.get(at + 3)?.is_empty() {
            return Err(lines.wrong(at + 3, "an empty line, for a head of this log has three lines"));
        }
        let mut signatures = Vec::new();
        let mut line = at + 4;
        while line < lines.0.len() && !(line + 1 == lines.0.len() && lines.0[line].is_empty()) {
            let signature = lines.signature(line, &checkpoint.origin())?;
            signatures.extend(signature);
            line += 1;
            if line - at > 4 + SIGNATURES_MAX {
                return Err(lines.wrong(line, "at most 64 signatures"));
            }
        }
        if signatures.is_empty() {
            return Err(
                lines.wrong(at + 4, "a signature of the log's own name: an em dash, the first line's text, base64")
            );
        }
        Ok(Self { checkpoint, signatures, since })
    }
}

struct Lines<'t>(Vec<&'t str>);

impl<'t> Lines<'t> {
    fn get(&self, line: usize) -> Result<&'t str, CheckpointError> {
        self.0
            .get(line)
            .copied()
            .ok_or_else(|| self.wrong(line, "a signed head: three lines, an empty one, signatures"))
    }

    fn wrong(&self, line: usize, expected: &'static str) -> CheckpointError {
        let shown = |text: &&str| format!("{:?}", text.chars().take(80).collect::<String>());
        let found = self.0.get(line).map_or_else(|| "the end".to_owned(), shown);
        CheckpointError { line: line + 1, found, expected }
    }

    fn since(&self, at: &mut usize) -> Result<Option<(u64, Vec<Hash32>)>, CheckpointError> {
        let Some(size) = self.get(0)?.strip_prefix("old ") else { return Ok(None) };
        let size = self.number(0, size)?;
        let mut proof = Vec::new();
        *at = 1;
        while !self.get(*at)?.is_empty() {
            proof.push(self.hash(*at)?);
            *at += 1;
        }
        *at += 1;
        Ok(Some((size, proof)))
    }

    fn cell(&self, line: usize) -> Result<CellId, CheckpointError> {
        let cell = self.get(line)?.strip_prefix("solyx/").map(CellId::from);
        cell.filter(|cell| cell.check().is_ok()).ok_or_else(|| self.wrong(line, "solyx/ and the id of a cell"))
    }

    fn number(&self, line: usize, text: &str) -> Result<u64, CheckpointError> {
        let number = text.parse::<u64>().ok().filter(|number| number.to_string() == text);
        number.ok_or_else(|| self.wrong(line, "a whole number without leading zeros"))
    }

    fn hash(&self, line: usize) -> Result<Hash32, CheckpointError> {
        let bytes = STANDARD.decode(self.get(line)?).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Hash32).ok_or_else(|| self.wrong(line, "a hash of 32 bytes in base64"))
    }

    /// A signature under the log's own name; nothing for others', which are passed over.
    fn signature(&self, line: usize, origin: &str) -> Result<Option<NoteSignature>, CheckpointError> {
        let wrong = || self.wrong(line, "a signature: an em dash, a name, base64");
        let (name, signature) =
            self.get(line)?.strip_prefix("— ").and_then(|rest| rest.split_once(' ')).ok_or_else(wrong)?;
        let bytes = STANDARD.decode(signature).map_err(|_| wrong())?;
        let (hint, signature) = match <[u8; SIGNATURE_BYTES]>::try_from(bytes) {
            Ok(bytes) if name == origin => (bytes.first_chunk().copied(), bytes.last_chunk().copied()),
            _ => (None, None),
        };
        Ok(hint.zip(signature).map(|(hint, signature)| NoteSignature { hint, signature }))
    }
}
