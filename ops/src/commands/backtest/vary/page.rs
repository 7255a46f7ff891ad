//! Outcomes as one self-contained page: charts by variation, the table, tenants, and the jobs that changed most. It loads nothing
//! and runs nothing.

use super::numbers::Numbers;
use super::sweep::{BASE, Base, Case, Report};
use super::table::{LINES, Line, NOT_COMPARED, NOTES, cell, difference, heading, is_of_use, title};
use crate::commands::compare::report::charts::{legend, waited};
use crate::commands::compare::report::{section, section_of, whole};
use crate::output::{duration, grouped};
use crate::svg::{Anchor, Drawing, Frame, escaped};

/// Height of a bar with its gap, and the room at its left for its name and at its right for its value.
const BAR: f64 = 20.0;
const NAME: f64 = 170.0;
const VALUE: f64 = 160.0;
/// Places of the lines in the table that are drawn, with what to call them.
const DRAWN: [(usize, &str); 10] = [
    (0, "Cost"),
    (2, "Margin"),
    (4, "Carbon, kg CO2e"),
    (3, "Energy, MWh"),
    (5, "Waiting, mean"),
    (7, "Waiting, p95"),
    (9, "Request to end, mean"),
    (12, "Request to end, p99"),
    (18, "Own GPUs in use"),
    (20, "Preemptions"),
];
/// Lines told of each tenant.
const OF_TENANTS: [usize; 4] = [2, 4, 7, 9];
/// Colours of variations (after Paul Tol's muted and bright schemes), the base's first. After the last they begin again.
const COLOURS: [&str; 18] = [
    "#5d6b79", "#332288", "#d98200", "#117733", "#cc6677", "#0a6ebd", "#aa4499", "#7a6a53", "#44aa99", "#882255",
    "#999933", "#66ccee", "#e6550d", "#b8a000", "#5b5bd6", "#1b1b1b", "#e377c2", "#8fbc5a",
];
/// Variations whose waiting is drawn as lines; more cannot be told apart.
const WAITING_LINES_MAX: usize = 12;

fn colour(n: usize) -> &'static str {
    COLOURS[n % COLOURS.len()]
}

/// The page.
pub fn page(report: &Report, name: &str) -> String {
    let mut body = format!(
        "<header><p class=\"brand\">solyx</p><h1>{}</h1><p class=\"lead\">{}</p></header>\n",
        escaped(name),
        escaped(&lead(report))
    );
    for (n, base) in report.bases.iter().enumerate() {
        let cases: Vec<&Case> = report.cases.iter().filter(|case| case.base == n).collect();
        body += &of_base(base, &cases);
    }
    let notes: String = NOTES.iter().map(|note| format!("<li>{}</li>", escaped(note))).collect();
    body += &section("What the figures mean", &format!("<ul class=\"notes\">{notes}</ul>"));
    whole(name, &body)
}

fn lead(report: &Report) -> String {
    let jobs = report.bases.iter().map(|base| base.said.all.jobs).max().unwrap_or(0);
    let logs = match report.bases.as_slice() {
        [base] => base.log.clone(),
        bases => format!("{} logs and seeds", bases.len()),
    };
    format!("{} jobs of {logs}, run again {} times", grouped(jobs), grouped(report.cases.len() as i64))
}

fn of_base(base: &Base, cases: &[&Case]) -> String {
    let said = escaped(&heading(base)).replace('\n', "<br>");
    let mut body = section(&title(&base.log, base.seed), &format!("<p class=\"note\">{said}</p>"));
    let numbers: Vec<(&str, &Numbers)> = std::iter::once((BASE, &base.said.all))
        .chain(cases.iter().map(|case| (case.name.as_str(), &case.said.all)))
        .collect();
    let charts = DRAWN.iter().filter(|(at, _)| numbers.iter().any(|(_, n)| (LINES[*at].of)(n).is_some()));
    let chart = |(at, name): &(usize, &str)| {
        format!("<figure><figcaption>{}</figcaption>{}</figure>", escaped(name), bars(&LINES[*at], name, &numbers))
    };
    let note = format!("The broken line is the base. Money in {}.", base.said.currency);
    body += &section_of(
        "By variation",
        &format!("<div class=\"pairs\">{}</div>", charts.map(chart).collect::<String>()),
        &note,
    );
    body += &section_of(
        "Cost and waiting together",
        &trade(&numbers),
        "Each point is a run: further left is cheaper, further down waits less. Rest the pointer on one to see which.",
    );
    if cases.len() < WAITING_LINES_MAX && !base.said.waiting_counts.is_empty() {
        let series = std::iter::once(&base.said).chain(cases.iter().map(|case| &case.said)).enumerate();
        let lines = series.map(|(n, said)| (colour(n), said.waiting_counts.as_slice(), said.all.jobs as usize));
        let names = numbers.iter().enumerate().map(|(n, (name, _))| (colour(n), *name));
        body += &section_of(
            "How long jobs waited",
            &(waited(lines) + &legend(names)),
            "Part of all jobs that had their first place after so long.",
        );
    }
    body += &section("Side by side", &(described(cases) + &table(base, cases)));
    body += &section("By tenant", &OF_TENANTS.map(|at| tenants(&LINES[at], base, cases)).concat());
    let mut jobs: String = cases.iter().filter_map(|case| changed(case)).collect();
    if cases.iter().any(|case| case.changed.is_none()) {
        jobs += &format!("<p class=\"note\">{}</p>", escaped(NOT_COMPARED));
    }
    if !jobs.is_empty() {
        body += &section("Jobs that changed most, and why", &jobs);
    }
    body
}

/// A bar for each run, with its value.
fn bars(line: &Line, name: &str, numbers: &[(&str, &Numbers)]) -> String {
    let values: Vec<f64> = numbers.iter().map(|(_, n)| (line.of)(n).unwrap_or(0) as f64).collect();
    let least = values.iter().copied().fold(0.0, f64::min);
    let most = values.iter().copied().fold(0.0, f64::max).max(least + 1.0);
    let rows = numbers.len() as f64;
    let mut frame = Frame::new(560.0, rows * BAR + 8.0, (least, most), rows);
    (frame.left, frame.right, frame.top, frame.bottom, frame.y) = (NAME, VALUE, 4.0, 4.0, (0.0, rows));
    let mut drawing = Drawing::new(frame);
    for (n, ((run, of), value)) in numbers.iter().zip(&values).enumerate() {
        let below = rows - n as f64 - 1.0;
        let text = cell(line, of, numbers[0].1);
        let fill = if n == 0 { COLOURS[0] } else { "#4d8fc9" };
        drawing.bar((value.min(0.0), value.max(0.0)), (below + 0.14, below + 0.86), fill, &format!("{run}: {text}"));
        let y = drawing.frame().py(below + 0.5) + 4.0;
        drawing.text(NAME - 8.0, y, Anchor::End, "tick", &short(run));
        drawing.text(552.0, y, Anchor::End, "value", &text);
    }
    drawing.limit(&[(values[0], 0.0), (values[0], rows)], "#1d2733");
    drawing.finish(&format!("{name} by variation"))
}

/// A name that finds room beside its bar.
fn short(name: &str) -> String {
    const LETTERS: usize = 26;
    if name.chars().count() <= LETTERS {
        return name.to_owned();
    }
    name.chars().take(LETTERS - 1).chain(['…']).collect()
}

/// Cost against mean waiting.
fn trade(numbers: &[(&str, &Numbers)]) -> String {
    const MICROS: f64 = 1e6;
    const HOUR: f64 = 3.6e9;
    let cost = |n: &Numbers| n.cost_micros as f64 / MICROS;
    let waited = |n: &Numbers| n.wait_mean_us as f64 / HOUR;
    let costs = || numbers.iter().map(|(_, n)| cost(n));
    let (least, most) = (costs().fold(f64::INFINITY, f64::min), costs().fold(0.0, f64::max));
    let room = ((most - least) * 0.08).max(1.0);
    let longest = numbers.iter().map(|(_, n)| waited(n)).fold(0.0, f64::max);
    let frame = Frame::new(1160.0, 320.0, (least - room, most + room), longest * 1.05);
    let mut drawing = Drawing::new(frame);
    drawing.y_axis(|hours| duration((hours * HOUR) as i64));
    let (from, to) = drawing.frame().x;
    let ticks = (0..=4).map(|n| from + (to - from) * (0.1 + 0.2 * f64::from(n)));
    drawing.x_labels(ticks.map(|cost| (cost, grouped(cost as i64))));
    let (wide, high) = ((to - from) * 0.004, drawing.frame().y.1 * 0.016);
    for (n, (name, of)) in numbers.iter().enumerate() {
        let (x, y) = (cost(of), waited(of));
        let said = format!("{name}: cost {}, waiting {}", grouped(x as i64), duration(of.wait_mean_us));
        drawing.bar((x - wide, x + wide), (y - high, y + high), colour(n), &said);
    }
    drawing.finish("Cost and mean waiting of each run")
        + &legend(numbers.iter().enumerate().map(|(n, (name, _))| (colour(n), *name)))
}

/// What each variation is for, where it says so.
fn described(cases: &[&Case]) -> String {
    let told = cases.iter().filter(|case| !case.description.is_empty());
    let told = told.map(|case| format!("<li>{}: {}</li>", escaped(&case.name), escaped(&case.description)));
    let list: String = told.collect();
    if list.is_empty() { list } else { format!("<ul class=\"notes\">{list}</ul>") }
}

/// Variations that stand beside each other in one table.
const COLUMNS: usize = 5;

fn table(base: &Base, cases: &[&Case]) -> String {
    let of = |cases: &[&Case]| {
        let head: String = cases.iter().map(|case| format!("<th>{}</th>", escaped(&case.name))).collect();
        let row = |line: &Line| {
            let own = (line.of)(&base.said.all).map_or_else(|| "–".to_owned(), line.text);
            let others: String =
                cases.iter().map(|case| with_difference(line, &case.said.all, &base.said.all)).collect();
            format!("<tr><th>{}</th><td>{}</td>{others}</tr>", escaped(line.label), escaped(&own))
        };
        let rows: String = LINES.iter().filter(|line| is_of_use(line, base, cases)).map(row).collect();
        format!(
            "<table class=\"outcomes\"><thead><tr><th></th><th>{BASE}</th>{head}</tr></thead><tbody>{rows}</tbody></table>"
        )
    };
    cases.chunks(COLUMNS).map(of).collect()
}

fn with_difference(line: &Line, numbers: &Numbers, base: &Numbers) -> String {
    let Some(value) = (line.of)(numbers) else { return "<td>–</td>".to_owned() };
    let less = difference(line, value, (line.of)(base)).unwrap_or_default();
    format!("<td>{}<br><small>{}</small></td>", escaped(&(line.text)(value)), escaped(&less))
}

fn tenants(line: &Line, base: &Base, cases: &[&Case]) -> String {
    let of = |cases: &[&Case]| {
        let head: String = cases.iter().map(|case| format!("<th>{}</th>", escaped(&case.name))).collect();
        let row = |(tenant, numbers): (&String, &Numbers)| {
            let own = (line.of)(numbers).map_or_else(|| "–".to_owned(), line.text);
            let theirs = |case: &&Case| case.said.tenants.get(tenant).copied().unwrap_or_default();
            let others: String =
                cases.iter().map(|case| format!("<td>{}</td>", escaped(&cell(line, &theirs(case), numbers)))).collect();
            format!("<tr><th>{}</th><td>{}</td>{others}</tr>", escaped(tenant), escaped(&own))
        };
        let rows: String = base.said.tenants.iter().map(row).collect();
        format!(
            "<table class=\"outcomes\"><thead><tr><th></th><th>{BASE}</th>{head}</tr></thead><tbody>{rows}</tbody></table>"
        )
    };
    let tables: String = cases.chunks(COLUMNS).map(of).collect();
    format!("<details><summary>{}</summary>{tables}</details>", escaped(line.label))
}

fn changed(case: &Case) -> Option<String> {
    let jobs = case.changed.as_ref().filter(|jobs| !jobs.is_empty())?;
    let row = |job: &super::changed::Changed| {
        let later = if job.later_us < 0 { "sooner" } else { "later" };
        format!(
            "<tr><th>{}<br><small>{}</small></th><td>{} {later}</td><td class=\"told\">{}</td><td class=\"told\">{}</td></tr>",
            escaped(&job.job),
            escaped(&job.tenant),
            duration(job.later_us.abs()),
            escaped(&job.before.text()),
            escaped(&job.after.text())
        )
    };
    let rows: String = jobs.iter().map(row).collect();
    Some(format!(
        "<details><summary>{}</summary><table class=\"outcomes\"><thead><tr><th></th><th>ended</th><th>base</th>\
         <th>here</th></tr></thead><tbody>{rows}</tbody></table></details>",
        escaped(&title(&case.name, case.seed))
    ))
}
