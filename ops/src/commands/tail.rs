//! `solyx tail`: the records of a topic as they come, decoded.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};
use solyx_schemas::codec::{Codec, frame_id};
use solyx_schemas::json::to_json;
use solyx_schemas::log::{SCAN_LIMIT, StoredRecord};
use solyx_schemas::topics::TopicName;
use solyx_schemas::units::{TimeUs, rfc3339};

use crate::failure::{Exit, Failure, Outcome};
use crate::{output, signals, world};

/// Characters of a text that are shown on a line.
const TEXT_MAX: usize = 160;
const SHUTDOWN: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(200);

/// Show the records of a topic, decoded, one a line; what does not decode shows why.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  solyx tail decisions --log world --last 20\n  solyx tail jobs --log world --follow\n  \
                        solyx tail staged.energy --log world --json"
)]
pub struct Tail {
    /// The topic without prefix.
    #[arg(value_parser = |name: &str| TopicName::parse(name).ok_or("expected a topic as in jobs, decisions or staged.energy; `solyx events list` has them"))]
    topic: TopicName,
    /// Directory of the world.
    #[arg(long, value_name = "DIR")]
    log: PathBuf,
    /// Only this partition.
    #[arg(long)]
    partition: Option<u32>,
    /// Only so many records of each partition, the last that are there.
    #[arg(long, value_name = "RECORDS", default_value_t = 10)]
    last: u64,
    /// From the first record on.
    #[arg(long, conflicts_with = "last")]
    all: bool,
    /// Go on with what comes, until told to stop.
    #[arg(long, short)]
    follow: bool,
}

/// Runs it.
pub fn run(command: &Tail, json: bool) -> Outcome {
    let stop = signals::stop_within(SHUTDOWN)?;
    let log = world::reader(&command.log)?;
    let topic = command.topic;
    let partitions = match command.partition {
        None => 0..log.partitions(topic),
        Some(partition) if partition < log.partitions(topic) => partition..partition + 1,
        Some(partition) => {
            let detail = format!("found {partition}, expected less than {}", log.partitions(topic));
            return Err(Failure::usage(
                format!("topic {} has no such partition", topic.name()),
                detail,
                "leave it out",
            ));
        }
    };
    let mut positions = Vec::new();
    for partition in partitions {
        let from = if command.all { 0 } else { log.end(topic, partition)?.saturating_sub(command.last) };
        positions.push((topic, partition, from));
    }
    loop {
        for (topic, partition, next) in &mut positions {
            loop {
                let records = log.read(*topic, *partition, *next, SCAN_LIMIT)?;
                let Some(last) = records.last() else { break };
                *next = last.ordinal + 1;
                records.iter().for_each(|stored| show(stored, json));
                if stop.load(Ordering::Relaxed) {
                    return Ok(Exit::Good);
                }
            }
        }
        if !command.follow || stop.load(Ordering::Relaxed) {
            return Ok(Exit::Good);
        }
        log.wait(&positions, Instant::now() + POLL)?;
    }
}

fn show(stored: &StoredRecord, json: bool) {
    let record = &stored.record;
    let event = Codec::global().decode_record(record).map(|decoded| to_json(&decoded.event));
    let key = String::from_utf8_lossy(&record.key);
    if json {
        let (event, problem) = match event {
            Ok(event) => (event, Value::Null),
            Err(problem) => (Value::Null, Value::String(problem.to_string())),
        };
        output::json(&json!({
            "topic": record.topic.name(), "partition": record.partition, "ordinal": stored.ordinal,
            "offset": stored.offset, "append_time_us": stored.append_time_us, "key": key,
            "schema_id": frame_id(&stored.written_value()), "event": event, "problem": problem,
        }));
        return;
    }
    let at = rfc3339(TimeUs(stored.append_time_us));
    let place = format!("{} {}/{}", at, record.partition, stored.ordinal);
    match event {
        Ok(event) => output::line(format!("{place} {key} {}", shortened(event))),
        Err(problem) => output::line(format!("{place} {key} does not decode: {problem}")),
    }
}

/// With texts that nobody reads to their end cut off, as the bytes of what was quarantined; `--json` has them whole.
fn shortened(event: Value) -> Value {
    match event {
        Value::String(text) => {
            let text = output::revealed(&text);
            if text.len() <= TEXT_MAX {
                return Value::String(text.into_owned());
            }
            let cut: String = text.chars().take(TEXT_MAX).collect();
            Value::String(format!("{cut}… ({} bytes)", output::grouped(text.len() as i64)))
        }
        Value::Array(values) => values.into_iter().map(shortened).collect(),
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, shortened(value))).collect(),
        other => other,
    }
}
