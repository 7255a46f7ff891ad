//! How long jobs waited and took: percentiles that are a job's own time, and counts by bounds.

use serde::Serialize;
use solyx_schemas::units::{DurationUs, SECOND_US};

const MINUTE_US: i64 = 60 * SECOND_US;

/// Upper bounds of the counts in [`Waiting::counts`], µs; one more count is of all above the last.
pub const WAITING_BOUNDS_US: [i64; 9] = [
    SECOND_US,
    MINUTE_US,
    5 * MINUTE_US,
    15 * MINUTE_US,
    60 * MINUTE_US,
    2 * 60 * MINUTE_US,
    6 * 60 * MINUTE_US,
    12 * 60 * MINUTE_US,
    24 * 60 * MINUTE_US,
];

/// Waiting times of the jobs that got a place.
///
/// A job waits from its admission, or from its not-before when that is later, to its first placement. What follows a
/// preemption or a failure is not in it, nor are jobs that have not been placed yet: `unplaced` counts those. A percentile
/// is the smallest waiting time that at least so many of a hundred jobs do not exceed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// Jobs that got a place.
    pub placed: usize,
    /// Jobs that are admitted and have not got one yet.
    pub unplaced: usize,
    /// The mean, rounded down.
    pub mean_us: DurationUs,
    /// Half of the placed jobs waited no longer.
    pub p50_us: DurationUs,
    /// Nineteen of twenty waited no longer.
    pub p95_us: DurationUs,
    /// Ninety-nine of a hundred waited no longer.
    pub p99_us: DurationUs,
    /// The longest.
    pub max_us: DurationUs,
    /// All of them together.
    pub total_us: DurationUs,
    /// Jobs that waited no longer than each bound of [`WAITING_BOUNDS_US`] and longer than the one before; last, the rest.
    pub counts: Vec<usize>,
}

/// Times from request to end of the jobs that finished, with whatever they waited, lost and did again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Completion {
    /// Jobs that finished.
    pub finished: usize,
    /// The mean, rounded down.
    pub mean_us: DurationUs,
    /// Half took no longer.
    pub p50_us: DurationUs,
    /// Nineteen of twenty took no longer.
    pub p95_us: DurationUs,
    /// Ninety-nine of a hundred took no longer.
    pub p99_us: DurationUs,
    /// The longest.
    pub max_us: DurationUs,
}

impl Completion {
    /// Of these times, in any order.
    pub fn of(mut times_us: Vec<i64>) -> Self {
        times_us.sort_unstable();
        Self {
            finished: times_us.len(),
            mean_us: mean(&times_us),
            p50_us: percentile(&times_us, 50),
            p95_us: percentile(&times_us, 95),
            p99_us: percentile(&times_us, 99),
            max_us: percentile(&times_us, 100),
        }
    }
}

impl Waiting {
    /// Of these waiting times, in any order.
    pub fn of(mut times_us: Vec<i64>, unplaced: usize) -> Self {
        times_us.sort_unstable();
        let mut counts = vec![0; WAITING_BOUNDS_US.len() + 1];
        for time in &times_us {
            counts[WAITING_BOUNDS_US.partition_point(|bound| bound < time)] += 1;
        }
        Self {
            placed: times_us.len(),
            unplaced,
            mean_us: mean(&times_us),
            p50_us: percentile(&times_us, 50),
            p95_us: percentile(&times_us, 95),
            p99_us: percentile(&times_us, 99),
            max_us: percentile(&times_us, 100),
            total_us: DurationUs(times_us.iter().sum()),
            counts,
        }
    }
}

fn mean(times_us: &[i64]) -> DurationUs {
    let sum: i128 = times_us.iter().map(|time| i128::from(*time)).sum();
    DurationUs((sum / times_us.len().max(1) as i128) as i64)
}

/// The nearest rank of sorted times.
fn percentile(sorted: &[i64], of_100: usize) -> DurationUs {
    let rank = (sorted.len() * of_100).div_ceil(100);
    DurationUs(sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_waiting_time_of_a_job() {
        let times: Vec<i64> = (1..=20).map(|minute| minute * MINUTE_US).collect();
        let waiting = Waiting::of(times, 3);
        assert_eq!((waiting.placed, waiting.unplaced), (20, 3));
        assert_eq!(waiting.p50_us.0, 10 * MINUTE_US);
        assert_eq!(waiting.p95_us.0, 19 * MINUTE_US);
        assert_eq!(waiting.p99_us.0, 20 * MINUTE_US);
        assert_eq!(waiting.mean_us.0, 10 * MINUTE_US + 30 * SECOND_US);
        assert_eq!(waiting.max_us.0, 20 * MINUTE_US);
        assert_eq!(waiting.counts, [0, 1, 4, 10, 5, 0, 0, 0, 0, 0]);
        assert_eq!(Waiting::of(Vec::new(), 0).p95_us.0, 0);
    }
}
