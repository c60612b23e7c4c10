//! Writes the touched rows of a table, or of an optimizer's slot beside it. An effect.

use super::{GradientCx, OpDef, one};
use crate::graph::reference::{ReferenceCx, Tensor};
use crate::graph::{NodeId, Space, TableId, TensorType};
use crate::loops::Reg;
use crate::plan::emit::{At, Emitter};
use recc_abi::VariableId;

/// Writes touched rows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RowWrite {
    /// The table.
    pub table: TableId,
    /// The variable.
    pub variable: VariableId,
    /// Its path, for people.
    pub path: String,
}

impl OpDef for RowWrite {
    const NAME: &'static str = "row_write";

    fn attributes(&self) -> String {
        self.path.clone()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let value = one(Self::NAME, inputs)?;
        if value.space != Space::Row(self.table) {
            return Err(format!("rows of {} written from {value}", self.path));
        }
        Ok(value.clone())
    }

    fn gradient(&self, _: &mut GradientCx<'_>) -> Vec<Option<NodeId>> {
        unreachable!("updates are not differentiated")
    }

    fn reference(&self, _: &ReferenceCx<'_>, inputs: &[&Tensor]) -> Tensor {
        inputs[0].clone()
    }

    fn element(&self, cx: &mut Emitter<'_>, node: NodeId, at: &At) -> Reg {
        cx.value(cx.operand(node, 0), at)
    }
}
