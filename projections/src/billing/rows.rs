//! What the billing view keeps: plain rows, all of them derived from the log.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use solyx_kernel::rating::{Fraction, Month, RatingError};
use solyx_schemas::events::assets::DepreciationMethod;
use solyx_schemas::events::capacity::CapacityClass;
use solyx_schemas::events::common::Sum;
use solyx_schemas::events::policy::PaymentOption;
use solyx_schemas::events::usage::Meter;
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

/// A sum of fractions, kept by denominator so that adding one more never has to find a common one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<i128, i128>")]
pub struct ExactSum(BTreeMap<i128, i128>);

impl TryFrom<BTreeMap<i128, i128>> for ExactSum {
    type Error = String;

    fn try_from(parts: BTreeMap<i128, i128>) -> Result<Self, String> {
        match parts.keys().find(|denominator| **denominator <= 0) {
            Some(denominator) => Err(format!("found the denominator {denominator}, expected a positive one")),
            None => Ok(Self(parts)),
        }
    }
}

impl ExactSum {
    /// Adds a fraction.
    pub fn add(&mut self, value: Fraction) -> Result<(), RatingError> {
        let numerator = self.0.entry(value.denominator()).or_default();
        let overflow = RatingError::Overflow { what: "the usage of a line" };
        *numerator = numerator.checked_add(value.numerator()).ok_or(overflow)?;
        Ok(())
    }

    /// The one fraction it comes to.
    pub fn total(&self) -> Result<Fraction, RatingError> {
        self.0.iter().try_fold(Fraction::ZERO, |sum, (denominator, numerator)| {
            sum.plus(Fraction::new(*numerator, *denominator), "the usage of a line")
        })
    }

    /// Its parts: numerator and denominator.
    pub fn parts(&self) -> impl Iterator<Item = (i128, i128)> {
        self.0.iter().map(|(denominator, numerator)| (*numerator, *denominator))
    }
}

/// Where a usage event stands in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EventAt {
    /// Epoch that took it.
    pub epoch: i64,
    /// Partition of the usage topic.
    pub partition: u32,
    /// Ordinal.
    pub ordinal: u64,
}

/// What prices a line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LinePrice {
    /// A line of a rate card.
    Card {
        /// The card.
        card: RefId,
        /// Its version.
        version: u32,
        /// Place of the line on it.
        line: u32,
    },
    /// A sold lease that the job draws on: the lease's own line is what is paid.
    Lease(RefId),
    /// Nothing: no card in force has a price. It is house use.
    Nothing,
}

/// Usage by its source and id, which are unique for ever: 16 bytes of their hash stand for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UsageKey([u8; 16]);

impl UsageKey {
    /// Of a source's event.
    pub fn of(source: &SourceId, id: &EventId) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(source.as_str().as_bytes());
        hasher.update(&[0]);
        hasher.update(id.as_str().as_bytes());
        let mut key = [0; 16];
        key.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Self(key)
    }
}

/// The order of the bytes, compared as one number: among millions of rows that is much of the work.
impl Ord for UsageKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        u128::from_be_bytes(self.0).cmp(&u128::from_be_bytes(other.0))
    }
}

impl PartialOrd for UsageKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// What a line is for. The order is that of an invoice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LineKey {
    /// Who pays.
    pub tenant: TenantId,
    /// Month whose invoice has it.
    pub month: Month,
    /// Month of the usage; another one for a correction.
    pub usage_month: Month,
    /// The job.
    pub job: JobId,
    /// The meter.
    pub meter: Meter,
    /// Pool it ran in.
    pub pool: PoolId,
    /// Its price.
    pub price: LinePrice,
}

/// What was used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineRow {
    /// Project.
    pub project: Option<ProjectId>,
    /// GPU model.
    pub model: Option<GpuModelId>,
    /// Quantity in the meter's unit.
    pub quantity: ExactSum,
    /// The events it comes from, in the order of application.
    pub events: Vec<EventAt>,
}

/// A month of a tenant that is closed, with what its invoice was converted at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedRow {
    /// Epoch at whose end it was closed.
    pub epoch: i64,
    /// Billing currency then.
    pub currency: Currency,
    /// Rates into it that were in force at the period's end, by currency.
    pub rates: BTreeMap<Currency, Fraction>,
    /// Exact amounts of sold leases that were due in it, by lease.
    pub leases: BTreeMap<RefId, Fraction>,
    /// Corrections of sold leases that stand on its invoice, by lease and corrected month.
    pub lease_corrections: BTreeMap<(RefId, Month), Fraction>,
}

/// What billing knows of a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantRow {
    /// Currency of its invoices.
    pub currency: Currency,
}

/// What billing knows of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRow {
    /// Who pays.
    pub tenant: TenantId,
    /// Project.
    pub project: Option<ProjectId>,
    /// Priority class.
    pub class: ClassId,
    /// Sold lease that it names, if it names no reservation, which goes first.
    pub sold_lease: Option<RefId>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It has not.
    #[default]
    Live,
    /// Its executor said so.
    Reported,
    /// Nobody said so; the engine gave it up.
    Lost,
}

/// A run from placing to release, and what was metered of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRow {
    /// The job.
    pub job: JobId,
    /// Pool.
    pub pool: PoolId,
    /// GPU model.
    pub model: GpuModelId,
    /// Share of GPUs allotted in all.
    pub gpu_milli: i64,
    /// Share on each node.
    pub nodes: BTreeMap<NodeId, i64>,
    /// `now` of the placing epoch.
    pub placed_us: TimeUs,
    /// When its executor says it started.
    pub started_us: Option<TimeUs>,
    /// When it was told to stop.
    pub stop_ordered_us: Option<TimeUs>,
    /// When its executor says it ended.
    pub ended_us: Option<TimeUs>,
    /// `now` of the releasing epoch.
    pub released_us: Option<TimeUs>,
    /// How it ended.
    pub outcome: Outcome,
    /// GPU time metered, thousandths × µs.
    pub metered: i128,
    /// GPU time of the intervals that were metered, by the share allotted.
    pub covered: i128,
    /// End of the last metered interval.
    pub metered_to_us: TimeUs,
    /// The part of what was metered that stands on lines which somebody pays.
    pub billed: ExactSum,
}

/// A usage event as it was rated, for corrections that name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageRow {
    /// The job.
    pub job: JobId,
    /// The run.
    pub run: RunId,
    /// The meter.
    pub meter: Meter,
    /// Start.
    pub from_us: TimeUs,
    /// End.
    pub to_us: TimeUs,
    /// Priority class of the job then; none while nobody had asked for the job.
    pub class: Option<ClassId>,
    /// The sold lease that covers it.
    pub covered_by: Option<RefId>,
}

/// What billing knows of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolRow {
    /// Who provides it.
    pub provider: ProviderId,
    /// Site.
    pub site: SiteId,
    /// How it is held.
    pub class: CapacityClass,
    /// GPUs of an instance.
    pub gpus: i64,
    /// Shortest time billed.
    pub minimum_us: i64,
    /// Step in which time is billed.
    pub granularity_us: i64,
}

/// Where a site takes its power.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteRow {
    /// Grid zone.
    pub zone: ZoneId,
    /// Design PUE, thousandths.
    pub pue_milli: i64,
}

/// A node of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRow {
    /// Pool.
    pub pool: PoolId,
    /// GPUs, thousandths.
    pub gpu_milli: i64,
}

/// A run's share of a node while it held it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeUse {
    /// The job.
    pub job: JobId,
    /// Share held.
    pub gpu_milli: i64,
    /// Since.
    pub from_us: TimeUs,
    /// Until; absent while it is held.
    pub to_us: Option<TimeUs>,
}

/// A leased instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRow {
    /// Pool.
    pub pool: PoolId,
    /// Provider.
    pub provider: ProviderId,
    /// GPUs of the instance.
    pub gpus: i64,
    /// Shortest time billed.
    pub minimum_us: i64,
    /// Step in which time is billed.
    pub granularity_us: i64,
    /// Price really charged.
    pub price: RateMicros,
    /// Its currency.
    pub currency: Currency,
    /// Until when it is paid for and what was charged; absent while it runs.
    pub ended: Option<(TimeUs, Sum)>,
}

/// A supplier's invoice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupplierRow {
    /// Its period.
    pub period: Name,
    /// Subject and amount of each line.
    pub lines: Vec<(RefId, Sum)>,
}

/// Capacity committed to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitmentRow {
    /// Provider.
    pub provider: ProviderId,
    /// Start.
    pub from_us: TimeUs,
    /// End.
    pub to_us: TimeUs,
    /// Price for the term.
    pub price: Sum,
}

/// A lease sold to a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SoldLeaseRow {
    /// Who pays.
    pub tenant: TenantId,
    /// GPUs.
    pub gpus: i64,
    /// Their model.
    pub model: GpuModelId,
    /// Start.
    pub from_us: TimeUs,
    /// End of the term.
    pub to_us: TimeUs,
    /// When it ended before its term.
    pub ended_us: Option<TimeUs>,
    /// Price for the term.
    pub price: Sum,
    /// When it is paid.
    pub payment: PaymentOption,
    /// Where the sale stands in the policy topic.
    pub at: EventAt,
}

/// An asset in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssetRow {
    /// Site.
    pub site: SiteId,
    /// Nodes that it was in, each with the instant since when; the last is where it is.
    pub nodes: Vec<(Option<NodeId>, TimeUs)>,
    /// What it cost.
    pub cost: Sum,
    /// Since when it is used.
    pub installed_us: TimeUs,
    /// Useful life.
    pub life_us: i64,
    /// What is left at its end, in the same currency.
    pub salvage_micros: i64,
    /// How it loses value.
    pub method: DepreciationMethod,
    /// Part of what is left that is lost in a year, thousandths.
    pub declining_milli: i64,
    /// When it left the books.
    pub retired_us: Option<TimeUs>,
}

/// What stands once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Epochs folded.
    pub next_epoch: i64,
    /// Time of the last one.
    pub now_us: TimeUs,
    /// Time of the first one; absent before it. What was before is nobody's cost here.
    pub began_us: Option<TimeUs>,
    /// The cell's reference currency.
    pub reference: Option<Currency>,
    /// GPU share held by all runs now.
    pub held_milli: i128,
    /// GPU time held so far, summed up epoch by epoch: the other side of the check.
    pub held_by_clock: i128,
}

/// Something that could not be rated, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemRow {
    /// What it is about.
    pub subject: String,
    /// What happened.
    pub detail: String,
}
