//! `solyx backtest`: published experiments, run through the kernel's own rules.

mod departures;
mod picture;
mod queue;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use solyx_connectors::backtest::packing::{Frequencies, packing_backtest};
use solyx_kernel::packing::Rule;

use crate::failure::{Exit, Failure, Outcome};
use crate::output;

/// Run a published experiment through the kernel's own rules.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  solyx backtest packing --nodes nodes.csv.gz --pods pods.csv.gz --arrivals arrivals.txt.gz --seed 42 --policy fgd\n  \
                  solyx backtest departures --nodes nodes.csv.gz --pods pods.csv.gz --each 10 --load 0.9,1.05\n  \
                  solyx backtest queue --jobs philly.csv.gz --load 1.0 --policy solyx --durations none\n  \
                  solyx backtest queue --jobs philly.csv.gz --load 0.9,1.0,1.1 --policy all --durations none,noisy:1.0,exact --picture queue.svg"
)]
pub struct Backtest {
    #[command(subcommand)]
    what: What,
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
        What::Packing { nodes, pods, arrivals, seed, policy, frequencies } => {
            (nodes, pods, arrivals, seed, policy, frequencies)
        }
        What::Departures(departures) => return departures::run(departures, json),
        What::Queue(queue) => return queue::run(queue, json),
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
