//! What lies unread in the input topics, and how much of it an epoch takes.
//!
//! An epoch takes everything that fits its limits. When more than that is unread, each topic-partition gives its share, of records
//! and of bytes, so that a flood in one does not starve the others: neither one of many records, nor of large ones, nor of such
//! that do not count. Shares follow from what lies in the log alone.

use std::collections::VecDeque;

use solyx_schemas::epochs::{Position, Positions};
use solyx_schemas::log::{Ack, Log, LogError, Record, SCAN_LIMIT, StoredRecord, Written};
use solyx_schemas::topics::{Topic, TopicName};

/// An input topic-partition.
struct Slot {
    topic: Topic,
    partition: u32,
    position: u64,
    end: u64,
    ahead: VecDeque<StoredRecord>,
}

/// All input topic-partitions, in the order of application.
pub struct Intake {
    slots: Vec<Slot>,
}

/// What one epoch may still take.
pub struct Quota {
    of_slot: Vec<u64>,
    bytes_of_slot: Vec<usize>,
    slot: usize,
    bytes: usize,
    taken: usize,
    taken_here: usize,
    skipped_here: usize,
}

impl Quota {
    /// Takes note that the last record does not count. When those of its topic-partition have used up their share of `most`, the
    /// next one has its turn.
    pub fn note_skipped(&mut self, most: usize) {
        let active = self.bytes_of_slot.iter().filter(|bytes| **bytes > 0).count();
        self.skipped_here += 1;
        if self.skipped_here >= (most / active.max(1)).max(1) {
            self.next_slot();
        }
    }

    fn next_slot(&mut self) {
        self.slot += 1;
        (self.taken_here, self.skipped_here) = (0, 0);
    }
}

impl Intake {
    /// Stands at these positions.
    pub fn new(log: &dyn Log, positions: &Positions) -> Result<Self, LogError> {
        let mut slots = Vec::new();
        for topic in Topic::INPUTS {
            for partition in 0..log.partitions(topic.into()) {
                let position = positions.get(topic, partition);
                slots.push(Slot { topic, partition, position, end: position, ahead: VecDeque::new() });
            }
        }
        let mut intake = Self { slots };
        log.about_to_read(&intake.waiting_at())?;
        intake.refresh(log)?;
        Ok(intake)
    }

    /// Asks the log how far each topic-partition goes.
    pub fn refresh(&mut self, log: &dyn Log) -> Result<(), LogError> {
        for slot in &mut self.slots {
            let from = slot.position + slot.ahead.len() as u64;
            slot.end = log.readable(slot.topic.into(), slot.partition, from)?.max(from).max(slot.end);
        }
        Ok(())
    }

    /// Asks the log where each topic-partition ends, and waits for what it has not shown yet. [`Self::refresh`] takes what
    /// can be had now, which may be a part of what was written at once.
    pub fn reach_end(&mut self, log: &dyn Log) -> Result<(), LogError> {
        for slot in &mut self.slots {
            slot.end = log.end(slot.topic.into(), slot.partition)?.max(slot.end);
        }
        Ok(())
    }

    /// Takes note of records that this process has just appended, so that they need not be read back.
    pub fn offer(&mut self, ack: &Ack, records: Vec<Record>) {
        let mut kept = Vec::new();
        for Written { topic, partition, first, records } in &ack.written {
            let (Some(slot), Some(first)) = (self.slot_of(*topic, *partition), *first) else { continue };
            // What does not follow on what is held is read from the log when its turn comes.
            if slot.position + slot.ahead.len() as u64 == first {
                kept.push((*topic, *partition));
            }
            slot.end = slot.end.max(first + records);
        }
        for record in records {
            if !kept.contains(&(record.topic, record.partition)) {
                continue;
            }
            let Some(slot) = self.slot_of(record.topic, record.partition) else { continue };
            let ordinal = slot.position + slot.ahead.len() as u64;
            let append_time_us = ack.append_time_us;
            slot.ahead.push_back(StoredRecord {
                ordinal,
                offset: ordinal as i64,
                append_time_us,
                record,
                wire_id: None,
            });
        }
    }

    fn slot_of(&mut self, topic: TopicName, partition: u32) -> Option<&mut Slot> {
        if topic.staged {
            return None;
        }
        self.slots.iter_mut().find(|slot| slot.topic == topic.topic && slot.partition == partition)
    }

    /// Records not yet taken.
    pub fn unread(&self) -> u64 {
        self.slots.iter().map(|slot| slot.end - slot.position).sum()
    }

    /// Positions to wait at.
    pub fn waiting_at(&self) -> Vec<(TopicName, u32, u64)> {
        self.slots.iter().map(|slot| (slot.topic.into(), slot.partition, slot.end)).collect()
    }

    /// Next ordinals.
    pub fn positions(&self) -> Positions {
        let mut positions = Positions::default();
        for slot in self.slots.iter().filter(|slot| slot.position > 0) {
            positions.set(slot.topic, slot.partition, slot.position);
        }
        positions
    }

    /// Append time of the oldest record not yet taken, among those at the head of their topic-partitions.
    pub fn oldest_append_us(&mut self, log: &dyn Log) -> Result<Option<i64>, LogError> {
        let mut oldest: Option<i64> = None;
        for slot in &mut self.slots {
            if slot.end > slot.position {
                slot.fill(log)?;
                let head = slot.ahead.front().map(|stored| stored.append_time_us);
                oldest = oldest.into_iter().chain(head).min();
            }
        }
        Ok(oldest)
    }

    /// What an epoch of these limits takes of what is unread now.
    pub fn quota(&self, records_max: usize, bytes_max: usize) -> Quota {
        let unread = self.unread();
        let limit = records_max.max(1) as u64;
        let mut left = limit;
        let mut others = self.slots.iter().filter(|slot| slot.end > slot.position).count() as u64;
        let mut of_slot = Vec::with_capacity(self.slots.len());
        for slot in &self.slots {
            let here = slot.end - slot.position;
            if here == 0 {
                of_slot.push(0);
                continue;
            }
            others -= 1;
            let share = (u128::from(here) * u128::from(limit) / u128::from(unread)) as u64;
            let given =
                if unread <= limit { here } else { share.max(1).min(left.saturating_sub(others).max(1)).min(left) };
            left -= given;
            of_slot.push(given);
        }
        // Half of the bytes in equal parts, half of them by records.
        let (given, active) = (of_slot.iter().sum::<u64>().max(1), of_slot.iter().filter(|of| **of > 0).count());
        let share = |of: &u64| match (*of, active) {
            (0, _) => 0,
            (_, 1) => bytes_max,
            _ => bytes_max / 2 / active + (bytes_max as u128 / 2 * u128::from(*of) / u128::from(given)) as usize,
        };
        let bytes_of_slot = of_slot.iter().map(|of| share(of).max(usize::from(*of > 0))).collect();
        Quota { of_slot, bytes_of_slot, slot: 0, bytes: bytes_max, taken: 0, taken_here: 0, skipped_here: 0 }
    }

    /// The next record of an epoch; none when its limits are reached.
    pub fn next(&mut self, log: &dyn Log, quota: &mut Quota) -> Result<Option<(Position, StoredRecord)>, LogError> {
        while quota.slot < self.slots.len() {
            if quota.of_slot[quota.slot] == 0 {
                quota.next_slot();
                continue;
            }
            let slot = &mut self.slots[quota.slot];
            slot.fill(log)?;
            let Some(stored) = slot.ahead.front() else {
                quota.next_slot();
                continue;
            };
            let size = stored.record.size();
            // The first of an epoch is taken however large it is, and that of a topic-partition if the epoch has room for it.
            let is_beyond_share = quota.taken_here > 0 && size > quota.bytes_of_slot[quota.slot];
            if quota.taken > 0 && (is_beyond_share || size > quota.bytes) {
                quota.next_slot();
                continue;
            }
            let Some(stored) = slot.ahead.pop_front() else { continue };
            quota.bytes = quota.bytes.saturating_sub(size);
            let share = &mut quota.bytes_of_slot[quota.slot];
            *share = share.saturating_sub(size).max(1);
            quota.of_slot[quota.slot] -= 1;
            quota.taken += 1;
            quota.taken_here += 1;
            slot.position = stored.ordinal + 1;
            return Ok(Some((Position::new(slot.topic, slot.partition, stored.ordinal), stored)));
        }
        Ok(None)
    }
}

impl Slot {
    fn fill(&mut self, log: &dyn Log) -> Result<(), LogError> {
        if self.ahead.is_empty() && self.position < self.end {
            self.ahead.extend(log.read(self.topic.into(), self.partition, self.position, SCAN_LIMIT)?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use solyx_schemas::log::memory::MemoryLog;

    fn record(topic: Topic, partition: u32, n: u8) -> Record {
        Record { topic: topic.into(), partition, key: vec![], value: vec![n; 10], headers: vec![] }
    }

    fn take(log: &MemoryLog, intake: &mut Intake, records: usize, bytes: usize) -> Vec<(Topic, u32, u64)> {
        let mut quota = intake.quota(records, bytes);
        let mut taken = Vec::new();
        while let Some((position, _)) = intake.next(log, &mut quota).unwrap() {
            taken.push((position.topic(), position.partition, position.ordinal));
        }
        taken
    }

    #[test]
    fn records_come_in_order_of_topic_partition_and_ordinal() {
        let log = MemoryLog::new();
        let batch = vec![
            record(Topic::Jobs, 1, 1),
            record(Topic::Policy, 0, 2),
            record(Topic::Jobs, 0, 3),
            record(Topic::Jobs, 1, 4),
        ];
        log.producer("p").unwrap().append(batch).unwrap();
        let mut intake = Intake::new(&log, &Positions::default()).unwrap();
        let taken = take(&log, &mut intake, 100, 1 << 20);
        let expected = [(Topic::Policy, 0, 0), (Topic::Jobs, 0, 0), (Topic::Jobs, 1, 0), (Topic::Jobs, 1, 1)];
        assert_eq!(taken, expected);
        assert_eq!(intake.unread(), 0);
    }

    #[test]
    fn a_flood_in_one_topic_does_not_starve_another() {
        let log = MemoryLog::new();
        let mut batch: Vec<Record> = (0..90).map(|n| record(Topic::Policy, 0, n)).collect();
        batch.extend((0..10).map(|n| record(Topic::Usage, 0, n)));
        log.producer("p").unwrap().append(batch).unwrap();
        let mut intake = Intake::new(&log, &Positions::default()).unwrap();
        let taken = take(&log, &mut intake, 20, 1 << 20);
        assert_eq!(taken.len(), 20);
        assert_eq!(taken.iter().filter(|(topic, ..)| *topic == Topic::Usage).count(), 2);
        assert_eq!(take(&log, &mut intake, 1_000, 1 << 20).len(), 80);
    }

    #[test]
    fn large_records_and_such_as_do_not_count_leave_the_others_their_share() {
        let log = MemoryLog::new();
        let mut batch: Vec<Record> = (0..90).map(|n| record(Topic::Jobs, 0, n)).collect();
        batch.iter_mut().for_each(|record| record.value = vec![0; 1_000]);
        batch.extend((0..10).map(|n| record(Topic::Usage, 0, n)));
        log.producer("p").unwrap().append(batch).unwrap();
        let mut intake = Intake::new(&log, &Positions::default()).unwrap();
        let of = |taken: &[(Topic, u32, u64)], topic| taken.iter().filter(|(of, ..)| *of == topic).count();
        let taken = take(&log, &mut intake, 100, 10_000);
        assert!(of(&taken, Topic::Jobs) >= 5 && of(&taken, Topic::Usage) == 10, "{taken:?}");
        log.producer("p").unwrap().append((0..10).map(|n| record(Topic::Usage, 0, n)).collect()).unwrap();
        intake.refresh(&log).unwrap();
        let mut quota = intake.quota(1_000, 1 << 20);
        let mut taken = Vec::new();
        while let Some((position, _)) = intake.next(&log, &mut quota).unwrap() {
            taken.push((position.topic(), position.partition, position.ordinal));
            if position.topic() == Topic::Jobs {
                quota.note_skipped(20);
            }
        }
        assert_eq!((of(&taken, Topic::Jobs), of(&taken, Topic::Usage)), (10, 10), "{taken:?}");
    }

    #[test]
    fn an_epoch_takes_at_least_one_record_and_no_more_bytes_than_its_limit() {
        let log = MemoryLog::new();
        log.producer("p").unwrap().append((0..5).map(|n| record(Topic::Policy, 0, n)).collect()).unwrap();
        let mut intake = Intake::new(&log, &Positions::default()).unwrap();
        assert_eq!(take(&log, &mut intake, 100, 1).len(), 1);
        assert_eq!(take(&log, &mut intake, 100, 25).len(), 2);
    }

    #[test]
    fn records_that_were_just_appended_are_the_same_as_those_read_back() {
        let log = MemoryLog::new();
        let mut producer = log.producer("p").unwrap();
        let mut offered = Intake::new(&log, &Positions::default()).unwrap();
        for round in 0..3 {
            let batch =
                vec![record(Topic::Jobs, 1, round), record(Topic::Runs, 0, round), record(Topic::Jobs, 1, round + 10)];
            let ack = producer.append(batch.clone()).unwrap();
            offered.offer(&ack, batch);
            if round == 1 {
                let mut quota = offered.quota(2, 1 << 20);
                while offered.next(&log, &mut quota).unwrap().is_some() {}
            }
        }
        let mut read = Intake::new(&log, &offered.positions()).unwrap();
        assert_eq!(read.unread(), offered.unread());
        let (mut a, mut b) = (read.quota(100, 1 << 20), offered.quota(100, 1 << 20));
        loop {
            let (left, right) = (read.next(&log, &mut a).unwrap(), offered.next(&log, &mut b).unwrap());
            assert_eq!(left.as_ref().map(|(p, s)| (p, &s.record)), right.as_ref().map(|(p, s)| (p, &s.record)));
            if left.is_none() {
                break;
            }
        }
    }
}
