//! The sum of all queries of the batch, each times its number and the row's probability in the softmax of [`LogPartition`](super::LogPartition), for each row of the table:
//! `[.., D], [D], [..], [..] -> [D]` of queries, rows, logs of sums, and numbers. For row 0 it is 0.

use super::log_partition::{candidates, dot, weighed, width};
use super::{GradientCx, OpDef};
use crate::graph::reference::{Item, ReferenceCx, Tensor};
use crate::graph::{NodeId, TableId, TensorType};
use crate::loops::Reg;
use crate::plan::emit::{At, Emitter};

/// Weighs queries by a row's probabilities.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct QuerySum {
    /// The table.
    pub table: TableId,
}

impl OpDef for QuerySum {
    const NAME: &'static str = "query_sum";

    fn attributes(&self) -> String {
        format!("table {}", self.table.0)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let [_, rows] = weighed(Self::NAME, self.table, inputs)?;
        Ok(rows.clone())
    }

    fn gradient(&self, _: &mut GradientCx<'_>) -> Vec<Option<NodeId>> {
        unreachable!("gradients are not differentiated")
    }

    fn reference(&self, cx: &ReferenceCx<'_>, inputs: &[&Tensor]) -> Tensor {
        let width = width(inputs[1]);
        let mut sums = Tensor { items: inputs[1].items.iter().map(|row| Item::filled(&row.dims, 0.0)).collect() };
        for (at, row) in candidates(cx, self.table, inputs[1]) {
            for ((queries, log_sums), factors) in inputs[0].items.iter().zip(&inputs[2].items).zip(&inputs[3].items) {
                for (query, (log_sum, factor)) in queries.data.chunks(width).zip(log_sums.data.iter().zip(&factors.data)) {
                    let share = factor * (dot(query, row) - log_sum).exp();
                    sums.items[at].data.iter_mut().zip(query).for_each(|(sum, value)| *sum += share * value);
                }
            }
        }
        sums
    }

    fn element(&self, cx: &mut Emitter<'_>, node: NodeId, _: &At) -> Reg {
        cx.unstored(node)
    }
}
