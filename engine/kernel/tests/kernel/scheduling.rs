//! What the kernel does with whole worlds, rule by rule.

use solyx_histories::*;
use solyx_schemas::events::Event;
use solyx_schemas::events::capacity::PoolPriced;
use solyx_schemas::events::decisions::{LimitKind, StopCause};
use solyx_schemas::events::jobs::*;
use solyx_schemas::events::nodes::*;
use solyx_schemas::events::policy::*;
use solyx_schemas::events::runs::*;
use solyx_schemas::events::usage::{Meter, UsageMetered};
use solyx_schemas::events::world::*;
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

#[test]
fn a_job_that_fits_is_admitted_and_placed_in_the_epoch_that_reads_it() {
    let mut world = World::with_nodes(1);
    let outputs = world.step(vec![job("a", "red", 1, 2, 1).into()]);
    assert!(matches!(outputs[0], Event::JobAdmitted(_)));
    let placed = placed(&outputs, "a").unwrap();
    assert_eq!(placed.gpu_milli, GpuMilli(2_000));
    assert_eq!(placed.expected_end_us, Some(TimeUs(START + HOUR_US)));
}

#[test]
fn a_gang_starts_whole_or_not_at_all() {
    let mut world = World::with_nodes(2);
    let outputs = world.step(vec![job("small", "red", 1, 1, 1).into(), job("gang", "blue", 2, 8, 1).into()]);
    assert!(placed(&outputs, "small").is_some());
    let limit = &held(&outputs, "gang").unwrap().limit;
    assert_eq!((limit.kind, limit.asked), (LimitKind::Gpus, Some(16_000)));
    world.now += HOUR_US;
    let outputs = world.step(vec![world.finish("small")]);
    assert_eq!(placed(&outputs, "gang").unwrap().nodes.len(), 2);
}

#[test]
fn a_gang_that_asks_for_one_leaf_gets_one_or_waits() {
    let mut world = World::with_nodes(8);
    let mut gang = job("gang", "red", 4, 8, 1);
    gang.topology = Some(Topology { required: Some(TopologyLevel::Leaf), ..Topology::default() });
    let mut huge = job("huge", "blue", 5, 8, 1);
    huge.topology = gang.topology.clone();
    let outputs = world.step(vec![gang.into(), huge.into()]);
    let nodes = &placed(&outputs, "gang").unwrap().nodes;
    let leaf = |node: &NodeId| world.kernel.state().nodes.get(node).unwrap().report.as_ref().unwrap().leaf.clone();
    assert!(nodes.iter().all(|replica| leaf(&replica.node) == leaf(&nodes[0].node)));
    let limit = &held(&outputs, "huge").unwrap().limit;
    assert_eq!(limit.asked, Some(40_000), "{limit:?}");
}

#[test]
fn a_gang_larger_than_any_domain_is_told_so() {
    let mut world = World::with_nodes(8);
    let mut huge = job("huge", "blue", 5, 8, 1);
    huge.topology = Some(Topology { required: Some(TopologyLevel::Leaf), ..Topology::default() });
    let outputs = world.step(vec![huge.into()]);
    let limit = &held(&outputs, "huge").unwrap().limit;
    assert_eq!((limit.kind, limit.asked, limit.available), (LimitKind::FabricDomain, Some(5), Some(4)));
}

#[test]
fn shares_of_a_gpu_go_on_one_gpu_until_it_is_full() {
    let mut world = World::with_nodes(1);
    let mut jobs = Vec::new();
    for i in 0..3 {
        let mut share = job(&format!("share-{i}"), "red", 1, 1, 1);
        share.gang.gpu_milli_each = GpuMilli(400);
        jobs.push(share.into());
    }
    let outputs = world.step(jobs);
    let gpu = |name: &str| placed(&outputs, name).unwrap().nodes[0].gpus[0];
    assert_eq!(gpu("share-0"), gpu("share-1"));
    assert_ne!(gpu("share-0"), gpu("share-2"));
}

#[test]
fn a_higher_class_goes_first_and_within_one_the_tenant_with_less() {
    let mut world = World::with_nodes(1);
    world.step(vec![job("red-1", "red", 1, 6, 1).into()]);
    let mut urgent = job("urgent", "red", 1, 8, 1);
    urgent.class = ClassId::from("urgent");
    let waiting = vec![job("red-2", "red", 1, 4, 1).into(), job("blue-1", "blue", 1, 4, 1).into(), urgent.into()];
    world.step(waiting);
    world.now += HOUR_US;
    let outputs = world.step(vec![world.finish("red-1")]);
    assert!(placed(&outputs, "urgent").is_some());
    world.now += HOUR_US;
    let outputs = world.step(vec![world.finish("urgent")]);
    assert!(placed(&outputs, "blue-1").is_some() && placed(&outputs, "red-2").is_some());
}

#[test]
fn shares_are_compared_from_the_top_of_the_tree_of_tenants_down() {
    let mut world = World::with_nodes(1);
    world.step(vec![ordered_by("classic").into()]);
    let tenant = |name: &str, parent: Option<&str>| -> Event {
        let parent = parent.map(TenantId::from);
        TenantDeclared { tenant: name.into(), parent, ..tenant_of_weight_one() }.into()
    };
    let mut events = vec![tenant("house", None), tenant("solo", None)];
    events.extend([tenant("house/a", Some("house")), tenant("house/b", Some("house"))]);
    for name in ["house/a", "house/b", "solo"] {
        events.extend((0..8).map(|n| Event::from(job(&format!("{name}-{n}"), name, 1, 1, 1))));
    }
    let outputs = world.step(events);
    let of = |name: &str| (0..8).filter(|n| placed(&outputs, &format!("{name}-{n}")).is_some()).count();
    assert_eq!(("house/a", of("house/a"), of("house/b"), of("solo")), ("house/a", 2, 2, 4));
}

#[test]
fn a_promise_stands_while_shares_turn() {
    let mut world = World::with_nodes(1);
    world.step(vec![ordered_by("classic").into()]);
    world.step(vec![job("running", "blue", 1, 4, 2).into(), job("short", "red", 1, 4, 1).into()]);
    let outputs = world.step(vec![job("gang", "red", 1, 8, 1).into()]);
    assert_eq!(held(&outputs, "gang").unwrap().earliest_start_us, Some(TimeUs(START + 2 * HOUR_US)));
    // From here on green has the least share, and its long job would fit beside what runs.
    let green = TenantDeclared { tenant: "green".into(), ..tenant_of_weight_one() };
    let outputs = world.step(vec![green.into(), world.finish("short"), job("long", "green", 1, 4, 9).into()]);
    assert!(placed(&outputs, "long").is_none(), "it would keep the gang from its nodes");
    let outputs = world.step(vec![world.finish("running")]);
    assert!(placed(&outputs, "gang").is_some());
}

#[test]
fn backfill_lets_a_short_job_pass_and_a_long_one_wait() {
    let mut world = World::with_nodes(1);
    world.step(vec![ordered_by("classic").into()]);
    world.step(vec![job("running", "red", 1, 4, 2).into()]);
    let head = job("head", "red", 1, 8, 1);
    let outputs = world.step(vec![head.into()]);
    assert_eq!(held(&outputs, "head").unwrap().earliest_start_us, Some(TimeUs(START + 2 * HOUR_US)));
    let outputs = world.step(vec![job("long", "red", 1, 2, 5).into(), job("short", "red", 1, 2, 1).into()]);
    assert!(placed(&outputs, "short").unwrap().backfilled);
    assert!(placed(&outputs, "long").is_none());
    assert_eq!(held(&outputs, "long").unwrap().limit.kind, LimitKind::Backfill);
}

#[test]
fn a_quota_holds_what_goes_beyond_it_and_rejects_what_never_fits() {
    let mut world = World::with_nodes(2);
    let quota = QuotaSet {
        tenant: TenantId::from("red"),
        guaranteed_milli: GpuMilli(4_000),
        borrowing_limit_milli: Some(GpuMilli(0)),
        ..QuotaSet::default()
    };
    world.step(vec![ordered_by("classic").into(), quota.into()]);
    let outputs = world.step(vec![
        job("a", "red", 1, 3, 1).into(),
        job("b", "red", 1, 2, 1).into(),
        job("c", "red", 1, 5, 1).into(),
    ]);
    assert!(placed(&outputs, "a").is_some());
    assert_eq!(held(&outputs, "b").unwrap().limit.kind, LimitKind::Quota);
    let rejected = outputs.iter().any(|o| matches!(o, Event::JobRejected(r) if r.job.as_str() == "c"));
    assert!(rejected);
}

#[test]
fn a_run_on_a_lost_node_is_placed_again_only_once_the_node_is_fenced() {
    let mut world = World::with_nodes(2);
    let outputs = world.step(vec![job("a", "red", 1, 8, 4).into()]);
    let node = placed(&outputs, "a").unwrap().nodes[0].node.clone();
    let state =
        |state| NodeStateChanged { node: node.clone(), state, reason: "test".into(), ..NodeStateChanged::default() };
    let run = world.running[&JobId::from("a")].run.clone();
    let checkpoint = RunCheckpointed {
        job: JobId::from("a"),
        run,
        work_us: WorkUs(HOUR_US),
        size_mib: MemoryMib(1),
        site: SiteId::from("pod"),
        durable_us: TimeUs(world.now),
        ..RunCheckpointed::default()
    };
    world.step(vec![checkpoint.into()]);
    assert!(placed(&world.step(vec![state(NodeState::Down).into()]), "a").is_none());
    let outputs = world.step(vec![state(NodeState::Fenced).into()]);
    let again = placed(&outputs, "a").unwrap();
    assert_ne!(again.nodes[0].node, node);
    assert_eq!(again.from_work_us, WorkUs(HOUR_US));
}

#[test]
fn a_power_limit_that_drops_stops_runs_and_counts_both_feeds() {
    let mut world = World::with_nodes(0);
    let feed = |name: &str, limit_w| solyx_schemas::events::facility::PowerElementDeclared {
        site: SiteId::from("pod"),
        element: ElementId::from(name),
        kind: solyx_schemas::events::facility::ElementKind::UtilityFeed,
        limit_w: PowerW(limit_w),
        derating_milli: Milli(1_000),
        ..solyx_schemas::events::facility::PowerElementDeclared::default()
    };
    let mut report = node("node-000", "pod/h100", 8, "leaf-0");
    report.feeds = ["a", "b"].map(|f| FeedShare { element: ElementId::from(f), share_milli: Milli(500) }).to_vec();
    world.step(vec![ordered_by("classic").into(), feed("a", 4_000).into(), feed("b", 10_000).into(), report.into()]);
    // With feed b lost, feed a must carry 1000 W idle + 700 W per GPU: four GPUs fit, five do not.
    let outputs = world.step(vec![job("five", "red", 1, 5, 1).into(), job("four", "blue", 1, 4, 1).into()]);
    assert!(placed(&outputs, "four").is_some());
    let limit = &held(&outputs, "five").unwrap().limit;
    assert_eq!(limit.kind, LimitKind::Power, "{limit:?}");
    let drop = PowerLimitSet {
        limit: RefId::from("cut"),
        site: SiteId::from("pod"),
        element: Some(ElementId::from("a")),
        limit_w: PowerW(2_000),
        from_us: TimeUs(world.now),
        reason: "grid".into(),
        ..PowerLimitSet::default()
    };
    let closed = world.close(vec![drop.into()]);
    let stopped =
        closed.outputs.iter().any(|o| matches!(o, Event::JobPreempted(p) if p.cause == StopCause::PowerLimit));
    assert!(stopped && !closed.record.overcommitments.is_empty());
}

#[test]
fn a_run_that_fails_is_tried_again_after_a_wait_and_no_more_than_allowed() {
    let mut world = World::with_nodes(1);
    world.step(vec![job("a", "red", 1, 1, 1).into()]);
    for attempt in 1..=4 {
        let run = world.running[&JobId::from("a")].run.clone();
        assert_eq!(run.as_str(), format!("a/{attempt}"));
        let failed = RunFailed {
            job: JobId::from("a"),
            run,
            category: FailureCategory::Network,
            durable_work_us: WorkUs(0),
            failed_us: TimeUs(world.now),
            detail: String::new(),
            ..RunFailed::default()
        };
        let outputs = world.step(vec![failed.into()]);
        let over = outputs.iter().any(|o| matches!(o, Event::JobCancelled(_)));
        assert_eq!(over, attempt == 4);
        world.advance(300 * SECOND_US);
    }
}

#[test]
fn a_deferrable_job_waits_for_a_cheaper_hour_it_knows_of() {
    let policy = SchedulingPolicySet { deferral_max_us: Some(DurationUs(12 * HOUR_US)), ..ordered_by("classic") };
    let hour = |h: i64, price: i64| -> Event {
        EnergyPriced {
            zone: ZoneId::from("DE-LU"),
            from_us: TimeUs(START + h * HOUR_US),
            to_us: TimeUs(START + (h + 1) * HOUR_US),
            price_micros_per_mwh: RateMicros(price),
            currency: usd(),
            kind: PriceKind::DayAhead,
            published_us: TimeUs(START),
            ..EnergyPriced::default()
        }
        .into()
    };
    let at_five = || {
        let mut world = World::with_nodes(1);
        let mut events: Vec<Event> = vec![policy.clone().into()];
        events.extend((0..12).map(|h| hour(h, if h == 5 { 10_000_000 } else { 100_000_000 })));
        world.step(events);
        world
    };
    let mut world = at_five();
    let outputs = world.step(vec![job("a", "red", 1, 8, 1).into()]);
    let deferred = outputs.iter().find_map(|o| match o {
        Event::JobDeferred(deferred) => Some(deferred.until_us),
        _ => None,
    });
    assert_eq!(deferred, Some(TimeUs(START + 5 * HOUR_US)));
    let outputs = world.advance(5 * HOUR_US);
    assert_eq!(placed(&outputs, "a").unwrap().start_us, TimeUs(START + 5 * HOUR_US));
    // What is to be done before the cheaper hour is over does not wait for it any more.
    let mut world = at_five();
    world.step(vec![job("a", "red", 1, 8, 1).into()]);
    let amended = JobRequestAmended {
        job: JobId::from("a"),
        deadline_us: Some(TimeUs(START + 3 * HOUR_US)),
        ..JobRequestAmended::default()
    };
    let outputs = world.step(vec![amended.into()]);
    assert!(placed(&outputs, "a").is_some(), "{outputs:?}");
}

#[test]
fn prices_of_the_same_revision_may_not_overlap_and_a_higher_one_replaces() {
    let mut world = World::with_nodes(0);
    let price = |from: i64, to: i64, revision: i64, value: i64| -> Event {
        EnergyPriced {
            zone: ZoneId::from("DE-LU"),
            from_us: TimeUs(START + from * HOUR_US),
            to_us: TimeUs(START + to * HOUR_US),
            price_micros_per_mwh: RateMicros(value),
            currency: usd(),
            kind: PriceKind::DayAhead,
            revision: Count(revision),
            published_us: TimeUs(START),
            ..EnergyPriced::default()
        }
        .into()
    };
    world.step(vec![price(0, 4, 0, 40)]);
    let closed = world.close(vec![price(3, 5, 0, 50)]);
    assert_eq!(closed.record.skipped.len(), 1);
    world.step(vec![price(1, 2, 1, 10)]);
    let at = |h: i64| {
        solyx_kernel::energy::price_at(world.kernel.state(), &ZoneId::from("DE-LU"), TimeUs(START + h * HOUR_US))
    };
    assert_eq!(at(0).unwrap().value, 40);
    assert_eq!(at(1).unwrap().value, 10);
    assert_eq!(at(2).unwrap().value, 40);
    assert!(at(10).unwrap().stale && at(10).unwrap().value == 40);
    assert_eq!(at(29), None);
}

/// A rate card: so many micros per unit of each meter.
fn card(meters: &[(Meter, i64)]) -> Event {
    let line = |(meter, price): &(Meter, i64)| RateLine {
        meter: *meter,
        tiers: vec![PriceTier { up_to: None, price_micros: RateMicros(*price) }],
        mode: TierMode::Graduated,
        ..RateLine::default()
    };
    let lines = meters.iter().map(line).collect();
    RateCardSet { rate_card: RefId::from("card"), from_us: TimeUs(0), currency: usd(), lines, ..RateCardSet::default() }
        .into()
}

/// A hard budget of a tenant.
fn hard_budget(tenant: &str, micros: i64) -> Event {
    BudgetSet {
        budget: RefId::from("b"),
        tenant: TenantId::from(tenant),
        amount: money(micros),
        kind: BudgetKind::Hard,
        ..BudgetSet::default()
    }
    .into()
}

#[test]
fn a_job_that_costs_more_than_an_amount_can_say_is_no_free_one() {
    let mut world = World::with_nodes(1);
    world.step(vec![card(&[(Meter::GpuTime, 3_000_000)]), hard_budget("red", 10_000_000)]);
    let mut endless = job("endless", "red", 1, 8, 1);
    endless.expected_work_us = Some(WorkUs(TIME_MAX_US));
    endless.models = vec![ModelChoice { model: GpuModelId::from("H100"), speed_milli: Milli(1) }];
    let outputs = world.step(vec![endless.into()]);
    assert!(outputs.iter().any(|o| matches!(o, Event::JobRejected(r) if r.limit.kind == LimitKind::Budget)));
}

#[test]
fn what_a_meter_says_uses_up_a_budget_and_stops_no_cell() {
    let mut world = World::with_nodes(1);
    let dear = 1_000_000_000_000_000;
    world.step(vec![card(&[(Meter::GpuTime, 1), (Meter::Requests, dear)]), hard_budget("red", 10_000_000)]);
    let outputs = world.step(vec![job("a", "red", 1, 1, 1).into()]);
    let run = placed(&outputs, "a").unwrap().run.clone();
    for _ in 0..3 {
        let usage = UsageMetered {
            job: JobId::from("a"),
            run: run.clone(),
            meter: Meter::Requests,
            quantity: UsageQuantity(9_000_000_000_000_000_000),
            from_us: TimeUs(START),
            to_us: TimeUs(START + HOUR_US),
            ..UsageMetered::default()
        };
        world.step(vec![usage.into()]);
    }
    assert!(world.log.iter().any(|o| matches!(o, Event::BudgetExhausted(_))));
}

#[test]
fn a_budget_that_is_too_small_rejects_and_one_that_runs_out_stops() {
    let mut world = World::with_nodes(1);
    let card = RateCardSet {
        rate_card: RefId::from("card"),
        from_us: TimeUs(0),
        currency: usd(),
        lines: vec![RateLine {
            meter: solyx_schemas::events::usage::Meter::GpuTime,
            tiers: vec![PriceTier { up_to: None, price_micros: RateMicros(3_000_000) }],
            mode: TierMode::Graduated,
            ..RateLine::default()
        }],
        ..RateCardSet::default()
    };
    let budget = BudgetSet {
        budget: RefId::from("b"),
        tenant: TenantId::from("red"),
        amount: money(10_000_000),
        kind: BudgetKind::Hard,
        ..BudgetSet::default()
    };
    world.step(vec![card.into(), budget.into()]);
    let outputs = world.step(vec![job("dear", "red", 1, 4, 1).into(), job("fits", "red", 1, 3, 1).into()]);
    assert!(outputs.iter().any(|o| matches!(o, Event::JobRejected(r) if r.limit.kind == LimitKind::Budget)));
    let run = placed(&outputs, "fits").unwrap().run.clone();
    let usage = solyx_schemas::events::usage::UsageMetered {
        job: JobId::from("fits"),
        run,
        meter: solyx_schemas::events::usage::Meter::GpuTime,
        quantity: UsageQuantity(4 * 3_600_000_000_000),
        from_us: TimeUs(START),
        to_us: TimeUs(START + HOUR_US),
        ..solyx_schemas::events::usage::UsageMetered::default()
    };
    let outputs = world.step(vec![usage.into()]);
    assert!(outputs.iter().any(|o| matches!(o, Event::BudgetExhausted(_))));
}

#[test]
fn a_run_whose_lease_passes_without_renewal_is_taken_for_lost() {
    let mut world = World::with_nodes(1);
    world.step(vec![job("a", "red", 1, 8, 4).into()]);
    let outputs = world.advance(HOUR_US);
    assert!(outputs.iter().any(|o| matches!(o, Event::JobRequeued(_))));
    assert_eq!(placed(&outputs, "a").unwrap().run.as_str(), "a/2");
}

#[test]
fn a_job_that_comes_before_its_tenant_waits_and_comes_alive_with_it() {
    let mut world = World::with_nodes(1);
    let outputs = world.step(vec![job("a", "green", 1, 1, 1).into()]);
    assert_eq!(held(&outputs, "a").unwrap().limit.kind, LimitKind::Undeclared);
    let green = TenantDeclared {
        tenant: TenantId::from("green"),
        weight_milli: Milli(1_000),
        billing_currency: usd(),
        invoice_day: Count(1),
        ..TenantDeclared::default()
    };
    let outputs = world.step(vec![green.into()]);
    assert!(placed(&outputs, "a").is_some());
}

#[test]
fn a_job_without_gpus_takes_nothing_of_what_is_held_back() {
    let mut world = World::with_nodes(1);
    let reserve = ReserveSet {
        domain: RefId::from("site:elsewhere"),
        gpu_model: GpuModelId::from("H100"),
        held_back_milli: GpuMilli(16_000),
        ..ReserveSet::default()
    };
    let outputs =
        world.step(vec![reserve.into(), job("bare", "red", 1, 0, 1).into(), job("gpu", "red", 1, 1, 1).into()]);
    assert!(placed(&outputs, "bare").is_some());
    assert_eq!(held(&outputs, "gpu").unwrap().limit.kind, LimitKind::FailoverReserve);
}

#[test]
fn a_request_beyond_any_fleet_is_rejected_and_stops_nothing() {
    let mut world = World::with_nodes(1);
    let sized = |name: &str, replicas: i64, gpus: i64| {
        let mut request = job(name, "red", 1, 1, 1);
        (request.gang.cpu_milli, request.gang.memory_mib) = (CpuMilli(0), MemoryMib(0));
        (request.gang.replicas_min, request.gang.replicas_max) = (Count(replicas), Count(replicas));
        request.gang.gpus = Count(gpus);
        request.into()
    };
    let most = 1_000_000_000_000_000_000;
    let outputs = world.step(vec![
        sized("replicas", 1_000_000_000, 0),
        sized("gpus", 1, most),
        sized("both", most, most),
        sized("fits", 1, 8),
    ]);
    let rejected = outputs.iter().filter(|output| matches!(output, Event::JobRejected(_))).count();
    assert_eq!(rejected, 3, "{outputs:?}");
    assert!(placed(&outputs, "fits").is_some());
}

#[test]
fn a_job_whose_price_has_no_exchange_rate_yet_starts_when_one_comes_into_force() {
    let mut world = World::with_nodes(1);
    let price = PoolPriced {
        pool: PoolId::from("pod/h100"),
        price_micros_per_gpu_hour: RateMicros(1_000_000),
        currency: Currency::parse("EUR").unwrap(),
        effective_from_us: TimeUs(START),
        ..PoolPriced::default()
    };
    let rate = ExchangeRateSet {
        from_currency: Currency::parse("EUR").unwrap(),
        to_currency: usd(),
        numerator: Count(11),
        denominator: Count(10),
        effective_from_us: TimeUs(START + HOUR_US),
        ..ExchangeRateSet::default()
    };
    let outputs = world.step(vec![price.into(), rate.into(), job("waits", "red", 1, 1, 1).into()]);
    assert_eq!(held(&outputs, "waits").unwrap().limit.kind, LimitKind::Price);
    world.now = START + HOUR_US - 1;
    assert!(placed(&world.step(vec![]), "waits").is_none());
    world.now += 1;
    assert!(placed(&world.step(vec![]), "waits").is_some());
}

#[test]
fn what_is_said_for_another_scope_than_the_cell_is_rejected_and_changes_nothing() {
    let mut world = World::with_nodes(1);
    let policy = SchedulingPolicySet { scope: Name::from("cel"), ..ordered_by("fifo") };
    let weights = CostWeightsSet { scope: Name::from("red"), currency: usd(), ..CostWeightsSet::default() };
    let (_, counted) = world.close_counting(vec![policy.into(), weights.into()]);
    assert!(counted.is_empty(), "{counted:?}");
    assert!(world.kernel.state().policies.is_empty() && world.kernel.state().weights.is_empty());
}
