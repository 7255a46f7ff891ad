//! Where importers put their rows: checks each event, batches them to the log, keeps the count and the bad rows.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::Path;

use solyx_schemas::codec::Codec;
use solyx_schemas::events::Event;
use solyx_schemas::log::{Log, Producer, Record};
use solyx_schemas::topics::{Topic, TopicName};

use super::table::{End, Row, Table};
use super::{BadRow, ImportError};

/// Name of the producer that imports write as.
pub const PRODUCER: &str = "import";
/// Most records of one batch.
const BATCH_RECORDS: usize = 8_192;
/// Most bytes of one batch.
const BATCH_BYTES: usize = 4 << 20;
/// How many bad rows a summary names; the file of bad rows has all of them.
const NAMED_MAX: usize = 20;

/// What an import did.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    /// Rows read.
    pub rows: u64,
    /// Events written.
    pub events: u64,
    /// Rows passed over on purpose: empty cells, outside the window or the filter.
    pub skipped: u64,
    /// Bad rows.
    pub bad: u64,
    /// The first of them.
    pub bad_rows: Vec<BadRow>,
    /// Files that are cut off or damaged, and up to where they were read.
    pub truncated: Vec<String>,
}

/// Takes events of rows and writes them to a log.
pub struct Sink<'a> {
    log: &'a dyn Log,
    producer: Box<dyn Producer>,
    batch: Vec<Record>,
    bytes: usize,
    bad_rows: Option<(String, BufWriter<File>)>,
    summary: Summary,
    progress: &'a mut dyn FnMut(&Summary),
}

impl<'a> Sink<'a> {
    /// A sink for a log. `bad_rows` is appended to.
    pub fn open(
        log: &'a dyn Log,
        bad_rows: Option<&Path>,
        progress: &'a mut dyn FnMut(&Summary),
    ) -> Result<Self, ImportError> {
        let bad_rows = bad_rows.map(|path| {
            let file = path.display().to_string();
            let opened = OpenOptions::new().create(true).append(true).open(path);
            opened
                .map(|opened| (file.clone(), BufWriter::new(opened)))
                .map_err(|e| ImportError::BadRows { file, detail: e.to_string() })
        });
        Ok(Self {
            log,
            producer: log.producer(PRODUCER)?,
            batch: Vec::new(),
            bytes: 0,
            bad_rows: bad_rows.transpose()?,
            summary: Summary::default(),
            progress,
        })
    }

    /// What was done so far.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Counts something passed over on purpose.
    pub fn skip(&mut self) {
        self.summary.skipped += 1;
    }

    /// Reads a table to its end: `events` makes the events of each row, none of which is written if one is wrong.
    /// It returns false in the first place when no more rows are wanted.
    pub fn table(
        &mut self,
        table: &mut Table,
        mut events: impl FnMut(&Row<'_>, &mut Rows<'_>) -> Result<bool, BadRow>,
    ) -> Result<(), ImportError> {
        let mut made = Vec::new();
        loop {
            let row = match table.next_row() {
                Ok(Some(row)) => row,
                Ok(None) => break,
                Err(ImportError::Row(bad)) => {
                    self.summary.rows += 1;
                    self.bad(bad)?;
                    continue;
                }
                Err(other) => return Err(other),
            };
            self.summary.rows += 1;
            made.clear();
            let mut rows = Rows { row, events: &mut made, bad: Vec::new(), skipped: 0 };
            let outcome = row.check_width().and_then(|()| events(&row, &mut rows));
            self.summary.skipped += rows.skipped;
            let cells = std::mem::take(&mut rows.bad);
            match outcome.and_then(|more| check(&row, &made).map(|()| more)) {
                Ok(more) => {
                    for event in made.drain(..) {
                        self.put(&event)?;
                    }
                    if !more {
                        self.summary.rows -= 1;
                        return Ok(());
                    }
                }
                Err(bad) => self.bad(bad)?,
            }
            for cell in cells {
                self.bad(cell)?;
            }
        }
        if let End::Truncated(what) = table.end() {
            self.truncated(what);
        }
        Ok(())
    }

    /// Remembers a file that ended too early.
    pub fn truncated(&mut self, what: String) {
        self.summary.truncated.push(what);
    }

    /// Counts a row of something that is no table.
    pub fn count_row(&mut self) {
        self.summary.rows += 1;
    }

    /// Counts a bad row and keeps it.
    pub fn bad(&mut self, bad: BadRow) -> Result<(), ImportError> {
        self.bad_row([bad])
    }

    /// Counts one bad row and keeps everything that is wrong with it.
    pub fn bad_row(&mut self, all: impl IntoIterator<Item = BadRow>) -> Result<(), ImportError> {
        self.summary.bad += 1;
        all.into_iter().try_for_each(|bad| self.keep(bad))
    }

    fn keep(&mut self, bad: BadRow) -> Result<(), ImportError> {
        if let Some((file, writer)) = &mut self.bad_rows {
            let written = serde_json::to_writer(&mut *writer, &bad)
                .map_err(std::io::Error::from)
                .and_then(|()| writer.write_all(b"\n"));
            written.map_err(|e| ImportError::BadRows { file: file.clone(), detail: e.to_string() })?;
        }
        if self.summary.bad_rows.len() < NAMED_MAX {
            self.summary.bad_rows.push(bad);
        }
        Ok(())
    }

    /// Writes an event that is known to be right: to the live topic `sim`, otherwise to the staged twin of its topic.
    pub fn put(&mut self, event: &Event) -> Result<(), ImportError> {
        let topic = event.topic();
        let name = if topic == Topic::Sim { TopicName::live(topic) } else { TopicName::staged(topic) };
        let record = Codec::global().record(event, name, self.log.partitions(name));
        self.bytes += record.size();
        self.batch.push(record);
        self.summary.events += 1;
        if self.batch.len() >= BATCH_RECORDS || self.bytes >= BATCH_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ImportError> {
        if !self.batch.is_empty() {
            self.producer.append(std::mem::take(&mut self.batch))?;
            self.bytes = 0;
        }
        (self.progress)(&self.summary);
        Ok(())
    }

    /// Writes what is left, waits until all of it is durable, and says what was done.
    pub fn finish(mut self) -> Result<Summary, ImportError> {
        self.flush()?;
        self.producer.sync()?;
        if let Some((file, mut writer)) = self.bad_rows.take() {
            writer.flush().map_err(|e| ImportError::BadRows { file, detail: e.to_string() })?;
        }
        Ok(self.summary)
    }
}

/// What a row becomes.
pub struct Rows<'a> {
    row: Row<'a>,
    events: &'a mut Vec<Event>,
    bad: Vec<BadRow>,
    skipped: u64,
}

impl Rows<'_> {
    /// One event of the row; if one of them is wrong, none is written.
    pub fn push(&mut self, event: impl Into<Event>) {
        self.events.push(event.into());
    }

    /// Whether nothing came of the row yet, neither an event nor a complaint.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.bad.is_empty()
    }

    /// An event of one cell of the row, or what is wrong with that cell; the other cells are not concerned.
    pub fn cell(&mut self, event: Result<Event, BadRow>) {
        match event.and_then(|event| check(&self.row, std::slice::from_ref(&event)).map(|()| event)) {
            Ok(event) => self.events.push(event),
            Err(bad) => self.bad.push(bad),
        }
    }

    /// Whether all events of the row are right so far.
    pub fn check(&self) -> Result<(), BadRow> {
        check(&self.row, self.events)
    }

    /// A cell or the whole row is passed over.
    pub fn skip(&mut self) {
        self.skipped += 1;
    }
}

fn check(row: &Row<'_>, events: &[Event]) -> Result<(), BadRow> {
    for event in events {
        event.check().map_err(|e| row.bad_field(&format!("{}.{}", event.name(), e.path), &e.found, &e.expected))?;
    }
    Ok(())
}
