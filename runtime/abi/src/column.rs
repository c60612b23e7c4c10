//! Columns: how the text of a cell becomes numbers and rows of tables.

use crate::predicate::Predicate;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// One column of the data after groups are expanded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Column {
    /// The feature's name: `I3`, `user`.
    pub name: String,
    /// What it is.
    pub kind: ColumnKind,
    /// Where its text comes from.
    pub token: Token,
    /// What numbers its first transform takes, if not all.
    pub domain: Option<Domain>,
}

/// The numbers a transform takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Domain {
    /// Of `log`: above 0.
    Positive,
    /// Of `log1p`: above -1.
    AboveMinusOne,
    /// Of `sqrt`: 0 and above.
    NotNegative,
    /// Of a loss's weights: 0 and above.
    Weight,
    /// Of a label predicted by `ordinal`: whole numbers from 1 up to this one.
    Levels(u32),
}

impl Domain {
    /// Whether a number is among them.
    pub fn contains(self, value: f32) -> bool {
        match self {
            Domain::Positive => value > 0.0,
            Domain::AboveMinusOne => value > -1.0,
            Domain::NotNegative | Domain::Weight => value >= 0.0,
            Domain::Levels(last) => value.fract() == 0.0 && value >= 1.0 && value <= last as f32,
        }
    }

    /// A step before the transform after which it takes every number, if there is one.
    pub fn cure(self) -> Option<&'static str> {
        match self {
            Domain::Positive => Some("max(1)"),
            Domain::AboveMinusOne | Domain::NotNegative => Some("max(0)"),
            Domain::Weight | Domain::Levels(_) => None,
        }
    }

    /// The transform and its numbers, in words.
    pub fn describe(self) -> Cow<'static, str> {
        let text = match self {
            Domain::Positive => "`log` takes numbers above 0",
            Domain::AboveMinusOne => "`log1p` takes numbers above -1",
            Domain::NotNegative => "`sqrt` takes 0 and numbers above",
            Domain::Weight => "the weight of a loss is 0 or above",
            Domain::Levels(last) => return Cow::Owned(format!("a label predicted by `ordinal` is a whole number from 1 to {last}")),
        };
        Cow::Borrowed(text)
    }
}

/// Where a column's text comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Token {
    /// A column of the data.
    Column(String),
    /// One of several numbers in a cell of a column of the data.
    Part {
        /// The column.
        column: String,
        /// What stands between the numbers.
        separator: String,
        /// Which of them.
        at: u32,
        /// How many there are.
        count: u32,
    },
    /// The tokens of other columns of the program, joined.
    Cross(Vec<u32>),
    /// None: made of other columns, or drawn.
    Condition,
}

impl Token {
    /// The column of the data that is read, if one is.
    pub fn column(&self) -> Option<&str> {
        match self {
            Token::Column(column) | Token::Part { column, .. } => Some(column),
            Token::Cross(_) | Token::Condition => None,
        }
    }
}

/// The kind of feature, as `info` prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FeatureKind {
    /// A label.
    Label,
    /// A number.
    Number,
    /// One id.
    Id,
    /// A bag of ids.
    Ids,
    /// A sequence of ids, numbers or times.
    Seq,
    /// A time.
    Time,
    /// A grouping key.
    Key,
    /// A condition: a cohort, or the rows of a loss.
    Flag,
    /// Rows drawn in training.
    Drawn,
}

/// A step of a number's pipeline, for learning what comes behind it; in the model the step is a node of its graph.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum NumberStep {
    /// |x|
    Abs,
    /// e^x
    Exp,
    /// Natural logarithm.
    Log,
    /// ln(1 + x)
    Log1p,
    /// Square root.
    Sqrt,
    /// x²
    Square,
    /// 1 / (1 + e^-x)
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// ln(1 + e^x)
    Softplus,
    /// The larger of x and 0.
    Relu,
    /// x times its sigmoid.
    Silu,
    /// Sine.
    Sin,
    /// Cosine.
    Cos,
    /// The larger of x and a number.
    Max(f64),
    /// The smaller of x and a number.
    Min(f64),
    /// The angle of the point with ordinate x and this abscissa.
    Atan2(f64),
}

impl NumberStep {
    /// A step by its name in a spec, with the number behind it if it takes one.
    pub fn named(name: &str, argument: Option<f64>) -> Option<NumberStep> {
        Some(match (name, argument) {
            ("abs", None) => NumberStep::Abs,
            ("exp", None) => NumberStep::Exp,
            ("log", None) => NumberStep::Log,
            ("log1p", None) => NumberStep::Log1p,
            ("sqrt", None) => NumberStep::Sqrt,
            ("square", None) => NumberStep::Square,
            ("sigmoid", None) => NumberStep::Sigmoid,
            ("tanh", None) => NumberStep::Tanh,
            ("softplus", None) => NumberStep::Softplus,
            ("relu", None) => NumberStep::Relu,
            ("silu", None) => NumberStep::Silu,
            ("sin", None) => NumberStep::Sin,
            ("cos", None) => NumberStep::Cos,
            ("max", Some(other)) => NumberStep::Max(other),
            ("min", Some(other)) => NumberStep::Min(other),
            ("atan2", Some(other)) => NumberStep::Atan2(other),
            _ => return None,
        })
    }

    /// What it makes of a number.
    pub fn apply(self, x: f64) -> f64 {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        match self {
            NumberStep::Abs => x.abs(),
            NumberStep::Exp => x.exp(),
            NumberStep::Log => x.ln(),
            NumberStep::Log1p => x.ln_1p(),
            NumberStep::Sqrt => x.sqrt(),
            NumberStep::Square => x * x,
            NumberStep::Sigmoid => sigmoid(x),
            NumberStep::Tanh => x.tanh(),
            NumberStep::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
            NumberStep::Relu => x.max(0.0),
            NumberStep::Silu => x * sigmoid(x),
            NumberStep::Sin => x.sin(),
            NumberStep::Cos => x.cos(),
            NumberStep::Max(other) => x.max(other),
            NumberStep::Min(other) => x.min(other),
            NumberStep::Atan2(other) => x.atan2(other),
        }
    }
}

/// How a column's text becomes input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ColumnKind {
    /// A label; a binary one must be 0 or 1.
    Label {
        /// Whether it is.
        binary: bool,
    },
    /// A number.
    Number(Reading),
    /// A time: whole seconds, kept as an integer.
    Time,
    /// One id.
    Id {
        /// How text becomes a row.
        encoder: Encoder,
    },
    /// Several ids: a bag, or a sequence.
    Ids {
        /// How the cell is split.
        split: Split,
        /// How each becomes a row.
        encoder: Encoder,
        /// Whether their order counts.
        ordered: bool,
    },
    /// A sequence of numbers.
    Numbers {
        /// How the cell is split.
        split: Split,
        /// Whether they are times: whole seconds, kept as integers.
        times: bool,
        /// How each is read, if it is a number.
        reading: Reading,
    },
    /// Rows of a table that are drawn for each step of a sequence, other than the next step's own, or for all of a batch; not in the data.
    Drawn {
        /// Position of the sequence among the columns.
        of: u32,
        /// Position of the table among the tables.
        table: u32,
        /// How many for each step, or for a batch.
        count: u32,
        /// How.
        drawing: Drawing,
    },
    /// Groups rows; not an input.
    Key,
    /// 1 where a condition on other columns holds, else 0; not in the data, and not an input.
    Flag {
        /// The condition.
        predicate: Predicate,
    },
}

/// How rows that targets are compared with are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Drawing {
    /// Anew for each target, every row alike.
    Each,
    /// Once for all targets of a batch, every row alike.
    Shared,
    /// Once for all targets of a batch, by how often the training data hold each value.
    Popularity,
    /// Once for all targets of a batch, among these targets.
    Batch,
}

impl Drawing {
    /// Whether all targets of a batch are compared with the same rows.
    pub fn is_shared(self) -> bool {
        self != Drawing::Each
    }
}

/// How a cell becomes entries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Split {
    /// What stands between them.
    pub separator: String,
    /// Which of them are taken, if not all.
    pub take: Option<Take>,
    /// The column whose entries these belong to, one for each; the same ones are taken.
    pub aligned: Option<u32>,
    /// What stands between a value and its weight, in each entry.
    pub weighted: Option<String>,
    /// Of a sequence that takes its last entries: the exponent by which training shortens long ones at random.
    pub stochastic: Option<f64>,
}

/// Which entries are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Take {
    /// At most this many, the first ones.
    First(u32),
    /// At most this many, the last ones.
    Last(u32),
}

/// The column whose entries a column's belong to: the one it is aligned with, or itself.
pub fn entries_of(columns: &[Column], column: u32) -> u32 {
    columns[column as usize].kind.split().and_then(|split| split.aligned).unwrap_or(column)
}

impl Split {
    /// How many of so many entries training takes, by a number from 0 to 1 (stochastic length, Zhai et al. 2024, section 2.3): of more than
    /// `N^(alpha / 2)` all with probability `N^alpha / n^2`, else the last `N^(alpha / 2)`.
    pub fn stochastic_length(&self, count: usize, uniform: f64) -> usize {
        let (Some(alpha), Some(Take::Last(most))) = (self.stochastic, self.take) else { return count };
        let least = f64::from(most).powf(alpha / 2.0);
        let all = (least / count.max(1) as f64).powi(2);
        if uniform < all { count } else { count.min((least as usize).max(1)) }
    }

    /// The entries that are taken of so many.
    pub fn taken(&self, count: usize) -> std::ops::Range<usize> {
        match self.take {
            None => 0..count,
            Some(Take::First(most)) => 0..count.min(most as usize),
            Some(Take::Last(most)) => count.saturating_sub(most as usize)..count,
        }
    }
}

impl ColumnKind {
    /// How a cell becomes entries, of bags and sequences.
    pub fn split(&self) -> Option<&Split> {
        match self {
            ColumnKind::Ids { split, .. } | ColumnKind::Numbers { split, .. } => Some(split),
            ColumnKind::Label { .. } | ColumnKind::Number(_) | ColumnKind::Time | ColumnKind::Id { .. } | ColumnKind::Key => None,
            ColumnKind::Flag { .. } | ColumnKind::Drawn { .. } => None,
        }
    }

    /// Whether a row has several entries of it, or none.
    pub fn has_entries(&self) -> bool {
        self.split().is_some()
    }

    /// Most entries of an example, if that is known.
    pub fn longest(&self) -> Option<u64> {
        self.split()?.take.map(|take| match take {
            Take::First(most) | Take::Last(most) => u64::from(most),
        })
    }

    /// How its numbers are read, if it has some.
    pub fn reading(&self) -> Option<&Reading> {
        match self {
            ColumnKind::Number(reading) | ColumnKind::Numbers { reading, times: false, .. } => Some(reading),
            _ => None,
        }
    }

    /// The kind of feature.
    pub fn feature(&self) -> FeatureKind {
        match self {
            ColumnKind::Label { .. } => FeatureKind::Label,
            ColumnKind::Number(_) => FeatureKind::Number,
            ColumnKind::Time => FeatureKind::Time,
            ColumnKind::Id { .. } => FeatureKind::Id,
            ColumnKind::Ids { ordered: false, .. } => FeatureKind::Ids,
            ColumnKind::Ids { ordered: true, .. } | ColumnKind::Numbers { .. } => FeatureKind::Seq,
            ColumnKind::Key => FeatureKind::Key,
            ColumnKind::Flag { .. } => FeatureKind::Flag,
            ColumnKind::Drawn { .. } => FeatureKind::Drawn,
        }
    }

    /// What numbers the values of an id column.
    pub fn numbering(&self) -> Option<&Encoder> {
        self.encoder().map(Encoder::numbering)
    }

    /// The encoder of an id column.
    pub fn encoder(&self) -> Option<&Encoder> {
        match self {
            ColumnKind::Id { encoder } | ColumnKind::Ids { encoder, .. } => Some(encoder),
            ColumnKind::Label { .. } | ColumnKind::Number(_) | ColumnKind::Key | ColumnKind::Flag { .. } => None,
            ColumnKind::Numbers { .. } | ColumnKind::Time | ColumnKind::Drawn { .. } => None,
        }
    }
}

/// How text becomes a number.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// The value of an empty cell, or of an empty entry of one; an error without one.
    pub fill: Option<f32>,
    /// Whether the mean and the deviation are learned of what these steps make of it.
    pub moments: Option<Vec<NumberStep>>,
    /// Whether no transform stands behind it: the model gets the number as the file has it.
    pub raw: bool,
}

/// How the text of an id becomes a row; row 0 is "unseen or missing".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Encoder {
    /// A dictionary learned from training data, in order of first appearance.
    Vocab {
        /// Values seen less often are unseen.
        min_count: u32,
    },
    /// The dictionary of another column.
    VocabOf(u32),
    /// `1 + hash mod buckets`
    Hash {
        /// Rows beside row 0.
        buckets: u32,
        /// Which hash function.
        seed: u32,
    },
    /// `1 +` the number of bounds at or below the value.
    Bucket {
        /// Ascending.
        bounds: Vec<f64>,
    },
    /// A part of the row that a dictionary or a hash gives: a quotient and a remainder together tell rows apart (Shi et al. 2020).
    Part {
        /// What gives the row.
        of: Box<Encoder>,
        /// Which part.
        part: RowPart,
        /// What it is divided by.
        divisor: u32,
    },
}

/// A part of a row's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RowPart {
    /// Row `1 + (row - 1) / divisor`.
    Quotient,
    /// Row `1 + (row - 1) mod divisor`.
    Remainder,
}

impl RowPart {
    /// The part of a row; row 0 stays.
    pub fn of(self, row: u32, divisor: u32) -> u32 {
        match (self, row.checked_sub(1)) {
            (_, None) => 0,
            (RowPart::Quotient, Some(place)) => 1 + place / divisor,
            (RowPart::Remainder, Some(place)) => 1 + place % divisor,
        }
    }

    /// The rows beside row 0 that parts of so many rows beside row 0 reach.
    pub fn reached(self, rows: u64, divisor: u32) -> u64 {
        match self {
            RowPart::Quotient => rows.div_ceil(u64::from(divisor)),
            RowPart::Remainder => rows.min(u64::from(divisor)),
        }
    }
}

impl Encoder {
    /// What numbers the values, whatever part of the number indexes a table.
    pub fn numbering(&self) -> &Encoder {
        match self {
            Encoder::Part { of, .. } => of.numbering(),
            other => other,
        }
    }

    /// The part of a row that indexes a table, if not all of it: which, and the divisor.
    pub fn part(&self) -> Option<(RowPart, u32)> {
        match self {
            Encoder::Part { part, divisor, .. } => Some((*part, *divisor)),
            _ => None,
        }
    }

    /// The rows beside row 0 that ids reach where the program alone tells.
    pub fn rows_reached(&self) -> Option<u64> {
        match self {
            Encoder::Hash { buckets, .. } => Some(u64::from(*buckets)),
            Encoder::Bucket { bounds } => Some(bounds.len() as u64 + 1),
            Encoder::Vocab { .. } | Encoder::VocabOf(_) => None,
            Encoder::Part { of, part, divisor } => of.rows_reached().map(|rows| part.reached(rows, *divisor)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{RowPart, Split, Take};
    use std::collections::BTreeSet;

    #[test]
    fn long_sequences_are_shortened_as_often_as_the_paper_says() {
        let (take, aligned, weighted) = (Some(Take::Last(100)), None, None);
        let split = Split { separator: " ".to_owned(), take, aligned, weighted, stochastic: Some(1.6) };
        // 100^0.8 is 39.8, and 100^1.6 over 80^2 is 0.248.
        let lengths = |count: usize| (0..1000).map(move |at| split.stochastic_length(count, f64::from(at) / 1000.0));
        assert!(lengths.clone()(39).all(|length| length == 39));
        let kept = lengths(80).filter(|length| *length == 80).count();
        assert!(kept == 248, "{kept}");
        let never = Split { separator: " ".to_owned(), take: Some(Take::Last(100)), aligned: None, weighted: None, stochastic: None };
        assert_eq!(never.stochastic_length(80, 0.9), 80);
    }

    #[test]
    fn parts_of_a_number_tell_rows_apart() {
        for (rows, divisor) in [(1u32, 1u32), (1, 5), (7, 3), (9, 3), (10, 100), (100, 1)] {
            let pairs: BTreeSet<(u32, u32)> =
                (1..=rows).map(|row| (RowPart::Quotient.of(row, divisor), RowPart::Remainder.of(row, divisor))).collect();
            assert_eq!(pairs.len(), rows as usize, "{rows} by {divisor}");
            let most = |part: RowPart| (1..=rows).map(|row| part.of(row, divisor)).max().map(u64::from);
            for part in [RowPart::Quotient, RowPart::Remainder] {
                assert_eq!(most(part), Some(part.reached(u64::from(rows), divisor)), "{part:?} of {rows} by {divisor}");
                assert_eq!((part.of(0, divisor), part.reached(0, divisor)), (0, 0));
            }
        }
    }
}
