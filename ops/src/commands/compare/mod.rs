//! `solyx compare`: worlds side by side, on the terminal, as JSON, and as one page to hand on.
//!
//! It reads what the logs say and decides nothing: the views are brought up to date, figures are taken from them, and with
//! `--audit` each world is derived again.

pub mod figures;
mod focus;
pub mod report;
mod stage;
pub mod standing;
mod table;

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use solyx_connectors::cores::on_all_cores;
use solyx_schemas::ids::JobId;

use crate::failure::{Exit, Failure, Outcome};
use crate::{output, progress};
use focus::Focus;
use stage::Stage;

/// Put worlds side by side: jobs, waiting, money, energy, carbon, and what each of them is made of.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  solyx compare software-only hybrid metapods\n  \
                  solyx compare software-only hybrid metapods --audit --html report.html\n\n\
                  The page holds its charts and needs nothing else: it can be mailed, kept and printed. The names of the\n\
                  worlds are those of their cells. A world that fails its audit makes the exit code 1.")]
pub struct Compare {
    /// Directories of the worlds, in the order of the columns.
    #[arg(required = true, value_name = "DIR")]
    worlds: Vec<PathBuf>,
    /// Derive each world again and say whether it comes out as recorded.
    #[arg(long)]
    audit: bool,
    /// Write one self-contained page with charts.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Title of the page.
    #[arg(long, requires = "html", default_value = "One trace, side by side")]
    title: String,
    /// The world that is looked into: its invoice, power tree and a job; by default one that owns and leases.
    #[arg(long, value_name = "CELL")]
    focus: Option<String>,
    /// The job that is explained; by default one with a story.
    #[arg(long)]
    job: Option<JobId>,
}

/// Runs it.
pub fn run(command: &Compare, json: bool) -> Outcome {
    let bar = progress::spinner("worlds read:", json);
    let stages = read(command, &|| bar.inc(1));
    bar.finish_and_clear();
    let stages = stages?;
    let focus = Focus::choose(&stages, command.focus.as_deref(), command.job.as_ref())?;
    if let Some(path) = &command.html {
        let page = report::page(&stages, &focus, &command.title)?;
        std::fs::write(path, page).map_err(|e| {
            Failure::environment(format!("cannot write {}", path.display()), e, "check the path and the disk")
        })?;
    }
    if json {
        let figures: Vec<_> = stages.iter().map(|stage| &stage.figures).collect();
        output::json(&json!({"stages": figures, "focus": focus, "html": command.html}));
    } else {
        output::line(table::text(&stages));
        output::line(format!("\n{}", further(&focus, command.html.as_deref())));
    }
    let failed = stages.iter().any(|stage| stage.figures.audit.as_ref().is_some_and(|audit| !audit.ok));
    Ok(if failed { Exit::Finding } else { Exit::Good })
}

/// Where to go on from here.
fn further(focus: &Focus<'_>, html: Option<&Path>) -> String {
    let log = &focus.stage.figures.directory;
    let mut lines = Vec::new();
    if let Some(path) = html {
        lines.push(format!("the same with charts: {}", path.display()));
    }
    if let Some(tenant) = focus.tenant {
        lines.push(format!("look further: solyx view billing --invoice {tenant} --log {log}"));
    }
    if let Some(job) = focus.job {
        lines.push(format!("              solyx explain {job} --log {log}"));
    }
    lines.join("\n")
}

/// Reads the worlds, as many at a time as there are processors.
fn read(command: &Compare, done: &(dyn Fn() + Sync)) -> Result<Vec<Stage>, Failure> {
    on_all_cores(&command.worlds, |world| {
        let stage = Stage::read(world, command.audit);
        done();
        stage
    })
}
