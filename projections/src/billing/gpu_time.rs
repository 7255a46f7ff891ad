//! Where each microsecond of each thousandth of a GPU went, from placing to release.
//!
//! A run's time falls into: start delay, from placing to the start its executor reports; running, to its reported end; and
//! report delay, until the engine released it. Of running, what meters cover and somebody pays is billed, what they cover and
//! no card prices is house use, and what they do not cover is draining after an order to stop, otherwise not metered. Meters
//! that count more or less than the time they cover are executor skew, with its sign. Of a run that was given up, the time
//! after its last metered interval is lost.

use solyx_kernel::rating::{Fraction, RatingError};
use solyx_schemas::events::usage::Meter;
use solyx_schemas::units::{GPU_MILLI_US_PER_GPU_HOUR, TimeUs};

use super::Billing;
use super::invoice::six_digits;
use super::rows::*;
use super::view::{GpuTimeView, UnbilledView};

/// GPU time by where it went; thousandths of a GPU × µs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Split {
    pub allocated: i128,
    pub billed: Fraction,
    pub start_delay: i128,
    pub draining: i128,
    pub report_delay: i128,
    pub executor_skew: i128,
    pub lost_run: i128,
    pub not_metered: i128,
    pub house_use: Fraction,
}

impl Default for Split {
    fn default() -> Self {
        Self {
            allocated: 0,
            billed: Fraction::ZERO,
            start_delay: 0,
            draining: 0,
            report_delay: 0,
            executor_skew: 0,
            lost_run: 0,
            not_metered: 0,
            house_use: Fraction::ZERO,
        }
    }
}

const WHAT: &str = "GPU time";

/// Where the time of one run went until `now`.
pub(super) fn split_run(run: &RunRow, now: TimeUs) -> Result<Split, RatingError> {
    let milli = i128::from(run.gpu_milli);
    let time = |from: TimeUs, to: TimeUs| milli * i128::from((to.0 - from.0).max(0));
    let placed = run.placed_us;
    let released = run.released_us.unwrap_or(now).max(placed);
    let lost = run.outcome == Outcome::Lost && run.ended_us.is_none();
    // A run that nobody reported on any more is thought to have run as long as meters saw it.
    let end = match run.ended_us {
        Some(ended) => ended,
        None if lost => run.metered_to_us.max(run.started_us.unwrap_or(placed)),
        None => released,
    };
    let end = end.clamp(placed, released);
    let never_started = if lost { placed } else { end };
    let start = run.started_us.unwrap_or(never_started).clamp(placed, end);
    let running = time(start, end);
    let uncovered = (running - run.covered).max(0);
    let drained = run.stop_ordered_us.map_or(0, |ordered| time(ordered.clamp(start, end), end)).min(uncovered);
    let after = time(end, released);
    let billed = run.billed.total()?;
    Ok(Split {
        allocated: time(placed, released),
        billed,
        start_delay: time(placed, start),
        draining: drained,
        report_delay: if lost { 0 } else { after },
        executor_skew: (running - run.covered).min(0) + run.covered - run.metered,
        lost_run: if lost { after } else { 0 },
        not_metered: uncovered - drained,
        house_use: Fraction::whole(run.metered).minus(billed, WHAT)?,
    })
}

impl Split {
    /// Everything allocated and not billed.
    fn unbilled(&self) -> Result<Fraction, RatingError> {
        let whole = self.start_delay
            + self.draining
            + self.report_delay
            + self.executor_skew
            + self.lost_run
            + self.not_metered;
        Fraction::whole(whole).plus(self.house_use, WHAT)
    }

    fn add(&mut self, other: &Self) -> Result<(), RatingError> {
        self.allocated += other.allocated;
        self.billed = self.billed.plus(other.billed, WHAT)?;
        self.start_delay += other.start_delay;
        self.draining += other.draining;
        self.report_delay += other.report_delay;
        self.executor_skew += other.executor_skew;
        self.lost_run += other.lost_run;
        self.not_metered += other.not_metered;
        self.house_use = self.house_use.plus(other.house_use, WHAT)?;
        Ok(())
    }
}

impl Billing {
    /// The split over all runs, and GPU time on lines: paid, and not.
    fn gpu_time_split(&self) -> Result<(Split, Fraction, Fraction), RatingError> {
        let now = self.meta().now_us;
        let mut split = Split::default();
        for (_, run) in self.tables.runs.iter() {
            split.add(&split_run(run, now)?)?;
        }
        let (mut paid, mut house) = (Fraction::ZERO, Fraction::ZERO);
        let of_runs = |key: &LineKey| key.meter == Meter::GpuTime && key.pool.as_str() != super::usage::NO_POOL;
        for (key, row) in self.tables.lines.iter().filter(|(key, _)| of_runs(key)) {
            let side = if key.price == LinePrice::Nothing { &mut house } else { &mut paid };
            *side = side.plus(row.quantity.total()?, WHAT)?;
        }
        Ok((split, paid, house))
    }

    /// See [`GpuTimeView`].
    pub(super) fn gpu_time(&self) -> Result<GpuTimeView, RatingError> {
        let by_clock = self.meta().held_by_clock;
        let (split, paid, house) = self.gpu_time_split()?;
        let accounted = paid.plus(split.unbilled()?, WHAT)?;
        let conserved = accounted == Fraction::whole(split.allocated)
            && split.allocated == by_clock
            && paid == split.billed
            && house == split.house_use;
        let hours = |value| six_digits(value, GPU_MILLI_US_PER_GPU_HOUR).unwrap_or_default();
        Ok(GpuTimeView {
            allocated: split.allocated.to_string(),
            allocated_by_clock: by_clock.to_string(),
            billed: shown(paid),
            unbilled: UnbilledView {
                start_delay: split.start_delay.to_string(),
                draining: split.draining.to_string(),
                report_delay: split.report_delay.to_string(),
                executor_skew: split.executor_skew.to_string(),
                lost_run: split.lost_run.to_string(),
                not_metered: split.not_metered.to_string(),
                house_use: shown(split.house_use),
            },
            conserved,
            allocated_gpu_hours: hours(Fraction::whole(split.allocated)),
            billed_gpu_hours: hours(paid),
        })
    }
}

/// A whole number as it is, another as a fraction.
fn shown(value: Fraction) -> String {
    match value.denominator() {
        1 => value.numerator().to_string(),
        denominator => format!("{}/{denominator}", value.numerator()),
    }
}
