//! Node choice and whole scheduling rounds: on the work that Armada's scheduler core was measured on, on large fleets, and how
//! they grow.
//!
//! A round is one epoch of the whole kernel. What Armada measured is deciding alone, so that this stands beside its published
//! figures; the whole epoch, with judging, digest and encoding, is said apart. Identical jobs on identical nodes flatter whoever
//! groups them by class: each workload is run with sizes of their own too.

mod choice;
pub mod events;
mod plot;
mod rounds;
mod world;

use std::path::Path;
use std::time::Duration;

use solyx_connectors::backtest::openb;
use solyx_connectors::backtest::packing::{Frequencies, PackingReport, run as openb_run};
use solyx_kernel::packing::Rule;

use crate::measure::Measure;
use crate::queued;
use events::Sizes;
use plot::{Line, Panel};
use rounds::{Rounds, Workload};
use world::Parts;

/// What is asked for.
pub struct Asked<'a> {
    pub traces: Option<&'a Path>,
    pub plot: Option<&'a Path>,
    pub seed: u64,
    pub runs: u32,
}

const ARMADA: &str = "Armada's scheduler core, Go, one core, as published; not measured here";
const PLAIN_FGD: &str = "FGD in plain code, as published (220 to 270 us); not measured here";
/// The published seed of arrivals that is taken.
const ARRIVALS_SEED: u64 = 42;
/// Jobs that a scan binds while it is the yardstick: it takes long.
const SCANNED: usize = 2_000;
/// Rounds after the first, before each of which one more run ended; their median counts.
const NEXT_ROUNDS: usize = 5;
/// Waiting jobs whose memory is measured.
const WAITING: u32 = 1_000_000;
/// The exponent that n·log n has over a hundredfold of such sizes, and a twentieth for what a measurement is off.
const N_LOG_N: f64 = 1.15;
/// Sizes of growth: nodes, jobs, tenants.
const GROWTH_NODES: [usize; 5] = [1_000, 3_000, 10_000, 30_000, 100_000];
const GROWTH_JOBS: [usize; 5] = [3_000, 10_000, 30_000, 100_000, 300_000];
const GROWTH_TENANTS: [usize; 4] = [1, 10, 100, 1_000];

/// Everything.
pub fn measure(asked: &Asked<'_>, say: &dyn Fn(&str)) -> anyhow::Result<Vec<Measure>> {
    let mut measures = Vec::new();
    if let Some(traces) = asked.traces {
        say("node choice on openb");
        measures.extend(on_openb(&traces.join("openb"), asked.runs)?);
    }
    say("node choice and binding alone");
    measures.extend(chosen(asked.runs));
    for sizes in [Sizes::Alike, Sizes::Own] {
        measures.extend(as_armada(sizes, asked.runs, say));
    }
    for (nodes, aim_s) in [(12_500, 0.2), (100_000, 2.0)] {
        measures.extend(of_fleet(nodes, aim_s, asked.runs, say));
    }
    say("memory of a million waiting jobs");
    measures.extend(queued::measure(asked.seed, WAITING)?.into_iter().map(|measure| match measure.unit {
        "bytes" => measure.aiming(1_000.0),
        _ => measure,
    }));
    measures.extend(growth(asked.plot, say)?);
    Ok(measures)
}

fn on_openb(dir: &Path, runs: u32) -> anyhow::Result<Vec<Measure>> {
    let nodes = openb::nodes(&dir.join("openb_node_list_gpu_node.csv.gz"))?;
    let pods = openb::pods(&dir.join("openb_pod_list_default.csv.gz"))?;
    let file = dir.join("arrivals/openb_default_seeds42-46.txt.gz");
    let arrivals = openb::arrivals(&file, ARRIVALS_SEED, nodes.len(), pods.len())?;
    let mut measures = Vec::new();
    for (name, rule) in [("openb_fgd", Rule::Fgd), ("openb_prices", Rule::Solyx)] {
        let known = Frequencies::Prior;
        let reports: Vec<PackingReport> =
            (0..runs).map(|_| openb_run(&nodes, &pods, &arrivals, ARRIVALS_SEED, rule, known)).collect();
        let turns: Vec<(f64, f64)> = reports.iter().map(|report| (report.us_per_decision.p50, 220.0)).collect();
        let p99 = reports.iter().map(|report| report.us_per_decision.p99).fold(0.0, f64::max);
        let what = format!(
            "median decision of {} on {} nodes; 99th percentile at most {p99:.1} us; rule {}",
            arrivals.pods.len(),
            nodes.len(),
            rule.name()
        );
        measures.push(Measure::beside(name, "us", what, &turns, PLAIN_FGD).aiming(10.0));
        if rule == Rule::Solyx {
            let plans: Vec<f64> = reports.iter().map(|report| report.us_of_price_moves_per_decision).collect();
            let what = "plans of prices after the first, made beside the decisions, for each of these".to_owned();
            measures.push(Measure::alone("openb_plans", "us", what, &plans).aiming(20.0));
        }
    }
    Ok(measures)
}

fn name_of(sizes: Sizes) -> &'static str {
    match sizes {
        Sizes::Alike => "alike",
        Sizes::Own => "own",
    }
}

/// Choice and binding without queues: beside the published figure, and beside a scan that runs here.
fn chosen(runs: u32) -> Vec<Measure> {
    let mut measures = Vec::new();
    for sizes in [Sizes::Alike, Sizes::Own] {
        let workload = Workload::armada(1_000, 32_000, 1, sizes);
        let turns: Vec<_> = (0..runs).map(|_| choice::run(workload, None)).collect();
        let bound = turns.first().map_or(0, |turn| turn.bound);
        let seconds: Vec<(f64, f64)> = turns.iter().map(|turn| (turn.took.as_secs_f64(), 0.62)).collect();
        let what = format!("32,000 jobs on 1,000 nodes chosen and bound, sizes {}; {bound} fitted", name_of(sizes));
        let name = format!("choice_{}", name_of(sizes));
        measures.push(Measure::beside(&name, "s", what, &seconds, ARMADA).aiming(0.05));
        for nodes in [1_000, 12_500, 100_000] {
            let workload = Workload::armada(nodes, 32_000, 1, sizes);
            let scanned = if nodes > 50_000 { SCANNED / 10 } else { SCANNED };
            let each = |chosen: choice::Chosen, of: usize| chosen.took.as_secs_f64() * 1e6 / of as f64;
            let turns: Vec<(f64, f64)> = (0..runs.min(3))
                .map(|_| {
                    (each(choice::run(workload, None), 32_000), each(choice::run(workload, Some(scanned)), scanned))
                })
                .collect();
            let what = format!("a choice with its binding on {nodes} nodes, sizes {}, of 32,000", name_of(sizes));
            let name = format!("choice_{nodes}_nodes_{}", name_of(sizes));
            measures.push(Measure::beside(&name, "us", what, &turns, "a scan over all classes, the first jobs"));
        }
    }
    measures
}

/// A round's two lines: deciding beside a published figure, and the whole epoch.
fn lines(name: &str, what: &str, turns: &[Parts], published_s: f64, aim_s: f64) -> [Measure; 2] {
    let decided: Vec<(f64, f64)> = turns.iter().map(|parts| (parts.decide.as_secs_f64(), published_s)).collect();
    let cpu = turns.iter().map(|parts| parts.decide_cpu).min().unwrap_or(Duration::ZERO).as_secs_f64();
    let said = format!("{what}; deciding alone, of which {cpu:.3} s on a processor in the least turn");
    [Measure::beside(name, "s", said, &decided, ARMADA).aiming(aim_s), epoch(name, what, turns)]
}

fn epoch(name: &str, what: &str, turns: &[Parts]) -> Measure {
    let whole: Vec<f64> = turns.iter().map(|parts| parts.whole().as_secs_f64()).collect();
    let median = |part: fn(&Parts) -> Duration| {
        let mut of: Vec<f64> = turns.iter().map(|parts| part(parts).as_secs_f64()).collect();
        of.sort_by(f64::total_cmp);
        of.get(of.len() / 2).copied().unwrap_or(0.0)
    };
    let what = format!(
        "{what}; the whole epoch: judging and applying {:.4} s, deciding {:.4} s, encoding, hashes and digest {:.4} s",
        median(|parts| parts.take),
        median(|parts| parts.decide),
        median(|parts| parts.seal)
    );
    Measure::alone(&format!("{name}_epoch"), "s", what, &whole)
}

/// The rounds that Armada published.
fn as_armada(sizes: Sizes, runs: u32, say: &dyn Fn(&str)) -> Vec<Measure> {
    let of = name_of(sizes);
    let mut measures = Vec::new();
    let cases = [
        ("first", 32_000, 1, 2.44, 0.1),
        ("first", 32_000, 10, 2.44, 0.1),
        ("full", 320_000, 1, 3.04, 0.1),
        ("full", 320_000, 10, 3.10, 0.15),
    ];
    for (kind, jobs, queues, published_s, aim_s) in cases {
        say(&format!("{jobs} jobs in {queues} queues, sizes {of}"));
        let turns: Vec<Rounds> =
            (0..runs.min(3)).map(|_| rounds::run(Workload::armada(1_000, jobs, queues, sizes), NEXT_ROUNDS)).collect();
        let last = turns.last().copied().unwrap_or_default();
        let first: Vec<Parts> = turns.iter().map(|turn| turn.first).collect();
        let what =
            format!("{jobs} jobs in {queues} queues, 1,000 empty nodes come, sizes {of}; {} placed", last.placed);
        measures.extend(lines(&format!("{kind}_{queues}q_{of}"), &what, &first, published_s, aim_s));
        let steady = match (kind, queues) {
            ("first", 1) => Some(4.82),
            ("full", 1) => Some(5.33),
            _ => None,
        };
        if let Some(published_s) = steady {
            let next: Vec<Parts> = turns.iter().map(|turn| turn.next).collect();
            let what = format!("{} run, {} wait, one run ends, sizes {of}", last.placed, last.waiting);
            measures.extend(lines(&format!("steady_{kind}_{of}"), &what, &next, published_s, 0.02));
        }
    }
    measures
}

/// Rounds of a large fleet of nodes with 8 GPUs, with 100,000 waiting jobs of one GPU; and with ten times as many as fit.
fn of_fleet(nodes: usize, aim_s: f64, runs: u32, say: &dyn Fn(&str)) -> Vec<Measure> {
    let mut measures = Vec::new();
    for sizes in [Sizes::Alike, Sizes::Own] {
        let of = name_of(sizes);
        say(&format!("{nodes} nodes, 100,000 jobs, sizes {of}"));
        let workload = Workload { nodes, jobs: 100_000, tenants: 10, sizes, gpus: Some((8, 1)) };
        let turns: Vec<Rounds> = (0..runs.min(2)).map(|_| rounds::run(workload, NEXT_ROUNDS)).collect();
        let last = turns.last().copied().unwrap_or_default();
        let first: Vec<Parts> = turns.iter().map(|turn| turn.first).collect();
        let next: Vec<Parts> = turns.iter().map(|turn| turn.next).collect();
        let name = format!("fleet_{nodes}_{of}");
        let what =
            format!("{nodes} nodes of 8 GPUs come, 100,000 jobs of one wait, sizes {of}; {} placed", last.placed);
        let decided: Vec<f64> = first.iter().map(|parts| parts.decide.as_secs_f64()).collect();
        let cpu = first.iter().map(|parts| parts.decide_cpu).min().unwrap_or_default().as_secs_f64();
        let said = format!("{what}; deciding alone, of which {cpu:.3} s on a processor in the least turn");
        measures.push(Measure::alone(&name, "s", said, &decided).aiming(aim_s));
        measures.push(epoch(&name, &what, &first));
        let what = format!("the round after one run ended there, {} waiting, sizes {of}", last.waiting);
        let whole: Vec<f64> = next.iter().map(|parts| parts.whole().as_secs_f64() * 1e3).collect();
        measures.push(Measure::alone(&format!("{name}_next"), "ms", what, &whole).aiming(1.0));
    }
    measures
}

/// How deciding grows with nodes, queue length and tenants: exponents, and a plot where one is asked for.
fn growth(plot: Option<&Path>, say: &dyn Fn(&str)) -> anyhow::Result<Vec<Measure>> {
    let base = |sizes| Workload::armada(1_000, 30_000, 10, sizes);
    let panels = [
        panel("nodes", "nodes", &GROWTH_NODES, say, |nodes, sizes| Workload { nodes, ..base(sizes) }),
        panel("queue", "waiting jobs", &GROWTH_JOBS, say, |jobs, sizes| Workload { jobs, ..base(sizes) }),
        panel("tenants", "tenants", &GROWTH_TENANTS, say, |tenants, sizes| Workload { tenants, ..base(sizes) }),
    ];
    let mut measures = Vec::new();
    for panel in &panels {
        for line in &panel.lines {
            let points: Vec<String> = line.points.iter().map(|(x, y)| format!("{x}: {y:.4} s")).collect();
            let what = format!("exponent of deciding by {}, sizes {}: {}", panel.x, line.name, points.join(", "));
            let name = format!("growth_{}_{}", panel.title, line.name);
            measures.push(Measure::alone(&name, "exponent", what.clone(), &[line.exponent()]).aiming(N_LOG_N));
            // A fit over all sizes hides a bend at the end.
            let last = Measure::alone(&format!("{name}_last"), "exponent", what, &[line.last_exponent()]);
            measures.push(last.aiming(N_LOG_N));
        }
    }
    if let Some(path) = plot {
        std::fs::write(
            path,
            plot::svg("Deciding a round: 1,000 nodes, 30,000 jobs, 10 tenants unless varied", &panels),
        )?;
        say(&format!("the plot is in {}", path.display()));
    }
    Ok(measures)
}

fn panel(
    title: &str,
    x: &'static str,
    sizes: &[usize],
    say: &dyn Fn(&str),
    workload: impl Fn(usize, Sizes) -> Workload,
) -> Panel {
    say(&format!("growth with {x}"));
    let line = |of: Sizes| Line {
        name: name_of(of).to_owned(),
        points: sizes
            .iter()
            .map(|size| (*size as f64, rounds::run(workload(*size, of), 0).first.decide_cpu.as_secs_f64()))
            .collect(),
    };
    Panel { title: title.to_owned(), x, y: "seconds on a processor", lines: vec![line(Sizes::Alike), line(Sizes::Own)] }
}
