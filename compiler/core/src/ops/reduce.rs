//! Sum, maximum or minimum along axes of one item. Over no elements a sum is 0.

use super::{Broadcast, GradientCx, Op, OpDef, one};
use crate::graph::reference::{Item, ReferenceCx, Tensor, positions};
use crate::graph::{DType, Dim, NodeId, TensorType};
use crate::loops::{Combine, Reg, Type};
use crate::plan::emit::{At, Emitter};
use crate::scalar::ScalarOp;

/// Reduces axes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reduce {
    /// How.
    pub combine: Combine,
    /// Which axes, ascending.
    pub axes: Vec<usize>,
}

impl Reduce {
    fn kept(&self, rank: usize) -> Vec<usize> {
        (0..rank).filter(|axis| !self.axes.contains(axis)).collect()
    }
}

impl OpDef for Reduce {
    const NAME: &'static str = "reduce";

    fn attributes(&self) -> String {
        format!("{} over {:?}", self.combine.scalar().name(), self.axes)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let input = one(Self::NAME, inputs)?;
        let fits = !self.axes.is_empty()
            && self.axes.windows(2).all(|pair| pair[0] < pair[1])
            && self.axes.iter().all(|axis| *axis < input.dims.len());
        if !fits || !matches!(input.dtype, DType::F32 | DType::F64) {
            return Err(format!("axes {:?} of {input}", self.axes));
        }
        let dims: Vec<Dim> = self.kept(input.dims.len()).into_iter().map(|axis| input.dims[axis]).collect();
        Ok(TensorType { dims, ..input.clone() })
    }

    fn gradient(&self, cx: &mut GradientCx<'_>) -> Vec<Option<NodeId>> {
        let operand = cx.operands[0];
        let ty = cx.graph[operand].ty.clone();
        let axes = self.kept(ty.dims.len());
        let repeat = |graph: &mut crate::graph::Graph, node| {
            graph.add(Op::Broadcast(Broadcast { space: ty.space, dims: ty.dims.clone(), axes: axes.clone() }), &[node])
        };
        if self.combine == Combine::Add {
            return vec![Some(repeat(cx.graph, cx.gradient))];
        }
        // The gradient goes to the extreme elements, in equal parts where several are equal.
        let extreme = repeat(cx.graph, cx.node);
        let hit = cx.graph.map(ScalarOp::Eq, &[operand, extreme]);
        let one = cx.graph.constant_like(operand, 1.0);
        let zero = cx.graph.constant_like(operand, 0.0);
        let ones = cx.graph.map(ScalarOp::Select, &[hit, one, zero]);
        let count = cx.graph.add(Op::Reduce(Reduce { combine: Combine::Add, axes: self.axes.clone() }), &[ones]);
        let share = cx.graph.map(ScalarOp::Div, &[cx.gradient, count]);
        let share = repeat(cx.graph, share);
        vec![Some(cx.graph.map(ScalarOp::Select, &[hit, share, zero]))]
    }

    fn reference(&self, _: &ReferenceCx<'_>, inputs: &[&Tensor]) -> Tensor {
        let items = inputs[0].items.iter().map(|source| {
            let kept = self.kept(source.dims.len());
            let dims: Vec<usize> = kept.iter().map(|axis| source.dims[*axis]).collect();
            let mut out = Item::filled(&dims, self.combine.identity());
            for (at, value) in positions(&source.dims).zip(&source.data) {
                let place = out.offset(&kept.iter().map(|axis| at[*axis]).collect::<Vec<_>>());
                out.data[place] = self.combine.scalar().eval(&[out.data[place], *value]);
            }
            out
        });
        Tensor { items: items.collect() }
    }

    fn element(&self, cx: &mut Emitter<'_>, node: NodeId, at: &At) -> Reg {
        let operand = cx.operand(node, 0);
        let ty = cx.ty(operand).clone();
        let kept = self.kept(ty.dims.len());
        let dims: Vec<Dim> = self.axes.iter().map(|axis| ty.dims[*axis]).collect();
        let reg = if ty.dtype == DType::F64 { Type::F64 } else { Type::F32 };
        let axes = self.axes.clone();
        cx.reduce(self.combine, reg, &dims, at, move |cx, reduced| {
            let mut index = vec![crate::loops::Affine::default(); ty.dims.len()];
            for (axis, own) in kept.iter().zip(&at.index) {
                index[*axis] = own.clone();
            }
            for (axis, own) in axes.iter().zip(reduced) {
                index[*axis] = own.clone();
            }
            cx.value(operand, &At { item: at.item.clone(), index })
        })
    }
}
