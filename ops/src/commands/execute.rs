//! `solyx execute`: the simulated executor in real time.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use solyx_connectors::executor::SimulatedExecutor;
use solyx_runtime::{Progress, execute, live::system_clock_us};
use solyx_schemas::units::rfc3339;

use super::run::{executor_name, failure};
use crate::failure::{Exit, Outcome, patiently};
use crate::{output, progress, signals, world};

/// Time that it may take to stop once told.
const SHUTDOWN: Duration = Duration::from_secs(10);

/// Carry out decisions in real time, in a world made of scripts, and report what real executors would. One of a name
/// works at a time; the same command goes on where it stopped.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  solyx execute --log world\n  solyx execute --log world --executor west")]
pub struct Execute {
    /// Directory of the world.
    #[arg(long, value_name = "DIR")]
    log: PathBuf,
    /// Name of the executor; by default the one that the log's scripts are for.
    #[arg(long, value_name = "NAME")]
    executor: Option<String>,
}

/// Runs it.
pub fn run(command: &Execute, json: bool) -> Outcome {
    let stop = signals::stop_within(SHUTDOWN)?;
    let log = patiently(&stop, || world::writer(&command.log, true))?;
    let bar = progress::spinner("reports:", json);
    let mut tell = |p: &Progress| {
        bar.set_position(p.events);
        bar.set_message(format!("{}: {} running, reports:", rfc3339(p.now), p.live_runs));
    };
    let done = patiently(&stop, || {
        let name = match &command.executor {
            Some(name) => name.as_str().into(),
            None => executor_name(&*log)?,
        };
        let mut executor = SimulatedExecutor::from_log(name, &*log)?;
        execute::execute(&*log, &mut executor, system_clock_us, &stop, &mut tell).map_err(failure)
    })?;
    bar.finish_and_clear();
    if json {
        output::json(&json!({"epochs": done.followed, "reports": done.events, "live_runs": done.live_runs}));
    } else {
        output::line(format!(
            "{} epochs, {} reports, {} runs go on",
            output::grouped(done.followed),
            output::grouped(done.events),
            output::grouped(done.live_runs as u64)
        ));
    }
    Ok(Exit::Good)
}
