//! What node agents and the verifier say.

use solyx_schemas::events::nodes::*;

use crate::epoch::Rejection;
use crate::index::{Index, Timer};
use crate::state::State;

type Folded = Result<(), Rejection>;

pub fn node_reported(state: &mut State, index: &mut Index, e: &NodeReported) -> Folded {
    let node = state.nodes.edit_or_default(&e.node);
    if node.report.is_none() && node.state == NodeState::Unknown {
        node.state = NodeState::Ready;
    }
    node.report = Some(e.clone());
    node.gone = false;
    if node.lease.is_some() {
        index.idle_instances.insert(e.node.clone());
    }
    index.failure_domains.refresh(state, &e.node);
    index.forget_power_path(&e.node);
    index.refresh_node(state, &e.node);
    // It may draw more than before, or elsewhere.
    index.suspect_power_of(&e.node);
    index.suspects.insert(e.node.clone());
    index.changed = true;
    Ok(())
}

pub fn node_state_changed(state: &mut State, index: &mut Index, e: &NodeStateChanged) -> Folded {
    let node = state.nodes.edit_or_default(&e.node);
    // Whoever lets a node that was cordoned take work again has looked at what was held against it.
    if node.state == NodeState::Cordoned && e.state == NodeState::Ready {
        node.failures.clear();
    }
    node.state = e.state;
    index.refresh_node(state, &e.node);
    index.suspects.insert(e.node.clone());
    index.changed = true;
    Ok(())
}

pub fn node_removed(state: &mut State, index: &mut Index, e: &NodeRemoved) -> Folded {
    let Some(node) = state.nodes.edit(&e.node) else {
        return Err(Rejection::rejected(format!("field node: found {}, expected a node that was reported", e.node)));
    };
    node.gone = true;
    if node.lease.is_some() {
        index.idle_instances.insert(e.node.clone());
    }
    index.failure_domains.refresh(state, &e.node);
    index.refresh_node(state, &e.node);
    index.suspects.insert(e.node.clone());
    index.changed = true;
    Ok(())
}

pub fn gpu_degraded(state: &mut State, index: &mut Index, e: &GpuDegraded) -> Folded {
    let node = state.nodes.edit_or_default(&e.node);
    node.avoided_gpus.retain(|index| *index != e.gpu_index);
    if e.action != GpuAction::Restore {
        node.avoided_gpus.push(e.gpu_index);
        node.avoided_gpus.sort_unstable();
    }
    index.refresh_node(state, &e.node);
    index.changed = true;
    Ok(())
}

pub fn node_attested(state: &mut State, index: &mut Index, e: &NodeAttested) -> Folded {
    let valid = e.verdict == AttestationVerdict::Passed && e.method != AttestationMethod::None;
    let node = state.nodes.edit_or_default(&e.node);
    index.clear_timer(&Timer::Attestation(e.node.clone()));
    node.attested_until_us = valid.then_some(e.valid_until_us);
    if valid && e.valid_until_us > state.now() {
        index.set_timer(e.valid_until_us, Timer::Attestation(e.node.clone()));
    }
    index.suspects.insert(e.node.clone());
    index.changed = true;
    Ok(())
}
