//! Runs on a Ray cluster: a driver in Python takes one task for each run, and hands back what each said.
//!
//! A task is this binary with one base and one variation. So the nodes of the cluster need the binary and the logs at the same
//! places as here, on a shared directory, say. Jobs are not compared there, as that would move every job of every run.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use serde::Deserialize;
use serde_json::json;

use super::outcome::Said;
use super::plan::{Item, Plan, names_of};
use super::sweep::{BASE, Case, Report, Source};
use crate::failure::Failure;
use crate::progress;

/// The driver.
const DRIVER: &str = include_str!("ray_driver.py");
const HINT: &str = "python3 -m venv ray && ray/bin/pip install ray, then --ray-python ray/bin/python";

/// A line of the driver.
#[derive(Deserialize)]
struct Answer {
    key: usize,
    said: Option<Said>,
    error: Option<String>,
}

/// A run by its base and variation.
struct Task<'p> {
    base: usize,
    seed: Option<i64>,
    item: Option<&'p Item>,
}

/// Runs everything on the cluster at an address.
pub fn run(plan: &Plan, address: &str, python: &Path, json: bool) -> Result<Report, Failure> {
    let named = plan.bases.iter().zip(names_of(&plan.bases));
    let sources = named.map(|(dir, name)| Source::read(dir, name, json)).collect::<Result<Vec<_>, _>>()?;
    let mut tasks = Vec::new();
    for (base, source) in sources.iter().enumerate() {
        for item in &plan.variations {
            source.changes(item, None)?;
        }
        for seed in &plan.seeds {
            let items = std::iter::once(None).chain(plan.variations.iter().map(Some));
            tasks.extend(items.map(|item| Task { base, seed: *seed, item }));
        }
    }
    let mut said = carried_out(plan, &tasks, address, python, json)?;
    let mut report = Report { bases: Vec::new(), cases: Vec::new() };
    for (key, task) in tasks.iter().enumerate() {
        let Some(said) = said.remove(&key) else { return Err(failure("a run was not answered", format!("run {key}"))) };
        match task.item {
            None => report.bases.push(sources[task.base].base(task.seed, said)?),
            Some(item) => report.cases.push(Case {
                base: report.bases.len() - 1,
                name: item.name.clone(),
                description: item.description.clone(),
                seed: task.seed,
                said,
                directory: None,
                changed: None,
            }),
        }
    }
    Ok(report)
}

fn carried_out(
    plan: &Plan,
    tasks: &[Task<'_>],
    address: &str,
    python: &Path,
    json: bool,
) -> Result<BTreeMap<usize, Said>, Failure> {
    let solyx = std::env::current_exe().map_err(|e| failure("this binary cannot be found", e))?;
    let base = Item::base();
    let mut runs = Vec::new();
    for (key, task) in tasks.iter().enumerate() {
        let log =
            plan.bases[task.base].canonicalize().map_err(|e| crate::failure::unreadable(&plan.bases[task.base], e))?;
        let item = task.item.unwrap_or(&base);
        // What changes nothing needs no variation; its name is the base's.
        let text = (task.item.is_some() || task.seed.is_some())
            .then(|| item.text(task.seed).replacen(&format!("name = \"{BASE}\""), "name = \"base-again\"", 1));
        runs.push(json!({"key": key, "base": log, "variation": text}));
    }
    let work = json!({"address": address, "solyx": solyx, "runs": runs});
    let mut driver = Command::new(python)
        .args(["-c", DRIVER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| failure("Python does not start", format!("{}: {e}", python.display())))?;
    let mut stdin = driver.stdin.take().ok_or_else(|| failure("the driver takes nothing", "no stdin"))?;
    let stdout = driver.stdout.take().ok_or_else(|| failure("the driver says nothing", "no stdout"))?;
    let stderr = driver.stderr.take().ok_or_else(|| failure("the driver says nothing", "no stderr"))?;
    // Ray is talkative: what it says is told when it fails.
    let noise = std::thread::spawn(move || std::io::read_to_string(stderr).unwrap_or_default());
    let sent = writeln!(stdin, "{work}");
    drop(stdin);
    let bar = progress::bar(tasks.len() as u64, "runs on Ray", json);
    let mut answers = BTreeMap::new();
    let mut wrong = sent.err().map(|e| e.to_string());
    for line in BufReader::new(stdout).lines() {
        let line = line.map_err(|e| failure("the driver cannot be read", e))?;
        // Workers' own lines may come between.
        let Ok(Answer { key, said, error }) = serde_json::from_str(&line) else { continue };
        match (said, error) {
            (Some(said), _) => _ = answers.insert(key, said),
            (None, error) => wrong = wrong.or(error),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let ended = driver.wait().map_err(|e| failure("the driver was lost", e))?;
    let noise = noise.join().unwrap_or_default();
    match (wrong, ended.success()) {
        (None, true) => Ok(answers),
        (wrong, _) => {
            let last = noise.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().to_owned();
            Err(failure("the runs on Ray failed", wrong.unwrap_or(last)))
        }
    }
}

fn failure(what: &str, detail: impl ToString) -> Failure {
    Failure::environment(what, detail, HINT)
}
