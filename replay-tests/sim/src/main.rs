//! `ops/sim`: many histories under faults, each from a seed of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal, stderr};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::available_parallelism;
use std::time::Instant;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use solyx_sim::faults::Fault;
use solyx_sim::shrink::{add, command, outcome, shrink};
use solyx_sim::{History, TURNS};

/// The one that the engine runs with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Failing histories that are told of; others are counted.
const TOLD_MAX: usize = 5;
/// Times that a run tells how far it is where there is no terminal to show it on.
const TOLD_TIMES: u64 = 20;
/// µs of a day.
const DAY_US: i64 = 86_400_000_000;

/// Live through simulated histories of a cell under faults, and check every epoch of each.
#[derive(Debug, Parser)]
#[command(
    name = "sim",
    version,
    max_term_width = 110,
    after_help = "Examples:\n  ./ops/sim --seeds 10000\n  ./ops/sim --seeds 1 --first 4711 --turns 20 --without crash,late --trace\n\n\
                  The last line is JSON: seeds, failed, simulated_days, faults, cold and warm starts. Exit code 1 when a history failed."
)]
struct Options {
    /// How many histories.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first seed; each history has the next.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Turns of each history.
    #[arg(long, default_value_t = TURNS, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    turns: u32,
    /// What is not to go wrong, separated by commas.
    #[arg(long, value_delimiter = ',', value_parser = fault)]
    without: Vec<Fault>,
    /// Threads; as many as there are processors when not given.
    #[arg(long)]
    threads: Option<usize>,
    /// Stop at the first that fails, and look for no smaller one.
    #[arg(long)]
    fail_fast: bool,
    /// Tell the epochs of a history as they are seen, inputs that count and decisions as JSON, on stderr.
    #[arg(long)]
    trace: bool,
    /// Leave out the progress.
    #[arg(long)]
    quiet: bool,
}

fn fault(name: &str) -> Result<Fault, String> {
    Fault::named(name).ok_or_else(|| {
        let names: Vec<&str> = Fault::ALL.iter().map(|fault| fault.name()).collect();
        format!("expected one of {}", names.join(", "))
    })
}

/// What is said in the end.
#[derive(Default, Serialize)]
struct Report {
    seeds: u64,
    failed: u64,
    simulated_days: i64,
    faults: BTreeMap<&'static str, u64>,
    cold_starts: u64,
    warm_starts: u64,
    epochs: u64,
    inputs: u64,
    seconds: u64,
    /// To the hundredth.
    simulated_years_per_minute: f64,
    #[serde(skip)]
    simulated_us: i64,
    #[serde(skip)]
    failing: Vec<(History, String)>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    // A panic of a book is told of with its seed, below.
    std::panic::set_hook(Box::new(|_| {}));
    let begun = Instant::now();
    let report = Mutex::new(Report::default());
    let next = AtomicU64::new(0);
    let bar = if options.quiet { ProgressBar::hidden() } else { ProgressBar::new(options.seeds) };
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} histories, {msg} failed, {eta} left") {
        bar.set_style(style);
    }
    bar.set_message("0");
    let threads = options.threads.or_else(|| available_parallelism().ok().map(Into::into)).unwrap_or(1);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work(&options, &next, &report, &bar));
        }
    });
    bar.finish_and_clear();
    let mut report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
    if !options.fail_fast && !options.trace {
        tell_smaller(&report.failing);
    }
    let seconds = begun.elapsed().as_secs().max(1);
    report.seconds = seconds;
    report.simulated_days = report.simulated_us / DAY_US;
    let years_per_minute = report.simulated_days as f64 / 365.0 * 60.0 / seconds as f64;
    report.simulated_years_per_minute = (years_per_minute * 100.0).round() / 100.0;
    match serde_json::to_string(&report) {
        Ok(line) => println!("{line}"),
        Err(error) => eprintln!("the report cannot be written: {error}"),
    }
    if report.failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

fn work(options: &Options, next: &AtomicU64, report: &Mutex<Report>, bar: &ProgressBar) {
    let without: BTreeSet<Fault> = options.without.iter().copied().collect();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= options.seeds {
            return;
        }
        let seed = options.first.wrapping_add(number);
        let history = History { seed, turns: options.turns, without: without.clone(), traced: options.trace };
        let came = outcome(&history);
        let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
        report.seeds += 1;
        match came {
            Ok(summary) => {
                report.simulated_us += summary.simulated_us;
                report.epochs += summary.epochs;
                report.inputs += summary.inputs;
                report.cold_starts += summary.starts.cold;
                report.warm_starts += summary.starts.warm;
                add(&mut report.faults, &summary);
            }
            Err(found) => {
                if options.fail_fast {
                    next.store(options.seeds, Ordering::Relaxed);
                }
                report.failed += 1;
                bar.set_message(report.failed.to_string());
                if report.failing.len() < TOLD_MAX {
                    bar.suspend(|| {
                        eprintln!("seed {seed} failed: {found}");
                        eprintln!("  again: {}", command(&history));
                    });
                    report.failing.push((history, found));
                }
            }
        }
        bar.inc(1);
        let lived = report.seeds;
        let is_told = lived.is_multiple_of(options.seeds.div_ceil(TOLD_TIMES)) && options.seeds > TOLD_TIMES;
        if is_told && !options.quiet && !stderr().is_terminal() {
            eprintln!("{lived} of {} histories, {} failed", options.seeds, report.failed);
        }
    }
}

/// Says of the failing histories how to repeat each with less, where that can be done.
fn tell_smaller(failing: &[(History, String)]) {
    for (history, found) in failing {
        let (smaller, found) = shrink(history, found.clone());
        if smaller != *history {
            eprintln!("seed {} also fails smaller: {}", history.seed, command(&smaller));
            eprintln!("  {found}");
        }
    }
}
