//! Rows of a table by id: `i32[..] -> f32[.., D]`. The ids of a group index one member of the table each.

use super::{GradientCx, Keep, LookupGradient, Op, OpDef, one};
use crate::graph::reference::{Item, ReferenceCx, Tensor};
use crate::graph::{DType, Dim, NodeId, Space, TableId, TensorType};
use crate::loops::{Affine, Instr, Reg, Type};
use crate::plan::emit::{At, Emitter};
use recc_abi::{InputSource, VariableId};

/// Looks rows up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Gather {
    /// The table.
    pub table: TableId,
    /// The variable that holds its rows.
    pub variable: VariableId,
    /// The table's path, for people.
    pub path: String,
    /// Width of a row.
    pub width: u64,
    /// The columns the ids come from; each has its own first row in the table.
    pub columns: Vec<u32>,
}

impl OpDef for Gather {
    const NAME: &'static str = "gather";

    fn attributes(&self) -> String {
        self.path.clone()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let ids = one(Self::NAME, inputs)?;
        if ids.dtype != DType::I32 {
            return Err(format!("a look-up by {ids}"));
        }
        let dims = ids.dims.iter().copied().chain([Dim::Fixed(self.width)]).collect();
        Ok(TensorType { dtype: DType::F32, dims, ..*ids })
    }

    fn gradient(&self, cx: &mut GradientCx<'_>) -> Vec<Option<NodeId>> {
        // Rows read the gradient of what exists once one by one.
        let once = cx.graph[cx.gradient].ty.space == Space::Global && !matches!(cx.graph[cx.gradient].op, Op::Contract(_));
        let gradient = if once { cx.graph.add(Op::Keep(Keep), &[cx.gradient]) } else { cx.gradient };
        cx.lookups.push(LookupGradient { gather: self.clone(), ids: cx.operands[0], gradient: Some(gradient) });
        vec![None]
    }

    fn reference(&self, cx: &ReferenceCx<'_>, inputs: &[&Tensor]) -> Tensor {
        let rows = cx.data.variable(self.variable);
        let width = self.width as usize;
        let items = inputs[0].items.iter().map(|ids| {
            let mut data = Vec::new();
            for (field, id) in ids.data.iter().enumerate() {
                let column = if self.columns.len() == 1 { self.columns[0] } else { self.columns[field] };
                let row = *id as usize + cx.data.row_base(self.table, column);
                data.extend_from_slice(&rows[row * width..(row + 1) * width]);
            }
            Item { dims: ids.dims.iter().copied().chain([width]).collect(), data }
        });
        Tensor { items: items.collect() }
    }

    fn element(&self, cx: &mut Emitter<'_>, node: NodeId, at: &At) -> Reg {
        let ids = cx.operand(node, 0);
        let (column, index) = match at.index.split_last() {
            Some((column, index)) => (column.clone(), index.to_vec()),
            None => unreachable!("a looked-up value has an axis"),
        };
        let member = if self.columns.len() == 1 { Affine::default() } else { index[0].clone() };
        let mut row = cx.value(ids, &At { item: at.item.clone(), index });
        if cx.has_bases(self.table) {
            let source = InputSource::RowBase { table: self.table.0, columns: self.columns.clone() };
            let base = cx.load_at(source, self.columns.len() as u64, Type::I32, member);
            row = cx.define(Type::I32, Instr::AddInt(row, base));
        }
        cx.load_rows(self.variable, Affine::reg(row), self.width, &column)
    }
}
