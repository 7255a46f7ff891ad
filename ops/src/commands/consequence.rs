//! What comes of events that are said now, in words and as JSON: for `solyx whatif event`.

use serde_json::{Value, json};
use solyx_kernel::whatif::{Consequence, Course, Fate, Otherwise, Rest};
use solyx_schemas::units::{TimeUs, rfc3339};

use super::answer::{fate_json, moves};
use super::explain::{limit, terms, total};
use crate::failure::one_line;
use crate::output::{self, grouped, money};

/// Jobs that are shown; the rest is counted.
const JOBS_MAX: usize = 20;
/// What both courses rest on.
const EXPECTED: &str = "what runs ends when expected, nothing fails and nobody asks for more";

/// Writes it for a person.
pub fn tell(found: &Consequence, asked: TimeUs) {
    let until = if found.reached > found.now {
        format!("up to {}, if {EXPECTED}", rfc3339(found.reached))
    } else {
        "in the next epoch".to_owned()
    };
    output::line(format!("said at {}: what is decided otherwise {until}", rfc3339(found.now)));
    if found.reached < asked {
        output::line(format!("  more happens than is looked at: {} was asked for", rfc3339(asked)));
    }
    let (before, after) = &found.rest;
    output::line(format!("  the rest of what runs costs {}, {} with it ({})", cost(before), cost(after), more(found)));
    for over in &found.overcommitments {
        output::line(format!("  more than there is: {}", limit(&over.limit)));
    }
    for (name, (without, with)) in &found.decisions {
        let event = name.rsplit('.').next().unwrap_or(name);
        output::line(format!("  {event:<22} {} with it, {} without", grouped(*with), grouped(*without)));
    }
    if found.jobs.is_empty() {
        output::line("  nothing else comes of any job");
        return;
    }
    output::line("");
    let rows = found.jobs.iter().take(JOBS_MAX).map(row);
    output::line(output::table(["job", "without", "with it"], &[], rows));
    if found.jobs.len() > JOBS_MAX {
        output::line(format!("… {} more; --json shows all", grouped((found.jobs.len() - JOBS_MAX) as u64)));
    }
}

/// The same for a script.
pub fn json_of(found: &Consequence) -> Value {
    let rest = |rest: &Rest| json!({"runs": rest.runs, "unpriced": rest.unpriced, "terms": rest.terms});
    let decisions: Value = found
        .decisions
        .iter()
        .map(|(name, (without, with))| ((*name).to_owned(), json!({"without": without, "with": with})))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let jobs: Vec<Value> = found
        .jobs
        .iter()
        .map(|job| json!({"job": job.job, "without": course_json(&job.without), "with": course_json(&job.with)}))
        .collect();
    json!({
        "now_us": found.now, "reached_us": found.reached, "holds": EXPECTED,
        "rest": {"without": rest(&found.rest.0), "with": rest(&found.rest.1)},
        "overcommitments": found.overcommitments, "decisions": decisions, "jobs": jobs,
    })
}

fn course_json(course: &Course) -> Value {
    let stop = course
        .stop
        .as_ref()
        .map(|stop| json!({"at_us": stop.at, "run": stop.run, "cause": stop.cause, "for_job": stop.for_job}));
    let fate = course.fate.as_ref().map(|(at, fate)| {
        let (outcome, detail) = fate_json(fate);
        json!({"at_us": at, "outcome": outcome, "detail": detail})
    });
    json!({"stop": stop, "fate": fate})
}

fn cost(rest: &Rest) -> String {
    let unpriced = match rest.unpriced {
        0 => String::new(),
        unpriced => format!(" and what {unpriced} without a price cost"),
    };
    format!("{}{unpriced}", money(total(&rest.terms)))
}

fn more(found: &Consequence) -> String {
    let (before, after) = (total(&found.rest.0.terms), total(&found.rest.1.terms));
    format!("{}{} of {} runs", if after < before { "" } else { "+" }, money(after - before), grouped(found.rest.0.runs))
}

fn row(job: &Otherwise) -> [String; 3] {
    [job.job.to_string(), course(&job.without), course(&job.with)]
}

fn course(course: &Course) -> String {
    let stop = course.stop.as_ref().map(|stop| {
        let whom = stop.for_job.as_ref().map_or(String::new(), |job| format!(" for {job}"));
        format!("told to stop at {} ({}{whom})", rfc3339(stop.at), stop.cause)
    });
    let fate = course.fate.as_ref().map(|(_, fate)| words(fate));
    let parts: Vec<String> = stop.into_iter().chain(fate).collect();
    if parts.is_empty() { "goes on as before".to_owned() } else { parts.join(", then ") }
}

fn words(fate: &Fate) -> String {
    let at = |start: &TimeUs| rfc3339(*start);
    match fate {
        Fate::Placed { pool, start, terms: t, .. } => {
            format!("starts {} in {pool}, {} ({})", at(start), money(total(t)), terms(t))
        }
        Fate::Leases { pool, instances, start, .. } => format!("{instances} instances of {pool} for {}", at(start)),
        Fate::Deferred { pool, start, terms: t } => {
            format!("put off to {} in {pool}, {}", at(start), money(total(t)))
        }
        Fate::Waits { limit: l, .. } => format!("waits for {}; moved by {}", limit(l), moves(l)),
        Fate::Ends { detail } => format!("ends: {}", one_line(detail)),
    }
}
