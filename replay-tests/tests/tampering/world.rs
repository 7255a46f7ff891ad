//! A small world that has been lived through: the hybrid fleet, some of Philly's jobs, all epochs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::AtomicBool;

use solyx_connectors::executor::SimulatedExecutor;
use solyx_connectors::fleet;
use solyx_connectors::import::{Options, Source, import};
use solyx_runtime::{EngineOptions, VirtualOptions, run_virtual};
use solyx_schemas::codec::Codec;
use solyx_schemas::epochs::EpochReader;
use solyx_schemas::events::Event;
use solyx_schemas::hash::Hash32;
use solyx_schemas::log::memory::MemoryLog;
use solyx_schemas::log::{Log, Record};
use solyx_schemas::topics::{Topic, TopicName};
use solyx_sim::tamper::Epochs;

/// Jobs of the trace: enough for several blocks of decisions.
const JOBS: u64 = 400;

/// It, with the epoch of every record that has one.
pub struct World {
    pub log: MemoryLog,
    pub epochs: Epochs,
    pub head: Hash32,
}

pub static WORLD: LazyLock<World> = LazyLock::new(|| {
    let log = MemoryLog::with_partitions(&World::partitions());
    let ops = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ops");
    let events = fleet::load(&ops.join("fleets/hybrid.toml")).unwrap();
    let cell = events.iter().find_map(|event| match event {
        Event::CellDeclared(declared) => Some(declared.cell_id.clone()),
        _ => None,
    });
    let record = |event: &Event| -> Record { Codec::global().record(event, event.topic().into(), 1) };
    log.producer("publish").unwrap().append(events.iter().map(record).collect()).unwrap();
    let source = Source::Philly { jobs: ops.join("data/philly_jobs.csv.gz") };
    import(&source, &Options { limit: Some(JOBS), ..Options::default() }, &log, &mut |_| {}).unwrap();
    let mut executor = SimulatedExecutor::from_log("simulated", &log).unwrap();
    let options = VirtualOptions::new(EngineOptions::new(cell.unwrap(), None));
    run_virtual(&log, Some(&mut executor), &options, &AtomicBool::new(false), &mut |_| {}).unwrap();

    let mut epochs = Epochs::new();
    let mut reader = EpochReader::new(&log);
    while let Some(raw) = reader.next_raw().unwrap() {
        let outputs = raw.outputs.iter().map(|output| &output.stored).chain([&raw.stored]);
        let stored = raw.inputs.iter().map(|input| &input.stored).chain(outputs);
        let place = |stored: &solyx_schemas::log::StoredRecord| {
            (stored.record.topic.topic, stored.record.partition, stored.ordinal)
        };
        epochs.extend(stored.map(|stored| (place(stored), raw.record.epoch)));
    }
    let head = reader.chain_head();
    World { log, epochs, head }
});

impl World {
    /// One partition of each topic: fewer and larger files.
    pub fn partitions() -> BTreeMap<Topic, u32> {
        Topic::ALL.into_iter().map(|topic| (topic, 1)).collect()
    }

    /// The first epoch that has a record of a range, if it is of a topic that epochs read.
    pub fn first_epoch(&self, topic: TopicName, partition: u32, ordinals: std::ops::Range<u64>) -> Option<i64> {
        let live = |place: u64| (topic.topic, partition, place);
        let range = self.epochs.range(live(ordinals.start)..live(ordinals.end.max(ordinals.start)));
        range.map(|(_, epoch)| *epoch).min().filter(|_| !topic.staged)
    }
}
