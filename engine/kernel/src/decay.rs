//! Past use in fair shares: an exponential average with the half-life that policy names, in integers.
//!
//! The average of a use u over time Δ is a ← a·d + u·(1 − d) with d = 2^(−Δ / half-life), the weighting that Slurm's fair share and
//! Kueue's admission fair sharing give to the past. It is brought up to date when the use changes, which is exact, since in
//! between the use is constant. The power comes from a table of 2^(−k/64), between whose entries a line is drawn: 0.002 % off
//! at most each time, so that a use that changes some hundred times in a half-life is averaged to half a per cent.

use serde::{Deserialize, Serialize};
use solyx_schemas::ids::TenantId;
use solyx_schemas::units::{DurationUs, TimeUs};

use crate::index::{Amounts, Index};
use crate::state::State;

/// One, as powers are scaled.
const ONE: i64 = 1 << 32;
/// Entries of the table to a half-life.
const STEPS: i128 = 64;
/// 2^(32 − k/64), rounded.
#[rustfmt::skip]
const POWERS: [i64; 65] = [
    4_294_967_296, 4_248_701_965, 4_202_935_003, 4_157_661_043, 4_112_874_773, 4_068_570_940, 4_024_744_348, 3_981_389_855,
    3_938_502_376, 3_896_076_880, 3_854_108_391, 3_812_591_987, 3_771_522_796, 3_730_896_002, 3_690_706_840, 3_650_950_594,
    3_611_622_603, 3_572_718_252, 3_534_232_978, 3_496_162_267, 3_458_501_653, 3_421_246_719, 3_384_393_094, 3_347_936_457,
    3_311_872_529, 3_276_197_082, 3_240_905_930, 3_205_994_934, 3_171_459_999, 3_137_297_074, 3_103_502_151, 3_070_071_267,
    3_037_000_500, 3_004_285_971, 2_971_923_842, 2_939_910_317, 2_908_241_642, 2_876_914_102, 2_845_924_021, 2_815_267_765,
    2_784_941_738, 2_754_942_382, 2_725_266_179, 2_695_909_648, 2_666_869_345, 2_638_141_863, 2_609_723_834, 2_581_611_923,
    2_553_802_834, 2_526_293_303, 2_499_080_105, 2_472_160_047, 2_445_529_972, 2_419_186_755, 2_393_127_307, 2_367_348_571,
    2_341_847_524, 2_316_621_173, 2_291_666_561, 2_266_980_759, 2_242_560_872, 2_218_404_036, 2_194_507_417, 2_170_868_212,
    2_147_483_648,
];
/// Averages are kept in millionths of their unit.
const MICRO: i64 = 1_000_000;

/// An average of what is in use, millionths of thousandths of GPUs, of thousandths of cores, of MiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Average {
    /// GPU.
    pub gpu: i64,
    /// CPU.
    pub cpu: i64,
    /// Memory.
    pub memory: i64,
}

/// What a tenant has been served, as of an instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// As of when.
    pub at_us: TimeUs,
    /// By its own jobs.
    pub own: Average,
    /// With all that those below it have been served.
    pub family: Average,
}

impl Average {
    /// After so long at a constant use.
    pub fn after(self, used: Amounts, passed: DurationUs, half_life: DurationUs) -> Self {
        let kept = power(passed, half_life);
        let mix = |average: i64, used: i64| {
            let sum =
                i128::from(average) * i128::from(kept) + i128::from(used) * i128::from(MICRO) * i128::from(ONE - kept);
            // Between the two averages, both of which fit.
            (sum / i128::from(ONE)) as i64
        };
        Self {
            gpu: mix(self.gpu, used.gpu_milli),
            cpu: mix(self.cpu, used.cpu_milli),
            memory: mix(self.memory, used.memory_mib),
        }
    }
}

/// What counts against a share: present use and the average of the past, in millionths.
pub fn charged(used: Amounts, past: Average) -> [i128; 3] {
    let sum = |used: i64, past: i64| i128::from(used) * i128::from(MICRO) + i128::from(past);
    [sum(used.gpu_milli, past.gpu), sum(used.cpu_milli, past.cpu), sum(used.memory_mib, past.memory)]
}

/// 2^(−passed / half-life) × 2^32.
fn power(passed: DurationUs, half_life: DurationUs) -> i64 {
    let (passed, half_life) = (i128::from(passed.0.max(0)), i128::from(half_life.0.max(1)));
    let halvings = passed / half_life;
    if halvings >= 32 {
        return 0;
    }
    let rest = passed % half_life * STEPS;
    let (step, part) = ((rest / half_life) as usize, rest % half_life);
    let (from, to) = (POWERS[step], POWERS[step + 1]);
    let between = i128::from(from) - i128::from(from - to) * part / half_life;
    (between as i64) >> halvings
}

/// Brings the averages of a tenant and of those above it up to date; its use is about to change.
pub fn note(state: &mut State, index: &Index, tenant: &TenantId) {
    let Some(half_life) = state.policy().half_life() else { return };
    let now = state.now();
    let lineage: Vec<TenantId> = state.lineage(tenant).cloned().collect();
    for tenant in lineage {
        let served = served(state, index, &tenant, half_life);
        if state.served.get(&tenant).is_none_or(|known| known.at_us != now) {
            state.served.insert(tenant, served);
        }
    }
}

/// What a tenant has been served by now. Before its use first changed under a half-life, nothing is known of the past.
pub fn served(state: &State, index: &Index, tenant: &TenantId, half_life: DurationUs) -> Served {
    let now = state.now();
    let Some(known) = state.served.get(tenant) else { return Served { at_us: now, ..Served::default() } };
    let passed = now.since(known.at_us);
    let used = |of: &std::collections::BTreeMap<TenantId, Amounts>| of.get(tenant).copied().unwrap_or_default();
    Served {
        at_us: now,
        own: known.own.after(used(&index.tenants), passed, half_life),
        family: known.family.after(used(&index.families), passed, half_life),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use solyx_schemas::units::HOUR_US;

    const DAY: DurationUs = DurationUs(24 * HOUR_US);

    #[test]
    fn a_half_life_halves_and_nothing_is_gained_on_the_way() {
        assert_eq!(power(DurationUs(0), DAY), ONE);
        assert_eq!(power(DAY, DAY), ONE / 2);
        assert_eq!(power(DurationUs(3 * DAY.0), DAY), ONE / 8);
        assert_eq!(power(DurationUs(40 * DAY.0), DAY), 0);
        let powers: Vec<i64> = (0..2_000).map(|n| power(DurationUs(n * DAY.0 / 500), DAY)).collect();
        assert!(powers.windows(2).all(|pair| pair[0] > pair[1]));
    }

    #[test]
    fn in_one_step_or_in_many_the_average_is_the_same_but_for_rounding() {
        let used = Amounts { gpu_milli: 64_000, cpu_milli: 1_000, memory_mib: 4_096 };
        let begun = Average { gpu: 7_000 * MICRO, ..Average::default() };
        let once = begun.after(used, DAY, DAY);
        let mut often = begun;
        for _ in 0..240 {
            often = often.after(used, DurationUs(DAY.0 / 240), DAY);
        }
        assert_eq!(once.gpu, 35_500 * MICRO);
        assert!((once.gpu - often.gpu).abs() < once.gpu / 200, "{once:?} {often:?}");
    }
}
