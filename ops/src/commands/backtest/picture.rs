//! The picture of a queue backtest: one panel for each fleet and knowledge, and in it each policy beside the yardstick.

use std::fmt::Write;

use solyx_connectors::backtest::queue::QueueReport;

use super::queue::Group;
use crate::svg::{Anchor, Drawing, Frame, escaped};

/// Size of a panel, what stands above it, and how many stand side by side at most.
const PANEL: (f64, f64) = (430.0, 250.0);
const TITLE: f64 = 22.0;
const HEAD: f64 = 44.0;
const COLUMNS: usize = 3;

/// What is drawn of each policy, with its colour (Okabe and Ito, 2008: told apart without seeing red and green).
type Measure = (&'static str, &'static str, fn(&QueueReport) -> f64);
const MEASURES: [Measure; 3] = [
    ("mean completion", "#0072b2", |report| report.completion_s.mean),
    ("p99 completion", "#e69f00", |report| report.completion_s.p99),
    ("longest wait", "#999999", |report| report.wait_s.max),
];

/// All groups, as ratios to the yardstick of each.
pub fn svg(groups: &[Group]) -> String {
    let columns = groups.len().clamp(1, COLUMNS);
    let rows = groups.len().div_ceil(columns);
    let (width, height) = (PANEL.0 * columns as f64, HEAD + (PANEL.1 + TITLE) * rows as f64);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<style>.grid{{stroke:#e8edf1}}.zero{{stroke:#9aa7b3}}\
         .limit{{fill:none;stroke-width:1.2;stroke-dasharray:4 3}}text{{fill:#3a4652}}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    // Writing to a string does not fail.
    let mut put = |text: std::fmt::Arguments<'_>| {
        let _ = out.write_fmt(text);
    };
    for (n, (name, colour, _)) in MEASURES.iter().enumerate() {
        let x = 56.0 + 150.0 * n as f64;
        put(format_args!("<rect x=\"{x}\" y=\"12\" width=\"11\" height=\"11\" fill=\"{colour}\"/>"));
        put(format_args!("<text x=\"{}\" y=\"22\">{name}</text>\n", x + 17.0));
    }
    for (n, group) in groups.iter().enumerate() {
        let (x, y) = (PANEL.0 * (n % columns) as f64, HEAD + (PANEL.1 + TITLE) * (n / columns) as f64);
        put(format_args!(
            "<text x=\"{}\" y=\"{}\" font-weight=\"bold\">{}</text>\n",
            x + 56.0,
            y + 12.0,
            escaped(&group.title())
        ));
        let (width, height) = PANEL;
        put(format_args!(
            "<svg x=\"{x}\" y=\"{}\" width=\"{width}\" height=\"{height}\">{}</svg>\n",
            y + TITLE - 6.0,
            panel(group)
        ));
    }
    out.push_str("</svg>\n");
    out
}

fn panel(group: &Group) -> String {
    let Some(yardstick) = group.yardstick() else { return String::new() };
    let ratio = |report: &QueueReport, of: fn(&QueueReport) -> f64| of(report) / of(yardstick).max(f64::MIN_POSITIVE);
    let ratios = group.reports.iter().flat_map(|report| MEASURES.map(|(_, _, of)| ratio(report, of)));
    let largest = ratios.fold(1.0, f64::max);
    let count = group.reports.len() as f64;
    let mut drawing = Drawing::new(Frame::new(PANEL.0, PANEL.1, (0.0, count), largest * 1.02));
    drawing.y_axis(|value| format!("{value}"));
    for (n, report) in group.reports.iter().enumerate() {
        for (m, (name, colour, of)) in MEASURES.iter().enumerate() {
            let left = n as f64 + 0.12 + 0.26 * m as f64;
            let value = ratio(report, *of);
            let title =
                format!("{}: {name} {:.1} h, {value:.2} of {}", report.policy, of(report) / 3_600.0, yardstick.policy);
            drawing.bar((left, left + 0.24), (0.0, value), colour, &title);
        }
    }
    drawing.limit(&[(0.0, 1.0), (count, 1.0)], "#d55e00");
    drawing.x_labels(group.reports.iter().enumerate().map(|(n, report)| (n as f64 + 0.5, report.policy.clone())));
    let (x, y) = (drawing.frame().left - 4.0, drawing.frame().py(1.0) - 4.0);
    drawing.text(x, y, Anchor::End, "tick", &yardstick.policy);
    drawing.finish(&format!("{}, as ratios to {}", group.title(), yardstick.policy))
}
