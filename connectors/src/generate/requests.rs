//! What a job asks for, by its kind.

use solyx_schemas::events::common::Label;
use solyx_schemas::events::jobs::*;
use solyx_schemas::ids::{EventId, SourceId};
use solyx_schemas::units::*;

use super::jobs::{arrival, name, work_us};
use super::models::{MODELS, OWN_PLACES};
use super::plan::Plan;
use super::storage;
use super::world::sum;
use crate::import::Estimates;

const MINUTE_US: i64 = 60 * SECOND_US;
/// Jobs of a block: some blocks are arrays, some begin with a set.
const BLOCK: i64 = 10;
/// Jobs of a set.
const SET: i64 = 3;

/// A job before its events are said.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) at: TimeUs,
    pub(super) work: WorkUs,
    /// It asks for more than any fabric domain has.
    pub(super) impossible: bool,
    /// The request; its leading fields are empty.
    pub(super) request: JobRequested,
}

/// Where a job stands among its neighbours.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Block {
    Plain,
    Array,
    Set,
}

pub(super) fn draft(plan: &Plan, n: i64) -> Draft {
    let (luck, job) = (plan.luck, name(n));
    let id = job.as_str();
    let block_id = (n / BLOCK).to_string();
    let block = match luck.weighted("block", &block_id, &[(85, Block::Plain), (10, Block::Array), (5, Block::Set)]) {
        Block::Set if n % BLOCK >= SET => Block::Plain,
        block => block,
    };
    // Jobs of a block that belong together are of one tenant and kind.
    let family = if block == Block::Plain { id } else { &block_id };
    let kind = luck.weighted(
        "kind",
        family,
        &[(45, JobKind::Training), (30, JobKind::Batch), (15, JobKind::Interactive), (10, JobKind::Serving)],
    );
    let impossible = luck.chance("impossible", id, 3);
    let gang = gang(plan, family, kind, impossible);
    let gpu_milli = gang.replicas_min.0 * gang.gpus.0 * gang.gpu_milli_each.0;
    let work = match kind {
        JobKind::Interactive => WorkUs(luck.around("work", id, 40 * MINUTE_US, (MINUTE_US, 6 * HOUR_US))),
        _ => work_us(plan, id, gpu_milli),
    };
    let at = match block {
        Block::Set => TimeUs(arrival(plan, &block_id).0 + n % BLOCK * 20 * SECOND_US),
        _ => arrival(plan, id),
    };
    let team = luck.pick("team", family, &plan.teams);
    let estimate = match luck.below("estimate", id, 10) {
        0 | 1 => Estimates::None,
        2 => Estimates::Exact,
        _ => Estimates::Noisy(500),
    };
    let mut request = JobRequested {
        event_id: EventId::default(),
        source: SourceId::default(),
        job: id.into(),
        tenant: team.id.as_str().into(),
        project: luck
            .chance("project", family, 400)
            .then(|| (*luck.pick("project-name", family, &["alpha", "beta"])).into()),
        kind,
        gang,
        expected_work_us: estimate.of(plan.seed, id, work),
        ..JobRequested::default()
    };
    terms(plan, &mut request, at, work);
    places(plan, &mut request, team.company);
    relations(plan, &mut request, n, block);
    Draft { at, work, impossible, request }
}

fn gang(plan: &Plan, id: &str, kind: JobKind, impossible: bool) -> Gang {
    let luck = plan.luck;
    let (gpus, gpu_milli, replicas) = match kind {
        _ if impossible => (8, 1_000, 64),
        JobKind::Training => {
            let gpus = luck.weighted("gpus", id, &[(20, 1), (15, 2), (20, 4), (45, 8)]);
            let whole = [(50, 1), (28, 2), (16, 3), (6, 4)];
            let replicas = if gpus == 8 { luck.weighted("replicas", id, &whole) } else { 1 };
            (gpus, 1_000, replicas)
        }
        JobKind::Batch => match luck.weighted("batch", id, &[(15, 0), (40, 1), (45, 2)]) {
            0 => (0, 1_000, luck.between("replicas", id, 1, 3)),
            1 => (1, 1_000, 1),
            _ => (1, 50 * luck.between("share", id, 2, 18), 1),
        },
        JobKind::Interactive => (1, *luck.pick("share", id, &[250, 500, 1_000]), 1),
        _ => (luck.weighted("gpus", id, &[(70, 1), (30, 2)]), 1_000, luck.between("replicas", id, 1, 4)),
    };
    let elastic = replicas > 1 && !impossible && luck.chance("elastic", id, 250);
    let cores = luck.between("cores", id, 2, 14);
    Gang {
        replicas_min: Count(if elastic { replicas - 1 } else { replicas }),
        replicas_max: Count(replicas),
        gpus: Count(gpus),
        gpu_milli_each: GpuMilli(gpu_milli),
        gpu_memory_mib: luck.chance("gpu-memory", id, 150).then_some(MemoryMib(32_768)).filter(|_| gpus > 0),
        cpu_milli: CpuMilli(cores * 1_000 * gpus.max(1)),
        memory_mib: MemoryMib(luck.between("memory", id, 4, 96) * 1_024 * gpus.max(1)),
        scratch_gib: luck.chance("scratch", id, 300).then(|| StorageGib(luck.between("scratch-gib", id, 10, 900))),
        exclusive_node: gpus == 8 && luck.chance("exclusive", id, 50),
        memory_max_mib: luck.chance("memory-max", id, 300).then_some(MemoryMib(110 * 1_024 * gpus.max(1))),
        ..Gang::default()
    }
}

/// Class, times, checkpoints, retries, budget and recovery.
fn terms(plan: &Plan, request: &mut JobRequested, at: TimeUs, work: WorkUs) {
    let (luck, job) = (plan.luck, request.job.clone());
    let id = job.as_str();
    let class = match request.kind {
        JobKind::Serving => "production",
        JobKind::Batch => luck.weighted("class", id, &[(50, "scavenger"), (50, "standard")]),
        _ => luck.weighted("class", id, &[(10, "production"), (80, "standard"), (10, "scavenger")]),
    };
    request.class = class.into();
    request.preemptible = class != "production" && luck.chance("preemptible", id, 800);
    let long_lived = matches!(request.kind, JobKind::Training | JobKind::Batch);
    if long_lived && luck.chance("checkpoints", id, 800) {
        request.checkpoint_interval_us = Some(DurationUs(luck.between("checkpoint", id, 10, 90) * MINUTE_US));
        request.checkpoint_mib = Some(MemoryMib(1_024 * luck.between("checkpoint-gib", id, 1, 200)));
        request.restore_us = Some(DurationUs(luck.between("restore", id, 20, 400) * SECOND_US));
    }
    if luck.chance("not-before", id, 50) {
        request.not_before_us = Some(TimeUs(at.0 + luck.between("not-before-min", id, 10, 720) * MINUTE_US));
    }
    if long_lived && luck.chance("deadline", id, 250) {
        let from = request.not_before_us.unwrap_or(at);
        // Most leave enough time, a few cannot be kept at all.
        let milli = luck.between("slack", id, 700, 6_000);
        request.deadline_us = Some(TimeUs(from.0 + work.0 / 1_000 * milli + HOUR_US / 2));
    }
    if luck.chance("retry-limits", id, 100) {
        let limit = |category, most| RetryLimit { category, retries_max: Count(most) };
        request.retry_limits = vec![limit(FailureCategory::UserCode, 1), limit(FailureCategory::Gpu, 2)];
    }
    if luck.chance("budget", id, 40) {
        let gpu_hours = i128::from(request.gang.replicas_min.0 * request.gang.gpus.0.max(1)) * i128::from(work.0)
            / i128::from(HOUR_US);
        let units = gpu_hours as i64 * luck.between("budget-milli", id, 800, 6_000) / 1_000;
        request.budget = Some(sum("USD", units + 1));
    }
    let serving = request.kind == JobKind::Serving;
    if serving || luck.chance("recovery", id, 80) {
        let spread = (serving && request.gang.replicas_min.0 > 1).then_some(SpreadLevel::Node);
        request.recovery = Some(RecoveryClass {
            rto_us: Some(DurationUs(luck.between("rto", id, 5, 120) * MINUTE_US)),
            rpo_us: Some(DurationUs(luck.between("rpo", id, 0, 60) * MINUTE_US)),
            spread,
        });
    }
    if luck.chance("labels", id, 100) {
        request.labels = vec![Label { name: "cost-centre".into(), value: format!("{}", luck.below("centre", id, 90)) }];
    }
}

/// Models, topology, data, clients, residency and trust.
fn places(plan: &Plan, request: &mut JobRequested, company: usize) {
    let (luck, job) = (plan.luck, request.job.clone());
    let id = job.as_str();
    if request.gang.gpus.0 > 0 && luck.chance("models", id, 600) {
        let from = luck.below("models-from", id, 2) as usize;
        let count = luck.between("models-count", id, 2, 3) as usize;
        let choice = |model: &super::models::Model| ModelChoice {
            model: model.id.into(),
            speed_milli: Milli(model.speed_milli),
        };
        request.models = MODELS.iter().skip(from).take(count).map(choice).collect();
    }
    let replicas = request.gang.replicas_min.0;
    if request.gang.gpus.0 > 1 || replicas > 1 {
        let required = luck.weighted(
            "topology",
            id,
            &[
                (60, None),
                (20, Some(TopologyLevel::Leaf)),
                (10, Some(TopologyLevel::Rack)),
                (10, Some(TopologyLevel::Spine)),
            ],
        );
        let required = match required {
            _ if replicas == 1 && luck.chance("nvlink", id, 200) => Some(TopologyLevel::NvlinkDomain),
            // What spans nodes cannot be in one NVLink domain of eight.
            required => required,
        };
        let spread = (request.kind == JobKind::Serving && replicas > 1)
            .then(|| *luck.pick("spread", id, &[SpreadLevel::Node, SpreadLevel::Rack]));
        if required.is_some() || spread.is_some() {
            request.topology = Some(Topology {
                required: required.filter(|_| spread.is_none()),
                preferred: luck.chance("preferred", id, 300).then_some(TopologyLevel::Rack),
                segment_min: None,
                spread,
                skew_max: spread.map(|_| Count(1)),
            });
        }
    }
    if luck.chance("data", id, 250) {
        let team = plan.teams.iter().find(|team| *team.id == *request.tenant.as_str());
        let dataset = team.map(|team| storage::name(team, luck.below("dataset", id, storage::DATASETS)));
        request.datasets = dataset.iter().map(|name| name.as_str().into()).collect();
    }
    if request.kind == JobKind::Serving {
        let near = luck.below("clients", id, OWN_PLACES.len() as i64) as usize;
        let client = |place: usize, weight: i64| ClientRegion {
            region: OWN_PLACES[place % OWN_PLACES.len()].region.into(),
            weight_milli: Milli(weight),
            latency_objective_us: Some(DurationUs(luck.between("objective", id, 30, 200) * 1_000)),
        };
        request.client_regions = vec![client(near, 700), client(near + 1, 300)];
    }
    let country = plan.companies[company].country;
    if luck.chance("residency", id, 80) {
        let europe = ["DE", "SE", "FR", "IE"].map(Into::into).to_vec();
        request.residency = if country == "US" { vec!["US".into()] } else { europe };
    }
    if luck.chance("certificates", id, 30) {
        request.certificates = vec!["iso27001".into()];
    }
    request.attestation_required = luck.chance("attestation", id, 50);
    if luck.chance("contract", id, 20) {
        let n = luck.below("contract-number", id, 2);
        if luck.chance("contract-sold", id, 500) {
            request.sold_lease = Some(format!("sold-{n}").as_str().into());
        } else {
            request.reservation = Some(format!("reservation-{n}").as_str().into());
        }
    }
}

/// Arrays, sets, dependencies and holds.
fn relations(plan: &Plan, request: &mut JobRequested, n: i64, block: Block) {
    let (luck, job) = (plan.luck, request.job.clone());
    let id = job.as_str();
    let begins = n / BLOCK * BLOCK;
    match block {
        Block::Array => {
            let count = (i64::from(plan.size.jobs) - begins).min(BLOCK);
            request.array = Some(ArrayIndex { index: Count(n - begins), count: Count(count) });
        }
        Block::Set => {
            let size = (i64::from(plan.size.jobs) - begins).min(SET);
            request.job_set = Some(JobSet { set: format!("set-{}", n / BLOCK).as_str().into(), size: Count(size) });
            return;
        }
        Block::Plain => {}
    }
    if n >= 6 && luck.chance("depends", id, 60) {
        let condition =
            luck.weighted("depends-how", id, &[(70, DependencyCondition::Ok), (30, DependencyCondition::Any)]);
        let other = n - luck.between("depends-on", id, 1, 6);
        request.depends_on = vec![Dependency { job: name(other).as_str().into(), condition }];
    }
    request.hold = luck.chance("hold", id, 30);
}
