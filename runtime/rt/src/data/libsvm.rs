//! libsvm: `label index:value index:value …`. The cells of a row are the label and the value of each column; what a line leaves out is empty.

use super::{Place, RowReader, TextRows};
use crate::failure::Failure;
use recc_abi::DataSpec;
use std::io::BufRead;
use std::path::Path;

pub(super) struct LibsvmRows {
    place: Place,
    reader: Box<dyn BufRead + Send>,
    columns: Vec<String>,
    line: String,
}

impl LibsvmRows {
    pub(super) fn new(path: &Path, reader: Box<dyn BufRead + Send>, spec: &DataSpec) -> Result<Self, Failure> {
        let Some(columns) = spec.columns.clone() else {
            return Err(Failure::input(format!(
                "{}: a libsvm file does not name its columns\nhelp: name them in the spec, the label first and then one name per index from 1: `data {{ columns: [label, f[1..=20]] }}`",
                path.display()
            )));
        };
        Ok(LibsvmRows { place: Place::new(path.display()), reader, columns, line: String::new() })
    }

    fn fail(&self, text: &str) -> Failure {
        Failure::input(format!(
            "{}: {text}\nhelp: a line is `label index:value index:value …`, with indices from 1 to {}",
            self.place,
            self.columns.len() - 1
        ))
    }
}

impl RowReader for LibsvmRows {
    fn columns(&self) -> &[String] {
        &self.columns
    }

    fn read(&mut self, rows: &mut TextRows) -> Result<bool, Failure> {
        loop {
            self.line.clear();
            let read = self.reader.read_line(&mut self.line).map_err(|error| {
                Failure::input(format!("{}: cannot be read on after row {}: {error}", self.place.source, self.place.row))
            })?;
            if read == 0 {
                return Ok(false);
            }
            if !self.line.trim().is_empty() {
                break;
            }
        }
        self.place.row += 1;
        let text = self.line.split('#').next().unwrap_or("");
        let mut parts = text.split_ascii_whitespace();
        let mut cells: Vec<&str> = vec![""; self.columns.len()];
        cells[0] = parts.next().unwrap_or("");
        for part in parts {
            let Some((index, value)) = part.split_once(':') else { return Err(self.fail(&format!("{part:?} is no index:value"))) };
            match index.parse::<usize>() {
                Ok(index) if index >= 1 && index < cells.len() => cells[index] = value,
                _ => return Err(self.fail(&format!("there is no column with index {index:?}"))),
            }
        }
        cells.iter().for_each(|cell| rows.push(cell.as_bytes()));
        Ok(true)
    }

    fn place(&self) -> &Place {
        &self.place
    }
}
