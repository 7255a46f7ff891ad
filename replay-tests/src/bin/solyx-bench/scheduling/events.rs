//! The events of the measured workloads: a cell, a fleet, jobs. Sizes of their own come from a fixed sequence.

use solyx_schemas::events::Event;
use solyx_schemas::events::capacity::{CapacityClass, FabricKind, InstanceShape, PoolDeclared};
use solyx_schemas::events::facility::SiteDeclared;
use solyx_schemas::events::jobs::{Gang, JobKind, JobRequested};
use solyx_schemas::events::nodes::{GpuReport, NodeReported};
use solyx_schemas::events::policy::{CellDeclared, GpuModelDeclared, PriorityClassSet, TenantDeclared};
use solyx_schemas::events::runs::RunFinished;
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

/// How large something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizes {
    /// As all others of its kind.
    Alike,
    /// Every job and every node's remainder has a size of its own.
    Own,
}

/// What one node has or one job asks.
#[derive(Clone, Copy, Debug)]
pub struct Amounts {
    pub gpus: i64,
    pub cpu_milli: i64,
    pub memory_mib: i64,
}

/// A sequence of numbers (SplitMix64; Steele, Lea and Flood, OOPSLA 2014).
pub struct Sequence(pub u64);

impl Sequence {
    /// The next one in a range that includes its ends.
    pub fn within(&mut self, least: i64, most: i64) -> i64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        least + (z % (most - least + 1) as u64) as i64
    }
}

fn event_id(name: &str) -> (EventId, SourceId, TimeUs) {
    (EventId::from(name), SourceId::from("bench"), TimeUs(1))
}

macro_rules! named {
    ($id:expr, $type:ident { $($rest:tt)* }) => {{
        let (event_id, source, occurred_us) = event_id($id);
        Event::from($type { event_id, source, occurred_us, $($rest)* })
    }};
}

/// A cell with one site, one owned pool and so many tenants.
pub fn cell(tenants: usize) -> Vec<Event> {
    let currency = Currency::parse("USD").expect("a currency");
    let mut events = vec![
        named!(
            "cell",
            CellDeclared {
                cell_id: CellId::from("bench"),
                reference_currency: currency,
                epoch_records_max: Count(65_536),
                epoch_bytes_max: Count(1 << 24),
                epoch_latency_max_us: DurationUs(5_000),
                ..CellDeclared::default()
            }
        ),
        named!(
            "class",
            PriorityClassSet {
                class: ClassId::from("standard"),
                value: 100,
                preempts: false,
                preemptible: true,
                ..PriorityClassSet::default()
            }
        ),
        named!(
            "model",
            GpuModelDeclared {
                model: GpuModelId::from("H100"),
                memory_mib: MemoryMib(81_920),
                idle_w: PowerW(70),
                max_w: PowerW(700),
                nvlink_domain_size: Count(8),
                ..GpuModelDeclared::default()
            }
        ),
        named!(
            "site",
            SiteDeclared {
                site: SiteId::from("here"),
                name: "here".to_owned(),
                region: RegionId::from("aws:eu-central-1"),
                grid_zone: ZoneId::from("DE-LU"),
                country: Name::from("DE"),
                design_pue_milli: Milli(1_200),
                ..SiteDeclared::default()
            }
        ),
        named!(
            "pool",
            PoolDeclared {
                pool: PoolId::from("here/all"),
                provider: ProviderId::from("own"),
                site: SiteId::from("here"),
                class: CapacityClass::Owned,
                gpu_model: GpuModelId::from("H100"),
                shape: InstanceShape {
                    instance_type: Name::from("node"),
                    gpus: Count(8),
                    cpu_milli: CpuMilli(128_000),
                    memory_mib: MemoryMib(1 << 20),
                    gpu_memory_mib: MemoryMib(81_920),
                    scratch_gib: StorageGib(1_000),
                },
                fabric: FabricKind::Infiniband,
                minimum_billing_us: DurationUs(3_600_000_000),
                granularity_us: DurationUs(60_000_000),
                start_delay_us: DurationUs(0),
                ..PoolDeclared::default()
            }
        ),
    ];
    events.extend((0..tenants).map(|tenant| {
        named!(
            &format!("t{tenant}"),
            TenantDeclared {
                tenant: tenant_id(tenant),
                weight_milli: Milli(1_000),
                billing_currency: currency,
                invoice_day: Count(1),
                ..TenantDeclared::default()
            }
        )
    }));
    events.sort_by_key(Event::topic);
    events
}

fn tenant_id(tenant: usize) -> TenantId {
    TenantId::from(format!("tenant-{tenant:04}"))
}

/// A node.
pub fn node(number: usize, has: Amounts) -> Event {
    let name = format!("node-{number:06}");
    named!(
        &name,
        NodeReported {
            node: NodeId::from(name.as_str()),
            pool: PoolId::from("here/all"),
            gpus: (0..has.gpus)
                .map(|index| GpuReport {
                    index,
                    uuid: Name::from(format!("{name}-{index}")),
                    model: GpuModelId::from("H100"),
                    memory_mib: MemoryMib(81_920),
                    nvlink_domain: None,
                    max_w: PowerW(700),
                })
                .collect(),
            cpu_milli: CpuMilli(has.cpu_milli),
            memory_mib: MemoryMib(has.memory_mib),
            scratch_gib: StorageGib(1_000),
            idle_w: PowerW(300),
            max_w: PowerW(300 + 700 * has.gpus),
            ..NodeReported::default()
        }
    )
}

/// A job of one replica.
pub fn job(number: usize, tenants: usize, asks: Amounts) -> Event {
    let name = format!("job-{number:07}");
    named!(
        &name,
        JobRequested {
            job: JobId::from(name.as_str()),
            tenant: tenant_id(number % tenants),
            kind: JobKind::Batch,
            gang: Gang {
                replicas_min: Count(1),
                replicas_max: Count(1),
                gpus: Count(asks.gpus),
                gpu_milli_each: GpuMilli(1_000),
                cpu_milli: CpuMilli(asks.cpu_milli),
                memory_mib: MemoryMib(asks.memory_mib),
                ..Gang::default()
            },
            expected_work_us: Some(WorkUs(3_600_000_000)),
            class: ClassId::from("standard"),
            preemptible: true,
            ..JobRequested::default()
        }
    )
}

/// The end of a run.
pub fn finished(job: &JobId, run: &RunId, now_us: i64) -> Event {
    named!(
        &format!("end-{run}"),
        RunFinished {
            job: job.clone(),
            run: run.clone(),
            exit_code: 0,
            work_us: WorkUs(1_000_000),
            finished_us: TimeUs(now_us),
        }
    )
}
