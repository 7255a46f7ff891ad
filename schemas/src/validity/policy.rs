//! What operators say.

use super::{
    CONTRACT_GPUS_MAX, Checked, GPU_W_MAX, MIG_SLICES_MAX, amount, at_least, between, expect, hexadecimal, interval,
    month, open_interval, price, tiers, unique,
};
use crate::events::Event;
use crate::events::policy::{
    BudgetSet, CellDeclared, CostWeightsSet, ExchangeRateSet, GpuModelDeclared, RateCardSet, SchedulingPolicySet,
    TenantDeclared,
};
use crate::field::FieldError;
use crate::topics::Topic;

/// The most partitions a topic may have.
const PARTITIONS_MAX: i64 = 4_096;
/// The most records an epoch may be allowed to take.
const EPOCH_RECORDS_MAX: i64 = 65_536;
/// Each promise is thought through once a pass.
const RESERVATIONS_MAX: i64 = 64;

pub(super) fn check(event: &Event) -> Checked {
    match event {
        Event::CellDeclared(e) => cell(e),
        Event::SchedulingPolicySet(e) => scheduling(e),
        Event::CostWeightsSet(e) => cost_weights(e),
        Event::GpuModelDeclared(e) => gpu_model(e),
        Event::TenantDeclared(e) => tenant(e),
        Event::BudgetSet(e) => budget(e),
        Event::RateCardSet(e) => rate_card(e),
        Event::LeaseSold(e) => {
            interval(e.from_us, e.to_us)?;
            between(1, CONTRACT_GPUS_MAX, "gpus", e.gpus.0)?;
            amount("price", &e.price)
        }
        Event::CommitmentBought(e) => {
            interval(e.from_us, e.to_us)?;
            at_least(1, "quantity", e.quantity.0)?;
            amount("price", &e.price)
        }
        Event::ReservationSet(e) => {
            interval(e.from_us, e.to_us)?;
            between(1, CONTRACT_GPUS_MAX, "gpus", e.gpus.0)
        }
        Event::PowerLimitSet(e) => open_interval(e.from_us, e.to_us),
        Event::ExchangeRateSet(e) => exchange_rate(e),
        Event::PeriodClosed(e) => month("period", e.period.as_str()),
        Event::DrillRequested(e) => at_least(1, "duration_us", e.duration_us.0),
        Event::SigningKeyDeclared(e) => {
            hexadecimal("public_key", e.public_key.as_str(), None)?;
            open_interval(e.from_us, e.to_us)
        }
        _ => Ok(()),
    }
}

/// The longest id of a cell: those of its outputs are made from it and must be ids too.
const CELL_ID_LEN_MAX: usize = 64;

fn cell(e: &CellDeclared) -> Checked {
    expect(e.cell_id.as_str().len() <= CELL_ID_LEN_MAX, "cell_id", &e.cell_id, || {
        format!("at most {CELL_ID_LEN_MAX} characters")
    })?;
    for (i, topic) in e.partitions.iter().enumerate() {
        let within = |e: FieldError| e.within(&format!("partitions[{i}]"));
        let real = Topic::parse(topic.topic.as_str()).is_some();
        expect(real, "topic", &topic.topic, || {
            format!("a topic without prefix: {}", Topic::ALL.map(Topic::name).join(", "))
        })
        .map_err(within)?;
        between(1, PARTITIONS_MAX, "partitions", topic.partitions.0).map_err(within)?;
    }
    unique("partitions", e.partitions.iter().map(|p| &p.topic))?;
    between(1, EPOCH_RECORDS_MAX, "epoch_records_max", e.epoch_records_max.0)?;
    at_least(1, "epoch_bytes_max", e.epoch_bytes_max.0)
}

fn scheduling(e: &SchedulingPolicySet) -> Checked {
    expect(e.surcharge_us.len() == e.surcharge_gpu_hours.len(), "surcharge_us", e.surcharge_us.len(), || {
        format!("as many as surcharge_gpu_hours has, {}", e.surcharge_gpu_hours.len())
    })?;
    for (i, pair) in e.surcharge_gpu_hours.windows(2).enumerate() {
        expect(pair[0] < pair[1], &format!("surcharge_gpu_hours[{}]", i + 1), pair[1].0, || {
            format!("more than {}, the step below", pair[0].0)
        })?;
    }
    between(1, RESERVATIONS_MAX, "backfill_reservations", e.backfill_reservations.map_or(1, |most| most.0))?;
    between(0, 1_000, "promised_milli", e.promised_milli.map_or(0, |m| m.0))?;
    for (field, duration) in
        [("half_life_us", e.half_life_us), ("tick_us", e.tick_us), ("run_lease_us", e.run_lease_us)]
    {
        at_least(1, field, duration.map_or(1, |d| d.0))?;
    }
    for (i, kind) in e.prior_kinds.iter().enumerate() {
        let within = |e: FieldError| e.within(&format!("prior_kinds[{i}]"));
        super::gpu_share(kind.gpus.0, kind.gpu_milli_each.0).map_err(within)?;
    }
    Ok(())
}

fn cost_weights(e: &CostWeightsSet) -> Checked {
    open_interval(e.from_us, e.to_us)?;
    price("carbon_micros_per_kg", e.carbon_micros_per_kg)?;
    price("latency_micros_per_ms_gpu_hour", e.latency_micros_per_ms_gpu_hour)?;
    for (i, weight) in e.waiting.iter().enumerate() {
        price("waiting_micros_per_hour", weight.waiting_micros_per_hour)
            .map_err(|e| e.within(&format!("waiting[{i}]")))?;
    }
    unique("waiting", e.waiting.iter().map(|w| &w.class))
}

fn gpu_model(e: &GpuModelDeclared) -> Checked {
    between(0, GPU_W_MAX, "max_w", e.max_w.0)?;
    expect(e.idle_w <= e.max_w, "max_w", e.max_w.0, || format!("at least idle_w, which is {}", e.idle_w.0))?;
    at_least(1, "nvlink_domain_size", e.nvlink_domain_size.0)?;
    for (i, profile) in e.mig_profiles.iter().enumerate() {
        let within = |e: FieldError| e.within(&format!("mig_profiles[{i}]"));
        between(1, MIG_SLICES_MAX, "slices", profile.slices.0).map_err(within)?;
        let last = MIG_SLICES_MAX - profile.slices.0;
        profile.starts.iter().try_for_each(|start| between(0, last, "starts", *start)).map_err(within)?;
        unique("starts", &profile.starts).map_err(within)?;
    }
    unique("mig_profiles", e.mig_profiles.iter().map(|p| &p.profile))?;
    for (i, speed) in e.speeds.iter().enumerate() {
        at_least(1, "speed_milli", speed.speed_milli.0).map_err(|e| e.within(&format!("speeds[{i}]")))?;
    }
    unique("speeds", e.speeds.iter().map(|s| &s.kind))
}

fn tenant(e: &TenantDeclared) -> Checked {
    expect(e.parent.as_ref() != Some(&e.tenant), "parent", &e.tenant, || "another tenant".to_owned())?;
    at_least(1, "weight_milli", e.weight_milli.0)?;
    between(1, 31, "invoice_day", e.invoice_day.0)
}

fn budget(e: &BudgetSet) -> Checked {
    amount("amount", &e.amount)?;
    match (e.period_from_us, e.period_to_us) {
        (Some(from), Some(to)) => expect(from < to, "period_to_us", to.0, || format!("later than {}", from.0)),
        (None, None) => Ok(()),
        (Some(_), None) => {
            Err(FieldError::at("period_to_us", "null", "the end of the period that period_from_us begins"))
        }
        (None, Some(_)) => {
            Err(FieldError::at("period_from_us", "null", "the start of the period that period_to_us ends"))
        }
    }
}

fn rate_card(e: &RateCardSet) -> Checked {
    open_interval(e.from_us, e.to_us)?;
    for (i, line) in e.lines.iter().enumerate() {
        let within = |e: FieldError| e.within(&format!("lines[{i}]"));
        tiers(&line.tiers, |tier| tier.up_to.map(|end| end.0), "up_to").map_err(within)?;
        line.tiers.iter().try_for_each(|tier| price("price_micros", tier.price_micros)).map_err(within)?;
    }
    let lines = e.lines.iter().map(|l| {
        let name = |id: Option<&str>| id.unwrap_or("any").to_owned();
        let model = name(l.gpu_model.as_ref().map(|m| m.as_str()));
        format!("{}, model {model}, class {}", l.meter, name(l.class.as_ref().map(|c| c.as_str())))
    });
    unique("lines", lines)
}

fn exchange_rate(e: &ExchangeRateSet) -> Checked {
    at_least(1, "numerator", e.numerator.0)?;
    at_least(1, "denominator", e.denominator.0)?;
    expect(e.from_currency != e.to_currency, "to_currency", e.to_currency, || "another than from_currency".to_owned())
}
