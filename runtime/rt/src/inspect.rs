//! What the parameters of a trained state look like: how many are near zero, and how many directions a matrix uses.

use crate::checkpoint::{Generation, Purpose};
use crate::failure::Failure;
use crate::json::number;
use crate::model::Model;
use nalgebra::{DMatrix, SymmetricEigen};
use rayon::prelude::*;
use recc_abi::{Program, Role};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// A parameter below this part of the root mean square of all is near zero.
const NEAR_ZERO: f64 = 0.01;
/// Directions of a matrix are counted up to so many of its shorter side.
const WIDEST: usize = 1024;

/// Figures of one parameter; of a table one for each member.
pub(crate) struct Inspected {
    path: String,
    shape: Vec<usize>,
    rms: f64,
    /// Share of its numbers that are below [`NEAR_ZERO`] of the root mean square.
    near_zero: f64,
    /// Of matrices.
    spectrum: Option<Spectrum>,
}

/// How much of a matrix lies in how many directions, by its singular values s.
#[derive(Clone, Copy)]
pub(crate) struct Spectrum {
    /// exp(-Σ p ln p) with p = s / Σ s (Roy and Vetterli 2007).
    pub(crate) effective_rank: f64,
    /// Σ s / max s (Guo et al. 2024): 1 where one direction holds everything.
    information_abundance: f64,
}

impl Spectrum {
    /// Of a matrix whose product with its transpose this is: its eigenvalues are the squares of the singular values. None of nothing but zeros.
    pub(crate) fn of_products(products: DMatrix<f64>) -> Option<Spectrum> {
        let singular: Vec<f64> = SymmetricEigen::new(products).eigenvalues.iter().map(|own| own.max(0.0).sqrt()).collect();
        let total: f64 = singular.iter().sum();
        let most = singular.iter().copied().fold(0.0, f64::max);
        if !(most > 0.0 && total.is_finite()) {
            return None;
        }
        let shares = singular.iter().map(|own| own / total).filter(|share| *share > 0.0);
        Some(Spectrum { effective_rank: (-shares.map(|share| share * share.ln()).sum::<f64>()).exp(), information_abundance: total / most })
    }
}

/// Figures of all parameters that scoring reads, as they were trained. Row 0 of a table stands for what is unseen and does not count.
pub(crate) fn inspect(program: &Program, generation: &Generation, pool: &rayon::ThreadPool) -> Result<Vec<Inspected>, Failure> {
    generation.verify(program, Purpose::Score)?;
    let mut model = Model::new(program, generation.fitted(program)?, false)?;
    generation.load_values(&mut model, &mut |_, _| Ok(()))?;
    let variables = model.program.variables.iter().enumerate();
    let parameters = variables.filter(|(_, own)| own.role == Role::Parameter && own.scored);
    let parts: Vec<_> =
        parameters.flat_map(|(at, own)| model.saved(at).into_iter().map(move |part| (at, own.table.is_some(), part))).collect();
    let figures = |(at, is_table, part): (usize, bool, crate::model::Saved)| {
        let count: usize = part.shape.iter().product();
        let width = part.shape.last().copied().unwrap_or(1);
        let unseen = if is_table { width.min(count) } else { 0 };
        let values = &model.values[at].floats()[part.start + unseen..part.start + count];
        let count = values.len().max(1) as f64;
        let rms = (values.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / count).sqrt();
        let small = values.iter().filter(|x| f64::from(x.abs()) < NEAR_ZERO * rms).count();
        let near_zero = if rms == 0.0 { 1.0 } else { small as f64 / count };
        Inspected { path: part.path, shape: part.shape, rms, near_zero, spectrum: spectrum(values, width) }
    };
    Ok(pool.install(|| parts.into_par_iter().map(figures).collect()))
}

/// Of a matrix with rows of some width, unless it has one row or column, nothing but zeros, or too many of both.
fn spectrum(values: &[f32], width: usize) -> Option<Spectrum> {
    let rows = values.len() / width.max(1);
    let side = rows.min(width);
    if !(2..=WIDEST).contains(&side) {
        return None;
    }
    let mut gram = DMatrix::<f64>::zeros(side, side);
    let long = rows.max(width);
    let element =
        |short: usize, along: usize| f64::from(if width <= rows { values[along * width + short] } else { values[short * width + along] });
    let mut line = vec![0.0; side];
    for along in 0..long {
        line.iter_mut().enumerate().for_each(|(short, own)| *own = element(short, along));
        for (column, own) in line.iter().enumerate() {
            gram.column_mut(column).iter_mut().zip(&line).for_each(|(sum, other)| *sum += own * other);
        }
    }
    Spectrum::of_products(gram)
}

/// A table of the figures.
pub(crate) fn text(inspected: &[Inspected]) -> String {
    let shape = |own: &Inspected| own.shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(" x ");
    let wide = |of: &dyn Fn(&Inspected) -> usize, head: &str| inspected.iter().map(of).max().unwrap_or(0).max(head.len());
    let (path, shapes) = (wide(&|own| own.path.len(), "parameter"), wide(&|own| shape(own).len(), "shape"));
    let mut out = format!(
        "  {:<path$}  {:>shapes$}  {:>10}  {:>9}  {:>14}  {:>9}\n",
        "parameter", "shape", "rms", "near zero", "effective rank", "abundance"
    );
    for own in inspected {
        let of = |pick: fn(&Spectrum) -> f64| own.spectrum.as_ref().map_or("-".to_owned(), |spectrum| format!("{:.2}", pick(spectrum)));
        let (rank, abundance) = (of(|own| own.effective_rank), of(|own| own.information_abundance));
        let _ = writeln!(
            out,
            "  {:<path$}  {:>shapes$}  {:>10.3e}  {:>9.4}  {rank:>14}  {abundance:>9}",
            own.path,
            shape(own),
            own.rms,
            own.near_zero
        );
    }
    out
}

/// The figures by path.
pub(crate) fn json(inspected: &[Inspected]) -> Value {
    let figures = |own: &Inspected| {
        let of = |pick: fn(&Spectrum) -> f64| own.spectrum.as_ref().map_or(Value::Null, |spectrum| number(pick(spectrum)));
        json!({
            "shape": own.shape, "rms": number(own.rms), "near_zero": number(own.near_zero),
            "effective_rank": of(|own| own.effective_rank), "information_abundance": of(|own| own.information_abundance),
        })
    };
    Value::Object(inspected.iter().map(|own| (own.path.clone(), figures(own))).collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::spectrum;

    fn close(own: f64, expected: f64) {
        assert!((own - expected).abs() < 1e-6, "{own} for {expected}");
    }

    #[test]
    fn spectra_are_those_of_known_matrices() {
        // Equal directions, one direction, and singular values 3 and 1, along either side.
        let equal = spectrum(&[2.0, 0.0, 0.0, 2.0, 0.0, 0.0], 2).expect("a matrix");
        close(equal.effective_rank, 2.0);
        close(equal.information_abundance, 2.0);
        let one = spectrum(&[1.0, 2.0, 2.0, 4.0, 3.0, 6.0], 2).expect("a matrix");
        close(one.information_abundance, 1.0);
        let entropy = -(0.75f64 * 0.75f64.ln() + 0.25 * 0.25f64.ln());
        for (values, width) in [([3.0, 0.0, 0.0, 0.0, 1.0, 0.0], 3), ([3.0, 0.0, 0.0, 1.0, 0.0, 0.0], 2)] {
            let own = spectrum(&values, width).expect("a matrix");
            close(own.effective_rank, entropy.exp());
            close(own.information_abundance, 4.0 / 3.0);
        }
        assert!(spectrum(&[1.0, 2.0], 2).is_none() && spectrum(&[0.0; 6], 2).is_none() && spectrum(&[], 3).is_none());
    }
}
