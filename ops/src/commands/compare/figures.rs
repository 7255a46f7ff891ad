//! The figures that worlds are compared by, with stable names. Integers; units are in the names.

use serde::Serialize;
use solyx_projections::billing::{BillingView, SupplyHourView};
use solyx_projections::dcim::{DcimView, HourView};
use solyx_projections::jobs::{Completion, JobCounts, JobsView, Waiting};
use solyx_runtime::AuditReport;
use solyx_schemas::hash::Hash32;
use solyx_schemas::units::{SECOND_US, TimeUs};

use super::standing::Standing;

/// A world in figures.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Its cell.
    pub name: String,
    /// Where it is kept.
    pub directory: String,
    /// Time of the first epoch.
    pub from_us: TimeUs,
    /// Time of the last one. Everything is counted from the first to the last.
    pub to_us: TimeUs,
    /// Epochs.
    pub epochs: i64,
    /// Chain hash of the last epoch.
    pub chain_head: Hash32,
    /// Jobs by where they stand.
    pub jobs: JobCounts,
    /// How long jobs waited: from admission, or not-before when that is later, to the first placement.
    pub waiting: Waiting,
    /// From request to end, of the jobs that finished.
    pub completion: Completion,
    /// Currency of money below.
    pub currency: String,
    /// What customers owe.
    pub revenue_micros: i64,
    /// What supply costs.
    pub cost_micros: i64,
    /// What the cost is made of.
    pub cost: Cost,
    /// What is left.
    pub margin_micros: i64,
    /// The same in thousandths of revenue; absent without revenue.
    pub margin_milli: Option<i64>,
    /// Energy and what it emits.
    pub energy: Energy,
    /// GPUs and their time.
    pub gpus: Gpus,
    /// Bytes that meters counted out of a site.
    pub egress_bytes: i64,
    /// What placements said that moving data and checkpoints costs; not part of the cost until a provider charges it.
    pub egress_micros: i64,
    /// What could not be rated or priced.
    pub problems: usize,
    /// What an audit found; absent when none was asked for.
    pub audit: Option<AuditReport>,
}

/// Kinds of cost, which add up to all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// Rent of leased instances.
    pub leases_micros: i64,
    /// Commitments, as far as their terms have passed.
    pub commitments_micros: i64,
    /// Value lost by our own hardware and halls in this time.
    pub depreciation_micros: i64,
    /// Energy of our own sites with what cooling and losses take.
    pub energy_micros: i64,
    /// Of all of it, what no job used.
    pub idle_micros: i64,
}

/// Energy and carbon. Ours is what nodes were measured to draw, with idle ones; bought is what was metered at the GPUs of
/// leased instances, whose idle power and host nobody tells us. Both × PUE of the site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Energy {
    /// Facility energy of our own hardware.
    pub own_j: i64,
    /// Facility energy of leased capacity; its provider pays it.
    pub bought_j: i64,
    /// Carbon of our own, location based.
    pub own_carbon_mg: i64,
    /// Carbon of leased capacity.
    pub bought_carbon_mg: i64,
    /// IT energy whose carbon nobody knows.
    pub unknown_carbon_j: i64,
    /// Energy of ours without a price.
    pub unpriced_j: i64,
}

/// GPUs and their time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Gpus {
    /// GPUs of our own, at the end.
    pub owned: i64,
    /// GPU time that runs held on our own hardware, thousandths of a GPU × s.
    pub owned_used_gpu_milli_s: i64,
    /// GPU time that runs held on leased capacity, thousandths of a GPU × s.
    pub leased_used_gpu_milli_s: i64,
    /// GPU time of leased instances that was paid for, thousandths of a GPU × s.
    pub leased_held_gpu_milli_s: i64,
    /// Part of the used time that is on our own, thousandths.
    pub owned_share_milli: i64,
    /// Part of the time for which GPUs of our own stood that was used, thousandths; absent without any.
    pub owned_in_use_milli: Option<i64>,
    /// Part of all GPU time that was there or paid for that was used, thousandths; absent without any.
    pub in_use_milli: Option<i64>,
}

impl Figures {
    /// The figures of a world's views, and of what stood in the same epochs.
    pub fn of(name: String, billing: &BillingView, dcim: &DcimView, jobs: &JobsView, standing: &Standing) -> Self {
        let totals = &billing.totals;
        Self {
            name,
            from_us: jobs.began_us,
            to_us: jobs.now_us,
            epochs: jobs.epoch + 1,
            jobs: jobs.count,
            waiting: jobs.waiting.clone(),
            completion: jobs.completion,
            currency: billing.reference_currency.clone(),
            revenue_micros: totals.revenue_micros,
            cost_micros: totals.cost_micros,
            cost: Cost::of(billing),
            margin_micros: totals.margin_micros,
            margin_milli: part_milli(totals.margin_micros, totals.revenue_micros),
            energy: Energy::of(dcim),
            gpus: Gpus::of(&billing.hours, standing),
            egress_bytes: jobs.egress_bytes,
            egress_micros: jobs.egress_micros,
            problems: billing.problems.len(),
            ..Self::default()
        }
    }
}

impl Cost {
    fn of(billing: &BillingView) -> Self {
        let mut cost = Self::default();
        for supplier in &billing.suppliers {
            cost.leases_micros += supplier.leases_micros;
            cost.commitments_micros += supplier.commitments_micros;
            cost.depreciation_micros += supplier.depreciation_micros;
            cost.energy_micros += supplier.energy_micros;
            cost.idle_micros += supplier.idle_micros;
        }
        cost
    }
}

impl Energy {
    fn of(dcim: &DcimView) -> Self {
        let mut energy = Self::default();
        for site in &dcim.sites {
            for hour in &site.hours {
                let (own, bought) = facility_j(hour);
                energy.own_j += own;
                energy.bought_j += bought;
                let (own, bought) = carbon_mg(hour);
                energy.own_carbon_mg += own;
                energy.bought_carbon_mg += bought;
            }
            energy.unknown_carbon_j += site.totals.unknown_carbon_energy_j;
            energy.unpriced_j += site.totals.unpriced_energy_j;
        }
        energy
    }
}

/// Facility energy of an hour: of our own hardware and of leased capacity, J.
pub fn facility_j(hour: &HourView) -> (i64, i64) {
    divided(hour.facility_energy_j, hour)
}

/// Carbon of an hour: of our own hardware and of leased capacity, mg.
pub fn carbon_mg(hour: &HourView) -> (i64, i64) {
    divided(hour.carbon_mg.unwrap_or(0), hour)
}

/// An amount of an hour, divided between own and bought energy.
fn divided(amount: i64, hour: &HourView) -> (i64, i64) {
    let both = i128::from(hour.energy_j) + i128::from(hour.bought_energy_j);
    let own = (i128::from(amount) * i128::from(hour.energy_j)).checked_div(both).unwrap_or(0) as i64;
    (own, amount - own)
}

impl Gpus {
    fn of(hours: &[SupplyHourView], standing: &Standing) -> Self {
        let sum = |of: fn(&SupplyHourView) -> i64| hours.iter().map(|hour| i128::from(of(hour))).sum::<i128>();
        let in_s = |us: i128| i64::try_from(us / i128::from(SECOND_US)).unwrap_or(i64::MAX);
        let (owned_used, leased_used) = (sum(|hour| hour.owned_used), sum(|hour| hour.leased_used));
        let leased_held = sum(|hour| hour.leased_held);
        // A run holds its GPUs until it is released, which may be a moment after its node was removed.
        let in_use = |used: i128, held: i128| part_milli(used, held).map(|milli| milli.min(1_000));
        Self {
            owned: standing.owned(),
            owned_used_gpu_milli_s: in_s(owned_used),
            leased_used_gpu_milli_s: in_s(leased_used),
            leased_held_gpu_milli_s: in_s(leased_held),
            owned_share_milli: part_milli(owned_used, owned_used + leased_used).unwrap_or(0),
            owned_in_use_milli: in_use(owned_used, standing.owned_held()),
            in_use_milli: in_use(owned_used + leased_used, standing.held() + leased_held),
        }
    }
}

/// A part in thousandths of a whole, rounded down; absent when the whole is nothing.
fn part_milli(part: impl Into<i128>, whole: impl Into<i128>) -> Option<i64> {
    let milli = (part.into() * 1_000).checked_div(whole.into())?;
    i64::try_from(milli).ok()
}
