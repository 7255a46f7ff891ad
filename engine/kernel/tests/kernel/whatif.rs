//! What the kernel would do if a failure domain were lost.

use solyx_histories::*;
use solyx_kernel::follow::Follower;
use solyx_kernel::whatif::{Cause, Domain, Fate, Hit, WhatIf};
use solyx_schemas::events::Event;
use solyx_schemas::events::capacity::*;
use solyx_schemas::events::decisions::LimitKind;
use solyx_schemas::events::facility::*;
use solyx_schemas::events::jobs::JobRequested;
use solyx_schemas::events::nodes::FeedShare;
use solyx_schemas::events::policy::ReserveSet;
use solyx_schemas::events::runs::{RunCheckpointed, RunLeaseRenewed, RunStarted};
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

use crate::class_of_value;

fn follower(world: &World) -> Follower {
    Follower::load(CellId::from("test"), world.kernel.snapshot().entries).unwrap()
}

fn loss(world: &World, domain: &str) -> WhatIf {
    let rehearsal = follower(world).rehearsal();
    let domain = rehearsal.domains().into_iter().find(|known| known.to_string() == domain).expect("a known domain");
    rehearsal.loss(&domain)
}

fn hit<'w>(found: &'w WhatIf, job: &str) -> &'w Hit {
    found.hits.iter().find(|hit| hit.job.as_str() == job).expect("the job is hit")
}

/// A site of our own with so many nodes, on which these jobs run; then another one and a provider's pool that has so many
/// instances.
fn two_sites(here: usize, jobs: &[&str], there: usize, instances: i64) -> World {
    let mut world = World::with_nodes(here);
    world.step(jobs.iter().map(|id| job(id, "red", 1, 8, 10).into()).collect());
    assert_eq!(world.running.len(), jobs.len());
    let lambda = PoolDeclared {
        provider: ProviderId::from("lambda"),
        start_delay_us: DurationUs(240 * SECOND_US),
        ..pool("lambda/h100", "virginia", CapacityClass::OnDemand)
    };
    let price = PoolPriced {
        pool: PoolId::from("lambda/h100"),
        price_micros_per_gpu_hour: RateMicros(3_000_000),
        currency: usd(),
        effective_from_us: TimeUs(START),
        ..PoolPriced::default()
    };
    let available = PoolAvailabilityReported {
        pool: PoolId::from("lambda/h100"),
        instances: Some(Count(instances)),
        ..PoolAvailabilityReported::default()
    };
    let mut events: Vec<Event> = vec![
        site("north").into(),
        site("virginia").into(),
        pool("north/h100", "north", CapacityClass::Owned).into(),
        lambda.into(),
        price.into(),
        available.into(),
    ];
    events.extend((0..there).map(|i| node(&format!("north-{i:03}"), "north/h100", 8, "leaf-n").into()));
    world.step(events);
    world
}

/// Says that a job's run started when it was placed, and what it has made durable since, where.
fn checkpointed(world: &mut World, job: &str, work_hours: i64, site: &str) {
    let placed = world.running[&JobId::from(job)].clone();
    let started = RunStarted {
        job: placed.job.clone(),
        run: placed.run.clone(),
        decision: RefId::from("test/0/0/0"),
        nodes: placed.nodes.clone(),
        started_us: placed.start_us,
        ..RunStarted::default()
    };
    let checkpoint = RunCheckpointed {
        job: placed.job,
        run: placed.run,
        work_us: WorkUs(work_hours * HOUR_US),
        site: SiteId::from(site),
        durable_us: TimeUs(START + work_hours * HOUR_US),
        ..RunCheckpointed::default()
    };
    let renewed = RunLeaseRenewed {
        job: started.job.clone(),
        run: started.run.clone(),
        lease_until_us: TimeUs(world.now + HOUR_US),
        ..RunLeaseRenewed::default()
    };
    world.step(vec![started.into(), checkpoint.into(), renewed.into()]);
}

#[test]
fn two_jobs_of_a_lost_site_do_not_take_the_same_room() {
    let world = two_sites(2, &["a", "b"], 1, 0);
    let found = loss(&world, "site:pod");
    let Fate::Placed { pool, nodes, start, .. } = &hit(&found, "a").fate else { panic!("{found:?}") };
    assert_eq!((pool.as_str(), nodes.len(), start.0), ("north/h100", 1, world.now));
    let Fate::Waits { limit, .. } = &hit(&found, "b").fate else { panic!("{found:?}") };
    assert_eq!((limit.kind, limit.asked, limit.available), (LimitKind::Gpus, Some(8_000), Some(0)));
    assert_eq!(loss(&world, "site:north"), WhatIf::default());
}

#[test]
fn a_lost_site_s_jobs_go_to_owned_room_first_and_then_to_leased_instances() {
    let world = two_sites(2, &["a", "b"], 1, 5);
    let found = loss(&world, "site:pod");
    assert!(matches!(hit(&found, "a").fate, Fate::Placed { .. }), "{found:?}");
    let Fate::Leases { pool, instances, start, terms } = &hit(&found, "b").fate else { panic!("{found:?}") };
    assert_eq!((pool.as_str(), *instances, start.0), ("lambda/h100", 1, world.now + 240 * SECOND_US));
    assert!(terms.as_ref().unwrap().rent_micros.0 >= 240_000_000);
    assert_eq!(hit(&found, "b").stays.as_ref().unwrap().rent_micros.0, 0);
    let order: Vec<&str> = found.hits.iter().map(|hit| hit.job.as_str()).collect();
    assert_eq!(order, ["a", "b"]);
    // The copy was rehearsed on; the state itself knows nothing of it.
    assert_eq!(world.kernel.live_runs(), 2);
    assert_eq!(loss(&world, "site:pod"), found);
}

#[test]
fn a_job_of_a_lost_site_whose_class_preempts_starts_where_another_stops_for_it() {
    let mut world = two_sites(1, &[], 1, 0);
    let of_class = |id: &str, class: &str| JobRequested { class: ClassId::from(class), ..job(id, "red", 1, 8, 10) };
    world.step(vec![class_of_value("urgent", 100), class_of_value("calm", 0), of_class("a", "urgent").into()]);
    world.step(vec![of_class("b", "calm").into()]);
    let (first, second) = (&world.running[&JobId::from("a")], &world.running[&JobId::from("b")]);
    let (lost, left) = (first.pool.clone(), second.pool.clone());
    let site = if lost.as_str() == "pod/h100" { "pod" } else { "north" };
    let found = loss(&world, &format!("site:{site}"));
    let (a, b) = (hit(&found, "a"), hit(&found, "b"));
    let Fate::Placed { pool, start, .. } = &a.fate else { panic!("{a:?}") };
    assert_eq!((a.cause, b.cause, pool), (Cause::Lost, Cause::Preempted, &left));
    assert!(b.released > TimeUs(world.now) && *start == b.released, "{start} is not when {b:?} has stopped");
    assert!(matches!(b.fate, Fate::Waits { .. }), "{b:?}");
}

#[test]
fn capacity_held_back_for_a_loss_is_there_for_it() {
    let mut world = two_sites(1, &["a"], 1, 0);
    let reserve = ReserveSet {
        domain: RefId::from("site:pod"),
        gpu_model: GpuModelId::from("H100"),
        held_back_milli: GpuMilli(8_000),
        ..ReserveSet::default()
    };
    world.step(vec![reserve.into()]);
    let outputs = world.step(vec![job("b", "red", 1, 8, 10).into()]);
    assert_eq!(held(&outputs, "b").map(|held| held.limit.kind), Some(LimitKind::FailoverReserve));
    let found = loss(&world, "site:pod");
    assert!(matches!(hit(&found, "a").fate, Fate::Placed { .. }), "{found:?}");
}

#[test]
fn a_lost_provider_takes_its_site_and_the_checkpoints_there_along() {
    let mut world = two_sites(1, &["a"], 1, 0);
    let other =
        PoolDeclared { provider: ProviderId::from("north"), ..pool("north/h100", "north", CapacityClass::Owned) };
    world.step(vec![other.into()]);
    world.now += 3 * HOUR_US;
    checkpointed(&mut world, "a", 2, "pod");
    let found = loss(&world, "provider:metapod");
    let a = hit(&found, "a");
    assert!(a.checkpoint_lost && matches!(a.fate, Fate::Placed { .. }), "{a:?}");
    assert_eq!((a.kept_work.0, a.lost_work.0), (0, 3 * HOUR_US));
    // With a fabric domain alone the storage stays: only what was done since the checkpoint is lost.
    let found = loss(&world, "fabric:pod/h100/leaf-0");
    let a = hit(&found, "a");
    assert!(!a.checkpoint_lost);
    assert_eq!((a.kept_work.0, a.lost_work.0), (2 * HOUR_US, HOUR_US));
}

#[test]
fn when_nothing_is_left_the_limit_is_that_no_gpu_is() {
    let mut world = World::with_nodes(1);
    world.step(vec![job("a", "red", 1, 8, 10).into()]);
    let found = loss(&world, "site:pod");
    let Fate::Waits { limit, .. } = &hit(&found, "a").fate else { panic!("{found:?}") };
    assert_eq!((limit.kind, limit.asked, limit.available), (LimitKind::Gpus, Some(8_000), Some(0)));
}

/// A site whose two feeds come from one switchboard: the kernel counts one root and lets both be filled.
fn one_root(feed_limit_w: i64, second_feed: bool) -> World {
    let mut world = World::with_nodes(0);
    let element = |name: &str, kind, parents: &[&str], limit_w| PowerElementDeclared {
        site: SiteId::from("pod"),
        element: ElementId::from(name),
        kind,
        parents: parents.iter().map(|parent| ElementId::from(*parent)).collect(),
        limit_w: PowerW(limit_w),
        derating_milli: Milli(1_000),
        ..PowerElementDeclared::default()
    };
    let mut events: Vec<Event> = vec![
        element("grid", ElementKind::Switchboard, &[], 1_000_000).into(),
        element("a", ElementKind::UtilityFeed, &["grid"], feed_limit_w).into(),
        element("b", ElementKind::UtilityFeed, &["grid"], feed_limit_w).into(),
    ];
    for i in 0..2 {
        let mut node = node(&format!("node-{i}"), "pod/h100", 8, "leaf");
        let feeds: &[&str] = if second_feed { &["a", "b"] } else { &["a"] };
        let share = Milli(1_000 / feeds.len() as i64);
        node.feeds =
            feeds.iter().map(|feed| FeedShare { element: ElementId::from(*feed), share_milli: share }).collect();
        events.push(node.into());
    }
    world.step(events);
    world
}

#[test]
fn a_lost_feed_s_load_falls_on_the_other_and_the_least_important_run_gives_way() {
    // Each node draws 1,000 W idle and 5,600 W more with its GPUs: 13,200 W in all, 6,600 W a feed.
    let mut world = one_root(10_000, true);
    let mut first = job("a", "red", 1, 8, 10);
    first.class = ClassId::from("urgent");
    world.step(vec![first.into(), job("b", "red", 1, 8, 10).into()]);
    let found = loss(&world, "feed:pod/a");
    let said: Vec<(&str, i64, i64)> = found
        .overloads
        .iter()
        .map(|(_, over)| (over.element.as_ref().unwrap().as_str(), over.load_w, over.limit_w))
        .collect();
    assert_eq!(said, [("b", 13_200, 10_000)]);
    assert_eq!(found.hits.len(), 1, "{found:?}");
    let b = hit(&found, "b");
    assert_eq!((b.cause, b.released.0), (Cause::Overload, world.now + 60 * SECOND_US));
    let Fate::Waits { limit, .. } = &b.fate else { panic!("{b:?}") };
    assert_eq!(limit.kind, LimitKind::Power);
    assert_eq!(limit.subject.as_ref().unwrap().as_str(), "pod/b");
}

#[test]
fn a_node_with_one_feed_is_lost_with_it() {
    let mut world = one_root(100_000, false);
    world.step(vec![job("a", "red", 1, 8, 10).into()]);
    let found = loss(&world, "feed:pod/a");
    assert_eq!(hit(&found, "a").cause, Cause::Lost);
    assert!(found.overloads.is_empty());
    assert_eq!(loss(&world, "feed:pod/b"), WhatIf::default());
}

#[test]
fn a_gang_on_a_lost_leaf_moves_as_a_whole_and_the_leaf_takes_nothing() {
    let mut world = World::with_nodes(8);
    world.step(vec![job("gang", "red", 4, 8, 10).into()]);
    let leaf = world.running[&JobId::from("gang")].nodes[0].node.to_string();
    let leaf = if leaf.as_str() < "node-004" { "leaf-0" } else { "leaf-1" };
    let found = loss(&world, &format!("fabric:pod/h100/{leaf}"));
    let Fate::Placed { nodes, .. } = &hit(&found, "gang").fate else { panic!("{found:?}") };
    assert_eq!(nodes.len(), 4);
    let on_lost = |node: &str| (node < "node-004") == (leaf == "leaf-0");
    assert!(nodes.iter().all(|replica| !on_lost(replica.node.as_str())), "{nodes:?}");
}

#[test]
fn domains_are_sites_providers_feeds_and_leaves_and_are_named_so() {
    let world = two_sites(5, &[], 1, 3);
    let names: Vec<String> = follower(&world).rehearsal().domains().iter().map(Domain::to_string).collect();
    assert_eq!(
        names,
        [
            "site:north",
            "site:pod",
            "site:virginia",
            "provider:lambda",
            "provider:metapod",
            "fabric:north/h100/leaf-n",
            "fabric:pod/h100/leaf-0",
            "fabric:pod/h100/leaf-1",
        ]
    );
}

#[test]
fn a_follower_comes_to_the_kernel_s_own_state_and_refuses_another_history() {
    let mut world = World::empty();
    let mut events = base_events();
    events.push(node("node-0", "pod/h100", 8, "leaf").into());
    events.push(job("a", "red", 1, 8, 10).into());
    events.sort_by_key(|event| event.topic());
    let closed = world.close(events.clone());
    let mut ordinals = std::collections::BTreeMap::new();
    let counted: Vec<_> = events
        .iter()
        .map(|event| {
            let ordinal = ordinals.entry(event.topic()).or_insert(0);
            *ordinal += 1;
            (solyx_schemas::epochs::Position::new(event.topic(), 0, *ordinal - 1), event)
        })
        .collect();
    let mut follower = Follower::new(CellId::from("test"));
    follower.follow(&closed.record, counted.clone(), &closed.outputs).unwrap();
    let states = |entries: Vec<solyx_kernel::table::Entry>| {
        let mut state = solyx_kernel::state::State::default();
        entries.iter().for_each(|entry| state.load(entry).unwrap());
        (state.runs.len(), state.nodes.len(), state.meta().clone())
    };
    assert_eq!(states(follower.entries()), states(world.kernel.snapshot().entries));
    let mut other = Follower::new(CellId::from("test"));
    let error = other.follow(&closed.record, counted, &closed.outputs[..1]).unwrap_err();
    assert!(error.to_string().starts_with("decision 1 of epoch 0 is none in the log"), "{error}");
}
