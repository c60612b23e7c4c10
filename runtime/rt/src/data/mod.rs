//! Rows of text from files: csv, tsv, libsvm and parquet, plain or compressed, one after another, streamed.

mod delimited;
mod grouped;
mod libsvm;
mod lines;
mod parquet;
pub(crate) mod planted;
mod rows;

use crate::failure::Failure;
use recc_abi::{DataFormat, DataSpec, GROUPED};
pub(crate) use rows::{TextRow, TextRows};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

/// Rows that pass from the thread that reads to the one that works on them at a time.
const CHUNK: usize = 256;
/// Chunks in flight.
const CHUNKS: usize = 4;

/// Which part of the data: a draw has rows of its own for each, and rows that are left out one by one differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// What is learned from; of a draw all its rows.
    Train,
    /// What training watches; of a draw a tenth as many.
    Valid,
    /// What is measured at the end, and all data of `eval`; of a draw another tenth.
    Test,
}

/// Where a row stands: shown as the file, and the row once one was read.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    source: Arc<str>,
    /// From 1.
    row: u64,
    /// What each row is of, where it is made of several: `user "u1"`.
    names: Option<Arc<[String]>>,
}

impl Place {
    fn new(source: impl std::fmt::Display) -> Self {
        Place { source: source.to_string().into(), row: 0, names: None }
    }

    /// The row that comes `rows` rows later.
    pub(crate) fn after(&self, rows: usize) -> Place {
        Place { row: self.row + rows as u64, ..self.clone() }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.row.checked_sub(1).and_then(|row| self.names.as_ref()?.get(row as usize));
        match (self.row, name) {
            (0, _) => write!(f, "{}", self.source),
            (_, Some(name)) => write!(f, "{}, rows of {name}", self.source),
            (row, None) => write!(f, "{}, row {row}", self.source),
        }
    }
}

/// Neighbouring rows of one file.
struct Chunk {
    rows: TextRows,
    /// Where the first of them stands.
    first: Option<Place>,
}

/// Rows of one file.
pub(crate) trait RowReader: Send {
    /// Names of the cells of a row.
    fn columns(&self) -> &[String];
    /// Adds the next row to others, which have as many cells; false at the end.
    fn read(&mut self, rows: &mut TextRows) -> Result<bool, Failure>;
    /// Where the last row stands.
    fn place(&self) -> &Place;
}

/// The rows of several files, in order; they have the same columns.
pub(crate) struct Rows {
    files: std::vec::IntoIter<PathBuf>,
    spec: DataSpec,
    current: Option<Box<dyn RowReader>>,
    columns: Vec<String>,
    read: u64,
    limit: Option<u64>,
    /// Whether each row is a group of several.
    grouped: bool,
    /// Columns whose cells are kept.
    watched: Vec<usize>,
    /// Their cells, row by row.
    kept: Vec<Vec<String>>,
}

/// The first rows of a file as text.
#[derive(Debug, Default)]
pub struct Sample {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Cells, row by row.
    pub rows: Vec<Vec<String>>,
}

/// Reads the first rows of a data file with a header.
pub fn sample(path: &Path, count: u64, separator: Option<char>) -> Result<Sample, Failure> {
    let spec = DataSpec { separator, ..DataSpec::default() };
    let mut rows = Rows::open(&[path.display().to_string()], &spec, Some(count))?;
    let mut found = Sample { columns: rows.columns().to_vec(), rows: Vec::new() };
    let text = |cell: &[u8]| String::from_utf8_lossy(cell).into_owned();
    rows.for_each_chunk(|chunk, _| {
        found.rows.extend(chunk.iter().map(|row| row.iter().map(text).collect::<Vec<_>>()));
        Ok(())
    })?;
    Ok(found)
}

impl Rows {
    /// Opens files; `-` is standard input.
    pub(crate) fn open(paths: &[String], spec: &DataSpec, limit: Option<u64>) -> Result<Rows, Failure> {
        let mut files: std::vec::IntoIter<PathBuf> = paths.iter().map(PathBuf::from).collect::<Vec<_>>().into_iter();
        let Some(first) = files.next() else { return Err(Failure::usage("no data file is named")) };
        let current = open_file(&first, spec)?;
        Ok(Rows { files, spec: spec.clone(), ..Rows::drawn(current, limit) })
    }

    /// Opens files whose rows the spec may group.
    pub(crate) fn open_part(paths: &[String], spec: &DataSpec, part: Part, limit: Option<u64>) -> Result<Rows, Failure> {
        match &spec.group {
            None => Rows::open(paths, spec, limit),
            Some(group) => {
                let mut rows = Rows::open(paths, spec, None)?;
                let grouped = grouped::GroupedRows::new(&mut rows, spec, group, part)?;
                Ok(Rows { grouped: true, ..Rows::drawn(Box::new(grouped), limit) })
            }
        }
    }

    /// Rows drawn by the program itself.
    pub(crate) fn drawn(reader: Box<dyn RowReader>, limit: Option<u64>) -> Rows {
        let columns = reader.columns().to_vec();
        let files = Vec::new().into_iter();
        Rows {
            files,
            spec: DataSpec::default(),
            current: Some(reader),
            columns,
            read: 0,
            limit,
            grouped: false,
            watched: Vec::new(),
            kept: Vec::new(),
        }
    }

    pub(crate) fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Keeps the cells of some columns as they are read; those that the data lack are left out.
    pub(crate) fn keep(&mut self, names: &mut Vec<String>) {
        names.retain(|name| self.columns.contains(name));
        self.watched = names.iter().filter_map(|name| self.columns.iter().position(|column| column == name)).collect();
    }

    /// Whether each row is a group of several.
    pub(crate) fn is_grouped(&self) -> bool {
        self.grouped
    }

    /// What was kept, row by row.
    pub(crate) fn take_kept(&mut self) -> Vec<Vec<String>> {
        std::mem::take(&mut self.kept)
    }

    /// Reads all rows on a thread of its own, while `work` gets those read before, in order: neighbours of one file, and where the
    /// first of them stands.
    pub(crate) fn for_each_chunk(&mut self, mut work: impl FnMut(&TextRows, &Place) -> Result<(), Failure>) -> Result<(), Failure> {
        let (grouped, watched, mut kept) = (self.grouped, self.watched.clone(), Vec::new());
        let result = std::thread::scope(|scope| {
            let (send, receive) = sync_channel::<Result<Chunk, Failure>>(CHUNKS);
            let (give_back, spent) = sync_channel::<Chunk>(CHUNKS);
            let own = &mut *self;
            scope.spawn(move || {
                loop {
                    let mut chunk = spent.try_recv().unwrap_or_else(|_| Chunk { rows: TextRows::new(own.columns.len()), first: None });
                    let more = own.fill(&mut chunk);
                    // Rows before one that cannot be read come first. A worker that stopped hears no more.
                    if !chunk.rows.is_empty() && send.send(Ok(chunk)).is_err() {
                        return;
                    }
                    match more {
                        Ok(true) => {}
                        Ok(false) => return,
                        Err(failure) => return drop(send.send(Err(failure))),
                    }
                }
            });
            while let Ok(chunk) = receive.recv() {
                let chunk = chunk?;
                if !watched.is_empty() {
                    let text = |row: TextRow<'_>, at: usize| {
                        let cell = row.cell(at);
                        String::from_utf8_lossy(if grouped { last_of_group(cell) } else { cell }).into_owned()
                    };
                    kept.extend(chunk.rows.iter().map(|row| watched.iter().map(|&at| text(row, at)).collect::<Vec<_>>()));
                }
                if let Some(first) = &chunk.first {
                    work(&chunk.rows, first)?;
                }
                // Full when the reader is ahead by all chunks: one less to keep.
                drop(give_back.try_send(chunk));
            }
            Ok(())
        });
        self.kept.append(&mut kept);
        result
    }

    /// Fills a chunk with rows of one file; false at the end of all.
    fn fill(&mut self, chunk: &mut Chunk) -> Result<bool, Failure> {
        chunk.rows.clear();
        while let Some(current) = &mut self.current {
            while chunk.rows.len() < CHUNK {
                if self.limit.is_some_and(|limit| self.read >= limit) {
                    return Ok(false);
                }
                if !current.read(&mut chunk.rows)? {
                    break;
                }
                if chunk.rows.len() == 1 {
                    chunk.first = Some(current.place().clone());
                }
                self.read += 1;
            }
            if !chunk.rows.is_empty() {
                return Ok(true);
            }
            let Some(next) = self.files.next() else { return Ok(false) };
            self.open_next(&next)?;
        }
        Ok(false)
    }

    fn open_next(&mut self, path: &Path) -> Result<(), Failure> {
        let reader = open_file(path, &self.spec)?;
        if reader.columns() != self.columns {
            let message = format!(
                "{}: its columns are {}, those of the first file {}",
                path.display(),
                reader.columns().join(", "),
                self.columns.join(", ")
            );
            return Err(Failure::input(format!("{message}\nhelp: files read together have the same columns in the same order")));
        }
        self.current = Some(reader);
        Ok(())
    }

    /// The file that is read.
    fn source(&self) -> String {
        self.current.as_ref().map(|current| current.place().source.to_string()).unwrap_or_default()
    }

    /// Where the last row read stands.
    pub(crate) fn place(&self) -> String {
        self.current.as_ref().map(|current| current.place().to_string()).unwrap_or_default()
    }
}

/// Of the rows of a group one value is that of the last.
pub(crate) fn last_of_group(cell: &[u8]) -> &[u8] {
    cell.rsplit(|byte| GROUPED.as_bytes().contains(byte)).next().unwrap_or(cell)
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
    const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();
    if head.starts_with(BYTE_ORDER_MARK) {
        reader.consume(BYTE_ORDER_MARK.len());
    }
    match format {
        DataFormat::Libsvm => Ok(Box::new(libsvm::LibsvmRows::new(path, reader, spec)?)),
        DataFormat::Tsv | DataFormat::Csv | DataFormat::Parquet => {
            let usual = if format == DataFormat::Tsv { b'\t' } else { b',' };
            let delimiter = spec.separator.map_or(usual, |sign| sign as u8);
            Ok(Box::new(delimited::DelimitedRows::new(path, reader, delimiter, spec)?))
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Places of all rows, and why reading or working stopped.
    fn places(files: &[(&str, String)], stop_at: Option<&[u8]>) -> (Vec<String>, Option<String>) {
        let folder = tempfile::tempdir().expect("folder");
        let paths: Vec<String> = files
            .iter()
            .map(|(name, text)| {
                let path = folder.path().join(name);
                std::fs::write(&path, text).expect("file");
                path.display().to_string()
            })
            .collect();
        let mut rows = Rows::open(&paths, &DataSpec::default(), None).expect("rows");
        let mut seen = Vec::new();
        let result = rows.for_each_chunk(|rows, first| {
            for (at, row) in rows.iter().enumerate() {
                let place = first.after(at).to_string();
                if Some(row.cell(0)) == stop_at {
                    return Err(Failure::input(place));
                }
                let name = place.rsplit('/').next().unwrap_or_default();
                seen.push(format!("{name}: {}", String::from_utf8_lossy(row.cell(0))));
            }
            Ok(())
        });
        (seen, result.err().map(|failure| failure.to_string()))
    }

    fn file(first: usize, rows: usize) -> String {
        std::iter::once("a,b".to_owned()).chain((first..first + rows).map(|at| format!("{at},x"))).map(|line| line + "\n").collect()
    }

    #[test]
    fn rows_keep_their_order_and_place_over_chunks_and_files() {
        let first = 2 * CHUNK + 3;
        let (seen, failure) = places(&[("1.csv", file(0, first)), ("2.csv", file(first, 0)), ("3.csv", file(first, CHUNK))], None);
        let place =
            |at: usize| if at < first { format!("1.csv, row {}: {at}", at + 1) } else { format!("3.csv, row {}: {at}", at - first + 1) };
        assert_eq!(seen, (0..first + CHUNK).map(place).collect::<Vec<_>>());
        assert_eq!(failure, None);
    }

    #[test]
    fn rows_before_one_that_cannot_be_read_are_worked_on() {
        let (seen, failure) = places(&[("1.csv", file(0, CHUNK + 5) + "only one cell\n")], None);
        assert_eq!(seen.len(), CHUNK + 5);
        let failure = failure.expect("refused");
        assert!(failure.contains(&format!("1.csv, row {}: 1 cells", CHUNK + 6)), "{failure}");
    }

    #[test]
    fn a_worker_that_stops_stops_the_reader() {
        let (seen, failure) = places(&[("1.csv", file(0, 100 * CHUNK))], Some(b"7"));
        assert_eq!(seen.len(), 7);
        assert!(failure.expect("stopped").ends_with("1.csv, row 8"));
    }

    #[test]
    fn a_byte_order_mark_is_part_of_no_cell() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("1.csv");
        std::fs::write(&path, "\u{feff}a,b\n1,2\n").expect("file");
        for (columns, wanted) in [(None, "1"), (Some(vec!["c".to_owned(), "d".to_owned()]), "a")] {
            let spec = DataSpec { columns: columns.clone(), ..DataSpec::default() };
            let mut rows = Rows::open(&[path.display().to_string()], &spec, Some(1)).expect("rows");
            assert_eq!(rows.columns()[0], columns.map_or("a".to_owned(), |columns| columns[0].clone()));
            let check = |rows: &TextRows, _: &Place| {
                assert_eq!(rows.row(0).cell(0), wanted.as_bytes());
                Ok(())
            };
            rows.for_each_chunk(check).expect("a row");
        }
    }
}
