//! Conditions on rows, bound to what was learned from training data.

use crate::failure::Failure;
use crate::transform::{Fitted, long, taken_entries};
use recc_abi::{Bound, Column, ColumnKind, Comparison, Predicate};
use xxhash_rust::xxh3::xxh3_64;

/// A condition on records.
#[derive(Clone, Debug)]
pub(crate) enum Condition {
    Number { word: usize, with: Comparison, bound: f64 },
    Id { word: usize, vocab: usize, rows: Vec<u32> },
    Key { word: usize, hashes: Vec<u64> },
    Bag { word: usize, vocab: usize, rows: Vec<u32> },
    Not(Box<Condition>),
    And(Box<Condition>, Box<Condition>),
    Or(Box<Condition>, Box<Condition>),
}

/// The condition of each column that is one.
pub(crate) fn conditions(columns: &[Column], words: &[usize], fitted: &Fitted) -> Result<Vec<Option<Condition>>, Failure> {
    let one = |column: &Column| match &column.kind {
        ColumnKind::Flag { predicate } => Condition::new(predicate, &column.name, columns, words, fitted).map(Some),
        _ => Ok(None),
    };
    columns.iter().map(one).collect()
}

impl Condition {
    pub(crate) fn new(predicate: &Predicate, name: &str, columns: &[Column], words: &[usize], fitted: &Fitted) -> Result<Self, Failure> {
        let boxed = |inner: &Predicate| Condition::new(inner, name, columns, words, fitted).map(Box::new);
        Ok(match predicate {
            Predicate::Compare { column, with, bound } => {
                let bound = match bound {
                    // Columns hold 32 bits: a bound that they cannot hold exactly would never be met.
                    Bound::Value(value) => f64::from(*value as f32),
                    Bound::Quantile(share) if fitted.drawn => *share,
                    Bound::Quantile(share) => match fitted.quantile(*column, *share) {
                        Some(value) => value,
                        None => {
                            let own = &columns[*column as usize].name;
                            return Err(Failure::input(format!(
                                "`{name}` compares with quantile({own}, {share}), which these weights were trained without\nhelp: train this spec, or take the cohort out of it"
                            )));
                        }
                    },
                };
                Condition::Number { word: words[*column as usize], with: *with, bound }
            }
            Predicate::OneOf { column, values } => {
                let at = *column as usize;
                let word = words[at];
                if columns[at].kind == ColumnKind::Key {
                    return Ok(Condition::Key { word, hashes: values.iter().map(|value| xxh3_64(value.as_bytes())).collect() });
                }
                let vocab = Fitted::vocab_column(columns, at);
                let row = |value: &String| match fitted.vocabs[vocab].row(value.as_bytes()) {
                    0 if fitted.drawn => Ok(1),
                    0 => Err(Failure::input(format!(
                        "`{name}` compares `{}` with {value:?}, which the training data do not hold (or not often enough for its dictionary)\nhelp: write the value as the data write it, or take it out of the condition",
                        columns[at].name
                    ))),
                    row => Ok(row),
                };
                let rows = values.iter().map(row).collect::<Result<_, _>>()?;
                match columns[at].kind {
                    ColumnKind::Ids { .. } => Condition::Bag { word, vocab, rows },
                    _ => Condition::Id { word, vocab, rows },
                }
            }
            Predicate::Not(inner) => Condition::Not(boxed(inner)?),
            Predicate::And(a, b) => Condition::And(boxed(a)?, boxed(b)?),
            Predicate::Or(a, b) => Condition::Or(boxed(a)?, boxed(b)?),
        })
    }

    /// Whether it holds for a record; `bags` are the entries that records point to.
    pub(crate) fn holds(&self, record: &[u32], bags: &[u32], fitted: &Fitted) -> bool {
        match self {
            Condition::Number { word, with, bound } => {
                let value = f64::from(f32::from_bits(record[*word]));
                match with {
                    Comparison::Lt => value < *bound,
                    Comparison::Le => value <= *bound,
                    Comparison::Eq => value == *bound,
                }
            }
            Condition::Id { word, vocab, rows } => rows.contains(&fitted.ids(*vocab).row(record[*word])),
            Condition::Key { word, hashes } => hashes.contains(&long(record, *word)),
            Condition::Bag { word, vocab, rows } => {
                taken_entries(record, *word, bags).iter().any(|&id| rows.contains(&fitted.ids(*vocab).row(id)))
            }
            Condition::Not(inner) => !inner.holds(record, bags, fitted),
            Condition::And(a, b) => a.holds(record, bags, fitted) && b.holds(record, bags, fitted),
            Condition::Or(a, b) => a.holds(record, bags, fitted) || b.holds(record, bags, fitted),
        }
    }
}
