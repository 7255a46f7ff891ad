//! What changes in the world beside jobs and reports.

use solyx_schemas::events::Event;
use solyx_schemas::events::capacity::*;
use solyx_schemas::events::common::Sum;
use solyx_schemas::events::facility::*;
use solyx_schemas::events::jobs::*;
use solyx_schemas::events::nodes::*;
use solyx_schemas::events::policy::*;
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

use super::frame::{NODES, POOLS, SITES, TENANTS, element, pool_of, report, tenant};
use super::{Executor, Luck, ended};
use crate::{divisible, usd};

impl Executor {
    pub(super) fn change(&mut self, luck: &mut Luck, now: i64) -> Event {
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
                backfill_reservations: luck.chance(50).then(|| Count(1 + luck.below(4))),
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
