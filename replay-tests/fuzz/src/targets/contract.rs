//! Records, headers, JSON lines, lock files, schemas, and single values as people write them.

use solyx_connectors::import::Estimates;
use solyx_connectors::import::decimal::Decimal;
use solyx_connectors::import::table::parse_instant;
use solyx_kernel::rating::Month;
use solyx_schemas::codec::{Codec, REGISTRY_LOCK, parse_lock};
use solyx_schemas::events::EVENT_TYPES;
use solyx_schemas::hash::Hash32;
use solyx_schemas::ids::check_id;
use solyx_schemas::json;
use solyx_schemas::log::Record;
use solyx_schemas::shape::RecordShape;
use solyx_schemas::topics::{Topic, TopicName};
use solyx_schemas::units::{Currency, TIME_MAX_US, parse_time, rfc3339};

use super::{is_whole, said};
use crate::{Outcome, Target, holds};

pub fn targets() -> Vec<Target> {
    vec![
        Target {
            name: "value",
            takes: "the value of a record: frame and Avro body",
            seeds: values,
            words: &[],
            run: value,
        },
        Target { name: "headers", takes: "the headers of a record", seeds: headers, words: HEADERS, run: with_headers },
        Target { name: "json-lines", takes: "events as JSON, one a line", seeds: lines, words: JSON, run: read_lines },
        Target { name: "schema", takes: "a schema file", seeds: schemas, words: AVRO, run: schema },
        Target { name: "lock", takes: "a lock file of schema ids", seeds: lock, words: &["solyx."], run: read_lock },
        Target {
            name: "texts",
            takes: "times, months, decimals, hashes, ids and names",
            seeds: texts,
            words: &[],
            run: text,
        },
    ]
}

const HEADERS: &[&str] =
    &["ce_id", "ce_source", "ce_type", "ce_time", "ce_specversion", "content-type", "1.0", "T", "Z", "+01:00"];
const JSON: &[&str] =
    &["type", "JobRequested", "null", "[]", "{}", "\"UNKNOWN\"", "event_id", "occurred_us", "2023-09-04T00:00:00Z"];
const AVRO: &[&str] = &[
    "record",
    "enum",
    "array",
    "long",
    "string",
    "boolean",
    "null",
    "timestamp-micros",
    "default",
    "items",
    "namespace",
];

fn values() -> Vec<Vec<u8>> {
    EVENT_TYPES.iter().map(|kind| Codec::global().encode(&(kind.example)())).collect()
}

fn value(input: &[u8]) -> Outcome {
    match Codec::global().decode(input) {
        Ok(decoded) => is_whole(&decoded.event),
        Err(error) => said(error),
    }
}

/// Headers as lines of a name, a tab and a value, of the first event that has an example.
fn headers() -> Vec<Vec<u8>> {
    let lines = example().headers.into_iter().map(|(name, value)| [name.as_bytes(), b"\t", &value].concat());
    vec![lines.collect::<Vec<_>>().join(&b'\n')]
}

fn example() -> Record {
    Codec::global().record(&(EVENT_TYPES[0].example)(), EVENT_TYPES[0].topic.into(), 1)
}

fn with_headers(input: &[u8]) -> Outcome {
    let line = |line: &[u8]| {
        let end = line.iter().position(|byte| *byte == b'\t').unwrap_or(line.len());
        let value = line.get(end + 1..).unwrap_or_default().to_vec();
        (String::from_utf8_lossy(&line[..end]).into_owned(), value)
    };
    let record = Record { headers: input.split(|byte| *byte == b'\n').map(line).collect(), ..example() };
    match Codec::global().decode_record(&record) {
        Ok(decoded) => is_whole(&decoded.event),
        Err(error) => said(error),
    }
}

fn lines() -> Vec<Vec<u8>> {
    EVENT_TYPES.iter().map(|kind| json::to_json(&(kind.example)()).to_string().into_bytes()).collect()
}

fn read_lines(input: &[u8]) -> Outcome {
    let mut words = String::new();
    let mut found = None;
    let read = json::read_lines(input, |line| match line.event {
        Ok(event) => match is_whole(&event) {
            Ok(name) => words = name,
            Err(what) => found = Some(what),
        },
        Err(errors) => match errors.iter().find(|error| error.expected.is_empty()) {
            Some(error) => found = Some(format!("an error that does not say what was expected: {error:?}")),
            None => words = errors.first().map(ToString::to_string).unwrap_or_default(),
        },
    });
    holds!(read.is_ok(), "bytes in memory could not be read");
    found.map_or(Ok(words), Err)
}

fn schemas() -> Vec<Vec<u8>> {
    EVENT_TYPES.iter().map(|kind| kind.avsc.as_bytes().to_vec()).collect()
}

/// The shape of a schema, and what it makes of the body of an event.
fn schema(input: &[u8]) -> Outcome {
    let shape = match RecordShape::parse(&String::from_utf8_lossy(input)) {
        Ok(shape) => shape,
        Err(error) => return said(error),
    };
    let value = Codec::global().encode(&(EVENT_TYPES[0].example)());
    match shape.read(&mut &value[5..]) {
        Ok(map) => Ok(format!("{} fields", map.len())),
        Err(error) => said(error),
    }
}

fn lock() -> Vec<Vec<u8>> {
    vec![REGISTRY_LOCK.lines().take(6).collect::<Vec<_>>().join("\n").into_bytes()]
}

fn read_lock(input: &[u8]) -> Outcome {
    match parse_lock(&String::from_utf8_lossy(input)) {
        Ok(lines) => Ok(format!("{} lines", lines.len().min(2))),
        Err(error) => said(error),
    }
}

fn texts() -> Vec<Vec<u8>> {
    let hash = "0f".repeat(32);
    let texts = [
        "2023-09-04T00:00:00Z",
        "2023-09-04 01:02:03.456789+05:30",
        "1693785600",
        "2023-09",
        "-12.345678",
        "noisy:0.5",
        "exact",
        &hash,
        "staged.energy",
        "USD",
        "tenant/job-1",
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}

/// Whatever a single value may be taken for.
fn text(input: &[u8]) -> Outcome {
    let text = &*String::from_utf8_lossy(input);
    let mut taken = String::new();
    if let Some(time) = parse_time(text).filter(|time| (0..=TIME_MAX_US).contains(&time.0)) {
        taken.push_str("time ");
        holds!(parse_time(&rfc3339(time)) == Some(time), "{time:?} is written as {}, which is another", rfc3339(time));
    }
    // An instant beyond the contract's years is refused by its event.
    if let Some(time) = parse_instant(text).filter(|time| (0..=TIME_MAX_US).contains(&time.0)) {
        taken.push_str("instant ");
        holds!(parse_time(&rfc3339(time)) == Some(time), "{time:?} is written as {}, which is another", rfc3339(time));
    }
    if let Some(month) = Month::parse(text) {
        taken.push_str("month ");
        holds!(Month::parse(&month.to_string()) == Some(month), "{month} is not read as it is written");
    }
    if let Ok(decimal) = Decimal::parse(text) {
        taken.push_str("decimal ");
        taken.push_str(&decimal.times(1_000_000).map_or_else(|error| format!("{error:?}"), |_| "fits".to_owned()));
    }
    if let Some(hash) = Hash32::parse(text) {
        taken.push_str("hash ");
        holds!(hash.to_string() == text.to_lowercase(), "{hash} was read from {text}");
    }
    if let Some(name) = TopicName::parse(text) {
        taken.push_str("topic ");
        holds!(name.name() == text, "{} was read from {text}", name.name());
    }
    if let Some(currency) = Currency::parse(text) {
        taken.push_str("currency ");
        holds!(currency.as_str() == text, "{} was read from {text}", currency.as_str());
    }
    holds!(Topic::parse(text).is_none_or(|topic| topic.name() == text), "a topic of another name is {text}");
    taken.push_str(if Estimates::parse(text).is_some() { "estimates " } else { "" });
    taken.push_str(if check_id(text).is_ok() { "id" } else { "" });
    Ok(taken)
}
