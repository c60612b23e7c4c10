//! What the units of an exposed value do over the rows of an evaluation: how many are dead, how many directions they use, how many of them a row uses.

use crate::inspect::Spectrum;
use crate::json::number;
use nalgebra::DMatrix;
use recc_abi::Inspected;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// A unit below this size gives nothing.
const NOTHING: f32 = 1e-6;
/// A unit that gives nothing for this share of the rows or more is dead.
const DEAD: f64 = 0.999;
/// Directions are counted of values that are no wider.
const WIDEST: usize = 256;

/// The units of one value over the rows seen so far.
#[derive(Clone, Debug)]
pub(crate) struct Activations {
    name: String,
    rows: u64,
    /// Rows for which each unit gives something.
    given: Vec<u64>,
    /// Sum over rows of exp(-Σ p ln p) with p = |x| / Σ |x|.
    spread: f64,
    /// Sum over rows of all products of two units, of values that are not too wide.
    products: Option<DMatrix<f64>>,
}

impl Activations {
    pub(crate) fn new(inspected: &Inspected) -> Self {
        let width = inspected.width as usize;
        let products = (2..=WIDEST).contains(&width).then(|| DMatrix::zeros(width, width));
        Activations { name: inspected.name.clone(), rows: 0, given: vec![0; width], spread: 0.0, products }
    }

    /// Numbers of each row.
    pub(crate) fn width(&self) -> usize {
        self.given.len()
    }

    /// Takes rows in.
    pub(crate) fn take(&mut self, values: &[f32]) {
        for row in values.chunks_exact(self.width().max(1)) {
            self.rows += 1;
            for (given, value) in self.given.iter_mut().zip(row) {
                *given += u64::from(value.abs() >= NOTHING);
            }
            self.spread += spread(row);
            if let Some(products) = &mut self.products {
                for (column, &own) in row.iter().enumerate() {
                    let sums = products.column_mut(column);
                    sums.into_iter().zip(row).for_each(|(sum, &other)| *sum += f64::from(own) * f64::from(other));
                }
            }
        }
    }

    fn figures(&self) -> Figures {
        let rows = self.rows.max(1) as f64;
        let dead = self.given.iter().filter(|given| **given as f64 <= (1.0 - DEAD) * rows).count();
        Figures {
            dead: dead as f64 / self.width().max(1) as f64,
            effective_rank: self.products.clone().and_then(Spectrum::of_products).map(|spectrum| spectrum.effective_rank),
            used: self.spread / rows,
        }
    }
}

struct Figures {
    /// Share of the units.
    dead: f64,
    /// Of the matrix of all rows.
    effective_rank: Option<f64>,
    /// Units that a row uses, in the mean: 1 where one has everything, their count where all have the same.
    used: f64,
}

/// exp of the entropy of a row's sizes; 0 of a row of nothing.
fn spread(row: &[f32]) -> f64 {
    let total: f64 = row.iter().map(|value| f64::from(value.abs())).sum();
    if total == 0.0 {
        return 0.0;
    }
    let shares = row.iter().map(|value| f64::from(value.abs()) / total).filter(|share| *share > 0.0);
    (-shares.map(|share| share * share.ln()).sum::<f64>()).exp()
}

/// A table of the figures.
pub(crate) fn text(all: &[Activations]) -> String {
    let name = all.iter().map(|own| own.name.len()).max().unwrap_or(0).max("exposed".len());
    let mut out = format!("  {:<name$}  {:>6}  {:>6}  {:>14}  {:>10}\n", "exposed", "units", "dead", "effective rank", "used a row");
    for own in all {
        let Figures { dead, effective_rank, used } = own.figures();
        let rank = effective_rank.map_or("-".to_owned(), |rank| format!("{rank:.2}"));
        let _ = writeln!(out, "  {:<name$}  {:>6}  {dead:>6.4}  {rank:>14}  {used:>10.2}", own.name, own.width());
    }
    out
}

/// The figures by name.
pub(crate) fn json(all: &[Activations]) -> Value {
    let figures = |own: &Activations| {
        let Figures { dead, effective_rank, used } = own.figures();
        json!({"units": own.width(), "dead": number(dead), "effective_rank": effective_rank.map_or(Value::Null, number), "used": number(used)})
    };
    Value::Object(all.iter().map(|own| (own.name.clone(), figures(own))).collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_that_give_nothing_are_dead() {
        let mut own = Activations::new(&Inspected { name: "m.h".to_owned(), width: 4 });
        // The second unit gives something in one row of 2000, the third in three.
        for row in 0..2000 {
            own.take(&[1.0, if row == 5 { 1.0 } else { 0.0 }, if row % 700 == 0 { 2.0 } else { 1e-7 }, -1.0]);
        }
        let figures = own.figures();
        assert_eq!(figures.dead, 0.25);
        assert!((figures.used - 2.0).abs() < 0.01, "{}", figures.used);
        let rank = figures.effective_rank.expect("a matrix");
        assert!(rank > 1.0 && rank < 1.5, "{rank}");
    }

    #[test]
    fn rows_of_nothing_and_no_rows() {
        let mut own = Activations::new(&Inspected { name: "m.h".to_owned(), width: 2 });
        assert_eq!(own.figures().dead, 1.0);
        own.take(&[0.0, 0.0]);
        let figures = own.figures();
        assert_eq!((figures.dead, figures.used, figures.effective_rank), (1.0, 0.0, None));
    }
}
