//! The number of entries of a bag or a sequence, per example.

use super::{GradientCx, OpDef, none};
use crate::graph::reference::{ReferenceCx, Tensor};
use crate::graph::{NodeId, Space, TensorType};
use crate::loops::{Instr, Reg, Type};
use crate::plan::emit::{At, Emitter};

/// Counts entries.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Length {
    /// Position in the program's columns.
    pub column: u32,
}

impl OpDef for Length {
    const NAME: &'static str = "length";

    fn attributes(&self) -> String {
        format!("column {}", self.column)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        none(Self::NAME, inputs)?;
        Ok(TensorType::f32(Space::Example, &[]))
    }

    fn gradient(&self, _: &mut GradientCx<'_>) -> Vec<Option<NodeId>> {
        Vec::new()
    }

    fn reference(&self, cx: &ReferenceCx<'_>, _: &[&Tensor]) -> Tensor {
        cx.each_item(|item, _| vec![cx.data.bag(self.column, item).len() as f64])
    }

    fn element(&self, cx: &mut Emitter<'_>, _: NodeId, at: &At) -> Reg {
        let (begin, end) = cx.bounds(self.column, &at.item);
        cx.define(Type::F32, Instr::CountBetween(end, begin))
    }
}
