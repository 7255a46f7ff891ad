//! What has happened to a job that waits: few have any of it, so that it lies apart.

use serde::{Deserialize, Serialize};
use solyx_schemas::ids::{NodeId, RefId, SiteId};
use solyx_schemas::units::{MemoryMib, TimeUs};

use super::Job;

/// What few of the jobs have that wait: failures and what follows from them, a checkpoint, an order, a wish to cancel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// Failures by category that count against retries, in the order of the category's symbols.
    pub failures: Vec<i64>,
    /// Site whose storage has its last checkpoint.
    pub checkpoint_site: Option<SiteId>,
    /// Nodes it avoids, for it has failed there.
    pub avoided: Vec<NodeId>,
    /// When it forgets them: none has failed it for as long by then as failures count against a node.
    pub avoided_until_us: TimeUs,
    /// Order it waits for.
    pub order: Option<RefId>,
    /// Somebody asked to cancel it.
    pub cancel: Option<String>,
    /// Memory per replica after a retry for lack of it.
    pub memory_mib: Option<MemoryMib>,
    /// By when it is owed to run again after a loss: its recovery time objective, from the first loss since it ran.
    pub recover_by_us: Option<TimeUs>,
}

/// That of a job to which nothing has happened.
static NOTHING: Past = Past {
    failures: Vec::new(),
    checkpoint_site: None,
    avoided: Vec::new(),
    avoided_until_us: TimeUs(0),
    order: None,
    cancel: None,
    memory_mib: None,
    recover_by_us: None,
};

impl Job {
    /// What has happened to it.
    pub fn past(&self) -> &Past {
        self.past.as_deref().unwrap_or(&NOTHING)
    }

    /// The same, for something that happens.
    pub fn past_mut(&mut self) -> &mut Past {
        self.past.get_or_insert_default()
    }
}
