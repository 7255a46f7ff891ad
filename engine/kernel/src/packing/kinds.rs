//! Kinds of replicas that are expected, with their frequencies: what fragmentation is measured against.

use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Share of all replicas that the typical kinds cover, hundredths.
const TYPICAL_PERCENT: i64 = 95;

/// One kind of replica and how often it is seen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    /// CPU, thousandths of a core.
    pub cpu_milli: i64,
    /// Memory.
    pub memory_mib: i64,
    /// GPUs.
    pub gpus: i64,
    /// Share of each, thousandths.
    pub gpu_milli_each: i64,
    /// Acceptable models, sorted; none means any.
    pub models: Option<Vec<u32>>,
    /// How often it was seen.
    pub count: i64,
}

impl Kind {
    /// Its size, millionths of a GPU.
    pub fn size_micros(&self) -> i64 {
        self.gpus * self.gpu_milli_each * 1_000
    }
}

/// All kinds, and the typical ones: the most frequent that cover 95 %, with memory left out, as in the FGD paper.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kinds {
    all: Vec<Kind>,
    typical: Vec<Kind>,
}

impl Kinds {
    /// Kinds as seen; equal ones are added up, in any order.
    pub fn new(kinds: impl IntoIterator<Item = Kind>) -> Self {
        let all = merged(kinds.into_iter().filter(|kind| kind.count > 0 && kind.gpus >= 0));
        let mut typical = merged(all.iter().map(|kind| Kind { memory_mib: 0, ..kind.clone() }));
        let shape = |kind: &Kind| (kind.count, kind.cpu_milli, kind.gpu_milli_each, kind.gpus);
        typical.sort_by_key(|kind| Reverse(shape(kind)));
        let total: i64 = typical.iter().map(|kind| kind.count).sum();
        let mut covered = 0;
        let mut taken = 0;
        // Kinds that differ in models only stay together: which model was interned first must not decide.
        while taken < typical.len()
            && (covered * 100 < TYPICAL_PERCENT * total || shape(&typical[taken]) == shape(&typical[taken - 1]))
        {
            covered += typical[taken].count;
            taken += 1;
        }
        typical.truncate(taken);
        Self { all, typical }
    }

    /// Every kind.
    pub fn all(&self) -> &[Kind] {
        &self.all
    }

    /// The typical ones.
    pub fn typical(&self) -> &[Kind] {
        &self.typical
    }
}

fn merged(kinds: impl Iterator<Item = Kind>) -> Vec<Kind> {
    let mut counts: BTreeMap<Kind, i64> = BTreeMap::new();
    for kind in kinds {
        *counts.entry(Kind { count: 0, ..kind.clone() }).or_default() += kind.count;
    }
    counts.into_iter().map(|(kind, count)| Kind { count, ..kind }).collect()
}
