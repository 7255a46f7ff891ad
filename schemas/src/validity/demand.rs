//! What tenants ask for, executors carry out and meters count.

use super::{Checked, amount, at_least, between, clock_hour, country, expect, gang, month, nodes, unique};
use crate::events::Event;
use crate::events::jobs::{JobRequestAmended, JobRequested};
use crate::events::plans::{ScriptedEnd, WorkScripted};
use crate::field::FieldError;

pub(super) fn check(event: &Event) -> Checked {
    match event {
        Event::JobRequested(e) => request(e),
        Event::JobRequestAmended(e) => amendment(e),
        Event::RunStarted(e) => nodes(&e.nodes),
        Event::UsageMetered(e) => clock_hour(e.from_us, e.to_us),
        Event::UsageCorrected(e) => {
            expect(e.difference != 0, "difference", 0, || "more or less than nothing".to_owned())
        }
        Event::SupplierInvoiced(e) => month("period", e.period.as_str()),
        Event::WorkScripted(e) => scripted(e),
        Event::ExecutorScripted(e) => between(0, 1_000, "busy_power_milli", e.busy_power_milli.0),
        _ => Ok(()),
    }
}

/// The longest id of a job: those of its runs are made from it and must be ids too.
const JOB_ID_LEN_MAX: usize = 112;

fn request(e: &JobRequested) -> Checked {
    expect(e.job.as_str().len() <= JOB_ID_LEN_MAX, "job", &e.job, || format!("at most {JOB_ID_LEN_MAX} characters"))?;
    gang(&e.gang).map_err(|e| e.within("gang"))?;
    for (i, choice) in e.models.iter().enumerate() {
        at_least(1, "speed_milli", choice.speed_milli.0).map_err(|e| e.within(&format!("models[{i}]")))?;
    }
    unique("models", e.models.iter().map(|c| &c.model))?;
    if let Some(topology) = &e.topology {
        let within = |e: FieldError| e.within("topology");
        expect(topology.skew_max.is_none() || topology.spread.is_some(), "skew_max", "a skew", || {
            "null, since spread is not given".to_owned()
        })
        .map_err(within)?;
        between(1, e.gang.replicas_max.0, "segment_min", topology.segment_min.map_or(1, |s| s.0)).map_err(within)?;
    }
    if let (Some(from), Some(to)) = (e.not_before_us, e.deadline_us) {
        expect(from <= to, "deadline_us", to.0, || format!("not before not_before_us, which is {}", from.0))?;
    }
    at_least(1, "checkpoint_interval_us", e.checkpoint_interval_us.map_or(1, |d| d.0))?;
    unique("retry_limits", e.retry_limits.iter().map(|l| l.category))?;
    unique("datasets", &e.datasets)?;
    unique("client_regions", e.client_regions.iter().map(|r| &r.region))?;
    let clients: i128 = e.client_regions.iter().map(|r| i128::from(r.weight_milli.0)).sum();
    expect(e.client_regions.is_empty() || clients == 1_000, "client_regions", clients, || {
        "weights that add up to 1000".to_owned()
    })?;
    e.residency.iter().try_for_each(|code| country("residency", code.as_str()))?;
    e.budget.as_ref().map_or(Ok(()), |budget| amount("budget", budget))?;
    if let Some(set) = &e.job_set {
        at_least(1, "job_set.size", set.size.0)?;
    }
    if let Some(array) = &e.array {
        expect(array.index < array.count, "array.index", array.index.0, || {
            format!("below count, which is {}", array.count.0)
        })?;
    }
    for (i, dependency) in e.depends_on.iter().enumerate() {
        expect(dependency.job != e.job, &format!("depends_on[{i}].job"), &e.job, || "another job".to_owned())?;
    }
    unique("depends_on", e.depends_on.iter().map(|d| &d.job))
}

fn amendment(e: &JobRequestAmended) -> Checked {
    at_least(1, "replicas_min", e.replicas_min.map_or(1, |n| n.0))?;
    at_least(1, "replicas_max", e.replicas_max.map_or(1, |n| n.0))?;
    if let (Some(min), Some(max)) = (e.replicas_min, e.replicas_max) {
        expect(min <= max, "replicas_max", max.0, || format!("at least replicas_min, which is {}", min.0))?;
    }
    e.budget.as_ref().map_or(Ok(()), |budget| amount("budget", budget))
}

fn scripted(e: &WorkScripted) -> Checked {
    let fails = e.end == ScriptedEnd::Failed;
    let said = |there: bool| if there { "a value" } else { "null" };
    let wanted = || said(fails).to_owned() + " when and only when it fails";
    expect(e.failure.is_some() == fails, "failure", said(e.failure.is_some()), wanted)?;
    expect(e.failure_work_us.is_some() == fails, "failure_work_us", said(e.failure_work_us.is_some()), wanted)?;
    let failure_work = e.failure_work_us.unwrap_or_default();
    expect(failure_work <= e.work_us, "failure_work_us", failure_work.0, || {
        format!("at most work_us, which is {}", e.work_us.0)
    })
}
