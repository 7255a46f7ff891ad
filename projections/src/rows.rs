//! A table of a fold's state: ordered rows that remember which of them changed since they were saved.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde::de::DeserializeOwned;

use solyx_schemas::told::Told;

use crate::fold::{Change, Entry, ToldRow};

/// Ordered rows. Keys and values are postcard bytes in the store, under one byte that names the table.
#[derive(Clone, Debug)]
pub struct Rows<K, V> {
    rows: BTreeMap<K, V>,
    changed: BTreeSet<K>,
}

impl<K, V> Default for Rows<K, V> {
    fn default() -> Self {
        Self { rows: BTreeMap::new(), changed: BTreeSet::new() }
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
        self.rows.get(key)
    }

    /// The row of a key, to be changed.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let row = self.rows.get_mut(key)?;
        self.changed.insert(key.clone());
        Some(row)
    }

    /// The row of a key, made when it is not there.
    pub fn entry(&mut self, key: &K) -> &mut V
    where
        V: Default,
    {
        self.changed.insert(key.clone());
        self.rows.entry(key.clone()).or_default()
    }

    /// Puts a row in.
    pub fn insert(&mut self, key: K, row: V) {
        self.changed.insert(key.clone());
        self.rows.insert(key, row);
    }

    /// Takes a row out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let row = self.rows.remove(key)?;
        self.changed.insert(key.clone());
        Some(row)
    }

    /// All rows in order.
    pub fn iter(&self) -> std::collections::btree_map::Iter<'_, K, V> {
        self.rows.iter()
    }

    /// Rows from a key on, in order.
    pub fn from(&self, key: &K) -> std::collections::btree_map::Range<'_, K, V> {
        self.rows.range(key..)
    }

    /// The last row at or before a key.
    pub fn up_to(&self, key: &K) -> Option<(&K, &V)> {
        self.rows.range(..=key).next_back()
    }

    /// The last row before a key.
    pub fn before(&self, key: &K) -> Option<(&K, &V)> {
        self.rows.range(..key).next_back()
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
    pub fn entries(&self, table: u8, into: &mut Vec<Entry>) {
        into.extend(self.rows.iter().map(|(key, row)| (key_bytes(table, key), bytes(row))));
    }

    /// Adds what changed since the last call.
    pub fn changes(&mut self, table: u8, into: &mut Vec<Change>) {
        for key in std::mem::take(&mut self.changed) {
            into.push((key_bytes(table, &key), self.rows.get(&key).map(bytes)));
        }
    }

    /// No longer remembers what changed.
    pub fn forget_changes(&mut self) {
        self.changed.clear();
    }

    /// An entry of a table of this name as it is told to a person; `key` is without the table's byte.
    pub fn told(&self, table: &'static str, key: &[u8], value: &[u8]) -> Result<ToldRow, postcard::Error> {
        let (key, row): (K, V) = (postcard::from_bytes(key)?, postcard::from_bytes(value)?);
        Ok(ToldRow { table, key: Told::of(&key), row: Told::of(&row) })
    }

    /// Puts back a saved entry; `key` is without the table's byte.
    pub fn load(&mut self, key: &[u8], value: &[u8]) -> Result<(), postcard::Error> {
        self.rows.insert(postcard::from_bytes(key)?, postcard::from_bytes(value)?);
        Ok(())
    }
}
