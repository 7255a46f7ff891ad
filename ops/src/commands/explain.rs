//! `solyx explain JOB`: why here, why not there, why still waiting. All of it stands in the log.

use clap::Args;
use serde_json::{Value, json};
use solyx_schemas::epochs::EpochReader;
use solyx_schemas::events::Event;
use solyx_schemas::events::common::NodeGpus;
use solyx_schemas::events::common::Sum;
use solyx_schemas::events::decisions::{CostTerms, JobPlaced, Limit, LimitKind};
use solyx_schemas::events::jobs::{Gang, JobRequestAmended};
use solyx_schemas::ids::JobId;
use solyx_schemas::json::to_json;
use solyx_schemas::log::Log;
use solyx_schemas::units::{TimeUs, WorkUs, rfc3339};

use super::{answer, whatif};
use crate::failure::{Exit, Failure, Outcome, one_line};
use crate::output::{self, decimal, duration, money};
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
        one_line(&said(&self.event))
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
    // A job of which the log has told an end has none to come.
    let now = if steps.iter().rev().any(|step| settles(&step.event)) {
        None
    } else {
        whatif::rehearsal(&command.source)?.waiting(&command.job)
    };
    if json {
        let steps: Vec<Value> =
            steps.iter().map(|s| json!({"epoch": s.epoch, "now_us": s.now, "event": to_json(&s.event)})).collect();
        let now = now.map(|answer| answer::json_of(&command.job, &answer));
        output::json(&json!({"job": command.job, "steps": steps, "now": now}));
    } else {
        for step in told(&steps) {
            output::line(format!("{}  epoch {:>6}  {}", rfc3339(step.now), step.epoch, step.said()));
        }
        if let Some(answer) = now {
            output::line("");
            answer::tell(&command.job, &answer);
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
    reader.ended().map_err(|e| unreadable_history(&e))?;
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

/// Whether a job has ended with it.
fn settles(event: &Event) -> bool {
    matches!(event, Event::JobCancelled(_) | Event::JobRejected(_) | Event::RunFinished(_))
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

pub(super) fn said(event: &Event) -> String {
    match event {
        Event::JobRequested(e) => format!(
            "requested by {}: {} of {}, class {}",
            e.tenant,
            replicas(&e.gang),
            counted(e.gang.gpus.0, "GPU"),
            e.class
        ),
        Event::JobAdmitted(_) => "admitted".to_owned(),
        Event::JobRejected(e) => format!("rejected: {}; {}", limit(&e.limit), e.detail),
        Event::JobHeld(e) => {
            let start = e.earliest_start_us.map_or(String::new(), |t| format!("; earliest start known {}", rfc3339(t)));
            format!("waits for {}{start}", limit(&e.limit))
        }
        Event::JobDeferred(e) => format!(
            "deferred to {} in {}: {} then, {} now",
            rfc3339(e.until_us),
            e.pool,
            money(total(&e.then_terms)),
            money(total(&e.now_terms))
        ),
        Event::JobPlaced(e) => placed(e),
        Event::JobRequestAmended(e) => format!("amended: {}", amended(e)),
        Event::JobHoldSet(e) => format!("{} by {}{}", e.action, e.actor, because(&e.reason)),
        Event::JobCancelRequested(e) => format!("to be cancelled, says {}{}", e.actor, because(&e.reason)),
        Event::JobPreempted(e) => format!(
            "told to stop by {}: {}{}; {}",
            rfc3339(e.stop_by_us),
            e.cause,
            for_job(e.for_job.as_ref()),
            kept_and_lost(e.kept_work_us, e.lost_work_us, e.lost_cost.as_ref())
        ),
        Event::JobMigrated(e) => format!(
            "told to stop by {}: {}; goes on {}; {}",
            rfc3339(e.stop_by_us),
            e.cause,
            e.to_pool.as_ref().map_or("when its turn comes".to_owned(), |pool| format!("in {pool}")),
            kept_and_lost(e.kept_work_us, e.lost_work_us, e.lost_cost.as_ref())
        ),
        Event::JobResized(e) => {
            format!("resized from {} to {} replicas: {}", e.from_replicas.0, e.to_replicas.0, e.reason)
        }
        Event::JobRequeued(e) => {
            let category = e.category.map_or(String::new(), |category| format!(" ({category})"));
            let avoided = e.node_avoided.as_ref().map_or(String::new(), |node| format!("; not again on {node}"));
            format!(
                "waits again after {}: {}{category}, attempt {}, not before {}; {}{avoided}",
                e.run,
                e.cause,
                e.attempts.0,
                rfc3339(e.retry_at_us),
                kept_and_lost(e.kept_work_us, e.lost_work_us, e.lost_cost.as_ref())
            )
        }
        Event::JobCancelled(e) => format!("cancelled: {}; {}", e.cause, e.detail),
        Event::CapacityLeaseOrdered(e) => format!("{} ordered of {}", counted(e.instances.0, "instance"), e.pool),
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

fn amended(e: &JobRequestAmended) -> String {
    let parts = [
        e.class.as_ref().map(|class| format!("class {class}")),
        e.deadline_us.map(|deadline| format!("deadline {}", rfc3339(deadline))),
        e.budget.as_ref().map(|budget| format!("budget {} {}", money(budget.micros.0.into()), budget.currency)),
        e.replicas_min.map(|least| format!("at least {}", counted(least.0, "replica"))),
        e.replicas_max.map(|most| format!("at most {}", counted(most.0, "replica"))),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn because(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(": {reason}") }
}

/// Work of each replica that a stop keeps and loses, and what the lost part had cost.
fn kept_and_lost(kept: WorkUs, lost: WorkUs, cost: Option<&Sum>) -> String {
    let cost =
        cost.map_or(String::new(), |sum| format!(", which had cost {} {}", money(sum.micros.0.into()), sum.currency));
    match lost.0 {
        0 => format!("{} of work kept, none lost", duration(kept.0)),
        lost => format!("{} of work kept, {} lost{cost}", duration(kept.0), duration(lost)),
    }
}

fn for_job(job: Option<&JobId>) -> String {
    job.map_or(String::new(), |job| format!(", for {job}"))
}

fn placed(e: &JobPlaced) -> String {
    let backfilled = if e.backfilled { ", ahead of a gang that it does not delay" } else { "" };
    let mut text = format!(
        "placed in {} on {}{backfilled}: {} {}",
        e.pool,
        on_nodes(&e.nodes),
        money(total(&e.terms)),
        e.currency
    );
    text += &format!(" ({})", terms(&e.terms));
    if let Some(other) = &e.runner_up {
        let more = total(&other.terms) - total(&e.terms);
        let start = rfc3339(other.start_us);
        let difference = match more {
            more if more < 0 => format!("{} less, but what is ours goes first", money(-more)),
            more => format!("{} more", money(more)),
        };
        text += &format!("; not in {} at {start}: {difference} ({})", other.pool, terms(&other.terms));
    }
    text
}

/// Nodes with the replicas on each, if they are several, and what each of those has.
pub(super) fn on_nodes(replicas: &[NodeGpus]) -> String {
    let mut by_node: Vec<(&NodeGpus, i64)> = Vec::new();
    for replica in replicas {
        match by_node.iter_mut().find(|(other, _)| other.node == replica.node) {
            Some((_, count)) => *count += 1,
            None => by_node.push((replica, 1)),
        }
    }
    let on_node = |(replica, count): &(&NodeGpus, i64)| {
        let gpus = replica.gpus.len() as i64;
        let each = match (gpus, replica.gpu_milli_each.0) {
            (0, _) => None,
            (gpus, 1_000) => Some(counted(gpus, "GPU")),
            (1, milli) => Some(format!("{milli}/1000 of a GPU")),
            (gpus, milli) => Some(format!("{milli}/1000 of {gpus} GPUs")),
        };
        let replicas = (*count > 1).then(|| counted(*count, "replica"));
        let what = match (replicas, each) {
            (None, each) => each,
            (replicas, None) => replicas,
            (Some(replicas), Some(each)) => Some(format!("{replicas} with {each} each")),
        };
        what.map_or_else(|| replica.node.to_string(), |what| format!("{} ({what})", replica.node))
    };
    by_node.iter().map(on_node).collect::<Vec<_>>().join(", ")
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

pub(super) fn total(t: &CostTerms) -> i128 {
    named(t).iter().map(|(_, micros)| i128::from(*micros)).sum()
}

pub(super) fn terms(t: &CostTerms) -> String {
    let said: Vec<String> =
        named(t).iter().filter(|(_, m)| *m != 0).map(|(name, m)| format!("{name} {}", money((*m).into()))).collect();
    if said.is_empty() { "nothing".to_owned() } else { said.join(", ") }
}

/// A limit in words: what is lacking, of what, how much of it, and its name.
pub(super) fn limit(limit: &Limit) -> String {
    let subject = limit.subject.as_ref().map_or(String::new(), |subject| format!(" ({subject})"));
    let unit = limit.unit.as_deref().unwrap_or_default();
    let amounts = match (limit.asked, limit.available) {
        (Some(asked), Some(there)) => format!(": {} asked, {} there", amount(asked, unit), amount(there, unit)),
        (Some(asked), None) => format!(": {} asked", amount(asked, unit)),
        _ => String::new(),
    };
    format!("{}{subject}{amounts} [{}]", lacking(limit.kind), limit.kind)
}

/// An amount in the unit that a person thinks in, with what the limit's unit says behind it.
fn amount(value: i64, unit: &str) -> String {
    let thousandths = || decimal(value.into(), 1_000, if value % 1_000 == 0 { 0 } else { 3 });
    let (unit, rest) = unit.split_at(unit.find(' ').unwrap_or(unit.len()));
    match (unit, rest) {
        ("GPU/1000", rest) => format!("{} GPUs{rest}", thousandths()),
        ("CPU/1000", rest) => format!("{} CPUs{rest}", thousandths()),
        ("MiB", rest) => format!("{} GiB{rest}", decimal(value.into(), 1_024, 1)),
        ("micros", "") => money(value.into()),
        ("µs", " UTC") => rfc3339(TimeUs(value)),
        ("", "") => value.to_string(),
        (unit, rest) => format!("{} {unit}{rest}", output::grouped(value)),
    }
}

/// What is lacking where a limit binds.
fn lacking(kind: LimitKind) -> &'static str {
    match kind {
        LimitKind::Validity => "a request that is possible",
        LimitKind::Undeclared => "something it names that is not declared",
        LimitKind::GpuModel => "a GPU model that it accepts, which this is not",
        LimitKind::Gpus => "free GPUs",
        LimitKind::Cpu => "CPU beside the GPUs",
        LimitKind::Memory => "memory beside the GPUs",
        LimitKind::Scratch => "scratch space",
        LimitKind::GpuMemory => "GPUs with enough memory",
        LimitKind::FabricDomain => "one fabric domain with room for the whole gang",
        LimitKind::Spread => "failure domains to spread over",
        LimitKind::Residency => "a country where it may be, which this is not",
        LimitKind::Certificate => "a certificate that the site lacks",
        LimitKind::Attestation => "nodes with a valid attestation",
        LimitKind::Quota => "quota",
        LimitKind::Budget => "budget",
        LimitKind::Power => "power",
        LimitKind::FailoverReserve => "capacity that is held back for failover",
        LimitKind::Reservation => "capacity that is set aside",
        LimitKind::Backfill => "a gang ahead of it that it would delay",
        LimitKind::Draining => "runs that have still to stop",
        LimitKind::LeasePending => "instances that were ordered",
        LimitKind::ProviderCapacity => "capacity at a provider",
        LimitKind::Price => "a price or an exchange rate",
        LimitKind::Deadline => "time before its deadline",
        LimitKind::NotBefore => "the time before which it may not start",
        LimitKind::Deferral => "a cheaper or cleaner hour",
        LimitKind::Hold => "a release by a person",
        LimitKind::Dependency => "a job that must end before",
        LimitKind::JobSet => "the rest of its job set",
        LimitKind::RetryBackoff => "the end of the wait after a failure",
        LimitKind::Retries => "retries",
        LimitKind::Cordon => "the opening of what is cordoned",
        LimitKind::Depth => "its turn among those that are tried",
        LimitKind::Latency => "capacity near its clients",
        LimitKind::Unknown => "something that this build does not know",
    }
}

fn counted(count: i64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn replicas(gang: &Gang) -> String {
    let (least, most) = (gang.replicas_min.0, gang.replicas_max.0);
    if least == most { counted(least, "replica") } else { format!("{least} to {most} replicas") }
}
