//! `solyx run`: the engine over a world's log, in real or in virtual time.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use solyx_connectors::executor::SimulatedExecutor;
use solyx_connectors::log::kafka::{self, KafkaElection};
use solyx_runtime::{Ending, EngineOptions, Lockstep, Progress, RunEnd, RunOptions, RuntimeError, VirtualOptions};
use solyx_schemas::epochs::ReadError;
use solyx_schemas::events::Event;
use solyx_schemas::ids::{CellId, SourceId};
use solyx_schemas::log::Log;
use solyx_schemas::topics::{Topic, TopicName};
use solyx_schemas::units::{TimeUs, parse_time, rfc3339};

use crate::failure::{Exit, Failure, Outcome, patiently};
use crate::{output, progress, signals, world};

/// Time that it may take to stop once told.
const SHUTDOWN: Duration = Duration::from_secs(10);

/// Run the engine: read, decide, write. Ctrl-C ends it at the next epoch; the same command goes on from there.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  solyx run --log world --virtual --until-idle\n  solyx run --log world\n\n\
                        In virtual time staged events happen at their own time, as fast as the machine allows, and a simulated \
                        executor carries the decisions out.")]
pub struct Run {
    /// Directory of the world.
    #[arg(long, value_name = "DIR")]
    log: PathBuf,
    /// Run through staged events in virtual time, with a simulated executor.
    #[arg(long = "virtual")]
    in_virtual_time: bool,
    /// End once nothing but prices and telemetry is left.
    #[arg(long, requires = "in_virtual_time")]
    until_idle: bool,
    /// The last instant to deal with.
    #[arg(long, value_name = "TIME", requires = "in_virtual_time", value_parser = |text: &str| {
        parse_time(text).ok_or("expected a date or a time as in 2023-09-04 or 2023-09-04T00:00:00Z")
    })]
    until: Option<TimeUs>,
    /// The cell; by default the one the log declares.
    #[arg(long)]
    cell: Option<CellId>,
    /// Name of this engine among those of its cell on Apache Kafka; by default host and process.
    #[arg(long, value_name = "NAME", conflicts_with = "in_virtual_time")]
    instance: Option<String>,
    /// Epochs between snapshots; 50,000 records in fewer epochs ask for one as well.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(i64).range(1..))]
    snapshot_every: i64,
}

/// Runs it.
pub fn run(command: &Run, json: bool) -> Outcome {
    let begun = std::time::Instant::now();
    let stop = signals::stop_within(SHUTDOWN)?;
    let log = patiently(&stop, || world::writer(&command.log, !command.in_virtual_time))?;
    let cell = match &command.cell {
        Some(cell) => cell.clone(),
        None => patiently(&stop, || world::cell_of(&*log))?.ok_or_else(|| {
            Failure::usage(
                "the log declares no cell",
                "no CellDeclared in topic policy",
                "publish a fleet, or name the cell with --cell",
            )
        })?,
    };
    let bar = progress::spinner("epochs:", json);
    let mut tell = |p: &Progress| {
        let role = if command.in_virtual_time || p.leads { "" } else { "following, " };
        bar.set_position(p.epochs + p.followed);
        bar.set_message(format!(
            "{role}{}: {} waiting, {} running, epochs:",
            rfc3339(p.now),
            p.waiting_jobs,
            p.live_runs
        ));
    };
    let mut engine = EngineOptions::new(cell.clone(), Some(command.log.clone()));
    engine.snapshot_every_epochs = command.snapshot_every;
    let end = if command.in_virtual_time {
        let mut options = VirtualOptions::new(engine);
        options.until_idle = command.until_idle;
        options.until = command.until;
        // What was cut goes on from the log as if it had not been.
        patiently(&stop, || {
            let mut executor = SimulatedExecutor::from_log(executor_name(&*log)?, &*log)?;
            let executor: &mut dyn Lockstep = &mut executor;
            solyx_runtime::run_virtual(&*log, Some(executor), &options, &stop, &mut tell).map_err(failure)
        })
    } else {
        let mut options = RunOptions::new(cell, Some(command.log.clone()));
        options.engine = engine;
        options.shutdown = SHUTDOWN;
        match world::cluster(&command.log)? {
            None => solyx_runtime::run(&*log, &options, &stop, &mut tell).map_err(failure),
            Some(cluster) => {
                patiently(&stop, || Ok(kafka::verify(&cluster)?))?;
                let instance = command.instance.clone().unwrap_or_else(instance_name);
                let election = patiently(&stop, || Ok(KafkaElection::begin(&cluster, &instance)?))?;
                solyx_runtime::run_elected(&*log, &options, &election, &stop, &mut tell).map_err(failure)
            }
        }
    };
    bar.finish_and_clear();
    report(&end?, begun.elapsed(), json);
    Ok(Exit::Good)
}

/// Host and process.
fn instance_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_else(|_| "engine".to_owned());
    format!("{}-{}", host.trim(), std::process::id())
}

/// The executor that the scripts are for.
pub fn executor_name(log: &dyn Log) -> Result<SourceId, Failure> {
    let mut name = None;
    world::events_of(log, TopicName::live(Topic::Sim), |event| {
        if let Event::ExecutorScripted(script) = event {
            name.get_or_insert(script.executor);
        }
    })?;
    Ok(name.unwrap_or_else(|| "simulated".into()))
}

fn report(end: &RunEnd, elapsed: Duration, json: bool) {
    let ending = match end.ending {
        Ending::Idle => "idle",
        Ending::Exhausted => "exhausted",
        Ending::Until => "until",
        Ending::Stopped => "stopped",
    };
    let p = &end.progress;
    if json {
        output::json(&json!({
            "ending": ending, "epochs": p.epochs, "events": p.events, "now_us": p.now, "waiting_jobs": p.waiting_jobs,
            "live_runs": p.live_runs, "staged": p.lag_records, "next_epoch": end.next_epoch, "chain_head": end.chain_head,
            "elapsed_ms": elapsed.as_millis() as u64,
        }));
        return;
    }
    output::line(format!(
        "{ending} at {}: {} epochs, {} events in {:.1} s; {} jobs wait, {} run, {} records are left",
        rfc3339(p.now),
        output::grouped(p.epochs),
        output::grouped(p.events),
        elapsed.as_secs_f64(),
        output::grouped(p.waiting_jobs as u64),
        output::grouped(p.live_runs as u64),
        output::grouped(p.lag_records),
    ));
    output::line(format!("chain head {}", end.chain_head));
}

/// What of the runtime's errors somebody else has to mend.
pub fn failure(error: RuntimeError) -> Failure {
    match error {
        RuntimeError::Log(e) | RuntimeError::Read(ReadError::Log(e)) => e.into(),
        RuntimeError::Diverged(_) => {
            Failure::finding("the engine stopped", error, "solyx audit shows the first difference")
        }
        RuntimeError::Cell { .. } => Failure::usage("the engine stopped", error, "leave --cell out to take the log's"),
        other => Failure::environment("the engine stopped", other, "what was committed stays; run it again after that"),
    }
}
