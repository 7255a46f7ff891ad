//! `solyx import`: traces and feeds as their publishers wrote them become staged events.

use std::path::PathBuf;

use chrono::NaiveDate;
use clap::{Args, Subcommand};
use solyx_connectors::import::{Estimates, ImportError, Options, Source, Summary, import};
use solyx_schemas::units::{TimeUs, parse_time};

use crate::failure::{Exit, Failure, Outcome};
use crate::{output, progress, world};

/// Import a trace or a feed to the staged topics of a virtual run.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  solyx import openb --stretch 90 --nodes nodes.csv.gz --pods pods.csv.gz --log world\n  \
                        solyx import philly --jobs philly.csv.gz --shift-to 2023-09-04 --estimates noisy:0.5 --log world\n  \
                        solyx import energy --prices price.csv.gz --carbon carbon.csv.gz --zones DE-LU,US-CAL-CISO --log world"
)]
pub struct Import {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    options: Common,
}

#[derive(Debug, Args)]
struct Common {
    /// Directory of the world.
    #[arg(long, value_name = "DIR", global = true)]
    log: Option<PathBuf>,
    /// What a job request says of its length: exact, noisy:SIGMA or none.
    #[arg(long, global = true, default_value = "exact", value_parser = |text: &str| {
        Estimates::parse(text).ok_or("expected exact, noisy, noisy:SIGMA (as in noisy:0.5) or none")
    })]
    estimates: Estimates,
    /// Seed of noisy estimates.
    #[arg(long, global = true, default_value_t = 42)]
    seed: u64,
    /// Day to move the trace to; dated traces move in whole weeks.
    #[arg(long, global = true, value_name = "DATE")]
    shift_to: Option<NaiveDate>,
    /// Only what happens from here on, after the shift.
    #[arg(long, global = true, value_name = "TIME", value_parser = instant)]
    from: Option<TimeUs>,
    /// Only what happens before, after the shift.
    #[arg(long, global = true, value_name = "TIME", value_parser = instant)]
    to: Option<TimeUs>,
    /// At most so many jobs or rows.
    #[arg(long, global = true)]
    limit: Option<u64>,
    /// Multiply durations by this (openb).
    #[arg(long, global = true, default_value_t = 1, value_parser = clap::value_parser!(i64).range(1..=100_000))]
    stretch: i64,
    /// Grid zones to take (energy).
    #[arg(long, global = true, value_delimiter = ',')]
    zones: Vec<String>,
    /// Regions to take (network, offers).
    #[arg(long, global = true, value_delimiter = ',')]
    regions: Vec<String>,
    /// Write bad rows here, one JSON object a line; by default DIR/bad-rows.jsonl.
    #[arg(long, global = true, value_name = "FILE")]
    bad_rows: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Alibaba's GPU trace of 2023: nodes and pods.
    Openb {
        /// The list of nodes.
        #[arg(long)]
        nodes: PathBuf,
        /// The list of pods.
        #[arg(long)]
        pods: PathBuf,
    },
    /// Jobs of Microsoft's Philly clusters.
    Philly {
        /// The jobs.
        #[arg(long)]
        jobs: PathBuf,
    },
    /// Hourly prices (USD per MWh) and carbon (g per kWh) by grid zone.
    Energy {
        /// Prices.
        #[arg(long, required_unless_present = "carbon")]
        prices: Option<PathBuf>,
        /// Carbon.
        #[arg(long)]
        carbon: Option<PathBuf>,
    },
    /// GAIA's jobs for shifting in time.
    Gaia {
        /// The jobs.
        #[arg(long)]
        jobs: PathBuf,
        /// Times are hours instead of seconds.
        #[arg(long)]
        hours: bool,
    },
    /// Sia's workloads.
    Sia {
        /// The jobs.
        #[arg(long)]
        jobs: PathBuf,
    },
    /// Requests to a language model.
    Llm {
        /// The requests.
        #[arg(long)]
        requests: PathBuf,
    },
    /// A catalog of offers.
    Offers {
        /// The catalog.
        #[arg(long)]
        catalog: PathBuf,
    },
    /// Round-trip times, throughput and prices of traffic between regions.
    Network {
        /// Round-trip times.
        #[arg(long, required_unless_present = "egress")]
        rtt: Option<PathBuf>,
        /// Throughput.
        #[arg(long, requires = "rtt")]
        throughput: Option<PathBuf>,
        /// Prices of traffic.
        #[arg(long)]
        egress: Option<PathBuf>,
    },
    /// When spot instances could be had.
    Spot {
        /// The record.
        #[arg(long)]
        file: PathBuf,
        /// The pool it is taken for.
        #[arg(long)]
        pool: String,
        /// Instances for each one counted.
        #[arg(long, default_value_t = 1)]
        instances_each: i64,
    },
    /// Events as JSON, one object a line.
    Jsonl {
        /// The lines.
        file: PathBuf,
    },
    /// Any table, by a mapping of its columns to the fields of an event.
    Csv {
        /// The table.
        file: PathBuf,
        /// Which column is which field, in TOML.
        #[arg(long)]
        mapping: PathBuf,
    },
}

fn instant(text: &str) -> Result<TimeUs, &'static str> {
    parse_time(text).ok_or("expected a date or a time as in 2023-09-04 or 2023-09-04T00:00:00Z")
}

/// Runs it.
pub fn run(command: &Import, json: bool) -> Outcome {
    let Common { log: dir, estimates, seed, shift_to, from, to, limit, stretch, zones, regions, bad_rows } =
        &command.options;
    let Some(dir) = dir else {
        return Err(Failure::usage("no world is named", "expected --log DIR", "see `solyx import --help`"));
    };
    let log = world::writer(dir, false)?;
    let options = Options {
        estimates: *estimates,
        seed: *seed,
        shift_to: *shift_to,
        from: *from,
        to: *to,
        limit: *limit,
        stretch: *stretch,
        zones: zones.clone(),
        regions: regions.clone(),
        bad_rows: Some(bad_rows.clone().unwrap_or_else(|| dir.join("bad-rows.jsonl"))),
    };
    let bar = progress::spinner("events imported:", json);
    let summary = import(&source(&command.what), &options, &*log, &mut |s: &Summary| bar.set_position(s.events));
    bar.finish_and_clear();
    let summary = summary.map_err(failure)?;
    if json {
        output::json(&summary);
    } else {
        report(&summary, options.bad_rows.as_deref());
    }
    let clean = summary.bad == 0 && summary.truncated.is_empty();
    Ok(if clean { Exit::Good } else { Exit::Finding })
}

fn source(what: &What) -> Source {
    match what {
        What::Openb { nodes, pods } => Source::Openb { nodes: nodes.clone(), pods: pods.clone() },
        What::Philly { jobs } => Source::Philly { jobs: jobs.clone() },
        What::Energy { prices, carbon } => Source::Energy { prices: prices.clone(), carbon: carbon.clone() },
        What::Gaia { jobs, hours } => Source::Gaia { jobs: jobs.clone(), hours: *hours },
        What::Sia { jobs } => Source::Sia { jobs: jobs.clone() },
        What::Llm { requests } => Source::Llm { requests: requests.clone() },
        What::Offers { catalog } => Source::Offers { catalog: catalog.clone() },
        What::Network { rtt, throughput, egress } => {
            Source::Network { rtt: rtt.clone(), throughput: throughput.clone(), egress: egress.clone() }
        }
        What::Spot { file, pool, instances_each } => {
            Source::Spot { file: file.clone(), pool: pool.clone(), instances_each: *instances_each }
        }
        What::Jsonl { file } => Source::Jsonl { file: file.clone() },
        What::Csv { file, mapping } => Source::Csv { file: file.clone(), mapping: mapping.clone() },
    }
}

fn report(summary: &Summary, bad_rows: Option<&std::path::Path>) {
    let said =
        [("rows", summary.rows), ("events", summary.events), ("passed over", summary.skipped), ("bad", summary.bad)];
    let said: Vec<String> = said.iter().map(|(what, count)| format!("{} {what}", output::grouped(*count))).collect();
    output::line(said.join(", "));
    for row in &summary.bad_rows {
        output::line(format!("bad: {row}"));
    }
    for file in &summary.truncated {
        output::line(format!("cut off or damaged: {file}"));
    }
    if summary.bad > 0
        && let Some(path) = bad_rows
    {
        output::line(format!("all bad rows are in {}", path.display()));
    }
}

fn failure(error: ImportError) -> Failure {
    match error {
        ImportError::Log(e) => e.into(),
        ImportError::BadRows { .. } => {
            Failure::environment("the import stopped", error, "choose another file with --bad-rows")
        }
        _ => Failure::usage(
            "the import stopped",
            error,
            "nothing of what was imported before is lost; the same command goes on",
        ),
    }
}
