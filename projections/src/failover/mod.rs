//! The failover view: if a site, a provider, a feed or a fabric domain were lost now, what is hit, where each job would go,
//! what has no place and by which limit, how long it takes and what is lost.
//!
//! The fold follows the log with the kernel's own state and folds nothing else but how old the information is, and the
//! drills. Losses are thought through when somebody looks, by the kernel's own rules on a copy of that state; a drill is
//! answered once, at the end of the epoch that it was asked in, and its answer is kept.

mod evaluate;
mod state;
mod view;

use solyx_kernel::follow::{FollowError, Follower};
use solyx_kernel::state::State;
use solyx_kernel::table::Entry as KernelEntry;
use solyx_schemas::epochs::EpochBatch;
use solyx_schemas::events::Event;
use solyx_schemas::ids::*;
use solyx_schemas::units::TimeUs;

use crate::fold::{Change, Entry, Fold, FoldError, ToldRow};
use crate::rows::Rows;
use state::{Drill, Meta, PoolNews};

pub use evaluate::domain_lost;
pub use view::*;

/// Name of the view.
const NAME: &str = "failover";
/// Version of the entries.
const FORMAT: u32 = 1;
/// The kernel's entries stand behind this byte, with their own table's number after it.
const KERNEL: u8 = 255;
/// Epochs over which changes are followed without anybody asking; after that the store compares.
const FOLLOWED_MAX: u32 = 10_000;

/// The state of the view.
#[derive(Default)]
pub struct Failover {
    meta: Rows<u8, Meta>,
    /// When each node last said something of itself.
    nodes: Rows<NodeId, TimeUs>,
    /// When what can be had in a pool, and at which price, was last said.
    pools: Rows<PoolId, PoolNews>,
    drills: Rows<RefId, Drill>,
    follower: Option<Follower>,
    /// Epochs since changes were last asked for.
    unasked: u32,
}

/// Does the same to every table, with its number in the store.
macro_rules! each_table {
    ($self:ident, $do:ident) => {
        $do!(0, $self.meta);
        $do!(1, $self.nodes);
        $do!(2, $self.pools);
        $do!(3, $self.drills);
    };
}

fn failed(detail: impl ToString) -> FoldError {
    FoldError { fold: NAME, detail: detail.to_string() }
}

fn kernel_key(table: u8, key: &[u8]) -> Vec<u8> {
    let mut out = vec![KERNEL, table];
    out.extend_from_slice(key);
    out
}

impl Fold for Failover {
    fn name(&self) -> &'static str {
        NAME
    }

    fn format(&self) -> u32 {
        FORMAT
    }

    fn apply(&mut self, epoch: &EpochBatch) -> Result<(), FoldError> {
        let follower = self.follower.get_or_insert_with(|| Follower::new(epoch.record.cell.clone()));
        follower.follow(&epoch.record, epoch.counted(), &epoch.outputs).map_err(failed)?;
        self.unasked = self.unasked.saturating_add(1);
        if self.unasked > FOLLOWED_MAX {
            follower.forget_changes();
        }
        let now = epoch.record.now_us;
        let (cell, number) = (epoch.record.cell.clone(), epoch.record.epoch);
        self.meta.insert(0, Meta { cell, epoch: number, now });
        let mut asked = Vec::new();
        for (_, event) in epoch.counted() {
            match event {
                Event::DrillRequested(e) => asked.push((**e).clone()),
                other => self.hear(other, now),
            }
        }
        for drill in asked {
            let answer = self.answer(&drill.domain, now.after(drill.duration_us));
            let row = Drill { domain: drill.domain, epoch: number, asked: now, duration: drill.duration_us, answer };
            self.drills.insert(drill.drill, row);
        }
        Ok(())
    }

    fn entries(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        macro_rules! save {
            ($table:expr, $rows:expr) => {
                $rows.entries($table, &mut entries);
            };
        }
        each_table!(self, save);
        let kernel = self.follower.iter().flat_map(Follower::entries);
        entries.extend(kernel.map(|entry| (kernel_key(entry.table, &entry.key), entry.value)));
        entries.sort();
        entries
    }

    fn changes(&mut self) -> Option<Vec<Change>> {
        let mut changes = Vec::new();
        macro_rules! save {
            ($table:expr, $rows:expr) => {
                $rows.changes($table, &mut changes);
            };
        }
        each_table!(self, save);
        let followed = std::mem::take(&mut self.unasked) <= FOLLOWED_MAX;
        let kernel = self.follower.iter_mut().flat_map(Follower::take_changes);
        changes.extend(kernel.map(|changed| (kernel_key(changed.table, &changed.key), changed.value)));
        changes.sort();
        followed.then_some(changes)
    }

    fn forget_changes(&mut self) {
        macro_rules! forget {
            ($table:expr, $rows:expr) => {
                $rows.forget_changes();
            };
        }
        each_table!(self, forget);
        self.unasked = 0;
        if let Some(follower) = &mut self.follower {
            follower.forget_changes();
        }
    }

    fn told(&self, key: &[u8], value: &[u8]) -> Result<ToldRow, FoldError> {
        let Some((&number, key)) = key.split_first() else { return Err(failed("an entry without a key")) };
        if number == KERNEL {
            let Some((&table, key)) = key.split_first() else {
                return Err(failed("an entry of the kernel without a table"));
            };
            let entry = KernelEntry { table, key: key.to_vec(), value: value.to_vec() };
            let (table, key, row) = State::told(&entry).map_err(failed)?;
            return Ok(ToldRow { table, key, row });
        }
        macro_rules! tell {
            ($table:expr, $rows:expr) => {
                if number == $table {
                    let told = $rows.told(stringify!($rows).trim_start_matches("self."), key, value);
                    return told.map_err(|error| failed(format!("an entry does not decode: {error}")));
                }
            };
        }
        each_table!(self, tell);
        Err(failed(format!("an entry of table {number}, which this build does not know")))
    }

    fn load(&mut self, entries: &mut dyn Iterator<Item = Entry>) -> Result<(), FoldError> {
        let mut kernel = Vec::new();
        for (key, value) in entries {
            let loaded = match key.split_first() {
                None => return Err(failed("an entry without a key")),
                Some((&KERNEL, key)) => {
                    let Some((&table, key)) = key.split_first() else {
                        return Err(failed("an entry of the kernel without a table"));
                    };
                    kernel.push(KernelEntry { table, key: key.to_vec(), value });
                    continue;
                }
                Some((0, key)) => self.meta.load(key, &value),
                Some((1, key)) => self.nodes.load(key, &value),
                Some((2, key)) => self.pools.load(key, &value),
                Some((3, key)) => self.drills.load(key, &value),
                Some((other, _)) => {
                    return Err(failed(format!("an entry of table {other}, which this build does not know")));
                }
            };
            loaded.map_err(|error| failed(format!("an entry does not decode: {error}")))?;
        }
        if let Some(meta) = self.meta.get(&0) {
            let follower: Result<Follower, FollowError> = Follower::load(meta.cell.clone(), kernel);
            self.follower = Some(follower.map_err(failed)?);
        }
        Ok(())
    }
}

impl Failover {
    /// Notes how new the information about nodes and pools is. A report's own time counts where it is not in the future.
    fn hear(&mut self, event: &Event, now: TimeUs) {
        match event {
            Event::NodeReported(e) => self.nodes.insert(e.node.clone(), e.occurred_us.min(now)),
            Event::NodeStateChanged(e) => self.nodes.insert(e.node.clone(), e.occurred_us.min(now)),
            Event::InstanceLeased(e) => self.nodes.insert(e.instance.as_str().into(), e.occurred_us.min(now)),
            Event::NodeRemoved(e) => {
                self.nodes.remove(&e.node);
            }
            Event::InstanceLeaseEnded(e) => {
                self.nodes.remove(&NodeId::from(e.instance.as_str()));
            }
            Event::PoolAvailabilityReported(e) => {
                self.pools.entry(&e.pool).available = Some(e.occurred_us.min(now));
            }
            Event::PoolPriced(e) => self.pools.entry(&e.pool).priced = Some(e.occurred_us.min(now)),
            _ => {}
        }
    }
}
