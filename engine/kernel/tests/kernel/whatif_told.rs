//! What comes of it if something is said now.

use solyx_histories::*;
use solyx_kernel::follow::Follower;
use solyx_kernel::whatif::{Consequence, Fate};
use solyx_schemas::events::Event;
use solyx_schemas::events::decisions::{JobPlaced, LimitKind, StopCause};
use solyx_schemas::events::jobs::JobRequested;
use solyx_schemas::events::policy::LeaseSold;
use solyx_schemas::events::policy::PaymentOption;
use solyx_schemas::events::world::{EnergyPriced, PriceKind};
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

fn told(world: &World, events: Vec<Event>, hours: i64) -> Result<Consequence, (usize, String)> {
    let rehearsal = Follower::of(world.kernel.clone()).rehearsal();
    let said: Vec<Event> = events
        .into_iter()
        .zip(9_000..)
        .map(|(mut event, number)| {
            identify(&mut event, number, world.now);
            event
        })
        .collect();
    rehearsal.told(&said, TimeUs(world.now + hours * HOUR_US))
}

fn sold(world: &World) -> Event {
    LeaseSold {
        lease: RefId::from("lease"),
        tenant: TenantId::from("blue"),
        gpus: Count(8),
        gpu_model: GpuModelId::from("H100"),
        from_us: TimeUs(world.now),
        to_us: TimeUs(world.now + 24 * HOUR_US),
        price: money(1),
        payment: PaymentOption::None,
        ..LeaseSold::default()
    }
    .into()
}

#[test]
fn a_node_that_comes_lets_a_job_start_that_would_wait() {
    let mut world = World::with_nodes(1);
    world.step(vec![job("a", "red", 1, 8, 2).into(), job("b", "red", 1, 8, 2).into()]);
    let before = world.kernel.snapshot();
    let comes = || vec![node("late", "pod/h100", 8, "leaf-0").into()];
    let found = told(&world, comes(), 5).unwrap();
    assert_eq!(world.kernel.snapshot(), before);
    let [b] = &found.jobs[..] else { panic!("{found:?}") };
    assert_eq!(b.job.as_str(), "b");
    let Some((_, Fate::Placed { start, nodes, .. })) = &b.with.fate else { panic!("{found:?}") };
    assert_eq!((start.0, nodes[0].node.as_str()), (world.now, "late"));
    let Some((_, Fate::Placed { start, .. })) = &b.without.fate else { panic!("{found:?}") };
    assert_eq!(Some(*start), world.running[&JobId::from("a")].expected_end_us);
    // Looking at the next epoch alone, nothing would come of it without the node.
    let found = told(&world, comes(), 0).unwrap();
    assert!(found.jobs[0].without.fate.is_none() && found.jobs[0].with.fate.is_some(), "{found:?}");
    assert_eq!(found.decisions.values().next(), Some(&(0, 1)));
    world.step(comes());
    assert_eq!(world.running[&JobId::from("b")].start_us.0, world.now);
}

#[test]
fn a_sold_lease_says_whom_it_stops_once_its_tenant_asks() {
    let mut world = World::with_nodes(1);
    world.step(vec![job("a", "red", 1, 8, 2).into()]);
    // It is lent out while its tenant does not ask for it.
    let found = told(&world, vec![sold(&world)], 0).unwrap();
    assert!(found.jobs.is_empty() && found.overcommitments.is_empty(), "{found:?}");
    let Event::LeaseSold(mut large) = sold(&world) else { unreachable!() };
    large.gpus = Count(9);
    let found = told(&world, vec![(*large).into()], 0).unwrap();
    let limits: Vec<_> = found.overcommitments.iter().map(|o| (o.limit.kind, o.limit.asked)).collect();
    assert_eq!(limits, [(LimitKind::Reservation, Some(9_000))]);
    let asked = || {
        let on_lease = JobRequested { sold_lease: Some(RefId::from("lease")), ..job("theirs", "blue", 1, 8, 1) };
        vec![sold(&world), on_lease.into()]
    };
    let found = told(&world, asked(), 0).unwrap();
    let stop = found.jobs.iter().find(|job| job.job.as_str() == "a").and_then(|job| job.with.stop.clone());
    let stop = stop.unwrap_or_else(|| panic!("{found:?}"));
    let run = world.running[&JobId::from("a")].run.clone();
    assert_eq!((&stop.run, stop.cause, stop.for_job), (&run, StopCause::Priority, Some(JobId::from("theirs"))));
    let said = asked();
    let outputs = world.step(said);
    let told = outputs.iter().any(|output| matches!(output, Event::JobPreempted(told) if told.run == run));
    assert!(told, "{outputs:?}");
}

#[test]
fn a_price_changes_what_the_rest_of_the_runs_costs() {
    let mut world = World::with_nodes(1);
    world.step(vec![job("a", "red", 1, 8, 2).into()]);
    let price = |micros: i64| EnergyPriced {
        zone: ZoneId::from("DE-LU"),
        from_us: TimeUs(world.now),
        to_us: TimeUs(world.now + 48 * HOUR_US),
        price_micros_per_mwh: RateMicros(micros),
        currency: usd(),
        kind: PriceKind::DayAhead,
        revision: Count(1),
        published_us: TimeUs(world.now),
        ..EnergyPriced::default()
    };
    let cost = |micros: i64| {
        let found = told(&world, vec![price(micros).into()], 0).unwrap();
        (found.rest.0.terms.energy_micros.0, found.rest.1.terms.energy_micros.0)
    };
    let ((before, cheap), (_, dear)) = (cost(50_000_000), cost(100_000_000));
    assert!(cheap != before && dear > cheap, "{before} {cheap} {dear}");
    assert!((dear - 2 * cheap).abs() <= 2, "{cheap} {dear}");
}

#[test]
fn what_cannot_be_said_is_refused_with_its_number() {
    let world = World::with_nodes(1);
    let good = node("late", "pod/h100", 8, "leaf-0");
    let (number, detail) = told(&world, vec![good.clone().into(), JobPlaced::default().into()], 0).unwrap_err();
    assert_eq!(number, 2);
    assert_eq!(detail, "solyx.decisions.JobPlaced is no input of the kernel");
    let mut bad = good;
    bad.cpu_milli = CpuMilli(-1);
    let (number, detail) = told(&world, vec![bad.into()], 0).unwrap_err();
    assert_eq!(number, 1);
    assert!(detail.contains("cpu_milli"), "{detail}");
}
