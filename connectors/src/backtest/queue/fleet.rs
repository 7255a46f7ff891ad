//! What the jobs of a queue run on: equal nodes, as many as a load says, or the nodes of a fleet file.

use std::collections::{BTreeMap, BTreeSet};

use solyx_schemas::events::Event;
use solyx_schemas::events::capacity::{CapacityClass, FabricKind, InstanceShape, PoolDeclared};
use solyx_schemas::events::facility::SiteDeclared;
use solyx_schemas::events::nodes::{GpuReport, NodeReported};
use solyx_schemas::events::policy::GpuModelDeclared;
use solyx_schemas::ids::*;
use solyx_schemas::topics::Topic;
use solyx_schemas::units::*;

use super::SOURCE;
use crate::backtest::BacktestError;

const MODEL: &str = "V100";
const POOL: &str = "pod/v100";
const SITE: &str = "pod";

/// Nodes, and the events that declare them.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// The events, without policy.
    pub events: Vec<Event>,
    /// Nodes with GPUs.
    pub nodes: i64,
    /// Their GPUs.
    pub gpus: i64,
    /// GPUs of the smallest: what a larger job is divided into.
    pub gpus_per_node: i64,
    /// GPUs of the largest gang that any pool has room for, divided so: a gang lies in one pool.
    pub largest_gang: i64,
}

impl Fleet {
    /// So many equal nodes.
    pub fn equal(nodes: i64, gpus_per_node: i64) -> Self {
        let events = equal_nodes(nodes, gpus_per_node);
        let gpus = nodes * gpus_per_node;
        Self { events, nodes, gpus, gpus_per_node, largest_gang: gpus }
    }

    /// The own and reserved nodes of a fleet file, with their sites, power and models. Its policy, tenants, prices and what could be leased
    /// are left out.
    pub fn of_events(events: Vec<Event>) -> Result<Self, BacktestError> {
        let own = |pool: &PoolDeclared| matches!(pool.class, CapacityClass::Owned | CapacityClass::Reserved);
        let pools: BTreeSet<PoolId> = events
            .iter()
            .filter_map(|event| match event {
                Event::PoolDeclared(pool) if own(pool) => Some(pool.pool.clone()),
                _ => None,
            })
            .collect();
        let kept = |event: &Event| match event {
            Event::PoolDeclared(pool) => pools.contains(&pool.pool),
            Event::NodeReported(node) => pools.contains(&node.pool) && !node.gpus.is_empty(),
            Event::GpuModelDeclared(_) => true,
            other => other.topic() == Topic::Facility,
        };
        let events: Vec<Event> = events.into_iter().filter(kept).collect();
        let sizes = || {
            events.iter().filter_map(|event| match event {
                Event::NodeReported(node) => Some(node.gpus.len() as i64),
                _ => None,
            })
        };
        let gpus_per_node = sizes().min().ok_or(BacktestError::NoNodes)?;
        let (nodes, gpus) = (sizes().count() as i64, sizes().sum());
        let mut of_pools: BTreeMap<&PoolId, i64> = BTreeMap::new();
        for event in &events {
            if let Event::NodeReported(node) = event {
                let size = node.gpus.len() as i64;
                *of_pools.entry(&node.pool).or_default() += size - size % gpus_per_node;
            }
        }
        let largest_gang = of_pools.into_values().max().unwrap_or(0);
        Ok(Self { nodes, gpus, gpus_per_node, largest_gang, events })
    }
}

fn equal_nodes(nodes: i64, gpus: i64) -> Vec<Event> {
    let shape = InstanceShape {
        instance_type: Name::from("v100x8"),
        gpus: Count(gpus),
        cpu_milli: CpuMilli(gpus * 4_000),
        memory_mib: MemoryMib(gpus * 65_536),
        gpu_memory_mib: MemoryMib(32_768),
        scratch_gib: StorageGib(1_000),
    };
    let mut events: Vec<Event> = vec![
        GpuModelDeclared {
            event_id: EventId::from("GpuModelDeclared"),
            source: SourceId::from(SOURCE),
            model: GpuModelId::from(MODEL),
            memory_mib: MemoryMib(32_768),
            idle_w: PowerW(50),
            max_w: PowerW(300),
            nvlink_domain_size: Count(8),
            ..GpuModelDeclared::default()
        }
        .into(),
        SiteDeclared {
            event_id: EventId::from("SiteDeclared"),
            source: SourceId::from(SOURCE),
            site: SiteId::from(SITE),
            name: SITE.to_owned(),
            region: RegionId::from("own:pod"),
            grid_zone: ZoneId::from("DE-LU"),
            country: Name::from("DE"),
            design_pue_milli: Milli(1_200),
            ..SiteDeclared::default()
        }
        .into(),
        PoolDeclared {
            event_id: EventId::from("PoolDeclared"),
            source: SourceId::from(SOURCE),
            pool: PoolId::from(POOL),
            provider: ProviderId::from("metapod"),
            site: SiteId::from(SITE),
            class: CapacityClass::Owned,
            gpu_model: GpuModelId::from(MODEL),
            shape: shape.clone(),
            fabric: FabricKind::Infiniband,
            minimum_billing_us: DurationUs(HOUR_US),
            granularity_us: DurationUs(60 * SECOND_US),
            ..PoolDeclared::default()
        }
        .into(),
    ];
    for number in 0..nodes {
        let name = format!("node-{number:05}");
        let report = NodeReported {
            event_id: EventId::from(format!("node/{name}")),
            source: SourceId::from(SOURCE),
            node: NodeId::from(name.as_str()),
            pool: PoolId::from(POOL),
            gpus: (0..gpus)
                .map(|index| GpuReport {
                    index,
                    uuid: Name::from(format!("{name}-{index}")),
                    model: GpuModelId::from(MODEL),
                    memory_mib: MemoryMib(32_768),
                    nvlink_domain: None,
                    max_w: PowerW(300),
                })
                .collect(),
            cpu_milli: shape.cpu_milli,
            memory_mib: shape.memory_mib,
            scratch_gib: shape.scratch_gib,
            idle_w: PowerW(500),
            max_w: PowerW(500 + 300 * gpus),
            ..NodeReported::default()
        };
        events.push(report.into());
    }
    events
}
