//! What is looked into: one world, one of its jobs, one of its invoices.

use serde::Serialize;
use solyx_projections::billing::InvoiceView;
use solyx_projections::jobs::{JobState, JobView};
use solyx_schemas::ids::JobId;

use super::stage::Stage;
use crate::failure::Failure;

/// The choice.
#[derive(Clone, Copy, Serialize)]
pub struct Focus<'s> {
    #[serde(skip)]
    pub stage: &'s Stage,
    /// The world.
    pub world: &'s str,
    /// A job with a story; absent in a world without jobs.
    pub job: Option<&'s JobId>,
    /// Who has the largest invoice; absent when there is none.
    pub tenant: Option<&'s str>,
    #[serde(skip)]
    pub invoice: Option<&'s InvoiceView>,
}

impl<'s> Focus<'s> {
    /// The world and job that are named. By default the world whose own and leased parts are the most even, and its job
    /// that the most kinds of things happened to.
    pub fn choose(stages: &'s [Stage], world: Option<&str>, job: Option<&'s JobId>) -> Result<Self, Failure> {
        let found = match world {
            Some(name) => stages.iter().find(|stage| stage.figures.name == name),
            None => stages.iter().min_by_key(|stage| {
                let owned_milli = stage.figures.gpus.owned_share_milli;
                ((owned_milli - 500).abs(), std::cmp::Reverse(owned_milli))
            }),
        };
        let Some(stage) = found else {
            let names: Vec<&str> = stages.iter().map(|stage| stage.figures.name.as_str()).collect();
            return Err(Failure::usage(
                format!("there is no world {}", world.unwrap_or_default()),
                format!("expected one of {}", names.join(", ")),
                "the names are those of the cells",
            ));
        };
        let known = |job: &JobId| stage.jobs.jobs.iter().any(|view| view.job == *job);
        if let Some(job) = job.filter(|job| !known(job)) {
            return Err(Failure::usage(
                format!("there is no job {job} in {}", stage.figures.name),
                "it was never requested there",
                "solyx view jobs --json lists the jobs",
            ));
        }
        let invoice = stage.billing.invoices.iter().max_by_key(|invoice| (invoice.total_micros, &invoice.tenant));
        Ok(Self {
            stage,
            world: &stage.figures.name,
            job: job.or_else(|| eventful(&stage.jobs.jobs)),
            tenant: invoice.map(|invoice| invoice.tenant.as_str()),
            invoice,
        })
    }
}

/// A finished job that more than one thing happened to, but not too much to be read.
fn eventful(jobs: &[JobView]) -> Option<&JobId> {
    let score = |job: &JobView| {
        let kinds = [job.held > 0, job.deferred > 0, job.preempted > 0, job.moved > 0, job.attempts > 1];
        kinds.iter().filter(|happened| **happened).count()
    };
    let readable = |job: &&JobView| job.state == JobState::Done && job.attempts <= 3 && job.held <= 4;
    let best = jobs.iter().filter(readable).max_by_key(|job| (score(job), std::cmp::Reverse(&job.job)));
    best.or(jobs.first()).map(|job| &job.job)
}
