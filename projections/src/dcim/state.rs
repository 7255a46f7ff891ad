//! The rows of the DCIM view's state.

use serde::{Deserialize, Serialize};
use solyx_schemas::events::assets::DepreciationMethod;
use solyx_schemas::events::common::Sum;
use solyx_schemas::events::facility::{ElementKind, ElementState};
use solyx_schemas::events::nodes::FeedShare;
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

/// A site as declared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Site {
    pub(super) name: String,
    pub(super) zone: ZoneId,
    pub(super) design_pue_milli: i64,
}

/// An element of a power tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Element {
    pub(super) kind: ElementKind,
    pub(super) parents: Vec<ElementId>,
    pub(super) limit_w: i64,
    pub(super) derating_milli: i64,
    pub(super) state: ElementState,
}

/// A limit set by operators.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PowerLimit {
    pub(super) site: SiteId,
    /// Absent for the whole site.
    pub(super) element: Option<ElementId>,
    pub(super) from: TimeUs,
    pub(super) limit_w: i64,
    pub(super) to: Option<TimeUs>,
}

/// A pool: where it is, and whether its energy is on our bill.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pool {
    pub(super) site: SiteId,
    pub(super) owned: bool,
}

/// A node of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Node {
    pub(super) pool: PoolId,
    pub(super) idle_w: i64,
    pub(super) feeds: Vec<FeedShare>,
    /// Index and largest power of each GPU.
    pub(super) gpus: Vec<(i64, i64)>,
}

/// A run: where it is, and what it has until it ends. Ended runs stay, for usage that comes later.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) site: SiteId,
    pub(super) owned: bool,
    pub(super) gpus: Vec<(NodeId, Vec<i64>)>,
}

/// The last reading of something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reading {
    pub(super) value: i64,
    pub(super) at: TimeUs,
}

/// One clock hour of a site.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hour {
    /// Energy metered for runs on our own hardware, J.
    pub(super) owned_j: i64,
    /// Energy metered for runs on capacity whose provider pays for energy, J.
    pub(super) bought_j: i64,
    /// Energy measured at nodes, W × µs.
    pub(super) nodes_w_us: i128,
    /// Facility and IT energy of cooling readings, W × µs.
    pub(super) facility_w_us: i128,
    pub(super) it_w_us: i128,
    pub(super) water_ml: i64,
}

/// Energy of a job at one site.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct JobEnergy {
    /// Hours since 1970 and joules, in the order of the hours.
    pub(super) hours: Vec<(i64, i64)>,
}

impl JobEnergy {
    /// Adds energy to an hour.
    pub(super) fn add(&mut self, hour: i64, energy_j: i64) {
        match self.hours.binary_search_by_key(&hour, |(hour, _)| *hour) {
            Ok(place) => self.hours[place].1 += energy_j,
            Err(place) => self.hours.insert(place, (hour, energy_j)),
        }
    }
}

/// Where an asset stands in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AssetStage {
    /// Ordered, not here.
    #[default]
    Ordered,
    /// Here, not in use.
    Received,
    /// In use: it loses value.
    Installed,
    /// Out of the books.
    Retired,
}

/// An asset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Asset {
    pub(super) stage: AssetStage,
    pub(super) model: Name,
    pub(super) vendor: Name,
    pub(super) site: Option<SiteId>,
    pub(super) node: Option<NodeId>,
    pub(super) rack: Option<ElementId>,
    pub(super) cost: Sum,
    pub(super) salvage_micros: i64,
    pub(super) installed: Option<TimeUs>,
    pub(super) life_us: i64,
    pub(super) method: DepreciationMethod,
    pub(super) declining_milli_per_year: i64,
    pub(super) warranty_end: Option<TimeUs>,
    pub(super) repairs: Vec<Sum>,
    pub(super) retired: Option<TimeUs>,
    pub(super) proceeds: Option<Sum>,
}

/// How far the fold has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Meta {
    pub(super) epoch: i64,
    pub(super) now: TimeUs,
}
