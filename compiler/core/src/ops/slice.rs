//! A part along an axis. A view.

use super::{Concat, GradientCx, Op, OpDef, one};
use crate::graph::reference::{Item, ReferenceCx, Tensor, positions};
use crate::graph::{Dim, NodeId, TensorType};
use crate::loops::{Affine, Reg};
use crate::plan::emit::{At, Emitter};

/// Takes a part.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Slice {
    /// Along which axis.
    pub axis: usize,
    /// From where.
    pub start: u64,
    /// How many.
    pub len: u64,
}

impl OpDef for Slice {
    const NAME: &'static str = "slice";

    fn attributes(&self) -> String {
        format!("axis {}, {}..{}", self.axis, self.start, self.start + self.len)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let input = one(Self::NAME, inputs)?;
        match input.dims.get(self.axis) {
            Some(Dim::Fixed(n)) if self.start + self.len <= *n => {
                let mut ty = input.clone();
                ty.dims[self.axis] = Dim::Fixed(self.len);
                Ok(ty)
            }
            _ => Err(format!("{}..{} along axis {} of {input}", self.start, self.start + self.len, self.axis)),
        }
    }

    fn gradient(&self, cx: &mut GradientCx<'_>) -> Vec<Option<NodeId>> {
        let operand = cx.operands[0];
        let total = cx.graph[operand].ty.dims[self.axis].fixed().unwrap_or(0);
        let [before, behind] =
            [self.start, total - self.start - self.len].map(|len| (len > 0).then(|| cx.graph.zeros_along(operand, self.axis, len)));
        let parts: Vec<NodeId> = [before, Some(cx.gradient), behind].into_iter().flatten().collect();
        if let [only] = parts.as_slice() {
            return vec![Some(*only)];
        }
        vec![Some(cx.graph.add(Op::Concat(Concat { axis: self.axis }), &parts))]
    }

    fn reference(&self, cx: &ReferenceCx<'_>, inputs: &[&Tensor]) -> Tensor {
        let items = inputs[0].items.iter().enumerate().map(|(item, source)| {
            let dims = cx.dims(item);
            let data = positions(&dims).map(|mut at| {
                at[self.axis] += self.start as usize;
                source.at(&at)
            });
            Item { data: data.collect(), dims }
        });
        Tensor { items: items.collect() }
    }

    fn element(&self, cx: &mut Emitter<'_>, node: NodeId, at: &At) -> Reg {
        let mut index = at.index.clone();
        index[self.axis] = index[self.axis].plus(&Affine::constant(self.start as i64));
        cx.value(cx.operand(node, 0), &At { item: at.item.clone(), index })
    }
}
