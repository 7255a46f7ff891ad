//! The tables of a fleet file. What is not written has the default that the README names; an unknown key is an error.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::values::*;

/// A fleet file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetFile {
    pub fleet: String,
    #[serde(default)]
    pub revision: u32,
    #[serde(default)]
    #[allow(dead_code)] // for people; the events have no place for it
    pub description: String,
    pub at: Moment,
    pub cell: Cell,
    #[serde(default)]
    pub features: Vec<String>,
    pub policy: Option<Policy>,
    pub weights: Option<Weights>,
    pub executor: Option<Executor>,
    #[serde(default)]
    pub class: Vec<Class>,
    #[serde(default)]
    pub gpu_model: Vec<GpuModel>,
    #[serde(default)]
    pub exchange_rate: Vec<ExchangeRate>,
    #[serde(default)]
    pub tenant: Vec<Tenant>,
    #[serde(default)]
    pub quota: Vec<Quota>,
    #[serde(default)]
    pub budget: Vec<Budget>,
    #[serde(default)]
    pub rate_card: Vec<RateCard>,
    #[serde(default)]
    pub reserve: Vec<Reserve>,
    #[serde(default)]
    pub commitment: Vec<Commitment>,
    #[serde(default)]
    pub site: Vec<Site>,
    #[serde(default)]
    pub asset: Vec<SiteAsset>,
    #[serde(default)]
    pub pool: Vec<Pool>,
    #[serde(default)]
    pub nodes: Vec<Nodes>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    pub id: String,
    pub currency: Money,
    #[serde(default = "epoch_records")]
    pub epoch_records: i64,
    #[serde(default = "epoch_bytes")]
    pub epoch_bytes: i64,
    #[serde(default = "epoch_latency")]
    pub epoch_latency: Span,
    #[serde(default)]
    pub partitions: BTreeMap<String, i64>,
}

fn epoch_records() -> i64 {
    65_536
}

fn epoch_bytes() -> i64 {
    16 << 20
}

fn epoch_latency() -> Span {
    Span(solyx_schemas::units::DurationUs(20_000))
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    pub order_rule: Option<String>,
    pub packing_rule: Option<String>,
    pub half_life: Option<Span>,
    #[serde(default)]
    pub surcharge_gpu_hours: Vec<i64>,
    #[serde(default)]
    pub surcharge: Vec<Span>,
    pub promised: Option<Ratio>,
    pub backfill_depth: Option<i64>,
    pub backfill_reservations: Option<i64>,
    pub preemptions_max: Option<i64>,
    pub preemption_grace: Option<Span>,
    pub run_lease: Option<Span>,
    pub retries_max: Option<i64>,
    pub retry_backoff: Option<Span>,
    pub lemon_failures_max: Option<i64>,
    pub lemon_window: Option<Span>,
    pub consolidation_budget: Option<Span>,
    pub plan_interval: Option<i64>,
    pub tick: Option<Span>,
    pub default_expected_work: Option<Span>,
    pub deferral_max: Option<Span>,
    pub deferral_saving_min: Option<Ratio>,
    pub lease_orders_max: Option<i64>,
    pub lease_idle: Option<Span>,
    pub prior_weight: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weights {
    pub currency: Money,
    pub carbon_per_kg: Amount,
    #[serde(default = "one")]
    pub risk: Ratio,
    #[serde(default)]
    pub latency_per_ms_gpu_hour: Amount,
    pub owned_first: String,
    #[serde(default)]
    pub spot_reclaims_per_1000_h: i64,
    #[serde(default)]
    pub node_failures_per_1000_h: i64,
}

fn one() -> Ratio {
    Ratio(1_000)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Executor {
    #[serde(default = "sim")]
    pub id: String,
    #[serde(default)]
    pub seed: i64,
    pub start_delay: Span,
    pub stop_delay: Span,
    #[serde(default)]
    pub node_failures_per_1000_h: i64,
    #[serde(default)]
    pub spot_reclaims_per_1000_h: i64,
    pub repair: Span,
    #[serde(default)]
    pub power_interval: Span,
    pub busy_power: Ratio,
}

fn sim() -> String {
    "simulated".to_owned()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Class {
    pub id: String,
    pub value: i64,
    #[serde(default)]
    pub preempts: bool,
    #[serde(default)]
    pub preemptible: bool,
    #[serde(default)]
    pub minimum_run: Span,
    #[serde(default)]
    pub waiting_per_hour: Amount,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpuModel {
    pub id: String,
    pub memory_mib: i64,
    pub idle_w: i64,
    pub max_w: i64,
    #[serde(default = "single")]
    pub nvlink: i64,
    #[serde(default)]
    pub speeds: BTreeMap<String, Ratio>,
    #[serde(default)]
    pub mig: Vec<Mig>,
}

/// A MIG profile of a model: how many memory slices an instance takes, and at which it may begin.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mig {
    pub profile: String,
    pub memory_mib: i64,
    pub slices: i64,
    pub starts: Vec<i64>,
}

fn single() -> i64 {
    1
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExchangeRate {
    pub from: Money,
    pub to: Money,
    pub numerator: i64,
    pub denominator: i64,
    pub effective: Option<Moment>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    pub id: String,
    pub parent: Option<String>,
    #[serde(default = "one")]
    pub weight: Ratio,
    pub currency: Money,
    #[serde(default = "single")]
    pub invoice_day: i64,
    #[serde(default)]
    pub gpu_of_one_tenant: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    pub tenant: String,
    pub project: Option<String>,
    pub gpu_model: Option<String>,
    pub guaranteed: Ratio,
    pub borrowing: Option<Ratio>,
    pub lending: Option<Ratio>,
    pub over_quota_weight: Option<Ratio>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    pub id: String,
    pub tenant: String,
    pub project: Option<String>,
    pub job: Option<String>,
    pub amount: Amount,
    pub currency: Money,
    pub from: Option<Moment>,
    pub to: Option<Moment>,
    #[serde(default)]
    pub hard: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateCard {
    pub id: String,
    pub tenant: Option<String>,
    pub currency: Money,
    pub from: Option<Moment>,
    pub to: Option<Moment>,
    pub line: Vec<RateLine>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLine {
    pub meter: String,
    pub gpu_model: Option<String>,
    pub class: Option<String>,
    pub price: Option<Amount>,
    #[serde(default)]
    pub tiers: Vec<Tier>,
    #[serde(default)]
    pub volume: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    pub up_to: Option<i64>,
    pub price: Amount,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reserve {
    pub domain: String,
    pub gpu_model: String,
    pub gpus: Ratio,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Commitment {
    pub id: String,
    pub provider: String,
    pub pool: String,
    pub quantity: i64,
    pub from: Moment,
    pub to: Moment,
    pub price: Amount,
    pub currency: Money,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Site {
    pub id: String,
    #[serde(default)]
    pub name: String,
    pub region: String,
    pub grid_zone: String,
    pub country: String,
    #[serde(default)]
    pub certificates: Vec<String>,
    #[serde(default)]
    pub latitude: Degrees,
    #[serde(default)]
    pub longitude: Degrees,
    pub pue: Ratio,
    #[serde(default)]
    pub storage: Vec<Storage>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub power: Vec<Power>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    pub tier: String,
    pub price_per_gib_month: Amount,
    pub currency: Money,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Power {
    pub element: String,
    pub kind: String,
    #[serde(default)]
    pub parents: Vec<String>,
    pub limit_w: i64,
    #[serde(default = "one")]
    pub derating: Ratio,
    pub group: Option<String>,
    #[serde(default = "single")]
    pub count: i64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteAsset {
    pub serial: String,
    pub site: String,
    #[serde(flatten)]
    pub book: Book,
}

/// How an asset stands in the books.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Book {
    pub model: String,
    pub vendor: String,
    pub cost: Amount,
    pub salvage: Amount,
    pub currency: Money,
    pub life: Span,
    pub installed: Moment,
    pub declining_per_year: Option<Ratio>,
    pub warranty_end: Option<Moment>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    pub id: String,
    pub provider: String,
    pub site: String,
    pub class: String,
    pub gpu_model: String,
    pub instance_type: String,
    pub gpus: i64,
    pub cpus: i64,
    pub memory_gib: i64,
    pub gpu_memory_mib: Option<i64>,
    #[serde(default)]
    pub scratch_gib: i64,
    pub fabric: String,
    #[serde(default)]
    pub minimum_billing: Span,
    #[serde(default = "second")]
    pub granularity: Span,
    #[serde(default)]
    pub start_delay: Span,
    pub commitment: Option<String>,
    pub price_per_gpu_hour: Option<Amount>,
    pub currency: Option<Money>,
    pub instances: Option<i64>,
    #[serde(default)]
    pub price_change: Vec<PriceChange>,
}

fn second() -> Span {
    Span(solyx_schemas::units::DurationUs(1_000_000))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceChange {
    pub from: Moment,
    pub price_per_gpu_hour: Amount,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nodes {
    pub pool: String,
    pub name: String,
    pub count: i64,
    #[serde(default = "single")]
    pub first: i64,
    pub idle_w: i64,
    pub max_w: i64,
    #[serde(default)]
    pub feeds: Vec<String>,
    #[serde(default = "eight")]
    pub per_leaf: i64,
    #[serde(default = "eight")]
    pub per_rack: i64,
    pub leaf: Option<String>,
    pub spine: Option<String>,
    pub rack: Option<String>,
    pub rack_limit_w: Option<i64>,
    #[serde(default = "one")]
    pub rack_derating: Ratio,
    pub attested_until: Option<Moment>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    pub asset: Option<Book>,
}

fn eight() -> i64 {
    8
}
