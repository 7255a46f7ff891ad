//! Which offset an ordinal has: a sparse index of each topic-partition that a world keeps beside its views.
//!
//! A broker's offsets have gaps where a transaction ended or was aborted; an ordinal is found by counting records. So that a
//! restart need not count from the first one, every so often a record's ordinal, offset and fingerprint are noted. It is a
//! cache: the first record read from a noted place must be the one that was noted, otherwise the topic is another one and
//! is counted anew. Files are only appended to, an entry at a time, so that several processes may share them.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use solyx_schemas::log::Record;

/// Records between two entries.
pub(super) const EVERY: u64 = 4_096;
const ENTRY_LEN: usize = 8 + 8 + 8 + 4;

/// A record that was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub ordinal: u64,
    pub offset: i64,
    /// The first eight bytes of a hash over key, value and headers.
    pub fingerprint: u64,
}

/// The entries of one topic-partition, by ordinal.
#[derive(Debug, Default)]
pub(super) struct Book {
    file: Option<File>,
    path: PathBuf,
    entries: Vec<Entry>,
}

pub(super) fn fingerprint(record: &Record) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for part in [&record.key, &record.value] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    for (name, value) in &record.headers {
        hasher.update(name.as_bytes());
        hasher.update(value);
    }
    let hash = hasher.finalize();
    hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

impl Book {
    /// The book of a topic-partition in a directory. One that cannot be read or written is done without.
    pub fn open(dir: &Path, topic: &str, partition: u32) -> Self {
        let path = dir.join(format!("{topic}-{partition}.offsets"));
        let entries = fs::read(&path).map(|bytes| parse(&bytes)).unwrap_or_default();
        let file = fs::create_dir_all(dir).and_then(|()| OpenOptions::new().create(true).append(true).open(&path));
        if let Err(error) = &file {
            tracing::info!(path = %path.display(), %error, "offsets are not noted; records are counted at each start");
        }
        Self { file: file.ok(), path, entries }
    }

    /// The last entry at or before an ordinal.
    pub fn at_or_before(&self, ordinal: u64) -> Option<Entry> {
        let after = self.entries.partition_point(|entry| entry.ordinal <= ordinal);
        after.checked_sub(1).map(|place| self.entries[place])
    }

    /// Notes a record.
    pub fn note(&mut self, entry: Entry) {
        let place = self.entries.partition_point(|known| known.ordinal < entry.ordinal);
        if self.entries.get(place).is_some_and(|known| known.ordinal == entry.ordinal) {
            return;
        }
        self.entries.insert(place, entry);
        if let Some(file) = &mut self.file
            && file.write_all(&entry.to_bytes()).is_err()
        {
            self.file = None;
        }
    }

    /// Forgets everything: the topic is another one.
    pub fn clear(&mut self) {
        self.entries.clear();
        if let Some(file) = &self.file
            && file.set_len(0).is_err()
        {
            tracing::info!(path = %self.path.display(), "noted offsets could not be cleared");
            self.file = None;
        }
    }
}

impl Entry {
    fn to_bytes(self) -> [u8; ENTRY_LEN] {
        let mut bytes = [0; ENTRY_LEN];
        bytes[..8].copy_from_slice(&self.ordinal.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.offset.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.fingerprint.to_le_bytes());
        let check = check(&bytes[..24]);
        bytes[24..].copy_from_slice(&check);
        bytes
    }
}

fn check(bytes: &[u8]) -> [u8; 4] {
    blake3::hash(bytes).as_bytes().first_chunk().copied().unwrap_or_default()
}

/// The entries of a file, sorted; what is damaged is left out.
fn parse(bytes: &[u8]) -> Vec<Entry> {
    let number = |bytes: &[u8]| bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let mut entries: Vec<Entry> = bytes
        .chunks_exact(ENTRY_LEN)
        .filter(|entry| entry[24..] == check(&entry[..24]))
        .map(|entry| Entry {
            ordinal: number(entry),
            offset: number(&entry[8..]).cast_signed(),
            fingerprint: number(&entry[16..]),
        })
        .collect();
    entries.sort_by_key(|entry| entry.ordinal);
    entries.dedup_by_key(|entry| entry.ordinal);
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_outlive_the_process_and_a_torn_one_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let entry = |ordinal| Entry { ordinal, offset: ordinal as i64 * 2, fingerprint: 7 };
        let mut book = Book::open(dir.path(), "jobs", 0);
        for ordinal in [8_192, 0, 4_096] {
            book.note(entry(ordinal));
        }
        let path = dir.path().join("jobs-0.offsets");
        OpenOptions::new().append(true).open(&path).unwrap().write_all(&[1; 11]).unwrap();
        let mut again = Book::open(dir.path(), "jobs", 0);
        assert_eq!(again.at_or_before(4_095), Some(entry(0)));
        assert_eq!(again.at_or_before(4_096), Some(entry(4_096)));
        assert_eq!(again.at_or_before(u64::MAX), Some(entry(8_192)));
        again.clear();
        assert_eq!(Book::open(dir.path(), "jobs", 0).at_or_before(9_999), None);
    }
}
