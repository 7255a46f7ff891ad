//! What the planner publishes; and what the kernel never reads: scripts of simulations, signed heads.

use crate::events::jobs::FailureCategory;
use crate::ids::*;
use crate::units::*;

symbols! { "solyx.plans";
    /// Kind of plan.
    PlanKind {
        /// prices of kinds of jobs for packing
        PackingPrices = "PACKING_PRICES",
        /// prices and targets over a rolling horizon
        Horizon = "HORIZON",
    }
}

records! { "solyx.plans";
    /// A shadow price.
    ShadowPrice {
        /// Pool, slot and resource, or kind of job.
        subject: RefId,
        /// The price, in the unit of the plan's objective.
        price: i64,
    }
    /// What one slot for a kind of job is worth, with what the kind is and how often it is expected.
    KindPrice {
        /// CPU per replica, thousandths of a core.
        cpu_milli: CpuMilli,
        /// Memory per replica.
        memory_mib: MemoryMib,
        /// Number of GPUs per replica.
        gpus: Count,
        /// Share of each GPU.
        gpu_milli_each: GpuMilli,
        /// Acceptable GPU models, sorted; empty means any.
        models: Vec<GpuModelId>,
        /// How often it is expected, to be compared with the other kinds of the plan.
        frequency: Count,
        /// The price, millionths of a GPU.
        price: i64,
    }
    /// What taking GPUs of a model costs beside, because jobs that are bound to it are still to come.
    ModelScarcity {
        /// The model.
        model: GpuModelId,
        /// The cost for each GPU taken, thousandths of a GPU.
        price: i64,
    }
    /// How many of something the plan aims for.
    PlanTarget {
        /// What it counts.
        subject: RefId,
        /// How many.
        count: Count,
    }
}

inputs! { "solyx.plans", Plans;
    /// A plan: prices and targets that decisions lean on from the epoch that reads it.
    PlanPublished key |e| e.cell_id.as_str().into(); {
        /// The cell.
        cell_id: CellId,
        /// Kind of plan.
        kind: PlanKind,
        /// Epoch after which it was made.
        frontier_epoch: Count,
        /// Shadow prices.
        prices: Vec<ShadowPrice>,
        /// Targets.
        targets: Vec<PlanTarget>,
        /// Objective reached: millionths of the cell's currency for a horizon, thousandths of a GPU for packing prices.
        objective: i64,
        /// Bound on the objective, in its unit.
        bound: i64,
        /// Solver, with version and options.
        solver: String,
        /// SHA-256 of the model, hexadecimal.
        model_digest: Name,
        /// Prices of kinds of jobs; packing prices only.
        kinds: Vec<KindPrice>,
        /// Models that are scarce; packing prices only.
        scarcities: Vec<ModelScarcity>,
        /// Unit of the prices of CPU that are tried, 64ths of a millionth of a GPU per thousandth of a core; packing prices only.
        cpu_price: Option<i64>,
        /// Requests that were counted when it was made; packing prices only.
        requests: Option<Count>,
    }
}

symbols! { "solyx.sim";
    /// How a scripted job ends.
    ScriptedEnd {
        /// it finishes
        Finished = "FINISHED",
        /// it fails with a category at some work
        Failed = "FAILED",
    }
}

inputs! { "solyx.sim", Sim;
    /// What a trace knows of the truth of a job.
    WorkScripted key |e| e.job.as_str().into(); {
        /// The job.
        job: JobId,
        /// True work of each replica at speed 1000.
        work_us: WorkUs,
        /// How it ends.
        end: ScriptedEnd,
        /// Exit code.
        exit_code: i64,
        /// Category of a failure.
        failure: Option<FailureCategory>,
        /// Work at which it fails.
        failure_work_us: Option<WorkUs>,
        /// Whether the truth was cut off: the job was still running when it was recorded.
        censored: bool,
    }
    /// What a trace knows of the truth of a pool: how many instances could be had, and were left to run.
    AvailabilityScripted key |e| e.pool.as_str().into(); {
        /// The pool.
        pool: PoolId,
        /// From when on.
        from_us: TimeUs,
        /// Instances that can be had in all; fewer than are leased means reclaims.
        instances: Count,
    }
    /// How the simulated executor behaves.
    ExecutorScripted key |e| e.executor.as_str().into(); {
        /// The executor.
        executor: SourceId,
        /// Seed of every draw.
        seed: Count,
        /// Time from decision to start on owned and reserved nodes.
        start_delay_us: DurationUs,
        /// Time in which a run stops once told.
        stop_delay_us: DurationUs,
        /// Expected failures of one node in a thousand hours.
        node_failures_per_1000_h: Count,
        /// Expected reclaims of one spot instance in a thousand hours, where nothing was recorded.
        spot_reclaims_per_1000_h: Count,
        /// Time until a failed node is ready again.
        repair_us: DurationUs,
        /// Interval of power measurements; 0 means none.
        power_interval_us: DurationUs,
        /// Part of its largest power that a busy GPU draws, thousandths.
        busy_power_milli: Milli,
    }
}

inputs! { "solyx.proofs", Proofs;
    /// A signed head of the tree of epoch records.
    HeadSigned key |e| e.cell_id.as_str().into(); {
        /// The cell.
        cell_id: CellId,
        /// Epoch records in the tree.
        tree_size: Count,
        /// Root, hexadecimal.
        root: Name,
        /// Key it is signed with.
        key_id: RefId,
        /// Signature, hexadecimal.
        signature: Name,
    }
    /// A key hands over to the next: it has signed the next one and signs no larger tree any more.
    SigningKeyRotated key |e| e.cell_id.as_str().into(); {
        /// The cell.
        cell_id: CellId,
        /// Epoch records in the last tree that the key signs; the next key's declaration is among their inputs.
        tree_size: Count,
        /// Root of that tree, hexadecimal.
        root: Name,
        /// Key that hands over.
        key_id: RefId,
        /// Key that signs from now on.
        next_key_id: RefId,
        /// Algorithm of the next key, as in `ed25519`.
        next_algorithm: Name,
        /// The next public key, hexadecimal.
        next_public_key: Name,
        /// Signature by the key that hands over, hexadecimal.
        signature: Name,
    }
}

records! { "solyx.cursors";
    /// Where a staged topic-partition ended when a virtual run began.
    StagedEnd {
        /// Topic without prefix.
        topic: Name,
        /// Partition.
        partition: i64,
        /// First ordinal that was not there yet.
        end_ordinal: i64,
    }
}

inputs! { "solyx.cursors", Cursors;
    /// How far a reader outside the kernel has come, written in the same batch as what it wrote for it.
    CursorAdvanced key |e| e.reader.as_str().into(); {
        /// The reader: `staged` for a virtual run's staged topics, otherwise the executor.
        reader: SourceId,
        /// The instant it has dealt with.
        instant_us: TimeUs,
        /// Epochs it has seen the outputs of: the next one it has not.
        next_epoch: Count,
        /// Staged records or reports it has handed on, in all.
        handed_on: Count,
        /// Where the staged topics ended when the run began; given when that changed, otherwise empty. Everything before these ends that happened by the instant has been handed on.
        staged_ends: Vec<StagedEnd>,
    }
}
