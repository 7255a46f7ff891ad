//! The billing view as people and programs read it. Field names are stable.
//!
//! Money is in micros of the currency named beside it. Exact amounts and GPU time, which leave 64 bits, are decimal text;
//! a fraction is two of them.

use serde::Serialize;
use solyx_schemas::units::TimeUs;

/// Everything the billing view says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BillingView {
    /// Epochs folded.
    pub epochs: i64,
    /// Time of the last one, RFC 3339.
    pub as_of: String,
    /// Currency of margins: the cell's.
    pub reference_currency: String,
    /// Totals in the reference currency.
    pub totals: MarginView,
    /// Invoices by tenant and month.
    pub invoices: Vec<InvoiceView>,
    /// Usage that no card prices: house use.
    pub unpriced: Vec<UnpricedView>,
    /// What each provider, and our own hardware, cost.
    pub suppliers: Vec<SupplierView>,
    /// Margin by tenant.
    pub tenants: Vec<MarginView>,
    /// Margin by provider.
    pub providers: Vec<MarginView>,
    /// Margin by job.
    pub jobs: Vec<MarginView>,
    /// Where GPU time went.
    pub gpu_time: GpuTimeView,
    /// GPU time by clock hour, used and there, of our own and of others' capacity.
    pub hours: Vec<SupplyHourView>,
    /// What could not be rated, and why.
    pub problems: Vec<ProblemView>,
}

/// A fraction in decimal text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FractionView {
    /// Numerator.
    pub numerator: String,
    /// Denominator, positive.
    pub denominator: String,
}

/// An invoice of a tenant for a month.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InvoiceView {
    /// Who pays.
    pub tenant: String,
    /// The month, as in `2023-09`.
    pub period: String,
    /// Epoch at whose end it was closed; absent while it is open.
    pub closed_at_epoch: Option<i64>,
    /// Currency of the total.
    pub currency: String,
    /// Its lines.
    pub lines: Vec<LineView>,
    /// For each currency of a rate, sum of the rounded lines less the exact sum. Shown for the tie to the log, never added.
    pub rounding: Vec<RoundingView>,
    /// Sum of the rounded, converted lines; absent when one of them cannot be converted.
    pub total_micros: Option<i64>,
}

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LineKind {
    /// Metered usage of this month.
    Usage,
    /// Usage of a sold lease: its own line is what is paid.
    CoveredByLease,
    /// A sold lease's part of this month.
    SoldLease,
    /// Something of a month that was closed when it came.
    Correction,
}

/// A line of an invoice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LineView {
    /// Its id: 16 hexadecimal digits, made of what the line is for, so that it stays while usage comes in.
    pub id: String,
    /// What it is.
    pub kind: LineKind,
    /// The closed month that it corrects.
    pub corrects_period: Option<String>,
    /// The job.
    pub job: Option<String>,
    /// Its project.
    pub project: Option<String>,
    /// The sold lease.
    pub lease: Option<String>,
    /// Pool it ran in.
    pub pool: Option<String>,
    /// GPU model.
    pub gpu_model: Option<String>,
    /// Meter.
    pub meter: Option<String>,
    /// Quantity in the meter's unit, exact.
    pub quantity: Option<FractionView>,
    /// Quantity in the unit of the price, to six digits, for people.
    pub priced_quantity: Option<String>,
    /// Unit of the price.
    pub unit: Option<String>,
    /// Rate card, its version and the place of its line: `standard/0/2`.
    pub rate: Option<String>,
    /// Currency of the rate.
    pub rate_currency: String,
    /// Exact amount in micros of the rate's currency.
    pub exact_micros: Option<FractionView>,
    /// The same, rounded once, half to even.
    pub rounded_micros: Option<i64>,
    /// The rounded amount in the invoice's currency, rounded once more.
    pub amount_micros: Option<i64>,
    /// The events it comes from: `usage/<partition>/<ordinal>`, runs of ordinals as `first-last`.
    pub events: Vec<String>,
}

/// What rounding did, in one currency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RoundingView {
    /// Currency.
    pub currency: String,
    /// Rounded less exact, in micros.
    #[serde(flatten)]
    pub difference: FractionView,
}

/// Usage that no card prices, of all jobs of a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnpricedView {
    /// Tenant.
    pub tenant: String,
    /// Month.
    pub period: String,
    /// Meter.
    pub meter: String,
    /// Jobs.
    pub jobs: usize,
    /// Quantity in the meter's unit.
    pub quantity: FractionView,
}

/// What a provider cost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SupplierView {
    /// The provider; for our own hardware that of its pool.
    pub provider: String,
    /// Leases, in the reference currency.
    pub leases_micros: i64,
    /// Commitments, the part of their terms that has passed.
    pub commitments_micros: i64,
    /// Value lost by our own hardware.
    pub depreciation_micros: i64,
    /// Energy of our own hardware with what cooling and losses take: what its nodes were measured to draw, or, where they are
    /// not, what was metered for jobs.
    pub energy_micros: i64,
    /// Part of all that no job used.
    pub idle_micros: i64,
    /// All of it.
    pub total_micros: i64,
    /// Energy of ours without a known price, J.
    pub energy_unpriced_j: i64,
    /// Lines of its invoices that do not say what leases did.
    pub differences: Vec<ReconciliationView>,
}

/// A supplier's invoice line that differs from what was charged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReconciliationView {
    /// Invoice.
    pub invoice: String,
    /// Instance or commitment.
    pub subject: String,
    /// Currency.
    pub currency: String,
    /// What the invoice says.
    pub invoiced_micros: i64,
    /// What the log says was charged; absent when it knows of no such thing in this currency.
    pub charged_micros: Option<i64>,
}

/// Revenue, cost and what is left, in the reference currency.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MarginView {
    /// Of what.
    pub subject: String,
    /// What customers owe.
    pub revenue_micros: i64,
    /// What supply costs.
    pub cost_micros: i64,
    /// What is left.
    pub margin_micros: i64,
}

/// Where GPU time went, thousandths of a GPU × µs as decimal text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GpuTimeView {
    /// From placing to release, summed up over runs.
    pub allocated: String,
    /// The same, summed up epoch by epoch.
    pub allocated_by_clock: String,
    /// On lines that somebody pays, summed up over lines.
    pub billed: String,
    /// Allocated and not billed, by reason.
    pub unbilled: UnbilledView,
    /// Whether allocated is billed and unbilled, both ways of summing agree, and the lines hold what runs metered.
    pub conserved: bool,
    /// The same in GPU-hours to six digits, for people: allocated and billed.
    pub allocated_gpu_hours: String,
    /// See `allocated_gpu_hours`.
    pub billed_gpu_hours: String,
}

impl GpuTimeView {
    /// For sums that left the range of exact arithmetic: nothing is claimed, and nothing is conserved.
    pub(super) fn unknown() -> Self {
        let zero = || "0".to_owned();
        Self {
            allocated: zero(),
            allocated_by_clock: zero(),
            billed: zero(),
            unbilled: UnbilledView {
                start_delay: zero(),
                draining: zero(),
                report_delay: zero(),
                executor_skew: zero(),
                lost_run: zero(),
                not_metered: zero(),
                house_use: zero(),
            },
            conserved: false,
            allocated_gpu_hours: zero(),
            billed_gpu_hours: zero(),
        }
    }
}

/// GPU time that is not billed, by reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnbilledView {
    /// From placing until the executor started.
    pub start_delay: String,
    /// Not metered while a run was told to stop.
    pub draining: String,
    /// From the run's end until the engine knew.
    pub report_delay: String,
    /// What meters count beside the time they cover, or beyond the run; negative when they count more.
    pub executor_skew: String,
    /// Held by runs that nobody reported on any more.
    pub lost_run: String,
    /// Running, and no meter covers it (yet).
    pub not_metered: String,
    /// Metered, and no card prices it.
    pub house_use: String,
}

/// GPU time of one clock hour, thousandths of a GPU × µs. The last hour is counted up to the view's time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SupplyHourView {
    /// Its start.
    pub from_us: TimeUs,
    /// Held by runs on our own hardware.
    pub owned_used: i64,
    /// Held by runs on capacity of others: reserved, on demand or spot.
    pub leased_used: i64,
    /// What leased instances that we paid for could have given.
    pub leased_held: i64,
}

/// What could not be rated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProblemView {
    /// What it is about.
    pub subject: String,
    /// What happened.
    pub detail: String,
}
