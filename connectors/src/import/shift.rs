//! Where a trace lies in time: moved in whole weeks, and cut to a window.

use solyx_schemas::units::{DAY_US, TimeUs};

use super::Options;

/// The day on which traces without dates begin: a Monday for which prices and carbon are at hand.
pub const DEFAULT_START: TimeUs = TimeUs(1_693_785_600_000_000);

/// The instant at which a trace without dates begins.
pub fn start(options: &Options) -> TimeUs {
    options.shift_to.map_or(DEFAULT_START, midnight)
}

/// Midnight UTC of a day.
pub fn midnight(day: chrono::NaiveDate) -> TimeUs {
    TimeUs(day.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_micros())
}

/// Moves the times of a dated trace: its first row's day lands on the wanted day, or, so that weekdays stay what they
/// were, on the first day after it that is whole weeks away.
#[derive(Clone, Copy, Debug)]
pub struct Shift {
    target: Option<TimeUs>,
    offset_us: Option<i64>,
    from: TimeUs,
    to: TimeUs,
}

impl Shift {
    /// The shift and window of some options.
    pub fn new(options: &Options) -> Self {
        let from = options.from.unwrap_or(TimeUs::ZERO);
        let to = options.to.unwrap_or(TimeUs(i64::MAX));
        Self { target: options.shift_to.map(midnight), offset_us: None, from, to }
    }

    /// Where an instant of the trace lies. The first one asked for decides how far all are moved.
    pub fn apply(&mut self, time: TimeUs) -> TimeUs {
        let offset = *self.offset_us.get_or_insert_with(|| {
            let first_day = time.0.div_euclid(DAY_US);
            let days = self.target.map_or(0, |target| target.0.div_euclid(DAY_US) - first_day);
            (days + 6).div_euclid(7) * 7 * DAY_US
        });
        TimeUs(time.0.saturating_add(offset))
    }

    /// Whether an instant, after the move, lies in the window.
    pub fn wants(&self, time: TimeUs) -> bool {
        self.from <= time && time < self.to
    }
}

#[cfg(test)]
mod tests {
    use solyx_schemas::units::{parse_time, rfc3339};

    use super::*;

    fn shifted(first: &str, target: &str) -> String {
        let day = chrono::NaiveDate::parse_from_str(target, "%Y-%m-%d").ok();
        let mut shift = Shift::new(&Options { shift_to: day, ..Options::default() });
        rfc3339(shift.apply(parse_time(first).expect("a time")))
    }

    #[test]
    fn a_monday_lands_on_a_monday_at_the_same_hour() {
        assert_eq!(shifted("2017-09-04T10:30:41Z", "2023-09-04"), "2023-09-04T10:30:41Z");
        assert_eq!(shifted("2023-09-04T10:30:41Z", "2017-09-04"), "2017-09-04T10:30:41Z");
    }

    #[test]
    fn another_weekday_lands_on_the_first_fitting_day_after() {
        assert_eq!(shifted("2017-09-06T01:00:00Z", "2023-09-04"), "2023-09-06T01:00:00Z");
        assert_eq!(shifted("2017-09-04T01:00:00Z", "2023-09-05"), "2023-09-11T01:00:00Z");
    }

    #[test]
    fn without_a_target_nothing_moves() {
        let mut shift = Shift::new(&Options::default());
        assert_eq!(shift.apply(TimeUs(5)), TimeUs(5));
        assert!(shift.wants(TimeUs(5)));
    }
}
