//! Drawing: a frame with axes, and what stands in it, as SVG. Nothing else is loaded by it, and nothing runs.

use std::fmt::Write;

/// Where a chart draws: its size, its margins, and the ranges of its axes.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Size in pixels.
    pub width: f64,
    pub height: f64,
    /// Margins in pixels.
    pub left: f64,
    pub right: f64,
    pub top: f64,
    pub bottom: f64,
    /// Values at the left and right end.
    pub x: (f64, f64),
    /// Values at the lower and upper end.
    pub y: (f64, f64),
}

/// A chart that is being drawn.
pub struct Drawing {
    frame: Frame,
    body: String,
}

/// What `text` anchors at.
#[derive(Clone, Copy)]
pub enum Anchor {
    /// Its middle.
    Middle,
    /// Its right end.
    End,
}

impl Frame {
    /// A frame of the usual margins; `y` begins at zero and ends at a round value above the largest.
    pub fn new(width: f64, height: f64, x: (f64, f64), largest: f64) -> Self {
        let step = nice_step(largest);
        let top = (largest / step).ceil().max(1.0) * step;
        Self { width, height, left: 56.0, right: 14.0, top: 14.0, bottom: 28.0, x, y: (0.0, top) }
    }

    /// Pixel of a value on the horizontal axis.
    pub fn px(&self, x: f64) -> f64 {
        let part = (x - self.x.0) / (self.x.1 - self.x.0).max(f64::MIN_POSITIVE);
        self.left + part * (self.width - self.left - self.right)
    }

    /// Pixel of a value on the vertical axis.
    pub fn py(&self, y: f64) -> f64 {
        let part = (y - self.y.0) / (self.y.1 - self.y.0).max(f64::MIN_POSITIVE);
        self.height - self.bottom - part * (self.height - self.top - self.bottom)
    }

    /// Round values along the vertical axis.
    pub fn y_ticks(&self) -> Vec<f64> {
        let step = nice_step(self.y.1 - self.y.0);
        let first = (self.y.0 / step).ceil() as i64;
        let last = (self.y.1 / step + 1e-9).floor() as i64;
        (first..=last).map(|i| i as f64 * step).collect()
    }
}

/// A round step that divides a range into about four.
fn nice_step(range: f64) -> f64 {
    if range <= 0.0 || !range.is_finite() {
        return 1.0;
    }
    let raw = range / 4.0;
    let power = 10_f64.powf(raw.log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0];
    steps.iter().map(|m| m * power).find(|step| *step >= raw * 0.999).unwrap_or(10.0 * power)
}

impl Drawing {
    /// An empty one.
    pub fn new(frame: Frame) -> Self {
        Self { frame, body: String::new() }
    }

    /// The frame.
    pub fn frame(&self) -> &Frame {
        &self.frame
    }

    /// Lines across at round values, with their labels at the left.
    pub fn y_axis(&mut self, label: impl Fn(f64) -> String) {
        let (left, right) = (self.frame.left, self.frame.width - self.frame.right);
        for tick in self.frame.y_ticks() {
            let y = self.frame.py(tick);
            let class = if tick == 0.0 { "zero" } else { "grid" };
            self.put(format_args!(r#"<line class="{class}" x1="{left:.1}" y1="{y:.1}" x2="{right:.1}" y2="{y:.1}"/>"#));
            self.text(left - 7.0, y + 4.0, Anchor::End, "tick", &label(tick));
        }
    }

    /// Labels below the axis at these values.
    pub fn x_labels(&mut self, labels: impl IntoIterator<Item = (f64, String)>) {
        let y = self.frame.height - self.frame.bottom + 17.0;
        for (x, label) in labels {
            let x = self.frame.px(x);
            self.text(x, y, Anchor::Middle, "tick", &label);
        }
    }

    /// A line through points.
    pub fn line(&mut self, points: &[(f64, f64)], colour: &str) {
        let path = self.path(points);
        self.put(format_args!(r#"<polyline class="line" points="{path}" stroke="{colour}"/>"#));
    }

    /// A broken line, for a limit or a capacity.
    pub fn limit(&mut self, points: &[(f64, f64)], colour: &str) {
        let path = self.path(points);
        self.put(format_args!(r#"<polyline class="limit" points="{path}" stroke="{colour}"/>"#));
    }

    /// The area between two lines over the same horizontal values.
    pub fn area(&mut self, points: &[(f64, f64, f64)], colour: &str) {
        let upper: Vec<(f64, f64)> = points.iter().map(|(x, _, upper)| (*x, *upper)).collect();
        let lower: Vec<(f64, f64)> = points.iter().rev().map(|(x, lower, _)| (*x, *lower)).collect();
        let path = format!("{} {}", self.path(&upper), self.path(&lower));
        self.put(format_args!(r#"<polygon points="{path}" fill="{colour}"/>"#));
    }

    /// A bar between two values of each axis; `title` shows when a pointer rests on it.
    pub fn bar(&mut self, x: (f64, f64), y: (f64, f64), colour: &str, title: &str) {
        let (left, right) = (self.frame.px(x.0), self.frame.px(x.1));
        let (top, bottom) = (self.frame.py(y.1), self.frame.py(y.0));
        self.put(format_args!(
            r#"<rect x="{left:.1}" y="{top:.1}" width="{:.1}" height="{:.1}" fill="{colour}"><title>{}</title></rect>"#,
            (right - left).max(0.0),
            (bottom - top).max(0.0),
            escaped(title)
        ));
    }

    /// Text at a pixel.
    pub fn text(&mut self, x: f64, y: f64, anchor: Anchor, class: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        self.put(format_args!(
            r#"<text class="{class}" x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{}</text>"#,
            escaped(text)
        ));
    }

    /// The finished chart; `label` says what it shows to whoever cannot see it.
    pub fn finish(self, label: &str) -> String {
        let Frame { width, height, .. } = self.frame;
        format!(r#"<svg viewBox="0 0 {width} {height}" role="img" aria-label="{}">{}</svg>"#, escaped(label), self.body)
    }

    fn path(&self, points: &[(f64, f64)]) -> String {
        let points: Vec<String> =
            points.iter().map(|(x, y)| format!("{:.1},{:.1}", self.frame.px(*x), self.frame.py(*y))).collect();
        points.join(" ")
    }

    fn put(&mut self, what: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = self.body.write_fmt(what);
    }
}

/// Text that is safe between tags and in attributes.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_values_and_hold_the_largest() {
        let frame = Frame::new(400.0, 200.0, (0.0, 10.0), 730.0);
        assert_eq!(frame.y, (0.0, 800.0));
        assert_eq!(frame.y_ticks(), [0.0, 200.0, 400.0, 600.0, 800.0]);
        assert_eq!(frame.py(0.0), 172.0);
        assert_eq!(Frame::new(400.0, 200.0, (0.0, 1.0), 0.0).y.1, 1.0);
    }

    #[test]
    fn text_cannot_become_markup() {
        let mut drawing = Drawing::new(Frame::new(100.0, 100.0, (0.0, 1.0), 1.0));
        drawing.text(0.0, 0.0, Anchor::Middle, "tick", "<script>\"a\" & b</script>");
        assert!(!drawing.finish("a \"label\"").contains("<script>"));
    }
}
