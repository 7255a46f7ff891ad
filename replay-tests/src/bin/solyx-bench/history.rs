//! The history that is measured on: a generated world, run in virtual time on an embedded log.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::Context;
use solyx_connectors::executor::SimulatedExecutor;
use solyx_connectors::generate::{Size, publish};
use solyx_connectors::log::embedded::{Durability, EmbeddedLog, EmbeddedOptions};
use solyx_runtime::{EngineOptions, VirtualOptions, run_virtual};
use solyx_schemas::epochs::{EpochBatch, EpochReader, RawEpoch};
use solyx_schemas::ids::CellId;

/// A history, in memory and on its log.
pub struct History {
    pub seed: u64,
    pub size: Size,
    pub cell: CellId,
    pub log: Arc<EmbeddedLog>,
    pub raw: Vec<RawEpoch>,
    pub batches: Vec<EpochBatch>,
    /// Input records and their bytes.
    pub inputs: usize,
    pub input_bytes: usize,
    /// Records of all kinds: inputs, outputs, epoch records.
    pub records: usize,
    /// How long the virtual run took.
    pub run: Duration,
    /// The log lives there; it goes with the history.
    _dir: tempfile::TempDir,
}

impl History {
    pub fn make(seed: u64, jobs: u32) -> anyhow::Result<Self> {
        let size = Size { jobs, ..Size::default() };
        let cell = CellId::from("generated");
        let dir = tempfile::tempdir().context("no temporary directory")?;
        let options = EmbeddedOptions { durability: Durability::EveryN(1_000), partitions: None };
        let log = EmbeddedLog::open(&dir.path().join("log"), options)?;
        publish(seed, size, &*log, &mut |_| {})?;
        let mut executor = SimulatedExecutor::from_log("simulated", &*log)?;
        let options = VirtualOptions::new(EngineOptions::new(cell.clone(), None));
        let begun = Instant::now();
        run_virtual(&*log, Some(&mut executor), &options, &AtomicBool::new(false), &mut |_| {})?;
        let run = begun.elapsed();
        let mut reader = EpochReader::new(&*log);
        let mut raw = Vec::new();
        while let Some(epoch) = reader.next_raw()? {
            raw.push(epoch);
        }
        let batches = raw.iter().map(|raw| raw.clone().decode()).collect::<Result<Vec<_>, _>>()?;
        let inputs = raw.iter().map(|raw| raw.inputs.len()).sum();
        let value_bytes = |raw: &RawEpoch| raw.inputs.iter().map(|i| i.stored.record.value.len()).sum::<usize>();
        let input_bytes = raw.iter().map(value_bytes).sum();
        let records = raw.iter().map(|raw| raw.inputs.len() + raw.outputs.len() + 1).sum();
        Ok(Self { seed, size, cell, log, raw, batches, inputs, input_bytes, records, run, _dir: dir })
    }
}
