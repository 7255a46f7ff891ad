//! What an invoice says.

use solyx_kernel::rating::Month;
use solyx_projections::billing::LineKind;
use solyx_schemas::events::Event;
use solyx_schemas::events::facility::SiteDeclared;
use solyx_schemas::events::policy::{LeaseSold, PaymentOption, SoldLeaseEnded, TierMode};
use solyx_schemas::events::usage::{Meter, UsageCorrected};
use solyx_schemas::events::world::{EnergyPriced, PriceKind};
use solyx_schemas::units::*;

use crate::common::History;
use crate::common::billing::*;
use crate::{begun, folded, invoice, run};

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
