//! Tables of published traces: comma-separated, gzipped or not.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use csv::StringRecord;
use flate2::bufread::MultiGzDecoder;

use super::BacktestError;

const COUNT_MAX: i64 = 1_000_000_000_000;

/// The first bytes of a gzip file (RFC 1952, 2.3.1).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// A file's text, gzipped or not.
pub(super) fn open(path: &Path) -> Result<Box<dyn Read>, BacktestError> {
    let mut file = BufReader::with_capacity(1 << 16, File::open(path).map_err(|e| unreadable(path, &e))?);
    let gzipped = file.fill_buf().map_err(|e| unreadable(path, &e))?.starts_with(&GZIP_MAGIC);
    Ok(if gzipped { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) })
}

/// A file that cannot be read.
pub(super) fn unreadable(path: &Path, detail: &dyn std::fmt::Display) -> BacktestError {
    BacktestError::Read { file: path.display().to_string(), detail: detail.to_string() }
}

/// A row with its place, for messages.
pub(super) struct Row<'a> {
    file: &'a Path,
    header: &'a StringRecord,
    record: &'a StringRecord,
}

impl Row<'_> {
    /// The text of a column; empty when there is none.
    pub fn optional(&self, column: &str) -> &str {
        let place = self.header.iter().position(|name| name == column);
        place.and_then(|place| self.record.get(place)).unwrap_or_default().trim()
    }

    /// The text of a column that has to be there.
    pub fn text(&self, column: &'static str) -> Result<&str, BacktestError> {
        if self.header.iter().any(|name| name == column) {
            return Ok(self.optional(column));
        }
        let header = self.header.iter().collect::<Vec<_>>().join(",");
        Err(BacktestError::Column { file: self.file.display().to_string(), column, header })
    }

    /// A count: sums of a million of them stay within 64 bits.
    pub fn count(&self, column: &'static str) -> Result<i64, BacktestError> {
        let expected = "a whole number from 0 to 1000000000000";
        self.read(column, expected, |text| text.parse().ok().filter(|count| (0..=COUNT_MAX).contains(count)))
    }

    /// A column's value, if it is what is expected.
    pub fn read<T>(
        &self,
        column: &'static str,
        expected: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<T, BacktestError> {
        let text = self.text(column)?;
        parse(text).ok_or_else(|| BacktestError::Field {
            file: self.file.display().to_string(),
            line: self.record.position().map_or(0, csv::Position::line),
            field: column.to_owned(),
            value: text.to_owned(),
            expected,
        })
    }
}

/// All rows of a table.
pub(super) fn rows<T>(
    path: &Path,
    parse: impl Fn(Row<'_>) -> Result<T, BacktestError>,
) -> Result<Vec<T>, BacktestError> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(open(path)?);
    let header = reader.headers().map_err(|e| unreadable(path, &e))?.clone();
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|e| unreadable(path, &e))?;
        rows.push(parse(Row { file: path, header: &header, record: &record })?);
    }
    Ok(rows)
}
