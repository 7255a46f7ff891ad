//! Experiments that run the kernel's own rules over published traces, outside any log, and say how they compare.

pub mod departures;
pub mod openb;
pub mod packing;
pub mod philly;
pub mod queue;
mod table;

/// Why a backtest did not run.
#[derive(Debug, thiserror::Error)]
pub enum BacktestError {
    /// A file cannot be read.
    #[error("cannot read {file}: {detail}")]
    Read {
        /// The file.
        file: String,
        /// What the system or the decoder said.
        detail: String,
    },
    /// A field holds something else than it must.
    #[error("{file} line {line}: {field} is `{value}`, expected {expected}")]
    Field {
        /// The file.
        file: String,
        /// Line, from 1.
        line: u64,
        /// The column.
        field: String,
        /// What it holds.
        value: String,
        /// What it should hold.
        expected: &'static str,
    },
    /// The log that a run is kept in.
    #[error(transparent)]
    Log(#[from] solyx_schemas::log::LogError),
    /// A trace without a job.
    #[error("the trace holds no job")]
    NoJobs,
    /// A fleet without a node of its own.
    #[error("the fleet has no node with GPUs that is its own: in an owned or reserved pool, where it has pools")]
    NoNodes,
    /// A job that can never start.
    #[error("job {number} asks for {gpus} GPUs, the largest pool has {fleet}; expected a lower load or a larger fleet")]
    TooLarge {
        /// Its row.
        number: u64,
        /// GPUs that it would hold.
        gpus: i64,
        /// GPUs there are in one pool.
        fleet: i64,
    },
    /// Nothing runs, and those who wait do not start.
    #[error("{jobs} jobs never started, job {number} first; expected a fleet on which each can run")]
    Stuck {
        /// How many.
        jobs: usize,
        /// The row of the first.
        number: u64,
    },
    /// A table lacks a column.
    #[error("{file} has no column `{column}`; its header is {header}")]
    Column {
        /// The file.
        file: String,
        /// The column.
        column: &'static str,
        /// What there is.
        header: String,
    },
    /// The arrivals hold no such seed.
    #[error("{file} has no arrivals for seed {seed}; it has {present}")]
    Seed {
        /// The file.
        file: String,
        /// The seed.
        seed: u64,
        /// Seeds there are.
        present: String,
    },
    /// An index points outside its list, or a list is too short: the files do not belong together.
    #[error("{file} does not belong to these {what}: index {index} of {count}")]
    Mismatch {
        /// The file.
        file: String,
        /// Nodes or pods.
        what: &'static str,
        /// The index.
        index: usize,
        /// How many there are.
        count: usize,
    },
}
