//! Gangs and where their replicas lie: domains, segments, spread, sets.

use std::collections::{BTreeMap, BTreeSet};

use solyx_histories::*;
use solyx_schemas::events::Event;
use solyx_schemas::events::decisions::{JobPlaced, LimitKind};
use solyx_schemas::events::jobs::*;
use solyx_schemas::events::nodes::NodeReported;
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

/// A node of an NVL72 rack: four GPUs, and the NVLink domain is the rack.
fn tray(rack: i64, tray: i64) -> NodeReported {
    let mut report = node(&format!("r{rack}-t{tray:02}"), "pod/h100", 4, &format!("leaf-{rack}"));
    report.rack = Some(ElementId::from(format!("rack-{rack}")));
    report.spine = Some(Name::from(format!("spine-{}", rack / 2)));
    for gpu in &mut report.gpus {
        gpu.nvlink_domain = Some(Name::from(format!("nvl-{rack}")));
    }
    report
}

/// So many racks of 18 nodes with 4 GPUs each, in one NVLink domain a rack, two racks a spine.
fn racks(racks: i64) -> World {
    let mut world = World::empty();
    let mut events = base_events();
    for event in &mut events {
        if let Event::GpuModelDeclared(model) = event {
            model.nvlink_domain_size = Count(72);
        }
    }
    events.extend((0..racks).flat_map(|rack| (0..18).map(move |i| tray(rack, i).into())));
    world.step(events);
    world
}

fn with(mut job: JobRequested, topology: Topology) -> JobRequested {
    job.topology = Some(topology);
    job
}

fn within(level: TopologyLevel) -> Topology {
    Topology { required: Some(level), ..Topology::default() }
}

fn spread(level: SpreadLevel, skew: i64) -> Topology {
    Topology { spread: Some(level), skew_max: Some(Count(skew)), ..Topology::default() }
}

/// Replicas by the first part of the node's name: the rack.
fn by_rack(placed: &JobPlaced) -> BTreeMap<String, i64> {
    let mut racks = BTreeMap::new();
    for replica in &placed.nodes {
        *racks.entry(replica.node.as_str().split('-').next().unwrap().to_owned()).or_default() += 1;
    }
    racks
}

#[test]
fn an_nvl72_rack_is_one_nvlink_domain_and_takes_a_gang_of_its_size() {
    let mut world = racks(2);
    let whole = with(job("whole", "red", 18, 4, 1), within(TopologyLevel::NvlinkDomain));
    let more = with(job("more", "blue", 19, 4, 1), within(TopologyLevel::NvlinkDomain));
    let outputs = world.step(vec![more.into()]);
    let limit = &held(&outputs, "more").unwrap().limit;
    assert_eq!((limit.kind, limit.asked, limit.available), (LimitKind::FabricDomain, Some(19), Some(18)));
    assert_eq!(limit.unit.as_ref().unwrap().as_str(), "replicas in one NVLink domain");
    let outputs = world.step(vec![whole.into()]);
    assert_eq!(by_rack(placed(&outputs, "whole").unwrap()).len(), 1);
}

#[test]
fn names_of_nvlink_domains_bind_nothing_where_the_model_is_linked_within_a_node() {
    let mut world = World::with_nodes(2);
    let mut reports: Vec<NodeReported> =
        (0..2).map(|i| node(&format!("node-{i:03}"), "pod/h100", 8, "leaf-0")).collect();
    for gpu in reports.iter_mut().flat_map(|report| &mut report.gpus) {
        gpu.nvlink_domain = Some(Name::from("nvl-0"));
    }
    world.step(reports.into_iter().map(Event::from).collect());
    let outputs = world.step(vec![with(job("two", "red", 2, 8, 1), within(TopologyLevel::NvlinkDomain)).into()]);
    assert_eq!(held(&outputs, "two").unwrap().limit.kind, LimitKind::FabricDomain);
}

#[test]
fn segments_are_whole_within_a_domain_and_the_gang_takes_the_fewest() {
    let mut world = racks(4);
    // One node of each of the first three racks is taken: each has room for one segment of 16 only.
    let taken = (0..3).map(|i| {
        let mut job = with(job(&format!("taken-{i}"), "blue", 2, 4, 9), within(TopologyLevel::Rack));
        job.gang.replicas_min = Count(2);
        job.into()
    });
    world.step(taken.collect());
    let topology =
        Topology { required: Some(TopologyLevel::NvlinkDomain), segment_min: Some(Count(8)), ..Topology::default() };
    let outputs = world.step(vec![with(job("gang", "red", 32, 4, 1), topology).into()]);
    let racks = by_rack(placed(&outputs, "gang").unwrap());
    assert!(racks.values().all(|replicas| replicas % 8 == 0), "{racks:?}");
    assert_eq!(racks.len(), 2, "{racks:?}");
}

#[test]
fn segments_without_room_wait_and_are_told_how_many_have_it() {
    let mut world = racks(2);
    let topology =
        Topology { required: Some(TopologyLevel::Rack), segment_min: Some(Count(12)), ..Topology::default() };
    let outputs = world.step(vec![with(job("gang", "red", 36, 4, 1), topology).into()]);
    let limit = &held(&outputs, "gang").unwrap().limit;
    assert_eq!((limit.kind, limit.asked, limit.available), (LimitKind::FabricDomain, Some(36), Some(24)));
    assert_eq!(limit.unit.as_ref().unwrap().as_str(), "replicas in segments of 12 within one rack");
}

#[test]
fn segments_that_do_not_divide_the_gang_are_rejected_with_the_field() {
    let mut world = racks(1);
    let topology = Topology { required: Some(TopologyLevel::Rack), segment_min: Some(Count(4)), ..Topology::default() };
    let outputs = world.step(vec![with(job("gang", "red", 6, 4, 1), topology).into()]);
    let rejected = outputs.iter().find_map(|output| match output {
        Event::JobRejected(e) => Some(&**e),
        _ => None,
    });
    let limit = &rejected.unwrap().limit;
    assert_eq!((limit.asked, limit.available), (Some(6), Some(4)));
    assert_eq!(limit.subject.as_ref().unwrap().as_str(), "topology.segment_min");
}

#[test]
fn a_preferred_level_that_cannot_hold_all_costs_the_fewest_domains_under_one_spine() {
    let mut world = racks(4);
    let blocker = with(job("blocker", "blue", 4, 4, 9), within(TopologyLevel::Rack));
    let outputs = world.step(vec![blocker.into()]);
    let blocked = by_rack(placed(&outputs, "blocker").unwrap());
    assert_eq!(blocked.len(), 1);
    let preferred = Topology { preferred: Some(TopologyLevel::Rack), ..Topology::default() };
    let outputs = world.step(vec![with(job("gang", "red", 36, 4, 1), preferred).into()]);
    let racks = by_rack(placed(&outputs, "gang").unwrap());
    let whole: BTreeSet<&str> = racks.keys().map(String::as_str).collect();
    assert_eq!(whole, BTreeSet::from(["r2", "r3"]), "the only spine with two whole racks");
}

#[test]
fn replicas_are_spread_over_racks_within_the_skew() {
    let mut world = racks(3);
    let outputs = world.step(vec![with(job("gang", "red", 7, 4, 1), spread(SpreadLevel::Rack, 1)).into()]);
    let racks = by_rack(placed(&outputs, "gang").unwrap());
    assert_eq!(racks.len(), 3);
    assert!(racks.values().max().unwrap() - racks.values().min().unwrap() <= 1, "{racks:?}");
}

#[test]
fn a_full_rack_holds_a_spread_gang_to_the_skew_and_says_so() {
    let mut world = racks(2);
    world.step(vec![with(job("full", "blue", 18, 4, 9), within(TopologyLevel::Rack)).into()]);
    let outputs = world.step(vec![with(job("gang", "red", 4, 4, 1), spread(SpreadLevel::Rack, 2)).into()]);
    let limit = &held(&outputs, "gang").unwrap().limit;
    assert_eq!((limit.kind, limit.asked, limit.available), (LimitKind::Spread, Some(4), Some(2)));
    assert_eq!(limit.unit.as_ref().unwrap().as_str(), "replicas over racks with a skew of 2");
    let outputs = world.step(vec![with(job("small", "red", 2, 4, 1), spread(SpreadLevel::Rack, 2)).into()]);
    assert!(placed(&outputs, "small").is_some());
}

#[test]
fn a_gang_spread_over_nodes_has_one_on_each() {
    let mut world = World::with_nodes(4);
    let outputs = world.step(vec![with(job("gang", "red", 4, 1, 1), spread(SpreadLevel::Node, 1)).into()]);
    let nodes: BTreeSet<_> = placed(&outputs, "gang").unwrap().nodes.iter().map(|replica| &replica.node).collect();
    assert_eq!(nodes.len(), 4);
}

#[test]
fn a_recovery_class_spreads_like_a_topology() {
    let mut world = racks(2);
    let mut asked = job("gang", "red", 2, 1, 1);
    asked.recovery = Some(RecoveryClass { spread: Some(SpreadLevel::Rack), ..RecoveryClass::default() });
    let outputs = world.step(vec![asked.into()]);
    assert_eq!(by_rack(placed(&outputs, "gang").unwrap()).len(), 2);
}

#[test]
fn a_node_that_moves_to_another_rack_counts_there() {
    let mut world = racks(1);
    let mut moved = tray(0, 17);
    moved.rack = Some(ElementId::from("rack-9"));
    world.step(vec![moved.into()]);
    let outputs = world.step(vec![with(job("whole", "red", 18, 4, 1), within(TopologyLevel::Rack)).into()]);
    assert_eq!(held(&outputs, "whole").unwrap().limit.available, Some(17));
    let outputs = world.step(vec![with(job("gang", "red", 2, 4, 1), spread(SpreadLevel::Rack, 1)).into()]);
    assert!(placed(&outputs, "gang").unwrap().nodes.iter().any(|replica| replica.node.as_str() == "r0-t17"));
}

#[test]
fn a_gang_spread_over_sites_is_refused_where_there_are_several() {
    let mut world = racks(1);
    let asked = || with(job("gang", "red", 2, 1, 1), spread(SpreadLevel::Site, 1));
    let mut alone = asked();
    alone.job = JobId::from("alone");
    assert!(placed(&world.step(vec![alone.into()]), "alone").is_some(), "one site is all there is");
    let second = pool("annex/h100", "annex", solyx_schemas::events::capacity::CapacityClass::Owned);
    world.step(vec![site("annex").into(), second.into()]);
    let limit = held(&world.step(vec![asked().into()]), "gang").unwrap().limit.clone();
    assert_eq!((limit.kind, limit.asked, limit.available), (LimitKind::Spread, Some(2), Some(1)));
}

fn of_set(mut job: JobRequested, size: i64) -> JobRequested {
    job.job_set = Some(JobSet { set: RefId::from("set"), size: Count(size) });
    job
}

#[test]
fn a_set_waits_for_its_last_job_and_then_starts_in_one_epoch() {
    let mut world = World::with_nodes(2);
    let outputs = world.step(vec![of_set(job("one", "red", 1, 8, 1), 2).into()]);
    let limit = &held(&outputs, "one").unwrap().limit;
    assert_eq!((limit.kind, limit.asked, limit.available), (LimitKind::JobSet, Some(2), Some(1)));
    assert_eq!(world.kernel.index_differences(), Vec::<String>::new());
    let outputs = world.step(vec![of_set(job("two", "red", 1, 8, 1), 2).into()]);
    assert!(placed(&outputs, "one").is_some() && placed(&outputs, "two").is_some());
    assert_eq!(world.kernel.index_differences(), Vec::<String>::new());
}

#[test]
fn a_set_of_which_one_does_not_fit_starts_none_and_names_it() {
    let mut world = World::with_nodes(2);
    world.step(vec![job("other", "blue", 1, 1, 9).into()]);
    let set = ["one", "two"].map(|name| of_set(job(name, "red", 1, 8, 1), 2).into());
    let outputs = world.step(set.to_vec());
    for name in ["one", "two"] {
        assert!(placed(&outputs, name).is_none());
        let limit = &held(&outputs, name).unwrap().limit;
        assert_eq!((limit.kind, limit.asked, limit.available), (LimitKind::JobSet, Some(2), Some(1)));
        assert_eq!(limit.subject.as_ref().unwrap().as_str(), "two");
    }
    assert_eq!(world.kernel.index_differences(), Vec::<String>::new());
    let outputs = world.step(vec![world.finish("other")]);
    assert!(placed(&outputs, "one").is_some() && placed(&outputs, "two").is_some());
    // One that ends leaves the other as it is, also for a retry.
    world.step(vec![world.finish("one")]);
    assert_eq!(world.kernel.index_differences(), Vec::<String>::new());
}

#[test]
fn an_elastic_gang_in_segments_has_whole_segments_and_as_much_speed_as_replicas() {
    let mut world = racks(1);
    let topology = Topology { required: Some(TopologyLevel::Rack), segment_min: Some(Count(2)), ..Topology::default() };
    let mut elastic = with(job("elastic", "red", 2, 4, 9), topology.clone());
    elastic.gang.replicas_max = Count(5);
    let outputs = world.step(vec![elastic.into()]);
    let found = placed(&outputs, "elastic").unwrap();
    assert_eq!((found.replicas, found.nodes.len(), found.speed_milli), (Count(4), 4, Milli(2_000)));
    // Three would be in time, and are one and a half segments.
    let mut late = with(job("late", "red", 2, 4, 9), topology);
    late.gang.replicas_max = Count(5);
    late.preemptible = false;
    late.deadline_us = Some(TimeUs(START + 6 * HOUR_US));
    let outputs = world.step(vec![late.into()]);
    let found = placed(&outputs, "late").unwrap();
    assert_eq!((found.replicas, found.expected_end_us), (Count(4), Some(TimeUs(START + 9 * HOUR_US / 2))));
}
