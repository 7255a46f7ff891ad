//! The hashes of the contract against values computed by another program (Python's hashlib), so that no change of the code can
//! change what an old log hashes to.

use serde_json::json;
use solyx_schemas::hash::{Hash32, RecordContent, RecordParts, chain_hash, merkle_root, record_hash, schema_hash};

const SCHEMA: Hash32 = Hash32([0x11; 32]);

fn event<'a>(id: &'a str, source: &'a str, name: &'a str, schema: &'a Hash32, body: &'a [u8]) -> RecordContent<'a> {
    RecordContent::Event { id, source, name, schema, body }
}

fn hash(topic: &str, partition: u32, ordinal: Option<u64>, key: &[u8], content: RecordContent<'_>) -> String {
    record_hash(&RecordParts { topic, partition, ordinal, key, content }).to_string()
}

fn plain() -> RecordContent<'static> {
    event("evt-1", "src", "solyx.jobs.JobRequested", &SCHEMA, b"\x02a")
}

#[test]
fn a_records_hash_is_sha256_of_its_parts_each_after_its_length() {
    assert_eq!(
        hash("jobs", 3, Some(7), b"job-1", plain()),
        "c8f102f8c35c321821604de7cee26e88638d7bdfe0c522610983f6e2025ba9e0"
    );
}

#[test]
fn an_outputs_hash_leaves_out_the_ordinal() {
    assert_eq!(
        hash("jobs", 3, None, b"job-1", plain()),
        "e3a32e2934da3d94ca3690a2162a536ed120a3ec30754642278ec30a7484b2fe"
    );
}

#[test]
fn what_does_not_decode_is_hashed_over_its_whole_value() {
    let content = RecordContent::Undecodable { value: b"\x00\x00\x00\x00\x01\x02a" };
    assert_eq!(
        hash("jobs", 3, Some(7), b"job-1", content),
        "680ea72d9a34bec11aed812082218b18078e1f36392838b6fdfac3eca150ce8f"
    );
}

#[test]
fn every_part_of_a_record_changes_its_hash() {
    let other = Hash32([0x12; 32]);
    let all = [
        hash("jobs", 3, Some(7), b"job-1", plain()),
        hash("runs", 3, Some(7), b"job-1", plain()),
        hash("jobs", 2, Some(7), b"job-1", plain()),
        hash("jobs", 3, Some(8), b"job-1", plain()),
        hash("jobs", 3, None, b"job-1", plain()),
        hash("jobs", 3, Some(7), b"job-2", plain()),
        hash("jobs", 3, Some(7), b"job-1", event("evt-2", "src", "solyx.jobs.JobRequested", &SCHEMA, b"\x02a")),
        hash("jobs", 3, Some(7), b"job-1", event("evt-1", "s", "solyx.jobs.JobRequested", &SCHEMA, b"\x02a")),
        hash("jobs", 3, Some(7), b"job-1", event("evt-1", "src", "solyx.jobs.JobHoldSet", &SCHEMA, b"\x02a")),
        hash("jobs", 3, Some(7), b"job-1", event("evt-1", "src", "solyx.jobs.JobRequested", &other, b"\x02a")),
        hash("jobs", 3, Some(7), b"job-1", event("evt-1", "src", "solyx.jobs.JobRequested", &SCHEMA, b"\x02b")),
        hash("jobs", 3, Some(7), b"job-1", event("evt-1s", "rc", "solyx.jobs.JobRequested", &SCHEMA, b"\x02a")),
    ];
    let distinct: std::collections::BTreeSet<&String> = all.iter().collect();
    assert_eq!(distinct.len(), all.len());
}

#[test]
fn a_schemas_hash_has_sorted_keys_no_whitespace_and_no_documentation() {
    let schema = json!({
        "type": "record", "name": "N", "namespace": "a.b", "doc": "x",
        "fields": [
            {"name": "e", "doc": "µ", "type": {"type": "long", "unit": "µs"}},
            {"name": "l", "type": ["null", "string"], "default": null},
        ],
    });
    let hash = "0384fac1facf952ec3d423e7e03bfc07fcb7699815f89416690433c1701b21c8";
    assert_eq!(schema_hash(&schema).to_string(), hash);
    let mut documented = schema.clone();
    documented["doc"] = json!("said otherwise");
    documented["fields"][1]["doc"] = json!("more of it");
    assert_eq!(schema_hash(&documented).to_string(), hash);
    let mut other_unit = schema;
    other_unit["fields"][0]["type"]["unit"] = json!("ms");
    assert_ne!(schema_hash(&other_unit).to_string(), hash);
}

#[test]
fn merkle_roots_are_those_of_rfc_6962() {
    let leaves = |n: u8| (0..n).map(|i| Hash32([i; 32])).collect::<Vec<_>>();
    for (n, root) in [
        (0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (1, "7f9c9e31ac8256ca2f258583df262dbc7d6f68f2a03043d5c99a4ae5a7396ce9"),
        (2, "28fb81e496897e0ce886f08602392e9239b65c659041e5202163e58ad898f444"),
        (3, "ba8d94b7fbcecae7b81c4c80574fe24734a6917bf9c1ecd66ff3e0c34ead4620"),
        (7, "7318881c41fce3c1de3640df8e8c110c93f43f686b74204a9d1ad5b8c71c2047"),
    ] {
        assert_eq!(merkle_root(&leaves(n)).to_string(), root, "{n} leaves");
    }
}

#[test]
fn the_chain_is_blake3() {
    // The test vector of an empty input in BLAKE3's own collection.
    let empty = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
    assert_eq!(chain_hash(b"").to_string(), empty);
}
