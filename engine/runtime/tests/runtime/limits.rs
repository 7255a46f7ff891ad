//! Limits of an epoch, ids for ever, and what is taken as recorded.

use solyx_kernel::{EPOCH_RECORDS_MAX, EPOCH_SKIPPED_MAX, Kernel, OpenEpoch, Seen};
use solyx_runtime::{AuditOptions, Engine, RedecideOptions, Redecisions, audit, recall};
use solyx_schemas::codec::Codec;
use solyx_schemas::epochs::{EpochBatch, EpochReader, Position};
use solyx_schemas::events::Event;
use solyx_schemas::events::decisions::{EpochCommitted, SkipReason};
use solyx_schemas::events::facility::PowerMeasured;
use solyx_schemas::events::policy::FeatureEnabled;
use solyx_schemas::field::Field;
use solyx_schemas::ids::Name;
use solyx_schemas::log::memory::MemoryLog;
use solyx_schemas::log::{Log, Record};
use solyx_schemas::topics::Topic;
use solyx_schemas::units::TimeUs;

use crate::world::{START_US, cell, job, options, publish, record, run_all, world};

fn epochs(log: &MemoryLog) -> Vec<EpochBatch> {
    EpochReader::new(log).map(Result::unwrap).collect()
}

fn junk(n: usize) -> Record {
    let value = format!("junk {n}").into_bytes();
    Record { topic: Topic::Energy.into(), partition: 0, key: b"k".to_vec(), value, headers: Vec::new() }
}

#[test]
fn an_epoch_closes_early_at_1024_records_that_do_not_count() {
    assert_eq!(EPOCH_SKIPPED_MAX, 1_024);
    let log = MemoryLog::new();
    publish(&log, (0..2_500).map(junk).collect());
    run_all(&log, None).unwrap();
    let skipped: Vec<usize> = epochs(&log).iter().map(|epoch| epoch.record.skipped.len()).collect();
    assert_eq!(skipped, [1_024, 1_024, 452]);
    assert!(audit(&log, &AuditOptions::default(), &mut |_| {}).unwrap().ok);
}

#[test]
fn an_epoch_takes_at_most_65536_records() {
    assert_eq!(EPOCH_RECORDS_MAX, 65_536);
    let log = MemoryLog::new();
    let measured = |n: usize| PowerMeasured {
        event_id: format!("power-{n}").as_str().into(),
        occurred_us: TimeUs(START_US),
        ..PowerMeasured::example("")
    };
    publish(&log, (0..EPOCH_RECORDS_MAX + 100).map(|n| record(&log, &Event::from(measured(n)), false)).collect());
    run_all(&log, None).unwrap();
    let taken: Vec<usize> = epochs(&log).iter().map(|epoch| epoch.inputs.len()).collect();
    assert_eq!(taken, [EPOCH_RECORDS_MAX, 100]);
}

#[test]
fn an_id_that_counted_is_taken_for_ever_over_restarts_and_one_that_did_not_is_free() {
    for dir in [None, Some(tempfile::tempdir().unwrap())] {
        let path = dir.as_ref().map(tempfile::TempDir::path);
        let log = MemoryLog::new();
        // An id of a record that does not count stays free for the one that does.
        let mut invalid = job(1);
        invalid.gang.replicas_min.0 = 0;
        publish(&log, vec![record(&log, &Event::from(job(0)), false), record(&log, &Event::from(invalid), false)]);
        run_all(&log, path).unwrap();
        let mut other = job(0);
        other.labels.clear();
        let again = [job(0), other, job(1)].map(|job| record(&log, &Event::from(job), false));
        publish(&log, again.to_vec());
        run_all(&log, path).unwrap();
        publish(&log, vec![record(&log, &Event::from(job(1)), false)]);
        run_all(&log, path).unwrap();
        let mut seen = Vec::new();
        for epoch in epochs(&log) {
            for input in epoch.inputs.iter().filter(|input| input.position.topic() == Topic::Jobs) {
                let id = input.decoded.as_ref().unwrap().event.identity().id.into_owned();
                seen.push((id, input.skipped));
            }
        }
        seen.sort();
        let expected = [
            ("job-0", None),
            ("job-0", Some(SkipReason::Duplicate)),
            ("job-0", Some(SkipReason::Conflict)),
            ("job-1", None),
            ("job-1", Some(SkipReason::Duplicate)),
            ("job-1", Some(SkipReason::Invalid)),
        ];
        assert_eq!(seen, expected.map(|(id, skipped)| (id.to_owned(), skipped)));
        assert!(audit(&log, &AuditOptions::default(), &mut |_| {}).unwrap().ok);
    }
}

/// A log of one epoch in which a build of another version did not know a feature that this one knows.
fn feature_unknown_then(version: &str) -> MemoryLog {
    let log = MemoryLog::new();
    let enabled = FeatureEnabled { feature: "spine".into(), ..FeatureEnabled::example("") };
    let input = record(&log, &Event::from(enabled), false);
    publish(&log, vec![input.clone()]);
    let mut kernel = Kernel::new(cell());
    let mut epoch = OpenEpoch::open(&mut kernel, START_US, 0);
    let position = Position::new(Topic::Policy, 0, 0);
    // The kernel of then is this one, told what it said.
    epoch.written_by(&Name::from("0.0.1"), [(position, SkipReason::UnknownFeature, "never heard of it".to_owned())]);
    let decoded = Codec::global().decode_record(&input).unwrap();
    assert!(!epoch.take(position, &input.key, &input.value, Ok(&decoded), || Seen::New));
    let mut closed = epoch.close(&|topic| log.partitions(topic.into()));
    closed.record.engine_version = Name::from(version);
    let mut records: Vec<Record> = closed.outputs.iter().map(|output| record(&log, output, false)).collect();
    records.push(record(&log, &Event::from(closed.record), false));
    publish(&log, records);
    log
}

#[test]
fn what_another_version_did_not_know_is_taken_as_recorded_and_what_this_one_knows_is_not() {
    let log = feature_unknown_then("0.0.1");
    let report = audit(&log, &AuditOptions::default(), &mut |_| {}).unwrap();
    assert!(report.ok, "{:?}", report.first_difference);
    assert_eq!(epochs(&log)[0].record.skipped[0].reason, SkipReason::UnknownFeature);

    let forged = feature_unknown_then(solyx_kernel::ENGINE_VERSION);
    let difference = audit(&forged, &AuditOptions::default(), &mut |_| {}).unwrap().first_difference.unwrap();
    assert_eq!((difference.record.as_str(), difference.what.as_str()), ("policy/0/0", "judgement"));
}

#[test]
fn a_feature_that_this_build_lacks_stops_whoever_reads_the_log_and_is_named() {
    let log = world(12);
    run_all(&log, None).unwrap();
    const EPOCH: i64 = 3;
    let topic = Topic::Decisions.into();
    for partition in 0..log.partitions(topic) {
        log.tamper(topic, partition, |records| {
            for stored in records {
                let decoded = Codec::global().decode(&stored.record.value).unwrap();
                if let Event::EpochCommitted(mut record) = decoded.event
                    && record.epoch == EPOCH
                {
                    record.features.push("from-the-future".into());
                    stored.record.value = Codec::global().encode(&Event::EpochCommitted(record));
                }
            }
        });
    }
    // No input has switched it on: an audit takes it for a change of the record.
    let difference = audit(&log, &AuditOptions::default(), &mut |_| {}).unwrap().first_difference.unwrap();
    assert_eq!((difference.epoch, difference.what.as_str()), (EPOCH, "features"));
    let mut told = vec![Engine::lead(&log, &options(None).engine, None).err().unwrap().to_string()];
    let mut redecisions = Redecisions::begin(&log, &RedecideOptions::default()).unwrap();
    let error = std::iter::from_fn(|| redecisions.next_epoch().transpose()).find_map(Result::err);
    told.push(error.unwrap().to_string());
    for text in told {
        let expected = "epoch 3 has the feature from-the-future in force, which this build lacks; use the build that wrote it or a newer one";
        assert_eq!(text, expected);
    }
    let error = recall(&log, &cell(), None).err().unwrap().to_string();
    assert_eq!(error, "epoch 3 needs feature from-the-future, which this build lacks");
}

#[test]
fn an_epoch_that_switches_a_feature_on_which_this_build_lacks_asks_for_a_newer_one() {
    let log = MemoryLog::new();
    let enabled = FeatureEnabled { feature: "from-the-future".into(), ..FeatureEnabled::example("") };
    let input = record(&log, &Event::from(enabled), false);
    publish(&log, vec![input.clone()]);
    // This kernel refuses it; what is recorded is that it counted.
    let closed = |take: bool| {
        let mut kernel = Kernel::new(cell());
        let mut epoch = OpenEpoch::open(&mut kernel, START_US, 0);
        let decoded = Codec::global().decode_record(&input).unwrap();
        let position = Position::new(Topic::Policy, 0, 0);
        assert!(!take || !epoch.take(position, &input.key, &input.value, Ok(&decoded), || Seen::New));
        epoch.close(&|topic| log.partitions(topic.into())).record
    };
    let (refused, nothing) = (closed(true), closed(false));
    let counted = EpochCommitted {
        skipped: Vec::new(),
        outputs: nothing.outputs.clone(),
        output_root: nothing.output_root,
        ..refused
    };
    publish(&log, vec![record(&log, &Event::from(counted.clone()), false)]);
    let told = [
        audit(&log, &AuditOptions::default(), &mut |_| {}).err().unwrap().to_string(),
        Engine::lead(&log, &options(None).engine, None).err().unwrap().to_string(),
    ];
    for text in told {
        assert!(text.contains("from-the-future") && text.contains("a newer one"), "{text}");
    }
    // Behind a changed input nobody hides.
    let topic = Topic::Policy.into();
    log.tamper(topic, 0, |records| {
        let another = FeatureEnabled { feature: "from-elsewhere".into(), ..FeatureEnabled::example("") };
        records[0].record.value = Codec::global().encode(&Event::from(another));
    });
    let report = audit(&log, &AuditOptions::default(), &mut |_| {}).unwrap();
    assert_eq!(report.first_difference.unwrap().epoch, 0);
}
