//! The report: a table for people, and JSON with stable field names.

use std::time::Duration;

use serde::Serialize;

use crate::history::History;
use crate::machine::Machine;
use crate::measure::{Aim, Bound, Measure};

/// What the measures were made on.
#[derive(Debug, Serialize)]
struct World {
    seed: u64,
    jobs: u32,
    nodes: u32,
    days: u32,
    epochs: usize,
    input_records: usize,
    records: usize,
    input_bytes: usize,
}

/// Everything.
#[derive(Debug, Serialize)]
pub struct Report {
    solyx: &'static str,
    machine: Machine,
    /// Absent where each measure makes its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    world: Option<World>,
    measures: Vec<Measure>,
    elapsed_s: u64,
}

impl Report {
    pub fn new(history: Option<&History>, measures: Vec<Measure>, elapsed: Duration) -> Self {
        Self {
            solyx: env!("CARGO_PKG_VERSION"),
            machine: Machine::here(),
            world: history.map(World::of),
            measures,
            elapsed_s: elapsed.as_secs(),
        }
    }

    /// One line of JSON.
    pub fn json(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string(self)?)
    }

    /// A table, then what each line was measured on.
    pub fn text(&self) -> String {
        let Machine { cpu, cores, memory_mib, system, build } = &self.machine;
        let mut lines =
            vec![format!("solyx {} on {cpu}, {cores} cores, {memory_mib} MiB, {system}; {build}", self.solyx)];
        if let Some(World { seed, jobs, nodes, days, epochs, input_records, records, input_bytes }) = &self.world {
            lines.push(format!(
                "generated world, seed {seed}: {jobs} jobs, {nodes} nodes, {days} days; {epochs} epochs, {input_records} inputs \
                 ({} KiB), {records} records in all",
                input_bytes >> 10
            ));
        }
        lines.push(String::new());
        let head = ["", "median", "spread", "unit", "yardstick", "ratio", "of ratio", "aim"].map(str::to_owned);
        let mut rows = vec![head.to_vec()];
        for measure in &self.measures {
            let yardstick = measure.yardstick.as_ref().map(|y| number(y.spread.median)).unwrap_or_default();
            let (ratio, spread) = measure.ratio.as_ref().map_or_else(Default::default, |ratio| {
                let said = |value: f64| if value < 0.1 { format!("{value:.4}") } else { format!("{value:.2}") };
                (said(ratio.median), format!("{}..{}", said(ratio.min), said(ratio.max)))
            });
            rows.push(vec![
                measure.name.clone(),
                number(measure.spread.median),
                format!("{:.0} %", measure.spread.spread_pct),
                measure.unit.to_owned(),
                yardstick,
                ratio,
                spread,
                measure.aim.map(aimed).unwrap_or_default(),
            ]);
        }
        lines.extend(aligned(&rows));
        lines.push(String::new());
        for measure in &self.measures {
            let against = measure.yardstick.as_ref().map(|y| format!("; against {}", y.name)).unwrap_or_default();
            lines.push(format!("{}: {}{against} ({} runs)", measure.name, measure.what, measure.runs));
        }
        lines.push(format!("all of it in {} s", self.elapsed_s));
        lines.join("\n")
    }
}

impl World {
    fn of(history: &History) -> Self {
        Self {
            seed: history.seed,
            jobs: history.size.jobs,
            nodes: history.size.nodes,
            days: history.size.days,
            epochs: history.raw.len(),
            input_records: history.inputs,
            records: history.records,
            input_bytes: history.input_bytes,
        }
    }
}

fn aimed(aim: Aim) -> String {
    let (side, bound) = match aim.bound {
        Bound::Most(most) => ("≤", most),
        Bound::Least(least) => ("≥", least),
    };
    format!("{side} {} {}", number(bound), if aim.reached { "reached" } else { "not reached" })
}

/// Columns of equal width; the first and the unit stand at the left.
fn aligned(rows: &[Vec<String>]) -> Vec<String> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let line = |row: &Vec<String>| {
        let cells = row.iter().enumerate().map(|(column, cell)| match column {
            0 | 3 => format!("{cell:<width$}", width = width(column)),
            _ => format!("{cell:>width$}", width = width(column)),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// A number with three digits or more, its thousands apart.
fn number(value: f64) -> String {
    match value {
        0.0..0.1 => return format!("{value:.4}"),
        0.0..10.0 => return format!("{value:.2}"),
        0.0..100.0 => return format!("{value:.1}"),
        _ => {}
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
