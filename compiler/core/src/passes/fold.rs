//! Constant folding: an elementwise node whose operands are one number each becomes that number.

use super::rebuild;
use crate::graph::{DType, Graph, NodeId, Program, TensorType};
use crate::ops::{Constant, Op};
use crate::scalar::Signature;

pub(super) fn fold_constants(program: &Program) -> Program {
    rebuild(program, |graph, op, operands| {
        let Op::Map(map) = op else { return None };
        if matches!(map.op.signature(), Signature::Compare | Signature::Logic | Signature::Widen | Signature::Narrow) {
            return None;
        }
        let values: Vec<f64> = operands.iter().map(|&operand| constant_value(graph, operand)).collect::<Option<_>>()?;
        let ty: TensorType = graph[*operands.last()?].ty.clone();
        if ty.dtype != DType::F32 {
            return None;
        }
        // The value a machine would compute from `f32` operands.
        let value = f64::from(map.op.eval(&values) as f32);
        let constant = graph.add(Op::Constant(Constant::new(value)), &[]);
        Some(graph.broadcast(constant, ty.space, &ty.dims))
    })
}

/// The number a node is everywhere, if it is one.
pub(super) fn constant_value(graph: &Graph, node: NodeId) -> Option<f64> {
    match &graph[node].op {
        Op::Constant(constant) => Some(constant.value()),
        Op::Broadcast(_) | Op::Reshape(_) => constant_value(graph, *graph.operands(node).first()?),
        _ => None,
    }
}
