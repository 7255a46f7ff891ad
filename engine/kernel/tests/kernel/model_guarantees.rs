//! Guaranteed quota of one GPU model: what others have of it is given back, and nobody takes back what lies within it.

use solyx_histories::*;
use solyx_kernel::Kernel;
use solyx_schemas::events::Event;
use solyx_schemas::events::capacity::CapacityClass;
use solyx_schemas::events::decisions::StopCause;
use solyx_schemas::events::jobs::*;
use solyx_schemas::events::policy::*;
use solyx_schemas::events::runs::*;
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

use crate::guaranteed_to;
use crate::share_surcharge::{left_alone_at_first, policy};

const MINUTE_US: i64 = 60 * SECOND_US;

/// Two nodes of eight H100 and two of eight A100; runs are left alone for 15 minutes.
fn world(quotas: Vec<QuotaSet>) -> World {
    let mut world = World::with_nodes(2);
    let a100 = GpuModelId::from("A100");
    let mut pool = pool("pod/a100", "pod", CapacityClass::Owned);
    pool.gpu_model = a100.clone();
    let nodes = ["a-0", "a-1"].map(|name| {
        let mut node = node(name, "pod/a100", 8, "leaf-a");
        node.gpus.iter_mut().for_each(|gpu| gpu.model = a100.clone());
        Event::from(node)
    });
    let model = GpuModelDeclared { model: a100, nvlink_domain_size: Count(8), ..GpuModelDeclared::default() };
    let green = TenantDeclared { tenant: TenantId::from("green"), ..tenant_of_weight_one() };
    let mut events: Vec<Event> =
        vec![policy(10).into(), left_alone_at_first(), green.into(), model.into(), pool.into()];
    events.extend(nodes);
    events.extend(quotas.into_iter().map(Event::from));
    world.step(events);
    world
}

/// GPUs guaranteed of one.
fn of_model(tenant: &str, model: &str, gpus: i64) -> QuotaSet {
    QuotaSet { gpu_model: Some(GpuModelId::from(model)), ..guaranteed_to(tenant, gpus) }
}

/// A job of so many GPUs that says nothing of its length and accepts these models.
fn ask(name: &str, tenant: &str, gpus: i64, models: &[&str]) -> JobRequested {
    let choice = |model: &&str| ModelChoice { model: GpuModelId::from(*model), speed_milli: Milli(1_000) };
    JobRequested { models: models.iter().map(choice).collect(), ..job(name, tenant, 1, gpus, 0) }
}

fn lasting(job: JobRequested) -> JobRequested {
    JobRequested { preemptible: false, ..job }
}

/// Starts jobs and says that they run.
fn run(world: &mut World, jobs: Vec<JobRequested>) {
    let names: Vec<String> = jobs.iter().map(|job| job.job.to_string()).collect();
    world.step(jobs.into_iter().map(Event::from).collect());
    let said = names.iter().map(|name| started(world, name)).collect();
    world.step(said);
}

/// Whole nodes of a tenant: two of H100, two of A100.
fn on_all_nodes(tenant: &str) -> Vec<JobRequested> {
    let of = |name: &str, model: &str| ask(name, tenant, 8, &[model]);
    vec![of("h-0", "H100"), of("h-1", "H100"), of("a-0", "A100"), of("a-1", "A100")]
}

/// Who is told to stop, and for whom.
fn told_to_stop(outputs: &[Event]) -> Vec<(String, String)> {
    let told = outputs.iter().filter_map(|output| match output {
        Event::JobPreempted(told) => {
            assert_eq!(told.cause, StopCause::Priority);
            Some((told.job.to_string(), told.for_job.as_ref().unwrap().to_string()))
        }
        _ => None,
    });
    told.collect()
}

/// Who is told to stop within a quarter of an hour after these jobs have come, where others have run for 20 minutes.
fn stopped_for(quotas: Vec<QuotaSet>, running: Vec<JobRequested>, asked: Vec<JobRequested>) -> Vec<(String, String)> {
    let mut world = world(quotas);
    run(&mut world, running);
    world.advance(20 * MINUTE_US);
    let mut outputs = world.step(asked.into_iter().map(Event::from).collect());
    outputs.extend(world.advance(15 * MINUTE_US));
    assert_eq!(world.kernel.index_differences(), Vec::<String>::new());
    told_to_stop(&outputs)
}

/// The models of those that are told to stop, by their names.
fn models_of(stopped: &[(String, String)]) -> Vec<&str> {
    stopped.iter().map(|(job, _)| &job[..1]).collect()
}

#[test]
fn a_model_is_given_back_within_minutes_though_the_share_is_used_up_elsewhere() {
    let mut world = world(vec![guaranteed_to("red", 16), guaranteed_to("blue", 8), of_model("red", "H100", 8)]);
    let mut running = on_all_nodes("blue");
    running[2..].iter_mut().for_each(|job| job.tenant = TenantId::from("red"));
    run(&mut world, running);
    world.advance(20 * MINUTE_US);
    let said = vec![checkpointed(&world, "h-1", 20 * MINUTE_US)];
    world.step(said);
    world.now += 2 * MINUTE_US;
    let outputs = world.step(vec![ask("mine", "red", 8, &["H100"]).into(), ask("more", "red", 8, &["A100"]).into()]);
    assert_eq!(told_to_stop(&outputs), [("h-1".to_owned(), "mine".to_owned())], "the one with the least lost work");
    world.now += SECOND_US;
    let stopped = world.stopped("h-1", StopReason::Preempted);
    assert!(placed(&world.step(vec![stopped]), "mine").is_some());
    // It has now what it is guaranteed.
    world.step(vec![ask("again", "red", 8, &["H100"]).into()]);
    assert_eq!(told_to_stop(&world.advance(30 * MINUTE_US)), []);
}

#[test]
fn of_a_model_its_guarantees_go_before_shares_of_all_gpus() {
    let quotas = vec![guaranteed_to("red", 0), guaranteed_to("blue", 32), of_model("red", "H100", 8)];
    let told = stopped_for(quotas, on_all_nodes("blue"), vec![ask("mine", "red", 8, &["H100"])]);
    assert_eq!(models_of(&told), ["h"], "all of it lies within blue's share");
}

#[test]
fn what_lies_within_a_guarantee_of_its_model_is_not_taken_back() {
    let stopped = |blue: i64, models: &[&str]| {
        let quotas = vec![guaranteed_to("red", 32), guaranteed_to("blue", 0), of_model("blue", "H100", blue)];
        let asked = ["one", "two"].map(|name| ask(name, "red", 8, models)).to_vec();
        stopped_for(quotas, on_all_nodes("blue"), asked)
    };
    assert_eq!(models_of(&stopped(0, &["H100"])), ["h", "h"]);
    assert_eq!(models_of(&stopped(8, &["H100"])), ["h"], "what is beyond it is");
    assert_eq!(models_of(&stopped(16, &["H100"])), Vec::<&str>::new());
    assert_eq!(models_of(&stopped(16, &[])), ["a", "a"], "on another model it is as before");
}

#[test]
fn by_the_order_of_the_line_it_is_not_taken_either() {
    let stopped = |blue: i64| {
        let mut world = world(vec![guaranteed_to("red", 0), guaranteed_to("blue", 0), of_model("blue", "H100", blue)]);
        run(&mut world, on_all_nodes("blue"));
        world.advance(3 * HOUR_US);
        world.step(vec![ask("young", "red", 8, &["H100"]).into()]);
        world.now += HOUR_US;
        let said = ["h-0", "h-1"].map(|name| checkpointed(&world, name, 3 * HOUR_US)).to_vec();
        told_to_stop(&world.step(said)).len()
    };
    assert_eq!((stopped(0), stopped(16)), (1, 0));
}

#[test]
fn a_job_of_another_model_gains_nothing() {
    let stopped = |running: Vec<JobRequested>, models: &[&str]| {
        let quotas = vec![guaranteed_to("red", 0), guaranteed_to("blue", 0), of_model("red", "H100", 8)];
        stopped_for(quotas, running, vec![ask("mine", "red", 8, models)])
    };
    let blue = on_all_nodes("blue");
    assert_eq!(models_of(&stopped(blue.clone(), &["H100"])), ["h"]);
    assert_eq!(stopped(blue.clone(), &["A100"]), []);
    assert_eq!(stopped(blue.clone(), &[]), [], "a job that accepts any model has only the share of all");
    let cpu_only = JobRequested { gang: Gang { gpus: Count(0), ..blue[0].gang.clone() }, ..blue[0].clone() };
    assert_eq!(stopped(blue, &["A100", "H100"]).len(), 1);
    // Nobody is stopped on a model that is not guaranteed, although the job accepts it.
    let mut fixed = on_all_nodes("blue");
    fixed.iter_mut().take(2).for_each(|job| job.preemptible = false);
    assert_eq!(stopped(fixed.clone(), &["A100", "H100"]), []);
    let quotas =
        vec![guaranteed_to("red", 0), guaranteed_to("blue", 0), of_model("red", "H100", 8), of_model("red", "A100", 8)];
    let told = stopped_for(quotas.clone(), fixed.clone(), vec![ask("mine", "red", 8, &["A100", "H100"])]);
    assert_eq!(models_of(&told), ["a"], "where both are, on either");
    let asks_none = JobRequested { job: JobId::from("mine"), tenant: TenantId::from("red"), ..cpu_only };
    assert_eq!(stopped_for(quotas, fixed, vec![asks_none]), []);
}

#[test]
fn what_is_used_of_a_guarantee_counts_and_what_draws_on_a_contract_does_not() {
    let lease = LeaseSold {
        lease: RefId::from("sold"),
        tenant: TenantId::from("red"),
        gpus: Count(8),
        gpu_model: GpuModelId::from("H100"),
        from_us: TimeUs(START),
        to_us: TimeUs(START + 100 * HOUR_US),
        price: money(1),
        payment: PaymentOption::None,
        ..LeaseSold::default()
    };
    let stopped = |draws: bool| {
        let mut world = world(vec![guaranteed_to("red", 0), guaranteed_to("blue", 0), of_model("red", "H100", 8)]);
        world.step(vec![lease.clone().into()]);
        let mut own = lasting(ask("own", "red", 8, &["H100"]));
        own.sold_lease = draws.then(|| RefId::from("sold"));
        run(&mut world, vec![own, ask("h-1", "blue", 8, &["H100"])]);
        world.advance(20 * MINUTE_US);
        let mut outputs = world.step(vec![ask("mine", "red", 8, &["H100"]).into()]);
        outputs.extend(world.advance(15 * MINUTE_US));
        told_to_stop(&outputs).len()
    };
    assert_eq!((stopped(true), stopped(false)), (1, 0));
}

#[test]
fn a_projects_guarantee_and_that_of_a_tenant_above_promise_nothing() {
    let above = TenantDeclared {
        tenant: TenantId::from("red/x"),
        parent: Some(TenantId::from("red")),
        ..tenant_of_weight_one()
    };
    let mut world = world(vec![guaranteed_to("red", 0), guaranteed_to("blue", 0), guaranteed_to("red/x", 0)]);
    let of_project = QuotaSet { project: Some(ProjectId::from("p")), ..of_model("red", "H100", 8) };
    let mut in_project = ask("in-project", "red", 8, &["H100"]);
    in_project.project = Some(ProjectId::from("p"));
    run(&mut world, on_all_nodes("blue"));
    world.advance(20 * MINUTE_US);
    world.step(vec![above.into(), of_project.into(), in_project.into()]);
    assert_eq!(told_to_stop(&world.advance(15 * MINUTE_US)), []);
    world.step(vec![of_model("red", "H100", 8).into(), ask("below", "red/x", 8, &["H100"]).into()]);
    let told = told_to_stop(&world.advance(15 * MINUTE_US));
    assert_eq!(told.iter().map(|(_, of)| of.as_str()).collect::<Vec<_>>(), ["in-project"]);
}

#[test]
fn a_guarantee_that_comes_while_jobs_wait_counts_at_once_and_withdrawn_no_more() {
    let mut world = world(vec![guaranteed_to("red", 0), guaranteed_to("blue", 0)]);
    run(&mut world, on_all_nodes("blue"));
    world.step(vec![ask("mine", "red", 8, &["H100"]).into()]);
    assert_eq!(told_to_stop(&world.advance(20 * MINUTE_US)), []);
    world.now += 2 * MINUTE_US;
    let mut without = world.clone();
    let is_owed = |world: &World| world.kernel.state().entitled.contains(&JobId::from("mine"));
    let outputs = world.step(vec![of_model("red", "H100", 8).into()]);
    assert_eq!(models_of(&told_to_stop(&outputs)), ["h"], "in the epoch in which it comes");
    assert!(is_owed(&world));
    // Come and gone before a tick is due, it has changed nothing.
    without.step(vec![of_model("red", "H100", 4).into()]);
    assert_eq!(without.kernel.index_differences(), Vec::<String>::new());
    without.step(vec![of_model("red", "H100", 0).into()]);
    assert_eq!(without.kernel.index_differences(), Vec::<String>::new());
    assert_eq!(told_to_stop(&without.advance(20 * MINUTE_US)), []);
    assert!(!is_owed(&without));
}

#[test]
fn what_a_withdrawn_guarantee_kept_is_taken_back() {
    let mut world = world(vec![guaranteed_to("red", 32), guaranteed_to("blue", 0), of_model("blue", "H100", 16)]);
    run(&mut world, on_all_nodes("blue"));
    world.advance(20 * MINUTE_US);
    world.step(vec![ask("mine", "red", 8, &["H100"]).into()]);
    assert_eq!(told_to_stop(&world.advance(20 * MINUTE_US)), []);
    world.now += 2 * MINUTE_US;
    assert_eq!(told_to_stop(&world.step(vec![of_model("blue", "H100", 0).into()])).len(), 1);
}

/// H100 are all in use; three of red's jobs of one size and one of blue's wait, and one of the H100 nodes becomes free.
fn next_on_h100(guarantees: Vec<QuotaSet>) -> String {
    let mut world = world(vec![guaranteed_to("red", 0), guaranteed_to("blue", 0)]);
    run(&mut world, on_all_nodes("blue"));
    let waiting = ["any", "early", "both", "late"].into_iter().zip([
        ("red", &[] as &[&str]),
        ("blue", &["H100"]),
        ("red", &["A100", "H100"]),
        ("red", &["H100"]),
    ]);
    for (name, (tenant, models)) in waiting {
        world.now += SECOND_US;
        world.step(vec![ask(name, tenant, 8, models).into()]);
    }
    world.step(guarantees.into_iter().map(Event::from).collect());
    assert_eq!(world.kernel.index_differences(), Vec::<String>::new());
    world.now += SECOND_US;
    let end = world.finish("h-0");
    let outputs = world.step(vec![end]);
    let started = ["any", "early", "both", "late"].into_iter().find(|name| placed(&outputs, name).is_some());
    started.unwrap().to_owned()
}

#[test]
fn whom_a_guarantee_holds_whichever_model_it_is_given_goes_first() {
    assert_eq!(next_on_h100(vec![]), "any", "who came first");
    assert_eq!(next_on_h100(vec![of_model("red", "H100", 8)]), "late");
    assert_eq!(next_on_h100(vec![of_model("red", "H100", 7)]), "any", "less than it asks");
    assert_eq!(next_on_h100(vec![of_model("red", "A100", 8)]), "any", "of a model that is not free");
    assert_eq!(next_on_h100(vec![of_model("red", "H100", 8), of_model("red", "A100", 8)]), "both");
    assert_eq!(next_on_h100(vec![of_model("blue", "H100", 24)]), "early");
    assert_eq!(next_on_h100(vec![of_model("red", "H100", 8), of_model("red", "H100", 0)]), "any", "withdrawn");
}

#[test]
fn a_set_is_held_on_a_model_that_all_of_it_accept() {
    let stopped = |models: [&[&str]; 2], guaranteed: i64| {
        let quotas = vec![guaranteed_to("red", 0), guaranteed_to("blue", 0), of_model("red", "H100", guaranteed)];
        let member = |name: &str, models: &[&str]| JobRequested {
            job_set: Some(JobSet { set: RefId::from("set"), size: Count(2) }),
            ..ask(name, "red", 8, models)
        };
        stopped_for(quotas, on_all_nodes("blue"), vec![member("one", models[0]), member("two", models[1])])
    };
    assert_eq!(models_of(&stopped([&["H100"], &["H100"]], 16)), ["h", "h"]);
    assert_eq!(stopped([&["H100"], &["H100"]], 15), []);
    assert_eq!(stopped([&["H100"], &["A100"]], 16), []);
}

#[test]
fn small_jobs_within_their_guarantee_are_moved_out_of_a_gangs_way_only_where_their_model_has_room_for_both() {
    let stopped = |green: i64, guaranteed: i64| {
        let quotas = vec![guaranteed_to("red", 0), guaranteed_to("blue", 0), guaranteed_to("green", 0)];
        let models = [("red", 8), ("blue", 4), ("green", guaranteed)].map(|(of, gpus)| of_model(of, "H100", gpus));
        let fixed = lasting(ask("fixed", "green", green, &["H100"]));
        let running = vec![fixed, ask("small", "blue", 4, &["H100"])];
        let mut wide = world(quotas.into_iter().chain(models).collect());
        wide.step(vec![lasting(ask("filler", "green", 8 - green, &["H100"])).into()]);
        run(&mut wide, running);
        if green < 8 {
            let end = wide.finish("filler");
            wide.step(vec![end]);
        }
        wide.advance(20 * MINUTE_US);
        wide.step(vec![ask("gang", "red", 8, &["H100"]).into()]);
        told_to_stop(&wide.advance(15 * MINUTE_US))
    };
    assert_eq!(stopped(4, 0), [("small".to_owned(), "gang".to_owned())], "eight are free, four on each node");
    assert_eq!(stopped(8, 8), [], "of sixteen twenty are guaranteed: what blue has of its own it keeps");
}

#[test]
fn an_elastic_job_gives_back_what_a_guarantee_is_owed_at_its_first_checkpoint() {
    let resized = |guarantee: Vec<QuotaSet>| {
        let quotas = [guaranteed_to("red", 0), guaranteed_to("blue", 32)].into_iter().chain(guarantee);
        let mut world = world(quotas.collect());
        // Nobody is preempted.
        world.step(vec![policy(0).into()]);
        let mut wide = ask("wide", "blue", 8, &["H100"]);
        wide.gang.replicas_max = Count(2);
        run(&mut world, vec![wide]);
        assert_eq!(world.running[&JobId::from("wide")].replicas, Count(2));
        world.now += 40 * MINUTE_US;
        world.step(vec![ask("mine", "red", 8, &["H100"]).into()]);
        world.now += 59 * SECOND_US;
        let said = vec![checkpointed(&world, "wide", 20 * MINUTE_US)];
        world.step(said).iter().any(|output| matches!(output, Event::JobResized(_)))
    };
    assert!(!resized(vec![]), "all of it lies within blue's share");
    assert!(!resized(vec![of_model("red", "A100", 8)]));
    assert!(!resized(vec![of_model("red", "H100", 8), of_model("blue", "H100", 16)]));
    assert!(resized(vec![of_model("red", "H100", 8)]));
}

#[test]
fn a_restored_kernel_decides_alike() {
    let mut world = world(vec![guaranteed_to("red", 0), guaranteed_to("blue", 8), of_model("red", "H100", 8)]);
    run(&mut world, on_all_nodes("blue"));
    world.step(vec![
        ask("any", "red", 8, &[]).into(),
        ask("both", "red", 8, &["A100", "H100"]).into(),
        ask("mine", "red", 8, &["H100"]).into(),
    ]);
    world.step(vec![of_model("blue", "A100", 4).into(), of_model("red", "A100", 2).into()]);
    for minutes in [5, 10, 20] {
        let mut again = world.clone();
        again.kernel = Kernel::restore(world.kernel.snapshot()).unwrap();
        let outputs = world.advance(minutes * MINUTE_US);
        assert_eq!(again.advance(minutes * MINUTE_US), outputs);
        let end = world.finish("h-0");
        let (mut one, mut other) = (world.clone(), again);
        assert_eq!(one.step(vec![end.clone()]), other.step(vec![end]));
    }
}

#[test]
fn without_a_guarantee_of_a_model_everything_is_decided_as_before() {
    let decided = |caps: Vec<QuotaSet>| {
        let mut world = world([guaranteed_to("red", 16), guaranteed_to("blue", 8)].into_iter().chain(caps).collect());
        run(&mut world, on_all_nodes("blue"));
        let asked = [("one", &["H100"] as &[&str]), ("two", &["A100", "H100"]), ("three", &[])];
        let mut outputs = world.step(asked.map(|(name, models)| ask(name, "red", 8, models).into()).to_vec());
        outputs.extend(world.advance(40 * MINUTE_US));
        outputs
    };
    let cap = |tenant: &str| QuotaSet { borrowing_limit_milli: Some(GpuMilli(32_000)), ..of_model(tenant, "H100", 0) };
    let outputs = decided(vec![]);
    assert_eq!(told_to_stop(&outputs).len(), 2, "two of three are within red's share");
    assert_eq!(decided(vec![cap("red"), cap("blue")]), outputs);
}
