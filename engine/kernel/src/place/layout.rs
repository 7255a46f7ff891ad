//! What holds the replicas of a gang together or apart, as the job says it and as one pool has to keep it.
//!
//! Segments are as in Slurm's `topology/block` (`--segment`): equal parts of the gang, each within one domain of a level.
//! Spread is as in Kubernetes' topology spread constraints with `whenUnsatisfiable: DoNotSchedule`: the most loaded domain has
//! at most `skew` replicas more than the least loaded of those that could take one.

use solyx_schemas::events::decisions::{Limit, LimitKind};
use solyx_schemas::events::jobs::{SpreadLevel, TopologyLevel};
use solyx_schemas::events::nodes::NodeReported;
use solyx_schemas::field::ARRAY_LEN_MAX;
use solyx_schemas::ids::NodeId;
use solyx_schemas::validity::NODE_GPUS_MAX;

use crate::rows::{Spec, limit_of};
use crate::state::State;

/// Skew of a spread that names none, as in Kubernetes' default constraints for failure domains of one gang.
const SKEW: i64 = 1;

/// How a gang lies in a pool. What binds nothing there is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// All of it, or each segment, within one domain of this level.
    pub required: Option<TopologyLevel>,
    /// Within as few domains of this level as can be.
    pub preferred: Option<TopologyLevel>,
    /// Replicas of a segment.
    pub segment: Option<i64>,
    /// Spread over the domains of a level, with this skew at most.
    pub spread: Option<(SpreadLevel, i64)>,
}

impl Layout {
    /// The layout of a job's gang within one pool.
    pub fn of(spec: &Spec) -> Self {
        let replicas = spec.gang.replicas_min.0;
        // A pool is of one site, and one replica is within one domain of any level.
        let binds = |level: &TopologyLevel| {
            *level != TopologyLevel::Site && (replicas > 1 || *level == TopologyLevel::NvlinkDomain)
        };
        let topology = spec.topology.clone().unwrap_or_default();
        let mut layout = Self {
            required: topology.required.filter(binds),
            preferred: topology.preferred.filter(binds),
            segment: topology.segment_min.map(|segment| segment.0).filter(|segment| *segment < replicas),
            spread: spread_of(spec).filter(|(level, skew)| {
                let within = matches!(level, SpreadLevel::Node | SpreadLevel::Rack | SpreadLevel::Feed);
                within && *skew < replicas
            }),
        };
        if topology.segment_min.is_some() {
            // Segments are in domains of the preferred level where none is required.
            layout.required = layout.required.or(layout.preferred);
        }
        if layout.segment == Some(1) || layout.required.is_none() {
            // A replica is never split.
            layout.segment = None;
            if topology.segment_min.is_some_and(|segment| segment.0 == 1 && replicas > 1) {
                layout.required = None;
            }
        }
        layout
    }

    /// Whether a gang may lie anywhere in the pool.
    pub fn is_free(&self) -> bool {
        *self == Self::default()
    }

    /// Whether more is asked than that the whole gang is in one domain.
    pub fn is_divided(&self) -> bool {
        self.segment.is_some() || self.spread.is_some()
    }

    /// The same without what the job would rather have.
    pub fn without_preference(self) -> Self {
        Self { preferred: None, ..self }
    }
}

/// Over what a job is spread, and with which skew: what its topology says, or else its recovery class.
pub fn spread_of(spec: &Spec) -> Option<(SpreadLevel, i64)> {
    let topology = spec.topology.as_ref();
    let level = topology.and_then(|t| t.spread).or_else(|| spec.recovery.as_ref().and_then(|r| r.spread))?;
    Some((level, topology.and_then(|t| t.skew_max).map_or(SKEW, |skew| skew.0)))
}

/// What no decision can name: more replicas than a list has, or more GPUs than a node.
fn beyond_any_fleet(spec: &Spec) -> Option<(Limit, String)> {
    let replicas_most = i64::try_from(ARRAY_LEN_MAX).unwrap_or(i64::MAX);
    let gang = &spec.gang;
    let asked = [
        ("gang.gpus", gang.gpus.0, NODE_GPUS_MAX, "GPUs of a replica"),
        ("gang.replicas_min", gang.replicas_min.0, replicas_most, "replicas"),
        ("gang.replicas_max", gang.replicas_max.0, replicas_most, "replicas"),
    ];
    let (field, found, most, unit) = asked.into_iter().find(|(_, found, most, _)| found > most)?;
    let detail = format!("field {field}: found {found}, expected at most {most}");
    Some((limit_of(LimitKind::Validity, field, found, most, unit), detail))
}

/// What can never be kept, whatever becomes free: the field, and what is wrong with it.
pub fn contradiction(spec: &Spec) -> Option<(Limit, String)> {
    if let Some(beyond) = beyond_any_fleet(spec) {
        return Some(beyond);
    }
    let topology = spec.topology.as_ref()?;
    let (segment, replicas) = (topology.segment_min?.0, spec.gang.replicas_min.0);
    let field = "topology.segment_min";
    if segment <= 1 {
        return None;
    }
    if replicas % segment != 0 {
        let fit = replicas - replicas % segment;
        let limit = limit_of(LimitKind::FabricDomain, field, replicas, fit, "replicas in equal segments");
        let detail = format!("field {field}: found {segment}, expected a divisor of replicas_min, which is {replicas}");
        return Some((limit, detail));
    }
    if topology.required.or(topology.preferred).is_none() {
        let limit =
            limit_of(LimitKind::FabricDomain, field, segment, 0, "replicas in a domain of a level that is not named");
        let detail = format!("field {field}: found {segment}, expected a required or preferred level beside it");
        return Some((limit, detail));
    }
    if spread_of(spec).is_some() {
        let limit = limit_of(LimitKind::Spread, field, segment, 1, "replicas of a segment beside a spread");
        let detail = format!("field {field}: found {segment}, expected no segments where replicas are spread");
        return Some((limit, detail));
    }
    None
}

/// A domain's name. What belongs to none is one of its own, by the node's name.
pub type Domain<'a> = (bool, &'a str);

/// The domain of a level in which a node lies.
pub fn domain_of<'a>(state: &State, level: TopologyLevel, node: &'a NodeId, report: &'a NodeReported) -> Domain<'a> {
    let named = match level {
        TopologyLevel::Leaf => report.leaf.as_ref().map(|leaf| leaf.as_str()),
        TopologyLevel::Spine => report.spine.as_ref().map(|spine| spine.as_str()),
        TopologyLevel::Rack => report.rack.as_ref().map(|rack| rack.as_str()),
        TopologyLevel::Site => return (true, ""),
        TopologyLevel::NvlinkDomain | TopologyLevel::Unknown => nvlink_domain(state, report),
    };
    named.map_or((false, node.as_str()), |name| (true, name))
}

/// The NVLink domain that reaches beyond a node: the one that all its GPUs name, if GPUs of this model are linked in greater
/// numbers than the node has. Otherwise names are the node's own affair.
fn nvlink_domain<'a>(state: &State, report: &'a NodeReported) -> Option<&'a str> {
    let first = report.gpus.first()?;
    let name = first.nvlink_domain.as_ref()?;
    let size = state.models.get(&first.model)?.nvlink_domain_size.0;
    let whole = report.gpus.iter().all(|gpu| gpu.nvlink_domain.as_ref() == Some(name));
    (whole && size > report.gpus.len() as i64).then(|| name.as_str())
}

/// The failure domain in which a node lies: for feeds, the element that carries the most of its load.
pub fn failure_domain_of<'a>(level: SpreadLevel, node: &'a NodeId, report: &'a NodeReported) -> Domain<'a> {
    let named = match level {
        SpreadLevel::Rack => report.rack.as_ref().map(|rack| rack.as_str()),
        SpreadLevel::Feed => {
            let most = report.feeds.iter().min_by_key(|feed| (-feed.share_milli.0, &feed.element));
            most.map(|feed| feed.element.as_str())
        }
        _ => None,
    };
    named.map_or((false, node.as_str()), |name| (true, name))
}

/// The level above, crossing which costs most.
pub fn above(level: TopologyLevel) -> Option<TopologyLevel> {
    match level {
        TopologyLevel::NvlinkDomain | TopologyLevel::Leaf | TopologyLevel::Rack => Some(TopologyLevel::Spine),
        _ => None,
    }
}

/// What a level is called where a person reads it.
pub fn level_name(level: TopologyLevel) -> &'static str {
    match level {
        TopologyLevel::Leaf => "leaf",
        TopologyLevel::Spine => "spine",
        TopologyLevel::Rack => "rack",
        TopologyLevel::Site => "site",
        TopologyLevel::NvlinkDomain | TopologyLevel::Unknown => "NVLink domain",
    }
}

/// What a level of spread is called where a person reads it.
pub fn spread_name(level: SpreadLevel) -> &'static str {
    match level {
        SpreadLevel::Rack => "rack",
        SpreadLevel::Feed => "feed",
        SpreadLevel::Site => "site",
        SpreadLevel::Provider => "provider",
        _ => "node",
    }
}
