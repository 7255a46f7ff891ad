//! The jobs of the Philly trace, as a queue sees them.

use std::path::Path;

use chrono::NaiveDateTime;

use super::BacktestError;
use super::table::rows;

/// The most GPUs of a job.
const GPUS_MAX: i64 = 4_096;
/// Room for what is put before a tenant's id.
const TENANT_LENGTH_MAX: usize = 120;

fn tenant(text: &str) -> Option<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._:/-".contains(c);
    let is_id = (1..=TENANT_LENGTH_MAX).contains(&text.len()) && text.chars().all(is_plain);
    is_id.then(|| text.to_owned())
}

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
            gpus: row.read("num_gpus", "a whole number from 1 to 4096", |text| {
                text.parse().ok().filter(|gpus| (1..=GPUS_MAX).contains(gpus))
            })?,
            tenant: row.read("cluster", "an id: 1 to 120 characters from A-Z a-z 0-9 . _ : / -", tenant)?,
        })
    })?;
    jobs.sort_by_key(|job| (job.submitted_s, job.number));
    Ok(jobs)
}
