//! A kernel without a log, driven epoch by epoch, with the time that each part of an epoch takes.

use std::time::{Duration, Instant};

use solyx_kernel::{Closed, Kernel, OpenEpoch, Seen};
use solyx_schemas::codec::Codec;
use solyx_schemas::epochs::Position;
use solyx_schemas::events::Event;
use solyx_schemas::ids::CellId;
use solyx_schemas::topics::{Topic, TopicName};

/// Where the clock begins, µs.
const START_US: i64 = 1_693_785_600_000_000;

/// What an epoch took, part by part.
#[derive(Clone, Copy, Debug, Default)]
pub struct Parts {
    /// Judging and applying its inputs.
    pub take: Duration,
    /// Deciding: who starts, where, and what is said about it. What Armada's core was measured on.
    pub decide: Duration,
    /// Encoding and hashing decisions, the digest of the state, the epoch record.
    pub seal: Duration,
    /// What of deciding this thread was on a processor: less than `decide` where others wanted it too.
    pub decide_cpu: Duration,
}

impl Parts {
    /// All of it.
    pub fn whole(&self) -> Duration {
        self.take + self.decide + self.seal
    }
}

/// A kernel with the ordinals of its inputs.
#[derive(Clone)]
pub struct World {
    pub kernel: Kernel,
    ordinals: [u64; Topic::ALL.len()],
    clock_us: i64,
}

impl World {
    /// Nothing yet.
    pub fn new() -> Self {
        Self { kernel: Kernel::new(CellId::from("bench")), ordinals: [0; Topic::ALL.len()], clock_us: START_US }
    }

    /// The instant of the next epoch, µs.
    pub fn now_us(&self) -> i64 {
        self.clock_us + 1_000_000
    }

    /// One epoch of events in the order of their topics.
    pub fn epoch(&mut self, events: &[Event]) -> (Closed, Parts) {
        let codec = Codec::global();
        let records: Vec<_> = events
            .iter()
            .map(|event| {
                let record = codec.record(event, TopicName::live(event.topic()), 1);
                let decoded = codec.decode_record(&record);
                let ordinal = &mut self.ordinals[event.topic() as usize];
                let position = Position::new(event.topic(), 0, *ordinal);
                *ordinal += 1;
                (position, record, decoded)
            })
            .collect();
        self.clock_us += 1_000_000;
        let begun = Instant::now();
        let mut open = OpenEpoch::open(&mut self.kernel, self.clock_us, 0);
        for (position, record, decoded) in &records {
            open.take(*position, &record.key, &record.value, decoded.as_ref(), || Seen::New);
        }
        let taken = begun.elapsed();
        let cpu = on_cpu();
        let decided = open.decide();
        let decide_cpu = on_cpu().saturating_sub(cpu);
        let after = begun.elapsed();
        let closed = decided.seal(&|_| 1);
        let parts = Parts { take: taken, decide: after - taken, seal: begun.elapsed() - after, decide_cpu };
        let refused = closed.outputs.iter().find(|output| matches!(output, Event::RecordQuarantined(_)));
        assert!(refused.is_none(), "what a benchmark says counts: {refused:?}");
        (closed, parts)
    }
}

/// How long this thread has been on a processor, as far as the scheduler has counted it (a tick, some milliseconds).
fn on_cpu() -> Duration {
    let said = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(said.split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or(0))
}
