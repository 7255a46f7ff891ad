//! Benchmarks that print ratios: each thing measured beside a named yardstick, in the same run, over the same records.
//!
//! Nothing here decides a test. A measure and its yardstick take turns, so that what slows the machine down slows both;
//! the median and the spread of all turns are said, and so is what it ran on.

mod decoding;
mod history;
mod kafka;
mod machine;
mod measure;
mod ordinary;
mod packing;
mod queued;
mod replay;
mod report;
mod scheduling;
mod views;
mod whatif;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

use history::History;
use measure::Measure;
use report::Report;

/// The one that the binary runs with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measure decoding, applying, deciding, views, memory and audits against named yardsticks.
#[derive(Debug, Parser)]
#[command(name = "bench", version, max_term_width = 110)]
struct Options {
    /// Write JSON with stable field names instead of a table.
    #[arg(long)]
    json: bool,
    /// Directory of the published traces; without it packing is measured on a generated workload.
    #[arg(long, value_name = "DIR")]
    traces: Option<PathBuf>,
    /// Turns of each measure and its yardstick.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Seed of the generated world.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Jobs of the generated world.
    #[arg(long, default_value_t = 1_000)]
    jobs: u32,
    /// Jobs that wait while memory is measured.
    #[arg(long, default_value_t = 100_000)]
    queued: u32,
    /// Measure on this cluster instead: the kafka.toml of a running one. `ops/bench kafka` starts one.
    #[arg(long, value_name = "FILE")]
    kafka: Option<PathBuf>,
    /// Measure node choice and whole scheduling rounds instead. `ops/bench scheduling` does.
    #[arg(long)]
    scheduling: bool,
    /// Measure audits of an ordinary mix, meters and sensors mostly, instead. `ops/bench audit` does.
    #[arg(long, conflicts_with_all = ["scheduling", "whatif"])]
    audit: bool,
    /// Measure questions to the living state instead, at 10,000 nodes, 80,000 runs and 20,000 or 100,000 waiting jobs.
    /// `ops/bench whatif` does.
    #[arg(long, conflicts_with = "scheduling")]
    whatif: bool,
    /// Where the plot of growth goes, as SVG.
    #[arg(long, value_name = "FILE", requires = "scheduling")]
    plot: Option<PathBuf>,
    /// On a cluster: nodes of the fleet.
    #[arg(long, default_value_t = 10_000)]
    nodes: u32,
    /// On a cluster: jobs a second.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// On a cluster: seconds of that rate.
    #[arg(long, default_value_t = 300)]
    seconds: u64,
    /// On a cluster: events of the throughput's topic.
    #[arg(long, default_value_t = 200_000)]
    events: u32,
    /// On a cluster: jobs alive at a restart.
    #[arg(long, default_value_t = 1_000_000)]
    live: u32,
    /// Measure memory only, in this process, and print the numbers: what the benchmark runs in a process of its own.
    #[arg(long, hide = true)]
    only_queued: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome =
        if options.only_queued { queued::in_this_process(options.seed, options.queued) } else { run(&options) };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: the benchmark did not run: {error:#}");
            ExitCode::from(3)
        }
    }
}

fn run(options: &Options) -> anyhow::Result<()> {
    let begun = Instant::now();
    let say = |what: &str| eprintln!("{:>4} s  {what}", begun.elapsed().as_secs());
    if let Some(cluster) = &options.kafka {
        let Options { nodes, rate, seconds, events, live, .. } = *options;
        let measures = kafka::measure(&kafka::Options { cluster, nodes, rate, seconds, events, live }, &say)?;
        let report = Report::new(None, measures, begun.elapsed());
        println!("{}", if options.json { report.json()? } else { report.text() });
        return Ok(());
    }
    if options.scheduling {
        let Options { seed, runs, .. } = *options;
        let asked = scheduling::Asked { traces: options.traces.as_deref(), plot: options.plot.as_deref(), seed, runs };
        let report = Report::new(None, scheduling::measure(&asked, &say)?, begun.elapsed());
        println!("{}", if options.json { report.json()? } else { report.text() });
        return Ok(());
    }
    if options.whatif || options.audit {
        let measures = if options.audit {
            say("an ordinary mix of a million records, and its audits");
            ordinary::measure(100, options.runs)?
        } else {
            whatif::measure(options.runs, &say)?
        };
        let report = Report::new(None, measures, begun.elapsed());
        println!("{}", if options.json { report.json()? } else { report.text() });
        return Ok(());
    }
    say("generating a world and running it in virtual time");
    let history = History::make(options.seed, options.jobs)?;
    let mut measures: Vec<Measure> = Vec::new();
    say("decoding and applying");
    measures.extend(decoding::measure(&history, options.runs)?);
    say("deciding on where to pack");
    measures.extend(packing::measure(options.traces.as_deref(), options.seed, options.runs)?);
    say("folding views");
    measures.extend(views::measure(&history, options.runs)?);
    say("auditing");
    measures.extend(replay::measure(&history, options.runs)?);
    say("memory of queued jobs");
    measures.extend(queued::measure(options.seed, options.queued)?);
    let report = Report::new(Some(&history), measures, begun.elapsed());
    println!("{}", if options.json { report.json()? } else { report.text() });
    Ok(())
}
