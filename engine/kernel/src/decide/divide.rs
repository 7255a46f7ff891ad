//! How GPUs are to be divided: said whenever a placement adds an instance, GPU by GPU, with all that the GPU is to have.
//!
//! A division is not ordered smaller when an instance ends: the next order for the GPU leaves it out, and whoever takes a GPU whose
//! last instance has ended takes it whole.

use std::collections::BTreeSet;

use solyx_schemas::events::decisions::MigOrdered;
use solyx_schemas::ids::{Name, NodeId, RunId};

use super::Epoch;

/// Orders the divisions of all GPUs on which an instance was placed in this epoch.
pub fn order(epoch: &mut Epoch<'_>) {
    let placed = std::mem::take(&mut epoch.divided);
    let runs = placed.iter().filter_map(|id| epoch.state.runs.get(id)).filter(|run| run.mig.is_some());
    let gpus = runs.flat_map(|run| &run.nodes).flat_map(|own| own.gpus.iter().map(|gpu| (own.node.clone(), *gpu)));
    let gpus: BTreeSet<(NodeId, i64)> = gpus.collect();
    for (node, gpu_index) in gpus {
        let on_it = instances(epoch, &node, gpu_index);
        let news = on_it.iter().filter(|(.., run)| placed.contains(*run)).map(|(.., run)| run.as_str());
        let reason = format!("instances for {}", news.collect::<Vec<_>>().join(", "));
        let at = |(start, profile, run): &(i64, &Name, &RunId)| format!("{profile} at slice {start} for {run}");
        let evidence = on_it.iter().map(at).collect::<Vec<_>>().join(", ");
        let profiles = on_it.iter().map(|(_, profile, _)| (*profile).clone()).collect();
        epoch.say(MigOrdered { node, gpu_index, profiles, reason, evidence, ..MigOrdered::default() });
    }
}

/// The instances on a GPU by their first slice: profile and run.
fn instances<'e>(epoch: &'e Epoch<'_>, node: &NodeId, gpu: i64) -> Vec<(i64, &'e Name, &'e RunId)> {
    let runs = epoch.index.uses.get(node).into_iter().flat_map(|used| &used.runs);
    let mut found = Vec::new();
    for (id, run) in runs.filter_map(|id| Some((id, epoch.state.runs.get(id)?))) {
        let Some(mig) = &run.mig else { continue };
        for (own, starts) in run.nodes.iter().zip(&mig.starts).filter(|(own, _)| own.node == *node) {
            let here = own.gpus.iter().zip(starts).filter(|(index, _)| **index == gpu);
            found.extend(here.map(|(_, start)| (*start, &mig.profile, id)));
        }
    }
    found.sort();
    found
}
