//! Folding views into their stores, against a bare RocksDB loop that writes the same batches.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use rocksdb::{DB, Options, WriteBatch, WriteOptions};
use solyx_projections::billing::Billing;
use solyx_projections::dcim::Dcim;
use solyx_projections::fold::{Change, Epochs, Fold, SourceError};
use solyx_projections::jobs::Jobs;
use solyx_projections::store::{BATCH_EPOCHS, ViewStore};

use crate::history::History;
use crate::measure::{Measure, per_second};

const ROCKSDB: &str = "RocksDB, the same batches written in a bare loop";

/// Every view, one after the other.
pub fn measure(history: &History, runs: u32) -> anyhow::Result<Vec<Measure>> {
    Ok(vec![
        one::<Billing>(history, "view_billing", runs)?,
        one::<Dcim>(history, "view_dcim", runs)?,
        one::<Jobs>(history, "view_jobs", runs)?,
    ])
}

fn one<F: Fold + Default>(history: &History, name: &str, runs: u32) -> anyhow::Result<Measure> {
    let batches = batches::<F>(history)?;
    let changes: usize = batches.iter().map(Vec::len).sum();
    let mut turns = Vec::new();
    for _ in 0..runs {
        let dir = tempfile::tempdir()?;
        let epochs = history.batches.clone();
        let mut source = Epochs(epochs.into_iter().map(Ok::<_, SourceError>));
        let mut store = ViewStore::<F>::open(&dir.path().join("view"))?;
        let begun = Instant::now();
        store.catch_up(&mut source)?;
        let own = per_second(history.records, begun.elapsed());
        drop(store);
        turns.push((own, per_second(history.records, bare(&dir.path().join("bare"), &batches)?)));
    }
    let what = format!(
        "{} records of {} epochs into a store; {changes} keys in {} batches",
        history.records,
        history.batches.len(),
        batches.len()
    );
    Ok(Measure::beside(name, "events/s", what, &turns, ROCKSDB))
}

/// The batches that a store writes.
fn batches<F: Fold + Default>(history: &History) -> anyhow::Result<Vec<Vec<Change>>> {
    let mut fold = F::default();
    let mut written = BTreeMap::new();
    let mut batches = Vec::new();
    for (n, epoch) in history.batches.iter().enumerate() {
        fold.apply(epoch)?;
        if (n as u64 + 1).is_multiple_of(BATCH_EPOCHS) || n + 1 == history.batches.len() {
            batches.push(changes(&mut fold, &mut written));
        }
    }
    Ok(batches)
}

/// What a store would write now: what the fold says, or what differs from what was written.
fn changes<F: Fold>(fold: &mut F, written: &mut BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<Change> {
    if let Some(changes) = fold.changes() {
        return changes;
    }
    let now: BTreeMap<Vec<u8>, Vec<u8>> = fold.entries().into_iter().collect();
    let gone = written.keys().filter(|key| !now.contains_key(*key)).map(|key| (key.clone(), None));
    let new = now.iter().filter(|(key, value)| written.get(*key) != Some(value));
    let changes = gone.chain(new.map(|(key, value)| (key.clone(), Some(value.clone())))).collect();
    *written = now;
    changes
}

fn bare(dir: &Path, batches: &[Vec<Change>]) -> anyhow::Result<std::time::Duration> {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_compression_type(rocksdb::DBCompressionType::Zstd);
    let db = DB::open(&options, dir)?;
    let begun = Instant::now();
    for (n, changes) in batches.iter().enumerate() {
        let mut batch = WriteBatch::default();
        for (key, value) in changes {
            match value {
                Some(value) => batch.put(key, value),
                None => batch.delete(key),
            }
        }
        batch.put(b"\0position", n.to_le_bytes());
        db.write_opt(batch, &WriteOptions::default())?;
    }
    Ok(begun.elapsed())
}
