//! Fleet files: a TOML that describes a cell, its rules, sites, power, pools, nodes, prices and tenants, and becomes
//! events with `solyx publish FLEET.toml`. `ops/fleets/README.md` documents the format table by table.
//!
//! The same file gives the same events: ids are `fleet/<name>/<kind>/<id>`, and everything happens at the file's `at`.
//! Publishing it twice therefore changes nothing; after an edit raise `revision`, which becomes part of the ids.

use std::path::Path;

use solyx_schemas::events::Event;
use solyx_schemas::units::TimeUs;

mod capacity;
mod expand;
mod facility;
pub(crate) mod format;
mod nodes;
pub(crate) mod policy;
pub(crate) mod values;

use expand::Builder;
use format::FleetFile;

/// Equal things of one table.
const COUNT_MAX: i64 = 100_000;

/// What is wrong with a fleet file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {place}: found {found}, expected {expected}")]
pub struct FleetError {
    /// The file.
    pub file: String,
    /// Table and field, and the line where it is known.
    pub place: String,
    /// What stands there.
    pub found: String,
    /// What should stand there.
    pub expected: String,
}

/// The events of a fleet file, in an order in which each thing comes before what points to it.
pub fn load(path: &Path) -> Result<Vec<Event>, FleetError> {
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|e| FleetError {
        file: file.clone(),
        place: "the file".to_owned(),
        found: e.to_string(),
        expected: "a fleet in TOML; ops/fleets has three".to_owned(),
    })?;
    parse(&file, &text, None)
}

/// The events of a fleet file's text. `at` takes the place of the file's own instant.
pub fn parse(file: &str, text: &str, at: Option<TimeUs>) -> Result<Vec<Event>, FleetError> {
    let mut fleet: FleetFile = toml::from_str(text).map_err(|e| syntax_error(file, text, &e))?;
    if let Some(at) = at {
        fleet.at = values::Moment(at);
    }
    let mut builder = Builder::new(file, &fleet);
    policy::build(&fleet, &mut builder)?;
    facility::build(&fleet, &mut builder)?;
    capacity::build(&fleet, &mut builder)?;
    nodes::build(&fleet, &mut builder)?;
    Ok(builder.events)
}

/// What the TOML reader says, with the line it stands on.
pub(crate) fn syntax_error(file: &str, text: &str, error: &toml::de::Error) -> FleetError {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or("");
    let number = before.matches('\n').count();
    let line = text.lines().nth(number).unwrap_or("").trim();
    let table = before.lines().rev().map(str::trim).find(|line| line.starts_with('[')).unwrap_or("the top");
    FleetError {
        file: file.to_owned(),
        place: format!("line {} in {table}", number + 1),
        found: line.to_owned(),
        // Serde's messages are `what is wrong, expected what should stand there`; the line says what is wrong.
        expected: error.message().rsplit_once(", expected ").map_or(error.message(), |(_, what)| what).to_owned(),
    }
}

#[cfg(test)]
mod tests;
