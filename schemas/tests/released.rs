//! What was ever released can be read for ever: schemas stay compatible in both directions, golden bytes decode.
//!
//! To make a release, run this test with `SOLYX_RELEASE=0.2.0`: it writes today's schema files and golden bytes to
//! `schemas/released/0.2.0`. A version that exists is never written again.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::path::{Path, PathBuf};

use apache_avro::Schema;
use apache_avro::schema_compatibility::SchemaCompatibility;
use serde_json::{Value, json};
use solyx_schemas::codec::Codec;
use solyx_schemas::events::{EVENT_TYPES, event_type};
use solyx_schemas::hash::schema_hash;
use solyx_schemas::json::to_json;
use solyx_schemas::lint;
use solyx_schemas::shape::RecordShape;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("released")
}

/// Released versions, oldest first; makes a new one when the environment asks for it.
fn versions() -> Vec<PathBuf> {
    static RELEASE: std::sync::Once = std::sync::Once::new();
    RELEASE.call_once(|| {
        if let Ok(version) = std::env::var("SOLYX_RELEASE") {
            release(&version);
        }
    });
    // Before the first release there is no folder.
    let Ok(entries) = std::fs::read_dir(folder()) else { return Vec::new() };
    let mut versions: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    versions.sort_by_key(|path| number(path));
    versions
}

fn number(path: &Path) -> Vec<u32> {
    path.file_name().unwrap().to_str().unwrap().split('.').map(|part| part.parse().unwrap()).collect()
}

fn release(version: &str) {
    let folder = folder().join(version);
    assert_eq!(number(&folder).len(), 3, "a version is three numbers, as in 0.2.0");
    assert!(!folder.exists(), "{version} was released before; a released version never changes");
    std::fs::create_dir_all(&folder).unwrap();
    let mut golden = String::new();
    for event_type in EVENT_TYPES {
        std::fs::write(folder.join(format!("{}.avsc", event_type.short_name())), event_type.avsc).unwrap();
        let event = (event_type.example)();
        let line = json!({"event": to_json(&event), "value": hex::encode(Codec::global().encode(&event))});
        golden += &format!("{line}\n");
    }
    std::fs::write(folder.join("golden.jsonl"), golden).unwrap();
}

/// The schema files of a version, as (short name, text).
fn schema_files(version: &Path) -> Vec<(String, String)> {
    let files = std::fs::read_dir(version).unwrap().map(|entry| entry.unwrap().path());
    let schemas = files.filter(|path| path.extension().is_some_and(|e| e == "avsc"));
    schemas
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(&path).unwrap()))
        .collect()
}

#[test]
fn every_released_schema_reads_and_is_read_by_todays() {
    for version in versions() {
        let files = schema_files(&version);
        assert!(files.len() > 50, "{} is not whole", version.display());
        for (name, released) in files {
            let today = event_type(&name).unwrap_or_else(|| panic!("{name} of {} is gone", version.display()));
            let (old, new) = (Schema::parse_str(&released).unwrap(), Schema::parse_str(today.avsc).unwrap());
            let at = format!("{name} since {}", version.display());
            SchemaCompatibility::can_read(&old, &new).unwrap_or_else(|e| panic!("{at}: backward: {e}"));
            SchemaCompatibility::can_read(&new, &old).unwrap_or_else(|e| panic!("{at}: forward: {e}"));
            let (old, new) = (RecordShape::parse(&released).unwrap(), RecordShape::parse(today.avsc).unwrap());
            assert_eq!(lint::change(&old, &new), Vec::<String>::new(), "{at}");
        }
    }
}

#[test]
fn every_released_schema_that_is_not_todays_can_still_be_decoded() {
    for version in versions() {
        for (name, released) in schema_files(&version) {
            let today = event_type(&name).unwrap();
            let hash = |avsc: &str| schema_hash(&serde_json::from_str(avsc).unwrap());
            let known = std::iter::once(today.avsc).chain(solyx_schemas::released::schemas(today.name));
            let missing = "add it to EARLIER in schemas/src/released.rs";
            assert!(known.map(hash).any(|h| h == hash(&released)), "{name} of {}: {missing}", version.display());
        }
    }
}

/// Whether all that was said is still said; a nested record may have fields now that it did not have then.
fn still_says(now: &Value, said: &Value) -> bool {
    match (now, said) {
        (Value::Object(now), Value::Object(said)) => said.iter().all(|(field, said)| still_says(&now[field], said)),
        (Value::Array(now), Value::Array(said)) => {
            now.len() == said.len() && now.iter().zip(said).all(|(now, said)| still_says(now, said))
        }
        _ => now == said,
    }
}

#[test]
fn golden_bytes_of_every_release_decode_to_what_they_said() {
    for version in versions() {
        let golden = std::fs::read_to_string(version.join("golden.jsonl")).unwrap();
        assert_eq!(golden.lines().count(), schema_files(&version).len());
        for line in golden.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let value = hex::decode(line["value"].as_str().unwrap()).unwrap();
            let decoded = Codec::global().decode(&value).unwrap();
            let now = to_json(&decoded.event);
            let schemas = solyx_schemas::released::schemas(decoded.event.name());
            if schemas.count() == 0 {
                assert_eq!(Codec::global().encode(&decoded.event), value, "{} {}", version.display(), now["type"]);
            }
            for (field, said) in line["event"].as_object().unwrap() {
                assert!(still_says(&now[field], said), "{} {field}: {} was {said}", version.display(), now[field]);
            }
        }
    }
}
