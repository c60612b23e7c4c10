//! The parts into which each feature divides the rows.

use super::visit;
use crate::batch::Layout;
use crate::failure::Failure;
use crate::spool::Spool;
use crate::transform::{Fitted, taken_entries};
use recc_abi::{Bound, ColumnKind, Comparison, Encoder, Predicate, Program, Token};
use std::collections::BTreeSet;

/// Parts of a number's values, each with as many rows.
const PARTS: usize = 5;
/// A number with so many values or fewer has a part for each.
const FEW: usize = 10;
/// Values of an id or a bag that are looked at, at most.
const MOST: usize = 50;

/// A part of the rows that a condition makes.
pub(super) struct Candidate {
    pub(super) name: String,
    /// As a spec says it.
    pub(super) condition: String,
    pub(super) predicate: Predicate,
}

/// The parts along a feature.
pub(super) struct Axis {
    pub(super) feature: String,
    pub(super) cohorts: Vec<Candidate>,
}

/// Parts along every feature whose values a condition can name: numbers, ids and bags with a dictionary.
pub(super) fn axes(program: &Program, layout: &Layout<'_>, spool: &Spool, rows: &[usize], least: usize) -> Result<Vec<Axis>, Failure> {
    let mut found = Vec::new();
    for (at, column) in program.columns.iter().enumerate() {
        if !matches!(column.token, Token::Column(_)) {
            continue;
        }
        let word = layout.words[at];
        let (name, column_number) = (&column.name, at as u32);
        let has_vocab = matches!(column.kind.numbering(), Some(Encoder::Vocab { .. } | Encoder::VocabOf(_)));
        let cohorts = match &column.kind {
            ColumnKind::Number(_) => {
                let words = spool.words(word)?;
                numbers(name, column_number, rows.iter().map(|&row| f32::from_bits(words[row])).collect())
            }
            ColumnKind::Id { .. } if has_vocab => {
                let words = spool.words(word)?;
                values(layout, name, column_number, rows.iter().map(|&row| words[row]), least, |text| format!("{name} == {text}"))
            }
            ColumnKind::Ids { .. } if has_vocab => {
                let entries = entries(layout, spool, word, rows)?;
                values(layout, name, column_number, entries.into_iter(), least, |text| format!("{text} in {name}"))
            }
            _ => continue,
        };
        found.push(Axis { feature: name.clone(), cohorts });
    }
    number_equal_names(&mut found, program);
    Ok(found)
}

/// Ids of the rows' bags, each once a row.
fn entries(layout: &Layout<'_>, spool: &Spool, word: usize, rows: &[usize]) -> Result<Vec<u32>, Failure> {
    let mut found = Vec::new();
    visit(layout, spool, rows, |_, record, bags| {
        let mut own = taken_entries(record, word, bags).to_vec();
        own.sort_unstable();
        own.dedup();
        found.extend(own);
    })?;
    Ok(found)
}

/// The values that enough rows have, the most frequent first.
fn values(
    layout: &Layout<'_>,
    name: &str,
    column: u32,
    ids: impl Iterator<Item = u32>,
    least: usize,
    condition: impl Fn(&str) -> String,
) -> Vec<Candidate> {
    let vocab = Fitted::vocab_column(layout.columns, column as usize);
    let words: Vec<&[u8]> = layout.fitted.vocabs[vocab].words().map(|(word, _)| word).collect();
    let mut counts = vec![0usize; words.len() + 1];
    ids.for_each(|id| counts[id as usize] += 1);
    // Row 0 is of values that training did not see: no condition names them.
    let mut frequent: Vec<usize> = (1..counts.len()).filter(|&row| counts[row] >= least).collect();
    frequent.sort_by_key(|&row| (std::cmp::Reverse(counts[row]), row));
    frequent.truncate(MOST);
    let candidate = |row: usize| {
        let value = std::str::from_utf8(words[row - 1]).ok()?.to_owned();
        Some(Candidate {
            name: named(name, &value),
            condition: condition(&quoted(&value)),
            predicate: Predicate::OneOf { column, values: vec![value] },
        })
    };
    frequent.into_iter().filter_map(candidate).collect()
}

/// Parts of a number's values: each value, if they are few, or as many rows each.
fn numbers(name: &str, column: u32, mut values: Vec<f32>) -> Vec<Candidate> {
    values.sort_by(f32::total_cmp);
    let mut distinct = values.clone();
    distinct.dedup();
    let compare = |with: Comparison, bound: f32| Predicate::Compare { column, with, bound: Bound::Value(f64::from(bound)) };
    if distinct.len() <= FEW {
        let one = |&value: &f32| Candidate {
            name: named(name, &value.to_string()),
            condition: format!("raw({name}) == {value}"),
            predicate: compare(Comparison::Eq, value),
        };
        distinct.iter().map(one).collect()
    } else {
        let mut bounds: Vec<f32> = (1..PARTS).map(|part| values[part * values.len() / PARTS]).collect();
        bounds.dedup();
        bounds.retain(|bound| *bound > distinct[0]);
        if bounds.is_empty() {
            // Most rows have the least value: they are one part, and all others another.
            bounds.push(distinct[1]);
        }
        let part = |at: usize| {
            let from = at.checked_sub(1).map(|before| bounds[before]);
            let (condition, predicate) = match (from, bounds.get(at)) {
                (None, Some(to)) => (format!("raw({name}) < {to}"), compare(Comparison::Lt, *to)),
                (Some(from), None) => (format!("raw({name}) >= {from}"), Predicate::Not(Box::new(compare(Comparison::Lt, from)))),
                (Some(from), Some(to)) => {
                    let above = Predicate::Not(Box::new(compare(Comparison::Lt, from)));
                    let both = Predicate::And(Box::new(above), Box::new(compare(Comparison::Lt, *to)));
                    (format!("raw({name}) >= {from} and raw({name}) < {to}"), both)
                }
                (None, None) => return None,
            };
            Some(Candidate { name: format!("{name}_{}", at + 1), condition, predicate })
        };
        (0..=bounds.len()).filter_map(part).collect()
    }
}

/// A name for a spec, of a feature and a value.
fn named(feature: &str, value: &str) -> String {
    let words = value.split(|sign: char| !sign.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let text: String = words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("_");
    let short: String = text.chars().take(24).collect();
    format!("{feature}_{}", if short.is_empty() { "value" } else { short.trim_end_matches('_') })
}

/// What makes a name that something else has, another cohort or the spec's own, is numbered.
fn number_equal_names(axes: &mut [Axis], program: &Program) {
    let columns = program.columns.iter().map(|own| own.name.clone());
    let mut known: BTreeSet<String> = columns.chain(program.cohorts.iter().map(|own| own.name.clone())).collect();
    for own in axes.iter_mut().flat_map(|axis| &mut axis.cohorts) {
        let stem = own.name.clone();
        let mut number = 2;
        while !known.insert(own.name.clone()) {
            own.name = format!("{stem}_{number}");
            number += 1;
        }
    }
}

/// A string as a spec writes it.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").replace('\t', "\\t"))
}
