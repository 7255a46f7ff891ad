//! A history is the same on every log, by its hashes.

use std::collections::BTreeSet;
use std::sync::Arc;

use solyx_connectors::log::archive::{self, ArchiveLog};
use solyx_connectors::log::embedded::{Durability, EmbeddedLog, EmbeddedOptions};
use solyx_connectors::log::kafka::{FrameIds, KafkaLog, KafkaOptions};
use solyx_connectors::log::mirror::mirror;
use solyx_proofs::{EpochHashes, History, HistoryError};
use solyx_schemas::codec::{Codec, FRAME_LEN, frame_id};
use solyx_schemas::hash::Hash32;
use solyx_schemas::log::memory::MemoryLog;
use solyx_schemas::log::{Log, LogError};
use solyx_schemas::topics::Topic;

use crate::cluster::cluster;
use crate::worlds::{audited, bytes, publish, run};

/// A registry that has given the schemas of the lock file other ids.
struct OtherIds;

const SHIFT: u32 = 0x5358_0000 - 40;

impl FrameIds for OtherIds {
    fn to_ours(&self, value: &mut [u8]) -> Result<(), LogError> {
        exchange(value, |id| (40..400).contains(&id).then_some(id + SHIFT).filter(|id| is_ours(*id)))
    }

    fn to_wire(&self, value: &mut [u8]) -> Result<(), LogError> {
        exchange(value, |id| is_ours(id).then(|| id - SHIFT))
    }
}

fn is_ours(id: u32) -> bool {
    Codec::global().writer_schema(id).is_some()
}

fn exchange(value: &mut [u8], other: impl Fn(u32) -> Option<u32>) -> Result<(), LogError> {
    if let Some(id) = frame_id(value).and_then(other) {
        value[1..FRAME_LEN].copy_from_slice(&id.to_be_bytes());
    }
    Ok(())
}

/// Root of the tree of epochs, each of which has the roots that its record names.
fn tree_of(log: &dyn Log) -> Hash32 {
    let history = History::read(log, &BTreeSet::new(), |raw| {
        let epoch = raw.record.epoch;
        EpochHashes::of(&raw).map(drop).map_err(|detail| HistoryError::Epoch { epoch, detail })
    });
    history.unwrap().tree.root()
}

#[test]
fn a_run_copied_to_kafka_to_an_archive_and_back_has_the_same_chain_head() {
    let (cluster, _turn) = cluster();
    let origin = MemoryLog::new();
    publish(&origin, 40);
    // What nobody can read is part of the history too: it is listed, hashed and copied as it is.
    let mut garbage = origin.producer("somebody").unwrap();
    let known_id =
        frame_id(&origin.read(Topic::Policy.into(), 0, 0, solyx_schemas::log::SCAN_LIMIT).unwrap()[0].record.value);
    let mut broken = vec![0];
    broken.extend(known_id.unwrap().to_be_bytes());
    broken.extend([0xff; 9]);
    garbage
        .append(vec![
            bytes(Topic::Jobs, 0, b"garbage"),
            bytes(Topic::Jobs, 1, &broken),
            bytes(Topic::Runs, 0, &[0, 0, 0, 1, 77, 1, 2]),
            bytes(Topic::Usage, 0, &[0, 0, 0, 0, 41, 1, 2]),
        ])
        .unwrap();
    let head = run(&origin, None).unwrap().chain_head;
    assert_eq!(audited(&origin), head);
    let root = tree_of(&origin);

    let cell = cluster.cell();
    let on_kafka = || -> Arc<KafkaLog> {
        let options = KafkaOptions { ids: Arc::new(OtherIds), ..KafkaOptions::new(cell.direct.clone(), None).unwrap() };
        KafkaLog::open(options).unwrap()
    };
    // Transactions that come to nothing leave gaps between the offsets.
    let abort = |log: &KafkaLog| {
        let records: Vec<_> = (0..4).map(|p| bytes(Topic::Decisions, p, b"never")).collect();
        let mut producer = log.producer("aborts").unwrap();
        producer.append_if(&records, &mut |_| false).unwrap_err();
    };
    abort(&on_kafka());
    let copied = mirror(&origin, &*on_kafka(), "mirror", &|_, _| {}).unwrap();
    abort(&on_kafka());
    assert_eq!(mirror(&origin, &*on_kafka(), "mirror", &|_, _| {}).unwrap().present, copied.records);
    assert_eq!((audited(&*on_kafka()), tree_of(&*on_kafka())), (head, root));
    let plain = cell.log();
    let first = plain.read(Topic::Policy.into(), 0, 0, solyx_schemas::log::SCAN_LIMIT).unwrap();
    assert!(frame_id(&first[0].record.value).is_some_and(|id| id < 400), "the wire has the other registry's ids");

    let dir = tempfile::tempdir().unwrap();
    let (archive, again) = (dir.path().join("archive"), dir.path().join("again"));
    archive::export(&*on_kafka(), &archive, &|_, _| {}).unwrap();
    let archived = ArchiveLog::open(&archive).unwrap();
    assert_eq!((audited(&*archived), tree_of(&*archived)), (head, root));
    let options = EmbeddedOptions { durability: Durability::EveryN(1_000), partitions: None };
    let embedded = EmbeddedLog::open(&again, options).unwrap();
    archive::import(&archive, &*embedded, &|_, _| {}).unwrap();
    assert_eq!((audited(&*embedded), tree_of(&*embedded)), (head, root));
    let back = cluster.cell();
    mirror(&*embedded, &*back.log(), "mirror", &|_, _| {}).unwrap();
    assert_eq!(audited(&*back.log()), head);
}
