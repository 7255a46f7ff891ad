//! Any input events as JSON lines, in the form that `solyx events example` shows: one object a line, with its record
//! type under `type`.

use std::io::BufReader;
use std::path::Path;

use solyx_schemas::events::Event;
use solyx_schemas::field::FieldError;
use solyx_schemas::json;

use super::shift::Shift;
use super::{BadRow, ImportError, Options, Sink, table};

/// Reads the lines. Their times are taken as they are; the window and the limit hold.
pub fn import(path: &Path, options: &Options, sink: &mut Sink<'_>) -> Result<(), ImportError> {
    let file = path.display().to_string();
    let reader = BufReader::new(table::open(path)?);
    let window = Shift::new(options);
    let mut taken = 0;
    let mut outcome = Ok(());
    let mut lines = 0;
    let read = json::read_lines(reader, |line| {
        lines = line.number;
        if outcome.is_ok() && options.limit.is_none_or(|limit| taken < limit) {
            outcome = take(&file, line, &window, &mut taken, sink);
        }
    });
    outcome?;
    if let Err(error) = read {
        sink.truncated(format!(
            "{file}: cut off or damaged after line {lines} ({error}); what came before was read, the tail is missing"
        ));
    }
    Ok(())
}

fn take(file: &str, line: json::Line, window: &Shift, taken: &mut u64, sink: &mut Sink<'_>) -> Result<(), ImportError> {
    sink.count_row();
    let event = match line.event {
        Ok(event) => event,
        Err(errors) => return sink.bad_row(errors.into_iter().map(|error| bad(file, line.number, error))),
    };
    if let Some(error) = not_an_input(&event) {
        return sink.bad(bad(file, line.number, error));
    }
    if !window.wants(event.identity().occurred_us) {
        sink.skip();
        return Ok(());
    }
    *taken += 1;
    sink.put(&event)
}

/// What is wrong with an event that no importer may write.
pub(super) fn not_an_input(event: &Event) -> Option<FieldError> {
    use solyx_schemas::topics::Topic;
    let topic = event.topic();
    if topic.is_input() || topic == Topic::Sim {
        return None;
    }
    Some(FieldError::at("type", event.name(), "an input event; this one only the engine and its runtime write"))
}

/// A bad row of what is wrong with a field.
pub(super) fn bad(file: &str, line: u64, error: FieldError) -> BadRow {
    // JSON's text comes in quotes, and a bad row puts its own around what stands there.
    let text = error.found.strip_prefix('"').and_then(|found| found.strip_suffix('"'));
    let found = text.map_or_else(|| error.found.clone(), str::to_owned);
    BadRow { file: file.to_owned(), line, field: error.path, found, expected: error.expected }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::testing::{imported, write};

    fn example(name: &str) -> String {
        let event = (solyx_schemas::events::event_type(name).expect("it exists").example)();
        json::to_json(&event).to_string()
    }

    #[test]
    fn lines_become_events_and_bad_lines_are_named() {
        let text = format!(
            "{}\n{{\"type\":\"solyx.jobs.JobRequestd\"}}\n\nnot json\n{}\n{}\n",
            example("JobRequested"),
            example("JobPlaced"),
            example("WorkScripted")
        );
        let file = write("events.jsonl", text.as_bytes());
        let (summary, events) = imported(|sink| import(&file, &Options::default(), sink));
        assert_eq!((summary.rows, summary.events), (5, 2));
        let lines: std::collections::BTreeSet<_> = summary.bad_rows.iter().map(|bad| bad.line).collect();
        assert_eq!(lines.into_iter().collect::<Vec<_>>(), [2, 4, 5]);
        assert_eq!(events[0].name(), "solyx.jobs.JobRequested");
    }
}
