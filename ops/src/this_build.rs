//! Which build this is, for reports that another build may be held against.

use serde_json::{Value, json};
use solyx_kernel::{ENGINE_VERSION, KNOWN_FEATURES};

/// The commit that it was built from, where whoever built it said so: a build needs no repository, and the same sources give the
/// same bytes.
const COMMIT: Option<&str> = option_env!("SOLYX_COMMIT");

fn commit() -> Option<&'static str> {
    COMMIT.filter(|commit| !commit.is_empty())
}

/// For a script.
pub fn json() -> Value {
    json!({"version": ENGINE_VERSION, "commit": commit(), "features_known": KNOWN_FEATURES})
}

/// For a person.
pub fn text() -> String {
    let commit = commit().map_or(String::new(), |commit| format!(" of commit {commit}"));
    format!("solyx {ENGINE_VERSION}{commit}, which knows the features {}", KNOWN_FEATURES.join(", "))
}
