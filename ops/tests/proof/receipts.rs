//! Receipts as customers have them: checked without the log, refused when anything in them was changed.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use solyx_schemas::events::Event;
use solyx_schemas::events::common::Sum;
use solyx_schemas::events::jobs::JobRequested;
use solyx_schemas::events::policy::*;
use solyx_schemas::events::usage::{Meter, UsageCorrected, UsageMetered};
use solyx_schemas::json::to_json;
use solyx_schemas::units::*;

use crate::signing::{alone, refuses_every_change};
use crate::world::{World, solyx};

#[test]
fn a_receipt_is_good_without_the_log_and_refused_after_any_change() {
    let world = World::signed();
    let invoices = world.invoices();
    // A line with some usage behind it, but not so much that its changes take long to try.
    let lines = invoices.as_array().unwrap().iter().flat_map(|invoice| invoice["lines"].as_array().unwrap());
    let usage: Vec<&Value> = lines.filter(|line| line["kind"] == "usage").collect();
    let line = usage.iter().find(|line| line["events"].as_array().unwrap().len() == 2).unwrap_or(&usage[0]);
    let line_file = world.prove("invoice-line", line["id"].as_str().unwrap());
    let decision = world.decisions("JobPlaced")[0].clone();
    let decision_file = world.prove("decision", &decision);
    let key = world.path("first.pub");
    std::fs::rename(world.log(), world.path("away")).unwrap();

    for (file, says) in [(&line_file, "micros of"), (&decision_file, decision.as_str())] {
        let name = Path::new(file).file_name().unwrap().to_str().unwrap();
        let (code, said) = alone(&[Path::new(file), &key], &["verify", name, "--public-keys", "first.pub"]);
        assert_eq!(code, 0, "{said}");
        for text in ["good: ", "this proves inclusion", "it does not prove", "JobPlaced", "JobRequested", says] {
            assert!(said.contains(text), "{text}: {said}");
        }
        assert!(!said.contains("no key was given"), "{said}");
        let (code, said) = alone(&[Path::new(file)], &["verify", name]);
        assert!(code == 1 && said.contains("no key was given") && !said.contains("good: "), "{said}");
        assert!(refuses_every_change(file) > 300);
    }

    // A field that is there twice is one that somebody else reads otherwise.
    let text = std::fs::read_to_string(&decision_file).unwrap();
    let twice = world.write("twice.json", text.replacen("\"subject\":", "\"subject\": {}, \"subject\":", 1));
    solyx(&["verify", &twice]).fails(1, &["field subject is there twice"]);

    // The commands say so too, and another key does not do.
    let text = std::fs::read_to_string(&line_file).unwrap();
    let amount = line["amount_micros"].to_string();
    let dearer =
        world.write("dearer.json", text.replace(&format!("\"amount_micros\": {amount}"), "\"amount_micros\": 7"));
    solyx(&["verify", &dearer]).fails(1, &["proves nothing", "amount_micros", &amount]);
    world.key("other");
    let other = world.path("other.pub");
    solyx(&["verify", &line_file, "--public-keys", other.to_str().unwrap()]).fails(1, &["not one of those given"]);
    solyx(&["verify", &world.write("none.json", "{}")]).fails(1, &["solyx_receipt"]);
    solyx(&["verify", &world.write("later.json", "{\"solyx_receipt\": 2}")]).fails(1, &["expected 1"]);
}

/// Two tenants' business of two months: tiers of both kinds, a sold lease, conversions, a closed month and what came after it.
fn business() -> Vec<Event> {
    let usd = |micros| Sum { currency: currency("USD"), micros: MoneyMicros(micros) };
    let mut events: Vec<Event> = vec![
        cell(),
        tenant("acme", "EUR"),
        tenant("beta", "USD"),
        card("list", None, TierMode::Graduated, Meter::GpuTime, &[(Some(10), 4_000_000), (None, 3_000_000)]),
        card("power", None, TierMode::Volume, Meter::Energy, &[(Some(5), 300_000), (None, 200_000)]),
        card("of-beta", Some("beta"), TierMode::Graduated, Meter::GpuTime, &[(None, 1_000_000)]),
        exchange("2023-09-01T00:00:00Z", 9, 10),
        exchange("2023-09-20T00:00:00Z", 93, 100),
        LeaseSold {
            lease: "lease-1".into(),
            tenant: "acme".into(),
            gpus: Count(8),
            gpu_model: "H100".into(),
            from_us: at("2023-09-15T00:00:00Z"),
            to_us: at("2023-11-15T00:00:00Z"),
            price: usd(61_000_000_001),
            payment: PaymentOption::Partial,
            ..LeaseSold::default()
        }
        .into(),
        request("job-a", "acme", None),
        request("job-b", "acme", None),
        request("job-c", "acme", Some("lease-1")),
        request("job-d", "beta", None),
    ];
    stamped(&mut events, "2023-09-10T00:00:00Z");
    for (job, from, to, gpu_milli) in [
        ("job-a", "2023-09-28T10:00:00Z", "2023-09-28T11:00:00Z", 7_001),
        ("job-b", "2023-09-28T12:00:00Z", "2023-09-28T13:00:00Z", 8_000),
        ("job-c", "2023-09-28T12:00:00Z", "2023-09-28T13:00:00Z", 3_000),
        ("job-d", "2023-09-28T12:00:00Z", "2023-09-28T13:00:00Z", 1_000),
        ("job-a", "2023-09-30T23:00:00Z", "2023-10-01T00:00:00Z", 7_000),
        ("job-a", "2023-10-02T10:00:00Z", "2023-10-02T10:20:00Z", 333),
    ] {
        let length = at(to).0 - at(from).0;
        events.push(metered(job, Meter::GpuTime, gpu_milli * length, from, to));
        events.push(metered(job, Meter::Energy, gpu_milli * 2_000, from, to));
    }
    let mut closed =
        vec![PeriodClosed { tenant: "acme".into(), period: "2023-09".into(), ..PeriodClosed::default() }.into()];
    stamped(&mut closed, "2023-10-05T00:00:00Z");
    let mut late = vec![
        exchange("2023-09-25T00:00:00Z", 1, 2),
        exchange("2023-10-10T00:00:00Z", 95, 100),
        UsageCorrected {
            job: "job-a".into(),
            corrects_source: "meter".into(),
            corrects_event: "job-a-GPU_TIME-2023-09-28T10:00:00Z".into(),
            difference: -1_234_567_891,
            reason: "counted twice".into(),
            ..UsageCorrected::default()
        }
        .into(),
    ];
    stamped(&mut late, "2023-10-20T00:00:00Z");
    late.push(metered("job-b", Meter::GpuTime, 9_000 * HOUR_US, "2023-09-29T12:00:00Z", "2023-09-29T13:00:00Z"));
    if let Some(Event::UsageMetered(usage)) = late.last_mut() {
        usage.occurred_us = at("2023-10-21T00:00:00Z");
    }
    [events, closed, late].concat()
}

fn at(text: &str) -> TimeUs {
    parse_time(text).unwrap()
}

fn currency(code: &str) -> Currency {
    Currency::parse(code).unwrap()
}

/// Gives events that have none a source, ids and a time.
fn stamped(events: &mut [Event], time: &str) {
    for (i, event) in events.iter_mut().enumerate() {
        let mut value = to_json(event);
        value["event_id"] = format!("{time}-{i}").into();
        value["source"] = "test".into();
        value["occurred_us"] = at(time).0.into();
        *event = solyx_schemas::json::from_json(&value).unwrap();
    }
}

fn example(name: &str) -> Event {
    (solyx_schemas::events::event_type(name).unwrap().example)()
}

fn cell() -> Event {
    let mut event = example("CellDeclared");
    if let Event::CellDeclared(cell) = &mut event {
        cell.cell_id = "billed".into();
        cell.reference_currency = currency("USD");
        cell.partitions.clear();
    }
    event
}

fn tenant(id: &str, billing: &str) -> Event {
    let billing_currency = currency(billing);
    TenantDeclared {
        tenant: id.into(),
        weight_milli: Milli(1_000),
        billing_currency,
        invoice_day: Count(1),
        ..TenantDeclared::default()
    }
    .into()
}

fn card(id: &str, tenant: Option<&str>, mode: TierMode, meter: Meter, tiers: &[(Option<i64>, i64)]) -> Event {
    let tier =
        |&(up_to, price): &(Option<i64>, i64)| PriceTier { up_to: up_to.map(Count), price_micros: RateMicros(price) };
    let tiers = tiers.iter().map(tier).collect();
    RateCardSet {
        rate_card: id.into(),
        tenant: tenant.map(Into::into),
        currency: currency("USD"),
        lines: vec![RateLine { meter, gpu_model: None, class: None, tiers, mode }],
        ..RateCardSet::default()
    }
    .into()
}

fn exchange(from: &str, numerator: i64, denominator: i64) -> Event {
    ExchangeRateSet {
        from_currency: currency("USD"),
        to_currency: currency("EUR"),
        numerator: Count(numerator),
        denominator: Count(denominator),
        effective_from_us: at(from),
        ..ExchangeRateSet::default()
    }
    .into()
}

fn request(job: &str, tenant: &str, lease: Option<&str>) -> Event {
    let mut event = example("JobRequested");
    if let Event::JobRequested(request) = &mut event {
        **request = JobRequested {
            job: job.into(),
            tenant: tenant.into(),
            gang: request.gang.clone(),
            models: request.models.clone(),
            class: request.class.clone(),
            kind: request.kind,
            sold_lease: lease.map(Into::into),
            ..JobRequested::default()
        };
    }
    event
}

/// Of an hour or a part of it; it is known ten minutes after its end.
fn metered(job: &str, meter: Meter, quantity: i64, from: &str, to: &str) -> Event {
    UsageMetered {
        event_id: format!("{job}-{meter}-{from}").as_str().into(),
        source: "meter".into(),
        occurred_us: at(to).after(DurationUs(600_000_000)),
        job: job.into(),
        run: format!("{job}/1").as_str().into(),
        meter,
        quantity: UsageQuantity(quantity),
        from_us: at(from),
        to_us: at(to),
        ..UsageMetered::default()
    }
    .into()
}

#[test]
fn every_kind_of_line_has_a_receipt_with_nothing_of_other_tenants_in_it() {
    let world = World::empty();
    let lines: Vec<String> = business().iter().map(|event| to_json(event).to_string()).collect();
    let file = world.write("business.jsonl", lines.join("\n"));
    world.solyx(&["publish", &file, "--staged"]).ends(0);
    world.key("first");
    world.declare("first");
    world.run();
    world.sign("first").ends(0);
    let key = world.path("first.pub").display().to_string();
    let mut kinds: BTreeMap<String, u32> = BTreeMap::new();
    for invoice in world.invoices().as_array().unwrap() {
        let tenant = invoice["tenant"].as_str().unwrap();
        let other = if tenant == "acme" { "beta" } else { "acme" };
        for line in invoice["lines"].as_array().unwrap() {
            let kind = format!("{tenant} {} {}", invoice["period"].as_str().unwrap(), line["kind"].as_str().unwrap());
            let count = kinds.entry(kind).or_default();
            *count += 1;
            let file = world.prove("invoice-line", line["id"].as_str().unwrap());
            let report = solyx(&["verify", &file, "--json", "--public-keys", &key]).ends(0).json();
            assert_eq!((&report["line"], &report["currency"]), (line, &invoice["currency"]));
            let text = std::fs::read_to_string(&file).unwrap();
            for word in [other, if tenant == "acme" { "job-d" } else { "job-a" }] {
                assert!(!text.contains(word), "{word} is in a receipt of {tenant}: {text}");
            }
            if *count == 1 {
                refuses_every_change(&file);
            }
        }
    }
    let kinds: Vec<String> = kinds.into_iter().map(|(kind, count)| format!("{kind}: {count}")).collect();
    assert_eq!(
        kinds,
        [
            "acme 2023-09 covered_by_lease: 1",
            "acme 2023-09 sold_lease: 1",
            "acme 2023-09 usage: 5",
            "acme 2023-10 correction: 2",
            "acme 2023-10 sold_lease: 1",
            "acme 2023-10 usage: 2",
            "beta 2023-09 usage: 2",
        ]
    );
}
