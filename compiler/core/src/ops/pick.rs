//! Rows of a parameter by number: `[N, ..], [..] -> [.., ..]`. A number below 0 takes the first row, one behind the last takes the last.

use super::{GradientCx, Op, OpDef, Scatter, two};
use crate::graph::reference::{Item, ReferenceCx, Tensor};
use crate::graph::{DType, Dim, NodeId, Space, TensorType};
use crate::loops::Reg;
use crate::plan::emit::{At, Emitter};

/// Takes rows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pick;

/// The row a number takes.
pub(super) fn row(number: f64, rows: usize) -> usize {
    (number.max(0.0) as usize).min(rows - 1)
}

impl OpDef for Pick {
    const NAME: &'static str = "pick";

    fn attributes(&self) -> String {
        String::new()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let [rows, numbers] = two(Self::NAME, inputs)?;
        let (Some(Dim::Fixed(count)), Space::Global) = (rows.dims.first(), rows.space) else {
            return Err(format!("rows of {rows}"));
        };
        if *count == 0 || rows.dtype != DType::F32 || numbers.dtype != DType::F32 || numbers.space != Space::Example {
            return Err(format!("rows of {rows} by {numbers}"));
        }
        let dims: Vec<Dim> = numbers.dims.iter().chain(&rows.dims[1..]).copied().collect();
        let ty = TensorType::f32(Space::Example, &dims);
        if !ty.is_storable() {
            return Err(format!("rows of {rows} by {numbers}, as {ty}"));
        }
        Ok(ty)
    }

    fn gradient(&self, cx: &mut GradientCx<'_>) -> Vec<Option<NodeId>> {
        let dims = cx.graph[cx.operands[0]].ty.dims.iter().filter_map(|dim| dim.fixed()).collect();
        vec![Some(cx.graph.add(Op::Scatter(Scatter { dims }), &[cx.gradient, cx.operands[1]])), None]
    }

    fn reference(&self, cx: &ReferenceCx<'_>, inputs: &[&Tensor]) -> Tensor {
        let rows = &inputs[0].items[0];
        let width = rows.data.len() / rows.dims[0];
        let items = inputs[1].items.iter().enumerate().map(|(item, numbers)| {
            let of = |number: &f64| {
                let row = row(*number, rows.dims[0]);
                rows.data[row * width..(row + 1) * width].to_vec()
            };
            Item { dims: cx.dims(item), data: numbers.data.iter().flat_map(of).collect() }
        });
        Tensor { items: items.collect() }
    }

    fn element(&self, cx: &mut Emitter<'_>, node: NodeId, at: &At) -> Reg {
        let (rows, numbers) = (cx.operand(node, 0), cx.operand(node, 1));
        let (own, inner) = at.index.split_at(cx.ty(numbers).dims.len());
        let count = cx.ty(rows).dims[0].fixed().unwrap_or(1);
        let row = cx.picked_row(numbers, &At { item: at.item.clone(), index: own.to_vec() }, count);
        let index = std::iter::once(row).chain(inner.iter().cloned()).collect();
        cx.value(rows, &At { item: at.item.clone(), index })
    }
}
