//! Which runs are to be made: logs, and variations as TOML text with everything in it, their seed among it.

use std::path::{Path, PathBuf};

use solyx_connectors::fleet::FleetError;
use solyx_connectors::rerun::{Variation, baselines};
use toml::{Table, Value};

use super::Vary;
use super::grid::Grid;
use super::sweep::BASE;
use crate::failure::Failure;

/// Jobs told of each variation unless somebody says otherwise.
const CHANGED: usize = 5;
/// Runs of one command at most.
pub const RUNS_MAX: usize = 100_000;

/// What is to be run.
#[derive(Debug)]
pub struct Plan {
    /// Logs.
    pub bases: Vec<PathBuf>,
    /// Variations, for each log and seed.
    pub variations: Vec<Item>,
    /// Seeds of the executor in place of the recorded one; one that is absent is as recorded.
    pub seeds: Vec<Option<i64>>,
    /// Runs at a time.
    pub jobs: usize,
    /// Jobs told of each variation.
    pub changed: usize,
    /// Where worlds are kept.
    pub keep: Option<PathBuf>,
}

/// A variation.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Where it is written: what an error names.
    pub file: String,
    table: Table,
}

impl Item {
    /// Of a file's text; a relative path in it begins at `directory`.
    pub fn parse(file: &str, text: &str, directory: &Path) -> Result<Self, Failure> {
        // The typed reader names what is wrong by line; the table is what seeds and other tables are put into.
        Variation::parse(file, text).map_err(failure)?;
        let table: Table = text.parse().map_err(|e| Failure::usage(format!("{file} is no TOML"), e, HINT))?;
        Self::of_table(file, table, directory)
    }

    /// Of a table.
    pub fn of_table(file: &str, mut table: Table, directory: &Path) -> Result<Self, Failure> {
        if let Some(Value::String(fleet)) = table.get_mut("fleet") {
            let path = directory.join(&*fleet);
            let path = path.canonicalize().map_err(|e| crate::failure::unreadable(&path, e))?;
            *fleet = path.display().to_string();
        }
        let text = |key: &str| table.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let item = Self { name: text("name"), description: text("description"), file: file.to_owned(), table };
        item.variation(None).map_err(failure)?;
        if item.name == BASE {
            let detail = format!("{file}: field name: found {BASE:?}, expected another name");
            return Err(Failure::usage("a variation has the base's name", detail, HINT));
        }
        Ok(item)
    }

    /// One that changes nothing.
    pub fn base() -> Self {
        let table = Table::from_iter([("name".to_owned(), Value::from(BASE))]);
        Self { name: BASE.to_owned(), description: String::new(), file: BASE.to_owned(), table }
    }

    /// The variation with a seed.
    pub fn variation(&self, seed: Option<i64>) -> Result<Variation, FleetError> {
        Variation::parse(&self.file, &self.text(seed))
    }

    /// The same as TOML.
    pub fn text(&self, seed: Option<i64>) -> String {
        let mut table = self.table.clone();
        if let Some(seed) = seed {
            let executor = table.entry("executor").or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(executor) = executor {
                executor.insert("seed".to_owned(), Value::Integer(seed));
            }
        }
        table.to_string()
    }
}

const HINT: &str = "solyx backtest --help shows a variation";

/// What is wrong with a variation.
pub fn failure(error: FleetError) -> Failure {
    Failure::usage("the variation is not right", error, HINT)
}

impl Plan {
    /// What a command asks for.
    pub fn of(command: &Vary) -> Result<Self, Failure> {
        let mut variations = Vec::new();
        let mut bases = command.base.clone();
        let mut seeds = vec![None];
        for path in &command.vary {
            let text = std::fs::read_to_string(path).map_err(|e| crate::failure::unreadable(path, e))?;
            let directory = path.parent().unwrap_or(Path::new(""));
            variations.push(Item::parse(&path.display().to_string(), &text, directory)?);
        }
        for (name, what) in named(&command.baseline)? {
            let names = [("name", name), ("baseline", name), ("description", what)];
            let table = names.into_iter().map(|(key, value)| (key.to_owned(), Value::from(value))).collect();
            variations.push(Item::of_table(&format!("--baseline {name}"), table, Path::new(""))?);
        }
        if let Some(path) = &command.grid {
            let grid = Grid::load(path)?;
            variations.extend(grid.variations);
            bases.extend(grid.logs);
            if !grid.seeds.is_empty() {
                seeds = grid.seeds.into_iter().map(Some).collect();
            }
        }
        let runs = bases.len() * seeds.len() * (variations.len() + 1);
        if runs > RUNS_MAX {
            let detail = format!("found {runs} runs, expected at most {RUNS_MAX}");
            return Err(Failure::usage("there are too many variations", detail, "divide the grid"));
        }
        let mut names: Vec<&str> = variations.iter().map(|item| item.name.as_str()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            let detail = format!("found {:?} a second time, expected each name once", twice[0]);
            return Err(Failure::usage("two variations have one name", detail, "give each a name of its own"));
        }
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let jobs = command.jobs.map_or(processors, usize::from);
        let (changed, keep) = (command.changed.map_or(CHANGED, usize::from), command.keep.clone());
        Ok(Self { bases, variations, seeds, jobs, changed, keep })
    }
}

/// Names of logs: those of their directories, or the whole paths where two would have one name.
pub fn names_of(logs: &[PathBuf]) -> Vec<String> {
    let short = |log: &PathBuf| log.file_name().unwrap_or(log.as_os_str()).to_string_lossy().into_owned();
    let names: Vec<String> = logs.iter().map(short).collect();
    let distinct: std::collections::BTreeSet<&String> = names.iter().collect();
    if distinct.len() == names.len() { names } else { logs.iter().map(|log| log.display().to_string()).collect() }
}

/// Baselines by name, with what each does.
fn named(wanted: &[String]) -> Result<Vec<(&'static str, &'static str)>, Failure> {
    if wanted.iter().any(|name| name == "all") {
        return Ok(baselines::BASELINES.to_vec());
    }
    let known = |name: &String| {
        baselines::BASELINES.into_iter().find(|(known, _)| known == name).ok_or_else(|| {
            let detail = format!("--baseline: found {name:?}, expected all or one of {}", baselines::names());
            Failure::usage("there is no such baseline", detail, HINT)
        })
    };
    wanted.iter().map(known).collect()
}
