//! The gradient of rows picked by number: values summed over items and axes into the rows that they belong to.

use super::pick::row;
use super::{GradientCx, Op, OpDef, Pick, two};
use crate::graph::reference::{Item, ReferenceCx, Tensor};
use crate::graph::{DType, Dim, NodeId, Space, TensorType};
use crate::loops::Reg;
use crate::plan::emit::{At, Emitter};

/// Sums by row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scatter {
    /// Shape of the rows.
    pub dims: Vec<u64>,
}

impl OpDef for Scatter {
    const NAME: &'static str = "scatter";

    fn attributes(&self) -> String {
        format!("to {:?}", self.dims)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let [values, numbers] = two(Self::NAME, inputs)?;
        let row: Vec<Dim> = self.dims.iter().skip(1).map(|dim| Dim::Fixed(*dim)).collect();
        let shape: Vec<Dim> = numbers.dims.iter().copied().chain(row.iter().copied()).collect();
        let fits = values.space == Space::Example && numbers.space == Space::Example && values.dtype == DType::F32;
        if !fits || values.dims != shape || self.dims.is_empty() {
            return Err(format!("{values} by {numbers} into rows of {row:?}"));
        }
        Ok(TensorType::f32(Space::Global, &self.dims.iter().map(|dim| Dim::Fixed(*dim)).collect::<Vec<_>>()))
    }

    fn gradient(&self, cx: &mut GradientCx<'_>) -> Vec<Option<NodeId>> {
        vec![Some(cx.graph.add(Op::Pick(Pick), &[cx.gradient, cx.operands[1]])), None]
    }

    fn reference(&self, cx: &ReferenceCx<'_>, inputs: &[&Tensor]) -> Tensor {
        let dims = cx.dims(0);
        let mut out = Item::filled(&dims, 0.0);
        let width = dims[1..].iter().product::<usize>();
        for (values, numbers) in inputs[0].items.iter().zip(&inputs[1].items) {
            for (number, values) in numbers.data.iter().zip(values.data.chunks(width.max(1))) {
                let row = row(*number, dims[0]);
                out.data[row * width..(row + 1) * width].iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            }
        }
        Tensor { items: vec![out] }
    }

    fn element(&self, cx: &mut Emitter<'_>, node: NodeId, _: &At) -> Reg {
        cx.unstored(node)
    }
}
