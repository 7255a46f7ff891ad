//! Power that placements commit: no decision takes an element beyond its limit.

use solyx_histories::*;
use solyx_schemas::events::Event;
use solyx_schemas::events::decisions::LimitKind;
use solyx_schemas::events::facility::{ElementKind, PowerElementDeclared};
use solyx_schemas::events::jobs::JobRequested;
use solyx_schemas::events::nodes::FeedShare;
use solyx_schemas::events::policy::SchedulingPolicySet;
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

use crate::class_of_value;

/// One node of eight GPUs behind one feed; idle it draws 1,000 W, and 700 W more for each GPU that is in use.
fn behind_a_feed(limit_w: i64) -> World {
    let mut world = World::with_nodes(0);
    let feed = PowerElementDeclared {
        site: SiteId::from("pod"),
        element: ElementId::from("a"),
        kind: ElementKind::UtilityFeed,
        limit_w: PowerW(limit_w),
        derating_milli: Milli(1_000),
        ..PowerElementDeclared::default()
    };
    let mut report = node("node-000", "pod/h100", 8, "leaf-0");
    report.feeds = vec![FeedShare { element: ElementId::from("a"), share_milli: Milli(1_000) }];
    world.step(vec![feed.into(), report.into()]);
    world
}

fn share(name: &str, milli: i64) -> JobRequested {
    let mut job = job(name, "red", 1, 1, 1);
    job.gang.gpu_milli_each = GpuMilli(milli);
    job
}

#[test]
fn a_share_of_an_idle_gpu_commits_the_power_of_the_whole_gpu() {
    let mut world = behind_a_feed(1_500);
    let closed = world.close(vec![share("a", 100).into()]);
    assert!(placed(&closed.outputs, "a").is_none());
    assert_eq!(held(&closed.outputs, "a").unwrap().limit.kind, LimitKind::Power);
    assert!(closed.record.overcommitments.is_empty());
}

#[test]
fn a_share_of_a_gpu_in_use_commits_no_more_power() {
    let mut world = behind_a_feed(1_700);
    let outputs = world.step(vec![share("a", 100).into(), share("b", 500).into()]);
    let gpus = ["a", "b"].map(|name| placed(&outputs, name).unwrap().nodes[0].gpus.clone());
    assert_eq!(gpus[0], gpus[1]);
}

#[test]
fn shares_that_cannot_all_lie_on_one_gpu_wait_for_power() {
    let mut world = behind_a_feed(1_700);
    let closed = world.close(vec![share("a", 600).into(), share("b", 600).into()]);
    assert!(placed(&closed.outputs, "a").is_some());
    assert_eq!(held(&closed.outputs, "b").unwrap().limit.kind, LimitKind::Power);
    assert!(closed.record.overcommitments.is_empty());
}

/// Racks behind one feed each, with a node of eight GPUs in each of them, which draws nothing while it is idle.
fn racks_that_carry(gpus: [i64; 3]) -> World {
    let mut world = World::with_nodes(0);
    let mut events = Vec::new();
    for (rack, gpus) in gpus.into_iter().enumerate() {
        let element = ElementId::from(format!("rack-{rack}"));
        let feed = PowerElementDeclared {
            site: SiteId::from("pod"),
            element: element.clone(),
            kind: ElementKind::Rack,
            limit_w: PowerW(1_000 + gpus * 700),
            derating_milli: Milli(1_000),
            ..PowerElementDeclared::default()
        };
        events.push(feed.into());
        let mut report = node(&format!("node-{rack}"), "pod/h100", 8, "leaf");
        report.feeds = vec![FeedShare { element, share_milli: Milli(1_000) }];
        events.push(report.into());
    }
    world.step(events);
    world
}

#[test]
fn a_gang_that_one_rack_cannot_carry_lies_in_several() {
    let gang = |replicas| job("gang", "red", replicas, 1, 1);
    let mut world = racks_that_carry([4, 1, 3]);
    let closed = world.close(vec![gang(8).into()]);
    let nodes = &placed(&closed.outputs, "gang").unwrap().nodes;
    let on = |name: &str| nodes.iter().filter(|replica| replica.node.as_str() == name).count();
    assert_eq!(["node-0", "node-1", "node-2"].map(on), [4, 1, 3]);
    assert!(closed.record.overcommitments.is_empty());
    let mut world = racks_that_carry([4, 1, 2]);
    let closed = world.close(vec![gang(8).into()]);
    assert_eq!(held(&closed.outputs, "gang").unwrap().limit.kind, LimitKind::Power);
}

#[test]
fn nobody_is_stopped_for_whom_the_power_would_not_do() {
    // A GPU less than the node has.
    let mut world = behind_a_feed(1_000 + 7 * 700);
    world.step(vec![ordered_by("classic").into(), class_of_value("urgent", 100), class_of_value("calm", 0)]);
    let of =
        |name: &str, class: &str, gpus| JobRequested { class: ClassId::from(class), ..job(name, "red", 1, gpus, 20) };
    world.step(vec![of("calm", "calm", 1).into()]);
    let mut outputs = world.step(vec![of("urgent", "urgent", 8).into()]);
    outputs.extend(world.advance(HOUR_US));
    assert!(!outputs.iter().any(|output| matches!(output, Event::JobPreempted(_))), "{outputs:?}");
}

#[test]
fn a_gang_that_only_several_racks_carry_is_promised_its_start() {
    let mut world = racks_that_carry([4, 0, 4]);
    let policy = SchedulingPolicySet { run_lease_us: Some(DurationUs(1_000 * HOUR_US)), ..ordered_by("classic") };
    world.step(vec![policy.into(), job("runs", "blue", 1, 1, 2).into()]);
    let outputs = world.step(vec![job("gang", "red", 8, 1, 1).into()]);
    assert_eq!(held(&outputs, "gang").unwrap().earliest_start_us, Some(TimeUs(START + 2 * HOUR_US)));
    let outputs = world.step(vec![job("small", "blue", 1, 1, 9).into()]);
    assert_eq!(held(&outputs, "small").unwrap().limit.kind, LimitKind::Backfill, "{outputs:?}");
}

/// A site whose elements are each fed by these two, in pairs, and a node on the lowest pair.
fn ladder(levels: usize) -> Vec<PowerElementDeclared> {
    let declared = |level: usize, side: &str| PowerElementDeclared {
        site: SiteId::from("pod"),
        element: ElementId::from(format!("{side}{level:02}")),
        kind: if level == 0 { ElementKind::UtilityFeed } else { ElementKind::Ups },
        parents: match level.checked_sub(1) {
            None => Vec::new(),
            Some(above) => ["a", "b"].map(|side| ElementId::from(format!("{side}{above:02}"))).to_vec(),
        },
        limit_w: PowerW(10_000),
        derating_milli: Milli(1_000),
        ..PowerElementDeclared::default()
    };
    (0..levels).flat_map(|level| ["a", "b"].map(|side| declared(level, side))).collect()
}

#[test]
fn forty_levels_of_which_each_is_fed_by_both_above_are_no_work() {
    let mut world = World::with_nodes(0);
    let mut report = node("node-000", "pod/h100", 8, "leaf-0");
    let lowest = ["a39", "b39"].map(|id| FeedShare { element: ElementId::from(id), share_milli: Milli(500) });
    report.feeds = lowest.to_vec();
    let mut events: Vec<_> = ladder(40).into_iter().map(Into::into).collect();
    events.push(report.into());
    let outputs = world.step(events);
    assert!(outputs.is_empty(), "{outputs:?}");
    // 6,600 W on both sides are 3,300 W on each; with one side lost there are 10,000 W for all of it.
    assert!(placed(&world.step(vec![job("all", "red", 1, 8, 1).into()]), "all").is_some());
}

#[test]
fn elements_that_would_feed_themselves_in_a_circle_are_rejected() {
    let mut world = World::with_nodes(0);
    let element = |id: &str, parents: &[&str]| PowerElementDeclared {
        site: SiteId::from("pod"),
        element: ElementId::from(id),
        kind: ElementKind::Ups,
        parents: parents.iter().map(|parent| ElementId::from(*parent)).collect(),
        limit_w: PowerW(1_000),
        derating_milli: Milli(1_000),
        ..PowerElementDeclared::default()
    };
    let closed = world.close(vec![element("x", &["y", "z"]).into(), element("y", &["z"]).into()]);
    assert!(closed.record.skipped.is_empty());
    for parents in [&["x"][..], &["z"], &["a", "y"]] {
        let closed = world.close(vec![element("z", parents).into()]);
        assert_eq!(closed.record.skipped.len(), 1, "{parents:?}");
    }
    assert!(world.close(vec![element("z", &["a"]).into()]).record.skipped.is_empty());
}

#[test]
fn with_a_feed_lost_all_of_the_load_falls_on_the_one_that_carries_nothing_otherwise() {
    let mut world = World::with_nodes(0);
    let feed = |id: &str, limit_w: i64| PowerElementDeclared {
        site: SiteId::from("pod"),
        element: ElementId::from(id),
        kind: ElementKind::UtilityFeed,
        limit_w: PowerW(limit_w),
        derating_milli: Milli(1_000),
        ..PowerElementDeclared::default()
    };
    let mut report = node("node-000", "pod/h100", 8, "leaf-0");
    let shares = [("a", 1_000), ("b", 0)];
    report.feeds =
        shares.map(|(id, milli)| FeedShare { element: ElementId::from(id), share_milli: Milli(milli) }).to_vec();
    // The standby carries an idle node, and one GPU of it.
    world.step(vec![feed("a", 10_000).into(), feed("b", 1_800).into(), report.into()]);
    let outputs = world.step(vec![job("one", "red", 1, 1, 1).into(), job("more", "red", 1, 1, 1).into()]);
    assert!(placed(&outputs, "one").is_some());
    assert_eq!(held(&outputs, "more").unwrap().limit.kind, LimitKind::Power);
}
