//! Any table as events, by a mapping in TOML that says which column is which field.
//!
//! ```toml
//! event = "JobRequested"            # the record type, short or in full
//!
//! [columns.submitted]               # a column of the table
//! field = "occurred_us"             # path of the field, as in gang.gpus or models.0.model
//! as = "time"                       # time, integer, decimal, text or bool
//!
//! [columns.hours]
//! field = "expected_work_us"
//! as = "decimal"
//! multiplier = 3600000000           # from the table's unit to the field's
//! optional = true                   # an empty cell leaves the field out; otherwise it is an error
//!
//! [constants]                       # fields that are the same in every row; {column} and {row} are filled in texts
//! event_id = "mine/{row}"
//! source = "import/mine"
//! "gang.replicas_min" = 1
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};
use solyx_schemas::json;

use super::jsonl::not_an_input;
use super::shift::Shift;
use super::table::{Column, Row, Table};
use super::{BadRow, ImportError, Options, Sink};

/// Parts of a field's path.
const PATH_PARTS_MAX: usize = 32;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mapping {
    event: String,
    #[serde(default)]
    columns: BTreeMap<String, Target>,
    #[serde(default)]
    constants: BTreeMap<String, toml::Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Target {
    field: String,
    #[serde(rename = "as", default)]
    kind: Kind,
    multiplier: Option<i64>,
    #[serde(default)]
    optional: bool,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Time,
    Integer,
    Decimal,
    #[default]
    Text,
    Bool,
}

/// Reads a table by its mapping. Times of fields called `occurred_us` decide how far `shift_to` moves all times.
pub fn import(path: &Path, mapping_file: &Path, options: &Options, sink: &mut Sink<'_>) -> Result<(), ImportError> {
    let mapping = read_mapping(mapping_file)?;
    let mut table = Table::open(path)?;
    let mut targets = Vec::with_capacity(mapping.columns.len());
    for (column, target) in &mapping.columns {
        targets.push((table.column(column)?, target));
    }
    let mut paths = mapping.columns.values().map(|target| &target.field).chain(mapping.constants.keys());
    if let Some(path) = paths.find(|path| path.split('.').count() > PATH_PARTS_MAX) {
        return Err(ImportError::Content {
            file: mapping_file.display().to_string(),
            detail: format!(
                "field {:?}… has more than {PATH_PARTS_MAX} parts",
                path.chars().take(60).collect::<String>()
            ),
            hint: "no field of an event lies as deep".to_owned(),
        });
    }
    // The time that places a row comes first, so that it is the one that decides the shift.
    targets.sort_by_key(|(_, target)| target.field != "occurred_us");
    let named: Vec<(String, Column)> =
        table.header().to_vec().into_iter().filter_map(|name| Some((name.clone(), table.find(&name)?))).collect();
    let mut shift = Shift::new(options);
    let mut taken = 0;
    sink.table(&mut table, |row, rows| {
        let number = row.number;
        let mut body = Value::Object(Map::new());
        body["type"] = Value::from(mapping.event.as_str());
        for (field, constant) in &mapping.constants {
            let value = fill(constant, row, &named, number)
                .ok_or_else(|| row.bad_field(field, &constant.to_string(), "a text, whole number or truth value"))?;
            set(&mut body, field, value).map_err(|expected| row.bad_field(field, "", expected))?;
        }
        for (column, target) in &targets {
            if target.optional && row.text(*column).is_empty() {
                continue;
            }
            let value = value_of(row, *column, target, &mut shift)?;
            set(&mut body, &target.field, value).map_err(|expected| row.bad_field(&target.field, "", expected))?;
        }
        let event = json::from_json(&body).map_err(|errors| {
            let first = errors.into_iter().next();
            first.map_or_else(
                || row.bad_field("", "", "an event"),
                |error| row.bad_field(&error.path, &error.found, error.expected),
            )
        })?;
        if let Some(error) = not_an_input(&event) {
            return Err(row.bad_field(&error.path, &error.found, error.expected));
        }
        if !shift.wants(event.identity().occurred_us) {
            rows.skip();
            return Ok(true);
        }
        if options.limit.is_some_and(|limit| taken >= limit) {
            return Ok(false);
        }
        taken += 1;
        rows.push(event);
        Ok(true)
    })
}

fn read_mapping(path: &Path) -> Result<Mapping, ImportError> {
    let file = path.display().to_string();
    let text =
        std::fs::read_to_string(path).map_err(|e| ImportError::Open { file: file.clone(), detail: e.to_string() })?;
    toml::from_str(&text).map_err(|e| ImportError::Content {
        file,
        detail: e.to_string().trim().to_owned(),
        hint: "a mapping has event, [columns.NAME] with field and as, and [constants]".to_owned(),
    })
}

fn value_of(row: &Row<'_>, column: Column, target: &Target, shift: &mut Shift) -> Result<Value, BadRow> {
    Ok(match target.kind {
        Kind::Time => Value::from(shift.apply(row.time(column)?).0),
        Kind::Integer => {
            let value = row.integer(column, i64::MIN..=i64::MAX)?.checked_mul(target.multiplier.unwrap_or(1));
            Value::from(value.ok_or_else(|| row.bad(column, "a whole number that fits 64 bits in its unit"))?)
        }
        Kind::Decimal => Value::from(row.decimal(column, target.multiplier.unwrap_or(1))?),
        Kind::Text => Value::from(row.required(column)?),
        Kind::Bool => Value::from(match row.text(column).to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" => true,
            "false" | "0" | "no" => false,
            _ => return Err(row.bad(column, "true or false")),
        }),
    })
}

/// A constant with `{column}` and `{row}` filled in.
fn fill(constant: &toml::Value, row: &Row<'_>, named: &[(String, Column)], number: u64) -> Option<Value> {
    Some(match constant {
        toml::Value::String(text) => Value::from(fill_text(text, row, named, number)),
        toml::Value::Integer(n) => Value::from(*n),
        toml::Value::Boolean(b) => Value::from(*b),
        toml::Value::Array(items) => {
            Value::from(items.iter().map(|item| fill(item, row, named, number)).collect::<Option<Vec<_>>>()?)
        }
        toml::Value::Table(table) => {
            let mut map = Map::new();
            for (name, item) in table {
                map.insert(name.clone(), fill(item, row, named, number)?);
            }
            Value::Object(map)
        }
        toml::Value::Float(_) | toml::Value::Datetime(_) => return None,
    })
}

/// A text with `{column}` and `{row}` filled in. What is filled in is not looked at again: a cell may hold anything.
fn fill_text(template: &str, row: &Row<'_>, named: &[(String, Column)], number: u64) -> String {
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        let word =
            after.split_once('}').map(|(word, after)| (word, after, named.iter().find(|(name, _)| name == word)));
        rest = match word {
            Some(("row", after, None)) => {
                text.push_str(&number.to_string());
                after
            }
            Some((_, after, Some((_, column)))) => {
                text.push_str(row.text(*column));
                after
            }
            _ => {
                text.push('{');
                after
            }
        };
    }
    text.push_str(rest);
    text
}

/// Puts a value at a path of names and places in lists, `models.0.model`; a list grows by one at most.
fn set(slot: &mut Value, path: &str, value: Value) -> Result<(), String> {
    if path.is_empty() {
        *slot = value;
        return Ok(());
    }
    let (part, rest) = path.split_once('.').unwrap_or((path, ""));
    let place = part.parse::<usize>().ok();
    if slot.is_null() {
        *slot = if place.is_some() { Value::Array(Vec::new()) } else { Value::Object(Map::new()) };
    }
    match (place, slot) {
        (None, Value::Object(map)) => set(map.entry(part).or_insert(Value::Null), rest, value),
        (Some(i), Value::Array(items)) if i <= items.len() => {
            if i == items.len() {
                items.push(Value::Null);
            }
            set(&mut items[i], rest, value)
        }
        _ => Err(format!("a path of fields in which {part} can be")),
    }
}

#[cfg(test)]
mod tests {
    use solyx_schemas::events::Event;

    use super::*;
    use crate::import::testing::{imported, write};

    const MAPPING: &str = r#"
event = "JobRequested"
[columns.submitted]
field = "occurred_us"
as = "time"
[columns.hours]
field = "expected_work_us"
as = "decimal"
multiplier = 3600000000
optional = true
[columns.gpus]
field = "gang.gpus"
as = "integer"
[columns.model]
field = "models.0.model"
[columns.user]
field = "tenant"
[constants]
event_id = "mine/{row}"
source = "import/mine"
job = "mine/{user}/{row}"
class = "standard"
kind = "TRAINING"
preemptible = false
attestation_required = false
hold = false
"models.0.speed_milli" = 1000
"gang.replicas_min" = 1
"gang.replicas_max" = 1
"gang.gpu_milli_each" = 1000
"gang.cpu_milli" = 1000
"gang.memory_mib" = 1024
"gang.exclusive_node" = false
"#;

    #[test]
    fn a_table_becomes_events_by_its_mapping() {
        let mapping = write("map.toml", MAPPING.as_bytes());
        let file = write(
            "jobs.csv",
            b"submitted,user,gpus,hours,model\n2024-01-01 00:00:00,ann,2,1.5,H100\n2024-01-02,bob,-1,1,H100\n\
            2024-01-03,bob,1,,H100\n2024-01-03,,1,,H100\n",
        );
        let options = Options { shift_to: chrono::NaiveDate::from_ymd_opt(2023, 9, 4), ..Options::default() };
        let (summary, events) = imported(|sink| import(&file, &mapping, &options, sink));
        assert_eq!((summary.rows, summary.bad), (4, 2), "{:?}", summary.bad_rows);
        let Event::JobRequested(first) = &events[0] else { panic!("{:?}", events[0]) };
        assert_eq!(first.job.as_str(), "mine/ann/1");
        assert_eq!(first.expected_work_us.map(|work| work.0), Some(5_400_000_000));
        assert_eq!(solyx_schemas::units::rfc3339(first.occurred_us), "2023-09-04T00:00:00Z");
        assert_eq!((first.gang.gpus.0, first.models[0].model.as_str()), (2, "H100"));
    }

    #[test]
    fn what_a_cell_holds_is_not_filled_in_again() {
        let mapping = write("map.toml", MAPPING.replace("mine/{user}/{row}", "{user}{row}{other").as_bytes());
        let file = write("jobs.csv", b"submitted,user,gpus,hours,model\n2024-01-01,{model}{row},1,,H100\n");
        let (summary, _) = imported(|sink| import(&file, &mapping, &Options::default(), sink));
        let said = summary.bad_rows.iter().find(|bad| bad.field == "job").map(|bad| bad.found.clone());
        assert_eq!(said.as_deref(), Some("\"{model}{row}1{other\""), "{:?}", summary.bad_rows);
    }

    #[test]
    fn a_path_that_no_field_has_is_refused_before_anything_is_read() {
        let mapping = write(
            "map.toml",
            format!("event = \"JobRequested\"\n[columns.a]\nfield = \"{}b\"\n", "a.".repeat(40_000)).as_bytes(),
        );
        let file = write("jobs.csv", b"a\n1\n");
        imported(|sink| {
            let error = import(&file, &mapping, &Options::default(), sink).expect_err("no such field").to_string();
            assert!(error.contains("has more than 32 parts"), "{error}");
            Ok(())
        });
    }

    #[test]
    fn a_wrong_mapping_says_what_it_may_have() {
        let mapping = write("map.toml", b"event = \"JobRequested\"\n[columns.a]\nfield = \"x\"\nas = \"float\"\n");
        let file = write("jobs.csv", b"a\n1\n");
        imported(|sink| {
            let error = import(&file, &mapping, &Options::default(), sink).expect_err("no such kind").to_string();
            assert!(error.contains("float") && error.contains("mapping has event"), "{error}");
            Ok(())
        });
    }
}
