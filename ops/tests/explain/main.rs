//! What `solyx explain` says of jobs that wait and of jobs that were placed, as a person reads it.
#![allow(clippy::unwrap_used)]

mod world;

use solyx_schemas::events::Event;
use solyx_schemas::events::common::Sum;
use solyx_schemas::events::jobs::*;
use solyx_schemas::events::policy::*;
use solyx_schemas::events::usage::Meter;
use solyx_schemas::units::*;

use world::*;

/// A cell in which something keeps each of the jobs waiting, and each placed one has a reason.
fn busy() -> World {
    let mut world = World::new();
    world.at(0, fleet());
    world.at(
        1,
        vec![
            JobRequested { gang: gang(1, 8), models: models(&["H100"]), ..job("placed/first", "blue", 3) }.into(),
            JobRequested { gang: gang(1, 8), models: models(&["H100"]), ..job("placed/fills-quota", "red", 5) }.into(),
            JobRequested { models: models(&["H200"]), ..job("placed/cheaper-of-two", "blue", 2) }.into(),
            JobRequested { models: models(&["A10"]), ..job("placed/leased", "blue", 2) }.into(),
        ],
    );
    let deferred =
        JobRequested { models: models(&["B200"]), deadline_us: Some(at(20 * 60)), ..job("placed/later", "green", 2) };
    world.at(2, vec![deferred.into()]);
    world.at(
        3,
        vec![
            JobRequested { gang: gang(1, 8), models: models(&["H100"]), ..job("waits/gpus", "blue", 2) }.into(),
            JobRequested { gang: gang(1, 8), models: models(&["H100"]), ..job("waits/quota", "red", 2) }.into(),
            JobRequested { hold: true, ..job("waits/hold", "blue", 1) }.into(),
            JobRequested {
                depends_on: vec![Dependency { job: "placed/first".into(), condition: DependencyCondition::Ok }],
                ..job("waits/dependency", "blue", 1)
            }
            .into(),
            JobRequested { not_before_us: Some(at(600)), ..job("waits/not-before", "blue", 1) }.into(),
            JobRequested {
                job_set: Some(JobSet { set: "set-1".into(), size: Count(2) }),
                ..job("waits/job-set", "blue", 1)
            }
            .into(),
            job("waits/cordon", "grey", 1).into(),
            job("waits/undeclared", "nobody", 1).into(),
            JobRequested { residency: vec!["FR".into()], ..job("waits/residency", "blue", 1) }.into(),
            JobRequested { models: models(&["A100"]), ..job("waits/gpu-model", "blue", 1) }.into(),
            JobRequested {
                gang: Gang { gpu_memory_mib: Some(MemoryMib(100_000)), ..gang(1, 1) },
                models: models(&["H100"]),
                ..job("waits/gpu-memory", "blue", 1)
            }
            .into(),
            JobRequested {
                gang: gang(2, 8),
                models: models(&["H200"]),
                topology: Some(Topology { required: Some(TopologyLevel::Leaf), ..Topology::default() }),
                ..job("waits/fabric-domain", "blue", 1)
            }
            .into(),
            JobRequested { gang: gang(1, 8), models: models(&["MI300"]), ..job("waits/power", "blue", 1) }.into(),
        ],
    );
    world.run_until(90);
    world
}

#[test]
fn jobs_that_wait_hear_what_for_where_they_stand_and_what_moves_them() {
    let world = busy();
    let kinds = "gpus quota hold dependency not-before job-set cordon undeclared residency gpu-model gpu-memory fabric-domain power";
    for kind in kinds.split(' ') {
        insta::assert_snapshot!(format!("waits-{kind}"), world.explain(&format!("waits/{kind}")));
    }
}

#[test]
fn jobs_that_were_placed_hear_where_at_what_cost_and_what_was_not_taken() {
    let mut world = busy();
    world.run_until(24 * 60);
    for job in "placed/first placed/cheaper-of-two placed/leased placed/later waits/gpus".split(' ') {
        insta::assert_snapshot!(job.replace('/', "-then-"), world.explain(job));
    }
}

/// The events of the cell, under EASY.
fn under_easy() -> Vec<Event> {
    let mut events = fleet();
    for event in &mut events {
        if let Event::SchedulingPolicySet(policy) = event {
            policy.order_rule = "classic".into();
        }
    }
    events
}

fn on_h100(name: &str, tenant: &str, replicas: i64, hours: i64) -> JobRequested {
    JobRequested { gang: gang(replicas, 8), models: models(&["H100"]), ..job(name, tenant, hours) }
}

/// The same cell under EASY, with a class that preempts, a budget, a reservation and a queue that is drained.
fn pushed() -> World {
    let mut world = World::new();
    let mut events = under_easy();
    let urgent = PriorityClassSet { class: "urgent".into(), value: 200, preempts: true, ..PriorityClassSet::default() };
    let card = RateCardSet {
        rate_card: "list".into(),
        currency: usd(),
        from_us: at(0),
        lines: vec![RateLine {
            meter: Meter::GpuTime,
            mode: TierMode::Graduated,
            tiers: vec![PriceTier { price_micros: RateMicros(3_000_000), ..PriceTier::default() }],
            ..RateLine::default()
        }],
        ..RateCardSet::default()
    };
    let budget = BudgetSet {
        budget: "green-2023".into(),
        tenant: "green".into(),
        kind: BudgetKind::Hard,
        amount: Sum { currency: usd(), micros: MoneyMicros(5_000_000) },
        ..BudgetSet::default()
    };
    events.extend([urgent.into(), card.into(), budget.into()]);
    world.at(0, events);
    world.at(
        1,
        vec![
            on_h100("stopped/for-another", "blue", 1, 5).into(),
            JobRequested {
                project: Some("vision".into()),
                models: models(&["H200"]),
                ..job("stopped/for-a-drain", "blue", 9)
            }
            .into(),
            JobRequested { preemptible: false, ..on_h100("runs", "blue", 1, 2) }.into(),
            job("refused/budget", "green", 100).into(),
        ],
    );
    let amended = JobRequestAmended {
        job: "waits/amended".into(),
        deadline_us: Some(at(20 * 60)),
        replicas_max: Some(Count(2)),
        ..JobRequestAmended::default()
    };
    world.at(2, vec![on_h100("waits/amended", "blue", 2, 3).into(), on_h100("waits/in-turn", "blue", 1, 9).into()]);
    world.at(3, vec![amended.into()]);
    let drained = ScopeStateChanged {
        scope_kind: ScopeKind::Queue,
        scope: "blue/vision".into(),
        state: ScopeState::Drained,
        actor: "operator".into(),
        reason: "moving out".to_owned(),
        ..ScopeStateChanged::default()
    };
    world.at(
        10,
        vec![
            JobRequested { class: "urgent".into(), preemptible: false, ..on_h100("placed/by-stopping", "blue", 1, 1) }
                .into(),
            drained.into(),
        ],
    );
    world.run_until(60);
    world
}

#[test]
fn who_would_delay_a_promised_gang_hears_so_and_who_does_not_goes_ahead() {
    let mut world = World::new();
    world.at(0, under_easy());
    world.at(1, vec![JobRequested { preemptible: false, ..on_h100("runs", "blue", 1, 5) }.into()]);
    world.at(2, vec![on_h100("waits/gang", "blue", 2, 3).into()]);
    world.at(3, vec![on_h100("waits/backfill", "blue", 1, 9).into()]);
    world.run_until(30);
    for job in ["waits/gang", "waits/backfill"] {
        insta::assert_snapshot!(job.replace('/', "-"), world.explain(job));
    }
    world.at(40, vec![on_h100("placed/ahead", "blue", 1, 2).into()]);
    world.run_until(60);
    insta::assert_snapshot!("placed-ahead", world.explain("placed/ahead"));
}

#[test]
fn jobs_that_were_stopped_refused_or_amended_hear_why_and_what_it_cost_them() {
    let world = pushed();
    let jobs = "stopped/for-another stopped/for-a-drain refused/budget waits/amended waits/in-turn placed/by-stopping";
    for job in jobs.split(' ') {
        insta::assert_snapshot!(job.replace('/', "-"), world.explain(job));
    }
}
