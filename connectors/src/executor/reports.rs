//! The events an executor reports, with ids that depend on nothing but what they are of.

use solyx_schemas::events::Event;
use solyx_schemas::events::facility::{MeasuredKind, PowerMeasured};
use solyx_schemas::events::jobs::FailureCategory;
use solyx_schemas::events::nodes::{NodeState, NodeStateChanged};
use solyx_schemas::events::runs::*;
use solyx_schemas::events::usage::{Meter, UsageMetered};
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

use super::run::{Metered, Run};

/// Text that fits an id: what would be too long is hashed.
pub(crate) fn fitting_id(text: String) -> String {
    if text.len() <= ID_LEN_MAX {
        return text;
    }
    format!("blake3:{}", blake3::hash(text.as_bytes()).to_hex())
}

/// An id for an event.
pub(crate) fn event_id(text: String) -> EventId {
    fitting_id(text).into()
}

pub(crate) fn run_started(source: &SourceId, run: &Run, at: TimeUs) -> Event {
    RunStarted {
        event_id: event_id(format!("{}/started", run.run)),
        source: source.clone(),
        occurred_us: at,
        job: run.job.clone(),
        run: run.run.clone(),
        decision: run.decision.clone(),
        nodes: run.nodes.clone(),
        started_us: at,
    }
    .into()
}

pub(crate) fn run_checkpointed(source: &SourceId, run: &Run, work: WorkUs, at: TimeUs) -> Event {
    RunCheckpointed {
        event_id: event_id(format!("{}/checkpoint/{}", run.run, work.0)),
        source: source.clone(),
        occurred_us: at,
        job: run.job.clone(),
        run: run.run.clone(),
        work_us: work,
        size_mib: run.checkpoint_mib,
        site: run.site.clone(),
        durable_us: at,
    }
    .into()
}

pub(crate) fn run_lease_renewed(source: &SourceId, run: &Run, until: TimeUs, at: TimeUs) -> Event {
    RunLeaseRenewed {
        event_id: event_id(format!("{}/lease/{}", run.run, at.0)),
        source: source.clone(),
        occurred_us: at,
        job: run.job.clone(),
        run: run.run.clone(),
        lease_until_us: until,
    }
    .into()
}

pub(crate) fn run_finished(source: &SourceId, run: &Run, exit_code: i64, at: TimeUs) -> Event {
    RunFinished {
        event_id: event_id(format!("{}/finished", run.run)),
        source: source.clone(),
        occurred_us: at,
        job: run.job.clone(),
        run: run.run.clone(),
        exit_code,
        work_us: run.work_at(at),
        finished_us: at,
    }
    .into()
}

pub(crate) fn run_failed(
    source: &SourceId,
    run: &Run,
    category: FailureCategory,
    node: Option<NodeId>,
    detail: &str,
    at: TimeUs,
) -> Event {
    RunFailed {
        event_id: event_id(format!("{}/failed", run.run)),
        source: source.clone(),
        occurred_us: at,
        job: run.job.clone(),
        run: run.run.clone(),
        category,
        node,
        durable_work_us: run.durable_work,
        failed_us: at,
        detail: detail.to_owned(),
    }
    .into()
}

pub(crate) fn run_stopped(source: &SourceId, run: &Run, reason: StopReason, at: TimeUs) -> Event {
    RunStopped {
        event_id: event_id(format!("{}/stopped", run.run)),
        source: source.clone(),
        occurred_us: at,
        job: run.job.clone(),
        run: run.run.clone(),
        reason,
        kept_work_us: run.durable_work,
        stopped_us: at,
    }
    .into()
}

/// One record for each meter that counted something.
pub(crate) fn usage<'a>(source: &'a SourceId, run: &'a Run, metered: Metered) -> impl Iterator<Item = Event> + 'a {
    let meters = [
        (Meter::GpuTime, "gpu", metered.gpu_time),
        (Meter::CpuTime, "cpu", metered.cpu_time),
        (Meter::Energy, "energy", metered.energy_j),
    ];
    meters.into_iter().filter(|(_, _, quantity)| *quantity > 0).map(move |(meter, name, quantity)| {
        UsageMetered {
            event_id: event_id(format!("{}/usage/{name}/{}", run.run, metered.from.0 / HOUR_US)),
            source: source.clone(),
            occurred_us: metered.to,
            job: run.job.clone(),
            run: run.run.clone(),
            node: None,
            meter,
            quantity: UsageQuantity(quantity),
            from_us: metered.from,
            to_us: metered.to,
        }
        .into()
    })
}

pub(crate) fn node_state(
    source: &SourceId,
    node: &NodeId,
    state: NodeState,
    attempt: u64,
    reason: &str,
    at: TimeUs,
) -> Event {
    NodeStateChanged {
        event_id: event_id(format!("{node}/{state}/{attempt}")),
        source: source.clone(),
        occurred_us: at,
        node: node.clone(),
        state,
        reason: reason.to_owned(),
    }
    .into()
}

pub(crate) fn node_power(
    source: &SourceId,
    site: &SiteId,
    node: &NodeId,
    power: PowerW,
    from: TimeUs,
    to: TimeUs,
) -> Event {
    PowerMeasured {
        event_id: event_id(format!("{node}/power/{}", to.0)),
        source: source.clone(),
        occurred_us: to,
        site: site.clone(),
        measured: MeasuredKind::Node,
        subject: node.as_str().into(),
        power_w: power,
        from_us: from,
        to_us: to,
    }
    .into()
}
