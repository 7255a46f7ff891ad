//! The openb packing experiment as published: nodes and pods as tables, and the exact order of arrivals by seed.

use std::io::{BufRead, BufReader};
use std::path::Path;

use super::BacktestError;
use super::table::{Row, open, rows, unreadable};

/// GPUs of a node at most.
const GPUS_MAX: i64 = 64;

/// A node of the trace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TraceNode {
    /// Its serial name, by which nodes are sorted.
    pub sn: String,
    /// CPU, thousandths of a core.
    pub cpu_milli: i64,
    /// Memory.
    pub memory_mib: i64,
    /// GPUs.
    pub gpus: i64,
    /// GPU model; empty for nodes without.
    pub model: String,
}

/// A pod of the trace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TracePod {
    /// Its name, by which pods are sorted.
    pub name: String,
    /// CPU, thousandths of a core.
    pub cpu_milli: i64,
    /// Memory.
    pub memory_mib: i64,
    /// GPUs.
    pub gpus: i64,
    /// Share of each, thousandths.
    pub gpu_milli: i64,
    /// Acceptable models, sorted; empty means any.
    pub models: Vec<String>,
}

/// A pod with its times.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stay {
    /// The pod.
    pub pod: TracePod,
    /// When it came, s from the trace's beginning.
    pub created_s: i64,
    /// When it went.
    pub deleted_s: i64,
}

impl Stay {
    /// How long it was there, s; a second at least.
    pub fn ran_s(&self) -> i64 {
        (self.deleted_s - self.created_s).max(1)
    }
}

/// One seed's arrivals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrivals {
    /// Pods in order of arrival, as indices into the pods sorted by name.
    pub pods: Vec<usize>,
    /// For each node in order of `sn`, the number that its name begins with.
    pub node_numbers: Vec<usize>,
}

/// Nodes sorted by `sn`.
pub fn nodes(path: &Path) -> Result<Vec<TraceNode>, BacktestError> {
    let mut nodes = rows(path, |row| {
        Ok(TraceNode {
            sn: row.text("sn")?.to_owned(),
            cpu_milli: row.count("cpu_milli")?,
            memory_mib: row.count("memory_mib")?,
            gpus: gpus(&row, "gpu")?,
            model: row.text("model")?.to_owned(),
        })
    })?;
    nodes.sort();
    if nodes.iter().all(|node: &TraceNode| node.gpus == 0) {
        return Err(BacktestError::NoNodes);
    }
    Ok(nodes)
}

/// GPUs of a node or for a pod.
fn gpus(row: &Row<'_>, column: &'static str) -> Result<i64, BacktestError> {
    row.read(column, "0 to 64 GPUs", |text| text.parse().ok().filter(|gpus| (0..=GPUS_MAX).contains(gpus)))
}

/// Pods sorted by name. Some workloads have no column `gpu_spec`: their pods take any model.
pub fn pods(path: &Path) -> Result<Vec<TracePod>, BacktestError> {
    let mut pods = rows(path, |row| pod(&row))?;
    pods.sort();
    Ok(pods)
}

/// Pods with their times, by name; only some workloads have these.
pub fn stays(path: &Path) -> Result<Vec<Stay>, BacktestError> {
    let mut stays = rows(path, |row| {
        let (created_s, deleted_s) = (row.count("creation_time")?, row.count("deletion_time")?);
        Ok(Stay { pod: pod(&row)?, created_s, deleted_s })
    })?;
    stays.sort();
    Ok(stays)
}

fn pod(row: &Row<'_>) -> Result<TracePod, BacktestError> {
    let spec = row.optional("gpu_spec");
    let mut models: Vec<String> = spec.split('|').filter(|model| !model.is_empty()).map(str::to_owned).collect();
    // A model named twice stays: the published experiment tells kinds apart by the text of their spec.
    models.sort();
    Ok(TracePod {
        name: row.text("name")?.to_owned(),
        cpu_milli: row.count("cpu_milli")?,
        memory_mib: row.count("memory_mib")?,
        gpus: gpus(row, "num_gpu")?,
        gpu_milli: row.read("gpu_milli", "0 to 1000 thousandths of a GPU", |text| {
            text.parse().ok().filter(|milli| (0..=1_000).contains(milli))
        })?,
        models,
    })
}

/// Arrivals of one seed: the lines `<seed> i0 i1 …` and `N<seed> p0 p1 …`.
pub fn arrivals(path: &Path, seed: u64, nodes: usize, pods: usize) -> Result<Arrivals, BacktestError> {
    let file = path.display().to_string();
    let (mut order, mut numbers, mut present) = (None, None, Vec::new());
    for (i, line) in BufReader::new(open(path)?).lines().enumerate() {
        let line = line.map_err(|e| unreadable(path, &e))?;
        let mut words = line.split_ascii_whitespace();
        let Some(name) = words.next() else { continue };
        let list = match name.strip_prefix('N') {
            Some(of) if of == seed.to_string() => &mut numbers,
            None if name == seed.to_string() => &mut order,
            None => {
                present.push(name.to_owned());
                continue;
            }
            Some(_) => continue,
        };
        let parsed: Result<Vec<usize>, BacktestError> = words
            .map(|word| {
                word.parse().map_err(|_| BacktestError::Field {
                    file: file.clone(),
                    line: i as u64 + 1,
                    field: name.to_owned(),
                    value: word.to_owned(),
                    expected: "an index from 0",
                })
            })
            .collect();
        *list = Some(parsed?);
    }
    let (Some(order), Some(numbers)) = (order, numbers) else {
        return Err(BacktestError::Seed { file, seed, present: present.join(", ") });
    };
    if numbers.len() != nodes {
        return Err(BacktestError::Mismatch { file, what: "nodes", index: numbers.len(), count: nodes });
    }
    if let Some(index) = order.iter().find(|index| **index >= pods) {
        return Err(BacktestError::Mismatch { file, what: "pods", index: *index, count: pods });
    }
    Ok(Arrivals { pods: order, node_numbers: numbers })
}
