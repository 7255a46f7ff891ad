//! What a thread worked, whoever else the machine worked for meanwhile.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Processor time of this thread since it began.
pub fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}
