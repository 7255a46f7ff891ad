//! Histories that a real kernel decided, for the view that asks its rules.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use serde_json::json;
use solyx_kernel::{Kernel, OpenEpoch, Seen};
use solyx_schemas::codec::Codec;
use solyx_schemas::epochs::{EpochBatch, InputRecord, Position};
use solyx_schemas::events::Event;
use solyx_schemas::events::capacity::*;
use solyx_schemas::events::decisions::JobPlaced;
use solyx_schemas::events::facility::SiteDeclared;
use solyx_schemas::events::jobs::*;
use solyx_schemas::events::nodes::{GpuReport, NodeReported};
use solyx_schemas::events::policy::*;
use solyx_schemas::events::runs::{RunCheckpointed, RunLeaseRenewed, RunStarted};
use solyx_schemas::events::world::EgressPriced;
use solyx_schemas::ids::*;
use solyx_schemas::json::{from_json, to_json};
use solyx_schemas::topics::{Topic, TopicName};
use solyx_schemas::units::*;

pub const START: i64 = 1_693_785_600 * SECOND_US;

/// A cell at work.
pub struct Cell {
    kernel: Kernel,
    pub now: i64,
    pub epochs: Vec<EpochBatch>,
    pub placed: BTreeMap<JobId, JobPlaced>,
    ordinals: BTreeMap<Topic, u64>,
    events: u64,
}

impl Cell {
    pub fn new() -> Self {
        Self {
            kernel: Kernel::new("cell-a".into()),
            now: START,
            epochs: Vec::new(),
            placed: BTreeMap::new(),
            ordinals: BTreeMap::new(),
            events: 0,
        }
    }

    /// Closes an epoch over these events, which must count.
    pub fn epoch(&mut self, events: Vec<Event>) -> &EpochBatch {
        let mut events: Vec<Event> = events.into_iter().map(|event| self.identified(&event)).collect();
        events.sort_by_key(Event::topic);
        let mut inputs = Vec::new();
        let mut open = OpenEpoch::open(&mut self.kernel, self.now, 0);
        for event in events {
            let ordinal = self.ordinals.entry(event.topic()).or_default();
            let position = Position::new(event.topic(), 0, *ordinal);
            *ordinal += 1;
            let record = Codec::global().record(&event, TopicName::live(event.topic()), 1);
            let decoded = Codec::global().decode_record(&record).unwrap();
            let counts = open.take(position, &record.key, &record.value, Ok(&decoded), || Seen::New);
            assert!(counts, "{} does not count", event.name());
            inputs.push(InputRecord { position, decoded: Some(decoded), skipped: None });
        }
        let closed = open.close(&|_| 1);
        for output in &closed.outputs {
            if let Event::JobPlaced(placed) = output {
                self.placed.insert(placed.job.clone(), (**placed).clone());
            }
        }
        self.epochs.push(EpochBatch {
            record: closed.record,
            chain_hash: closed.chain_hash,
            inputs,
            outputs: closed.outputs,
        });
        self.epochs.last().unwrap()
    }

    fn identified(&mut self, event: &Event) -> Event {
        self.events += 1;
        let mut value = to_json(event);
        value["event_id"] = json!(format!("e{}", self.events));
        value["source"] = json!("test");
        value["occurred_us"] = json!(self.now);
        from_json(&value).unwrap()
    }

    /// The run of a job that holds resources.
    pub fn live_run(&self, job: &str) -> Option<RunId> {
        self.kernel.state().jobs.get(&JobId::from(job)).and_then(|job| job.run.clone())
    }

    /// The run of a job has started, holds on for an hour more and has made so much work durable at a site.
    pub fn at_work(&self, job: &str, durable: Option<(i64, &str)>) -> Vec<Event> {
        let placed = &self.placed[&JobId::from(job)];
        let (job, run) = (placed.job.clone(), placed.run.clone());
        let started = RunStarted {
            job: job.clone(),
            run: run.clone(),
            decision: "cell-a/0/0/0".into(),
            nodes: placed.nodes.clone(),
            started_us: placed.start_us,
            ..RunStarted::default()
        };
        let renewed = RunLeaseRenewed {
            job: job.clone(),
            run: run.clone(),
            lease_until_us: TimeUs(self.now + HOUR_US),
            ..RunLeaseRenewed::default()
        };
        let checkpoint = durable.map(|(work_us, site)| RunCheckpointed {
            job,
            run,
            work_us: WorkUs(work_us),
            site: site.into(),
            durable_us: TimeUs(placed.start_us.0 + work_us),
            ..RunCheckpointed::default()
        });
        let mut events = vec![started.into(), renewed.into()];
        events.extend(checkpoint.map(Event::from));
        events
    }
}

/// A cell with our own sites `pod` (so many nodes, four to a leaf) and `north` (so many), and `lambda` in Virginia with so
/// many instances at 3 a GPU-hour; egress from Europe costs 0.05 a GB.
pub fn cell(pod: usize, north: usize, instances: i64) -> Cell {
    let class = |name: &str, value| PriorityClassSet {
        class: name.into(),
        value,
        preemptible: true,
        ..PriorityClassSet::default()
    };
    let lambda = PoolDeclared { start_delay_us: DurationUs(240 * SECOND_US), ..pool("lambda/h100", "virginia") };
    let lambda = PoolDeclared { provider: "lambda".into(), class: CapacityClass::OnDemand, ..lambda };
    let mut events: Vec<Event> = vec![
        CellDeclared {
            cell_id: "cell-a".into(),
            reference_currency: usd(),
            epoch_records_max: Count(65_536),
            epoch_bytes_max: Count(1 << 24),
            epoch_latency_max_us: DurationUs(5_000),
            ..CellDeclared::default()
        }
        .into(),
        SchedulingPolicySet {
            scope: "cell".into(),
            order_rule: "classic".into(),
            packing_rule: "solyx".into(),
            ..SchedulingPolicySet::default()
        }
        .into(),
        class("standard", 100).into(),
        class("urgent", 200).into(),
        TenantDeclared {
            tenant: "red".into(),
            weight_milli: Milli(1_000),
            billing_currency: usd(),
            invoice_day: Count(1),
            ..TenantDeclared::default()
        }
        .into(),
        GpuModelDeclared {
            model: "H100".into(),
            memory_mib: MemoryMib(81_920),
            idle_w: PowerW(70),
            max_w: PowerW(700),
            nvlink_domain_size: Count(8),
            ..GpuModelDeclared::default()
        }
        .into(),
        site("pod", "aws:eu-central-1").into(),
        site("north", "aws:eu-north-1").into(),
        site("virginia", "aws:us-east-1").into(),
        pool("pod/h100", "pod").into(),
        pool("north/h100", "north").into(),
        lambda.into(),
        PoolPriced {
            pool: "lambda/h100".into(),
            price_micros_per_gpu_hour: RateMicros(3_000_000),
            currency: usd(),
            effective_from_us: TimeUs(START),
            ..PoolPriced::default()
        }
        .into(),
        PoolAvailabilityReported {
            pool: "lambda/h100".into(),
            instances: Some(Count(instances)),
            ..PoolAvailabilityReported::default()
        }
        .into(),
        EgressPriced {
            from_region: "aws:eu-central-1".into(),
            to_region: "aws:us-east-1".into(),
            tiers: vec![solyx_schemas::events::world::EgressTier {
                price_micros_per_gb: RateMicros(50_000),
                ..Default::default()
            }],
            currency: usd(),
            ..EgressPriced::default()
        }
        .into(),
    ];
    events.extend((0..pod).map(|i| node(&format!("pod-{i}"), "pod/h100", &format!("leaf-{}", i / 4)).into()));
    events.extend((0..north).map(|i| node(&format!("zz-north-{i}"), "north/h100", "leaf").into()));
    let mut cell = Cell::new();
    cell.epoch(events);
    cell
}

pub fn usd() -> Currency {
    Currency::parse("USD").unwrap()
}

fn site(name: &str, region: &str) -> SiteDeclared {
    SiteDeclared {
        site: name.into(),
        name: name.to_owned(),
        region: region.into(),
        grid_zone: "DE-LU".into(),
        country: "DE".into(),
        design_pue_milli: Milli(1_200),
        ..SiteDeclared::default()
    }
}

pub fn pool(name: &str, site: &str) -> PoolDeclared {
    PoolDeclared {
        pool: name.into(),
        provider: "metapod".into(),
        site: site.into(),
        class: CapacityClass::Owned,
        gpu_model: "H100".into(),
        shape: InstanceShape {
            instance_type: "h100x8".into(),
            gpus: Count(8),
            cpu_milli: CpuMilli(128_000),
            memory_mib: MemoryMib(1 << 20),
            gpu_memory_mib: MemoryMib(81_920),
            scratch_gib: StorageGib(1_000),
        },
        fabric: FabricKind::Infiniband,
        minimum_billing_us: DurationUs(HOUR_US),
        granularity_us: DurationUs(60 * SECOND_US),
        ..PoolDeclared::default()
    }
}

pub fn node(name: &str, pool: &str, leaf: &str) -> NodeReported {
    let gpu = |index| GpuReport {
        index,
        uuid: format!("{name}-{index}").into(),
        model: "H100".into(),
        memory_mib: MemoryMib(81_920),
        nvlink_domain: None,
        max_w: PowerW(700),
    };
    NodeReported {
        node: name.into(),
        pool: pool.into(),
        gpus: (0..8).map(gpu).collect(),
        cpu_milli: CpuMilli(128_000),
        memory_mib: MemoryMib(1 << 20),
        scratch_gib: StorageGib(1_000),
        idle_w: PowerW(1_000),
        max_w: PowerW(6_600),
        leaf: Some(leaf.into()),
        ..NodeReported::default()
    }
}

/// A job of so many nodes for ten hours that restores in five minutes and wants to be back in half an hour.
pub fn job(name: &str, replicas: i64) -> JobRequested {
    JobRequested {
        job: name.into(),
        tenant: "red".into(),
        kind: JobKind::Training,
        gang: Gang {
            replicas_min: Count(replicas),
            replicas_max: Count(replicas),
            gpus: Count(8),
            gpu_milli_each: GpuMilli(1_000),
            cpu_milli: CpuMilli(8_000),
            memory_mib: MemoryMib(8_192),
            ..Gang::default()
        },
        expected_work_us: Some(WorkUs(10 * HOUR_US)),
        class: "standard".into(),
        preemptible: true,
        checkpoint_interval_us: Some(DurationUs(HOUR_US / 2)),
        checkpoint_mib: Some(MemoryMib(100 * 1_024)),
        restore_us: Some(DurationUs(300 * SECOND_US)),
        recovery: Some(RecoveryClass {
            rto_us: Some(DurationUs(HOUR_US / 2)),
            rpo_us: Some(DurationUs(HOUR_US)),
            spread: Some(SpreadLevel::Node),
        }),
        ..JobRequested::default()
    }
}
