//! `solyx backtest departures`: packing rules side by side while pods come and go.

use std::path::PathBuf;

use clap::Args;
use solyx_connectors::backtest::departures::{DeparturesReport, Setting, run as run_departures};
use solyx_connectors::backtest::openb;
use solyx_connectors::backtest::packing::Frequencies;
use solyx_kernel::packing::Rule;

use super::queue::load;
use crate::failure::{Exit, Failure, Outcome};
use crate::output;
use crate::progress::bar;

const HINT: &str = "see solyx backtest departures --help";

/// How it is run.
#[derive(Debug, Args)]
pub struct Departures {
    /// The list of nodes.
    #[arg(long)]
    nodes: PathBuf,
    /// The list of pods, with their times of creation and deletion.
    #[arg(long)]
    pods: PathBuf,
    /// One node in so many makes the fleet.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    each: u32,
    /// GPU time asked for over GPU time there is, if nobody waited; lengths are stretched to it. One or several with commas
    /// between them.
    #[arg(long, default_value = "0.9,1.05", value_delimiter = ',', value_parser = load)]
    load: Vec<f64>,
    /// Rules, one or several with commas between them: solyx, fgd, best-fit.
    #[arg(long, default_value = "solyx,fgd,best-fit", value_delimiter = ',', value_parser = ["solyx", "fgd", "best-fit"])]
    policy: Vec<String>,
    /// What solyx knows of the kinds of pods: those of the whole workload beforehand, or only what has arrived.
    #[arg(long, default_value = "prior", value_parser = ["prior", "learned"])]
    frequencies: String,
}

/// Runs it.
pub fn run(departures: &Departures, json: bool) -> Outcome {
    let failed = |e| Failure::usage("the backtest did not run", e, HINT);
    let nodes = openb::nodes(&departures.nodes).map_err(failed)?;
    let stays = openb::stays(&departures.pods).map_err(failed)?;
    let frequencies = if departures.frequencies == "learned" { Frequencies::Learned } else { Frequencies::Prior };
    let mut reports = Vec::new();
    let bar = bar((departures.load.len() * departures.policy.len()) as u64, "runs", json);
    for load in &departures.load {
        for policy in departures.policy.iter().filter_map(|name| Rule::named(name)) {
            let setting = Setting { policy, frequencies, each: departures.each as usize, load: *load };
            reports.push(run_departures(&nodes, &stays, setting).map_err(failed)?);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    if json {
        output::json(&reports);
    } else {
        print(&reports);
    }
    Ok(Exit::Good)
}

fn print(reports: &[DeparturesReport]) {
    let rows = reports.iter().map(|report| {
        [
            format!("{:.2}", report.load),
            report.policy.clone(),
            format!("{:.2}", report.allocated_pct),
            format!("{:.0}", report.waiting_gpu_h),
            format!("{:.0}", report.unplaced_gpu_h),
            format!("{:.2}", report.mean_wait_h),
            report.unplaced.to_string(),
        ]
    });
    output::line(output::table(
        ["load", "rule", "allocated %", "waiting GPU h", "unplaced GPU h", "mean wait h", "still waiting"],
        &[0, 2, 3, 4, 5, 6],
        rows,
    ));
    if let Some(report) = reports.first() {
        output::line(format!(
            "{} pods on {} nodes with {} GPUs; {} that no empty node would hold are left out; lengths times {:.1} at the first load",
            report.pods, report.nodes, report.gpus, report.left_out, report.stretch
        ));
        output::line(
            "waiting: GPUs that were waited for, over time; unplaced: GPU time of pods that waited at the last arrival",
        );
    }
}
