//! From the text of a row to numbers: the same code for training, evaluation, scoring and serving.
//!
//! A transformed row is a record of 32-bit words: a number is one word, an id one, a key two (a 64-bit hash), a bag four (where its
//! entries begin, in two words, how many there are, and how many of those come before the ones that are taken). While a dictionary is being learned ids are provisional, in order of first
//! appearance; [`Ids::row`] turns them into rows.

use crate::data::{Place, Rows, TextRow, TextRows, last_of_group};
use crate::failure::Failure;
use crate::vocab::Vocab;
use recc_abi::{Column, ColumnKind, Encoder, GROUPED, Reading, Split, Token};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Whole numbers below this, most counts, find their interval in a table.
const COUNTS: u16 = 256;

/// Stands for a value that has no row of its own.
const NOTHING: u32 = u32::MAX;

/// Sums for a mean and a deviation (Welford).
#[derive(Debug, Default, Clone, Copy)]
struct Moments {
    n: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    fn add(&mut self, value: f64) {
        self.n += 1.0;
        let delta = value - self.mean;
        self.mean += delta / self.n;
        self.squares += delta * (value - self.mean);
    }

    fn finish(self) -> (f64, f64) {
        let deviation = (self.squares / self.n.max(1.0)).sqrt();
        (self.mean, if deviation > 0.0 { deviation } else { 1.0 })
    }
}

/// What the ids of a column's records are.
#[derive(Debug, Default, Clone)]
pub(crate) enum Ids {
    /// Rows.
    #[default]
    Rows,
    /// Places in a dictionary all of whose values have rows.
    All,
    /// Places in a dictionary some of whose values have rows: the row of each.
    Some(Vec<u32>),
}

impl Ids {
    /// The row of an id as records hold it.
    pub(crate) fn row(&self, id: u32) -> u32 {
        match self {
            Ids::Rows => id,
            // What stands for no value becomes row 0.
            Ids::All => id.wrapping_add(1),
            Ids::Some(rows) => rows.get(id as usize).copied().unwrap_or(0),
        }
    }
}

/// What was learned from training data.
#[derive(Debug, Default, Clone)]
pub(crate) struct Fitted {
    /// By column; empty where a column has none of its own.
    pub(crate) vocabs: Vec<Arc<Vocab>>,
    /// Mean and deviation by column.
    pub(crate) moments: Vec<(f64, f64)>,
    /// Quantiles that conditions compare with: column, share, value.
    pub(crate) quantiles: Vec<(u32, f64, f32)>,
    /// Whether nothing was learned, because rows are drawn: conditions then hold for whatever rows they happen to hold for.
    pub(crate) drawn: bool,
    /// What the ids of records are, by column.
    ids: Vec<Ids>,
}

impl Fitted {
    /// Restores what a checkpoint holds.
    pub(crate) fn restored(vocabs: Vec<Vocab>, moments: Vec<(f64, f64)>, quantiles: Vec<(u32, f64, f32)>) -> Self {
        let ids = vec![Ids::Rows; vocabs.len()];
        Fitted { vocabs: vocabs.into_iter().map(Arc::new).collect(), moments, quantiles, drawn: false, ids }
    }

    /// The same for records whose ids are rows already: every record but those that were learned from.
    pub(crate) fn settled(&self) -> Self {
        Fitted { ids: vec![Ids::Rows; self.vocabs.len()], ..self.clone() }
    }

    /// The dictionary a column uses.
    pub(crate) fn vocab_column(columns: &[Column], column: usize) -> usize {
        match columns[column].kind.numbering() {
            Some(Encoder::VocabOf(other)) => *other as usize,
            _ => column,
        }
    }

    /// Rows of a table that a column's ids reach, row 0 included.
    pub(crate) fn row_count(&self, columns: &[Column], column: usize) -> u64 {
        let all = self.numbered(columns, column);
        match columns[column].kind.encoder().and_then(Encoder::part) {
            Some((part, divisor)) => 1 + part.reached(all - 1, divisor),
            None => all,
        }
    }

    /// Ids that a column numbers, that of unseen values included; none if it has no ids.
    pub(crate) fn numbered(&self, columns: &[Column], column: usize) -> u64 {
        match columns[column].kind.numbering() {
            Some(numbering) => {
                1 + numbering.rows_reached().unwrap_or_else(|| self.vocabs[Self::vocab_column(columns, column)].len() as u64)
            }
            None => 0,
        }
    }

    /// The value of a column that a share of the training rows does not exceed, if it was learned.
    pub(crate) fn quantile(&self, column: u32, share: f64) -> Option<f64> {
        let found = self.quantiles.iter().find(|(own, own_share, _)| *own == column && *own_share == share);
        found.map(|(_, _, value)| f64::from(*value))
    }

    /// What the ids of a dictionary's records are.
    pub(crate) fn ids(&self, vocab: usize) -> &Ids {
        &self.ids[vocab]
    }
}

/// Rows as records.
#[derive(Default)]
pub(crate) struct Records {
    pub(crate) words: Vec<u32>,
    /// Entries of bags.
    pub(crate) bags: Vec<u32>,
}

/// Turns rows into records.
pub(crate) struct Transformer<'p> {
    columns: &'p [Column],
    /// Whether rows are groups of several.
    grouped: bool,
    /// Cell of each column; none for a cross, or for a label that is not needed.
    cells: Vec<Option<usize>>,
    /// First word of each column's part of a record.
    pub(crate) layout: Vec<usize>,
    pub(crate) width: usize,
    learning: bool,
    pub(crate) fitted: Fitted,
    /// Dictionaries being learned, by column.
    learned: Vec<Vocab>,
    moments: Vec<Moments>,
    token: Vec<u8>,
    /// Where the numbers of the cell of a vector begin and end.
    parts: Vec<Range<usize>>,
    /// Entries of the row's cell, by column.
    counts: Vec<usize>,
    /// Sequences of which the entries before those taken are remembered too: what a row has seen is not recommended.
    remembered: BTreeSet<u32>,
    /// The interval of each small whole number, by column.
    intervals_of_counts: Vec<Vec<u32>>,
    /// Columns that are a word of a dictionary of their own, columns of intervals, and columns of all other kinds.
    words: Vec<usize>,
    intervals: Vec<usize>,
    others: Vec<usize>,
}

/// Words of a column's part of a record.
fn words_of(kind: &ColumnKind) -> usize {
    match kind {
        ColumnKind::Label { .. } | ColumnKind::Number(_) | ColumnKind::Time | ColumnKind::Id { .. } => 1,
        ColumnKind::Key => 2,
        ColumnKind::Ids { .. } | ColumnKind::Numbers { .. } => 4,
        ColumnKind::Flag { .. } | ColumnKind::Drawn { .. } => 0,
    }
}

/// A number of 64 bits in two words of a record.
pub(crate) fn long(record: &[u32], at: usize) -> u64 {
    u64::from(record[at]) | u64::from(record[at + 1]) << 32
}

/// The entries of a row's bag that are taken, among those of all rows.
pub(crate) fn taken_entries<'b>(record: &[u32], part: usize, bags: &'b [u32]) -> &'b [u32] {
    &stored_entries(record, part, bags)[record[part + 3] as usize..]
}

/// The same with those before, where they are remembered.
pub(crate) fn stored_entries<'b>(record: &[u32], part: usize, bags: &'b [u32]) -> &'b [u32] {
    let start = long(record, part) as usize;
    &bags[start..start + record[part + 2] as usize]
}

/// Writes a number of 64 bits as two words.
pub(crate) fn set_long(record: &mut [u32], at: usize, value: u64) {
    record[at] = value as u32;
    record[at + 1] = (value >> 32) as u32;
}

/// First word of each column's part of a record, and the words of a record.
pub(crate) fn record_layout(columns: &[Column]) -> (Vec<usize>, usize) {
    let mut width = 0;
    let layout = columns.iter().map(|column| {
        let first = width;
        width += words_of(&column.kind);
        first
    });
    (layout.collect(), width)
}

impl<'p> Transformer<'p> {
    /// Learns from the rows it transforms.
    pub(crate) fn learning(columns: &'p [Column], data: &Rows) -> Result<Self, Failure> {
        Self::new(columns, data, None, &|_| true)
    }

    /// Uses what was learned.
    pub(crate) fn fitted(columns: &'p [Column], data: &Rows, fitted: Fitted) -> Result<Self, Failure> {
        Self::new(columns, data, Some(fitted), &|_| true)
    }

    /// Uses what was learned to score: reads only the columns that scoring does.
    pub(crate) fn scoring(columns: &'p [Column], data: &Rows, fitted: Fitted, read: &dyn Fn(u32) -> bool) -> Result<Self, Failure> {
        Self::new(columns, data, Some(fitted), read)
    }

    fn new(columns: &'p [Column], data: &Rows, fitted: Option<Fitted>, read: &dyn Fn(u32) -> bool) -> Result<Self, Failure> {
        let mut cells = Vec::new();
        for (column, at) in columns.iter().zip(0..) {
            let Some(name) = column.token.column() else {
                cells.push(None);
                continue;
            };
            let found = data.columns().iter().position(|known| known == name);
            let optional = !read(at);
            if found.is_none() && !optional {
                let message = format!("{}: there is no column {name:?}, which `{}` reads", data.place(), column.name);
                return Err(Failure::input(format!("{message}\nhelp: {}", header_help(name, data.columns()))));
            }
            cells.push(if optional { None } else { found });
        }
        let (layout, width) = record_layout(columns);
        let learning = fitted.is_none();
        let is_shared = |own: usize| columns.iter().any(|other| other.kind.numbering() == Some(&Encoder::VocabOf(own as u32)));
        // Columns whose cells are found together, one column after another.
        let is_alone = |at: usize| matches!(columns[at].token, Token::Column(_)) && cells[at].is_some() && !data.is_grouped();
        let id = |at: usize| columns[at].kind.numbering().filter(|_| matches!(columns[at].kind, ColumnKind::Id { .. }));
        let is_word = |&at: &usize| matches!(id(at), Some(Encoder::Vocab { .. })) && is_alone(at) && !is_shared(at);
        let is_interval = |&at: &usize| matches!(id(at), Some(Encoder::Bucket { .. })) && is_alone(at);
        let (words, others): (_, Vec<usize>) = (0..columns.len()).partition(is_word);
        let (intervals, others) = others.into_iter().partition(is_interval);
        let fitted = fitted.unwrap_or_else(|| Fitted {
            vocabs: vec![Arc::default(); columns.len()],
            moments: vec![(0.0, 1.0); columns.len()],
            quantiles: Vec::new(),
            drawn: false,
            ids: vec![Ids::Rows; columns.len()],
        });
        Ok(Transformer {
            columns,
            grouped: data.is_grouped(),
            cells,
            layout,
            width,
            learning,
            fitted,
            learned: vec![Vocab::default(); columns.len()],
            moments: vec![Moments::default(); columns.len()],
            token: Vec::new(),
            parts: Vec::new(),
            counts: vec![0; columns.len()],
            remembered: BTreeSet::new(),
            intervals_of_counts: columns.iter().map(intervals_of_counts).collect(),
            words,
            intervals,
            others,
        })
    }

    /// Also remembers the entries before those that are taken, of some sequences.
    pub(crate) fn remembering(self, remembered: BTreeSet<u32>) -> Self {
        Transformer { remembered, ..self }
    }

    /// Neighbouring rows as records, one after another.
    pub(crate) fn chunk(&mut self, rows: &TextRows, first: &Place, out: &mut Records) -> Result<(), Failure> {
        out.words.clear();
        out.words.resize(rows.len() * self.width, 0);
        out.bags.clear();
        for at in 0..self.words.len() {
            self.word_of_each(self.words[at], rows, &mut out.words);
        }
        // The first row with a cell that has no interval: what is wrong in rows before it comes first, and of a row the interval.
        let mut end = (rows.len(), None);
        for &at in &self.intervals {
            if let Err((row, wrong)) = self.interval_of_each(at, rows, &mut out.words)
                && row < end.0
            {
                end = (row, Some((at, wrong)));
            }
        }
        for (at, (row, record)) in rows.iter().zip(out.words.chunks_exact_mut(self.width.max(1))).enumerate().take(end.0) {
            for other in 0..self.others.len() {
                let number = self.others[other];
                self.cell(number, row, record, &mut out.bags).map_err(|wrong| problem(&first.after(at), &self.columns[number], &wrong))?;
            }
        }
        match end {
            (row, Some((at, wrong))) => Err(problem(&first.after(row), &self.columns[at], &wrong)),
            _ => Ok(()),
        }
    }

    /// Writes the part of a column of words, which are found together, in the records of neighbouring rows.
    fn word_of_each(&mut self, at: usize, rows: &TextRows, records: &mut [u32]) {
        let Some(cell) = self.cells[at] else { return };
        let (part, width) = (self.layout[at], self.width);
        let cells = rows.column(cell).map(<[u8]>::trim_ascii).enumerate();
        let words = cells.filter(|(_, cell)| !cell.is_empty());
        if self.learning {
            records.iter_mut().skip(part).step_by(width).for_each(|id| *id = NOTHING);
            self.learned[at].learn_each(words, |row, id| records[row * width + part] = id);
        } else {
            self.fitted.vocabs[at].row_each(words, |row, id| records[row * width + part] = id);
        }
    }

    /// Writes the part of a column of intervals in the records of neighbouring rows, up to a row whose cell has none.
    fn interval_of_each(&self, at: usize, rows: &TextRows, records: &mut [u32]) -> Result<(), (usize, Wrong)> {
        let (Some(cell), Some(Encoder::Bucket { bounds })) = (self.cells[at], self.columns[at].kind.encoder()) else { return Ok(()) };
        for (row, cell) in rows.column(cell).map(<[u8]>::trim_ascii).enumerate() {
            if !cell.is_empty() {
                records[row * self.width + self.layout[at]] = self.interval(at, bounds, cell).map_err(|wrong| (row, wrong))?;
            }
        }
        Ok(())
    }

    /// The interval of a cell's number.
    fn interval(&self, at: usize, bounds: &[f64], cell: &[u8]) -> Result<u32, Wrong> {
        let value = number(cell).map_err(|text| wrong(cell, text))?;
        // A fraction is cut off, and then differs.
        Ok(match self.intervals_of_counts[at].get(value as usize) {
            Some(interval) if value as usize as f32 == value => *interval,
            _ => interval(bounds, value),
        })
    }

    /// Writes a column's part of a record; entries of a bag go to `bags`.
    fn cell(&mut self, at: usize, row: TextRow<'_>, record: &mut [u32], bags: &mut Vec<u32>) -> Result<(), Wrong> {
        let column = &self.columns[at];
        let part = self.layout[at];
        let cell = match self.cells[at] {
            Some(cell) => row.cell(cell).trim_ascii(),
            None => b"",
        };
        let absent = self.cells[at].is_none() && column.token.column().is_some();
        let sequence = column.kind.split().is_some_and(|split| split.separator == GROUPED);
        let cell = if self.grouped && !sequence { last_of_group(cell) } else { cell };
        let cell = match &column.token {
            Token::Part { separator, at, count, .. } if !absent => vector_part(&mut self.parts, cell, separator, *at, *count)?,
            _ => cell,
        };
        match &column.kind {
            ColumnKind::Flag { .. } | ColumnKind::Drawn { .. } => {}
            // Nobody reads it.
            _ if absent => {}
            ColumnKind::Label { binary } => {
                let value = label(cell, *binary).and_then(|value| in_domain(column, value));
                record[part] = value.map_err(|text| wrong(cell, text))?.to_bits();
            }
            ColumnKind::Number(reading) => {
                record[part] = self.number(at, reading, cell, "say what stands for it: `|> fill(0)` in the spec")?.to_bits();
            }
            ColumnKind::Time => record[part] = time(cell).map_err(|text| wrong(cell, text))?,
            ColumnKind::Key => set_long(record, part, xxh3_64(cell)),
            ColumnKind::Id { encoder } => {
                record[part] = match &column.token {
                    Token::Column(_) => self.encode(at, encoder, cell)?,
                    Token::Cross(parts) => self.cross(at, encoder, parts, row)?,
                    Token::Condition | Token::Part { .. } => 0,
                };
            }
            ColumnKind::Ids { split, encoder, .. } => {
                let taken = self.entries_of(at, split, cell)?;
                let start = bags.len() as u64;
                let before = if self.remembered.contains(&(at as u32)) { taken.start } else { 0 };
                for token in tokens(cell, &split.separator).take(taken.end).skip(taken.start - before) {
                    let (token, _) = weighted(split, token.trim_ascii())?;
                    bags.push(self.encode(at, encoder, token)?);
                }
                set_entries(record, part, start, bags);
                record[part + 3] = before as u32;
            }
            ColumnKind::Numbers { split, times, reading } => {
                // One step without a number is an empty cell.
                let missing =
                    reading.fill.is_some() && cell.is_empty() && split.aligned.is_some_and(|other| self.counts[other as usize] == 1);
                let taken = if missing { 0..0 } else { self.entries_of(at, split, cell)? };
                let found = tokens(cell, &split.separator).take(taken.end).skip(taken.start).chain(missing.then_some(cell));
                let start = bags.len() as u64;
                for token in found {
                    let (_, token) = weighted(split, token.trim_ascii())?;
                    bags.push(match times {
                        true => time(token).map_err(|text| wrong(token, text))?,
                        false => self.number(at, reading, token, missing_entry(split))?.to_bits(),
                    });
                }
                set_entries(record, part, start, bags);
            }
        }
        Ok(())
    }

    /// A number as a column reads it, counted for its mean and deviation if they are learned; `cure` says what helps where it is empty.
    fn number(&mut self, at: usize, reading: &Reading, text: &[u8], cure: &str) -> Result<f32, Wrong> {
        let value = match (text, reading.fill) {
            (b"", Some(fill)) => Ok(fill),
            (b"", None) => Err(format!("is empty\nhelp: {cure}")),
            (text, _) => number(text).and_then(|value| in_domain(&self.columns[at], value)),
        };
        let value = value.map_err(|why| wrong(text, why))?;
        if let (true, Some(steps)) = (self.learning, &reading.moments) {
            let value = steps.iter().fold(f64::from(value), |value, step| step.apply(value));
            if !value.is_finite() {
                let why = "has no finite value before `standardize`\nhelp: cut the column off in the spec first: `max` and `min`";
                return Err(wrong(text, why.to_owned()));
            }
            self.moments[at].add(value);
        }
        Ok(value)
    }

    /// The entries that are taken of a cell, which has as many as the one it is aligned with.
    fn entries_of(&mut self, at: usize, split: &Split, cell: &[u8]) -> Result<Range<usize>, Wrong> {
        let count = tokens(cell, &split.separator).count();
        self.counts[at] = count;
        match split.aligned {
            None => {}
            // Not read: nobody looks at the entries then.
            Some(other) if self.cells[other as usize].is_none() => {}
            Some(other) => {
                let wanted = self.counts[other as usize];
                if count != wanted {
                    let name = &self.columns[other as usize].name;
                    let text = format!(
                        "holds {count} values, and `{name}`, which it is aligned with, has {wanted}\nhelp: correct one of the cells, or leave out `aligned({name})`"
                    );
                    return Err(wrong(&beginning(cell), text));
                }
            }
        }
        Ok(split.taken(count))
    }

    /// The id of a value. Records hold whole ids; what indexes a table is taken of them in a batch.
    fn encode(&mut self, at: usize, encoder: &Encoder, token: &[u8]) -> Result<u32, Wrong> {
        let encoder = encoder.numbering();
        if token.is_empty() {
            return Ok(if self.learning && matches!(encoder, Encoder::Vocab { .. } | Encoder::VocabOf(_)) { NOTHING } else { 0 });
        }
        Ok(match encoder {
            Encoder::Hash { buckets, seed } => 1 + (xxh3_64_with_seed(token, u64::from(*seed)) % u64::from(*buckets)) as u32,
            Encoder::Bucket { bounds } => self.interval(at, bounds, token)?,
            Encoder::Vocab { .. } if self.learning => self.learned[at].learn(token, 1),
            Encoder::VocabOf(other) if self.learning => self.learned[*other as usize].learn(token, 0),
            Encoder::Vocab { .. } => self.fitted.vocabs[at].row(token),
            Encoder::VocabOf(other) => self.fitted.vocabs[*other as usize].row(token),
            Encoder::Part { of, .. } => self.encode(at, of, token)?,
        })
    }

    /// The tokens of several id features as one: text for dictionaries and hashes, the interval for buckets.
    fn cross(&mut self, at: usize, encoder: &Encoder, parts: &[u32], row: TextRow<'_>) -> Result<u32, Wrong> {
        let mut token = std::mem::take(&mut self.token);
        token.clear();
        for &part in parts {
            let column = &self.columns[part as usize];
            let cell = self.cells[part as usize].map(|cell| row.cell(cell)).unwrap_or_default().trim_ascii();
            let cell = if self.grouped { last_of_group(cell) } else { cell };
            if let (ColumnKind::Id { encoder: bucket @ Encoder::Bucket { .. } }, Token::Column(_)) = (&column.kind, &column.token) {
                let id = self.encode(part as usize, &bucket.clone(), cell)?;
                token.extend_from_slice(id.to_string().as_bytes());
            } else {
                token.extend_from_slice(cell);
            }
            token.push(0x1f);
        }
        let id = self.encode(at, encoder, &token);
        self.token = token;
        id
    }

    /// Ends learning: dictionaries keep the values seen often enough, in the order in which they first appeared.
    pub(crate) fn finish(mut self) -> Fitted {
        let mut fitted = std::mem::take(&mut self.fitted);
        for (at, column) in self.columns.iter().enumerate() {
            fitted.moments[at] = self.moments[at].finish();
            if let Some(Encoder::Vocab { min_count }) = column.kind.numbering() {
                let vocab = std::mem::take(&mut self.learned[at]);
                let enough = |count: u64| count >= u64::from(*min_count).max(1);
                let (kept, rows) = vocab.retained(enough);
                fitted.ids[at] = rows.map_or(Ids::All, Ids::Some);
                fitted.vocabs[at] = Arc::new(kept);
            }
        }
        fitted
    }
}

/// What helps where an entry that is a number is empty.
fn missing_entry(split: &Split) -> &'static str {
    match split.weighted {
        Some(_) => "write a weight behind each value",
        None => "a sequence of numbers has one for each step, or say what stands for it: `|> fill(0)`",
    }
}

/// The interval of a number between bounds, from 1.
fn interval(bounds: &[f64], value: f32) -> u32 {
    1 + bounds.partition_point(|bound| *bound <= f64::from(value)) as u32
}

/// The intervals of the numbers below [`COUNTS`], if the column has bounds.
fn intervals_of_counts(column: &Column) -> Vec<u32> {
    match column.kind.encoder() {
        Some(Encoder::Bucket { bounds }) => (0..COUNTS).map(|count| interval(bounds, f32::from(count))).collect(),
        _ => Vec::new(),
    }
}

/// The values of a cell. Blanks between values may be several.
fn tokens<'c>(cell: &'c [u8], separator: &'c str) -> impl Iterator<Item = &'c [u8]> {
    let blank = separator == " ";
    // A group of one row may have an empty cell, which is one value.
    let cell = if cell.is_empty() && separator != GROUPED { None } else { Some(cell) };
    cell.into_iter().flat_map(|cell| split(cell, separator.as_bytes())).filter(move |token| !(blank && token.is_empty()))
}

/// A value and its weight; both are the whole entry where it has none.
fn weighted<'t>(split: &Split, entry: &'t [u8]) -> Result<(&'t [u8], &'t [u8]), Wrong> {
    let Some(sign) = split.weighted.as_ref().map(String::as_bytes) else { return Ok((entry, entry)) };
    match (0..(entry.len() + 1).saturating_sub(sign.len())).rev().find(|&at| entry[at..].starts_with(sign)) {
        Some(at) => Ok((entry[..at].trim_ascii(), entry[at + sign.len()..].trim_ascii())),
        None => {
            let sign = String::from_utf8_lossy(sign);
            Err(wrong(entry, format!("has no weight\nhelp: write it behind {sign:?}, or leave `weighted` out of the spec")))
        }
    }
}

/// Writes to a record where a column's entries are.
fn set_entries(record: &mut [u32], part: usize, start: u64, entries: &[u32]) {
    set_long(record, part, start);
    record[part + 2] = (entries.len() as u64 - start) as u32;
}

/// The beginning of a long cell, for messages.
fn beginning(cell: &[u8]) -> Vec<u8> {
    cell.get(..60).map_or(cell.to_vec(), |head| [head, "…".as_bytes()].concat())
}

/// A time: whole seconds, as the bits of an `i32`.
fn time(token: &[u8]) -> Result<u32, String> {
    let seconds = std::str::from_utf8(token).ok().and_then(|text| text.parse::<i64>().ok());
    match seconds.map(i32::try_from) {
        Some(Ok(seconds)) if seconds >= 0 => Ok(seconds.cast_unsigned()),
        Some(_) => {
            Err("is no time in seconds\nhelp: times are whole seconds since 1970 and end in 2038; divide milliseconds by 1000".to_owned())
        }
        None => Err("is no time\nhelp: a time is a whole number of seconds, such as 978300760".to_owned()),
    }
}

/// A number of a vector's cell, which is split when its first number is asked for; an empty cell has empty numbers.
fn vector_part<'c>(parts: &mut Vec<Range<usize>>, cell: &'c [u8], separator: &str, at: u32, count: u32) -> Result<&'c [u8], Wrong> {
    if cell.is_empty() {
        return Ok(cell);
    }
    if at == 0 {
        parts.clear();
        let mut start = 0;
        for part in split(cell, separator.as_bytes()) {
            // Blanks between numbers may be several.
            if !(separator == " " && part.is_empty()) {
                parts.push(start..start + part.len());
            }
            start += part.len() + separator.len();
        }
        if parts.len() != count as usize {
            let shown = beginning(cell);
            let text =
                format!("holds {} numbers and not {count}\nhelp: correct the cell, or the size of the vector in the spec", parts.len());
            return Err(wrong(&shown, text));
        }
    }
    Ok(parts.get(at as usize).map_or(&[][..], |part| cell[part.clone()].trim_ascii()))
}

fn split<'t>(text: &'t [u8], separator: &'t [u8]) -> impl Iterator<Item = &'t [u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        match text.windows(separator.len().max(1)).position(|window| window == separator) {
            Some(at) => {
                rest = Some(&text[at + separator.len()..]);
                Some(&text[..at])
            }
            None => {
                rest = None;
                Some(text)
            }
        }
    })
}

/// A value that a column cannot take, and why.
struct Wrong {
    value: Box<[u8]>,
    text: String,
}

fn wrong(value: &[u8], text: String) -> Wrong {
    Wrong { value: value.into(), text }
}

fn problem(place: &Place, column: &Column, wrong: &Wrong) -> Failure {
    let source = match &column.token {
        Token::Column(name) | Token::Part { column: name, .. } => name,
        Token::Cross(_) | Token::Condition => &column.name,
    };
    Failure::input(format!("{place}, column {source:?}: {:?} {}", String::from_utf8_lossy(&wrong.value), wrong.text))
}

/// A finite number.
fn number(text: &[u8]) -> Result<f32, String> {
    if let Some(whole) = whole_number(text) {
        return Ok(whole);
    }
    let value: Option<f64> = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    match value {
        Some(value) if value.is_finite() && (value as f32).is_finite() => Ok(value as f32),
        Some(value) if value.is_finite() => {
            Err("is too large for a 32-bit float\nhelp: scale the column, or take its logarithm before".to_owned())
        }
        Some(_) => Err("is not a finite number\nhelp: leave the cell empty and use `fill`, or remove the row".to_owned()),
        None => Err("is not a number\nhelp: correct the cell, or read the column as `id`".to_owned()),
    }
}

/// The most frequent numbers, counts of a few digits, without the parser of all numbers.
fn whole_number(text: &[u8]) -> Option<f32> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let few = (1..=9).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    let value = digits.iter().fold(0u32, |value, digit| value.wrapping_mul(10).wrapping_add(u32::from(digit & 15)));
    few.then(|| if digits.len() < text.len() { -(value as f32) } else { value as f32 })
}

/// What may be wrong with a header that lacks a column.
fn header_help(wanted: &str, columns: &[String]) -> String {
    if let Some(close) = columns.iter().find(|column| column.eq_ignore_ascii_case(wanted)) {
        return format!("there is {close:?}; names are compared letter by letter");
    }
    let delimiters = [';', '\t', '|', ','];
    if let ([only], Some(found)) = (columns, delimiters.into_iter().find(|&sign| columns[0].matches(sign).count() > 0)) {
        return format!(
            "the header is one cell, {:?}, with {found:?} in it: .csv is delimited by commas, .tsv by tabs, and `data {{ format: tsv }}` in the spec goes before the name",
            shortened(only)
        );
    }
    if columns.iter().all(|column| column.is_empty() || column.parse::<f64>().is_ok()) {
        return "the first line holds numbers, not names: give the names in the spec, `data { columns: [...] }`".to_owned();
    }
    let distance = |column: &&String| strsim::damerau_levenshtein(column, wanted);
    let near = columns.iter().min_by_key(distance).filter(|column| distance(column) <= (wanted.chars().count() / 3).max(1));
    match near {
        Some(near) => format!("did you mean {near:?}? The columns are {}", shortened(&columns.join(", "))),
        None => format!("the columns are {}", shortened(&columns.join(", "))),
    }
}

/// A text that fits a message.
fn shortened(text: &str) -> String {
    if text.chars().count() <= 400 {
        return text.to_owned();
    }
    text.chars().take(400).chain("…".chars()).collect()
}

/// A number that the column's first transform takes.
fn in_domain(column: &Column, value: f32) -> Result<f32, String> {
    match column.domain.filter(|domain| !domain.contains(value)) {
        Some(domain) => {
            let what = domain.describe();
            Err(match domain.cure() {
                Some(cure) => format!("is outside the transform: {what}\nhelp: cut the column off in the spec before it: `|> {cure}`"),
                None => format!("is refused: {what}\nhelp: correct the cell, or leave the row out"),
            })
        }
        None => Ok(value),
    }
}

fn label(cell: &[u8], binary: bool) -> Result<f32, String> {
    if cell.is_empty() {
        return Err("is an empty label\nhelp: every row to learn from or to measure has a label; remove rows without".to_owned());
    }
    let value = number(cell).map_err(|text| match text.split_once('\n') {
        Some((what, _)) if binary => format!("{what}\nhelp: write 0 or 1"),
        _ => text,
    })?;
    if binary && value != 0.0 && value != 1.0 {
        return Err("is no binary label\nhelp: a binary label is 0 or 1; declare the label `: number` to predict values".to_owned());
    }
    Ok(value)
}
