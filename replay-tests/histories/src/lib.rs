//! A small world around a kernel: says events, steps epochs, checks what must always hold.
#![expect(clippy::unwrap_used, missing_docs, reason = "a test's world: it is to stop where it cannot go on")]

pub mod books;
pub mod budgets;
pub mod guarantees;
pub mod history;
pub mod kept_back;
pub mod kept_room;
pub mod ledger;
pub mod moves;
pub mod reasons;
pub mod set_aside;
pub mod shared_gpus;
pub mod stops;

use std::collections::BTreeMap;

use solyx_kernel::{Closed, Kernel, OpenEpoch, Seen};
use solyx_schemas::codec::{Codec, Decoded};
use solyx_schemas::epochs::Position;
use solyx_schemas::events::capacity::*;
use solyx_schemas::events::common::Sum;
use solyx_schemas::events::decisions::*;
use solyx_schemas::events::facility::*;
use solyx_schemas::events::jobs::*;
use solyx_schemas::events::nodes::*;
use solyx_schemas::events::policy::*;
use solyx_schemas::events::runs::*;
use solyx_schemas::events::{Event, EventBody};
use solyx_schemas::ids::*;
use solyx_schemas::topics::{Topic, TopicName};
use solyx_schemas::units::*;

pub const START: i64 = 1_693_785_600 * SECOND_US;

/// Wake-ups in a second of a world's time. More of them are one that comes again and again.
const WAKEUPS_MAX: usize = 1_000;

/// A kernel with the ordinals of its inputs.
#[derive(Clone)]
pub struct World {
    pub kernel: Kernel,
    pub now: i64,
    ordinals: BTreeMap<Topic, u64>,
    events: u64,
    pub running: BTreeMap<JobId, JobPlaced>,
    pub log: Vec<Event>,
    /// Leaves out the costly checks after each epoch; for laws that bring their own.
    pub quiet: bool,
}

impl World {
    pub fn empty() -> Self {
        Self {
            kernel: Kernel::new(CellId::from("test")),
            now: START,
            ordinals: BTreeMap::new(),
            events: 0,
            running: BTreeMap::new(),
            log: Vec::new(),
            quiet: false,
        }
    }

    /// A cell with one site, one owned pool of so many 8-GPU nodes, two tenants and two classes.
    pub fn with_nodes(nodes: usize) -> Self {
        let mut world = Self::empty();
        let mut events = base_events();
        for i in 0..nodes {
            events.push(node(&format!("node-{i:03}"), "pod/h100", 8, &format!("leaf-{}", i / 4)).into());
        }
        world.step(events);
        world
    }

    /// One epoch of these events; decisions come back, and what must always hold is checked.
    pub fn step(&mut self, events: Vec<Event>) -> Vec<Event> {
        self.close(events).outputs
    }

    pub fn close(&mut self, events: Vec<Event>) -> Closed {
        self.close_counting(events).0
    }

    /// The same, with the events that counted, in the order of application.
    pub fn close_counting(&mut self, mut events: Vec<Event>) -> (Closed, Vec<Event>) {
        for event in &mut events {
            self.events += 1;
            identify(event, self.events, self.now);
        }
        self.close_as_said(events)
    }

    /// The same of events with the ids and times that they have.
    pub fn close_as_said(&mut self, mut events: Vec<Event>) -> (Closed, Vec<Event>) {
        let codec = Codec::global();
        events.sort_by_key(|event| event.topic());
        let mut open = OpenEpoch::open(&mut self.kernel, self.now, 0);
        let mut counted = Vec::new();
        for event in &events {
            let ordinal = self.ordinals.entry(event.topic()).or_default();
            let record = codec.record(event, TopicName::live(event.topic()), 1);
            let decoded: Decoded = codec.decode_record(&record).unwrap();
            let position = Position::new(event.topic(), 0, *ordinal);
            *ordinal += 1;
            if open.take(position, &record.key, &record.value, Ok(&decoded), || Seen::New) {
                counted.push(event.clone());
            }
        }
        let closed = open.close(&|_| 1);
        for output in &closed.outputs {
            if let Event::JobPlaced(placed) = output {
                self.running.insert(placed.job.clone(), (**placed).clone());
            }
        }
        self.log.extend(closed.outputs.iter().cloned());
        if !self.quiet {
            check_invariants(&self.kernel);
            guarantees::check(self.kernel.state(), &closed);
        }
        (closed, counted)
    }

    /// Lets time pass to an instant, stopping at every wake-up.
    pub fn advance(&mut self, us: i64) -> Vec<Event> {
        let target = self.now + us;
        let mut outputs = Vec::new();
        let (mut since, mut wakeups) = (self.now, 0);
        while let Some(at) = self.kernel.next_wakeup().filter(|at| at.0 <= target) {
            self.now = at.0.max(self.now);
            outputs.extend(self.step(Vec::new()));
            (since, wakeups) = if self.now - since < SECOND_US { (since, wakeups + 1) } else { (self.now, 0) };
            assert!(wakeups < WAKEUPS_MAX, "{wakeups} wake-ups in less than a second, at {at:?}: one is never done");
        }
        self.now = target;
        outputs.extend(self.step(Vec::new()));
        outputs
    }

    pub fn finish(&self, job: &str) -> Event {
        let placed = &self.running[&JobId::from(job)];
        RunFinished {
            job: JobId::from(job),
            run: placed.run.clone(),
            exit_code: 0,
            work_us: WorkUs(HOUR_US),
            finished_us: TimeUs(self.now),
            ..RunFinished::default()
        }
        .into()
    }

    pub fn stopped(&self, job: &str, reason: StopReason) -> Event {
        let placed = &self.running[&JobId::from(job)];
        RunStopped {
            job: JobId::from(job),
            run: placed.run.clone(),
            reason,
            kept_work_us: WorkUs(0),
            stopped_us: TimeUs(self.now),
            ..RunStopped::default()
        }
        .into()
    }
}

pub fn identify(event: &mut Event, number: u64, now: i64) {
    let id = EventId::from(format!("e{number}"));
    let source = SourceId::from("test");
    let mut value = serde_json::to_value(&*event).unwrap();
    if value.get("event_id").is_some() {
        value["event_id"] = serde_json::json!(id.as_str());
        value["source"] = serde_json::json!(source.as_str());
        value["occurred_us"] = serde_json::json!(now);
        *event = again(event, value);
    }
}

fn again(event: &Event, value: serde_json::Value) -> Event {
    macro_rules! kinds {
        ($($name:ident),* $(,)?) => {
            match event {
                $( Event::$name(_) => Event::$name(Box::new(serde_json::from_value(value).unwrap())), )*
                other => panic!("{} is not used by these tests yet", other.name()),
            }
        };
    }
    kinds!(
        CellDeclared,
        FeatureEnabled,
        SchedulingPolicySet,
        CostWeightsSet,
        GpuModelDeclared,
        TenantDeclared,
        ScopeStateChanged,
        QuotaSet,
        BudgetSet,
        PriorityClassSet,
        RateCardSet,
        LeaseSold,
        SoldLeaseEnded,
        ReservationSet,
        ReservationCancelled,
        ReserveSet,
        PowerLimitSet,
        ExchangeRateSet,
        TenantKeyDestroyed,
        SiteDeclared,
        PowerElementDeclared,
        PowerElementStateChanged,
        PoolDeclared,
        PoolPriced,
        PoolAvailabilityReported,
        PoolWithdrawn,
        ProviderStateChanged,
        NodeReported,
        NodeStateChanged,
        NodeRemoved,
        GpuDegraded,
        NodeAttested,
        LinkMeasured,
        EgressPriced,
        EnergyPriced,
        CarbonReported,
        DatasetDeclared,
        ReplicaReported,
        InstanceLeased,
        InstanceLeaseRefused,
        InstanceLeaseEnded,
        JobRequested,
        JobRequestAmended,
        JobHoldSet,
        JobCancelRequested,
        RunStarted,
        RunCheckpointed,
        RunFinished,
        RunFailed,
        RunStopped,
        RunLeaseRenewed,
        UsageMetered,
        PlanPublished,
    )
}

/// What must hold after every epoch, whatever came.
pub fn check_invariants(kernel: &Kernel) {
    assert_eq!(kernel.state().violations(), Vec::<String>::new());
    let restored = Kernel::restore(kernel.snapshot()).expect("a snapshot of a sound kernel restores");
    assert_eq!(restored.next_wakeup(), kernel.next_wakeup(), "wake-ups after a restore");
    assert_eq!(restored.waiting_jobs(), kernel.waiting_jobs());
}

pub fn base_events() -> Vec<Event> {
    let class = |name: &str, value| PriorityClassSet {
        class: ClassId::from(name),
        value,
        preempts: false,
        preemptible: true,
        ..PriorityClassSet::default()
    };
    let tenant = |name: &str| TenantDeclared { tenant: TenantId::from(name), ..tenant_of_weight_one() };
    vec![
        CellDeclared {
            cell_id: CellId::from("test"),
            reference_currency: usd(),
            epoch_records_max: Count(65_536),
            epoch_bytes_max: Count(1 << 24),
            epoch_latency_max_us: DurationUs(5_000),
            ..CellDeclared::default()
        }
        .into(),
        class("standard", 100).into(),
        class("urgent", 200).into(),
        tenant("red").into(),
        tenant("blue").into(),
        GpuModelDeclared {
            model: GpuModelId::from("H100"),
            memory_mib: MemoryMib(81_920),
            idle_w: PowerW(70),
            max_w: PowerW(700),
            nvlink_domain_size: Count(8),
            ..GpuModelDeclared::default()
        }
        .into(),
        site("pod").into(),
        pool("pod/h100", "pod", CapacityClass::Owned).into(),
    ]
}

/// The cell's policy with this order rule.
pub fn ordered_by(rule: &str) -> SchedulingPolicySet {
    SchedulingPolicySet {
        scope: Name::from("cell"),
        order_rule: Name::from(rule),
        packing_rule: Name::from("solyx"),
        ..SchedulingPolicySet::default()
    }
}

/// A tenant that only lacks its name.
pub fn tenant_of_weight_one() -> TenantDeclared {
    TenantDeclared {
        weight_milli: Milli(1_000),
        billing_currency: usd(),
        invoice_day: Count(1),
        ..TenantDeclared::default()
    }
}

pub fn usd() -> Currency {
    Currency::parse("USD").unwrap()
}

pub fn site(name: &str) -> SiteDeclared {
    SiteDeclared {
        site: SiteId::from(name),
        name: name.to_owned(),
        region: RegionId::from("aws:eu-central-1"),
        grid_zone: ZoneId::from("DE-LU"),
        country: Name::from("DE"),
        design_pue_milli: Milli(1_200),
        ..SiteDeclared::default()
    }
}

pub fn pool(name: &str, at: &str, class: CapacityClass) -> PoolDeclared {
    PoolDeclared {
        pool: PoolId::from(name),
        provider: ProviderId::from("metapod"),
        site: SiteId::from(at),
        class,
        gpu_model: GpuModelId::from("H100"),
        shape: InstanceShape {
            instance_type: Name::from("h100x8"),
            gpus: Count(8),
            cpu_milli: CpuMilli(128_000),
            memory_mib: MemoryMib(1 << 20),
            gpu_memory_mib: MemoryMib(81_920),
            scratch_gib: StorageGib(1_000),
        },
        fabric: FabricKind::Infiniband,
        minimum_billing_us: DurationUs(HOUR_US),
        granularity_us: DurationUs(60 * SECOND_US),
        start_delay_us: DurationUs(0),
        ..PoolDeclared::default()
    }
}

pub fn node(name: &str, pool: &str, gpus: i64, leaf: &str) -> NodeReported {
    NodeReported {
        node: NodeId::from(name),
        pool: PoolId::from(pool),
        gpus: (0..gpus)
            .map(|index| GpuReport {
                index,
                uuid: Name::from(format!("{name}-{index}")),
                model: GpuModelId::from("H100"),
                memory_mib: MemoryMib(81_920),
                nvlink_domain: None,
                max_w: PowerW(700),
            })
            .collect(),
        cpu_milli: CpuMilli(128_000),
        memory_mib: MemoryMib(1 << 20),
        scratch_gib: StorageGib(1_000),
        idle_w: PowerW(1_000),
        max_w: PowerW(6_600),
        leaf: Some(Name::from(leaf)),
        ..NodeReported::default()
    }
}

/// The H100 with the placements that NVIDIA gives; of these each takes so many of eight slices.
pub fn divisible() -> GpuModelDeclared {
    let profile = |name: &str, memory_mib, slices, starts: &[i64]| MigProfile {
        profile: Name::from(name),
        memory_mib: MemoryMib(memory_mib),
        slices: Count(slices),
        starts: starts.to_vec(),
    };
    GpuModelDeclared {
        model: GpuModelId::from("H100"),
        memory_mib: MemoryMib(81_920),
        idle_w: PowerW(70),
        max_w: PowerW(700),
        nvlink_domain_size: Count(8),
        mig_profiles: vec![
            profile("1g.10gb", 9_728, 1, &[0, 1, 2, 3, 4, 5, 6]),
            profile("2g.20gb", 19_968, 2, &[0, 2, 4]),
            profile("3g.40gb", 40_192, 4, &[0, 4]),
            profile("7g.80gb", 81_152, 8, &[0]),
        ],
        ..GpuModelDeclared::default()
    }
}

/// A job of so many replicas, each an instance of a profile.
pub fn mig_job(name: &str, tenant: &str, replicas: i64, profile: &str, hours: i64) -> JobRequested {
    let mut request = job(name, tenant, replicas, 1, hours);
    request.gang.mig_profile = Some(Name::from(profile));
    request
}

/// A job of one tenant: replicas × GPUs for so many hours.
pub fn job(name: &str, tenant: &str, replicas: i64, gpus: i64, hours: i64) -> JobRequested {
    JobRequested {
        job: JobId::from(name),
        tenant: TenantId::from(tenant),
        kind: JobKind::Training,
        gang: Gang {
            replicas_min: Count(replicas),
            replicas_max: Count(replicas),
            gpus: Count(gpus),
            gpu_milli_each: GpuMilli(1_000),
            cpu_milli: CpuMilli(1_000 * gpus.max(1)),
            memory_mib: MemoryMib(1_024 * gpus.max(1)),
            ..Gang::default()
        },
        expected_work_us: (hours > 0).then_some(WorkUs(hours * HOUR_US)),
        class: ClassId::from("standard"),
        preemptible: true,
        checkpoint_interval_us: Some(DurationUs(HOUR_US / 2)),
        restore_us: Some(DurationUs(300 * SECOND_US)),
        ..JobRequested::default()
    }
}

/// A job's run says that it has started.
pub fn started(world: &World, job: &str) -> Event {
    let placed = &world.running[&JobId::from(job)];
    RunStarted {
        job: JobId::from(job),
        run: placed.run.clone(),
        decision: RefId::from("test/0/0/0"),
        nodes: placed.nodes.clone(),
        started_us: TimeUs(world.now),
        ..RunStarted::default()
    }
    .into()
}

/// A job's run says that so much of its work is durable.
pub fn checkpointed(world: &World, job: &str, work_us: i64) -> Event {
    RunCheckpointed {
        job: JobId::from(job),
        run: world.running[&JobId::from(job)].run.clone(),
        work_us: WorkUs(work_us),
        size_mib: MemoryMib(1),
        site: SiteId::from("pod"),
        durable_us: TimeUs(world.now),
        ..RunCheckpointed::default()
    }
    .into()
}

pub fn money(micros: i64) -> Sum {
    Sum { currency: usd(), micros: MoneyMicros(micros) }
}

pub fn placed<'a>(outputs: &'a [Event], job: &str) -> Option<&'a JobPlaced> {
    outputs.iter().find_map(|output| match output {
        Event::JobPlaced(placed) if placed.job.as_str() == job => Some(&**placed),
        _ => None,
    })
}

pub fn held<'a>(outputs: &'a [Event], job: &str) -> Option<&'a JobHeld> {
    outputs.iter().find_map(|output| match output {
        Event::JobHeld(held) if held.job.as_str() == job => Some(&**held),
        _ => None,
    })
}

/// The full name of an event type; keeps the trait in use where only names are compared.
pub fn name_of<E: EventBody>() -> &'static str {
    E::NAME
}
