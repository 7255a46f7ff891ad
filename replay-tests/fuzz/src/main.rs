//! `ops/fuzz`: hunts for inputs that must not be, target by target, each in a process of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use comfy_table::Table;
use solyx_fuzz::hunt::{Finding, Report, give, hunt, hush};
use solyx_fuzz::{Target, targets, watch};

#[global_allocator]
static ALLOCATOR: watch::Counting = watch::Counting;

/// Give bytes that nobody meant to whatever takes bytes from outside.
#[derive(Debug, Parser)]
#[command(
    name = "fuzz",
    version,
    max_term_width = 110,
    after_help = "Examples:\n  ./ops/fuzz\n  ./ops/fuzz --seconds 600 archive rows\n  ./ops/fuzz --input found/archive.input archive\n\n\
                  The last line is JSON: targets, executions, seconds, findings. Exit code 1 when something was found."
)]
struct Options {
    /// The targets; all of them when none is named.
    targets: Vec<String>,
    /// For each target.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// All that is tried follows from it, but for how far it comes in the time.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Targets at once; as many as there are processors when not given.
    #[arg(long)]
    jobs: Option<usize>,
    /// Where inputs that were found are written.
    #[arg(long, default_value = "fuzz-findings")]
    dir: PathBuf,
    /// Give this one input to the target and say what comes of it.
    #[arg(long, conflicts_with = "seconds")]
    input: Option<PathBuf>,
    /// List the targets.
    #[arg(long)]
    list: bool,
    /// Reports as JSON, one a line.
    #[arg(long)]
    json: bool,
    #[arg(long, hide = true)]
    child: bool,
}

/// The target of this process, for what is said when it ends in the middle of an input.
static RUNNING: OnceLock<(String, PathBuf)> = OnceLock::new();

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(3)
        }
    }
}

fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let all = targets::all();
    if options.list {
        all.iter().for_each(|target| println!("{:<12} {}", target.name, target.takes));
        return Ok(ExitCode::SUCCESS);
    }
    let unknown = options.targets.iter().find(|name| !all.iter().any(|target| target.name == **name));
    if let Some(name) = unknown {
        let names: Vec<&str> = all.iter().map(|target| target.name).collect();
        eprintln!("error: there is no target {name:?}, expected one of {}", names.join(", "));
        return Ok(ExitCode::from(2));
    }
    let wanted = |target: &Target| options.targets.is_empty() || options.targets.iter().any(|name| name == target.name);
    let wanted: Vec<Target> = all.into_iter().filter(wanted).collect();
    if let Some(input) = &options.input {
        return once(&wanted, input);
    }
    std::fs::create_dir_all(&options.dir)
        .with_context(|| format!("no directory for findings: {}", options.dir.display()))?;
    if options.child {
        let target = wanted.first().context("no target")?;
        return Ok(child(target, options));
    }
    let reports = in_processes(&wanted, options)?;
    // One with findings in it stays.
    let _ = std::fs::remove_dir(&options.dir);
    Ok(tell(&reports, options))
}

/// One input, with its panic as it comes.
fn once(wanted: &[Target], input: &Path) -> anyhow::Result<ExitCode> {
    let bytes = std::fs::read(input).with_context(|| format!("cannot read {}", input.display()))?;
    let mut found = false;
    for target in wanted {
        match give(target, &bytes) {
            Ok(said) => println!("{}: {said}", target.name),
            Err(what) => {
                found = true;
                println!("{}: found: {what}", target.name);
            }
        }
    }
    targets::clear_away();
    Ok(ExitCode::from(u8::from(found)))
}

fn child(target: &Target, options: &Options) -> ExitCode {
    hush();
    watch::begin();
    let _ = RUNNING.set((target.name.to_owned(), options.dir.clone()));
    let report = hunt(target, Duration::from_secs(options.seconds), options.seed, &options.dir, last_words);
    targets::clear_away();
    let found = report.finding.is_some();
    say(&report);
    ExitCode::from(u8::from(found))
}

/// What a process says that ends in the middle of an input.
fn last_words(what: &str) {
    if let Some((target, dir)) = RUNNING.get() {
        let file = dir.join(format!("{target}.input"));
        say(&Report {
            target: target.clone(),
            finding: Some(Finding { what: what.to_owned(), file }),
            ..Report::default()
        });
    }
}

fn say(report: &Report) {
    match serde_json::to_string(report) {
        Ok(line) => println!("{line}"),
        Err(error) => eprintln!("the report cannot be written: {error}"),
    }
}

/// Each target in a process, some at once: what ends one ends no other.
fn in_processes(wanted: &[Target], options: &Options) -> anyhow::Result<Vec<Report>> {
    let this = std::env::current_exe().context("where this program lies")?;
    let jobs = options.jobs.or_else(|| std::thread::available_parallelism().ok().map(Into::into)).unwrap_or(1);
    let next = AtomicUsize::new(0);
    let reports = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, wanted.len()) {
            scope.spawn(|| {
                while let Some(target) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let report = in_process(&this, target, options);
                    if options.json {
                        say(&report);
                    }
                    reports.lock().unwrap_or_else(PoisonError::into_inner).push(report);
                }
            });
        }
    });
    let mut reports = reports.into_inner().unwrap_or_else(PoisonError::into_inner);
    reports.sort_by_key(|report| wanted.iter().position(|target| target.name == report.target));
    Ok(reports)
}

fn in_process(this: &Path, target: &Target, options: &Options) -> Report {
    let ended = Command::new(this)
        .args([
            "--child",
            target.name,
            "--seconds",
            &options.seconds.to_string(),
            "--seed",
            &options.seed.to_string(),
            "--dir",
        ])
        .arg(&options.dir)
        .stdin(Stdio::null())
        .output();
    let died = |what: String| {
        let file = options.dir.join(format!("{}.input", target.name));
        Report { target: target.name.to_owned(), finding: Some(Finding { what, file }), ..Report::default() }
    };
    let ended = match ended {
        Ok(ended) => ended,
        Err(error) => return died(format!("its process cannot be started: {error}")),
    };
    let said = String::from_utf8_lossy(&ended.stdout);
    let report = said.lines().rev().find_map(|line| serde_json::from_str(line).ok());
    report.unwrap_or_else(|| {
        let said: String = String::from_utf8_lossy(&ended.stderr).lines().take(3).collect::<Vec<_>>().join("; ");
        died(format!("its process ended without a report ({}): {said}", ended.status))
    })
}

/// What is said in the end.
#[derive(serde::Serialize)]
struct Sum {
    targets: usize,
    executions: u64,
    seconds: u64,
    findings: usize,
}

fn tell(reports: &[Report], options: &Options) -> ExitCode {
    let findings: Vec<(&Report, &Finding)> =
        reports.iter().filter_map(|report| Some((report, report.finding.as_ref()?))).collect();
    if !options.json {
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_header(["target", "executions", "seconds", "corpus", "branches", "findings"]);
        for report in reports {
            let Report { target, executions, seconds, corpus, branches, finding } = report;
            table.add_row([
                target.clone(),
                executions.to_string(),
                seconds.to_string(),
                corpus.to_string(),
                if *branches == 0 { "-".to_owned() } else { branches.to_string() },
                u8::from(finding.is_some()).to_string(),
            ]);
        }
        println!("{table}");
    }
    for (Report { target, .. }, Finding { what, file }) in &findings {
        let what: String = what.chars().take(2_000).collect();
        eprintln!("{target}: {what}\n  again: ./ops/fuzz --input {} {target}", file.display());
    }
    let sum = Sum {
        targets: reports.len(),
        executions: reports.iter().map(|report| report.executions).sum(),
        seconds: reports.iter().map(|report| report.seconds).sum(),
        findings: findings.len(),
    };
    match serde_json::to_string(&sum) {
        Ok(line) => println!("{line}"),
        Err(error) => eprintln!("the report cannot be written: {error}"),
    }
    ExitCode::from(u8::from(!findings.is_empty()))
}
