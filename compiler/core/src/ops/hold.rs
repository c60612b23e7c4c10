//! A value as a constant: no gradient goes through it. Rewrites drop it, once gradients are derived.

use super::{GradientCx, OpDef, one};
use crate::graph::reference::{ReferenceCx, Tensor};
use crate::graph::{NodeId, TensorType};
use crate::loops::Reg;
use crate::plan::emit::{At, Emitter};

/// Holds a value constant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hold;

impl OpDef for Hold {
    const NAME: &'static str = "hold";

    fn attributes(&self) -> String {
        String::new()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        one(Self::NAME, inputs).cloned()
    }

    fn gradient(&self, _: &mut GradientCx<'_>) -> Vec<Option<NodeId>> {
        vec![None]
    }

    fn reference(&self, _: &ReferenceCx<'_>, inputs: &[&Tensor]) -> Tensor {
        inputs[0].clone()
    }

    fn element(&self, cx: &mut Emitter<'_>, node: NodeId, at: &At) -> Reg {
        let operand = cx.operand(node, 0);
        cx.value(operand, at)
    }
}
