//! GPU time that was there: nodes as they come and go, from epoch to epoch. The views keep only the nodes of now.

use std::collections::{BTreeMap, BTreeSet};

use solyx_schemas::codec::Codec;
use solyx_schemas::epochs::{EpochBatch, EpochReader, RawEpoch, ReadError};
use solyx_schemas::events::Event;
use solyx_schemas::events::capacity::CapacityClass;
use solyx_schemas::ids::{NodeId, PoolId};
use solyx_schemas::log::Log;
use solyx_schemas::topics::Topic;
use solyx_schemas::units::TimeUs;

/// Topics whose events say what stands.
const TOPICS: [Topic; 3] = [Topic::Capacity, Topic::Nodes, Topic::Leases];

/// GPUs of nodes that stand, and how long they stood, from the first epoch to the last one taken. Leased instances are none of
/// them: what is paid for them is another figure.
#[derive(Debug, Default)]
pub struct Standing {
    pools: BTreeMap<PoolId, CapacityClass>,
    nodes: BTreeMap<NodeId, (PoolId, i64)>,
    leased: BTreeSet<NodeId>,
    now: Option<TimeUs>,
    gpus: Sums,
    gpu_us: Sums,
}

/// Something of our own hardware, and of all nodes whoever they are of: reserved ones are ours to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums {
    owned: i128,
    all: i128,
}

impl Sums {
    fn add(&mut self, of: Self, times: i128) {
        self.owned += of.owned * times;
        self.all += of.all * times;
    }
}

impl Standing {
    /// What stood in a log's epochs up to and with one of them.
    pub fn read(log: &dyn Log, last_epoch: i64) -> Result<Self, ReadError> {
        let mut standing = Self::default();
        let mut reader = EpochReader::new(log);
        while reader.next_epoch() <= last_epoch
            && let Some(epoch) = reader.next_raw()?
        {
            standing.apply_raw(&epoch);
        }
        Ok(standing)
    }

    /// Takes the next epoch.
    pub fn apply(&mut self, epoch: &EpochBatch) {
        self.time_passes(epoch.record.now_us);
        epoch.counted().for_each(|(_, event)| self.event(event));
    }

    /// The same; of its inputs only those are decoded that matter.
    fn apply_raw(&mut self, epoch: &RawEpoch) {
        self.time_passes(epoch.record.now_us);
        let counted = epoch.inputs.iter().filter(|input| input.skipped.is_none());
        for input in counted.filter(|input| TOPICS.contains(&input.position.topic())) {
            if let Ok(decoded) = Codec::global().decode_record(&input.stored.record) {
                self.event(&decoded.event);
            }
        }
    }

    /// GPUs of our own that stand now.
    pub fn owned(&self) -> i64 {
        self.gpus.owned as i64
    }

    /// Time that GPUs of our own stood, thousandths of a GPU × µs.
    pub fn owned_held(&self) -> i128 {
        self.gpu_us.owned * 1_000
    }

    /// The same of all nodes that stood.
    pub fn held(&self) -> i128 {
        self.gpu_us.all * 1_000
    }

    fn time_passes(&mut self, now: TimeUs) {
        let passed_us = self.now.map_or(0, |before| now.since(before).0);
        self.gpu_us.add(self.gpus, i128::from(passed_us));
        self.now = Some(now);
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::PoolDeclared(e) => {
                let before = self.pools.insert(e.pool.clone(), e.class);
                if before != Some(e.class) {
                    self.count_again();
                }
            }
            Event::NodeReported(e) if !self.leased.contains(&e.node) => {
                self.goes(&e.node);
                let node = (e.pool.clone(), e.gpus.len() as i64);
                self.gpus.add(self.gpus_of(&node), 1);
                self.nodes.insert(e.node.clone(), node);
            }
            Event::NodeRemoved(e) => self.goes(&e.node),
            Event::InstanceLeased(e) => {
                let node = NodeId::from(e.instance.as_str());
                self.goes(&node);
                self.leased.insert(node);
            }
            _ => {}
        }
    }

    fn goes(&mut self, node: &NodeId) {
        if let Some(node) = self.nodes.remove(node) {
            self.gpus.add(self.gpus_of(&node), -1);
        }
    }

    /// A pool was declared for the first time, or as of another class.
    fn count_again(&mut self) {
        let mut gpus = Sums::default();
        self.nodes.values().for_each(|node| gpus.add(self.gpus_of(node), 1));
        self.gpus = gpus;
    }

    /// GPUs of a node; of a pool that nobody declared none count.
    fn gpus_of(&self, (pool, gpus): &(PoolId, i64)) -> Sums {
        let class = self.pools.get(pool);
        let count = |counts: bool| if counts { i128::from(*gpus) } else { 0 };
        Sums { owned: count(class == Some(&CapacityClass::Owned)), all: count(class.is_some()) }
    }
}

#[cfg(test)]
mod tests {
    use solyx_schemas::codec::Decoded;
    use solyx_schemas::epochs::{InputRecord, Position};
    use solyx_schemas::events::capacity::PoolDeclared;
    use solyx_schemas::events::decisions::EpochCommitted;
    use solyx_schemas::events::nodes::{GpuReport, NodeRemoved, NodeReported};
    use solyx_schemas::events::world::InstanceLeased;
    use solyx_schemas::hash::Hash32;
    use solyx_schemas::units::HOUR_US;

    use super::*;

    fn epoch(hour: i64, events: Vec<Event>) -> EpochBatch {
        let input = |(ordinal, event): (usize, Event)| InputRecord {
            position: Position::new(event.topic(), 0, ordinal as u64),
            decoded: Some(Decoded { event, schema: Hash32::default() }),
            skipped: None,
        };
        let record = EpochCommitted { now_us: TimeUs(hour * HOUR_US), ..EpochCommitted::default() };
        let inputs = events.into_iter().enumerate().map(input).collect();
        EpochBatch { record, chain_hash: Hash32::default(), inputs, outputs: Vec::new() }
    }

    fn pool(pool: &str, class: CapacityClass) -> Event {
        PoolDeclared { pool: pool.into(), class, ..PoolDeclared::default() }.into()
    }

    fn node(node: &str, pool: &str, gpus: usize) -> Event {
        let gpus = vec![GpuReport::default(); gpus];
        NodeReported { node: node.into(), pool: pool.into(), gpus, ..NodeReported::default() }.into()
    }

    fn removed(node: &str) -> Event {
        NodeRemoved { node: node.into(), ..NodeRemoved::default() }.into()
    }

    const MILLI_HOUR: i128 = 1_000 * HOUR_US as i128;

    #[test]
    fn a_node_counts_for_as_long_as_it_stands() {
        let mut standing = Standing::default();
        let begun = vec![
            pool("own", CapacityClass::Owned),
            pool("kept", CapacityClass::Reserved),
            node("a", "own", 8),
            node("b", "own", 8),
            node("r", "kept", 4),
        ];
        standing.apply(&epoch(10, begun));
        standing.apply(&epoch(13, vec![removed("a")]));
        standing.apply(&epoch(14, vec![node("b", "own", 6), removed("nobody's")]));
        standing.apply(&epoch(16, vec![node("c", "own", 1), removed("r")]));
        standing.apply(&epoch(20, vec![removed("b"), removed("c")]));
        let owned = 3 * 16 + 8 + 2 * 6 + 4 * 7;
        assert_eq!(standing.owned_held(), owned * MILLI_HOUR);
        assert_eq!(standing.held(), (owned + 6 * 4) * MILLI_HOUR);
        assert_eq!(standing.owned(), 0);
    }

    #[test]
    fn a_leased_instance_stands_nowhere_and_a_pool_of_another_class_counts_otherwise_from_then_on() {
        let mut standing = Standing::default();
        let leased = InstanceLeased { instance: "i-1".into(), pool: "spot".into(), ..InstanceLeased::default() };
        standing.apply(&epoch(0, vec![pool("spot", CapacityClass::Spot), leased.into(), node("i-1", "spot", 8)]));
        standing.apply(&epoch(1, vec![pool("new", CapacityClass::Reserved), node("n", "new", 2)]));
        standing.apply(&epoch(4, vec![pool("new", CapacityClass::Owned)]));
        standing.apply(&epoch(5, vec![node("lost", "never-declared", 8)]));
        standing.apply(&epoch(6, Vec::new()));
        assert_eq!((standing.owned_held(), standing.held()), (2 * 2 * MILLI_HOUR, 5 * 2 * MILLI_HOUR));
        assert_eq!(standing.owned(), 2);
    }
}
