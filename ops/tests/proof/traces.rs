//! The full traces, where they are: `SOLYX_TRACES` names their folder. Without them these tests say that they do not run.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::world::{World, ops};

/// The folder of traces, if there is one. The test says which it took, or that it took none.
fn traces() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/traces");
    let folder = std::env::var_os("SOLYX_TRACES").map_or(beside, PathBuf::from);
    let openb = folder.join("openb");
    if openb.is_dir() {
        println!("traces of {}", folder.display());
        return Some(folder);
    }
    // Past the harness, which shows nothing that a test prints when it passes.
    let test = std::thread::current();
    let test = test.name().unwrap_or_default();
    let _ =
        writeln!(std::io::stderr(), "not run: {test}: no traces in $SOLYX_TRACES: {} is not there", openb.display());
    None
}

fn file(folder: &Path, name: &str) -> String {
    folder.join(name).display().to_string()
}

#[test]
fn openb_is_imported_run_and_audited() {
    let Some(traces) = traces() else { return };
    let world = World::empty();
    let nodes = file(&traces, "openb/openb_node_list_gpu_node.csv.gz");
    let pods = file(&traces, "openb/openb_pod_list_default.csv.gz");
    let limit = std::env::var("SOLYX_TRACE_JOBS").unwrap_or_else(|_| "100".to_owned());
    let import =
        ["import", "openb", "--stretch", "90", "--nodes", &nodes, "--pods", &pods, "--limit", &limit, "--json"];
    let summary = world.solyx(&import).ends(0).json();
    println!("{summary}");
    let end = world.run();
    println!("{end}");
    assert_eq!((&end["waiting_jobs"], &end["live_runs"]), (&0.into(), &0.into()), "{end}");
    let audit = world.audit();
    println!("{audit}");
    assert_eq!(audit["chain_head"], end["chain_head"]);
}

#[test]
fn philly_s_jobs_are_imported_run_and_audited_on_the_hybrid_fleet() {
    let Some(traces) = traces() else { return };
    let world = World::empty();
    world.solyx(&["publish", &ops("fleets/hybrid.toml"), "--staged"]).ends(0);
    let jobs = file(&traces, "philly/philly_2017-09_10.csv.gz");
    let limit = std::env::var("SOLYX_TRACE_JOBS").unwrap_or_else(|_| "100".to_owned());
    let import = ["import", "philly", "--jobs", &jobs, "--shift-to", "2023-09-04", "--limit", &limit, "--json"];
    println!("{}", world.solyx(&import).ends(0).json());
    let end = world.run();
    println!("{end}");
    assert_eq!((&end["waiting_jobs"], &end["live_runs"]), (&0.into(), &0.into()), "{end}");
    assert_eq!(world.audit()["chain_head"], end["chain_head"]);
}
