//! What came of a variation: figures, numbers of all and by tenant, and what became of each job.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use solyx_connectors::log::embedded::{Durability, EmbeddedLog, EmbeddedOptions};
use solyx_connectors::rerun::{self, Changes, Recording, RunError};
use solyx_projections::billing::Billing;
use solyx_projections::dcim::Dcim;
use solyx_projections::fold::{Fold, FoldError};
use solyx_projections::jobs::{JobView, Jobs};
use solyx_runtime::{Ending, Progress};
use solyx_schemas::epochs::EpochBatch;
use solyx_schemas::log::Log;

use super::numbers::Numbers;
use super::trail::{Trail, Trails};
use crate::commands::compare::figures::Figures;
use crate::commands::compare::standing::Standing;
use crate::failure::Failure;

/// What came of a variation.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its figures, as `solyx compare` has them.
    pub figures: Figures,
    /// Numbers of all.
    pub all: Numbers,
    /// Numbers by tenant.
    pub tenants: BTreeMap<String, Numbers>,
    /// Each job.
    pub jobs: Vec<JobOutcome>,
    /// Wall time of the run.
    pub elapsed: Duration,
}

/// What became of a job.
#[derive(Clone, Debug)]
pub struct JobOutcome {
    pub view: JobView,
    pub trail: Trail,
}

/// The parts of an outcome that go from one process to another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Said {
    /// Chain hash of the last epoch.
    pub chain_head: String,
    /// Currency of money.
    pub currency: String,
    /// Numbers of all.
    pub all: Numbers,
    /// Numbers by tenant.
    pub tenants: BTreeMap<String, Numbers>,
    /// Jobs by how long they waited, as in the jobs view.
    pub waiting_counts: Vec<usize>,
    /// Wall time of the run, ms.
    pub elapsed_ms: u64,
}

impl Outcome {
    /// What of it is said.
    pub fn said(&self) -> Said {
        Said {
            chain_head: self.figures.chain_head.to_string(),
            currency: self.figures.currency.clone(),
            all: self.all,
            tenants: self.tenants.clone(),
            waiting_counts: self.figures.waiting.counts.clone(),
            elapsed_ms: self.elapsed.as_millis() as u64,
        }
    }
}

/// The folds that an outcome is made of.
#[derive(Default)]
struct Folds {
    billing: Billing,
    dcim: Dcim,
    jobs: Jobs,
    trails: Trails,
    standing: Standing,
    failed: Option<FoldError>,
}

impl Folds {
    fn apply(&mut self, epoch: &EpochBatch) {
        let folded = self.billing.apply(epoch).and(self.dcim.apply(epoch)).and(self.jobs.apply(epoch));
        if let Err(error) = folded {
            self.failed.get_or_insert(error);
        }
        self.trails.apply(epoch);
        self.standing.apply(epoch);
    }
}

/// Runs a recording with changes in a log under `dir`, which is left as it is then.
pub fn run(
    recording: &Recording,
    changes: &Changes,
    dir: &Path,
    name: &str,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Outcome, Failure> {
    let begun = Instant::now();
    let partitions = Some(recording.partitions.clone());
    let options = EmbeddedOptions { durability: Durability::EveryN(u32::MAX), partitions };
    let log: Arc<dyn Log> = EmbeddedLog::open(&dir.join("log"), options)?;
    let mut folds = Folds::default();
    let mut see = |epoch: &EpochBatch| folds.apply(epoch);
    let end = rerun::stage_and_run(recording, changes, &*log, Some(dir.to_owned()), stop, &mut see, progress);
    let end = end.map_err(failure)?;
    if matches!(end.ending, Ending::Stopped) {
        return Err(Failure::environment("the backtest was stopped", "a signal came", "run it again"));
    }
    if let Some(error) = folds.failed {
        return Err(Failure::environment("a view cannot be folded", error, "report this"));
    }
    folds.trails.finish();
    let mut outcome = outcome(&folds, name);
    outcome.figures.chain_head = end.chain_head;
    outcome.figures.directory = dir.display().to_string();
    outcome.elapsed = begun.elapsed();
    Ok(outcome)
}

fn failure(error: RunError) -> Failure {
    match error {
        RunError::Log(e) => e.into(),
        RunError::Runtime(e) => crate::commands::run::failure(e),
    }
}

/// The outcome that a log's views say, without running anything.
pub fn recorded(log: &dyn Log, name: &str) -> Result<Outcome, Failure> {
    let mut folds = Folds::default();
    let mut reader = solyx_schemas::epochs::EpochReader::new(log);
    while let Some(epoch) = reader.next_batch().map_err(|e| crate::world::unreadable_history(&e))? {
        folds.apply(&epoch);
    }
    folds.trails.finish();
    let mut outcome = outcome(&folds, name);
    outcome.figures.chain_head = reader.chain_head();
    Ok(outcome)
}

fn outcome(folds: &Folds, name: &str) -> Outcome {
    let (billing, dcim, jobs) = (folds.billing.view(), folds.dcim.view(), folds.jobs.view());
    let figures = Figures::of(name.to_owned(), &billing, &dcim, &jobs, &folds.standing);
    let mut of_tenants: BTreeMap<String, Vec<&JobView>> = BTreeMap::new();
    let mut tenant_of = BTreeMap::new();
    for job in &jobs.jobs {
        of_tenants.entry(job.tenant.to_string()).or_default().push(job);
        tenant_of.insert(&job.job, job.tenant.as_str());
    }
    let mut tenants: BTreeMap<String, Numbers> =
        of_tenants.iter().map(|(tenant, jobs)| (tenant.clone(), Numbers::of_jobs(jobs))).collect();
    for margin in &billing.tenants {
        let numbers = tenants.entry(margin.subject.clone()).or_default();
        numbers.revenue_micros = margin.revenue_micros;
        numbers.cost_micros = margin.cost_micros;
        numbers.margin_micros = margin.margin_micros;
    }
    for job in &dcim.jobs {
        let Some(numbers) = tenant_of.get(&job.job).and_then(|tenant| tenants.get_mut(*tenant)) else { continue };
        numbers.energy_j += job.totals.facility_energy_j;
        numbers.carbon_mg += job.totals.carbon_mg;
    }
    let mut held: BTreeMap<&str, (i128, i128)> = BTreeMap::new();
    for (job, trail) in &folds.trails.jobs {
        let Some(tenant) = tenant_of.get(job) else { continue };
        let sums = held.entry(tenant).or_default();
        *sums = (sums.0 + trail.held, sums.1 + trail.held_owned);
    }
    for (tenant, (all, owned)) in held {
        if let Some(numbers) = tenants.get_mut(tenant) {
            numbers.gpu_milli_s = (all / 1_000_000) as i64;
            numbers.owned_share_milli = (owned * 1_000).checked_div(all).map(|milli| milli as i64);
        }
    }
    let placements = jobs.jobs.iter().map(|job| i64::from(job.attempts)).sum();
    let all = Numbers::of_all(&figures, placements);
    let trail = |job: &JobView| folds.trails.jobs.get(&job.job).cloned().unwrap_or_default();
    let jobs = jobs.jobs.iter().map(|job| JobOutcome { trail: trail(job), view: job.clone() }).collect();
    Outcome { figures, all, tenants, jobs, elapsed: Duration::ZERO }
}
