//! Nodes that are closed to newcomers until room can be made there for a job that is owed it (`decide/closing.rs`).

use std::collections::BTreeSet;

use solyx_schemas::ids::{JobId, NodeId};

use crate::queue::{Queue, set_of};
use crate::rows::Spec;
use crate::set_aside::in_force;
use crate::state::State;

/// Who of the same line may go where nodes are closed for another of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnLine {
    /// All: whoever is first takes what was cleared.
    MayEnter,
    /// Nobody: each has room made on nodes of its own.
    StaysApart,
}

/// Nodes that are closed to a job: those that are cleared for others of its class or a higher one, and not for its own set. Whoever
/// draws on a contract is let onto all, and onto those of others whoever is owed recovery within its tenant's share.
pub fn closed_to(state: &State, queue: &Queue, id: &JobId, spec: &Spec, own_line: OwnLine) -> BTreeSet<NodeId> {
    if state.clearing.is_empty() || in_force(state, spec).is_some() {
        return BTreeSet::new();
    }
    let value = state.classes.get(&spec.class).map_or(0, |class| class.value);
    let line = queue.line_of(id).filter(|_| own_line == OwnLine::MayEnter);
    let set = set_of(spec);
    let own_turn = queue.turn_of(id).filter(|_| state.entitled.contains(id));
    let recover_by = own_turn.filter(|(_, turn)| turn.is_owed()).map(|(_, turn)| turn.recover_by());
    let is_closed = |job: &JobId| {
        let Some((of, turn)) = queue.turn_of(job) else { return false };
        let is_owed_sooner = recover_by.is_some_and(|own| own < turn.recover_by());
        let is_of_line = || of == value && line.is_some() && queue.line_of(job) == line;
        let is_of_set = || set.is_some() && state.spec(job).and_then(|spec| set_of(&spec)) == set;
        job != id && value <= of && !is_owed_sooner && !is_of_line() && !is_of_set()
    };
    let closed = state.clearing.iter().filter(|(job, _)| is_closed(job));
    closed.flat_map(|(_, closed)| &closed.nodes).cloned().collect()
}

/// Whether nodes are closed for somebody who asks for the same as a job, or for a set: then what keeps the job out need not keep those.
pub fn is_for_like(state: &State, queue: &Queue, id: &JobId) -> bool {
    let fit = |job: &JobId| queue.line_of(job).map(|(_, shape)| queue.common(shape).fit);
    let is_like = |job: &JobId| state.spec(job).and_then(|spec| set_of(&spec)).is_some() || fit(job) == fit(id);
    state.clearing.iter().any(|(job, _)| is_like(job))
}

/// Whether a node is closed for anybody.
pub fn is_closed(state: &State, node: &NodeId) -> bool {
    state.clearing.iter().any(|(_, closed)| closed.nodes.contains(node))
}
