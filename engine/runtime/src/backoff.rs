//! Pauses before what failed in passing is tried again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The first pause, and the longest that it grows to.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Longest sleep before the order to stop is looked at again.
const POLL: Duration = Duration::from_millis(20);

/// Pauses that double, and that an order to stop ends.
pub struct Backoff<'s> {
    stop: &'s AtomicBool,
    pause: Duration,
}

impl<'s> Backoff<'s> {
    /// Begins with the shortest.
    pub fn new(stop: &'s AtomicBool) -> Self {
        Self { stop, pause: PAUSE_MIN }
    }

    /// The next pause, ms.
    pub fn pause_ms(&self) -> u64 {
        self.pause.as_millis() as u64
    }

    /// Something went well since: the next pause is the shortest again.
    pub fn reset(&mut self) {
        self.pause = PAUSE_MIN;
    }

    /// Sleeps through the next pause, or until the order to stop.
    pub fn sleep(&mut self) {
        let end = Instant::now() + self.pause;
        while !self.stop.load(Ordering::Relaxed) && Instant::now() < end {
            std::thread::sleep(POLL);
        }
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_begin_again() {
        let stop = AtomicBool::new(true);
        let mut backoff = Backoff::new(&stop);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            pauses.push(backoff.pause_ms());
            backoff.sleep();
        }
        assert_eq!(pauses, [200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
        backoff.reset();
        assert_eq!(backoff.pause_ms(), 200);
    }
}
