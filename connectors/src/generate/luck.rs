//! Draws in the forms that a world needs.

use solyx_schemas::units::DurationUs;

use crate::executor::draws::Draws;

/// The luck of a seed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Luck(Draws);

impl Luck {
    pub(super) fn new(seed: u64) -> Self {
        Self(Draws { seed: seed as i64 })
    }

    /// A number from 0 up to but without `end`; 0 when there is none.
    pub(super) fn below(self, kind: &str, entity: &str, end: i64) -> i64 {
        let scaled = (u128::from(self.0.uniform(kind, entity, 0)) * end.max(0) as u128) >> 64;
        scaled as i64
    }

    /// A number of [from, to].
    pub(super) fn between(self, kind: &str, entity: &str, from: i64, to: i64) -> i64 {
        from + self.below(kind, entity, to - from + 1)
    }

    /// Whether something happens that happens so often in a thousand times.
    pub(super) fn chance(self, kind: &str, entity: &str, milli: i64) -> bool {
        self.below(kind, entity, 1_000) < milli
    }

    /// One of several, each as likely.
    pub(super) fn pick<'t, T>(self, kind: &str, entity: &str, of: &'t [T]) -> &'t T {
        &of[self.below(kind, entity, of.len() as i64) as usize]
    }

    /// One of several by weight.
    pub(super) fn weighted<T: Copy>(self, kind: &str, entity: &str, of: &[(i64, T)]) -> T {
        let mut left = self.below(kind, entity, of.iter().map(|(weight, _)| weight).sum());
        for (weight, value) in of {
            left -= weight;
            if left < 0 {
                return *value;
            }
        }
        // The weights add up to more than what was drawn.
        of[of.len() - 1].1
    }

    /// A time that is exponentially distributed around a mean, of [least, most].
    pub(super) fn around(self, kind: &str, entity: &str, mean_us: i64, (least, most): (i64, i64)) -> i64 {
        let drawn = self.0.exponential(kind, entity, 0, DurationUs(mean_us));
        drawn.0.clamp(least, most.max(least))
    }
}
