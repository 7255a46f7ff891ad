//! Plans of packing prices in a run: when they come, that they are read at once, and that an audit makes them again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use solyx_runtime::{AuditOptions, RunOptions, audit, run};
use solyx_schemas::codec::Codec;
use solyx_schemas::epochs::EpochReader;
use solyx_schemas::events::Event;
use solyx_schemas::events::plans::{PlanKind, PlanPublished};
use solyx_schemas::field::Field;
use solyx_schemas::log::Log;
use solyx_schemas::log::memory::MemoryLog;
use solyx_schemas::topics::{Topic, TopicName};
use solyx_schemas::units::Count;

use crate::world::{cell, planned_world, plans, publish, record, run_all};

#[test]
fn a_plan_is_made_at_its_request_and_read_by_the_next_epoch_though_all_of_them_come_at_one_instant() {
    let log = planned_world(24);
    run_all(&log, None).unwrap();
    let plans = plans(&log);
    let requests: Vec<i64> = plans.iter().map(|(_, plan)| plan.requests.unwrap().0).collect();
    assert_eq!(requests, [9, 12, 15, 18, 21, 24], "the first instant is handed on before the policy is read");
    for (epoch, plan) in &plans {
        assert_eq!(plan.frontier_epoch, Count(epoch - 1));
    }
}

#[test]
fn an_audit_makes_every_plan_again() {
    let log = planned_world(24);
    run_all(&log, None).unwrap();
    let report = audit(&log, &AuditOptions::default(), &mut |_| {}).unwrap();
    assert!(report.ok, "{:?}", report.first_difference);
    assert_eq!((report.plans, report.plans_as_recorded), (6, 0));
}

/// The log of a planner that lies: its first plan, with another price, is there before the engine goes on.
fn lied(change: impl Fn(&mut PlanPublished)) -> MemoryLog {
    let honest = planned_world(24);
    run_all(&honest, None).unwrap();
    let (epoch, plan) = plans(&honest).remove(3);
    // The engine is killed after the append of the plan, and the plan is changed before it goes on.
    for appends in 1.. {
        let log = planned_world(24);
        log.fail_after(appends, crate::planning::killed());
        if run_all(&log, None).is_ok() {
            break;
        }
        let unread = |log: &MemoryLog| {
            let read = EpochReader::new(log).count() as i64;
            read == epoch
                && (0..log.partitions(Topic::Plans.into()))
                    .map(|p| log.end(Topic::Plans.into(), p).unwrap())
                    .sum::<u64>()
                    == 4
        };
        if !unread(&log) {
            continue;
        }
        for partition in 0..log.partitions(Topic::Plans.into()) {
            log.tamper(TopicName::live(Topic::Plans), partition, |records| {
                for stored in records {
                    let Event::PlanPublished(mut found) = Codec::global().decode(&stored.record.value).unwrap().event
                    else {
                        continue;
                    };
                    if found.frontier_epoch == plan.frontier_epoch {
                        change(&mut found);
                        stored.record.value = Codec::global().encode(&Event::PlanPublished(found));
                    }
                }
            });
        }
        run_all(&log, None).unwrap();
        return log;
    }
    panic!("there is no such append");
}

fn killed() -> solyx_schemas::log::memory::Failure {
    use solyx_schemas::log::LogErrorKind;
    use solyx_schemas::log::memory::{Failure, Fate};
    Failure { kind: LogErrorKind::Stop, fate: Fate::Committed }
}

#[test]
fn a_planner_that_lies_is_found_by_epoch_and_field() {
    let log = lied(|plan| plan.kinds[1].price += 1);
    let report = audit(&log, &AuditOptions::default(), &mut |_| {}).unwrap();
    let difference = report.first_difference.unwrap();
    assert_eq!(difference.what, "kinds[1].price", "{difference}");
    assert!(difference.record.starts_with("plans/"), "{difference}");
    let log = lied(|plan| plan.bound += 7);
    let report = audit(&log, &AuditOptions::default(), &mut |_| {}).unwrap();
    assert_eq!(report.first_difference.unwrap().what, "bound");
}

#[test]
fn prices_of_a_state_that_has_none_to_give_are_found() {
    let log = planned_world(0);
    run_all(&log, None).unwrap();
    let forged = PlanPublished {
        event_id: "forged".into(),
        source: "planner".into(),
        kind: PlanKind::PackingPrices,
        frontier_epoch: Count(0),
        solver: solyx_kernel::packing::PRICES_SOLVER.to_owned(),
        requests: Some(Count(0)),
        ..PlanPublished::example("")
    };
    publish(&log, vec![record(&log, &Event::from(forged), false)]);
    run_all(&log, None).unwrap();
    let report = audit(&log, &AuditOptions::default(), &mut |_| {}).unwrap();
    let difference = report.first_difference.unwrap();
    assert_eq!(difference.what, "plan", "{difference}");
}

#[test]
fn in_real_time_plans_come_beside_the_decisions_and_audit_well() {
    let log = planned_world(0);
    let staged = planned_world(30);
    let stop = AtomicBool::new(false);
    let options = RunOptions::new(cell(), None);
    std::thread::scope(|scope| {
        let engine = scope.spawn(|| run(&log, &options, &stop, &mut |_| {}));
        let topic = TopicName::staged(Topic::Jobs);
        for partition in 0..staged.partitions(topic) {
            let limit = solyx_schemas::log::ReadLimit { records: 100, bytes: 1 << 20 };
            for stored in staged.read(topic, partition, 0, limit).unwrap() {
                let record = solyx_schemas::log::Record { topic: TopicName::live(Topic::Jobs), ..stored.record };
                publish(&log, vec![record]);
            }
        }
        let deadline = Instant::now() + Duration::from_secs(30);
        let planned = || plans(&log).last().is_some_and(|(_, plan)| plan.requests >= Some(Count(30)));
        while !planned() && Instant::now() < deadline && !engine.is_finished() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let done = planned();
        stop.store(true, Ordering::Relaxed);
        let end = engine.join().unwrap().unwrap();
        assert!(done, "{} plans after {end:?}", plans(&log).len());
    });
    let report = audit(&log, &AuditOptions::default(), &mut |_| {}).unwrap();
    assert!(report.ok, "{:?}", report.first_difference);
    assert_eq!(report.plans as usize, plans(&log).len());
}
