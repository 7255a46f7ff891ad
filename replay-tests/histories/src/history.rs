//! Random worlds and what happens in them: everything follows from a seed.

use std::collections::BTreeMap;

use solyx_schemas::events::Event;
use solyx_schemas::events::capacity::*;
use solyx_schemas::events::common::Sum;
use solyx_schemas::events::facility::*;
use solyx_schemas::events::jobs::*;
use solyx_schemas::events::nodes::*;
use solyx_schemas::events::policy::*;
use solyx_schemas::events::runs::*;
use solyx_schemas::events::world::*;
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

use super::{base_events, divisible, job, node, ordered_by, pool, site, usd};

/// A stream of numbers (splitmix64).
#[derive(Clone)]
pub struct Luck(pub u64);

impl Luck {
    pub fn below(&mut self, n: i64) -> i64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % n as u64) as i64
    }

    pub fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len() as i64) as usize]
    }

    pub fn chance(&mut self, percent: i64) -> bool {
        self.below(100) < percent
    }
}

const SITES: [&str; 2] = ["pod", "annex"];
const POOLS: [(&str, &str, CapacityClass); 5] = [
    ("pod/h100", "pod", CapacityClass::Owned),
    ("annex/h100", "annex", CapacityClass::Owned),
    ("annex/kept", "annex", CapacityClass::Reserved),
    ("annex/demand", "annex", CapacityClass::OnDemand),
    ("pod/spot", "pod", CapacityClass::Spot),
];
const TENANTS: [&str; 4] = ["red", "blue", "red/a", "red/b"];
const NODES: i64 = 6;

fn element(at: &str, name: &str, parents: &[&str], limit_w: i64) -> Event {
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

fn pool_of(name: &str, at: &str, class: CapacityClass) -> Event {
    let mut declared = pool(name, at, class);
    declared.shape.gpus = Count(4);
    declared.shape.scratch_gib = StorageGib(100);
    declared.into()
}

fn price(pool: &str, micros: i64) -> Event {
    PoolPriced {
        pool: PoolId::from(pool),
        price_micros_per_gpu_hour: RateMicros(micros),
        currency: usd(),
        effective_from_us: TimeUs(0),
        ..PoolPriced::default()
    }
    .into()
}

fn tenant(name: &str, parent: Option<&str>, weight: i64) -> Event {
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
fn report(luck: &mut Luck, i: i64) -> Event {
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

/// How much happens in a history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    /// Anything.
    #[default]
    Wild,
    /// Little: long jobs that checkpoint, and room that nobody waits for.
    Calm,
    /// Only jobs, of fixed sizes, and more than there is room for.
    Crowded,
    /// The same, and now and then anything.
    Shaken,
}

/// Reports about what was decided, some of them kept back, repeated or wrong.
#[derive(Clone, Default)]
pub struct Executor {
    runs: BTreeMap<RunId, JobId>,
    leased: Vec<(PoolId, InstanceId)>,
    late: Vec<Event>,
    jobs: i64,
    /// What happens beside them.
    pub mood: Mood,
}

impl Executor {
    /// Sees an epoch's decisions.
    pub fn sees(&mut self, luck: &mut Luck, now: i64, outputs: &[Event]) {
        for output in outputs {
            match output {
                Event::JobPlaced(e) => {
                    self.runs.insert(e.run.clone(), e.job.clone());
                    let (job, run) = (e.job.clone(), e.run.clone());
                    let nodes = e.nodes.clone();
                    // Without one a report does not count.
                    let counts = self.mood != Mood::Wild || luck.chance(60);
                    let decision = RefId::from(if counts { "test/0/0/0" } else { "" });
                    self.late.push(
                        RunStarted { job, run, nodes, started_us: TimeUs(now), decision, ..RunStarted::default() }
                            .into(),
                    );
                }
                Event::JobPreempted(e) => self.stops(luck, now, &e.job, &e.run, StopReason::Preempted),
                Event::JobResized(e) => self.stops(luck, now, &e.job, &e.run, StopReason::Resized),
                Event::JobMigrated(e) => self.stops(luck, now, &e.job, &e.run, StopReason::Migrated),
                Event::JobCancelled(e) => {
                    if let Some(run) = &e.run {
                        self.stops(luck, now, &e.job, run, StopReason::Cancelled);
                    }
                }
                Event::CapacityLeaseOrdered(e) => {
                    let order = RefId::from(&*output.identity().id);
                    for i in 0..e.instances.0 {
                        if luck.chance(80) {
                            let instance = InstanceId::from(format!("i-{}-{i}", order.as_str().replace('/', "-")));
                            self.leased.push((e.pool.clone(), instance.clone()));
                            self.late.push(
                                InstanceLeased {
                                    pool: e.pool.clone(),
                                    instance,
                                    order: order.clone(),
                                    price_micros_per_gpu_hour: e.price_micros_per_gpu_hour,
                                    currency: e.currency,
                                    from_us: TimeUs(now),
                                    ..InstanceLeased::default()
                                }
                                .into(),
                            );
                        } else {
                            self.late.push(
                                InstanceLeaseRefused {
                                    pool: e.pool.clone(),
                                    order: order.clone(),
                                    instances: Count(1),
                                    reason: LeaseReason::NoCapacity,
                                    ..InstanceLeaseRefused::default()
                                }
                                .into(),
                            );
                        }
                    }
                }
                Event::CapacityReleaseOrdered(e) => {
                    for instance in &e.instances {
                        self.late.push(ended(&e.pool, instance, now));
                    }
                }
                _ => {}
            }
        }
    }

    fn stops(&mut self, luck: &mut Luck, now: i64, job: &JobId, run: &RunId, reason: StopReason) {
        let stopped = RunStopped {
            job: job.clone(),
            run: run.clone(),
            reason,
            kept_work_us: WorkUs(luck.below(1_000_000)),
            stopped_us: TimeUs(now),
            ..RunStopped::default()
        };
        self.late.push(stopped.into());
    }

    /// What is said in the next epoch: due reports in any order, and anything else that may come.
    pub fn says(&mut self, luck: &mut Luck, now: i64) -> Vec<Event> {
        let mut events = Vec::new();
        let late = std::mem::take(&mut self.late);
        for report in late {
            match luck.below(10) {
                0..6 => events.push(report),
                6 => {
                    events.push(report.clone());
                    self.late.push(report);
                }
                _ => self.late.push(report),
            }
        }
        let runs: Vec<(RunId, JobId)> = self.runs.iter().map(|(r, j)| (r.clone(), j.clone())).collect();
        for (run, job) in runs {
            if self.mood != Mood::Wild {
                if luck.chance(50) {
                    events.push(checkpointed(luck, now, &run, &job));
                }
                if luck.chance(if self.mood == Mood::Calm { 6 } else { 10 }) {
                    let (job, run) = (job.clone(), run.clone());
                    events.push(RunFinished { job, run, finished_us: TimeUs(now), ..RunFinished::default() }.into());
                }
                continue;
            }
            if luck.chance(15) {
                events.push(self.about(luck, now, &run, &job));
            }
            if luck.chance(15) {
                events.push(checkpointed(luck, now, &run, &job));
            }
        }
        if self.mood != Mood::Wild {
            let many = if self.mood == Mood::Calm { i64::from(luck.chance(14)) } else { luck.below(4) };
            for _ in 0..many {
                events.push(self.long_request(luck, now));
            }
            if self.mood == Mood::Shaken && luck.chance(40) {
                events.push(self.change(luck, now));
            }
        } else {
            for _ in 0..luck.below(4) {
                events.push(self.request(luck, now));
            }
            for _ in 0..luck.below(3) {
                events.push(self.change(luck, now));
            }
        }
        // Nothing promises an order.
        for i in (1..events.len()).rev() {
            let j = luck.below(i as i64 + 1) as usize;
            events.swap(i, j);
        }
        events
    }

    fn about(&mut self, luck: &mut Luck, now: i64, run: &RunId, job: &JobId) -> Event {
        let (job, run) = (job.clone(), run.clone());
        match luck.below(10) {
            0..3 => RunFinished { job, run, exit_code: 0, finished_us: TimeUs(now), ..RunFinished::default() }.into(),
            3 => {
                let category = *luck.of(&[
                    FailureCategory::OutOfMemory,
                    FailureCategory::Gpu,
                    FailureCategory::Node,
                    FailureCategory::UserCode,
                    FailureCategory::Network,
                ]);
                let node = luck.chance(50).then(|| NodeId::from(format!("node-{}", luck.below(NODES))));
                RunFailed { job, run, category, node, failed_us: TimeUs(now), ..RunFailed::default() }.into()
            }
            4 => RunStopped {
                job,
                run,
                reason: *luck.of(&[StopReason::Preempted, StopReason::Cancelled, StopReason::Resized]),
                stopped_us: TimeUs(now),
                ..RunStopped::default()
            }
            .into(),
            5 => checkpointed(luck, now, &run, &job),
            _ => RunLeaseRenewed {
                job,
                run,
                lease_until_us: TimeUs(now + luck.below(HOUR_US)),
                ..RunLeaseRenewed::default()
            }
            .into(),
        }
    }

    fn request(&mut self, luck: &mut Luck, now: i64) -> Event {
        self.jobs += 1;
        let name = format!("job-{}", self.jobs);
        let tenant = *luck.of(&TENANTS);
        let mut request = job(&name, tenant, 1 + luck.below(3), 1 + luck.below(4), luck.below(4));
        if luck.chance(40) {
            request.gang.gpus = Count(1);
            request.gang.gpu_milli_each = GpuMilli(100 * (1 + luck.below(9)));
        }
        if luck.chance(8) {
            request.gang.gpus = Count(0);
        }
        if luck.chance(40) {
            request.gang.replicas_max.0 += luck.below(4);
        }
        request.gang.cpu_milli = CpuMilli(luck.below(9_000));
        request.gang.memory_mib = MemoryMib(luck.below(12_000));
        request.gang.memory_max_mib = luck.chance(30).then_some(MemoryMib(20_000));
        request.gang.scratch_gib = luck.chance(30).then(|| StorageGib(luck.below(40)));
        request.gang.exclusive_node = luck.chance(8);
        if luck.chance(25) {
            let level = *luck.of(&[TopologyLevel::Leaf, TopologyLevel::NvlinkDomain, TopologyLevel::Rack]);
            request.topology = Some(Topology { required: Some(level), ..Topology::default() });
        }
        if luck.chance(25) {
            let other = luck.of(&["H100", "A100", "V100"]);
            let names = std::collections::BTreeSet::from(["H100", *other]);
            let choice = |name| ModelChoice { model: GpuModelId::from(name), speed_milli: Milli(1_000) };
            request.models = names.into_iter().rev().map(choice).collect();
        }
        if luck.chance(12) {
            let segment = 1 + luck.below(2);
            request.gang.replicas_min = Count(segment * (1 + luck.below(3)));
            request.gang.replicas_max = request.gang.replicas_min;
            let level = *luck.of(&[TopologyLevel::Leaf, TopologyLevel::Rack, TopologyLevel::NvlinkDomain]);
            let (required, segment_min) = (Some(level), Some(Count(segment)));
            request.topology = Some(Topology { required, segment_min, ..Topology::default() });
        } else if luck.chance(15) {
            let level = *luck.of(&[SpreadLevel::Node, SpreadLevel::Rack, SpreadLevel::Feed, SpreadLevel::Site]);
            let topology = request.topology.get_or_insert_default();
            (topology.spread, topology.skew_max) = (Some(level), Some(Count(luck.below(3))));
        } else if luck.chance(15) {
            let preferred = Some(*luck.of(&[TopologyLevel::Leaf, TopologyLevel::Spine]));
            request.topology.get_or_insert_default().preferred = preferred;
        }
        if self.jobs % 4 == 2 && request.gang.gpus.0 > 0 {
            let profiles = ["1g.10gb", "2g.20gb", "1g.10gb", "3g.40gb"];
            request.gang.mig_profile = Some(Name::from(profiles[(self.jobs / 4 % 4) as usize]));
            request.gang.gpus.0 = request.gang.gpus.0.min(2);
            request.gang.gpu_milli_each = GpuMilli(1_000);
        }
        request.gang.gpu_of_one_tenant = (self.jobs % 7 < 2).then_some(self.jobs % 7 == 0);
        request.project = luck.chance(30).then(|| ProjectId::from("p"));
        let pair = self.jobs / 2;
        if pair % 5 == 1 {
            request.tenant = TenantId::from(TENANTS[(pair % 4) as usize]);
            request.job_set = Some(JobSet { set: RefId::from(format!("set-{pair}")), size: Count(2) });
        }
        request.attestation_required = luck.chance(10);
        request.class = ClassId::from(*luck.of(&["standard", "standard", "urgent"]));
        if luck.chance(15) {
            request.not_before_us = Some(TimeUs(now + luck.below(HOUR_US)));
        }
        if luck.chance(10) {
            request.deadline_us = Some(TimeUs(now + 2 * HOUR_US + luck.below(8 * HOUR_US)));
        }
        if luck.chance(20) {
            request.checkpoint_interval_us = None;
        }
        request.preemptible = !luck.chance(30);
        if luck.chance(15) {
            request.reservation = Some(RefId::from(format!("reservation-{}", luck.below(3))));
        } else if luck.chance(20) {
            request.sold_lease = Some(RefId::from(format!("lease-{}", luck.below(3))));
        }
        if (request.reservation.is_some() || request.sold_lease.is_some()) && luck.chance(70) {
            // Mostly one that may draw.
            request.tenant = TenantId::from("red");
            request.gang.replicas_min = Count(1);
            request.gang.replicas_max = Count(1);
        }
        if luck.chance(10) && self.jobs > 1 {
            request.depends_on = vec![Dependency {
                job: JobId::from(format!("job-{}", 1 + luck.below(self.jobs - 1))),
                condition: *luck.of(&[DependencyCondition::Ok, DependencyCondition::Any]),
            }];
        }
        request.into()
    }

    fn long_request(&mut self, luck: &mut Luck, now: i64) -> Event {
        let Event::JobRequested(mut request) = self.request(luck, now) else { unreachable!() };
        request.expected_work_us = Some(WorkUs((10 + luck.below(50)) * HOUR_US));
        (request.deadline_us, request.not_before_us) = (None, None);
        if self.mood == Mood::Calm {
            request.gang.gpus.0 = request.gang.gpus.0.min(2);
            request.gang.replicas_max.0 += luck.below(3);
        } else {
            if luck.chance(75) {
                (request.gang.replicas_min, request.gang.gpus) = (Count(1), Count(1));
                request.topology = None;
            } else if luck.chance(60) {
                (request.gang.replicas_min, request.gang.gpus) = (Count(1), Count(3 + luck.below(2)));
                (request.gang.gpu_milli_each, request.topology) = (GpuMilli(1_000), None);
            }
            request.preemptible = !luck.chance(10);
            request.gang.replicas_max = request.gang.replicas_min;
            request.job_set = None;
        }
        request.depends_on.clear();
        request.attestation_required = false;
        Event::JobRequested(request)
    }

    fn change(&mut self, luck: &mut Luck, now: i64) -> Event {
        let some_node = NodeId::from(format!("node-{}", luck.below(NODES)));
        let at = SiteId::from(*luck.of(&SITES));
        let some_element = ElementId::from(*luck.of(&["a", "b", "row", "pdu"]));
        let some_job = JobId::from(format!("job-{}", 1 + luck.below(self.jobs.max(1))));
        match luck.below(26) {
            22..26 => contract(luck, now),
            0..4 => {
                let i = luck.below(NODES);
                report(luck, i)
            }
            4..6 => NodeStateChanged {
                node: some_node,
                state: *luck.of(&[
                    NodeState::Ready,
                    NodeState::Ready,
                    NodeState::Cordoned,
                    NodeState::Draining,
                    NodeState::Down,
                    NodeState::Fenced,
                ]),
                ..NodeStateChanged::default()
            }
            .into(),
            6 => NodeRemoved { node: some_node, ..NodeRemoved::default() }.into(),
            7 => GpuDegraded {
                node: some_node,
                gpu_index: luck.below(4),
                fault: GpuFault::Ecc,
                action: *luck.of(&[GpuAction::Replace, GpuAction::Restore]),
                ..GpuDegraded::default()
            }
            .into(),
            8..10 => NodeAttested {
                node: some_node,
                method: AttestationMethod::Tpm20,
                verdict: *luck.of(&[
                    AttestationVerdict::Passed,
                    AttestationVerdict::Passed,
                    AttestationVerdict::Failed,
                ]),
                evidence_digest: Name::from("0".repeat(64)),
                valid_until_us: TimeUs(now + luck.below(2 * HOUR_US)),
                ..NodeAttested::default()
            }
            .into(),
            10..12 => PowerLimitSet {
                limit: RefId::from(format!("limit-{}", luck.below(3))),
                site: at,
                element: luck.chance(70).then_some(some_element),
                limit_w: PowerW(3_000 + luck.below(12_000)),
                from_us: TimeUs(now + luck.below(3) * HOUR_US / 2),
                to_us: luck.chance(80).then(|| TimeUs(now + HOUR_US + luck.below(2) * HOUR_US)),
                reason: "test".to_owned(),
                ..PowerLimitSet::default()
            }
            .into(),
            12 => PowerElementStateChanged {
                site: at,
                element: some_element,
                state: *luck.of(&[ElementState::InService, ElementState::InService, ElementState::Failed]),
                ..PowerElementStateChanged::default()
            }
            .into(),
            13 => {
                let limit = 6_000 + luck.below(14_000);
                match some_element.as_str() {
                    "row" => element(at.as_str(), "row", &["a", "b"], limit),
                    "pdu" => element(at.as_str(), "pdu", luck.of(&[&["a"], &["b"]]).as_slice(), limit / 2),
                    root => element(at.as_str(), root, &[], limit),
                }
            }
            14..16 => QuotaSet {
                tenant: TenantId::from(*luck.of(&TENANTS)),
                project: luck.chance(20).then(|| ProjectId::from("p")),
                gpu_model: luck.chance(30).then(|| GpuModelId::from("H100")),
                guaranteed_milli: GpuMilli(luck.below(6) * 1_000),
                borrowing_limit_milli: luck.chance(90).then(|| GpuMilli(luck.below(6) * 1_000)),
                ..QuotaSet::default()
            }
            .into(),
            16 => ScopeStateChanged {
                scope_kind: *luck.of(&[ScopeKind::Pool, ScopeKind::Site, ScopeKind::Tenant]),
                scope: RefId::from(*luck.of(&["pod/h100", "pod", "annex", "annex/demand", "red", "blue"])),
                state: *luck.of(&[ScopeState::Open, ScopeState::Open, ScopeState::Cordoned, ScopeState::Drained]),
                actor: Name::from("test"),
                reason: "test".to_owned(),
                ..ScopeStateChanged::default()
            }
            .into(),
            17 => match luck.below(3) {
                0 => {
                    JobCancelRequested { job: some_job, actor: Name::from("t"), ..JobCancelRequested::default() }.into()
                }
                1 => JobHoldSet {
                    job: some_job,
                    action: *luck.of(&[HoldAction::Hold, HoldAction::Release]),
                    actor: Name::from("t"),
                    ..JobHoldSet::default()
                }
                .into(),
                _ => JobRequestAmended {
                    job: some_job,
                    class: Some(ClassId::from("urgent")),
                    replicas_min: luck.chance(50).then_some(Count(1)),
                    replicas_max: luck.chance(30).then_some(Count(3)),
                    ..JobRequestAmended::default()
                }
                .into(),
            },
            18 => match self.leased.is_empty() {
                true => PoolWithdrawn { pool: PoolId::from("pod/spot"), ..PoolWithdrawn::default() }.into(),
                false => {
                    let (pool, instance) = luck.of(&self.leased).clone();
                    ended(&pool, &instance, now)
                }
            },
            19 => BudgetSet {
                budget: RefId::from("budget"),
                tenant: TenantId::from("blue"),
                amount: Sum { currency: usd(), micros: MoneyMicros(luck.below(100_000_000)) },
                kind: BudgetKind::Hard,
                period_from_us: luck.chance(50).then_some(TimeUs(0)),
                ..BudgetSet::default()
            }
            .into(),
            20 => SchedulingPolicySet {
                scope: Name::from("cell"),
                order_rule: Name::from(*luck.of(&["share-surcharge", "classic", "fifo", "sjf", "las", "srpt"])),
                packing_rule: Name::from(*luck.of(&["solyx", "fgd", "best-fit"])),
                surcharge_gpu_hours: vec![Count(0), Count(2 + luck.below(30))],
                surcharge_us: vec![DurationUs(luck.below(HOUR_US)), DurationUs(2 * HOUR_US)],
                promised_milli: luck.chance(50).then(|| Milli(luck.below(1_001))),
                preemptions_max: luck.chance(50).then(|| Count(luck.below(6))),
                consolidation_budget_us: luck.chance(60).then(|| DurationUs(luck.below(20) * HOUR_US)),
                backfill_depth: Some(Count(luck.below(20))),
                lease_idle_us: Some(DurationUs(luck.below(HOUR_US))),
                lemon_failures_max: Some(Count(luck.below(4))),
                lemon_window_us: Some(DurationUs(HOUR_US)),
                plan_interval: luck.chance(80).then(|| Count(luck.below(9))),
                prior_kinds: if luck.chance(30) { vec![prior(luck), prior(luck)] } else { Vec::new() },
                prior_weight: luck.chance(50).then(|| Count(luck.below(40))),
                ..SchedulingPolicySet::default()
            }
            .into(),
            _ => match luck.below(3) {
                0 => {
                    let (name, at, class) = *luck.of(&POOLS);
                    let at = if luck.chance(10) { *luck.of(&SITES) } else { at };
                    pool_of(name, at, class)
                }
                1 => {
                    let mut event = tenant("red/a", Some(*luck.of(&["red", "blue"])), 500 + luck.below(2_000));
                    if let Event::TenantDeclared(e) = &mut event {
                        e.gpu_of_one_tenant = (e.weight_milli.0 % 2 == 0).then_some(true);
                    }
                    event
                }
                _ if self.jobs % 3 == 0 => {
                    let mut model = divisible();
                    if self.jobs % 2 == 0 {
                        model.mig_profiles[2].starts = vec![4];
                    }
                    model.into()
                }
                _ => PoolAvailabilityReported {
                    pool: PoolId::from("annex/demand"),
                    instances: luck.chance(80).then(|| Count(luck.below(4))),
                    ..PoolAvailabilityReported::default()
                }
                .into(),
            },
        }
    }
}

/// A reservation or a sold lease, its end before its time, or a class that lets nothing be stopped.
fn contract(luck: &mut Luck, now: i64) -> Event {
    let from = TimeUs(now + luck.below(3) * HOUR_US / 2);
    let to = TimeUs(from.0 + HOUR_US + luck.below(6) * HOUR_US);
    let tenant = TenantId::from(*luck.of(&["red", "red", "blue"]));
    let number = luck.below(3);
    match luck.below(10) {
        0..4 => LeaseSold {
            lease: RefId::from(format!("lease-{number}")),
            tenant,
            gpus: Count(1 + luck.below(8)),
            gpu_model: GpuModelId::from("H100"),
            site: luck.chance(50).then(|| SiteId::from(*luck.of(&SITES))),
            from_us: from,
            to_us: to,
            price: Sum { currency: usd(), micros: MoneyMicros(1) },
            payment: PaymentOption::None,
            ..LeaseSold::default()
        }
        .into(),
        4..8 => ReservationSet {
            reservation: RefId::from(format!("reservation-{number}")),
            tenant,
            gpus: Count(1 + luck.below(6)),
            gpu_model: luck.chance(50).then(|| GpuModelId::from("H100")),
            pool: luck.chance(40).then(|| PoolId::from(POOLS[luck.below(4) as usize].0)),
            from_us: from,
            to_us: to,
            ..ReservationSet::default()
        }
        .into(),
        8 => ReservationCancelled {
            reservation: RefId::from(format!("reservation-{number}")),
            ..ReservationCancelled::default()
        }
        .into(),
        _ => match luck.chance(70) {
            true => SoldLeaseEnded {
                lease: RefId::from(format!("lease-{number}")),
                tenant,
                ended_us: TimeUs(now),
                ..SoldLeaseEnded::default()
            }
            .into(),
            false => PriorityClassSet {
                class: ClassId::from("standard"),
                value: 100,
                preemptible: luck.chance(70),
                ..PriorityClassSet::default()
            }
            .into(),
        },
    }
}

fn checkpointed(luck: &mut Luck, now: i64, run: &RunId, job: &JobId) -> Event {
    RunCheckpointed {
        job: job.clone(),
        run: run.clone(),
        work_us: WorkUs(luck.below(HOUR_US)),
        site: SiteId::from("pod"),
        durable_us: TimeUs(now),
        ..RunCheckpointed::default()
    }
    .into()
}

fn prior(luck: &mut Luck) -> KindPrior {
    KindPrior {
        cpu_milli: CpuMilli(luck.below(9_000)),
        memory_mib: MemoryMib(luck.below(12_000)),
        gpus: Count(1),
        gpu_milli_each: GpuMilli(100 * (1 + luck.below(10))),
        models: luck.chance(30).then(|| GpuModelId::from("H100")).into_iter().collect(),
        frequency: Count(luck.below(50)),
    }
}

fn ended(pool: &PoolId, instance: &InstanceId, now: i64) -> Event {
    InstanceLeaseEnded {
        pool: pool.clone(),
        instance: instance.clone(),
        to_us: TimeUs(now),
        charged: Sum { currency: usd(), micros: MoneyMicros(0) },
        reason: LeaseReason::Reclaimed,
        ..InstanceLeaseEnded::default()
    }
    .into()
}
