//! Some elements of a value in a new shape, zero elsewhere: triangles of matrices, and back. Its gradient is of its own kind.

use super::{GradientCx, Op, OpDef, one};
use crate::graph::reference::{Item, ReferenceCx, Tensor};
use crate::graph::{Dim, NodeId, TensorType};
use crate::loops::Reg;
use crate::plan::emit::{At, Emitter};

/// Neighbouring elements, both counted with the last axis fastest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Run {
    /// The first one's place in the operand.
    pub from: u64,
    /// The first one's place in the result.
    pub to: u64,
    /// How many.
    pub len: u64,
}

/// Takes runs of elements.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Take {
    /// The shape of the result.
    pub dims: Vec<Dim>,
    /// What is taken, in the result's order; no element twice.
    pub runs: Vec<Run>,
}

impl Take {
    /// The elements of `[N, N]` below the diagonal, row by row.
    pub fn lower_triangle(n: u64) -> Take {
        let runs = (1..n).map(|row| Run { from: row * n, to: row * (row - 1) / 2, len: row });
        Take { dims: vec![Dim::Fixed(n * n.saturating_sub(1) / 2)], runs: runs.collect() }
    }
}

impl OpDef for Take {
    const NAME: &'static str = "take";

    fn attributes(&self) -> String {
        format!("{} runs, {} elements", self.runs.len(), self.runs.iter().map(|run| run.len).sum::<u64>())
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let input = one(Self::NAME, inputs)?;
        let ty = TensorType { dims: self.dims.clone(), ..input.clone() };
        let inside = |run: &Run| Some(run.from + run.len) <= input.len() && Some(run.to + run.len) <= ty.len();
        let ordered = self.runs.windows(2).all(|pair| pair[0].to + pair[0].len <= pair[1].to);
        if input.is_ragged() || !ordered || !self.runs.iter().all(inside) { Err(format!("runs of {input} as {ty}")) } else { Ok(ty) }
    }

    fn gradient(&self, cx: &mut GradientCx<'_>) -> Vec<Option<NodeId>> {
        let mut runs: Vec<Run> = self.runs.iter().map(|run| Run { from: run.to, to: run.from, len: run.len }).collect();
        runs.sort_by_key(|run| run.to);
        let dims = cx.graph[cx.operands[0]].ty.dims.clone();
        vec![Some(cx.graph.add(Op::Take(Take { dims, runs }), &[cx.gradient]))]
    }

    fn reference(&self, cx: &ReferenceCx<'_>, inputs: &[&Tensor]) -> Tensor {
        let items = inputs[0].items.iter().enumerate().map(|(item, source)| {
            let mut out = Item::filled(&cx.dims(item), 0.0);
            for run in &self.runs {
                let (from, to, len) = (run.from as usize, run.to as usize, run.len as usize);
                out.data[to..to + len].copy_from_slice(&source.data[from..from + len]);
            }
            out
        });
        Tensor { items: items.collect() }
    }

    fn element(&self, cx: &mut Emitter<'_>, node: NodeId, _: &At) -> Reg {
        cx.unstored(node)
    }
}
