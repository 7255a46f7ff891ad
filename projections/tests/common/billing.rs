//! Events of a small business: one card, one owned pool and one leased, jobs of tenants.

use solyx_schemas::events::Event;
use solyx_schemas::events::capacity::{CapacityClass, InstanceShape, PoolDeclared};
use solyx_schemas::events::common::{NodeGpus, Sum};
use solyx_schemas::events::decisions::JobPlaced;
use solyx_schemas::events::jobs::JobRequested;
use solyx_schemas::events::policy::*;
use solyx_schemas::events::runs::{RunFinished, RunStarted};
use solyx_schemas::events::usage::{Meter, UsageMetered};
use solyx_schemas::units::*;

pub fn at(text: &str) -> i64 {
    parse_time(text).unwrap().0
}

pub fn currency(code: &str) -> Currency {
    Currency::parse(code).unwrap()
}

pub fn sum(code: &str, micros: i64) -> Sum {
    Sum { currency: currency(code), micros: MoneyMicros(micros) }
}

pub fn cell() -> Event {
    CellDeclared { cell_id: "cell-a".into(), reference_currency: currency("USD"), ..CellDeclared::default() }.into()
}

pub fn tenant(id: &str, billing: &str) -> Event {
    TenantDeclared { tenant: id.into(), billing_currency: currency(billing), ..TenantDeclared::default() }.into()
}

pub fn tiers(tiers: &[(Option<i64>, i64)]) -> Vec<PriceTier> {
    let tier =
        |&(up_to, price): &(Option<i64>, i64)| PriceTier { up_to: up_to.map(Count), price_micros: RateMicros(price) };
    tiers.iter().map(tier).collect()
}

pub fn card(id: &str, code: &str, from: i64, to: Option<i64>, mode: TierMode, gpu: &[(Option<i64>, i64)]) -> Event {
    RateCardSet {
        rate_card: id.into(),
        from_us: TimeUs(from),
        to_us: to.map(TimeUs),
        currency: currency(code),
        lines: vec![RateLine { meter: Meter::GpuTime, gpu_model: None, class: None, tiers: tiers(gpu), mode }],
        ..RateCardSet::default()
    }
    .into()
}

pub fn flat_card(id: &str, code: &str, price: i64) -> Event {
    card(id, code, 0, None, TierMode::Graduated, &[(None, price)])
}

pub fn exchange(from: &str, to: &str, since: i64, numerator: i64, denominator: i64) -> Event {
    ExchangeRateSet {
        from_currency: currency(from),
        to_currency: currency(to),
        numerator: Count(numerator),
        denominator: Count(denominator),
        effective_from_us: TimeUs(since),
        ..ExchangeRateSet::default()
    }
    .into()
}

pub fn closed(tenant: &str, period: &str) -> Event {
    PeriodClosed { tenant: tenant.into(), period: period.into(), ..PeriodClosed::default() }.into()
}

pub fn pool(id: &str, provider: &str, class: CapacityClass) -> Event {
    PoolDeclared {
        pool: id.into(),
        provider: provider.into(),
        site: "metapod-1".into(),
        class,
        gpu_model: "H100".into(),
        shape: InstanceShape { gpus: Count(8), ..InstanceShape::default() },
        minimum_billing_us: DurationUs(HOUR_US),
        granularity_us: DurationUs(60 * SECOND_US),
        ..PoolDeclared::default()
    }
    .into()
}

pub fn requested(job: &str, tenant: &str) -> Event {
    JobRequested {
        job: job.into(),
        tenant: tenant.into(),
        project: Some("detector".into()),
        class: "standard".into(),
        ..JobRequested::default()
    }
    .into()
}

pub fn placed(job: &str, attempt: i64, pool: &str, node: &str, gpus: i64) -> Event {
    JobPlaced {
        job: job.into(),
        tenant: "team".into(),
        run: format!("{job}/{attempt}").into(),
        attempt: Count(attempt),
        pool: pool.into(),
        site: "metapod-1".into(),
        nodes: vec![NodeGpus { node: node.into(), gpus: (0..gpus).collect(), gpu_milli_each: GpuMilli(1_000) }],
        replicas: Count(1),
        gpu_milli: GpuMilli(gpus * 1_000),
        gpu_model: "H100".into(),
        lease_until_us: TimeUs(TIME_MAX_US),
        currency: currency("USD"),
        ..JobPlaced::default()
    }
    .into()
}

pub fn started(job: &str, attempt: i64, started: i64) -> Event {
    let run = format!("{job}/{attempt}").into();
    RunStarted { job: job.into(), run, started_us: TimeUs(started), ..RunStarted::default() }.into()
}

pub fn finished(job: &str, attempt: i64, finished: i64) -> Event {
    let run = format!("{job}/{attempt}").into();
    RunFinished { job: job.into(), run, finished_us: TimeUs(finished), ..RunFinished::default() }.into()
}

/// What a run used of a meter; the id is made of what it is, so that corrections can name it.
pub fn used(job: &str, attempt: i64, meter: Meter, quantity: i64, from: i64, to: i64) -> Event {
    UsageMetered {
        event_id: format!("{job}/{attempt}/{meter}/{from}").into(),
        source: "meter".into(),
        job: job.into(),
        run: format!("{job}/{attempt}").into(),
        meter,
        quantity: UsageQuantity(quantity),
        from_us: TimeUs(from),
        to_us: TimeUs(to),
        ..UsageMetered::default()
    }
    .into()
}

/// GPU time over an interval, as an exact meter counts it.
pub fn gpu_time(job: &str, attempt: i64, gpus: i64, from: i64, to: i64) -> Event {
    used(job, attempt, Meter::GpuTime, gpus * 1_000 * (to - from), from, to)
}
