//! One self-contained page: the figures, charts, and what the worlds are made of. It loads nothing and runs nothing.

pub mod charts;
mod documents;
mod power;

use super::figures::Figures;
use super::focus::Focus;
use super::stage::Stage;
use super::table::{self, day};
use crate::failure::Failure;
use crate::svg::escaped;
use charts::ByHour;

/// The page.
pub fn page(stages: &[Stage], focus: &Focus<'_>, title: &str) -> Result<String, Failure> {
    let mut body = String::new();
    body += &header(stages, title);
    body += &cards(stages);
    body += &section("Side by side", &figures(stages));
    body += &two(
        &section_of("Revenue, and what supply costs", &charts::money_bars(stages), &money_note(stages)),
        &section_of(
            "How long jobs waited",
            &charts::waiting(stages),
            "Part of all admitted jobs that had their first place after so long.",
        ),
    );
    body += &section(
        "GPUs in use by hour",
        &format!(
            "{}{}",
            grid(stages.iter().map(|stage| figure(&stage.figures.name, &charts::gpus(stages, stage)))),
            charts::legend([
                (charts::OWN, "own, in use"),
                (charts::LEASED, "leased, in use"),
                ("#075c45", "dashed: own GPUs there are"),
                ("#8a5a00", "dashed: own in use and leased GPUs paid for"),
            ])
        ),
    );
    body += &section_of(
        "Energy by hour, kWh",
        &charts::by_hour(stages, ByHour::EnergyKwh),
        "Facility energy: of own sites as measured, idle nodes among it; of leased capacity what its GPUs were metered at, × PUE.",
    );
    body += &section_of(
        "Carbon by hour, kg CO2e",
        &charts::by_hour(stages, ByHour::CarbonKg),
        "Location based: energy × the intensity of the site's grid zone in that hour.",
    );
    body += &documents::invoice(focus);
    body += &power::trees(focus.stage);
    body += &documents::explanation(focus)?;
    body += &documents::audits(stages);
    body += &section("What the figures mean", &notes());
    Ok(whole(title, &body))
}

/// A page with its style around a body.
pub fn whole(title: &str, body: &str) -> String {
    let title = escaped(title);
    let style = include_str!("style.css");
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <style>\n{style}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )
}

fn header(stages: &[Stage], title: &str) -> String {
    let from = stages.iter().map(|stage| stage.figures.from_us).min().unwrap_or_default();
    let to = stages.iter().map(|stage| stage.figures.to_us).max().unwrap_or_default();
    let jobs = stages.iter().map(|stage| stage.figures.jobs.requested).max().unwrap_or(0);
    let worlds: Vec<&str> = stages.iter().map(|stage| stage.figures.name.as_str()).collect();
    format!(
        "<header><p class=\"brand\">solyx</p><h1>{}</h1><p class=\"lead\">{} jobs, {} to {} UTC, on {}</p></header>\n",
        escaped(title),
        crate::output::grouped(jobs as u64),
        day(from),
        day(to),
        escaped(&worlds.join(", "))
    )
}

/// The four figures that tell most, a card a world.
fn cards(stages: &[Stage]) -> String {
    let card = |(n, stage): (usize, &Stage)| {
        let f = &stage.figures;
        let margin = f.margin_milli.map_or_else(|| "–".to_owned(), crate::output::percent);
        let carbon_kg = (f.energy.own_carbon_mg + f.energy.bought_carbon_mg) / 1_000_000;
        let rows = [
            ("margin", format!("{} {}", crate::output::grouped(f.margin_micros / 1_000_000), f.currency)),
            ("of revenue", margin),
            ("waiting, p95", crate::output::duration(f.waiting.p95_us.0)),
            ("on own GPUs", crate::output::percent(f.gpus.owned_share_milli)),
            ("carbon", format!("{} kg", crate::output::grouped(carbon_kg))),
        ];
        let rows: String =
            rows.iter().map(|(what, value)| format!("<dt>{what}</dt><dd>{}</dd>", escaped(value))).collect();
        format!(
            "<div class=\"card\" style=\"border-top-color:{}\"><h3>{}</h3><dl>{rows}</dl></div>",
            charts::colour(n),
            escaped(&f.name)
        )
    };
    format!("<div class=\"cards\">{}</div>\n", stages.iter().enumerate().map(card).collect::<String>())
}

fn figures(stages: &[Stage]) -> String {
    let head: String = stages.iter().map(|stage| format!("<th>{}</th>", escaped(&stage.figures.name))).collect();
    let row = |line: table::Line| {
        let depth = line.label.len() - line.label.trim_start().len();
        let class = if line.values.iter().all(String::is_empty) { " class=\"group\"" } else { "" };
        let cells: String = line.values.iter().map(|value| format!("<td>{}</td>", escaped(value))).collect();
        format!("<tr{class}><th class=\"d{depth}\">{}</th>{cells}</tr>", escaped(line.label.trim()))
    };
    let all: Vec<&Figures> = stages.iter().map(|stage| &stage.figures).collect();
    let rows: String = table::lines(&all).into_iter().map(row).collect();
    format!("<table class=\"figures\"><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table>")
}

fn money_note(stages: &[Stage]) -> String {
    let currency = stages.first().map(|stage| stage.figures.currency.clone()).unwrap_or_default();
    format!("In {currency}. Left: what customers owe. Right: what supply costs. Above: what is left.")
}

fn notes() -> String {
    let notes: String = table::NOTES.iter().map(|note| format!("<li>{}</li>", escaped(note))).collect();
    format!("<ul class=\"notes\">{notes}</ul>")
}

/// A titled part of the page.
pub fn section(title: &str, body: &str) -> String {
    format!("<section><h2>{}</h2>{body}</section>\n", escaped(title))
}

/// The same with a line on how to read it.
pub fn section_of(title: &str, body: &str, note: &str) -> String {
    section(title, &format!("<p class=\"note\">{}</p>{body}", escaped(note)))
}

/// Two parts beside each other.
fn two(left: &str, right: &str) -> String {
    format!("<div class=\"two\">{left}{right}</div>\n")
}

fn grid(parts: impl Iterator<Item = String>) -> String {
    format!("<div class=\"grid\">{}</div>", parts.collect::<String>())
}

fn figure(caption: &str, body: &str) -> String {
    format!("<figure><figcaption>{}</figcaption>{body}</figure>", escaped(caption))
}
