//! The worlds of golden logs, each from a seed: generated ones under several rules of order, histories under faults, and one with
//! sealed texts.

use std::sync::atomic::AtomicBool;

use solyx_connectors::executor::SimulatedExecutor;
use solyx_connectors::generate::{Size, generate};
use solyx_connectors::seal::{KEY_LEN, Keyring, TenantKey};
use solyx_runtime::{EngineOptions, VirtualOptions, run_virtual};
use solyx_schemas::codec::Codec;
use solyx_schemas::events::Event;
use solyx_schemas::events::policy::{FeatureEnabled, TenantKeyDestroyed};
use solyx_schemas::field::Field;
use solyx_schemas::ids::{CellId, TenantId};
use solyx_schemas::log::memory::MemoryLog;
use solyx_schemas::log::{Log, Record, Scan};
use solyx_schemas::topics::{Topic, TopicName};
use solyx_schemas::units::{DurationUs, HOUR_US, TimeUs};
use solyx_sim::History;

/// The most bytes of one of them, its schemas among them; half of that when compressed.
pub const BYTES_MAX: u64 = 450 << 10;
/// Histories under faults: name, seed, turns. In the second one engines follow one another, term by term.
const HISTORIES: [(&str, u64, u32); 2] = [("faults", 103, 40), ("terms", 166, 25)];
/// Generated worlds: name, seed, jobs, order rule, packing rule.
const GENERATED: [(&str, u64, u32, &str, &str); 3] = [
    ("classic", 7, 36, "classic", "solyx"),
    ("shares", 8, 36, "share-surcharge", "fgd"),
    ("las", 9, 24, "las", "best-fit"),
];
const SEALED: &str = "sealed";
const SCENE: &str = "scene";
/// The tenant whose key is destroyed when half of its jobs have come.
const FORGOTTEN: &str = "sealed/forgotten";

/// All of them, by name.
pub fn all() -> Vec<(&'static str, MemoryLog)> {
    let names = GENERATED.map(|world| world.0).into_iter().chain(HISTORIES.map(|world| world.0)).chain([SCENE, SEALED]);
    names.map(one).collect()
}

/// One by its name.
pub fn one(name: &'static str) -> (&'static str, MemoryLog) {
    if let Some((_, seed, jobs, order, packing)) = GENERATED.into_iter().find(|world| world.0 == name) {
        return (name, live_topics(&lived(generated(seed, jobs, order, packing))));
    }
    if let Some((_, seed, turns)) = HISTORIES.into_iter().find(|world| world.0 == name) {
        return (name, live_topics(&History { turns, ..History::of(seed) }.logged().unwrap().1));
    }
    if name == SCENE {
        return (name, crate::scene::told());
    }
    assert_eq!(name, SEALED);
    (name, live_topics(&lived(with_sealed_texts(generated(10, 20, "classic", "best-fit")))))
}

fn generated(seed: u64, jobs: u32, order: &str, packing: &str) -> Vec<Event> {
    let mut events = generate(seed, Size { jobs, nodes: 4, days: 1 });
    for event in &mut events {
        if let Event::SchedulingPolicySet(policy) = event {
            policy.order_rule = order.into();
            policy.packing_rule = packing.into();
            // Leases of runs and ticks make most of the epochs, and each epoch has 128 bytes of hashes.
            policy.run_lease_us = Some(DurationUs(8 * HOUR_US));
            policy.tick_us = Some(DurationUs(HOUR_US / 2));
        }
    }
    events
}

/// Labels and reasons sealed, with the feature on; some are no tokens, some are sealed with a key after it was destroyed.
fn with_sealed_texts(events: Vec<Event>) -> Vec<Event> {
    let opening = events[0].identity().occurred_us;
    let feature = |id: &str, feature: &str| {
        Event::from(FeatureEnabled {
            event_id: id.into(),
            occurred_us: opening,
            feature: feature.into(),
            ..FeatureEnabled::example("")
        })
    };
    // One that no build has heard of does not count.
    let mut all = vec![feature("golden-feature", "sealed-fields"), feature("golden-unknown", "no-such-feature")];
    let key = |id: &str, byte| TenantKey::new(TenantId::from("any"), id, [byte; KEY_LEN]).unwrap();
    let (kept, forgotten) = (key("sealed/kept", 1), key(FORGOTTEN, 2));
    let requests = events.iter().filter(|event| matches!(event, Event::JobRequested(_))).count();
    let mut seen = 0;
    for mut event in events {
        let at = event.identity().occurred_us;
        if let Event::JobRequested(request) = &mut event {
            seen += 1;
            request.labels =
                vec![solyx_schemas::events::common::Label { name: "who".into(), value: format!("person {seen}") }];
            let key = if seen % 3 == 0 { &forgotten } else { &kept };
            let mut key = key.clone();
            key.tenant = request.tenant.clone();
            Keyring::of([key]).seal(&mut event).unwrap();
            if seen % 7 == 0 {
                solyx_schemas::sealed::texts_of_mut(&mut event).into_iter().for_each(|(_, text)| text.truncate(40));
            }
        } else {
            Keyring::of([kept.clone()]).seal(&mut event).unwrap();
        }
        let half = seen == requests / 2 && matches!(event, Event::JobRequested(_));
        all.push(event);
        if half {
            all.push(destroyed(at));
        }
    }
    all
}

fn destroyed(at: TimeUs) -> Event {
    Event::from(TenantKeyDestroyed {
        event_id: "golden-destroyed".into(),
        occurred_us: at,
        tenant: TenantId::from("forgotten"),
        key_id: FORGOTTEN.into(),
        ..TenantKeyDestroyed::example("")
    })
}

/// A virtual run of the events until idle.
fn lived(events: Vec<Event>) -> MemoryLog {
    // Each file of an archive has the schemas of its records in it: one partition keeps them small.
    let log = MemoryLog::with_partitions(&Topic::ALL.into_iter().map(|topic| (topic, 1)).collect());
    log.set_clock_us(Some(0));
    let record = |event: &Event| -> Record {
        let topic = event.topic();
        let topic = if topic == Topic::Sim { TopicName::live(topic) } else { TopicName::staged(topic) };
        Codec::global().record(event, topic, log.partitions(topic))
    };
    log.producer("golden").unwrap().append(events.iter().map(record).collect()).unwrap();
    let cell = events.iter().find_map(|event| match event {
        Event::CellDeclared(declared) => Some(declared.cell_id.clone()),
        _ => None,
    });
    let options = VirtualOptions::new(EngineOptions::new(cell.unwrap_or_else(|| CellId::from("generated")), None));
    let mut executor = SimulatedExecutor::from_log("simulated", &log).unwrap();
    run_virtual(&log, Some(&mut executor), &options, &AtomicBool::new(false), &mut |_| {}).unwrap();
    log
}

/// The same log without what is staged or an executor's alone: no reader of history looks at it.
fn live_topics(log: &dyn Log) -> MemoryLog {
    let copy = MemoryLog::new();
    copy.set_clock_us(Some(0));
    let read = Topic::ALL.into_iter().filter(|topic| !matches!(topic, Topic::Sim | Topic::Cursors));
    for topic in read.map(TopicName::live) {
        copy.set_partitions(topic, log.partitions(topic));
        // An archive of it can be brought into a log, which has a staged topic for each.
        copy.set_partitions(TopicName::staged(topic.topic), log.partitions(topic));
        for partition in 0..log.partitions(topic) {
            let records: Vec<Record> =
                Scan::new(log, topic, partition, 0).map(|stored| stored.unwrap().record).collect();
            if !records.is_empty() {
                copy.producer("golden").unwrap().append(records).unwrap();
            }
        }
    }
    copy
}
