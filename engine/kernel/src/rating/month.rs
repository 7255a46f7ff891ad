//! Calendar months UTC, without a clock and without a calendar library.
//!
//! Days and dates convert as in H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil` and
//! `civil_from_days`, for the proleptic Gregorian calendar.

use serde::{Deserialize, Serialize};
use solyx_schemas::units::{DAY_US, TimeUs};

/// A calendar month, counted from January of year 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Month(i32);

impl Month {
    /// The month of an instant.
    pub fn of(time: TimeUs) -> Self {
        let days = time.0.div_euclid(DAY_US) + 719_468;
        let era = days.div_euclid(146_097);
        let day_of_era = days.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        Self((year * 12 + month - 1) as i32)
    }

    /// Year and month from 1 to 12.
    pub fn year_month(self) -> (i32, i32) {
        (self.0.div_euclid(12), self.0.rem_euclid(12) + 1)
    }

    /// Its first instant.
    pub fn start(self) -> TimeUs {
        let (year, month) = self.year_month();
        let year = i64::from(year) - i64::from(month <= 2);
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let shifted = (i64::from(month) + 9) % 12;
        let day_of_year = (153 * shifted + 2) / 5;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        TimeUs((era * 146_097 + day_of_era - 719_468) * DAY_US)
    }

    /// Its end, which is the next one's first instant.
    pub fn end(self) -> TimeUs {
        self.next().start()
    }

    /// The month after.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The month of text such as `2023-09`.
    pub fn parse(text: &str) -> Option<Self> {
        let (year, month) = text.split_once('-')?;
        let digits = |t: &str, len: usize| t.len() == len && t.bytes().all(|b| b.is_ascii_digit());
        if !digits(year, 4) || !digits(month, 2) {
            return None;
        }
        let (year, month): (i32, i32) = (year.parse().ok()?, month.parse().ok()?);
        (1..=12).contains(&month).then_some(Self(year * 12 + month - 1))
    }
}

impl std::fmt::Display for Month {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (year, month) = self.year_month();
        f.pad(&format!("{year:04}-{month:02}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use solyx_schemas::units::{TIME_MAX_US, parse_time, rfc3339};

    use super::*;

    #[test]
    fn months_begin_and_end_where_the_calendar_says() {
        let month = Month::of(parse_time("2024-02-29T23:59:59Z").unwrap());
        assert_eq!(month.to_string(), "2024-02");
        assert_eq!(rfc3339(month.start()), "2024-02-01T00:00:00Z");
        assert_eq!(rfc3339(month.end()), "2024-03-01T00:00:00Z");
        assert_eq!(Month::of(TimeUs(0)).to_string(), "1970-01");
        assert_eq!(Month::parse("2024-02"), Some(month));
        for wrong in ["2024-13", "2024-00", "24-01", "2024-1", "2024/01", "+024-01"] {
            assert_eq!(Month::parse(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_month_is_the_one_its_text_in_rfc_3339_begins_with(us in 0..TIME_MAX_US) {
            let month = Month::of(TimeUs(us));
            prop_assert!(rfc3339(TimeUs(us)).starts_with(&month.to_string()));
            prop_assert!(month.start().0 <= us && us < month.end().0);
        }
    }
}
