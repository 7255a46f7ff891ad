//! The built binary, and what it said.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// Runs the binary.
pub fn solyx(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_solyx")).args(arguments).output().expect("solyx runs")
}

/// Its exit code.
pub fn code(output: &Output) -> i32 {
    output.status.code().expect("it ends by itself")
}

/// What it wrote.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("solyx writes UTF-8")
}

/// What it wrote as JSON.
pub fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&output.stderr)))
}

/// A file of this crate.
pub fn here(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path).display().to_string()
}
