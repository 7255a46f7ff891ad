//! What the executor does with each kind of order.

use solyx_schemas::events::jobs::FailureCategory;
use solyx_schemas::events::nodes::{NodeState, NodeStateChanged};
use solyx_schemas::events::runs::StopReason;
use solyx_schemas::events::usage::Meter;
use solyx_schemas::events::world::LeaseReason;

use super::*;

fn executor(scripts: &[Event]) -> SimulatedExecutor {
    let mut executor = SimulatedExecutor::new(EXECUTOR);
    for script in scripts {
        executor.script(script);
    }
    executor
}

/// Reports in short: what, when in seconds, and the number that matters.
fn told(reports: &[Event]) -> Vec<String> {
    let of = |at: TimeUs| (at.0 - T0.0) / SECOND_US;
    let told = reports.iter().map(|event| match event {
        Event::RunStarted(e) => format!("{} started {}", e.run, of(e.started_us)),
        Event::RunCheckpointed(e) => {
            format!("{} checkpoint {} work {}", e.run, of(e.durable_us), e.work_us.0 / SECOND_US)
        }
        Event::RunFinished(e) => format!("{} finished {} exit {}", e.run, of(e.finished_us), e.exit_code),
        Event::RunFailed(e) => {
            format!("{} failed {} {} durable {}", e.run, of(e.failed_us), e.category, e.durable_work_us.0 / SECOND_US)
        }
        Event::RunStopped(e) => format!("{} stopped {} kept {}", e.run, of(e.stopped_us), e.kept_work_us.0 / SECOND_US),
        Event::RunLeaseRenewed(e) => format!("{} renewed {}", e.run, of(e.occurred_us)),
        Event::UsageMetered(e) => {
            format!("{} {} {}-{} {}", e.run, e.meter, of(e.from_us), of(e.to_us), e.quantity.0)
        }
        Event::NodeStateChanged(e) => format!("{} {} {}", e.node, e.state, of(e.occurred_us)),
        Event::InstanceLeased(e) => format!("{} leased {}", e.instance, of(e.from_us)),
        Event::InstanceLeaseRefused(e) => format!("{} refused {}", e.order, e.instances.0),
        Event::InstanceLeaseEnded(e) => format!(
            "{} ended {} {} paid until {} charged {}",
            e.instance,
            of(e.occurred_us),
            e.reason,
            of(e.to_us),
            e.charged.micros.0
        ),
        Event::PoolAvailabilityReported(e) => {
            format!("{} gives {} {}", e.pool, e.instances.unwrap_or_default().0, of(e.occurred_us))
        }
        Event::PowerMeasured(e) => format!("{} draws {} W {}-{}", e.subject, e.power_w.0, of(e.from_us), of(e.to_us)),
        other => other.name().to_owned(),
    });
    told.collect()
}

#[test]
fn a_run_starts_after_the_delay_is_metered_by_the_clock_hour_and_finishes_by_its_script() {
    let mut executor = executor(&[habits().into(), script("j", 4_000).into()]);
    let mut placement = placed("j", 1, "n1", WorkUs::ZERO, at(0));
    placement.speed_milli = Milli(2_000);
    placement.lease_until_us = at(3_000);
    let mut inputs = fleet(&["n1"]);
    inputs.push(request("j", None));
    let reports = drive(&mut executor, at(100_000), vec![(at(1_800), inputs, vec![placement.into()])]);
    // 4,000 s of work at twice the speed are 2,000 s. Each of two GPUs draws 560 W, and a quarter of 800 W idle is the run's.
    let expected = [
        "j/1 started 1810",
        "j/1 renewed 2400",
        "j/1 GPU_TIME 1810-3600 3580000000000",
        "j/1 ENERGY 1810-3600 2362800",
        "j/1 GPU_TIME 3600-3810 420000000000",
        "j/1 ENERGY 3600-3810 277200",
        "j/1 finished 3810 exit 0",
    ];
    assert_eq!(told(&reports), expected);
    assert_eq!(executor.live_runs(), 0);
    assert!(executor.next_report_is_background());
    assert_eq!(executor.next_report_us(), None);
    for report in &reports {
        report.check().unwrap();
    }
}

#[test]
fn a_scripted_failure_happens_once_and_the_retry_restores_and_goes_on_from_the_last_checkpoint() {
    let mut scripted = script("j", 1_000);
    scripted.failure = Some(FailureCategory::Gpu);
    scripted.failure_work_us = Some(work(700));
    let mut executor = executor(&[habits().into(), scripted.into()]);
    let mut inputs = fleet(&["n1"]);
    inputs.push(request("j", Some(300)));
    let orders = vec![
        (at(0), inputs, vec![placed("j", 1, "n1", WorkUs::ZERO, at(0)).into()]),
        (at(1_000), vec![], vec![placed("j", 2, "n1", work(600), at(1_000)).into()]),
    ];
    let reports = drive(&mut executor, at(100_000), orders);
    let told: Vec<_> =
        told(&reports).into_iter().filter(|line| !line.contains("_TIME") && !line.contains("ENERGY")).collect();
    let expected = [
        "j/1 started 10",
        "j/1 checkpoint 310 work 300",
        "j/1 checkpoint 610 work 600",
        "j/1 failed 710 GPU durable 600",
        "j/2 started 1010",
        "j/2 checkpoint 1340 work 900",
        "j/2 finished 1440 exit 0",
    ];
    assert_eq!(told, expected);
}

#[test]
fn user_code_fails_at_every_attempt() {
    let mut scripted = script("j", 100);
    scripted.end = ScriptedEnd::Failed;
    let mut executor = executor(&[scripted.into()]);
    let mut inputs = fleet(&["n1"]);
    inputs.push(request("j", None));
    let orders = vec![
        (at(0), inputs, vec![placed("j", 1, "n1", WorkUs::ZERO, at(0)).into()]),
        (at(500), vec![], vec![placed("j", 2, "n1", WorkUs::ZERO, at(500)).into()]),
    ];
    let reports = told(&drive(&mut executor, at(100_000), orders));
    let failures: Vec<_> = reports.iter().filter(|line| line.contains("failed")).collect();
    assert_eq!(failures, ["j/1 failed 100 USER_CODE durable 0", "j/2 failed 600 USER_CODE durable 0"]);
}

#[test]
fn a_stop_keeps_the_work_of_a_run_that_takes_checkpoints_and_no_other() {
    let mut executor = executor(&[habits().into(), script("j", 9_000).into(), script("k", 9_000).into()]);
    let mut inputs = fleet(&["n1"]);
    inputs.extend([request("j", Some(3_000)), request("k", None)]);
    let placements =
        vec![placed("j", 1, "n1", WorkUs::ZERO, at(0)).into(), placed("k", 1, "n1", WorkUs::ZERO, at(0)).into()];
    let stop = |job: &str| JobPreempted {
        job: job.into(),
        run: format!("{job}/1").into(),
        stop_by_us: at(2_000),
        ..Default::default()
    };
    let cancel = JobCancelled { job: "k".into(), run: Some("k/1".into()), ..Default::default() };
    let orders = vec![(at(0), inputs, placements), (at(1_000), vec![], vec![stop("j").into(), cancel.into()])];
    let reports = drive(&mut executor, at(100_000), orders);
    let stops: Vec<_> =
        told(&reports).into_iter().filter(|line| line.contains("stop") || line.contains("check")).collect();
    assert_eq!(stops, ["j/1 checkpoint 1005 work 995", "j/1 stopped 1005 kept 995", "k/1 stopped 1005 kept 0"]);
    let reasons = reports.iter().filter_map(|event| match event {
        Event::RunStopped(e) => Some(e.reason),
        _ => None,
    });
    assert_eq!(reasons.collect::<Vec<_>>(), [StopReason::Preempted, StopReason::Cancelled]);
}

#[test]
fn a_run_that_is_resized_stops_with_its_work_and_goes_on_at_the_speed_of_its_new_number() {
    let mut executor = executor(&[habits().into(), script("j", 9_000).into()]);
    let mut inputs = fleet(&["n1"]);
    inputs.push(request("j", Some(3_000)));
    let resized = JobResized { job: "j".into(), run: "j/1".into(), to_replicas: Count(2), ..Default::default() };
    let mut twice = placed("j", 2, "n1", WorkUs(995 * SECOND_US), at(1_010));
    twice.speed_milli = Milli(2_000);
    let orders = vec![
        (at(0), inputs, vec![placed("j", 1, "n1", WorkUs::ZERO, at(0)).into()]),
        (at(1_000), vec![], vec![resized.into()]),
        (at(1_010), vec![], vec![twice.into()]),
    ];
    let reports = drive(&mut executor, at(100_000), orders);
    let reason = reports.iter().find_map(|event| match event {
        Event::RunStopped(e) => Some((e.reason, e.kept_work_us)),
        _ => None,
    });
    assert_eq!(reason, Some((StopReason::Resized, WorkUs(995 * SECOND_US))));
    let finished = reports.iter().find_map(|event| match event {
        Event::RunFinished(e) => Some((e.work_us, e.finished_us)),
        _ => None,
    });
    // 8,005 s of work are left, at twice the speed, after the start's ten seconds and the restore.
    let (work, end) = finished.unwrap();
    assert_eq!(work, WorkUs(9_000 * SECOND_US));
    assert!(end.since(at(1_010)).0 < 4_400 * SECOND_US && end.since(at(1_010)).0 > 4_000 * SECOND_US, "{end:?}");
}

#[test]
fn a_failing_node_takes_its_runs_with_it_is_fenced_and_comes_back() {
    let mut habits = habits();
    habits.node_failures_per_1000_h = Count(1_000_000);
    habits.repair_us = seconds(600);
    let mut executor = executor(&[habits.into(), script("j", 1_000_000).into()]);
    let mut inputs = fleet(&["n1"]);
    inputs.push(request("j", None));
    let orders = vec![(at(0), inputs, vec![placed("j", 1, "n1", WorkUs::ZERO, at(0)).into()])];
    let reports = drive(&mut executor, at(4_000), orders);
    let told = told(&reports);
    let down = told.iter().position(|line| line.starts_with("n1 DOWN")).expect("it fails within seconds");
    assert!(told[..=down + 3].iter().any(|line| line.starts_with("j/1 failed") && line.contains("NODE")), "{told:?}");
    let states: Vec<NodeState> = reports
        .iter()
        .filter_map(|event| match event {
            Event::NodeStateChanged(e) => Some(e.state),
            _ => None,
        })
        .collect();
    assert_eq!(states[..3], [NodeState::Down, NodeState::Fenced, NodeState::Ready]);
    assert_eq!(executor.live_runs(), 0);
}

#[test]
fn what_finishes_after_it_was_given_up_takes_nothing_from_the_next_run_of_its_job() {
    let mut executor = executor(&[habits().into(), script("j", 4_000).into(), script("k", 9_000).into()]);
    let mut inputs = fleet(&["n1"]);
    inputs.extend([request("j", None), request("k", None)]);
    let first = ["j", "k"].map(|job| placed(job, 1, "n1", WorkUs::ZERO, at(0)).into()).into();
    executor.observe(&epoch(0, at(0), &inputs, first));
    // Nobody asked the executor for what was due meanwhile.
    let lost = JobRequeued { job: "j".into(), run: "j/1".into(), cause: StopCause::LeasePassed, ..Default::default() };
    let ended = JobCancelled { job: "k".into(), cause: StopCause::Failed, ..Default::default() };
    let again = placed("j", 2, "n1", WorkUs::ZERO, at(6_000));
    executor.observe(&epoch(1, at(6_000), &[], vec![lost.into(), ended.into(), again.into()]));
    let told = told(&executor.take_due(at(30_000)));
    assert!(told.contains(&"j/1 finished 4010 exit 0".to_owned()), "{told:#?}");
    assert!(told.contains(&"j/2 finished 10010 exit 0".to_owned()), "{told:#?}");
    assert!(!told.iter().any(|report| report.starts_with("k/1 finished")), "{told:#?}");
}

#[test]
fn runs_on_a_node_that_others_call_down_end_in_silence() {
    let mut executor = executor(&[habits().into(), script("j", 9_000).into()]);
    let mut inputs = fleet(&["n1"]);
    inputs.push(request("j", None));
    let down =
        NodeStateChanged { source: "operator".into(), node: "n1".into(), state: NodeState::Down, ..Default::default() };
    let orders = vec![
        (at(0), inputs, vec![placed("j", 1, "n1", WorkUs::ZERO, at(0)).into()]),
        (at(1_000), vec![down.into()], vec![]),
        (at(2_000), vec![], vec![placed("j", 2, "n1", WorkUs::ZERO, at(2_000)).into()]),
    ];
    let told = told(&drive(&mut executor, at(100_000), orders));
    let expected = [
        "j/1 started 10",
        "j/1 GPU_TIME 10-1000 1980000000000",
        "j/1 ENERGY 10-1000 1306800",
        "j/2 failed 2010 NODE durable 0",
    ];
    assert_eq!(told, expected);
}

#[test]
fn leases_start_are_refused_charged_and_reclaimed_as_recorded() {
    let available = |from: i64, instances: i64| AvailabilityScripted {
        pool: "spot".into(),
        from_us: at(from),
        instances: Count(instances),
        ..Default::default()
    };
    let mut executor = executor(&[
        habits().into(),
        script("j", 100_000).into(),
        available(-500, 2).into(),
        available(10_000, 0).into(),
        available(20_000, 5).into(),
    ]);
    let mut inputs = fleet(&[]);
    inputs.push(request("j", Some(1_000)));
    let order = CapacityLeaseOrdered { pool: "spot".into(), instances: Count(3), ..Default::default() };
    let release = CapacityReleaseOrdered {
        pool: "spot".into(),
        instances: vec!["spot/0-0/1".into()],
        at_us: at(4_000),
        ..Default::default()
    };
    let mut placement = placed("j", 1, "spot/0-0/0", WorkUs::ZERO, at(200));
    placement.pool = "spot".into();
    let orders = vec![
        (at(0), inputs, vec![order.into()]),
        (at(200), vec![], vec![placement.into()]),
        (at(300), vec![], vec![release.into()]),
    ];
    let reports = drive(&mut executor, at(100_000), orders);
    let leases: Vec<_> = told(&reports)
        .into_iter()
        .filter(|line| {
            !line.contains("_TIME") && !line.contains("ENERGY") && !line.contains("check") && !line.contains("renewed")
        })
        .collect();
    let expected = [
        "cell-a/0/0/0 refused 1",
        "spot gives 2 0",
        "spot/0-0/0 leased 120",
        "spot/0-0/1 leased 120",
        "j/1 started 200",
        // 3,880 s are 65 minutes; 8 GPUs at 2.00.
        "spot/0-0/1 ended 4000 ASKED paid until 4020 charged 17333333",
        "spot gives 1 4000",
        "spot/0-0/0 ended 10000 RECLAIMED paid until 10020 charged 44000000",
        "j/1 failed 10000 SPOT_RECLAIM durable 9000",
        "spot gives 0 10000",
        "spot gives 5 20000",
    ];
    assert_eq!(leases, expected);
    let reasons: Vec<_> = reports
        .iter()
        .filter_map(|event| match event {
            Event::InstanceLeaseEnded(e) => Some(e.reason),
            _ => None,
        })
        .collect();
    assert_eq!(reasons, [LeaseReason::Asked, LeaseReason::Reclaimed]);
}

#[test]
fn power_readings_are_the_mean_of_what_was_drawn_and_add_up_to_the_metered_energy() {
    let mut habits = habits();
    habits.power_interval_us = seconds(900);
    let mut executor = executor(&[habits.into(), script("j", 1_000).into()]);
    let mut inputs = fleet(&["n1"]);
    inputs.push(request("j", None));
    let orders = vec![(at(0), inputs, vec![placed("j", 1, "n1", WorkUs::ZERO, at(0)).into()])];
    let reports = drive(&mut executor, at(1_800), orders);
    let power: Vec<_> = told(&reports).into_iter().filter(|line| line.contains("draws")).collect();
    // 1,120 W of two busy GPUs for 890 of 900 s, and for 110 of 900 s.
    assert_eq!(power, ["n1 draws 1908 W 0-900", "n1 draws 937 W 900-1800"]);
    assert!(executor.next_report_is_background(), "power readings alone keep nothing going");
    let energy: i64 = reports
        .iter()
        .filter_map(|event| match event {
            Event::UsageMetered(e) if e.meter == Meter::Energy => Some(e.quantity.0),
            _ => None,
        })
        .sum();
    assert_eq!(energy, 1_000 * (1_120 + 200));
}

#[test]
fn no_run_uses_up_more_than_half_of_its_lease_before_it_renews() {
    let mut executor = executor(&[script("j", 50_000).into()]);
    let mut inputs = fleet(&["n1"]);
    inputs.push(request("j", None));
    let mut placement = placed("j", 1, "n1", WorkUs::ZERO, at(777));
    placement.lease_until_us = at(777 + 1_000);
    let reports = drive(&mut executor, at(60_000), vec![(at(777), inputs, vec![placement.into()])]);
    let mut last = at(777);
    for event in &reports {
        if let Event::RunLeaseRenewed(e) = event {
            assert!(e.occurred_us.since(last) <= seconds(500));
            assert_eq!(e.lease_until_us, e.occurred_us.after(seconds(1_000)));
            last = e.occurred_us;
        }
    }
    assert!(last > at(50_000));
}
