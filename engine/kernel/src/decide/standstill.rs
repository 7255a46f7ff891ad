//! Who need not be tried again: whoever was told of what no node has enough of, while that is so.
//!
//! What the jobs in line ask for may differ from one to the next, and after a run has ended nearly all of them wait for the same
//! as before. The most that any node has free answers them without a look for a place. The answer follows from the state alone,
//! and what a job was told last stays true: it is passed over only where the very limit that it was told of still binds.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use solyx_schemas::events::decisions::LimitKind;
use solyx_schemas::ids::GpuModelId;

use super::Epoch;
use crate::packing::{GPU_MILLI, Peak};
use crate::place::takes_orders;
use crate::queue::{Least, Models, Shape, Told};

/// The most that is free, for those who accept the same models; found when the first of them is come to.
pub(super) struct Standstill {
    of: BTreeMap<Models, (Arc<[GpuModelId]>, OnceCell<Most>)>,
}

/// The most that is free where so many GPUs are; less is asked of more GPUs. By GPUs, most first.
#[derive(Default)]
struct Most {
    /// By wholly free GPUs.
    whole: Vec<Peak>,
    /// By the widest share that is free.
    shares: Vec<Peak>,
    /// Somebody would sell more.
    is_for_sale: bool,
}

impl Standstill {
    /// As things are.
    pub fn of(epoch: &Epoch<'_>) -> Self {
        let models = epoch.index.queue.models();
        Self { of: models.map(|(models, number)| (number, (models.clone(), OnceCell::new()))).collect() }
    }

    /// Whether what the jobs of a shape were told still keeps them.
    pub fn holds(&self, epoch: &Epoch<'_>, shape: Shape, told: Told) -> bool {
        if !matches!(told, Some(LimitKind::Gpus | LimitKind::Cpu | LimitKind::Memory)) {
            return false;
        }
        let common = epoch.index.queue.common(shape);
        let Some(least) = common.least else { return false };
        let Some((models, most)) = self.of.get(&common.models) else { return false };
        let most = most.get_or_init(|| Most::of(epoch, models));
        !most.is_for_sale && most.lacks(&least) == told
    }
}

impl Most {
    fn of(epoch: &Epoch<'_>, models: &[GpuModelId]) -> Self {
        let mut most = Self::default();
        for pool in epoch.state.pools.iter().filter_map(|(_, pool)| pool.declared.as_ref()) {
            if !models.is_empty() && !models.contains(&pool.gpu_model) {
                continue;
            }
            most.is_for_sale |= takes_orders(epoch.state, pool);
            if let Some(number) = epoch.index.pools.get(&pool.pool) {
                most.whole.extend(epoch.index.inventory.peaks(number));
            }
        }
        most.shares.clone_from(&most.whole);
        sum_up(&mut most.whole, |peak| peak.gpus);
        sum_up(&mut most.shares, |peak| peak.gpu_milli);
        most
    }

    /// What no node has enough of, named as whoever looks for a place would name it.
    fn lacks(&self, least: &Least) -> Option<LimitKind> {
        let (gpus, gpu_milli) = (i64::from(least.gpus), i64::from(least.gpu_milli_each));
        let (peaks, enough) = match gpu_milli < GPU_MILLI && gpus > 0 {
            true => (&self.shares, self.shares.partition_point(|peak| peak.gpu_milli >= gpu_milli)),
            false => (&self.whole, self.whole.partition_point(|peak| peak.gpus >= gpus)),
        };
        let peak = enough.checked_sub(1).map(|at| &peaks[at]);
        match peak {
            None => Some(LimitKind::Gpus),
            Some(peak) if peak.memory_mib < i64::from(least.memory_mib) => Some(LimitKind::Memory),
            Some(peak) if peak.cpu_milli < i64::from(least.cpu_milli) => Some(LimitKind::Cpu),
            Some(_) => None,
        }
    }
}

/// Most GPUs first; of each, the most that is free with so many or more.
fn sum_up(peaks: &mut Vec<Peak>, gpus: impl Fn(&Peak) -> i64) {
    peaks.sort_by_key(|peak| std::cmp::Reverse(gpus(peak)));
    let (mut cpu_milli, mut memory_mib) = (i64::MIN, i64::MIN);
    for peak in &mut *peaks {
        (cpu_milli, memory_mib) = (cpu_milli.max(peak.cpu_milli), memory_mib.max(peak.memory_mib));
        (peak.cpu_milli, peak.memory_mib) = (cpu_milli, memory_mib);
    }
    peaks.dedup_by(|later, first| {
        gpus(later) == gpus(first) && {
            (first.cpu_milli, first.memory_mib) = (later.cpu_milli, later.memory_mib);
            true
        }
    });
}
