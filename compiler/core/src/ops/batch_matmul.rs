//! Matrix product of two matrices of each item: `[M, K] @ [K, N]`, either of them given as its transpose; or of several side by side, which
//! the axis in the middle counts: `[M, H, K] @ [K, H, N] -> [M, H, N]`. Rows may be entries, and so may columns of a matrix whose rows are.

use super::{GradientCx, Op, OpDef, two};
use crate::graph::reference::{Item, ReferenceCx, Tensor};
use crate::graph::{DType, Dim, NodeId, Space, TensorType};
use crate::loops::Reg;
use crate::plan::emit::{At, Emitter};

/// Multiplies two matrices of each item.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BatchMatMul {
    /// Whether the left one is `[K, M]`.
    pub left_transposed: bool,
    /// Whether the right one is `[N, K]`.
    pub right_transposed: bool,
}

impl BatchMatMul {
    fn node(cx: &mut GradientCx<'_>, left: (NodeId, bool), right: (NodeId, bool)) -> NodeId {
        let product = BatchMatMul { left_transposed: left.1, right_transposed: right.1 };
        cx.graph.add(Op::BatchMatMul(product), &[left.0, right.0])
    }
}

impl OpDef for BatchMatMul {
    const NAME: &'static str = "batch_matmul";

    fn attributes(&self) -> String {
        let sides = [(self.left_transposed, "left transposed"), (self.right_transposed, "right transposed")];
        sides.iter().filter(|(transposed, _)| *transposed).map(|(_, text)| *text).collect::<Vec<_>>().join(", ")
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let [a, b] = two(Self::NAME, inputs)?;
        let fits = |ty: &TensorType| ty.space == Space::Example && ty.dtype == DType::F32 && (!ty.is_ragged() || ty.entries().is_some());
        let (a0, a1, b0, b1, heads) = match (a.dims.as_slice(), b.dims.as_slice()) {
            ([a0, a1], [b0, b1]) => (a0, a1, b0, b1, None),
            ([a0, h @ Dim::Fixed(_), a1], [b0, other, b1]) if h == other => (a0, a1, b0, b1, Some(*h)),
            _ => return Err(format!("{a} @ {b}")),
        };
        let (m, k) = if self.left_transposed { (a1, a0) } else { (a0, a1) };
        let (l, n) = if self.right_transposed { (b1, b0) } else { (b0, b1) };
        let ty = TensorType::f32(Space::Example, &[Some(*m), heads, Some(*n)].into_iter().flatten().collect::<Vec<_>>());
        if k != l || !fits(a) || !fits(b) || !fits(&ty) {
            return Err(format!("{a} @ {b}"));
        }
        Ok(ty)
    }

    fn gradient(&self, cx: &mut GradientCx<'_>) -> Vec<Option<NodeId>> {
        let (a, b, g) = (cx.operands[0], cx.operands[1], cx.gradient);
        let (ta, tb) = (self.left_transposed, self.right_transposed);
        let da = if ta { Self::node(cx, (b, tb), (g, true)) } else { Self::node(cx, (g, false), (b, !tb)) };
        let db = if tb { Self::node(cx, (g, true), (a, ta)) } else { Self::node(cx, (a, !ta), (g, false)) };
        vec![Some(da), Some(db)]
    }

    fn reference(&self, cx: &ReferenceCx<'_>, inputs: &[&Tensor]) -> Tensor {
        let items = inputs[0].items.iter().zip(&inputs[1].items).enumerate().map(|(item, (a, b))| {
            let dims = cx.dims(item);
            let last = dims.len() - 1;
            let inner = a.dims[if self.left_transposed { 0 } else { last }];
            let heads = if last == 2 { dims[1] } else { 1 };
            let element = |of: &Item, row: usize, head: usize, column: usize| {
                if last == 2 { of.at(&[row, head, column]) } else { of.at(&[row, column]) }
            };
            let mut out = Item::filled(&dims, 0.0);
            for i in 0..dims[0] {
                for head in 0..heads {
                    for j in 0..dims[last] {
                        let left = |l: usize| if self.left_transposed { element(a, l, head, i) } else { element(a, i, head, l) };
                        let right = |l: usize| if self.right_transposed { element(b, j, head, l) } else { element(b, l, head, j) };
                        out.data[(i * heads + head) * dims[last] + j] = (0..inner).map(|l| left(l) * right(l)).sum();
                    }
                }
            }
            out
        });
        Tensor { items: items.collect() }
    }

    fn element(&self, cx: &mut Emitter<'_>, node: NodeId, _: &At) -> Reg {
        cx.unstored(node)
    }
}
