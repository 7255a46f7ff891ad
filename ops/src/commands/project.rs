//! `solyx project`: keeps the views of a world up to date while its engine runs.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use solyx_projections::billing::Billing;
use solyx_projections::dcim::Dcim;
use solyx_projections::failover::Failover;
use solyx_projections::fold::Fold;
use solyx_projections::jobs::Jobs;
use solyx_runtime::Backoff;

use super::view::{Which, up_to_date};
use crate::failure::{Exit, Failure, Outcome};
use crate::world::{LogEpochs, unreadable_history};
use crate::{output, progress, signals, world};

/// Time that it may take to stop once told.
const SHUTDOWN: Duration = Duration::from_secs(10);
/// Longest wait for the next epoch.
const POLL: Duration = Duration::from_millis(100);
/// One that went on for so long before it failed is tried again at once.
const WENT_WELL: Duration = Duration::from_secs(10);

/// Keep views up to date until told to stop. Any number of instances may do so, each in a directory of its own: each reads
/// everything, and `solyx view --kept` reads beside it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  solyx project --log world\n  solyx project billing dcim --log world\n  \
                        solyx view billing --kept --log world")]
pub struct Project {
    /// The views; by default all.
    views: Vec<Which>,
    /// Directory of the world.
    #[arg(long, value_name = "DIR")]
    log: PathBuf,
}

/// How far a view has come.
struct Told {
    view: &'static str,
    next_epoch: i64,
}

/// Runs it.
pub fn run(command: &Project, json: bool) -> Outcome {
    let stop = signals::stop_within(SHUTDOWN)?;
    let views = match &command.views[..] {
        [] => vec![Which::Billing, Which::Dcim, Which::Failover, Which::Jobs],
        views => views.to_vec(),
    };
    let (sender, told) = mpsc::channel();
    let begin = |which: Which| {
        let (dir, stop, sender) = (command.log.clone(), Arc::clone(&stop), sender.clone());
        std::thread::spawn(move || {
            let ended = match which {
                Which::Billing => keep::<Billing>(&dir, "billing", &stop, &sender),
                Which::Dcim => keep::<Dcim>(&dir, "dcim", &stop, &sender),
                Which::Failover => keep::<Failover>(&dir, "failover", &stop, &sender),
                Which::Jobs => keep::<Jobs>(&dir, "jobs", &stop, &sender),
            };
            // One that cannot go on ends them all.
            stop.store(true, Ordering::Relaxed);
            ended
        })
    };
    let threads: Vec<_> = views.into_iter().map(begin).collect();
    drop(sender);
    let bar = progress::spinner("epochs:", json);
    let mut epochs = std::collections::BTreeMap::new();
    for Told { view, next_epoch } in told {
        epochs.insert(view, next_epoch);
        bar.set_position(epochs.values().min().copied().unwrap_or(0).unsigned_abs());
    }
    bar.finish_and_clear();
    for thread in threads {
        let died = |_| Failure::environment("a view's thread died", "its message is above", "report this");
        thread.join().map_err(died)??;
    }
    if json {
        output::json(&json!({"next_epoch": epochs}));
    } else {
        for (view, next_epoch) in &epochs {
            output::line(format!("{view}: up to epoch {}", output::grouped(*next_epoch)));
        }
    }
    Ok(Exit::Good)
}

/// Keeps one view up to date; a log that is away is waited for.
fn keep<F: Fold + Default>(
    dir: &std::path::Path,
    view: &'static str,
    stop: &AtomicBool,
    told: &mpsc::Sender<Told>,
) -> Result<(), Failure> {
    let mut backoff = Backoff::new(stop);
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        match follow::<F>(dir, view, stop, told) {
            Ok(()) => return Ok(()),
            Err(failure) if failure.exit == Exit::Environment => {
                tracing::warn!(
                    view,
                    what = failure.what,
                    detail = failure.detail,
                    "the view is read on from where it is kept"
                );
                if began.elapsed() > WENT_WELL {
                    backoff.reset();
                }
                backoff.sleep();
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}

fn follow<F: Fold + Default>(
    dir: &std::path::Path,
    view: &'static str,
    stop: &AtomicBool,
    told: &mpsc::Sender<Told>,
) -> Result<(), Failure> {
    // A log of its own: a handle serves one reader.
    let log = world::reader(dir)?;
    let mut store = up_to_date::<F>(&dir.join("views").join(view), &*log, false)?;
    let source = LogEpochs::at(&*log, &store.position().frontier).map_err(|e| unreadable_history(&*e))?;
    let mut source = source.ok_or_else(|| {
        Failure::environment(
            "the log changed under the view",
            "it does not hold what the view stands on",
            "start again",
        )
    })?;
    while !stop.load(Ordering::Relaxed) {
        store.catch_up(&mut source).map_err(|e| {
            Failure::environment(format!("the {view} view cannot be kept"), e, "solyx view … --rebuild")
        })?;
        let next_epoch = store.position().next_epoch;
        // Nobody listens once the command ends.
        let _ = told.send(Told { view, next_epoch });
        source.0.wait(Instant::now() + POLL).map_err(|e| unreadable_history(&e))?;
    }
    Ok(())
}
