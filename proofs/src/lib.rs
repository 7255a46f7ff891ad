//! Evidence that stands without the log: the tree of epochs, its signed heads, and receipts.
//!
//! The hash of each epoch is a leaf of one RFC 6962 tree, whose head is signed (`solyx.proofs`, never read by the kernel). A receipt
//! holds a few events of the log with their paths to a signed head; who has the public key needs nothing else. Nothing here
//! decides anything or judges a record again: that is what an audit is for.

mod checkpoint;
mod epoch_hash;
mod heads;
mod history;
mod keys;
pub mod receipt;
mod tree;

pub use checkpoint::{Checkpoint, CheckpointError, NOTE_LEN_MAX, NoteSignature, SignedCheckpoint};
pub use epoch_hash::{EpochHashes, input_hash, output_hash, without_overcommitments};
pub use heads::{Finding, Head, HeadsReport, Rotation, Signing, judge};
pub use history::{History, HistoryError, Signed, SignedEvent, signed_events};
pub use keys::{ALGORITHM, DeclaredKey, KeyHistory, PublicKey, SecretKey, rotation_text};
pub use tree::{EpochLeaf, EpochTree, HashTree, verify_consistency, verify_inclusion};
