//! The DCIM view: what our sites draw, what it costs, what carbon each job has, how warm it is, and what hardware is worth.
//!
//! A fold of facts only: placements, readings, meters, prices, assets as they came. What is derived from them (loads, costs,
//! carbon, book values) is computed when somebody looks, so that a price or carbon value that comes late, or a higher
//! revision, counts for the hours it is of. It reads what counts and judges nothing.

mod apply;
mod book_value;
mod energy;
mod power;
mod runs;
mod state;
#[cfg(test)]
mod tests;
mod view;

use solyx_schemas::epochs::EpochBatch;
use solyx_schemas::ids::*;
use solyx_schemas::units::TimeUs;

use crate::fold::{Change, Entry, Fold, FoldError, ToldRow};
use crate::rows::Rows;
use crate::timeline;

pub use state::AssetStage;
pub use view::*;

/// Name of the view.
const NAME: &str = "dcim";
/// Version of the entries.
const FORMAT: u32 = 2;

/// The state of the view.
#[derive(Clone, Debug, Default)]
pub struct Dcim {
    meta: Rows<u8, state::Meta>,
    sites: Rows<SiteId, state::Site>,
    elements: Rows<(SiteId, ElementId), state::Element>,
    limits: Rows<RefId, state::PowerLimit>,
    pools: Rows<PoolId, state::Pool>,
    nodes: Rows<NodeId, state::Node>,
    gpu_max_w: Rows<GpuModelId, i64>,
    runs: Rows<RunId, state::Run>,
    /// Last power reading of an element.
    element_power: Rows<(SiteId, RefId), state::Reading>,
    /// Last power reading of a node.
    node_power: Rows<NodeId, state::Reading>,
    temperatures: Rows<(SiteId, RefId), state::Reading>,
    /// By site and hours since 1970.
    hours: Rows<(SiteId, i64), state::Hour>,
    /// By job, site, and whether its energy is on our bill.
    jobs: Rows<(JobId, SiteId, bool), state::JobEnergy>,
    prices: Rows<timeline::Key, timeline::Interval>,
    carbon: Rows<timeline::Key, timeline::Interval>,
    assets: Rows<RefId, state::Asset>,
    /// Runs that nobody has said the end of, by job, with the end of their leases.
    live: Rows<JobId, (RunId, TimeUs)>,
    /// Jobs of those that were told to stop for good.
    stopping: Rows<JobId, ()>,
}

/// Does the same to every table, with its number in the store.
macro_rules! each_table {
    ($self:ident, $do:ident) => {
        $do!(0, $self.meta);
        $do!(1, $self.sites);
        $do!(2, $self.elements);
        $do!(3, $self.limits);
        $do!(4, $self.pools);
        $do!(5, $self.nodes);
        $do!(6, $self.gpu_max_w);
        $do!(7, $self.runs);
        $do!(8, $self.element_power);
        $do!(9, $self.node_power);
        $do!(10, $self.temperatures);
        $do!(11, $self.hours);
        $do!(12, $self.jobs);
        $do!(13, $self.prices);
        $do!(14, $self.carbon);
        $do!(15, $self.assets);
        $do!(16, $self.live);
        $do!(17, $self.stopping);
    };
}

impl Fold for Dcim {
    fn name(&self) -> &'static str {
        NAME
    }

    fn format(&self) -> u32 {
        FORMAT
    }

    fn apply(&mut self, epoch: &EpochBatch) -> Result<(), FoldError> {
        self.fold(epoch);
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
        changes.sort();
        Some(changes)
    }

    fn forget_changes(&mut self) {
        macro_rules! forget {
            ($table:expr, $rows:expr) => {
                $rows.forget_changes();
            };
        }
        each_table!(self, forget);
    }

    fn told(&self, key: &[u8], value: &[u8]) -> Result<ToldRow, FoldError> {
        let failed = |detail: String| FoldError { fold: NAME, detail };
        let Some((&number, key)) = key.split_first() else {
            return Err(failed("an entry without a key".to_owned()));
        };
        macro_rules! tell {
            ($table:expr, $rows:expr) => {
                if number == $table {
                    let told = $rows.told(stringify!($rows).trim_start_matches("self."), key, value);
                    return told.map_err(|e| failed(format!("an entry of table {number} does not decode: {e}")));
                }
            };
        }
        each_table!(self, tell);
        Err(failed(format!("an entry of table {number}, which this build does not know")))
    }

    fn load(&mut self, entries: &mut dyn Iterator<Item = Entry>) -> Result<(), FoldError> {
        for (key, value) in entries {
            let failed = |detail: String| FoldError { fold: NAME, detail };
            let Some((&number, key)) = key.split_first() else {
                return Err(failed("an entry without a key".to_owned()));
            };
            let mut loaded = Err(failed(format!("an entry of table {number}, which this build does not know")));
            macro_rules! restore {
                ($table:expr, $rows:expr) => {
                    if number == $table {
                        loaded = $rows
                            .load(key, &value)
                            .map_err(|error| failed(format!("an entry of table {number} does not decode: {error}")));
                    }
                };
            }
            each_table!(self, restore);
            loaded?;
        }
        Ok(())
    }
}

impl Dcim {
    /// The time of the last epoch folded.
    fn now(&self) -> TimeUs {
        self.meta.get(&0).map_or(TimeUs::ZERO, |meta| meta.now)
    }
}
