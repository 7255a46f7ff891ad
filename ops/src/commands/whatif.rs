//! `solyx whatif`: what the kernel would do, asked of the state at the end of a log. Nothing is written.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use solyx_kernel::whatif::{Fate, Rehearsal};
use solyx_runtime::recall;
use solyx_schemas::events::Event;
use solyx_schemas::events::jobs::JobRequested;
use solyx_schemas::json::read_lines;

use super::{answer, events::open_lines};
use crate::failure::{Exit, Failure, Outcome, unreadable};
use crate::output;
use crate::world::{self, Source};

/// Ask what the kernel would do, without writing anything.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  solyx whatif job request.jsonl --log world\n  solyx events example JobRequested | solyx whatif job - --log world --json\n\n\
                  Exit code 0: each would start or has instances ordered; 1: one would wait, be deferred or not run."
)]
pub struct Whatif {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// A job that is asked for now: where it would go and why, or what it would wait for and until when.
    Job {
        /// A file of JobRequested events as JSON, one a line, each asked alone; `-` is stdin.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        source: Source,
    },
}

/// Runs it.
pub fn run(command: &Whatif, json: bool) -> Outcome {
    let What::Job { file, source } = &command.what;
    let requests = requests(file)?;
    let rehearsal = rehearsal(source)?;
    let mut exit = Exit::Good;
    for request in &requests {
        let answer = rehearsal.job(request).map_err(|detail| {
            Failure::usage(
                format!("job {} cannot be asked for", request.job),
                detail,
                "mend the request; `solyx events describe JobRequested` says what each field is",
            )
        })?;
        if json {
            output::json(&answer::json_of(&request.job, &answer));
        } else {
            answer::tell(&request.job, &answer);
        }
        if !matches!(answer.fate, Fate::Placed { .. } | Fate::Leases { .. }) {
            exit = Exit::Finding;
        }
    }
    Ok(exit)
}

/// The state at the end of a log, to be asked.
pub fn rehearsal(source: &Source) -> Result<Rehearsal, Failure> {
    let log = source.open()?;
    let cell = world::cell_of(&*log)?.ok_or_else(|| {
        Failure::usage("the log has no cell", "no epoch and no CellDeclared in it", "publish a fleet first")
    })?;
    let snapshots = source.log.as_ref().map(|dir| dir.join("snapshots"));
    let follower = recall(&*log, &cell, snapshots.as_deref()).map_err(|error| {
        Failure::environment(
            "the state at the end of the log cannot be had",
            error,
            "`solyx audit` says where history breaks off",
        )
    })?;
    Ok(follower.rehearsal())
}

fn requests(file: &Path) -> Result<Vec<JobRequested>, Failure> {
    let mut requests = Vec::new();
    let mut wrong = None;
    read_lines(open_lines(file)?, |line| match line.event {
        Ok(Event::JobRequested(request)) => requests.push(*request),
        Ok(other) => {
            let said = format!("line {}: found {}, expected solyx.jobs.JobRequested", line.number, other.name());
            wrong.get_or_insert(said);
        }
        Err(errors) => {
            let said: Vec<String> = errors.iter().map(ToString::to_string).collect();
            wrong.get_or_insert(format!("line {}: {}", line.number, said.join("; ")));
        }
    })
    .map_err(|error| unreadable(file, error))?;
    let refused = |detail| {
        Failure::usage(
            format!("{} is no job request", file.display()),
            detail,
            "`solyx events example JobRequested` shows one",
        )
    };
    match wrong {
        Some(detail) => Err(refused(detail)),
        None if requests.is_empty() => Err(refused("it holds no event".to_owned())),
        None => Ok(requests),
    }
}
