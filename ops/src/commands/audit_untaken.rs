//! Input records that lie in a log beyond what its epochs took: somebody wrote them after the engine stopped, or it lags behind.

use solyx_schemas::codec::{Codec, frame_id};
use solyx_schemas::epochs::Positions;
use solyx_schemas::events::Event;
use solyx_schemas::events::decisions::EpochCommitted;
use solyx_schemas::ids::CellId;
use solyx_schemas::log::{Log, LogError, Scan};
use solyx_schemas::topics::{Topic, TopicName, partition_of};

/// How many there are. Nothing of them is judged: no epoch says what they are.
pub fn untaken(log: &dyn Log, cell: &CellId) -> Result<u64, LogError> {
    // The ends first: an engine that goes on meanwhile takes more, not less.
    let mut ends = Positions::default();
    for topic in Topic::INPUTS {
        for partition in 0..log.partitions(topic.into()) {
            ends.set(topic, partition, log.end(topic.into(), partition)?);
        }
    }
    let taken = taken(log, cell)?;
    let left = ends.iter().map(|(topic, partition, end)| end.saturating_sub(taken.get(topic, partition)));
    Ok(left.sum())
}

/// The first ordinal of each input topic-partition that no epoch took, as the epoch records say.
fn taken(log: &dyn Log, cell: &CellId) -> Result<Positions, LogError> {
    let topic = TopicName::live(Topic::Decisions);
    let partition = partition_of(cell.as_str().as_bytes(), log.partitions(topic));
    let mut taken = Positions::default();
    for stored in Scan::new(log, topic, partition, 0) {
        for range in record(&stored?.record.value).iter().flat_map(|record| &record.inputs) {
            let partition = u32::try_from(range.partition);
            if let (Some(topic), Ok(partition)) = (Topic::parse(range.topic.as_str()), partition) {
                let next = u64::try_from(range.next_ordinal).unwrap_or_default();
                taken.set(topic, partition, next.max(taken.get(topic, partition)));
            }
        }
    }
    Ok(taken)
}

/// The epoch record, where a value is one; other decisions are not decoded.
fn record(value: &[u8]) -> Option<EpochCommitted> {
    let (name, _) = Codec::global().writer_schema(frame_id(value)?)?;
    if name != "solyx.decisions.EpochCommitted" {
        return None;
    }
    match Codec::global().decode(value).ok()?.event {
        Event::EpochCommitted(record) => Some(*record),
        _ => None,
    }
}
