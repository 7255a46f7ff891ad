//! `solyx backtest`: recorded logs and published experiments, run through the kernel's own rules.

mod departures;
mod picture;
mod queue;
mod vary;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use solyx_connectors::backtest::packing::{Frequencies, packing_backtest};
use solyx_kernel::packing::Rule;

use crate::failure::{Exit, Failure, Outcome};
use crate::output;

/// Run a recorded log again with something otherwise, or a published experiment through the kernel's own rules.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    arg_required_else_help = true,
    after_help = "Examples:\n  solyx backtest --base world --vary sjf.toml dear-carbon.toml --page outcomes.html\n  \
                  solyx backtest --base world --baseline all --csv outcomes.csv\n  \
                  solyx backtest --base world --grid grid.toml --jobs 8 --parquet outcomes.parquet\n  \
                  solyx backtest packing --nodes nodes.csv.gz --pods pods.csv.gz --arrivals arrivals.txt.gz --seed 42 --policy fgd\n  \
                  solyx backtest departures --nodes nodes.csv.gz --pods pods.csv.gz --each 10 --load 0.9,1.05\n  \
                  solyx backtest queue --jobs philly.csv.gz --load 1.0 --policy solyx --durations none\n  \
                  solyx backtest queue --jobs philly.csv.gz --load 0.9,1.0,1.1 --policy all --durations none,noisy:1.0,exact --picture queue.svg\n\n\
                  A variation names what is otherwise, in the words of a fleet file; all of it but the name is optional:\n  \
                  name = \"sjf-dear-carbon\"\n  \
                  baseline = \"easy\"              # a baseline whose changes come first\n  \
                  fleet = \"metapods.toml\"        # a fleet file whose supply takes the place of the recorded one\n  \
                  planner = \"none\"               # or packing-prices\n  \
                  [policy]\n  \
                  order_rule = \"sjf\"\n  \
                  [weights]\n  \
                  carbon_per_kg = \"0.20\"\n  \
                  [executor]\n  \
                  seed = 8                       # another luck: failures, reclaims\n  \
                  [[pools]]\n  \
                  class = \"spot\"               # or pool = \"lambda-*\"\n  \
                  price_factor = \"1.5\"         # or price_per_gpu_hour, instances, cordon, remove\n  \
                  [[nodes]]\n  \
                  pool = \"metapod-de/h100\"\n  \
                  keep = 20\n  \
                  [[rates]]\n  \
                  factor = \"1.1\"              # what customers pay\n  \
                  [[energy]]\n  \
                  zone = \"DE-LU\"\n  \
                  price_factor = \"2\"          # and carbon_factor\n\n\
                  A grid has axes of variations; every combination is run, for each seed:\n  \
                  seeds = [7, 8]\n  \
                  [[axis]]\n  \
                  name = \"policy\"\n  \
                  values = [{ name = \"easy\", baseline = \"easy\" }, { name = \"srpt\", policy = { order_rule = \"srpt\" } }]\n  \
                  [[axis]]\n  \
                  name = \"carbon\"\n  \
                  values = [{ name = \"0\", weights = { carbon_per_kg = \"0\" } }, { name = \"200\", weights = { carbon_per_kg = \"0.20\" } }]\n\n\
                  Exit code 1: the base, run again unchanged, came out otherwise and nobody knows why."
)]
pub struct Backtest {
    #[command(flatten)]
    vary: vary::Vary,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// GPU packing on the openb trace, by the protocol of the FGD paper.
    Packing {
        /// The list of nodes.
        #[arg(long)]
        nodes: PathBuf,
        /// The list of pods.
        #[arg(long)]
        pods: PathBuf,
        /// The published order of arrivals.
        #[arg(long)]
        arrivals: PathBuf,
        /// Which of its seeds.
        #[arg(long, default_value_t = 42)]
        seed: u64,
        /// The rule: fgd, best-fit or solyx.
        #[arg(long, default_value = "solyx", value_parser = ["fgd", "best-fit", "solyx"])]
        policy: String,
        /// What solyx knows of the kinds of pods: those of the whole workload beforehand, or only what has arrived.
        #[arg(long, default_value = "prior", value_parser = ["prior", "learned"])]
        frequencies: String,
    },
    /// GPU packing while pods come and go, on a part of the fleet of the openb trace.
    Departures(departures::Departures),
    /// A queue over time: the jobs of a trace, epoch by epoch, on a fleet that is sized by load or that a file describes.
    Queue(queue::Queue),
}

/// Runs it.
pub fn run(command: &Backtest, json: bool) -> Outcome {
    let (nodes, pods, arrivals, seed, policy, frequencies) = match &command.what {
        None if command.vary.is_asked() => return vary::run(&command.vary, json),
        None => {
            let hint = "name --base LOG, or packing, departures or queue; see --help";
            return Err(Failure::usage("nothing is to be run", "found neither a base nor an experiment", hint));
        }
        Some(What::Packing { nodes, pods, arrivals, seed, policy, frequencies }) => {
            (nodes, pods, arrivals, seed, policy, frequencies)
        }
        Some(What::Departures(departures)) => return departures::run(departures, json),
        Some(What::Queue(queue)) => return queue::run(queue, json),
    };
    let rule = Rule::named(policy).ok_or_else(|| {
        Failure::usage(format!("{policy} is no packing rule"), "expected fgd, best-fit or solyx", "see --help")
    })?;
    let known = if frequencies == "learned" { Frequencies::Learned } else { Frequencies::Prior };
    let report = packing_backtest(nodes, pods, arrivals, *seed, rule, known)
        .map_err(|e| Failure::usage("the backtest did not run", e, "the three files must be of the same workload"))?;
    if json {
        output::json(&report);
        return Ok(Exit::Good);
    }
    let rows = report.alloc_pct.iter().map(|(arrived, allocated)| {
        let at = |values: &std::collections::BTreeMap<String, f64>| {
            values.get(arrived).map_or_else(String::new, |value| format!("{value:.2}"))
        };
        let (ratio, amount) = (at(&report.frag_ratio_pct_of_idle), at(&report.frag_amount_pct_of_gpus));
        [format!("{arrived} %"), format!("{allocated:.2}"), ratio, amount]
    });
    output::line(output::table(
        ["arrived", "allocated %", "unusable % of idle", "unusable % of all"],
        &[1, 2, 3],
        rows,
    ));
    let time = report.us_per_decision;
    output::line(format!(
        "{} seed {}: {} placed, {} dropped; {:.1} µs per decision (p50), {:.1} (p99)",
        report.policy, report.seed, report.placed, report.dropped, time.p50, time.p99
    ));
    if report.us_per_price_move > 0.0 {
        output::line(format!(
            "{:.1} ms per plan of prices after the first, beside the decisions: {:.1} µs for each of them",
            report.us_per_price_move / 1000.0,
            report.us_of_price_moves_per_decision
        ));
    }
    Ok(Exit::Good)
}
