//! Parquet: columns of numbers, truth values and text; a null is an empty cell.

use super::{Place, RowReader, TextRows};
use crate::failure::Failure;
use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

pub(super) struct ParquetRows {
    place: Place,
    reader: ParquetRecordBatchReader,
    columns: Vec<String>,
    batch: Option<RecordBatch>,
    at: usize,
}

impl ParquetRows {
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let damaged = |error: &dyn std::fmt::Display| {
            Failure::input(format!(
                "{}: is no whole parquet file: {error}\nhelp: the file is cut off or damaged; write it again",
                path.display()
            ))
        };
        let file = File::open(path).map_err(|error| Failure::io("open", path, &error))?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| damaged(&error))?;
        let columns = builder.schema().fields().iter().map(|field| field.name().clone()).collect();
        for field in builder.schema().fields() {
            if !is_readable(field.data_type()) {
                return Err(Failure::input(format!(
                    "{}: column {:?} is of type {}, which cannot be read\nhelp: write it as text or as a number",
                    path.display(),
                    field.name(),
                    field.data_type()
                )));
            }
        }
        let reader = builder.with_batch_size(8192).build().map_err(|error| damaged(&error))?;
        Ok(ParquetRows { place: Place::new(path.display()), reader, columns, batch: None, at: 0 })
    }
}

fn is_readable(ty: &DataType) -> bool {
    matches!(ty, DataType::Utf8 | DataType::LargeUtf8 | DataType::Boolean | DataType::Float32 | DataType::Float64) || ty.is_integer()
}

impl RowReader for ParquetRows {
    fn columns(&self) -> &[String] {
        &self.columns
    }

    fn read(&mut self, rows: &mut TextRows) -> Result<bool, Failure> {
        while self.batch.as_ref().is_none_or(|batch| self.at >= batch.num_rows()) {
            match self.reader.next() {
                None => return Ok(false),
                Some(Ok(batch)) => {
                    self.batch = Some(batch);
                    self.at = 0;
                }
                Some(Err(error)) => {
                    return Err(Failure::input(format!(
                        "{}: cannot be read on after row {}: {error}\nhelp: the file is damaged; write it again",
                        self.place.source, self.place.row
                    )));
                }
            }
        }
        let mut cell = Vec::new();
        if let Some(batch) = &self.batch {
            for column in batch.columns() {
                cell.clear();
                write_cell(column.as_ref(), self.at, &mut cell);
                rows.push(&cell);
            }
        }
        self.at += 1;
        self.place.row += 1;
        Ok(true)
    }

    fn place(&self) -> &Place {
        &self.place
    }
}

fn write_cell(column: &dyn Array, at: usize, out: &mut Vec<u8>) {
    if column.is_null(at) {
        return;
    }
    // Writing to memory does not fail.
    let _ = match column.data_type() {
        DataType::Utf8 => out.write_all(column.as_string::<i32>().value(at).as_bytes()),
        DataType::LargeUtf8 => out.write_all(column.as_string::<i64>().value(at).as_bytes()),
        DataType::Boolean => write!(out, "{}", u8::from(column.as_boolean().value(at))),
        DataType::Float32 => write!(out, "{}", column.as_primitive::<Float32Type>().value(at)),
        DataType::Float64 => write!(out, "{}", column.as_primitive::<Float64Type>().value(at)),
        DataType::Int8 => write!(out, "{}", column.as_primitive::<Int8Type>().value(at)),
        DataType::Int16 => write!(out, "{}", column.as_primitive::<Int16Type>().value(at)),
        DataType::Int32 => write!(out, "{}", column.as_primitive::<Int32Type>().value(at)),
        DataType::Int64 => write!(out, "{}", column.as_primitive::<Int64Type>().value(at)),
        DataType::UInt8 => write!(out, "{}", column.as_primitive::<UInt8Type>().value(at)),
        DataType::UInt16 => write!(out, "{}", column.as_primitive::<UInt16Type>().value(at)),
        DataType::UInt32 => write!(out, "{}", column.as_primitive::<UInt32Type>().value(at)),
        DataType::UInt64 => write!(out, "{}", column.as_primitive::<UInt64Type>().value(at)),
        _ => Ok(()),
    };
}
