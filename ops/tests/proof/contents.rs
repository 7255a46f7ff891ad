//! Everything a log holds, to be compared with what another one holds.

use std::collections::BTreeMap;

use solyx_schemas::log::{Log, Record, Scan};
use solyx_schemas::topics::{Topic, TopicName};

/// All records of all topics but for their append times, by topic and partition.
pub type Contents = BTreeMap<(TopicName, u32), Vec<Record>>;

/// What a log holds.
pub fn contents(log: &dyn Log) -> Contents {
    let mut all = Contents::new();
    for topic in Topic::ALL.into_iter().flat_map(|topic| [TopicName::live(topic), TopicName::staged(topic)]) {
        for partition in 0..log.partitions(topic) {
            let records: Vec<Record> = Scan::new(log, topic, partition, 0)
                .enumerate()
                .map(|(place, stored)| {
                    let stored = stored.unwrap();
                    assert_eq!(stored.ordinal, place as u64, "{topic:?}/{partition} has a hole");
                    stored.record
                })
                .collect();
            if !records.is_empty() {
                all.insert((topic, partition), records);
            }
        }
    }
    all
}

/// Nothing of `part` is missing, doubled or other than in `whole`; `part` may only end earlier.
#[track_caller]
pub fn assert_beginning(part: &Contents, whole: &Contents, when: &str) {
    for (place, records) in part {
        let of_whole = whole.get(place).map(Vec::as_slice).unwrap_or_default();
        let same = records.iter().zip(of_whole).take_while(|(a, b)| a == b).count();
        assert!(same == records.len(), "{when}: {place:?} differs from record {same} of {} on", records.len());
    }
}

/// Records in all.
pub fn count(contents: &Contents) -> usize {
    contents.values().map(Vec::len).sum()
}
