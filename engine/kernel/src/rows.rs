//! The rows of the state's tables, where they are more than an event's own body.

use serde::{Deserialize, Serialize};
use solyx_schemas::epochs::Position;
use solyx_schemas::events::capacity::{InstanceShape, PoolDeclared, ProviderState};
use solyx_schemas::events::common::{NodeGpus, Sum};
use solyx_schemas::events::decisions::{Limit, LimitKind, StopCause};
use solyx_schemas::events::jobs::JobRequested;
use solyx_schemas::events::nodes::{NodeReported, NodeState};
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

pub use self::budget::{Budget, Owner};
pub use self::kinds::{Frequency, KindKey, Requests};
pub use self::past::Past;
use crate::mig::Instances;
use crate::set_aside::Draw;

mod budget;
mod kinds;
mod past;

/// The cell itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Time of the last epoch.
    pub now_us: TimeUs,
    /// Number of the next epoch.
    pub next_epoch: i64,
    /// Currency in which costs are compared.
    pub currency: Option<Currency>,
    /// Limits of an epoch: records, bytes, latency.
    pub epoch_limits: Option<(i64, i64, i64)>,
    /// Partitions by topic, where declared.
    pub partitions: Vec<(Name, i64)>,
    /// Features in force, sorted.
    pub features: Vec<FeatureId>,
    /// Features that come into force at the next epoch's start.
    pub features_pending: Vec<FeatureId>,
    /// Who were promised their earliest starts, in the order in which they were.
    pub promised: Vec<JobId>,
    /// When room was last made for jobs that wait.
    pub last_tick_us: TimeUs,
}

/// A price in force from an instant on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PriceFrom {
    /// In force from.
    pub from_us: TimeUs,
    /// Per GPU-hour.
    pub price: RateMicros,
    /// Its currency.
    pub currency: Currency,
}

/// A pool, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Its declaration; absent while only a price or an availability has come.
    pub declared: Option<PoolDeclared>,
    /// Prices, by when they come into force.
    pub prices: Vec<PriceFrom>,
    /// Instances to be had beside those leased; absent means unknown.
    pub available: Option<i64>,
    /// No longer offered.
    pub withdrawn: bool,
    /// Nothing is ordered before this instant: an order was refused.
    pub refused_until_us: TimeUs,
}

impl Pool {
    /// The price in force at an instant.
    pub fn price_at(&self, at: TimeUs) -> Option<&PriceFrom> {
        self.prices.iter().rev().find(|p| p.from_us <= at)
    }

    /// The shape of an instance.
    pub fn shape(&self) -> Option<&InstanceShape> {
        self.declared.as_ref().map(|d| &d.shape)
    }
}

/// A provider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provider {
    /// Its state.
    pub state: ProviderState,
}

/// The lease behind a node that is a leased instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Since when it is paid for.
    pub from_us: TimeUs,
    /// Price really charged.
    pub price: RateMicros,
    /// Its currency.
    pub currency: Currency,
    /// The job it was ordered for and still waits for.
    pub earmarked: Option<JobId>,
    /// Since when nothing runs on it.
    pub idle_since_us: Option<TimeUs>,
    /// It was given back and ends by itself.
    pub released: bool,
}

/// A node: reported by its agent, or a leased instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// What it is; absent while only a state or an attestation has come.
    pub report: Option<NodeReported>,
    /// Its state.
    pub state: NodeState,
    /// Until when its attestation is valid.
    pub attested_until_us: Option<TimeUs>,
    /// GPUs that take no new work.
    pub avoided_gpus: Vec<i64>,
    /// When runs failed for its sake, within the lemon window.
    pub failures: Vec<TimeUs>,
    /// The lease, if it is a leased instance.
    pub lease: Option<Lease>,
    /// It is gone; the row stays until its last run is dealt with.
    pub gone: bool,
}

impl Node {
    /// Whether nothing can run on it any more: it is gone, or fenced.
    pub fn is_lost(&self) -> bool {
        self.gone || self.state == NodeState::Fenced
    }
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Asked for, not yet judged by `decide`.
    #[default]
    Requested,
    /// Admitted and waiting.
    Waiting,
    /// Waiting for instances that were ordered for it.
    Leasing,
    /// Has a run.
    Running,
    /// Has a run that was told to stop.
    Stopping,
    /// Finished well.
    Done,
    /// Ended without finishing.
    Ended,
}

/// The place of an arrival: the last word in every tie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Arrival {
    /// Epoch.
    pub epoch: i64,
    /// Position.
    pub position: Position,
}

/// A job's state; what it asks for is a row of its own. A million of them wait.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Where it stands.
    pub phase: Phase,
    /// When it came.
    pub arrival: Arrival,
    /// Time of the epoch it came in.
    pub requested_us: TimeUs,
    /// Runs it has had.
    pub attempts: i64,
    /// Work of each replica that is durable.
    pub kept_work_us: WorkUs,
    /// Not to start before: its own wish, a retry or a deferral.
    pub not_before_us: TimeUs,
    /// Why it may not start before then.
    pub not_before_limit: Option<LimitKind>,
    /// It was deferred once and now takes what there is.
    pub deferred: bool,
    /// Held back by a person.
    pub hold: bool,
    /// Its run.
    pub run: Option<RunId>,
    /// The limit last told.
    pub told: Option<LimitKind>,
    /// What is held for it against budgets, in the customer's price.
    pub budget_held: Option<Box<Held>>,
    /// GPU time held by its runs that are over, lost work among it, thousandths of a GPU × s.
    pub used_gpu_milli_s: i64,
    /// Since when it waits.
    pub waiting_since_us: TimeUs,
    /// How often it was stopped to make room for another job.
    pub preemptions: u16,
    /// How often of these for a job ahead of it in line, and not for another tenant's promised share.
    pub order_preemptions: u16,
    /// What only jobs have that something has happened to.
    pub past: Option<Box<Past>>,
}

/// What is held for a job against budgets: the price of what it uses from an instant on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// What is left of it.
    pub price: Sum,
    /// Use before it was held for takes nothing from it.
    pub from_us: TimeUs,
}

impl Job {
    /// Whether it has ended for good.
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Done | Phase::Ended)
    }
}

/// What a job asks for.
pub type Spec = JobRequested;

/// Why a run was told to stop, and by when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// Why.
    pub cause: StopCause,
    /// When it must have stopped.
    pub by_us: TimeUs,
    /// Whether the job ends with it.
    pub ends_job: bool,
}

/// Room that is made for a job: nobody else may take it while it becomes free.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Nodes that the job will be on.
    pub nodes: Vec<NodeId>,
    /// Runs that were told to stop for it.
    pub victims: Vec<RunId>,
    /// Thousandths of GPUs that it will take.
    pub gpu_milli: i64,
    /// The room that is held for the job itself while its run stops to be moved there.
    pub berth: Option<Berth>,
}

/// Room that is held for a job whose run is moved, as if the job had it already.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Berth {
    /// The pool.
    pub pool: PoolId,
    /// Nodes and GPUs; a node once per replica on it.
    pub nodes: Vec<NodeGpus>,
    /// CPU of each replica.
    pub cpu_milli: CpuMilli,
    /// Memory of each replica.
    pub memory_mib: MemoryMib,
    /// Scratch space of each replica.
    pub scratch_gib: StorageGib,
}

/// Nodes that are closed to newcomers for a job that is owed room.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// The nodes, in order.
    pub nodes: Vec<NodeId>,
    /// When all that stands in the way there may be stopped.
    pub clear_us: TimeUs,
}

/// What consolidation may still lose.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// GPU time that was left, µs of one GPU.
    pub left_us: i64,
    /// When.
    pub as_of_us: TimeUs,
}

/// A job that may have more replicas than its least, from its first placement to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Elastic {
    /// Least number of replicas.
    pub least: i64,
    /// Largest number of replicas.
    pub most: i64,
    /// When its run was last told to stop for another number.
    pub resized_us: Option<TimeUs>,
    /// Since when there was room for more at each of its checkpoints.
    pub room_us: Option<TimeUs>,
    /// With what it goes on once its run has stopped; absent while it is not being resized.
    pub goes_on: Option<GoesOn>,
}

/// With what a job goes on that is being resized.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoesOn {
    /// Where.
    pub pool: PoolId,
    /// Replicas that are kept for it.
    pub replicas: i64,
}

/// A run and all it holds until it is released.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The job.
    pub job: JobId,
    /// The tenant.
    pub tenant: TenantId,
    /// The project.
    pub project: Option<ProjectId>,
    /// Priority class.
    pub class: ClassId,
    /// Whether the job lets it be stopped for another.
    pub preemptible: bool,
    /// Time that a restart from its last checkpoint takes.
    pub restore_us: DurationUs,
    /// GPU time that the job said it needs, thousandths of a GPU × s; 0 when it said nothing.
    pub said_gpu_milli_s: i64,
    /// The pool.
    pub pool: PoolId,
    /// The site.
    pub site: SiteId,
    /// GPU model.
    pub model: GpuModelId,
    /// Nodes and GPUs; a node once per replica on it.
    pub nodes: Vec<NodeGpus>,
    /// Whether it has its nodes to itself.
    pub exclusive_node: bool,
    /// CPU of each replica.
    pub cpu_milli: CpuMilli,
    /// Memory of each replica.
    pub memory_mib: MemoryMib,
    /// Scratch space of each replica.
    pub scratch_gib: StorageGib,
    /// Share of GPUs in all.
    pub gpu_milli: GpuMilli,
    /// Epoch time at which it was placed: its resources are held from then on.
    pub placed_us: TimeUs,
    /// When it really started.
    pub started_us: Option<TimeUs>,
    /// When it is expected to end.
    pub expected_end_us: TimeUs,
    /// Whether that is known or only assumed.
    pub length_known: bool,
    /// Until when it goes on without renewal.
    pub lease_until_us: TimeUs,
    /// Length of its lease.
    pub lease_us: DurationUs,
    /// Speed in thousandths of the reference.
    pub speed_milli: Milli,
    /// Work it started from.
    pub from_work_us: WorkUs,
    /// Work that is durable.
    pub durable_work_us: WorkUs,
    /// Since when that work is durable.
    pub durable_us: TimeUs,
    /// It was told to stop.
    pub stop: Option<Stop>,
    /// It is to stop at its next checkpoint.
    pub stop_at_checkpoint: Option<StopCause>,
    /// When it is told to stop for a drain if no checkpoint has come by then.
    pub drain_by_us: Option<TimeUs>,
    /// What it takes of a reservation or sold lease.
    pub draws: Option<Draw>,
    /// When it has to be over: it was let start on what is set aside from then on.
    pub yields_at_us: Option<TimeUs>,
    /// Its MIG instances, if it has such and no other GPUs.
    pub mig: Option<Instances>,
    /// Its job asked that GPUs that it shares are of its tenant only.
    pub gpu_of_one_tenant: bool,
}

/// An order for instances that has not been answered in full.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The pool.
    pub pool: PoolId,
    /// The job it is for.
    pub job: JobId,
    /// Whose job it is.
    pub tenant: TenantId,
    /// Its project.
    pub project: Option<ProjectId>,
    /// GPU model of the pool.
    pub model: GpuModelId,
    /// What the job will count against quotas once it runs there.
    pub gpu_milli: GpuMilli,
    /// Instances still to come.
    pub pending: i64,
    /// Instances that came.
    pub came: Vec<InstanceId>,
    /// When it was ordered.
    pub ordered_us: TimeUs,
}

/// A limit on energy or carbon data: an interval with its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interval {
    /// End.
    pub to_us: TimeUs,
    /// The value, in the series' unit.
    pub value: i64,
    /// Currency of a price.
    pub currency: Option<Currency>,
    /// Revision.
    pub revision: i64,
    /// When it was published.
    pub published_us: TimeUs,
}

/// Shorthand for limits.
pub fn limit(kind: LimitKind) -> Limit {
    Limit { kind, ..Limit::default() }
}

/// A limit with its subject and amounts.
pub fn limit_of(kind: LimitKind, subject: &str, asked: i64, available: i64, unit: &str) -> Limit {
    Limit {
        kind,
        subject: Some(RefId::from(subject)),
        asked: Some(asked),
        available: Some(available),
        unit: Some(unit.to_owned()),
    }
}
