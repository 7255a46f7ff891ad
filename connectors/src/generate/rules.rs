//! What operators decide for the whole cell: features, rules, weights, classes, models, rates, and how the executor behaves.

use solyx_schemas::events::plans::ExecutorScripted;
use solyx_schemas::events::policy::*;
use solyx_schemas::events::usage::Meter;
use solyx_schemas::units::*;

use super::models::MODELS;
use super::plan::Plan;
use super::world::{World, money, say};

const MINUTE_US: i64 = 60 * SECOND_US;

/// Priority classes: id, value, whether it preempts, may be preempted, minutes left alone, cost of an hour of waiting.
const CLASSES: [(&str, i64, bool, bool, i64, i64); 3] = [
    ("production", 1_000, true, false, 0, 4_000_000),
    ("standard", 500, false, true, 30, 800_000),
    ("scavenger", 100, false, true, 10, 50_000),
];

/// Rates to the dollar at the start, in ten thousandths.
const RATES: [(&str, i64); 2] = [("EUR", 10_560), ("GBP", 12_150)];

pub(super) fn build(plan: &Plan, world: &mut World<'_>) {
    let at = plan.opening;
    say!(
        world,
        at,
        "cell",
        "generated",
        CellDeclared {
            cell_id: "generated".into(),
            reference_currency: money("USD"),
            partitions: Vec::new(),
            epoch_records_max: Count(16_384),
            epoch_bytes_max: Count(16 << 20),
            epoch_latency_max_us: DurationUs(5_000),
        }
    );
    say!(world, at, "feature", "spine", FeatureEnabled { feature: "spine".into() });
    policy(plan, world);
    for (class, value, preempts, preemptible, minimum, _) in CLASSES {
        say!(
            world,
            at,
            "class",
            class,
            PriorityClassSet {
                class: class.into(),
                value,
                preempts,
                preemptible,
                minimum_run_us: DurationUs(minimum * MINUTE_US),
            }
        );
    }
    weights(plan, world);
    for model in &MODELS {
        let mig = |profile: &str, memory_mib, slices, starts: &[i64]| MigProfile {
            profile: profile.into(),
            memory_mib: MemoryMib(memory_mib),
            slices: Count(slices),
            starts: starts.to_vec(),
        };
        let eighth = model.memory_mib / 8;
        let profiles = vec![mig("1g", eighth, 1, &[0, 1, 2, 3, 4, 5, 6]), mig("3g", 4 * eighth, 4, &[0, 4])];
        say!(
            world,
            at,
            "model",
            model.id,
            GpuModelDeclared {
                model: model.id.into(),
                memory_mib: MemoryMib(model.memory_mib),
                idle_w: PowerW(model.idle_w),
                max_w: PowerW(model.max_w),
                nvlink_domain_size: Count(model.nvlink),
                mig_profiles: if model.nvlink == 8 { profiles } else { Vec::new() },
                speeds: vec![KindSpeed { kind: "training".into(), speed_milli: Milli(model.speed_milli) }],
            }
        );
    }
    exchange_rates(plan, world);
    rate_cards(plan, world);
    say!(
        world,
        at,
        "executor",
        "simulated",
        ExecutorScripted {
            executor: "simulated".into(),
            seed: Count(plan.seed as i64),
            start_delay_us: DurationUs(20 * SECOND_US),
            stop_delay_us: DurationUs(10 * SECOND_US),
            node_failures_per_1000_h: Count(2),
            spot_reclaims_per_1000_h: Count(30),
            repair_us: DurationUs(4 * HOUR_US),
            power_interval_us: DurationUs(HOUR_US),
            busy_power_milli: Milli(800),
        }
    );
}

fn policy(plan: &Plan, world: &mut World<'_>) {
    let packing = *plan.luck.pick("packing-rule", "", &["solyx", "fgd", "best-fit"]);
    let prior = |cpu, memory, gpus, milli, frequency| KindPrior {
        cpu_milli: CpuMilli(cpu),
        memory_mib: MemoryMib(memory),
        gpus: Count(gpus),
        gpu_milli_each: GpuMilli(milli),
        models: Vec::new(),
        frequency: Count(frequency),
    };
    say!(
        world,
        plan.opening,
        "policy",
        "cell",
        SchedulingPolicySet {
            scope: "cell".into(),
            order_rule: "classic".into(),
            packing_rule: packing.into(),
            backfill_depth: Some(Count(128)),
            preemption_grace_us: Some(DurationUs(2 * MINUTE_US)),
            run_lease_us: Some(DurationUs(15 * MINUTE_US)),
            retries_max: Some(Count(3)),
            retry_backoff_us: Some(DurationUs(MINUTE_US)),
            lemon_failures_max: Some(Count(3)),
            lemon_window_us: Some(DurationUs(DAY_US)),
            tick_us: Some(DurationUs(10 * MINUTE_US)),
            default_expected_work_us: Some(WorkUs(2 * HOUR_US)),
            deferral_max_us: Some(DurationUs(3 * HOUR_US)),
            deferral_saving_min_milli: Some(Milli(50)),
            lease_orders_max: Some(Count(8)),
            lease_idle_us: Some(DurationUs(10 * MINUTE_US)),
            prior_kinds: vec![
                prior(8_000, 32_768, 1, 1_000, 40),
                prior(4_000, 16_384, 1, 500, 25),
                prior(64_000, 262_144, 8, 1_000, 20),
                prior(16_000, 65_536, 0, 1_000, 15),
            ],
            prior_weight: Some(Count(100)),
            ..SchedulingPolicySet::default()
        }
    );
}

fn weights(plan: &Plan, world: &mut World<'_>) {
    // A third of the worlds take owned capacity only where it is cheaper.
    let marginal = plan.luck.chance("owned-first", "", 333);
    let middle = TimeUs(plan.start.0 + (plan.end.0 - plan.start.0) / 2);
    // Half-way the price of carbon rises.
    for (n, from, to, carbon) in [(1, plan.opening, Some(middle), 80_000), (2, middle, None, 110_000)] {
        say!(
            world,
            plan.opening,
            "weights",
            &n.to_string(),
            CostWeightsSet {
                scope: "cell".into(),
                from_us: from,
                to_us: to,
                currency: money("USD"),
                carbon_micros_per_kg: RateMicros(carbon),
                waiting: CLASSES
                    .iter()
                    .map(|class| ClassWeight { class: class.0.into(), waiting_micros_per_hour: RateMicros(class.5) })
                    .collect(),
                risk_milli: Milli(1_000),
                latency_micros_per_ms_gpu_hour: RateMicros(2_000),
                owned_first: if marginal { OwnedFirst::MarginalCost } else { OwnedFirst::Forced },
                spot_reclaims_per_1000_h: Count(30),
                node_failures_per_1000_h: Count(2),
            }
        );
    }
}

/// Both directions of each pair, anew each day.
fn exchange_rates(plan: &Plan, world: &mut World<'_>) {
    for (currency, base) in RATES {
        for day in 0..=i64::from(plan.size.days) {
            let from = if day == 0 { plan.opening } else { TimeUs(plan.start.0 + day * DAY_US) };
            let id = format!("{currency}/{day}");
            let rate = base + plan.luck.between("rate", &id, -120, 120);
            // The rate of a day is fixed in the afternoon before.
            let said = TimeUs((from.0 - 8 * HOUR_US).max(plan.opening.0));
            for (one, other, numerator, denominator) in
                [(currency, "USD", rate, 10_000), ("USD", currency, 10_000, rate)]
            {
                say!(
                    world,
                    said,
                    "rate",
                    &format!("{one}-{other}/{day}"),
                    ExchangeRateSet {
                        from_currency: money(one),
                        to_currency: money(other),
                        numerator: Count(numerator),
                        denominator: Count(denominator),
                        effective_from_us: from,
                    }
                );
            }
        }
    }
}

/// A list in dollars, one of each company in its currency, and one team with its own graduated prices.
fn rate_cards(plan: &Plan, world: &mut World<'_>) {
    let line = |meter, model: Option<&str>, tiers: Vec<PriceTier>, mode| RateLine {
        meter,
        gpu_model: model.map(Into::into),
        class: None,
        tiers,
        mode,
    };
    let flat = |micros| vec![PriceTier { up_to: None, price_micros: RateMicros(micros) }];
    let lines = |discount_milli: i64| {
        let gpu = MODELS.iter().map(|model| {
            line(Meter::GpuTime, Some(model.id), flat(model.price_milli * discount_milli), TierMode::Graduated)
        });
        let mut lines: Vec<RateLine> = gpu.collect();
        lines.push(line(Meter::CpuTime, None, flat(20_000), TierMode::Graduated));
        lines.push(line(Meter::Egress, None, flat(50_000), TierMode::Graduated));
        lines
    };
    say!(
        world,
        plan.opening,
        "card",
        "list",
        RateCardSet {
            rate_card: "list".into(),
            tenant: None,
            from_us: plan.opening,
            to_us: None,
            currency: money("USD"),
            lines: lines(1_000),
        }
    );
    for (n, team) in plan.teams.iter().enumerate().filter(|(n, _)| n % 3 == 0) {
        let company = plan.company_of(team);
        let mut lines = lines(plan.luck.between("discount", &team.id, 850, 980));
        let mode = if n % 2 == 0 { TierMode::Graduated } else { TierMode::Volume };
        for line in lines.iter_mut().filter(|line| line.meter == Meter::GpuTime) {
            let list = line.tiers[0].price_micros.0;
            let tier = |up_to: Option<i64>, milli: i64| PriceTier {
                up_to: up_to.map(Count),
                price_micros: RateMicros(list * milli / 1_000),
            };
            line.tiers = vec![tier(Some(100), 1_000), tier(Some(1_000), 930), tier(None, 880)];
            line.mode = mode;
        }
        say!(
            world,
            plan.opening,
            "card",
            &team.id,
            RateCardSet {
                rate_card: team.id.as_str().into(),
                tenant: Some(team.id.as_str().into()),
                from_us: plan.opening,
                to_us: None,
                currency: money(company.currency),
                lines,
            }
        );
    }
}
