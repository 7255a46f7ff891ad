//! What becomes of jobs when something goes wrong with them or with what they run on, and of whoever is kept out.

use solyx_histories::*;
use solyx_schemas::events::Event;
use solyx_schemas::events::capacity::{CapacityClass, PoolPriced, ProviderState, ProviderStateChanged};
use solyx_schemas::events::decisions::{LimitKind, NodeCordonOrdered, StopCause};
use solyx_schemas::events::jobs::*;
use solyx_schemas::events::nodes::{NodeState, NodeStateChanged};
use solyx_schemas::events::policy::*;
use solyx_schemas::events::runs::{RunFailed, StopReason};
use solyx_schemas::events::world::InstanceLeased;
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

/// A fleet of so many nodes on which nobody has to renew leases.
pub fn fleet(nodes: usize, policy: SchedulingPolicySet) -> World {
    let mut world = World::with_nodes(nodes);
    world.step(vec![SchedulingPolicySet { run_lease_us: Some(DurationUs(10_000 * HOUR_US)), ..policy }.into()]);
    world
}

pub fn plain(nodes: usize) -> World {
    fleet(nodes, ordered_by("classic"))
}

pub fn failed(world: &World, job: &str, category: FailureCategory) -> Event {
    let placed = &world.running[&JobId::from(job)];
    let (run, node) = (placed.run.clone(), Some(placed.nodes[0].node.clone()));
    let (job, failed_us) = (JobId::from(job), TimeUs(world.now));
    RunFailed { job, run, category, node, failed_us, ..RunFailed::default() }.into()
}

fn cancelled(outputs: &[Event], job: &str) -> Option<StopCause> {
    outputs.iter().find_map(|output| match output {
        Event::JobCancelled(e) if e.job.as_str() == job => Some(e.cause),
        _ => None,
    })
}

pub fn stopped_for(outputs: &[Event], job: &str) -> Option<StopCause> {
    outputs.iter().find_map(|output| match output {
        Event::JobPreempted(e) if e.job.as_str() == job => Some(e.cause),
        // Nowhere else: it is queued again.
        Event::JobMigrated(e) if e.job.as_str() == job && e.to_pool.is_none() => Some(e.cause),
        _ => None,
    })
}

fn requeued(outputs: &[Event], job: &str) -> Option<(StopCause, Option<FailureCategory>)> {
    outputs.iter().find_map(|output| match output {
        Event::JobRequeued(e) if e.job.as_str() == job => Some((e.cause, e.category)),
        _ => None,
    })
}

/// A pool is sold for a dollar an hour.
fn priced(pool: &str) -> Event {
    PoolPriced {
        pool: PoolId::from(pool),
        price_micros_per_gpu_hour: RateMicros(1_000_000),
        currency: usd(),
        effective_from_us: TimeUs(START),
        ..PoolPriced::default()
    }
    .into()
}

fn scope(scope_kind: ScopeKind, scope: &str, state: ScopeState) -> Event {
    let (scope, actor) = (RefId::from(scope), Name::from("desk"));
    ScopeStateChanged { scope_kind, scope, state, actor, ..ScopeStateChanged::default() }.into()
}

#[test]
fn a_node_that_fails_too_often_is_cordoned_with_the_evidence_and_takes_nothing_more() {
    let (lemon_failures_max, lemon_window_us) = (Some(Count(2)), Some(DurationUs(6 * HOUR_US)));
    let mut world = fleet(1, SchedulingPolicySet { lemon_failures_max, lemon_window_us, ..ordered_by("classic") });
    let cordons = |outputs: &[Event]| -> Vec<NodeCordonOrdered> {
        let of = |output: &Event| match output {
            Event::NodeCordonOrdered(cordon) => Some((**cordon).clone()),
            _ => None,
        };
        outputs.iter().filter_map(of).collect()
    };
    world.step(vec![job("a", "red", 1, 1, 9).into(), job("b", "red", 1, 1, 9).into(), job("c", "red", 1, 1, 9).into()]);
    let outputs = world.step(vec![failed(&world, "a", FailureCategory::UserCode)]);
    assert!(cordons(&outputs).is_empty(), "what a job does itself is not held against its node");
    let outputs = world.step(vec![failed(&world, "b", FailureCategory::Gpu)]);
    assert!(cordons(&outputs).is_empty());
    world.now += SECOND_US;
    let outputs = world.step(vec![failed(&world, "c", FailureCategory::Node)]);
    let [cordon] = &cordons(&outputs)[..] else { panic!("{outputs:?}") };
    assert_eq!((cordon.node.as_str(), cordon.failures), ("node-000", Count(2)));
    let at = world.kernel.state().nodes.get(&cordon.node).unwrap().failures.iter().map(|at| at.0.to_string());
    let at: Vec<String> = at.collect();
    assert!(at.len() == 2 && cordon.evidence.ends_with(&format!("{} µs", at.join(", "))), "{cordon:?}");
    assert!(!cordon.reason.is_empty(), "{cordon:?}");
    assert!(placed(&world.step(vec![job("d", "red", 1, 1, 1).into()]), "d").is_none());
}

#[test]
fn a_failure_that_ends_its_job_counts_against_its_node_like_any() {
    let (lemon_failures_max, lemon_window_us) = (Some(Count(2)), Some(DurationUs(6 * HOUR_US)));
    let mut world = fleet(1, SchedulingPolicySet { lemon_failures_max, lemon_window_us, ..ordered_by("classic") });
    let once = |name: &str| {
        let retry_limits = vec![RetryLimit { category: FailureCategory::Gpu, retries_max: Count(0) }];
        Event::from(JobRequested { retry_limits, ..job(name, "red", 1, 1, 9) })
    };
    world.step(vec![once("a"), once("b")]);
    let outputs = world.step(vec![failed(&world, "a", FailureCategory::Gpu)]);
    assert_eq!(cancelled(&outputs, "a"), Some(StopCause::Failed));
    world.now += SECOND_US;
    let outputs = world.step(vec![failed(&world, "b", FailureCategory::Gpu)]);
    assert_eq!(cancelled(&outputs, "b"), Some(StopCause::Failed));
    assert!(outputs.iter().any(|output| matches!(output, Event::NodeCordonOrdered(_))), "{outputs:?}");
}

pub fn node_of(world: &World, job: &str) -> String {
    world.running[&JobId::from(job)].nodes[0].node.to_string()
}

pub fn node_state(node: &str, state: NodeState) -> Event {
    NodeStateChanged { node: NodeId::from(node), state, ..NodeStateChanged::default() }.into()
}

/// Cordoned after two failures within six hours.
fn with_lemons() -> SchedulingPolicySet {
    let (lemon_failures_max, lemon_window_us) = (Some(Count(2)), Some(DurationUs(6 * HOUR_US)));
    SchedulingPolicySet { lemon_failures_max, lemon_window_us, ..ordered_by("classic") }
}

fn is_cordoned(world: &World, node: &str) -> bool {
    world.kernel.state().nodes.get(&NodeId::from(node)).unwrap().state == NodeState::Cordoned
}

#[test]
fn what_fails_on_a_node_at_one_instant_counts_once_and_whoever_lets_it_work_again_wipes_the_slate() {
    let mut world = fleet(1, with_lemons());
    world.step(["a", "b", "c"].map(|name| job(name, "red", 1, 1, 9).into()).to_vec());
    let both = ["a", "b"].map(|name| failed(&world, name, FailureCategory::Gpu)).to_vec();
    world.step(both);
    assert!(!is_cordoned(&world, "node-000"));
    world.now += SECOND_US;
    world.step(vec![failed(&world, "c", FailureCategory::Gpu)]);
    assert!(is_cordoned(&world, "node-000"));
    world.step(vec![node_state("node-000", NodeState::Ready)]);
    world.now += SECOND_US;
    world.step(vec![job("d", "red", 1, 1, 9).into()]);
    world.step(vec![failed(&world, "d", FailureCategory::Gpu)]);
    assert!(!is_cordoned(&world, "node-000"), "it has failed once since");
}

#[test]
fn a_node_that_is_fenced_again_and_again_is_cordoned_when_it_comes_back() {
    let mut world = fleet(1, with_lemons());
    for time in ["once", "twice"] {
        world.step(vec![job(time, "red", 1, 1, 9).into()]);
        assert!(!is_cordoned(&world, "node-000"), "{time}");
        world.step(vec![node_state("node-000", NodeState::Fenced)]);
        world.now += HOUR_US;
        world.step(vec![node_state("node-000", NodeState::Ready)]);
    }
    assert!(is_cordoned(&world, "node-000"));
}

#[test]
fn what_nobody_could_start_is_tried_again_after_a_wait() {
    let mut world = plain(2);
    world.step(vec![job("a", "red", 1, 1, 9).into()]);
    let placed_run = &world.running[&JobId::from("a")];
    let (run, category, failed_us) = (placed_run.run.clone(), FailureCategory::Provider, TimeUs(world.now));
    let failed = RunFailed { job: JobId::from("a"), run, category, failed_us, ..RunFailed::default() };
    let outputs = world.step(vec![failed.into()]);
    assert_eq!(requeued(&outputs, "a"), Some((StopCause::Failed, Some(FailureCategory::Provider))));
    assert!(placed(&outputs, "a").is_none(), "{outputs:?}");
    let outputs = world.advance(HOUR_US);
    assert!(placed(&outputs, "a").is_some());
}

#[test]
fn a_job_that_ran_out_of_memory_gets_as_much_as_it_allows_the_next_time() {
    let mut world = plain(1);
    let mut wants = job("a", "red", 1, 1, 9);
    wants.gang.memory_mib = MemoryMib(1_000);
    wants.gang.memory_max_mib = Some(MemoryMib(4_000));
    world.step(vec![wants.into()]);
    let memory =
        |world: &World| world.kernel.state().runs.get(&world.running[&JobId::from("a")].run).unwrap().memory_mib;
    assert_eq!(memory(&world), MemoryMib(1_000));
    world.step(vec![failed(&world, "a", FailureCategory::OutOfMemory)]);
    world.advance(HOUR_US);
    assert_eq!(memory(&world), MemoryMib(4_000));
}

#[test]
fn a_category_is_retried_as_often_as_the_job_says_and_its_own_code_never_by_default() {
    let mut world = plain(1);
    world.step(vec![job("plain", "red", 1, 1, 9).into()]);
    let outputs = world.step(vec![failed(&world, "plain", FailureCategory::UserCode)]);
    assert_eq!(cancelled(&outputs, "plain"), Some(StopCause::Failed));
    let retry_limits = vec![RetryLimit { category: FailureCategory::UserCode, retries_max: Count(1) }];
    world.step(vec![JobRequested { retry_limits, ..job("stubborn", "red", 1, 1, 9) }.into()]);
    let outputs = world.step(vec![failed(&world, "stubborn", FailureCategory::UserCode)]);
    assert_eq!(cancelled(&outputs, "stubborn"), None);
    world.advance(HOUR_US);
    let outputs = world.step(vec![failed(&world, "stubborn", FailureCategory::UserCode)]);
    assert_eq!(cancelled(&outputs, "stubborn"), Some(StopCause::Failed));
}

#[test]
fn behind_a_job_that_fails_whoever_needs_it_ends_and_whoever_only_waits_for_it_starts() {
    let mut world = plain(1);
    let behind = |name: &str, condition| {
        let depends_on = vec![Dependency { job: JobId::from("first"), condition }];
        JobRequested { depends_on, ..job(name, "red", 1, 1, 1) }
    };
    let waiting = [behind("after-ok", DependencyCondition::Ok), behind("after-any", DependencyCondition::Any)];
    let mut asked: Vec<Event> = vec![job("first", "red", 1, 1, 9).into()];
    asked.extend(waiting.map(Event::from));
    let outputs = world.step(asked);
    for name in ["after-ok", "after-any"] {
        let limit = &held(&outputs, name).unwrap().limit;
        assert_eq!((limit.kind, limit.subject.as_ref().unwrap().as_str()), (LimitKind::Dependency, "first"));
    }
    let outputs = world.step(vec![failed(&world, "first", FailureCategory::UserCode)]);
    assert_eq!(cancelled(&outputs, "after-ok"), Some(StopCause::Dependency));
    assert!(placed(&outputs, "after-any").is_some(), "{outputs:?}");
}

#[test]
fn a_job_that_would_wait_for_itself_over_others_is_not_let_in() {
    let mut world = plain(1);
    let behind = |name: &str, other: &str| {
        let depends_on = vec![Dependency { job: JobId::from(other), condition: DependencyCondition::Ok }];
        Event::from(JobRequested { depends_on, ..job(name, "red", 1, 1, 1) })
    };
    let (_, counted) = world.close_counting(vec![behind("c", "b"), behind("b", "a"), behind("a", "c")]);
    assert_eq!(counted.len(), 2, "the one that closes the ring does not count");
    assert!(world.kernel.state().jobs.get(&JobId::from("a")).is_none());
    let (_, counted) = world.close_counting(vec![job("a", "red", 1, 1, 1).into()]);
    assert_eq!(counted.len(), 1);
}

#[test]
fn a_job_on_hold_starts_when_it_is_released() {
    let mut world = plain(1);
    let outputs = world.step(vec![JobRequested { hold: true, ..job("a", "red", 1, 1, 1) }.into()]);
    assert_eq!(held(&outputs, "a").unwrap().limit.kind, LimitKind::Hold);
    let action = HoldAction::Release;
    let release = JobHoldSet { job: JobId::from("a"), action, actor: Name::from("desk"), ..JobHoldSet::default() };
    assert!(placed(&world.step(vec![release.into()]), "a").is_some());
}

#[test]
fn an_exclusive_job_has_its_nodes_to_itself() {
    let mut world = plain(2);
    let mut alone = job("alone", "red", 1, 1, 9);
    alone.gang.exclusive_node = true;
    world.step(vec![alone.clone().into()]);
    let node = world.running[&JobId::from("alone")].nodes[0].node.clone();
    world.step(vec![job("other", "red", 1, 1, 9).into()]);
    assert_ne!(world.running[&JobId::from("other")].nodes[0].node, node);
    // Where somebody is already, it does not go.
    let outputs = world.step(vec![JobRequested { job: JobId::from("second"), ..alone }.into()]);
    assert!(placed(&outputs, "second").is_none(), "{outputs:?}");
}

#[test]
fn at_a_provider_that_is_down_nothing_starts_and_what_its_nodes_lose_is_requeued() {
    let mut world = plain(1);
    world.step(vec![job("runs", "red", 1, 1, 9).into()]);
    let (provider, state) = (ProviderId::from("metapod"), ProviderState::Down);
    let down = ProviderStateChanged { provider: provider.clone(), state, ..ProviderStateChanged::default() };
    let outputs = world.step(vec![down.into(), job("new", "red", 1, 1, 1).into()]);
    assert_eq!(held(&outputs, "new").unwrap().limit.kind, LimitKind::ProviderCapacity, "{outputs:?}");
    assert_eq!(stopped_for(&outputs, "runs"), None, "it may still run");
    let (node, fenced) = (NodeId::from("node-000"), NodeState::Fenced);
    let outputs = world.step(vec![NodeStateChanged { node, state: fenced, ..NodeStateChanged::default() }.into()]);
    assert_eq!(requeued(&outputs, "runs"), Some((StopCause::SiteLost, Some(FailureCategory::Provider))));
}

#[test]
fn a_lost_run_is_told_what_it_was_lost_to() {
    let lost_in = |pool_of: &str| {
        let mut world = plain(0);
        let leased = |name: &str, class| Event::from(pool(name, "pod", class));
        world.step(vec![leased("pod/demand", CapacityClass::OnDemand), leased("pod/spot", CapacityClass::Spot)]);
        if pool_of == "pod/h100" {
            world.step(vec![node("there", pool_of, 8, "leaf").into(), job("a", "red", 1, 1, 9).into()]);
        } else {
            let outputs = world.step(vec![priced(pool_of), job("a", "red", 1, 1, 9).into()]);
            let order = outputs.iter().find_map(|output| match output {
                Event::CapacityLeaseOrdered(e) => Some(format!("test/{}/{}/{}", e.epoch, e.term, e.index)),
                _ => None,
            });
            let (order, from_us) = (RefId::from(order.expect("an order")), TimeUs(world.now));
            let (pool, instance) = (PoolId::from(pool_of), InstanceId::from("there"));
            let (price, currency) = (RateMicros(1_000_000), usd());
            let comes = InstanceLeased { pool, instance, order, from_us, currency, ..InstanceLeased::default() };
            world.step(vec![InstanceLeased { price_micros_per_gpu_hour: price, ..comes }.into()]);
        }
        assert!(world.running.contains_key(&JobId::from("a")), "in {pool_of}");
        requeued(&world.step(vec![node_state(&node_of(&world, "a"), NodeState::Fenced)]), "a")
    };
    assert_eq!(lost_in("pod/h100"), Some((StopCause::NodeLost, Some(FailureCategory::Node))));
    assert_eq!(lost_in("pod/demand"), Some((StopCause::NodeLost, Some(FailureCategory::Node))));
    assert_eq!(lost_in("pod/spot"), Some((StopCause::SpotReclaimed, Some(FailureCategory::SpotReclaim))));
}

#[test]
fn a_run_whose_lease_has_passed_is_told_so() {
    let mut world = World::with_nodes(1);
    world.step(vec![SchedulingPolicySet { run_lease_us: Some(DurationUs(HOUR_US)), ..ordered_by("classic") }.into()]);
    world.step(vec![job("a", "red", 1, 1, 9).into()]);
    let outputs = world.advance(2 * HOUR_US);
    assert_eq!(requeued(&outputs, "a"), Some((StopCause::LeasePassed, Some(FailureCategory::Node))));
}

#[test]
fn a_cordon_of_a_site_a_pool_a_tenant_or_a_queue_lets_nothing_start_and_everything_run_on() {
    let scopes = [
        (ScopeKind::Site, "pod"),
        (ScopeKind::Pool, "pod/h100"),
        (ScopeKind::Tenant, "red"),
        (ScopeKind::Queue, "red/vision"),
    ];
    for (kind, id) in scopes {
        let of = |name: &str| JobRequested { project: Some(ProjectId::from("vision")), ..job(name, "red", 1, 1, 9) };
        let mut world = plain(1);
        world.step(vec![of("runs").into()]);
        let outputs = world.step(vec![scope(kind, id, ScopeState::Cordoned), of("new").into()]);
        assert_eq!(held(&outputs, "new").unwrap().limit.kind, LimitKind::Cordon, "{id}");
        assert_eq!(stopped_for(&outputs, "runs"), None, "{id}");
        let outputs = world.step(vec![scope(kind, id, ScopeState::Open)]);
        assert!(placed(&outputs, "new").is_some(), "{id}: {outputs:?}");
    }
}

#[test]
fn what_is_said_of_a_tenant_holds_for_those_below_it() {
    let mut world = plain(1);
    let (tenant, parent) = (TenantId::from("child"), Some(TenantId::from("red")));
    world.step(vec![TenantDeclared { tenant, parent, ..tenant_of_weight_one() }.into()]);
    let outputs = world.step(vec![
        scope(ScopeKind::Tenant, "red", ScopeState::Cordoned),
        job("below", "child", 1, 1, 1).into(),
        job("beside", "blue", 1, 1, 1).into(),
    ]);
    let limit = &held(&outputs, "below").unwrap().limit;
    assert_eq!((limit.kind, limit.subject.as_ref().unwrap().as_str()), (LimitKind::Cordon, "red"));
    assert!(placed(&outputs, "beside").is_some());
}

#[test]
fn what_a_drained_tenant_or_queue_runs_is_stopped_and_waits_until_it_is_open_again() {
    for (kind, id) in [(ScopeKind::Tenant, "red"), (ScopeKind::Queue, "red/vision")] {
        let of = |name: &str| JobRequested { project: Some(ProjectId::from("vision")), ..job(name, "red", 1, 1, 9) };
        let mut world = plain(2);
        world.step(vec![of("leaves").into(), job("stays", "blue", 1, 1, 9).into()]);
        let outputs = world.step(vec![scope(kind, id, ScopeState::Drained)]);
        assert_eq!(stopped_for(&outputs, "leaves"), Some(StopCause::Drain), "{id}: {outputs:?}");
        assert_eq!(stopped_for(&outputs, "stays"), None);
        let stopped = world.stopped("leaves", StopReason::Preempted);
        let outputs = world.step(vec![stopped]);
        assert!(placed(&outputs, "leaves").is_none(), "{id}: {outputs:?}");
        let outputs = world.step(vec![scope(kind, id, ScopeState::Open)]);
        assert!(placed(&outputs, "leaves").is_some(), "{id}: {outputs:?}");
    }
}

#[test]
fn a_job_whose_hour_has_come_hears_what_keeps_it_then() {
    let mut world = plain(1);
    world.step(vec![job("runs", "red", 1, 8, 20).into()]);
    world.step(vec![job("first", "red", 1, 8, 2).into()]);
    let later = JobRequested { not_before_us: Some(TimeUs(START + HOUR_US)), ..job("later", "red", 1, 8, 2) };
    let outputs = world.step(vec![later.into()]);
    assert_eq!(held(&outputs, "later").unwrap().limit.kind, LimitKind::NotBefore);
    let outputs = world.advance(HOUR_US);
    assert_eq!(held(&outputs, "later").map(|held| held.limit.kind), Some(LimitKind::Gpus), "{outputs:?}");
}

#[test]
fn a_job_avoids_the_node_that_failed_it_for_as_long_as_the_failure_counts() {
    let lemon_window_us = Some(DurationUs(6 * HOUR_US));
    let mut world = fleet(1, SchedulingPolicySet { lemon_window_us, ..ordered_by("classic") });
    world.step(vec![job("a", "red", 1, 1, 1).into()]);
    world.step(vec![failed(&world, "a", FailureCategory::Gpu)]);
    assert!(placed(&world.advance(5 * HOUR_US), "a").is_none(), "the only node failed it");
    assert!(placed(&world.advance(HOUR_US), "a").is_some(), "failures of more than six hours ago no longer count");
}
