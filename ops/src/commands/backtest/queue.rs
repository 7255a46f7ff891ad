//! `solyx backtest queue`: every policy, load and knowledge that is named, side by side.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use indicatif::MultiProgress;
use solyx_connectors::backtest::philly::{self, TraceJob};
use solyx_connectors::backtest::queue::{Fleet, POLICIES, QueueReport, Setting, load_of, nodes_for, run as run_queue};
use solyx_connectors::cores::on_all_cores;
use solyx_connectors::fleet;
use solyx_connectors::import::estimates::Estimates;
use solyx_schemas::log::Log;
use solyx_schemas::topics::Topic;

use super::picture;
use crate::failure::{Exit, Failure, Outcome, check_writable, unwritable};
use crate::output;
use crate::progress;
use crate::world;

/// What the others are measured against, if it is among them.
const YARDSTICK: &str = "easy";
const HINT: &str = "see solyx backtest queue --help";

/// How a queue is run.
#[derive(Debug, Args)]
pub struct Queue {
    /// The jobs: a table of timestamp, duration, num_gpus, gpu_time, cluster, as in the Philly trace; gzipped or not.
    #[arg(long)]
    jobs: PathBuf,
    /// GPU time asked for over GPU time there is; the fleet follows from it. One or several with commas between them.
    #[arg(long, default_value = "1.0", value_delimiter = ',', value_parser = load)]
    load: Vec<f64>,
    /// GPUs of a node.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(i64).range(1..=64))]
    gpus_per_node: i64,
    /// A fleet file, whose own nodes the jobs run on. A job that asks for more GPUs than its smallest node has takes several nodes.
    #[arg(long, conflicts_with_all = ["load", "gpus_per_node"])]
    fleet: Option<PathBuf>,
    /// Order rules, one or several with commas between them, or all: solyx, easy, fifo, sjf, drf, las, srpt, srpt-shares.
    #[arg(long, default_value = "solyx", value_delimiter = ',', value_parser = POLICIES.iter().map(|(name, ..)| *name).chain(["all"]).collect::<Vec<_>>())]
    policy: Vec<String>,
    /// What jobs say of their length: exact, none, noisy or noisy:SIGMA. One or several with commas between them.
    #[arg(long, default_value = "exact", value_delimiter = ',', value_parser = durations)]
    durations: Vec<Estimates>,
    /// Seed of noisy durations.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// All tenants have the same share, not one by their GPU time.
    #[arg(long)]
    equal_shares: bool,
    /// Days of the first step of the surcharge, which doubles with each.
    #[arg(long, value_parser = clap::value_parser!(i64).range(0..=365))]
    step_days: Option<i64>,
    /// Keep the history of each run in a world of its own below this directory, `POLICY-LOAD-DURATIONS`, for `solyx audit --log`.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Where to draw mean, p99 and longest wait of each policy beside those of EASY, as SVG.
    #[arg(long)]
    picture: Option<PathBuf>,
}

pub(super) fn load(text: &str) -> Result<f64, String> {
    let expected = || format!("found {text}, expected a number above 0 and up to 100");
    text.parse().ok().filter(|load| *load > 0.0 && *load <= 100.0).ok_or_else(expected)
}

fn durations(text: &str) -> Result<Estimates, String> {
    Estimates::parse(text).ok_or_else(|| format!("found {text}, expected exact, none, noisy or noisy:SIGMA"))
}

/// Runs of one fleet and knowledge, one for each policy.
pub struct Group {
    pub reports: Vec<QueueReport>,
}

impl Group {
    /// The run that the others are measured against: EASY's, or the first.
    pub fn yardstick(&self) -> Option<&QueueReport> {
        self.reports.iter().find(|report| report.policy == YARDSTICK).or_else(|| self.reports.first())
    }

    /// What all of them have in common, in words.
    pub fn title(&self) -> String {
        let of = |report: &QueueReport| {
            format!("load {}, {} nodes, durations {}", report.load, report.nodes, report.durations)
        };
        self.reports.first().map_or_else(String::new, of)
    }
}

/// Runs it.
pub fn run(queue: &Queue, json: bool) -> Outcome {
    let jobs = philly::jobs(&queue.jobs).map_err(|e| Failure::usage("the backtest did not run", e, HINT))?;
    let policies: Vec<&str> = if queue.policy.iter().any(|policy| policy == "all") {
        POLICIES.iter().map(|(name, ..)| *name).collect()
    } else {
        queue.policy.iter().map(String::as_str).collect()
    };
    let fleets = fleets(queue, &jobs)?;
    if let Some(path) = &queue.picture {
        check_writable(path)?;
    }
    let mut groups = Vec::new();
    for durations in &queue.durations {
        for fleet in &fleets {
            let bars = progress::bars(json);
            let run = |policy: &&str| one(queue, &jobs, fleet, policy, *durations, &bars);
            let reports = on_all_cores(&policies, run)?;
            let group = Group { reports };
            if !json {
                print(&group);
            }
            groups.push(group);
        }
    }
    if let Some(path) = &queue.picture {
        std::fs::write(path, picture::svg(&groups)).map_err(|e| unwritable(path, e))?;
    }
    let reports: Vec<&QueueReport> = groups.iter().flat_map(|group| &group.reports).collect();
    match (json, reports.as_slice()) {
        (true, [report]) => output::json(report),
        (true, reports) => output::json(&reports),
        (false, _) => output::line(
            "lost: GPU time to preemption, of all that ran; longest miss: that a job waited while its tenant's promised share held it",
        ),
    }
    Ok(Exit::Good)
}

fn fleets(queue: &Queue, jobs: &[TraceJob]) -> Result<Vec<Fleet>, Failure> {
    let Some(path) = &queue.fleet else {
        let sized = |load: &f64| Fleet::equal(nodes_for(jobs, *load, queue.gpus_per_node), queue.gpus_per_node);
        return Ok(queue.load.iter().map(sized).collect());
    };
    let events = fleet::load(path).map_err(|e| Failure::usage("the fleet file is not right", e, HINT))?;
    let fleet = Fleet::of_events(events).map_err(|e| Failure::usage("the backtest did not run", e, HINT))?;
    Ok(vec![fleet])
}

fn one(
    queue: &Queue,
    jobs: &[TraceJob],
    fleet: &Fleet,
    policy: &str,
    durations: Estimates,
    bars: &MultiProgress,
) -> Result<QueueReport, Failure> {
    let setting = Setting {
        policy: policy.to_owned(),
        durations,
        seed: queue.seed,
        equal_shares: queue.equal_shares,
        step_days: queue.step_days,
    };
    let bar = bars
        .add(progress::bar(jobs.len() as u64, "", false))
        .with_message(format!("{policy} on {} nodes, durations {durations}", fleet.nodes));
    let kept = queue.keep.as_ref().map(|below| world_of(below, &setting, jobs, fleet)).transpose()?;
    let report = run_queue(jobs, fleet, &setting, kept.as_deref(), &mut |done, _| bar.set_position(done as u64));
    bar.finish_and_clear();
    report.map_err(|e| Failure::usage("the backtest did not run", e, HINT))
}

/// The empty log that a run is kept in.
fn world_of(below: &Path, setting: &Setting, jobs: &[TraceJob], fleet: &Fleet) -> Result<Arc<dyn Log>, Failure> {
    let dir = below.join(format!("{}-{}-{}", setting.policy, load_of(jobs, fleet.gpus), setting.durations));
    if dir.exists() {
        return Err(Failure::usage(
            "the backtest did not run",
            format!("found {}, expected no such directory: a run is kept in a world of its own", dir.display()),
            "name another directory with --keep",
        ));
    }
    let one_each = Topic::ALL.iter().map(|topic| (*topic, 1)).collect();
    world::writer_with(&dir, false, Some(one_each))
}

fn print(group: &Group) {
    let Some(yardstick) = group.yardstick() else { return };
    let jobs = group.reports.first().map_or(0, |report| report.jobs);
    output::line(format!("{jobs} jobs, {}", group.title()));
    let hours = |seconds: f64| format!("{:.1}", seconds / 3_600.0);
    let ratio = |ours: f64, theirs: f64| format!("{:.2}", ours / theirs.max(f64::MIN_POSITIVE));
    let row = |report: &QueueReport| {
        [
            report.policy.clone(),
            hours(report.wait_s.mean),
            hours(report.wait_s.p99),
            hours(report.wait_s.max),
            hours(report.completion_s.mean),
            ratio(report.completion_s.mean, yardstick.completion_s.mean),
            hours(report.completion_s.p50),
            hours(report.completion_s.p99),
            ratio(report.completion_s.p99, yardstick.completion_s.p99),
            format!("{:.1}", report.utilisation_pct),
            format!("{:.2}", report.lost_pct),
            report.preemptions.to_string(),
            format!("{:.0}", report.longest_miss_s as f64 / 60.0),
            format!("{:.0}", report.decisions_per_s),
        ]
    };
    let over = format!("/ {}", yardstick.policy);
    output::line(output::table(
        [
            "policy",
            "wait h",
            "p99",
            "max",
            "completion h",
            &over,
            "p50",
            "p99",
            &over,
            "used %",
            "lost %",
            "preemptions",
            "longest miss min",
            "decisions/s",
        ],
        &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13],
        group.reports.iter().map(row),
    ));
}
