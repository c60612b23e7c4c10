//! Scores of rows that share their sequences: what is made of these alone is computed once for the rows of each key.

use crate::batch::{Assembler, Batch};
use crate::engine::{Engine, Loaded, StepNumbers};
use crate::failure::Failure;
use crate::model::Model;
use crate::score::Scored;
use crate::spool::{Spool, Window};
use crate::stored::Stored;
use crate::transform::{long, taken_entries};
use recc_abi::{Column, GroupedScore, InputSource, Plan, Program, SharedValue};
use std::collections::HashMap;

/// Rows whose keys are looked at together: a key whose rows lie farther apart is computed again.
const CHUNK: usize = 4096;
/// Rows that get copies of their shared values at once.
const CANDIDATES: usize = 256;

/// The column of a key by its name, where the model scores by keys.
pub(crate) fn key_column(program: &Program, name: &str) -> Result<u32, Failure> {
    let is_key = |column: &&Column| column.kind == recc_abi::ColumnKind::Key;
    let Some(at) = program.columns.iter().position(|column| column.name == name && is_key(&column)) else {
        let keys: Vec<&str> = program.columns.iter().filter(is_key).map(|column| column.name.as_str()).collect();
        let help = match keys.as_slice() {
            [] => format!("declare it in the spec: `key {name}`"),
            keys => format!("keys of this model: {}", keys.join(", ")),
        };
        return Err(Failure::usage(format!("--group-by {name}: there is no such key\nhelp: {help}")));
    };
    if program.data.group.is_some() {
        return Err(Failure::usage(format!(
            "--group-by {name}: rows are brought together already, by the spec's `group`\nhelp: leave it out"
        )));
    }
    if program.grouped.is_none() {
        let why = match program.device {
            Some(_) => "a model for a GPU scores whole rows",
            None => "this model computes nothing from sequences alone, so that rows of one key share nothing",
        };
        return Err(Failure::usage(format!("--group-by {name}: {why}\nhelp: leave it out: the predictions are the same")));
    }
    Ok(at as u32)
}

/// Scores all rows of a spool, with what rows of one key share computed once.
pub(crate) fn score(
    loaded: Loaded<'_>,
    model: &Model<'_>,
    (stored, grouped): (Stored, &GroupedScore),
    spool: &Spool,
    key: u32,
    pool: &rayon::ThreadPool,
) -> Result<Scored, Failure> {
    let engine = |plan| Engine::new(loaded.program, plan, stored.clone(), loaded.code, pool);
    let (mut once, mut each) = (engine(&grouped.once)?, engine(&grouped.each)?);
    model.fill_constants(&mut once);
    model.fill_constants(&mut each);
    let fitted = model.fitted.settled();
    let layout = model.layout(&fitted);
    let (mut firsts, mut rest) = (Assembler::new(layout, &grouped.once), Assembler::new(layout, &grouped.each));
    let keys = Keys { program: loaded.program, words: layout.words, width: layout.width, key, shared: sequences(&grouped.once) };
    let numbers = StepNumbers { step: 1, scale: 1.0, seed: 0, epoch: 0 };
    let mut scored = Scored::new(loaded.program, (&[], &[]), &[]);
    spool.epoch(0, 0, false, CHUNK, &mut |window, order| {
        for rows in order.chunks(CHUNK) {
            let (representatives, groups) = keys.group(window, rows)?;
            let first = firsts.assemble(window, &representatives);
            once.run(&first, &model.values, &numbers)?;
            for (rows, groups) in rows.chunks(CANDIDATES).zip(groups.chunks(CANDIDATES)) {
                let mut batch = rest.assemble(window, rows);
                for (at, input) in grouped.each.inputs.iter().enumerate() {
                    if let InputSource::Shared { slot } = input.source {
                        let value = &grouped.values[slot as usize];
                        batch.inputs[at] = handed_over(value, &grouped.once, (&once, &first), groups);
                    }
                }
                each.run(&batch, &model.values, &numbers)?;
                let own = loaded.program.predictions.iter().enumerate();
                own.filter(|(_, own)| own.ranking().is_none()).for_each(|(at, own)| scored.take(at, own, &each, batch.rows));
            }
        }
        Ok(())
    })?;
    Ok(scored)
}

/// The sequences that a plan reads.
fn sequences(plan: &Plan) -> Vec<u32> {
    let read = |source: &InputSource| match source {
        InputSource::Entries { column } | InputSource::EntryNumbers { column } | InputSource::EntryTimes { column } => Some(*column),
        InputSource::EntryBegin { column } => Some(*column),
        _ => None,
    };
    let mut found: Vec<u32> = plan.inputs.iter().filter_map(|input| read(&input.source)).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// A shared value of each row's group, one row after another.
fn handed_over(value: &SharedValue, plan: &Plan, (once, first): (&Engine<'_>, &Batch), groups: &[u32]) -> Vec<u32> {
    let len = value.len as usize;
    let begins = value.of.and_then(|of| {
        let at = plan.inputs.iter().position(|input| input.source == InputSource::EntryBegin { column: of })?;
        Some(first.inputs[at].as_slice())
    });
    let part = |group: u32| match begins {
        Some(begins) => begins[group as usize] as usize * len..begins[group as usize + 1] as usize * len,
        None => group as usize * len..(group as usize + 1) * len,
    };
    let count = begins.map_or(first.rows, |begins| begins[first.rows] as usize) * len;
    let values = once.output(&value.result(), count);
    let mut out: Vec<u32> = groups.iter().flat_map(|&group| values[part(group)].iter().map(|value| value.to_bits())).collect();
    // What follows the last entry may be read, and is not used.
    out.resize(out.len() + len, 0);
    out
}

/// How rows are told apart.
struct Keys<'p> {
    program: &'p Program,
    /// First word of each column's part of a record.
    words: &'p [usize],
    width: usize,
    key: u32,
    /// Sequences that rows of one key share.
    shared: Vec<u32>,
}

impl Keys<'_> {
    /// The first row of each key, in order, and the group of every row.
    fn group(&self, window: &Window, rows: &[u32]) -> Result<(Vec<u32>, Vec<u32>), Failure> {
        let mut known: HashMap<u64, u32> = HashMap::new();
        let mut representatives = Vec::new();
        let mut groups = Vec::with_capacity(rows.len());
        for &row in rows {
            let key = long(self.record(window, row), self.words[self.key as usize]);
            let group = *known.entry(key).or_insert_with(|| {
                representatives.push(row);
                representatives.len() as u32 - 1
            });
            self.check(window, representatives[group as usize], row)?;
            groups.push(group);
        }
        Ok((representatives, groups))
    }

    fn record<'w>(&self, window: &'w Window, row: u32) -> &'w [u32] {
        &window.records[row as usize * self.width..(row as usize + 1) * self.width]
    }

    /// Two rows of one key have the same sequences.
    fn check(&self, window: &Window, first: u32, row: u32) -> Result<(), Failure> {
        let entries = |row, column: u32| taken_entries(self.record(window, row), self.words[column as usize], &window.bags);
        let Some(column) = self.shared.iter().find(|column| entries(first, **column) != entries(row, **column)) else { return Ok(()) };
        let name = |column: u32| &self.program.columns[column as usize].name;
        let number = |row: u32| window.rows[row as usize] + 1;
        Err(Failure::input(format!(
            "row {}: its `{}` differs from that of row {}, which has the same `{}`\nhelp: rows of one key share their sequences; correct the rows, or leave --group-by out",
            number(row),
            name(*column),
            number(first),
            name(self.key),
        )))
    }
}
