//! What operators say: cells, features, policies, tenants, quotas, budgets, rates, reservations, keys.

use crate::ids::*;
use crate::units::*;

symbols! { "solyx.policy";
    /// What kind of thing is opened, cordoned or drained.
    ScopeKind {
        /// a tenant
        Tenant = "TENANT",
        /// a queue, which is a project of a tenant
        Queue = "QUEUE",
        /// a pool
        Pool = "POOL",
        /// a site
        Site = "SITE",
    }
    /// Whether work may start and stay.
    ScopeState {
        /// work may start
        Open = "OPEN",
        /// nothing new starts, what runs goes on
        Cordoned = "CORDONED",
        /// nothing new starts, what runs is moved or stopped at its next checkpoint
        Drained = "DRAINED",
    }
    /// What a budget does when it runs out.
    BudgetKind {
        /// stops work at its next checkpoint
        Hard = "HARD",
        /// is reported, stops nothing
        Soft = "SOFT",
    }
    /// How owned capacity competes with leased.
    OwnedFirst {
        /// owned capacity is taken whenever it fits
        Forced = "FORCED",
        /// owned capacity wins only by its marginal cost
        MarginalCost = "MARGINAL_COST",
    }
    /// How the tiers of a price work.
    TierMode {
        /// each tier prices the quantity that falls into it
        Graduated = "GRADUATED",
        /// the tier reached prices the whole quantity
        Volume = "VOLUME",
    }
    /// When a sold lease is paid.
    PaymentOption {
        /// nothing upfront
        None = "NONE",
        /// half upfront
        Partial = "PARTIAL",
        /// all upfront
        AllUpfront = "ALL_UPFRONT",
    }
}

records! { "solyx.policy";
    /// How many partitions a topic has.
    TopicPartitions {
        /// Topic without prefix.
        topic: Name,
        /// Partitions.
        partitions: Count,
    }
    /// A weight for a priority class.
    ClassWeight {
        /// Priority class.
        class: ClassId,
        /// Cost of one job waiting one hour, in millionths of the weights' currency.
        waiting_micros_per_hour: RateMicros,
    }
    /// A kind of job with its frequency, known before anything has arrived.
    KindPrior {
        /// CPU per replica, thousandths of a core.
        cpu_milli: CpuMilli,
        /// Memory per replica.
        memory_mib: MemoryMib,
        /// Number of GPUs per replica.
        gpus: Count,
        /// Share of each GPU.
        gpu_milli_each: GpuMilli,
        /// Acceptable GPU models; empty means any.
        models: Vec<GpuModelId>,
        /// How often it was seen.
        frequency: Count,
    }
    /// A placement that a MIG profile may have on a GPU.
    MigProfile {
        /// Profile name, as in `1g.10gb`.
        profile: Name,
        /// Memory of one instance.
        memory_mib: MemoryMib,
        /// Memory slices an instance takes.
        slices: Count,
        /// First slices at which an instance may begin.
        starts: Vec<i64>,
    }
    /// Relative speed for a kind of work.
    KindSpeed {
        /// Kind of work.
        kind: Name,
        /// Speed in thousandths of the reference.
        speed_milli: Milli,
    }
    /// One tier of a price.
    PriceTier {
        /// Upper end of the tier, in the unit that its price is per (whole GPU-hours, GB …); absent in the last tier.
        up_to: Option<Count>,
        /// Price, millionths of the card's currency per GPU-hour, core-hour, GiB-hour, GB, kWh or thousand, as the meter has it.
        price_micros: RateMicros,
    }
    /// The price of one meter.
    RateLine {
        /// Meter, as in `UsageMetered`.
        meter: crate::events::usage::Meter,
        /// GPU model it is for; absent means any.
        gpu_model: Option<GpuModelId>,
        /// Priority class it is for; absent means any.
        class: Option<ClassId>,
        /// Tiers, lowest first.
        tiers: Vec<PriceTier>,
        /// How the tiers work.
        mode: TierMode,
    }
}

inputs! { "solyx.policy", Policy;
    /// A cell exists: its currency, its partitions and the limits of its epochs.
    CellDeclared key |e| e.cell_id.as_str().into(); {
        /// The cell.
        cell_id: CellId,
        /// Currency in which placement costs are compared.
        reference_currency: Currency,
        /// Partitions of each topic; a topic that is not named has its default.
        partitions: Vec<TopicPartitions>,
        /// Most records an epoch takes.
        epoch_records_max: Count,
        /// Most bytes an epoch takes.
        epoch_bytes_max: Count,
        /// Longest an epoch waits for more input.
        epoch_latency_max_us: DurationUs,
    }
    /// A feature of the engine is switched on from the next epoch's start.
    FeatureEnabled key |e| e.feature.as_str().into(); {
        /// The feature.
        feature: FeatureId,
    }
    /// The rules of scheduling and every constant they use. Absent constants keep their documented defaults.
    SchedulingPolicySet key |e| e.scope.as_str().into(); {
        /// What it holds for; `cell` for all of it.
        scope: Name,
        /// Order rule: `share-surcharge`, `classic`, `fifo`, `sjf`, `las` or `srpt`.
        order_rule: Name,
        /// Packing rule: `solyx`, `fgd` or `best-fit`.
        packing_rule: Name,
        /// Time in which past usage loses half its weight in shares; absent means that only present use counts.
        half_life_us: Option<DurationUs>,
        /// GPU-hours at which a job's place in line is surcharged by one more step.
        surcharge_gpu_hours: Vec<Count>,
        /// Surcharges of the steps.
        surcharge_us: Vec<DurationUs>,
        /// Part of the fleet that is promised to tenants, thousandths.
        promised_milli: Option<Milli>,
        /// How many waiting jobs behind the first reservation may be tried for backfill in one pass.
        backfill_depth: Option<Count>,
        /// How often one job may be preempted.
        preemptions_max: Option<Count>,
        /// Time a victim of preemption has to stop.
        preemption_grace_us: Option<DurationUs>,
        /// Time for which a run may go on without renewing its lease.
        run_lease_us: Option<DurationUs>,
        /// How often a job is tried again after a failure, when it says nothing itself.
        retries_max: Option<Count>,
        /// Wait before the first retry; it doubles with each.
        retry_backoff_us: Option<DurationUs>,
        /// Failures within the lemon window at which a node is cordoned; 0 means never.
        lemon_failures_max: Option<Count>,
        /// Window in which failures of a node are counted.
        lemon_window_us: Option<DurationUs>,
        /// Work that consolidation may lose per hour.
        consolidation_budget_us: Option<DurationUs>,
        /// Requests between two plans of packing prices; 0 means that none are made.
        plan_interval: Option<Count>,
        /// Time between ticks while something waits.
        tick_us: Option<DurationUs>,
        /// Expected work of a job that says nothing about it.
        default_expected_work_us: Option<WorkUs>,
        /// Longest a job is deferred for a cheaper or cleaner hour when it names no deadline; 0 means never.
        deferral_max_us: Option<DurationUs>,
        /// Least saving for which a job is deferred, thousandths of its cost.
        deferral_saving_min_milli: Option<Milli>,
        /// Most instances that may be on order for one pool at a time.
        lease_orders_max: Option<Count>,
        /// Idle time after which a leased instance is given back once its minimum billing is used up.
        lease_idle_us: Option<DurationUs>,
        /// Frequencies of kinds known beforehand.
        prior_kinds: Vec<KindPrior>,
        /// Weight of the prior in requests; absent means as many as its frequencies add up to.
        prior_weight: Option<Count>,
        /// How many gangs that do not fit are promised their earliest starts at a time, under rules that promise any; absent means one.
        backfill_reservations: Option<Count>,
    }
    /// Weights that turn carbon, waiting, risk and latency into money.
    CostWeightsSet key |e| e.scope.as_str().into(); {
        /// What it holds for; `cell` for all of it.
        scope: Name,
        /// Start of validity.
        from_us: TimeUs,
        /// End of validity; absent means until the next.
        to_us: Option<TimeUs>,
        /// Currency of the weights.
        currency: Currency,
        /// Price of carbon.
        carbon_micros_per_kg: RateMicros,
        /// Price of waiting by priority class.
        waiting: Vec<ClassWeight>,
        /// Weight of the expected loss by failure or reclaim, thousandths.
        risk_milli: Milli,
        /// Price of one GPU-hour at one millisecond beyond the latency objective.
        latency_micros_per_ms_gpu_hour: RateMicros,
        /// How owned capacity competes with leased.
        owned_first: OwnedFirst,
        /// Expected reclaims of one spot instance in a thousand hours.
        spot_reclaims_per_1000_h: Count,
        /// Expected failures of one node in a thousand hours.
        node_failures_per_1000_h: Count,
    }
    /// A GPU model: memory, power, fabric and speeds.
    GpuModelDeclared key |e| e.model.as_str().into(); {
        /// The model.
        model: GpuModelId,
        /// Memory of one GPU.
        memory_mib: MemoryMib,
        /// Power of an idle GPU.
        idle_w: PowerW,
        /// Largest power of one GPU.
        max_w: PowerW,
        /// GPUs in one NVLink domain.
        nvlink_domain_size: Count,
        /// MIG profiles with their placements.
        mig_profiles: Vec<MigProfile>,
        /// Relative speed by kind of work.
        speeds: Vec<KindSpeed>,
    }
    /// A tenant. Queues form a tree by `parent`.
    TenantDeclared key |e| e.tenant.as_str().into(); {
        /// The tenant.
        tenant: TenantId,
        /// Its parent; absent at the root.
        parent: Option<TenantId>,
        /// Weight in fair sharing, thousandths.
        weight_milli: Milli,
        /// Currency of its invoices.
        billing_currency: Currency,
        /// Day of the month on which invoices are issued.
        invoice_day: Count,
        /// Whether GPUs that its jobs share are shared among themselves only; absent means no.
        gpu_of_one_tenant: Option<bool>,
    }
    /// A tenant, queue, pool or site is opened, cordoned or drained.
    ScopeStateChanged key |e| e.scope.as_str().into(); {
        /// What kind of thing.
        scope_kind: ScopeKind,
        /// Its id.
        scope: RefId,
        /// Its state from now on.
        state: ScopeState,
        /// By whom.
        actor: Name,
        /// Why.
        reason: String,
    }
    /// What a tenant or project may hold.
    QuotaSet key |e| e.tenant.as_str().into(); {
        /// The tenant.
        tenant: TenantId,
        /// The project; absent means the tenant as a whole.
        project: Option<ProjectId>,
        /// The GPU model; absent means all.
        gpu_model: Option<GpuModelId>,
        /// GPUs it is guaranteed, thousandths.
        guaranteed_milli: GpuMilli,
        /// GPUs it may borrow beyond; absent means any.
        borrowing_limit_milli: Option<GpuMilli>,
        /// GPUs it lends at most; absent means all.
        lending_limit_milli: Option<GpuMilli>,
        /// Weight beyond its quota, thousandths.
        over_quota_weight_milli: Option<Milli>,
    }
    /// What a tenant, project or job may spend.
    BudgetSet key |e| e.tenant.as_str().into(); {
        /// Id of the budget; a later one of the same id replaces it.
        budget: RefId,
        /// The tenant.
        tenant: TenantId,
        /// The project; absent means the tenant as a whole.
        project: Option<ProjectId>,
        /// The job; absent means all.
        job: Option<JobId>,
        /// The amount per period.
        amount: crate::events::common::Sum,
        /// Start of the period; absent means each calendar month UTC.
        period_from_us: Option<TimeUs>,
        /// End of the period; absent means each calendar month UTC.
        period_to_us: Option<TimeUs>,
        /// What happens when it runs out.
        kind: BudgetKind,
    }
    /// A priority class.
    PriorityClassSet key |e| e.class.as_str().into(); {
        /// The class.
        class: ClassId,
        /// Its value; larger goes first.
        value: i64,
        /// Whether it may preempt lower classes.
        preempts: bool,
        /// Whether it may be preempted.
        preemptible: bool,
        /// Least time a run of this class is left alone.
        minimum_run_us: DurationUs,
    }
    /// Prices of usage for a tenant or for all that have none of their own.
    RateCardSet key |e| e.rate_card.as_str().into(); {
        /// Id of the card; a later one of the same id replaces it.
        rate_card: RefId,
        /// The tenant; absent means the default.
        tenant: Option<TenantId>,
        /// Start of validity.
        from_us: TimeUs,
        /// End of validity; absent means open.
        to_us: Option<TimeUs>,
        /// Currency of the prices.
        currency: Currency,
        /// Price lines; the most specific that matches is used.
        lines: Vec<RateLine>,
    }
    /// GPUs were leased to a tenant for a term.
    LeaseSold key |e| e.tenant.as_str().into(); {
        /// Id of the sold lease.
        lease: RefId,
        /// The tenant.
        tenant: TenantId,
        /// GPUs.
        gpus: Count,
        /// Their model.
        gpu_model: GpuModelId,
        /// The site; absent means any.
        site: Option<SiteId>,
        /// Start.
        from_us: TimeUs,
        /// End.
        to_us: TimeUs,
        /// Price for the whole term.
        price: crate::events::common::Sum,
        /// When it is paid.
        payment: PaymentOption,
    }
    /// A sold lease ended before its term.
    SoldLeaseEnded key |e| e.tenant.as_str().into(); {
        /// Id of the sold lease.
        lease: RefId,
        /// The tenant.
        tenant: TenantId,
        /// When it ended.
        ended_us: TimeUs,
        /// Why.
        reason: String,
    }
    /// Capacity was committed to at a provider.
    CommitmentBought key |e| e.commitment.as_str().into(); {
        /// Id of the commitment.
        commitment: RefId,
        /// The provider.
        provider: ProviderId,
        /// The pool it pays for.
        pool: PoolId,
        /// Instances or GPUs committed to.
        quantity: Count,
        /// Start.
        from_us: TimeUs,
        /// End.
        to_us: TimeUs,
        /// Price for the whole term.
        price: crate::events::common::Sum,
    }
    /// GPUs are set aside for a tenant in advance.
    ReservationSet key |e| e.reservation.as_str().into(); {
        /// Id of the reservation; a later one of the same id replaces it.
        reservation: RefId,
        /// The tenant.
        tenant: TenantId,
        /// GPUs.
        gpus: Count,
        /// Their model; absent means any.
        gpu_model: Option<GpuModelId>,
        /// The pool; absent means any.
        pool: Option<PoolId>,
        /// Start.
        from_us: TimeUs,
        /// End.
        to_us: TimeUs,
    }
    /// A reservation is given up.
    ReservationCancelled key |e| e.reservation.as_str().into(); {
        /// Id of the reservation.
        reservation: RefId,
        /// Why.
        reason: String,
    }
    /// Capacity held back for failover.
    ReserveSet key |e| e.domain.as_str().into(); {
        /// Failure domain whose loss it is for, as in `site:metapod-1` or `provider:lambda`.
        domain: RefId,
        /// GPU model.
        gpu_model: GpuModelId,
        /// GPUs held back outside the domain, thousandths.
        held_back_milli: GpuMilli,
    }
    /// A limit on power for a time.
    PowerLimitSet key |e| e.site.as_str().into(); {
        /// Id of the limit; a later one of the same id replaces it.
        limit: RefId,
        /// The site.
        site: SiteId,
        /// The element; absent means the whole site.
        element: Option<ElementId>,
        /// The limit.
        limit_w: PowerW,
        /// Start.
        from_us: TimeUs,
        /// End; absent means open.
        to_us: Option<TimeUs>,
        /// Why.
        reason: String,
    }
    /// The rate between two currencies, as a fraction of two integers.
    ExchangeRateSet key |e| format!("{}/{}", e.from_currency, e.to_currency).into(); {
        /// Currency converted from.
        from_currency: Currency,
        /// Currency converted to.
        to_currency: Currency,
        /// Numerator: units of `to_currency` …
        numerator: Count,
        /// … per this many units of `from_currency`.
        denominator: Count,
        /// In force from.
        effective_from_us: TimeUs,
    }
    /// A tenant's billing period is closed at the end of its epoch.
    PeriodClosed key |e| e.tenant.as_str().into(); {
        /// The tenant.
        tenant: TenantId,
        /// The month, as in `2023-09`.
        period: Name,
    }
    /// A loss to be thought through by the failover view. The kernel does nothing.
    DrillRequested key |e| e.drill.as_str().into(); {
        /// Id of the drill.
        drill: RefId,
        /// Failure domain thought lost.
        domain: RefId,
        /// For how long.
        duration_us: DurationUs,
    }
    /// A signing key comes into use.
    SigningKeyDeclared key |e| e.key_id.as_str().into(); {
        /// Id of the key.
        key_id: RefId,
        /// Algorithm, as in `ed25519`.
        algorithm: Name,
        /// Public key, hexadecimal.
        public_key: Name,
        /// In use from.
        from_us: TimeUs,
        /// In use until; absent means open.
        to_us: Option<TimeUs>,
    }
    /// A signing key is no longer trusted.
    SigningKeyRevoked key |e| e.key_id.as_str().into(); {
        /// Id of the key.
        key_id: RefId,
        /// From when on.
        revoked_us: TimeUs,
        /// Why.
        reason: String,
    }
    /// The key of a tenant's encrypted payload fields was destroyed.
    TenantKeyDestroyed key |e| e.tenant.as_str().into(); {
        /// The tenant.
        tenant: TenantId,
        /// Id of the key.
        key_id: RefId,
    }
}
