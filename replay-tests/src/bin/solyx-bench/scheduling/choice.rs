//! Node choice and binding alone, without queues: by the kernel's inventory, and by a scan over all classes beside it.

use std::time::{Duration, Instant};

use solyx_kernel::packing::{Ask, GPU_MILLI, GpuSlot, Inventory, NO_DOMAIN, NodeSpec, Rule, Scope};

use super::rounds::Workload;

/// What choosing and binding took, and how many fitted.
#[derive(Clone, Copy, Debug)]
pub struct Chosen {
    pub took: Duration,
    pub bound: usize,
}

/// Binds every job of a workload that fits, one after the other; the first so many of them when the scan does it.
pub fn run(workload: Workload, by_scan: Option<usize>) -> Chosen {
    let mut inventory = Inventory::default();
    for (number, has) in workload.haves().into_iter().enumerate() {
        inventory.add(NodeSpec {
            name: format!("node-{number:06}").into(),
            pool: 0,
            model: 0,
            domain: NO_DOMAIN,
            gpus: vec![GpuSlot::FREE; has.gpus.max(0) as usize],
            cpu_milli: has.cpu_milli,
            memory_mib: has.memory_mib,
            cpu_free_milli: has.cpu_milli,
            memory_free_mib: has.memory_mib,
            scratch_free_gib: 1_000,
            replicas: 0,
            closed: false,
        });
    }
    let asks: Vec<Ask> = workload
        .asks()
        .into_iter()
        .take(by_scan.unwrap_or(usize::MAX))
        .map(|asks| Ask {
            gpus: asks.gpus,
            gpu_milli_each: GPU_MILLI,
            cpu_milli: asks.cpu_milli,
            memory_mib: asks.memory_mib,
            ..Ask::default()
        })
        .collect();
    let mut bound = 0;
    let begun = Instant::now();
    for ask in &asks {
        let choice = match by_scan {
            Some(_) => inventory.choose_by_scan(Rule::BestFit, ask, Scope::ALL),
            None => inventory.choose(Rule::BestFit, ask, Scope::ALL),
        };
        bound += usize::from(choice.is_some_and(|choice| inventory.allocate(&choice, ask).is_ok()));
    }
    Chosen { took: begun.elapsed(), bound }
}
