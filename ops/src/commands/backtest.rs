//! `solyx backtest`: published experiments, run through the kernel's own rules.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use solyx_connectors::backtest::packing::packing_backtest;
use solyx_kernel::packing::Rule;

use crate::failure::{Exit, Failure, Outcome};
use crate::output;

/// Run a published experiment through the kernel's own rules.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: solyx backtest packing --nodes nodes.csv.gz --pods pods.csv.gz --arrivals arrivals.txt.gz --seed 42 --policy fgd"
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
    },
}

/// Runs it.
pub fn run(command: &Backtest, json: bool) -> Outcome {
    let What::Packing { nodes, pods, arrivals, seed, policy } = &command.what;
    let rule = Rule::named(policy).ok_or_else(|| {
        Failure::usage(format!("{policy} is no packing rule"), "expected fgd, best-fit or solyx", "see --help")
    })?;
    let report = packing_backtest(nodes, pods, arrivals, *seed, rule)
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
    Ok(Exit::Good)
}
