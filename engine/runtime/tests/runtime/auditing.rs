//! An audit finds what was changed, by epoch, record and field.

use solyx_runtime::{AuditOptions, AuditReport, RedecideOptions, Redecisions, audit, recall};
use solyx_schemas::codec::Codec;
use solyx_schemas::events::Event;
use solyx_schemas::ids::Name;
use solyx_schemas::log::memory::MemoryLog;
use solyx_schemas::log::{Log, StoredRecord};
use solyx_schemas::topics::{Topic, TopicName, partition_of};

use crate::world::{cell, run_all, world};

fn audited(log: &MemoryLog) -> AuditReport {
    audit(log, &AuditOptions::default(), &mut |_| {}).unwrap()
}

fn history() -> (MemoryLog, u64) {
    let log = world(24);
    let end = run_all(&log, None).unwrap();
    (log, end.next_epoch as u64)
}

fn decisions(log: &MemoryLog) -> (TopicName, u32) {
    let topic = TopicName::live(Topic::Decisions);
    (topic, partition_of(cell().as_str().as_bytes(), log.partitions(topic)))
}

/// Changes the epoch record of an epoch.
fn change_record(log: &MemoryLog, epoch: i64, change: impl Fn(&mut solyx_schemas::events::decisions::EpochCommitted)) {
    let (topic, partition) = decisions(log);
    log.tamper(topic, partition, |records| {
        for stored in records {
            let decoded = Codec::global().decode(&stored.record.value).unwrap();
            if let Event::EpochCommitted(mut record) = decoded.event
                && record.epoch == epoch
            {
                change(&mut record);
                stored.record.value = Codec::global().encode(&Event::EpochCommitted(record));
            }
        }
    });
}

#[test]
fn an_honest_log_passes_with_its_chain_head() {
    let (log, epochs) = history();
    let dir = tempfile::tempdir().unwrap();
    for options in [
        AuditOptions::default(),
        AuditOptions { index_dir: Some(dir.path().into()), until_epoch: None, ..AuditOptions::default() },
    ] {
        let report = audit(&log, &options, &mut |_| {}).unwrap();
        assert!(report.ok, "{:?}", report.first_difference);
        assert_eq!(report.epochs, epochs);
        assert!(report.events > 24);
    }
    let text = serde_json::to_string(&audited(&log)).unwrap();
    assert!(text.starts_with("{\"ok\":true,\"epochs\":") && text.ends_with("\"first_difference\":null}"), "{text}");
}

#[test]
fn history_that_breaks_off_is_not_taken_for_a_shorter_one() {
    let (log, epochs) = history();
    let broken = i64::try_from(epochs).unwrap() / 2;
    change_record(&log, broken, |record| record.engine_version = Name::from("another"));
    let expected = format!("history breaks off after {} epochs", broken + 1);
    let error = recall(&log, &cell(), None).err().unwrap().to_string();
    assert!(error.starts_with(&expected), "{error}");
    let mut redecisions = Redecisions::begin(&log, &RedecideOptions::default()).unwrap();
    let decided: Vec<_> = std::iter::from_fn(|| redecisions.next_epoch().transpose()).take(epochs as usize).collect();
    let error = decided.last().unwrap().as_ref().err().unwrap().to_string();
    assert!(error.contains(&expected), "{error}");
    assert_eq!(decided.iter().filter(|epoch| epoch.is_ok()).count() as i64, broken + 1);
}

#[test]
fn a_tail_that_is_cut_off_whole_is_found_by_whoever_knows_a_later_head() {
    let (log, epochs) = history();
    let head = audited(&log).chain_head;
    let knows = |head| AuditOptions { head: Some(head), ..AuditOptions::default() };
    assert!(audit(&log, &knows(head), &mut |_| {}).unwrap().ok);
    let last = i64::try_from(epochs).unwrap() - 1;
    for topic in [Topic::Decisions, Topic::Quarantine] {
        for partition in 0..log.partitions(topic.into()) {
            log.tamper(topic.into(), partition, |records| {
                records.retain(|stored| match Codec::global().decode(&stored.record.value).unwrap().event {
                    Event::EpochCommitted(record) => record.epoch < last,
                    other => other.stamped().is_none_or(|stamp| stamp.epoch < last),
                });
            });
        }
    }
    let earlier = audited(&log);
    assert!(earlier.ok && earlier.chain_head != head, "what is left is a good log");
    let difference = audit(&log, &knows(head), &mut |_| {}).unwrap().first_difference.unwrap();
    assert_eq!((difference.epoch, difference.what.as_str()), (last, "head"));
    assert!(audit(&log, &knows(earlier.chain_head), &mut |_| {}).unwrap().ok);
}

#[test]
fn a_head_may_lie_before_or_behind_the_part_that_is_audited() {
    let (log, dir) = (world(24), tempfile::tempdir().unwrap());
    let last = run_all(&log, Some(dir.path())).unwrap().next_epoch - 1;
    let begin = AuditOptions { until_epoch: Some(1), ..AuditOptions::default() };
    let early = audit(&log, &begin, &mut |_| {}).unwrap().chain_head;
    let late = audited(&log).chain_head;
    let end = AuditOptions { from: Some((dir.path().join("snapshots"), last)), ..AuditOptions::default() };
    for (part, head) in [(begin, late), (end, early)] {
        let knows = |head| AuditOptions { head: Some(head), ..part.clone() };
        let report = audit(&log, &knows(head), &mut |_| {}).unwrap();
        assert!(report.ok, "{:?}", report.first_difference);
        let unknown = audit(&log, &knows(solyx_schemas::hash::sha256(b"another")), &mut |_| {}).unwrap();
        assert_eq!(unknown.first_difference.unwrap().what, "head");
    }
}

/// The record hash has the partition in it, and what is derived is hashed where it belongs.
#[test]
fn outputs_that_changed_places_over_partitions_are_found() {
    let (log, _) = history();
    let (topic, _) = decisions(&log);
    let mut alone: std::collections::BTreeMap<i64, Vec<(u32, StoredRecord)>> = Default::default();
    for partition in 0..log.partitions(topic) {
        let mut of_epochs: std::collections::BTreeMap<i64, Vec<StoredRecord>> = Default::default();
        log.tamper(topic, partition, |records| {
            for stored in records {
                let event = Codec::global().decode(&stored.record.value).unwrap().event;
                if let (false, Some(stamp)) = (matches!(event, Event::EpochCommitted(_)), event.stamped()) {
                    of_epochs.entry(stamp.epoch).or_default().push(stored.clone());
                }
            }
        });
        for (epoch, mut records) in of_epochs.into_iter().filter(|(_, records)| records.len() == 1) {
            alone.entry(epoch).or_default().extend(records.pop().map(|record| (partition, record)));
        }
    }
    let (epoch, pair) = alone.into_iter().find(|(_, records)| records.len() > 1).unwrap();
    for (place, other) in [(0, 1), (1, 0)] {
        let (partition, own) = &pair[place];
        log.tamper(topic, *partition, |records| {
            for stored in records.iter_mut().filter(|stored| stored.ordinal == own.ordinal) {
                stored.record.key = pair[other].1.record.key.clone();
                stored.record.value = pair[other].1.record.value.clone();
                stored.record.headers = pair[other].1.record.headers.clone();
            }
        });
    }
    let found = audited(&log).first_difference.unwrap();
    assert_eq!((found.epoch, found.what.as_str()), (epoch, "partition"), "{found}");
}

#[test]
fn an_audit_of_a_part_begins_at_a_snapshot_of_the_chain_and_finds_there_what_a_whole_one_does() {
    let (log, dir) = (world(24), tempfile::tempdir().unwrap());
    let epochs = run_all(&log, Some(dir.path())).unwrap().next_epoch;
    // The last snapshot is of the end.
    let last = epochs - 1;
    let snapshots = dir.path().join("snapshots");
    let from = |epoch| AuditOptions { from: Some((snapshots.clone(), epoch)), ..AuditOptions::default() };
    let whole = audited(&log);
    let part = audit(&log, &from(last), &mut |_| {}).unwrap();
    assert!(part.ok, "{:?}", part.first_difference);
    assert!(part.from_epoch > 0 && part.from_epoch as u64 + part.epochs == epochs as u64);
    assert_eq!(part.chain_head, whole.chain_head);
    // One that stands later is of no use.
    let early = audit(&log, &from(1), &mut |_| {}).unwrap();
    assert_eq!((early.ok, early.from_epoch, early.epochs), (true, 0, whole.epochs));
    // A change before the snapshot is not seen, one after it is.
    let of_part = |log: &MemoryLog| audit(log, &from(last), &mut |_| {}).unwrap().first_difference;
    for (epoch, is_seen) in [(part.from_epoch - 2, false), (part.from_epoch, true)] {
        let changed = log.fork();
        change_record(&changed, epoch, |record| record.state_digest.0[0] ^= 1);
        assert_eq!(of_part(&changed).map(|found| found.epoch), is_seen.then_some(epoch), "{epoch}");
    }
    for damage in [true, false] {
        for entry in std::fs::read_dir(&snapshots).unwrap() {
            let path = entry.unwrap().path();
            if damage { std::fs::write(&path, b"torn").unwrap() } else { std::fs::remove_file(&path).unwrap() }
        }
        let report = audit(&log, &from(last), &mut |_| {}).unwrap();
        assert_eq!((report.ok, report.from_epoch, report.epochs), (true, 0, whole.epochs));
    }
}

/// Nothing that is hashed says where an output stands.
#[test]
fn outputs_that_changed_places_and_copies_of_outputs_are_found() {
    let (honest, _) = history();
    let (topic, partition) = decisions(&honest);
    let epoch_of = |stored: &StoredRecord| match Codec::global().decode(&stored.record.value).unwrap().event {
        Event::EpochCommitted(_) => None,
        other => other.stamped().map(|stamp| stamp.epoch),
    };
    let mut swaps = 0;
    for partition in 0..honest.partitions(topic) {
        let swapped = honest.fork();
        let mut of = None;
        swapped.tamper(topic, partition, |records| {
            let of_one =
                |pair: &[StoredRecord]| epoch_of(&pair[0]).is_some() && epoch_of(&pair[0]) == epoch_of(&pair[1]);
            let Some(first) = records.windows(2).position(of_one) else { return };
            of = epoch_of(&records[first]);
            records.swap(first, first + 1);
        });
        let difference = audited(&swapped).first_difference.map(|found| (found.epoch, found.what));
        assert_eq!(difference, of.map(|epoch| (epoch, "order".to_owned())));
        swaps += usize::from(of.is_some());
    }
    assert!(swaps > 0);
    for at_end in [false, true] {
        let copied = honest.fork();
        copied.tamper(topic, partition, |records| {
            let (copy, at) = (records[0].clone(), if at_end { records.len() } else { 3 });
            records.insert(at, copy);
        });
        assert_eq!(audited(&copied).first_difference.unwrap().what, "order");
    }
}

#[test]
fn a_changed_field_of_an_epoch_record_is_named() {
    type Change = fn(&mut solyx_schemas::events::decisions::EpochCommitted);
    let changes: [(&str, Change); 5] = [
        ("state_digest", |record| record.state_digest.0[0] ^= 1),
        ("input_root", |record| record.input_root.0[0] ^= 1),
        ("output_root", |record| record.output_root.0[0] ^= 1),
        // The index is in the record's id too, which its header repeats.
        ("readability", |record| record.index += 1),
        ("previous_chain_hash", |record| record.previous_chain_hash.0[0] ^= 1),
    ];
    for (field, change) in changes {
        let (log, _) = history();
        change_record(&log, 3, change);
        let difference = audited(&log).first_difference.unwrap();
        assert!(difference.epoch == 3, "{field}: {difference}");
        assert_eq!(difference.what, field, "{difference}");
    }
}

#[test]
fn a_judgement_that_was_left_out_or_made_up_is_named_by_its_record() {
    let (log, _) = history();
    let mut epoch = None;
    let (topic, partition) = decisions(&log);
    log.tamper(topic, partition, |records| {
        for stored in records.iter() {
            if let Event::EpochCommitted(record) = Codec::global().decode(&stored.record.value).unwrap().event
                && let Some(skip) = record.skipped.first()
            {
                epoch.get_or_insert((record.epoch, format!("{}/{}/{}", skip.topic, skip.partition, skip.ordinal)));
            }
        }
    });
    let (epoch, place) = epoch.unwrap();
    change_record(&log, epoch, |record| drop(record.skipped.remove(0)));
    let report = audited(&log);
    let difference = report.first_difference.unwrap();
    assert_eq!((difference.epoch, difference.record, difference.what.as_str()), (epoch, place, "judgement"));
}

#[test]
fn a_changed_input_is_found_in_the_epoch_that_took_it() {
    let (log, _) = history();
    let changed = |stored: &mut StoredRecord| {
        let at = stored.record.value.len() - 1;
        stored.record.value[at] ^= 2;
    };
    let partition = (0..4).find(|p| log.end(Topic::Jobs.into(), *p).unwrap() > 2).unwrap();
    log.tamper(Topic::Jobs.into(), partition, |records| changed(&mut records[2]));
    let report = audited(&log);
    assert!(!report.ok);
    assert!(report.first_difference.is_some());
}

#[test]
fn a_missing_output_a_missing_epoch_record_and_a_swapped_input_are_found() {
    let (log, epochs) = history();
    let gone = log.fork();
    gone.tamper(Topic::Quarantine.into(), 0, |records| drop(records.remove(0)));
    assert!(!audited(&gone).ok);

    let (topic, partition) = decisions(&log);
    let cut = log.fork();
    cut.tamper(topic, partition, |records| {
        let is_epoch = |stored: &StoredRecord| {
            let decoded = Codec::global().decode_record(&stored.record).unwrap();
            matches!(decoded.event, Event::EpochCommitted(_))
        };
        let place = records.iter().skip(4).position(is_epoch).unwrap();
        records.remove(4 + place);
    });
    let report = audited(&cut);
    assert!(!report.ok && report.epochs < epochs);
    assert!(report.first_difference.unwrap().what.contains("epoch record"));

    let last = log.end(topic, partition).unwrap() - 1;
    let changed = log.fork();
    changed.tamper(topic, partition, |records| {
        let value = &mut records[last as usize].record.value;
        value.truncate(value.len() - 3);
    });
    assert_eq!(audited(&changed).first_difference.unwrap().what, "readability");

    let swapped = log.fork();
    let partition = (0..4).find(|p| log.end(Topic::Jobs.into(), *p).unwrap() > 3).unwrap();
    swapped.tamper(Topic::Jobs.into(), partition, |records| records.swap(0, 2));
    assert!(!audited(&swapped).ok);
}

#[test]
fn an_output_with_another_content_is_named_by_place_and_field() {
    let (log, _) = history();
    log.tamper(Topic::Quarantine.into(), 0, |records| {
        let decoded = Codec::global().decode(&records[0].record.value).unwrap();
        let Event::RecordQuarantined(mut quarantined) = decoded.event else { panic!("not a quarantine record") };
        quarantined.topic = Name::from("runs");
        records[0].record.value = Codec::global().encode(&Event::RecordQuarantined(quarantined));
    });
    let difference = audited(&log).first_difference.unwrap();
    assert_eq!((difference.record.as_str(), difference.what.as_str()), ("quarantine/0/0", "topic"));
    assert_eq!(difference.recorded, "\"runs\"");
}
