//! Staged records in the order of a virtual run: (`occurred_us`, topic, partition, position).
//!
//! A record whose header [`INSTANT`] names another instant happens at that one: a recorded history that is run again comes
//! when it was read, whatever its producers' clocks said. The header stays behind.
//!
//! Sixteen bytes of each are held; the records themselves are read in windows, so that what was imported by zone or by
//! day comes from the log in long runs all the same.

use std::collections::{HashMap, VecDeque};

use solyx_schemas::codec::Codec;
use solyx_schemas::epochs::Positions;
use solyx_schemas::events::event_type;
use solyx_schemas::log::{Log, LogError, LogErrorKind, ReadLimit, Record, Scan};
use solyx_schemas::topics::{Topic, TopicName, partition_of};
use solyx_schemas::units::TimeUs;

/// Header of a staged record with the instant at which it is handed on, µs UTC in decimal text, in place of `occurred_us`.
pub const INSTANT: &str = "solyx_instant_us";
/// Records read at once.
const WINDOW: usize = 1_024;

/// What a staged record is to the question whether a run is idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weight {
    /// Prices, carbon, measurements: alone they keep nothing going.
    Background,
    /// Availability: it matters only to a job that waits.
    Supply,
    /// Everything else.
    Foreground,
    /// A request for a job, at which an instant may be cut.
    Request,
}

/// A staged record by its place in the order.
#[derive(Clone, Copy)]
struct Entry {
    occurred_us: i64,
    ordinal: u32,
    slot: u16,
    weight: Weight,
}

/// A place in the order.
type Place = (i64, u16, u32);

impl Entry {
    fn place(&self) -> Place {
        (self.occurred_us, self.slot, self.ordinal)
    }
}

/// What is left of the staged topics.
pub struct Staged<'l> {
    log: &'l dyn Log,
    slots: Vec<(Topic, u32)>,
    entries: Vec<Entry>,
    next: usize,
    window: VecDeque<Record>,
    /// The last in order that was handed on before these were sorted.
    floor: Option<Place>,
    cut: bool,
    ends: Positions,
    foreground: usize,
    supply: usize,
}

impl<'l> Staged<'l> {
    /// Sorts what is staged, without what was handed on by `instant` from before `ends`. When that is more than `count`, the instant
    /// was cut: its last records are still to be handed on.
    pub fn sort(log: &'l dyn Log, handed_on: Option<(TimeUs, &Positions)>, count: u64) -> Result<Self, LogError> {
        let mut slots = Vec::new();
        let mut entries = Vec::new();
        let mut due: Vec<Entry> = Vec::new();
        let mut ends = Positions::default();
        let mut kinds = Kinds::default();
        let all = Topic::INPUTS.map(TopicName::staged).into_iter();
        let soon: Vec<_> = all.flat_map(|name| (0..log.partitions(name)).map(move |p| (name, p, 0))).collect();
        log.about_to_read(&soon)?;
        for topic in Topic::INPUTS {
            let name = TopicName::staged(topic);
            for partition in 0..log.partitions(name) {
                let slot = slots.len() as u16;
                slots.push((topic, partition));
                let before = handed_on.map(|(instant, ends)| (instant.0, ends.get(topic, partition)));
                let mut occurred_us = 0;
                let mut end = 0;
                for stored in Scan::new(log, name, partition, 0) {
                    let stored = stored?;
                    end = stored.ordinal + 1;
                    let (occurred, weight) = kinds.of(&stored.record.value);
                    // What cannot be read goes with the record before it: the kernel is to judge it.
                    occurred_us = instant_of(&stored.record).or(occurred).unwrap_or(occurred_us);
                    let ordinal = u32::try_from(stored.ordinal).map_err(|_| too_many(name))?;
                    let entry = Entry { occurred_us, ordinal, slot, weight };
                    let was_due = before.is_some_and(|(instant, end)| occurred_us <= instant && stored.ordinal < end);
                    if was_due { due.push(entry) } else { entries.push(entry) }
                }
                if end > 0 {
                    ends.set(topic, partition, end);
                }
            }
        }
        // Cuts are made where only the last of what was due is left.
        due.sort_unstable_by_key(Entry::place);
        let left = due.split_off(due.len().min(usize::try_from(count).unwrap_or(usize::MAX)));
        let (floor, cut) = (due.last().map(Entry::place), !left.is_empty());
        entries.extend(left);
        entries.sort_unstable_by_key(Entry::place);
        let count = |weight| entries.iter().filter(|entry| entry.weight == weight).count();
        let foreground = count(Weight::Foreground) + count(Weight::Request);
        let supply = count(Weight::Supply);
        Ok(Self { log, slots, entries, next: 0, window: VecDeque::new(), floor, cut, ends, foreground, supply })
    }

    /// Whether a part of the last instant was still to be handed on when they were sorted.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// Where the staged topics ended when they were sorted.
    pub fn ends(&self) -> &Positions {
        &self.ends
    }

    /// When the next record is due.
    pub fn next_us(&self) -> Option<TimeUs> {
        self.entries.get(self.next).map(|entry| TimeUs(entry.occurred_us))
    }

    /// Records not yet handed on.
    pub fn left(&self) -> usize {
        self.entries.len() - self.next
    }

    /// Whether only such records are left as keep nothing going.
    pub fn is_background(&self, somebody_waits: bool) -> bool {
        self.foreground == 0 && (self.supply == 0 || !somebody_waits)
    }

    /// Takes everything due by an instant, as records for the input topics; up to and with the last of so many requests.
    pub fn take_due(&mut self, now: TimeUs, requests_max: Option<u64>) -> Result<Vec<Record>, LogError> {
        let mut due = Vec::new();
        let mut requests = 0;
        while let Some(entry) = self.entries.get(self.next).copied()
            && entry.occurred_us <= now.0
        {
            if self.window.is_empty() {
                self.fill()?;
            }
            let Some(staged) = self.window.pop_front() else { break };
            self.next += 1;
            match entry.weight {
                Weight::Foreground | Weight::Request => self.foreground -= 1,
                Weight::Supply => self.supply -= 1,
                Weight::Background => {}
            }
            let topic = TopicName::live(staged.topic.topic);
            let partition = partition_of(&staged.key, self.log.partitions(topic));
            let mut headers = staged.headers;
            headers.retain(|(name, _)| name != INSTANT);
            due.push(Record { topic, partition, headers, ..staged });
            requests += u64::from(entry.weight == Weight::Request);
            // What came in late stands before what was handed on already: it is not cut, so that a cut leaves the last ones.
            if requests_max.is_some_and(|most| requests >= most) && self.floor.is_none_or(|floor| entry.place() > floor)
            {
                break;
            }
        }
        Ok(due)
    }

    /// Reads the next window: runs of neighbours at once, then back into order.
    fn fill(&mut self) -> Result<(), LogError> {
        let entries = &self.entries[self.next..self.entries.len().min(self.next + WINDOW)];
        let mut by_place: Vec<usize> = (0..entries.len()).collect();
        by_place.sort_unstable_by_key(|at| (entries[*at].slot, entries[*at].ordinal));
        let mut records: Vec<Option<Record>> = vec![None; entries.len()];
        let mut at = 0;
        while at < by_place.len() {
            let first = entries[by_place[at]];
            let run = by_place[at..]
                .iter()
                .enumerate()
                .take_while(|(i, e)| {
                    entries[**e].slot == first.slot
                        && u64::from(entries[**e].ordinal) == u64::from(first.ordinal) + *i as u64
                })
                .count();
            let (topic, partition) = self.slots[usize::from(first.slot)];
            let name = TopicName::staged(topic);
            let limit = ReadLimit { records: run, bytes: 4 << 20 };
            let read = self.log.read(name, partition, u64::from(first.ordinal), limit)?;
            if read.is_empty() {
                return Err(LogError::new(
                    LogErrorKind::Stop,
                    "a staged record is gone",
                    format!("{}/{partition}/{}", name.name(), first.ordinal),
                    "import again into a fresh log",
                ));
            }
            for stored in read.into_iter().take(run) {
                records[by_place[at]] = Some(stored.record);
                at += 1;
            }
        }
        self.window = records.into_iter().flatten().collect();
        Ok(())
    }
}

/// The instant that a record's header names.
fn instant_of(record: &Record) -> Option<i64> {
    std::str::from_utf8(record.header(INSTANT)?).ok()?.parse().ok()
}

fn too_many(name: TopicName) -> LogError {
    let detail = format!("a partition of {} holds more than {} records", name.name(), u32::MAX);
    LogError::new(LogErrorKind::Stop, "too much is staged", detail, "give the topic more partitions")
}

/// What a schema id means here: the weight of an input, nothing for what is no input.
#[derive(Default)]
struct Kinds(HashMap<u32, Option<Weight>>);

impl Kinds {
    /// When a value happened, if it can be read, and its weight.
    fn of(&mut self, value: &[u8]) -> (Option<i64>, Weight) {
        match self.read(value) {
            Some((occurred, weight)) => (Some(occurred), weight),
            None => (None, Weight::Background),
        }
    }

    fn read(&mut self, value: &[u8]) -> Option<(i64, Weight)> {
        let (frame, body) = value.split_first_chunk::<5>()?;
        let [0, id @ ..] = *frame else { return None };
        let weight = *self.0.entry(u32::from_be_bytes(id)).or_insert_with_key(|id| weight_of(*id));
        Some((occurred_us(body)?, weight?))
    }
}

fn weight_of(schema: u32) -> Option<Weight> {
    let (name, _) = Codec::global().writer_schema(schema)?;
    let known = event_type(name).filter(|known| known.topic.is_input())?;
    Some(match known.short_name() {
        "EnergyPriced" | "CarbonReported" | "PoolPriced" | "EgressPriced" | "LinkMeasured" | "PowerMeasured"
        | "ThermalMeasured" | "CoolingMeasured" | "ExchangeRateSet" => Weight::Background,
        "PoolAvailabilityReported" => Weight::Supply,
        "JobRequested" => Weight::Request,
        _ => Weight::Foreground,
    })
}

/// The third field of every input's body: Avro strings `event_id` and `source`, then the long `occurred_us`.
fn occurred_us(body: &[u8]) -> Option<i64> {
    let mut rest = body;
    for _ in 0..2 {
        let length = usize::try_from(long(&mut rest)?).ok()?;
        rest = rest.get(length..)?;
    }
    long(&mut rest)
}

/// An Avro long: zigzag, in groups of seven bits, the lowest first.
fn long(rest: &mut &[u8]) -> Option<i64> {
    let mut value: u64 = 0;
    for shift in (0..64).step_by(7) {
        let (byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use solyx_schemas::events::jobs::JobCancelRequested;
    use solyx_schemas::events::world::EnergyPriced;
    use solyx_schemas::events::{EVENT_TYPES, Event};
    use solyx_schemas::field::Field;
    use solyx_schemas::log::memory::MemoryLog;

    fn stage(log: &MemoryLog, events: Vec<Event>) {
        let record = |event: &Event| {
            let topic = TopicName::staged(event.topic());
            Codec::global().record(event, topic, log.partitions(topic))
        };
        log.producer("import").unwrap().append(events.iter().map(record).collect()).unwrap();
    }

    fn cancel(id: &str, occurred_us: i64) -> Event {
        let occurred_us = TimeUs(occurred_us);
        Event::from(JobCancelRequested { event_id: id.into(), occurred_us, ..JobCancelRequested::example("") })
    }

    fn ids(records: &[Record]) -> Vec<String> {
        records.iter().map(|r| Codec::global().decode(&r.value).unwrap().event.identity().id.into_owned()).collect()
    }

    #[test]
    fn the_time_of_every_input_is_read_from_its_leading_fields() {
        for known in EVENT_TYPES.iter().filter(|known| known.topic.is_input()) {
            let event = (known.example)();
            let (occurred, _) = Kinds::default().of(&Codec::global().encode(&event));
            assert_eq!(occurred, Some(event.identity().occurred_us.0), "{}", known.name);
        }
    }

    #[test]
    fn records_come_by_time_then_topic_then_position_however_they_were_imported() {
        let log = MemoryLog::new();
        let priced = |id: &str, at: i64| {
            Event::from(EnergyPriced { event_id: id.into(), occurred_us: TimeUs(at), ..EnergyPriced::example("") })
        };
        stage(&log, vec![cancel("j3", 30), cancel("j1", 10), cancel("j2", 20), priced("p2", 20), cancel("j2b", 20)]);
        let mut staged = Staged::sort(&log, None, 0).unwrap();
        assert_eq!(staged.next_us(), Some(TimeUs(10)));
        assert_eq!(ids(&staged.take_due(TimeUs(20), None).unwrap()), ["j1", "p2", "j2", "j2b"]);
        assert!(!staged.is_background(false));
        assert_eq!(ids(&staged.take_due(TimeUs(99), None).unwrap()), ["j3"]);
        assert!(staged.is_background(true));
    }

    #[test]
    fn a_later_import_is_handed_on_although_its_time_has_passed() {
        let log = MemoryLog::new();
        stage(&log, vec![cancel("a", 10), cancel("b", 20)]);
        let mut first = Staged::sort(&log, None, 0).unwrap();
        assert_eq!(first.take_due(TimeUs(10), None).unwrap().len(), 1);
        let ends = first.ends().clone();
        stage(&log, vec![cancel("late", 5)]);
        let mut second = Staged::sort(&log, Some((TimeUs(10), &ends)), 1).unwrap();
        assert_eq!(ids(&second.take_due(TimeUs(99), None).unwrap()), ["late", "b"]);
    }

    #[test]
    fn windows_give_the_same_order_as_one_piece() {
        let log = MemoryLog::new();
        let n = 3 * WINDOW as i64 + 17;
        stage(&log, (0..n).map(|i| cancel(&format!("e{i}"), (i * 7_919) % n)).collect());
        let mut staged = Staged::sort(&log, None, 0).unwrap();
        let taken = ids(&staged.take_due(TimeUs(n), None).unwrap());
        let mut expected: Vec<(i64, i64)> = (0..n).map(|i| ((i * 7_919) % n, i)).collect();
        expected.sort();
        assert_eq!(taken, expected.iter().map(|(_, i)| format!("e{i}")).collect::<Vec<_>>());
        assert_eq!(staged.left(), 0);
    }

    #[test]
    fn a_record_comes_at_the_instant_that_its_header_names_and_leaves_the_header_behind() {
        let log = MemoryLog::new();
        let name = TopicName::staged(Topic::Jobs);
        let at = |event: Event, instant: &str| {
            let mut record = Codec::global().record(&event, name, log.partitions(name));
            record.headers.push((INSTANT.to_owned(), instant.as_bytes().to_vec()));
            record
        };
        let batch = vec![at(cancel("late", 5), "30"), at(cancel("early", 20), "10"), at(cancel("own", 20), "soon")];
        log.producer("import").unwrap().append(batch).unwrap();
        let mut staged = Staged::sort(&log, None, 0).unwrap();
        assert_eq!(staged.next_us(), Some(TimeUs(10)));
        let taken = staged.take_due(TimeUs(30), None).unwrap();
        assert_eq!(ids(&taken), ["early", "own", "late"]);
        assert!(taken.iter().all(|record| record.header(INSTANT).is_none()));
    }

    #[test]
    fn what_cannot_be_read_is_handed_on_with_its_neighbour() {
        let log = MemoryLog::new();
        stage(&log, vec![cancel("a", 10)]);
        let name = TopicName::staged(Topic::Jobs);
        let partition = (0..4).find(|p| log.end(name, *p).unwrap() > 0).unwrap();
        let junk = Record { topic: name, partition, key: b"k".to_vec(), value: b"junk".to_vec(), headers: vec![] };
        log.producer("import").unwrap().append(vec![junk]).unwrap();
        let mut staged = Staged::sort(&log, None, 0).unwrap();
        assert_eq!(staged.take_due(TimeUs(10), None).unwrap().len(), 2);
    }
}
