//! Queues as users of Kueue and Slurm know them: what is kept and not lent, and past use that fades.

use solyx_histories::*;
use solyx_schemas::events::decisions::LimitKind;
use solyx_schemas::events::jobs::JobRequested;
use solyx_schemas::events::policy::*;
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

fn quota(tenant: &str, guaranteed: i64, lending: Option<i64>) -> QuotaSet {
    QuotaSet {
        tenant: TenantId::from(tenant),
        guaranteed_milli: GpuMilli(guaranteed * 1_000),
        lending_limit_milli: lending.map(|gpus| GpuMilli(gpus * 1_000)),
        ..QuotaSet::default()
    }
}

#[test]
fn what_a_tenant_does_not_lend_stays_free_for_it() {
    let mut world = World::with_nodes(2);
    world.step(vec![ordered_by("classic").into(), quota("red", 8, Some(0)).into()]);
    let outputs = world.step(vec![job("a", "blue", 1, 8, 5).into(), job("b", "blue", 1, 8, 5).into()]);
    assert!(placed(&outputs, "a").is_some());
    let limit = &held(&outputs, "b").unwrap().limit;
    assert_eq!((limit.kind, limit.subject.as_ref().unwrap().as_str()), (LimitKind::Quota, "red:kept"));
    assert_eq!((limit.asked, limit.available), (Some(8_000), Some(0)));
    let outputs = world.step(vec![job("c", "red", 1, 8, 5).into()]);
    assert!(placed(&outputs, "c").is_some(), "its owner finds it at once");
}

#[test]
fn what_it_lends_others_use_and_a_part_may_be_lent() {
    let mut world = World::with_nodes(2);
    world.step(vec![ordered_by("classic").into(), quota("red", 8, Some(4)).into()]);
    let outputs = world.step(vec![job("a", "blue", 3, 4, 5).into(), job("b", "blue", 1, 4, 5).into()]);
    assert!(placed(&outputs, "a").is_some());
    assert_eq!(held(&outputs, "b").unwrap().limit.kind, LimitKind::Quota);
    world.step(vec![quota("red", 8, None).into()]);
    assert!(world.running.contains_key(&JobId::from("b")), "with no limit all of it is lent");
}

#[test]
fn those_below_a_tenant_use_what_it_keeps() {
    let mut world = World::with_nodes(1);
    let child = TenantDeclared {
        tenant: TenantId::from("red/x"),
        parent: Some(TenantId::from("red")),
        ..tenant_of_weight_one()
    };
    world.step(vec![ordered_by("classic").into(), child.into(), quota("red", 8, Some(0)).into()]);
    let outputs = world.step(vec![job("a", "red/x", 1, 8, 5).into()]);
    assert!(placed(&outputs, "a").is_some());
}

/// GPUs that red and blue have of sixteen, with four guaranteed to each and these weights beyond.
fn beyond_four(red: Option<i64>, blue: Option<i64>) -> (usize, usize) {
    let mut world = World::with_nodes(2);
    let over = |tenant: &str, weight: Option<i64>| QuotaSet {
        over_quota_weight_milli: weight.map(Milli),
        ..quota(tenant, 4, None)
    };
    world.step(vec![ordered_by("classic").into(), over("red", red).into(), over("blue", blue).into()]);
    let ask =
        |n: i64| [job(&format!("red-{n}"), "red", 1, 1, 5).into(), job(&format!("blue-{n}"), "blue", 1, 1, 5).into()];
    world.step((0..16).flat_map(ask).collect());
    let of = |tenant: &str| world.running.keys().filter(|job| job.as_str().starts_with(tenant)).count();
    (of("red"), of("blue"))
}

#[test]
fn beyond_their_quotas_tenants_divide_the_rest_by_their_weights_beyond() {
    assert_eq!(beyond_four(None, None), (8, 8));
    assert_eq!(beyond_four(Some(3_000), Some(1_000)), (10, 6), "four each, and the other eight by 3 to 1");
    assert_eq!(beyond_four(Some(1_000), Some(7_000)), (5, 11));
}

#[test]
fn within_a_quota_that_has_a_weight_beyond_a_tenant_goes_before_those_beyond_theirs() {
    let mut world = World::with_nodes(1);
    let over = QuotaSet { over_quota_weight_milli: Some(Milli(1_000)), ..quota("red", 6, None) };
    world.step(vec![ordered_by("classic").into(), over.into()]);
    let ask =
        |n: i64| [job(&format!("blue-{n}"), "blue", 1, 1, 5).into(), job(&format!("red-{n}"), "red", 1, 1, 5).into()];
    world.step((0..8).flat_map(ask).collect());
    let red = world.running.keys().filter(|job| job.as_str().starts_with("red")).count();
    assert_eq!(red, 7, "six are guaranteed, the other two go one to each");
}

/// Red has had the whole fleet for ten hours; then both ask for it.
fn after_ten_hours_of_red(half_life: Option<i64>) -> String {
    let mut world = World::with_nodes(1);
    let policy = SchedulingPolicySet {
        half_life_us: half_life.map(DurationUs),
        run_lease_us: Some(DurationUs(1_000 * HOUR_US)),
        ..ordered_by("classic")
    };
    world.step(vec![policy.into()]);
    world.step(vec![job("warm-up", "red", 1, 8, 1).into()]);
    world.now += SECOND_US;
    let end = world.finish("warm-up");
    world.step(vec![end, job("long", "red", 1, 8, 10).into()]);
    world.now += 10 * HOUR_US;
    let end = world.finish("long");
    world.step(vec![job("of-red", "red", 1, 8, 1).into(), job("of-blue", "blue", 1, 8, 1).into(), end]);
    ["of-red", "of-blue"].into_iter().find(|job| world.running.contains_key(&JobId::from(*job))).unwrap().to_owned()
}

#[test]
fn past_use_counts_against_a_share_and_fades_with_the_half_life() {
    assert_eq!(after_ten_hours_of_red(None), "of-red", "without a half-life only present use counts, then arrival");
    assert_eq!(after_ten_hours_of_red(Some(24 * HOUR_US)), "of-blue");
}

#[test]
fn a_past_of_many_half_lives_ago_is_forgotten() {
    let mut world = World::with_nodes(1);
    let policy = SchedulingPolicySet {
        half_life_us: Some(DurationUs(HOUR_US)),
        run_lease_us: Some(DurationUs(1_000 * HOUR_US)),
        ..ordered_by("classic")
    };
    world.step(vec![policy.into()]);
    world.step(vec![job("long", "red", 1, 8, 10).into()]);
    world.now += 10 * HOUR_US;
    let end = world.finish("long");
    world.step(vec![end]);
    let row = |world: &World| *world.kernel.state().served.get(&TenantId::from("red")).unwrap();
    assert!(row(&world).own.gpu > 7_900 * 1_000_000, "almost all of the fleet: {:?}", row(&world));
    world.now += 60 * HOUR_US;
    world.step(vec![job("short", "red", 1, 1, 1).into()]);
    assert_eq!(row(&world).own.gpu, 0);
}

/// A job of one GPU with so many cores.
fn with_cores(name: &str, cores: i64) -> JobRequested {
    let mut request = job(name, "red", 1, 1, 5);
    request.gang.cpu_milli = CpuMilli(cores * 1_000);
    request
}

#[test]
fn who_was_told_of_what_no_node_has_enough_of_starts_as_soon_as_one_has() {
    let mut world = World::with_nodes(1);
    world.step(vec![ordered_by("share-surcharge").into()]);
    let asked = [("a", 100), ("b", 60), ("c", 50), ("d", 40)];
    let outputs = world.step(asked.map(|(name, cores)| with_cores(name, cores).into()).to_vec());
    let told = ["b", "c", "d"].map(|name| held(&outputs, name).unwrap().limit.kind);
    assert_eq!(told, [LimitKind::Cpu; 3]);
    // The end of another makes room for none of them; nobody hears the same again.
    world.step(vec![with_cores("e", 1).into()]);
    let outputs = world.step(vec![world.finish("e")]);
    assert_eq!(outputs, Vec::new());
    let outputs = world.step(vec![world.finish("a")]);
    let starts = ["b", "c", "d"].map(|name| placed(&outputs, name).is_some());
    assert_eq!(starts, [true, true, false], "60 and 50 of 128 cores");
}

#[test]
fn when_something_else_runs_short_it_is_told() {
    let mut world = World::with_nodes(1);
    world.step(vec![ordered_by("share-surcharge").into()]);
    let outputs = world.step(vec![with_cores("a", 100).into(), with_cores("b", 60).into()]);
    assert_eq!(held(&outputs, "b").unwrap().limit.kind, LimitKind::Cpu);
    let urgent = JobRequested { class: ClassId::from("urgent"), ..job("c", "red", 1, 7, 5) };
    let outputs = world.step(vec![urgent.into()]);
    assert!(placed(&outputs, "c").is_some());
    assert_eq!(held(&outputs, "b").unwrap().limit.kind, LimitKind::Gpus, "no GPU is free any more");
    let outputs = world.step(vec![world.finish("c")]);
    assert_eq!(held(&outputs, "b").unwrap().limit.kind, LimitKind::Cpu);
}
