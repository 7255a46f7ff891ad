//! `solyx generate`: a world from a seed, for tests, benchmarks and first steps.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use solyx_connectors::generate::{SEED_MAX, Size, generate, publish};
use solyx_connectors::import::{ImportError, Summary};
use solyx_schemas::json::to_json;

use crate::failure::{Exit, Failure, Outcome};
use crate::{output, progress, world};

/// Generate a world from a seed: everything the contract can say, and the scripts of its simulated executor.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  solyx generate --seed 7 --jobs 1000 --log world && solyx run --log world --virtual --until-idle\n  \
                  solyx generate --seed 7 --jobs 10 --out world.jsonl && solyx events validate world.jsonl"
)]
pub struct Generate {
    /// Seed of every draw: the same seed and size give the same events on any machine.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u64).range(..=SEED_MAX))]
    seed: u64,
    /// Jobs that are asked for.
    #[arg(long, default_value_t = 1_000)]
    jobs: u32,
    /// Nodes of owned and reserved pools, eight GPUs each.
    #[arg(long, default_value_t = 48, value_parser = clap::value_parser!(u32).range(4..=100_000))]
    nodes: u32,
    /// Days over which jobs come.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=366))]
    days: u32,
    #[command(flatten)]
    to: Target,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Target {
    /// Stage it for a virtual run of the world in this directory.
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
    /// Write it as JSON lines in order of time; `-` is stdout.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Runs it.
pub fn run(command: &Generate, json: bool) -> Outcome {
    let Generate { seed, jobs, nodes, days, to } = command;
    let size = Size { jobs: *jobs, nodes: *nodes, days: *days };
    let events = match (&to.log, &to.out) {
        (Some(dir), _) => staged(*seed, size, dir, json)?,
        (None, Some(file)) => lines(*seed, size, file)?,
        (None, None) => return Err(Failure::usage("nowhere to put it", "expected --log or --out", "see --help")),
    };
    let target = match (&to.log, &to.out) {
        (Some(dir), _) => format!("--log {}", dir.display()),
        (None, file) => format!("--out {}", file.as_deref().unwrap_or(Path::new("-")).display()),
    };
    let again = format!("solyx generate --seed {seed} --jobs {jobs} --nodes {nodes} --days {days} {target}");
    let to_stdout = to.out.as_deref() == Some(Path::new("-"));
    let told = json!({"seed": seed, "jobs": jobs, "nodes": nodes, "days": days, "events": events, "command": again});
    let text = format!("seed {seed}: {} events\nagain: {again}", output::grouped(events));
    match (to_stdout, json) {
        // The events have stdout for themselves.
        (true, true) => eprintln!("{told}"),
        (true, false) => eprintln!("{text}"),
        (false, true) => output::json(&told),
        (false, false) => output::line(text),
    }
    Ok(Exit::Good)
}

fn staged(seed: u64, size: Size, dir: &Path, json: bool) -> Result<u64, Failure> {
    let log = world::writer(dir, false)?;
    let bar = progress::spinner("events generated:", json);
    let summary = publish(seed, size, &*log, &mut |so_far: &Summary| bar.set_position(so_far.events));
    bar.finish_and_clear();
    let summary = summary.map_err(|error| match error {
        ImportError::Log(error) => error.into(),
        other => Failure::environment("the world was not written", other, "look at the directory and the disk"),
    })?;
    Ok(summary.events)
}

fn lines(seed: u64, size: Size, file: &Path) -> Result<u64, Failure> {
    let failed = |e: std::io::Error| {
        Failure::environment(
            format!("cannot write {}", file.display()),
            e,
            "check the path, the permissions and the disk",
        )
    };
    let out: Box<dyn Write> = match file == Path::new("-") {
        true => Box::new(std::io::stdout().lock()),
        false => Box::new(std::fs::File::create(file).map_err(failed)?),
    };
    let mut out = BufWriter::new(out);
    let events = generate(seed, size);
    for event in &events {
        match writeln!(out, "{}", to_json(event)) {
            // A reader who has seen enough.
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => return Ok(events.len() as u64),
            written => written.map_err(failed)?,
        }
    }
    out.flush().map_err(failed)?;
    Ok(events.len() as u64)
}
