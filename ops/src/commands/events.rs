//! `solyx events`: the contract for people and scripts.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;
use solyx_schemas::describe::{Description, FieldDescription, describe};
use solyx_schemas::events::{EVENT_TYPES, event_type};
use solyx_schemas::json::{read_lines, to_json, unknown_type_hint};
use solyx_schemas::topics::Topic;

use crate::failure::{Exit, Failure, Outcome, unreadable};
use crate::output;

/// Look at the contract: list, describe and validate events.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  solyx events list --topic jobs\n  solyx events describe JobRequested\n  \
                        solyx events example NodeReported > node.jsonl\n  solyx events validate node.jsonl")]
pub struct Events {
    #[command(subcommand)]
    command: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List all events with their topics and keys.
    List {
        /// Only those of this topic, as in `jobs`.
        #[arg(long)]
        topic: Option<String>,
    },
    /// Describe an event: fields, types, units, defaults.
    Describe {
        /// Its name, as in `JobRequested` or `solyx.jobs.JobRequested`.
        name: String,
    },
    /// Write a valid example of an event as one line of JSON.
    Example {
        /// Its name.
        name: String,
        /// Spread over several lines, for reading.
        #[arg(long)]
        pretty: bool,
    },
    /// Check files of events, one JSON object per line; `-` is stdin.
    Validate {
        /// The files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

/// Runs it.
pub fn run(command: &Events, json: bool) -> Outcome {
    match &command.command {
        What::List { topic } => list(topic.as_deref(), json),
        What::Describe { name } => {
            let description = describe(name).ok_or_else(|| unknown_event(name))?;
            if json {
                output::json(&description);
            } else {
                output::line(described(&description));
            }
            Ok(Exit::Good)
        }
        What::Example { name, pretty } => {
            let event = to_json(&(event_type(name).ok_or_else(|| unknown_event(name))?.example)());
            output::line(if *pretty { format!("{event:#}") } else { event.to_string() });
            Ok(Exit::Good)
        }
        What::Validate { files } => validate(files, json),
    }
}

fn unknown_event(name: &str) -> Failure {
    Failure::usage(
        format!("{name} is not an event"),
        format!("expected {}", unknown_type_hint(name)),
        "`solyx events list` shows all",
    )
}

fn list(topic: Option<&str>, json: bool) -> Outcome {
    if let Some(name) = topic
        && Topic::parse(name).is_none()
    {
        let names = Topic::ALL.map(Topic::name).join(", ");
        return Err(Failure::usage(format!("{name} is not a topic"), format!("expected one of {names}"), "see --help"));
    }
    let listed = || EVENT_TYPES.iter().filter(|t| topic.is_none_or(|name| t.topic.name() == name));
    let doc = |name: &str| describe(name).map(|d| d.doc).unwrap_or_default();
    if json {
        let events: Vec<_> = listed()
            .map(|t| json!({"name": t.name, "topic": t.topic.name(), "key": t.key_fields(), "doc": doc(t.name)}))
            .collect();
        output::json(&events);
    } else {
        let row = |t: &solyx_schemas::events::EventType| {
            [t.short_name().to_owned(), t.topic.name().to_owned(), t.key_fields().join(", "), doc(t.name)]
        };
        output::line(output::table(["event", "topic", "key", "says"], &[], listed().map(row)));
    }
    Ok(Exit::Good)
}

fn described(description: &Description) -> String {
    let head = format!(
        "{}\n{}\n\ntopic {}, key {}\n",
        description.name,
        description.doc,
        description.topic,
        description.key.join(", ")
    );
    let mut rows = Vec::new();
    add_rows(&description.fields, 0, &mut rows);
    format!("{head}\n{}", output::table(["field", "type", "unit", "when absent", "says"], &[], rows))
}

fn add_rows(fields: &[FieldDescription], depth: usize, rows: &mut Vec<[String; 5]>) {
    for field in fields {
        let absent = match &field.default {
            None => "required".to_owned(),
            Some(default) => default.to_string(),
        };
        let symbols = if field.symbols.is_empty() { String::new() } else { format!(" {}", field.symbols.join(", ")) };
        rows.push([
            format!("{}{}", "  ".repeat(depth), field.name),
            field.kind.clone(),
            field.unit.clone().unwrap_or_default(),
            absent,
            format!("{}{symbols}", field.doc),
        ]);
        add_rows(&field.fields, depth + 1, rows);
    }
}

/// Opens a file of lines; `-` is stdin.
pub fn open_lines(path: &Path) -> Result<Box<dyn BufRead>, Failure> {
    if path == Path::new("-") {
        return Ok(Box::new(BufReader::new(std::io::stdin())));
    }
    let mut file = File::open(path).map_err(|e| unreadable(path, e))?;
    // Opening a directory works; reading it says what is wrong.
    file.read(&mut []).map_err(|e| unreadable(path, e))?;
    Ok(Box::new(BufReader::with_capacity(1 << 16, file)))
}

fn validate(files: &[PathBuf], json: bool) -> Outcome {
    let (mut good, mut bad) = (0u64, 0u64);
    for path in files {
        let reader = open_lines(path)?;
        let file = path.display().to_string();
        read_lines(reader, |line| match line.event {
            Ok(_) => good += 1,
            Err(errors) => {
                bad += 1;
                for e in errors {
                    if json {
                        output::json(&json!({
                            "file": file, "line": line.number, "field": e.path, "found": e.found, "expected": e.expected,
                        }));
                    } else {
                        output::line(format!("{file}:{}: {e}", line.number));
                    }
                }
            }
        })
        .map_err(|e| unreadable(path, e))?;
    }
    if json {
        output::json(&json!({"good": good, "bad": bad}));
    } else {
        output::line(format!("{} good, {} bad", output::grouped(good), output::grouped(bad)));
    }
    Ok(if bad == 0 { Exit::Good } else { Exit::Finding })
}
