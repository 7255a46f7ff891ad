//! What the world outside says: network, energy, storage, leases.

use crate::events::common::Sum;
use crate::ids::*;
use crate::units::*;

symbols! { "solyx.energy";
    /// What an energy price is.
    PriceKind {
        /// fixed at noon the day before
        DayAhead = "DAY_AHEAD",
        /// settled in the hour
        RealTime = "REAL_TIME",
        /// by contract
        Tariff = "TARIFF",
        /// guessed
        Forecast = "FORECAST",
    }
    /// Whether a carbon value is known or guessed.
    CarbonStatus {
        /// measured after the hour
        Actual = "ACTUAL",
        /// expected beforehand
        Forecast = "FORECAST",
    }
    /// Which power a carbon value is of.
    CarbonSignal {
        /// the mix as a whole
        Average = "AVERAGE",
        /// the plant that one more kWh starts
        Marginal = "MARGINAL",
    }
    /// How carbon is accounted, by the GHG Protocol's scope 2 guidance.
    CarbonMethod {
        /// by the grid
        Location = "LOCATION",
        /// by contracts
        Market = "MARKET",
    }
}

symbols! { "solyx.storage";
    /// State of a replica.
    ReplicaState {
        /// on its way
        Copying = "COPYING",
        /// there
        Durable = "DURABLE",
        /// gone
        Lost = "LOST",
    }
}

symbols! { "solyx.leases";
    /// Why a lease began, was refused or ended.
    LeaseReason {
        /// as asked
        Asked = "ASKED",
        /// the provider took it back
        Reclaimed = "RECLAIMED",
        /// it failed
        Failed = "FAILED",
        /// there was none to be had
        NoCapacity = "NO_CAPACITY",
    }
}

records! { "solyx.network";
    /// A tier of a price of traffic.
    EgressTier {
        /// Upper end of the tier in a month, GB; absent in the last.
        up_to_gb: Option<Count>,
        /// Price of one GB.
        price_micros_per_gb: RateMicros,
    }
}

inputs! { "solyx.network", Network;
    /// Round-trip time and throughput between two regions.
    LinkMeasured key |e| format!("{}|{}", e.from_region, e.to_region).into(); {
        /// From.
        from_region: RegionId,
        /// To.
        to_region: RegionId,
        /// Round-trip time.
        rtt_us: DurationUs,
        /// Throughput, Mbit/s; absent means unknown.
        throughput_mbit_s: Option<Count>,
    }
    /// Price of traffic between two regions.
    EgressPriced key |e| format!("{}|{}", e.from_region, e.to_region).into(); {
        /// From.
        from_region: RegionId,
        /// To.
        to_region: RegionId,
        /// Currency.
        currency: Currency,
        /// Tiers, lowest first.
        tiers: Vec<EgressTier>,
    }
}

inputs! { "solyx.energy", Energy;
    /// Price of energy in a grid zone over an interval.
    EnergyPriced key |e| e.zone.as_str().into(); {
        /// The grid zone.
        zone: ZoneId,
        /// Start.
        from_us: TimeUs,
        /// End.
        to_us: TimeUs,
        /// Price of one MWh; negative is real.
        price_micros_per_mwh: RateMicros,
        /// Currency.
        currency: Currency,
        /// What kind of price.
        kind: PriceKind,
        /// A higher revision replaces its interval.
        revision: Count,
        /// When it was published; `occurred_us` is the same.
        published_us: TimeUs,
    }
    /// Carbon intensity of a grid zone over an interval.
    CarbonReported key |e| e.zone.as_str().into(); {
        /// The grid zone.
        zone: ZoneId,
        /// Start.
        from_us: TimeUs,
        /// End.
        to_us: TimeUs,
        /// Carbon intensity.
        mg_per_kwh: CarbonIntensityMgPerKwh,
        /// Known or guessed.
        status: CarbonStatus,
        /// Average or marginal.
        signal: CarbonSignal,
        /// By grid or by contract.
        method: CarbonMethod,
        /// A higher revision replaces its interval.
        revision: Count,
        /// When it was published; `occurred_us` is the same.
        published_us: TimeUs,
    }
}

inputs! { "solyx.storage", Storage;
    /// A data set.
    DatasetDeclared key |e| e.dataset.as_str().into(); {
        /// The data set.
        dataset: DatasetId,
        /// Whose it is.
        tenant: TenantId,
        /// Size.
        size_gib: StorageGib,
        /// Countries it may be in; empty means any.
        residency: Vec<Name>,
        /// How much of it may be lost, in time.
        rpo_us: Option<DurationUs>,
    }
    /// A replica of a data set or checkpoint.
    ReplicaReported key |e| e.dataset.as_str().into(); {
        /// Data set, or `checkpoint:` and the job.
        dataset: DatasetId,
        /// Site.
        site: SiteId,
        /// Storage tier.
        tier: Name,
        /// Its state.
        state: ReplicaState,
        /// Size.
        size_gib: StorageGib,
    }
}

inputs! { "solyx.leases", Leases;
    /// An instance was leased.
    InstanceLeased key |e| e.pool.as_str().into(); {
        /// The pool.
        pool: PoolId,
        /// The instance.
        instance: InstanceId,
        /// Order it answers: the id of the `CapacityLeaseOrdered`.
        order: RefId,
        /// Price really charged per GPU-hour.
        price_micros_per_gpu_hour: RateMicros,
        /// Its currency.
        currency: Currency,
        /// Since when it is paid for.
        from_us: TimeUs,
        /// Until when it is paid for at least, by the provider's minimum billing or term; absent when that is not known.
        to_us: Option<TimeUs>,
    }
    /// An order for instances was refused.
    InstanceLeaseRefused key |e| e.pool.as_str().into(); {
        /// The pool.
        pool: PoolId,
        /// The order.
        order: RefId,
        /// Instances refused.
        instances: Count,
        /// Why.
        reason: LeaseReason,
    }
    /// A lease ended. What ran on the instance runs no longer.
    InstanceLeaseEnded key |e| e.pool.as_str().into(); {
        /// The pool.
        pool: PoolId,
        /// The instance.
        instance: InstanceId,
        /// Order that its beginning answered: the id of the `CapacityLeaseOrdered`; absent when nobody knows it any more.
        order: Option<RefId>,
        /// Since when it was paid for.
        from_us: TimeUs,
        /// Until when it is paid for.
        to_us: TimeUs,
        /// What was really charged for all of it.
        charged: Sum,
        /// Why.
        reason: LeaseReason,
    }
}
