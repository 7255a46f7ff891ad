//! A table of the state: ordered rows, and what changed in them since the last digest.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::marker::PhantomData;

use serde::{Serialize, de::DeserializeOwned};
use solyx_schemas::told::Told;

use crate::cut::Cut;
use crate::digest::SetHash;

/// A canonical entry of the state: table, key by name, value. `B` is what holds the bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Entry<B = Vec<u8>> {
    /// Number of the table.
    pub table: u8,
    /// Key.
    pub key: B,
    /// Value.
    pub value: B,
}

/// A row that changed, as its canonical entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Number of the table.
    pub table: u8,
    /// Key.
    pub key: Vec<u8>,
    /// Value; none when the row is gone.
    pub value: Option<Vec<u8>>,
}

/// A row, as its canonical bytes and back.
pub trait Row: Sized {
    /// Its canonical bytes.
    fn to_bytes(&self) -> Vec<u8>;

    /// The row of canonical bytes.
    fn of_bytes(bytes: &[u8]) -> Result<Self, postcard::Error>;

    /// As it is told to a person.
    fn told(&self) -> Told;
}

impl<V: Serialize + DeserializeOwned> Row for V {
    fn to_bytes(&self) -> Vec<u8> {
        row_bytes(self)
    }

    fn of_bytes(bytes: &[u8]) -> Result<Self, postcard::Error> {
        postcard::from_bytes(bytes)
    }

    fn told(&self) -> Told {
        Told::of(self)
    }
}

/// A row that lies in memory as its canonical bytes, for what there is much of and is seldom looked at: mostly absent fields, a
/// request is a tenth as large that way.
#[derive(Clone)]
pub struct Packed<V> {
    bytes: Box<[u8]>,
    row: PhantomData<fn() -> V>,
}

impl<V: Serialize + DeserializeOwned> Packed<V> {
    /// Packs a row.
    pub fn of(row: &V) -> Self {
        Self { bytes: bytes(row).into(), row: PhantomData }
    }

    /// A row of its canonical bytes, and what it says.
    pub fn read(bytes: &[u8]) -> Result<(Self, V), postcard::Error> {
        let row = postcard::from_bytes(bytes)?;
        Ok((Self { bytes: bytes.into(), row: PhantomData }, row))
    }

    /// The row.
    pub fn open(&self) -> V {
        postcard::from_bytes(&self.bytes).expect("they were written from such a row, or read as one")
    }
}

impl<V: Serialize + DeserializeOwned> Row for Packed<V> {
    fn to_bytes(&self) -> Vec<u8> {
        self.bytes.to_vec()
    }

    fn of_bytes(bytes: &[u8]) -> Result<Self, postcard::Error> {
        Ok(Self::read(bytes)?.0)
    }

    fn told(&self) -> Told {
        Told::of(&self.open())
    }
}

/// Keeps what was under a key before its first change since the last digest.
fn remember<K: Ord + Clone>(
    before: &mut BTreeMap<K, Option<Vec<u8>>>,
    cut: &mut Option<Cut<K>>,
    key: &K,
    old: impl FnOnce() -> Option<Vec<u8>>,
) {
    if let Slot::Vacant(slot) = before.entry(key.clone()) {
        let old = old();
        if let Some(cut) = cut {
            cut.note(key, old.as_ref());
        }
        slot.insert(old);
    }
}

/// Rows by key. A change goes through [`Table::edit`], [`Table::insert`] or [`Table::remove`], which remember what was there.
#[derive(Clone)]
pub struct Table<K, V> {
    rows: BTreeMap<K, V>,
    before: BTreeMap<K, Option<Vec<u8>>>,
    cut: Option<Cut<K>>,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self { rows: BTreeMap::new(), before: BTreeMap::new(), cut: None }
    }
}

/// What most rows take, bytes: enough that their buffer need not grow.
const ROW_BYTES: usize = 128;

fn row_bytes(row: &impl Serialize) -> Vec<u8> {
    postcard::to_extend(row, Vec::with_capacity(ROW_BYTES)).expect("rows are plain data")
}

fn bytes(value: &impl Serialize) -> Vec<u8> {
    // Rows are plain data; postcard only refuses sequences of unknown length, which none has.
    postcard::to_stdvec(value).expect("rows are plain data")
}

impl<K: Ord + Clone + Serialize + DeserializeOwned, V: Row> Table<K, V> {
    /// The row of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: std::borrow::Borrow<Q>,
    {
        self.rows.get(key)
    }

    /// Whether there is such a row.
    pub fn contains<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: std::borrow::Borrow<Q>,
    {
        self.rows.contains_key(key)
    }

    /// All rows in order of their keys.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.rows.iter()
    }

    /// Rows in a range of keys.
    pub fn range<R: std::ops::RangeBounds<K>>(&self, range: R) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.rows.range(range)
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The row of a key, to be changed.
    pub fn edit(&mut self, key: &K) -> Option<&mut V> {
        let row = self.rows.get_mut(key)?;
        remember(&mut self.before, &mut self.cut, key, || Some(row.to_bytes()));
        Some(row)
    }

    /// The row of a key, to be changed; made if there is none.
    pub fn edit_or_default(&mut self, key: &K) -> &mut V
    where
        V: Default,
    {
        match self.rows.entry(key.clone()) {
            Slot::Occupied(slot) => {
                let row = slot.into_mut();
                remember(&mut self.before, &mut self.cut, key, || Some(row.to_bytes()));
                row
            }
            Slot::Vacant(slot) => {
                remember(&mut self.before, &mut self.cut, key, || None);
                slot.insert(V::default())
            }
        }
    }

    /// Puts a row in, in place of what was there.
    pub fn insert(&mut self, key: K, value: V) {
        let old = self.rows.insert(key.clone(), value);
        remember(&mut self.before, &mut self.cut, &key, || old.as_ref().map(V::to_bytes));
    }

    /// Takes a row out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let old = self.rows.remove(key)?;
        remember(&mut self.before, &mut self.cut, key, || Some(old.to_bytes()));
        Some(old)
    }

    /// Brings the digest up to date with the changes since the last call.
    pub fn digest_changes(&mut self, table: u8, digest: &mut SetHash) {
        for (key, old) in std::mem::take(&mut self.before) {
            let new = self.rows.get(&key).map(V::to_bytes);
            if old == new {
                continue;
            }
            let key = bytes(&key);
            if let Some(old) = old {
                digest.remove(table, &key, &old);
            }
            if let Some(new) = new {
                digest.add(table, &key, &new);
            }
        }
    }

    /// Rows that changed since the last call, or since the last digest, by key: with their value now, or none when they are gone.
    pub fn take_changes(&mut self, table: u8, out: &mut Vec<Changed>) {
        for (key, old) in std::mem::take(&mut self.before) {
            let value = self.rows.get(&key).map(V::to_bytes);
            if old != value {
                out.push(Changed { table, key: bytes(&key), value });
            }
        }
    }

    /// No longer remembers what changed.
    pub fn forget_changes(&mut self) {
        self.before.clear();
    }

    /// The rows that are worth keeping, with nothing changed in them.
    pub fn filtered(&self, keep: impl Fn(&K, &V) -> bool) -> Self
    where
        V: Clone,
    {
        let kept = self.rows.iter().filter(|(key, row)| keep(key, row));
        Self { rows: kept.map(|(key, row)| (key.clone(), row.clone())).collect(), ..Self::default() }
    }

    /// The rows as canonical entries, in order of their keys.
    pub fn entries(&self, table: u8, out: &mut Vec<Entry>) {
        out.extend(self.rows.iter().map(|(key, value)| Entry { table, key: bytes(key), value: value.to_bytes() }));
    }

    /// Keeps the rows as they are now for [`Table::advance_cut`], in place of an earlier cut. Nothing may have changed since the last
    /// digest.
    pub fn begin_cut(&mut self) {
        assert!(self.before.is_empty(), "a cut is made where nothing is half changed");
        self.cut = Some(Cut::new());
    }

    /// Hands out the next rows of the cut until so many bytes are handed out; whether the cut is done, if there was one.
    pub fn advance_cut(&mut self, table: u8, bytes_max: &mut usize, out: &mut Vec<Entry>) -> bool {
        let Some(cut) = &mut self.cut else { return true };
        let done = cut.advance(&self.rows, V::to_bytes, |key, value| {
            let key = bytes(key);
            *bytes_max = bytes_max.saturating_sub(key.len() + value.len());
            out.push(Entry { table, key, value });
            *bytes_max > 0
        });
        if done {
            self.cut = None;
        }
        done
    }

    /// Gives up the cut.
    pub fn end_cut(&mut self) {
        self.cut = None;
    }

    /// Key and row of a canonical entry as they are told to a person.
    pub fn told(entry: &Entry) -> Result<(Told, Told), postcard::Error> {
        let key: K = postcard::from_bytes(&entry.key)?;
        Ok((Told::of(&key), V::of_bytes(&entry.value)?.told()))
    }

    /// Puts all rows back, from canonical entries.
    pub fn load_all<B: AsRef<[u8]>>(&mut self, entries: &[Entry<B>]) -> Result<(), postcard::Error> {
        self.load_each(entries, |_, bytes| V::of_bytes(bytes))
    }

    /// The same with rows made of their keys and canonical bytes.
    pub fn load_each<B: AsRef<[u8]>>(
        &mut self,
        entries: &[Entry<B>],
        mut row_of: impl FnMut(&K, &[u8]) -> Result<V, postcard::Error>,
    ) -> Result<(), postcard::Error> {
        let row = |entry: &Entry<B>| {
            let key = postcard::from_bytes(entry.key.as_ref())?;
            let row = row_of(&key, entry.value.as_ref())?;
            Ok((key, row))
        };
        self.rows = entries.iter().map(row).collect::<Result<_, _>>()?;
        Ok(())
    }

    /// Puts a canonical entry back.
    pub fn load<B: AsRef<[u8]>>(&mut self, entry: &Entry<B>) -> Result<(), postcard::Error> {
        let key = postcard::from_bytes(entry.key.as_ref())?;
        let value = V::of_bytes(entry.value.as_ref())?;
        self.rows.insert(key, value);
        Ok(())
    }
}
