//! `solyx explain JOB`: why here, why not there, why still waiting. All of it stands in the log.

use clap::Args;
use serde_json::{Value, json};
use solyx_schemas::epochs::EpochReader;
use solyx_schemas::events::Event;
use solyx_schemas::events::decisions::{CostTerms, JobPlaced, Limit};
use solyx_schemas::ids::JobId;
use solyx_schemas::json::to_json;
use solyx_schemas::log::Log;
use solyx_schemas::units::{TimeUs, rfc3339};

use crate::failure::{Exit, Failure, Outcome};
use crate::output::{self, money};
use crate::world::{Source, unreadable_history};

/// Say what became of a job and why.
#[derive(Debug, Args)]
#[command(after_help = "Example: solyx explain job-0001 --log world")]
pub struct Explain {
    /// The job.
    job: JobId,
    #[command(flatten)]
    source: Source,
}

/// An event or a decision about a job.
pub struct Step {
    /// The epoch that took or made it.
    pub epoch: i64,
    /// That epoch's time.
    pub now: TimeUs,
    event: Event,
}

impl Step {
    /// In words.
    pub fn said(&self) -> String {
        said(&self.event)
    }
}

/// Runs it.
pub fn run(command: &Explain, json: bool) -> Outcome {
    let log = command.source.open()?;
    let steps = steps(&*log, &command.job)?;
    if steps.is_empty() {
        return Err(Failure::finding(
            format!("nothing is known of job {}", command.job),
            "no epoch has an event or a decision about it",
            "check the name; a request that did not count is in topic quarantine",
        ));
    }
    if json {
        let steps: Vec<Value> =
            steps.iter().map(|s| json!({"epoch": s.epoch, "now_us": s.now, "event": to_json(&s.event)})).collect();
        output::json(&json!({"job": command.job, "steps": steps}));
    } else {
        for step in told(&steps) {
            output::line(format!("{}  epoch {:>6}  {}", rfc3339(step.now), step.epoch, step.said()));
        }
    }
    Ok(Exit::Good)
}

/// All that the log says of a job, in order.
pub fn steps(log: &dyn Log, job: &JobId) -> Result<Vec<Step>, Failure> {
    let mut reader = EpochReader::new(log);
    let mut steps = Vec::new();
    while let Some(epoch) = reader.next_batch().map_err(|e| unreadable_history(&e))? {
        let (number, now) = (epoch.record.epoch, epoch.record.now_us);
        let inputs = epoch.counted().map(|(_, event)| event).filter(|event| concerns(event, job));
        let outputs = epoch.outputs.iter().filter(|event| concerns(event, job));
        steps.extend(inputs.chain(outputs).map(|event| Step { epoch: number, now, event: event.clone() }));
    }
    Ok(steps)
}

/// The steps that are told: of checkpoints one after the other the last says it all.
pub fn told(steps: &[Step]) -> impl Iterator<Item = &Step> {
    let checkpoint = |step: &Step| matches!(step.event, Event::RunCheckpointed(_));
    let next = steps.iter().skip(1).map(Some).chain([None]);
    steps
        .iter()
        .zip(next)
        .filter(move |(step, next)| !(checkpoint(step) && next.is_some_and(checkpoint)))
        .map(|(step, _)| step)
}

fn concerns(event: &Event, job: &JobId) -> bool {
    match event {
        // Meters say what a run used; the billing view has that.
        Event::UsageMetered(_) | Event::RunLeaseRenewed(_) => false,
        Event::CapacityLeaseOrdered(e) => e.job.as_ref() == Some(job),
        Event::RecordQuarantined(_) | Event::EpochCommitted(_) => false,
        other => other.key() == job.as_str() && to_json(other)["job"] == job.as_str(),
    }
}

fn said(event: &Event) -> String {
    match event {
        Event::JobRequested(e) => format!(
            "requested by {}: {} to {} replicas, {} GPUs each, class {}",
            e.tenant, e.gang.replicas_min.0, e.gang.replicas_max.0, e.gang.gpus.0, e.class
        ),
        Event::JobAdmitted(_) => "admitted".to_owned(),
        Event::JobRejected(e) => format!("rejected: {}; {}", limit(&e.limit), e.detail),
        Event::JobHeld(e) => {
            let start = e.earliest_start_us.map_or(String::new(), |t| format!("; earliest start known {}", rfc3339(t)));
            format!("waits: {}{start}", limit(&e.limit))
        }
        Event::JobDeferred(e) => format!(
            "deferred to {} in {}: {} then, {} now",
            rfc3339(e.until_us),
            e.pool,
            money(total(&e.then_terms)),
            money(total(&e.now_terms))
        ),
        Event::JobPlaced(e) => placed(e),
        Event::JobPreempted(e) => format!("preempted: {}{}", e.cause, for_job(e.for_job.as_ref())),
        Event::JobMigrated(e) => format!("moved from {}: {}", e.from_pool, e.cause),
        Event::JobResized(e) => {
            format!("resized from {} to {} replicas: {}", e.from_replicas.0, e.to_replicas.0, e.reason)
        }
        Event::JobRequeued(e) => format!("waits again after {}: {}, attempt {}", e.run, e.cause, e.attempts.0),
        Event::JobCancelled(e) => format!("cancelled: {}; {}", e.cause, e.detail),
        Event::CapacityLeaseOrdered(e) => format!("{} instances ordered of {}", e.instances.0, e.pool),
        Event::RunStarted(e) => format!("run {} started", e.run),
        Event::RunCheckpointed(e) => {
            format!("last checkpoint so far: {} s of work durable at {}", e.work_us.0 / 1_000_000, e.site)
        }
        Event::RunFinished(e) => format!("run {} finished, exit {}", e.run, e.exit_code),
        Event::RunFailed(e) => format!("run {} failed: {}; {}", e.run, e.category, e.detail),
        Event::RunStopped(e) => format!("run {} stopped: {}", e.run, e.reason),
        other => other.name().rsplit('.').next().unwrap_or_default().to_owned(),
    }
}

fn for_job(job: Option<&JobId>) -> String {
    job.map_or(String::new(), |job| format!(", for {job}"))
}

fn placed(e: &JobPlaced) -> String {
    let nodes: Vec<&str> = e.nodes.iter().map(|n| n.node.as_str()).collect();
    let backfilled = if e.backfilled { ", ahead of a gang that it does not delay" } else { "" };
    let mut text =
        format!("placed in {} on {}{backfilled}: {} {}", e.pool, nodes.join(", "), money(total(&e.terms)), e.currency);
    text += &format!(" ({})", terms(&e.terms));
    if let Some(other) = &e.runner_up {
        let more = total(&other.terms) - total(&e.terms);
        let start = rfc3339(other.start_us);
        text += &format!("; not in {} at {start}: {} more ({})", other.pool, money(more), terms(&other.terms));
    }
    text
}

fn named(t: &CostTerms) -> [(&'static str, i64); 8] {
    [
        ("rent", t.rent_micros.0),
        ("energy", t.energy_micros.0),
        ("carbon", t.carbon_micros.0),
        ("egress", t.egress_micros.0),
        ("latency", t.latency_micros.0),
        ("risk", t.risk_micros.0),
        ("waiting", t.waiting_micros.0),
        ("policy", t.policy_micros.0),
    ]
}

fn total(t: &CostTerms) -> i128 {
    named(t).iter().map(|(_, micros)| i128::from(*micros)).sum()
}

fn terms(t: &CostTerms) -> String {
    let said: Vec<String> =
        named(t).iter().filter(|(_, m)| *m != 0).map(|(name, m)| format!("{name} {}", money((*m).into()))).collect();
    if said.is_empty() { "nothing".to_owned() } else { said.join(", ") }
}

fn limit(limit: &Limit) -> String {
    let mut text = limit.kind.to_string();
    if let Some(subject) = &limit.subject {
        text += &format!(" of {subject}");
    }
    let unit = limit.unit.as_ref().map_or(String::new(), |unit| format!(" {unit}"));
    if let Some(asked) = limit.asked {
        text += &format!(", asked {asked}{unit}");
    }
    if let Some(available) = limit.available {
        text += &format!(", there {available}{unit}");
    }
    text
}
