//! SIGINT and SIGTERM: the work ends by itself, or is ended when its deadline has passed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::failure::{Exit, Failure};

/// A flag that these signals set. Whoever has not ended within `deadline` after that is ended here: what was committed stays,
/// and what was not is as if it had never been.
pub fn stop_within(deadline: Duration) -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))
            .map_err(|e| Failure::environment("cannot listen for signals", e, "run it in another environment"))?;
    }
    let watched = Arc::clone(&stop);
    let watch = move || {
        let mut told = None;
        loop {
            std::thread::sleep(Duration::from_millis(50));
            if !watched.load(Ordering::Relaxed) {
                continue;
            }
            let told: &mut Instant = told.get_or_insert_with(Instant::now);
            if told.elapsed() >= deadline {
                Failure::environment(
                    "stopped at the deadline",
                    format!("the work did not end by itself within {} s", deadline.as_secs()),
                    "nothing that was committed is lost; start it again",
                )
                .report(false);
                std::process::exit(Exit::Environment as i32);
            }
        }
    };
    std::thread::Builder::new()
        .name("deadline".to_owned())
        .spawn(watch)
        .map_err(|e| Failure::environment("no thread to watch the deadline", e, "free memory or threads"))?;
    Ok(stop)
}
