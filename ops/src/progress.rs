//! Progress of long work, on stderr and only where a person looks at it.

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How far a known amount of work is.
pub fn bar(length: u64, what: &'static str, json: bool) -> ProgressBar {
    if json {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg} {wide_bar} {human_pos}/{human_len} {eta}");
    let bar = ProgressBar::new(length).with_message(what);
    // A template that does not parse leaves the plain bar.
    style.map_or(bar.clone(), |style| bar.with_style(style))
}

/// Bars below each other, for work that goes on side by side.
pub fn bars(json: bool) -> MultiProgress {
    if json { MultiProgress::with_draw_target(ProgressDrawTarget::hidden()) } else { MultiProgress::new() }
}

/// How long work of unknown amount has gone on.
pub fn spinner(what: &'static str, json: bool) -> ProgressBar {
    if json {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner().with_message(what);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {human_pos} {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(std::time::Duration::from_millis(200));
    bar
}
