//! The part of a fleet file that operators decide: cell, features, rules, weights, models, tenants and their terms.

use solyx_schemas::events::plans::ExecutorScripted;
use solyx_schemas::events::policy::*;
use solyx_schemas::events::usage::Meter;
use solyx_schemas::ids::{ClassId, FeatureId, GpuModelId, Name, RefId, TenantId};
use solyx_schemas::units::*;

use super::FleetError;
use super::expand::{Builder, Lead, sum, symbols_of};
use super::format::{self, FleetFile};

pub fn build(fleet: &FleetFile, out: &mut Builder) -> Result<(), FleetError> {
    cell(fleet, out)?;
    for feature in &fleet.features {
        let Lead { event_id, source, occurred_us } = out.lead("feature", feature);
        let feature = FeatureId::from(feature.as_str());
        out.push("features", FeatureEnabled { event_id, source, occurred_us, feature })?;
    }
    if let Some(policy) = &fleet.policy {
        scheduling(policy, out)?;
    }
    for class in &fleet.class {
        let Lead { event_id, source, occurred_us } = out.lead("class", &class.id);
        out.push(
            &format!("class {}", class.id),
            PriorityClassSet {
                event_id,
                source,
                occurred_us,
                class: ClassId::from(class.id.as_str()),
                value: class.value,
                preempts: class.preempts,
                preemptible: class.preemptible,
                minimum_run_us: class.minimum_run.0,
            },
        )?;
    }
    if let Some(weights) = &fleet.weights {
        cost_weights(weights, fleet, out)?;
    }
    for model in &fleet.gpu_model {
        let Lead { event_id, source, occurred_us } = out.lead("gpu_model", &model.id);
        let speed = |(kind, speed): (&String, &super::values::Ratio)| KindSpeed {
            kind: Name::from(kind.as_str()),
            speed_milli: Milli(speed.0),
        };
        out.push(
            &format!("gpu_model {}", model.id),
            GpuModelDeclared {
                event_id,
                source,
                occurred_us,
                model: GpuModelId::from(model.id.as_str()),
                memory_mib: MemoryMib(model.memory_mib),
                idle_w: PowerW(model.idle_w),
                max_w: PowerW(model.max_w),
                nvlink_domain_size: Count(model.nvlink),
                mig_profiles: model.mig.iter().map(mig_profile).collect(),
                speeds: model.speeds.iter().map(speed).collect(),
            },
        )?;
    }
    rates(fleet, out)?;
    tenants(fleet, out)?;
    if let Some(executor) = &fleet.executor {
        let Lead { event_id, source, occurred_us } = out.lead("executor", &executor.id);
        out.push(
            "executor",
            ExecutorScripted {
                event_id,
                source,
                occurred_us,
                executor: executor.id.as_str().into(),
                seed: Count(executor.seed),
                start_delay_us: executor.start_delay.0,
                stop_delay_us: executor.stop_delay.0,
                node_failures_per_1000_h: Count(executor.node_failures_per_1000_h),
                spot_reclaims_per_1000_h: Count(executor.spot_reclaims_per_1000_h),
                repair_us: executor.repair.0,
                power_interval_us: executor.power_interval.0,
                busy_power_milli: Milli(executor.busy_power.0),
            },
        )?;
    }
    Ok(())
}

fn cell(fleet: &FleetFile, out: &mut Builder) -> Result<(), FleetError> {
    let cell = &fleet.cell;
    let Lead { event_id, source, occurred_us } = out.lead("cell", &cell.id);
    let partitions = |(topic, count): (&String, &i64)| TopicPartitions {
        topic: Name::from(topic.as_str()),
        partitions: Count(*count),
    };
    out.push(
        "cell",
        CellDeclared {
            event_id,
            source,
            occurred_us,
            cell_id: cell.id.as_str().into(),
            reference_currency: cell.currency.0,
            partitions: cell.partitions.iter().map(partitions).collect(),
            epoch_records_max: Count(cell.epoch_records),
            epoch_bytes_max: Count(cell.epoch_bytes),
            epoch_latency_max_us: cell.epoch_latency.0,
        },
    )
}

fn mig_profile(mig: &format::Mig) -> MigProfile {
    MigProfile {
        profile: Name::from(mig.profile.as_str()),
        memory_mib: MemoryMib(mig.memory_mib),
        slices: Count(mig.slices),
        starts: mig.starts.clone(),
    }
}

/// Rules of a fleet file that names none.
const ORDER_RULE: &str = "share-surcharge";
const PACKING_RULE: &str = "solyx";

fn scheduling(policy: &format::Policy, out: &mut Builder) -> Result<(), FleetError> {
    let Lead { event_id, source, occurred_us } = out.lead("policy", "cell");
    let mut set = SchedulingPolicySet {
        event_id,
        source,
        occurred_us,
        scope: Name::from("cell"),
        order_rule: Name::from(ORDER_RULE),
        packing_rule: Name::from(PACKING_RULE),
        ..SchedulingPolicySet::default()
    };
    set_constants(policy, &mut set);
    out.push("policy", set)
}

/// Puts what a table of constants names into a policy; the rest of it stays.
pub(crate) fn set_constants(policy: &format::Policy, set: &mut SchedulingPolicySet) {
    fn put<T, U>(field: &mut Option<T>, value: Option<U>, of: impl FnOnce(U) -> T) {
        if let Some(value) = value {
            *field = Some(of(value));
        }
    }
    if let Some(rule) = &policy.order_rule {
        set.order_rule = Name::from(rule.as_str());
    }
    if let Some(rule) = &policy.packing_rule {
        set.packing_rule = Name::from(rule.as_str());
    }
    if !policy.surcharge_gpu_hours.is_empty() {
        set.surcharge_gpu_hours = policy.surcharge_gpu_hours.iter().map(|n| Count(*n)).collect();
    }
    if !policy.surcharge.is_empty() {
        set.surcharge_us = policy.surcharge.iter().map(|s| s.0).collect();
    }
    put(&mut set.half_life_us, policy.half_life, |s| s.0);
    put(&mut set.promised_milli, policy.promised, |r| Milli(r.0));
    put(&mut set.backfill_depth, policy.backfill_depth, Count);
    put(&mut set.backfill_reservations, policy.backfill_reservations, Count);
    put(&mut set.preemptions_max, policy.preemptions_max, Count);
    put(&mut set.preemption_grace_us, policy.preemption_grace, |s| s.0);
    put(&mut set.run_lease_us, policy.run_lease, |s| s.0);
    put(&mut set.retries_max, policy.retries_max, Count);
    put(&mut set.retry_backoff_us, policy.retry_backoff, |s| s.0);
    put(&mut set.lemon_failures_max, policy.lemon_failures_max, Count);
    put(&mut set.lemon_window_us, policy.lemon_window, |s| s.0);
    put(&mut set.consolidation_budget_us, policy.consolidation_budget, |s| s.0);
    put(&mut set.plan_interval, policy.plan_interval, Count);
    put(&mut set.tick_us, policy.tick, |s| s.0);
    put(&mut set.default_expected_work_us, policy.default_expected_work, |s| WorkUs(s.0.0));
    put(&mut set.deferral_max_us, policy.deferral_max, |s| s.0);
    put(&mut set.deferral_saving_min_milli, policy.deferral_saving_min, |r| Milli(r.0));
    put(&mut set.lease_orders_max, policy.lease_orders_max, Count);
    put(&mut set.lease_idle_us, policy.lease_idle, |s| s.0);
    put(&mut set.prior_weight, policy.prior_weight, Count);
}

fn cost_weights(weights: &format::Weights, fleet: &FleetFile, out: &mut Builder) -> Result<(), FleetError> {
    let owned_first =
        out.symbol("weights, field owned_first", &weights.owned_first, OwnedFirst::parse, symbols_of!(OwnedFirst))?;
    let Lead { event_id, source, occurred_us } = out.lead("weights", "cell");
    let waiting = |class: &format::Class| ClassWeight {
        class: ClassId::from(class.id.as_str()),
        waiting_micros_per_hour: RateMicros(class.waiting_per_hour.0),
    };
    out.push(
        "weights",
        CostWeightsSet {
            event_id,
            source,
            occurred_us,
            scope: Name::from("cell"),
            from_us: occurred_us,
            to_us: None,
            currency: weights.currency.0,
            carbon_micros_per_kg: RateMicros(weights.carbon_per_kg.0),
            waiting: fleet.class.iter().map(waiting).collect(),
            risk_milli: Milli(weights.risk.0),
            latency_micros_per_ms_gpu_hour: RateMicros(weights.latency_per_ms_gpu_hour.0),
            owned_first,
            spot_reclaims_per_1000_h: Count(weights.spot_reclaims_per_1000_h),
            node_failures_per_1000_h: Count(weights.node_failures_per_1000_h),
        },
    )
}

fn rates(fleet: &FleetFile, out: &mut Builder) -> Result<(), FleetError> {
    for rate in &fleet.exchange_rate {
        let effective = rate.effective.map_or(out.at(), |moment| moment.0);
        let pair = format!("{}-{}", rate.from.0, rate.to.0);
        let lead = out.lead("exchange_rate", &format!("{pair}/{}", effective.0 / SECOND_US));
        out.push(
            &format!("exchange_rate {pair}"),
            ExchangeRateSet {
                event_id: lead.event_id,
                source: lead.source,
                occurred_us: lead.occurred_us,
                from_currency: rate.from.0,
                to_currency: rate.to.0,
                numerator: Count(rate.numerator),
                denominator: Count(rate.denominator),
                effective_from_us: effective,
            },
        )?;
    }
    for card in &fleet.rate_card {
        let place = format!("rate_card {}", card.id);
        let lines = card.line.iter().map(|line| rate_line(line, &place, out)).collect::<Result<_, _>>()?;
        let Lead { event_id, source, occurred_us } = out.lead("rate_card", &card.id);
        out.push(
            &place,
            RateCardSet {
                event_id,
                source,
                occurred_us,
                rate_card: RefId::from(card.id.as_str()),
                tenant: card.tenant.as_deref().map(TenantId::from),
                from_us: card.from.map_or(out.at(), |moment| moment.0),
                to_us: card.to.map(|moment| moment.0),
                currency: card.currency.0,
                lines,
            },
        )?;
    }
    Ok(())
}

fn rate_line(line: &format::RateLine, place: &str, out: &Builder) -> Result<RateLine, FleetError> {
    let place = format!("{place}, line {}", line.meter);
    let tiers = match (line.price, line.tiers.as_slice()) {
        (Some(price), []) => vec![PriceTier { up_to: None, price_micros: RateMicros(price.0) }],
        (None, [_, ..]) => {
            let tier = |tier: &format::Tier| PriceTier {
                up_to: tier.up_to.map(Count),
                price_micros: RateMicros(tier.price.0),
            };
            line.tiers.iter().map(tier).collect()
        }
        _ => return Err(out.error(&place, "both or neither of price and tiers", "one of them")),
    };
    Ok(RateLine {
        meter: out.symbol(&format!("{place}, field meter"), &line.meter, Meter::parse, symbols_of!(Meter))?,
        gpu_model: line.gpu_model.as_deref().map(GpuModelId::from),
        class: line.class.as_deref().map(ClassId::from),
        tiers,
        mode: if line.volume { TierMode::Volume } else { TierMode::Graduated },
    })
}

fn tenants(fleet: &FleetFile, out: &mut Builder) -> Result<(), FleetError> {
    for tenant in &fleet.tenant {
        let Lead { event_id, source, occurred_us } = out.lead("tenant", &tenant.id);
        out.push(
            &format!("tenant {}", tenant.id),
            TenantDeclared {
                event_id,
                source,
                occurred_us,
                tenant: TenantId::from(tenant.id.as_str()),
                parent: tenant.parent.as_deref().map(TenantId::from),
                weight_milli: Milli(tenant.weight.0),
                billing_currency: tenant.currency.0,
                invoice_day: Count(tenant.invoice_day),
                gpu_of_one_tenant: tenant.gpu_of_one_tenant.then_some(true),
            },
        )?;
    }
    for quota in &fleet.quota {
        let of = [Some(&quota.tenant), quota.project.as_ref(), quota.gpu_model.as_ref()];
        let id = of.into_iter().map(|part| part.map_or("-", String::as_str)).collect::<Vec<_>>().join("/");
        let Lead { event_id, source, occurred_us } = out.lead("quota", &id);
        let gpus = |ratio: super::values::Ratio| GpuMilli(ratio.0);
        out.push(
            &format!("quota {id}"),
            QuotaSet {
                event_id,
                source,
                occurred_us,
                tenant: TenantId::from(quota.tenant.as_str()),
                project: quota.project.as_deref().map(Into::into),
                gpu_model: quota.gpu_model.as_deref().map(Into::into),
                guaranteed_milli: gpus(quota.guaranteed),
                borrowing_limit_milli: quota.borrowing.map(gpus),
                lending_limit_milli: quota.lending.map(gpus),
                over_quota_weight_milli: quota.over_quota_weight.map(|ratio| Milli(ratio.0)),
            },
        )?;
    }
    for budget in &fleet.budget {
        let Lead { event_id, source, occurred_us } = out.lead("budget", &budget.id);
        out.push(
            &format!("budget {}", budget.id),
            BudgetSet {
                event_id,
                source,
                occurred_us,
                budget: RefId::from(budget.id.as_str()),
                tenant: TenantId::from(budget.tenant.as_str()),
                project: budget.project.as_deref().map(Into::into),
                job: budget.job.as_deref().map(Into::into),
                amount: sum(budget.amount, budget.currency),
                period_from_us: budget.from.map(|moment| moment.0),
                period_to_us: budget.to.map(|moment| moment.0),
                kind: if budget.hard { BudgetKind::Hard } else { BudgetKind::Soft },
            },
        )?;
    }
    Ok(())
}
