//! What producers write: honest records, and everything that can be wrong with them.

use solyx_histories::history::Luck;
use solyx_histories::identify;
use solyx_schemas::codec::Codec;
use solyx_schemas::events::Event;
use solyx_schemas::log::memory::{Failure, Fate, MemoryLog};
use solyx_schemas::log::{Log, LogErrorKind, Producer, Record};
use solyx_schemas::topics::{Topic, TopicName};
use solyx_schemas::units::HOUR_US;

use crate::faults::{Fault, Weather};
use crate::losses;

/// Honest records that are remembered to be repeated.
const REMEMBERED_MAX: usize = 64;
/// What the producers write as.
const PRODUCER: &str = "producers";

/// All producers of a cell.
#[derive(Default)]
pub struct Inputs {
    said: u64,
    sent: Vec<Record>,
    /// Records that are on their way for so many turns more.
    late: Vec<(i64, Record)>,
    producer: Option<Box<dyn Producer>>,
}

impl Inputs {
    /// Writes events, and whatever else comes at this time.
    pub fn write(
        &mut self,
        log: &MemoryLog,
        weather: &mut Weather,
        events: Vec<Event>,
        now: i64,
    ) -> anyhow::Result<()> {
        let mut records = self.arrived();
        for (wrong, event) in losses::in_events(&events).into_iter().zip(events) {
            // It has its number all the same, so that the others keep theirs.
            self.said += 1;
            if wrong.is_none_or(|fault| weather.lets_through(fault)) {
                self.say(log, weather, event, now, &mut records);
            }
        }
        if weather.strikes(Fault::Garbage) {
            let luck = weather.luck(Fault::Garbage);
            let topic = *luck.of(&Topic::INPUTS);
            let value = (0..luck.below(300)).map(|_| luck.below(256) as u8).collect();
            let partition = luck.below(i64::from(log.partitions(topic.into()))) as u32;
            records.push(Record { topic: topic.into(), partition, key: b"k".to_vec(), value, headers: Vec::new() });
        }
        if weather.strikes(Fault::Reordered) {
            shuffle(weather.luck(Fault::Reordered), &mut records);
        }
        self.append(log, weather, records)
    }

    fn arrived(&mut self) -> Vec<Record> {
        self.late.iter_mut().for_each(|(turns, _)| *turns -= 1);
        let (here, late) = std::mem::take(&mut self.late).into_iter().partition(|(turns, _)| *turns <= 0);
        self.late = late;
        let here: Vec<(i64, Record)> = here;
        here.into_iter().map(|(_, record)| record).collect()
    }

    fn say(&mut self, log: &MemoryLog, weather: &mut Weather, mut event: Event, now: i64, records: &mut Vec<Record>) {
        let occurred = match weather.strikes(Fault::ProducerClock) {
            true => now + weather.luck(Fault::ProducerClock).below(48 * HOUR_US) - 24 * HOUR_US,
            false => now,
        };
        identify(&mut event, self.said, occurred);
        let record = record_of(log, &event);
        if weather.strikes(Fault::Conflicting) {
            identify(&mut event, self.said, occurred + 1);
            records.push(record_of(log, &event));
        }
        if weather.strikes(Fault::Repeated) {
            records.push(record.clone());
            if let Some(old) = self.sent.get(weather.luck(Fault::Repeated).below(REMEMBERED_MAX as i64) as usize) {
                records.push(old.clone());
            }
        }
        for fault in [Fault::Cut, Fault::UnknownSchema, Fault::BitFlip, Fault::WrongKey, Fault::WrongTopic] {
            // Of a plan with other prices an audit says so.
            let is_told = fault == Fault::BitFlip && matches!(event, Event::PlanPublished(_));
            if weather.strikes(fault) && !is_told {
                records.push(spoilt(fault, weather.luck(fault), &record));
            }
        }
        if self.sent.len() == REMEMBERED_MAX {
            self.sent.remove(0);
        }
        self.sent.push(record.clone());
        match weather.strikes(Fault::Late) {
            true => self.late.push((1 + weather.luck(Fault::Late).below(20), record)),
            false => records.push(record),
        }
    }

    /// Appends in one go or several; what may not be there is sent again, as producers do.
    fn append(&mut self, log: &MemoryLog, weather: &mut Weather, records: Vec<Record>) -> anyhow::Result<()> {
        for batch in records.chunks(7) {
            if weather.strikes(Fault::ProducerUncertain) {
                let luck = weather.luck(Fault::ProducerUncertain);
                let kind = *luck.of(&[LogErrorKind::Retry, LogErrorKind::Restart]);
                // One that may be tried again is never there.
                let fate = if kind == LogErrorKind::Retry { Fate::Lost } else { *luck.of(&Fate::ALL) };
                log.fail_next(Failure { kind, fate });
            }
            loop {
                let producer = match &mut self.producer {
                    Some(producer) => producer,
                    None => self.producer.insert(log.producer(PRODUCER)?),
                };
                match producer.append(batch.to_vec()) {
                    Ok(_) => break,
                    Err(error) if error.kind == LogErrorKind::Retry => {}
                    Err(error) if error.kind == LogErrorKind::Restart => self.producer = None,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }
}

fn record_of(log: &MemoryLog, event: &Event) -> Record {
    let topic = TopicName::live(event.topic());
    Codec::global().record(event, topic, log.partitions(topic))
}

/// A record with something wrong in it.
fn spoilt(fault: Fault, luck: &mut Luck, record: &Record) -> Record {
    let mut record = record.clone();
    let len = record.value.len().max(1) as i64;
    match fault {
        Fault::Cut => record.value.truncate(luck.below(len) as usize),
        Fault::UnknownSchema if record.value.len() >= 5 => record.value[1..5].copy_from_slice(&[0x7f, 1, 2, 3]),
        Fault::BitFlip if !record.value.is_empty() => {
            record.value[luck.below(len) as usize] ^= 1 << luck.below(8);
        }
        Fault::WrongKey => record.key = b"another".to_vec(),
        Fault::WrongTopic => record.topic = (*luck.of(&Topic::INPUTS)).into(),
        _ => {}
    }
    // Another topic may have fewer partitions.
    if fault == Fault::WrongTopic {
        record.partition = 0;
    }
    record
}

fn shuffle(luck: &mut Luck, records: &mut [Record]) {
    for i in (1..records.len()).rev() {
        records.swap(i, luck.below(i as i64 + 1) as usize);
    }
}
