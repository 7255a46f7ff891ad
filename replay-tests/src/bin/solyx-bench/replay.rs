//! Audits: everything derived again from the log and compared, against decoding the same inputs and nothing else.

use std::hint::black_box;
use std::time::Instant;

use solyx_runtime::{AuditOptions, audit};
use solyx_schemas::codec::Codec;

use crate::decoding::bodies;
use crate::history::History;
use crate::measure::{Measure, per_second};

/// Runs at most.
const RUNS_MAX: u32 = 3;

/// Events per second of an audit.
pub fn measure(history: &History, runs: u32) -> anyhow::Result<Vec<Measure>> {
    let bodies = bodies(history);
    let mut turns = Vec::new();
    for _ in 0..runs.min(RUNS_MAX) {
        let begun = Instant::now();
        for (_, value) in &bodies {
            black_box(Codec::global().decode(value)?);
        }
        let decoding = per_second(bodies.len(), begun.elapsed());
        let begun = Instant::now();
        let report = audit(&*history.log, &AuditOptions::default(), &mut |_| {})?;
        let elapsed = begun.elapsed();
        if let Some(difference) = report.first_difference {
            anyhow::bail!("the audit found a difference: {difference:?}");
        }
        turns.push((per_second(report.events as usize, elapsed), decoding));
    }
    let what = format!("{} records of {} epochs, read from the log", history.records, history.raw.len());
    let run = per_second(history.records, history.run);
    let run_what = format!("the virtual run that made them, with its executor and appends: {} jobs", history.size.jobs);
    Ok(vec![
        Measure::beside("audit", "events/s", what, &turns, "our own decoding of the inputs"),
        Measure::alone("virtual_run", "events/s", run_what, &[run]),
    ])
}
