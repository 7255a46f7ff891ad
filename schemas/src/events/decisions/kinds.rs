//! The symbols of decisions: limits, causes and kinds.

symbols! { "solyx.decisions";
    /// The limit that keeps a job from running, and by which it is rejected or held.
    LimitKind {
        /// the request itself is not possible
        Validity = "VALIDITY",
        /// the tenant, class, data set or another thing it names is not declared yet
        Undeclared = "UNDECLARED",
        /// no GPU model that it accepts exists here
        GpuModel = "GPU_MODEL",
        /// free GPUs of the models it accepts
        Gpus = "GPUS",
        /// CPU beside the GPUs
        Cpu = "CPU",
        /// memory beside the GPUs
        Memory = "MEMORY",
        /// scratch space
        Scratch = "SCRATCH",
        /// memory of a GPU
        GpuMemory = "GPU_MEMORY",
        /// one fabric domain for the whole gang
        FabricDomain = "FABRIC_DOMAIN",
        /// spread over failure domains
        Spread = "SPREAD",
        /// countries it may be in
        Residency = "RESIDENCY",
        /// certificates of a site
        Certificate = "CERTIFICATE",
        /// nodes with an attestation that is still valid
        Attestation = "ATTESTATION",
        /// the tenant's quota
        Quota = "QUOTA",
        /// a budget
        Budget = "BUDGET",
        /// power at some level of the tree
        Power = "POWER",
        /// capacity held back for failover
        FailoverReserve = "FAILOVER_RESERVE",
        /// capacity set aside by a reservation or sold lease
        Reservation = "RESERVATION",
        /// a gang ahead of it that it would delay
        Backfill = "BACKFILL",
        /// resources that a victim still holds
        Draining = "DRAINING",
        /// instances ordered from a provider that have not come
        LeasePending = "LEASE_PENDING",
        /// what providers have to give
        ProviderCapacity = "PROVIDER_CAPACITY",
        /// a price or exchange rate that is missing
        Price = "PRICE",
        /// a deadline that cannot be kept
        Deadline = "DEADLINE",
        /// the time before which it may not start
        NotBefore = "NOT_BEFORE",
        /// a better hour that it waits for
        Deferral = "DEFERRAL",
        /// a hold by a person
        Hold = "HOLD",
        /// a job that must end before
        Dependency = "DEPENDENCY",
        /// the rest of its job set
        JobSet = "JOB_SET",
        /// the wait before a retry
        RetryBackoff = "RETRY_BACKOFF",
        /// retries used up
        Retries = "RETRIES",
        /// a tenant, queue, pool or site that is cordoned
        Cordon = "CORDON",
        /// the depth to which waiting jobs are tried
        Depth = "DEPTH",
        /// latency to its clients
        Latency = "LATENCY",
    }
    /// Why a run is stopped or moved.
    StopCause {
        /// for a job of higher priority
        Priority = "PRIORITY",
        /// a power limit dropped
        PowerLimit = "POWER_LIMIT",
        /// a node reports less than is used on it
        CapacityLost = "CAPACITY_LOST",
        /// a node, pool or site is drained
        Drain = "DRAIN",
        /// an attestation ended
        AttestationExpired = "ATTESTATION_EXPIRED",
        /// a budget ran out
        Budget = "BUDGET",
        /// somebody asked
        Asked = "ASKED",
        /// a node failed or was lost
        NodeLost = "NODE_LOST",
        /// a run's lease passed without renewal
        LeasePassed = "LEASE_PASSED",
        /// a spot instance was reclaimed
        SpotReclaimed = "SPOT_RECLAIMED",
        /// the run failed
        Failed = "FAILED",
        /// residency no longer holds
        Residency = "RESIDENCY",
        /// a failure domain was lost
        SiteLost = "SITE_LOST",
        /// a dependency ended badly
        Dependency = "DEPENDENCY",
        /// the time by which it had to be done has passed
        Deadline = "DEADLINE",
    }
    /// Why instances are ordered or given back.
    LeaseOrderCause {
        /// a job is to run there
        ForJob = "FOR_JOB",
        /// idle beyond the minimum billing
        Idle = "IDLE",
        /// the job it was for went elsewhere
        NotNeeded = "NOT_NEEDED",
        /// the pool was withdrawn, drained or lost
        PoolLost = "POOL_LOST",
    }
    /// What a budget is of.
    BudgetScope {
        /// a tenant
        Tenant = "TENANT",
        /// a project
        Project = "PROJECT",
        /// a job
        Job = "JOB",
    }
    /// Why an input record does not count.
    SkipReason {
        /// its bytes are not an event
        Undecodable = "UNDECODABLE",
        /// its schema is not known
        UnknownSchema = "UNKNOWN_SCHEMA",
        /// its event, a symbol or a field needs a feature that is not in force
        UnknownFeature = "UNKNOWN_FEATURE",
        /// the same event was counted before
        Duplicate = "DUPLICATE",
        /// another event of the same id was counted before
        Conflict = "CONFLICT",
        /// a field is not as the contract wants it
        Invalid = "INVALID",
        /// it contradicts the state
        Rejected = "REJECTED",
        /// it stands in a topic or under a key that is not its own
        Misplaced = "MISPLACED",
    }
}
