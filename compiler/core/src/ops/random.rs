//! Uniform random numbers on [0, 1): a function of seed, place, epoch, row or step, and element, so that no order of work changes them.

use super::{GradientCx, OpDef, none};
use crate::graph::reference::{Item, ReferenceCx, Tensor};
use crate::graph::{Dim, NodeId, Space, TensorType};
use crate::loops::{Affine, Instr, Reg, Type};
use crate::plan::emit::{At, Emitter, linear};
use recc_abi::InputSource;

/// Draws numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Random {
    /// The place in the spec.
    pub site: String,
    /// Whether they are for each example, or once for the batch.
    pub space: Space,
    /// Shape of one item.
    pub dims: Vec<Dim>,
}

/// Numbers that a row of pairs has: as many as a sequence with pairs has steps at most, so that no two pairs of an example share one.
const PAIRS: u32 = 1 << 12;

/// Mixes 32 bits well (Wellons' `lowbias32`).
fn mix(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb_352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

/// The number of an element: the function every back end computes.
fn uniform(key: u32, row: u32, element: u32) -> f32 {
    let row_key = mix(row.wrapping_add(key));
    let bits = mix(element.wrapping_mul(0x9e37_79b9) ^ row_key);
    (bits >> 8) as f32 * (1.0 / 16_777_216.0)
}

impl OpDef for Random {
    const NAME: &'static str = "random";

    fn attributes(&self) -> String {
        self.site.clone()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        none(Self::NAME, inputs)?;
        let ty = TensorType::f32(self.space, &self.dims);
        if !ty.is_storable() || matches!(self.space, Space::Row(_)) {
            return Err(format!("random numbers as {ty}"));
        }
        Ok(ty)
    }

    fn gradient(&self, _: &mut GradientCx<'_>) -> Vec<Option<NodeId>> {
        Vec::new()
    }

    fn reference(&self, cx: &ReferenceCx<'_>, _: &[&Tensor]) -> Tensor {
        let key = cx.data.random_key(&self.site);
        let items = (0..cx.items()).map(|item| {
            let dims = cx.dims(item);
            let len = dims.iter().product::<usize>();
            let number = |at: usize| match dims.last() {
                Some(&width) if cx.ty.is_pairs() => ((at / width) as u32).wrapping_mul(PAIRS).wrapping_add((at % width) as u32),
                _ => at as u32,
            };
            Item { data: (0..len).map(|at| f64::from(uniform(key, item as u32, number(at)))).collect(), dims }
        });
        Tensor { items: items.collect() }
    }

    fn element(&self, cx: &mut Emitter<'_>, _: NodeId, at: &At) -> Reg {
        let key = cx.load_at(InputSource::RandomKey { site: self.site.clone() }, 1, Type::I32, Affine::default());
        // What a batch draws once differs from step to step.
        let row = match self.space {
            Space::Global => cx.load_at(InputSource::StepNumber, 1, Type::I32, Affine::default()),
            Space::Example | Space::Row(_) => cx.load_row_number(at.item.clone()),
        };
        // Counted within the example: the same for any batch it is in.
        let mut index = at.index.clone();
        for (dim, own) in self.dims.iter().zip(&mut index) {
            if let Dim::Entries(column) = dim {
                let (begin, _) = cx.bounds(*column, &at.item);
                *own = own.plus(&Affine::reg(begin).times(-1));
            }
        }
        let element = match (index.split_last(), self.dims.split_last()) {
            (Some((last, leading)), Some((Dim::Entries(_), rows))) if !rows.is_empty() => {
                linear(rows, leading).times(i64::from(PAIRS)).plus(last)
            }
            _ => linear(&self.dims, &index),
        };
        let row_key = cx.define(Type::I32, Instr::RowKey { key, row });
        cx.define(Type::F32, Instr::Random { row_key, element })
    }
}

#[cfg(test)]
mod tests {
    use super::uniform;

    #[test]
    fn numbers_are_uniform_along_rows_and_elements() {
        for (rows, elements) in [(1000u32, 100u32), (1, 100_000), (100_000, 1)] {
            let n = f64::from(rows * elements);
            let values: Vec<f64> =
                (0..rows).flat_map(|row| (0..elements).map(move |element| f64::from(uniform(77, row, element)))).collect();
            let mean = values.iter().sum::<f64>() / n;
            let square = values.iter().map(|v| v * v).sum::<f64>() / n;
            assert!((mean - 0.5).abs() < 5e-3, "{mean}");
            assert!((square - 1.0 / 3.0).abs() < 5e-3, "{square}");
            let neighbours = values.windows(2).map(|pair| (pair[0] - 0.5) * (pair[1] - 0.5)).sum::<f64>() / n;
            assert!(neighbours.abs() < 1.5e-3, "{neighbours}");
        }
    }
}
