//! A table of a fold's state: ordered rows that remember which of them changed since they were saved.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;

use serde::Serialize;
use serde::de::DeserializeOwned;

use solyx_schemas::told::Told;

use crate::fold::{Change, ToldRow};

/// Ordered rows. Keys and values are postcard bytes in the store, under one byte that names the table.
#[derive(Clone, Debug)]
pub struct Rows<K, V> {
    rows: BTreeMap<K, Kept<V>>,
    changed: Changed<K>,
}

/// Keys of what changed since it was saved.
#[derive(Clone, Debug)]
struct Changed<K> {
    /// A row that was taken out and put in again is there more than once.
    keys: Vec<K>,
    /// Grows with each saving: what changed in this turn is among the keys.
    turn: u64,
}

impl<K: Clone> Changed<K> {
    /// Notes that a row changes that did so last in a turn. Returns the turn in which it does now.
    fn note(&mut self, key: &K, last: u64) -> u64 {
        if last != self.turn {
            self.keys.push(key.clone());
        }
        self.turn
    }

    /// All keys so far; from now on others are noted.
    fn take(&mut self) -> Vec<K> {
        self.turn += 1;
        std::mem::take(&mut self.keys)
    }
}

#[derive(Clone, Debug)]
struct Kept<V> {
    row: V,
    changed_in: u64,
}

/// Of a row that is as it was saved.
const SAVED: u64 = 0;

impl<K, V> Default for Rows<K, V> {
    fn default() -> Self {
        Self { rows: BTreeMap::new(), changed: Changed { keys: Vec::new(), turn: SAVED + 1 } }
    }
}

/// Canonical bytes of a plain value; only values that hold no foreign pointers or files are put in, which always encode.
fn bytes<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("plain data encodes to memory")
}

fn key_bytes<K: Serialize>(table: u8, key: &K) -> Vec<u8> {
    let mut out = vec![table];
    out.extend(bytes(key));
    out
}

impl<K, V> Rows<K, V>
where
    K: Ord + Clone + Serialize + DeserializeOwned,
    V: Serialize + DeserializeOwned,
{
    /// The row of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: std::borrow::Borrow<Q>,
    {
        self.rows.get(key).map(|kept| &kept.row)
    }

    /// The row of a key, to be changed.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let kept = self.rows.get_mut(key)?;
        kept.changed_in = self.changed.note(key, kept.changed_in);
        Some(&mut kept.row)
    }

    /// The row of a key, made when it is not there.
    pub fn entry(&mut self, key: &K) -> &mut V
    where
        V: Default,
    {
        let kept = self.rows.entry(key.clone()).or_insert_with(|| Kept { row: V::default(), changed_in: SAVED });
        kept.changed_in = self.changed.note(key, kept.changed_in);
        &mut kept.row
    }

    /// Puts a row in.
    pub fn insert(&mut self, key: K, row: V) {
        match self.rows.entry(key) {
            Entry::Vacant(place) => {
                let changed_in = self.changed.note(place.key(), SAVED);
                place.insert(Kept { row, changed_in });
            }
            Entry::Occupied(mut place) => {
                let changed_in = self.changed.note(place.key(), place.get().changed_in);
                place.insert(Kept { row, changed_in });
            }
        }
    }

    /// Takes a row out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let kept = self.rows.remove(key)?;
        self.changed.note(key, kept.changed_in);
        Some(kept.row)
    }

    /// All rows in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&K, &V)> + DoubleEndedIterator + Clone {
        self.rows.iter().map(|(key, kept)| (key, &kept.row))
    }

    /// Rows from a key on, in order.
    pub fn from<'r>(&'r self, key: &K) -> impl DoubleEndedIterator<Item = (&'r K, &'r V)> + use<'r, K, V> {
        self.range(Bound::Included(key), Bound::Unbounded)
    }

    /// The last row at or before a key.
    pub fn up_to(&self, key: &K) -> Option<(&K, &V)> {
        self.range(Bound::Unbounded, Bound::Included(key)).next_back()
    }

    /// The last row before a key.
    pub fn before(&self, key: &K) -> Option<(&K, &V)> {
        self.range(Bound::Unbounded, Bound::Excluded(key)).next_back()
    }

    fn range<'r>(
        &'r self,
        from: Bound<&K>,
        to: Bound<&K>,
    ) -> impl DoubleEndedIterator<Item = (&'r K, &'r V)> + use<'r, K, V> {
        self.rows.range::<K, _>((from, to)).map(|(key, kept)| (key, &kept.row))
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Adds every row as an entry.
    pub fn entries(&self, table: u8, into: &mut Vec<crate::fold::Entry>) {
        into.extend(self.iter().map(|(key, row)| (key_bytes(table, key), bytes(row))));
    }

    /// Adds what changed since the last call.
    pub fn changes(&mut self, table: u8, into: &mut Vec<Change>) {
        let mut changed = self.changed.take();
        changed.sort_unstable();
        changed.dedup();
        into.extend(changed.iter().map(|key| (key_bytes(table, key), self.get(key).map(bytes))));
    }

    /// No longer remembers what changed.
    pub fn forget_changes(&mut self) {
        self.changed.take();
    }

    /// An entry of a table of this name as it is told to a person; `key` is without the table's byte.
    pub fn told(&self, table: &'static str, key: &[u8], value: &[u8]) -> Result<ToldRow, postcard::Error> {
        let (key, row): (K, V) = (postcard::from_bytes(key)?, postcard::from_bytes(value)?);
        Ok(ToldRow { table, key: Told::of(&key), row: Told::of(&row) })
    }

    /// Puts back a saved entry; `key` is without the table's byte.
    pub fn load(&mut self, key: &[u8], value: &[u8]) -> Result<(), postcard::Error> {
        let kept = Kept { row: postcard::from_bytes(value)?, changed_in: SAVED };
        self.rows.insert(postcard::from_bytes(key)?, kept);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys that changed, and whether a row is there.
    fn saved(rows: &mut Rows<u32, u32>) -> Vec<(u8, bool)> {
        let mut changes = Vec::new();
        rows.changes(0, &mut changes);
        changes.into_iter().map(|(key, row)| (key[1], row.is_some())).collect()
    }

    #[test]
    fn what_changed_is_told_once_and_in_order_and_no_more_once_it_is_saved() {
        let mut rows = Rows::default();
        for key in [3, 1, 2] {
            rows.insert(key, 0);
        }
        *rows.entry(&1) += 1;
        rows.remove(&3);
        rows.insert(3, 1);
        rows.remove(&2);
        assert_eq!(saved(&mut rows), [(1, true), (2, false), (3, true)]);
        assert_eq!(saved(&mut rows), []);
        if let Some(row) = rows.get_mut(&1) {
            *row += 1;
        }
        assert_eq!(rows.get(&1), Some(&2));
        assert_eq!(rows.get_mut(&2), None);
        rows.remove(&3);
        assert_eq!(saved(&mut rows), [(1, true), (3, false)]);
        *rows.entry(&3) += 1;
        rows.forget_changes();
        assert_eq!(saved(&mut rows), []);
    }

    #[test]
    fn what_was_loaded_has_not_changed() {
        let mut rows = Rows::default();
        rows.insert(1, 5);
        let mut entries = Vec::new();
        rows.entries(0, &mut entries);
        let mut loaded = Rows::<u32, u32>::default();
        for (key, row) in entries {
            loaded.load(&key[1..], &row).unwrap();
        }
        assert_eq!(saved(&mut loaded), []);
        *loaded.entry(&1) += 1;
        assert_eq!(saved(&mut loaded), [(1, true)]);
    }
}
