//! A small log with business in it: its first tree is signed by a key, and its last by the one that this handed over to.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use solyx_histories::budgets::card;
use solyx_histories::{START, base_events, identify, job, money, node, tenant_of_weight_one, usd};
use solyx_proofs::{
    ALGORITHM, Checkpoint, HeadsReport, History, HistoryError, SecretKey, SignedCheckpoint, SignedEvent, judge,
    rotation_text, signed_events,
};
use solyx_runtime::{Engine, EngineOptions};
use solyx_schemas::codec::Codec;
use solyx_schemas::events::Event;
use solyx_schemas::events::plans::{HeadSigned, SigningKeyRotated};
use solyx_schemas::events::policy::*;
use solyx_schemas::events::usage::{Meter, UsageCorrected, UsageMetered};
use solyx_schemas::events::world::{EnergyPriced, PriceKind};
use solyx_schemas::ids::*;
use solyx_schemas::log::Log;
use solyx_schemas::log::memory::MemoryLog;
use solyx_schemas::topics::{Topic, TopicName};
use solyx_schemas::units::*;

/// Files of keys: tests 1 and 2 of RFC 8032, 7.1.
pub const KEY_FILES: [&str; 2] = [
    r#"{"key_id":"first","algorithm":"ed25519","secret_key":"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60","public_key":"d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"}"#,
    r#"{"key_id":"next","algorithm":"ed25519","secret_key":"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb","public_key":"3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"}"#,
];
const DAY_US: i64 = 24 * HOUR_US;

/// The log, and what is signed of it.
pub struct Signed {
    pub log: MemoryLog,
    pub keys: [SecretKey; 2],
    /// Of the first tree, and of the last with what shows that it goes on from it.
    pub heads: [SignedCheckpoint; 2],
    pub history: History,
    pub report: HeadsReport,
}

pub static SIGNED: LazyLock<Signed> = LazyLock::new(signed);

fn signed() -> Signed {
    let keys = KEY_FILES.map(|file| SecretKey::from_file(file).expect("a good key"));
    let log = MemoryLog::new();
    for topic in Topic::INPUTS.into_iter().chain([Topic::Decisions, Topic::Quarantine]) {
        log.set_partitions(TopicName::live(topic), 1);
    }
    let mut number = 0;
    let mut epoch = |now: i64, events: Vec<Event>| {
        log.set_clock_us(Some(now));
        for mut event in events {
            number += 1;
            if event.identity().id.is_empty() {
                identify(&mut event, number, now);
            }
            publish(&log, &event);
        }
        let options = EngineOptions::new(CellId::from("test"), None);
        let mut engine = Engine::lead(&log, &options, None).expect("a good log is led");
        while engine.turn(now).expect("a good log is led").is_some() {}
    };
    epoch(START, demand(&keys));
    epoch(START + 2 * HOUR_US, usage());
    let first = sign(&log, &keys[0]);
    epoch(START + 40 * DAY_US, later());
    let mut last = sign(&log, &keys[1]);
    let history = history(&log);
    let shown = history.tree.consistency(first.checkpoint.size);
    last.since = shown.map(|proof| (first.checkpoint.size, proof));
    let report = judge(&signed_events(&log).expect("memory is read"), &history);
    Signed { log, keys, heads: [first, last], history, report }
}

fn publish(log: &MemoryLog, event: &Event) {
    let topic = TopicName::live(event.topic());
    let record = Codec::global().record(event, topic, log.partitions(topic));
    log.producer("tests").and_then(|mut producer| producer.append(vec![record])).expect("memory takes it");
}

/// What stands at the beginning: a cell, prices, keys, and two jobs.
fn demand(keys: &[SecretKey; 2]) -> Vec<Event> {
    let euro = Currency::parse("EUR").expect("a currency");
    let mut events = base_events();
    events.push(
        TenantDeclared { tenant: TenantId::from("green"), billing_currency: euro, ..tenant_of_weight_one() }.into(),
    );
    events.push(card(None, "USD", 2_000_000));
    events.push(
        ExchangeRateSet {
            from_currency: usd(),
            to_currency: euro,
            numerator: Count(9),
            denominator: Count(10),
            ..ExchangeRateSet::default()
        }
        .into(),
    );
    events.push(
        LeaseSold {
            lease: RefId::from("lease-1"),
            tenant: TenantId::from("red"),
            gpus: Count(1),
            gpu_model: GpuModelId::from("H100"),
            from_us: TimeUs(START),
            to_us: TimeUs(START + 60 * DAY_US),
            price: money(1_000_000_001),
            payment: PaymentOption::Partial,
            ..LeaseSold::default()
        }
        .into(),
    );
    events.push(
        EnergyPriced {
            zone: ZoneId::from("DE-LU"),
            from_us: TimeUs(START),
            to_us: TimeUs(START + DAY_US),
            price_micros_per_mwh: RateMicros(90_000_000),
            currency: euro,
            kind: PriceKind::DayAhead,
            published_us: TimeUs(START),
            ..EnergyPriced::default()
        }
        .into(),
    );
    for key in keys {
        let public = key.public();
        events.push(
            SigningKeyDeclared {
                event_id: EventId::from(format!("key-{}", public.id)),
                source: SourceId::from("test"),
                occurred_us: TimeUs(START),
                algorithm: Name::from(ALGORITHM),
                public_key: Name::from(public.digits()),
                key_id: public.id,
                ..SigningKeyDeclared::default()
            }
            .into(),
        );
    }
    events.push(node("node-0", "pod/h100", 8, "leaf-0").into());
    events.push(job("job-a", "red", 1, 2, 1).into());
    events.push(job("job-b", "green", 1, 4, 1).into());
    events
}

/// An hour of each job.
fn usage() -> Vec<Event> {
    let metered = |job: &str, meter, quantity| -> Event {
        UsageMetered {
            event_id: EventId::from(format!("{job}-{meter}")),
            source: SourceId::from("meter"),
            occurred_us: TimeUs(START + HOUR_US),
            job: JobId::from(job),
            run: RunId::from(format!("{job}/1")),
            meter,
            quantity: UsageQuantity(quantity),
            from_us: TimeUs(START),
            to_us: TimeUs(START + HOUR_US),
            ..UsageMetered::default()
        }
        .into()
    };
    vec![
        metered("job-a", Meter::GpuTime, 2_000 * HOUR_US),
        metered("job-a", Meter::Energy, 5_040_000),
        metered("job-b", Meter::GpuTime, 4_000 * HOUR_US),
    ]
}

/// A month is closed, and then some of its usage was none.
fn later() -> Vec<Event> {
    let (source, occurred_us) = (SourceId::from("test"), TimeUs(START + 40 * DAY_US));
    vec![
        PeriodClosed {
            event_id: EventId::from("closed"),
            source: source.clone(),
            occurred_us,
            tenant: TenantId::from("green"),
            period: Name::from("2023-09"),
        }
        .into(),
        UsageCorrected {
            event_id: EventId::from("corrected"),
            source,
            occurred_us,
            job: JobId::from("job-b"),
            corrects_source: SourceId::from("meter"),
            corrects_event: EventId::from(format!("job-b-{}", Meter::GpuTime)),
            difference: -1_234_567_891,
            reason: "counted twice".to_owned(),
        }
        .into(),
    ]
}

fn history(log: &MemoryLog) -> History {
    let signed = signed_events(log).expect("memory is read");
    let sizes: BTreeSet<u64> = signed.iter().filter_map(|s| s.event.as_ref().ok().map(SignedEvent::size)).collect();
    History::read::<HistoryError>(log, &sizes, |_| Ok(())).expect("a good log is read")
}

/// Signs all epochs that there are. A key that is not the first is handed over to before.
fn sign(log: &MemoryLog, key: &SecretKey) -> SignedCheckpoint {
    let history = history(log);
    let (size, root) = (history.tree.size(), history.tree.root());
    let cell = CellId::from("test");
    let occurred_us = history.time_at(size).unwrap_or_default();
    let (source, tree_size, digits) = (SourceId::from("test"), Count(size as i64), Name::from(root.to_string()));
    let first = SecretKey::from_file(KEY_FILES[0]).expect("a good key");
    let (public, before) = (key.public(), first.public());
    if public != before {
        let text = rotation_text(&cell, (size, root), &before.id, &public);
        let rotation = SigningKeyRotated {
            event_id: EventId::from("rotated"),
            source: source.clone(),
            occurred_us,
            cell_id: cell.clone(),
            tree_size,
            root: digits.clone(),
            key_id: before.id,
            next_key_id: public.id.clone(),
            next_algorithm: Name::from(ALGORITHM),
            next_public_key: Name::from(public.digits()),
            signature: Name::from(hex(&first.sign(&text))),
        };
        publish(log, &rotation.into());
    }
    let checkpoint = Checkpoint { cell: cell.clone(), size, root };
    let signature = key.sign(&checkpoint.text());
    let head = HeadSigned {
        event_id: EventId::from(format!("head-{size}")),
        source,
        occurred_us,
        cell_id: cell,
        tree_size,
        root: digits,
        key_id: public.id.clone(),
        signature: Name::from(hex(&signature)),
    };
    publish(log, &head.into());
    SignedCheckpoint::new(checkpoint, &public, signature)
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
