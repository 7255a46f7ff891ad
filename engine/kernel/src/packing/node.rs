//! What node choice talks about: a node's free amounts, what one replica asks for, and the answer.

use std::sync::Arc;

use solyx_schemas::ids::NodeId;

use super::mig::{Division, Slices};

/// Thousandths in one GPU.
pub const GPU_MILLI: i64 = 1000;

/// No fabric domain.
pub const NO_DOMAIN: u32 = u32::MAX;

/// A node inside one [`Inventory`](super::Inventory). Handles of removed nodes are used again; they decide nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeHandle(pub u32);

/// One GPU of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GpuSlot {
    /// Free thousandths, at most 1,000; negative when an input overcommitted it.
    pub free_milli: i64,
    /// False while it is degraded: nothing new goes there.
    pub usable: bool,
    /// Slices that MIG instances have; while there are any, no thousandths are free.
    pub slices: Slices,
    /// The one tenant that has a part of it, where that matters to anybody; 0 says nothing.
    pub owner: u32,
    /// Whether the owner keeps other tenants off.
    pub kept: bool,
}

impl GpuSlot {
    /// A usable GPU that nothing is on.
    pub const FREE: Self = Self { free_milli: GPU_MILLI, usable: true, slices: 0, owner: 0, kept: false };

    /// Whether nothing is on it.
    pub fn is_whole(&self) -> bool {
        self.free_milli >= GPU_MILLI && self.slices == 0
    }

    /// Whether the tenants on it let an ask in, and it them.
    pub fn lets_in(&self, ask: &Ask) -> bool {
        !ask.shares() || self.is_whole() || lets_in(self.owner, self.kept, ask)
    }

    /// Room for instances of an ask's profile.
    pub(super) fn instances(&self, ask: &Ask, division: &Division) -> i64 {
        let open = self.usable && (self.is_whole() || self.slices != 0) && self.lets_in(ask);
        if open { division.room(self.slices) } else { 0 }
    }
}

/// Whether a GPU that is in use in part lets an ask in.
pub(super) fn lets_in(owner: u32, kept: bool, ask: &Ask) -> bool {
    owner != 0 && owner == ask.tenant || !kept && !ask.apart
}

/// A node as node choice sees it. Pools, models and domains are interned by the caller; their numbers decide nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSpec {
    /// Its name, which decides ties.
    pub name: NodeId,
    /// Pool.
    pub pool: u32,
    /// GPU model.
    pub model: u32,
    /// Fabric domain, or [`NO_DOMAIN`].
    pub domain: u32,
    /// GPUs by index.
    pub gpus: Vec<GpuSlot>,
    /// CPU of the empty node, thousandths of a core.
    pub cpu_milli: i64,
    /// Memory of the empty node.
    pub memory_mib: i64,
    /// Free CPU, thousandths of a core.
    pub cpu_free_milli: i64,
    /// Free memory.
    pub memory_free_mib: i64,
    /// Free scratch space.
    pub scratch_free_gib: i64,
    /// Replicas that hold something here.
    pub replicas: u32,
    /// A replica has it exclusively: it takes nothing more.
    pub closed: bool,
}

/// What one replica asks of one node.
///
/// With `gpu_milli_each` of 1,000 it takes `gpus` wholly free GPUs, below that a share of each of `gpus` different GPUs
/// (of one, as a rule). With a MIG profile it takes an instance on each of `gpus` different GPUs, and `gpu_milli_each` is what
/// an instance counts as. Without GPUs any node serves it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ask {
    /// GPUs per replica.
    pub gpus: i64,
    /// Share of each, thousandths.
    pub gpu_milli_each: i64,
    /// CPU, thousandths of a core.
    pub cpu_milli: i64,
    /// Memory.
    pub memory_mib: i64,
    /// Scratch space.
    pub scratch_gib: i64,
    /// Acceptable models, sorted; none means any.
    pub models: Option<Vec<u32>>,
    /// It wants a node to itself.
    pub exclusive: bool,
    /// Of a MIG profile: what an instance asks of a GPU. All acceptable models have to be of its table.
    pub mig: Option<Arc<Division>>,
    /// Its tenant as [`GpuSlot::owner`] names it, where that matters; 0 is nobody's.
    pub tenant: u32,
    /// It takes no GPU that another tenant has a part of.
    pub apart: bool,
}

impl Ask {
    /// All thousandths of GPUs together.
    pub fn gpu_milli(&self) -> i64 {
        self.gpus * self.gpu_milli_each
    }

    /// Whether it accepts a model.
    pub fn accepts(&self, model: u32) -> bool {
        self.models.as_ref().is_none_or(|models| models.binary_search(&model).is_ok())
    }

    /// Whether it leaves something of its GPUs to others, or takes what others leave.
    pub fn shares(&self) -> bool {
        self.mig.is_some() || self.gpus > 0 && self.gpu_milli_each < GPU_MILLI
    }

    /// One share of one GPU.
    pub(super) fn is_share(&self) -> bool {
        self.mig.is_none() && self.gpus == 1 && self.gpu_milli_each < GPU_MILLI
    }
}

/// Where one replica goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The node.
    pub node: NodeHandle,
    /// Its GPUs, by index.
    pub gpus: Vec<u8>,
    /// First slices of its MIG instances, in the order of its GPUs.
    pub starts: Vec<u8>,
}

/// The rule that picks among nodes on which a replica fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Least CPU and GPU left over (best fit over both, equally weighted), tightest hole for a share.
    BestFit,
    /// Fragmentation gradient descent (Weng et al., USENIX ATC'23), with its coarse score.
    Fgd,
    /// The kernel's own.
    Solyx,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Solyx, Self::Fgd, Self::BestFit];

    /// The rule of a name in `SchedulingPolicySet`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.name() == name)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::BestFit => "best-fit",
            Self::Fgd => "fgd",
            Self::Solyx => "solyx",
        }
    }
}

/// Why free amounts were left as they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackingError {
    /// The handle names no node.
    #[error("no node has this handle")]
    UnknownNode,
    /// More was asked than is free there.
    #[error("the replica does not fit on the chosen node and gpus")]
    DoesNotFit,
    /// More was given back than had been taken.
    #[error("more was released than was allocated")]
    NotAllocated,
}
