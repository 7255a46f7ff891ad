//! The archive: a log as one self-contained set of files that any Avro tool reads.
//!
//! `manifest.json` names and hashes every file; `registry.lock` holds the schema ids; `<topic>/<partition>-<first ordinal>.avro`
//! are Avro object container files with zstd, one per topic-partition, range and set of writer schemas. Their rows are
//! {ordinal, append time, key, headers, framing id, body}, where the body is a union of the record types and of bytes for
//! what does not decode or does not encode again as it was. The same log gives the same archive, byte by byte.

mod avro;
mod container;
pub(crate) mod export;
mod import;
mod manifest;
mod read;
mod rows;
mod schemas;
mod verify;

pub use export::{Exported, export};
pub use import::import;
pub use manifest::{FilePart, HashedFile, MANIFEST, MANIFEST_HASH, Manifest, REGISTRY, RecordFile};
pub use read::ArchiveLog;
pub use verify::{Problem, Verified, verify};

/// How far long work has come; called from several threads, about once in some thousand records.
pub use crate::log::mirror::Progress;
