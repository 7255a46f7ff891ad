//! The DCIM view as text: what each site draws, what that costs and emits, and how far its power tree is loaded.

use solyx_projections::dcim::{DcimView, SiteView};
use solyx_schemas::events::common::Sum;
use solyx_schemas::units::rfc3339;

use super::power::tree;
use crate::output::{decimal, grouped, money, table};

const J_PER_KWH: i128 = 3_600_000;
const MG_PER_KG: i128 = 1_000_000;

/// The view as text.
pub fn text(view: &DcimView) -> String {
    let mut parts = vec![format!("DCIM as of {}, epoch {}", rfc3339(view.now_us), grouped(view.epoch)), String::new()];
    parts.push(sites(view));
    for site in view.sites.iter().filter(|site| !site.elements.is_empty()) {
        parts.push(String::new());
        parts.push(power(site));
    }
    let unknown: i64 = view.sites.iter().map(|site| site.totals.unknown_carbon_energy_j).sum();
    let unpriced: i64 = view.sites.iter().map(|site| site.totals.unpriced_energy_j).sum();
    for (energy_j, what) in [(unknown, "carbon"), (unpriced, "price")] {
        if energy_j > 0 {
            parts.push(format!("{} kWh are of unknown {what}", decimal(energy_j.into(), J_PER_KWH, 1)));
        }
    }
    parts.push(String::new());
    let hours: usize = view.sites.iter().map(|site| site.hours.len()).sum();
    parts.push(format!(
        "--json also has {} hours of sites, the energy of {} jobs and {} assets",
        grouped(hours as u64),
        grouped(view.jobs.len() as u64),
        grouped(view.assets.len() as u64)
    ));
    parts.join("\n")
}

fn sites(view: &DcimView) -> String {
    let rows = view.sites.iter().map(|site| {
        let gpus: usize = site.nodes.iter().map(|node| node.gpus).sum();
        let allotted: usize = site.nodes.iter().map(|node| node.gpus_allotted).sum();
        let kwh = |energy_j: i64| decimal(energy_j.into(), J_PER_KWH, 0);
        [
            site.site.to_string(),
            site.grid_zone.to_string(),
            decimal(site.design_pue_milli.into(), 1_000, 2),
            if gpus == 0 { "–".to_owned() } else { format!("{allotted}/{gpus}") },
            if gpus == 0 { "–".to_owned() } else { kw(site.committed_w) },
            site.measured_w.map_or_else(|| "–".to_owned(), kw),
            kwh(site.totals.energy_j),
            kwh(site.totals.bought_energy_j),
            kwh(site.totals.facility_energy_j),
            sums(&site.totals.cost),
            decimal(site.totals.carbon_mg.into(), MG_PER_KG, 1),
            sums(&site.book_value),
        ]
    });
    let head = [
        "site",
        "zone",
        "PUE",
        "GPUs in use",
        "committed kW",
        "measured kW",
        "own kWh",
        "leased kWh",
        "facility kWh",
        "energy cost",
        "carbon kg",
        "book value",
    ];
    table(head, &[2, 3, 4, 5, 6, 7, 8, 9, 10, 11], rows)
}

fn power(site: &SiteView) -> String {
    let branches = tree(site);
    let rows = branches.iter().map(|branch| {
        let element = branch.element;
        let worst = branch.worst_loss().map_or_else(|| "–".to_owned(), |(left, lost)| format!("{} ({lost})", kw(left)));
        [
            format!("{}{}", "  ".repeat(branch.depth), element.element),
            words(element.kind),
            words(element.state),
            kw(element.limit_w),
            kw(element.committed_w),
            element.measured_w.or(element.measured_nodes_w).map_or_else(|| "–".to_owned(), kw),
            kw(element.headroom_w),
            worst,
        ]
    });
    let head = [
        "element",
        "kind",
        "state",
        "limit kW",
        "committed kW",
        "measured kW",
        "headroom kW",
        "least headroom, a feed lost",
    ];
    format!("power tree of {}\n{}", site.name, table(head, &[3, 4, 5, 6, 7], rows))
}

/// A symbol of the contract in words.
pub fn words(symbol: impl ToString) -> String {
    symbol.to_string().to_lowercase().replace('_', " ")
}

/// Watts as kilowatts.
pub fn kw(watts: i64) -> String {
    decimal(watts.into(), 1_000, 1)
}

/// Sums by currency.
pub fn sums(sums: &[Sum]) -> String {
    if sums.is_empty() {
        return "–".to_owned();
    }
    let said: Vec<String> = sums.iter().map(|sum| format!("{} {}", money(sum.micros.0.into()), sum.currency)).collect();
    said.join(", ")
}
