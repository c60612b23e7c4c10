//! Predictions as files.

use crate::failure::Failure;
use crate::predict::Predicted;
use arrow_array::{ArrayRef, Float32Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

/// A column per prediction, with a header; behind that of the group, where rows are groups.
pub(crate) fn write_csv(out: impl Write, names: &[&str], predicted: &Predicted) -> csv::Result<()> {
    let mut out = csv::Writer::from_writer(out);
    let group = predicted.groups.iter().map(|(name, _)| name.as_str());
    out.write_record(group.chain(names.iter().copied()))?;
    for row in 0..predicted.values.first().map_or(0, Vec::len) {
        let group = predicted.groups.iter().map(|(_, values)| values[row].clone());
        out.write_record(group.chain(predicted.values.iter().map(|values| values[row].to_string())))?;
    }
    out.flush()?;
    Ok(())
}

/// The same as parquet.
pub(crate) fn write_parquet(path: &Path, names: &[&str], predicted: &Predicted) -> Result<(), Failure> {
    let group = predicted.groups.iter().map(|(name, values)| (name.as_str(), Arc::new(StringArray::from(values.clone())) as ArrayRef));
    let scores = names.iter().zip(&predicted.values);
    let columns = group.chain(scores.map(|(name, values)| (*name, Arc::new(Float32Array::from(values.clone())) as ArrayRef)));
    let failed = |error: &dyn std::fmt::Display| Failure::input(format!("cannot write {}: {error}", path.display()));
    let batch = RecordBatch::try_from_iter(columns).map_err(|error| failed(&error))?;
    let file = std::fs::File::create(path).map_err(|error| Failure::io("create", path, &error))?;
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).map_err(|error| failed(&error))?;
    writer.write(&batch).map_err(|error| failed(&error))?;
    writer.close().map_err(|error| failed(&error))?;
    Ok(())
}
