//! Time of a packing decision under the kernel's own rule, against its exact form of the published `fgd` rule: the published
//! protocol on the openb trace where that is there, and a generated fleet with generated jobs where it is not.

use std::path::Path;

use solyx_connectors::backtest::openb::{self, Arrivals, TraceNode, TracePod};
use solyx_connectors::backtest::packing::{Frequencies, run};
use solyx_connectors::generate::{Size, each};
use solyx_kernel::packing::Rule;
use solyx_schemas::events::Event;

use crate::measure::Measure;

/// The published seed that is taken.
const ARRIVALS_SEED: u64 = 42;
/// Runs at most: each takes about a second.
const RUNS_MAX: u32 = 3;
/// The generated workload.
const GENERATED: Size = Size { jobs: 20_000, nodes: 800, days: 7 };
/// Arrivals end at so many per cent of the GPUs.
const ARRIVED_PCT: i64 = 130;

struct Workload {
    name: String,
    nodes: Vec<TraceNode>,
    pods: Vec<TracePod>,
    arrivals: Arrivals,
}

/// Median and 99th percentile of a decision's time.
pub fn measure(traces: Option<&Path>, seed: u64, runs: u32) -> anyhow::Result<Vec<Measure>> {
    let workload = match traces {
        Some(traces) => published(&traces.join("openb"))?,
        None => generated(seed),
    };
    let (mut p50, mut p99) = (Vec::new(), Vec::new());
    let mut allocated = [0.0; 2];
    for _ in 0..runs.min(RUNS_MAX) {
        let [own, fgd] = [Rule::Solyx, Rule::Fgd].map(|rule| {
            run(&workload.nodes, &workload.pods, &workload.arrivals, ARRIVALS_SEED, rule, Frequencies::Prior)
        });
        p50.push((own.us_per_decision.p50, fgd.us_per_decision.p50));
        p99.push((own.us_per_decision.p99, fgd.us_per_decision.p99));
        let last = |report: &solyx_connectors::backtest::packing::PackingReport| {
            report.alloc_pct.get("130").or(report.alloc_pct.values().next_back()).copied().unwrap_or(0.0)
        };
        allocated = [last(&own), last(&fgd)];
    }
    let what = |quantile: &str| {
        format!(
            "{quantile} of {} decisions on {} ({} nodes); GPUs allocated at the end: {:.2} % by solyx, {:.2} % by fgd",
            workload.arrivals.pods.len(),
            workload.name,
            workload.nodes.len(),
            allocated[0],
            allocated[1],
        )
    };
    let rule = "the fgd rule, by the same inventory";
    Ok(vec![
        Measure::beside("packing_decision_p50", "us", what("median"), &p50, rule),
        Measure::beside("packing_decision_p99", "us", what("99th percentile"), &p99, rule),
    ])
}

fn published(dir: &Path) -> anyhow::Result<Workload> {
    let nodes = openb::nodes(&dir.join("openb_node_list_gpu_node.csv.gz"))?;
    let pods = openb::pods(&dir.join("openb_pod_list_default.csv.gz"))?;
    let file = dir.join("arrivals/openb_default_seeds42-46.txt.gz");
    let arrivals = openb::arrivals(&file, ARRIVALS_SEED, nodes.len(), pods.len())?;
    Ok(Workload { name: format!("openb, default, seed {ARRIVALS_SEED}"), nodes, pods, arrivals })
}

/// Nodes and jobs of a generated world; a job of several replicas is so many pods.
fn generated(seed: u64) -> Workload {
    let (mut nodes, mut pods) = (Vec::new(), Vec::new());
    each(seed, GENERATED, &mut |event| match event {
        Event::NodeReported(node) if !node.gpus.is_empty() => nodes.push(TraceNode {
            sn: node.node.to_string(),
            cpu_milli: node.cpu_milli.0,
            memory_mib: node.memory_mib.0,
            gpus: node.gpus.len() as i64,
            model: node.gpus[0].model.to_string(),
        }),
        Event::JobRequested(job) => {
            let mut models: Vec<String> = job.models.iter().map(|choice| choice.model.to_string()).collect();
            models.sort();
            for replica in 0..job.gang.replicas_min.0.min(8) {
                pods.push(TracePod {
                    name: format!("{}/{replica}", job.job),
                    cpu_milli: job.gang.cpu_milli.0,
                    memory_mib: job.gang.memory_mib.0,
                    gpus: job.gang.gpus.0,
                    gpu_milli: job.gang.gpu_milli_each.0,
                    models: models.clone(),
                });
            }
        }
        _ => {}
    });
    // A node is reported again when it changes.
    nodes.sort();
    nodes.dedup_by(|one, other| one.sn == other.sn);
    let gpu_milli: i64 = nodes.iter().map(|node| node.gpus * 1_000).sum();
    let mut left = gpu_milli * ARRIVED_PCT / 100;
    let arrived = pods.iter().take_while(|pod| {
        left -= pod.gpus * pod.gpu_milli;
        left > 0
    });
    let arrivals = Arrivals { pods: (0..arrived.count()).collect(), node_numbers: (0..nodes.len()).collect() };
    Workload { name: format!("a generated fleet and jobs, seed {seed}"), nodes, pods, arrivals }
}
