//! GPU time hour by hour: what runs held and what we paid for, from their rows.

use std::collections::BTreeMap;

use solyx_schemas::events::capacity::CapacityClass;
use solyx_schemas::units::{HOUR_US, TimeUs};

use super::Billing;
use super::view::SupplyHourView;

impl Billing {
    /// Every hour in which a run or a leased instance held GPUs.
    pub(super) fn supply_hours(&self) -> Vec<SupplyHourView> {
        let now = self.meta().now_us;
        let mut hours: BTreeMap<i64, SupplyHourView> = BTreeMap::new();
        for (_, run) in self.tables.runs.iter() {
            let owned = self.tables.pools.get(&run.pool).is_some_and(|pool| pool.class == CapacityClass::Owned);
            each_hour(run.placed_us, run.released_us.unwrap_or(now), |hour, us| {
                let row = hours.entry(hour).or_default();
                let used = if owned { &mut row.owned_used } else { &mut row.leased_used };
                *used += run.gpu_milli * us;
            });
        }
        for ((_, from), lease) in self.tables.leases.iter() {
            let to = lease.ended.as_ref().map_or(now, |(to, _)| *to);
            each_hour(*from, to.min(now), |hour, us| {
                hours.entry(hour).or_default().leased_held += lease.gpus * 1_000 * us;
            });
        }
        let shown = |(hour, row)| SupplyHourView { from_us: TimeUs(hour * HOUR_US), ..row };
        hours.into_iter().map(shown).collect()
    }
}

/// Says how many microseconds of each clock hour, counted from 1970, lie in an interval.
fn each_hour(from: TimeUs, to: TimeUs, mut say: impl FnMut(i64, i64)) {
    let mut at = from.0;
    while at < to.0 {
        let hour = at.div_euclid(HOUR_US);
        let end = ((hour + 1) * HOUR_US).min(to.0);
        say(hour, end - at);
        at = end;
    }
}
