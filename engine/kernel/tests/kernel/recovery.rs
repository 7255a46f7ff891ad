//! Who is owed recovery after a loss, by when, and whom it goes before.

use solyx_histories::*;
use solyx_schemas::events::Event;
use solyx_schemas::events::decisions::StopCause;
use solyx_schemas::events::jobs::*;
use solyx_schemas::events::nodes::NodeState;
use solyx_schemas::events::policy::*;
use solyx_schemas::events::runs::StopReason;
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

use crate::trouble::{failed, fleet, node_of, node_state, plain, stopped_for};
use crate::{class, guaranteed_to};

/// A job of a whole node that is to run again within so many hours of a loss, if any are named.
fn recovered_within(name: &str, tenant: &str, rto_h: Option<i64>) -> Event {
    let recovery =
        rto_h.map(|hours| RecoveryClass { rto_us: Some(DurationUs(hours * HOUR_US)), ..RecoveryClass::default() });
    JobRequested { recovery, ..job(name, tenant, 1, 8, 9) }.into()
}

#[test]
fn of_the_jobs_of_one_loss_those_go_first_that_are_owed_to_run_again_soonest() {
    for rule in ["classic", "fifo", "sjf", "las", "srpt", "share-surcharge"] {
        let mut world = fleet(3, ordered_by(rule));
        let [patient, slow, urgent] = [("patient", "red", None), ("slow", "red", Some(4)), ("urgent", "blue", Some(1))]
            .map(|(name, tenant, rto_h)| recovered_within(name, tenant, rto_h));
        world.step(vec![patient, slow, urgent]);
        let nodes = ["patient", "slow", "urgent"].map(|job| world.running[&JobId::from(job)].nodes[0].node.to_string());
        world.step(vec![recovered_within("new", "blue", Some(1))]);
        world.now += HOUR_US;
        world.step(nodes.iter().map(|node| node_state(node, NodeState::Fenced)).collect());
        let urgent = world.kernel.state().jobs.get(&JobId::from("urgent")).unwrap().past().recover_by_us;
        assert_eq!(urgent, Some(TimeUs(world.now + HOUR_US)), "{rule}");
        // Each avoids the node that it was lost with.
        for (node, first) in [(&nodes[0], "urgent"), (&nodes[2], "slow")] {
            let outputs = world.step(vec![node_state(node, NodeState::Ready)]);
            assert!(placed(&outputs, first).is_some(), "{rule}: {outputs:?}");
            let row = world.kernel.state().jobs.get(&JobId::from(first)).unwrap();
            assert_eq!(row.past().recover_by_us, None, "what runs is owed nothing");
        }
    }
}

#[test]
fn what_a_job_does_itself_buys_it_no_place() {
    let mut world = plain(1);
    let retries = RetryLimit { category: FailureCategory::UserCode, retries_max: Count(3) };
    let recovery = Some(RecoveryClass { rto_us: Some(DurationUs(HOUR_US)), ..RecoveryClass::default() });
    let careless = JobRequested { recovery, retry_limits: vec![retries], ..job("careless", "red", 1, 8, 9) };
    world.step(vec![careless.into()]);
    world.step(vec![failed(&world, "careless", FailureCategory::UserCode)]);
    assert_eq!(world.kernel.state().jobs.get(&JobId::from("careless")).unwrap().past().recover_by_us, None);
}

#[test]
fn whoever_a_lost_feed_has_stopped_is_owed_recovery() {
    let limit = |limit_w| PowerLimitSet {
        limit: RefId::from("feed"),
        site: SiteId::from("pod"),
        limit_w: PowerW(limit_w),
        ..PowerLimitSet::default()
    };
    let mut world = plain(2);
    world.step(vec![recovered_within("first", "red", None)]);
    world.step(vec![recovered_within("owed", "red", Some(2)), recovered_within("behind", "red", None)]);
    // Two nodes draw 1,000 W idle, and each GPU in use 700 W more.
    let outputs = world.step(vec![limit(2_000).into()]);
    assert_eq!(stopped_for(&outputs, "owed"), Some(StopCause::PowerLimit));
    let stopped = ["first", "owed"].map(|job| world.stopped(job, StopReason::Preempted));
    world.step(stopped.into());
    let outputs = world.step(vec![limit(2_000 + 8 * 700).into()]);
    assert!(placed(&outputs, "owed").is_some(), "{outputs:?}");
}

fn owed_by(world: &World, job: &str) -> Option<TimeUs> {
    world.kernel.state().jobs.get(&JobId::from(job)).unwrap().past().recover_by_us
}

#[test]
fn whoever_is_owed_recovery_goes_before_who_was_promised_a_start() {
    for rule in ["classic", "fifo", "sjf", "las", "srpt"] {
        // Under those that promise no starts it is for who starves, where no shares are promised.
        let no_shares = SchedulingPolicySet { promised_milli: Some(Milli(0)), ..ordered_by(rule) };
        let mut world = fleet(2, no_shares);
        world.step(vec![recovered_within("lost", "red", Some(1)), recovered_within("ends", "blue", None)]);
        let node = node_of(&world, "lost");
        world.step(vec![job("promised", "blue", 1, 8, 9).into()]);
        world.advance(49 * HOUR_US);
        assert_eq!(world.kernel.state().meta().promised, [JobId::from("promised")], "{rule}");
        world.step(vec![node_state(&node, NodeState::Fenced)]);
        let ends = world.finish("ends");
        let outputs = world.step(vec![ends]);
        assert!(placed(&outputs, "lost").is_some(), "{rule}: {outputs:?}");
    }
}

#[test]
fn whoever_is_owed_recovery_takes_nobody_s_promise_away() {
    for rule in ["classic", "fifo", "sjf"] {
        let mut world = fleet(2, ordered_by(rule));
        world.step(vec![recovered_within("lost", "red", Some(1)), recovered_within("ends", "blue", None)]);
        world.step(vec![job("promised", "blue", 2, 8, 9).into()]);
        let node = node_of(&world, "lost");
        world.step(vec![node_state(&node, NodeState::Fenced)]);
        // There is no room for either; who was promised a start comes after who is owed it.
        world.step(vec![node_state(&node, NodeState::Ready)]);
        let promised = world.kernel.state().meta().promised.clone();
        assert_eq!(promised, ["lost", "promised"].map(JobId::from), "{rule}");
    }
}

#[test]
fn where_no_starts_are_promised_who_can_start_nowhere_takes_the_turn_of_nobody_who_starves() {
    let no_shares = SchedulingPolicySet { promised_milli: Some(Milli(0)), ..ordered_by("las") };
    let mut world = fleet(2, no_shares);
    world.step(vec![job("lost", "red", 2, 8, 100).into()]);
    let node = node_of(&world, "lost");
    // What is left is too small for it.
    let gone = node_state(&node, NodeState::Fenced);
    world.step(vec![gone, job("runs", "blue", 1, 4, 200).into()]);
    world.step(vec![job("starves", "blue", 1, 8, 9).into()]);
    world.advance(50 * HOUR_US);
    assert_eq!(world.kernel.state().meta().promised, [JobId::from("starves")]);
}

#[test]
fn what_is_left_by_who_starved_is_had_by_who_was_kept_off_for_it() {
    let no_shares = SchedulingPolicySet { promised_milli: Some(Milli(0)), ..ordered_by("las") };
    let mut world = fleet(1, no_shares);
    world.step(vec![job("runs", "blue", 1, 8, 100).into()]);
    world.step(vec![job("starves", "blue", 1, 4, 9).into()]);
    world.advance(50 * HOUR_US);
    assert_eq!(world.kernel.state().meta().promised, [JobId::from("starves")]);
    world.step(vec![JobRequested { class: ClassId::from("urgent"), ..job("first", "red", 1, 4, 90) }.into()]);
    let ended = world.finish("runs");
    let outputs = world.step(vec![ended]);
    assert!(placed(&outputs, "starves").is_some() && placed(&outputs, "first").is_some(), "{outputs:?}");
}

#[test]
fn a_promised_share_goes_before_who_is_owed_recovery_beyond_its_own() {
    let quota = |tenant, gpus| QuotaSet { over_quota_weight_milli: Some(Milli(1_000)), ..guaranteed_to(tenant, gpus) };
    for rule in ["las", "share-surcharge"] {
        let mut world = fleet(2, SchedulingPolicySet { promised_milli: Some(Milli(900)), ..ordered_by(rule) });
        world.step(vec![quota("red", 0).into(), quota("blue", 8).into()]);
        world.step(vec![recovered_within("lost", "red", Some(1)), recovered_within("ends", "red", None)]);
        let node = node_of(&world, "lost");
        world.step(vec![node_state(&node, NodeState::Fenced)]);
        assert!(owed_by(&world, "lost").is_some(), "{rule}");
        let ends = world.finish("ends");
        let outputs = world.step(vec![recovered_within("new", "blue", None), ends]);
        assert!(placed(&outputs, "new").is_some(), "{rule}: {outputs:?}");
    }
}

#[test]
fn whoever_asks_for_more_than_it_lost_is_owed_nothing() {
    let amended = |change: JobRequestAmended| JobRequestAmended { job: JobId::from("lost"), ..change };
    let larger = amended(JobRequestAmended {
        replicas_min: Some(Count(2)),
        replicas_max: Some(Count(2)),
        ..JobRequestAmended::default()
    });
    let later = amended(JobRequestAmended { deadline_us: Some(TimeUs(i64::MAX / 2)), ..JobRequestAmended::default() });
    for (change, is_owed) in [(larger, false), (later, true)] {
        let mut world = plain(1);
        world.step(vec![recovered_within("lost", "red", Some(1))]);
        let node = node_of(&world, "lost");
        world.step(vec![node_state(&node, NodeState::Fenced)]);
        assert!(owed_by(&world, "lost").is_some());
        world.step(vec![change.into()]);
        assert_eq!(owed_by(&world, "lost").is_some(), is_owed);
    }
}

#[test]
fn whoever_was_to_leave_for_another_is_owed_nothing_when_its_node_is_lost() {
    let mut world = plain(1);
    world.step(vec![class("pushy", 50, true), class("bulk", 10, false)]);
    let recovery = Some(RecoveryClass { rto_us: Some(DurationUs(HOUR_US)), ..RecoveryClass::default() });
    let of = |name: &str, class: &str| JobRequested { class: ClassId::from(class), ..job(name, "red", 1, 8, 9) };
    world.step(vec![JobRequested { recovery, ..of("lost", "bulk") }.into()]);
    let node = node_of(&world, "lost");
    let mut outputs = world.step(vec![of("pushy", "pushy").into()]);
    outputs.extend(world.advance(60 * SECOND_US));
    assert_eq!(stopped_for(&outputs, "lost"), Some(StopCause::Priority), "{outputs:?}");
    world.step(vec![node_state(&node, NodeState::Fenced)]);
    assert_eq!(owed_by(&world, "lost"), None);
}
