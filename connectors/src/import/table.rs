//! Reading tables as files have them: gzip or not by their magic bytes, streaming, each row with its line, and what is
//! wrong with a row named by file, line, field, value and what was expected.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::rc::Rc;

use csv::StringRecord;
use flate2::bufread::MultiGzDecoder;
use solyx_schemas::units::TimeUs;

use super::decimal::{self, DecimalError};
use super::{BadRow, ImportError};

/// The first bytes of a gzip file (RFC 1952, 2.3.1).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Opens a file; one that is gzipped is unpacked as it is read, whatever its name.
pub fn open(path: &Path) -> Result<Box<dyn Read>, ImportError> {
    let failed = |e: io::Error| ImportError::Open { file: path.display().to_string(), detail: e.to_string() };
    let mut file = BufReader::with_capacity(1 << 16, File::open(path).map_err(failed)?);
    let gzipped = file.fill_buf().map_err(failed)?.starts_with(&GZIP_MAGIC);
    Ok(if gzipped { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) })
}

/// Where the rows of a table ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// At the end of the file.
    Complete,
    /// Before it: the file is cut off or damaged.
    Truncated(String),
}

/// A table with a header.
pub struct Table {
    /// The file, as messages name it.
    pub file: String,
    header: Vec<String>,
    reader: csv::Reader<Box<dyn Read>>,
    record: StringRecord,
    /// Rows read, those that could not be among them.
    number: u64,
    /// Bytes read since the last row ended.
    since: Rc<Cell<usize>>,
    end: Option<End>,
}

/// The longest row that is read: a quote that is never closed, or a few bytes that unpack to many, would make one of the whole file.
const ROW_LEN_MAX: usize = 32 << 20;

/// What is read of a table, and how much of it since the last row.
struct Bounded {
    input: Box<dyn Read>,
    since: Rc<Cell<usize>>,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.since.get() > ROW_LEN_MAX {
            return Err(io::Error::other(format!("a row has more than {ROW_LEN_MAX} bytes")));
        }
        let read = self.input.read(buffer)?;
        self.since.set(self.since.get() + read);
        Ok(read)
    }
}

/// A column by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column(usize);

impl Table {
    /// Opens a table and reads its header.
    pub fn open(path: &Path) -> Result<Self, ImportError> {
        Self::from_reader(&path.display().to_string(), open(path)?)
    }

    /// A table of anything that can be read.
    pub fn from_reader(file: &str, input: Box<dyn Read>) -> Result<Self, ImportError> {
        let since = Rc::new(Cell::new(0));
        let input: Box<dyn Read> = Box::new(Bounded { input, since: Rc::clone(&since) });
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(input);
        let header = reader.headers().map_err(|e| ImportError::Open {
            file: file.to_owned(),
            detail: format!("its header cannot be read: {e}"),
        })?;
        let header = header.iter().map(|name| name.trim().trim_start_matches('\u{feff}').to_owned()).collect();
        Ok(Self { file: file.to_owned(), header, reader, record: StringRecord::new(), number: 0, since, end: None })
    }

    /// Names of the columns.
    pub fn header(&self) -> &[String] {
        &self.header
    }

    /// The column of a name.
    pub fn column(&self, name: &str) -> Result<Column, ImportError> {
        self.find(name).ok_or_else(|| ImportError::Column {
            file: self.file.clone(),
            column: name.to_owned(),
            found: self.header.join(","),
        })
    }

    /// The column of a name, if there is one.
    pub fn find(&self, name: &str) -> Option<Column> {
        self.header.iter().position(|column| column == name).map(Column)
    }

    /// The next row; none when the table ended, and [`Table::end`] says where.
    pub fn next_row(&mut self) -> Result<Option<Row<'_>>, ImportError> {
        if self.end.is_some() {
            return Ok(None);
        }
        self.since.set(0);
        self.number += 1;
        match self.reader.read_record(&mut self.record) {
            Ok(true) => {
                let line = self.record.position().map_or(0, csv::Position::line);
                let number = self.number;
                Ok(Some(Row { file: &self.file, line, number, header: &self.header, record: &self.record }))
            }
            Ok(false) => {
                self.end = Some(End::Complete);
                Ok(None)
            }
            Err(error) => match error.kind() {
                csv::ErrorKind::Utf8 { pos, err } => Err(ImportError::Row(BadRow {
                    file: self.file.clone(),
                    line: pos.as_ref().map_or(0, csv::Position::line),
                    field: self.header.get(err.field()).cloned().unwrap_or_default(),
                    found: "bytes that are no text".to_owned(),
                    expected: "UTF-8".to_owned(),
                })),
                _ => {
                    let line = self.reader.position().line();
                    self.end = Some(End::Truncated(format!(
                        "{}: cut off or damaged after line {line} ({error}); what came before was read, the tail is missing",
                        self.file
                    )));
                    Ok(None)
                }
            },
        }
    }

    /// Where the table ended, once it has.
    pub fn end(&self) -> End {
        self.end.clone().unwrap_or(End::Complete)
    }
}

/// One row.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    /// The file.
    pub file: &'a str,
    /// Its line, counted from 1.
    pub line: u64,
    /// The row, counted from 1 without the header; rows that cannot be read count, too, so that a mended file has the same numbers.
    pub number: u64,
    header: &'a [String],
    record: &'a StringRecord,
}

impl<'a> Row<'a> {
    /// The text of a column; empty when the row is too short.
    pub fn text(&self, column: Column) -> &'a str {
        self.record.get(column.0).unwrap_or("").trim()
    }

    /// What is wrong with a column of this row.
    pub fn bad(&self, column: Column, expected: impl ToString) -> BadRow {
        self.bad_field(self.header.get(column.0).map_or("", String::as_str), self.text(column), expected)
    }

    /// What is wrong with this row.
    pub fn bad_field(&self, field: &str, found: &str, expected: impl ToString) -> BadRow {
        BadRow {
            file: self.file.to_owned(),
            line: self.line,
            field: field.to_owned(),
            found: found.chars().take(256).collect(),
            expected: expected.to_string(),
        }
    }

    /// Whether the row has as many fields as the header.
    pub fn check_width(&self) -> Result<(), BadRow> {
        if self.record.len() == self.header.len() {
            return Ok(());
        }
        let found = format!("{} fields", self.record.len());
        Err(self.bad_field("", &found, format!("{} fields: {}", self.header.len(), self.header.join(","))))
    }

    /// A text that is not empty.
    pub fn required(&self, column: Column) -> Result<&'a str, BadRow> {
        let text = self.text(column);
        if text.is_empty() { Err(self.bad(column, "a value")) } else { Ok(text) }
    }

    /// A whole number in a range.
    pub fn integer(&self, column: Column, range: std::ops::RangeInclusive<i64>) -> Result<i64, BadRow> {
        let found = self.text(column).parse().ok().filter(|n| range.contains(n));
        found.ok_or_else(|| self.bad(column, format!("a whole number from {} to {}", range.start(), range.end())))
    }

    /// A decimal number times `multiplier`, as an integer.
    pub fn decimal(&self, column: Column, multiplier: i64) -> Result<i64, BadRow> {
        decimal::scaled(self.text(column), multiplier).map_err(|e: DecimalError| self.bad(column, e))
    }

    /// A decimal number that is not negative, times `multiplier`.
    pub fn positive(&self, column: Column, multiplier: i64) -> Result<i64, BadRow> {
        let value = self.decimal(column, multiplier)?;
        if value < 0 { Err(self.bad(column, "a number that is not negative")) } else { Ok(value) }
    }

    /// An instant in UTC.
    pub fn time(&self, column: Column) -> Result<TimeUs, BadRow> {
        parse_instant(self.text(column)).ok_or_else(|| self.bad(column, "a time in UTC such as 2023-09-04 10:30:41"))
    }
}

/// An instant as files write it: RFC 3339, `YYYY-MM-DD HH:MM[:SS[.fraction]]` in UTC, or a date.
pub fn parse_instant(text: &str) -> Option<TimeUs> {
    if let Some(time) = solyx_schemas::units::parse_time(text) {
        return Some(time);
    }
    ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M"]
        .iter()
        .find_map(|form| chrono::NaiveDateTime::parse_from_str(text, form).ok())
        .map(|time| TimeUs(time.and_utc().timestamp_micros()))
}
