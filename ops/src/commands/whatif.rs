//! `solyx whatif`: what the kernel would do, asked of the state at the end of a log. Nothing is written.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use solyx_kernel::follow::Follower;
use solyx_kernel::whatif::{Fate, Rehearsal, TOLD_MAX};
use solyx_projections::failover::domain_lost;
use solyx_runtime::recall;
use solyx_schemas::events::Event;
use solyx_schemas::events::jobs::JobRequested;
use solyx_schemas::json::read_lines;
use solyx_schemas::units::{DurationUs, HOUR_US};

use super::{answer, consequence, events::open_lines, shown};
use crate::failure::{Exit, Failure, Outcome, unreadable};
use crate::output;
use crate::world::{self, Source};

/// Ask what the kernel would do, without writing anything.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  solyx whatif job request.jsonl --log world\n  solyx events example JobRequested | solyx whatif job - --log world --json\n  \
                  solyx whatif price prices.jsonl --log world --hours 24\n  solyx whatif lease sold.jsonl --log world\n  solyx whatif loss site:metapod-de --log world\n\n\
                  Exit code 0: each job would start or has instances ordered, nothing comes of the events, every job that is hit has a place; 1: otherwise."
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
    /// Events that are said now, together: prices, sold leases, reservations, limits, policies or any other input; what is then
    /// decided otherwise.
    #[command(visible_aliases = ["lease", "price"])]
    Event {
        /// A file of events as JSON, one a line; `-` is stdin.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// How far ahead to look, h, with what runs ending when expected; without it only the next epoch is looked at.
        #[arg(long, value_name = "H", default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..=HOURS_MAX))]
        hours: i64,
        #[command(flatten)]
        source: Source,
    },
    /// A failure domain that is lost now: jobs it hits, where each goes, what has no place, how long it takes and what it costs.
    Loss {
        /// Its name, as in the failover view: site:SITE, provider:PROVIDER, feed:SITE/ELEMENT or fabric:POOL/LEAF.
        #[arg(value_name = "DOMAIN")]
        domain: String,
        #[command(flatten)]
        source: Source,
    },
}

/// Furthest that is looked ahead.
const HOURS_MAX: i64 = 24 * 366;
/// Domains that are named when there is none of a name.
const NAMED_MAX: usize = 12;

/// Runs it.
pub fn run(command: &Whatif, json: bool) -> Outcome {
    match &command.what {
        What::Job { file, source } => job(file, source, json),
        What::Event { file, hours, source } => event(file, *hours, source, json),
        What::Loss { domain, source } => loss(domain, source, json),
    }
}

fn job(file: &Path, source: &Source, json: bool) -> Outcome {
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

fn event(file: &Path, hours: i64, source: &Source, json: bool) -> Outcome {
    let events = events(file)?;
    if events.len() > TOLD_MAX {
        return Err(Failure::usage(
            "too much is asked at once",
            format!("{} holds {} events, expected at most {TOLD_MAX}", file.display(), events.len()),
            "ask in several questions",
        ));
    }
    let rehearsal = rehearsal(source)?;
    let until = rehearsal.now().after(DurationUs(hours * HOUR_US));
    let found = rehearsal.told(&events, until).map_err(|(number, detail)| {
        Failure::usage(
            format!("event {number} of {} cannot be said", file.display()),
            detail,
            "mend it; `solyx events describe NAME` says what each field is",
        )
    })?;
    if json {
        output::json(&consequence::json_of(&found));
    } else {
        consequence::tell(&found, until);
    }
    let nothing = found.jobs.is_empty()
        && found.overcommitments.is_empty()
        && found.decisions.is_empty()
        && found.rest.0 == found.rest.1;
    Ok(if nothing { Exit::Good } else { Exit::Finding })
}

fn loss(domain: &str, source: &Source, json: bool) -> Outcome {
    let follower = state(source)?;
    let Some(view) = domain_lost(&follower, domain) else {
        let known: Vec<String> = follower.rehearsal().domains().iter().map(ToString::to_string).collect();
        let shown = known.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
        let more =
            if known.len() > NAMED_MAX { format!(" and {} more", known.len() - NAMED_MAX) } else { String::new() };
        return Err(Failure::usage(
            "there is no such failure domain",
            format!("found {domain}, expected one of: {shown}{more}"),
            "`solyx view failover` lists all of them",
        ));
    };
    if json {
        output::json(&view);
    } else {
        output::line(shown::failover::text(&view));
    }
    let unprotected = view.domains.iter().any(|domain| domain.unprotected > 0);
    Ok(if unprotected { Exit::Finding } else { Exit::Good })
}

/// The state at the end of a log, to be asked.
pub fn rehearsal(source: &Source) -> Result<Rehearsal, Failure> {
    state(source).map(Follower::into_rehearsal)
}

fn state(source: &Source) -> Result<Follower, Failure> {
    let log = source.open()?;
    let cell = world::cell_of(&*log)?.ok_or_else(|| {
        Failure::usage("the log has no cell", "no epoch and no CellDeclared in it", "publish a fleet first")
    })?;
    let snapshots = source.log.as_ref().map(|dir| dir.join("snapshots"));
    recall(&*log, &cell, snapshots.as_deref()).map_err(|error| {
        Failure::environment(
            "the state at the end of the log cannot be had",
            error,
            "`solyx audit` says where history breaks off",
        )
    })
}

fn requests(file: &Path) -> Result<Vec<JobRequested>, Failure> {
    let of = |(number, event): (u64, Event)| match event {
        Event::JobRequested(request) => Ok(*request),
        other => {
            let detail = format!("line {number}: found {}, expected solyx.jobs.JobRequested", other.name());
            Err(refused(file, "job request", detail))
        }
    };
    numbered(file)?.into_iter().map(of).collect()
}

fn events(file: &Path) -> Result<Vec<Event>, Failure> {
    Ok(numbered(file)?.into_iter().map(|(_, event)| event).collect())
}

/// The events of a file with their lines; one that cannot be read refuses the file.
fn numbered(file: &Path) -> Result<Vec<(u64, Event)>, Failure> {
    let mut events = Vec::new();
    let mut wrong = None;
    read_lines(open_lines(file)?, |line| match line.event {
        Ok(event) => events.push((line.number, event)),
        Err(errors) => {
            let said: Vec<String> = errors.iter().map(ToString::to_string).collect();
            wrong.get_or_insert(format!("line {}: {}", line.number, said.join("; ")));
        }
    })
    .map_err(|error| unreadable(file, error))?;
    match wrong {
        Some(detail) => Err(refused(file, "file of events", detail)),
        None if events.is_empty() => Err(refused(file, "file of events", "it holds no event".to_owned())),
        None => Ok(events),
    }
}

fn refused(file: &Path, what: &str, detail: String) -> Failure {
    Failure::usage(
        format!("{} is no {what}", file.display()),
        detail,
        "`solyx events example NAME` shows an event, JobRequested for one",
    )
}
