//! A second opinion on room that is made for a job: while it is kept, nobody else takes it, and who is moved to it goes on first.

use std::collections::{BTreeMap, BTreeSet};

use solyx_kernel::Closed;
use solyx_kernel::state::State;
use solyx_schemas::events::Event;
use solyx_schemas::ids::{JobId, NodeId};

/// What was kept after the last epoch.
#[derive(Default)]
pub struct KeptRoom {
    /// Nodes, and for whom.
    kept: BTreeMap<NodeId, JobId>,
    /// Jobs that are moved, with the nodes that they are moved to.
    moved: BTreeMap<JobId, BTreeSet<NodeId>>,
    /// Other jobs for which room is made.
    others: BTreeSet<JobId>,
}

impl KeptRoom {
    /// Takes in an epoch and checks it.
    pub fn epoch(&mut self, state: &State, closed: &Closed) {
        let mut after = Self::default();
        for (job, claim) in state.claims.iter() {
            after.kept.extend(claim.nodes.iter().map(|node| (node.clone(), job.clone())));
            match &claim.berth {
                Some(berth) => {
                    let nodes = berth.nodes.iter().map(|replica| replica.node.clone()).collect();
                    after.moved.insert(job.clone(), nodes);
                }
                None => drop(after.others.insert(job.clone())),
            }
        }
        // What is kept now and was before was kept all the while.
        self.kept.retain(|node, job| after.kept.get(node) == Some(job));
        let mut before_it = None;
        for output in &closed.outputs {
            let Event::JobPlaced(placed) = output else { continue };
            let nodes: BTreeSet<NodeId> = placed.nodes.iter().map(|replica| replica.node.clone()).collect();
            let goes_on = self.moved.get(&placed.job).is_some_and(|berth| *berth == nodes);
            // Who is moved has its room already, on a node of which the rest may be kept for another.
            let other = nodes.iter().find_map(|node| self.kept.get(node).filter(|job| **job != placed.job));
            assert!(goes_on || other.is_none(), "{} takes room of {nodes:?} that is kept for {other:?}", placed.job);
            // It uses what it has used all along: nobody for whom room is made is asked before it.
            assert!(!goes_on || before_it.is_none(), "{} is moved and goes on after {before_it:?}", placed.job);
            if self.others.contains(&placed.job) {
                before_it = Some(placed.job.clone());
            }
        }
        *self = after;
    }
}
