//! How far a virtual run and its executor have come: topic `cursors`.

use std::collections::BTreeMap;

use solyx_schemas::codec::Codec;
use solyx_schemas::epochs::{Positions, ReadError};
use solyx_schemas::events::Event;
use solyx_schemas::events::plans::{CursorAdvanced, StagedEnd};
use solyx_schemas::ids::{EventId, Name, SourceId};
use solyx_schemas::log::{Log, Record, Scan};
use solyx_schemas::topics::{Topic, TopicName};
use solyx_schemas::units::{Count, TimeUs};

/// The reader of staged topics.
pub const STAGED: &str = "staged";

/// The last cursor of every reader.
#[derive(Clone, Debug, Default)]
pub struct Cursors {
    last: BTreeMap<SourceId, CursorAdvanced>,
    ends: Positions,
}

impl Cursors {
    /// As the log has them.
    pub fn read(log: &dyn Log) -> Result<Self, ReadError> {
        let mut cursors = Self::default();
        each(log, |cursor| {
            for end in &cursor.staged_ends {
                let topic = Topic::parse(end.topic.as_str());
                if let (Some(topic), Ok(partition)) = (topic, u32::try_from(end.partition)) {
                    cursors.ends.set(topic, partition, end.end_ordinal.max(0) as u64);
                }
            }
            cursors.last.insert(cursor.reader.clone(), cursor);
        })?;
        Ok(cursors)
    }

    /// Every cursor of one reader, in order.
    pub fn history(log: &dyn Log, reader: &str) -> Result<Vec<CursorAdvanced>, ReadError> {
        let mut of_reader = Vec::new();
        each(log, |cursor| {
            if cursor.reader.as_str() == reader {
                of_reader.push(cursor);
            }
        })?;
        Ok(of_reader)
    }

    /// Who has left cursors.
    pub fn readers(&self) -> impl Iterator<Item = &SourceId> {
        self.last.keys()
    }

    /// The latest instant that any reader has dealt with.
    pub fn instant(&self) -> Option<TimeUs> {
        self.last.values().map(|cursor| cursor.instant_us).max()
    }

    /// What has been handed on of the staged topics: by when, and from before which ends.
    pub fn staged(&self) -> Option<(TimeUs, &Positions)> {
        self.last.get(STAGED).map(|cursor| (cursor.instant_us, &self.ends))
    }

    /// How much a reader has handed on.
    pub fn handed_on(&self, reader: &str) -> u64 {
        self.last.get(reader).map_or(0, |cursor| cursor.handed_on.0.max(0) as u64)
    }
}

fn each(log: &dyn Log, mut take: impl FnMut(CursorAdvanced)) -> Result<(), ReadError> {
    let topic = TopicName::live(Topic::Cursors);
    for partition in 0..log.partitions(topic) {
        for stored in Scan::new(log, topic, partition, 0) {
            let stored = stored?;
            let decoded = Codec::global().decode_record(&stored.record).map_err(|error| ReadError::Undecodable {
                place: format!("cursors/{partition}/{}", stored.ordinal),
                detail: error.to_string(),
            })?;
            if let Event::CursorAdvanced(cursor) = decoded.event {
                take(*cursor);
            }
        }
    }
    Ok(())
}

/// The record of a cursor.
pub fn record(
    log: &dyn Log,
    reader: &SourceId,
    instant: TimeUs,
    next_epoch: i64,
    handed_on: u64,
    ends: Option<&Positions>,
) -> Record {
    let end = |(topic, partition, ordinal): (Topic, u32, u64)| StagedEnd {
        topic: Name::from(topic.name()),
        partition: i64::from(partition),
        end_ordinal: ordinal as i64,
    };
    let cursor = CursorAdvanced {
        event_id: EventId::from(format!("{reader}/{}/{handed_on}", instant.0)),
        source: reader.clone(),
        occurred_us: instant,
        reader: reader.clone(),
        instant_us: instant,
        next_epoch: Count(next_epoch),
        handed_on: Count(handed_on as i64),
        staged_ends: ends.map(|ends| ends.iter().map(end).collect()).unwrap_or_default(),
    };
    let topic = TopicName::live(Topic::Cursors);
    Codec::global().record(&Event::from(cursor), topic, log.partitions(topic))
}
