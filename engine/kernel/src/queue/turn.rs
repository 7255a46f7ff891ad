//! Whose turn it is in a line.

use solyx_schemas::epochs::Position;
use solyx_schemas::units::TimeUs;

use crate::rows::Arrival;

/// A job's turn among those of its tenant and class: who is owed recovery after a loss, the most urgent first, before all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn {
    /// Of who is owed recovery the instant, counted from the least number on; of others the rank by the order rule, above those. A
    /// million jobs have it several times.
    key: i64,
    /// When it came.
    arrival: Arrival,
}

/// The last instant, µs, by which anybody is owed recovery.
const OWED_MAX_US: i64 = 1 << 60;

impl Turn {
    /// Before every other.
    pub(super) const FIRST: Self = Self {
        key: i64::MIN,
        arrival: Arrival { epoch: i64::MIN, position: Position { topic: 0, partition: 0, ordinal: 0 } },
    };

    /// Of a job that came so, with its rank by the order rule, of which less goes first, and by when it is owed to run again if it is.
    pub fn new(recover_by: Option<TimeUs>, rank: i64, arrival: Arrival) -> Self {
        let key = match recover_by {
            Some(by) => i64::MIN + by.0.clamp(0, OWED_MAX_US),
            None => rank.max(i64::MIN + OWED_MAX_US + 1),
        };
        Self { key, arrival }
    }

    /// By when it is owed to run again; of others the end of time.
    pub fn recover_by(&self) -> TimeUs {
        if self.is_owed() { TimeUs(self.key - i64::MIN) } else { TimeUs(i64::MAX) }
    }

    /// Whether it is owed to run again by some instant.
    pub fn is_owed(&self) -> bool {
        self.key <= i64::MIN + OWED_MAX_US
    }

    /// Its rank by the order rule, unless it is owed recovery.
    pub fn rank(&self) -> Option<i64> {
        (!self.is_owed()).then_some(self.key)
    }
}
