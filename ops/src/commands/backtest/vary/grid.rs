//! A grid: axes of variations, every combination of which is run, for each seed and each log.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

use super::plan::{Item, RUNS_MAX};
use crate::failure::{Failure, unreadable};

/// A grid as it is read.
pub struct Grid {
    /// Every combination.
    pub variations: Vec<Item>,
    /// Seeds of the executor.
    pub seeds: Vec<i64>,
    /// Logs beside those of the command line.
    pub logs: Vec<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    seeds: Vec<i64>,
    #[serde(default)]
    logs: Vec<PathBuf>,
    axis: Vec<Axis>,
}

/// One thing that varies. Its values are variations; the names of those combined are joined by a point.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Axis {
    name: String,
    values: Vec<Table>,
}

impl Grid {
    /// Reads a file; relative paths in it begin at its directory.
    pub fn load(path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).map_err(|e| unreadable(path, e))?;
        let file = path.display().to_string();
        let directory = path.parent().unwrap_or(Path::new(""));
        let hint = "solyx backtest --help shows a grid";
        let read: File = toml::from_str(&text).map_err(|e| {
            Failure::usage("the grid is not right", format!("{file}: {}", e.to_string().trim_end()), hint)
        })?;
        let combinations = read.axis.iter().try_fold(1_usize, |all, axis| all.checked_mul(axis.values.len()));
        if combinations.is_none_or(|combinations| combinations == 0 || combinations > RUNS_MAX) {
            let detail = format!("{file}: expected 1 to {RUNS_MAX} combinations of the values of the axes");
            return Err(Failure::usage("the grid is not right", detail, hint));
        }
        // Each value is looked at alone, so that an error names its axis.
        for axis in &read.axis {
            for value in &axis.values {
                Item::of_table(&format!("{file}, axis {}", axis.name), value.clone(), directory)?;
            }
        }
        let mut tables = vec![Table::new()];
        for axis in &read.axis {
            let combined = tables.iter().flat_map(|table| axis.values.iter().map(|value| merged(table.clone(), value)));
            tables = combined.collect::<Result<_, _>>().map_err(|key| {
                let detail = format!("{file}, axis {}: field {key} is set by an axis before it, too", axis.name);
                Failure::usage("the grid is not right", detail, "let one axis alone set it")
            })?;
        }
        let item = |table: Table| Item::of_table(&file, table, directory);
        let variations = tables.into_iter().map(item).collect::<Result<_, _>>()?;
        let logs = read.logs.iter().map(|log| directory.join(log)).collect();
        Ok(Self { variations, seeds: read.seeds, logs })
    }
}

/// A table with what another says put in: tables into tables, arrays after arrays, names joined. The key of what both say otherwise,
/// where there is one: of two values one would be dropped.
fn merged(mut into: Table, from: &Table) -> Result<Table, String> {
    for (key, value) in from {
        let together = match (into.remove(key), value) {
            (None, new) => new.clone(),
            (Some(Value::Table(old)), Value::Table(new)) => {
                Value::Table(merged(old, new).map_err(|inner| format!("{key}.{inner}"))?)
            }
            (Some(Value::Array(old)), Value::Array(new)) => Value::Array([old, new.clone()].concat()),
            (Some(Value::String(old)), Value::String(new)) if key == "name" => Value::from(format!("{old}.{new}")),
            (Some(Value::String(old)), Value::String(new)) if key == "description" => {
                Value::from(format!("{old}; {new}"))
            }
            (Some(old), new) if old == *new => old,
            _ => return Err(key.clone()),
        };
        into.insert(key.clone(), together);
    }
    Ok(into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_axes_are_put_into_one_another() {
        let table = |text: &str| text.parse::<Table>().unwrap();
        let both = merged(
            table("name = \"a\"\n[policy]\norder_rule = \"sjf\"\n[[pools]]\nremove = true"),
            &table("name = \"b\"\n[policy]\nbackfill_depth = 7\n[[pools]]\ncordon = true"),
        )
        .unwrap();
        assert_eq!(both["name"].as_str(), Some("a.b"));
        assert_eq!(both["policy"].as_table().unwrap().len(), 2);
        assert_eq!(both["pools"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn what_two_axes_set_is_named() {
        let table = |text: &str| text.parse::<Table>().unwrap();
        let both = |a: &str, b: &str| merged(table(a), &table(b)).err();
        assert_eq!(both("baseline = \"easy\"", "baseline = \"local-only\"").as_deref(), Some("baseline"));
        let (low, high) = ("[weights]\ncarbon_per_kg = 1", "[weights]\ncarbon_per_kg = 2");
        assert_eq!(both(low, high).as_deref(), Some("weights.carbon_per_kg"));
        assert_eq!(both(low, low), None);
    }
}
