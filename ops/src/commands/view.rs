//! `solyx view`: billing, DCIM, failover and jobs, brought up to date and shown.

use std::path::Path;

use clap::{Args, ValueEnum};
use serde::Serialize;
use solyx_kernel::rating::Month;
use solyx_projections::billing::Billing;
use solyx_projections::dcim::Dcim;
use solyx_projections::failover::Failover;
use solyx_projections::fold::Fold;
use solyx_projections::jobs::Jobs;
use solyx_projections::store::{StoreError, View as Folded, ViewStore};
use solyx_schemas::ids::TenantId;
use solyx_schemas::log::Log;

use super::shown;
use crate::failure::{Exit, Failure, Outcome};
use crate::output;
use crate::world::{LogEpochs, Source, unreadable_history};

/// Show a view, brought up to date with the log.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  solyx view dcim --log world\n  solyx view billing --log world --as-of 1000 --json\n  \
                        solyx view billing --invoice TENANT --month 2023-09 --log world\n  \
                        solyx view failover --archive world-archive"
)]
pub struct View {
    /// Which.
    view: Which,
    #[command(flatten)]
    source: Source,
    /// As it was at the end of this epoch.
    #[arg(long, value_name = "EPOCH", conflicts_with = "rebuild")]
    as_of: Option<i64>,
    /// Fold the whole log again, beside the view in use, and swap.
    #[arg(long, conflicts_with = "archive")]
    rebuild: bool,
    /// As it is kept, without reading on; beside `solyx project`, which keeps it up to date.
    #[arg(long, conflicts_with_all = ["rebuild", "as_of", "archive"])]
    kept: bool,
    /// Only the invoice of this tenant (billing).
    #[arg(long, value_name = "TENANT")]
    invoice: Option<TenantId>,
    /// The month of the invoice; by default the last one that has anything on it.
    #[arg(long, value_name = "YYYY-MM", requires = "invoice", value_parser = |text: &str| {
        Month::parse(text).ok_or("expected a month as in 2023-09")
    })]
    month: Option<Month>,
}

/// The views.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Which {
    /// Invoices, supplier costs, margins, GPU time.
    Billing,
    /// Power, energy, carbon, assets.
    Dcim,
    /// What each loss would hit, where it would go, and what has no place.
    Failover,
    /// What became of each job and how long it waited.
    Jobs,
}

/// Epochs between the states that are kept for views of the past.
const CHECKPOINT_EPOCHS: i64 = 10_000;

/// Runs it.
pub fn run(command: &View, json: bool) -> Outcome {
    // A view as it is kept needs no log, and so is there while the log is away.
    let log = if command.kept { None } else { Some(command.source.open()?) };
    let log = log.as_deref();
    let view = match (command.view, &command.invoice) {
        (Which::Billing, Some(tenant)) => {
            show(command, log, "billing", |fold: &Billing| invoice(fold, tenant, command.month, json))?
        }
        (_, Some(_)) => {
            return Err(Failure::usage("only the billing view has invoices", "found --invoice", "solyx view billing"));
        }
        (Which::Billing, None) => {
            show(command, log, "billing", |fold: &Billing| written(&fold.view(), json, shown::billing::text))?
        }
        (Which::Dcim, None) => {
            show(command, log, "dcim", |fold: &Dcim| written(&fold.view(), json, shown::dcim::text))?
        }
        (Which::Failover, None) => {
            show(command, log, "failover", |fold: &Failover| written(&fold.view(), json, shown::failover::text))?
        }
        (Which::Jobs, None) => {
            show(command, log, "jobs", |fold: &Jobs| written(&fold.view(), json, shown::jobs::text))?
        }
    };
    if json {
        output::json_text(&view)
    } else {
        output::line(view)
    }
    Ok(Exit::Good)
}

/// The view as text, or as JSON in one line: exact sums may be larger than a JSON value in memory holds.
fn written<V: Serialize>(view: &V, json: bool, text: impl Fn(&V) -> String) -> Result<String, Failure> {
    if !json {
        return Ok(text(view));
    }
    serde_json::to_string(view).map_err(|e| Failure::environment("the view cannot be written", e, "report this"))
}

/// A tenant's invoice of a month, or its last one.
fn invoice(billing: &Billing, tenant: &TenantId, month: Option<Month>, json: bool) -> Result<String, Failure> {
    let found = match month {
        Some(month) => billing.invoice(tenant, month),
        None => billing.view().invoices.into_iter().rfind(|invoice| invoice.tenant == tenant.as_str()),
    };
    let Some(found) = found else {
        let of = month.map_or(String::new(), |month| format!(" for {month}"));
        return Err(Failure::finding(
            format!("there is no invoice of {tenant}{of}"),
            "nothing that a card prices was used",
            "solyx view billing lists the invoices there are",
        ));
    };
    written(&found, json, |view| shown::invoice::Invoice::of(view).text())
}

fn show<F: Fold + Default>(
    command: &View,
    log: Option<&dyn Log>,
    name: &str,
    view: impl Fn(&F) -> Result<String, Failure>,
) -> Result<String, Failure> {
    let directory = command.source.log.as_ref().map(|dir| dir.join("views").join(name));
    let (log, directory) = match (log, directory) {
        (None, Some(directory)) => return view(&ViewStore::<F>::read(&directory).map_err(failure)?.fold),
        (None, None) => return Err(Failure::usage("no world is named", "expected --log beside --kept", "see --help")),
        (Some(log), directory) => (log, directory),
    };
    let Some(directory) = directory else {
        let mut folded = Folded::<F>::empty();
        folded.fold_up_to(&mut start(log)?, command.as_of).map_err(failure)?;
        return view(&folded.fold);
    };
    if let Some(epoch) = command.as_of {
        let folded = ViewStore::<F>::as_of(&directory, epoch, |position| {
            LogEpochs::at(log, &position.frontier)?
                .map(|source| Box::new(source) as Box<dyn solyx_projections::fold::EpochSource>)
                .ok_or_else(|| "the log no longer has what the view stands on; rebuild it with --rebuild".into())
        })
        .map_err(failure)?;
        return view(&folded.fold);
    }
    view(up_to_date::<F>(&directory, log, command.rebuild)?.fold())
}

fn start(log: &dyn Log) -> Result<LogEpochs<'_>, Failure> {
    Ok(LogEpochs(solyx_schemas::epochs::EpochReader::new(log)))
}

/// The view with all that the log has. A store of another format, or of a log that was replaced, is built again.
pub fn up_to_date<F: Fold + Default>(directory: &Path, log: &dyn Log, rebuild: bool) -> Result<ViewStore<F>, Failure> {
    if !rebuild {
        match ViewStore::<F>::open(directory).map(|store| store.keep_checkpoints(CHECKPOINT_EPOCHS)) {
            Ok(mut store) => {
                let source = LogEpochs::at(log, &store.position().frontier).map_err(|e| unreadable_history(&*e))?;
                if let Some(mut source) = source {
                    store.catch_up(&mut source).map_err(failure)?;
                    return Ok(store);
                }
            }
            Err(StoreError::Format { .. }) => {}
            Err(e) => return Err(failure(e)),
        }
    }
    ViewStore::<F>::rebuild(directory, &mut start(log)?).map_err(failure)
}

/// What keeps a view from being brought up to date.
pub fn failure(error: StoreError) -> Failure {
    let hint = match error {
        StoreError::Feature { .. } => "`solyx --version` says which build this is",
        _ => "solyx view … --rebuild folds the whole log again",
    };
    Failure::environment("the view cannot be brought up to date", error, hint)
}
