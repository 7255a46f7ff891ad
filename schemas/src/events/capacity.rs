//! What provider connectors say of pools: what they are, cost, and have to give.

use crate::ids::*;
use crate::units::*;

symbols! { "solyx.capacity";
    /// How capacity is held.
    CapacityClass {
        /// our own hardware
        Owned = "OWNED",
        /// committed at a provider for a term
        Reserved = "RESERVED",
        /// leased by the hour
        OnDemand = "ON_DEMAND",
        /// leased by the hour, may be reclaimed
        Spot = "SPOT",
    }
    /// Kind of fabric between the nodes of a pool.
    FabricKind {
        /// none fit for gangs over nodes
        Ethernet = "ETHERNET",
        /// InfiniBand
        Infiniband = "INFINIBAND",
        /// RDMA over converged Ethernet
        Roce = "ROCE",
    }
    /// State of a provider.
    ProviderState {
        /// works
        Up = "UP",
        /// works badly; nothing new is placed
        Degraded = "DEGRADED",
        /// does not work
        Down = "DOWN",
    }
}

records! { "solyx.capacity";
    /// What one instance of a pool is.
    InstanceShape {
        /// Provider's name of it.
        instance_type: Name,
        /// GPUs.
        gpus: Count,
        /// CPU.
        cpu_milli: CpuMilli,
        /// Memory.
        memory_mib: MemoryMib,
        /// Memory of one GPU.
        gpu_memory_mib: MemoryMib,
        /// Scratch space.
        scratch_gib: StorageGib,
    }
}

inputs! { "solyx.capacity", Capacity;
    /// A pool: one provider's capacity of one kind at one site.
    PoolDeclared key |e| e.pool.as_str().into(); {
        /// The pool.
        pool: PoolId,
        /// Who provides it.
        provider: ProviderId,
        /// Site it stands at; bought capacity without a site of ours has a declared site for its region.
        site: SiteId,
        /// How it is held.
        class: CapacityClass,
        /// GPU model.
        gpu_model: GpuModelId,
        /// Shape of an instance; for owned and reserved pools of a typical node.
        shape: InstanceShape,
        /// Fabric between its nodes.
        fabric: FabricKind,
        /// Shortest time billed for an instance.
        minimum_billing_us: DurationUs,
        /// Step in which time is billed.
        granularity_us: DurationUs,
        /// Time from order to start.
        start_delay_us: DurationUs,
        /// Commitment that pays for it; absent means none.
        commitment: Option<RefId>,
    }
    /// A price of a pool. For owned pools the marginal price asked beside energy, often zero, and the depreciation billing books.
    PoolPriced key |e| e.pool.as_str().into(); {
        /// The pool.
        pool: PoolId,
        /// Price of one GPU for one hour.
        price_micros_per_gpu_hour: RateMicros,
        /// Its currency.
        currency: Currency,
        /// In force from.
        effective_from_us: TimeUs,
    }
    /// How much of a pool can be had now.
    PoolAvailabilityReported key |e| e.pool.as_str().into(); {
        /// The pool.
        pool: PoolId,
        /// Instances that can be had beside those already leased; absent means unknown.
        instances: Option<Count>,
    }
    /// A pool is no longer offered; what is leased stays.
    PoolWithdrawn key |e| e.pool.as_str().into(); {
        /// The pool.
        pool: PoolId,
        /// Why.
        reason: String,
    }
    /// A provider works, works badly or does not.
    ProviderStateChanged key |e| e.provider.as_str().into(); {
        /// The provider.
        provider: ProviderId,
        /// Its state from now on.
        state: ProviderState,
        /// Why.
        reason: String,
    }
}
