//! What node agents say, and the verifier that attests them.

use crate::events::common::Label;
use crate::ids::*;
use crate::units::*;

symbols! { "solyx.nodes";
    /// State of a node.
    NodeState {
        /// takes work
        Ready = "READY",
        /// takes nothing new
        Cordoned = "CORDONED",
        /// takes nothing new, what runs is moved
        Draining = "DRAINING",
        /// not heard of; what runs may still run
        Down = "DOWN",
        /// certainly not running anything
        Fenced = "FENCED",
    }
    /// What is wrong with a GPU.
    GpuFault {
        /// uncorrectable memory errors
        Ecc = "ECC",
        /// an error reported by the driver
        Xid = "XID",
        /// too hot
        Thermal = "THERMAL",
        /// a link is down
        Link = "LINK",
    }
    /// What should be done with a degraded GPU.
    GpuAction {
        /// take no new work
        Avoid = "AVOID",
        /// reset it when free
        Reset = "RESET",
        /// replace it
        Replace = "REPLACE",
        /// it is well again
        Restore = "RESTORE",
    }
}

symbols! { "solyx.attestation";
    /// How a node was attested.
    AttestationMethod {
        /// a trusted platform module, version 2.0
        Tpm20 = "TPM_2_0",
        /// the security protocol and data model of DMTF
        Spdm = "SPDM",
        /// not at all
        None = "NONE",
    }
    /// What came of it.
    AttestationVerdict {
        /// trusted until its end
        Passed = "PASSED",
        /// not trusted
        Failed = "FAILED",
    }
}

records! { "solyx.nodes";
    /// One GPU of a node.
    GpuReport {
        /// Index on the node.
        index: i64,
        /// The hardware's own id.
        uuid: Name,
        /// Model.
        model: GpuModelId,
        /// Memory.
        memory_mib: MemoryMib,
        /// NVLink domain; GPUs of one domain talk at full speed.
        nvlink_domain: Option<Name>,
        /// Largest power.
        max_w: PowerW,
    }
    /// The part of a node's load on one feed.
    FeedShare {
        /// Element of the power tree the node hangs on.
        element: ElementId,
        /// Share of its load, thousandths; the shares of a node add up to 1000.
        share_milli: Milli,
    }
}

inputs! { "solyx.nodes", Nodes;
    /// A node and all that is in it. Repeated when something changes.
    NodeReported key |e| e.node.as_str().into(); {
        /// The node.
        node: NodeId,
        /// Its pool.
        pool: PoolId,
        /// Its GPUs.
        gpus: Vec<GpuReport>,
        /// CPU.
        cpu_milli: CpuMilli,
        /// Memory.
        memory_mib: MemoryMib,
        /// Scratch space.
        scratch_gib: StorageGib,
        /// Power of the idle node, GPUs idle.
        idle_w: PowerW,
        /// Largest power of the whole node.
        max_w: PowerW,
        /// How its load divides over feeds.
        feeds: Vec<FeedShare>,
        /// Rack.
        rack: Option<ElementId>,
        /// InfiniBand leaf switch: the fabric domain of a gang.
        leaf: Option<Name>,
        /// InfiniBand spine switch.
        spine: Option<Name>,
        /// Labels.
        labels: Vec<Label>,
    }
    /// A node's state changed.
    NodeStateChanged key |e| e.node.as_str().into(); {
        /// The node.
        node: NodeId,
        /// Its state from now on.
        state: NodeState,
        /// Why.
        reason: String,
    }
    /// A node is gone for good.
    NodeRemoved key |e| e.node.as_str().into(); {
        /// The node.
        node: NodeId,
        /// Why.
        reason: String,
    }
    /// A GPU is not what it was.
    GpuDegraded key |e| e.node.as_str().into(); {
        /// The node.
        node: NodeId,
        /// Index of the GPU.
        gpu_index: i64,
        /// What is wrong.
        fault: GpuFault,
        /// What should be done.
        action: GpuAction,
        /// Detail, as the driver gives it.
        detail: String,
    }
}

inputs! { "solyx.attestation", Attestation;
    /// The verifier's word on a node.
    NodeAttested key |e| e.node.as_str().into(); {
        /// The node.
        node: NodeId,
        /// How.
        method: AttestationMethod,
        /// What came of it.
        verdict: AttestationVerdict,
        /// SHA-256 of the evidence, hexadecimal.
        evidence_digest: Name,
        /// How long it may be trusted.
        valid_until_us: TimeUs,
    }
}
