//! The rows of the failover view beside the kernel's own.

use serde::{Deserialize, Serialize};
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

use super::view::DomainView;

/// How far the fold has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Meta {
    pub(super) cell: CellId,
    pub(super) epoch: i64,
    pub(super) now: TimeUs,
}

/// When a provider last spoke of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PoolNews {
    pub(super) available: Option<TimeUs>,
    pub(super) priced: Option<TimeUs>,
}

/// A drill with its answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Drill {
    pub(super) domain: RefId,
    pub(super) epoch: i64,
    pub(super) asked: TimeUs,
    pub(super) duration: DurationUs,
    /// Absent when no domain had that name then.
    pub(super) answer: Option<DomainView>,
}
