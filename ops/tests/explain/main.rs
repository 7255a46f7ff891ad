//! What `solyx explain` says of jobs that wait and of jobs that were placed, as a person reads it.
#![allow(clippy::unwrap_used)]

mod world;

use solyx_schemas::events::jobs::*;
use solyx_schemas::units::*;

use world::*;

/// A cell in which something keeps each of the jobs waiting, and each placed one has a reason.
fn busy() -> World {
    let mut world = World::new();
    world.at(0, fleet());
    world.at(
        1,
        vec![
            JobRequested { gang: gang(1, 8), models: models(&["H100"]), ..job("placed/first", "blue", 3) }.into(),
            JobRequested { gang: gang(1, 8), models: models(&["H100"]), ..job("placed/fills-quota", "red", 5) }.into(),
            JobRequested { models: models(&["H200"]), ..job("placed/cheaper-of-two", "blue", 2) }.into(),
            JobRequested { models: models(&["A10"]), ..job("placed/leased", "blue", 2) }.into(),
        ],
    );
    let deferred =
        JobRequested { models: models(&["B200"]), deadline_us: Some(at(20 * 60)), ..job("placed/later", "green", 2) };
    world.at(2, vec![deferred.into()]);
    world.at(
        3,
        vec![
            JobRequested { gang: gang(1, 8), models: models(&["H100"]), ..job("waits/gpus", "blue", 2) }.into(),
            JobRequested { gang: gang(1, 8), models: models(&["H100"]), ..job("waits/quota", "red", 2) }.into(),
            JobRequested { hold: true, ..job("waits/hold", "blue", 1) }.into(),
            JobRequested {
                depends_on: vec![Dependency { job: "placed/first".into(), condition: DependencyCondition::Ok }],
                ..job("waits/dependency", "blue", 1)
            }
            .into(),
            JobRequested { not_before_us: Some(at(600)), ..job("waits/not-before", "blue", 1) }.into(),
            JobRequested {
                job_set: Some(JobSet { set: "set-1".into(), size: Count(2) }),
                ..job("waits/job-set", "blue", 1)
            }
            .into(),
            job("waits/cordon", "grey", 1).into(),
            job("waits/undeclared", "nobody", 1).into(),
            JobRequested { residency: vec!["FR".into()], ..job("waits/residency", "blue", 1) }.into(),
            JobRequested { models: models(&["A100"]), ..job("waits/gpu-model", "blue", 1) }.into(),
            JobRequested {
                gang: Gang { gpu_memory_mib: Some(MemoryMib(100_000)), ..gang(1, 1) },
                models: models(&["H100"]),
                ..job("waits/gpu-memory", "blue", 1)
            }
            .into(),
            JobRequested {
                gang: gang(2, 8),
                models: models(&["H200"]),
                topology: Some(Topology { required: Some(TopologyLevel::Leaf), ..Topology::default() }),
                ..job("waits/fabric-domain", "blue", 1)
            }
            .into(),
            JobRequested { gang: gang(1, 8), models: models(&["MI300"]), ..job("waits/power", "blue", 1) }.into(),
        ],
    );
    world.run_until(90);
    world
}

#[test]
fn jobs_that_wait_hear_what_for_where_they_stand_and_what_moves_them() {
    let world = busy();
    let kinds = "gpus quota hold dependency not-before job-set cordon undeclared residency gpu-model gpu-memory fabric-domain power";
    for kind in kinds.split(' ') {
        insta::assert_snapshot!(format!("waits-{kind}"), world.explain(&format!("waits/{kind}")));
    }
}

#[test]
fn jobs_that_were_placed_hear_where_at_what_cost_and_what_was_not_taken() {
    let mut world = busy();
    world.run_until(24 * 60);
    for job in "placed/first placed/cheaper-of-two placed/leased placed/later waits/gpus".split(' ') {
        insta::assert_snapshot!(job.replace('/', "-then-"), world.explain(job));
    }
}
