//! Billing on small histories: what an invoice says, and where money and GPU time go.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use common::History;
use common::billing::*;
use solyx_kernel::rating::Month;
use solyx_projections::billing::{Billing, BillingView, InvoiceView, LineKind};
use solyx_projections::fold::Fold;
use solyx_schemas::events::Event;
use solyx_schemas::events::assets::{AssetInstalled, AssetMoved, AssetRetired, DepreciationMethod};
use solyx_schemas::events::capacity::CapacityClass;
use solyx_schemas::events::decisions::{JobPreempted, JobRequeued};
use solyx_schemas::events::facility::SiteDeclared;
use solyx_schemas::events::nodes::{GpuReport, NodeReported};
use solyx_schemas::events::policy::{CommitmentBought, LeaseSold, PaymentOption, SoldLeaseEnded, TierMode};
use solyx_schemas::events::usage::{Meter, SupplierInvoiced, SupplierLine, UsageCorrected};
use solyx_schemas::events::world::{EnergyPriced, InstanceLeaseEnded, InstanceLeased, LeaseReason, PriceKind};
use solyx_schemas::units::*;

fn folded(history: &History) -> Billing {
    let mut billing = Billing::default();
    history.epochs.iter().for_each(|epoch| billing.apply(epoch).unwrap());
    let mut loaded = Billing::default();
    loaded.load(&mut billing.entries().into_iter()).unwrap();
    assert_eq!(loaded.entries(), billing.entries(), "a saved state is the state");
    assert_eq!(loaded.view(), billing.view(), "and says the same");
    billing
}

fn invoice(billing: &Billing, tenant: &str, month: &str) -> InvoiceView {
    billing.invoice(&tenant.into(), Month::parse(month).unwrap()).unwrap()
}

fn begun(extra: Vec<Event>) -> History {
    let mut history = History::default();
    let pools = [
        pool("metapod-1/h100", "metapod", CapacityClass::Owned),
        pool("lambda/h100", "lambda", CapacityClass::OnDemand),
    ];
    let inputs = [cell(), tenant("team", "USD")].into_iter().chain(pools).chain(extra).collect();
    history.epoch(at("2023-09-01"), inputs, Vec::new());
    history
}

/// A run of eight GPUs from one instant to another, metered by the hour of the clock.
fn run(history: &mut History, job: &str, from: i64, to: i64) {
    history.epoch(from, vec![requested(job, "team")], vec![placed(job, 1, "metapod-1/h100", "node-1", 8)]);
    let mut events = vec![started(job, 1, from)];
    let mut start = from;
    while start < to {
        let end = ((start / HOUR_US + 1) * HOUR_US).min(to);
        events.push(gpu_time(job, 1, 8, start, end));
        start = end;
    }
    events.push(finished(job, 1, to));
    history.epoch(to, events, Vec::new());
}

#[test]
fn an_invoice_says_what_was_used_at_which_rate_and_leads_to_its_events() {
    let euro = vec![
        tenant("team", "EUR"),
        flat_card("standard", "USD", 2_123_457),
        exchange("USD", "EUR", at("2023-09-01"), 93, 100),
    ];
    let mut history = begun(euro);
    let from = at("2023-09-30T22:40:00Z");
    run(&mut history, "train/a", from, from + 3 * HOUR_US + 123_457);
    let billing = folded(&history);
    let shown = |month| serde_json::to_string_pretty(&invoice(&billing, "team", month)).unwrap();
    insta::assert_snapshot!("invoice", format!("{}\n{}", shown("2023-09"), shown("2023-10")));
}

#[test]
fn usage_over_a_month_and_a_change_of_rate_is_split_in_proportion_to_time() {
    let change = at("2023-10-01T00:30:00Z");
    let mut history = begun(vec![
        card("old", "USD", 0, Some(change), TierMode::Graduated, &[(None, 1_000_000)]),
        card("new", "USD", change, None, TierMode::Graduated, &[(None, 3_000_000)]),
    ]);
    let (from, to) = (at("2023-09-30T23:00:00Z"), at("2023-10-01T01:00:00Z"));
    history.epoch(from, vec![requested("a", "team")], vec![placed("a", 1, "metapod-1/h100", "node-1", 1)]);
    history.epoch(to, vec![started("a", 1, from), gpu_time("a", 1, 1, from, to), finished("a", 1, to)], Vec::new());
    let billing = folded(&history);
    assert_eq!(invoice(&billing, "team", "2023-09").total_micros, Some(1_000_000));
    let october = invoice(&billing, "team", "2023-10");
    let amounts: Vec<Option<i64>> = october.lines.iter().map(|line| line.amount_micros).collect();
    assert_eq!(amounts, [Some(1_500_000), Some(500_000)]);
    assert!(billing.view().gpu_time.conserved);
}

#[test]
fn what_comes_after_a_month_is_closed_corrects_the_first_open_one() {
    let tiers = [(Some(10), 1_000_000), (None, 500_000)];
    let mut history = begun(vec![card("standard", "USD", 0, None, TierMode::Graduated, &tiers)]);
    let from = at("2023-09-10");
    run(&mut history, "a", from, from + HOUR_US);
    let late = from + 2 * HOUR_US;
    let in_the_same_epoch = gpu_time("a", 2, 1, late, late + HOUR_US);
    history.epoch(at("2023-10-03"), vec![closed("team", "2023-09"), in_the_same_epoch], Vec::new());
    let before = invoice(&folded(&history), "team", "2023-09");
    assert_eq!(before.total_micros, Some(9_000_000), "usage of the closing epoch still belongs");
    assert_eq!(before.closed_at_epoch, Some(3));

    let correction = UsageCorrected {
        job: "a".into(),
        corrects_source: "meter".into(),
        corrects_event: format!("a/1/GPU_TIME/{from}").into(),
        difference: -8_000 * HOUR_US / 2,
        ..UsageCorrected::default()
    };
    let inputs = vec![gpu_time("a", 3, 2, late, late + HOUR_US), correction.into()];
    history.epoch(at("2023-10-05"), inputs, Vec::new());
    let billing = folded(&history);
    let mut after = invoice(&billing, "team", "2023-09");
    assert_eq!(after.lines.len(), before.lines.len());
    after.lines.clone_from(&before.lines);
    assert_eq!(after, before, "a closed invoice stays");
    let october = invoice(&billing, "team", "2023-10");
    let lines: Vec<(LineKind, Option<&str>, Option<i64>)> =
        october.lines.iter().map(|l| (l.kind, l.corrects_period.as_deref(), l.amount_micros)).collect();
    // The tenth hour and half of the eleventh come at their tiers; then four hours are taken back from the top.
    assert_eq!(october.total_micros, Some(1_500_000 - 500_000 - 3_000_000));
    assert!(lines.iter().all(|line| line.0 == LineKind::Correction && line.1 == Some("2023-09")), "{lines:?}");
}

#[test]
fn volume_tiers_price_the_month_as_a_whole_and_graduated_ones_hour_by_hour() {
    let total = |mode| {
        let tiers = [(Some(10), 1_000_000), (None, 500_000)];
        let mut history = begun(vec![card("standard", "USD", 0, None, mode, &tiers)]);
        let from = at("2023-09-10");
        run(&mut history, "b", from, from + HOUR_US);
        run(&mut history, "a", from + HOUR_US, from + 2 * HOUR_US);
        let invoice = invoice(&folded(&history), "team", "2023-09");
        let amounts: Vec<(String, i64)> =
            invoice.lines.iter().map(|l| (l.job.clone().unwrap(), l.amount_micros.unwrap())).collect();
        (amounts, invoice.total_micros.unwrap())
    };
    let line = |job: &str, amount| (job.to_owned(), amount);
    // Job b came first, so that its hours fill the first tier.
    assert_eq!(total(TierMode::Graduated), (vec![line("a", 5_000_000), line("b", 8_000_000)], 13_000_000));
    assert_eq!(total(TierMode::Volume), (vec![line("a", 4_000_000), line("b", 4_000_000)], 8_000_000));
}

/// What a MWh of a job costs in the first hour of a day when these prices were said: kind, hours from then on, revision, USD.
fn a_mwh_costs(prices: &[(PriceKind, (i64, i64), i64, i64)]) -> i64 {
    let from = at("2023-09-05");
    let site = SiteDeclared {
        site: "metapod-1".into(),
        grid_zone: "DE-LU".into(),
        design_pue_milli: Milli(1_000),
        ..SiteDeclared::default()
    };
    let price = |kind, hours: (i64, i64), revision, usd_per_mwh: i64| -> Event {
        EnergyPriced {
            zone: "DE-LU".into(),
            from_us: TimeUs(from + hours.0 * HOUR_US),
            to_us: TimeUs(from + hours.1 * HOUR_US),
            price_micros_per_mwh: RateMicros(usd_per_mwh * 1_000_000),
            currency: currency("USD"),
            revision: Count(revision),
            kind,
            ..EnergyPriced::default()
        }
        .into()
    };
    let prices = prices.iter().map(|(kind, hours, revision, usd)| price(*kind, *hours, *revision, *usd)).collect();
    let mut history = begun([vec![site.into()], prices].concat());
    history.epoch(from, vec![requested("a", "team")], vec![placed("a", 1, "metapod-1/h100", "node-1", 8)]);
    let end = from + HOUR_US;
    history.epoch(
        end,
        vec![started("a", 1, from), used("a", 1, Meter::Energy, 3_600_000_000, from, end), finished("a", 1, end)],
        Vec::new(),
    );
    let view = folded(&history).view();
    view.suppliers.iter().map(|supplier| supplier.energy_micros).sum()
}

#[test]
fn energy_costs_the_newest_revision_of_the_price_in_force() {
    use PriceKind::{DayAhead, RealTime, Tariff};
    // The last of them was delayed.
    let prices = [(Tariff, (-2, -1), 1, 900), (DayAhead, (0, 1), 2, 200), (DayAhead, (0, 1), 1, 100)];
    assert_eq!(a_mwh_costs(&prices), 200_000_000);
    // What is said anew of some hours leaves the others what they were.
    let month = (Tariff, (-100, 600), 0, 100);
    assert_eq!(a_mwh_costs(&[month, (Tariff, (-2, -1), 1, 500)]), 100_000_000);
    assert_eq!(a_mwh_costs(&[month, (Tariff, (-2, 1), 1, 500)]), 500_000_000);
    // What the contract says is paid, whatever was settled.
    assert_eq!(a_mwh_costs(&[month, (RealTime, (0, 1), 0, 50)]), 100_000_000);
}

/// Eight GPUs from the middle of a month to the middle of the next.
fn sold(payment: PaymentOption) -> LeaseSold {
    LeaseSold {
        lease: "lease-1".into(),
        tenant: "team".into(),
        gpus: Count(8),
        gpu_model: "H100".into(),
        from_us: TimeUs(at("2023-09-11")),
        to_us: TimeUs(at("2023-10-11")),
        price: sum("USD", 30_000_000),
        payment,
        ..LeaseSold::default()
    }
}

#[test]
fn a_correction_of_a_sold_lease_stays_on_the_invoice_that_was_closed_with_it() {
    let mut history = begun(vec![flat_card("standard", "USD", 1_000_000)]);
    let totals = |history: &History| {
        let billing = folded(history);
        ["2023-09", "2023-10", "2023-11", "2023-12"].map(|month| {
            let invoice = billing.invoice(&"team".into(), Month::parse(month).unwrap());
            invoice.map_or(0, |invoice| invoice.total_micros.unwrap())
        })
    };
    history.epoch(at("2023-10-02"), vec![closed("team", "2023-09")], Vec::new());
    history.epoch(at("2023-10-12"), vec![sold(PaymentOption::None).into()], Vec::new());
    assert_eq!(totals(&history), [0, 30_000_000, 0, 0], "two thirds of it are September's");
    history.epoch(at("2023-11-02"), vec![closed("team", "2023-10")], Vec::new());
    history.epoch(at("2023-11-03"), Vec::new(), Vec::new());
    assert_eq!(totals(&history), [0, 30_000_000, 0, 0]);
    // It had ended after a third of September's part.
    let ended = |day: &str| SoldLeaseEnded {
        lease: "lease-1".into(),
        tenant: "team".into(),
        ended_us: TimeUs(at(day)),
        ..SoldLeaseEnded::default()
    };
    history.epoch(at("2023-11-05"), vec![ended("2023-09-21").into(), ended("2023-10-01").into()], Vec::new());
    assert_eq!(totals(&history), [0, 30_000_000, -20_000_000, 0], "the earlier end counts");
    history.epoch(at("2023-12-02"), vec![closed("team", "2023-11")], Vec::new());
    history.epoch(at("2023-12-03"), Vec::new(), Vec::new());
    assert_eq!(totals(&history), [0, 30_000_000, -20_000_000, 0]);
}

#[test]
fn a_sold_lease_is_a_line_each_month_and_covers_what_draws_on_it() {
    let mut history = begun(vec![flat_card("standard", "USD", 1_000_000), sold(PaymentOption::Partial).into()]);
    let from = at("2023-09-12");
    let mut draws = requested("a", "team");
    if let Event::JobRequested(job) = &mut draws {
        job.sold_lease = Some("lease-1".into());
    }
    history.epoch(from, vec![draws], vec![placed("a", 1, "metapod-1/h100", "node-1", 8)]);
    let to = from + HOUR_US;
    history.epoch(to, vec![started("a", 1, from), gpu_time("a", 1, 8, from, to), finished("a", 1, to)], Vec::new());
    history.epoch(at("2023-10-12"), Vec::new(), Vec::new());
    let billing = folded(&history);
    let september = invoice(&billing, "team", "2023-09");
    let kinds: Vec<(LineKind, Option<i64>)> = september.lines.iter().map(|l| (l.kind, l.amount_micros)).collect();
    assert_eq!(kinds, [(LineKind::CoveredByLease, Some(0)), (LineKind::SoldLease, Some(15_000_000 + 10_000_000))]);
    assert_eq!(invoice(&billing, "team", "2023-10").total_micros, Some(5_000_000));
    assert!(billing.view().gpu_time.conserved);
}

#[test]
fn a_sold_lease_covers_what_is_used_while_it_is_in_force_and_corrections_follow_what_they_correct() {
    let mut history = begun(vec![flat_card("standard", "USD", 1_000_000), sold(PaymentOption::AllUpfront).into()]);
    let from = at("2023-09-12");
    let naming = |name: &str, reservation: Option<&str>| {
        let mut asked = requested(name, "team");
        if let Event::JobRequested(job) = &mut asked {
            (job.sold_lease, job.reservation) = (Some("lease-1".into()), reservation.map(Into::into));
        }
        asked
    };
    let asked = vec![naming("a", None), naming("b", Some("kept"))];
    let on_node = |name: &str, node: &str| placed(name, 1, "metapod-1/h100", node, 8);
    history.epoch(from, asked, vec![on_node("a", "node-1"), on_node("b", "node-2")]);
    let hour = |name: &str, number: i64| gpu_time(name, 1, 8, from + number * HOUR_US, from + (number + 1) * HOUR_US);
    let started = ["a", "b"].map(|name| started(name, 1, from));
    history.epoch(from + HOUR_US, started.into_iter().chain([hour("a", 0), hour("b", 0)]).collect(), Vec::new());
    let ended = SoldLeaseEnded {
        lease: "lease-1".into(),
        tenant: "team".into(),
        ended_us: TimeUs(from + HOUR_US),
        ..SoldLeaseEnded::default()
    };
    let less = UsageCorrected {
        job: "a".into(),
        corrects_source: "meter".into(),
        corrects_event: format!("a/1/GPU_TIME/{from}").into(),
        difference: -4_000 * HOUR_US,
        ..UsageCorrected::default()
    };
    history.epoch(from + 2 * HOUR_US, vec![ended.into(), hour("a", 1), less.into()], Vec::new());
    let september = invoice(&folded(&history), "team", "2023-09");
    let gpu_hours = |kind: LineKind| {
        let of_kind = september.lines.iter().filter(|line| line.kind == kind);
        of_kind.map(|line| (line.job.clone().unwrap(), line.amount_micros.unwrap())).collect::<Vec<_>>()
    };
    assert_eq!(gpu_hours(LineKind::Usage), [("a".to_owned(), 8_000_000), ("b".to_owned(), 8_000_000)]);
    let covered: Vec<_> = september.lines.iter().filter(|line| line.kind == LineKind::CoveredByLease).collect();
    assert_eq!(covered.len(), 1);
    assert_eq!(covered[0].priced_quantity.as_deref(), Some("4.000000"), "half of the first hour was taken back");
}

/// An asset of a node that loses a dollar in a hundred hours.
fn asset(from: i64) -> AssetInstalled {
    AssetInstalled {
        serial: "sn-1".into(),
        node: Some("node-1".into()),
        cost: sum("USD", 1_000_000),
        salvage: sum("USD", 0),
        installed_us: TimeUs(from),
        life_us: DurationUs(100 * HOUR_US),
        method: DepreciationMethod::StraightLine,
        ..AssetInstalled::default()
    }
}

/// A fleet of one owned node with its asset and energy, and one leased instance, each running a job.
fn both_kinds_of_supply() -> BillingView {
    let from = at("2023-09-10");
    let site = SiteDeclared {
        site: "metapod-1".into(),
        grid_zone: "DE-LU".into(),
        design_pue_milli: Milli(1_200),
        ..SiteDeclared::default()
    };
    let gpus = (0..8).map(|index| GpuReport { index, ..GpuReport::default() }).collect();
    let node = NodeReported { node: "node-1".into(), pool: "metapod-1/h100".into(), gpus, ..NodeReported::default() };
    let asset = asset(from);
    let price = EnergyPriced {
        zone: "DE-LU".into(),
        from_us: TimeUs(from),
        to_us: TimeUs(from + HOUR_US),
        price_micros_per_mwh: RateMicros(100_000_000),
        currency: currency("USD"),
        kind: PriceKind::DayAhead,
        ..EnergyPriced::default()
    };
    let leased = InstanceLeased {
        pool: "lambda/h100".into(),
        instance: "i-1".into(),
        order: "cell-a/0/0/0".into(),
        price_micros_per_gpu_hour: RateMicros(2_000_000),
        currency: currency("USD"),
        from_us: TimeUs(from),
        ..InstanceLeased::default()
    };
    let mut history = begun(vec![
        flat_card("standard", "USD", 3_000_000),
        site.into(),
        asset.into(),
        node.into(),
        price.into(),
        leased.into(),
    ]);
    let owned = placed("owned", 1, "metapod-1/h100", "node-1", 4);
    let bought = placed("bought", 1, "lambda/h100", "i-1", 8);
    history.epoch(from, vec![requested("owned", "team"), requested("bought", "team")], vec![owned, bought]);
    let to = from + HOUR_US;
    let mut inputs = Vec::new();
    for (job, gpus) in [("owned", 4), ("bought", 8)] {
        inputs.push(started(job, 1, from));
        inputs.push(gpu_time(job, 1, gpus, from, to));
        inputs.push(used(job, 1, Meter::Energy, 3_600_000, from, to));
        inputs.push(finished(job, 1, to));
    }
    let ended = InstanceLeaseEnded {
        pool: "lambda/h100".into(),
        instance: "i-1".into(),
        from_us: TimeUs(from),
        to_us: TimeUs(from + 2 * HOUR_US),
        charged: sum("USD", 32_000_000),
        reason: LeaseReason::Asked,
        ..InstanceLeaseEnded::default()
    };
    inputs.push(ended.into());
    history.epoch(to, inputs, Vec::new());
    let line = |subject: &str, micros| SupplierLine {
        subject: subject.into(),
        description: String::new(),
        amount: sum("USD", micros),
    };
    let bill = SupplierInvoiced {
        provider: "lambda".into(),
        invoice: "inv-7".into(),
        period: "2023-09".into(),
        lines: vec![line("i-1", 32_000_001), line("i-2", 5)],
        ..SupplierInvoiced::default()
    };
    history.epoch(from + 10 * HOUR_US, vec![bill.into()], Vec::new());
    folded(&history).view()
}

#[test]
fn margins_are_revenue_less_what_supply_cost_and_idle_capacity_belongs_to_no_job() {
    let view = both_kinds_of_supply();
    let job =
        |id: &str| view.jobs.iter().find(|job| job.subject == id).map(|j| (j.revenue_micros, j.cost_micros)).unwrap();
    // An hour of ten of an asset worth a dollar per hundred hours, half of the node, and 1 kWh × 1.2 at 0.1 $/kWh.
    assert_eq!(job("owned"), (12_000_000, 5_000 + 120_000));
    // One hour of the two that were paid for.
    assert_eq!(job("bought"), (24_000_000, 16_000_000));
    let of = |id: &str| view.suppliers.iter().find(|supplier| supplier.provider == id).unwrap();
    assert_eq!((of("metapod").depreciation_micros, of("metapod").idle_micros), (100_000, 95_000));
    assert_eq!((of("lambda").leases_micros, of("lambda").idle_micros), (32_000_000, 16_000_000));
    let differences: Vec<(&str, i64, Option<i64>)> =
        of("lambda").differences.iter().map(|d| (d.subject.as_str(), d.invoiced_micros, d.charged_micros)).collect();
    assert_eq!(differences, [("i-1", 32_000_001, Some(32_000_000)), ("i-2", 5, None)]);
    assert_eq!(view.totals.cost_micros, 32_000_000 + 100_000 + 120_000);
    assert_eq!(view.totals.margin_micros, 36_000_000 - 32_220_000);
    assert!(view.gpu_time.conserved && view.problems.is_empty(), "{:?}", view.problems);
}

#[test]
fn what_an_asset_lost_is_carried_by_who_used_its_node_then_whatever_becomes_of_it() {
    let from = at("2023-09-10");
    let node = |name: &str, gpus: i64| {
        let gpus = (0..gpus).map(|index| GpuReport { index, ..GpuReport::default() }).collect();
        let pool = "metapod-1/h100".into();
        Event::from(NodeReported { node: name.into(), pool, gpus, ..NodeReported::default() })
    };
    let cost_of = |events: Vec<Event>| {
        let mut history = begun(vec![flat_card("standard", "USD", 3_000_000), asset(from).into(), node("node-1", 8)]);
        let place = |job: &str| vec![placed(job, 1, "metapod-1/h100", "node-1", 4)];
        history.epoch(from, vec![requested("early", "team")], place("early"));
        let to = from + HOUR_US;
        let of = |job: &str, from, to| vec![started(job, 1, from), finished(job, 1, to)];
        history.epoch(to, of("early", from, to), Vec::new());
        history.epoch(from + 2 * HOUR_US, events, Vec::new());
        history.epoch(from + 3 * HOUR_US, vec![requested("late", "team")], place("late"));
        let to = from + 4 * HOUR_US;
        history.epoch(to, of("late", from + 3 * HOUR_US, to), Vec::new());
        history.epoch(from + 9 * HOUR_US, Vec::new(), Vec::new());
        let view = folded(&history).view();
        let cost = |id: &str| view.jobs.iter().find(|job| job.subject == id).map_or(0, |job| job.cost_micros);
        (cost("early"), cost("late"))
    };
    let retired = AssetRetired {
        serial: "sn-1".into(),
        retired_us: TimeUs(from + 2 * HOUR_US),
        proceeds: Some(sum("USD", 0)),
        ..AssetRetired::default()
    };
    let moved = AssetMoved {
        serial: "sn-1".into(),
        node: Some("node-2".into()),
        occurred_us: TimeUs(from + 2 * HOUR_US),
        ..AssetMoved::default()
    };
    // Half of the node for an hour each.
    assert_eq!(cost_of(vec![]), (5_000, 5_000));
    assert_eq!(cost_of(vec![node("node-1", 1)]), (5_000, 5_000));
    assert_eq!(cost_of(vec![retired.into()]), (5_000, 0));
    assert_eq!(cost_of(vec![node("node-2", 8), moved.into()]), (5_000, 0));
}

#[test]
fn a_supplier_is_compared_with_what_is_due_in_the_month_of_its_invoice() {
    let commitment = CommitmentBought {
        commitment: "c-1".into(),
        provider: "lambda".into(),
        from_us: TimeUs(at("2023-09-01")),
        to_us: TimeUs(at("2024-09-01")),
        price: sum("USD", 100_000_000),
        ..CommitmentBought::default()
    };
    let bill = |invoice: &str, period: &str, micros| SupplierInvoiced {
        provider: "lambda".into(),
        invoice: invoice.into(),
        period: period.into(),
        lines: vec![SupplierLine { subject: "c-1".into(), description: String::new(), amount: sum("USD", micros) }],
        ..SupplierInvoiced::default()
    };
    let mut history = begun(vec![flat_card("standard", "USD", 3_000_000), commitment.into()]);
    let bills = vec![
        bill("right", "2023-10", 8_333_333).into(),
        bill("rounded up", "2024-08", 8_333_334).into(),
        bill("too much", "2023-11", 8_400_000).into(),
        bill("too early", "2023-08", 8_333_333).into(),
    ];
    history.epoch(at("2023-11-02"), bills, Vec::new());
    let view = folded(&history).view();
    let supplier = view.suppliers.iter().find(|supplier| supplier.provider == "lambda").unwrap();
    let differences: Vec<_> = supplier.differences.iter().map(|d| (d.invoice.as_str(), d.charged_micros)).collect();
    assert_eq!(differences, [("too early", Some(0)), ("too much", Some(8_333_333))]);
}

#[test]
fn each_microsecond_of_gpu_time_that_is_not_billed_has_its_reason() {
    let mut history = begun(vec![flat_card("standard", "USD", 1_000_000)]);
    let from = at("2023-09-10");
    let s = SECOND_US;
    let place = |job| placed(job, 1, "metapod-1/h100", "node-1", 1);
    let jobs = ["late", "stopped", "lost", "live"];
    let requests = jobs.iter().map(|job| requested(job, "team")).collect();
    history.epoch(from, requests, jobs.iter().map(|job| place(*job)).collect());
    let order = JobPreempted { job: "stopped".into(), run: "stopped/1".into(), ..JobPreempted::default() };
    history.epoch(
        from + 50 * s,
        vec![started("late", 1, from + 7 * s), started("stopped", 1, from)],
        vec![order.into()],
    );
    let inputs = vec![
        gpu_time("late", 1, 1, from + 7 * s, from + 60 * s),
        used("stopped", 1, Meter::GpuTime, 1_000 * 49 * s, from, from + 50 * s),
        gpu_time("lost", 1, 1, from, from + 10 * s),
        finished("late", 1, from + 60 * s),
        finished("stopped", 1, from + 55 * s),
    ];
    let gone = JobRequeued { job: "lost".into(), run: "lost/1".into(), ..JobRequeued::default() };
    history.epoch(from + 62 * s, inputs, vec![gone.into()]);
    history.epoch(from + 70 * s, Vec::new(), Vec::new());
    let gpu_time = folded(&history).view().gpu_time;
    assert!(gpu_time.conserved);
    let seconds = |text: &str| text.parse::<i64>().unwrap() / (1_000 * s);
    let unbilled = &gpu_time.unbilled;
    assert_eq!(seconds(&gpu_time.allocated), 62 + 62 + 62 + 70);
    assert_eq!(seconds(&gpu_time.billed), 53 + 49 + 10);
    // The live run has not started by any report, so that all it holds is the delay of its start.
    assert_eq!(seconds(&unbilled.start_delay), 7 + 70);
    assert_eq!(seconds(&unbilled.draining), 5);
    assert_eq!(seconds(&unbilled.executor_skew), 1);
    assert_eq!(seconds(&unbilled.report_delay), 2 + 7);
    assert_eq!(seconds(&unbilled.lost_run), 52);
    assert_eq!((seconds(&unbilled.not_metered), seconds(&unbilled.house_use)), (0, 0));
}

#[test]
fn a_line_that_cannot_be_converted_leaves_the_total_open_and_says_so() {
    let mut history = begun(vec![tenant("team", "EUR"), flat_card("standard", "USD", 1_000_000)]);
    let from = at("2023-09-10");
    run(&mut history, "a", from, from + HOUR_US);
    let view = folded(&history).view();
    assert_eq!(view.invoices[0].total_micros, None);
    assert_eq!(view.invoices[0].lines[0].rounded_micros, Some(8_000_000));
    assert_eq!(view.problems[0].detail, "a line has no amount in EUR: an exchange rate is missing");
}
