//! The mean of a table's rows by their probabilities in the softmax of [`LogPartition`](super::LogPartition), for each query, times its number: `[.., D], [D], [..], [..] -> [.., D]` of
//! queries, rows, logs of sums, and numbers.

use super::log_partition::{candidates, dot, weighed, width};
use super::{GradientCx, OpDef};
use crate::graph::reference::{ReferenceCx, Tensor};
use crate::graph::{NodeId, TableId, TensorType};
use crate::loops::Reg;
use crate::plan::emit::{At, Emitter};

/// Weighs rows by their probabilities.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MeanRow {
    /// The table.
    pub table: TableId,
}

impl OpDef for MeanRow {
    const NAME: &'static str = "mean_row";

    fn attributes(&self) -> String {
        format!("table {}", self.table.0)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let [queries, _] = weighed(Self::NAME, self.table, inputs)?;
        Ok(queries.clone())
    }

    fn gradient(&self, _: &mut GradientCx<'_>) -> Vec<Option<NodeId>> {
        unreachable!("gradients are not differentiated")
    }

    fn reference(&self, cx: &ReferenceCx<'_>, inputs: &[&Tensor]) -> Tensor {
        let rows = candidates(cx, self.table, inputs[1]);
        let width = width(inputs[1]);
        cx.each_item(|item, _| {
            let queries = inputs[0].items[item].data.chunks(width);
            let numbers = inputs[2].items[item].data.iter().zip(&inputs[3].items[item].data);
            let mean = |(query, (log_sum, factor)): (&[f64], (&f64, &f64))| {
                let shares: Vec<f64> = rows.iter().map(|(_, row)| factor * (dot(query, row) - log_sum).exp()).collect();
                let at = |column: usize| rows.iter().zip(&shares).map(|((_, row), share)| share * row.data[column]).sum::<f64>();
                (0..width).map(at).collect::<Vec<f64>>()
            };
            queries.zip(numbers).flat_map(mean).collect()
        })
    }

    fn element(&self, cx: &mut Emitter<'_>, node: NodeId, _: &At) -> Reg {
        cx.unstored(node)
    }
}
