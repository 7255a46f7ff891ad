//! How the embedded log lies in RocksDB: keys, values, and the table that gives each topic its number for ever.
//!
//! All of it is in one column family, so that the write-ahead log replays to a prefix of whole appends whatever was
//! synced. Key `0` holds the table. A record's key is `1`, the topic's number, partition and ordinal, big-endian, so that
//! RocksDB's order is the order of reading.

use std::collections::BTreeMap;
use std::path::Path;

use solyx_schemas::log::{LogError, Record, StoredRecord};
use solyx_schemas::topics::TopicName;

use super::errors::damaged;
use crate::log::another_format;
use crate::log::heads::{Slots, topic_names};

/// Key of the table of topics.
pub(super) const TABLE_KEY: &[u8] = &[0];
/// Bytes of a record's key.
pub(super) const KEY_LEN: usize = 15;
/// Version of this layout.
const VERSION: u32 = 1;
const RECORD: u8 = 1;

/// Header names that take one byte. The place of a name never changes; new ones come last.
const HEADER_NAMES: [&str; 6] = ["ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "content-type"];

/// A topic's number in keys, and its partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct TopicLine {
    pub number: u16,
    pub partitions: u32,
}

/// What is fixed when a log is created.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Table {
    version: u32,
    topics: BTreeMap<String, TopicLine>,
}

impl Table {
    /// The table of a new log.
    pub(super) fn of(slots: &Slots) -> Self {
        let mut table = Self { version: VERSION, topics: BTreeMap::new() };
        table.add_missing(slots);
        table
    }

    /// Gives topics that a newer build has brought a number; whether there were any.
    pub(super) fn add_missing(&mut self, slots: &Slots) -> bool {
        let before = self.topics.len();
        for name in topic_names() {
            let number = 1 + self.topics.values().map(|line| line.number).max().unwrap_or(0);
            let partitions = slots.count(name);
            self.topics.entry(name.name()).or_insert(TopicLine { number, partitions });
        }
        self.topics.len() > before
    }

    /// The table of a log in `dir`. Its version is looked at first: what else is in it depends on that.
    pub(super) fn parse(bytes: &[u8], dir: &Path) -> Result<Self, LogError> {
        #[derive(serde::Deserialize)]
        struct Version {
            version: u32,
        }
        let Version { version } = serde_json::from_slice(bytes).map_err(|e| damaged(dir, e))?;
        if version != VERSION {
            return Err(another_format("log", dir, &format!("layout version {version}"), VERSION));
        }
        serde_json::from_slice(bytes).map_err(|e| damaged(dir, e))
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a table of strings and numbers is JSON")
    }

    pub(super) fn line(&self, name: TopicName) -> Option<TopicLine> {
        self.topics.get(&name.name()).copied()
    }

    /// The topic-partitions as this log has them.
    pub(super) fn slots(&self) -> Slots {
        Slots::new(|name| self.line(name).map_or(0, |line| line.partitions))
    }
}

/// The key of a record.
pub(super) fn key(number: u16, partition: u32, ordinal: u64) -> [u8; KEY_LEN] {
    let mut key = [0; KEY_LEN];
    key[0] = RECORD;
    key[1..3].copy_from_slice(&number.to_be_bytes());
    key[3..7].copy_from_slice(&partition.to_be_bytes());
    key[7..].copy_from_slice(&ordinal.to_be_bytes());
    key
}

/// The ordinal of a key that begins like this one.
pub(super) fn ordinal_of(key: &[u8], like: &[u8; KEY_LEN]) -> Option<u64> {
    let (prefix, ordinal) = key.split_at_checked(7)?;
    if prefix != &like[..7] {
        return None;
    }
    Some(u64::from_be_bytes(ordinal.try_into().ok()?))
}

/// Appends a record's value to `out`: append time, key, headers, framed value.
pub(super) fn write_value(record: &Record, append_time_us: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(&append_time_us.to_be_bytes());
    write_bytes(&record.key, out);
    write_len(record.headers.len(), out);
    for (name, value) in &record.headers {
        match HEADER_NAMES.iter().position(|known| known == name) {
            Some(place) => out.push(place as u8 + 1),
            None => {
                out.push(0);
                write_bytes(name.as_bytes(), out);
            }
        }
        write_bytes(value, out);
    }
    out.extend_from_slice(&record.value);
}

/// The record of a value; nothing when the bytes are not one.
pub(super) fn read_value(bytes: &[u8], topic: TopicName, partition: u32, ordinal: u64) -> Option<StoredRecord> {
    let mut input = bytes;
    let append_time_us = append_time_of(bytes)?;
    input = &input[8..];
    let key = read_bytes(&mut input)?.to_vec();
    let count = read_len(&mut input)?;
    let mut headers = Vec::with_capacity(count.min(input.len()));
    for _ in 0..count {
        let (place, rest) = input.split_first()?;
        input = rest;
        let name = match usize::from(*place).checked_sub(1) {
            Some(place) => (*HEADER_NAMES.get(place)?).to_owned(),
            None => String::from_utf8(read_bytes(&mut input)?.to_vec()).ok()?,
        };
        headers.push((name, read_bytes(&mut input)?.to_vec()));
    }
    let record = Record { topic, partition, key, value: input.to_vec(), headers };
    Some(StoredRecord { ordinal, offset: ordinal as i64, append_time_us, record, wire_id: None })
}

/// The append time of a value.
pub(super) fn append_time_of(bytes: &[u8]) -> Option<i64> {
    bytes.first_chunk().map(|time| i64::from_be_bytes(*time))
}

fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    write_len(bytes.len(), out);
    out.extend_from_slice(bytes);
}

/// LEB128.
fn write_len(mut len: usize, out: &mut Vec<u8>) {
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
}

fn read_bytes<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = read_len(input)?;
    let (bytes, rest) = input.split_at_checked(len)?;
    *input = rest;
    Some(bytes)
}

fn read_len(input: &mut &[u8]) -> Option<usize> {
    let mut len = 0usize;
    for shift in (0..usize::BITS).step_by(7) {
        let (byte, rest) = input.split_first()?;
        *input = rest;
        len |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(len);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use solyx_schemas::topics::Topic;

    #[test]
    fn a_later_layout_is_refused_by_its_version_whatever_else_is_in_it() {
        let error = Table::parse(br#"{"version": 2, "streams": []}"#, Path::new("world/log")).unwrap_err();
        assert_eq!(error.what, "the log is of another format");
        assert_eq!(error.detail, "world/log: layout version 2, this build reads version 1");
        assert_eq!(error.hint, "use the build that wrote it, or a later one");
        assert_eq!(Table::parse(b"{}", Path::new("world/log")).unwrap_err().what, "the log is damaged");
    }

    proptest! {
        #[test]
        fn a_record_is_read_back_as_it_was_written(
            key in proptest::collection::vec(any::<u8>(), 0..300),
            value in proptest::collection::vec(any::<u8>(), 0..300),
            headers in proptest::collection::vec(
                (prop_oneof![Just("ce_id".to_owned()), ".{0,9}"], proptest::collection::vec(any::<u8>(), 0..200)), 0..8),
            time in any::<i64>(), ordinal in 0..u64::MAX / 2,
        ) {
            let record = Record { topic: Topic::Jobs.into(), partition: 3, key, value, headers };
            let mut bytes = Vec::new();
            write_value(&record, time, &mut bytes);
            let stored = read_value(&bytes, Topic::Jobs.into(), 3, ordinal).unwrap();
            prop_assert_eq!(stored.record, record);
            prop_assert_eq!((stored.append_time_us, stored.ordinal), (time, ordinal));
        }
    }

    #[test]
    fn a_topic_keeps_its_number_when_others_come() {
        let slots = Slots::asked(None);
        let full = Table::of(&slots);
        let mut older = full.clone();
        older.topics.remove("jobs");
        let before = older.clone();
        assert!(older.add_missing(&slots));
        for (name, line) in &before.topics {
            assert_eq!(older.topics.get(name), Some(line));
        }
        let numbers: std::collections::BTreeSet<u16> = older.topics.values().map(|line| line.number).collect();
        assert_eq!(numbers.len(), older.topics.len());
        assert!(!older.add_missing(&slots));
    }
}
