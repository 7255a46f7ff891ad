//! Importers: traces and feeds as their publishers wrote them become events on the staged topics of a virtual run.
//!
//! Every importer streams, writes in bounded batches, and stops for nothing that is wrong with a row: such a row is
//! counted, named and kept in a file of bad rows. What a trace knows of the truth (durations, failures, availability)
//! goes to the live topic `sim`, which only the simulated executor reads.

use std::fmt;
use std::path::PathBuf;

use solyx_schemas::log::{Log, LogError};
use solyx_schemas::units::TimeUs;

pub mod csv_map;
pub mod decimal;
pub mod energy;
pub mod estimates;
pub mod jobs;
pub mod jsonl;
pub mod network;
pub mod offers;
pub mod openb;
pub mod philly;
pub mod shift;
pub mod sink;
pub mod spot;
pub mod table;
#[cfg(test)]
pub(crate) mod testing;

pub use estimates::Estimates;
pub use sink::{Sink, Summary};

/// What an importer is told beside its files.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What a job request says of its length.
    pub estimates: Estimates,
    /// Seed of noisy estimates.
    pub seed: u64,
    /// Day on which the trace begins: dated traces move there in whole weeks, others start there at midnight UTC.
    pub shift_to: Option<chrono::NaiveDate>,
    /// Only what happens at or after this instant, after the shift.
    pub from: Option<TimeUs>,
    /// Only what happens before this instant, after the shift.
    pub to: Option<TimeUs>,
    /// At most so many jobs or rows.
    pub limit: Option<u64>,
    /// Durations are multiplied by this (openb); 0 is taken as 1.
    pub stretch: i64,
    /// Grid zones to take (energy); empty means all.
    pub zones: Vec<String>,
    /// Regions to take (network, offers); empty means all.
    pub regions: Vec<String>,
    /// Where bad rows are written, one JSON object a line.
    pub bad_rows: Option<PathBuf>,
}

/// A row that is no event.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BadRow {
    /// The file.
    pub file: String,
    /// The line, counted from 1.
    pub line: u64,
    /// The field.
    pub field: String,
    /// What stands there.
    pub found: String,
    /// What should stand there.
    pub expected: String,
}

impl fmt::Display for BadRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, field, found, expected } = self;
        let place = if field.is_empty() { String::new() } else { format!("field {field}: ") };
        write!(f, "{file}:{line}: {place}found {found:?}, expected {expected}")
    }
}

/// Why an import stopped.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file cannot be read.
    #[error("cannot read {file}: {detail}; check the path and that the file is CSV, JSON or TOML, gzipped or not")]
    Open {
        /// The file.
        file: String,
        /// What the system said.
        detail: String,
    },
    /// A table lacks a column.
    #[error("{file} has no column {column}: it has {found}; is it another trace's file?")]
    Column {
        /// The file.
        file: String,
        /// The column wanted.
        column: String,
        /// The columns it has.
        found: String,
    },
    /// A row that cannot be passed over.
    #[error("{0}")]
    Row(BadRow),
    /// A file that is not what its importer reads.
    #[error("{file} cannot be imported: {detail}; {hint}")]
    Content {
        /// The file.
        file: String,
        /// What is wrong.
        detail: String,
        /// What to do.
        hint: String,
    },
    /// The bad rows cannot be written.
    #[error("cannot write bad rows to {file}: {detail}; choose a directory that can be written to")]
    BadRows {
        /// The file.
        file: String,
        /// What the system said.
        detail: String,
    },
    /// The log did not take the events.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A fleet that comes with an importer is wrong.
    #[error(transparent)]
    Fleet(#[from] crate::fleet::FleetError),
}

/// What is imported, and from where.
#[derive(Clone, Debug)]
pub enum Source {
    /// Alibaba's GPU trace of 2023: nodes and pods.
    Openb {
        /// The list of nodes.
        nodes: PathBuf,
        /// The list of pods.
        pods: PathBuf,
    },
    /// Jobs of Microsoft's Philly clusters.
    Philly {
        /// The jobs.
        jobs: PathBuf,
    },
    /// Prices and carbon by hour and grid zone.
    Energy {
        /// Prices, USD per MWh.
        prices: Option<PathBuf>,
        /// Carbon, grams per kWh.
        carbon: Option<PathBuf>,
    },
    /// GAIA's jobs for shifting in time.
    Gaia {
        /// The jobs.
        jobs: PathBuf,
        /// Whether its times are hours instead of seconds.
        hours: bool,
    },
    /// Sia's workloads.
    Sia {
        /// The jobs.
        jobs: PathBuf,
    },
    /// Requests to a language model.
    Llm {
        /// The requests.
        requests: PathBuf,
    },
    /// A catalog of offers.
    Offers {
        /// The catalog.
        catalog: PathBuf,
    },
    /// Measurements and prices between regions.
    Network {
        /// Round-trip times.
        rtt: Option<PathBuf>,
        /// Throughput.
        throughput: Option<PathBuf>,
        /// Prices of traffic.
        egress: Option<PathBuf>,
    },
    /// When spot instances could be had.
    Spot {
        /// The record.
        file: PathBuf,
        /// The pool it is taken for.
        pool: String,
        /// Instances for each counted one.
        instances_each: i64,
    },
    /// Events as JSON lines.
    Jsonl {
        /// The lines.
        file: PathBuf,
    },
    /// Any table.
    Csv {
        /// The table.
        file: PathBuf,
        /// Which column is which field.
        mapping: PathBuf,
    },
}

/// Imports a source into a log. `progress` is called after each batch.
pub fn import(
    source: &Source,
    options: &Options,
    log: &dyn Log,
    progress: &mut dyn FnMut(&Summary),
) -> Result<Summary, ImportError> {
    let mut sink = Sink::open(log, options.bad_rows.as_deref(), progress)?;
    match source {
        Source::Openb { nodes, pods } => openb::import(nodes, pods, options, &mut sink)?,
        Source::Philly { jobs } => philly::import(jobs, options, &mut sink)?,
        Source::Energy { prices, carbon } => energy::import(prices.as_deref(), carbon.as_deref(), options, &mut sink)?,
        Source::Gaia { jobs, hours } => jobs::gaia(jobs, *hours, options, &mut sink)?,
        Source::Sia { jobs } => jobs::sia(jobs, options, &mut sink)?,
        Source::Llm { requests } => jobs::llm(requests, options, &mut sink)?,
        Source::Offers { catalog } => offers::import(catalog, options, &mut sink)?,
        Source::Network { rtt, throughput, egress } => {
            let files =
                network::Files { rtt: rtt.as_deref(), throughput: throughput.as_deref(), egress: egress.as_deref() };
            network::import(files, options, &mut sink)?;
        }
        Source::Spot { file, pool, instances_each } => spot::import(file, pool, *instances_each, options, &mut sink)?,
        Source::Jsonl { file } => jsonl::import(file, options, &mut sink)?,
        Source::Csv { file, mapping } => csv_map::import(file, mapping, options, &mut sink)?,
    }
    sink.finish()
}

#[cfg(test)]
mod tests;
