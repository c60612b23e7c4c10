//! A place for a value that the training step computes: what a balancing rule reads before gradients exist. No plan has one.

use super::{GradientCx, OpDef, none};
use crate::graph::reference::{ReferenceCx, Tensor};
use crate::graph::{Dim, NodeId, Space, TensorType};
use crate::loops::Reg;
use crate::plan::emit::{At, Emitter};

/// The place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Given {
    /// What stands there.
    pub name: String,
    /// Its shape.
    pub dims: Vec<u64>,
}

impl OpDef for Given {
    const NAME: &'static str = "given";

    fn attributes(&self) -> String {
        self.name.clone()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        none(Self::NAME, inputs)?;
        Ok(TensorType::f32(Space::Global, &self.dims.iter().map(|dim| Dim::Fixed(*dim)).collect::<Vec<_>>()))
    }

    fn gradient(&self, _: &mut GradientCx<'_>) -> Vec<Option<NodeId>> {
        Vec::new()
    }

    fn reference(&self, _: &ReferenceCx<'_>, _: &[&Tensor]) -> Tensor {
        unreachable!("`{}` is given by the training step", self.name)
    }

    fn element(&self, cx: &mut Emitter<'_>, node: NodeId, _: &At) -> Reg {
        cx.unstored(node)
    }
}
