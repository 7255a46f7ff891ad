//! What a job request says of its length, when a trace knows the truth: the truth, a guess, or nothing.
//!
//! A guess is the truth times exp(σ·z), log-normal as users' estimates are, in integers so that it is the same everywhere:
//! blake3(seed, job) draws one of 256 equally likely normal quantiles z (a table in thousandths), σ is given in
//! thousandths, and the power is taken as 2^(σ·z·log2 e) with a table of 2^(k/32) between whose entries a line is drawn
//! (error below 0.03 %).

use solyx_schemas::units::{SECOND_US, WorkUs};

/// What a job request says of its length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Estimates {
    /// The truth.
    #[default]
    Exact,
    /// The truth times a log-normal factor with this σ in thousandths.
    Noisy(u32),
    /// Nothing.
    None,
}

/// The largest σ that is taken, in thousandths: exp(5·2.9) is a factor of two million.
pub const SIGMA_MILLI_MAX: u32 = 5_000;

/// As [`Estimates::parse`] reads it.
impl std::fmt::Display for Estimates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact => f.write_str("exact"),
            Self::Noisy(sigma_milli) => write!(f, "noisy:{}", f64::from(*sigma_milli) / 1_000.0),
            Self::None => f.write_str("none"),
        }
    }
}

impl Estimates {
    /// Reads `exact`, `none`, `noisy` (σ 0.5) or `noisy:0.8`.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':') {
            None if text == "exact" => Some(Self::Exact),
            None if text == "none" => Some(Self::None),
            None if text == "noisy" => Some(Self::Noisy(500)),
            Some(("noisy", sigma)) => {
                let sigma = u32::try_from(super::decimal::scaled(sigma, 1_000).ok()?).ok()?;
                (sigma <= SIGMA_MILLI_MAX).then_some(Self::Noisy(sigma))
            }
            _ => None,
        }
    }

    /// What `job`, whose true work this is, says; at least a second.
    pub fn of(self, seed: u64, job: &str, work: WorkUs) -> Option<WorkUs> {
        match self {
            Self::Exact => Some(work),
            Self::None => None,
            Self::Noisy(sigma_milli) => {
                let factor_q16 = factor_q16(sigma_milli, draw(seed, job));
                let guess = (i128::from(work.0) * factor_q16) >> 16;
                let longest = i128::from(solyx_schemas::units::TIME_MAX_US);
                Some(WorkUs(guess.clamp(i128::from(SECOND_US), longest) as i64))
            }
        }
    }
}

/// One of 256 equally likely draws.
fn draw(seed: u64, job: &str) -> u8 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"estimate").update(&seed.to_be_bytes()).update(job.as_bytes());
    hasher.finalize().as_bytes()[0]
}

/// exp(σ·z) in 1/65536.
fn factor_q16(sigma_milli: u32, draw: u8) -> i128 {
    let quantile = i64::from(QUANTILES_MILLI[usize::from(draw & 0x7f)]);
    let z_milli = if draw & 0x80 == 0 { quantile } else { -quantile };
    // log2(e) in 1/65536, over thousandths twice.
    let power_q16 = (i128::from(z_milli) * i128::from(sigma_milli) * 94_548).div_euclid(1_000_000);
    let whole = power_q16.div_euclid(65_536);
    let rest = power_q16.rem_euclid(65_536);
    let (step, within) = ((rest / 2_048) as usize, rest % 2_048);
    let (low, high) = (i128::from(POWERS_Q16[step]), i128::from(POWERS_Q16[step + 1]));
    let fraction = low + (high - low) * within / 2_048;
    if whole >= 0 { fraction << whole } else { fraction >> -whole }
}

/// The upper half of the quantiles of the standard normal distribution at (i + 0.5) / 256, in thousandths.
const QUANTILES_MILLI: [u16; 128] = [
    5, 15, 24, 34, 44, 54, 64, 74, 83, 93, 103, 113, 123, 133, 142, 152, 162, 172, 182, 192, 202, 212, 222, 232, 242,
    252, 262, 273, 283, 293, 303, 313, 324, 334, 345, 355, 365, 376, 386, 397, 408, 418, 429, 440, 451, 461, 472, 483,
    494, 505, 517, 528, 539, 550, 562, 573, 585, 597, 608, 620, 632, 644, 656, 668, 681, 693, 706, 718, 731, 744, 757,
    770, 783, 796, 810, 824, 837, 851, 866, 880, 894, 909, 924, 939, 954, 970, 986, 1002, 1018, 1035, 1052, 1069, 1086,
    1104, 1122, 1141, 1160, 1179, 1199, 1219, 1240, 1262, 1284, 1306, 1330, 1354, 1379, 1405, 1431, 1459, 1488, 1518,
    1550, 1584, 1619, 1656, 1696, 1739, 1785, 1836, 1891, 1953, 2024, 2107, 2207, 2335, 2521, 2886,
];

/// 2^(k/32) in 1/65536.
const POWERS_Q16: [u32; 33] = [
    65_536, 66_971, 68_438, 69_936, 71_468, 73_032, 74_632, 76_266, 77_936, 79_642, 81_386, 83_169, 84_990, 86_851,
    88_752, 90_696, 92_682, 94_711, 96_785, 98_905, 101_070, 103_283, 105_545, 107_856, 110_218, 112_631, 115_098,
    117_618, 120_194, 122_825, 125_515, 128_263, 131_072,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_noisy_estimate_is_log_normal_around_the_truth() {
        let factor = |draw| factor_q16(500, draw);
        // exp(0.5 * 0.005) and exp(±0.5 * 2.885).
        assert_eq!(factor(0) * 10_000 / 65_536, 10_025);
        assert!((42_200..42_400).contains(&(factor(127) * 10_000 / 65_536)), "{}", factor(127));
        assert!((2_355..2_375).contains(&(factor(255) * 10_000 / 65_536)), "{}", factor(255));
        let below = (0..=255).filter(|&draw| factor(draw) < 65_536).count();
        assert_eq!(below, 128);
    }

    #[test]
    fn estimates_are_the_same_for_the_same_seed_and_job_and_differ_between_jobs() {
        let work = WorkUs(3_600 * SECOND_US);
        let noisy = Estimates::Noisy(800);
        assert_eq!(noisy.of(7, "a", work), noisy.of(7, "a", work));
        let guesses: std::collections::BTreeSet<_> = (0..64).map(|n| noisy.of(7, &format!("job-{n}"), work)).collect();
        assert!(guesses.len() > 40);
        assert_eq!(Estimates::Exact.of(7, "a", work), Some(work));
        assert_eq!(Estimates::None.of(7, "a", work), None);
        assert_eq!(Estimates::Noisy(0).of(7, "a", work), Some(work));
    }

    #[test]
    fn estimates_are_named_on_the_command_line() {
        assert_eq!(Estimates::parse("exact"), Some(Estimates::Exact));
        assert_eq!(Estimates::parse("noisy:0.8"), Some(Estimates::Noisy(800)));
        assert_eq!(Estimates::parse("noisy"), Some(Estimates::Noisy(500)));
        assert_eq!(Estimates::parse("none"), Some(Estimates::None));
        for wrong in ["", "noisy:", "noisy:9", "noisy:-1", "exact:1", "roughly"] {
            assert_eq!(Estimates::parse(wrong), None, "{wrong:?}");
        }
    }
}
