//! The history of a run in a log, as an engine would have written it: for an audit, and for whoever wants to see what was decided.

use solyx_kernel::Closed;
use solyx_runtime::records_of;
use solyx_schemas::log::{Log, LogError, Producer, Record};

/// A log that takes what a run does, epoch by epoch.
pub struct Kept<'a> {
    log: &'a dyn Log,
    producer: Box<dyn Producer>,
}

impl<'a> Kept<'a> {
    /// Begins with an empty log of one partition a topic.
    pub fn begin(log: &'a dyn Log) -> Result<Self, LogError> {
        Ok(Self { log, producer: log.producer("backtest")? })
    }

    /// Inputs, in the order in which the kernel takes them.
    pub fn inputs(&mut self, records: Vec<Record>) -> Result<(), LogError> {
        if records.is_empty() {
            return Ok(());
        }
        self.producer.append(records).map(drop)
    }

    /// Outputs and record of an epoch.
    pub fn epoch(&mut self, closed: &Closed) -> Result<(), LogError> {
        self.producer.append(records_of(self.log, closed)).map(drop)
    }

    /// Makes all of it durable.
    pub fn end(&mut self) -> Result<(), LogError> {
        self.producer.sync()
    }
}
