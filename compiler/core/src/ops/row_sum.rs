//! Gradients of looked-up rows, summed per touched row of the table.
//!
//! Rows repeat in a batch, so their gradients add up before the optimizer sees them: one update a row, in a fixed order.

use super::{GradientCx, OpDef, one};
use crate::graph::reference::{Item, ReferenceCx, Tensor};
use crate::graph::{Dim, NodeId, Space, TableId, TensorType};
use crate::loops::{Affine, Combine, Extent, Reg, Type};
use crate::plan::emit::{At, Emitter};
use recc_abi::{InputSource, RowSource};

/// Sums per row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RowSum {
    /// The table.
    pub table: TableId,
    /// Which of its look-ups.
    pub lookup: u32,
}

impl OpDef for RowSum {
    const NAME: &'static str = "row_sum";

    fn attributes(&self) -> String {
        format!("lookup {}", self.lookup)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let gradient = one(Self::NAME, inputs)?;
        match (gradient.space, gradient.dims.as_slice()) {
            // Of rows drawn once for the batch.
            (Space::Global, [Dim::Fixed(_), Dim::Fixed(width)]) => Ok(TensorType::f32(Space::Row(self.table), &[Dim::Fixed(*width)])),
            (Space::Example, [Dim::Fixed(width)] | [_, Dim::Fixed(width)] | [Dim::Entries(_), Dim::Fixed(_), Dim::Fixed(width)]) => {
                Ok(TensorType::f32(Space::Row(self.table), &[Dim::Fixed(*width)]))
            }
            _ => Err(format!("row gradients of {gradient}")),
        }
    }

    fn gradient(&self, _: &mut GradientCx<'_>) -> Vec<Option<NodeId>> {
        unreachable!("updates are not differentiated")
    }

    fn reference(&self, cx: &ReferenceCx<'_>, inputs: &[&Tensor]) -> Tensor {
        let touched = cx.data.touched(self.table);
        let items = touched.rows.iter().enumerate().map(|(row, _)| {
            let dims = cx.dims(row);
            let mut out = Item::filled(&dims, 0.0);
            for &(example, slot) in &touched.occurrences[self.lookup as usize][row] {
                let source = &inputs[0].items[example].data[slot * dims[0]..(slot + 1) * dims[0]];
                out.data.iter_mut().zip(source).for_each(|(sum, value)| *sum += value);
            }
            out
        });
        Tensor { items: items.collect() }
    }

    fn element(&self, cx: &mut Emitter<'_>, node: NodeId, at: &At) -> Reg {
        let gradient = cx.operand(node, 0);
        let axes = cx.ty(gradient).dims.len();
        let part = |source| InputSource::Rows { table: self.table.0, source };
        let lookup = self.lookup;
        let begin = cx.load_row_part(part(RowSource::Begin { lookup }), at.item.clone());
        let end = cx.load_row_part(part(RowSource::Begin { lookup }), at.item.plus(&Affine::constant(1)));
        let examples = part(RowSource::Example { lookup });
        let slots = part(RowSource::Slot { lookup });
        let within = part(RowSource::Within { lookup });
        cx.reduce_over(Combine::Add, Type::F32, &[Extent::Between(begin, end)], at, move |cx, occurrence| {
            let example = cx.load_row_part(examples, occurrence[0].clone());
            let mut index = at.index.clone();
            if axes == 3 {
                let within = cx.load_row_part(within, occurrence[0].clone());
                index.insert(0, Affine::reg(within));
            }
            if axes > 1 {
                let slot = cx.load_row_part(slots, occurrence[0].clone());
                index.insert(0, Affine::reg(slot));
            }
            cx.value(gradient, &At { item: Affine::reg(example), index })
        })
    }
}
