//! When spot instances could be had: `{"metadata": {"gap_seconds": N}, "data": [count, …]}`, one count every N seconds.
//!
//! Each change becomes what a provider connector would have reported, on the staged topic, and the truth for the
//! simulated executor. The trace begins at `shift_to`, or when the prices of 2023 do.

use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use solyx_schemas::events::Event;
use solyx_schemas::events::capacity::PoolAvailabilityReported;
use solyx_schemas::events::plans::AvailabilityScripted;
use solyx_schemas::ids::{EventId, PoolId, SourceId};
use solyx_schemas::units::*;

use super::shift::{self, Shift};
use super::{BadRow, ImportError, Options, Sink, table};

/// Who says it.
pub const SOURCE: &str = "import/spot";
/// The largest file that is read: the traces have some hundred kilobytes.
const SIZE_MAX: u64 = 64 << 20;

#[derive(Deserialize)]
struct Availability {
    metadata: Metadata,
    data: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Metadata {
    gap_seconds: i64,
}

/// Reads the availability of `pool`; each count in the file is worth `instances_each` instances.
pub fn import(
    path: &Path,
    pool: &str,
    instances_each: i64,
    options: &Options,
    sink: &mut Sink<'_>,
) -> Result<(), ImportError> {
    let file = path.display().to_string();
    let wrong = |detail: String| ImportError::Content {
        file: file.clone(),
        detail,
        hint: "expected {\"metadata\":{\"gap_seconds\":N},\"data\":[count, …]}, gzipped or not".to_owned(),
    };
    let mut text = Vec::new();
    table::open(path)?
        .take(SIZE_MAX)
        .read_to_end(&mut text)
        .map_err(|e| wrong(format!("cut off or damaged after {} bytes ({e})", text.len())))?;
    let availability: Availability = serde_json::from_slice(&text).map_err(|e| wrong(e.to_string()))?;
    let gap_us = availability.metadata.gap_seconds.checked_mul(SECOND_US).filter(|us| *us > 0);
    let gap_us = gap_us.ok_or_else(|| wrong(format!("gap_seconds is {}", availability.metadata.gap_seconds)))?;
    let start = shift::start(options);
    let window = Shift::new(options);
    let mut last = None;
    let mut taken = 0;
    for (i, value) in availability.data.iter().enumerate() {
        if options.limit.is_some_and(|limit| taken >= limit) {
            break;
        }
        sink.count_row();
        let count = value.as_i64().filter(|n| *n >= 0).and_then(|n| n.checked_mul(instances_each));
        let Some(count) = count else {
            sink.bad(BadRow {
                file: file.clone(),
                line: 0,
                field: format!("data[{i}]"),
                found: value.to_string(),
                expected: "a count that is not negative".to_owned(),
            })?;
            continue;
        };
        let at = TimeUs(start.0.saturating_add(gap_us.saturating_mul(i as i64)));
        if !window.wants(at) {
            sink.skip();
            continue;
        }
        taken += 1;
        if last == Some(count) {
            sink.skip();
            continue;
        }
        last = Some(count);
        for event in events(pool, at, count) {
            match event.check() {
                Ok(()) => sink.put(&event)?,
                Err(e) => sink.bad(BadRow {
                    file: file.clone(),
                    line: 0,
                    field: format!("data[{i}].{}", e.path),
                    found: e.found,
                    expected: e.expected,
                })?,
            }
        }
    }
    Ok(())
}

fn events(pool: &str, at: TimeUs, count: i64) -> [Event; 2] {
    let second = at.0 / SECOND_US;
    let reported = PoolAvailabilityReported {
        event_id: EventId::from(format!("availability/{pool}/{second}")),
        source: SourceId::from(SOURCE),
        occurred_us: at,
        pool: PoolId::from(pool),
        instances: Some(Count(count)),
    };
    let scripted = AvailabilityScripted {
        event_id: EventId::from(format!("availability/{pool}/{second}/truth")),
        source: SourceId::from(SOURCE),
        occurred_us: at,
        pool: PoolId::from(pool),
        from_us: at,
        instances: Count(count),
    };
    [reported.into(), scripted.into()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::testing::{imported, trace, write};

    #[test]
    fn only_changes_are_said_and_wrong_counts_are_named() {
        let file = write("spot.json", br#"{"metadata":{"gap_seconds":195},"data":[0,0,2,2,-1,"x",3],"prices":[1]}"#);
        let (summary, events) = imported(|sink| import(&file, "vast/v100", 4, &Options::default(), sink));
        assert_eq!((summary.rows, summary.skipped, summary.bad, summary.events), (7, 2, 2, 6));
        let found: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                Event::AvailabilityScripted(a) => Some((rfc3339(a.from_us), a.instances.0)),
                _ => None,
            })
            .collect();
        let expected = [("2023-09-04T00:00:00Z", 0), ("2023-09-04T00:06:30Z", 8), ("2023-09-04T00:19:30Z", 12)]
            .map(|(at, n)| (at.to_owned(), n));
        assert_eq!(found, expected);
    }

    #[test]
    fn the_recorded_traces_are_read() {
        let Some(path) = trace("network/spot/availability_16-node_aws-08-27-2023_us-east-2b_v100_1.json.gz") else {
            return;
        };
        let (summary, _) = imported(|sink| import(&path, "p", 1, &Options::default(), sink));
        assert_eq!((summary.rows, summary.bad), (3_247, 0));
    }
}
