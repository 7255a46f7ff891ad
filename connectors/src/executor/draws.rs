//! Luck that depends on what it is for and on nothing else.
//!
//! A draw is blake3 of the seed, its kind, the entity and the attempt. Two runs under different policies see the same node
//! fail at the same hour, and a restart needs no memory of how many draws went before.

use solyx_schemas::units::{DurationUs, HOUR_US};

/// ln 2 in 32 fractional bits.
const LN_2_E32: u128 = 2_977_044_472;

/// A source of draws.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Draws {
    pub(crate) seed: i64,
}

impl Draws {
    /// A number that is uniform over 64 bits.
    pub(crate) fn uniform(self, kind: &str, entity: &str, attempt: u64) -> u64 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.seed.to_le_bytes());
        for text in [kind, entity] {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
        hasher.update(&attempt.to_le_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        u64::from_le_bytes(first)
    }

    /// Time until an event that is expected so often in a thousand hours, exponentially distributed; never when that is 0.
    pub(crate) fn waiting_time(self, kind: &str, entity: &str, attempt: u64, per_1000_h: i64) -> Option<DurationUs> {
        if per_1000_h <= 0 {
            return None;
        }
        Some(self.exponential(kind, entity, attempt, DurationUs(1_000 * HOUR_US / per_1000_h)))
    }

    /// A time that is exponentially distributed around a mean.
    pub(crate) fn exponential(self, kind: &str, entity: &str, attempt: u64, mean: DurationUs) -> DurationUs {
        let minus_ln_e32 = (minus_log2_e32(self.uniform(kind, entity, attempt)) * LN_2_E32) >> 32;
        DurationUs(((minus_ln_e32 * mean.0.max(0) as u128) >> 32) as i64)
    }
}

/// −log2(u / 2^64) in 32 fractional bits: the binary logarithm digit by digit, by squaring the mantissa.
fn minus_log2_e32(uniform: u64) -> u128 {
    let uniform = uniform.max(1);
    let shift = uniform.leading_zeros();
    let mut mantissa = u128::from(uniform << shift);
    let mut fraction = 0_u128;
    for _ in 0..32 {
        mantissa = (mantissa * mantissa) >> 63;
        fraction <<= 1;
        if mantissa >> 64 != 0 {
            mantissa >>= 1;
            fraction |= 1;
        }
    }
    (64_u128 << 32) - ((u128::from(63 - shift) << 32) | fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logarithm_is_exact_at_powers_of_two_and_close_between() {
        assert_eq!(minus_log2_e32(1 << 63), 1 << 32);
        assert_eq!(minus_log2_e32(1), 64 << 32);
        // −log2(0.75) = 0.415037499278…
        let three_quarters = minus_log2_e32(3 << 62);
        assert!(three_quarters.abs_diff(1_782_572_484) < 16, "{three_quarters}");
    }

    #[test]
    fn waiting_times_have_the_mean_they_were_asked_for() {
        let draws = Draws { seed: 7 };
        let total: i64 =
            (0..4_000).map(|i| draws.waiting_time("node-failure", "n", i, 10).map_or(0, |wait| wait.0)).sum();
        let mean_h = total / 4_000 / HOUR_US;
        assert!((95..=105).contains(&mean_h), "{mean_h} h, expected about 100");
        assert_eq!(draws.waiting_time("node-failure", "n", 0, 0), None);
    }

    #[test]
    fn a_draw_depends_on_each_of_its_parts() {
        let draws = Draws { seed: 7 };
        let one = draws.uniform("a", "b", 1);
        assert_eq!(one, draws.uniform("a", "b", 1));
        for other in [draws.uniform("b", "a", 1), draws.uniform("a", "b", 2), Draws { seed: 8 }.uniform("a", "b", 1)] {
            assert_ne!(one, other);
        }
        assert_ne!(draws.uniform("ab", "c", 1), draws.uniform("a", "bc", 1));
    }
}
