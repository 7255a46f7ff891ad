//! What tenants ask for.

use crate::events::common::{Label, Sum};
use crate::ids::*;
use crate::units::*;

symbols! { "solyx.jobs";
    /// Kind of work.
    JobKind {
        /// training
        Training = "TRAINING",
        /// batch
        Batch = "BATCH",
        /// serving
        Serving = "SERVING",
        /// interactive
        Interactive = "INTERACTIVE",
    }
    /// A level of the fabric or of the place.
    TopologyLevel {
        /// one NVLink domain
        NvlinkDomain = "NVLINK_DOMAIN",
        /// one leaf switch
        Leaf = "LEAF",
        /// one spine switch
        Spine = "SPINE",
        /// one rack
        Rack = "RACK",
        /// one site
        Site = "SITE",
    }
    /// Over what replicas are spread.
    SpreadLevel {
        /// nodes
        Node = "NODE",
        /// racks
        Rack = "RACK",
        /// power feeds
        Feed = "FEED",
        /// sites
        Site = "SITE",
        /// providers
        Provider = "PROVIDER",
    }
    /// Category of a failure.
    FailureCategory {
        /// the user's own code
        UserCode = "USER_CODE",
        /// out of memory
        OutOfMemory = "OUT_OF_MEMORY",
        /// a GPU
        Gpu = "GPU",
        /// a node
        Node = "NODE",
        /// the network
        Network = "NETWORK",
        /// a reclaimed spot instance
        SpotReclaim = "SPOT_RECLAIM",
        /// the provider
        Provider = "PROVIDER",
        /// nobody knows
        Unclassified = "UNCLASSIFIED",
    }
    /// When a dependency is met.
    DependencyCondition {
        /// the other job finished well
        Ok = "OK",
        /// the other job ended
        Any = "ANY",
    }
    /// Whether a job is held back or let go.
    HoldAction {
        /// hold it
        Hold = "HOLD",
        /// let it go
        Release = "RELEASE",
    }
}

records! { "solyx.jobs";
    /// What a job asks for: a gang of equal replicas, none of them split over nodes.
    Gang {
        /// Least number of replicas.
        replicas_min: Count,
        /// Largest number of replicas.
        replicas_max: Count,
        /// GPUs per replica; 0 for work without GPUs.
        gpus: Count,
        /// Share of each GPU; below 1000 only with one GPU.
        gpu_milli_each: GpuMilli,
        /// MIG profile; absent means none. With one, each of a replica's GPUs is an instance of it, on a GPU of its own.
        mig_profile: Option<Name>,
        /// Least memory of each GPU.
        gpu_memory_mib: Option<MemoryMib>,
        /// CPU per replica.
        cpu_milli: CpuMilli,
        /// Memory per replica.
        memory_mib: MemoryMib,
        /// Scratch space per replica.
        scratch_gib: Option<StorageGib>,
        /// Whether a replica wants its node alone.
        exclusive_node: bool,
        /// Memory a retry may have after running out of it.
        memory_max_mib: Option<MemoryMib>,
        /// Whether GPUs that it shares are shared with its own tenant's jobs only; absent means no.
        gpu_of_one_tenant: Option<bool>,
    }
    /// A GPU model that will do, and how fast the job is on it.
    ModelChoice {
        /// The model.
        model: GpuModelId,
        /// Speed in thousandths of the reference.
        speed_milli: Milli,
    }
    /// Where the replicas of a gang must or should be together.
    Topology {
        /// All within one of these, or the job waits.
        required: Option<TopologyLevel>,
        /// Within one of these if it costs nothing.
        preferred: Option<TopologyLevel>,
        /// Least replicas of one segment.
        segment_min: Option<Count>,
        /// Spread over these …
        spread: Option<SpreadLevel>,
        /// … with at most this difference between any two.
        skew_max: Option<Count>,
    }
    /// How often a failure of a category may be retried.
    RetryLimit {
        /// The category.
        category: FailureCategory,
        /// Retries.
        retries_max: Count,
    }
    /// Where clients are, how many, and how near they must be served.
    ClientRegion {
        /// Region of the clients.
        region: RegionId,
        /// Part of the clients, thousandths.
        weight_milli: Milli,
        /// Round-trip time to be kept.
        latency_objective_us: Option<DurationUs>,
    }
    /// How much a job may lose and how soon it must run again.
    RecoveryClass {
        /// Recovery time objective.
        rto_us: Option<DurationUs>,
        /// Recovery point objective.
        rpo_us: Option<DurationUs>,
        /// Failure domains over which replicas are spread.
        spread: Option<SpreadLevel>,
    }
    /// A set of jobs that start together.
    JobSet {
        /// Id of the set.
        set: RefId,
        /// Jobs in it.
        size: Count,
    }
    /// A job's place in an array.
    ArrayIndex {
        /// Place, from 0.
        index: Count,
        /// Jobs in the array.
        count: Count,
    }
    /// A job that must end before.
    Dependency {
        /// The job.
        job: JobId,
        /// When it counts as met.
        condition: DependencyCondition,
    }
}

inputs! { "solyx.jobs", Jobs;
    /// A tenant asks for work to be done.
    JobRequested key |e| e.job.as_str().into(); {
        /// The job.
        job: JobId,
        /// The tenant.
        tenant: TenantId,
        /// The project.
        project: Option<ProjectId>,
        /// Kind of work.
        kind: JobKind,
        /// What it asks for.
        gang: Gang,
        /// GPU models that will do; empty means any at speed 1000.
        models: Vec<ModelChoice>,
        /// Where its replicas must be together or apart.
        topology: Option<Topology>,
        /// Expected work of each replica at speed 1000; absent means unknown.
        expected_work_us: Option<WorkUs>,
        /// Not to start before.
        not_before_us: Option<TimeUs>,
        /// To be done by.
        deadline_us: Option<TimeUs>,
        /// Priority class.
        class: ClassId,
        /// Whether it may be preempted.
        preemptible: bool,
        /// Time of running between checkpoints; absent means it takes none.
        checkpoint_interval_us: Option<DurationUs>,
        /// Size of a checkpoint.
        checkpoint_mib: Option<MemoryMib>,
        /// Time to restore from one.
        restore_us: Option<DurationUs>,
        /// Retry limits by category; a category not named has the policy's.
        retry_limits: Vec<RetryLimit>,
        /// Data sets it reads in full.
        datasets: Vec<DatasetId>,
        /// Where its clients are.
        client_regions: Vec<ClientRegion>,
        /// Countries it may run in; empty means any.
        residency: Vec<Name>,
        /// Certificates its site must hold.
        certificates: Vec<Name>,
        /// Whether its nodes must be attested.
        attestation_required: bool,
        /// What it may cost at most, in the customer's price.
        budget: Option<Sum>,
        /// How much it may lose.
        recovery: Option<RecoveryClass>,
        /// Reservation it draws on.
        reservation: Option<RefId>,
        /// Sold lease it draws on.
        sold_lease: Option<RefId>,
        /// Jobs it starts together with.
        job_set: Option<JobSet>,
        /// Its place in an array.
        array: Option<ArrayIndex>,
        /// Jobs that must end before.
        depends_on: Vec<Dependency>,
        /// Whether it waits for a release by a person.
        hold: bool,
        /// Labels.
        labels: Vec<Label>,
    }
    /// What may change while a job waits; absent fields stay as they were.
    JobRequestAmended key |e| e.job.as_str().into(); {
        /// The job.
        job: JobId,
        /// Priority class.
        class: Option<ClassId>,
        /// To be done by.
        deadline_us: Option<TimeUs>,
        /// What it may cost.
        budget: Option<Sum>,
        /// Least number of replicas.
        replicas_min: Option<Count>,
        /// Largest number of replicas.
        replicas_max: Option<Count>,
    }
    /// A job is held back or let go.
    JobHoldSet key |e| e.job.as_str().into(); {
        /// The job.
        job: JobId,
        /// Hold or release.
        action: HoldAction,
        /// By whom.
        actor: Name,
        /// Why.
        reason: String,
    }
    /// A job is to be cancelled.
    JobCancelRequested key |e| e.job.as_str().into(); {
        /// The job.
        job: JobId,
        /// By whom.
        actor: Name,
        /// Why.
        reason: String,
    }
}
