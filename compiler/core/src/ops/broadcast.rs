//! Repetition along new axes, and of a global value for every item; axes may change their order. A view: nothing is moved.

use super::{GradientCx, Op, OpDef, Reduce, one};
use crate::graph::reference::{Item, ReferenceCx, Tensor, positions};
use crate::graph::{Dim, NodeId, Space, TensorType};
use crate::loops::{Combine, Reg};
use crate::plan::emit::{At, Emitter};

/// Repeats a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Broadcast {
    /// Over what the result is repeated.
    pub space: Space,
    /// Its shape.
    pub dims: Vec<Dim>,
    /// The axis of the result that each axis of the operand becomes.
    pub axes: Vec<usize>,
}

impl Broadcast {
    /// Axes of the result that the operand lacks.
    pub(crate) fn new_axes(&self) -> Vec<usize> {
        (0..self.dims.len()).filter(|axis| !self.axes.contains(axis)).collect()
    }
}

impl OpDef for Broadcast {
    const NAME: &'static str = "broadcast";

    fn attributes(&self) -> String {
        format!("axes {:?}", self.axes)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let input = one(Self::NAME, inputs)?;
        let fits = input.dims.len() == self.axes.len()
            && (0..self.axes.len()).all(|at| !self.axes[at + 1..].contains(&self.axes[at]))
            && input.dims.iter().zip(&self.axes).all(|(dim, axis)| self.dims.get(*axis) == Some(dim));
        if !fits || (input.space != self.space && input.space != Space::Global) {
            return Err(format!("{input} does not repeat to {:?} by axes {:?}", self.dims, self.axes));
        }
        Ok(TensorType { space: self.space, dtype: input.dtype, dims: self.dims.clone() })
    }

    fn gradient(&self, cx: &mut GradientCx<'_>) -> Vec<Option<NodeId>> {
        let operand = cx.operands[0];
        let axes = self.new_axes();
        let mut gradient = cx.gradient;
        if !axes.is_empty() {
            gradient = cx.graph.add(Op::Reduce(Reduce { combine: Combine::Add, axes }), &[gradient]);
        }
        // What is left has the result's order of axes.
        let mut order = self.axes.clone();
        order.sort_unstable();
        if order != self.axes {
            let axes = order.iter().map(|axis| self.axes.iter().position(|own| own == axis).unwrap_or(0)).collect();
            let dims = cx.graph[operand].ty.dims.clone();
            gradient = cx.graph.add(Op::Broadcast(Broadcast { space: self.space, dims, axes }), &[gradient]);
        }
        if cx.graph[operand].ty.space != self.space {
            gradient = cx.graph.add(Op::BatchSum(super::BatchSum), &[gradient]);
        }
        vec![Some(gradient)]
    }

    fn reference(&self, cx: &ReferenceCx<'_>, inputs: &[&Tensor]) -> Tensor {
        let items = (0..cx.items()).map(|item| {
            let source = if inputs[0].items.len() == cx.items() { &inputs[0].items[item] } else { &inputs[0].items[0] };
            let dims = cx.dims(item);
            let data = positions(&dims).map(|at| source.at(&self.axes.iter().map(|axis| at[*axis]).collect::<Vec<_>>())).collect();
            Item { dims, data }
        });
        Tensor { items: items.collect() }
    }

    fn element(&self, cx: &mut Emitter<'_>, node: NodeId, at: &At) -> Reg {
        let index = self.axes.iter().map(|axis| at.index[*axis].clone()).collect();
        cx.value(cx.operand(node, 0), &At { item: at.item.clone(), index })
    }
}
