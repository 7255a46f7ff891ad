//! The jobs that changed most against the base, and why: where they ran, which limits they were told, how often they were stopped.

use std::collections::BTreeMap;

use serde::Serialize;
use solyx_projections::jobs::JobState;
use solyx_schemas::ids::JobId;

use super::outcome::{JobOutcome, Outcome};
use super::trail::Trail;

/// A job in the base and in a variation.
#[derive(Clone, Debug, Serialize)]
pub struct Changed {
    pub job: String,
    pub tenant: String,
    /// In the base.
    pub before: Story,
    /// In the variation.
    pub after: Story,
    /// Completion in the variation less that in the base, µs; of a job that did not finish, up to the end of the run.
    pub later_us: i64,
}

/// What became of a job.
#[derive(Clone, Debug, Serialize)]
pub struct Story {
    pub state: JobState,
    /// From admission to its first place; absent without one.
    pub waited_us: Option<i64>,
    /// From request to end; absent when it did not end.
    pub completion_us: Option<i64>,
    pub preempted: u32,
    #[serde(flatten)]
    pub trail: Trail,
}

impl Story {
    fn of(job: &JobOutcome) -> Self {
        let view = &job.view;
        Self {
            state: view.state,
            waited_us: view.waited_us.map(|us| us.0),
            completion_us: view.ended_us.map(|ended| ended.since(view.requested_us).0),
            preempted: view.preempted,
            trail: job.trail.clone(),
        }
    }

    /// In one line.
    pub fn text(&self) -> String {
        let time = |us: Option<i64>| us.map_or_else(|| "–".to_owned(), crate::output::duration);
        let mut text = format!("waited {}, ended after {}", time(self.waited_us), time(self.completion_us));
        let pools: Vec<&str> = self.trail.runs.iter().map(|run| run.pool.as_str()).collect();
        match pools.as_slice() {
            [] => text.push_str(", never placed"),
            [one] => text.push_str(&format!(", on {one}")),
            many => text.push_str(&format!(", {} runs: {}", self.trail.run_count, many.join(", "))),
        }
        if self.preempted > 0 {
            text.push_str(&format!(", preempted {} times", self.preempted));
        }
        if !self.trail.limits.is_empty() {
            let limits: Vec<String> = self.trail.limits.iter().map(|(limit, n)| told(limit, *n)).collect();
            text.push_str(&format!("; told {}", limits.join(", ")));
        }
        text
    }
}

fn told(limit: &str, times: u32) -> String {
    let limit = limit.to_ascii_lowercase().replace('_', " ");
    if times == 1 { limit } else { format!("{limit} ({times} times)") }
}

/// The jobs whose completion differs most, the largest difference first; ties by id.
pub fn most(outcome: &Outcome, base: &Outcome, count: usize) -> Vec<Changed> {
    let of_base: BTreeMap<&JobId, &JobOutcome> = base.jobs.iter().map(|job| (&job.view.job, job)).collect();
    let time = |outcome: &Outcome, job: &JobOutcome| {
        job.view.ended_us.unwrap_or(outcome.figures.to_us).since(job.view.requested_us).0
    };
    let mut differences: Vec<(i64, &JobOutcome, &JobOutcome)> = outcome
        .jobs
        .iter()
        .filter_map(|job| {
            let before = *of_base.get(&job.view.job)?;
            Some((time(outcome, job) - time(base, before), before, job))
        })
        .filter(|(later, before, after)| *later != 0 || before.view.state != after.view.state)
        .collect();
    differences.sort_by(|a, b| b.0.abs().cmp(&a.0.abs()).then_with(|| a.2.view.job.cmp(&b.2.view.job)));
    let changed = |(later_us, before, after): (i64, &JobOutcome, &JobOutcome)| Changed {
        job: after.view.job.to_string(),
        tenant: after.view.tenant.to_string(),
        before: Story::of(before),
        after: Story::of(after),
        later_us,
    };
    differences.into_iter().take(count).map(changed).collect()
}
