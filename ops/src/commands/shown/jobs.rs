//! The jobs view as text: how many stand where, and how long they waited.

use solyx_projections::jobs::{JobState, JobsView, WAITING_BOUNDS_US};
use solyx_schemas::units::rfc3339;

use crate::output::{decimal, duration, grouped, percent, table};

/// Jobs that are named.
const ROWS_MAX: usize = 15;

/// The view as text.
pub fn text(view: &JobsView) -> String {
    let count = &view.count;
    let mut parts = vec![format!(
        "jobs from {} to {}, epoch {}",
        rfc3339(view.began_us),
        rfc3339(view.now_us),
        grouped(view.epoch)
    )];
    let rows = [
        ("requested", count.requested),
        ("  done", count.done),
        ("  running", count.running),
        ("  waiting", count.waiting),
        ("  failed", count.failed),
        ("  rejected", count.rejected),
        ("  cancelled", count.cancelled),
        ("deferred at least once", count.deferred),
        ("preempted at least once", count.preempted),
        ("placed more than once", count.retried),
        ("never placed", count.unserved),
        ("missed their deadline", count.missed),
    ];
    parts.push(String::new());
    parts.push(table(["", "jobs"], &[1], rows.map(|(what, n)| [what.to_owned(), grouped(n as u64)])));
    parts.push(String::new());
    parts.push(waiting(view));
    let mut longest: Vec<_> =
        view.jobs.iter().filter(|job| job.state == JobState::Waiting || job.waited_us.is_some()).collect();
    longest.sort_by_key(|job| (std::cmp::Reverse(job.waited_us.map_or(i64::MAX, |us| us.0)), job.job.clone()));
    let rows = longest.into_iter().take(ROWS_MAX).map(|job| {
        [
            job.job.to_string(),
            job.tenant.to_string(),
            format!("{:?}", job.state).to_lowercase(),
            job.waited_us.map_or_else(|| "still".to_owned(), |us| duration(us.0)),
            grouped(job.attempts),
            grouped(job.held),
        ]
    });
    parts.push(String::new());
    parts.push(table(["waited longest", "tenant", "state", "waited", "placed", "limits named"], &[3, 4, 5], rows));
    parts.push("(why: solyx explain JOB)".to_owned());
    parts.join("\n")
}

fn waiting(view: &JobsView) -> String {
    let waiting = &view.waiting;
    let labels = WAITING_BOUNDS_US.iter().map(|us| format!("up to {}", duration(*us))).chain(["longer".to_owned()]);
    let placed = waiting.placed.max(1) as i64;
    let rows = labels.zip(&waiting.counts).map(|(label, count)| {
        let milli = *count as i64 * 1_000 / placed;
        [label, grouped(*count as u64), percent(milli), "▇".repeat((milli / 25) as usize)]
    });
    let took = &view.completion;
    format!(
        "{}\nwaited: p50 {}, p95 {}, p99 {}, mean {}, longest {}; {} have no place yet\n\
         request to end: p50 {}, p95 {}, p99 {}, mean {}",
        table(["waited", "jobs", "part", ""], &[1, 2], rows),
        duration(waiting.p50_us.0),
        duration(waiting.p95_us.0),
        duration(waiting.p99_us.0),
        duration(waiting.mean_us.0),
        duration(waiting.max_us.0),
        decimal(waiting.unplaced as i128, 1, 0),
        duration(took.p50_us.0),
        duration(took.p95_us.0),
        duration(took.p99_us.0),
        duration(took.mean_us.0)
    )
}
