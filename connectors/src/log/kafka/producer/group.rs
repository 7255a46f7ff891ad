//! The transaction that is open: what was sent in it, and when it has grown so large that it ends.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::ordinals::Place;

/// When transactions end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// With each append.
    Each,
    /// With one of many appends: what is not committed yet is lost with the process, as a whole. For writers that nobody waits for
    /// and that find out from the log how far they came.
    Many,
}

/// Appends, records, bytes and time of one transaction of many appends.
const APPENDS: usize = 1_000;
const RECORDS: usize = 20_000;
const BYTES: usize = 16 << 20;
const TIME: Duration = Duration::from_millis(500);

/// A transaction that is open.
pub(super) struct Open {
    since: Instant,
    pub appends: usize,
    pub bytes: usize,
    pub sent: Vec<Sent>,
}

/// Where a record was sent to, and the offset that it must get for the ordinals told to be true.
pub(super) struct Sent {
    pub place: Place,
    pub expected: Option<i64>,
}

impl Open {
    pub fn new() -> Self {
        Self { since: Instant::now(), appends: 0, bytes: 0, sent: Vec::new() }
    }

    pub fn is_full(&self) -> bool {
        self.appends >= APPENDS || self.sent.len() >= RECORDS || self.bytes >= BYTES || self.since.elapsed() >= TIME
    }

    /// Every topic-partition that it wrote to.
    pub fn places(&self) -> BTreeSet<Place> {
        self.sent.iter().map(|sent| sent.place).collect()
    }
}
