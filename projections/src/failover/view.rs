//! The view as people and programs read it: one document with stable names, in a fixed order.

use serde::{Deserialize, Serialize};
use solyx_schemas::events::common::NodeGpus;
use solyx_schemas::events::decisions::Limit;
use solyx_schemas::events::jobs::SpreadLevel;
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

/// The whole view, as of an epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FailoverView {
    /// The last epoch it has read.
    pub epoch: i64,
    /// That epoch's time.
    pub now_us: TimeUs,
    /// Currency of all costs; absent until the cell has one.
    pub currency: Option<Currency>,
    /// Runs that hold resources.
    pub runs_live: usize,
    /// Jobs that wait already, and compete with those that are hit.
    pub jobs_waiting: usize,
    /// Information older than this is marked stale.
    pub stale_after_us: DurationUs,
    /// Failure domains: sites, providers, feeds, fabric domains, each in order of name.
    pub domains: Vec<DomainView>,
    /// Drills by id, with the answer of their time.
    pub drills: Vec<DrillView>,
}

/// What kind of thing may be lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum DomainKind {
    /// A site.
    #[default]
    Site,
    /// A provider.
    Provider,
    /// A utility feed.
    Feed,
    /// A leaf switch.
    Fabric,
}

/// A failure domain, thought lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainView {
    /// The domain, as in `site:metapod-1`, `provider:lambda`, `feed:metapod-1/utility-a` or `fabric:pool/leaf`.
    pub domain: String,
    /// Its kind.
    pub kind: DomainKind,
    /// Nodes in it, or of a feed on it.
    pub nodes: usize,
    /// Jobs hit.
    pub jobs_hit: usize,
    /// GPUs that these hold, thousandths.
    pub gpu_milli_hit: i64,
    /// Jobs that have a place on what is left.
    pub protected: usize,
    /// Jobs that have none.
    pub unprotected: usize,
    /// Jobs that were told to stop for good before, and need none.
    pub ending: usize,
    /// GPUs of the unprotected jobs, thousandths.
    pub gpu_milli_unprotected: i64,
    /// The limits that leave jobs unprotected.
    pub limits: Vec<LimitCount>,
    /// Longest time until a protected job works again.
    pub worst_rto_us: Option<DurationUs>,
    /// Jobs that miss the recovery time of their class.
    pub rto_missed: usize,
    /// Longest time since a hit job's work was last durable.
    pub worst_rpo_us: Option<DurationUs>,
    /// Jobs that miss the recovery point of their class.
    pub rpo_missed: usize,
    /// Work lost, over all hit jobs: thousandths of a GPU × µs at speed 1000.
    pub lost_gpu_milli_us: i128,
    /// What it costs to move all protected jobs.
    pub cost: MoveCost,
    /// Protected jobs of which one side could not be priced; they are not in the cost.
    pub jobs_unpriced: usize,
    /// Elements of the power tree that would carry more than they may.
    pub overloads: Vec<OverloadView>,
    /// Capacity held back for this loss.
    pub reserves: Vec<ReserveView>,
    /// How old what is known of the domain is.
    pub information: InformationView,
    /// Jobs in the order in which they are moved.
    pub moves: Vec<JobId>,
    /// Every job hit: those that move in that order, then the others.
    pub jobs: Vec<HitView>,
}

/// Jobs that one kind of limit leaves unprotected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitCount {
    /// The limit's name; `DATA_LOST` for jobs that have a place and no data, `ENDS` for those that the kernel gives up.
    pub limit: String,
    /// Jobs.
    pub jobs: usize,
    /// Their GPUs, thousandths.
    pub gpu_milli: i64,
}

/// Costs of moving, in the view's currency: what the rest of the work costs there, less what it would cost where it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveCost {
    /// Rent there less rent here, the work done again and the restore included.
    pub rent_difference_micros: i64,
    /// Egress of checkpoint and data sets.
    pub egress_micros: i64,
    /// All terms there less all terms here.
    pub total_difference_micros: i64,
}

/// An overloaded element.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverloadView {
    /// The site.
    pub site: SiteId,
    /// The element; absent for the site as a whole.
    pub element: Option<ElementId>,
    /// Another root of the tree that would have to be lost too; absent when the loss alone does it.
    pub also_lost: Option<ElementId>,
    /// Load, W.
    pub load_w: i64,
    /// What it may carry, W.
    pub limit_w: i64,
    /// By how much it is too much, W.
    pub over_w: i64,
}

/// Capacity held back for a loss, against what it hits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReserveView {
    /// GPU model.
    pub gpu_model: GpuModelId,
    /// Held back outside the domain, thousandths of GPUs.
    pub held_back_milli: i64,
    /// Held by hit jobs on this model, thousandths of GPUs.
    pub gpu_milli_hit: i64,
}

/// How old information about a domain is: of each kind the oldest that it still rests on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InformationView {
    /// Of the node that has been silent longest.
    pub node_age_us: Option<DurationUs>,
    /// Of what can be had in a leased pool.
    pub capacity_age_us: Option<DurationUs>,
    /// Of a leased pool's price.
    pub price_age_us: Option<DurationUs>,
    /// Something of it is older than the view's limit, or nothing is known at all.
    pub stale: bool,
}

/// Why a job is hit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum HitCause {
    /// Its nodes are lost.
    #[default]
    Lost,
    /// The power that is left cannot carry it.
    Overload,
    /// A job that is hit needs its room.
    Preempted,
}

/// What becomes of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Outcome {
    /// Placed on nodes that are there.
    Placed,
    /// Placed on instances that have to be leased first.
    Leased,
    /// Placed at a cheaper or cleaner hour.
    Deferred,
    /// It has no place.
    #[default]
    Waits,
    /// It ends.
    Ends,
}

/// A job that is hit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HitView {
    /// The job.
    pub job: JobId,
    /// Its tenant.
    pub tenant: TenantId,
    /// Its run.
    pub run: RunId,
    /// Priority class.
    pub class: ClassId,
    /// Why it is hit.
    pub cause: HitCause,
    /// GPUs that it holds, thousandths.
    pub gpu_milli: i64,
    /// GPU model that it is on.
    pub gpu_model: GpuModelId,
    /// Pool that it is in.
    pub from_pool: PoolId,
    /// Site that it is at.
    pub from_site: SiteId,
    /// What becomes of it.
    pub outcome: Outcome,
    /// It has a place, and its data there.
    pub protected: bool,
    /// Its place among those that move, from 1.
    pub order: Option<usize>,
    /// Pool that it goes to.
    pub to_pool: Option<PoolId>,
    /// Site that it goes to.
    pub to_site: Option<SiteId>,
    /// Nodes and GPUs that it gets.
    pub to_nodes: Vec<NodeGpus>,
    /// Instances to be leased for it.
    pub instances: i64,
    /// Expected start, if the loss is known at once; of a job without a place the earliest that is known, if any.
    pub start_us: Option<TimeUs>,
    /// The limit that leaves it without a place.
    pub limit: Option<Limit>,
    /// Why it ends.
    pub detail: Option<String>,
    /// Time until what it holds counts as released: its run's lease, unless the nodes are fenced before, or its time to stop.
    pub release_us: DurationUs,
    /// Time to restore from its checkpoint.
    pub restore_us: DurationUs,
    /// Release, wait for the start and restore together: until it works again at the latest.
    pub rto_us: Option<DurationUs>,
    /// The same if the nodes are fenced at once.
    pub rto_fenced_us: Option<DurationUs>,
    /// Recovery time of its class.
    pub rto_target_us: Option<DurationUs>,
    /// Whether that is kept; absent without a target.
    pub rto_met: Option<bool>,
    /// Whether it is kept if the nodes are fenced at once.
    pub rto_fenced_met: Option<bool>,
    /// Time since its work was last durable.
    pub rpo_us: DurationUs,
    /// Recovery point of its class.
    pub rpo_target_us: Option<DurationUs>,
    /// Whether that is kept; absent without a target.
    pub rpo_met: Option<bool>,
    /// Work of each replica that is lost.
    pub work_lost_us: WorkUs,
    /// Work of each replica that is kept.
    pub work_kept_us: WorkUs,
    /// Its last checkpoint is lost, and no other copy is known: it begins anew.
    pub checkpoint_lost: bool,
    /// Data sets whose last durable copy is lost.
    pub datasets_lost: Vec<DatasetId>,
    /// Failure domains over which its class wants replicas spread.
    pub spread: Option<SpreadLevel>,
    /// Whether the replicas are in more than one of those; absent without such a wish.
    pub spread_met: Option<bool>,
    /// What moving it costs; absent when it does not move or cannot be priced.
    pub cost: Option<MoveCost>,
}

/// A drill.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DrillView {
    /// Its id.
    pub drill: RefId,
    /// Domain thought lost.
    pub domain: RefId,
    /// Epoch at the end of which it was answered.
    pub epoch: i64,
    /// That epoch's time.
    pub asked_us: TimeUs,
    /// For how long the domain is thought lost.
    pub duration_us: DurationUs,
    /// The answer; absent when no domain had that name then.
    pub answer: Option<DomainView>,
}
