//! The power trees of a world's own sites: limits, load, and what is left when a feed is lost.

use solyx_projections::dcim::SiteView;

use super::section_of;
use crate::commands::compare::stage::Stage;
use crate::commands::shown::dcim::{kw, words};
use crate::commands::shown::power::{Branch, tree};
use crate::output::money;
use crate::svg::escaped;

/// A table for each site that has a power tree.
pub fn trees(stage: &Stage) -> String {
    let sites: String = stage.dcim.sites.iter().filter(|site| !site.elements.is_empty()).map(site).collect();
    if sites.is_empty() {
        return String::new();
    }
    let note = format!(
        "{} at the end. Committed is idle power and the largest power of every GPU that is allotted; it may never exceed the \
         derated limit, with both feeds or with either one lost.",
        stage.figures.name
    );
    section_of("Power, with headroom", &sites, &note)
}

fn site(site: &SiteView) -> String {
    let gpus: usize = site.nodes.iter().map(|node| node.gpus).sum();
    let allotted: usize = site.nodes.iter().map(|node| node.gpus_allotted).sum();
    let worth: Vec<String> =
        site.book_value.iter().map(|sum| format!("{} {}", money(sum.micros.0.into()), sum.currency)).collect();
    let rows: String = tree(site).iter().map(row).collect();
    format!(
        "<h3>{} <small>{}, PUE {}, {allotted} of {gpus} GPUs in use, committed {} kW, measured {} kW, book value {}</small></h3>\
         <table class=\"power\"><thead><tr><th>element</th><td>kind</td><td>limit kW</td><td>committed kW</td>\
         <td class=\"wide\">load of the limit; light: with the other feed lost</td><td>headroom kW</td><td>a feed lost</td></tr></thead>\
         <tbody>{rows}</tbody></table>",
        escaped(&site.name),
        escaped(site.grid_zone.as_str()),
        crate::output::decimal(site.design_pue_milli.into(), 1_000, 2),
        kw(site.committed_w),
        site.measured_w.map_or_else(|| "–".to_owned(), kw),
        escaped(&worth.join(", ")),
    )
}

fn row(branch: &Branch<'_>) -> String {
    let element = branch.element;
    let worst_load = element.without.iter().map(|loss| loss.committed_w).max().unwrap_or(element.committed_w);
    let part = |load: i64| (load.max(0) as f64 / element.limit_w.max(1) as f64 * 100.0).min(100.0);
    let over = if worst_load > element.limit_w { " over" } else { "" };
    let lost =
        branch.worst_loss().map_or_else(|| "–".to_owned(), |(left, feed)| format!("{} without {feed}", kw(left)));
    format!(
        "<tr><th class=\"t{depth}\">{}</th><td>{}</td><td>{}</td><td>{}</td>\
         <td class=\"wide\"><span class=\"gauge{over}\"><i class=\"lost\" style=\"width:{:.1}%\"></i><i style=\"width:{:.1}%\"></i></span></td>\
         <td>{}</td><td>{}</td></tr>",
        escaped(element.element.as_str()),
        words(element.kind),
        kw(element.limit_w),
        kw(element.committed_w),
        part(worst_load),
        part(element.committed_w),
        kw(element.headroom_w),
        escaped(&lost),
        depth = branch.depth.min(4),
    )
}
