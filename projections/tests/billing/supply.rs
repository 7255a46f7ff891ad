//! What supply costs, and where money and GPU time go.

use solyx_projections::billing::BillingView;
use solyx_schemas::events::Event;
use solyx_schemas::events::assets::{AssetInstalled, AssetMoved, AssetRetired, DepreciationMethod};
use solyx_schemas::events::decisions::{JobPreempted, JobRequeued};
use solyx_schemas::events::facility::SiteDeclared;
use solyx_schemas::events::nodes::{GpuReport, NodeReported};
use solyx_schemas::events::policy::CommitmentBought;
use solyx_schemas::events::usage::{Meter, SupplierInvoiced, SupplierLine};
use solyx_schemas::events::world::{EnergyPriced, InstanceLeaseEnded, InstanceLeased, LeaseReason, PriceKind};
use solyx_schemas::units::*;

use crate::common::billing::*;
use crate::{begun, folded, run};

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
