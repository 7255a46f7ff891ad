//! Whatever takes bytes from outside, given bytes that nobody meant: decoders, importers, archives, snapshots, fleet files, variations,
//! answers of a registry, questions, receipts, signed heads, keys, rows of kept views.
//!
//! Each target begins with inputs that are good and changes them. An input after which something new happens (another branch taken,
//! another error said) is kept and changed further. What must hold: no panic, no more memory than [`watch::MEMORY_MAX`], an end within
//! [`watch::TIME_MAX`], and what the target says of itself, above all that what is read and written again is read as the same.

pub mod coverage;
pub mod hunt;
pub mod mutate;
pub mod shrink;
pub mod targets;
pub mod watch;

use std::path::PathBuf;

/// Something that takes bytes from outside.
pub struct Target {
    /// Its name, as on the command line.
    pub name: &'static str,
    /// What it takes.
    pub takes: &'static str,
    /// Good inputs, from which it begins.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Words that its inputs are made of beside bytes.
    pub words: &'static [&'static str],
    /// Takes an input.
    pub run: fn(&[u8]) -> Outcome,
}

/// What became of an input. `Ok` says in words what it was taken for, an error of the product among it: another text is something new.
/// `Err` is a finding. So is a panic.
pub type Outcome = Result<String, String>;

/// The inputs that once were findings, in a directory for each target. They are tried first, in every run and by `cargo test`.
pub fn corpus(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

/// A finding unless it holds.
#[macro_export]
macro_rules! holds {
    ($condition:expr, $($said:tt)+) => {
        if !$condition {
            return Err(format!($($said)+));
        }
    };
}
