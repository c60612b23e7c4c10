//! The log of a softmax's sum over all rows of a table but row 0, by their products with queries: `[.., D], [D] -> [..]`. The rows, elementwise functions of the
//! table's, exist once each; as many as there are, their products are never stored.

use super::{GradientCx, MeanRow, Op, OpDef, QuerySum, four, two};
use crate::graph::reference::{Item, ReferenceCx, Tensor};
use crate::graph::{DType, Dim, NodeId, Space, TableId, TensorType};
use crate::loops::Reg;
use crate::plan::emit::{At, Emitter};

/// Sums exponentials of products.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LogPartition {
    /// The table.
    pub table: TableId,
}

/// The type of a number for each query.
fn numbers(table: TableId, queries: &TensorType, rows: &TensorType) -> Result<TensorType, String> {
    let own = |ty: &TensorType, space| ty.space == space && ty.dtype == DType::F32;
    let queries_fit = own(queries, Space::Example) && matches!(queries.dims.as_slice(), [Dim::Fixed(_)] | [Dim::Entries(_), Dim::Fixed(_)]);
    match rows.dims.as_slice() {
        [width] if queries_fit && own(rows, Space::Row(table)) && queries.dims.last() == Some(width) => {
            Ok(TensorType::f32(Space::Example, &queries.dims[..queries.dims.len() - 1]))
        }
        _ => Err(format!("queries {queries} of rows {rows}")),
    }
}

/// The type of queries and rows beside a log of a sum and a number for each query.
pub(super) fn weighed<'t>(name: &str, table: TableId, inputs: &[&'t TensorType]) -> Result<[&'t TensorType; 2], String> {
    let [queries, rows, log_sums, factors] = four(name, inputs)?;
    let numbers = numbers(table, queries, rows)?;
    if *log_sums == numbers && *factors == numbers { Ok([queries, rows]) } else { Err(format!("`{name}` by {log_sums} and {factors}")) }
}

/// For each row of the table its number and what it is: rows by their place among the touched ones.
pub(super) fn candidates<'r>(cx: &ReferenceCx<'_>, table: TableId, rows: &'r Tensor) -> Vec<(usize, &'r Item)> {
    let numbers = cx.data.touched(table).rows.iter();
    numbers.zip(&rows.items).enumerate().filter(|(_, (number, _))| **number > 0).map(|(at, (_, row))| (at, row)).collect()
}

/// Numbers of a row.
pub(super) fn width(rows: &Tensor) -> usize {
    rows.items.first().map_or(1, |row| row.data.len())
}

/// A product.
pub(super) fn dot(query: &[f64], row: &Item) -> f64 {
    query.iter().zip(&row.data).map(|(a, b)| a * b).sum()
}

impl OpDef for LogPartition {
    const NAME: &'static str = "log_partition";

    fn attributes(&self) -> String {
        format!("table {}", self.table.0)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let [queries, rows] = two(Self::NAME, inputs)?;
        numbers(self.table, queries, rows)
    }

    fn gradient(&self, cx: &mut GradientCx<'_>) -> Vec<Option<NodeId>> {
        let operands = [cx.operands[0], cx.operands[1], cx.node, cx.gradient];
        let queries = cx.graph.add(Op::MeanRow(MeanRow { table: self.table }), &operands);
        let rows = cx.graph.add(Op::QuerySum(QuerySum { table: self.table }), &operands);
        vec![Some(queries), Some(rows)]
    }

    fn reference(&self, cx: &ReferenceCx<'_>, inputs: &[&Tensor]) -> Tensor {
        let rows = candidates(cx, self.table, inputs[1]);
        let width = width(inputs[1]);
        let of = |query: &[f64]| {
            let products: Vec<f64> = rows.iter().map(|(_, row)| dot(query, row)).collect();
            let largest = products.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            if rows.is_empty() { 0.0 } else { largest + products.iter().map(|own| (own - largest).exp()).sum::<f64>().ln() }
        };
        cx.each_item(|item, _| inputs[0].items[item].data.chunks(width).map(of).collect())
    }

    fn element(&self, cx: &mut Emitter<'_>, node: NodeId, _: &At) -> Reg {
        cx.unstored(node)
    }
}
