//! Sum over items: over the examples of a batch, the touched rows of a table, or the first axis of a global value.
//!
//! It ends a phase: the result is known only when every item has been seen. Lanes sum apart and are added in order.

use super::{Broadcast, GradientCx, Op, OpDef, one};
use crate::graph::reference::{Item, ReferenceCx, Tensor};
use crate::graph::{DType, NodeId, Space, TensorType};
use crate::loops::Reg;
use crate::plan::emit::{At, Emitter};

/// Sums over items.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BatchSum;

impl OpDef for BatchSum {
    const NAME: &'static str = "batch_sum";

    fn attributes(&self) -> String {
        String::new()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let input = one(Self::NAME, inputs)?;
        if !matches!(input.dtype, DType::F32 | DType::F64) || input.is_ragged() {
            return Err(format!("a sum over items of {input}"));
        }
        let dims = match (input.space, input.dims.split_first()) {
            (Space::Global, Some((_, rest))) => rest.to_vec(),
            (Space::Global, None) => return Err("a sum over items of a single number".to_owned()),
            (Space::Example | Space::Row(_), _) => input.dims.clone(),
        };
        Ok(TensorType { space: Space::Global, dtype: input.dtype, dims })
    }

    fn gradient(&self, cx: &mut GradientCx<'_>) -> Vec<Option<NodeId>> {
        let ty = cx.graph[cx.operands[0]].ty.clone();
        let shift = usize::from(ty.space == Space::Global);
        let axes = (shift..ty.dims.len()).collect();
        vec![Some(cx.graph.add(Op::Broadcast(Broadcast { space: ty.space, dims: ty.dims, axes }), &[cx.gradient]))]
    }

    fn reference(&self, cx: &ReferenceCx<'_>, inputs: &[&Tensor]) -> Tensor {
        let dims = cx.dims(0);
        let mut out = Item::filled(&dims, 0.0);
        let len = out.data.len();
        for item in &inputs[0].items {
            item.data.iter().enumerate().for_each(|(at, value)| out.data[at % len.max(1)] += value);
        }
        Tensor { items: vec![out] }
    }

    fn element(&self, cx: &mut Emitter<'_>, node: NodeId, _: &At) -> Reg {
        cx.unstored(node)
    }
}
