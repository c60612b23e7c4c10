//! Rows of text from files: csv, tsv, libsvm and parquet, plain or compressed, one after another, streamed.

mod delimited;
mod libsvm;
mod parquet;
pub(crate) mod planted;

use crate::failure::Failure;
use csv::ByteRecord;
use recc_abi::{DataFormat, DataSpec};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// Rows of one file.
pub(crate) trait RowReader: Send {
    /// Names of the cells of a row.
    fn columns(&self) -> &[String];
    /// Reads the next row; false at the end.
    fn read(&mut self, row: &mut ByteRecord) -> Result<bool, Failure>;
    /// Where the last row stands.
    fn place(&self) -> String;
}

/// The rows of several files, in order; they have the same columns.
pub(crate) struct Rows {
    files: std::vec::IntoIter<PathBuf>,
    spec: DataSpec,
    current: Option<Box<dyn RowReader>>,
    columns: Vec<String>,
    read: u64,
    limit: Option<u64>,
}

impl Rows {
    /// Opens files; `-` is standard input.
    pub(crate) fn open(paths: &[String], spec: &DataSpec, limit: Option<u64>) -> Result<Rows, Failure> {
        let mut files: std::vec::IntoIter<PathBuf> = paths.iter().map(PathBuf::from).collect::<Vec<_>>().into_iter();
        let Some(first) = files.next() else { return Err(Failure::usage("no data file is named")) };
        let current = open_file(&first, spec)?;
        let columns = current.columns().to_vec();
        Ok(Rows { files, spec: spec.clone(), current: Some(current), columns, read: 0, limit })
    }

    /// Rows drawn by the program itself.
    pub(crate) fn drawn(reader: Box<dyn RowReader>, limit: Option<u64>) -> Rows {
        let columns = reader.columns().to_vec();
        Rows { files: Vec::new().into_iter(), spec: DataSpec::default(), current: Some(reader), columns, read: 0, limit }
    }

    pub(crate) fn columns(&self) -> &[String] {
        &self.columns
    }

    pub(crate) fn read(&mut self, row: &mut ByteRecord) -> Result<bool, Failure> {
        if self.limit.is_some_and(|limit| self.read >= limit) {
            return Ok(false);
        }
        while let Some(current) = &mut self.current {
            if current.read(row)? {
                self.read += 1;
                return Ok(true);
            }
            let Some(next) = self.files.next() else { return Ok(false) };
            let reader = open_file(&next, &self.spec)?;
            if reader.columns() != self.columns {
                let message = format!(
                    "{}: its columns are {}, those of the first file {}",
                    next.display(),
                    reader.columns().join(", "),
                    self.columns.join(", ")
                );
                return Err(Failure::input(format!("{message}\nhelp: files read together have the same columns in the same order")));
            }
            self.current = Some(reader);
        }
        Ok(false)
    }

    pub(crate) fn place(&self) -> String {
        self.current.as_ref().map(|current| current.place()).unwrap_or_default()
    }
}

fn open_file(path: &Path, spec: &DataSpec) -> Result<Box<dyn RowReader>, Failure> {
    if path.is_dir() {
        return Err(Failure::input(format!("{}: is a folder\nhelp: name the files in it: {}/*", path.display(), path.display())));
    }
    let format = format_of(path, spec)?;
    if format == DataFormat::Parquet {
        return Ok(Box::new(parquet::ParquetRows::open(path)?));
    }
    let stream: Box<dyn Read + Send> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(File::open(path).map_err(|error| Failure::io("open", path, &error))?)
    };
    let mut reader = decompressed(stream).map_err(|error| Failure::io("read", path, &error))?;
    let head = reader.fill_buf().map_err(|error| Failure::io("read", path, &error))?;
    if head.starts_with(&[0xff, 0xfe]) || head.starts_with(&[0xfe, 0xff]) {
        return Err(Failure::input(format!("{}: is UTF-16 text\nhelp: save it as UTF-8", path.display())));
    }
    match format {
        DataFormat::Libsvm => Ok(Box::new(libsvm::LibsvmRows::new(path, reader, spec)?)),
        DataFormat::Tsv => Ok(Box::new(delimited::DelimitedRows::new(path, reader, b'\t', spec)?)),
        DataFormat::Csv | DataFormat::Parquet => Ok(Box::new(delimited::DelimitedRows::new(path, reader, b',', spec)?)),
    }
}

/// A file, and the row once one was read.
fn place(path: &Path, row: u64) -> String {
    if row == 0 { path.display().to_string() } else { format!("{}, row {row}", path.display()) }
}

/// The format by the file's name, else by the spec.
fn format_of(path: &Path, spec: &DataSpec) -> Result<DataFormat, Failure> {
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let plain = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(&name);
    let by_name =
        [(".csv", DataFormat::Csv), (".tsv", DataFormat::Tsv), (".libsvm", DataFormat::Libsvm), (".parquet", DataFormat::Parquet)];
    let found = by_name.into_iter().find(|(ending, _)| plain.ends_with(ending)).map(|(_, format)| format);
    found.or(spec.format).or((name == "-").then_some(DataFormat::Csv)).ok_or_else(|| {
        Failure::input(format!("{}: the name does not say the format\nhelp: name it .csv, .tsv, .libsvm or .parquet (text also .gz or .zst), or set `data {{ format: … }}` in the spec", path.display()))
    })
}

/// Plain text of a stream that may be gzip or zstd, known by its first bytes.
fn decompressed(stream: Box<dyn Read + Send>) -> std::io::Result<Box<dyn BufRead + Send>> {
    let mut reader = BufReader::with_capacity(1 << 18, stream);
    let head = reader.fill_buf()?;
    if head.starts_with(&[0x1f, 0x8b]) {
        return Ok(Box::new(BufReader::with_capacity(1 << 18, flate2::bufread::MultiGzDecoder::new(reader))));
    }
    if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        return Ok(Box::new(BufReader::with_capacity(1 << 18, zstd::Decoder::with_buffer(reader)?)));
    }
    Ok(Box::new(reader))
}
