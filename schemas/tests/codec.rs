//! The bytes are Avro's, and there is one way to write each event.

#![allow(clippy::unwrap_used)] // helpers of tests

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::writer::datum::GenericDatumWriter;
use proptest::prelude::*;
use solyx_schemas::codec::{
    Codec, DecodeError, FRAME_LEN, LOCK_ID_FIRST, LockLine, REGISTRY_LOCK, VALUE_LEN_MAX, parse_lock,
};
use solyx_schemas::events::common::Sum;
use solyx_schemas::events::jobs::{
    Dependency, DependencyCondition, FailureCategory, JobKind, JobRequested, RetryLimit,
};
use solyx_schemas::events::usage::{Meter, UsageMetered};
use solyx_schemas::events::{EVENT_TYPES, Event};
use solyx_schemas::log::Record;
use solyx_schemas::topics::{Topic, TopicName};
use solyx_schemas::units::{Count, Currency, GpuMilli, MoneyMicros, TimeUs, UsageQuantity, WorkUs};

/// What a full Avro implementation makes of a body, written again.
fn rewritten(avsc: &str, body: &[u8]) -> Vec<u8> {
    let schema = Schema::parse_str(avsc).unwrap();
    let mut rest = body;
    let value = GenericDatumReader::builder(&schema).build().unwrap().read_value(&mut rest).unwrap();
    assert!(rest.is_empty());
    let mut out = Vec::new();
    GenericDatumWriter::builder(&schema).build().unwrap().write_value(&mut out, value).unwrap();
    out
}

#[test]
fn another_avro_implementation_reads_the_same_and_writes_the_same_bytes() {
    for event_type in EVENT_TYPES {
        let value = Codec::global().encode(&(event_type.example)());
        assert_eq!(rewritten(event_type.avsc, &value[FRAME_LEN..]), value[FRAME_LEN..], "{}", event_type.name);
    }
}

#[test]
fn a_list_is_one_block_however_long() {
    let datasets = (0..300).map(|i| format!("d{i}").into()).collect();
    let event = JobRequested { datasets, ..JobRequested::default() };
    let value = Codec::global().encode(&event.clone().into());
    let decoded = Codec::global().decode(&value).unwrap();
    assert_eq!(decoded.event, Event::from(event));
    let avsc = solyx_schemas::events::event_type("JobRequested").unwrap().avsc;
    assert_eq!(rewritten(avsc, &value[FRAME_LEN..]), value[FRAME_LEN..]);
}

#[test]
fn bytes_that_are_not_an_event_are_refused_and_said_why() {
    let codec = Codec::global();
    let good = codec.encode(&(EVENT_TYPES[0].example)());
    assert_eq!(codec.decode(&[]), Err(DecodeError::Frame(0)));
    assert_eq!(codec.decode(&[1, 0, 0, 0, 1]), Err(DecodeError::Frame(5)));
    assert_eq!(codec.decode(&[0, 0xff, 0, 0, 1]), Err(DecodeError::UnknownSchema(0xff00_0001)));
    let longer = [good.as_slice(), &[0]].concat();
    assert!(matches!(codec.decode(&longer), Err(DecodeError::Body { .. })));
    for end in FRAME_LEN..good.len() {
        assert!(matches!(codec.decode(&good[..end]), Err(DecodeError::Body { .. })), "cut at {end}");
    }
}

#[test]
fn a_header_that_contradicts_the_body_is_refused() {
    let codec = Codec::global();
    let event = (EVENT_TYPES[0].example)();
    let record: Record = codec.record(&event, TopicName::live(event.topic()), 1);
    assert!(codec.decode_record(&record).is_ok());
    for header in ["ce_id", "ce_source", "ce_type", "ce_time", "ce_specversion"] {
        let mut other = record.clone();
        other.headers.iter_mut().filter(|(name, _)| name == header).for_each(|(_, value)| value.push(b'x'));
        assert!(matches!(codec.decode_record(&other), Err(DecodeError::Header { .. })), "{header}");
        let mut twice = record.clone();
        twice.headers.push((header.to_owned(), b"another".to_vec()));
        assert!(matches!(codec.decode_record(&twice), Err(DecodeError::Header { .. })), "{header} twice");
        let mut without = record.clone();
        without.headers.retain(|(name, _)| name != header);
        assert!(codec.decode_record(&without).is_ok(), "{header} left out");
    }
    let mut elsewhere = record;
    elsewhere.headers.iter_mut().filter(|(name, _)| name == "ce_time").for_each(|(_, value)| {
        *value = b"2023-09-04T02:00:00.000000+02:00".to_vec();
    });
    assert!(codec.decode_record(&elsewhere).is_ok(), "the same instant in another time zone");
}

#[test]
fn a_record_has_the_headers_of_cloudevents_in_binary_mode() {
    let event = (solyx_schemas::events::event_type("TenantDeclared").unwrap().example)();
    let record = Codec::global().record(&event, TopicName::live(event.topic()), 1);
    let headers: Vec<(&str, &str)> =
        record.headers.iter().map(|(name, value)| (name.as_str(), std::str::from_utf8(value).unwrap())).collect();
    let expected = [
        ("ce_specversion", "1.0"),
        ("ce_id", "evt-0001"),
        ("ce_source", "example-producer"),
        ("ce_type", "solyx.policy.TenantDeclared"),
        ("ce_time", "2023-09-04T00:00:00Z"),
        ("content-type", "application/avro"),
    ];
    assert_eq!(headers, expected);
    assert_eq!(record.value[0], 0);
    let (id, _) = Codec::global().schema_of(&event);
    assert_eq!(record.value[1..FRAME_LEN], id.to_be_bytes());
}

#[test]
fn a_value_larger_than_any_record_is_not_an_event() {
    let value = vec![0; VALUE_LEN_MAX + 1];
    assert_eq!(Codec::global().decode(&value), Err(DecodeError::TooLarge(VALUE_LEN_MAX + 1)));
}

#[test]
fn ids_of_the_lock_file_are_unique_and_dense_in_a_range_of_their_own() {
    let lines: Vec<LockLine> = parse_lock(REGISTRY_LOCK).unwrap();
    let ids: Vec<u32> = lines.iter().map(|line| line.id).collect();
    assert_eq!(ids, (LOCK_ID_FIRST..).take(lines.len()).collect::<Vec<_>>());
    assert!(EVENT_TYPES.iter().all(|t| Topic::ALL.contains(&t.topic)));
}

fn id() -> impl Strategy<Value = String> {
    "[A-Za-z0-9._:/-]{1,20}"
}

prop_compose! {
    fn job()(
        job in id(), tenant in id(), class in id(), project in proptest::option::of(id()),
        gpus in 0i64..64, replicas in 1i64..100, milli in any::<i64>(), kind in 0usize..4,
        work in proptest::option::of(any::<i64>()), deadline in proptest::option::of(any::<i64>()),
        budget in proptest::option::of(any::<i64>()), datasets in proptest::collection::vec(id(), 0..5),
        depends in proptest::collection::vec(id(), 0..3), retries in proptest::collection::vec(any::<i64>(), 0..3),
        flags in any::<(bool, bool, bool)>(), label in ".{0,40}",
    ) -> JobRequested {
        let mut event = JobRequested {
            job: job.into(), tenant: tenant.into(), class: class.into(), project: project.map(Into::into),
            kind: JobKind::ALL[kind], expected_work_us: work.map(WorkUs), deadline_us: deadline.map(TimeUs),
            budget: budget.map(|micros| Sum { currency: Currency::parse("EUR").unwrap(), micros: MoneyMicros(micros) }),
            datasets: datasets.into_iter().map(Into::into).collect(),
            depends_on: depends.into_iter().map(|job| Dependency { job: job.into(), condition: DependencyCondition::Any }).collect(),
            retry_limits: retries.into_iter().map(|n| RetryLimit { category: FailureCategory::Gpu, retries_max: Count(n) }).collect(),
            preemptible: flags.0, attestation_required: flags.1, hold: flags.2,
            ..JobRequested::default()
        };
        event.gang.gpus = Count(gpus);
        event.gang.replicas_min = Count(replicas);
        event.gang.gpu_milli_each = GpuMilli(milli);
        event.labels.push(solyx_schemas::events::common::Label { name: "text".into(), value: label });
        event
    }
}

prop_compose! {
    fn usage()(
        job in id(), run in id(), node in proptest::option::of(id()), meter in 0usize..9,
        quantity in any::<i64>(), from in any::<i64>(), to in any::<i64>(),
    ) -> UsageMetered {
        UsageMetered {
            job: job.into(), run: run.into(), node: node.map(Into::into), meter: Meter::ALL[meter],
            quantity: UsageQuantity(quantity), from_us: TimeUs(from), to_us: TimeUs(to), ..UsageMetered::default()
        }
    }
}

proptest! {
    #[test]
    fn any_event_comes_back_from_its_bytes_and_gives_the_same(job in job(), usage in usage()) {
        for event in [Event::from(job), Event::from(usage)] {
            let value = Codec::global().encode(&event);
            let decoded = Codec::global().decode(&value).unwrap();
            prop_assert_eq!(&decoded.event, &event);
            prop_assert_eq!(Codec::global().encode(&decoded.event), value.clone());
            prop_assert_eq!(rewritten(EVENT_TYPES[event.type_index()].avsc, &value[FRAME_LEN..]), &value[FRAME_LEN..]);
        }
    }

    #[test]
    fn damaged_bytes_never_panic(flip in any::<(u16, u8)>(), job in job()) {
        let mut value = Codec::global().encode(&Event::from(job));
        let at = usize::from(flip.0) % value.len();
        value[at] ^= flip.1;
        let _ = Codec::global().decode(&value);
    }
}
