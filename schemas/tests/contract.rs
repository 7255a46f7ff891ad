//! The schema files, the lock file and the structs say the same. `SOLYX_UPDATE=1` writes the files from the structs.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::path::{Path, PathBuf};

use apache_avro::Schema;
use serde_json::Value;
use solyx_schemas::codec::{Codec, LOCK_ID_FIRST, parse_lock};
use solyx_schemas::describe::describe;
use solyx_schemas::events::{EVENT_TYPES, Event, Stamp, event_type};
use solyx_schemas::hash::schema_hash;
use solyx_schemas::topics::{Topic, TopicName};
use solyx_schemas::units::TimeUs;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

fn updating() -> bool {
    std::env::var_os("SOLYX_UPDATE").is_some()
}

#[test]
fn every_schema_file_says_what_its_struct_says() {
    let mut lock_text = std::fs::read_to_string(folder().join("registry.lock")).unwrap();
    for event_type in EVENT_TYPES {
        let derived = (event_type.derived_schema)();
        let path = folder().join("avsc").join(format!("{}.avsc", event_type.short_name()));
        if updating() {
            std::fs::write(&path, serde_json::to_string_pretty(&derived).unwrap() + "\n").unwrap();
            let hash = schema_hash(&derived);
            let lock = parse_lock(&lock_text).unwrap();
            let versions = lock.iter().filter(|l| l.subject == event_type.name);
            if !versions.clone().any(|l| l.hash == hash) {
                let id = lock.iter().map(|l| l.id + 1).max().unwrap_or(LOCK_ID_FIRST);
                let version = versions.map(|l| l.version).max().unwrap_or(0) + 1;
                lock_text += &format!("{id} {} {version} {hash}\n", event_type.name);
            }
            std::fs::write(folder().join("registry.lock"), &lock_text).unwrap();
        }
        let file: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(file, derived, "{} differs from its struct; SOLYX_UPDATE=1 writes it", path.display());
        Schema::parse_str(&file.to_string()).unwrap_or_else(|e| panic!("{}: {e}", event_type.name));
        let hash = schema_hash(&file);
        assert!(
            parse_lock(&lock_text).unwrap().iter().any(|l| l.subject == event_type.name && l.hash == hash),
            "{} is not in registry.lock",
            event_type.name
        );
    }
}

#[test]
fn every_event_has_its_topic_and_its_key_for_ever() {
    let line = |name: &str| {
        let described = describe(name).unwrap();
        format!("{} {} {}\n", described.name, described.topic, described.key.join("+"))
    };
    let today: String = EVENT_TYPES.iter().map(|event_type| line(event_type.name)).collect();
    let path = folder().join("tests/topics_and_keys.txt");
    if updating() {
        std::fs::write(&path, &today).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), today, "a record's topic and key are hashed and never change");
}

/// Names of a schema's fields, in order.
fn field_names(schema: &Value) -> Vec<&str> {
    schema["fields"].as_array().unwrap().iter().map(|field| field["name"].as_str().unwrap()).collect()
}

#[test]
fn every_body_begins_with_the_leading_fields_of_an_input_or_an_output() {
    for event_type in EVENT_TYPES {
        let schema = (event_type.derived_schema)();
        let leading: &[&str] = match event_type.topic {
            Topic::Decisions | Topic::Quarantine => &["cell", "epoch", "term", "index", "now_us"],
            _ => &["event_id", "source", "occurred_us"],
        };
        assert_eq!(&field_names(&schema)[..leading.len()], leading, "{}", event_type.name);
    }
}

#[test]
fn an_outputs_id_says_cell_epoch_term_and_index_and_its_source_is_the_cell() {
    let mut event = (event_type("JobAdmitted").unwrap().example)();
    let stamp = Stamp { cell: "cell-x".into(), epoch: 12, term: 3, index: 4, now_us: TimeUs(5) };
    event.stamp(&stamp);
    let identity = event.identity();
    assert_eq!((&*identity.id, identity.source), ("cell-x/12/3/4", "cell-x"));
    assert_eq!(identity.occurred_us, TimeUs(5));
}

#[test]
fn sixty_four_kib_of_an_original_fit_into_a_quarantine_record() {
    let mut event = (event_type("RecordQuarantined").unwrap().example)();
    if let Event::RecordQuarantined(quarantined) = &mut event {
        quarantined.original_value = "ab".repeat(64 << 10);
    }
    assert_eq!(event.check(), Ok(()));
}

#[test]
fn every_event_comes_back_from_its_bytes_and_gives_the_same_bytes() {
    if updating() {
        return;
    }
    let codec = Codec::global();
    for event_type in EVENT_TYPES {
        let event = (event_type.example)();
        let value = codec.encode(&event);
        let decoded = codec.decode(&value).unwrap_or_else(|e| panic!("{}: {e}", event_type.name));
        assert_eq!(decoded.event, event);
        assert_eq!(codec.encode(&decoded.event), value, "{}", event_type.name);
        let record = codec.record(&event, TopicName::live(event.topic()), 4);
        assert_eq!(codec.decode_record(&record).unwrap().event, event);
    }
}
