//! `solyx backtest --base LOG`: a recorded log run again, closed loop, with something otherwise, and what came of it side by side.

mod changed;
mod csv;
mod difference;
mod grid;
mod numbers;
mod outcome;
mod page;
mod parquet;
mod plan;
mod ray;
mod sweep;
mod table;
mod trail;

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::failure::{Exit, Failure, Outcome as Ending, unwritable};
use crate::output;
use plan::Plan;
use sweep::{Case, Report};

/// How a recorded log is run again.
#[derive(Debug, Args)]
pub struct Vary {
    /// A world's directory or an archive: the log whose demand and world are met again. One or several.
    #[arg(long, value_name = "DIR", num_args = 1..)]
    base: Vec<PathBuf>,
    /// Variations in TOML, one run for each.
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "base")]
    vary: Vec<PathBuf>,
    /// Baselines by name, with commas between them, or all: fifo, shortest-first, easy, cheapest-now, cheapest-region,
    /// lowest-carbon, local-only, fgd, best-fit.
    #[arg(long, value_name = "NAME", value_delimiter = ',', requires = "base")]
    baseline: Vec<String>,
    /// A grid of variations in TOML: every combination of the values of its axes, for each seed and log.
    #[arg(long, value_name = "FILE", requires = "base")]
    grid: Option<PathBuf>,
    /// Runs at a time; by default as many as there are processors.
    #[arg(long, value_name = "N", requires = "base", value_parser = clap::value_parser!(u16).range(1..=1_024))]
    jobs: Option<u16>,
    /// Let a Ray cluster do the runs: its address, or `local` for one that is started for it.
    #[arg(long, value_name = "ADDRESS", requires = "base", conflicts_with_all = ["jobs", "keep"])]
    ray: Option<String>,
    /// The Python that has Ray.
    #[arg(long, value_name = "PROGRAM", requires = "ray", default_value = "python3")]
    ray_python: PathBuf,
    /// Write the numbers of all jobs and of each tenant's as CSV.
    #[arg(long, value_name = "FILE", requires = "base")]
    csv: Option<PathBuf>,
    /// The same as Apache Parquet.
    #[arg(long, value_name = "FILE", requires = "base")]
    parquet: Option<PathBuf>,
    /// Write one self-contained page with charts.
    #[arg(long, value_name = "FILE", requires = "base")]
    page: Option<PathBuf>,
    /// Title of the page.
    #[arg(long, requires = "page", default_value = "The same demand, decided otherwise")]
    title: String,
    /// Jobs that are told of each variation, those that changed most; by default 5. Of runs on this machine alone.
    #[arg(long, value_name = "N", requires = "base", value_parser = clap::value_parser!(u16).range(..=1_000))]
    changed: Option<u16>,
    /// Keep the worlds of all runs in this directory, for `solyx explain` and `view`.
    #[arg(long, value_name = "DIR", requires = "base")]
    keep: Option<PathBuf>,
    /// Do one variation and say its numbers, as one of many runs elsewhere.
    #[arg(long, hide = true, requires = "base")]
    one: bool,
}

impl Vary {
    /// Whether a log is named.
    pub fn is_asked(&self) -> bool {
        !self.base.is_empty()
    }
}

/// Runs it.
pub fn run(command: &Vary, json: bool) -> Ending {
    let plan = Plan::of(command)?;
    if command.one {
        return sweep::one(&plan);
    }
    if plan.variations.is_empty() {
        return Err(Failure::usage(
            "nothing is to be otherwise",
            "found --base alone",
            "name --vary FILE, --baseline NAME or --grid FILE",
        ));
    }
    if let (Some(changed), Some(address)) = (command.changed, &command.ray) {
        return Err(Failure::usage(
            "jobs are not compared on a cluster",
            format!("found --changed {changed} with --ray {address}: each run there says its numbers alone"),
            "leave --changed out, or run it on this machine without --ray",
        ));
    }
    // What came of hours is not to be lost to a path.
    for path in [&command.csv, &command.page, &command.parquet].into_iter().flatten() {
        crate::failure::check_writable(path)?;
    }
    let report = match &command.ray {
        Some(address) => ray::run(&plan, address, &command.ray_python, json)?,
        None => sweep::run(&plan, json)?,
    };
    let written = [
        command.csv.as_deref().map(|path| (path, csv::text(&report).into_bytes())),
        command.page.as_deref().map(|path| (path, page::page(&report, &command.title).into_bytes())),
    ];
    for (path, bytes) in written.into_iter().flatten() {
        std::fs::write(path, bytes).map_err(|e| unwritable(path, e))?;
    }
    if let Some(path) = &command.parquet {
        parquet::write(&report, path)?;
    }
    if json {
        output::json(&as_json(&report));
    } else {
        output::line(table::text(&report));
    }
    Ok(if report.bases.iter().all(sweep::Base::is_explained) { Exit::Good } else { Exit::Finding })
}

fn as_json(report: &Report) -> Value {
    let of_case = |case: &Case| {
        let base = &report.bases[case.base];
        json!({
            "log": base.log, "variation": case.name, "seed": case.seed, "description": case.description, "chain_head": case.said.chain_head,
            "currency": case.said.currency, "elapsed_ms": case.said.elapsed_ms, "directory": case.directory,
            "all": case.said.all, "difference": difference::of(&case.said.all, &base.said.all),
            "tenants": case.said.tenants.iter().map(|(tenant, numbers)| {
                let before = base.said.tenants.get(tenant).copied().unwrap_or_default();
                (tenant.clone(), json!({"numbers": numbers, "difference": difference::of(numbers, &before)}))
            }).collect::<serde_json::Map<String, Value>>(),
            "waiting_counts": case.said.waiting_counts, "changed": case.changed,
        })
    };
    json!({"bases": report.bases, "variations": report.cases.iter().map(of_case).collect::<Vec<_>>()})
}
