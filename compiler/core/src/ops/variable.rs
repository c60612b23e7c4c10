//! A dense parameter, a state, or an optimizer's slot, read whole.

use super::{GradientCx, OpDef, none};
use crate::graph::reference::{ReferenceCx, Tensor};
use crate::graph::{Dim, NodeId, Space, TensorType};
use crate::loops::Reg;
use crate::plan::emit::{At, Emitter};
use recc_abi::VariableId;

/// Reads a variable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Variable {
    /// Which.
    pub id: VariableId,
    /// Its path, for people.
    pub path: String,
    /// Its shape.
    pub dims: Vec<u64>,
}

impl OpDef for Variable {
    const NAME: &'static str = "variable";

    fn attributes(&self) -> String {
        self.path.clone()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        none(Self::NAME, inputs)?;
        let dims: Vec<Dim> = self.dims.iter().map(|&n| Dim::Fixed(n)).collect();
        Ok(TensorType::f32(Space::Global, &dims))
    }

    fn gradient(&self, _: &mut GradientCx<'_>) -> Vec<Option<NodeId>> {
        Vec::new()
    }

    fn reference(&self, cx: &ReferenceCx<'_>, _: &[&Tensor]) -> Tensor {
        cx.each_item(|_, _| cx.data.variable(self.id))
    }

    fn element(&self, cx: &mut Emitter<'_>, node: NodeId, at: &At) -> Reg {
        cx.load_variable(self.id, node, at)
    }
}
