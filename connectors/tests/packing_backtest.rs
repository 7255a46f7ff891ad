//! The packing rules against the published means, on the trace itself when it is there.
//!
//! The trace is read from a path (its licence is for study or research), never vendored: `SOLYX_TRACES` names the
//! folder. Without it the test that needs the trace says that it does not run.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use solyx_connectors::backtest::openb;
use solyx_connectors::backtest::packing::{Frequencies, PackingReport, packing_backtest, run};
use solyx_kernel::packing::Rule;

const WORKLOADS: [&str; 9] =
    ["default", "cpu100", "cpu200", "gpushare40", "gpushare80", "gpuspec10", "gpuspec25", "multigpu20", "multigpu40"];
const SEEDS: [u64; 5] = [42, 43, 44, 45, 46];
const COLUMNS: [&str; 2] = ["100", "130"];

/// How far from the published mean of ten seeds the mean of five may lie, points.
const TOLERANCE: f64 = 0.3;

fn traces() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/traces");
    let path = std::env::var_os("SOLYX_TRACES").map_or_else(beside, PathBuf::from).join("openb");
    if path.is_dir() {
        return Some(path);
    }
    // Past the harness, which shows nothing that a test prints when it passes.
    let test = std::thread::current();
    let test = test.name().unwrap_or_default();
    let _ = writeln!(std::io::stderr(), "not run: {test}: no traces in $SOLYX_TRACES: {} is not there", path.display());
    None
}

fn means(openb: &Path, workload: &str, rule: Rule, known: Frequencies) -> BTreeMap<&'static str, f64> {
    let nodes = openb::nodes(&openb.join("openb_node_list_gpu_node.csv.gz")).unwrap();
    let pods = openb::pods(&openb.join(format!("openb_pod_list_{workload}.csv.gz"))).unwrap();
    let file = openb.join(format!("arrivals/openb_{workload}_seeds42-46.txt.gz"));
    let reports: Vec<PackingReport> = SEEDS
        .iter()
        .map(|seed| {
            let arrivals = openb::arrivals(&file, *seed, nodes.len(), pods.len()).unwrap();
            run(&nodes, &pods, &arrivals, *seed, rule, known)
        })
        .collect();
    let mean = |column: &str| reports.iter().map(|report| report.alloc_pct[column]).sum::<f64>() / SEEDS.len() as f64;
    COLUMNS.iter().map(|column| (*column, mean(column))).collect()
}

fn published(openb: &Path, workload: &str, policy: &str, column: &str) -> f64 {
    let table = std::fs::read_to_string(openb.join("targets.csv")).unwrap();
    let start = format!("openb_pod_list_{workload},{policy},alloc_pct,{column},");
    let line = table.lines().find(|line| line.starts_with(&start)).unwrap();
    line.split(',').nth(5).unwrap().parse().unwrap()
}

#[test]
fn fgd_and_best_fit_reach_the_published_means_and_solyx_is_nowhere_below_fgd() {
    let Some(openb) = traces() else { return };
    std::thread::scope(|scope| {
        let openb = &openb;
        let half = WORKLOADS.len().div_ceil(2);
        for workloads in WORKLOADS.chunks(half) {
            scope.spawn(move || {
                for workload in workloads {
                    let fgd = means(openb, workload, Rule::Fgd, Frequencies::Prior);
                    let best_fit = means(openb, workload, Rule::BestFit, Frequencies::Prior);
                    let solyx = means(openb, workload, Rule::Solyx, Frequencies::Prior);
                    let learned = means(openb, workload, Rule::Solyx, Frequencies::Learned);
                    for column in COLUMNS {
                        for (ours, policy) in [(&fgd, "06-FGD"), (&best_fit, "05-BestFit")] {
                            let theirs = published(openb, workload, policy, column);
                            let ours = ours[column];
                            println!("{workload} at {column} %: {policy} {ours:.2}, published {theirs:.2}");
                            assert!(
                                (ours - theirs).abs() <= TOLERANCE,
                                "{workload} {policy} at {column} %: {ours} {theirs}"
                            );
                        }
                        println!("{workload} at {column} %: solyx {:.2}", solyx[column]);
                        assert!(solyx[column] >= fgd[column], "{workload} at {column} %: {solyx:?} below {fgd:?}");
                        println!("{workload} at {column} %: solyx, from arrivals alone {:.2}", learned[column]);
                        assert!(learned[column] >= fgd[column], "{workload} at {column} %: {learned:?} below {fgd:?}");
                    }
                }
            });
        }
    });
}

fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_small_trace_is_packed_and_counted_as_the_protocol_says() {
    let dir = tempfile::tempdir().unwrap();
    let nodes =
        write(dir.path(), "nodes.csv", "sn,cpu_milli,memory_mib,gpu,model\na,8000,1000,1,T4\nb,8000,1000,1,P100\n");
    let pods = write(
        dir.path(),
        "pods.csv",
        "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n\
         p0,1000,10,1,600,\np1,1000,10,1,400,T4|G2\np2,1000,10,1,1000,\n",
    );
    // b comes first by its number, so that p0 goes there; p1 needs the T4; p2 finds no whole GPU and is dropped.
    let arrivals = write(dir.path(), "arrivals.txt", "7 0 1 2 1\nN7 1 0\n");
    let report = packing_backtest(&nodes, &pods, &arrivals, 7, Rule::BestFit, Frequencies::Prior).unwrap();
    assert_eq!((report.placed, report.dropped), (3, 1));
    assert_eq!(report.alloc_pct["100"], 50.0);
    assert!(!report.alloc_pct.contains_key("130"), "no arrival rounds to 130 %");
}

#[test]
fn files_that_do_not_belong_together_or_are_malformed_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let nodes = write(dir.path(), "nodes.csv", "sn,cpu_milli,memory_mib,gpu,model\na,8000,1000,-1,T4\n");
    let pods = write(dir.path(), "pods.csv", "name,cpu_milli\np0,1\n");
    let arrivals = write(dir.path(), "arrivals.txt", "7 0\nN7 0 1\n");
    let message = |error: solyx_connectors::backtest::BacktestError| error.to_string();
    let negative = message(openb::nodes(&nodes).unwrap_err());
    assert!(negative.contains("line 2: gpu is `-1`, expected 0 to 64 GPUs"), "{negative}");
    let lacking = message(openb::pods(&pods).unwrap_err());
    assert!(lacking.contains("no column `memory_mib`"), "{lacking}");
    let unknown = message(openb::arrivals(&arrivals, 8, 2, 1).unwrap_err());
    assert!(unknown.contains("no arrivals for seed 8; it has 7"), "{unknown}");
    let other = message(openb::arrivals(&arrivals, 7, 3, 1).unwrap_err());
    assert!(other.contains("does not belong to these nodes"), "{other}");
}
