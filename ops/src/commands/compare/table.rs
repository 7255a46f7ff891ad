//! The figures as a table: one column a world, one line a figure, in groups.

use super::figures::Figures;
use super::stage::Stage;
use crate::output::{decimal, duration, grouped, percent, table};

/// A line: what it is, and the text of each world. Without values it is the head of a group.
pub struct Line {
    /// What it is.
    pub label: String,
    /// One text a world.
    pub values: Vec<String>,
}

const J_PER_MWH: i128 = 3_600_000_000;
const MG_PER_KG: i128 = 1_000_000;
const MICROS: i128 = 1_000_000;
/// Thousandths of a GPU × s in a GPU-hour.
const GPU_HOUR: i128 = 3_600_000;

/// What is said under the table.
pub const NOTES: [&str; 4] = [
    "Waiting: from a job's admission, or its not-before when that is later, to its first placement; jobs without one yet are not in it.",
    "Cost: rent as charged or accrued; value lost since the log began; energy of own sites as measured, idle nodes among it, x PUE x price of the hour.",
    "Energy and carbon of leased capacity: as metered at its GPUs, x PUE of the site; its hosts and idle time are not metered. Carbon is location based, by hour.",
    "Egress: what placements said that moving checkpoints and data between regions costs; it is in no provider's bill here.",
];

/// The lines of the table.
pub fn lines(figures: &[&Figures]) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut line = |label: &str, of: &dyn Fn(&Figures) -> String| {
        lines.push(Line { label: label.to_owned(), values: figures.iter().map(|f| of(f)).collect() });
    };
    let currency = figures.first().map(|f| f.currency.as_str()).unwrap_or_default();
    let same = figures.iter().all(|f| f.currency == currency);
    let money = |f: &Figures, micros: i64| {
        let whole = decimal(micros.into(), MICROS, 0);
        if same { whole } else { format!("{whole} {}", f.currency) }
    };
    let count = |n: usize| grouped(n as u64);

    line("from", &|f| day(f.from_us));
    line("to", &|f| day(f.to_us));
    head(&mut line, "jobs");
    line("  requested", &|f| count(f.jobs.requested));
    line("  done", &|f| count(f.jobs.done));
    line("  running at the end", &|f| count(f.jobs.running));
    line("  waiting at the end", &|f| count(f.jobs.waiting));
    line("  failed or rejected", &|f| count(f.jobs.failed + f.jobs.rejected + f.jobs.cancelled));
    line("  never placed", &|f| count(f.jobs.unserved));
    line("  placed more than once", &|f| count(f.jobs.retried));
    line("  preemptions", &|f| count(f.jobs.preemptions));
    if figures.iter().any(|f| f.jobs.due > 0) {
        line("  deadlines missed", &|f| format!("{} of {}", count(f.jobs.missed), count(f.jobs.due)));
    }
    head(&mut line, "waiting");
    line("  mean", &|f| duration(f.waiting.mean_us.0));
    line("  p50", &|f| duration(f.waiting.p50_us.0));
    line("  p95", &|f| duration(f.waiting.p95_us.0));
    line("  p99", &|f| duration(f.waiting.p99_us.0));
    line("  longest", &|f| duration(f.waiting.max_us.0));
    head(&mut line, "request to end");
    line("  mean", &|f| duration(f.completion.mean_us.0));
    line("  p50", &|f| duration(f.completion.p50_us.0));
    line("  p95", &|f| duration(f.completion.p95_us.0));
    line("  p99", &|f| duration(f.completion.p99_us.0));
    let unit = if same { format!("money, {currency}") } else { "money".to_owned() };
    head(&mut line, &unit);
    line("  revenue", &|f| money(f, f.revenue_micros));
    line("  cost", &|f| money(f, f.cost_micros));
    line("    leases", &|f| money(f, f.cost.leases_micros + f.cost.commitments_micros));
    line("    depreciation", &|f| money(f, f.cost.depreciation_micros));
    line("    energy", &|f| money(f, f.cost.energy_micros));
    line("    of all, idle", &|f| money(f, f.cost.idle_micros));
    line("  margin", &|f| money(f, f.margin_micros));
    line("  margin of revenue", &|f| f.margin_milli.map_or_else(none, percent));
    head(&mut line, "GPUs");
    line("  of our own", &|f| grouped(f.gpus.owned));
    line("  GPU-hours used", &|f| decimal(used(f), GPU_HOUR, 0));
    line("  owned share of them", &|f| percent(f.gpus.owned_share_milli));
    line("  own GPUs in use", &|f| f.gpus.owned_in_use_milli.map_or_else(none, percent));
    line("  all GPUs in use", &|f| f.gpus.in_use_milli.map_or_else(none, percent));
    line("  leased GPU-hours held", &|f| decimal(f.gpus.leased_held_gpu_milli_s.into(), GPU_HOUR, 0));
    head(&mut line, "energy, MWh");
    line("  own sites, measured", &|f| decimal(f.energy.own_j.into(), J_PER_MWH, 1));
    line("  leased, metered", &|f| decimal(f.energy.bought_j.into(), J_PER_MWH, 1));
    head(&mut line, "carbon, kg CO2e");
    line("  own sites", &|f| decimal(f.energy.own_carbon_mg.into(), MG_PER_KG, 0));
    line("  leased", &|f| decimal(f.energy.bought_carbon_mg.into(), MG_PER_KG, 0));
    line("  g per job done", &|f| grams_per_job(f));
    if figures.iter().any(|f| f.energy.unpriced_j > 0 || f.energy.unknown_carbon_j > 0 || f.problems > 0) {
        head(&mut line, "left out above");
        line("  energy without a price, MWh", &|f| decimal(f.energy.unpriced_j.into(), J_PER_MWH, 1));
        line("  IT energy of unknown carbon, MWh", &|f| decimal(f.energy.unknown_carbon_j.into(), J_PER_MWH, 1));
        line("  not rated or priced", &|f| count(f.problems));
    }
    line("egress, decided", &|f| money(f, f.egress_micros));
    line("epochs", &|f| grouped(f.epochs));
    line("audit", &|f| match &f.audit {
        None => "not asked".to_owned(),
        Some(audit) if audit.ok => "passes".to_owned(),
        Some(_) => "FAILS".to_owned(),
    });
    line("chain head", &|f| f.chain_head.to_string().chars().take(12).collect());
    lines
}

/// The lines as text, with what they mean below.
pub fn text(stages: &[Stage]) -> String {
    let head = std::iter::once("").chain(stages.iter().map(|stage| stage.figures.name.as_str()));
    let right: Vec<usize> = (1..=stages.len()).collect();
    let figures: Vec<&Figures> = stages.iter().map(|stage| &stage.figures).collect();
    let rows = lines(&figures).into_iter().map(|line| std::iter::once(line.label).chain(line.values));
    format!("{}\n\n{}", table(head, &right, rows), NOTES.join("\n"))
}

fn head(line: &mut impl FnMut(&str, &dyn Fn(&Figures) -> String), label: &str) {
    line(label, &|_| String::new());
}

fn none() -> String {
    "–".to_owned()
}

fn used(f: &Figures) -> i128 {
    i128::from(f.gpus.owned_used_gpu_milli_s) + i128::from(f.gpus.leased_used_gpu_milli_s)
}

fn grams_per_job(f: &Figures) -> String {
    let carbon_mg = i128::from(f.energy.own_carbon_mg) + i128::from(f.energy.bought_carbon_mg);
    (carbon_mg / 1_000).checked_div(f.jobs.done as i128).map_or_else(none, grouped)
}

/// A time to the minute.
pub fn day(time: solyx_schemas::units::TimeUs) -> String {
    solyx_schemas::units::rfc3339(time).chars().take(16).collect::<String>().replace('T', " ")
}
