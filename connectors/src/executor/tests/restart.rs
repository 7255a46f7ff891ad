//! A restart gives what an undisturbed run gives, wherever it was cut.

use super::*;

fn scripted() -> SimulatedExecutor {
    let mut executor = SimulatedExecutor::new(EXECUTOR);
    let mut habits = habits();
    habits.node_failures_per_1000_h = Count(400);
    habits.spot_reclaims_per_1000_h = Count(500);
    habits.repair_us = seconds(900);
    habits.power_interval_us = seconds(1_800);
    executor.script(&habits.into());
    for (i, length) in [4_000, 9_000, 15_000, 25_000, 700].into_iter().enumerate() {
        executor.script(&script(&format!("j{i}"), length).into());
    }
    executor
}

/// What a log would hold: the epochs, and the reports with how many there are before each epoch.
struct History {
    epochs: Vec<EpochBatch>,
    reports: Vec<Event>,
    reports_before: Vec<usize>,
}

/// Runs the toy world until nothing but telemetry is left. `cut` is called before each instant and may replace the executor.
fn history(mut cut: impl FnMut(&History, usize, SimulatedExecutor) -> SimulatedExecutor) -> History {
    let mut executor = scripted();
    let mut toy = Toy::default();
    let mut history = History { epochs: Vec::new(), reports: Vec::new(), reports_before: Vec::new() };
    let mut staged: VecDeque<(TimeUs, Vec<Event>)> =
        [(T0, fleet(&["n1", "n2", "n3"])), (at(60), (0..5).map(|i| request(&format!("j{i}"), Some(2_000))).collect())]
            .into();
    loop {
        executor = cut(&history, 0, executor);
        let next = staged.front().map(|(now, _)| *now);
        if next.is_none() && executor.next_report_is_background() {
            return history;
        }
        let now = [next, executor.next_report_us()].into_iter().flatten().min().unwrap();
        let mut inputs = if next == Some(now) { staged.pop_front().unwrap().1 } else { Vec::new() };
        loop {
            let reported = executor.next_report_us() == Some(now);
            let due = executor.take_due(now);
            assert!(!reported || !due.is_empty(), "what is due gives a report");
            history.reports.extend(due.clone());
            inputs.extend(due);
            // Here the reports are in the log and no epoch has read them.
            executor = cut(&history, 1, executor);
            if inputs.is_empty() {
                break;
            }
            let outputs = toy.decide(now, &inputs);
            let batch = epoch(history.epochs.len() as i64, now, &inputs, outputs);
            executor.observe(&batch);
            history.reports_before.push(history.reports.len());
            history.epochs.push(batch);
            inputs.clear();
            executor = cut(&history, 2, executor);
        }
        assert!(history.epochs.len() < 100_000, "the toy world never ends");
    }
}

fn restarted(history: &History, bounded: bool) -> SimulatedExecutor {
    let mut executor = scripted();
    let handed_on = history.reports.len() as u64;
    if bounded {
        executor.resume_at(handed_on);
    }
    for epoch in &history.epochs {
        executor.observe(epoch);
        assert!(!bounded || executor.ready.is_empty(), "what the log has is not kept");
    }
    executor.resume_at(handed_on);
    executor
}

#[test]
fn a_restart_at_random_points_gives_the_same_history() {
    let whole = history(|_, _, executor| executor);
    assert!(whole.reports.iter().any(|event| matches!(event, Event::RunFailed(_))));
    assert!(whole.reports.iter().any(|event| matches!(event, Event::InstanceLeaseEnded(_))));
    let finished = whole.reports.iter().filter(|event| matches!(event, Event::RunFinished(_))).count();
    assert_eq!(finished, 5);
    let points = whole.epochs.len() * 2;
    let mut draw = 7_u64;
    for trial in 0..12 {
        // A cut at each point of the instant: before it, after its reports are written, after its epoch.
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let at_point = (draw >> 33) as usize % points;
        let mut seen = 0;
        let again = history(|so_far, _, executor| {
            seen += 1;
            if seen == at_point || seen % 97 == trial { restarted(so_far, seen % 2 == 0) } else { executor }
        });
        assert_eq!(again.reports, whole.reports, "cut at {at_point}, trial {trial}");
        assert_eq!(again.epochs, whole.epochs);
    }
}

#[test]
fn reports_do_not_depend_on_when_they_are_asked_for() {
    let whole = history(|_, _, executor| executor);
    let mut executor = scripted();
    let mut reports = Vec::new();
    for (i, epoch) in whole.epochs.iter().enumerate() {
        executor.observe(epoch);
        if i % 13 == 0 {
            reports.extend(executor.take_due(epoch.record.now_us));
        }
    }
    reports.extend(executor.take_due(whole.epochs.last().unwrap().record.now_us));
    assert_eq!(reports[..whole.reports.len()], whole.reports);
}

#[test]
fn every_report_has_an_id_of_its_own_and_is_valid() {
    let whole = history(|_, _, executor| executor);
    let mut ids = std::collections::BTreeSet::new();
    for report in &whole.reports {
        let identity = report.identity();
        assert_eq!(identity.source, EXECUTOR);
        assert!(ids.insert(identity.id.clone()), "{} twice", identity.id);
        report.check().unwrap();
    }
    let times: Vec<_> = whole.reports.iter().map(|report| report.identity().occurred_us).collect();
    assert!(times.is_sorted(), "reports come in the order of their time");
}
