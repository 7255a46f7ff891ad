//! The rows of a table as they were at one instant, handed out piece by piece while the table goes on changing.
//!
//! A row that changes before its turn has come leaves its bytes of the instant here; every other row still is what it was. So a
//! cut costs memory for what changes meanwhile and no more.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Bound;

/// What is left of a cut.
#[derive(Clone)]
pub(crate) struct Cut<K> {
    /// Keys up to here were handed out.
    past: Option<K>,
    /// Rows beyond that have changed since, with their bytes of the instant; none for one that was not there.
    old: BTreeMap<K, Option<Vec<u8>>>,
}

impl<K: Ord + Clone> Cut<K> {
    pub fn new() -> Self {
        Self { past: None, old: BTreeMap::new() }
    }

    /// A row is about to change, maybe not for the first time.
    pub fn note(&mut self, key: &K, before: Option<&Vec<u8>>) {
        let is_out = self.past.as_ref().is_some_and(|past| key <= past);
        if !is_out && !self.old.contains_key(key) {
            self.old.insert(key.clone(), before.cloned());
        }
    }

    /// Hands out rows in order of their keys until `take` has enough; whether that was all.
    pub fn advance<V>(
        &mut self,
        rows: &BTreeMap<K, V>,
        bytes: impl Fn(&V) -> Vec<u8>,
        mut take: impl FnMut(&K, Vec<u8>) -> bool,
    ) -> bool {
        let beyond = self.past.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut present = rows.range((beyond, Bound::Unbounded)).peekable();
        loop {
            let next = present.peek().map(|(key, _)| *key);
            let (key, value) = match self.old.first_entry() {
                Some(changed) if next.is_none_or(|next| changed.key() <= next) => {
                    if next == Some(changed.key()) {
                        present.next();
                    }
                    let (key, old) = changed.remove_entry();
                    (Cow::Owned(key), old)
                }
                _ => match present.next() {
                    Some((key, row)) => (Cow::Borrowed(key), Some(bytes(row))),
                    None => return true,
                },
            };
            let goes_on = value.is_none_or(|value| take(&key, value));
            if !goes_on {
                self.past = Some(key.into_owned());
                return false;
            }
        }
    }
}
