//! The place of each entry in its sequence, from 0: `[~L]`.

use super::{GradientCx, OpDef, none};
use crate::graph::reference::{ReferenceCx, Tensor};
use crate::graph::{Dim, NodeId, Space, TensorType};
use crate::loops::{Instr, Reg, Type};
use crate::plan::emit::{At, Emitter};

/// Counts entries before each one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// Position in the program's columns.
    pub column: u32,
}

impl OpDef for Position {
    const NAME: &'static str = "position";

    fn attributes(&self) -> String {
        format!("column {}", self.column)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        none(Self::NAME, inputs)?;
        Ok(TensorType::f32(Space::Example, &[Dim::Entries(self.column)]))
    }

    fn gradient(&self, _: &mut GradientCx<'_>) -> Vec<Option<NodeId>> {
        Vec::new()
    }

    fn reference(&self, cx: &ReferenceCx<'_>, _: &[&Tensor]) -> Tensor {
        cx.each_item(|item, _| (0..cx.data.bag(self.column, item).len()).map(|place| place as f64).collect())
    }

    fn element(&self, cx: &mut Emitter<'_>, _: NodeId, at: &At) -> Reg {
        let (begin, _) = cx.bounds(self.column, &at.item);
        let place = cx.define(Type::I32, Instr::Place(at.index[0].clone()));
        cx.define(Type::F32, Instr::CountBetween(place, begin))
    }
}
