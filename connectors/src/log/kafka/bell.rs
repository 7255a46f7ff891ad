//! Rung when a topic-partition has something new; readers that wait for any of them sleep until then.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

use crate::log::heads::locked;

/// Counts its rings, so that none is missed between looking and sleeping.
#[derive(Default)]
pub(super) struct Bell {
    rings: Mutex<u64>,
    rung: Condvar,
}

impl Bell {
    pub fn ring(&self) {
        *locked(&self.rings) += 1;
        self.rung.notify_all();
    }

    /// How often it rang so far; ask before looking.
    pub fn rings(&self) -> u64 {
        *locked(&self.rings)
    }

    /// Sleeps until it rings again or the deadline comes; false for the latter.
    pub fn wait(&self, heard: u64, deadline: Instant) -> bool {
        let mut rings = locked(&self.rings);
        while *rings == heard {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            rings = self.rung.wait_timeout(rings, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}
