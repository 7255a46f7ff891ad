//! The formats of proofs, which others read too.

#![allow(clippy::unwrap_used)] // helpers of tests

mod checkpoints;
mod epochs;
mod keys;
mod trees;
