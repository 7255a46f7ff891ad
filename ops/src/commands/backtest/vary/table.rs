//! Outcomes as text: a column for each variation beside its base, with differences; then tenants, and the jobs that changed most.

use super::difference::part_milli;
use super::numbers::Numbers;
use super::sweep::{BASE, Base, Case, Report};
use crate::output::{decimal, duration, grouped, percent, table};

/// Variations in one table; more of them go to further tables, each with the base.
const COLUMNS: usize = 4;

/// A line of outcomes.
pub struct Line {
    /// What it is.
    pub label: &'static str,
    /// Its value.
    pub of: fn(&Numbers) -> Option<i64>,
    /// The value as people read it.
    pub text: fn(i64) -> String,
    /// A share, whose difference is told in points and not in parts of it.
    pub is_share: bool,
}

const fn line(label: &'static str, of: fn(&Numbers) -> Option<i64>, text: fn(i64) -> String) -> Line {
    Line { label, of, text, is_share: false }
}

const fn share(label: &'static str, of: fn(&Numbers) -> Option<i64>) -> Line {
    Line { label, of, text: percent, is_share: true }
}

fn count(n: i64) -> String {
    grouped(n)
}

fn whole(micros: i64) -> String {
    decimal(micros.into(), 1_000_000, 0)
}

fn mwh(joules: i64) -> String {
    decimal(joules.into(), 3_600_000_000, 1)
}

fn kg(mg: i64) -> String {
    decimal(mg.into(), 1_000_000, 0)
}

fn gpu_hours(milli_s: i64) -> String {
    decimal(milli_s.into(), 3_600_000, 0)
}

/// The lines, in order.
pub const LINES: [Line; 28] = [
    line("cost", |n| Some(n.cost_micros), whole),
    line("revenue", |n| Some(n.revenue_micros), whole),
    line("margin", |n| Some(n.margin_micros), whole),
    line("energy, MWh", |n| Some(n.energy_j), mwh),
    line("carbon, kg CO2e", |n| Some(n.carbon_mg), kg),
    line("waiting, mean", |n| Some(n.wait_mean_us), duration),
    line("waiting, p50", |n| Some(n.wait_p50_us), duration),
    line("waiting, p95", |n| Some(n.wait_p95_us), duration),
    line("waiting, p99", |n| Some(n.wait_p99_us), duration),
    line("request to end, mean", |n| Some(n.completion_mean_us), duration),
    line("request to end, p50", |n| Some(n.completion_p50_us), duration),
    line("request to end, p95", |n| Some(n.completion_p95_us), duration),
    line("request to end, p99", |n| Some(n.completion_p99_us), duration),
    line("deadlines due", |n| Some(n.due), count),
    line("deadlines missed", |n| Some(n.missed), count),
    line("egress, decided", |n| Some(n.egress_micros), whole),
    line("GPU-hours held", |n| Some(n.gpu_milli_s), gpu_hours),
    share("all GPUs in use", |n| n.in_use_milli),
    share("own GPUs in use", |n| n.owned_in_use_milli),
    share("owned share", |n| n.owned_share_milli),
    line("preemptions", |n| Some(n.preemptions), count),
    line("placements", |n| Some(n.placements), count),
    line("jobs done", |n| Some(n.done), count),
    line("never placed", |n| Some(n.unserved), count),
    line("first epoch to last", |n| n.span_us, duration),
    line(UNPRICED, |n| n.unpriced_energy_j, mwh),
    line(UNKNOWN_CARBON, |n| n.unknown_carbon_j, mwh),
    line(PROBLEMS, |n| n.problems, count),
];

const UNPRICED: &str = "energy without a price, MWh";
const UNKNOWN_CARBON: &str = "IT energy of unknown carbon, MWh";
const PROBLEMS: &str = "not rated or priced";

/// What the figures mean.
pub const NOTES: [&str; 4] = [
    "Each variation is compared with the base run again by the same executor. Waiting: from admission, or not-before, to the first place, of the jobs that had one. \
     Request to end: of the jobs that finished.",
    "Cost: rent as charged or accrued, value lost, energy of own sites. Energy and carbon: own sites as measured with idle nodes, leased GPUs as metered, x PUE; \
     of a tenant, as metered for its jobs. Commitments, lost value and idle nodes count from the first epoch to the last, which differs where jobs end later. \
     Egress: what placements said.",
    "GPU-hours are held from placement to release. In use: of the time of own GPUs, and of that with what leased instances were paid for.",
    "Cancellations, amendments and the calendar come as recorded. Lengths of jobs that had not ended are guesses.",
];

/// What is said where runs were not on this machine.
pub const NOT_COMPARED: &str = "Which jobs changed most is told of runs on this machine alone.";

/// A value with its difference to the base's.
pub fn cell(line: &Line, numbers: &Numbers, base: &Numbers) -> String {
    let Some(value) = (line.of)(numbers) else { return "–".to_owned() };
    let text = (line.text)(value);
    match difference(line, value, (line.of)(base)) {
        Some(less) => format!("{text} ({less})"),
        None => text,
    }
}

/// The difference in words; absent where there is none.
pub fn difference(line: &Line, value: i64, base: Option<i64>) -> Option<String> {
    let base = base.filter(|base| *base != value)?;
    let sign = if value > base { "+" } else { "-" };
    if line.is_share {
        return Some(format!("{sign}{} points", decimal((i128::from(value) - i128::from(base)).abs(), 10, 1)));
    }
    // A part of less than nothing says nothing.
    match part_milli(value, base).filter(|_| base > 0 && value >= 0) {
        // Ten times as much and more is easier to read as a factor.
        Some(milli) if milli >= 9_000 => Some(format!("x{}", decimal(i128::from(value), base.into(), 0))),
        Some(milli) => Some(format!("{sign}{} %", decimal(i128::from(milli).abs(), 10, 1))),
        None => Some(format!("{sign}{}", (line.text)((value - base).abs()))),
    }
}

/// The name of a case, with its seed.
pub fn title(name: &str, seed: Option<i64>) -> String {
    seed.map_or_else(|| name.to_owned(), |seed| format!("{name}, seed {seed}"))
}

/// All of it.
pub fn text(report: &Report) -> String {
    let mut parts = Vec::new();
    for (n, base) in report.bases.iter().enumerate() {
        let cases: Vec<&Case> = report.cases.iter().filter(|case| case.base == n).collect();
        parts.push(heading(base));
        for cases in cases.chunks(COLUMNS) {
            parts.push(outcomes(base, cases));
        }
        for cases in cases.chunks(COLUMNS) {
            parts.push(tenants(base, cases));
        }
        parts.extend(cases.iter().filter_map(|case| changed(case)));
    }
    if report.cases.iter().any(|case| case.changed.is_none()) {
        parts.push(NOT_COMPARED.to_owned());
    }
    parts.push(NOTES.join("\n"));
    parts.join("\n\n")
}

/// What was run again, and whether it came out as recorded.
pub fn heading(base: &Base) -> String {
    let truth = &base.truth;
    let mut text = format!(
        "{}: {} jobs from {} to {}; lengths: {} scripted, {} reported, {} guessed",
        title(&base.log, base.seed),
        grouped(base.said.all.jobs),
        base.from,
        base.to,
        grouped(truth.scripted as i64),
        grouped(truth.reported as i64),
        grouped(truth.censored as i64)
    );
    if !base.complete {
        text.push_str("\njobs ran at its end: all runs end there too");
    }
    if base.reproduced {
        text.push_str("\nrun again unchanged, it comes out as it was recorded, to the bit");
        return text;
    }
    text.push_str("\nrun again unchanged, it does not come out as it was recorded: ");
    match base.reasons.as_slice() {
        [] => text.push_str("no reason is known; solyx audit says whether the record holds"),
        reasons => text.push_str(&reasons.join("; ")),
    }
    if !base.differs.is_empty() {
        let differs: Vec<String> = base.differs.iter().map(|(name, less)| format!("{name} {less}")).collect();
        text.push_str(&format!("\n  run less record: {}", differs.join(", ")));
    }
    text
}

fn outcomes(base: &Base, cases: &[&Case]) -> String {
    let titles: Vec<String> = cases.iter().map(|case| case.name.clone()).collect();
    let head = [base.said.currency.as_str(), BASE].into_iter().chain(titles.iter().map(String::as_str));
    let row = |line: &Line| {
        let own = (line.of)(&base.said.all).map_or_else(|| "–".to_owned(), line.text);
        let others = cases.iter().map(|case| cell(line, &case.said.all, &base.said.all));
        [line.label.to_owned(), own].into_iter().chain(others).collect::<Vec<_>>()
    };
    let right: Vec<usize> = (1..=cases.len() + 1).collect();
    table(head, &right, LINES.iter().filter(|line| is_of_use(line, base, cases)).map(row))
}

/// Deadlines, and what the figures leave out, are told where there is any.
pub fn is_of_use(line: &Line, base: &Base, cases: &[&Case]) -> bool {
    let some = |numbers: &Numbers| (line.of)(numbers).is_some_and(|value| value != 0);
    let may_be_none = line.label.starts_with("deadlines") || [UNPRICED, UNKNOWN_CARBON, PROBLEMS].contains(&line.label);
    !may_be_none || some(&base.said.all) || cases.iter().any(|case| some(&case.said.all))
}

/// Lines that are told of each tenant: money, energy and carbon, waiting and completion; the rest is in JSON and CSV.
const OF_TENANTS: [usize; 8] = [0, 1, 2, 3, 4, 5, 7, 9];

fn tenants(base: &Base, cases: &[&Case]) -> String {
    let titles: Vec<String> = cases.iter().map(|case| case.name.clone()).collect();
    let head = ["tenant", BASE].into_iter().chain(titles.iter().map(String::as_str));
    let mut rows = Vec::new();
    for line in OF_TENANTS.map(|at| &LINES[at]) {
        rows.push(vec![format!("{}:", line.label)]);
        for (tenant, numbers) in &base.said.tenants {
            let own = (line.of)(numbers).map_or_else(|| "–".to_owned(), line.text);
            let of_case = |case: &&Case| {
                let theirs = case.said.tenants.get(tenant).copied().unwrap_or_default();
                cell(line, &theirs, numbers)
            };
            let others = cases.iter().map(of_case);
            rows.push([format!("  {tenant}"), own].into_iter().chain(others).collect());
        }
    }
    let right: Vec<usize> = (1..=cases.len() + 1).collect();
    table(head, &right, rows)
}

fn changed(case: &Case) -> Option<String> {
    let jobs = case.changed.as_ref().filter(|jobs| !jobs.is_empty())?;
    let mut lines = vec![format!("{}: the jobs that changed most", title(&case.name, case.seed))];
    for job in jobs {
        let later = if job.later_us < 0 { "sooner" } else { "later" };
        lines.push(format!("  {} of {}: {} {later}", job.job, job.tenant, duration(job.later_us.abs())));
        lines.push(format!("    base: {}", job.before.text()));
        lines.push(format!("    here: {}", job.after.text()));
    }
    Some(lines.join("\n"))
}
