//! Scores of rows that share their sequences: what is made of these alone is computed once for the rows of each key.

use crate::batch::{Assembler, Batch};
use crate::engine::{Engine, Loaded, StepNumbers};
use crate::failure::Failure;
use crate::model::Model;
use crate::score::Scored;
use crate::spool::{Spool, Window};
use crate::stored::Stored;
use crate::transform::{long, taken_entries};
use recc_abi::{Column, ColumnKind, GroupedScore, InputSource, Plan, Program, SharedValue};
use std::collections::HashMap;
use xxhash_rust::xxh3::xxh3_64;

/// Rows whose keys are looked at together: a key whose rows lie farther apart is computed again.
const CHUNK: usize = 4096;
/// Keys whose shared values are held at once.
const KEYS: usize = 64;
/// Rows that get copies of their shared values at once, at most, and the numbers that these may be.
const CANDIDATES: usize = 256;
const COPIES: usize = 1 << 22;

/// The column of a key by its name, where the model scores by keys.
pub(crate) fn key_column(program: &Program, name: &str) -> Result<u32, Failure> {
    let is_key = |column: &&Column| column.kind == ColumnKind::Key;
    let Some(at) = program.columns.iter().position(|column| column.name == name && is_key(&column)) else {
        let keys: Vec<&str> = program.columns.iter().filter(is_key).map(|column| column.name.as_str()).collect();
        let help = match keys.as_slice() {
            [] => format!("declare it in the spec: `key {name}`"),
            keys => format!("keys of this model: {}", keys.join(", ")),
        };
        return Err(Failure::usage(format!("--group-by {name}: there is no such key\nhelp: {help}")));
    };
    let why = match (&program.data.group, &program.device) {
        _ if program.grouped.is_some() => return Ok(at as u32),
        (Some(_), _) => "rows are brought together already, by the spec's `group`",
        (None, Some(_)) => "a model for a GPU scores whole rows",
        (None, None) => "this model computes nothing from sequences alone, so that rows of one key share nothing",
    };
    Err(Failure::usage(format!("--group-by {name}: {why}\nhelp: leave it out: the predictions are the same")))
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
            let Groups { first, of_row } = keys.group(window, rows)?;
            // Rows of one group behind one another, and where each of them belongs.
            let mut places: Vec<u32> = (0..rows.len() as u32).collect();
            places.sort_by_key(|&place| of_row[place as usize]);
            let from = scored.row_count();
            for (places, at) in places.chunk_by(|a, b| of_row[*a as usize] as usize / KEYS == of_row[*b as usize] as usize / KEYS).zip(0..)
            {
                let firsts_here = &first[at * KEYS..first.len().min((at + 1) * KEYS)];
                let handed = firsts.assemble(window, firsts_here);
                once.run(&handed, &model.values, &numbers)?;
                let shared = Shared::new(grouped, &once, &handed)?;
                for places in places.chunks(shared.rows_at_once()) {
                    let own: Vec<u32> = places.iter().map(|&place| rows[place as usize]).collect();
                    let groups: Vec<u32> = places.iter().map(|&place| of_row[place as usize] - (at * KEYS) as u32).collect();
                    let mut batch = rest.assemble(window, &own);
                    for (input, words) in grouped.each.inputs.iter().zip(&mut batch.inputs) {
                        if let InputSource::Shared { slot } = input.source {
                            *words = shared.of_rows(slot as usize, &groups);
                        }
                    }
                    each.run(&batch, &model.values, &numbers)?;
                    scored.take_all(loaded.program, &each, batch.rows);
                }
            }
            scored.put_back(from, &places);
        }
        Ok(())
    })?;
    Ok(scored)
}

/// What was computed once for some keys.
struct Shared<'e> {
    /// The numbers of each value, one key after another, and where each key's begin.
    values: Vec<(&'e [f32], Vec<usize>)>,
    /// Numbers that a value has behind the last one's, of one step.
    lens: Vec<usize>,
}

impl<'e> Shared<'e> {
    fn new(grouped: &GroupedScore, once: &'e Engine<'_>, batch: &Batch) -> Result<Self, Failure> {
        let value = |(slot, value): (u32, &SharedValue)| {
            let len = value.len as usize;
            let begins: Vec<usize> = match value.of {
                None => (0..=batch.rows).map(|at| at * len).collect(),
                Some(of) => {
                    let at = grouped.once.inputs.iter().position(|input| input.source == InputSource::EntryBegin { column: of });
                    let at = at.ok_or_else(|| Failure::internal("score", "a shared value has steps of a sequence that is not read"))?;
                    batch.inputs[at].iter().map(|&begin| begin as usize * len).collect()
                }
            };
            Ok((once.output(&SharedValue::result(slot), begins[batch.rows]), begins))
        };
        let values = (0..).zip(&grouped.values).map(value).collect::<Result<_, Failure>>()?;
        Ok(Shared { values, lens: grouped.values.iter().map(|value| value.len as usize).collect() })
    }

    /// How many rows may have copies at once.
    fn rows_at_once(&self) -> usize {
        let largest = |begins: &[usize]| begins.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
        let of_a_row: usize = self.values.iter().map(|(_, begins)| largest(begins)).sum();
        (COPIES / of_a_row.max(1)).clamp(1, CANDIDATES)
    }

    /// A value of each row's key, one row after another.
    fn of_rows(&self, slot: usize, groups: &[u32]) -> Vec<u32> {
        let (values, begins) = &self.values[slot];
        let own = |group: &u32| &values[begins[*group as usize]..begins[*group as usize + 1]];
        let mut out: Vec<u32> = groups.iter().flat_map(|group| own(group).iter().map(|value| value.to_bits())).collect();
        // What follows the last entry may be read, and is not used.
        out.resize(out.len() + self.lens[slot], 0);
        out
    }
}

/// The sequences that a plan reads, and whether it reads their values or only how many there are.
fn sequences(plan: &Plan) -> Vec<(u32, bool)> {
    let read = |source: &InputSource| match source {
        InputSource::Entries { column } | InputSource::EntryNumbers { column } | InputSource::EntryTimes { column } => {
            Some((*column, true))
        }
        InputSource::EntryBegin { column } => Some((*column, false)),
        _ => None,
    };
    plan.inputs.iter().filter_map(|input| read(&input.source)).collect()
}

/// Rows by their keys.
struct Groups {
    /// The first row of each key, in order.
    first: Vec<u32>,
    /// The key of every row, by its place in `first`.
    of_row: Vec<u32>,
}

/// How rows are told apart.
struct Keys<'p> {
    program: &'p Program,
    /// First word of each column's part of a record.
    words: &'p [usize],
    width: usize,
    key: u32,
    /// Sequences that rows of one key share, and whether their values are.
    shared: Vec<(u32, bool)>,
}

impl Keys<'_> {
    fn group(&self, window: &Window, rows: &[u32]) -> Result<Groups, Failure> {
        let mut known: HashMap<u64, u32> = HashMap::new();
        let mut groups = Groups { first: Vec::new(), of_row: Vec::with_capacity(rows.len()) };
        // Rows without a key have nothing in common.
        let none = xxh3_64(b"");
        for &row in rows {
            let key = long(self.record(window, row), self.words[self.key as usize]);
            let group = match known.get(&key).filter(|_| key != none) {
                Some(&group) => group,
                None => {
                    groups.first.push(row);
                    groups.first.len() as u32 - 1
                }
            };
            known.insert(key, group);
            self.check(window, groups.first[group as usize], row)?;
            groups.of_row.push(group);
        }
        Ok(groups)
    }

    fn record<'w>(&self, window: &'w Window, row: u32) -> &'w [u32] {
        &window.records[row as usize * self.width..(row as usize + 1) * self.width]
    }

    /// Two rows of one key have the same sequences.
    fn check(&self, window: &Window, first: u32, row: u32) -> Result<(), Failure> {
        let entries = |row, column: u32| taken_entries(self.record(window, row), self.words[column as usize], &window.bags);
        let differs = |&&(column, values): &&(u32, bool)| {
            let (a, b) = (entries(first, column), entries(row, column));
            if values { a != b } else { a.len() != b.len() }
        };
        let Some((column, _)) = self.shared.iter().find(differs) else { return Ok(()) };
        let name = |column: u32| self.program.columns[column as usize].name.as_str();
        let number = |row: u32| window.rows[row as usize] + 1;
        let what = match name(*column).strip_suffix(".weights") {
            Some(own) => format!("the weights of its `{own}` differ"),
            None => format!("its `{}` differs", name(*column)),
        };
        Err(Failure::input(format!(
            "row {} of all: {what} from that of row {}, which has the same `{}`\nhelp: rows of one key share their sequences; correct the rows, or leave --group-by out",
            number(row),
            number(first),
            name(self.key),
        )))
    }
}
