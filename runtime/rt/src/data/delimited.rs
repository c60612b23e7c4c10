//! csv and tsv. A tsv has no quotes; a csv has them as RFC 4180 says.

use super::lines::Lines;
use super::{Place, RowReader, TextRows};
use crate::failure::Failure;
use recc_abi::DataSpec;
use std::io::BufRead;
use std::path::Path;

pub(super) struct DelimitedRows {
    place: Place,
    lines: Lines,
    columns: Vec<String>,
    header: bool,
}

impl DelimitedRows {
    pub(super) fn new(path: &Path, reader: Box<dyn BufRead + Send>, delimiter: u8, spec: &DataSpec) -> Result<Self, Failure> {
        let header = spec.columns.is_none();
        let mut lines = Lines::new(reader, delimiter, delimiter == b',');
        let columns = match &spec.columns {
            Some(columns) => columns.clone(),
            None => {
                let mut found = TextRows::new(0);
                let failed =
                    |error| Failure::input(format!("{}: {error}\nhelp: the file is cut off or damaged; make it again", path.display()));
                lines.next(None, &mut found).map_err(failed)?;
                found.cells().map(|name| String::from_utf8_lossy(name).trim().to_owned()).collect()
            }
        };
        if columns.is_empty() || columns.iter().all(String::is_empty) {
            return Err(Failure::input(format!(
                "{}: the file is empty\nhelp: the first line names the columns; without one, name them in the spec: `data {{ columns: [...] }}`",
                path.display()
            )));
        }
        let mut sorted = columns.clone();
        sorted.sort();
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1] && !pair[0].is_empty()) {
            return Err(Failure::input(format!(
                "{}: two columns are named {:?}\nhelp: give each column of the header its own name; if the file has no header, name the columns in the spec: `data {{ columns: [...] }}`",
                path.display(),
                pair[0]
            )));
        }
        Ok(DelimitedRows { place: Place::new(path.display()), lines, columns, header })
    }
}

impl RowReader for DelimitedRows {
    fn columns(&self) -> &[String] {
        &self.columns
    }

    fn read(&mut self, rows: &mut TextRows) -> Result<bool, Failure> {
        let found = self.lines.next(Some(self.columns.len()), rows).map_err(|error| {
            Failure::input(format!(
                "{}: cannot be read on after row {}: {error}\nhelp: the file is cut off or damaged; make it again",
                self.place.source, self.place.row
            ))
        })?;
        let Some(cells) = found else { return Ok(false) };
        self.place.row += 1;
        if cells != self.columns.len() {
            let expected = if self.header { "the header has" } else { "the spec names" };
            return Err(Failure::input(format!(
                "{}: {cells} cells where {expected} {} columns\nhelp: look at that line; a missing or extra delimiter, or an unquoted one, shifts its cells",
                self.place,
                self.columns.len()
            )));
        }
        let is_name = |(cell, name): (&[u8], &String)| cell.trim_ascii() == name.as_bytes();
        if self.place.row == 1 && !self.header && rows.row(rows.len() - 1).iter().zip(&self.columns).all(is_name) {
            return Err(Failure::input(format!(
                "{}: the first line names the columns, and the spec says that the file has no header\nhelp: leave `columns` out of `data`, or remove that line",
                self.place.source
            )));
        }
        Ok(true)
    }

    fn place(&self) -> &Place {
        &self.place
    }
}
