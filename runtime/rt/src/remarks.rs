//! What of the training data is probably not as meant: columns that say nothing, and numbers that outweigh all others.

use crate::transform::Fitted;
use recc_abi::{ColumnKind, Encoder, InputSource, Program, Token};

/// Numbers without a transform are expected below this.
const LARGE: f32 = 1000.0;
/// The logarithm of numbers above this, such as times in seconds, hardly tells them apart.
const HUGE: f32 = 1e6;
/// More remarks than these are counted.
const MOST: usize = 8;

/// What each word of the records is in all rows together.
#[derive(Debug, Default)]
pub(crate) struct Extent {
    rows: usize,
    /// Of the first row.
    first: Vec<u32>,
    /// Bits in which another row differs from it.
    differs: Vec<u32>,
    /// The largest of them without their sign: of numbers the one farthest from 0.
    largest: Vec<u32>,
}

impl Extent {
    /// Takes records in.
    pub(crate) fn add(&mut self, words: &[u32], width: usize) {
        if self.first.is_empty() {
            self.first.extend_from_slice(words.get(..width).unwrap_or_default());
            self.differs.resize(self.first.len(), 0);
            self.largest.resize(self.first.len(), 0);
        }
        self.rows += words.len() / width.max(1);
        for record in words.chunks_exact(width.max(1)) {
            let kept = self.first.iter().zip(&mut self.differs).zip(&mut self.largest);
            for (word, ((first, differs), largest)) in record.iter().zip(kept) {
                *differs |= word ^ first;
                *largest = (*largest).max(word & 0x7fff_ffff);
            }
        }
    }
}

/// What is to be said of the columns that a model reads; `layout` has the first word of each.
pub(crate) fn remarks(program: &Program, fitted: &Fitted, extent: &Extent, layout: &[usize]) -> Vec<String> {
    let mut found = Vec::new();
    if extent.rows < 2 {
        return found;
    }
    for (at, (column, &word)) in program.columns.iter().zip(layout).enumerate() {
        let (Some(first), Token::Column(_)) = (extent.first.get(word), &column.token) else { continue };
        let (name, same) = (&column.name, extent.differs[word] == 0);
        match &column.kind {
            ColumnKind::Label { .. } if same => {
                found.push(format!("every `{name}` is {}: nothing can be learned from it", f32::from_bits(*first)));
            }
            ColumnKind::Number(_) if same => found.push(format!("every `{name}` is {}, which says nothing", f32::from_bits(*first))),
            ColumnKind::Number(reading) if reading.raw && column.domain.is_none() && reads(program, at) => {
                let largest = f32::from_bits(extent.largest[word]);
                if largest > LARGE {
                    let negative = (first | extent.differs[word]) >> 31 == 1;
                    let sign = if negative { "±" } else { "" };
                    let cure = if negative || largest > HUGE { "standardize" } else { "log1p" };
                    found.push(format!(
                        "`{name}` reaches {sign}{largest} and has no transform; `|> {cure}` behind its column brings it to the size of others"
                    ));
                }
            }
            ColumnKind::Id { encoder } | ColumnKind::Ids { encoder, .. } if fitted.vocabs[at].len() == 0 && learns(encoder) > 0 => {
                let least = learns(encoder);
                found.push(format!("no value of `{name}` is seen {least} times or more: all are unknown"));
            }
            ColumnKind::Id { .. } if same => found.push(format!("every `{name}` is the same, which says nothing")),
            _ => {}
        }
    }
    if found.len() > MOST {
        let more = found.len() - MOST;
        found.truncate(MOST);
        found.push(format!("{more} more columns are like these"));
    }
    found
}

/// How often a value is seen at least to be in a column's dictionary; 0 where it learns none.
fn learns(encoder: &Encoder) -> u32 {
    match encoder.numbering() {
        Encoder::Vocab { min_count } => (*min_count).max(1),
        _ => 0,
    }
}

/// Whether the training step is given a column's numbers.
fn reads(program: &Program, column: usize) -> bool {
    let holds = |source: &InputSource| matches!(source, InputSource::Numbers { columns } if columns.contains(&(column as u32)));
    program.step.inputs.iter().any(|input| holds(&input.source))
}
