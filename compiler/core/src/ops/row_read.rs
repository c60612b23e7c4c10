//! The values of a table, or of an optimizer's slot beside it, at the touched rows.

use super::{GradientCx, OpDef, none};
use crate::graph::reference::{Item, ReferenceCx, Tensor};
use crate::graph::{Dim, NodeId, Space, TableId, TensorType};
use crate::loops::{Affine, Reg};
use crate::plan::emit::{At, Emitter};
use recc_abi::{InputSource, RowSource, VariableId};

/// Reads touched rows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RowRead {
    /// The table.
    pub table: TableId,
    /// The variable.
    pub variable: VariableId,
    /// Its path, for people.
    pub path: String,
    /// Width of a row; a slot with one value a row has none.
    pub width: Option<u64>,
}

impl OpDef for RowRead {
    const NAME: &'static str = "row_read";

    fn attributes(&self) -> String {
        self.path.clone()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        none(Self::NAME, inputs)?;
        let dims: Vec<Dim> = self.width.iter().map(|&width| Dim::Fixed(width)).collect();
        Ok(TensorType::f32(Space::Row(self.table), &dims))
    }

    fn gradient(&self, _: &mut GradientCx<'_>) -> Vec<Option<NodeId>> {
        unreachable!("its gradient is that of the table")
    }

    fn reference(&self, cx: &ReferenceCx<'_>, _: &[&Tensor]) -> Tensor {
        let values = cx.data.variable(self.variable);
        let width = self.width.unwrap_or(1) as usize;
        let items = cx
            .data
            .touched(self.table)
            .rows
            .iter()
            .enumerate()
            .map(|(item, row)| Item { dims: cx.dims(item), data: values[row * width..(row + 1) * width].to_vec() });
        Tensor { items: items.collect() }
    }

    fn element(&self, cx: &mut Emitter<'_>, _: NodeId, at: &At) -> Reg {
        let rows = InputSource::Rows { table: self.table.0, source: RowSource::Rows };
        let row = cx.load_row_part(rows, at.item.clone());
        let column = at.index.first().cloned().unwrap_or_default();
        cx.load_rows(self.variable, Affine::reg(row), self.width.unwrap_or(1), &column)
    }
}
