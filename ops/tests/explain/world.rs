//! A small cell with one of everything, told through the binary.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use solyx_schemas::events::Event;
use solyx_schemas::events::capacity::*;
use solyx_schemas::events::facility::*;
use solyx_schemas::events::jobs::*;
use solyx_schemas::events::nodes::*;
use solyx_schemas::events::plans::{AvailabilityScripted, ExecutorScripted};
use solyx_schemas::events::policy::*;
use solyx_schemas::events::world::{EnergyPriced, PriceKind};
use solyx_schemas::json::to_json;
use solyx_schemas::units::*;

/// Midnight of 4 September 2023, UTC.
const START_US: i64 = 1_693_785_600_000_000;

/// So many minutes after the start.
pub fn at(minutes: i64) -> TimeUs {
    TimeUs(START_US + minutes * 60 * SECOND_US)
}

/// A world in a directory of its own.
pub struct World {
    dir: tempfile::TempDir,
    events: u64,
}

impl World {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), events: 0 }
    }

    fn solyx(&self, arguments: &[&str], input: &str) -> String {
        let world = self.dir.path().display().to_string();
        let mut child = Command::new(env!("CARGO_BIN_EXE_solyx"))
            .args(arguments)
            .args(["--log", &world])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {} {}", text(output.stdout), text(output.stderr));
        text(output.stdout)
    }

    /// These events happen so many minutes after the start.
    pub fn at(&mut self, minutes: i64, events: Vec<Event>) {
        let mut lines = String::new();
        for event in events {
            self.events += 1;
            let mut value: Value = to_json(&event);
            let occurred =
                if value.get("published_us").is_some() { value["published_us"].clone() } else { json!(at(minutes)) };
            value["event_id"] = json!(format!("e{}", self.events));
            value["source"] = json!("test");
            value["occurred_us"] = occurred;
            lines += &format!("{value}\n");
        }
        self.solyx(&["publish", "-", "--staged"], &lines);
    }

    pub fn run_until(&mut self, minutes: i64) {
        self.solyx(&["run", "--virtual", "--until", &rfc3339(at(minutes))], "");
    }

    pub fn explain(&self, job: &str) -> String {
        self.solyx(&["explain", job], "")
    }
}

pub fn usd() -> Currency {
    Currency::parse("USD").unwrap()
}

fn site(name: &str, country: &str, zone: &str) -> Event {
    SiteDeclared {
        site: name.into(),
        name: name.to_owned(),
        region: "aws:eu-central-1".into(),
        grid_zone: zone.into(),
        country: country.into(),
        design_pue_milli: Milli(1_200),
        ..SiteDeclared::default()
    }
    .into()
}

fn model(name: &str) -> Event {
    GpuModelDeclared {
        model: name.into(),
        memory_mib: MemoryMib(81_920),
        idle_w: PowerW(70),
        max_w: PowerW(700),
        nvlink_domain_size: Count(8),
        ..GpuModelDeclared::default()
    }
    .into()
}

/// A pool with its price.
fn pool(name: &str, site: &str, model: &str, class: CapacityClass, price_micros: i64) -> Vec<Event> {
    let declared = PoolDeclared {
        pool: name.into(),
        provider: if class == CapacityClass::Owned { "own".into() } else { "lambda".into() },
        site: site.into(),
        class,
        gpu_model: model.into(),
        shape: InstanceShape {
            instance_type: "8x".into(),
            gpus: Count(8),
            cpu_milli: CpuMilli(128_000),
            memory_mib: MemoryMib(1 << 20),
            gpu_memory_mib: MemoryMib(81_920),
            scratch_gib: StorageGib(1_000),
        },
        fabric: FabricKind::Infiniband,
        minimum_billing_us: DurationUs(HOUR_US),
        granularity_us: DurationUs(60 * SECOND_US),
        start_delay_us: DurationUs(if class == CapacityClass::Owned { 0 } else { 240 * SECOND_US }),
        ..PoolDeclared::default()
    };
    let price = PoolPriced {
        pool: name.into(),
        price_micros_per_gpu_hour: RateMicros(price_micros),
        currency: usd(),
        effective_from_us: at(0),
        ..PoolPriced::default()
    };
    vec![declared.into(), price.into()]
}

fn node(name: &str, pool: &str, model: &str, leaf: &str, feed: Option<&str>) -> Event {
    NodeReported {
        node: name.into(),
        pool: pool.into(),
        gpus: (0..8)
            .map(|index| GpuReport {
                index,
                uuid: format!("{name}-{index}").into(),
                model: model.into(),
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
        leaf: Some(leaf.into()),
        feeds: feed.map(|feed| FeedShare { element: feed.into(), share_milli: Milli(1_000) }).into_iter().collect(),
        ..NodeReported::default()
    }
    .into()
}

/// One of everything: a cheap site and a dear one, a provider, a cellar with too little power.
pub fn fleet() -> Vec<Event> {
    let tenant = |name: &str| TenantDeclared {
        tenant: name.into(),
        weight_milli: Milli(1_000),
        billing_currency: usd(),
        invoice_day: Count(1),
        ..TenantDeclared::default()
    };
    let class =
        PriorityClassSet { class: "standard".into(), value: 100, preemptible: true, ..PriorityClassSet::default() };
    let policy = SchedulingPolicySet {
        scope: "cell".into(),
        order_rule: "share-surcharge".into(),
        packing_rule: "solyx".into(),
        deferral_max_us: Some(DurationUs(12 * HOUR_US)),
        deferral_saving_min_milli: Some(Milli(100)),
        ..SchedulingPolicySet::default()
    };
    let quota = QuotaSet {
        tenant: "red".into(),
        guaranteed_milli: GpuMilli(8_000),
        borrowing_limit_milli: Some(GpuMilli(0)),
        over_quota_weight_milli: Some(Milli(1_000)),
        ..QuotaSet::default()
    };
    let grey = ScopeStateChanged {
        scope_kind: ScopeKind::Tenant,
        scope: "grey".into(),
        state: ScopeState::Cordoned,
        actor: "operator".into(),
        reason: "unpaid".to_owned(),
        ..ScopeStateChanged::default()
    };
    let feed = PowerElementDeclared {
        site: "cellar".into(),
        element: "feed".into(),
        kind: ElementKind::UtilityFeed,
        limit_w: PowerW(4_000),
        derating_milli: Milli(1_000),
        ..PowerElementDeclared::default()
    };
    let executor = ExecutorScripted {
        executor: "simulated".into(),
        seed: Count(1),
        stop_delay_us: DurationUs(10 * SECOND_US),
        repair_us: DurationUs(HOUR_US),
        busy_power_milli: Milli(800),
        ..ExecutorScripted::default()
    };
    let there = AvailabilityScripted {
        pool: "lambda/a10".into(),
        from_us: at(0),
        instances: Count(4),
        ..AvailabilityScripted::default()
    };
    let to_be_had = PoolAvailabilityReported {
        pool: "lambda/a10".into(),
        instances: Some(Count(4)),
        ..PoolAvailabilityReported::default()
    };
    let cell = CellDeclared {
        cell_id: "cell".into(),
        reference_currency: usd(),
        epoch_records_max: Count(65_536),
        epoch_bytes_max: Count(1 << 24),
        epoch_latency_max_us: DurationUs(5_000),
        ..CellDeclared::default()
    };
    let price = |zone: &str, from: i64, to: i64, micros: i64| EnergyPriced {
        zone: zone.into(),
        from_us: at(from * 60),
        to_us: at(to * 60),
        price_micros_per_mwh: RateMicros(micros),
        currency: usd(),
        kind: PriceKind::DayAhead,
        published_us: at(0),
        ..EnergyPriced::default()
    };
    let mut events: Vec<Event> = vec![cell.into(), policy.into(), class.into(), quota.into(), grey.into()];
    events.extend(["blue", "red", "green", "grey"].map(|name| tenant(name).into()));
    events.extend(["H100", "H200", "B200", "A10", "MI300"].map(model));
    events.extend([
        site("pod", "DE", "DE-LU"),
        site("far", "DE", "DE-LU"),
        site("cellar", "DE", "DE-LU"),
        site("green", "NO", "NO-2"),
        site("virginia", "US", "US-MIDA"),
    ]);
    events.extend([feed.into(), executor.into(), there.into(), to_be_had.into()]);
    // Dear until three in the morning at one site, then cheap.
    events.extend([
        price("DE-LU", 0, 48, 100_000_000).into(),
        price("NO-2", 0, 3, 300_000_000).into(),
        price("NO-2", 3, 48, 20_000_000).into(),
    ]);
    events.extend(pool("pod/h100", "pod", "H100", CapacityClass::Owned, 1_000_000));
    events.extend(pool("pod/h200", "pod", "H200", CapacityClass::Owned, 1_500_000));
    events.extend(pool("far/h200", "far", "H200", CapacityClass::Owned, 1_600_000));
    events.extend(pool("green/b200", "green", "B200", CapacityClass::Owned, 0));
    events.extend(pool("cellar/mi300", "cellar", "MI300", CapacityClass::Owned, 500_000));
    events.extend(pool("lambda/a10", "virginia", "A10", CapacityClass::OnDemand, 750_000));
    events.extend([
        node("pod-1", "pod/h100", "H100", "leaf-1", None),
        node("pod-2", "pod/h100", "H100", "leaf-1", None),
        node("pod-3", "pod/h200", "H200", "leaf-2", None),
        node("far-1", "far/h200", "H200", "leaf-1", None),
        node("far-2", "far/h200", "H200", "leaf-2", None),
        node("green-1", "green/b200", "B200", "leaf-1", None),
        node("cellar-1", "cellar/mi300", "MI300", "leaf-1", Some("feed")),
    ]);
    events
}

pub fn gang(replicas: i64, gpus: i64) -> Gang {
    Gang {
        replicas_min: Count(replicas),
        replicas_max: Count(replicas),
        gpus: Count(gpus),
        gpu_milli_each: GpuMilli(1_000),
        cpu_milli: CpuMilli(1_000),
        memory_mib: MemoryMib(1_024),
        ..Gang::default()
    }
}

pub fn models(names: &[&str]) -> Vec<ModelChoice> {
    names.iter().map(|name| ModelChoice { model: (*name).into(), speed_milli: Milli(1_000) }).collect()
}

/// One GPU for so many hours.
pub fn job(name: &str, tenant: &str, hours: i64) -> JobRequested {
    JobRequested {
        job: name.into(),
        tenant: tenant.into(),
        kind: JobKind::Training,
        gang: gang(1, 1),
        expected_work_us: Some(WorkUs(hours * HOUR_US)),
        class: "standard".into(),
        preemptible: true,
        checkpoint_interval_us: Some(DurationUs(HOUR_US / 2)),
        restore_us: Some(DurationUs(300 * SECOND_US)),
        ..JobRequested::default()
    }
}
