//! What the kernel says of one job, in words and as JSON: for `solyx whatif job` and `solyx explain`.

use serde_json::{Value, json};
use solyx_kernel::whatif::{Answer, Fate, Forecast, PlaceInLine, PoolAnswer};
use solyx_schemas::events::decisions::{Limit, LimitKind};
use solyx_schemas::ids::{JobId, NodeId};
use solyx_schemas::units::{TimeUs, rfc3339};

use super::explain::{limit, on_nodes, terms, total};
use crate::failure::one_line;
use crate::output::{self, decimal, duration, money};

/// What an earliest start says and does not say.
const EARLIEST: &str = "if it went before all others and what runs ended when expected";
const EXPECTED: &str = "if what runs and starts ends when expected, nothing fails and nobody asks for more";

/// Writes an answer for a person.
pub fn tell(job: &JobId, answer: &Answer) {
    output::line(format!("job {job} {}", fate(&answer.fate)));
    let mut lines: Vec<(&str, String)> = Vec::new();
    if let Some(line) = &answer.line {
        lines.push(("place in line", place(line)));
        if let Some((promised, taken)) = line.share {
            let gpus = |milli: i64| decimal(milli.into(), 1_000, 1);
            lines.push(("promised share", format!("{} GPUs, {} in use", gpus(promised), gpus(taken))));
        }
        if let Some(closed) = &line.closed {
            let names: Vec<&str> = closed.nodes.iter().map(NodeId::as_str).collect();
            let text =
                format!("{}, to newcomers; room can be made there by {}", names.join(", "), rfc3339(closed.clear_us));
            lines.push(("closed for it", text));
        }
    }
    for (victim, run) in &answer.victims {
        lines.push(("makes room", format!("{run} of {victim} is told to stop for it")));
    }
    if let Fate::Waits { limit, .. } = &answer.fate {
        lines.push(("what moves it", moves(limit).to_owned()));
        lines.push(("earliest start", earliest(answer)));
        lines.push(("expected start", forecast(answer.forecast)));
    }
    for (name, text) in lines {
        output::line(format!("  {name:<15} {text}"));
    }
    output::line("");
    let rows = answer.pools.iter().map(row);
    output::line(output::table(["pool", "start", "cost", "terms or limit"], &[2], rows));
}

/// The same for a script.
pub fn json_of(job: &JobId, answer: &Answer) -> Value {
    let (outcome, detail) = fate_json(&answer.fate);
    let line = answer.line.as_ref().map(|line| {
        json!({
            "class_value": line.class_value, "ahead": line.ahead, "ahead_of_tenant": line.ahead_of_tenant, "order_rule": line.rule,
            "recover_by_us": line.recover_by, "surcharge_us": line.surcharge_us, "promised_milli": line.share.map(|s| s.0), "taken_milli": line.share.map(|s| s.1),
            "closed_nodes": line.closed.as_ref().map(|closed| &closed.nodes), "clear_us": line.closed.as_ref().map(|closed| closed.clear_us),
        })
    });
    let (expected, at) = match answer.forecast {
        Forecast::Starts(at) => ("starts", Some(at)),
        Forecast::Ends(at) => ("ends", Some(at)),
        Forecast::NotBefore(at) => ("not-before", Some(at)),
        Forecast::Never => ("never", None),
    };
    let pools: Vec<Value> = answer
        .pools
        .iter()
        .map(|pool| match &pool.place {
            Ok((start, terms)) => json!({"pool": pool.pool, "start_us": start, "terms": terms, "limit": null}),
            Err(limit) => json!({"pool": pool.pool, "start_us": null, "terms": null, "limit": limit}),
        })
        .collect();
    json!({
        "job": job, "outcome": outcome, "detail": detail, "runner_up": answer.placed.as_ref().and_then(|p| p.runner_up.as_ref()),
        "stopped_for_it": answer.victims.iter().map(|(job, run)| json!({"job": job, "run": run})).collect::<Vec<_>>(),
        "line": line, "earliest_start_us": answer.earliest, "earliest_holds": EARLIEST,
        "expected": {"what": expected, "at_us": at, "holds": EXPECTED}, "pools": pools,
    })
}

/// The name of what becomes of a job, and its particulars.
pub fn fate_json(fate: &Fate) -> (&'static str, Value) {
    match fate {
        Fate::Placed { pool, nodes, start, terms } => {
            ("placed", json!({"pool": pool, "nodes": nodes, "start_us": start, "terms": terms}))
        }
        Fate::Leases { pool, instances, start, terms } => {
            ("leases", json!({"pool": pool, "instances": instances, "start_us": start, "terms": terms}))
        }
        Fate::Deferred { pool, start, terms } => ("deferred", json!({"pool": pool, "start_us": start, "terms": terms})),
        Fate::Waits { limit, .. } => ("waits", json!({"limit": limit, "moves": moves(limit)})),
        Fate::Ends { detail } => ("ends", json!({"detail": detail})),
    }
}

fn fate(fate: &Fate) -> String {
    let on = |start: TimeUs| format!("at {}", rfc3339(start));
    match fate {
        Fate::Placed { pool, nodes, start, terms: t } => {
            format!("starts {} in {pool} on {}, for {} ({})", on(*start), on_nodes(nodes), money(total(t)), terms(t))
        }
        Fate::Leases { pool, instances, start, .. } => {
            format!("has {instances} instances ordered of {pool}, and starts {} when they come", on(*start))
        }
        Fate::Deferred { pool, start, terms: t } => {
            format!("is deferred: it starts {} in {pool}, for {}", on(*start), money(total(t)))
        }
        Fate::Waits { limit: l, .. } => format!("waits for {}", limit(l)),
        Fate::Ends { detail } => format!("does not run: {}", one_line(detail)),
    }
}

fn place(line: &PlaceInLine) -> String {
    let ahead = match (line.ahead, line.ahead_of_tenant) {
        (0, _) => "first".to_owned(),
        (ahead, own) => format!("{} before it, {own} of them its tenant's", output::grouped(ahead as u64)),
    };
    let surcharge =
        line.surcharge_us.filter(|us| *us > 0).map_or(String::new(), |us| format!(", surcharge {}", duration(us)));
    let owed = line.recover_by.map_or(String::new(), |by| format!(", owed to run again by {}", rfc3339(by)));
    // Which tenant is next changes with each start.
    let by_time =
        if line.rule.as_str() == "classic" { ", here by time: tenants with the least share go first" } else { "" };
    format!("{ahead} (class value {}, order rule {}{by_time}{surcharge}{owed})", line.class_value, line.rule)
}

fn earliest(answer: &Answer) -> String {
    match answer.earliest {
        None => "none is known".to_owned(),
        Some(at) if answer.line.is_some() => format!("{}, {EARLIEST}", rfc3339(at)),
        Some(at) => rfc3339(at),
    }
}

fn forecast(forecast: Forecast) -> String {
    match forecast {
        Forecast::Starts(at) => format!("{}, {EXPECTED}", rfc3339(at)),
        Forecast::Ends(at) => format!("none: it ends at {} without having run", rfc3339(at)),
        Forecast::NotBefore(at) => format!("after {}; further ahead nothing was looked at", rfc3339(at)),
        Forecast::Never => "none: nothing that is foreseen lets it start".to_owned(),
    }
}

fn row(answer: &PoolAnswer) -> [String; 4] {
    let pool = answer.pool.to_string();
    match &answer.place {
        Ok((start, t)) => [pool, rfc3339(*start), money(total(t)), terms(t)],
        Err(l) => [pool, "-".to_owned(), "-".to_owned(), limit(l)],
    }
}

/// What has to change for a job that this limit binds.
pub fn moves(limit: &Limit) -> &'static str {
    match limit.kind {
        LimitKind::Validity => "another request: this one cannot be met as it is",
        LimitKind::Undeclared => "the declaration of what it names",
        LimitKind::GpuModel => "a pool of a model that it accepts, or a longer list of models",
        LimitKind::Gpus | LimitKind::Cpu | LimitKind::Memory | LimitKind::Scratch => {
            "ends of runs on nodes that it fits on, room that the order rule or its class makes for it, or more capacity"
        }
        LimitKind::GpuMemory => "GPUs with more memory, or a request for less",
        LimitKind::FabricDomain => "room for the whole gang in one domain, or a wider level",
        LimitKind::Spread => "room in more failure domains, or a larger skew",
        LimitKind::Residency => "capacity in a country where it may be",
        LimitKind::Certificate => "a site that holds the certificate",
        LimitKind::Attestation => "nodes whose attestation is still valid",
        LimitKind::Quota => "ends of runs that count against the same quota, or a higher quota",
        LimitKind::Budget => "a larger budget, or the next period",
        LimitKind::Power => "ends of runs on the same power tree, or a higher limit",
        LimitKind::FailoverReserve => "more free capacity than is held back, or a smaller reserve",
        LimitKind::Reservation => "the end of the reservation or lease, or its own beginning",
        LimitKind::Backfill => "the start of the gang that it would delay, or a shorter expected length",
        LimitKind::Draining => "runs that were told to stop and have not yet, or room that is kept for no other job",
        LimitKind::LeasePending => "the provider's instances",
        LimitKind::ProviderCapacity => "capacity at the provider",
        LimitKind::Price => "a price or an exchange rate",
        LimitKind::Deadline => "a later deadline, or faster GPUs",
        LimitKind::NotBefore => "the time before which it may not start",
        LimitKind::Deferral => "the hour that it waits for",
        LimitKind::RetryBackoff => "the end of the wait after its failure",
        LimitKind::Hold => "a release",
        LimitKind::Dependency => "the end of the job that it depends on",
        LimitKind::JobSet => "the rest of its set",
        LimitKind::Retries => "a new request",
        LimitKind::Cordon => "the opening of what is cordoned",
        LimitKind::Depth => "its turn: more wait before it than are tried at once",
        LimitKind::Latency => "capacity nearer to its clients",
        LimitKind::Unknown => "a build that knows this limit",
    }
}
