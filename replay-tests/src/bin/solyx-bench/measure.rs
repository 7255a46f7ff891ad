//! A measure, its yardstick, and what several turns say of them.

use serde::Serialize;

/// What several turns gave.
#[derive(Clone, Debug, Serialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
    /// (max − min) / median, per cent.
    pub spread_pct: f64,
}

impl Spread {
    /// Of at least one value.
    pub fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            0 if !sorted.is_empty() => f64::midpoint(sorted[middle - 1], sorted[middle]),
            _ => sorted.get(middle).copied().unwrap_or(0.0),
        };
        let (min, max) = (sorted.first().copied().unwrap_or(0.0), sorted.last().copied().unwrap_or(0.0));
        let spread_pct = if median > 0.0 { 100.0 * (max - min) / median } else { 0.0 };
        // Times of milliseconds in seconds need the digits.
        let round = |value: f64| (value * 1_000_000.0).round() / 1_000_000.0;
        Self { median: round(median), min: round(min), max: round(max), spread_pct: round(spread_pct) }
    }
}

/// A yardstick.
#[derive(Clone, Debug, Serialize)]
pub struct Yardstick {
    pub name: &'static str,
    #[serde(flatten)]
    pub spread: Spread,
}

/// One thing measured.
#[derive(Clone, Debug, Serialize)]
pub struct Measure {
    pub name: String,
    pub unit: &'static str,
    /// What was measured on what.
    pub what: String,
    pub runs: usize,
    #[serde(flatten)]
    pub spread: Spread,
    pub yardstick: Option<Yardstick>,
    /// Measure over yardstick, turn by turn.
    pub ratio: Option<Spread>,
    /// What it should be, where that was said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aim: Option<Aim>,
}

/// What a measure should be.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Aim {
    #[serde(flatten)]
    pub bound: Bound,
    /// Whether the median is.
    pub reached: bool,
}

/// The side from which a measure is bounded.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    Most(f64),
    Least(f64),
}

impl Measure {
    /// A measure whose turns went with those of a yardstick.
    pub fn beside(name: &str, unit: &'static str, what: String, turns: &[(f64, f64)], yardstick: &'static str) -> Self {
        let own: Vec<f64> = turns.iter().map(|turn| turn.0).collect();
        let other: Vec<f64> = turns.iter().map(|turn| turn.1).collect();
        let ratio: Vec<f64> = turns.iter().map(|(own, other)| own / other.max(f64::MIN_POSITIVE)).collect();
        Self {
            yardstick: Some(Yardstick { name: yardstick, spread: Spread::of(&other) }),
            ratio: Some(Spread::of(&ratio)),
            ..Self::alone(name, unit, what, &own)
        }
    }

    /// A measure that stands for itself.
    pub fn alone(name: &str, unit: &'static str, what: String, turns: &[f64]) -> Self {
        let spread = Spread::of(turns);
        Self { name: name.to_owned(), unit, what, runs: turns.len(), spread, yardstick: None, ratio: None, aim: None }
    }

    /// The same with what its median should be at most.
    pub fn aiming(self, most: f64) -> Self {
        Self { aim: Some(Aim { bound: Bound::Most(most), reached: self.spread.median <= most }), ..self }
    }

    /// The same with what its median should be at least.
    pub fn aiming_at_least(self, least: f64) -> Self {
        Self { aim: Some(Aim { bound: Bound::Least(least), reached: self.spread.median >= least }), ..self }
    }
}

/// So many things in so much time, per second.
pub fn per_second(count: usize, elapsed: std::time::Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64().max(1e-9)
}
