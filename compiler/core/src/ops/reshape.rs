//! The same elements, in the same order, in another shape. A view of stored values.

use super::{GradientCx, Op, OpDef, one};
use crate::graph::reference::{Item, ReferenceCx, Tensor};
use crate::graph::{Dim, NodeId, TensorType};
use crate::loops::Reg;
use crate::plan::emit::{At, Emitter};

/// Gives another shape.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reshape {
    /// The shape.
    pub dims: Vec<Dim>,
}

/// Axes of more than one element, which alone matter for where an element lies.
pub(crate) fn long_axes(dims: &[Dim]) -> Vec<usize> {
    (0..dims.len()).filter(|axis| dims[*axis] != Dim::Fixed(1)).collect()
}

impl Reshape {
    /// Whether it only adds or drops axes of one element.
    pub(crate) fn keeps_axes(&self, input: &[Dim]) -> bool {
        let own: Vec<Dim> = long_axes(&self.dims).into_iter().map(|axis| self.dims[axis]).collect();
        let other: Vec<Dim> = long_axes(input).into_iter().map(|axis| input[axis]).collect();
        own == other
    }
}

impl OpDef for Reshape {
    const NAME: &'static str = "reshape";

    fn attributes(&self) -> String {
        String::new()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let input = one(Self::NAME, inputs)?;
        let ty = TensorType { dims: self.dims.clone(), ..input.clone() };
        let by_entries = ty.entries() == input.entries() && !ty.is_pairs() && !input.is_pairs();
        let fits = if by_entries { ty.fixed_len() == input.fixed_len() } else { self.keeps_axes(&input.dims) };
        if !fits || !by_entries && input.len() != ty.len() {
            return Err(format!("{input} as {ty}"));
        }
        Ok(ty)
    }

    fn gradient(&self, cx: &mut GradientCx<'_>) -> Vec<Option<NodeId>> {
        let dims = cx.graph[cx.operands[0]].ty.dims.clone();
        vec![Some(cx.graph.add(Op::Reshape(Reshape { dims }), &[cx.gradient]))]
    }

    fn reference(&self, cx: &ReferenceCx<'_>, inputs: &[&Tensor]) -> Tensor {
        let items = inputs[0].items.iter().enumerate().map(|(item, source)| Item { dims: cx.dims(item), data: source.data.clone() });
        Tensor { items: items.collect() }
    }

    fn element(&self, cx: &mut Emitter<'_>, node: NodeId, at: &At) -> Reg {
        let operand = cx.operand(node, 0);
        let dims = cx.ty(operand).dims.clone();
        if self.keeps_axes(&dims) {
            let mut index = vec![crate::loops::Affine::default(); dims.len()];
            for (to, from) in long_axes(&dims).into_iter().zip(long_axes(&self.dims)) {
                index[to] = at.index[from].clone();
            }
            return cx.value(operand, &At { item: at.item.clone(), index });
        }
        let linear = crate::plan::emit::linear(&self.dims, &at.index);
        if dims.len() == 1 {
            return cx.value(operand, &At { item: at.item.clone(), index: vec![linear] });
        }
        cx.load_linear(operand, &at.item, linear)
    }
}
