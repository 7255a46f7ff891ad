//! What tests of importers share: a log in memory, files, and the traces when they are there.

use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use solyx_schemas::codec::Codec;
use solyx_schemas::events::Event;
use solyx_schemas::log::{Ack, Log, LogError, Producer, ReadLimit, Record, StoredRecord};
use solyx_schemas::topics::{Topic, TopicName};

use super::{ImportError, Sink, Summary};

/// A log that keeps what is written, in order.
#[derive(Default)]
struct Written(Arc<Mutex<Vec<Record>>>);

impl Log for Written {
    fn partitions(&self, topic: TopicName) -> u32 {
        topic.topic.default_partitions()
    }

    fn end(&self, _: TopicName, _: u32) -> Result<u64, LogError> {
        Ok(0)
    }

    fn read(&self, _: TopicName, _: u32, _: u64, _: ReadLimit) -> Result<Vec<StoredRecord>, LogError> {
        Ok(Vec::new())
    }

    fn wait(&self, _: &[(TopicName, u32, u64)], _: Instant) -> Result<bool, LogError> {
        Ok(false)
    }

    fn producer(&self, _: &str) -> Result<Box<dyn Producer>, LogError> {
        Ok(Box::new(Self(self.0.clone())))
    }
}

impl Producer for Written {
    fn term_after(&self, _highest: i64) -> i64 {
        0
    }

    fn append_if(&mut self, batch: &[Record], _: &mut dyn FnMut(&Ack) -> bool) -> Result<Ack, LogError> {
        self.0.lock().expect("no test panics while it holds this").extend_from_slice(batch);
        Ok(Ack { append_time_us: 0, written: Vec::new() })
    }

    fn sync(&mut self) -> Result<(), LogError> {
        Ok(())
    }
}

/// What an import says and writes, each event decoded again and its topic checked.
pub fn imported(run: impl FnOnce(&mut Sink<'_>) -> Result<(), ImportError>) -> (Summary, Vec<Event>) {
    let log = Written::default();
    let mut progress = |_: &Summary| ();
    let mut sink = Sink::open(&log, None, &mut progress).expect("nothing to fail");
    run(&mut sink).expect("the import goes through");
    let summary = sink.finish().expect("nothing to fail");
    let records = log.0.lock().expect("no test panics while it holds this");
    let events = records.iter().map(|record| {
        let event = Codec::global().decode_record(record).expect("what was written decodes").event;
        event.check().expect("what was written is valid");
        assert_eq!(record.topic.staged, event.topic() != Topic::Sim, "{}", event.name());
        event
    });
    (summary, events.collect())
}

/// A file with this content.
pub fn write(name: &str, content: &[u8]) -> tempfile::TempPath {
    let mut file = tempfile::Builder::new().suffix(name).tempfile().expect("a directory for temporary files");
    file.write_all(content).expect("room for a small file");
    file.into_temp_path()
}

/// A file of the traces, when they are at hand: under `SOLYX_TRACES`, otherwise in a directory beside the checkout. Where there is
/// none, the test says that it does not run, past the harness, which shows nothing that a test prints when it passes.
pub fn trace(path: &str) -> Option<PathBuf> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/traces");
    let found = std::env::var_os("SOLYX_TRACES").map_or_else(beside, PathBuf::from).join(path);
    if found.exists() {
        return Some(found);
    }
    let test = std::thread::current();
    let test = test.name().unwrap_or_default();
    let _ =
        writeln!(std::io::stderr(), "not run: {test}: no traces in $SOLYX_TRACES: {} is not there", found.display());
    None
}
