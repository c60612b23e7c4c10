//! The next or the previous entry of a sequence: `[~L, ..] -> [~L, ..]`. Where there is none a number is zero, and a whole number repeats.

use super::{GradientCx, Op, OpDef, one};
use crate::graph::reference::{Item, ReferenceCx, Tensor};
use crate::graph::{DType, NodeId, TensorType};
use crate::loops::{Affine, Instr, Reg, Type};
use crate::plan::emit::{At, Emitter};
use crate::scalar::ScalarOp;

/// Moves entries.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shift {
    /// Whether each entry takes the previous one's value, and not the next one's.
    pub back: bool,
}

impl OpDef for Shift {
    const NAME: &'static str = "shift";

    fn attributes(&self) -> String {
        if self.back { "back".to_owned() } else { String::new() }
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let input = one(Self::NAME, inputs)?;
        if input.entries().is_none() || input.is_pairs() || !matches!(input.dtype, DType::F32 | DType::I32) {
            return Err(format!("a shift of {input}"));
        }
        Ok(input.clone())
    }

    fn gradient(&self, cx: &mut GradientCx<'_>) -> Vec<Option<NodeId>> {
        vec![Some(cx.graph.add(Op::Shift(Shift { back: !self.back }), &[cx.gradient]))]
    }

    fn reference(&self, cx: &ReferenceCx<'_>, inputs: &[&Tensor]) -> Tensor {
        let repeats = cx.ty.dtype == DType::I32;
        let items = inputs[0].items.iter().map(|source| {
            let width = source.dims[1..].iter().product::<usize>();
            let keep = source.data.len().saturating_sub(width);
            let edge = if self.back { &source.data[..source.data.len() - keep] } else { &source.data[keep..] };
            let zeros = if repeats { edge.to_vec() } else { vec![0.0; edge.len()] };
            let data =
                if self.back { [zeros, source.data[..keep].to_vec()] } else { [source.data[source.data.len() - keep..].to_vec(), zeros] };
            Item { dims: source.dims.clone(), data: data.concat() }
        });
        Tensor { items: items.collect() }
    }

    fn element(&self, cx: &mut Emitter<'_>, node: NodeId, at: &At) -> Reg {
        let operand = cx.operand(node, 0);
        let column = cx.ty(operand).entries().unwrap_or_else(|| unreachable!("a shift of what has no entries"));
        let (begin, end) = cx.bounds(column, &at.item);
        let other = at.index[0].plus(&Affine::constant(if self.back { -1 } else { 1 }));
        let place = cx.define(Type::I32, Instr::Place(other));
        let distance = if self.back { Instr::CountBetween(place, begin) } else { Instr::CountBetween(end, place) };
        let distance = cx.define(Type::F32, distance);
        // The entry that is read exists, also where its value is not used.
        let inside = cx.define(Type::I32, Instr::Clamp { number: place, begin, end });
        let times = cx.ty(operand).dtype == DType::I32;
        let mut index = at.index.clone();
        index[0] = Affine::reg(inside);
        let value = cx.value(operand, &At { item: at.item.clone(), index });
        if times {
            return value;
        }
        let bound = cx.define(Type::F32, Instr::Const(if self.back { -0.5 } else { 0.5 }));
        let exists = cx.define(Type::Bool, Instr::Scalar(ScalarOp::Lt, vec![bound, distance]));
        let zero = cx.define(Type::F32, Instr::Const(0.0));
        cx.define(Type::F32, Instr::Scalar(ScalarOp::Select, vec![exists, value, zero]))
    }
}
