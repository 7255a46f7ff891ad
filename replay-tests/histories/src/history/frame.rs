//! What a history begins with: sites, pools, tenants, prices, a policy.

use solyx_schemas::events::Event;
use solyx_schemas::events::capacity::*;
use solyx_schemas::events::facility::*;
use solyx_schemas::events::nodes::*;
use solyx_schemas::events::policy::*;
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

use super::{Executor, Luck, Mood};
use crate::{base_events, divisible, node, ordered_by, pool, site, usd};

pub(super) const SITES: [&str; 2] = ["pod", "annex"];
pub(super) const POOLS: [(&str, &str, CapacityClass); 5] = [
    ("pod/h100", "pod", CapacityClass::Owned),
    ("annex/h100", "annex", CapacityClass::Owned),
    ("annex/kept", "annex", CapacityClass::Reserved),
    ("annex/demand", "annex", CapacityClass::OnDemand),
    ("pod/spot", "pod", CapacityClass::Spot),
];
pub(super) const TENANTS: [&str; 4] = ["red", "blue", "red/a", "red/b"];
pub(super) const NODES: i64 = 6;

pub(super) fn element(at: &str, name: &str, parents: &[&str], limit_w: i64) -> Event {
    PowerElementDeclared {
        site: SiteId::from(at),
        element: ElementId::from(name),
        kind: if parents.is_empty() { ElementKind::UtilityFeed } else { ElementKind::Panel },
        parents: parents.iter().map(|p| ElementId::from(*p)).collect(),
        limit_w: PowerW(limit_w),
        derating_milli: Milli(900),
        ..PowerElementDeclared::default()
    }
    .into()
}

/// A fixed frame with random sizes.
pub fn frame(luck: &mut Luck) -> Vec<Event> {
    let mut events = base_events();
    for name in ["red/a", "red/b"] {
        events.push(tenant(name, Some("red"), 1_000));
    }
    events.push(divisible().into());
    events.push(site("annex").into());
    for (name, at, class) in POOLS.into_iter().skip(1) {
        events.push(pool_of(name, at, class));
        if !matches!(class, CapacityClass::Owned | CapacityClass::Reserved) {
            events.push(price(name, 2_000_000 + luck.below(1_000_000)));
        }
    }
    for at in SITES {
        let room = 7_000 + luck.below(14_000);
        events.push(element(at, "a", &[], room));
        events.push(element(at, "b", &[], room));
        events.push(element(at, "row", &["a", "b"], room));
        events.push(element(at, "pdu", &["a"], room / 2));
    }
    for i in 0..NODES {
        if luck.chance(85) {
            events.push(report(luck, i));
        }
    }
    events
}

/// All nodes in one pool, and nothing to be leased.
pub fn one_pool(events: &mut Vec<Event>) {
    let leased = |pool: &PoolId| ["annex/demand", "pod/spot"].contains(&pool.as_str());
    events.retain(|event| match event {
        Event::PoolDeclared(e) => !leased(&e.pool),
        Event::PoolPriced(e) => !leased(&e.pool),
        _ => true,
    });
    for event in events {
        if let Event::NodeReported(report) = event {
            report.pool = PoolId::from(POOLS[0].0);
        }
    }
}

/// What is said first, and who says what comes after; most of the wild histories have a policy under which plans are made.
pub fn beginning(luck: &mut Luck, mood: Mood) -> (Executor, Vec<Event>) {
    let mut events = frame(luck);
    if mood != Mood::Wild {
        events.retain(|event| mood == Mood::Shaken || !matches!(event, Event::PowerElementDeclared(_)));
        events.push(calm_policy(luck));
    } else if luck.chance(60) {
        let plan_interval = Some(Count(1 + luck.below(8)));
        events.push(SchedulingPolicySet { plan_interval, ..ordered_by("classic") }.into());
    }
    if matches!(mood, Mood::Crowded | Mood::Shaken) {
        one_pool(&mut events);
    }
    (Executor { mood, ..Executor::default() }, events)
}

/// A rule drawn at random, and leases that do not end.
pub fn calm_policy(luck: &mut Luck) -> Event {
    SchedulingPolicySet {
        run_lease_us: Some(DurationUs(100_000 * HOUR_US)),
        consolidation_budget_us: luck.chance(60).then(|| DurationUs((5 + luck.below(35)) * HOUR_US / 60)),
        ..ordered_by(luck.of::<&str>(&["share-surcharge", "classic", "fifo", "sjf", "las", "srpt"]))
    }
    .into()
}

pub(super) fn pool_of(name: &str, at: &str, class: CapacityClass) -> Event {
    let mut declared = pool(name, at, class);
    declared.shape.gpus = Count(4);
    declared.shape.scratch_gib = StorageGib(100);
    declared.into()
}

pub(super) fn price(pool: &str, micros: i64) -> Event {
    PoolPriced {
        pool: PoolId::from(pool),
        price_micros_per_gpu_hour: RateMicros(micros),
        currency: usd(),
        effective_from_us: TimeUs(0),
        ..PoolPriced::default()
    }
    .into()
}

pub(super) fn tenant(name: &str, parent: Option<&str>, weight: i64) -> Event {
    TenantDeclared {
        tenant: TenantId::from(name),
        parent: parent.map(TenantId::from),
        weight_milli: Milli(weight),
        billing_currency: usd(),
        invoice_day: Count(1),
        ..TenantDeclared::default()
    }
    .into()
}

/// A report of one of the standing nodes, which may contradict an earlier one.
pub(super) fn report(luck: &mut Luck, i: i64) -> Event {
    let home = [0, 0, 0, 1, 1, 2][i as usize];
    let home = if luck.chance(5) { luck.below(3) as usize } else { home };
    let gpus = if luck.chance(75) { 4 } else { 1 + luck.below(4) };
    let leaf = format!("leaf-{}", i / 2);
    let mut report = node(&format!("node-{i}"), POOLS[home].0, gpus, &leaf);
    report.cpu_milli = CpuMilli(if luck.chance(80) { 32_000 } else { 4_000 + luck.below(12_000) });
    report.memory_mib = MemoryMib(if luck.chance(80) { 64_000 } else { 4_000 + luck.below(20_000) });
    report.scratch_gib = StorageGib(if luck.chance(80) { 100 } else { luck.below(60) });
    report.rack = luck.chance(80).then(|| ElementId::from(format!("rack-{}", luck.below(3))));
    report.spine = luck.chance(80).then(|| Name::from(format!("spine-{}", i / 3)));
    report.idle_w = PowerW(if luck.chance(85) { 500 } else { 500 + luck.below(3_000) });
    let feed = |name: &str, share| FeedShare { element: ElementId::from(name), share_milli: Milli(share) };
    report.feeds = match luck.below(10) {
        0..4 => vec![feed("a", 400), feed("b", 600)],
        4..7 => vec![feed("row", 1_000)],
        7..9 => vec![feed("pdu", 500), feed("b", 500)],
        _ => Vec::new(),
    };
    report.into()
}
