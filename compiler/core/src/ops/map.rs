//! A scalar instruction on each element; operands have one shape.

use super::{GradientCx, OpDef};
use crate::graph::reference::{Item, ReferenceCx, Tensor};
use crate::graph::{DType, NodeId, TensorType};
use crate::loops::{Instr, Reg, Type};
use crate::plan::emit::{At, Emitter};
use crate::scalar::{ScalarOp, Signature};

/// An elementwise operator.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Map {
    /// The instruction.
    pub op: ScalarOp,
}

impl OpDef for Map {
    const NAME: &'static str = "map";

    fn attributes(&self) -> String {
        self.op.name().to_owned()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        if inputs.len() != self.op.arity() {
            return Err(format!("`{}` takes {} operands, not {}", self.op.name(), self.op.arity(), inputs.len()));
        }
        let first = inputs[0];
        if let Some(other) = inputs.iter().find(|other| other.space != first.space || other.dims != first.dims) {
            return Err(format!("`{}` joins {first} with {other}", self.op.name()));
        }
        let wanted: Vec<DType> = match self.op.signature() {
            Signature::Numbers | Signature::Compare => vec![first.dtype; inputs.len()],
            Signature::Logic => vec![DType::Bool; inputs.len()],
            Signature::Select => vec![DType::Bool, inputs[1].dtype, inputs[1].dtype],
            Signature::Widen => vec![DType::F32],
            Signature::Narrow => vec![DType::F64],
        };
        let fits = inputs.iter().zip(&wanted).all(|(input, wanted)| input.dtype == *wanted);
        let numeric =
            !matches!(self.op.signature(), Signature::Numbers | Signature::Compare) || matches!(first.dtype, DType::F32 | DType::F64);
        if !fits || !numeric {
            return Err(format!("`{}` of {}", self.op.name(), inputs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")));
        }
        Ok(match self.op.signature() {
            Signature::Numbers => first.clone(),
            Signature::Compare | Signature::Logic => first.with_dtype(DType::Bool),
            Signature::Select => inputs[1].clone(),
            Signature::Widen => first.with_dtype(DType::F64),
            Signature::Narrow => first.with_dtype(DType::F32),
        })
    }

    fn gradient(&self, cx: &mut GradientCx<'_>) -> Vec<Option<NodeId>> {
        self.op.derive(cx.graph, cx.gradient, &cx.operands, cx.node)
    }

    fn reference(&self, _: &ReferenceCx<'_>, inputs: &[&Tensor]) -> Tensor {
        let items = (0..inputs[0].items.len()).map(|item| {
            let first = &inputs[0].items[item];
            let data = (0..first.data.len())
                .map(|at| self.op.eval(&inputs.iter().map(|input| input.items[item].data[at]).collect::<Vec<_>>()))
                .collect();
            Item { dims: first.dims.clone(), data }
        });
        Tensor { items: items.collect() }
    }

    fn element(&self, cx: &mut Emitter<'_>, node: NodeId, at: &At) -> Reg {
        let operands: Vec<Reg> = cx.operands(node).into_iter().map(|operand| cx.value(operand, at)).collect();
        let ty = match cx.ty(node).dtype {
            DType::F32 => Type::F32,
            DType::F64 => Type::F64,
            DType::I32 => Type::I32,
            DType::Bool => Type::Bool,
        };
        cx.define(ty, Instr::Scalar(self.op, operands))
    }
}
