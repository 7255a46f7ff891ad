//! The ordinals of what a producer writes. Where it alone writes they follow from its own last record; elsewhere the log
//! is read as far as the record.

use std::collections::BTreeMap;

use solyx_schemas::log::{Record, Written};
use solyx_schemas::topics::TopicName;

use super::group::{Open, Sent};

/// A topic-partition.
pub(super) type Place = (TopicName, u32);

/// Where this producer has left a topic-partition: the next record has this ordinal if it gets this offset.
#[derive(Clone, Copy)]
struct Tail {
    ordinal: u64,
    offset: i64,
}

/// The tails of all topic-partitions in which it is known what comes next.
#[derive(Default)]
pub(super) struct Tails(BTreeMap<Place, Tail>);

/// The offsets that an append's records got in a topic-partition.
#[derive(Clone, Copy)]
pub(super) struct Extent {
    pub first: i64,
    pub last: i64,
}

impl Extent {
    /// Of each topic-partition of a batch.
    pub fn of(batch: &[Record], offsets: &[i64]) -> BTreeMap<Place, Self> {
        let mut extents: BTreeMap<Place, Self> = BTreeMap::new();
        for (record, offset) in batch.iter().zip(offsets) {
            let extent =
                extents.entry((record.topic, record.partition)).or_insert(Self { first: *offset, last: *offset });
            extent.first = extent.first.min(*offset);
            extent.last = extent.last.max(*offset);
        }
        extents
    }

    /// Whether so many records and nothing else lie there.
    pub fn holds_only(&self, records: u64) -> bool {
        self.last - self.first + 1 == records.cast_signed()
    }
}

impl Tails {
    /// Notes in the open transaction what is about to be sent; the ordinals, as far as they are known.
    pub fn expect(&mut self, batch: &[Record], open: &mut Open) -> Vec<Written> {
        let mut counts: BTreeMap<Place, Written> = BTreeMap::new();
        for record in batch {
            let place = (record.topic, record.partition);
            let tail = self.0.get_mut(&place);
            let written = counts.entry(place).or_insert_with(|| Written {
                topic: record.topic,
                partition: record.partition,
                first: tail.as_ref().map(|tail| tail.ordinal),
                records: 0,
            });
            written.records += 1;
            let expected = tail.map(|tail| {
                tail.ordinal += 1;
                tail.offset += 1;
                tail.offset - 1
            });
            open.bytes += record.size();
            open.sent.push(Sent { place, expected });
        }
        open.appends += 1;
        counts.into_values().collect()
    }

    /// Whether the last record is where the tail says; what is known of the place is forgotten otherwise.
    pub fn confirm(&mut self, place: Place, extent: Extent) -> bool {
        let holds = self.0.get(&place).is_some_and(|tail| tail.offset - 1 == extent.last);
        if !holds {
            self.0.remove(&place);
        }
        holds
    }

    /// After the last record of a transaction comes the marker that ends it.
    pub fn pass_marker(&mut self, open: &Open) {
        for place in open.places() {
            if let Some(tail) = self.0.get_mut(&place) {
                tail.offset += 1;
            }
        }
    }

    /// Notes where a committed transaction ended: the ordinal after its last record, and that record's offset.
    pub fn begin_at(&mut self, place: Place, ordinal: u64, last: i64) {
        self.0.insert(place, Tail { ordinal, offset: last + 2 });
    }

    /// Forgets everything: offsets were used up by records that are not there.
    pub fn forget(&mut self) {
        self.0.clear();
    }
}
