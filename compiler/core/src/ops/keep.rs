//! A value that exists once and is stored, because several later values read it: what they would otherwise compute again and again.

use super::{GradientCx, OpDef, one};
use crate::graph::reference::{ReferenceCx, Tensor};
use crate::graph::{NodeId, Space, TensorType};
use crate::loops::Reg;
use crate::plan::emit::{At, Emitter};

/// Stores a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Keep;

impl OpDef for Keep {
    const NAME: &'static str = "keep";

    fn attributes(&self) -> String {
        String::new()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let input = one(Self::NAME, inputs)?;
        if input.space == Space::Global { Ok(input.clone()) } else { Err(format!("{input} exists more than once")) }
    }

    fn gradient(&self, cx: &mut GradientCx<'_>) -> Vec<Option<NodeId>> {
        vec![Some(cx.gradient)]
    }

    fn reference(&self, _: &ReferenceCx<'_>, inputs: &[&Tensor]) -> Tensor {
        inputs[0].clone()
    }

    fn element(&self, cx: &mut Emitter<'_>, node: NodeId, at: &At) -> Reg {
        let operand = cx.operand(node, 0);
        cx.value(operand, at)
    }
}
