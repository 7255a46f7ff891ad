//! A plot with logarithmic axes as SVG, and the exponent of each line by least squares.

use std::fmt::Write;

/// Width and height of a panel, and what is kept free around its axes, in pixels.
const PANEL: (f64, f64) = (420.0, 340.0);
const MARGIN: f64 = 56.0;
/// Colours that are told apart without seeing red and green (Okabe and Ito, 2008).
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

/// One line of a panel.
pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// One panel: what is on its axes, and its lines.
pub struct Panel {
    pub title: String,
    pub x: &'static str,
    pub y: &'static str,
    pub lines: Vec<Line>,
}

impl Line {
    /// The exponent b of the power law y = a·x^b that lies nearest, in logarithms.
    pub fn exponent(&self) -> f64 {
        let logs: Vec<(f64, f64)> = self.points.iter().map(|(x, y)| (x.ln(), y.max(1e-9).ln())).collect();
        let count = logs.len().max(1) as f64;
        let (mx, my) = (logs.iter().map(|p| p.0).sum::<f64>() / count, logs.iter().map(|p| p.1).sum::<f64>() / count);
        let above: f64 = logs.iter().map(|(x, y)| (x - mx) * (y - my)).sum();
        let below: f64 = logs.iter().map(|(x, _)| (x - mx) * (x - mx)).sum();
        if below > 0.0 { above / below } else { 0.0 }
    }
}

impl Line {
    /// The exponent of the last step, between the two largest sizes: a bend that a fit over all of them hides.
    pub fn last_exponent(&self) -> f64 {
        let from = self.points.len().saturating_sub(2);
        Line { name: String::new(), points: self.points[from..].to_vec() }.exponent()
    }
}

/// Panels side by side.
pub fn svg(title: &str, panels: &[Panel]) -> String {
    let (width, height) = (PANEL.0 * panels.len().max(1) as f64, PANEL.1 + 30.0);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"12\" y=\"18\" font-size=\"13\">{}</text>\n",
        escaped(title)
    );
    for (number, panel) in panels.iter().enumerate() {
        let _ = writeln!(out, "<g transform=\"translate({} 26)\">", PANEL.0 * number as f64);
        out.push_str(&panel_svg(panel));
        out.push_str("</g>\n");
    }
    out.push_str("</svg>\n");
    out
}

fn panel_svg(panel: &Panel) -> String {
    let points = || panel.lines.iter().flat_map(|line| &line.points);
    let range = |value: fn(&(f64, f64)) -> f64| {
        let logs = || points().map(move |point| value(point).max(1e-9).log10());
        (logs().fold(f64::INFINITY, f64::min).floor(), logs().fold(f64::NEG_INFINITY, f64::max).ceil())
    };
    let (xs, ys) = (range(|point| point.0), range(|point| point.1));
    let place = |value: f64, (least, most): (f64, f64)| (value.max(1e-9).log10() - least) / (most - least).max(1.0);
    let at = |(x, y): (f64, f64)| {
        (MARGIN + place(x, xs) * (PANEL.0 - MARGIN - 16.0), PANEL.1 - MARGIN - place(y, ys) * (PANEL.1 - MARGIN - 24.0))
    };
    let mut out = format!("<text x=\"{MARGIN}\" y=\"14\">{}</text>\n", escaped(&panel.title));
    for power in xs.0 as i32..=xs.1 as i32 {
        let (x, bottom) = at((10f64.powi(power), 10f64.powf(ys.0)));
        let (_, top) = at((1.0, 10f64.powf(ys.1)));
        let _ = writeln!(out, "<path d=\"M{x:.1} {bottom:.1}V{top:.1}\" stroke=\"#ddd\"/>");
        let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">10^{power}</text>", bottom + 14.0);
    }
    for power in ys.0 as i32..=ys.1 as i32 {
        let (left, y) = at((10f64.powf(xs.0), 10f64.powi(power)));
        let (right, _) = at((10f64.powf(xs.1), 1.0));
        let _ = writeln!(out, "<path d=\"M{left:.1} {y:.1}H{right:.1}\" stroke=\"#ddd\"/>");
        let _ =
            writeln!(out, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">10^{power}</text>", left - 4.0, y + 4.0);
    }
    let (middle, foot) = (PANEL.0 / 2.0, PANEL.1 - MARGIN + 30.0);
    let _ = writeln!(out, "<text x=\"{middle}\" y=\"{foot}\" text-anchor=\"middle\">{}</text>", escaped(panel.x));
    let _ = writeln!(out, "<text transform=\"translate(12 {middle}) rotate(-90)\">{}</text>", escaped(panel.y));
    for (number, line) in panel.lines.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let places: Vec<(f64, f64)> = line.points.iter().map(|point| at(*point)).collect();
        let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(out, "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\"/>", path.join(" "));
        for (x, y) in places {
            let _ = writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\" fill=\"{colour}\"/>");
        }
        let (x, y) = (MARGIN + 8.0, 34.0 + 14.0 * number as f64);
        let said = format!("{}: n^{:.2}, at the end n^{:.2}", line.name, line.exponent(), line.last_exponent());
        let _ = writeln!(out, "<text x=\"{x}\" y=\"{y}\" fill=\"{colour}\">{}</text>", escaped(&said));
    }
    out
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
