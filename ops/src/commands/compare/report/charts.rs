//! Which charts the page has, and what they are drawn from.

use solyx_projections::jobs::WAITING_BOUNDS_US;
use solyx_schemas::units::{DAY_US, HOUR_US, TimeUs, rfc3339};

use crate::commands::compare::figures::{Figures, carbon_mg, facility_j};
use crate::commands::compare::stage::Stage;
use crate::output::{duration, grouped, money};
use crate::svg::{Anchor, Drawing, Frame};

/// Colours of worlds, in order; readable without colour vision and in print.
pub const WORLDS: [&str; 6] = ["#0a6ebd", "#d98200", "#0b8a67", "#a6558f", "#5b5bd6", "#7a6a53"];
/// Own and leased.
pub const OWN: &str = "#0b8a67";
pub const LEASED: &str = "#f0b44c";
/// Kinds of cost: leases, commitments, depreciation, energy.
const COSTS: [(&str, &str); 4] =
    [("leases", "#f0b44c"), ("commitments", "#c9a27a"), ("depreciation", "#4d8fc9"), ("energy", "#d1605e")];
const REVENUE: &str = "#c7d0d9";
const MICROS: f64 = 1e6;

/// Colour of the n-th world.
pub fn colour(n: usize) -> &'static str {
    WORLDS[n % WORLDS.len()]
}

/// A legend of colours and names.
pub fn legend<'a>(entries: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let entry = |(colour, name): (&str, &str)| {
        format!(r#"<span><i style="background:{colour}"></i>{}</span>"#, crate::svg::escaped(name))
    };
    format!(r#"<p class="legend">{}</p>"#, entries.into_iter().map(entry).collect::<String>())
}

/// Legend of the worlds.
pub fn world_legend(stages: &[Stage]) -> String {
    legend(stages.iter().enumerate().map(|(n, stage)| (colour(n), stage.figures.name.as_str())))
}

/// Revenue beside cost by kind, for each world; what is left stands above.
pub fn money_bars(stages: &[Stage]) -> String {
    let figures: Vec<&Figures> = stages.iter().map(|stage| &stage.figures).collect();
    let largest = figures.iter().map(|f| f.revenue_micros.max(f.cost_micros)).max().unwrap_or(0) as f64 / MICROS;
    let mut frame = Frame::new(560.0, 300.0, (0.0, figures.len() as f64), largest * 1.08);
    frame.left = 64.0;
    let mut drawing = Drawing::new(frame);
    drawing.y_axis(|value| grouped(value as i64));
    for (n, f) in figures.iter().enumerate() {
        let at = n as f64;
        let said = |what: &str, micros: i64| format!("{}: {what} {} {}", f.name, money(micros.into()), f.currency);
        let revenue = f.revenue_micros as f64 / MICROS;
        drawing.bar((at + 0.16, at + 0.46), (0.0, revenue), REVENUE, &said("revenue", f.revenue_micros));
        let kinds = [f.cost.leases_micros, f.cost.commitments_micros, f.cost.depreciation_micros, f.cost.energy_micros];
        let mut below = 0.0;
        for ((kind, colour), micros) in COSTS.iter().zip(kinds) {
            let top = below + micros as f64 / MICROS;
            drawing.bar((at + 0.5, at + 0.8), (below, top), colour, &said(kind, micros));
            below = top;
        }
        let x = drawing.frame().px(at + 0.48);
        let y = drawing.frame().py(revenue.max(below)) - 7.0;
        let sign = if f.margin_micros < 0 { "" } else { "+" };
        let left = format!("{sign}{}", grouped(f.margin_micros / 1_000_000));
        drawing.text(x, y, Anchor::Middle, "value", &left);
    }
    drawing.x_labels(figures.iter().enumerate().map(|(n, f)| (n as f64 + 0.48, f.name.clone())));
    let kinds =
        COSTS.iter().enumerate().filter(|(i, _)| *i != 1 || figures.iter().any(|f| f.cost.commitments_micros != 0));
    let entries = std::iter::once((REVENUE, "revenue")).chain(kinds.map(|(_, (kind, colour))| (*colour, *kind)));
    drawing.finish("Revenue and cost by kind of each world") + &legend(entries)
}

/// Part of the jobs that waited no longer than each bound.
pub fn waiting(stages: &[Stage]) -> String {
    let series = stages.iter().map(|stage| {
        let waiting = &stage.figures.waiting;
        (&*waiting.counts, waiting.placed + waiting.unplaced)
    });
    waited(series.enumerate().map(|(n, (counts, all))| (colour(n), counts, all))) + &world_legend(stages)
}

/// The same of jobs by bounds, of how many in all, each in its colour.
pub fn waited<'c>(series: impl Iterator<Item = (&'c str, &'c [usize], usize)>) -> String {
    let last = WAITING_BOUNDS_US.len() as f64;
    let mut drawing = Drawing::new(Frame { y: (0.0, 100.0), ..Frame::new(560.0, 300.0, (0.0, last), 100.0) });
    drawing.y_axis(|value| format!("{value} %"));
    for (colour, counts, all) in series {
        let mut sum = 0;
        let points: Vec<(f64, f64)> = counts
            .iter()
            .enumerate()
            .map(|(i, count)| {
                sum += count;
                (i as f64, 100.0 * sum as f64 / all.max(1) as f64)
            })
            .collect();
        drawing.line(&points, colour);
    }
    let bound = |(i, us): (usize, &i64)| (i as f64, short(*us));
    drawing.x_labels(WAITING_BOUNDS_US.iter().enumerate().map(bound).chain([(last, "all".to_owned())]));
    drawing.finish("Part of the jobs that waited no longer than a time")
}

/// A bound without decimals.
fn short(us: i64) -> String {
    match us {
        us if us < 60_000_000 => duration(us),
        us if us < HOUR_US => format!("{} min", us / 60_000_000),
        us => format!("{} h", us / HOUR_US),
    }
}

/// The span of time that all worlds lie in, so that their charts can be laid over each other.
fn span(stages: &[Stage]) -> (f64, f64) {
    let from = stages.iter().map(|stage| stage.figures.from_us.0).min().unwrap_or(0);
    let to = stages.iter().map(|stage| stage.figures.to_us.0).max().unwrap_or(0);
    (from as f64, to.max(from + HOUR_US) as f64)
}

/// Days along the axis, as many as find room.
fn days(drawing: &mut Drawing) {
    let (from, to) = drawing.frame().x;
    let all = ((to - from) / DAY_US as f64).ceil().max(1.0);
    let room = ((drawing.frame().width - 70.0) / 52.0).max(1.0);
    let step = (all / room).ceil() as i64;
    let first = (from as i64).div_euclid(DAY_US) + 1;
    let last = (to as i64).div_euclid(DAY_US);
    let label =
        |day: i64| (day as f64 * DAY_US as f64, rfc3339(TimeUs(day * DAY_US)).chars().skip(5).take(5).collect());
    drawing.x_labels((first..=last).filter(|day| (day - first) % step == 0).map(label));
}

/// The most GPUs that were in use or held in an hour of any world, for a common scale.
fn most_gpus(stages: &[Stage]) -> f64 {
    let hours = stages.iter().flat_map(|stage| &stage.billing.hours);
    let used = hours.map(|hour| hour.owned_used + hour.leased_used.max(hour.leased_held)).max().unwrap_or(0);
    let owned = stages.iter().map(|stage| stage.figures.gpus.owned).max().unwrap_or(0) as f64;
    (used as f64 / GPU_HOUR).max(owned)
}

const GPU_HOUR: f64 = 1_000.0 * HOUR_US as f64;

/// GPUs in use by hour: our own below, leased above; broken lines are what we have and what we pay for.
pub fn gpus(stages: &[Stage], stage: &Stage) -> String {
    let mut drawing = Drawing::new(Frame::new(560.0, 190.0, span(stages), most_gpus(stages)));
    drawing.y_axis(|value| grouped(value as i64));
    let mut own = Vec::new();
    let mut leased = Vec::new();
    let mut held = Vec::new();
    for hour in filled(&stage.billing.hours, |hour| hour.from_us) {
        let (from, row) = (hour.0 as f64, hour.1);
        let used = row.map_or((0.0, 0.0, 0.0), |row| {
            (row.owned_used as f64 / GPU_HOUR, row.leased_used as f64 / GPU_HOUR, row.leased_held as f64 / GPU_HOUR)
        });
        own.push((from, 0.0, used.0));
        leased.push((from, used.0, used.0 + used.1));
        held.push((from, used.0 + used.2));
    }
    drawing.area(&own, OWN);
    drawing.area(&leased, LEASED);
    if stage.figures.gpus.leased_held_gpu_milli_s > 0 {
        drawing.limit(&held, "#8a5a00");
    }
    let owned = stage.figures.gpus.owned as f64;
    if owned > 0.0 {
        let (from, to) = drawing.frame().x;
        drawing.limit(&[(from, owned), (to, owned)], "#075c45");
    }
    days(&mut drawing);
    drawing.finish(&format!("GPUs in use by hour on {}", stage.figures.name))
}

/// Rows of hours without holes between the first and the last.
fn filled<R>(rows: &[R], from: impl Fn(&R) -> TimeUs) -> Vec<(i64, Option<&R>)> {
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Vec::new() };
    let by_hour: std::collections::BTreeMap<i64, &R> = rows.iter().map(|row| (from(row).0, row)).collect();
    let hours = (from(last).0 - from(first).0) / HOUR_US;
    (0..=hours).map(|n| from(&rows[0]).0 + n * HOUR_US).map(|at| (at, by_hour.get(&at).copied())).collect()
}

/// Energy by hour, or carbon, of all worlds over each other.
pub fn by_hour(stages: &[Stage], what: ByHour) -> String {
    let series: Vec<Vec<(f64, f64)>> = stages.iter().map(|stage| hourly(stage, what)).collect();
    let largest = series.iter().flatten().map(|(_, value)| *value).fold(0.0, f64::max);
    let mut drawing = Drawing::new(Frame::new(1160.0, 230.0, span(stages), largest));
    drawing.y_axis(|value| grouped(value as i64));
    for (n, points) in series.iter().enumerate() {
        drawing.line(points, colour(n));
    }
    days(&mut drawing);
    let label = match what {
        ByHour::EnergyKwh => "Energy by hour, kWh",
        ByHour::CarbonKg => "Carbon by hour, kg CO2e",
    };
    drawing.finish(label) + &world_legend(stages)
}

/// What is drawn by hour.
#[derive(Clone, Copy)]
pub enum ByHour {
    /// Facility energy.
    EnergyKwh,
    /// Its carbon.
    CarbonKg,
}

fn hourly(stage: &Stage, what: ByHour) -> Vec<(f64, f64)> {
    let mut hours = std::collections::BTreeMap::new();
    for hour in stage.dcim.sites.iter().flat_map(|site| &site.hours) {
        let ((own, bought), unit) = match what {
            ByHour::EnergyKwh => (facility_j(hour), 3.6e6),
            ByHour::CarbonKg => (carbon_mg(hour), 1e6),
        };
        *hours.entry(hour.from_us.0).or_insert(0.0) += (own + bought) as f64 / unit;
    }
    // The last hour is cut by the end of the log.
    hours.pop_last();
    hours.into_iter().map(|(at, value)| (at as f64, value)).collect()
}
