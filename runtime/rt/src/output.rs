//! Predictions as files.

use crate::failure::Failure;
use arrow_array::{ArrayRef, Float32Array, RecordBatch};
use parquet::arrow::ArrowWriter;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

/// One column per prediction, with a header.
pub(crate) fn write_csv(out: impl Write, names: &[&str], predictions: &[Vec<f32>]) -> io::Result<()> {
    let mut out = io::BufWriter::new(out);
    writeln!(out, "{}", names.join(","))?;
    for row in 0..predictions.first().map_or(0, Vec::len) {
        for (at, values) in predictions.iter().enumerate() {
            if at > 0 {
                out.write_all(b",")?;
            }
            write!(out, "{}", values[row])?;
        }
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// The same as parquet.
pub(crate) fn write_parquet(path: &Path, names: &[&str], predictions: &[Vec<f32>]) -> Result<(), Failure> {
    let columns = names.iter().zip(predictions).map(|(name, values)| (*name, Arc::new(Float32Array::from(values.clone())) as ArrayRef));
    let failed = |error: &dyn std::fmt::Display| Failure::input(format!("cannot write {}: {error}", path.display()));
    let batch = RecordBatch::try_from_iter(columns).map_err(|error| failed(&error))?;
    let file = std::fs::File::create(path).map_err(|error| Failure::io("create", path, &error))?;
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).map_err(|error| failed(&error))?;
    writer.write(&batch).map_err(|error| failed(&error))?;
    writer.close().map_err(|error| failed(&error))?;
    Ok(())
}
