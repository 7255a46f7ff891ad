//! Receipts: a few events of a log, each with its path to a signed head, in a file that is checked without the log.
//!
//! A receipt shows nothing of other records but hashes. It proves that its events are in the log and counted, in which epochs, and
//! that the head of this log was signed over them. A receipt of an invoice's line is also rated again from its events. What it
//! cannot show: that the log holds nothing else that would change the line, that meters told the truth, and that the engine
//! decided by its rules, which an audit does.

mod format;
mod prove;
mod select;
mod strict;
mod verify;

pub use format::{
    Content, EpochProof, Proven, RECEIPT_BYTES_MAX, Receipt, RotationSigned, SignedHead, Subject, VERSION,
};
pub use prove::{ProveError, prove_decision, prove_line};
pub use verify::{Verified, VerifiedRecord, VerifyError, verify};
