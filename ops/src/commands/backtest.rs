//! `solyx backtest`: published experiments, run through the kernel's own rules.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use solyx_connectors::backtest::packing::{Frequencies, packing_backtest};
use solyx_connectors::backtest::philly;
use solyx_connectors::backtest::queue::{POLICIES, QueueReport, Setting, run as run_queue};
use solyx_connectors::import::estimates::Estimates;
use solyx_kernel::packing::Rule;

use crate::failure::{Exit, Failure, Outcome};
use crate::output;
use crate::progress::bar;

/// Run a published experiment through the kernel's own rules.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  solyx backtest packing --nodes nodes.csv.gz --pods pods.csv.gz --arrivals arrivals.txt.gz --seed 42 --policy fgd\n  \
                  solyx backtest queue --jobs philly.csv.gz --load 1.0 --policy solyx --durations none"
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
    /// A queue over time: the jobs of a trace, epoch by epoch, on a fleet that is sized by load.
    Queue(Queue),
}

/// How a queue is run.
#[derive(Debug, Args)]
struct Queue {
    /// The jobs: a table of timestamp, duration, num_gpus, gpu_time, cluster, as in the Philly trace; gzipped or not.
    #[arg(long)]
    jobs: PathBuf,
    /// GPU time asked for over GPU time there is; the fleet follows from it.
    #[arg(long, default_value_t = 1.0, value_parser = load)]
    load: f64,
    /// GPUs of a node.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(i64).range(1..=64))]
    gpus_per_node: i64,
    /// Order rules, one or several with commas between them: solyx, easy, fifo, sjf, drf, las, srpt, srpt-shares.
    #[arg(long, default_value = "solyx", value_delimiter = ',', value_parser = POLICIES.map(|(name, ..)| name))]
    policy: Vec<String>,
    /// What jobs say of their length: exact, none, noisy or noisy:SIGMA.
    #[arg(long, default_value = "exact", value_parser = durations)]
    durations: Estimates,
    /// Seed of noisy durations.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// All tenants have the same share, not one by their GPU time.
    #[arg(long)]
    equal_shares: bool,
    /// Days of the first step of the surcharge, which doubles with each.
    #[arg(long, value_parser = clap::value_parser!(i64).range(0..=365))]
    step_days: Option<i64>,
}

fn load(text: &str) -> Result<f64, String> {
    let expected = || format!("found {text}, expected a number above 0 and up to 100");
    text.parse().ok().filter(|load| *load > 0.0 && *load <= 100.0).ok_or_else(expected)
}

fn durations(text: &str) -> Result<Estimates, String> {
    Estimates::parse(text).ok_or_else(|| format!("found {text}, expected exact, none, noisy or noisy:SIGMA"))
}

/// Runs it.
pub fn run(command: &Backtest, json: bool) -> Outcome {
    let (nodes, pods, arrivals, seed, policy, frequencies) = match &command.what {
        What::Packing { nodes, pods, arrivals, seed, policy, frequencies } => {
            (nodes, pods, arrivals, seed, policy, frequencies)
        }
        What::Queue(queue) => return run_queues(queue, json),
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

fn run_queues(queue: &Queue, json: bool) -> Outcome {
    let jobs = philly::jobs(&queue.jobs)
        .map_err(|e| Failure::usage("the backtest did not run", e, "see solyx backtest queue --help"))?;
    let mut reports = Vec::new();
    for policy in &queue.policy {
        let setting = Setting {
            policy: policy.clone(),
            load: queue.load,
            gpus_per_node: queue.gpus_per_node,
            durations: queue.durations,
            seed: queue.seed,
            equal_shares: queue.equal_shares,
            step_days: queue.step_days,
        };
        let bar = bar(jobs.len() as u64, "", json).with_message(policy.clone());
        let report = run_queue(&jobs, &setting, &mut |done, _| bar.set_position(done as u64));
        bar.finish_and_clear();
        let hint = "see solyx backtest queue --help";
        reports.push(report.map_err(|e| Failure::usage("the backtest did not run", e, hint))?);
    }
    if json {
        match reports.as_slice() {
            [report] => output::json(report),
            reports => output::json(&reports),
        }
        return Ok(Exit::Good);
    }
    output::line(format!("{} jobs on {} nodes of {} GPUs", jobs.len(), reports[0].nodes, queue.gpus_per_node));
    let hours = |seconds: f64| format!("{:.1}", seconds / 3_600.0);
    let row = |report: &QueueReport| {
        [
            report.policy.clone(),
            hours(report.wait_s.mean),
            hours(report.wait_s.p99),
            hours(report.wait_s.max),
            hours(report.completion_s.mean),
            hours(report.completion_s.p50),
            hours(report.completion_s.p99),
            format!("{:.1}", report.utilisation_pct),
            format!("{:.2}", report.lost_pct),
            report.preemptions.to_string(),
            format!("{:.0}", report.longest_miss_s as f64 / 60.0),
            format!("{:.0}", report.decisions_per_s),
        ]
    };
    output::line(output::table(
        [
            "policy",
            "wait h",
            "p99",
            "max",
            "completion h",
            "p50",
            "p99",
            "used %",
            "lost %",
            "preemptions",
            "longest miss min",
            "decisions/s",
        ],
        &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
        reports.iter().map(row),
    ));
    output::line(
        "lost: GPU time to preemption, of all that ran; longest miss: that a job waited while its tenant's promised share held it",
    );
    Ok(Exit::Good)
}
