//! What histories draw beside the rest in half of them: classes that preempt after a minimum run, lending limits and weights beyond
//! quotas, past use that fades, recovery and retries that jobs name, and a world of two countries and two providers (`world.rs`).
//!
//! It draws of its own, and only adds to what is said or fills in what is left out, so that histories without it stay as they are to
//! the bit.

mod world;

use solyx_schemas::events::Event;
use solyx_schemas::events::jobs::*;
use solyx_schemas::events::policy::*;
use solyx_schemas::events::runs::RunFailed;
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

use self::world::World;
pub use self::world::{USUAL_CARBON_MG_PER_KWH, USUAL_PRICE_MICROS_PER_MWH, nodes_by_site};
use super::frame::{NODES, TENANTS};
use super::{Executor, Luck, Mood};
use crate::job;

/// It parts seeds in halves, with those that tests name in the half that goes without.
const HALVES: u64 = 965;
const MINUTE_US: i64 = 60 * SECOND_US;
const CLASSES: [&str; 3] = ["spare", "standard", "urgent"];

/// Who says more; by default nobody.
#[derive(Default)]
pub struct Wider {
    luck: Option<Luck>,
    world: World,
    jobs: i64,
}

impl Wider {
    /// That of a seed: nobody in half of them.
    pub fn of(seed: u64) -> Self {
        if Self::is_in(seed) { Self::always(seed) } else { Self::default() }
    }

    /// That of a seed, whichever half it is in.
    pub fn always(seed: u64) -> Self {
        Self { luck: Some(Luck(seed ^ 0x0077_6964_6572)), ..Self::default() }
    }

    /// Whether the history of a seed has any.
    pub fn is_in(seed: u64) -> bool {
        Luck(seed ^ HALVES).chance(50)
    }

    /// What may be promised of a history of a mood: nodes are lost in wider ones, and with them what is held.
    pub fn promises(&self, mood: Mood) -> Mood {
        if self.luck.is_some() && mood != Mood::Wild { Mood::Shaken } else { mood }
    }

    /// Widens what is said first.
    pub fn begins(&mut self, now: i64, events: &mut Vec<Event>) {
        let Some(luck) = &mut self.luck else { return };
        events.iter_mut().for_each(|event| widen(luck, event));
        for (value, name) in [50, 100, 200].into_iter().zip(CLASSES) {
            let mut class = PriorityClassSet { class: ClassId::from(name), value, ..PriorityClassSet::default() };
            preempting(luck, &mut class);
            class.preempts = name == "urgent";
            class.preemptible = true;
            events.push(class.into());
        }
        for tenant in TENANTS.into_iter().take(3) {
            if luck.chance(40) {
                events.push(quota(luck, tenant));
            }
        }
        self.world.begins(luck, now, events);
    }

    /// Widens what is said in an epoch, and adds to it.
    pub fn widens(&mut self, executor: &Executor, now: i64, events: &mut Vec<Event>) {
        let Some(luck) = &mut self.luck else { return };
        events.iter_mut().for_each(|event| widen(luck, event));
        let mut more = Vec::new();
        if luck.chance(25) {
            more.push(match luck.below(5) {
                0 => class(luck),
                1 | 2 => {
                    let tenant = *luck.of(&TENANTS);
                    quota(luck, tenant)
                }
                3 => queue(luck),
                _ => return_to_open(luck),
            });
        }
        if luck.chance(20) {
            more.extend(failure(luck, executor, now));
        }
        if luck.chance(15) {
            self.jobs += 1;
            more.push(urgent(luck, self.jobs));
        }
        self.world.says(luck, now, &mut more);
        for event in more {
            let at = luck.below(events.len() as i64 + 1) as usize;
            events.insert(at, event);
        }
    }
}

/// Fills in what an event leaves out.
fn widen(luck: &mut Luck, event: &mut Event) {
    match event {
        Event::SchedulingPolicySet(e) => policy(luck, e),
        Event::PriorityClassSet(e) => preempting(luck, e),
        Event::QuotaSet(e) => lending(luck, e),
        Event::JobRequested(e) => request(luck, e),
        Event::PoolDeclared(e) => world::belongs(e),
        _ => {}
    }
}

fn policy(luck: &mut Luck, e: &mut SchedulingPolicySet) {
    e.half_life_us = luck.chance(60).then(|| DurationUs((1 + luck.below(12)) * HOUR_US / 2));
    e.tick_us = luck.chance(25).then(|| DurationUs((10 + luck.below(300)) * SECOND_US));
    e.preemption_grace_us = luck.chance(25).then(|| DurationUs(luck.below(5) * MINUTE_US));
    e.retries_max = luck.chance(40).then(|| Count(luck.below(4)));
    e.retry_backoff_us = luck.chance(40).then(|| DurationUs(luck.below(10) * MINUTE_US));
    e.default_expected_work_us = luck.chance(25).then(|| WorkUs((1 + luck.below(8)) * HOUR_US));
    e.deferral_max_us = luck.chance(60).then(|| DurationUs(luck.below(12) * HOUR_US));
    e.deferral_saving_min_milli = luck.chance(40).then(|| Milli(luck.below(200)));
    e.lease_orders_max = luck.chance(25).then(|| Count(luck.below(4)));
    if e.surcharge_gpu_hours.is_empty() && luck.chance(50) {
        e.surcharge_gpu_hours = vec![Count(1 + luck.below(4)), Count(8 + luck.below(30))];
        e.surcharge_us = vec![DurationUs(luck.below(HOUR_US)), DurationUs(2 * HOUR_US)];
    }
    if e.preemptions_max.is_none() && luck.chance(40) {
        e.preemptions_max = Some(Count(luck.below(6)));
    }
}

fn preempting(luck: &mut Luck, e: &mut PriorityClassSet) {
    e.preempts = luck.chance(50);
    e.minimum_run_us = DurationUs(if luck.chance(50) { luck.below(30) * MINUTE_US } else { 0 });
}

fn lending(luck: &mut Luck, e: &mut QuotaSet) {
    e.lending_limit_milli = luck.chance(40).then(|| GpuMilli(luck.below(e.guaranteed_milli.0 + 1_000)));
    e.over_quota_weight_milli = luck.chance(40).then(|| Milli(luck.below(3_000)));
}

fn request(luck: &mut Luck, e: &mut JobRequested) {
    if luck.chance(40) {
        e.class = ClassId::from(*luck.of(&["spare", "spare", "urgent"]));
    }
    if luck.chance(40) {
        let within = |luck: &mut Luck| DurationUs(luck.below(8) * HOUR_US / 4);
        e.recovery = Some(RecoveryClass {
            rto_us: luck.chance(80).then(|| within(luck)),
            rpo_us: luck.chance(20).then(|| within(luck)),
            spread: luck.chance(15).then(|| *luck.of(&[SpreadLevel::Node, SpreadLevel::Rack, SpreadLevel::Feed])),
        });
    }
    for category in FailureCategory::ALL.iter().copied() {
        if luck.chance(12) {
            e.retry_limits.push(RetryLimit { category, retries_max: Count(luck.below(3)) });
        }
    }
    world::asked_of(luck, e);
}

/// A job for which others may have to make room.
fn urgent(luck: &mut Luck, number: i64) -> Event {
    let (replicas, gpus) = (1 + luck.below(2), 1 + luck.below(4));
    let (tenant, hours) = (*luck.of(&TENANTS), luck.below(3));
    let asked = job(&format!("wide-{number}"), tenant, replicas, gpus, hours);
    JobRequested { class: ClassId::from("urgent"), preemptible: luck.chance(70), ..asked }.into()
}

fn class(luck: &mut Luck) -> Event {
    let number = luck.below(3) as usize;
    let value = [50, 100, 200][number] + if luck.chance(15) { 100 } else { 0 };
    let mut class = PriorityClassSet { class: ClassId::from(CLASSES[number]), value, ..PriorityClassSet::default() };
    preempting(luck, &mut class);
    class.preemptible = luck.chance(80);
    class.into()
}

fn quota(luck: &mut Luck, tenant: &str) -> Event {
    let mut quota = QuotaSet {
        tenant: TenantId::from(tenant),
        gpu_model: luck.chance(25).then(|| GpuModelId::from("H100")),
        guaranteed_milli: GpuMilli(luck.below(10) * 1_000),
        borrowing_limit_milli: luck.chance(40).then(|| GpuMilli(luck.below(12) * 1_000)),
        ..QuotaSet::default()
    };
    lending(luck, &mut quota);
    quota.into()
}

/// A project of a tenant is opened or closed.
fn queue(luck: &mut Luck) -> Event {
    let state = *luck.of(&[ScopeState::Open, ScopeState::Open, ScopeState::Cordoned, ScopeState::Drained]);
    scope(ScopeKind::Queue, &format!("{}/p", luck.of(&TENANTS)), state)
}

/// What may have been closed is open again.
fn return_to_open(luck: &mut Luck) -> Event {
    let kinds = [
        (ScopeKind::Queue, "red/p"),
        (ScopeKind::Queue, "blue/p"),
        (ScopeKind::Site, "pod"),
        (ScopeKind::Site, "annex"),
    ];
    let (kind, name) = *luck.of(&kinds);
    scope(kind, name, ScopeState::Open)
}

fn scope(scope_kind: ScopeKind, name: &str, state: ScopeState) -> Event {
    ScopeStateChanged {
        scope_kind,
        scope: RefId::from(name),
        state,
        actor: Name::from("test"),
        reason: "test".to_owned(),
        ..ScopeStateChanged::default()
    }
    .into()
}

/// A run fails, of whatever kind.
fn failure(luck: &mut Luck, executor: &Executor, now: i64) -> Option<Event> {
    let runs: Vec<(&RunId, &JobId)> = executor.runs.iter().collect();
    if runs.is_empty() {
        return None;
    }
    // Of those that were placed last most still run.
    let recent = &runs[runs.len().saturating_sub(8)..];
    let (run, job) = *luck.of(recent);
    let failed = RunFailed {
        job: job.clone(),
        run: run.clone(),
        category: *luck.of(FailureCategory::ALL),
        node: luck.chance(50).then(|| NodeId::from(format!("node-{}", luck.below(NODES)))),
        failed_us: TimeUs(now),
        ..RunFailed::default()
    };
    Some(failed.into())
}
