//! Conditions on a row: cohorts, and the rows that a loss is of.

use serde::{Deserialize, Serialize};

/// A condition on the parsed columns of a row, before their transforms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Predicate {
    /// A number or a label compared with a bound.
    Compare {
        /// Position in `Program::columns`.
        column: u32,
        /// How.
        with: Comparison,
        /// With what.
        bound: Bound,
    },
    /// An id or a key is one of some values, or a bag holds one of them.
    OneOf {
        /// Position in `Program::columns`.
        column: u32,
        /// The values as the data write them.
        values: Vec<String>,
    },
    /// It does not hold.
    Not(Box<Predicate>),
    /// Both hold.
    And(Box<Predicate>, Box<Predicate>),
    /// One of them holds.
    Or(Box<Predicate>, Box<Predicate>),
}

/// How a number is compared with its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Comparison {
    /// Below the bound.
    Lt,
    /// Below or at the bound.
    Le,
    /// At the bound.
    Eq,
}

/// What a number is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Bound {
    /// A number.
    Value(f64),
    /// The least value of the column that this share of the training rows does not exceed.
    Quantile(f64),
}

impl Predicate {
    /// Every column it reads, some more than once.
    pub fn columns(&self) -> Vec<u32> {
        match self {
            Predicate::Compare { column, .. } | Predicate::OneOf { column, .. } => vec![*column],
            Predicate::Not(inner) => inner.columns(),
            Predicate::And(a, b) | Predicate::Or(a, b) => a.columns().into_iter().chain(b.columns()).collect(),
        }
    }

    /// The quantiles it compares with: column and share.
    pub fn quantiles(&self) -> Vec<(u32, f64)> {
        match self {
            Predicate::Compare { column, bound: Bound::Quantile(share), .. } => vec![(*column, *share)],
            Predicate::Compare { .. } | Predicate::OneOf { .. } => Vec::new(),
            Predicate::Not(inner) => inner.quantiles(),
            Predicate::And(a, b) | Predicate::Or(a, b) => a.quantiles().into_iter().chain(b.quantiles()).collect(),
        }
    }
}
