//! The jobs of the Philly trace, as a queue sees them.

use std::path::Path;

use chrono::NaiveDateTime;

use super::BacktestError;
use super::table::rows;

/// A job of the trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceJob {
    /// Its row in the file, from 1.
    pub number: u64,
    /// When it was submitted, s UTC.
    pub submitted_s: i64,
    /// How long it ran, s.
    pub work_s: i64,
    /// GPUs.
    pub gpus: i64,
    /// Its virtual cluster.
    pub tenant: String,
}

/// All jobs, by time of submission.
pub fn jobs(path: &Path) -> Result<Vec<TraceJob>, BacktestError> {
    let number = std::cell::Cell::new(0);
    let mut jobs = rows(path, |row| {
        number.set(number.get() + 1);
        let seconds = |text: &str| text.parse::<f64>().ok().filter(|s| (0.0..1e10).contains(s)).map(|s| s as i64);
        Ok(TraceJob {
            number: number.get(),
            submitted_s: row.read("timestamp", "a time like 2017-09-04 10:30:41", |text| {
                Some(NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S").ok()?.and_utc().timestamp())
            })?,
            work_s: row.read("duration", "seconds", seconds)?.max(1),
            gpus: row.count("num_gpus")?.max(1),
            tenant: row.text("cluster")?.to_owned(),
        })
    })?;
    jobs.sort_by_key(|job| (job.submitted_s, job.number));
    Ok(jobs)
}
