//! What the engine says: decisions, copies of records that do not count, and the epoch record that closes each epoch.

use crate::events::common::{NodeGpus, Sum};
use crate::hash::Hash32;
use crate::ids::*;
use crate::units::*;

pub use self::kinds::*;

mod kinds;

records! { "solyx.decisions";
    /// A limit by name and amount.
    Limit {
        /// Its name.
        kind: LimitKind,
        /// What it is of: a tenant, pool, element, job, data set …; absent when that says nothing.
        subject: Option<RefId>,
        /// Amount asked for, in the limit's unit; absent where amounts make no sense.
        asked: Option<i64>,
        /// Amount there is.
        available: Option<i64>,
        /// The unit of both.
        unit: Option<String>,
    }
    /// Every term of a placement's cost, in the cell's currency, over the expected duration.
    CostTerms {
        /// Rent of leased capacity; the asked marginal price of owned.
        rent_micros: MoneyMicros,
        /// Energy at the hours it runs × PUE; zero where the provider pays it.
        energy_micros: MoneyMicros,
        /// Carbon × carbon price.
        carbon_micros: MoneyMicros,
        /// Moving data sets and checkpoints.
        egress_micros: MoneyMicros,
        /// Latency beyond the objective.
        latency_micros: MoneyMicros,
        /// Expected loss by failure or reclaim.
        risk_micros: MoneyMicros,
        /// Waiting until the start.
        waiting_micros: MoneyMicros,
        /// Surcharge for going against a policy that forces owned capacity first; never charged to anyone.
        policy_micros: MoneyMicros,
    }
    /// A place not taken.
    Alternative {
        /// The pool.
        pool: PoolId,
        /// When it could have started.
        start_us: TimeUs,
        /// Its cost terms.
        terms: CostTerms,
    }
    /// An input record that does not count.
    SkippedRecord {
        /// Topic without prefix.
        topic: Name,
        /// Partition.
        partition: i64,
        /// Ordinal.
        ordinal: i64,
        /// Why.
        reason: SkipReason,
    }
    /// What an epoch took of one topic-partition, in ordinals.
    InputRange {
        /// Topic without prefix.
        topic: Name,
        /// Partition.
        partition: i64,
        /// First ordinal taken.
        from_ordinal: i64,
        /// First ordinal not taken.
        next_ordinal: i64,
    }
    /// How many outputs an epoch wrote to one topic-partition, the epoch record not counted.
    OutputCount {
        /// Topic without prefix.
        topic: Name,
        /// Partition.
        partition: i64,
        /// Records.
        records: i64,
    }
    /// Something committed beyond its limit by an input, listed in the epoch that finds it.
    Overcommitment {
        /// What the limit is of.
        limit: Limit,
        /// Runs that this epoch orders to stop for it.
        runs: Vec<RunId>,
    }
}

outputs! { "solyx.decisions", Decisions;
    /// A job is admitted: it may wait and run.
    JobAdmitted key |e| e.job.as_str().into(); {
        /// The job.
        job: JobId,
        /// The tenant.
        tenant: TenantId,
        /// Money held against budgets; absent when no budget applies.
        budget_held: Option<Sum>,
    }
    /// A job is rejected and will not run.
    JobRejected key |e| e.job.as_str().into(); {
        /// The job.
        job: JobId,
        /// The tenant.
        tenant: TenantId,
        /// The limit it breaks.
        limit: Limit,
        /// In words.
        detail: String,
    }
    /// A job gets its place.
    JobPlaced key |e| e.job.as_str().into(); {
        /// The job.
        job: JobId,
        /// The tenant.
        tenant: TenantId,
        /// The run that starts.
        run: RunId,
        /// Attempt, from 1.
        attempt: Count,
        /// The pool.
        pool: PoolId,
        /// Its site.
        site: SiteId,
        /// Nodes (or leased instances) and GPUs; a node appears once per replica on it.
        nodes: Vec<NodeGpus>,
        /// Replicas.
        replicas: Count,
        /// Share of GPUs allotted in all.
        gpu_milli: GpuMilli,
        /// GPU model.
        gpu_model: GpuModelId,
        /// Speed in thousandths of the reference.
        speed_milli: Milli,
        /// Work of each replica done before, from which it goes on.
        from_work_us: WorkUs,
        /// When it may start.
        start_us: TimeUs,
        /// When it is expected to end; absent when its length is unknown.
        expected_end_us: Option<TimeUs>,
        /// Until when the run may go on without renewing its lease.
        lease_until_us: TimeUs,
        /// Currency of the terms.
        currency: Currency,
        /// Every cost term.
        terms: CostTerms,
        /// The best place not taken.
        runner_up: Option<Alternative>,
        /// Whether it runs ahead of a reserved gang.
        backfilled: bool,
        /// The plan it leaned on.
        plan: Option<RefId>,
    }
    /// A job waits, and why; written when it starts to wait and when the limit's name changes.
    JobHeld key |e| e.job.as_str().into(); {
        /// The job.
        job: JobId,
        /// The tenant.
        tenant: TenantId,
        /// The limit that binds.
        limit: Limit,
        /// Earliest start known now; absent when nothing is known.
        earliest_start_us: Option<TimeUs>,
    }
    /// A job waits for a better hour.
    JobDeferred key |e| e.job.as_str().into(); {
        /// The job.
        job: JobId,
        /// The tenant.
        tenant: TenantId,
        /// Until when.
        until_us: TimeUs,
        /// The pool it is to run in then.
        pool: PoolId,
        /// Currency of the terms.
        currency: Currency,
        /// Terms if it started now.
        now_terms: CostTerms,
        /// Terms if it starts then.
        then_terms: CostTerms,
    }
    /// A run is told to stop and its job waits again.
    JobPreempted key |e| e.job.as_str().into(); {
        /// The job.
        job: JobId,
        /// The run.
        run: RunId,
        /// The pool it leaves.
        from_pool: PoolId,
        /// Why.
        cause: StopCause,
        /// The job it makes room for.
        for_job: Option<JobId>,
        /// When it must have stopped.
        stop_by_us: TimeUs,
        /// Work of each replica that is durable.
        kept_work_us: WorkUs,
        /// Work of each replica expected to be lost.
        lost_work_us: WorkUs,
        /// What the lost work had cost, in the cell's currency at the pool's price; absent where none was lost or no price is known.
        lost_cost: Option<Sum>,
    }
    /// A run is told to stop and its job goes on elsewhere.
    JobMigrated key |e| e.job.as_str().into(); {
        /// The job.
        job: JobId,
        /// The run that stops.
        run: RunId,
        /// Why.
        cause: StopCause,
        /// From.
        from_pool: PoolId,
        /// To; absent when it is queued again.
        to_pool: Option<PoolId>,
        /// When it must have stopped.
        stop_by_us: TimeUs,
        /// Work of each replica that is durable.
        kept_work_us: WorkUs,
        /// Work of each replica expected to be lost.
        lost_work_us: WorkUs,
        /// What the lost work had cost, in the cell's currency at the pool's price; absent where none was lost or no price is known.
        lost_cost: Option<Sum>,
    }
    /// A run gets more or fewer replicas.
    JobResized key |e| e.job.as_str().into(); {
        /// The job.
        job: JobId,
        /// The run.
        run: RunId,
        /// Replicas before.
        from_replicas: Count,
        /// Replicas after.
        to_replicas: Count,
        /// Why, in words.
        reason: String,
        /// Work of each replica that is durable.
        kept_work_us: WorkUs,
        /// Work of each replica expected to be lost.
        lost_work_us: WorkUs,
        /// What the lost work had cost, in the cell's currency at the pool's price; absent where none was lost or no price is known.
        lost_cost: Option<Sum>,
    }
    /// A job is cancelled. Its run, if any, is told to stop.
    JobCancelled key |e| e.job.as_str().into(); {
        /// The job.
        job: JobId,
        /// The run that is told to stop.
        run: Option<RunId>,
        /// The pool that its run leaves.
        from_pool: Option<PoolId>,
        /// Why.
        cause: StopCause,
        /// In words.
        detail: String,
        /// Work of each replica that is durable.
        kept_work_us: WorkUs,
        /// Work of each replica expected to be lost, beyond what is durable.
        lost_work_us: WorkUs,
        /// What the lost work had cost, in the cell's currency at the pool's price; absent where none was lost or no price is known.
        lost_cost: Option<Sum>,
    }
    /// A job whose run ended without finishing waits again.
    JobRequeued key |e| e.job.as_str().into(); {
        /// The job.
        job: JobId,
        /// The run that ended.
        run: RunId,
        /// The pool it was in.
        from_pool: PoolId,
        /// Why.
        cause: StopCause,
        /// Category of the failure.
        category: Option<crate::events::jobs::FailureCategory>,
        /// Attempts so far.
        attempts: Count,
        /// Node avoided from now on.
        node_avoided: Option<NodeId>,
        /// Not to start before.
        retry_at_us: TimeUs,
        /// Work of each replica kept.
        kept_work_us: WorkUs,
        /// Work of each replica lost.
        lost_work_us: WorkUs,
        /// What the lost work had cost, in the cell's currency at the pool's price; absent where none was lost or no price is known.
        lost_cost: Option<Sum>,
    }
    /// Instances are ordered from a provider. The order's id is the decision's.
    CapacityLeaseOrdered key |e| e.pool.as_str().into(); {
        /// The pool.
        pool: PoolId,
        /// Instances.
        instances: Count,
        /// The job they are for.
        job: Option<JobId>,
        /// Why.
        cause: LeaseOrderCause,
        /// Price expected per GPU-hour.
        price_micros_per_gpu_hour: RateMicros,
        /// Its currency.
        currency: Currency,
        /// Until when they are expected to be needed; absent when unknown.
        until_us: Option<TimeUs>,
    }
    /// Instances are given back.
    CapacityReleaseOrdered key |e| e.pool.as_str().into(); {
        /// The pool.
        pool: PoolId,
        /// The instances.
        instances: Vec<InstanceId>,
        /// Why.
        cause: LeaseOrderCause,
        /// When they are to end.
        at_us: TimeUs,
    }
    /// Traffic of a serving job is routed.
    RouteSet key |e| e.job.as_str().into(); {
        /// The job.
        job: JobId,
        /// Region of the clients.
        region: RegionId,
        /// Site that serves them.
        site: SiteId,
        /// Part of the traffic, thousandths.
        weight_milli: Milli,
        /// Until when; absent means until another route is set.
        until_us: Option<TimeUs>,
        /// Why, in words.
        reason: String,
        /// The evidence, in words.
        evidence: String,
    }
    /// A replica of a data set is ordered.
    ReplicaOrdered key |e| e.dataset.as_str().into(); {
        /// The data set.
        dataset: DatasetId,
        /// To.
        site: SiteId,
        /// For which job.
        job: Option<JobId>,
        /// Until when it is to be kept; absent means that nothing is known.
        until_us: Option<TimeUs>,
        /// Why, in words.
        reason: String,
        /// The evidence, in words.
        evidence: String,
    }
    /// A cap on power is ordered.
    PowerCapOrdered key |e| e.node.as_str().into(); {
        /// The node.
        node: NodeId,
        /// The cap.
        cap_w: PowerW,
        /// Until when; absent means until another cap is ordered.
        until_us: Option<TimeUs>,
        /// Why, in words.
        reason: String,
        /// The evidence, in words.
        evidence: String,
    }
    /// A GPU is to be divided.
    MigOrdered key |e| e.node.as_str().into(); {
        /// The node.
        node: NodeId,
        /// Index of the GPU.
        gpu_index: i64,
        /// Profiles it is to have.
        profiles: Vec<Name>,
        /// Until when; absent means until it is divided anew.
        until_us: Option<TimeUs>,
        /// Why, in words.
        reason: String,
        /// The evidence, in words.
        evidence: String,
    }
    /// A node that fails too often takes nothing new.
    NodeCordonOrdered key |e| e.node.as_str().into(); {
        /// The node.
        node: NodeId,
        /// Failures counted.
        failures: Count,
        /// Since when they were counted.
        since_us: TimeUs,
        /// Until when; absent means until a person lets it take work again.
        until_us: Option<TimeUs>,
        /// Why, in words.
        reason: String,
        /// The evidence, in words.
        evidence: String,
    }
    /// A budget ran out.
    BudgetExhausted key |e| e.tenant.as_str().into(); {
        /// The budget.
        budget: RefId,
        /// What it is of.
        scope: BudgetScope,
        /// The tenant.
        tenant: TenantId,
        /// Its amount.
        amount: Sum,
        /// What was used, rounded up.
        used: Sum,
        /// The month, or the start of its period.
        period: Name,
    }
    /// The epoch record: what was read, what does not count, what came of it, chained to the one before.
    EpochCommitted key |e| e.cell.as_str().into(); {
        /// What was taken of each topic-partition that moved.
        inputs: Vec<InputRange>,
        /// Input records that do not count.
        skipped: Vec<SkippedRecord>,
        /// Outputs per output partition; the epoch record itself is not counted.
        outputs: Vec<OutputCount>,
        /// Overcommitments that inputs caused.
        overcommitments: Vec<Overcommitment>,
        /// Version of the engine.
        engine_version: Name,
        /// Features in force, sorted.
        features: Vec<FeatureId>,
        /// RFC 6962 root over the hashes of the input records, in the order of application.
        input_root: Hash32,
        /// RFC 6962 root over the hashes of the outputs, in order of index.
        output_root: Hash32,
        /// Digest of the state after the epoch.
        state_digest: Hash32,
        /// Chain hash of the epoch record before; 32 zero bytes in the first.
        previous_chain_hash: Hash32,
    }
}

outputs! { "solyx.quarantine", Quarantine;
    /// A copy of an input record that does not count.
    RecordQuarantined key |e| format!("{}/{}/{}", e.topic, e.partition, e.ordinal).into(); {
        /// Topic without prefix.
        topic: Name,
        /// Partition.
        partition: i64,
        /// Ordinal.
        ordinal: i64,
        /// Why it does not count.
        reason: SkipReason,
        /// In words: the field, what was found, what was expected.
        detail: String,
        /// Hash of the record.
        record_hash: Hash32,
        /// Key of the original, hexadecimal.
        original_key: String,
        /// Up to 64 KiB of the original's value, hexadecimal.
        original_value: String,
        /// Length of the original's value, bytes.
        original_bytes: Count,
    }
}
