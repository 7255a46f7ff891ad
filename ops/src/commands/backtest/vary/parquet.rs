//! The numbers as Apache Parquet: the rows and columns of the CSV, typed, for DuckDB and its like.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

use super::csv::{LEADING, Row, rows};
use super::numbers::MEASURES;
use super::sweep::Report;
use crate::failure::{Failure, unwritable};

/// Rows of a group.
const GROUP_ROWS: usize = 65_536;

/// Writes a file.
pub fn write(report: &Report, path: &Path) -> Result<(), Failure> {
    let file = File::create(path).map_err(|e| unwritable(path, e))?;
    write_to(report, file).map_err(|e| unwritable(path, e))
}

fn write_to(report: &Report, file: File) -> Result<(), ParquetError> {
    let leading = LEADING.map(|name| match name {
        "seed" => "optional int64 seed;".to_owned(),
        "tenant" => "optional binary tenant (STRING);".to_owned(),
        name => format!("required binary {name} (STRING);"),
    });
    let numbers: String = MEASURES.iter().map(|measure| format!("optional int64 {};", measure.name)).collect();
    let schema = parse_message_type(&format!("message outcomes {{ {} {numbers} }}", leading.join(" ")))?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_created_by(concat!("solyx ", env!("CARGO_PKG_VERSION")).to_owned())
        .build();
    let mut writer = SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties))?;
    for rows in rows(report).chunks(GROUP_ROWS) {
        let mut group = writer.next_row_group()?;
        for name in LEADING {
            match name {
                "seed" => integers(&mut group, rows.iter().map(|row| row.seed))?,
                name => texts(&mut group, rows.iter().map(|row| leading_text(row, name)), name == "tenant")?,
            }
        }
        for measure in MEASURES {
            integers(&mut group, rows.iter().map(|row| (measure.of)(row.numbers)))?;
        }
        group.close()?;
    }
    writer.close()?;
    Ok(())
}

fn leading_text<'r>(row: &Row<'r>, name: &str) -> Option<&'r str> {
    match name {
        "log" => Some(row.log),
        "variation" => Some(row.variation),
        "tenant" => row.tenant,
        "currency" => Some(row.currency),
        _ => Some(row.chain_head),
    }
}

/// A column of integers, any of which may be absent.
fn integers(
    group: &mut SerializedRowGroupWriter<'_, File>,
    values: impl Iterator<Item = Option<i64>>,
) -> Result<(), ParquetError> {
    let (levels, values) = apart(values);
    let Some(mut column) = group.next_column()? else { return Ok(()) };
    column.typed::<Int64Type>().write_batch(&values, Some(&levels), None)?;
    column.close()
}

/// A column of text.
fn texts<'r>(
    group: &mut SerializedRowGroupWriter<'_, File>,
    values: impl Iterator<Item = Option<&'r str>>,
    optional: bool,
) -> Result<(), ParquetError> {
    let (levels, values) = apart(values.map(|text| text.map(ByteArray::from)));
    let Some(mut column) = group.next_column()? else { return Ok(()) };
    column.typed::<ByteArrayType>().write_batch(&values, optional.then_some(&*levels), None)?;
    column.close()
}

/// Definition levels (1 where there is a value) and the values that there are.
fn apart<T>(values: impl Iterator<Item = Option<T>>) -> (Vec<i16>, Vec<T>) {
    let mut levels = Vec::new();
    let mut there = Vec::new();
    for value in values {
        levels.push(i16::from(value.is_some()));
        there.extend(value);
    }
    (levels, there)
}
