//! Values one after another along an axis.

use super::{GradientCx, Op, OpDef, Slice};
use crate::graph::reference::{Item, ReferenceCx, Tensor, positions};
use crate::graph::{Dim, NodeId, TensorType};
use crate::loops::Reg;
use crate::plan::emit::{At, Emitter};

/// Joins values.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Concat {
    /// Along which axis.
    pub axis: usize,
}

impl OpDef for Concat {
    const NAME: &'static str = "concat";

    fn attributes(&self) -> String {
        format!("axis {}", self.axis)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let Some(first) = inputs.first() else { return Err("`concat` of nothing".to_owned()) };
        let mut total = 0;
        for input in inputs {
            let other_axes =
                |dims: &[Dim]| dims.iter().enumerate().filter(|(axis, _)| *axis != self.axis).map(|(_, dim)| *dim).collect::<Vec<_>>();
            let fits = input.space == first.space
                && input.dtype == first.dtype
                && input.dims.len() == first.dims.len()
                && other_axes(&input.dims) == other_axes(&first.dims);
            match input.dims.get(self.axis) {
                Some(Dim::Fixed(n)) if fits => total += n,
                _ => return Err(format!("{first} and {input} along axis {}", self.axis)),
            }
        }
        let mut ty = (*first).clone();
        ty.dims[self.axis] = Dim::Fixed(total);
        Ok(ty)
    }

    fn gradient(&self, cx: &mut GradientCx<'_>) -> Vec<Option<NodeId>> {
        let mut start = 0;
        let mut gradients = Vec::new();
        for operand in cx.operands.clone() {
            let len = cx.graph[operand].ty.dims[self.axis].fixed().unwrap_or(0);
            gradients.push(Some(cx.graph.add(Op::Slice(Slice { axis: self.axis, start, len }), &[cx.gradient])));
            start += len;
        }
        gradients
    }

    fn reference(&self, cx: &ReferenceCx<'_>, inputs: &[&Tensor]) -> Tensor {
        let items = (0..inputs[0].items.len()).map(|item| {
            let dims = cx.dims(item);
            let data = positions(&dims).map(|mut at| {
                let mut source = 0;
                while at[self.axis] >= inputs[source].items[item].dims[self.axis] {
                    at[self.axis] -= inputs[source].items[item].dims[self.axis];
                    source += 1;
                }
                inputs[source].items[item].at(&at)
            });
            Item { data: data.collect(), dims }
        });
        Tensor { items: items.collect() }
    }

    fn element(&self, cx: &mut Emitter<'_>, node: NodeId, _: &At) -> Reg {
        cx.unstored(node)
    }
}
